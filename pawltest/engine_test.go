package pawltest_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/pawltest"
	"github.com/pawlrun/pawl/sqlite"
)

// What CrashEverywhere found in the engine, each as small as it gets.

// A worker that is killed while a step's body runs must let go of the run's goroutine.
func TestCrashDuringABody(t *testing.T) {
	hangs := pawl.Define("hangs", func(c *pawl.Context, _ int) (string, error) {
		return pawl.Step(c, "hang", func(ctx context.Context) (string, error) {
			select {
			case <-ctx.Done():
				return "", context.Cause(ctx)
			case <-time.After(time.Hour):
				return "done", nil
			}
		})
	})
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run := pawltest.Start(h, hangs, 0)
		synctest.Wait()
		h.Crash()
		if got := pawltest.Result(h, run); got != "done" {
			t.Errorf("got %q", got)
		}
		if n := h.Calls("hang"); n != 2 {
			t.Errorf("the body ran %d times, want 2", n)
		}
	}, hangs)
}

// doubtful is a store that applies the first commit with a start in it and says that it
// does not know.
type doubtful struct {
	*sqlite.Store
	done atomic.Bool
}

func (d *doubtful) Commit(ctx context.Context, b *pawl.Batch) error {
	err := d.Store.Commit(ctx, b)
	if err == nil && len(b.Starts) > 0 && d.done.CompareAndSwap(false, true) {
		return fmt.Errorf("%w: the line went dead", pawl.ErrUnknownOutcome)
	}
	return err
}

// A commit whose outcome is unknown gives the worker nothing: it must not begin the runs
// that were granted in it.
func TestNothingIsTakenFromACommitInDoubt(t *testing.T) {
	var bodies atomic.Int32
	once := pawl.Define("once", func(c *pawl.Context, _ int) (int, error) {
		return pawl.Step(c, "count", func(context.Context) (int, error) { return int(bodies.Add(1)), nil })
	})
	synctest.Test(t, func(t *testing.T) {
		base, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer base.Close()
		e := pawl.New(&doubtful{Store: base}, nil)
		if err := e.Register(once); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		synctest.Wait()
		if _, err := once.Start(ctx, e, 0, pawl.ID("a")); err == nil {
			t.Error("the start in doubt was answered")
		}
		synctest.Wait()
		if n := bodies.Load(); n != 0 {
			t.Errorf("the worker that lost its lease ran %d bodies", n)
		}
		if n, err := pawl.Attach[int](e, "a").Result(ctx); n != 1 || err != nil {
			t.Errorf("got %d, %v: the body ran more than once without need", n, err)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A run that waits for one event while another one lies in its inbox is sound: the audit
// must leave it alone.
func TestABufferedEventIsNoFinding(t *testing.T) {
	later := pawl.Define("later", func(c *pawl.Context, _ int) (string, error) {
		if err := c.Sleep(24 * time.Hour); err != nil {
			return "", err
		}
		return pawl.WaitFor[string](c, "early")
	})
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run := pawltest.Start(h, later, 0)
		h.Signal(run.ID(), "early", "here")
		time.Sleep(time.Hour)
		if found, err := h.Engine().Audit(h.Context()); len(found) > 0 || err != nil {
			t.Errorf("the audit found %v, %v", found, err)
		}
		if got := pawltest.Result(h, run); got != "here" {
			t.Errorf("got %q", got)
		}
		if info := h.Info(run.ID()); info.Epoch > 3 { // its start, the signal, the timer
			t.Errorf("it was claimed %d times, want 3", info.Epoch)
		}
	}, later)
}

// slowJournal is a store that takes its time to read a journal.
type slowJournal struct{ *sqlite.Store }

func (s slowJournal) Journal(ctx context.Context, run, after int64, limit int) ([]pawl.Entry, error) {
	time.Sleep(time.Second)
	return s.Store.Journal(ctx, run, after, limit)
}

// holding waits for two events while a step keeps it in its worker's hands.
var holding = pawl.Define("holding", func(c *pawl.Context, _ int) (string, error) {
	pawl.Go(c, "busy", func(c *pawl.Context) (int, error) {
		return pawl.Step(c, "work", func(ctx context.Context) (int, error) {
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Hour):
			}
			return 0, ctx.Err()
		})
	})
	a, err := pawl.WaitFor[string](c, "a", pawl.Timeout(100*time.Hour))
	if err != nil {
		return "", err
	}
	b, err := pawl.WaitFor[string](c, "b", pawl.Timeout(100*time.Hour))
	return a + b, err
})

// onStore runs f in a bubble with an engine on a store, which it shares with a client.
func onStore(t *testing.T, wrap func(*sqlite.Store) pawl.Store, f func(e, client *pawl.Engine), defs ...pawl.Definition) {
	synctest.Test(t, func(t *testing.T) {
		base, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer base.Close()
		e, client := pawl.New(wrap(base), &pawl.Options{Poll: time.Hour}), pawl.New(base, nil)
		for _, engine := range []*pawl.Engine{e, client} {
			if err := engine.Register(defs...); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		synctest.Wait()
		f(e, client)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A message that comes while a run's journal is being read must reach the run, even if
// another one follows.
func TestAMessageDuringLoading(t *testing.T) {
	onStore(t, func(s *sqlite.Store) pawl.Store { return slowJournal{s} }, func(e, client *pawl.Engine) {
		ctx := context.Background()
		run, err := holding.Start(ctx, client, 0, pawl.ID("r"))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // claimed; its journal is being read
		for _, event := range []string{"a", "b"} {
			if err := e.Signal(ctx, "r", event, event); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		if got, err := run.Result(ctx); got != "ab" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}, holding)
}

// hintless is a store that gives no hints, so that messages of others are fetched late.
type hintless struct{ pawl.Store }

// A message that another process sends to a run in this worker's hands must reach it, even
// if one that this process sends later overtakes it.
func TestAMessageIsOvertaken(t *testing.T) {
	onStore(t, func(s *sqlite.Store) pawl.Store { return hintless{s} }, func(e, client *pawl.Engine) {
		ctx := context.Background()
		run, err := holding.Start(ctx, e, 0)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := client.Signal(ctx, run.ID(), "a", "A"); err != nil {
			t.Fatal(err)
		}
		if err := e.Signal(ctx, run.ID(), "b", "B"); err != nil {
			t.Fatal(err)
		}
		if got, err := run.Result(ctx); got != "AB" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}, holding)
}

// eagerWaker is a store that sends an event to a run as soon as it has been suspended,
// before its worker hears that it has, and lets the worker claim it.
type eagerWaker struct {
	*sqlite.Store
	client *pawl.Engine
	once   atomic.Bool
}

func (s *eagerWaker) Commit(ctx context.Context, b *pawl.Batch) error {
	err := s.Store.Commit(ctx, b)
	for _, ch := range b.Changes {
		if err == nil && ch.To != nil && ch.To.State == pawl.Waiting && s.once.CompareAndSwap(false, true) {
			if err := s.client.Signal(ctx, "r", "go", 7); err != nil {
				return err
			}
			time.Sleep(time.Second) // the worker is told, and claims it
		}
	}
	return err
}

// A run that is woken and claimed before its worker hears that it was suspended must leave
// nothing behind: the bubble would not end.
func TestAWakeOvertakesASuspension(t *testing.T) {
	one := pawl.Define("one", func(c *pawl.Context, _ int) (int, error) { return pawl.WaitFor[int](c, "go") })
	waker := &eagerWaker{}
	onStore(t, func(s *sqlite.Store) pawl.Store { waker.Store = s; return waker }, func(e, client *pawl.Engine) {
		waker.client = client
		ctx := context.Background()
		run, err := one.Start(ctx, e, 0, pawl.ID("r"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := run.Result(ctx); got != 7 || err != nil {
			t.Errorf("got %d, %v", got, err)
		}
	}, one)
}
