package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/llm/openai"
)

// calls asks a model on this machine, once by its client alone and once as a step of a run,
// in turn: the difference is what reserving, recording and the ledger add.
func calls(times int) (figures, error) {
	server := httptest.NewServer(llmtest.Server(llmtest.Script(llmtest.Rule{Text: "yes"})))
	defer server.Close()
	client := openai.New(openai.Options{BaseURL: server.URL + "/v1", HTTPClient: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 10}}})
	models := agent.New(agent.Options{Providers: map[string]llm.Model{"openai": client}, Model: "openai/gpt-4o-mini"})
	var durable []time.Duration
	ask := pawl.Define("ask", func(c *pawl.Context, _ int) (int, error) {
		for range times {
			began := time.Now()
			if _, err := agent.Generate[string](c, models, "ask", agent.Call{Prompt: "?", MaxTokens: 100}); err != nil {
				return 0, err
			}
			durable = append(durable, time.Since(began)) // one run, one at a time, no replay
		}
		return 0, nil
	})
	b, err := begin(nil, ask)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	var bare []time.Duration
	req := &llm.Request{Model: "gpt-4o-mini", MaxTokens: 100, Messages: []llm.Message{llm.User("?")}}
	for range times {
		began := time.Now()
		if _, err := client.Generate(ctx, req); err != nil {
			return nil, errors.Join(err, b.stop())
		}
		bare = append(bare, time.Since(began))
	}
	r, err := ask.Start(ctx, b.Engine, 0)
	if err == nil {
		_, err = r.Result(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, b.stop())
	}
	slices.Sort(bare)
	slices.Sort(durable)
	return figures{
		{"client alone p50", ms(bare[times/2]), "ms"},
		{"durable p50", ms(durable[times/2]), "ms"},
		{"durable p99", ms(durable[times*99/100]), "ms"},
		{"added p50", ms(durable[times/2] - bare[times/2]), "ms, two commits included"},
	}, b.stop()
}
