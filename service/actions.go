package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/pawlrun/pawl/internal/schema"
)

// actions are those of a service, with their schemas ready to check calls.
type actions struct {
	list    []Action
	schemas map[string]*schema.Schema
}

func newActions(list ...Action) (*actions, error) {
	a := &actions{list: list, schemas: map[string]*schema.Schema{}}
	for _, action := range list {
		compiled, err := schema.Compile(action.Params)
		if err != nil {
			return nil, fmt.Errorf("the parameters of the action %s: %w", action.Name, err)
		}
		a.schemas[action.Name] = compiled
		if action.Result == nil {
			continue
		}
		if _, err := schema.Compile(action.Result); err != nil {
			return nil, fmt.Errorf("the result of the action %s: %w", action.Name, err)
		}
	}
	return a, nil
}

// Actions gives a list of the caller's own.
func (a *actions) Actions() []Action { return slices.Clone(a.list) }

// check finds the action of a call and holds its parameters against the schema.
func (a *actions) check(c Call) (Action, error) {
	i := slices.IndexFunc(a.list, func(action Action) bool { return c.Action == "" || action.Name == c.Action })
	if i < 0 {
		var names []string
		for _, action := range a.list {
			names = append(names, action.Name)
		}
		return Action{}, &Error{Code: Invalid, Message: fmt.Sprintf("there is no action %q; there are %q", c.Action, names)}
	}
	action := a.list[i]
	return action, action.fits(a.schemas[action.Name], c.Params)
}

// Check holds the parameters of a call against the action's schema, as a service does before it carries the call out. The
// error is an [*Error] with the code Invalid. None is an empty object.
func (a Action) Check(params json.RawMessage) error {
	s, err := schema.Compile(a.Params)
	if err != nil {
		return &Error{Code: Invalid, Message: "the schema of " + a.Name + " can't be used: " + err.Error()}
	}
	return a.fits(s, params)
}

func (a Action) fits(s *schema.Schema, params json.RawMessage) error {
	if len(params) == 0 {
		params = json.RawMessage("{}")
	}
	err := s.CheckJSON(params)
	var faults schema.Faults
	switch {
	case errors.As(err, &faults):
		return &Error{Code: Invalid, Message: "the parameters of " + a.Name + ": " + faults.Error()}
	case err != nil:
		return &Error{Code: Invalid, Message: "the parameters of " + a.Name + " can't be checked: " + err.Error()}
	}
	return nil
}
