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
	"github.com/pawlrun/pawl/trigger/dbchange"
)

// Options are what runs of flows work with.
type Options struct {
	Models   *agent.Models // asked by decisions; nil: they fail
	Services service.Set
	// Unset are services that are not there for want of a setting, by name, with what to do about it, such as
	// "set SLACK_BOT_TOKEN": told to who deploys a flow that names one, and by the step that calls it.
	Unset map[string]string
	// Breaker keeps calls from services that do not work. nil: one with its usual settings.
	Breaker *agent.Breaker
	// Secret finds a secret of the run's tenant that a service's parameter names as {{secrets.name}}, such as
	// secret.Store.Value. It is asked at the last moment, in each attempt, and what it returns goes to the service and nowhere
	// else. nil: there are none.
	Secret func(ctx context.Context, tenant, name string) (string, error)
	// HasSecret reports whether a tenant has a secret, such as secret.Store.Has: a deployment warns of those that are not there. nil:
	// it does not. SecretNames are some that it has, such as secret.Store.Names, for who has misspelt one. nil: none are told.
	HasSecret   func(ctx context.Context, tenant, name string) (bool, error)
	SecretNames func(ctx context.Context, tenant string) ([]string, error)
	// Signers are the secrets that api.Options.Verify knows: the scheme of each, by its name. They are asked where HasSecret is not nil.
	Signers map[string]string
	// Model is asked where a step names none.
	Model string
	// Provider finds the provider of a model that a step names without one: "openai" of "gpt-4o-mini". nil: none is found.
	Provider func(model string) string
	// Toolboxes are the servers of tools that agents may name, as mcp:name.
	Toolboxes map[string]Toolbox
	// Databases connects to a database whose changes start runs, by the name that a trigger's dsn gives, as a dbchange.Runner's
	// Connect. A deployment looks whether they can be watched. nil: it does not.
	Databases func(ctx context.Context, name string) (dbchange.Connection, error)
	// Logger tells what has nobody to tell it to. nil: nobody.
	Logger *slog.Logger
	// BaseURL is where people and services reach the API, for links of approvals; see approval.Request.
	BaseURL string
	// MaxFamily bounds how many runs a run may lead to by workflow steps and tools of agents: those that it starts itself, which its own limits bound, start
	// others only while there are fewer. Servers that start some at the same time may go over it a little. 0 means 10,000.
	MaxFamily int
	// Trace is called when a run begins, and again when it is replayed from its first step; what it returns is told each step
	// that the run comes to and leaves, by several goroutines where branches run. It must not wait. For tests; nil: nobody.
	Trace func(run string) func(Passage)
}

// Toolbox is a server of tools. See package agent/mcp, whose Snapshot and Bind these are.
type Toolbox struct {
	// List asks what there is, in a form that a journal can keep. It is a step of the run.
	List func(ctx context.Context) (json.RawMessage, error)
	// Bind makes the tools of what List has returned, asking nobody.
	Bind func(list json.RawMessage) ([]agent.Tool, error)
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
	return define(f, opt, nil)
}

// define is Define of a workflow that notes in seen, if that is not nil, what its one run does.
func define(f *Flow, opt Options, seen *trail) *pawl.Workflow[Variables, json.RawMessage] {
	opt.breaker()
	if opt.Models == nil { // what was answered before is read nevertheless
		opt.Models = agent.New(agent.Options{})
	}
	options := []pawl.Option{pawl.BudgetUSD(f.limits.cost), pawl.Version(strconv.Itoa(f.Version)), pawl.CheckInput(f.checkInput)}
	if f.limits.timeout > 0 {
		options = append(options, pawl.Timeout(f.limits.timeout))
	}
	kin := &families{}
	return pawl.Define(f.ID, func(c *pawl.Context, in Variables) (json.RawMessage, error) {
		return interpret(c, f, opt, kin, in, seen)
	}, options...)
}

// checkInput refuses what no run of the flow can start with.
func (f *Flow) checkInput(input json.RawMessage) error {
	if len(input) == 0 || string(input) == "null" {
		input = json.RawMessage("{}")
	}
	var v Variables
	if err := json.Unmarshal(input, &v); err != nil || f.Inputs == nil {
		return err
	}
	return f.inputs.check("the variables", input)
}

// model is a model's name with its provider.
func (o *Options) model(name string) string {
	if o.Provider == nil || strings.Contains(name, "/") {
		return name
	}
	return o.Provider(name) + "/" + name
}
