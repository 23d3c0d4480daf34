package pawl_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

// What upstream's features and faults ask for beside its numbered tests.

// Only a step answers, one of the run that has the request, and with what can be sent.
func TestA4_respondNeedsAStep(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("responds", func(c *pawl.Context, _ none) (none, error) {
			req, ok := &pawl.Request{ID: "r", Run: c.RunID()}, pawl.Response{}
			if err := misused(pawl.Respond(context.Background(), req, ok), "the body of a step"); err != nil {
				return none{}, err
			}
			return none{}, pawl.Do(c, "answer", func(ctx context.Context) error {
				if err := misused(pawl.Respond(ctx, &pawl.Request{ID: "r", Run: "another"}, ok), "run another"); err != nil {
					return pawl.Fatal(err)
				}
				if err := misused(pawl.Respond(ctx, req, pawl.Response{Status: 99}), "status 99"); err != nil {
					return pawl.Fatal(err)
				}
				return pawl.Respond(ctx, req, ok)
			})
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		result(n, r)
		equal(t, "answers", len(read(n, r.ID(), pawl.ResponseStream+"r", 0)), 1)
	})
}

// A payload that came while nobody waited is there for who waits later, in order, also when
// steps, sleeps and replays lie between; what nobody takes is no obstacle to the end.
func TestA4_payloadsAreKeptInOrder(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("later", func(c *pawl.Context, _ none) (got []int, err error) {
			h, err := pawl.NewHook[int](c, pawl.Token("t-kept"))
			if err != nil {
				return nil, err
			}
			if _, err := pawl.WaitFor[none](c, "go"); err != nil {
				return nil, err
			}
			for range 3 {
				if err := pawl.Do(c, "between", nothing); err != nil {
					return nil, err
				}
				if err := c.Sleep(10 * time.Millisecond); err != nil {
					return nil, err
				}
				v, err := h.Wait(c)
				if err != nil {
					return nil, err
				}
				got = append(got, v)
			}
			return got, nil
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		n.hook("t-kept")
		for i := range 5 {
			n.resume("t-kept", i)
		}
		n.signal(r.ID(), "go", none{})
		equal(t, "payloads", result(n, r), []int{0, 1, 2})
		noTrouble(n, []string{r.ID()})
	})
}

// A run that waits for its children holds no place of those that run: with one place only, a
// tree of them comes to its end.
func TestV11_parentsHoldNoPlace(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var fib *pawl.Workflow[int, int]
		fib = pawl.Define("fib", func(c *pawl.Context, n int) (int, error) {
			if n < 2 {
				return n, nil
			}
			both, err := pawl.Map(c, "of", []int{n - 1, n - 2}, func(c *pawl.Context, n int) (int, error) { return fib.Call(c, n) })
			if err != nil {
				return 0, err
			}
			return both[0] + both[1], nil
		})
		n := boot(t, open(), &pawl.Options{MaxRunning: 1}, fib)
		equal(t, "fib(5)", complete(n, fib, 5), 5)
	})
}

// The engine lets go by itself what retention lets go: within a minute, and not before.
func TestB1_143_retentionByTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		w := pawl.Define("retained", func(c *pawl.Context, n int) (int, error) { return n, c.Stream("s").Write(n) }, pawl.Retention(5*time.Minute, pawl.Completed))
		n := boot(t, store, &pawl.Options{Poll: 10 * time.Second}, w)
		equal(t, "result", complete(n, w, 1, pawl.ID("one")), 1)
		time.Sleep(5*time.Minute - time.Second) // of the bubble
		info, err := n.Get(context.Background(), pawl.Ref{ID: "one"})
		equal(t, "before its time", fmt.Sprint(info.State, err), "completed <nil>")
		time.Sleep(time.Minute)
		_, err = n.Get(context.Background(), pawl.Ref{ID: "one"})
		is(t, err, pawl.ErrNotFound)
		run, err := n.StartRun(context.Background(), "retained", json.RawMessage("2"), pawl.ID("one"))
		equal(t, "its id is free", fmt.Sprint(run.ID, " ", err), "one <nil>")
		n.stop()
		n.ok(store.Close())
	})
}
