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

// An agent that adds: its model is a script here, and would be openai.New(…) elsewhere.
func ExampleNewAgent() {
	models := agent.New(agent.Options{Model: "scripted/m", Providers: map[string]llm.Model{"scripted": llmtest.Script(
		llmtest.Rule{Contains: "books", ToolCalls: []llm.ToolCall{{ID: "1", Name: "add", Arguments: `{"a":2,"b":3}`}}},
		llmtest.Rule{Contains: "5", Text: "You have five books."},
	)}})
	type numbers struct {
		A int `json:"a"`
		B int `json:"b"`
	}
	add := agent.Func("add", "adds two numbers", func(_ context.Context, in numbers) (int, error) { return in.A + in.B, nil })
	clerk, err := agent.NewAgent("clerk", agent.Config{Models: models, Instructions: "You count books.", Tools: []agent.Tool{add}})
	if err != nil {
		fmt.Println(err)
		return
	}

	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	engine := pawl.New(store, nil)
	if err := engine.Register(clerk); err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error)
	go func() { done <- engine.Run(ctx) }()
	run, err := clerk.Start(ctx, engine, agent.Task{Prompt: "Two books and three more: how many books?"})
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := run.Result(ctx)
	fmt.Println(result.Text, result.Turns, err)
	for asked, err := range agent.Asked(ctx, engine, pawl.Ref{ID: run.ID()}) {
		fmt.Println(asked.Step, len(asked.Request.Messages), asked.Response.Finish, err)
	}
	stop()
	fmt.Println(<-done)
	// Output:
	// You have five books. 2 <nil>
	// model 1 tool_calls <nil>
	// model#2 3 stop <nil>
	// <nil>
}
