package agent

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/pawltest"
)

// saysBack asks for its input, and is given it back.
func saysBack(m *Models, opts ...pawl.StepOption) *pawl.Workflow[string, string] {
	return pawl.Define("says-back", func(c *pawl.Context, in string) (string, error) {
		return Generate[string](c, m, "ask", Call{Prompt: in}, opts...)
	})
}

// A call has its run's priority: one of high priority goes before those that wait already.
func TestACallHasThePriorityOfItsRun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := llmtest.Script(llmtest.Echo())
		m := New(Options{Providers: map[string]llm.Model{"p": s}, Model: "p/m", Limits: map[string]Limit{"p/m": {Requests: 5, Per: time.Second}}})
		w := saysBack(m)
		e := work(t, open(), w)
		var runs []*pawl.Run[string]
		start := func(in string, priority int) {
			run, err := w.Start(t.Context(), e, in, pawl.Priority(priority))
			if err != nil {
				t.Fatal(err)
			}
			runs = append(runs, run)
		}
		for i := range 20 {
			start(fmt.Sprint("low ", i), 0)
		}
		for end := time.Now().Add(30 * time.Second); len(s.Calls()) == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("no call was made")
			}
		}
		start("high", 9)
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		for _, run := range runs {
			if _, err := run.Result(ctx); err != nil {
				t.Fatal(err)
			}
		}
		var order []string
		for _, c := range s.Calls() {
			order = append(order, c.Messages[0].Content)
		}
		if at := slices.Index(order, "high"); at < 0 || at > 12 || len(order) != 21 { // some had their turn already
			t.Errorf("it was number %d of %q", at, order)
		}
	})
}

// A call that was refused goes, once its wait is over, before all that have waited for their
// first turn, however long the queue is.
func TestARefusedCallGoesBeforeNewOnes(t *testing.T) {
	const wait = time.Second
	var mu sync.Mutex
	refused := map[string]time.Time{}
	n, late := 0, 0
	s := llmtest.Script(llmtest.Rule{Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		who := r.Messages[0].Content
		if at, ok := refused[who]; ok {
			switch since := time.Since(at); {
			case since < wait:
				t.Errorf("%s came %v after it was refused", who, since)
			case since > wait+3*time.Second:
				late++
				t.Errorf("%s came %v after it was refused", who, since)
			}
		} else if n++; n%5 == 0 {
			refused[who] = time.Now()
			return nil, &llm.Error{Kind: llm.RateLimited, Provider: "p", Wait: wait}
		}
		return &llm.Response{Text: who, Finish: llm.FinishStop}, nil
	}})
	m := New(Options{Providers: map[string]llm.Model{"p": s}, Model: "p/m", Limits: map[string]Limit{"p": {Requests: 1, Per: time.Second}}})
	w := saysBack(m)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		var runs []*pawl.Run[string]
		for i := range 150 {
			run, err := w.Start(t.Context(), h.Engine(), strconv.Itoa(i))
			if err != nil {
				t.Fatal(err)
			}
			runs = append(runs, run)
		}
		for i, run := range runs {
			if out, err := run.Result(t.Context()); err != nil || out != strconv.Itoa(i) {
				t.Error(out, err)
			}
		}
		if len(refused) != 30 {
			t.Errorf("%d calls were refused", len(refused))
		}
	}, w)
}

// What a call has used that was cut off is not known: the tokens that it was expected to use
// stay taken. One that was refused has used none.
func TestTokensOfACallThatWasCutOffStayTaken(t *testing.T) {
	for name, c := range map[string]struct {
		rule llmtest.Rule
		left int64 // at least, and 500 more at most
	}{
		"cut off":    {llmtest.Rule{Delay: time.Hour}, 4500},
		"refused":    {llmtest.Rule{Fail: []error{&llm.Error{Kind: llm.RateLimited, Provider: "p"}}}, 9500},
		"overloaded": {llmtest.Rule{Fail: []error{&llm.Error{Kind: llm.Overloaded, Provider: "p"}}}, 9500},
		"used less":  {llmtest.Rule{Text: "yes", Usage: llm.Usage{Input: 900, Output: 100}}, 8500},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(Options{
				Providers: map[string]llm.Model{"p": llmtest.Script(c.rule)}, Model: "p/m", Timeout: time.Millisecond,
				Limits: map[string]Limit{"p": {Tokens: 10_000, Per: 24 * time.Hour, Burst: 24 * time.Hour}},
			})
			w := pawl.Define("asks", func(c *pawl.Context, _ struct{}) (string, error) {
				return Generate[string](c, m, "ask", Call{Prompt: "?", MaxTokens: 5000}, pawl.MaxAttempts(1))
			})
			pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
				run, err := w.Start(t.Context(), h.Engine(), struct{}{})
				if err != nil {
					t.Fatal(err)
				}
				_, _ = run.Result(t.Context())
				time.Sleep(time.Second)
				state, err := m.pacer.State(t.Context(), h.Engine())
				if err != nil || len(state) != 1 || state[0].Tokens.Left < c.left || state[0].Tokens.Left > c.left+500 {
					t.Errorf("%+v %v", state, err)
				}
			}, w)
		})
	}
}

// A provider of Options is an endpoint with a key: it has buckets and a breaker of its own.
func TestEachProviderHasItsOwnBucketsAndBreaker(t *testing.T) {
	broken := llmtest.Script(llmtest.Rule{Answer: func(context.Context, *llm.Request) (*llm.Response, error) {
		return nil, &llm.Error{Kind: llm.Unavailable, Provider: "openai"}
	}})
	m := New(Options{
		Providers: map[string]llm.Model{"openai": broken, "openai-eu": llmtest.Script(llmtest.Echo())},
		Limits:    map[string]Limit{"": {Requests: 1000}},
	})
	w := pawl.Define("asks", func(c *pawl.Context, model string) (string, error) {
		return Generate[string](c, m, "ask", Call{Model: model, Prompt: "hello"}, pawl.MaxAttempts(1))
	})
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		for _, model := range []string{"openai/a", "openai/b", "openai/a", "openai/b", "openai-eu/a"} {
			run, err := w.Start(t.Context(), h.Engine(), model)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := run.Result(t.Context()); (err == nil) != (model == "openai-eu/a") {
				t.Errorf("%s: %v", model, err)
			}
		}
		circuits, err := Breakers(t.Context(), h.Engine())
		if err != nil || len(circuits) != 1 || circuits[0].Endpoint != "openai" || circuits[0].State != CircuitOpen || len(broken.Calls()) != 3 {
			t.Errorf("%d calls, %+v %v", len(broken.Calls()), circuits, err)
		}
		state, err := m.pacer.State(t.Context(), h.Engine())
		var names []string
		for _, s := range state {
			names = append(names, s.Bucket)
		}
		if err != nil || !slices.Equal(names, []string{"openai-eu/a", "openai/a", "openai/b"}) {
			t.Errorf("%q %v", names, err)
		}
	}, w)
}

// A test may return as soon as it has its result: what the pacer still has to write down, here
// that a call was refused, does not hang it.
func TestATestNeedNotWaitForThePacer(t *testing.T) {
	refusing := llmtest.Script(llmtest.Rule{Answer: func(context.Context, *llm.Request) (*llm.Response, error) {
		return nil, &llm.Error{Kind: llm.RateLimited, Provider: "p"}
	}})
	m := New(Options{Providers: map[string]llm.Model{"p": refusing}, Model: "p/m", Limits: map[string]Limit{"p": {Requests: 5, Per: time.Second}}})
	w := saysBack(m, pawl.MaxAttempts(1))
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run, err := w.Start(t.Context(), h.Engine(), "hello")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := run.Result(t.Context()); err == nil {
			t.Error("it was to be refused")
		}
	}, w)
}
