package pawl_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pawlrun/pawl"
)

// spoilt is a store that a run's entries of step "bad" reach with a sequence number that is
// taken, while it is on: no store can take them.
func spoilt(open pawl.Store, on *atomic.Bool) *cut {
	return &cut{Store: open, before: func(b *pawl.Batch) error {
		for _, ch := range b.Changes {
			for i := range ch.Entries {
				if e := &ch.Entries[i]; on.Load() && strings.HasSuffix(e.Key, "bad") {
					e.Seq = 0
				}
			}
		}
		return nil
	}}
}

// TestP5AChangeThatTheStoreRefusesBlocksItsRunAlone: a change that can never be stored is
// found among those of other runs in its transaction, and stops its own run, not the worker.
func TestP5AChangeThatTheStoreRefusesBlocksItsRunAlone(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		const runs = 40
		var on atomic.Bool
		on.Store(true)
		w := pawl.Define("spoilt", func(c *pawl.Context, n int) (int, error) {
			sum := 0
			for i := range 5 {
				name := fmt.Sprint("s", i)
				if n%10 == 3 && i == 2 {
					name = "bad"
				}
				v, err := pawl.Step(c, name, func(context.Context) (int, error) { return n, nil })
				if err != nil {
					return 0, err
				}
				sum += v
			}
			return sum, nil
		})
		n := boot(t, spoilt(open(), &on), nil, w)
		var all []*pawl.Run[int]
		for i := range runs {
			all = append(all, start(n, w, i, pawl.ID(fmt.Sprint("run", i))))
		}
		for i, r := range all {
			if i%10 != 3 {
				equal(t, "result", result(n, r), 5*i)
				continue
			}
			info := n.reaches(r.ID(), pawl.Blocked)
			if !strings.Contains(info.Reason, pawl.ErrRefused.Error()) {
				t.Errorf("the reason of %s is %q", info.ID, info.Reason)
			}
			equal(t, "steps of the journal", len(n.keys(r.ID(), pawl.KindStep)), 2)
		}
		equal(t, "the worker", n.Working(), true)
		on.Store(false)
		for i := 3; i < runs; i += 10 {
			if _, err := n.Retry(n.ctx, pawl.Ref{ID: all[i].ID()}); err != nil {
				t.Fatal(err)
			}
			equal(t, "result", result(n, all[i]), 5*i)
		}
	})
}

// TestP5NothingIsStoredAfterWhatWasRefused: what other branches of the run have said since
// may stand on it.
func TestP5NothingIsStoredAfterWhatWasRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var on atomic.Bool
		on.Store(true)
		w := pawl.Define("spoilt", func(c *pawl.Context, _ none) (int, error) {
			var names []string
			for i := range 50 {
				names = append(names, fmt.Sprint("s", i))
			}
			names[0] = "bad"
			got, err := pawl.Map(c, "all", names, func(c *pawl.Context, name string) (int, error) {
				return pawl.Step(c, name, func(context.Context) (int, error) { return 1, nil })
			})
			return len(got), err
		})
		behind := spoilt(open(), &on)
		spoil := behind.before
		var refused, later atomic.Int64
		behind.before = func(b *pawl.Batch) error {
			for _, ch := range b.Changes {
				for _, e := range ch.Entries {
					if e.Kind == pawl.KindStep && refused.Load() > 0 {
						later.Add(1)
					}
					if strings.HasSuffix(e.Key, "bad") && len(b.Changes)+len(b.Sends)+len(b.Starts)+len(b.Orders) == 1 {
						refused.Add(1)
					}
				}
			}
			return spoil(b)
		}
		n := boot(t, behind, nil, w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Blocked)
		on.Store(false)
		equal(t, "entries after the one that was refused", later.Load(), 0)
		if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
			t.Fatal(err)
		}
		refused.Store(-1000)
		equal(t, "result", result(n, r), 50)
	})
}

// TestP5AJournalThatCannotBeReadBlocksItsRun: not for a while, and not with others.
func TestP5AJournalThatCannotBeReadBlocksItsRun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("asleep", func(c *pawl.Context, _ none) (string, error) {
			return pawl.WaitFor[string](c, "go")
		})
		store := open()
		n := boot(t, store, replays(), w)
		r := start(n, w, none{})
		info := n.reaches(r.ID(), pawl.Waiting)
		damaged := pawl.Entry{Seq: int64(len(n.journal(r.ID()))), Kind: pawl.KindOrder, Key: "$wake", At: info.Updated, Data: []byte("{")}
		worker, err := store.Join(t.Context(), pawl.WorkerInfo{Name: "vandal", Started: info.Updated}, info.Updated.Add(1e12))
		if err != nil {
			t.Fatal(err)
		}
		b := &pawl.Batch{Worker: worker, Now: info.Updated, Changes: []*pawl.Change{{Run: info.Key, Entries: []pawl.Entry{damaged}}}}
		if err := errors.Join(store.Commit(t.Context(), b), b.Changes[0].Err); err != nil {
			t.Fatal(err)
		}
		n.signal(r.ID(), "go", "on")
		if got := n.reaches(r.ID(), pawl.Blocked).Reason; !strings.Contains(got, fmt.Sprintf("entry %d", damaged.Seq)) {
			t.Errorf("the reason does not name the entry: %q", got)
		}
	})
}
