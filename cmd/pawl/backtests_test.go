package main

import (
	"os"
	"path/filepath"
	"testing"
)

const sorts = `
id: sorts
steps:
  - {id: which, type: ai-decision, config: {prompt: "Which? {{variables.text}}", outputFormat: enum, allowedValues: [a, b]}, next: {default: end}}
`

// A decision of a flow is asked again from the command line: what that is likely to cost is told first, and nothing is asked
// until somebody has said yes.
func TestBacktestsOfFlows(t *testing.T) {
	h := serve(t, testWorkflows()...)
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	changed := file("changed.yaml", `
id: sorts
steps:
  - {id: which, type: ai-decision, config: {prompt: "{{variables.text}}: which?", outputFormat: enum, allowedValues: [b, c]}, next: {default: end}}
`)
	at := func(args ...string) result { t.Helper(); return pawlAt(t, h.url, args...) }
	at("deploy", file("sorts.yaml", sorts)).want(t, 0)
	at("backtest", "sorts.which", "--flow", changed).want(t, 3, "nothing to ask again")
	at("start", "sorts", "--id", "one", "-i", `{"text":"t"}`, "--wait").want(t, 0, "a")
	at("start", "sorts", "--id", "two", "-i", `{"text":"u"}`, "--wait").want(t, 0, "a")
	at("backtest", "sorts.which", "--flow", changed).want(t, 2, "2 questions of 2 runs", "likely to cost", "nothing was asked", "--yes")
	at("backtest", "which", "--workflow", "sorts", "--flow", changed, "--dry-run").want(t, 0, "2 questions of 2 runs")
	at("backtest", "sorts.which", "--flow", changed, "--dry-run", "--jq", ".estimate.questions").want(t, 0, "2")
	at("runs", "list", "--workflow", "flow.backtest", "-o", "name").want(t, 0) // none of them has asked
	if out := at("runs", "list", "--workflow", "flow.backtest", "-o", "name").stdout; out != "" {
		t.Errorf("there are %s", out)
	}
	at("backtest", "sorts.which", "--flow", changed, "--yes").want(t, 0, "asked 2: 0 the same", "WAS \\ IS", `"a"`, `"b"`, "one", "two")
	at("backtest", "which", "one", "--flow", changed, "--since", "7d").want(t, 2, "not both")
	at("backtest", "which", "one", "--flow", changed, "-y").want(t, 0, "asked 1:")
	at("backtest", "sorts.which", "--flow", changed, "--since", "7d", "--yes", "--jq", ".result.asked").want(t, 0, "2")
	at("backtest", "sorts.which", "--flow", changed, "--since", "yesterday").want(t, 2, "--since")
	at("backtest", "sorts.wich", "--flow", changed).want(t, 2, `did you mean "which"?`)
	at("backtest", "sorts.which").want(t, 2, "what is asked otherwise?", "--flow")
	at("backtest", "sorts.which", "--model", "gone/m").want(t, 2, "gone/m")
	at("backtest", "sorts.which", "--prompt", "none@1").want(t, 3, "none")
	at("backtest", "sorts.which", "--flow", filepath.Join(dir, "absent.yaml")).want(t, 2, "absent.yaml")
	at("backtest", "sorts.which", "--flow", file("faulty.yaml", "id: sorts\nsteps: []")).want(t, 2)
}
