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

// A chat: each message of the user is a run, which remembers those before it.
func ExampleConversations() {
	models := agent.New(agent.Options{Model: "scripted/m", Providers: map[string]llm.Model{"scripted": llmtest.Script(
		llmtest.Rule{Contains: "I am Ann", Text: "Hello Ann."},
		llmtest.Rule{Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
			return &llm.Response{Text: fmt.Sprintf("You said %q.", r.Messages[0].Content)}, nil
		}},
	)}})
	clerk, err := agent.NewAgent("clerk", agent.Config{Models: models, Remember: agent.Memory{Messages: 50}})
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
	for _, message := range []string{"I am Ann.", "Who am I?"} {
		run, err := clerk.Start(ctx, engine, agent.Task{Prompt: message, Conversation: "ann"})
		if err != nil {
			fmt.Println(err)
			return
		}
		result, err := run.Result(ctx)
		fmt.Println(result.Text, result.First, result.Last, err)
	}
	chats := agent.Conversations{Engine: engine}
	for m, err := range chats.Messages(ctx, "ann", 2) { // those after the second
		fmt.Println(m.Position, m.Role, m.Content, err)
	}
	fmt.Println(chats.Delete(ctx, "ann"))
	_, err = chats.Get(ctx, "ann")
	fmt.Println(err)
	stop()
	fmt.Println(<-done)
	// Output:
	// Hello Ann. 1 2 <nil>
	// You said "I am Ann.". 3 4 <nil>
	// 3 user Who am I? <nil>
	// 4 assistant You said "I am Ann.". <nil>
	// <nil>
	// conversation "ann": there is none of that id
	// <nil>
}
