package llmtest_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/llm/openai"
)

func ExampleScripted() {
	model := llmtest.Script(
		llmtest.Rule{Contains: "refund", Text: "billing"},
		llmtest.Rule{Text: "other"},
	)
	res, err := model.Generate(context.Background(), &llm.Request{
		Model:    "any",
		Messages: []llm.Message{llm.User("Which queue? I want a refund.")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(res.Text)
	fmt.Println("by", res.Model)
	fmt.Println("asked", len(model.Calls()), "time")
	// Output:
	// billing
	// by scripted (no model was asked)
	// asked 1 time
}

// A real client, real HTTP, and a provider that is busy at first.
func ExampleServer() {
	script := llmtest.Script(llmtest.Rule{
		Fail: []error{&llm.Error{Kind: llm.RateLimited, Message: "20 calls per minute", Wait: 1500 * time.Millisecond}},
		Text: "Hello.",
	})
	server := httptest.NewServer(llmtest.Server(script))
	defer server.Close()

	model := openai.New(openai.Options{BaseURL: server.URL + "/v1"})
	req := &llm.Request{Model: "gpt-4o-mini", Messages: []llm.Message{llm.User("Say hello.")}}
	_, err := model.Generate(context.Background(), req)
	fmt.Println(err)
	res, err := model.Generate(context.Background(), req)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(res.Text)
	fmt.Println(len(script.Calls()), "HTTP calls")
	// Output:
	// openai gpt-4o-mini: rate limited: 20 calls per minute (HTTP 429, rate_limit_exceeded); wait 1.5s before the next attempt
	// Hello.
	// 2 HTTP calls
}
