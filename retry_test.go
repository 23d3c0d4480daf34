package pawl_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// A run that failed because its child did goes on there: the child's recorded steps do not run again.
func TestRetryGoesOnInTheChildThatFailed(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var ran counts
		var mended atomic.Bool
		grandkid := pawl.Define("grandkid", func(c *pawl.Context, n int) (int, error) {
			if err := pawl.Do(c, "dear", func(context.Context) error { ran.add("grandkid dear"); return nil }); err != nil {
				return 0, err
			}
			return pawl.Step(c, "charge", func(context.Context) (int, error) {
				ran.add("grandkid charge")
				if !mended.Load() {
					return 0, pawl.Fatal(errors.New("declined"))
				}
				return n * 2, nil
			})
		})
		kid := pawl.Define("kid", func(c *pawl.Context, n int) (int, error) {
			if err := pawl.Do(c, "dear", func(context.Context) error { ran.add("kid dear"); return nil }); err != nil {
				return 0, err
			}
			return grandkid.Call(c, n+1)
		})
		parent := pawl.Define("parent", func(c *pawl.Context, n int) (int, error) {
			// A failure that the code has dealt with stays: also one in a step of the same name.
			_, err := pawl.Step(c, "charge", func(context.Context) (int, error) { ran.add("parent charge"); return 0, pawl.Fatal(errors.New("no")) })
			if err == nil {
				return 0, errors.New("it did not fail")
			}
			return kid.Call(c, n+1)
		})
		mended.Store(true)
		n := boot(t, open(), nil, parent, kid, grandkid)
		r := start(n, parent, 1)
		equal(t, "undisturbed", result(n, r), 6)

		mended.Store(false)
		ran = counts{}
		r = start(n, parent, 2)
		for range 2 {
			err := failure(n, r)
			var run *pawl.RunError
			if !errors.As(err.Err, &run) || run.Workflow != "kid" || !errors.As(run.Err, &run) || run.Workflow != "grandkid" || run.State != pawl.Failed {
				t.Errorf("the failure does not tell of the children: %v", err)
			}
			if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
				t.Fatal(err)
			}
			n.until("the retry has ended", func() bool { return n.info(r.ID()).State == pawl.Failed })
		}
		mended.Store(true)
		if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
			t.Fatal(err)
		}
		equal(t, "result", result(n, r), 8)
		for name, want := range map[string]int{"parent charge": 1, "kid dear": 1, "grandkid dear": 1, "grandkid charge": 4} {
			equal(t, name, ran.get(name), want)
		}
	})
}

// Children that were cancelled because the run failed go on when it does, wherever they were.
func TestRetryTakesCancelledChildrenAlong(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var ran counts
		var mended atomic.Bool
		working := newGate()
		bodies := map[string]func(c *pawl.Context) error{
			"sleeps": func(c *pawl.Context) error { return c.Sleep(time.Millisecond) },
			"rests": func(c *pawl.Context) error {
				if mended.Load() {
					return nil
				}
				return c.Sleep(time.Hour)
			},
			"waits": func(c *pawl.Context) error { _, err := pawl.WaitFor[int](c, "go"); return err },
			"works": func(c *pawl.Context) error {
				return pawl.Do(c, "work", func(ctx context.Context) error {
					if mended.Load() {
						return nil
					}
					return working.pass(ctx)
				})
			},
			"races": func(c *pawl.Context) error {
				a := pawl.Go(c, "a", func(c *pawl.Context) (int, error) { return pawl.WaitFor[int](c, "go") })
				b := pawl.Go(c, "b", func(c *pawl.Context) (int, error) { return 0, c.Sleep(time.Hour) })
				_, err := pawl.Race(c, a, b)
				return err
			},
		}
		kid := pawl.Define("kid", func(c *pawl.Context, what string) (string, error) {
			if err := pawl.Do(c, "dear", func(context.Context) error { ran.add(what); return nil }); err != nil {
				return "", err
			}
			return what, bodies[what](c)
		})
		over := pawl.Define("over", func(c *pawl.Context, what string) (string, error) { return kid.Call(c, what) })
		parent := pawl.Define("parent", func(c *pawl.Context, _ int) (out []string, err error) {
			var kids []*pawl.Child[string]
			for _, what := range []string{"sleeps", "waits", "works", "races"} {
				k, err := kid.Spawn(c, what)
				if err != nil {
					return nil, err
				}
				kids = append(kids, k)
			}
			k, err := over.Spawn(c, "rests") // whose own child is cancelled with it
			if err != nil {
				return nil, err
			}
			kids = append(kids, k)
			if _, err := pawl.WaitFor[int](c, "fail"); err != nil {
				return nil, err
			}
			if err := pawl.Do(c, "flaky", func(context.Context) error {
				if mended.Load() {
					return nil
				}
				return pawl.Fatal(errors.New("not yet"))
			}); err != nil {
				return nil, err
			}
			for _, k := range kids {
				what, err := k.Wait(c)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", what, err)
				}
				out = append(out, what)
			}
			return out, nil
		})
		n := boot(t, open(), nil, parent, kid, over)
		r := start(n, parent, 0)
		working.wait(t)
		n.until("the others wait", func() bool {
			waiting, err := n.List(n.ctx, pawl.Filter{Workflow: "kid", States: []pawl.State{pawl.Waiting}})
			done, err2 := n.List(n.ctx, pawl.Filter{Workflow: "kid", States: []pawl.State{pawl.Completed}})
			return err == nil && err2 == nil && len(waiting) == 3 && len(done) == 1
		})
		n.signal(r.ID(), "fail", 1)
		_ = failure(n, r)
		kids := func(s pawl.State) []pawl.RunInfo {
			all, err := n.List(n.ctx, pawl.Filter{States: []pawl.State{s}})
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
		n.until("the children are cancelled", func() bool { return len(kids(pawl.Cancelled)) == 5 })
		mended.Store(true)
		if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
			t.Fatal(err)
		}
		equal(t, "cancelled runs that are left", len(kids(pawl.Cancelled)), 0)
		n.until("what waits for an event waits again", func() bool {
			for _, run := range append(kids(pawl.Waiting), kids(pawl.Pending)...) {
				if run.Workflow == "kid" {
					_ = n.Signal(n.ctx, run.ID, "go", 1)
				}
			}
			return n.info(r.ID()).State.Terminal()
		})
		equal(t, "result", fmt.Sprint(result(n, r)), "[sleeps waits works races rests]")
		for what := range bodies {
			equal(t, "runs of the step before, of the one that "+what, ran.get(what), 1)
		}
	})
}

// A child that could not go on, as it has taken back what it did, or that is gone, is started anew.
func TestRetryStartsAnewWhatCannotGoOn(t *testing.T) {
	for _, gone := range []bool{false, true} {
		t.Run(fmt.Sprintf("deleted=%v", gone), func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() pawl.Store) {
				var ran counts
				var mended atomic.Bool
				kid := pawl.Define("kid", func(c *pawl.Context, _ int) (int, error) {
					if err := pawl.Do(c, "book", func(context.Context) error { ran.add("book"); return nil }); err != nil {
						return 0, err
					}
					if !gone {
						c.OnFailure("book", func(context.Context) error { ran.add("undo"); return nil })
					}
					return 7, pawl.Do(c, "pay", func(context.Context) error {
						if mended.Load() {
							return nil
						}
						return pawl.Fatal(errors.New("declined"))
					})
				})
				parent := pawl.Define("parent", func(c *pawl.Context, in int) (int, error) { return kid.Call(c, in) })
				n := boot(t, open(), nil, parent, kid)
				r := start(n, parent, 1)
				child := failure(n, r)
				var run *pawl.RunError
				if !errors.As(child.Err, &run) {
					t.Fatal(child)
				}
				if gone {
					if err := n.Delete(n.ctx, pawl.Ref{ID: run.RunID}); err != nil {
						t.Fatal(err)
					}
				}
				mended.Store(true)
				if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
					t.Fatal(err)
				}
				equal(t, "result", result(n, r), 7)
				equal(t, "bookings", ran.get("book"), 2)
			})
		})
	}
}

// A child that was retried by itself, before its parent, is not asked to do anything again.
func TestRetryTakesTheChildsNewEnd(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var ran counts
		kid := pawl.Define("kid", func(c *pawl.Context, _ int) (int, error) {
			return pawl.Step(c, "pay", func(context.Context) (int, error) {
				if ran.add("pay") == 1 {
					return 0, pawl.Fatal(errors.New("declined"))
				}
				return 7, nil
			})
		})
		parent := pawl.Define("parent", func(c *pawl.Context, in int) (int, error) { return kid.Call(c, in) })
		n := boot(t, open(), nil, parent, kid)
		r := start(n, parent, 1)
		var run *pawl.RunError
		if err := failure(n, r); !errors.As(err.Err, &run) {
			t.Fatal(err)
		}
		if _, err := n.Retry(n.ctx, pawl.Ref{ID: run.RunID}); err != nil {
			t.Fatal(err)
		}
		n.reaches(run.RunID, pawl.Completed)
		if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
			t.Fatal(err)
		}
		equal(t, "result", result(n, r), 7)
		equal(t, "payments", ran.get("pay"), 2)
	})
}

// What was sent before the run failed, and not taken, is there when it goes on, and its hooks
// take what is sent.
func TestRetryKeepsEventsAndHooks(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var mended atomic.Bool
		flow := pawl.Define("flow", func(c *pawl.Context, _ int) (string, error) {
			h, err := pawl.NewHook[int](c, pawl.Token("tok"))
			if err != nil {
				return "", err
			}
			if _, err := pawl.WaitFor[int](c, "first"); err != nil {
				return "", err
			}
			if err := pawl.Do(c, "flaky", func(context.Context) error {
				if mended.Load() {
					return nil
				}
				return pawl.Fatal(errors.New("not yet"))
			}); err != nil {
				return "", err
			}
			a, err := pawl.WaitFor[int](c, "second")
			if err != nil {
				return "", err
			}
			b, err := h.Wait(c)
			if err != nil {
				return "", err
			}
			d, err := h.Wait(c)
			return fmt.Sprint(a, b, d), err
		})
		n := boot(t, open(), nil, flow)
		r := start(n, flow, 0)
		n.hook("tok")
		n.signal(r.ID(), "second", 2)
		n.resume("tok", 3)
		n.signal(r.ID(), "first", 1)
		_ = failure(n, r)
		if _, err := n.Resume(n.ctx, "tok", 9); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("a hook of a failed run answers %v", err)
		}
		mended.Store(true)
		if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
			t.Fatal(err)
		}
		n.resume("tok", 4)
		equal(t, "result", result(n, r), "2 3 4")

		// Another has the token.
		mended.Store(false)
		r = start(n, flow, 1)
		n.hook("tok")
		n.signal(r.ID(), "first", 1)
		_ = failure(n, r)
		owner := start(n, flow, 2)
		n.hook("tok")
		_, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()})
		var conflict *pawl.HookConflictError
		if !errors.As(err, &conflict) || conflict.RunID != owner.ID() || n.info(r.ID()).State != pawl.Failed {
			t.Errorf("the retry is answered with %v", err)
		}
	})
}

// A child that is still on its way to its end keeps its parent from being retried.
func TestRetryWaitsForChildrenToBeCancelled(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var mended atomic.Bool
		working, ending := newGate(), make(chan struct{})
		kid := pawl.Define("kid", func(c *pawl.Context, _ int) (int, error) {
			return 7, pawl.Do(c, "work", func(ctx context.Context) error {
				if mended.Load() {
					return nil
				}
				err := working.pass(ctx) // until it is cancelled
				<-ending
				return err
			})
		})
		parent := pawl.Define("parent", func(c *pawl.Context, in int) (int, error) {
			k, err := kid.Spawn(c, in)
			if err != nil {
				return 0, err
			}
			if _, err := pawl.WaitFor[int](c, "fail"); err != nil {
				return 0, err
			}
			if err := pawl.Do(c, "flaky", func(context.Context) error {
				if mended.Load() {
					return nil
				}
				return pawl.Fatal(errors.New("not yet"))
			}); err != nil {
				return 0, err
			}
			return k.Wait(c)
		})
		n := boot(t, open(), nil, parent, kid)
		r := start(n, parent, 1)
		working.wait(t)
		n.signal(r.ID(), "fail", 1)
		_ = failure(n, r)
		_, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()})
		if !errors.Is(err, pawl.ErrState) {
			t.Errorf("the retry is answered with %v", err)
		}
		mended.Store(true)
		close(ending)
		n.until("it can be retried", func() bool { _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); return err == nil })
		equal(t, "result", result(n, r), 7)
	})
}

// A fork from before the new end of a child that was retried has a child of its own.
func TestAForkOfARetriedRunHasItsOwnChild(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var ran counts
		working := newGate()
		kid := pawl.Define("kid", func(c *pawl.Context, _ int) (int, error) {
			return pawl.Step(c, "pay", func(ctx context.Context) (int, error) {
				n := ran.add("pay")
				switch n {
				case 1:
					return 0, pawl.Fatal(errors.New("declined"))
				case 2:
					return n, working.pass(ctx)
				}
				return n, nil
			})
		})
		parent := pawl.Define("parent", func(c *pawl.Context, in int) (int, error) {
			k, err := kid.Spawn(c, in)
			if err != nil {
				return 0, err
			}
			beside := pawl.Go(c, "beside", func(c *pawl.Context) (int, error) {
				if _, err := pawl.WaitFor[int](c, "go"); err != nil {
					return 0, err
				}
				return pawl.Step(c, "mark", func(context.Context) (int, error) { return 1, nil })
			})
			n, err := k.Wait(c)
			if err != nil {
				return 0, err
			}
			_, err = beside.Wait(c)
			return n, err
		})
		n := boot(t, open(), nil, parent, kid)
		r := start(n, parent, 1)
		_ = failure(n, r)
		if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
			t.Fatal(err)
		}
		working.wait(t)
		n.signal(r.ID(), "go", 1)
		n.sees(r.ID(), pawl.KindStep, "beside/mark")
		fork, err := n.Fork(n.ctx, pawl.Ref{ID: r.ID()}, pawl.ForkOptions{From: "beside/mark"})
		if err != nil {
			t.Fatal(err)
		}
		got, err := pawl.Attach[int](n.Engine, fork.ID).Result(n.ctx)
		equal(t, "the fork's result", fmt.Sprint(got, err), "3 <nil>")
		working.open()
		equal(t, "the run's result", result(n, r), 2)
	})
}

// TestAForkDoesNothingAgainThatIsOnRecord, also where it has to make children and hooks of its
// own on the way there.
func TestAForkDoesNothingAgainThatIsOnRecord(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var ran counts
		kid := pawl.Define("kid", func(c *pawl.Context, _ int) (int, error) { return pawl.WaitFor[int](c, "kid") })
		parent := pawl.Define("parent", func(c *pawl.Context, in int) (string, error) {
			h, err := pawl.NewHook[int](c)
			if err != nil {
				return "", err
			}
			k, err := kid.Spawn(c, in)
			if err != nil {
				return "", err
			}
			both, err := pawl.Map(c, "both", []string{"x", "y"}, func(c *pawl.Context, name string) (int, error) {
				return ran.add(name), pawl.Do(c, "a", func(context.Context) error { ran.add("a"); return nil })
			})
			if err != nil {
				return "", err
			}
			if err := pawl.Do(c, "b", func(context.Context) error { ran.add("b"); return nil }); err != nil {
				return "", err
			}
			n, err := k.Wait(c)
			if err != nil {
				return "", err
			}
			m, err := h.Wait(c)
			return fmt.Sprint(len(both), n, m), err
		})
		n := boot(t, open(), nil, parent, kid)
		r := start(n, parent, 1)
		n.sees(r.ID(), pawl.KindStep, "b")
		fork, err := n.Fork(n.ctx, pawl.Ref{ID: r.ID()}, pawl.ForkOptions{From: "b"})
		if err != nil {
			t.Fatal(err)
		}
		n.sees(fork.ID, pawl.KindStep, "b")
		equal(t, "runs of the steps before", ran.get("a"), 2)
		equal(t, "runs of the step", ran.get("b"), 2)
		equal(t, "kinds that are not asked for", len(n.journal(fork.ID, pawl.KindDrift)), 0)
		kids, err := n.List(n.ctx, pawl.Filter{Workflow: "kid"})
		if err != nil || len(kids) != 2 {
			t.Fatalf("there are %d children, %v", len(kids), err)
		}
		for i, kid := range kids { // newest first
			n.signal(kid.ID, "kid", 5-i)
		}
		for i, id := range []string{fork.ID, r.ID()} {
			hooks, err := n.Hooks(n.ctx, pawl.Ref{ID: id})
			if err != nil || len(hooks) != 1 {
				t.Fatalf("run %s has hooks %v, %v", id, hooks, err)
			}
			n.resume(hooks[0].Token, 7-i)
			got, err := pawl.Attach[string](n.Engine, id).Result(n.ctx)
			equal(t, "result", fmt.Sprint(got, " ", err), fmt.Sprint(2, 5-i, 7-i, " <nil>"))
		}
	})
}

// A child that is started anew takes nothing along that the run has done beside it.
func TestARetryDoesNothingAgainThatIsOnRecord(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var ran counts
		var mended atomic.Bool
		kid := pawl.Define("kid", func(c *pawl.Context, _ int) (int, error) {
			if err := pawl.Do(c, "book", func(context.Context) error { ran.add("book"); return nil }); err != nil {
				return 0, err
			}
			c.OnFailure("book", func(context.Context) error { return nil })
			return 7, pawl.Do(c, "pay", func(context.Context) error {
				if mended.Load() {
					return nil
				}
				return pawl.Fatal(errors.New("declined"))
			})
		})
		parent := pawl.Define("parent", func(c *pawl.Context, in int) (int, error) {
			k, err := kid.Spawn(c, in)
			if err != nil {
				return 0, err
			}
			for range 3 {
				if err := pawl.Do(c, "dear", func(context.Context) error { ran.add("dear"); return nil }); err != nil {
					return 0, err
				}
			}
			return k.Wait(c)
		})
		n := boot(t, open(), nil, parent, kid)
		r := start(n, parent, 1)
		_ = failure(n, r)
		mended.Store(true)
		if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
			t.Fatal(err)
		}
		equal(t, "result", result(n, r), 7)
		equal(t, "bookings", ran.get("book"), 2)
		equal(t, "dear steps", ran.get("dear"), 3)
	})
}
