package pawl_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

func TestB1_102_cancelRun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := sleeper(30 * time.Second)
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		n.cancel(r.ID(), "changed my mind")
		err := failure(n, r)
		equal(t, "state", err.State, pawl.Cancelled)
		is(t, err, pawl.ErrCancelled)
		equal(t, "reason", err.Err.Error(), "changed my mind")
		equal(t, "state in the store", n.info(r.ID()).State, pawl.Cancelled)
	})
}

// aborts is what a step reports that was told to stop.
type aborts struct {
	Saw    string
	Reason string
}

// poller runs until its context ends, and says so as a result.
func poller(g *gate) func(context.Context) (aborts, error) {
	return func(ctx context.Context) (aborts, error) {
		g.reached <- 1
		for {
			select {
			case <-g.release:
				return aborts{"completed", ""}, nil
			case <-time.After(time.Millisecond):
				if ctx.Err() != nil {
					return aborts{"aborted", context.Cause(ctx).Error()}, nil
				}
			}
		}
	}
}

func TestB1_112_abortAlreadyAborted(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		w := pawl.Define("aborted", func(c *pawl.Context, _ none) (string, error) {
			inner, cancel := pawl.WithCancel(c)
			cancel(errors.New("pre-aborted"))
			err := pawl.Do(inner, "never", func(context.Context) error { bodies.add("never"); return nil })
			return fmt.Sprint(err), pawl.Do(c, "outside", func(context.Context) error { return nil })
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		equal(t, "reason", result(n, r), "pre-aborted")
		equal(t, "bodies", bodies.get("never"), 0)
		equal(t, "steps", n.keys(r.ID(), pawl.KindStep), []string{"outside"})
	})
}

// abortWith starts a polling step in a branch, cancels its scope with a reason and reports
// what the step saw and what Step returned.
func abortWith(name string, g *gate, reason error) *pawl.Workflow[none, []string] {
	return pawl.Define(name, func(c *pawl.Context, _ none) ([]string, error) {
		var saw atomic.Value // a cancelled step may end later than the wait for it
		saw.Store("")
		inner, cancel := pawl.WithCancel(c)
		f := pawl.Go(inner, "work", func(c *pawl.Context) (none, error) {
			return none{}, pawl.Do(c, "poll", func(ctx context.Context) error {
				a, err := poller(g)(ctx)
				saw.Store(a.Saw + ": " + a.Reason)
				return errors.Join(err, ctx.Err())
			})
		})
		if _, err := pawl.WaitFor[none](c, "abort"); err != nil {
			return nil, err
		}
		cancel(reason)
		_, err := f.Wait(c)
		out := []string{saw.Load().(string), fmt.Sprint(err), fmt.Sprint(errors.Is(err, pawl.ErrCancelled))}
		if coded := (*codedError)(nil); errors.As(err, &coded) {
			out = append(out, fmt.Sprint(coded.Code, coded.Detail.Field))
		}
		return out, nil
	})
}

func TestB1_113_abortReason(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		w := abortWith("reason", g, errors.New("custom timeout reason"))
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		g.wait(t)
		n.signal(r.ID(), "abort", none{})
		equal(t, "seen", result(n, r), []string{"aborted: custom timeout reason", "custom timeout reason", "false"})
		equal(t, "entries of the step", len(n.journal(r.ID(), pawl.KindStep, pawl.KindAttempt)), 0)
	})
}

func TestB1_114_abortAfterCompletion(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("late", func(c *pawl.Context, _ none) ([]string, error) {
			inner, cancel := pawl.WithCancel(c)
			saw, err := pawl.Step(inner, "done", func(ctx context.Context) (string, error) { return fmt.Sprint("aborted: ", ctx.Err() != nil), nil })
			if err != nil {
				return nil, err
			}
			cancel(errors.New("too late"))
			return []string{saw, fmt.Sprint(inner.Sleep(time.Hour))}, nil
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		equal(t, "seen", result(n, r), []string{"aborted: false", "too late"})
		steps := n.journal(r.ID(), pawl.KindStep)
		equal(t, "steps", len(steps), 1)
		equal(t, "the step failed", steps[0].Failed, false)
		equal(t, "its result", string(steps[0].Data), `"aborted: false"`)
	})
}

func TestB1_116_abortExternalSignal(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		w := pawl.Define("never", func(c *pawl.Context, _ none) (none, error) {
			bodies.add("function")
			return none{}, nil
		})
		n := client(t, open(), nil, w)
		r := start(n, w, none{}, pawl.Delay(50*time.Millisecond))
		n.cancel(r.ID(), "external abort")
		other := addTen("addTen")
		worker := boot(t, open(), nil, w, other)
		err := failure(worker, r)
		equal(t, "state", err.State, pawl.Cancelled)
		equal(t, "reason", err.Err.Error(), "external abort")
		complete(worker, other, 1, pawl.Delay(100*time.Millisecond)) // the time of the first to start has passed
		equal(t, "state", worker.info(r.ID()).State, pawl.Cancelled)
		equal(t, "calls", bodies.get("function"), 0)
	})
}

func TestB1_117_abortExternalSignalInFlight(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		saw := make(chan aborts, 2)
		tell := func(a aborts, err error) (aborts, error) { saw <- a; return a, err }
		w := pawl.Define("inFlight", func(c *pawl.Context, _ none) (none, error) {
			fs := []*pawl.Future[aborts]{
				pawl.Go(c, "poll", func(c *pawl.Context) (aborts, error) {
					return pawl.Step(c, "step", func(ctx context.Context) (aborts, error) { return tell(poller(g)(ctx)) })
				}),
				pawl.Go(c, "listen", func(c *pawl.Context) (aborts, error) {
					return pawl.Step(c, "step", func(ctx context.Context) (aborts, error) {
						heard := make(chan error)
						context.AfterFunc(ctx, func() { heard <- context.Cause(ctx) })
						g.reached <- 1
						return tell(aborts{"listener", (<-heard).Error()}, nil)
					})
				}),
			}
			_, err := pawl.All(c, fs...)
			return none{}, err
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		g.wait(t)
		g.wait(t)
		n.cancel(r.ID(), "by the client")
		equal(t, "state", failure(n, r).State, pawl.Cancelled)
		got := map[aborts]bool{<-saw: true, <-saw: true}
		equal(t, "seen", got, map[aborts]bool{{"aborted", "by the client"}: true, {"listener", "by the client"}: true})
		for _, e := range n.journal(r.ID(), pawl.KindStep) { // what a step returns all the same is recorded
			equal(t, "failed", e.Failed, false)
		}
	})
}

func TestB1_119_abortAnyInStep(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("any", func(c *pawl.Context, _ none) (string, error) {
			return pawl.Step(c, "combine", func(ctx context.Context) (string, error) {
				c1, cancel1 := context.WithCancelCause(ctx)
				defer cancel1(nil)
				c2, cancel2 := context.WithCancelCause(context.WithoutCancel(ctx))
				both, cancel := context.WithCancelCause(c1)
				defer cancel(nil)
				context.AfterFunc(c2, func() { cancel(context.Cause(c2)) })
				heard := make(chan error, 1)
				context.AfterFunc(both, func() { heard <- context.Cause(both) })
				cancel2(errors.New("second"))
				return fmt.Sprint(<-heard, c1.Err(), c2.Err(), pawl.InfoOf(both).Attempt), nil
			})
		})
		n := boot(t, open(), nil, w)
		equal(t, "seen", complete(n, w, none{}), "second <nil> context canceled 1")
	})
}

// A step that returns its context's error has not failed: no attempt is burned, nothing is
// tried again.
func TestB1_121_abortIsNoFailure(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		var bodies counts
		w := pawl.Define("throws", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "step", func(ctx context.Context) error { bodies.add("step"); return g.pass(ctx) }, quick)
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		g.wait(t)
		n.cancel(r.ID(), "stop")
		is(t, failure(n, r), pawl.ErrCancelled)
		equal(t, "bodies", bodies.get("step"), 1)
		equal(t, "entries", len(n.journal(r.ID(), pawl.KindStep, pawl.KindAttempt)), 0)
	})
}

func TestB1_122_abortMidFlightFromALoop(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		w := pawl.Define("loop", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "step", func(ctx context.Context) error {
				for i := 0; ; i++ {
					if err := ctx.Err(); err != nil {
						return fmt.Errorf("round %d: %w", i, err)
					}
					if i == 3 {
						g.reached <- 1
					}
					time.Sleep(time.Millisecond)
				}
			}, quick)
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		g.wait(t)
		n.cancel(r.ID(), "stop")
		equal(t, "state", failure(n, r).State, pawl.Cancelled)
		equal(t, "entries", len(n.journal(r.ID(), pawl.KindStep, pawl.KindAttempt)), 0)
	})
}

func TestB1_123_abortReasonTypes(t *testing.T) {
	for name, c := range map[string]struct {
		reason error
		want   []string
	}{
		"text":       {errors.New("by text"), []string{"aborted: by text", "by text", "false"}},
		"structured": {newCoded(), []string{"aborted: coded: quota", "coded: quota", "false", "42name"}},
		"nothing":    {nil, []string{"aborted: pawl: cancelled", "pawl: cancelled", "true"}},
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() pawl.Store) {
				g := newGate()
				w := abortWith("reason", g, c.reason)
				n := boot(t, open(), nil, w)
				r := start(n, w, none{})
				g.wait(t)
				n.signal(r.ID(), "abort", none{})
				equal(t, "seen", result(n, r), c.want)
			})
		})
	}
}

func TestB1_124_abortFetch(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		asked := make(chan none, 10)
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked <- none{}
			<-r.Context().Done() // ends when the caller hangs up
		}))
		defer srv.Close()
		w := pawl.Define("fetch", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "get", func(ctx context.Context) error {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
				if err != nil {
					return err
				}
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					return err
				}
				return resp.Body.Close()
			})
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		<-asked
		n.cancel(r.ID(), "stop")
		equal(t, "state", failure(n, r).State, pawl.Cancelled)
		equal(t, "entries of the step", len(n.journal(r.ID(), pawl.KindStep, pawl.KindAttempt)), 0)
		equal(t, "more requests", len(asked), 0)
	})
}

// brancher takes a look before and after its scope is cancelled.
func brancher(pause time.Duration) *pawl.Workflow[none, []string] {
	return pawl.Define("brancher", func(c *pawl.Context, _ none) ([]string, error) {
		inner, cancel := pawl.WithCancel(c)
		look := func() string { // a sleep of no time returns the reason of a cancelled scope
			if err := inner.Sleep(0); err != nil {
				return err.Error()
			}
			return "not aborted"
		}
		before := look()
		reason, err := pawl.Step(c, "decide", func(context.Context) (string, error) { return "post-abort", nil })
		if err != nil {
			return nil, err
		}
		cancel(errors.New(reason))
		just := look()
		if err := c.Sleep(pause); err != nil {
			return nil, err
		}
		return []string{before, just, look()}, nil
	})
}

// A branch that was taken because nothing was cancelled yet is taken again in a replay,
// which begins when the scope is cancelled already, and in a second one.
func TestB1_127_abortDeterministicBranch(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		w := pawl.Define("branches", func(c *pawl.Context, _ none) (string, error) {
			inner, cancel := pawl.WithCancel(c)
			said := ""
			for range 2 {
				way := "just aborted"
				if err := inner.Sleep(0); err != nil {
					way = "already aborted: " + err.Error()
				}
				if err := pawl.Do(c, way, func(context.Context) error { bodies.add(way); return nil }); err != nil {
					return "", err
				}
				cancel(errors.New("test"))
				if err := c.Sleep(30 * time.Millisecond); err != nil {
					return "", err
				}
				said += way + "; "
			}
			return said, nil
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		equal(t, "branches", result(n, r), "just aborted; already aborted: test; ")
		equal(t, "steps", n.keys(r.ID(), pawl.KindStep), []string{"just aborted", "already aborted: test"})
		equal(t, "bodies", fmt.Sprint(bodies.get("just aborted"), bodies.get("already aborted: test")), "1 1")
		equal(t, "claims", n.info(r.ID()).Epoch, 3)
		noTrouble(n, []string{r.ID()})
	})
}

func TestB1_128_abortDeterministicBranchFromStep(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := brancher(200 * time.Millisecond)
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		equal(t, "branches", result(n, r), []string{"not aborted", "post-abort", "post-abort"})
		if n.info(r.ID()).Epoch < 2 {
			t.Error("there was no replay")
		}
		noTrouble(n, []string{r.ID()})
	})
}

func TestB1_129_abortListener(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		w := pawl.Define("listener", func(c *pawl.Context, _ none) (string, error) {
			inner, cancel := pawl.WithTimeout(c, 100*time.Millisecond)
			defer cancel(nil)
			via := make(chan error, 1)
			err := pawl.Do(inner, "listen", func(ctx context.Context) error {
				context.AfterFunc(ctx, func() { via <- context.Cause(ctx) })
				return g.pass(ctx)
			})
			return fmt.Sprint(errors.Is(err, pawl.ErrTimeout), errors.Is(<-via, pawl.ErrTimeout)), nil
		})
		n := boot(t, open(), nil, w)
		equal(t, "via listener", complete(n, w, none{}), "true true")
	})
}
