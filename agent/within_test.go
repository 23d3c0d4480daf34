package agent

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/pawltest"
)

// An agent works within the run of another workflow, under the names of its branch, beyond as many turns as it would have in a run of its own.
func TestAnAgentWorksWithinAnotherRun(t *testing.T) {
	double := pawl.Define("double", func(c *pawl.Context, in struct{ N int }) (int, error) {
		return pawl.Step(c, "double", func(context.Context) (int, error) { return 2 * in.N, nil })
	})
	models, _ := scripted(llmtest.Rule{Times: 3, ToolCalls: []llm.ToolCall{{ID: "a", Name: "twice", Arguments: `{"N": 4}`}}, Usage: llm.Usage{Input: 3, Output: 2}}, llmtest.Rule{Contains: "8", Text: "it is 8"})
	helper := made(t, "helper", Config{Models: models, GoOn: 2, Tools: []Tool{ChildNamed("twice", "doubles", "double", json.RawMessage(`{"type": "object", "required": ["N"]}`))}})
	w := pawl.Define("outer", func(c *pawl.Context, _ struct{}) (Result, error) {
		return pawl.Go(c, "talk", func(c *pawl.Context) (Result, error) { return helper.Within(c, Task{Prompt: "What is twice 4?"}) }).Wait(c)
	})
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run := pawltest.Start(h, w, struct{}{}, pawl.ID("r"))
		r := pawltest.Result(h, run)
		equal(t, "result", []any{r.Text, r.Turns, r.Usage.Input}, []any{"it is 8", 4, 9 + 7})
		if entry := h.AwaitEntry("r", pawl.KindStep, "talk/model#4"); entry.Key == "" {
			t.Errorf("the journal has %v", h.Keys("r"))
		}
	}, w, double)
}
