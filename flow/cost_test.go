package flow_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// thousand is what a call uses that costs 2,000 millionths of a dollar.
var thousand = llm.Usage{Input: 10, Output: 995}

// A run that would cost more than maxCostUsd fails before the call that would: no onFailure, no failureMode and no fallback goes on without it.
func TestJ36_costsAreAskedBeforeEachCall(t *testing.T) {
	limited := func(limit string, steps ...string) string {
		return strings.Replace(of(steps...), `"steps"`, `"limits": {"maxCostUsd": `+limit+`}, "steps"`, 1)
	}
	short := `, "maxTokens": 1000`
	says := `{"id": "says", "type": "transform", "config": {"expression": "'went on'"}, "next": "end"}`
	const limit = "0.0055" // two calls of 2,000 millionths each, and no third
	for name, test := range map[string]struct {
		doc   string
		calls int
	}{
		"steps":      {limited(limit, ask("a", `"b"`, short), ask("b", `"c"`, short), ask("c", end, short)), 2},
		"skip":       {limited(limit, ask("a", `"b"`, short), ask("b", `"c"`, short), ask("c", `{"default": "says"}`, short, `"onFailure": "skip"`), says), 2},
		"fallback":   {limited(limit, ask("a", `"b"`, short), ask("b", `"c"`, short), ask("c", end, short, `"onFailure": "fallback", "fallbackStep": "says"`), says), 2},
		"retries":    {limited(limit, ask("a", `"b"`, short), ask("b", `"c"`, short), ask("c", end, short, `"retryPolicy": {"maxAttempts": 5, "backoffMs": 1}`)), 2},
		"repairs":    {limited(limit, ask("a", `{"a": "end", "b": "end"}`, enum+short+`, "maxRepairs": 9`)), 2},
		"models":     {limited(limit, ask("a", `"b"`, short), ask("b", `"c"`, short), ask("c", end, short+`, "models": ["test/m", "test/dear"]`)), 2},
		"loop":       {limited(limit, ask("a", `"a"`, short, `"maxVisits": 50`)), 2},
		"items":      {limited(limit, `{"id": "m", "type": "map", "config": {"over": "variables.list", "concurrency": 1, "failureMode": "continue", "steps": [`+ask("a", end, short)+`]}, "next": "says"}`, says), 2},
		"branches":   {limited(limit, `{"id": "p", "type": "parallel", "onFailure": "skip", "config": {"failureMode": "continue", "branches": [{"id": "one", "steps": [`+ask("a", `"b"`, short)+","+ask("b", `"c"`, short)+","+ask("c", end, short)+`]}]}, "next": "says"}`, says), 2},
		"agent":      {limited(limit, `{"id": "h", "type": "agent", "onFailure": "fallback", "fallbackStep": "says", "config": {"instructions": "help", "prompt": "?", "maxTokens": 1000, "tools": ["desk.look"]}, "next": "end"}`, says), 2},
		"a dear one": {limited("0.001", ask("a", end, `, "model": "test/dear", "maxTokens": 1000`, `"onFailure": "skip"`)), 0},
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() pawl.Store) {
				rule := llmtest.Rule{Text: "anything", Usage: thousand}
				if name == "agent" {
					rule = llmtest.Rule{ToolCalls: []llm.ToolCall{{ID: "1", Name: "desk_look", Arguments: `{}`}}, Usage: thousand}
				}
				opt, model := counted(t, &desk{}, rule)
				s := serve(t, open(), opt)
				x := s.after(t, test.doc, `{"list": [1, 2, 3, 4]}`)
				because(t, x, "cost_limit", "maxCostUsd: ")
				equal(t, "calls", len(model.Calls()), test.calls)
				equal(t, "cost", *x.CostMicroUSD, int64(2000*test.calls))
				equal(t, "cost in dollars", *x.CostAccumulator, float64(2000*test.calls)/1e6)
			})
		})
	}
}

// A call that has cost more than was thought is paid, and the next is not made; the limit left out is half a dollar.
func TestJ36_whatACallHasCostCounts(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt, model := counted(t, &desk{}, llmtest.Rule{Text: "x", Usage: llm.Usage{Input: 600_000, Output: 5}})
		s := serve(t, open(), opt)
		x := s.after(t, of(ask("a", `"b"`, `, "maxTokens": 10`), ask("b", end, `, "maxTokens": 10`)), `{}`)
		because(t, x, "cost_limit", "step b would go over maxCostUsd: 0.5: ", "$0.60001")
		equal(t, "calls", len(model.Calls()), 1)
		equal(t, "cost", *x.CostMicroUSD, int64(600_010))
	})
}

// Other budgets than the run's own are no limit of the run: what they refuse can be skipped.
func TestJ36_aTenantsBudgetRefusesAStep(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt, model := counted(t, &desk{}, llmtest.Rule{Text: "x", Usage: thousand})
		s := serve(t, open(), opt)
		if _, err := s.SetBudget(t.Context(), pawl.Budget{Name: "all", Meter: pawl.USD, Limit: 10}); err != nil {
			t.Fatal(err)
		}
		x := s.after(t, of(ask("a", `{"default": "b"}`, ``, `"onFailure": "skip"`), `{"id": "b", "type": "transform", "config": {"expression": "steps.a.error.code"}, "next": "end"}`), `{}`)
		equal(t, "output", fmt.Sprintln(x.Status, string(x.Output)), "completed \"budget\"\n")
		equal(t, "calls", len(model.Calls()), 0)
	})
}

// A circle is refused unless a step of it counts, also one that is closed by fallbackStep or onTimeout.
func TestJ36_circlesAreCounted(t *testing.T) {
	approval := func(more string) string {
		return `{"id": "b", "type": "wait", "config": {"for": "approval", "timeoutMs": 1000, "onTimeout": "a"}, "next": {"approved": "end", "rejected": "end"}` + more + `}`
	}
	for _, test := range []struct{ doc, round string }{
		{of(step("a", `"a"`)), "a → a"},
		{of(step("a", `"b"`), step("b", `{"x": "a", "default": "end"}`)), "a → b → a"},
		{of(send("a", `"b"`, "", ``), send("b", end, "", `"onFailure": "fallback", "fallbackStep": "a"`)), "a → b → a"},
		{of(send("a", `"b"`, ""), approval("")), "a → b → a"},
	} {
		doc := strings.Replace(test.doc, "\"next\": \"b\", }", "\"next\": \"b\"}", 1)
		got := problems(t, doc, world())
		if len(got) != 1 || !strings.Contains(got[0], "a run may go round for ever: "+test.round+"; give one of these steps maxVisits") {
			t.Errorf("%s: told is %q", doc, got)
		}
	}
	if _, err := flow.Parse([]byte(of(send("a", `"b"`, ""), approval(`, "maxVisits": 3`))), world()); err != nil {
		t.Error(err)
	}
}
