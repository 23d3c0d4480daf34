package flow_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/flow"
)

const reaching = `{"id": "refund", "name": "Refunds", "trigger": {"type": "webhook", "path": "/webhooks/refund"}, "steps": [
  {"id": "kind", "type": "ai-decision", "config": {"model": "test/m", "prompt": "Which?\n{{variables.text}}", "outputFormat": "enum", "allowedValues": ["small", "large"]}, "next": {"small": "pay", "large": "ask"}},
  {"id": "ask", "type": "wait", "config": {"for": "approval", "title": "Pay?", "approvers": ["ann"], "timeoutMs": 3600000, "onTimeout": "fail"}, "next": {"approved": "pay", "rejected": "fail"}},
  {"id": "pay", "type": "service", "retryPolicy": {"maxAttempts": 2}, "onFailure": "fallback", "fallbackStep": "help", "config": {"service": "desk", "action": "send", "to": "{{variables.to}}", "text": "{{secrets.bank}}"}, "next": "all"},
  {"id": "all", "type": "map", "config": {"over": "variables.list", "steps": [{"id": "one", "type": "service", "config": {"service": "desk", "to": "#billing"}, "next": "end"}]}, "next": "end"},
  {"id": "help", "type": "agent", "config": {"model": "test/m", "instructions": "Help.", "tools": [{"use": "desk.send", "with": {"to": "#help", "sql": "x"}}, "flow:other"], "approve": ["flow:other"]}, "next": [{"when": "output == 'x'", "to": "fail"}, {"to": "end"}]}
]}`

// A person who reads no JSON sees what each step does, what follows it, and all that goes out.
func TestJ9_AFlowIsExplained(t *testing.T) {
	f := parse(t, reaching, options(t, &desk{}))
	text := f.Explain().String()
	for _, want := range []string{
		"refund: Refunds\n", "It starts with any request to /webhooks/refund: nothing says who sent it.",
		`1. kind: Asks test/m: "Which? {{variables.text}}"; the answer is one of "small", "large".`, `Then "small": go to pay; "large": go to ask. If it fails after 4 tries, the run fails.`,
		`2. ask: Waits until ann has decided on "Pay?", at most 1h0m0s.`, `if nobody comes in time: the run fails`,
		`3. pay: Calls desk.send, to "{{variables.to}}".`, "Then go to all. If it fails after 2 tries, go to help.",
		`4. all: Runs the steps below it for each item of "variables.list", 10 at a time; the first that fails ends all.`, `5. all/one: Calls desk.send, to "#billing".`,
		"6. help: Lets test/m work by itself with desk.send, flow:other, until it has an answer, in at most 20 turns; a person is asked before flow:other.",
		"Then if output == 'x': the run fails; else: the run ends.",
		"trigger /webhooks/refund — CARE: whoever reaches the server can start runs", "model test/m (kind)",
		`service desk.send, to "{{variables.to}}" (pay) — CARE: the run's data choose to`, "secret bank (pay)", `service desk.send, to "#billing" (all/one)` + "\n",
		`tool desk.send, to "#help" (help) — CARE: the model calls it by itself, and no person is asked`, "tool flow:other (help)\n",
		"A run takes at most 1000 steps, holds at most 32 MiB and costs at most $0.5.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	// A document with faults is explained as far as it says anything.
	e, err := flow.Explain([]byte(`{"id": "x", "steps": [{"id": "a", "type": "service", "config": {"service": "nobody"}, "next": "b"}, {"id": "c", "type": "magic"}, 7]}`), flow.World{})
	if err != nil || len(e.Steps) != 1 || len(e.Reach) != 1 || e.Reach[0].Care == "" {
		t.Errorf("%+v %v", e, err)
	}
	for _, none := range []string{"", "[]", "{", "not a flow"} {
		if _, err := flow.Explain([]byte(none), flow.World{}); err == nil {
			t.Errorf("%q is explained", none)
		}
	}
}

// Nothing that anybody may write makes an explanation or a comparison panic.
func FuzzExplain(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, []byte(reaching))
	}
	f.Add([]byte(reaching), []byte(`{"steps":[{"id":"a","type":"agent"},{"id":"b","type":"wait"},{"id":"c","type":"map"},{"id":"d","type":"parallel"},{"id":"e","type":"transform"},{"id":"f","type":"workflow"},{"id":"g","type":"ai-decision"}],"triggers":[{"type":"webhook"},{"type":"event"},{"type":"schedule"},{"type":"database-change"},{}]}`))
	opt := options(f, &desk{})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		for _, data := range [][]byte{a, b} {
			if e, err := flow.Explain(data, flow.World{Services: opt.Services}); err == nil {
				_ = e.String()
			}
		}
		_, _ = flow.Compare(a, b)
	})
}

// What changed is told step by step, wherever a step stands.
func TestJ9_FlowsAreCompared(t *testing.T) {
	old := `{"id": "f", "version": 1, "trigger": {"type": "manual"}, "steps": [{"id": "a", "type": "transform", "config": {"expression": "1"}, "next": "b"}, {"id": "b", "type": "transform", "config": {"expression": "2"}, "next": "end"}, {"id": "p", "type": "parallel", "config": {"branches": [{"id": "l", "steps": [{"id": "x", "type": "transform", "config": {"expression": "1"}, "next": "end"}]}]}, "next": "end"}]}`
	now := `{"id": "f", "version": 2, "trigger": {"type": "webhook", "path": "/webhooks/x"}, "steps": [{"id": "c", "type": "transform", "config": {"expression": "3"}, "next": "a"}, {"id": "p", "type": "parallel", "config": {"branches": [{"id": "l", "steps": [{"id": "x", "type": "transform", "config": {"expression": "9"}, "next": "end"}]}]}, "next": "end"}, {"id": "a", "type": "transform", "config": {"expression": "1"}, "next": "end"}]}`
	c, err := flow.Compare([]byte(old), []byte(now))
	if err != nil {
		t.Fatal(err)
	}
	want := `~ trigger type: "manual" → "webhook"
+ trigger path: "/webhooks/x"
+ step c: {"config":{"expression":"3"},"id":"c","next":"a","type":"transform"}
~ step p/l/x config.expression: "1" → "9"
~ step a next: "b" → "end"
- step b: {"config":{"expression":"2"},"id":"b","next":"end","type":"transform"}
~ flow first step: "a" → "c"`
	if c.String() != want {
		t.Errorf("got\n%s\nwant\n%s", c, want)
	}
	for _, line := range []string{"@@ -", "\n-    \"type\": \"manual\"", "\n+    \"path\": \"/webhooks/x\"", "\n-      \"next\": \"b\""} {
		if !strings.Contains(c.Text, line) {
			t.Errorf("no %q in\n%s", line, c.Text)
		}
	}
	if c.Changes[3].Pointer != "/steps/1/config/branches/0/steps/0/config/expression" || c.Changes[5].Pointer != "/steps/1" {
		t.Errorf("%+v", c.Changes)
	}
	same, err := flow.Compare([]byte(old), []byte(strings.Replace(old, `"version": 1, `, "", 1)))
	if err != nil || len(same.Changes) > 0 || same.Text != "" {
		t.Errorf("%+v %v", same, err)
	}
	if _, err := flow.Compare([]byte(old), []byte("[]")); err == nil {
		t.Error("a list is compared")
	}
}
