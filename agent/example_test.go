package agent_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/sqlite"
)

// What models write and what is read.
func ExampleOneOf() {
	queue, err := agent.OneOf("billing", "feature-request")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, answer := range []string{"Feature Request", "I would classify this as **billing**.", "billing or feature-request"} {
		v, err := queue.Read(answer)
		if e, ok := errors.AsType[*agent.AnswerError](err); ok {
			fmt.Println("repair:", e.Why)
			continue
		}
		fmt.Println(string(v))
	}
	// Output:
	// "feature-request"
	// "billing"
	// repair: it names more than one of the values
}

type Verdict struct {
	Reason   string `json:"reason" jsonschema:"why, in one sentence"`
	Decision string `json:"decision" enum:"approve,reject"`
	Severity int    `json:"severity" minimum:"1" maximum:"5"`
}

// The shape of a Go type tells the provider what to write, and reads what was written.
func ExampleShapeOf() {
	shape, err := agent.ShapeOf[Verdict]()
	if err != nil {
		fmt.Println(err)
		return
	}
	req := llm.Request{Model: "any", Messages: []llm.Message{llm.User("Refund?")}, Schema: shape.Schema()}
	fmt.Println(string(req.Schema.JSON))

	v, err := agent.ReadAs[Verdict](shape, "Sure:\n```json\n{\"reason\": \"paid twice\", \"decision\": \"Approve\", \"severity\": 2}\n```")
	fmt.Println(v, err)

	_, err = shape.Read(`{"reason": "paid twice", "decision": "approve", "severity": 9}`)
	if e, ok := errors.AsType[*agent.AnswerError](err); ok {
		fmt.Println(e.Repair()) // what to say to the model next
	}
	// Output:
	// {"type":"object","properties":{"reason":{"type":"string","description":"why, in one sentence"},"decision":{"type":"string","enum":["approve","reject"]},"severity":{"type":"integer","description":"(minimum 1, maximum 5)"}},"required":["reason","decision","severity"],"additionalProperties":false}
	// {paid twice approve 2} <nil>
	// That answer can't be used: it is not what the schema allows: at /severity: maximum: got 9, want 5.
	// Answer again with one JSON object that the schema allows and nothing else.
}

// A prompt in code, until an operator activates another version of it.
func ExamplePrompt() {
	triage := agent.Prompt{Name: "triage", Text: "Which queue is this for?\n{{untrusted message}}"}
	w := pawl.Define("triage", func(c *pawl.Context, message string) (agent.PromptUse, error) {
		return pawl.Step(c, "ask", func(ctx context.Context) (agent.PromptUse, error) {
			prompt, err := triage.Render(ctx, map[string]any{"message": message})
			if err != nil {
				return agent.PromptUse{}, err
			}
			// … send prompt.Text to a model …
			return prompt.PromptUse, nil
		})
	})

	store, err := sqlite.Open(":memory:", nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	e := pawl.New(store, nil)
	if err := e.Register(w); err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			fmt.Println(err)
		}
	}()

	ask := func() {
		run, err := w.Start(ctx, e, "I was charged twice")
		if err != nil {
			fmt.Println(err)
			return
		}
		used, err := run.Result(ctx)
		fmt.Println(used.Name, used.Version, err)
	}
	ask()

	prompts := agent.Prompts{Engine: e} // as an operator has it
	better, err := prompts.Put(ctx, agent.Prompt{Name: "triage", Text: "Which queue?\n{{untrusted message}}"})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := prompts.Activate(ctx, "triage", agent.Activation{Weights: map[int]int{better.Version: 1}, By: "ann"}); err != nil {
		fmt.Println(err)
		return
	}
	ask()
	// Output:
	// triage 1 <nil>
	// triage 2 <nil>
}
