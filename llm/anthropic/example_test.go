package anthropic_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/anthropic"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// A long system prompt is kept in the provider's cache, and the call is priced.
func ExampleClient_Generate() {
	server := httptest.NewServer(llmtest.Server(llmtest.Script(
		llmtest.Rule{Contains: "charged twice", Text: "billing", Usage: llm.Usage{Input: 5000, CacheWrites: 4900, Output: 3}},
	)))
	defer server.Close()

	model := anthropic.New(anthropic.Options{BaseURL: server.URL, APIKey: "sk-ant-…"})
	res, err := model.Generate(context.Background(), &llm.Request{
		Model:     "claude-haiku-4-5",
		System:    "You sort support tickets. The rules are …",
		Cache:     true,
		Messages:  []llm.Message{llm.User("My card was charged twice.")},
		MaxTokens: 10,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	day := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	cost, known := llm.DefaultPrices().Cost(res.Provider, "claude-haiku-4-5", day, res.Usage)
	fmt.Println(res.Text, cost, "micro-USD", known)
	// Output: billing 6240 micro-USD true
}
