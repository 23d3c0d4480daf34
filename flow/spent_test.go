package flow_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// Money that is spent is spent: what a flow sees of its costs has what failed attempts cost, those of steps that were skipped or
// fell back, of branches and items that failed, and of agents. It is what the ledger says.
func TestJ42_whatAFlowSeesHasWhatFailedAttemptsCost(t *testing.T) {
	const retry = `"retryPolicy": {"maxAttempts": 2, "backoffMs": 1}`
	wrong := func(id, next string, more ...string) string { // pays for two answers, neither of which is one
		return strings.Replace(ask(id, next, enum+`, "maxRepairs": 1`, append([]string{retry}, more...)...), `"prompt": "`, `"prompt": "wrong `, 1)
	}
	paid := ask("paid", `{"default": "out"}`, `, "maxTokens": 1000`)
	flaky := func(id, next string) string { // its first attempt is paid, and its second answers
		return strings.Replace(ask(id, next, `, "maxTokens": 1000`, retry), `"prompt": "`, `"prompt": "flaky `, 1)
	}
	out := tells("out", "costAccumulator")
	for name, test := range map[string]struct {
		steps []string
		want  int64
	}{
		"an attempt":           {[]string{flaky("a", `"paid"`), paid, out}, 6000},
		"skipped":              {[]string{wrong("a", `{"default": "paid"}`, `"onFailure": "skip"`), paid, out}, 6000},
		"fallback":             {[]string{wrong("a", `{"default": "out"}`, `"onFailure": "fallback", "fallbackStep": "paid"`), paid, out}, 6000},
		"a branch":             {[]string{branches("all", `"out"`, `, "failureMode": "continue"`, wrong("a", `{"default": "end"}`), ask("good", end, "")), out}, 6000},
		"a branch that skips":  {[]string{branches("all", `"out"`, `, "failureMode": "continue"`, wrong("a", `{"default": "late"}`, `"onFailure": "skip"`)+","+ask("late", end, ""), ask("good", end, "")), out}, 8000},
		"branches, skipped":    {[]string{strings.TrimSuffix(branches("all", `{"default": "out"}`, `, "failureMode": "continue"`, wrong("a", `{"default": "end"}`)), "}") + `, "onFailure": "skip"}`, out}, 4000},
		"failFast, skipped":    {[]string{strings.TrimSuffix(branches("all", `{"default": "paid"}`, ``, wrong("a", `{"default": "end"}`)), "}") + `, "onFailure": "skip"}`, paid, out}, 6000},
		"items":                {[]string{`{"id": "m", "type": "map", "config": {"over": "variables.list", "failureMode": "continue", "steps": [` + ask("b", `"a"`, "") + "," + wrong("a", `{"default": "end"}`) + `]}, "next": "paid"}`, paid, out}, 14000},
		"a branch in a branch": {[]string{ask("before", `"all"`, ""), branches("all", `"out"`, `, "failureMode": "continue"`, branches("in", end, `, "failureMode": "continue"`, wrong("a", `{"default": "end"}`), ask("good", end, ""))), out}, 8000},
		"an agent":             {[]string{`{"id": "h", "type": "agent", "onFailure": "skip", "config": {"instructions": "help", "prompt": "tools", "maxTurns": 2, "maxTokens": 1000, "tools": ["desk.look"]}, "next": {"default": "paid"}}`, paid, out}, 6000},
		"twice":                {[]string{ask("before", `"m"`, ""), `{"id": "m", "type": "map", "maxVisits": 2, "config": {"over": "variables.list", "failureMode": "continue", "steps": [` + wrong("a", `{"default": "end"}`) + `]}, "next": [{"when": "costAccumulator < 0.015", "to": "m"}, {"to": "out"}]}`, out}, 18000},
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() pawl.Store) {
				cut := &llm.Error{Kind: llm.Truncated, Provider: "test", Model: "m", Message: "cut off", Usage: thousand}
				paidFor := llmtest.Rule{Contains: "flaky", Fail: []error{cut, cut}, Text: "x", Usage: thousand}
				if name == "an attempt" {
					paidFor.Fail = paidFor.Fail[:1]
				}
				opt, _ := counted(t, &desk{}, paidFor,
					llmtest.Rule{Contains: "wrong", Text: "neither", Usage: thousand}, llmtest.Rule{Contains: "Answer again", Text: "neither", Usage: thousand},
					llmtest.Rule{When: func(q *llm.Request) bool { return len(q.Tools) > 0 }, ToolCalls: []llm.ToolCall{{ID: "1", Name: "desk_look", Arguments: `{}`}}, Usage: thousand},
					llmtest.Rule{Text: "x", Usage: thousand})
				s := serve(t, open(), opt)
				x := s.after(t, of(test.steps...), `{"list": [1, 2]}`)
				equal(t, "status", x.Status, pawl.Completed)
				equal(t, "by the ledger", x.CountedMicroUSD, test.want)
				equal(t, "seen by the flow", string(x.Output), fmt.Sprint(float64(test.want)/1e6))
			})
		})
	}
}
