package trigger

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

// gated waits for "end"; told "on" in place of it, it goes on as another run.
var gated = pawl.Define("gated", func(c *pawl.Context, in any) (string, error) {
	what, err := pawl.WaitFor[string](c, "what")
	if err == nil && what == "on" {
		return "", pawl.ContinueAs(c, in)
	}
	return what, err
})

// writes counts the commits that write records.
type writes struct {
	pawl.Store
	n atomic.Int64
}

func (w *writes) Commit(ctx context.Context, b *pawl.Batch) error {
	if len(b.Writes) > 0 {
		w.n.Add(1)
	}
	return w.Store.Commit(ctx, b)
}

// A slot that waits for a run starts right after its end, and costs no write until then.
func TestABufferedSlotStartsWhenTheRunBeforeItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		counted := &writes{Store: s}
		e := client(t, counted, gated)
		defer background(t, e.Run)()
		put(t, e, Schedule{Workflow: "gated", Every: time.Hour, Overlap: BufferAll, CatchUp: CatchUpNone})
		defer background(t, (&Runner{Engine: e}).Run)()
		time.Sleep(time.Until(time.Now().Truncate(time.Hour).Add(2*time.Hour + time.Minute))) // two slots
		wantLedger(t, e, "01:00 started", "02:00 buffered")
		before := counted.n.Load()
		time.Sleep(50 * time.Minute)
		if n := counted.n.Load() - before; n != 0 {
			t.Errorf("50 minutes of waiting cost %d writes", n)
		}
		for i, slot := range []string{"2000-01-01T01:00:00Z", "2000-01-01T02:00:00Z"} {
			if err := e.Signal(t.Context(), "s@"+slot, "what", "end"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond)
			if i == 1 {
				break
			}
			first, err1 := e.Get(t.Context(), pawl.Ref{ID: "s@" + slot})
			second, err2 := e.Get(t.Context(), pawl.Ref{ID: "s@2000-01-01T02:00:00Z"})
			if err1 != nil || err2 != nil || first.State != pawl.Completed {
				t.Fatalf("200 ms after the end of %s (%v, %v), of the next: %v", slot, first.State, err1, err2)
			}
			t.Logf("it started %v after the end of the one before", second.Created.Sub(first.Ended))
		}
		time.Sleep(10 * time.Minute) // the next slot comes while nothing is in its way
		wantLedger(t, e, "01:00 started", "02:00 started", "03:00 started")
		time.Sleep(time.Hour) // a slot that comes while another waits is on time too
		wantLedger(t, e, "01:00 started", "02:00 started", "03:00 started", "04:00 buffered")
	})
}

// The same on both stores, of runs that go on as others: those have not ended.
func TestARunThatGoesOnAsAnotherIsInTheWay(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		e := client(t, open(), gated)
		background(t, e.Run)
		background(t, (&Runner{Engine: client(t, open(), gated)}).Run)
		schedules := Schedules{e}
		trigger := func(id string, overlap Overlap) Occurrence {
			t.Helper()
			o, err := schedules.Trigger(t.Context(), "", id, TriggerOptions{Overlap: overlap})
			if err != nil {
				t.Fatal(err)
			}
			return o
		}
		for _, overlap := range []Overlap{Skip, BufferOne, BufferAll, CancelOld} {
			id := "s-" + string(overlap)
			put(t, e, Schedule{ID: id, Workflow: "gated", Every: 24 * time.Hour})
			first := trigger(id, overlap)
			if first.Outcome != Started && first.Outcome != Starting { // the Runner may be faster
				t.Fatalf("%+v", first)
			}
			eventually(t, "the first run is there", func() bool {
				_, err := e.Get(t.Context(), pawl.Ref{ID: first.Run})
				return err == nil
			})
			if err := e.Signal(t.Context(), first.Run, "what", "on"); err != nil {
				t.Fatal(err)
			}
			next := ""
			eventually(t, "it goes on", func() bool {
				info, err := e.Get(t.Context(), pawl.Ref{ID: first.Run})
				next = info.Next
				return err == nil && next != ""
			})
			second := trigger(id, overlap)
			switch overlap {
			case Skip:
				if second.Outcome != Skipped || !strings.Contains(second.Reason, next) {
					t.Errorf("skip: %+v; want one that names run %s", second, next)
				}
			case CancelOld:
				eventually(t, "the run that went on is cancelled, and the slot started", func() bool {
					old, err1 := e.Get(t.Context(), pawl.Ref{ID: next})
					_, err2 := e.Get(t.Context(), pawl.Ref{ID: second.Run})
					return err1 == nil && err2 == nil && old.State == pawl.Cancelled
				})
			default:
				if second.Outcome != Buffered || !strings.Contains(second.Reason, next) {
					t.Errorf("%s: %+v; want one that waits for run %s", overlap, second, next)
				}
				if err := e.Signal(t.Context(), next, "what", "on"); err != nil { // and once more
					t.Fatal(err)
				}
				eventually(t, "it goes on again", func() bool {
					info, err := e.Get(t.Context(), pawl.Ref{ID: next})
					if err == nil && info.Next != "" {
						next = info.Next
						return true
					}
					return false
				})
				if _, err := e.Get(t.Context(), pawl.Ref{ID: second.Run}); err == nil {
					t.Errorf("%s: it was started while run %s goes on", overlap, next)
				}
				if err := e.Signal(t.Context(), next, "what", "end"); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the slot starts", func() bool {
					_, err := e.Get(t.Context(), pawl.Ref{ID: second.Run})
					return err == nil
				})
				last, err1 := e.Get(t.Context(), pawl.Ref{ID: next})
				started, err2 := e.Get(t.Context(), pawl.Ref{ID: second.Run})
				if err1 != nil || err2 != nil || started.Created.Before(last.Ended) {
					t.Errorf("%s: it was started before run %s had ended: %v, %v", overlap, next, err1, err2)
				}
				t.Logf("%s: it started %v after the end of the run before", overlap, started.Created.Sub(last.Ended))
			}
		}
	})
}
