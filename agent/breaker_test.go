package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/sqlite"
)

func down(kind llm.Kind) error {
	return fmt.Errorf("ask: %w", &llm.Error{Kind: kind, Provider: "p", Message: "no luck"})
}

// circuits is a breaker of one worker, in a test.
type circuits struct {
	*testing.T
	e *pawl.Engine
	b *Breaker
}

// call asks for leave and says how the call went. It returns why there was no leave.
func (c circuits) call(err error) error {
	c.Helper()
	p, no := c.b.Allow(c.Context(), c.e, "p/m")
	if no != nil {
		return no
	}
	if err := p.Done(err); err != nil {
		c.Error(err)
	}
	return nil
}

func (c circuits) state() BreakerState {
	c.Helper()
	all, err := Breakers(c.Context(), c.e)
	if err != nil || len(all) > 1 {
		c.Fatal(all, err)
	}
	if len(all) == 0 {
		return BreakerState{State: CircuitClosed}
	}
	return all[0]
}

func TestACircuitOpensTriesAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := sqliteStore(t, sqlite.Memory)
		one, two := circuits{t, pawl.New(store, nil), NewBreaker(nil)}, circuits{t, pawl.New(store, nil), NewBreaker(nil)}
		began := time.Now()
		for i, kind := range []llm.Kind{llm.Timeout, llm.Overloaded, llm.Unavailable} {
			if err := []circuits{one, two}[i%2].call(down(kind)); err != nil {
				t.Fatalf("failure %d: %v", i, err)
			}
		}
		time.Sleep(time.Second)
		for _, c := range []circuits{one, two} {
			var open *BreakerError
			if err := c.call(nil); !errors.As(err, &open) || !open.Since.Equal(began) || !open.Until.Equal(began.Add(30*time.Second)) || open.Failures != 3 {
				t.Fatalf("%+v", err)
			}
			for _, part := range []string{"p/m", began.Format(time.RFC3339), open.Until.Format(time.RFC3339), "no luck"} {
				if !strings.Contains(open.Error(), part) {
					t.Errorf("the error does not tell %s: %s", part, open)
				}
			}
			if d, ok := open.RetryAfter(); !ok || d != 29*time.Second || pawl.IsFatal(open) {
				t.Error(d, ok)
			}
			if s := c.state(); s.State != CircuitOpen || s.Endpoint != "p/m" || s.Failures != 3 || s.Last == "" {
				t.Errorf("%+v", s)
			}
		}
		time.Sleep(29 * time.Second)
		if s := one.state(); s.State != CircuitHalfOpen || s.Trying {
			t.Errorf("%+v", s)
		}
		trier, err := two.b.Allow(t.Context(), two.e, "p/m")
		if err != nil {
			t.Fatal(err)
		}
		var open *BreakerError
		if err := one.call(nil); !errors.As(err, &open) || !open.Trying {
			t.Fatal(err)
		}
		if s := one.state(); !s.Trying {
			t.Errorf("%+v", s)
		}
		if err := trier.Done(down(llm.Truncated)); err != nil { // and again
			t.Fatal(err)
		}
		time.Sleep(29 * time.Second)
		if err := one.call(nil); !errors.As(err, &open) || open.Trying || !open.Since.Equal(began) {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := one.call(nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := two.call(nil); err != nil {
			t.Fatal(err)
		}
		if s := one.state(); s.State != CircuitClosed || s.Failures != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestWhatCountsAsAFailure(t *testing.T) {
	for _, c := range []struct {
		name  string
		calls []error
		want  CircuitState
	}{
		{"two failures", []error{down(llm.Timeout), down(llm.Timeout)}, CircuitClosed},
		{"an answer in between", []error{down(llm.Timeout), down(llm.Timeout), nil, down(llm.Timeout)}, CircuitClosed},
		{"a bad request is an answer", []error{down(llm.Timeout), down(llm.Timeout), down(llm.BadRequest), down(llm.Timeout)}, CircuitClosed},
		{"a rate limit is neither", []error{down(llm.Timeout), down(llm.RateLimited), down(llm.Timeout), down(llm.RateLimited), down(llm.Timeout)}, CircuitOpen},
		{"rate limits only", []error{down(llm.RateLimited), down(llm.RateLimited), down(llm.RateLimited), down(llm.RateLimited)}, CircuitClosed},
		{"cancelled callers", []error{context.Canceled, context.Canceled, context.Canceled, context.Canceled}, CircuitClosed},
		{"refusals", []error{down(llm.Refused), down(llm.Auth), down(llm.QuotaExceeded), down(llm.ContextTooLong)}, CircuitClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := circuits{t, memory(t), NewBreaker(nil)}
				for _, err := range c.calls {
					if err := s.call(err); err != nil {
						t.Fatal(err)
					}
				}
				if got := s.state().State; got != c.want {
					t.Errorf("the circuit is %s, not %s", got, c.want)
				}
			})
		})
	}
}

func opened(t *testing.T) circuits {
	s := circuits{t, memory(t), NewBreaker(&BreakerOptions{Failures: 1})}
	if err := s.call(down(llm.Timeout)); err != nil || s.state().State != CircuitOpen {
		t.Fatal(err, s.state())
	}
	return s
}

func TestATrierThatDiesIsFollowedByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := opened(t)
		time.Sleep(30 * time.Second)
		dead, err := s.b.Allow(t.Context(), s.e, "p/m")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		if err := s.call(nil); err == nil {
			t.Fatal("two try at once")
		}
		time.Sleep(time.Second)
		next, err := s.b.Allow(t.Context(), s.e, "p/m")
		if err != nil {
			t.Fatal(err)
		}
		if err := dead.Done(down(llm.Timeout)); err != nil || s.state().State != CircuitHalfOpen { // it has no say any more
			t.Fatal(err, s.state())
		}
		if err := next.Done(down(llm.RateLimited)); err != nil || s.state().State != CircuitClosed { // the endpoint is there
			t.Fatal(err, s.state())
		}
		if err := next.Done(down(llm.Timeout)); err != nil || s.state().Failures != 0 { // counts once
			t.Fatal(err, s.state())
		}
	})
}

func TestATrierThatIsCancelledLeavesThePlaceToAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := opened(t)
		time.Sleep(30 * time.Second)
		for range 2 {
			if err := s.call(context.Canceled); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.state(); got.State != CircuitHalfOpen || got.Trying {
			t.Errorf("%+v", got)
		}
	})
}

func TestOneOfManyTries(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt := &BreakerOptions{Failures: 3, Cooldown: 100 * time.Millisecond}
		var workers []circuits
		for range 3 {
			workers = append(workers, circuits{t, pawl.New(open(), nil), NewBreaker(opt)})
		}
		var all sync.WaitGroup
		for _, w := range workers { // all failures count, whoever saw them
			all.Go(func() {
				p, err := w.b.Allow(t.Context(), w.e, "p/m")
				if err == nil {
					err = p.Done(down(llm.Overloaded))
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if s := workers[0].state(); s.Failures != 3 || s.Since.IsZero() {
			t.Fatalf("%+v", s)
		}
		time.Sleep(time.Until(workers[0].state().Until) + 1100*time.Millisecond) // all know that it is open, and may try
		var tries atomic.Int64
		for i := range 30 {
			all.Go(func() {
				if _, err := workers[i%3].b.Allow(t.Context(), workers[i%3].e, "p/m"); err == nil {
					tries.Add(1)
				}
			})
		}
		all.Wait()
		if tries.Load() != 1 {
			t.Errorf("%d tried at once", tries.Load())
		}
	})
}

func TestACircuitIsResetByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := opened(t)
		if err := ResetBreaker(t.Context(), s.e, "p/m"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := s.call(nil); err != nil {
			t.Error(err)
		}
		if err := ResetBreaker(t.Context(), s.e, "never called"); err != nil { // no error
			t.Error(err)
		}
	})
}

func TestAGoodCircuitCostsNoWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{Store: sqliteStore(t, sqlite.Memory)}
		s := circuits{t, pawl.New(store, nil), NewBreaker(nil)}
		for range 1000 {
			if err := s.call(nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if store.writes.Load() != 0 || store.reads.Load() > 11 {
			t.Errorf("%d writes and %d reads in ten seconds", store.writes.Load(), store.reads.Load())
		}
	})
}

func TestHostileEndpoints(t *testing.T) {
	s := circuits{t, memory(t), NewBreaker(&BreakerOptions{Failures: -1, Cooldown: -1, Try: -1})}
	for _, name := range []string{"", strings.Repeat("x", 257)} {
		if _, err := s.b.Allow(t.Context(), s.e, name); !errors.Is(err, pawl.ErrInput) {
			t.Errorf("%.20q: %v", name, err)
		}
	}
	if _, err := s.b.Allow(t.Context(), nil, "p/m"); !errors.Is(err, pawl.ErrInput) {
		t.Error(err)
	}
	if _, err := s.e.Write(t.Context(), pawl.Put{Space: breakerSpace, Key: "bad", Data: []byte(`[]`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.b.Allow(t.Context(), s.e, "bad"); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
	if err := ResetBreaker(t.Context(), s.e, "bad"); err != nil {
		t.Error(err)
	}
	bad := &llm.Error{Kind: llm.Timeout, Provider: "p", Message: strings.Repeat("\x00\xffé", 1<<20)}
	if err := s.call(bad); err != nil {
		t.Fatal(err)
	}
	if got := s.state(); got.State != CircuitOpen || len(got.Last) > 310 {
		t.Errorf("%d bytes, %s", len(got.Last), got.State)
	}
}
