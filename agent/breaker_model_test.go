package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/pawltest"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest"
)

// One call after another, on any worker, so far apart that each knows of the one before: the
// circuit is in the state in which a machine of a few lines is.
func TestACircuitIsWhatItsCallsMadeIt(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 21))
			store := sqliteStore(t, sqlite.Memory)
			opt := BreakerOptions{Failures: 1 + r.IntN(4), Cooldown: time.Duration(1+r.IntN(60)) * time.Second, Try: time.Duration(5+r.IntN(60)) * time.Second}
			var workers []circuits
			for range 1 + r.IntN(3) {
				workers = append(workers, circuits{t, pawl.New(store, nil), NewBreaker(&opt)})
			}
			var open bool
			var failures int
			var until, lapses time.Time // lapses: somebody who died tries until then
			for i := range 200 {
				time.Sleep(1100*time.Millisecond + time.Duration(r.Int64N(int64(opt.Cooldown)/2)))
				now, w := time.Now(), workers[r.IntN(len(workers))]
				if r.IntN(30) == 0 { // it is a new process
					w.b = NewBreaker(&opt)
				}
				want := CircuitClosed
				switch {
				case open && now.Before(until):
					want = CircuitOpen
				case open:
					want = CircuitHalfOpen
				}
				if got := w.state(); got.State != want || got.Failures != failures || got.Trying != (want == CircuitHalfOpen && now.Before(lapses)) {
					t.Fatalf("seed %d, call %d: %+v, not %s with %d failures", seed, i, got, want, failures)
				}
				p, err := w.b.Allow(t.Context(), w.e, "p/m")
				if refused := open && (now.Before(until) || now.Before(lapses)); refused != (err != nil) {
					t.Fatalf("seed %d, call %d of a circuit that is %s: %v", seed, i, want, err)
				}
				if err != nil {
					var e *BreakerError
					if again, ok := e.RetryAfter, errors.As(err, &e); !ok || again == nil {
						t.Fatal(err)
					} else if d, _ := e.RetryAfter(); d > opt.Cooldown || d > max(until.Sub(now), lapses.Sub(now), time.Second) {
						t.Fatalf("seed %d: %+v is tried again after %v", seed, e, d)
					}
					continue
				}
				var out error
				switch r.IntN(6) {
				case 0, 1, 2:
					out = down([]llm.Kind{llm.Timeout, llm.Overloaded, llm.Unavailable, llm.Truncated}[r.IntN(4)])
					if failures++; open || failures >= opt.Failures {
						open, until = true, now.Add(opt.Cooldown)
					}
				case 3:
					out = []error{nil, down(llm.BadRequest)}[r.IntN(2)]
					open, failures = false, 0
				case 4:
					out = []error{context.Canceled, down(llm.RateLimited)}[r.IntN(2)]
					if open && llm.KindOf(out) == llm.RateLimited {
						open, failures = false, 0
					}
				case 5: // its worker dies
					if open {
						lapses = now.Add(opt.Try)
					}
					continue
				}
				lapses = time.Time{}
				if err := p.Done(out); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// Many calls at once, of an endpoint that comes and goes, on workers that die and whose store
// fails: one at a time tries, an open circuit is left alone, and no circuit stays open.
func TestOneTriesAndNoCircuitStaysOpen(t *testing.T) {
	for seed := range uint64(2) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 22))
			store := sqliteStore(t, sqlite.Memory)
			var mu sync.Mutex
			chance := func(n int) int {
				mu.Lock()
				defer mu.Unlock()
				return r.IntN(n)
			}
			fine := false
			var workers []circuits
			for range 1 + r.IntN(4) {
				faulty := storetest.Faulty(store, func(method string, _ int) (f storetest.Fault) {
					mu.Lock()
					defer mu.Unlock()
					if fine || method != "Commit" && method != "Records" {
						return f
					}
					switch r.IntN(30) {
					case 0:
						f.Delay = time.Duration(r.Int64N(int64(time.Second)))
					case 1:
						f.Err = errors.New("the disk is full")
					case 2:
						f.Lose = true
					}
					return f
				})
				workers = append(workers, circuits{t, pawl.New(faulty, nil), NewBreaker(nil)})
			}
			var isDown atomic.Bool
			calls, trying := 0, 0
			ctx, stop := context.WithCancel(t.Context())
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					for ctx.Err() == nil {
						time.Sleep(time.Duration(chance(4000)) * time.Millisecond)
						w := workers[chance(len(workers))]
						p, err := w.b.Allow(ctx, w.e, "p")
						if err != nil {
							continue
						}
						mu.Lock()
						calls++
						if p.trier != "" {
							if trying++; trying > 1 {
								t.Errorf("seed %d: %d try at once", seed, trying)
							}
						}
						mu.Unlock()
						time.Sleep(time.Duration(chance(3000)) * time.Millisecond)
						var out error
						if isDown.Load() {
							out = down(llm.Unavailable)
						}
						dies := chance(20) == 0
						mu.Lock()
						if p.trier != "" {
							trying--
						}
						mu.Unlock()
						if !dies {
							_ = p.Done(out) // the store's fault
						}
					}
				})
			}
			count := func(d time.Duration) int {
				mu.Lock()
				before := calls
				mu.Unlock()
				time.Sleep(d)
				mu.Lock()
				defer mu.Unlock()
				return calls - before
			}
			for range 4 {
				isDown.Store(true)
				time.Sleep(20 * time.Second)             // it is known to be down
				if n := count(90 * time.Second); n > 8 { // those that tried, and those that a lost write let go
					t.Errorf("seed %d: %d calls in 90 s of an endpoint that is down", seed, n)
				}
				isDown.Store(false)
				time.Sleep(5 * time.Minute) // up again, for a cooldown and for as long as four may try who died
				if n := count(10 * time.Second); n < 10 {
					t.Errorf("seed %d: %d calls in 10 s of an endpoint that is up again", seed, n)
				}
			}
			stop()
			all.Wait()
			mu.Lock()
			fine = true
			mu.Unlock()
			time.Sleep(time.Minute)
		})
	}
}

// A call that tries for longer than others leave it alone closes the circuit if it is answered.
func TestAnAnswerClosesTheCircuitHoweverLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := opened(t)
		time.Sleep(30 * time.Second)
		slow, err := s.b.Allow(t.Context(), s.e, "p/m")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if _, err := s.b.Allow(t.Context(), s.e, "p/m"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := slow.Done(nil); err != nil || s.state().State != CircuitClosed {
			t.Error(err, s.state())
		}
	})
}

// A circuit that a clock has opened which ran a year ahead is open for a cooldown.
func TestACircuitOpenedByAClockThatRunsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := opened(t)
		r, err := s.e.Record(t.Context(), breakerSpace, "p/m")
		if err != nil {
			t.Fatal(err)
		}
		year, more := time.Now().AddDate(1, 0, 0).Format(time.RFC3339Nano), time.Now().AddDate(1, 0, 0).Add(30*time.Second).Format(time.RFC3339Nano)
		data := fmt.Appendf(nil, `{"failures":1,"last":"x","since":%q,"until":%q,"trier":"dead","lapses":%q,"updated":%q}`, year, more, more, year)
		if _, err := s.e.Write(t.Context(), pawl.Put{Space: breakerSpace, Key: "p/m", If: r.Version, Data: data, Until: time.Now().AddDate(2, 0, 0)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if err := s.call(nil); err == nil {
			t.Error("it is open, and a call went")
		}
		time.Sleep(30 * time.Second)
		if err := s.call(nil); err != nil || s.state().State != CircuitClosed {
			t.Error(err, s.state())
		}
	})
}

// Who waits for the store while the breaker looks can leave, and the store's answer is for all.
func TestWhoWaitsForABreakerCanLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reads int
		store := storetest.Faulty(sqliteStore(t, sqlite.Memory), func(method string, n int) (f storetest.Fault) {
			if method == "Records" {
				reads, f.Delay = n, time.Hour
			}
			return f
		})
		s := circuits{t, pawl.New(store, nil), NewBreaker(nil)}
		why := errors.New("not wanted any more")
		ctx, cancel := context.WithCancelCause(t.Context())
		began := time.Now()
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				own, want := t.Context(), patience
				if i%2 == 0 {
					own, want = ctx, time.Second
				}
				_, err := s.b.Allow(own, s.e, "p")
				if took := time.Since(began); took != want || err == nil || i%2 == 0 && !errors.Is(err, why) {
					t.Errorf("%v after %v, not %v", err, took, want)
				}
			})
		}
		time.Sleep(time.Second)
		cancel(why)
		all.Wait()
		if reads != 1 {
			t.Errorf("the store was read %d times", reads)
		}
	})
}

// Calls that wait for their turn when the circuit opens do not go.
func TestACircuitThatOpensStopsThoseWhoWaitForATurn(t *testing.T) {
	s := llmtest.Script(llmtest.Rule{Answer: func(context.Context, *llm.Request) (*llm.Response, error) {
		return nil, &llm.Error{Kind: llm.Unavailable, Provider: "p"}
	}})
	m := New(Options{Providers: map[string]llm.Model{"p": s}, Model: "p/m", Limits: map[string]Limit{"p": {Requests: 1, Per: time.Second}}})
	wf := pawl.Define("asks", func(c *pawl.Context, _ struct{}) (string, error) {
		return Generate[string](c, m, "ask", Call{Prompt: "?"}, pawl.MaxAttempts(1))
	})
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		var runs []*pawl.Run[string]
		for range 20 {
			run, err := wf.Start(t.Context(), h.Engine(), struct{}{})
			if err != nil {
				t.Fatal(err)
			}
			runs = append(runs, run)
		}
		open := 0
		for _, run := range runs {
			if _, err := run.Result(t.Context()); err == nil {
				t.Error("it was answered")
			} else if strings.Contains(err.Error(), "circuit breaker is open") {
				open++
			}
		}
		if n := len(s.Calls()); n != 3 || open != 17 {
			t.Errorf("%d calls were made, and %d runs were told that the circuit is open", n, open)
		}
	}, wf)
}

// A call may take as long as Options.Timeout says, also one that tries: meanwhile none other does.
func TestASlowCallThatTriesIsLeftAlone(t *testing.T) {
	var mu sync.Mutex
	fails, now, most := true, 0, 0
	s := llmtest.Script(llmtest.Rule{Answer: func(ctx context.Context, _ *llm.Request) (*llm.Response, error) {
		mu.Lock()
		now++
		most, fails = max(most, now), fails && len(ctx.Done()) == 0
		failing := fails
		mu.Unlock()
		defer func() {
			mu.Lock()
			now--
			mu.Unlock()
		}()
		if failing {
			return nil, &llm.Error{Kind: llm.Unavailable, Provider: "p"}
		}
		time.Sleep(4 * time.Minute)
		return &llm.Response{Text: "yes", Finish: llm.FinishStop}, nil
	}})
	m := New(Options{Providers: map[string]llm.Model{"p": s}, Model: "p/m", Timeout: 5 * time.Minute})
	wf := pawl.Define("asks", func(c *pawl.Context, _ struct{}) (string, error) {
		return Generate[string](c, m, "ask", Call{Prompt: "?"}, pawl.MaxAttempts(20))
	})
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		ask := func() *pawl.Run[string] {
			run, err := wf.Start(t.Context(), h.Engine(), struct{}{})
			if err != nil {
				t.Fatal(err)
			}
			return run
		}
		first := ask()
		for {
			if all, err := Breakers(t.Context(), h.Engine()); err != nil {
				t.Fatal(err)
			} else if len(all) == 1 && all[0].State != CircuitClosed {
				break
			}
			time.Sleep(time.Second)
		}
		mu.Lock()
		fails, most = false, 0
		mu.Unlock()
		began := time.Now()
		runs := []*pawl.Run[string]{first, ask(), ask()}
		time.Sleep(3 * time.Minute)
		mu.Lock()
		if most != 1 {
			t.Errorf("%d try at once", most)
		}
		mu.Unlock()
		for _, run := range runs {
			if out, err := run.Result(t.Context()); err != nil || out != "yes" {
				t.Error(out, err)
			}
		}
		if took := time.Since(began); took > 10*time.Minute {
			t.Errorf("it took %v", took)
		}
	}, wf)
}
