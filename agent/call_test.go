package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// once is a workflow that asks once.
func once(m *Models, q Call, opts ...pawl.StepOption) *pawl.Workflow[struct{}, *Answer] {
	return pawl.Define("asking", func(c *pawl.Context, _ struct{}) (*Answer, error) { return Ask(c, m, "ask", q, opts...) })
}

// answer runs w and returns what it came to, and why each request was made.
func answer(t *testing.T, store pawl.Store, w *pawl.Workflow[struct{}, *Answer]) (*Answer, []string, error) {
	t.Helper()
	e := work(t, store, w)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := w.Start(ctx, e, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := r.Result(ctx)
	var whys []string
	for q, qerr := range Asked(ctx, e, pawl.Ref{ID: r.ID()}) {
		if qerr != nil {
			t.Fatal(qerr)
		}
		why := q.Why + " " + q.Model
		if q.Kind != "" {
			why += " " + string(q.Kind)
		}
		if q.Cached {
			why += " cached"
		}
		whys = append(whys, why)
	}
	return a, whys, err
}

func TestN14_repair(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		shape, err := OneOf("P1", "P2")
		if err != nil {
			t.Fatal(err)
		}
		t.Run("mended", func(t *testing.T) {
			m, s := scripted(llmtest.Rule{Contains: "can't be used", Text: "```json\n{\"value\": \"p2.\"}\n```"}, llmtest.Rule{Text: "Who can tell?"})
			a, whys, err := answer(t, open(), once(m, Call{Prompt: "which?", Shape: shape}))
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "value", string(a.Value), `"P2"`)
			equal(t, "requests", whys, []string{"ask scripted/m", "repair scripted/m"})
			last := s.Calls()[1].Messages
			equal(t, "the model's own answer, and what is wrong with it", fmt.Sprint(len(last), ": ", last[1].Content), "3: Who can tell?")
		})
		for _, repairs := range []int{2, 0} {
			t.Run(fmt.Sprint("not mended in ", repairs), func(t *testing.T) {
				m, s := scripted(llmtest.Rule{Text: "Who can tell?"})
				_, whys, err := answer(t, open(), once(m, Call{Prompt: "which?", Shape: shape, Repairs: &repairs}))
				if err == nil || !strings.Contains(err.Error(), "Who can tell?") || !strings.Contains(err.Error(), "no answer of the shape") {
					t.Errorf("got %v", err)
				}
				equal(t, "requests", fmt.Sprint(len(s.Calls()), len(whys)), fmt.Sprint(repairs+1, repairs+1))
			})
		}
	})
}

func TestJ21_anAnswerThatIsCutOffGetsMoreRoom(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(
			llmtest.Rule{When: func(r *llm.Request) bool { return r.MaxTokens < 400 }, Text: "it is", Finish: llm.FinishLength},
			llmtest.Rule{Text: "it is so"},
		)
		a, whys, err := answer(t, open(), once(m, Call{Prompt: "?", MaxTokens: 100}))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "text", a.Text, "it is so")
		equal(t, "requests", whys, []string{"ask scripted/m", "more room scripted/m", "more room scripted/m"})
		equal(t, "room", fmt.Sprint(s.Calls()[0].MaxTokens, s.Calls()[1].MaxTokens, s.Calls()[2].MaxTokens), "100 200 400")
		m, _ = scripted(llmtest.Rule{Text: "it is", Finish: llm.FinishLength})
		_, _, err = answer(t, open(), pawl.Define("endless", func(c *pawl.Context, _ struct{}) (*Answer, error) {
			return Ask(c, m, "ask", Call{Prompt: "?", MaxTokens: 100})
		}))
		if err == nil || !strings.Contains(err.Error(), "does not end within 400 tokens") {
			t.Errorf("got %v", err)
		}
	})
}

func TestJ24_anotherModelAnswers(t *testing.T) {
	failing := func(kind llm.Kind) llmtest.Rule {
		return llmtest.Rule{Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
			return nil, &llm.Error{Kind: kind, Provider: "first", Model: r.Model, Message: "no", Wait: 10 * time.Millisecond}
		}}
	}
	for name, c := range map[string]struct {
		rule llmtest.Rule
		want []string
	}{
		"overloaded":     {failing(llm.Overloaded), []string{"ask first/m overloaded", "fallback second/m"}},
		"unavailable":    {failing(llm.Unavailable), []string{"ask first/m unavailable", "fallback second/m"}},
		"too long":       {failing(llm.ContextTooLong), []string{"ask first/m context_too_long", "fallback second/m"}},
		"refused":        {failing(llm.Refused), []string{"ask first/m refused", "fallback second/m"}},
		"declined":       {llmtest.Rule{Refusal: "I would rather not."}, []string{"ask first/m refused", "fallback second/m"}},
		"too slow":       {llmtest.Rule{Delay: time.Hour}, []string{"ask first/m timeout", "fallback second/m"}},
		"bad request":    {failing(llm.BadRequest), []string{"ask first/m bad_request"}},
		"not authorised": {failing(llm.Auth), []string{"ask first/m auth"}},
		"rate limited":   {failing(llm.RateLimited), []string{"ask first/m rate_limited", "fallback second/m"}},
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() pawl.Store) {
				m := New(Options{Timeout: 100 * time.Millisecond, Providers: map[string]llm.Model{"first": llmtest.Script(c.rule), "second": llmtest.Script(llmtest.Rule{Text: "yes"})}})
				a, whys, err := answer(t, open(), once(m, Call{Model: "first/m", Fallbacks: []string{"second/m"}, Prompt: "?"}))
				if !slices.Equal(whys, c.want) {
					t.Errorf("requests: got %q, want %q", whys, c.want)
				}
				if len(c.want) == 2 && (err != nil || a.Model != strings.Fields(c.want[1])[1]) || len(c.want) == 1 && err == nil {
					t.Errorf("got %+v, %v", a, err)
				}
			})
		})
	}
}

// Two runs ask the same: the second costs nothing, and says so.
func TestTheCacheAnswersTheSecond(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(llmtest.Rule{Text: "yes"})
		w := once(m, Call{Prompt: "?", Cache: CacheFor{For: time.Minute}})
		e := work(t, open(), w)
		var costs []string
		for range 2 {
			r, err := w.Start(t.Context(), e, struct{}{})
			if err != nil {
				t.Fatal(err)
			}
			a, err := r.Result(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			costs = append(costs, fmt.Sprint(a.Text, " ", a.Cached, " ", a.Cost > 0))
		}
		equal(t, "answers", costs, []string{"yes false true", "yes true false"})
		equal(t, "model calls", len(s.Calls()), 1)
	})
}

// An answer of the cache that does not fit is mended by the model: then somebody was asked.
func TestAMendedAnswerOfTheCacheIsNotCached(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		shape, err := OneOf("yes", "no")
		if err != nil {
			t.Fatal(err)
		}
		busy := []error{&llm.Error{Kind: llm.Overloaded, Provider: "scripted"}}
		m, s := scripted(llmtest.Rule{Contains: "can't be used", Fail: busy, Text: "yes"}, llmtest.Rule{Text: "Who can tell?"})
		w := once(m, Call{Prompt: "?", Shape: shape, Cache: CacheFor{For: time.Minute}}, pawl.MaxAttempts(1))
		e := work(t, open(), w)
		for i := range 2 {
			r, err := w.Start(t.Context(), e, struct{}{})
			if err != nil {
				t.Fatal(err)
			}
			a, err := r.Result(t.Context())
			if i == 0 {
				if err == nil {
					t.Error("nobody could mend it, and it was taken")
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "answer, cached, model calls", fmt.Sprint(string(a.Value), " ", a.Cached, " ", len(s.Calls())), `"yes" false 3`)
		}
	})
}

func TestACallRecordsWhichPromptItUsed(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(llmtest.Rule{Text: "yes"})
		p := Prompt{Name: "greeting", Text: "Greet {{name}}."}
		a, _, err := answer(t, open(), once(m, Call{Template: &p, Vars: map[string]any{"name": "Ada"}}))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "prompt", fmt.Sprint(a.Prompt.Name, " ", a.Prompt.Version, " ", s.Calls()[0].Messages[0].Content), "greeting 1 Greet Ada.")
	})
}

func TestAModelThatIsNotThereIsNamed(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		for model, want := range map[string]string{"": "names no model", "gpt-4o": "provider/model", "openai/gpt-4o": "scripted"} {
			m := New(Options{Providers: map[string]llm.Model{"scripted": llmtest.Script()}})
			_, _, err := answer(t, open(), pawl.Define("asking-"+strings.NewReplacer("/", "-").Replace(model), func(c *pawl.Context, _ struct{}) (*Answer, error) {
				return Ask(c, m, "ask", Call{Model: model, Prompt: "?"})
			}))
			if !errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), want) {
				t.Errorf("model %q: got %v, want %q", model, err, want)
			}
		}
	})
}

// halting is a model that goes on only when it is let.
type halting struct {
	llm.Model
	goOn chan struct{}
}

func (h *halting) Stream(ctx context.Context, _ *llm.Request, each func(llm.Delta) error) (*llm.Response, error) {
	for _, piece := range []string{"one ", "two ", "three"} {
		if err := each(llm.Delta{Text: piece}); err != nil {
			return nil, err
		}
		select {
		case <-h.goOn:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &llm.Response{Text: "one two three", Finish: llm.FinishStop}, nil
}

// A piece of an answer is read before the next one comes, however long the model pauses.
func TestNoPieceIsHeldBack(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		h := &halting{goOn: make(chan struct{})}
		m := New(Options{Providers: map[string]llm.Model{"halting": h}, Model: "halting/m"})
		w := once(m, Call{Prompt: "?", Stream: "s"})
		e := work(t, open(), w)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		r, err := w.Start(ctx, e, struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for chunk, err := range e.ReadStream(ctx, "", r.ID(), "s", 0) {
			if err != nil {
				t.Fatalf("after %q: %v", text.String(), err)
			}
			var d Delta
			if err := json.Unmarshal(chunk.Data, &d); err != nil {
				t.Fatal(err)
			}
			if d.Restart != (chunk.Index == 0) {
				t.Errorf("chunk %d: restart is %v", chunk.Index, d.Restart)
			}
			if text.WriteString(d.Text); d.Text != "" {
				h.goOn <- struct{}{}
			}
		}
		equal(t, "text", text.String(), "one two three")
	})
}

// How much the cache has saved can be seen.
func TestModelsTellTheirHitRate(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, _ := scripted(llmtest.Rule{Text: "yes", Usage: llm.Usage{Input: 30, Output: 5}})
		w := once(m, Call{Prompt: "?", Cache: CacheFor{For: time.Minute}})
		e := work(t, open(), w)
		for range 4 {
			r, err := w.Start(t.Context(), e, struct{}{})
			if err == nil {
				_, err = r.Result(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		stats, err := m.CacheStats(t.Context(), e)
		var all CacheStats
		for _, day := range stats { // it may be midnight
			all.add(day)
		}
		if err != nil || all.Hits != 3 || all.HitRate() != 0.75 || all.Saved != (llm.Usage{Input: 90, Output: 15}) {
			t.Errorf("got %+v, %v", stats, err)
		}
	})
}

// The model was overloaded, and there is no money for the one in its place: the step asks the
// first one again later, and does not fail.
func TestAFallbackThatIsTooDearIsNoEnd(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		prices, err := llm.DefaultPrices().With("test", []byte(`{"prices": [{"provider": "first", "model": "m", "input": 0, "output": 0}, {"provider": "second", "model": "m", "input": 0, "output": 100000000}]}`))
		if err != nil {
			t.Fatal(err)
		}
		m := New(Options{Prices: prices, Providers: map[string]llm.Model{
			"first":  llmtest.Script(llmtest.Rule{Fail: []error{&llm.Error{Kind: llm.Overloaded, Provider: "first", Wait: time.Millisecond}}, Text: "yes"}),
			"second": llmtest.Script(llmtest.Rule{Text: "dear"}),
		}})
		w := pawl.Define("asking", func(c *pawl.Context, _ struct{}) (*Answer, error) {
			return Ask(c, m, "ask", Call{Model: "first/m", Fallbacks: []string{"second/m"}, Prompt: "?"})
		}, pawl.BudgetUSD(0.01))
		a, whys, err := answer(t, open(), w)
		equal(t, "requests", fmt.Sprint(whys, err), "[ask first/m overloaded fallback second/m ask first/m] <nil>")
		equal(t, "answer", a.Text, "yes")
	})
}
