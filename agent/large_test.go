package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// A model that answers five megabytes is told so, briefly, and fails the run when it does it
// again. All of it is paid for and noted.
func TestAnAnswerOfFiveMegabytes(t *testing.T) {
	for name, ask := range map[string]func(c *pawl.Context, m *Models) error{
		"of any text": func(c *pawl.Context, m *Models) error {
			_, err := Ask(c, m, "ask", Call{Prompt: "?"})
			return err
		},
		"of a shape": func(c *pawl.Context, m *Models) error {
			_, err := Generate[string](c, m, "ask", Call{Prompt: "?"})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() pawl.Store) {
				script := llmtest.Script(llmtest.Rule{Text: strings.Repeat("five MB ", 5<<17), Usage: llm.Usage{Input: 10, Output: 1000}})
				prices, err := llm.DefaultPrices().With("test", []byte(`{"prices": [{"provider": "scripted", "model": "m", "input": 1000000, "output": 1000000}]}`))
				if err != nil {
					t.Fatal(err)
				}
				m := New(Options{Model: "scripted/m", Providers: map[string]llm.Model{"scripted": script}, Prices: prices})
				w := pawl.Define("asks", func(c *pawl.Context, _ struct{}) (struct{}, error) { return struct{}{}, ask(c, m) })
				e := work(t, open(), w)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				r, err := w.Start(ctx, e, struct{}{})
				if err != nil {
					t.Fatal(err)
				}
				_, err = r.Result(ctx)
				if err == nil || !strings.Contains(err.Error(), "is 5242") && !strings.Contains(err.Error(), "5242880 bytes") {
					t.Errorf("the run ended with %v", err)
				}
				var failure *pawl.Failure
				var large *pawl.TooLargeError
				if !errors.As(err, &failure) && !errors.As(err, &large) {
					t.Errorf("%T", err)
				}
				calls := script.Calls()
				for _, call := range calls {
					for _, msg := range call.Messages {
						if len(msg.Content) > 32<<10 {
							t.Errorf("a message of %d bytes was sent", len(msg.Content))
						}
					}
				}
				noted := 0
				for q, err := range Asked(ctx, e, pawl.Ref{ID: r.ID()}) {
					if err != nil {
						t.Fatal(err)
					}
					noted++
					if q.Request == nil || q.Response == nil || len(q.Response.Text) < 1000 || q.Cost != 1010 {
						t.Errorf("a note lacks what was asked or said: %+v", q.Made)
					}
				}
				equal(t, "notes", noted, len(calls))
				costs, err := e.Costs(ctx, pawl.CostFilter{ChargeFilter: pawl.ChargeFilter{RunID: r.ID()}})
				if err != nil || len(costs) != 1 || costs[0].Amount != int64(1010*len(calls)) || costs[0].Open != 0 {
					t.Errorf("%d calls have cost %+v, %v", len(calls), costs, err)
				}
			})
		})
	}
}
