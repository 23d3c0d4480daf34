package flow

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/service"
)

// Options are what runs of flows work with.
type Options struct {
	Models   *agent.Models // asked by decisions; nil: they fail
	Services service.Set
	// Secret finds a secret that a service's parameter names as {{secrets.name}}. It is asked at the last moment, and what it
	// returns goes to the service and nowhere else. nil: there are none.
	Secret func(ctx context.Context, name string) (string, error)
	// Model is asked where a step names none.
	Model string
	// Provider finds the provider of a model that a step names without one: "openai" of "gpt-4o-mini". nil: none is found.
	Provider func(model string) string
	// Logger tells what has nobody to tell it to. nil: nobody.
	Logger *slog.Logger
	// BaseURL is where people and services reach the API, for links of approvals; see approval.Request.
	BaseURL string
}

// Variables are what a run of a flow starts with: an object.
type Variables map[string]any

// UnmarshalJSON reads an object; whole numbers keep all their digits.
func (v *Variables) UnmarshalJSON(data []byte) error {
	value, err := decode(data)
	if err != nil {
		return err
	}
	object, is := value.(map[string]any)
	if !is && value != nil {
		return fmt.Errorf("the variables are %s and must be an object", kindOf(value))
	}
	*v = object
	return nil
}

// Define makes a workflow of a flow, for programs that bring their flows along. Its input are the variables, its result is
// the output of the last step.
func Define(f *Flow, opt Options) *pawl.Workflow[Variables, json.RawMessage] {
	options := []pawl.Option{pawl.BudgetUSD(f.limits.cost), pawl.Version(strconv.Itoa(f.Version)), pawl.CheckInput(f.checkInput)}
	if f.limits.timeout > 0 {
		options = append(options, pawl.Timeout(f.limits.timeout))
	}
	return pawl.Define(f.ID, func(c *pawl.Context, in Variables) (json.RawMessage, error) {
		return interpret(c, f, opt, in)
	}, options...)
}

// checkInput refuses what no run of the flow can start with.
func (f *Flow) checkInput(input json.RawMessage) error {
	var v Variables
	if err := json.Unmarshal(input, &v); err != nil {
		return err
	}
	if f.Inputs == nil {
		return nil
	}
	if v == nil {
		input = json.RawMessage("{}")
	}
	return conform(f.Inputs, input)
}

// model is a model's name with its provider.
func (o *Options) model(name string) string {
	if o.Provider == nil || strings.Contains(name, "/") {
		return name
	}
	return o.Provider(name) + "/" + name
}
