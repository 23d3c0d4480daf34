package openai_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/llm/openai"
)

// Any endpoint that speaks the protocol will do; here it is a scripted one.
func ExampleClient_Generate() {
	server := httptest.NewServer(llmtest.Server(llmtest.Script(
		llmtest.Rule{Contains: "Which queue", Text: `{"queue":"billing"}`, Usage: llm.Usage{Input: 21, Output: 6}},
	)))
	defer server.Close()

	model := openai.New(openai.Options{BaseURL: server.URL + "/v1", APIKey: "sk-…"})
	res, err := model.Generate(context.Background(), &llm.Request{
		Model:       "gpt-4o-mini",
		System:      "You sort support tickets.",
		Messages:    []llm.Message{llm.User("Which queue? My card was charged twice.")},
		Temperature: new(0.0),
		Schema: &llm.Schema{Name: "queue", JSON: json.RawMessage(
			`{"type":"object","properties":{"queue":{"enum":["billing","other"]}},"required":["queue"],"additionalProperties":false}`)},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(res.Text, res.Finish, res.Usage.Input, res.Usage.Output)
	// Output: {"queue":"billing"} stop 21 6
}

func ExampleClient_Stream() {
	server := httptest.NewServer(llmtest.Server(llmtest.Script(llmtest.Rule{Text: "One word after another."})))
	defer server.Close()

	model := openai.New(openai.Options{BaseURL: server.URL + "/v1"})
	req := &llm.Request{Model: "gpt-4o-mini", Messages: []llm.Message{llm.User("Go on.")}}
	res, err := model.Stream(context.Background(), req, func(d llm.Delta) error {
		fmt.Printf("%q\n", d.Text)
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(res.Text)
	// Output:
	// "One "
	// "word "
	// "after "
	// "another."
	// One word after another.
}

func ExampleClient_Embed() {
	server := httptest.NewServer(llmtest.Server(llmtest.Script()))
	defer server.Close()

	model := openai.New(openai.Options{BaseURL: server.URL + "/v1"})
	res, err := model.Embed(context.Background(), &llm.EmbedRequest{
		Model: "text-embedding-3-small",
		Input: []string{"What about a refund?", "Opening hours are nine to five.", "We refund within 14 days."},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	nearness := func(a, b []float32) (sum float32) {
		for i := range a {
			sum += a[i] * b[i]
		}
		return sum
	}
	question := res.Vectors[0]
	fmt.Println(nearness(question, res.Vectors[2]) > nearness(question, res.Vectors[1]))
	// Output: true
}
