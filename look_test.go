package pawl_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// TestAReplayGoesAsFarAsTheJournal, of a run in whatever state, and does nothing else.
func TestAReplayGoesAsFarAsTheJournal(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies atomic.Int64
		order := func(came func(key string)) *pawl.Workflow[none, string] {
			return pawl.Define("order", func(c *pawl.Context, _ none) (string, error) {
				for _, name := range []string{"one", "two", "one"} {
					came(c.Key(name))
					if _, err := pawl.Step(c, name, func(context.Context) (string, error) { bodies.Add(1); return name, nil }); err != nil {
						return "", err
					}
				}
				came("wait")
				_, err := pawl.WaitFor[none](c, "paid")
				came("paid")
				return "done", err
			}, pawl.Timeout(30*time.Second))
		}
		quiet := order(func(string) {})
		n := boot(t, open(), nil, quiet)
		run := start(n, quiet, none{})
		n.reaches(run.ID(), pawl.Waiting)
		look := func(how pawl.Replaying) (string, pawl.Check) {
			t.Helper()
			var keys []string
			arrived := 0
			over := false
			how.Arrived = func() { arrived++; over = true }
			c, err := n.Replay(n.ctx, pawl.Ref{ID: run.ID()}, order(func(key string) {
				if !over {
					keys = append(keys, key)
				}
			}), how)
			if err != nil || arrived != 1 {
				t.Fatalf("arrived %d times, %v", arrived, err)
			}
			return strings.Join(keys, " "), c
		}
		before := n.info(run.ID())
		keys, c := look(pawl.Replaying{})
		if keys != "one two one#2 wait" || c.Next != "wait" || c.Diverged != "" {
			t.Errorf("while it waits: %s, %+v", keys, c)
		}
		if keys, c = look(pawl.Replaying{Entries: 2}); keys != "one two" || c.Next != "step two" {
			t.Errorf("of two entries: %s, %+v", keys, c)
		}
		if after := n.info(run.ID()); after.Epoch != before.Epoch || after.State != pawl.Waiting || !after.Updated.Equal(before.Updated) {
			t.Errorf("the run was touched: %+v", after)
		}
		n.signal(run.ID(), "paid", none{})
		result(n, run)
		if keys, c = look(pawl.Replaying{}); keys != "one two one#2 wait paid" || c.Next != "end as completed" {
			t.Errorf("behind its end: %s, %+v", keys, c)
		}
		if bodies.Load() != 3 {
			t.Errorf("%d bodies ran, want 3", bodies.Load())
		}
		for _, def := range []pawl.Definition{nil, pawl.Define("other", func(*pawl.Context, none) (none, error) { return none{}, nil })} {
			if _, err := n.Replay(n.ctx, pawl.Ref{ID: run.ID()}, def, pawl.Replaying{}); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("code of another workflow: %v", err)
			}
		}
		if _, err := n.Replay(n.ctx, pawl.Ref{ID: "nobody"}, quiet, pawl.Replaying{}); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("no run: %v", err)
		}
	})
}
