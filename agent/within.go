package agent

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// Within carries out a task in a run of another workflow: its turns and calls are steps of that run, in the branch of c.
// Let a branch have one agent at a time: see [pawl.Go]. The agent need not be registered, but for workflows that it may
// call. It never goes on as another run, so GoOn is not looked at, and Options count for nothing: budget and deadline
// are those of the run.
func (a *Agent) Within(c *pawl.Context, task Task) (Result, error) {
	if err := task.Validate(); err != nil {
		return Result{}, err
	}
	here := *a
	here.cfg.GoOn = math.MaxInt
	return here.run(c, task)
}

// ChildNamed makes a tool of a workflow that is known by its name alone, such as one that is deployed while the program
// runs: a call is a child run, and is awaited. The arguments are what the schema says, and its input.
func ChildNamed(name, description, workflow string, schema json.RawMessage, opts ...pawl.StartOption) Tool {
	t := Tool{Name: name, Description: description, Parameters: schema}
	t.shape, t.err = JSON(schema)
	t.run = func(c *pawl.Context, _ llm.ToolCall, args json.RawMessage) (string, error) {
		run, err := pawl.SpawnNamed(c, workflow, args, opts...)
		if err != nil {
			return "", err
		}
		out, err := run.Wait(c)
		return fit(string(out)), err
	}
	return t
}

// CostError reports that an agent had spent its MaxCost before it was done.
type CostError struct {
	Agent     string
	Cost, Max int64 // in millionths of a US dollar
}

func (e *CostError) Error() string {
	return fmt.Sprintf("agent %s had spent $%.6f of $%.6f and was not done; raise its limit, or see in its journal what it goes round in", e.Agent, float64(e.Cost)/1e6, float64(e.Max)/1e6)
}

// ErrorCode names the error in a journal.
func (e *CostError) ErrorCode() string { return "max_cost" }

// Is makes it an ErrBudget of the engine.
func (e *CostError) Is(target error) bool { return target == pawl.ErrBudget }

// Fatal says that another attempt is not worth it.
func (e *CostError) Fatal() bool { return true }
