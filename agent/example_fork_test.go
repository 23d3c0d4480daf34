package agent_test

import (
	"context"
	"fmt"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/sqlite"
)

// A letter was answered too coldly: what would have come of it with another instruction? The summary
// that was made before stays; the tone is asked for again, and the reply is written anew.
func ExampleForkAsked() {
	models := agent.New(agent.Options{Model: "scripted/m", Providers: map[string]llm.Model{"scripted": llmtest.Script(
		llmtest.Rule{Contains: "Sum up", Text: "a broken cup"},
		llmtest.Rule{When: func(r *llm.Request) bool { return len(r.System) > 7 && r.System[:7] == "Be warm" }, Text: "friendly"},
		llmtest.Rule{Contains: "Which tone", Text: "formal"},
		llmtest.Rule{Contains: "friendly", Text: "Oh no! A new cup is on its way."},
		llmtest.Rule{Contains: "formal", Text: "Your complaint was received."},
	)}})
	letters := pawl.Define("letters", func(c *pawl.Context, letter string) (string, error) {
		about, err := agent.Generate[string](c, models, "sum up", agent.Call{Prompt: "Sum up: " + letter})
		if err != nil {
			return "", err
		}
		tone, err := agent.Decide(c, models, "tone", agent.Call{System: "Be correct.", Prompt: "Which tone fits " + about + "?"}, []string{"formal", "friendly"})
		if err != nil {
			return "", err
		}
		return agent.Generate[string](c, models, "reply", agent.Call{Prompt: "Reply to " + about + " in a " + tone + " tone."})
	}, pawl.BudgetUSD(1))

	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	engine := pawl.New(store, nil)
	if err := engine.Register(letters); err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error)
	go func() { done <- engine.Run(ctx) }()
	run, err := letters.Start(ctx, engine, "My cup came in two pieces.")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(run.Result(ctx))

	warm := "Be warm."
	fork, err := agent.ForkAsked(ctx, engine, agent.Refork{Run: pawl.Ref{ID: run.ID()}, Step: "tone", Change: agent.Change{System: &warm}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(pawl.Attach[string](engine, fork.ID).Result(ctx))
	for asked, err := range agent.Asked(ctx, engine, pawl.Ref{ID: fork.ID}) {
		fmt.Println(asked.Step, "changed:", asked.Fork != nil, err)
	}
	stop()
	fmt.Println(<-done)
	// Output:
	// Your complaint was received. <nil>
	// Oh no! A new cup is on its way. <nil>
	// sum up changed: false <nil>
	// tone changed: true <nil>
	// reply changed: false <nil>
	// <nil>
}
