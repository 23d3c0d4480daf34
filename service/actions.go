package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// actions are those of a service, with their schemas ready to check calls.
type actions struct {
	list    []Action
	schemas map[string]*jsonschema.Schema
}

func newActions(list ...Action) (*actions, error) {
	a := &actions{list: list, schemas: map[string]*jsonschema.Schema{}}
	for _, action := range list {
		compiled, err := compile(action.Params)
		if err != nil {
			return nil, fmt.Errorf("the parameters of the action %s: %w", action.Name, err)
		}
		a.schemas[action.Name] = compiled
		if action.Result == nil {
			continue
		}
		if _, err := compile(action.Result); err != nil {
			return nil, fmt.Errorf("the result of the action %s: %w", action.Name, err)
		}
	}
	return a, nil
}

// Actions gives a list of the caller's own.
func (a *actions) Actions() []Action { return slices.Clone(a.list) }

// maxFaults bounds what is told of one call's parameters.
const maxFaults = 10

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
	schema, err := compile(a.Params)
	if err != nil {
		return &Error{Code: Invalid, Message: "the schema of " + a.Name + " can't be used: " + err.Error()}
	}
	return a.fits(schema, params)
}

func (a Action) fits(schema *jsonschema.Schema, params json.RawMessage) error {
	if len(params) == 0 {
		params = json.RawMessage("{}")
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(params))
	if err != nil {
		return &Error{Code: Invalid, Message: "the parameters of " + a.Name + " are no JSON"}
	}
	err = schema.Validate(value)
	var invalid *jsonschema.ValidationError
	if errors.As(err, &invalid) {
		faults := faultsOf(invalid)
		if more := len(faults) - maxFaults; more > 0 {
			faults = append(faults[:maxFaults], fmt.Sprintf("and %d more", more))
		}
		return &Error{Code: Invalid, Message: "the parameters of " + a.Name + ": " + strings.Join(faults, "; ")}
	}
	if err != nil {
		return &Error{Code: Invalid, Message: "the parameters of " + a.Name + " can't be checked: " + err.Error()}
	}
	return nil
}

var english = message.NewPrinter(language.English)

// faultsOf are the leaves of what a check found, with their places.
func faultsOf(e *jsonschema.ValidationError) (list []string) {
	if len(e.Causes) == 0 {
		text := e.ErrorKind.LocalizedString(english)
		if len(e.InstanceLocation) > 0 {
			text = strings.Join(e.InstanceLocation, ".") + ": " + text
		}
		return []string{text}
	}
	for _, cause := range e.Causes {
		for _, text := range faultsOf(cause) {
			if !slices.Contains(list, text) {
				list = append(list, text)
			}
		}
	}
	return list
}

// compile makes a schema of JSON, which refers to nothing outside of itself.
func compile(schema json.RawMessage) (*jsonschema.Schema, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, fmt.Errorf("the schema is no JSON: %w", err)
	}
	const at = "pawl://service/schema" // nothing is there
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	c.AssertFormat()
	if err := c.AddResource(at, document); err != nil {
		return nil, err
	}
	return c.Compile(at)
}

// noLoader stands between a schema and the files and networks that it refers to.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s is outside of the schema: copy it into $defs", url)
}
