package trigger

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// twice waits in one branch while it works in another, so that it can be forked and fail while it waits.
func twice(mended *atomic.Bool, opts ...WaitOption) *pawl.Workflow[int, int] {
	return pawl.Define("twice", func(c *pawl.Context, _ int) (int, error) {
		waits := pawl.Go(c, "waits", func(c *pawl.Context) (int, error) {
			o, err := WaitFor[order](c, "order", opts...)
			return o.N, err
		})
		works := pawl.Go(c, "works", func(c *pawl.Context) (int, error) {
			if _, err := pawl.WaitFor[int](c, "work"); err != nil {
				return 0, err
			}
			return 0, pawl.Do(c, "work", func(context.Context) error {
				if mended.Load() {
					return nil
				}
				return pawl.Fatal(errors.New("not yet"))
			})
		})
		if _, err := pawl.All(c, works); err != nil {
			return 0, err
		}
		return waits.Wait(c)
	})
}

func waitsAt(t *testing.T, e *pawl.Engine, id string) {
	t.Helper()
	eventually(t, "run "+id+" waits", func() bool {
		info, err := e.Get(t.Context(), pawl.Ref{ID: id})
		if err != nil {
			t.Fatal(err)
		}
		hooks, err := e.Hooks(t.Context(), pawl.Ref{ID: id})
		return err == nil && info.State == pawl.Waiting && len(hooks) == 1
	})
}

func publishN(t *testing.T, e *pawl.Engine, n int) Published {
	t.Helper()
	p, err := Publish(t.Context(), e, Event{Name: "order", Data: order{n}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A fork of a run that waits gets what is published from then on, as does the run; one that looks
// back finds what the run was given meanwhile.
func TestAForkOfARunThatWaitsGetsItsEvents(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var mended atomic.Bool
		mended.Store(true)
		ahead := twice(&mended)
		back := pawl.Define("back", func(c *pawl.Context, _ int) (int, error) {
			o, err := WaitFor[order](c, "order", LookBack(time.Hour), Where("event.data.n > 5"))
			return o.N, err
		})
		e := client(t, open(), ahead, back)
		background(t, e.Run)
		r, err := ahead.Start(t.Context(), e, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Signal(t.Context(), r.ID(), "work", 1); err != nil {
			t.Fatal(err)
		}
		waitsAt(t, e, r.ID())
		eventually(t, "the work is done", func() bool { return hasEntry(t, e, r.ID(), "works/work") })
		fork, err := e.Fork(t.Context(), pawl.Ref{ID: r.ID()}, pawl.ForkOptions{From: "works/work"})
		if err != nil {
			t.Fatal(err)
		}
		waitsAt(t, e, fork.ID)
		second, err := e.Fork(t.Context(), pawl.Ref{ID: fork.ID}, pawl.ForkOptions{From: "works/work"})
		if err != nil {
			t.Fatal(err)
		}
		waitsAt(t, e, second.ID)
		if p := publishN(t, e, 4); p.Waiters != 3 {
			t.Errorf("%d have the event; want the run and both forks", p.Waiters)
		}
		for _, id := range []string{r.ID(), fork.ID, second.ID} {
			if got, err := pawl.Attach[int](e, id).Result(t.Context()); err != nil || got != 4 {
				t.Errorf("run %s took %d, %v", id, got, err)
			}
		}

		b, err := back.Start(t.Context(), e, 0)
		if err != nil {
			t.Fatal(err)
		}
		waitsAt(t, e, b.ID())
		eventually(t, "it has looked", func() bool { return hasEntry(t, e, b.ID(), "order: look") })
		publishN(t, e, 7)
		if got, err := b.Result(t.Context()); err != nil || got != 7 {
			t.Fatalf("it took %d, %v", got, err)
		}
		again, err := e.Fork(t.Context(), pawl.Ref{ID: b.ID()}, pawl.ForkOptions{From: "$payload:$hook"})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := pawl.Attach[int](e, again.ID).Result(t.Context()); err != nil || got != 7 {
			t.Errorf("the fork took %d, %v", got, err)
		}
	})
}

func hasEntry(t *testing.T, e *pawl.Engine, id, key string) bool {
	t.Helper()
	for entry, err := range e.Journal(t.Context(), pawl.Ref{ID: id}) {
		if err != nil {
			t.Fatal(err)
		}
		if entry.Key == key {
			return true
		}
	}
	return false
}

// A run that failed while it waited in another branch waits again when it is retried, also when events
// were published in between.
func TestARetriedRunGetsItsEvents(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var mended atomic.Bool
		flow := twice(&mended)
		e := client(t, open(), flow)
		background(t, e.Run)
		r, err := flow.Start(t.Context(), e, 0)
		if err != nil {
			t.Fatal(err)
		}
		waitsAt(t, e, r.ID())
		if err := e.Signal(t.Context(), r.ID(), "work", 1); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Result(t.Context()); err == nil {
			t.Fatal("it has not failed")
		}
		if p := publishN(t, e, 1); p.Waiters != 0 {
			t.Errorf("%d have the event, and the only run has failed", p.Waiters)
		}
		mended.Store(true)
		if _, err := e.Retry(t.Context(), pawl.Ref{ID: r.ID()}); err != nil {
			t.Fatal(err)
		}
		if p := publishN(t, e, 2); p.Waiters != 1 {
			t.Errorf("%d have the event; want the run that was retried", p.Waiters)
		}
		if got, err := r.Result(t.Context()); err != nil || got != 2 {
			t.Errorf("it took %d, %v", got, err)
		}
	})
}
