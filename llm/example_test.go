package llm_test

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// An agent's loop in small: ask, call the tools that the model wants, tell it what they
// said, ask again.
func Example() {
	var model llm.Model = llmtest.Script( // or openai.New(openai.Options{…})
		llmtest.Rule{Contains: "weather", ToolCalls: []llm.ToolCall{{ID: "1", Name: "weather", Arguments: `{"city":"Oslo"}`}}},
		llmtest.Rule{Contains: "snow", Text: "Take a coat: it snows in Oslo."},
	)
	req := &llm.Request{
		Model:    "any",
		Messages: []llm.Message{llm.User("What is the weather in Oslo?")},
		Tools: []llm.Tool{{
			Name:       "weather",
			Parameters: json.RawMessage(`{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}`),
		}},
	}
	for {
		res, err := model.Generate(context.Background(), req)
		if err != nil {
			fmt.Println(err)
			return
		}
		if res.Finish != llm.FinishToolCalls {
			fmt.Println(res.Text)
			return
		}
		req.Messages = append(req.Messages, res.Message())
		for _, call := range res.ToolCalls {
			fmt.Println("calling", call.Name, call.Arguments)
			req.Messages = append(req.Messages, llm.ToolResult(call, "snow, -4 °C"))
		}
	}
	// Output:
	// calling weather {"city":"Oslo"}
	// Take a coat: it snows in Oslo.
}

func ExampleError() {
	err := fmt.Errorf("summarise: %w", &llm.Error{Kind: llm.ContextTooLong, Provider: "openai", Model: "gpt-4o", Status: 400, Message: "130000 tokens"})
	if !llm.IsRetryable(err) {
		fmt.Println("giving up:", err)
	}
	// Output: giving up: summarise: openai gpt-4o: request too long for the model: 130000 tokens (HTTP 400); shorten the messages or use a model with a larger context
}
