package pawl_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pawlrun/pawl"
)

// reading is a store that counts the bytes of data that it gave out of journals.
type reading struct {
	pawl.Store
	bytes, calls atomic.Int64
}

func (s *reading) Journal(ctx context.Context, run, after int64, limit int) ([]pawl.Entry, error) {
	return s.count(s.Store.Journal(ctx, run, after, limit))
}

func (s *reading) Index(ctx context.Context, run, after int64, limit, inline int) ([]pawl.Entry, error) {
	return s.count(s.Store.Index(ctx, run, after, limit, inline))
}

func (s *reading) count(page []pawl.Entry, err error) ([]pawl.Entry, error) {
	s.calls.Add(1)
	for i := range page {
		s.bytes.Add(int64(len(page[i].Data)))
	}
	return page, err
}

// TestP8AReplayReadsResultsAsItGetsToThem: of a journal that is longer than a page, a replay
// has no more in memory than a page or two, however much its steps have returned; and it
// reads nothing twice.
func TestP8AReplayReadsResultsAsItGetsToThem(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		const steps, size, page = 300, 64 << 10, 4 << 20
		var replaying atomic.Bool
		store := &reading{Store: open()}
		var most int64
		w := pawl.Define("large", func(c *pawl.Context, _ none) (int, error) {
			sum := 0
			for i := range steps {
				s, err := pawl.Step(c, "s", func(context.Context) (string, error) { return strings.Repeat("x", size+i), nil })
				if err != nil {
					return 0, err
				}
				if sum += len(s); replaying.Load() {
					most = max(most, store.bytes.Load()-int64(sum))
				}
			}
			if _, err := pawl.WaitFor[none](c, "go"); err != nil {
				return 0, err
			}
			return sum, nil
		})
		n := boot(t, store, replays(), w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		replaying.Store(true)
		store.bytes.Store(0)
		store.calls.Store(0)
		n.signal(r.ID(), "go", nil)
		total := steps*size + steps*(steps-1)/2
		equal(t, "result", result(n, r), total)
		if most > 2*page+1<<20 {
			t.Errorf("the replay had %d bytes in memory that it had not come to; a page has %d", most, page)
		}
		if got := store.bytes.Load(); got > int64(total)*5/4 {
			t.Errorf("%d bytes were read of a journal of %d", got, total)
		}
		t.Logf("at most %d of %d bytes ahead, %d bytes in %d reads", most, total, store.bytes.Load(), store.calls.Load())
	})
}

// TestP8ALongJournalRemembersAll: what a replay looks into as it finds out what there is,
// is found there too: orders, failed attempts, children.
func TestP8ALongJournalRemembersAll(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		long := strings.Repeat("y", 3000)
		child := pawl.Define("child", func(c *pawl.Context, n int) (string, error) {
			if n == 1 {
				_, err := pawl.WaitFor[none](c, "never")
				return "", err
			}
			return long + fmt.Sprint(n), nil
		})
		var bodies counts
		w := pawl.Define("parent", func(c *pawl.Context, _ none) (string, error) {
			for range 2100 {
				if _, err := pawl.Step(c, "fill", func(context.Context) (int, error) { return 1, nil }); err != nil {
					return "", err
				}
			}
			got, err := child.Call(c, 0)
			if err != nil {
				return "", err
			}
			left, err := child.Spawn(c, 1)
			if err != nil {
				return "", err
			}
			tries, err := pawl.Step(c, "tries", func(context.Context) (int, error) {
				n := bodies.add("tries")
				if n == 1 {
					return 0, fmt.Errorf("not yet: %s", long)
				}
				return n, nil
			})
			if err != nil {
				return "", err
			}
			if err := c.Sleep(1e15); err != nil {
				return "", err
			}
			event, err := pawl.WaitFor[string](c, "go")
			return fmt.Sprint(len(got), left.ID() != "", tries, len(event)), err
		})
		n := boot(t, open(), replays(), w, child)
		r := start(n, w, none{}, pawl.ID("parent"))
		n.reaches("parent", pawl.Waiting)
		n.until("the sleep", func() bool { return len(n.keys("parent", pawl.KindSleep)) == 1 })
		if _, err := n.Wake(n.ctx, pawl.Ref{ID: "parent"}, "", nil); err != nil {
			t.Fatal(err)
		}
		n.sees("parent", pawl.KindOrder, "$wake")
		n.reaches("parent", pawl.Waiting)
		n.signal("parent", "go", long)
		equal(t, "result", result(n, r), "3001 true 2 3000")
		equal(t, "bodies", bodies.get("tries"), 2)
		runs, err := n.List(n.ctx, pawl.Filter{Workflow: "child"})
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range runs {
			if info.State == pawl.Waiting {
				n.reaches(info.ID, pawl.Cancelled) // with its parent: it is remembered to be at work
			}
		}
	})
}
