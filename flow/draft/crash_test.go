package draft

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/pawltest"
)

// Killed at each commit, a run writes the draft that it would have written, and pays for no answer that is recorded.
func TestJ9_GenerationSurvivesCrashes(t *testing.T) {
	paid := &pawltest.Effects{}
	good := `{"id": "ok", "steps": [{"id": "a", "type": "transform", "config": {"expression": "1"}, "next": "end"}]}`
	model := llmtest.Script(
		llmtest.Rule{Contains: "can't be deployed", Answer: func(ctx context.Context, _ *llm.Request) (*llm.Response, error) {
			paid.Do(ctx, "paid")
			return &llm.Response{Text: good, Usage: llm.Usage{Input: 10, Output: 10}}, nil
		}},
		llmtest.Rule{Answer: func(ctx context.Context, _ *llm.Request) (*llm.Response, error) {
			paid.Do(ctx, "paid")
			return &llm.Response{Text: `{"id": "ok"}`, Usage: llm.Usage{Input: 10, Output: 10}}, nil
		}})
	s := New(nil, nil, Options{Models: agent.New(agent.Options{Providers: map[string]llm.Model{"test": model}}), Model: "test/m"})
	s.flows = flow.NewRegistry(pawl.New(nil, nil), flow.Options{}) // asked for what the server has
	s.by = func(e *pawl.Engine) *Drafts { return New(e, flow.NewRegistry(e, flow.Options{}), s.opt) }
	w := pawl.Define("generate", func(c *pawl.Context, _ request) (Outcome, error) {
		if err := pawl.Do(c, "asked for", func(ctx context.Context) error {
			s := s.at(ctx)
			_, err := s.read(ctx, "", c.RunID())
			if !errors.Is(err, pawl.ErrNotFound) {
				return err
			}
			return s.add(ctx, "", &Draft{ID: c.RunID(), State: Writing, Words: "x"}, &body{})
		}); err != nil {
			return Outcome{}, err
		}
		out, err := s.generate(c, request{})
		if err != nil {
			return out, err
		}
		v, err := pawl.Step(c, "look", func(ctx context.Context) (View, error) { return s.at(ctx).Get(ctx, "", c.RunID()) })
		if err == nil && (v.State != Open || v.Faults != 0 || v.Turns != 2 || v.Text == "") {
			return out, pawl.Fatal(errors.New("the draft is another: " + string(v.State) + v.Text))
		}
		out.Draft, out.CostMicroUSD = "", 0 // the one is another in each run, and the other is the ledger's to compare
		return out, err
	})
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) { // it completes, when nothing crashes
		if out := pawltest.Result(h, pawltest.Start(h, w, request{})); out.Faults != 0 || out.Turns != 2 {
			t.Errorf("%+v", out)
		}
	}, w)
	pawltest.CrashEverywhere(t, w, request{}, pawltest.WithEffects(paid), pawltest.WithLimit(time.Hour))
}
