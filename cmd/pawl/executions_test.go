package main

import (
	"strings"
	"testing"
	"time"
)

// routed is a flow with branches and items, of which one way is taken.
const routed = `{"id": "routed", "name": "Routed", "steps": [
  {"id": "pick", "type": "transform", "config": {"expression": "variables.to"}, "next": {"all": "both", "default": "fail"}},
  {"id": "both", "type": "parallel", "config": {"branches": [
    {"id": "left", "steps": [{"id": "copy", "type": "transform", "config": {"expression": "variables.to"}, "next": "end"}]},
    {"id": "right", "steps": [{"id": "copy", "type": "transform", "config": {"expression": "workflowId"}, "next": "end"}]}]}, "next": "hold"},
  {"id": "hold", "type": "wait", "config": {"for": "event", "event": "go"}, "next": "end"}]}`

// held has a step that fails, and a fallback that leads to fail.
const held = `{"id": "held", "inputs": {"type": "object", "properties": {"tier": {"enum": ["free", "paid"]}}}, "steps": [{"id": "pay", "type": "transform", "config": {"expression": "variables.tier.at"}, "onFailure": "fallback", "fallbackStep": "tell", "next": "end"},
  {"id": "tell", "type": "transform", "config": {"expression": "workflowId"}, "next": "fail"}]}`

func TestExecutionsAndTheirGraphs(t *testing.T) {
	t.Chdir(t.TempDir())
	eachStore(t, func(t *testing.T, h *house) {
		at := func(args ...string) result { return pawlAt(t, h.url, args...) }
		write(t, "routed.json", routed)
		at("deploy", "routed.json").want(t, 0, "new")
		at("workflows", "metrics", "routed").want(t, 0, "N/A", "$0.0000")
		at("start", "routed", "--id", "x", "--input", `{"to":"all"}`, "-q").want(t, 0)
		eventuallyAt(t, h, "x", `"go"`)
		at("executions", "show", "x").want(t, 0, "routed, version 1", `hold: waiting for the event "go"`, "both/left/copy", "both/right/copy", "completed")
		at("executions", "show", "x", "--jq", ".currentStep").want(t, 0, "hold")
		at("executions", "list", "--workflow", "routed").want(t, 0, "x", "waiting")
		at("executions", "show", "nobody").want(t, exitNotFound)
		at("start", "routed", "--id", "bad", "--input", `{"to":"nowhere"}`, "--wait").want(t, exitRunFailed)
		at("runs", "retry", "bad").want(t, exitConflict, "would come there again", "start another run")
		write(t, "held.json", held)
		at("deploy", "held.json").want(t, 0)
		at("workflows", "show", "held").want(t, 0, `tier   string  yes       "free", "paid"`)
		again := "pawl runs fork h --from pay"
		at("start", "held", "--id", "h", "--input", "{}", "--wait").want(t, exitRunFailed, "after step pay failed", again)
		at("runs", "show", "h").want(t, 0, again)
		at("runs", "retry", "h").want(t, exitConflict, "pawl runs fork h --from 'pay'")
		at("runs", "fork", "h", "--from", "pay", "--id", "h2").want(t, 0)
		at("signal", "x", "go", "-q").want(t, 0)
		at("start", "echo", "--id", "coded", "--input", `{}`, "-q").want(t, 0)
		at("executions", "show", "coded").want(t, exitNotFound, "no deployed flow")
		if r := at("executions", "list").want(t, 0, "bad", "failed"); strings.Contains(r.stdout, "coded") {
			t.Errorf("a run of code is among them: %s", r.stdout)
		}
		for end := 0; !strings.Contains(at("executions", "show", "x", "--jq", ".status").stdout, "completed"); end++ {
			if end > 1000 {
				t.Fatal("it does not complete")
			}
			time.Sleep(10 * time.Millisecond)
		}
		at("workflows", "metrics", "routed").want(t, 0, "50.0%", "VERSION", "last 24h")
		at("workflows", "metrics", "nobody").want(t, exitNotFound)

		at("graph", "routed").want(t, 0, "flowchart TD", `-->|"all"|`, `subgraph`)
		at("graph", "routed", "-o", "svg").want(t, 0, "<svg ", "<title>Routed</title>")
		at("graph", "routed", "-o", "json", "--jq", ".nodes[1].id").want(t, 0, "pick")
		at("graph", "bad").want(t, 0, "flowchart TD", "✗ failed", "✓ completed")
		at("graph", "bad", "-o", "svg").want(t, 0, "run bad: failed")
		at("graph", "bad", "-o", "dot").want(t, exitUsage, "runs of code")
		at("graph", "coded", "-o", "svg").want(t, exitUsage, "for flows and their runs")
		at("graph", "routed.json").want(t, 0, "flowchart TD", "hold")
		write(t, "broken.yaml", "id: b\nsteps:\n- id: a\n  type: transform\n  config: {expression: variables}\n  next: nowhere\n")
		at("graph", "broken.yaml", "-o", "svg").want(t, 0, "there is no such step")
		at("graph", "broken.yaml", "-o", "json", "--jq", ".nodes[2].type").want(t, 0, "missing")
		at("graph", "none.json").want(t, exitUsage, "none.json")
	}, testWorkflows()...)
}
