package flow_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/pawltest"
)

// Killed at each commit, a flow goes on where it was and ends as it would have ended.
func TestFlowsSurviveCrashes(t *testing.T) {
	mapped := `{"id": "m", "steps": [{"id": "each", "type": "map", "config": {"over": "variables.list", "concurrency": 2, "failureMode": "continue", "steps": [
	  {"id": "send", "type": "service", "config": {"service": "desk", "to": "{{item}}"}, "next": "out"}, {"id": "out", "type": "transform", "config": {"expression": "item"}, "next": "end"}]}, "next": "end"}]}`
	for name, test := range map[string]struct{ doc, variables string }{
		"decisions": {triage, `{"ticketText": "it crashes"}`},
		"branches":  {strings.NewReplacer("MODE", "continue", " QUORUM", "").Replace(parallelDoc), `{}`},
		"quorum":    {strings.NewReplacer("MODE", "quorum", " QUORUM", `, "quorum": 2`).Replace(parallelDoc), `{}`},
		"items":     {mapped, `{"list": ["a", "b", "c"]}`},
	} {
		t.Run(name, func(t *testing.T) {
			opt := options(t, &desk{}, llmtest.Rule{Contains: "Which queue?", Text: "technical issue"}, llmtest.Rule{Contains: "How bad?", Text: "4"})
			var in flow.Variables
			if err := json.Unmarshal([]byte(test.variables), &in); err != nil {
				t.Fatal(err)
			}
			pawltest.CrashEverywhere(t, flow.Define(parse(t, test.doc, opt), opt), in, pawltest.WithEqual(func(_ string, a, b json.RawMessage) bool { return withoutIDs(a) == withoutIDs(b) }),
				pawltest.WithIgnored(func(_, key string) bool { return strings.HasSuffix(key, "/$wait") })) // who waits for what was not needed, or in it
		})
	}
}

// withoutIDs leaves out what a desk counts, as a crash may call it again.
func withoutIDs(data json.RawMessage) string {
	var v map[string]any
	if json.Unmarshal(data, &v) != nil {
		return string(data)
	}
	delete(v, "id")
	return fmt.Sprint(v)
}
