package pawl_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// waitState waits until a run is in a state.
func waitState(t *testing.T, n *node, id string, want pawl.State) pawl.RunInfo {
	t.Helper()
	for {
		info, err := n.Get(n.ctx, pawl.Ref{ID: id})
		if err != nil {
			t.Fatalf("run %s: %v; want state %s", id, err, want)
		}
		if info.State == want {
			return info
		}
		if info.State.Terminal() {
			t.Fatalf("run %s is %s (%s), want %s", id, info.State, info.Reason, want)
		}
		select {
		case <-n.ctx.Done():
			t.Fatalf("run %s is still %s, want %s", id, info.State, want)
		case <-time.After(time.Millisecond):
		}
	}
}

// family is a parent that waits for a child that waits for an event.
func family(goesOn bool) (parent, child *pawl.Workflow[int, int]) {
	child = pawl.Define("child", func(c *pawl.Context, n int) (int, error) {
		if goesOn && n == 0 {
			return 0, pawl.ContinueAs(c, 1)
		}
		return pawl.WaitFor[int](c, "go")
	})
	parent = pawl.Define("parent", func(c *pawl.Context, n int) (int, error) {
		return child.Call(c, n)
	})
	return parent, child
}

func childrenOf(t *testing.T, n *node, parent pawl.RunInfo) []pawl.RunInfo {
	t.Helper()
	runs, err := n.List(n.ctx, pawl.Filter{Workflow: "child"})
	if err != nil {
		t.Fatal(err)
	}
	return runs
}

// TestP6CancelReachesChildrenAtOnce: a child is told when its parent is, not when it ends.
func TestP6CancelReachesChildrenAtOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		release := make(chan struct{})
		child := pawl.Define("child", func(c *pawl.Context, _ int) (int, error) { return pawl.WaitFor[int](c, "go") })
		parent := pawl.Define("parent", func(c *pawl.Context, _ int) (int, error) {
			if _, err := child.Spawn(c, 0); err != nil {
				return 0, err
			}
			return 0, pawl.Do(c, "stubborn", func(context.Context) error { <-release; return nil })
		})
		n := boot(t, open(), nil, parent, child)
		r, err := parent.Start(n.ctx, n.Engine, 0)
		if err != nil {
			t.Fatal(err)
		}
		info := waitState(t, n, r.ID(), pawl.Running)
		var kids []pawl.RunInfo
		for len(kids) == 0 {
			kids = childrenOf(t, n, info)
		}
		waitState(t, n, kids[0].ID, pawl.Waiting)
		if _, err := n.Cancel(n.ctx, pawl.Ref{ID: r.ID()}, "enough"); err != nil {
			t.Fatal(err)
		}
		waitState(t, n, kids[0].ID, pawl.Cancelled)
		if info, _ := n.Get(n.ctx, pawl.Ref{ID: r.ID()}); info.State != pawl.Running {
			t.Errorf("the parent is %s; the test wants its step to be still under way", info.State)
		}
		close(release)
		waitState(t, n, r.ID(), pawl.Cancelled)
	})
}

// TestP6CancelReachesAChildThatWentOn: a child that continued as a new run is cancelled too.
func TestP6CancelReachesAChildThatWentOn(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		parent, child := family(true)
		n := boot(t, open(), nil, parent, child)
		r, err := parent.Start(n.ctx, n.Engine, 0)
		if err != nil {
			t.Fatal(err)
		}
		var second string
		for second == "" {
			for _, k := range childrenOf(t, n, pawl.RunInfo{}) {
				if k.Next != "" {
					second = k.Next
				}
			}
		}
		waitState(t, n, second, pawl.Waiting)
		if _, err := n.Cancel(n.ctx, pawl.Ref{ID: r.ID()}, ""); err != nil {
			t.Fatal(err)
		}
		waitState(t, n, r.ID(), pawl.Cancelled)
		waitState(t, n, second, pawl.Cancelled)
	})
}

// TestCancelBeatsContinueAs: a cancelled run does not go on under another name.
func TestCancelBeatsContinueAs(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		again := pawl.Define("again", func(c *pawl.Context, n int) (int, error) {
			if _, err := pawl.WaitFor[int](c, "go"); !errors.Is(err, pawl.ErrCancelled) {
				return 0, err
			}
			return 0, pawl.ContinueAs(c, n+1)
		})
		n := boot(t, open(), nil, again)
		r, err := again.Start(n.ctx, n.Engine, 0)
		if err != nil {
			t.Fatal(err)
		}
		waitState(t, n, r.ID(), pawl.Waiting)
		if _, err := n.Cancel(n.ctx, pawl.Ref{ID: r.ID()}, ""); err != nil {
			t.Fatal(err)
		}
		waitState(t, n, r.ID(), pawl.Cancelled)
		if runs, err := n.List(n.ctx, pawl.Filter{}); err != nil || len(runs) != 1 {
			t.Errorf("%d runs, %v; want the cancelled one alone", len(runs), err)
		}
	})
}

// TestP4EventsMoveWithContinueAs: what was accepted for a run that goes on as another is
// taken by that, in the order in which it came, whichever of them it was sent to.
func TestP4EventsMoveWithContinueAs(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		const all = 40
		type tally struct {
			Got  []int `json:"got"`
			Left int   `json:"left"`
		}
		counter := pawl.Define("counter", func(c *pawl.Context, in tally) ([]int, error) {
			for range 3 {
				n, err := pawl.WaitFor[int](c, "n")
				if err != nil {
					return nil, err
				}
				if in.Got = append(in.Got, n); len(in.Got) == in.Left {
					return in.Got, nil
				}
			}
			return nil, pawl.ContinueAs(c, in)
		})
		n := boot(t, open(), replays(), counter)
		r := start(n, counter, tally{Left: all}, pawl.Attributes(map[string]any{"kind": "tally"}))
		var want []int
		for i := range all {
			want = append(want, i)
			if err := n.Signal(n.ctx, r.ID(), "n", i); err != nil {
				t.Fatal(err)
			}
		}
		equal(t, "events", result(n, r), want)
		runs, err := n.List(n.ctx, pawl.Filter{Attrs: map[string]string{"kind": "tally"}})
		equal(t, "runs with the attribute", fmt.Sprint(len(runs), err), "14 <nil>")
	})
}

// TestP6PauseReachesChildren, and Unpause lets them go on.
func TestP6PauseReachesChildren(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		parent, child := family(false)
		n := boot(t, open(), nil, parent, child)
		r, err := parent.Start(n.ctx, n.Engine, 0)
		if err != nil {
			t.Fatal(err)
		}
		waitState(t, n, r.ID(), pawl.Waiting)
		kid := childrenOf(t, n, pawl.RunInfo{})[0].ID
		waitState(t, n, kid, pawl.Waiting)
		if _, err := n.Pause(n.ctx, pawl.Ref{ID: r.ID()}, "lunch"); err != nil {
			t.Fatal(err)
		}
		waitState(t, n, r.ID(), pawl.Paused)
		waitState(t, n, kid, pawl.Paused)
		if err := n.Signal(n.ctx, kid, "go", 7); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Unpause(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
			t.Fatal(err)
		}
		if got, err := r.Result(n.ctx); got != 7 || err != nil {
			t.Errorf("got %d, %v; want 7", got, err)
		}
	})
}

// TestP5ForkMakesItsOwnHooksAndChildren: what is open at the fork is not taken over.
func TestP5ForkMakesItsOwnHooksAndChildren(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		child := pawl.Define("child", func(c *pawl.Context, n int) (int, error) { return n * 10, nil })
		flow := pawl.Define("flow", func(c *pawl.Context, n int) (int, error) {
			h, err := pawl.NewHook[int](c)
			if err != nil {
				return 0, err
			}
			kid, err := child.Spawn(c, n)
			if err != nil {
				return 0, err
			}
			if err := pawl.Do(c, "middle", func(context.Context) error { return nil }); err != nil {
				return 0, err
			}
			v, err := h.Wait(c)
			if err != nil {
				return 0, err
			}
			w, err := kid.Wait(c)
			return v + w, err
		})
		n := boot(t, open(), nil, flow, child)
		r, err := flow.Start(n.ctx, n.Engine, 1)
		if err != nil {
			t.Fatal(err)
		}
		waitState(t, n, r.ID(), pawl.Waiting)
		fork, err := n.Fork(n.ctx, pawl.Ref{ID: r.ID()}, pawl.ForkOptions{From: "middle"})
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range []string{r.ID(), fork.ID} {
			waitState(t, n, id, pawl.Waiting)
			hooks, err := n.Hooks(n.ctx, pawl.Ref{ID: id})
			if err != nil || len(hooks) != 1 {
				t.Fatalf("run %d has %d hooks, %v; want one of its own", i, len(hooks), err)
			}
			if _, err := n.Resume(n.ctx, hooks[0].Token, i+1); err != nil {
				t.Fatal(err)
			}
			if got, err := pawl.Attach[int](n.Engine, id).Result(n.ctx); got != 10+i+1 || err != nil {
				t.Errorf("run %d returned %d, %v; want %d", i, got, err, 10+i+1)
			}
		}
	})
}

// TestRetryRefusesWhatWasUndone: a journal whose steps were compensated is not gone on with.
func TestRetryRefusesWhatWasUndone(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		order := pawl.Define("order", func(c *pawl.Context, _ int) (int, error) {
			if err := pawl.Do(c, "charge", func(context.Context) error { return nil }); err != nil {
				return 0, err
			}
			c.OnFailure("charge", func(context.Context) error { return nil })
			return 0, pawl.Do(c, "ship", func(context.Context) error { return pawl.Fatal(errors.New("no stock")) })
		})
		n := boot(t, open(), nil, order)
		r, err := order.Start(n.ctx, n.Engine, 0)
		if err != nil {
			t.Fatal(err)
		}
		waitState(t, n, r.ID(), pawl.Failed)
		_, err = n.Retry(n.ctx, pawl.Ref{ID: r.ID()})
		if !errors.Is(err, pawl.ErrState) || !strings.Contains(err.Error(), "compensations") {
			t.Errorf("retry: %v; want ErrState that tells of the compensations", err)
		}
	})
}

// TestAttributesAreLimitedPerRun, not per call.
func TestAttributesAreLimitedPerRun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		flow := pawl.Define("flow", func(c *pawl.Context, _ int) (int, error) {
			for i := range 65 {
				if err := c.SetAttributes(map[string]any{"a" + strconv.Itoa(i): i}); err != nil {
					return i, nil
				}
			}
			return 65, nil
		})
		n := boot(t, open(), nil, flow)
		r, err := flow.Start(n.ctx, n.Engine, 0, pawl.Attributes(map[string]any{"x": 1}))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.Result(n.ctx); got != 63 || err != nil {
			t.Errorf("%d attributes were set beside the first, %v; want 63", got, err)
		}
	})
}

// TestP5ADetachedChildCannotBeWaitedFor: its end is told to nobody.
func TestP5ADetachedChildCannotBeWaitedFor(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		child := pawl.Define("child", func(c *pawl.Context, n int) (int, error) { return n, nil })
		parent := pawl.Define("parent", func(c *pawl.Context, _ int) (string, error) {
			kid, err := child.Spawn(c, 1, pawl.Detach())
			if err != nil {
				return "", err
			}
			_, err = kid.Wait(c)
			if !errors.Is(err, pawl.ErrMisuse) {
				return "", errors.New("waited for a detached child")
			}
			return err.Error(), nil
		})
		n := boot(t, open(), nil, parent, child)
		r, err := parent.Start(n.ctx, n.Engine, 0)
		if err != nil {
			t.Fatal(err)
		}
		if why, err := r.Result(n.ctx); err != nil || !strings.Contains(why, "Attach") {
			t.Errorf("got %q, %v; want to be told of Attach", why, err)
		}
	})
}

// TestP6ADeadlineAtAnyMomentEndsTheRun: whatever a run is doing when its time is up, it
// does not fall asleep over it.
func TestP6ADeadlineAtAnyMomentEndsTheRun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("late", func(c *pawl.Context, how int) (none, error) {
			switch how {
			case 0:
				return none{}, c.Sleep(time.Hour)
			case 1:
				_, err := pawl.WaitFor[none](c, "never")
				return none{}, err
			}
			failing := errors.New("not yet")
			return none{}, pawl.Do(c, "tried again", func(context.Context) error { return pawl.RetryAfter(failing, time.Hour) })
		})
		n := boot(t, open(), replays(), w)
		var runs []*pawl.Run[none]
		for i := range 600 {
			i++ // a timeout of zero is none
			runs = append(runs, start(n, w, i%3, pawl.Timeout(time.Duration(i)*5*time.Microsecond)))
		}
		for _, r := range runs {
			is(t, failure(n, r), pawl.ErrTimeout)
		}
	})
}

// stubborn is a step whose body waits for the gate to open and heeds nothing else.
func (g *gate) stubborn(c *pawl.Context) error {
	return pawl.Do(c, "stubborn", func(context.Context) error { return g.pass(context.Background()) })
}

// pauseAt starts a run and pauses it while its body is at the gate: it pauses when that opens.
func pauseAt[Out any](n *node, g *gate, w *pawl.Workflow[none, Out], opts ...pawl.StartOption) *pawl.Run[Out] {
	n.t.Helper()
	r := start(n, w, none{}, opts...)
	g.wait(n.t)
	if _, err := n.Pause(n.ctx, pawl.Ref{ID: r.ID()}, "lunch"); err != nil {
		n.t.Fatal(err)
	}
	return r
}

// TestP6ACancelDuringAPauseEndsTheRun: the run does not stop between the two.
func TestP6ACancelDuringAPauseEndsTheRun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		w := pawl.Define("between", func(c *pawl.Context, _ none) (none, error) { return none{}, g.stubborn(c) })
		n := boot(t, open(), nil, w)
		r := pauseAt(n, g, w)
		n.cancel(r.ID(), "enough")
		g.open()
		equal(t, "state", failure(n, r).State, pawl.Cancelled)
	})
}

// TestP6ACancelAtTheLastMomentOfAPauseEndsTheRun: it came after the run last looked.
func TestP6ACancelAtTheLastMomentOfAPauseEndsTheRun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		w := pawl.Define("between", func(c *pawl.Context, _ none) (none, error) {
			if err := g.stubborn(c); err != nil {
				return none{}, err
			}
			return none{}, c.Sleep(time.Hour)
		})
		outside := client(t, open(), nil)
		behind := &cut{Store: open(), before: onceBefore(pawl.Paused, func() { outside.cancel("b", "enough") })}
		n := boot(t, behind, nil, w)
		r := pauseAt(n, g, w, pawl.ID("b"))
		g.open()
		equal(t, "state", failure(n, r).State, pawl.Cancelled)
	})
}

// onceBefore is for cut.before: it calls f before the first commit that brings a run to a state.
func onceBefore(s pawl.State, f func()) func(*pawl.Batch) error {
	var once sync.Once
	return func(b *pawl.Batch) error {
		for _, ch := range b.Changes {
			if ch.To != nil && ch.To.State == s {
				once.Do(f)
			}
		}
		return nil
	}
}

// TestAPauseIsNoOutcome: what was waiting when a run was paused goes on waiting, whatever
// its code cancels meanwhile.
func TestAPauseIsNoOutcome(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		w := pawl.Define("loose", func(c *pawl.Context, _ none) (string, error) {
			asleep := pawl.Go(c, "asleep", func(c *pawl.Context) (string, error) {
				return pawl.WaitFor[string](c, "news")
			})
			_, cancel := pawl.WithCancel(c)
			if err := g.stubborn(c); err != nil {
				return "", err
			}
			cancel(nil)
			return asleep.Wait(c)
		})
		n := boot(t, open(), nil, w)
		r := pauseAt(n, g, w)
		g.open()
		n.reaches(r.ID(), pawl.Paused)
		if _, err := n.Unpause(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
			t.Fatal(err)
		}
		n.signal(r.ID(), "news", "good")
		equal(t, "result", result(n, r), "good")
	})
}

// TestADeadlineHoldsForWhatAMessageWoke: a message that came while the run was about to
// leave memory takes it up again, with all its timers.
func TestADeadlineHoldsForWhatAMessageWoke(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("woken", func(c *pawl.Context, _ none) (none, error) {
			if _, err := pawl.WaitFor[none](c, "go"); err != nil {
				return none{}, err
			}
			return none{}, pawl.Do(c, "long", func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
		}, pawl.Timeout(500*time.Millisecond))
		outside := client(t, open(), nil)
		behind := &cut{Store: open(), before: onceBefore(pawl.Waiting, func() { outside.signal("w", "go", nil) })}
		n := boot(t, behind, nil, w)
		r := start(n, w, none{}, pawl.ID("w"))
		is(t, failure(n, r), pawl.ErrTimeout)
		equal(t, "times in memory", n.info(r.ID()).Epoch, 1)
	})
}

// frozen is one worker's store, which can be frozen. Heartbeats then hang until the thaw, and
// claims until the worker's life ends: neither tells it that its lease is over.
type frozen struct {
	pawl.Store
	beating sync.Mutex // held while it is frozen
	lease   time.Time  // when the lease ends in which the worker believes
	stopped atomic.Bool
}

// freeze returns when the lease ends in which the worker believes until the thaw.
func (f *frozen) freeze() (lease time.Time, thaw func()) {
	f.beating.Lock() // no heartbeat is under way
	f.stopped.Store(true)
	return f.lease, sync.OnceFunc(f.beating.Unlock)
}

func (f *frozen) Join(ctx context.Context, w pawl.WorkerInfo, until time.Time) (int64, error) {
	f.beating.Lock()
	defer f.beating.Unlock()
	f.stopped.Store(false)
	f.lease = until
	return f.Store.Join(ctx, w, until)
}

func (f *frozen) Beat(ctx context.Context, worker int64, now, until time.Time) error {
	f.beating.Lock()
	defer f.beating.Unlock()
	err := f.Store.Beat(ctx, worker, now, until)
	if err == nil {
		f.lease = until
	}
	return err
}

func (f *frozen) Claim(ctx context.Context, r pawl.ClaimRequest) (pawl.Claims, error) {
	if f.stopped.Load() {
		<-ctx.Done()
		return pawl.Claims{}, ctx.Err()
	}
	return f.Store.Claim(ctx, r)
}

// TestP3AWorkerThatWasStoppedAsksBeforeItBegins: between two steps it was away for longer
// than its lease, and another has run the second one meanwhile.
func TestP3AWorkerThatWasStoppedAsksBeforeItBegins(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		between, goOn := make(chan none, 10), make(chan none)
		program := func(wait bool) *pawl.Workflow[none, int] {
			return pawl.Define("stopped", func(c *pawl.Context, _ none) (int, error) {
				if err := pawl.Do(c, "first", func(context.Context) error { bodies.add("first"); return nil }); err != nil {
					return 0, err
				}
				if wait {
					between <- none{}
					<-goOn
				}
				return pawl.Step(c, "second", func(context.Context) (int, error) { return bodies.add("second"), nil })
			})
		}
		ice := &frozen{Store: open()}
		waits := program(true)
		one := boot(t, ice, &pawl.Options{Lease: 500 * time.Millisecond, Drain: 10 * time.Millisecond}, waits)
		r := start(one, waits, none{})
		<-between
		_, thaw := ice.freeze()
		defer thaw()
		two := boot(t, open(), nil, program(false))
		equal(t, "result of the second worker", result(two, r), 1)
		close(goOn)
		// It does not join again while its heartbeat hangs.
		one.until("the first worker to notice", func() bool { return !one.Working() || bodies.get("second") > 1 })
		thaw()
		equal(t, "bodies of the first step", bodies.get("first"), 1)
		equal(t, "bodies of the second step", bodies.get("second"), 1)
	})
}

// TestP5AWriteGivenUpGivesUpTheWorker: a write that failed when the lease was over by the
// worker's clock is not tried again; its run must not stay with a worker that forgot it.
func TestP5AWriteGivenUpGivesUpTheWorker(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		w := pawl.Define("stubborn", func(c *pawl.Context, _ none) (none, error) { return none{}, g.stubborn(c) })
		ice := &frozen{Store: open()}
		behind := &cut{Store: ice, before: func(*pawl.Batch) error {
			if ice.stopped.Load() {
				return errors.New("the connection is broken")
			}
			return nil
		}}
		n := boot(t, behind, &pawl.Options{Lease: 500 * time.Millisecond}, w)
		r := start(n, w, none{})
		g.wait(t)
		lease, thaw := ice.freeze()
		defer thaw()
		<-time.After(time.Until(lease))
		g.open()
		n.until("the worker to give up", func() bool { return !n.Working() })
		thaw()
		result(n, r)
	})
}

// TestCompensationsOfBranchesSurviveACrash: each runs for its own branch, in whatever order
// those come in the replay.
func TestCompensationsOfBranchesSurviveACrash(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		g := newGate()
		turns := []chan none{make(chan none), make(chan none), make(chan none)}
		close(turns[2])
		w := pawl.Define("saga", func(c *pawl.Context, _ none) (none, error) {
			_, err := pawl.Map(c, "part", []int{0, 1, 2}, func(c *pawl.Context, i int) (none, error) {
				if err := pawl.Do(c, "book", func(context.Context) error { <-turns[i]; return nil }); err != nil {
					return none{}, err
				}
				c.OnFailure("cancel", func(ctx context.Context) error {
					if bodies.add(fmt.Sprint("undo ", i)) == 1 && i == 1 {
						return g.pass(ctx)
					}
					return nil
				})
				return none{}, pawl.Do(c, "registered", func(context.Context) error {
					if i > 0 && bodies.add(fmt.Sprint("registered ", i)) == 1 {
						close(turns[i-1])
					}
					return nil
				})
			})
			if err != nil {
				return none{}, err
			}
			return none{}, errors.New("it failed")
		})
		first := boot(t, open(), mayCrash(), w)
		r := start(first, w, none{})
		g.wait(t) // undone: 0; at it: 1
		first.crash()
		g.open()
		second := boot(t, open(), nil, w)
		equal(t, "state", failure(second, r).State, pawl.Failed)
		for key, want := range map[string]int{"undo 0": 1, "undo 1": 2, "undo 2": 1} {
			if got := bodies.get(key); got != want {
				t.Errorf("%q ran %d times, want %d", key, got, want)
			}
		}
	})
}

// TestRegisterTakesWhatAWorkflowUses, also what that uses, and one that two use.
func TestRegisterTakesWhatAWorkflowUses(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		leaf := pawl.Define("leaf", func(c *pawl.Context, n int) (int, error) { return n + 1, nil })
		left := pawl.Define("left", func(c *pawl.Context, n int) (int, error) { return leaf.Call(c, n) }, pawl.Uses(leaf))
		right := pawl.Define("right", func(c *pawl.Context, n int) (int, error) { return left.Call(c, n) }, pawl.Uses(leaf, left))
		n := boot(t, open(), nil, right, left)
		equal(t, "workflows", n.Workflows(), []string{"leaf", "left", "right"})
		equal(t, "result", complete(n, right, 1), 2)

		other := pawl.Define("other", func(*pawl.Context, int) (int, error) { return 0, nil },
			pawl.Uses(pawl.Define("leaf", func(*pawl.Context, int) (int, error) { return 0, nil })))
		again := client(t, open(), nil, left)
		err := again.Register(right, other)
		if !errors.Is(err, pawl.ErrDuplicate) || !strings.Contains(err.Error(), `"leaf"`) || !strings.Contains(err.Error(), `"other"`) {
			t.Errorf("another of the same name: %v", err)
		}
		equal(t, "none of a refused set is registered", again.Workflows(), []string{"leaf", "left"})
	})
}
