package service

import (
	"fmt"
	"maps"
	"slices"
)

// Set is the services that flows can call, by name.
type Set map[string]Service

// Find returns a service's action; name "" is its first. The error says what there is.
func (s Set) Find(service, name string) (Service, Action, error) {
	found := s[service]
	if found == nil {
		return nil, Action{}, &Error{Code: Invalid, Message: fmt.Sprintf("there is no service %q; there are %q", service, slices.Sorted(maps.Keys(s)))}
	}
	actions := found.Actions()
	var names []string
	for _, a := range actions {
		if name == "" || a.Name == name {
			return found, a, nil
		}
		names = append(names, a.Name)
	}
	return nil, Action{}, &Error{Code: Invalid, Message: fmt.Sprintf("service %s has no action %q; it has %q", service, name, names)}
}
