package flow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/sqlite"
)

// A document is told all that is wrong with it at once.
func ExampleParse() {
	_, err := flow.Parse([]byte(`
id: greet
steps:
  - id: choose
    type: transform
    config: {expression: variables.language}
    next: {de: hallo, default: helo}
  - id: hello
    type: transform
    confg: {expression: variables.name}
    next: end
`), flow.World{})
	fmt.Println(err)
	// Output:
	// 5 problems
	// 7:16: /steps/0/next/de: there is no step "hallo" here; did you mean "hello"?
	// 7:32: /steps/0/next/default: there is no step "helo" here; did you mean "hello"?
	// 8:5: /steps/1: a transform has either "expression" or "set"
	// 8:9: /steps/1/id: no step leads to "hello"; let another step lead here, or take it out
	// 10:5: /steps/1/confg: there is no field "confg"; did you mean "config"?
}

// A registry keeps flows in the store; a run keeps the version it was started with.
func ExampleRegistry() {
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	store, err := sqlite.Open(sqlite.Memory, nil)
	check(err)
	engine := pawl.New(store, nil)
	flows := flow.NewRegistry(engine, flow.Options{})
	check(flows.Refresh(ctx))
	ended := make(chan error)
	go func() { ended <- engine.Run(ctx) }()

	d, err := flows.Deploy(ctx, flow.Deployment{By: "ann", Document: []byte(`{"id": "pick", "steps": [
		{"id": "first", "type": "transform", "config": {"expression": "variables.list[0]"}, "next": "end"}]}`)})
	check(err)
	fmt.Println(d.ID, "version", d.Version)
	run, err := engine.StartRun(ctx, "pick", json.RawMessage(`{"list": ["tea", "milk"]}`))
	check(err)
	fmt.Println(pawl.Attach[string](engine, run.ID).Result(ctx))
	stop()
	check(<-ended)
	check(store.Close())
	// Output:
	// pick version 1
	// tea <nil>
}

// The flow of the page can be deployed.
func TestThePageShowsAFlow(t *testing.T) {
	page, err := os.ReadFile("../docs/flows.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "```json\n")
	doc, _, _ := strings.Cut(rest, "```")
	if f, err := flow.Parse([]byte(doc), flow.World{}); !found || err != nil || len(f.Warnings) > 0 {
		t.Errorf("%v, %v", f, err)
	}
	for _, name := range []string{"ai-decision", "service", "transform", "parallel", "map", "wait", "workflow"} {
		if !strings.Contains(string(page), "| `"+name+"` |") {
			t.Errorf("the page does not tell of %s", name)
		}
	}
}
