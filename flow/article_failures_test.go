package flow_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/service"
)

// JSON in fences or behind a preamble is read; an answer that breaks the schema is mended in one turn, and if that is none either, the step fails.
func TestN14_aFlowsJSONIsReadOrMended(t *testing.T) {
	doc := question(verdict + `, "maxRepairs": 1`)
	good := `{"decision":"approve","score":4}`
	rules := []llmtest.Rule{
		said("fence", "```json\n"+good+"\n```"), said("preamble", "Of course. The verdict: "+good), said("broken", `{"decision": "maybe", "score": 4}`), said("worse", `{"decision": "approve"}`), said("prose", "I approve."),
		after(`{"decision": "approve"}`, `{"decision": "approve", "score": 9}`), after("maybe", good), after("I approve.", "```\n"+good+"\n```"),
	}
	eachOperator(t, rules, nil, func(t *testing.T, o *operator) {
		for x, requests := range map[string]int{"fence": 1, "preamble": 1, "broken": 2, "prose": 2} {
			before := len(o.model.Calls())
			o.says(doc, `{"x": "`+x+`"}`, good)
			equal(t, x+": requests", len(o.model.Calls())-before, requests)
		}
		before := len(o.model.Calls())
		id := o.breaks(doc, `{"x": "worse"}`, "gave no answer of the shape that was asked for", "score")
		equal(t, "requests", len(o.model.Calls())-before, 2)
		equal(t, "steps", strings.Count(o.journal(id), `"kind":"step"`), 1)
	})
}

// after is a rule that answers where the model's first answer held some words.
func after(words, text string) llmtest.Rule {
	return llmtest.Rule{When: func(r *llm.Request) bool {
		return len(r.Messages) > 1 && strings.Contains(r.Messages[1].Content, words)
	}, Text: text}
}

// A step that failed for good ends the run, is skipped, or another stands in for it; what a retryPolicy leaves out has its default; a service that
// there is not is refused when the flow is deployed.
func TestN15_whatComesOfAStepThatFails(t *testing.T) {
	doc := func(onFailure, policy string) string {
		steps := []string{send("a", `{"default": "b"}`, `, "text": "bad"`, `"retryPolicy": `+policy+onFailure),
			`{"id": "b", "type": "transform", "config": {"expression": "[steps.a.status, default(steps.a.output, 'none')]"}, "next": "end"}`}
		if strings.Contains(onFailure, "fallback") {
			steps = append(steps, `{"id": "c", "type": "transform", "config": {"expression": "[steps.a.status, steps.a.error.code]"}, "next": "end"}`)
		}
		return of(steps...)
	}
	quick := `{"maxRetries": 2, "backoffMs": 1, "maxBackoffMs": 1}`
	eachOperator(t, nil, nil, func(t *testing.T, o *operator) {
		var mu sync.Mutex
		var at []time.Time
		o.desk.fail = func(string) error {
			mu.Lock()
			defer mu.Unlock()
			if at = append(at, time.Now()); len(at)%3 == 0 { // so that its circuit stays closed
				return &service.Error{Code: service.Denied, Message: "it says no"}
			}
			return &service.Error{Code: service.Unavailable, Message: "not now"}
		}
		o.breaks(doc("", quick), `{}`, `step "a" failed after 3 attempts`, "it says no")
		o.says(doc(`, "onFailure": "skip"`, quick), `{}`, `["skipped","none"]`)
		o.says(doc(`, "onFailure": "fallback", "fallbackStep": "c"`, quick), `{}`, `["failed","denied"]`)
		equal(t, "calls", len(at), 9)
		at = at[:1]
		o.breaks(doc("", `{"maxAttempts": 2}`), `{}`, "it says no")
		if wait := at[2].Sub(at[1]); len(at) != 3 || wait < 400*time.Millisecond || wait > 10*time.Second {
			t.Errorf("%d calls, and %v between two, want about a second", len(at)-1, wait)
		}
		o.refused(strings.Replace(doc("", quick), `"service": "desk"`, `"service": "ticketSystem"`, 1), `/steps/0/config/service: there is no service "ticketSystem"`)
	})
}
