package trigger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

var (
	quick = pawl.Define("quick", func(c *pawl.Context, in any) (string, error) { return c.RunID(), nil })
	slow  = pawl.Define("slow", func(c *pawl.Context, in any) (string, error) { return "", c.Sleep(140 * time.Second) })
)

// inBubble runs f in virtual time, which begins on a Saturday at midnight, on an engine that works.
func inBubble(t *testing.T, f func(t *testing.T, e *pawl.Engine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		e := client(t, s, quick, slow)
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- e.Run(ctx) }()
		defer func() {
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		f(t, e)
	})
}

// idle is inBubble with an engine that works none of the runs: a week passes at once.
func idle(t *testing.T, f func(t *testing.T, e *pawl.Engine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		f(t, client(t, s, quick, slow))
	})
}

// fire lets a Runner work for a while.
func fire(t *testing.T, e *pawl.Engine, d time.Duration) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), d)
	defer stop()
	if err := (&Runner{Engine: e}).Run(ctx); err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, e *pawl.Engine, s Schedule) Schedule {
	t.Helper()
	if s.ID == "" {
		s.ID = "s"
	}
	if s.Workflow == "" {
		s.Workflow = "quick"
	}
	s.Revision = AnyRevision
	s, err := Schedules{e}.Put(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ledger is what became of the slots of schedule s, oldest first: "00:01 started".
func ledger(t *testing.T, e *pawl.Engine) (out []string) {
	t.Helper()
	for cursor := ""; ; {
		page, next, err := Schedules{e}.Occurrences(t.Context(), "", "s", cursor, 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page {
			line := o.Slot.Format("15:04") + " " + string(o.Outcome)
			if o.Count > 0 {
				line += fmt.Sprint(" ", o.Count)
			}
			if o.Outcome == Started {
				if _, err := e.Get(t.Context(), pawl.Ref{ID: o.Run}); err != nil {
					t.Errorf("%s: %v", line, err)
				}
			} else if o.Reason == "" && o.Outcome != Starting {
				t.Errorf("%s without a reason", line)
			}
			out = append(out, line)
		}
		if cursor = next; cursor == "" {
			slices.Reverse(out)
			return out
		}
	}
}

func wantLedger(t *testing.T, e *pawl.Engine, want ...string) {
	t.Helper()
	if got := ledger(t, e); !slices.Equal(got, want) {
		t.Errorf("the ledger has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestSlotsAreFiredAtTheirTime(t *testing.T) {
	inBubble(t, func(t *testing.T, e *pawl.Engine) {
		put(t, e, Schedule{Cron: "*/2 * * * *", Attributes: map[string]string{"team": "ops"}, Input: json.RawMessage(`{"a": 1}`)})
		fire(t, e, 5*time.Minute)
		wantLedger(t, e, "00:02 started", "00:04 started")
		info, err := e.Get(t.Context(), pawl.Ref{ID: "s@2000-01-01T00:02:00Z"})
		if err != nil {
			t.Fatal(err)
		}
		if late := info.Created.Sub(time.Date(2000, 1, 1, 0, 2, 0, 0, time.UTC)); late < 0 || late > 50*time.Millisecond {
			t.Errorf("it was fired %v late", late)
		}
		if info.Attrs["schedule"] != "s" || info.Attrs["slot"] != "2000-01-01T00:02:00Z" || info.Attrs["team"] != "ops" || info.State != pawl.Completed {
			t.Errorf("%+v", info)
		}
	})
}

func TestEverySecondIsFired(t *testing.T) {
	inBubble(t, func(t *testing.T, e *pawl.Engine) {
		put(t, e, Schedule{Every: time.Second, Overlap: Allow})
		fire(t, e, 30*time.Second+time.Millisecond)
		if got := ledger(t, e); len(got) != 30 {
			t.Errorf("%d slots in 30 s: %v", len(got), got)
		}
	})
}

func TestJ49_overlaps(t *testing.T) { // each run takes 140 s, and a slot comes each 60: none ends as a slot comes
	for overlap, want := range map[Overlap][]string{
		Skip:      {"00:01 started", "00:02 skipped", "00:03 skipped", "00:04 started", "00:05 skipped", "00:06 skipped"},
		BufferOne: {"00:01 started", "00:02 started", "00:03 skipped", "00:04 started", "00:05 skipped", "00:06 buffered"},
		BufferAll: {"00:01 started", "00:02 started", "00:03 started", "00:04 buffered", "00:05 buffered", "00:06 buffered"},
		CancelOld: {"00:01 started", "00:02 started", "00:03 started", "00:04 started", "00:05 started", "00:06 started"},
		Allow:     {"00:01 started", "00:02 started", "00:03 started", "00:04 started", "00:05 started", "00:06 started"},
	} {
		t.Run(string(overlap), func(t *testing.T) {
			inBubble(t, func(t *testing.T, e *pawl.Engine) {
				put(t, e, Schedule{Workflow: "slow", Cron: "* * * * *", Overlap: overlap})
				fire(t, e, 6*time.Minute+10*time.Second)
				wantLedger(t, e, want...)
				stats, err := e.Stats(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				cancelled, live := stats.Runs[pawl.Cancelled], stats.Runs[pawl.Waiting]+stats.Runs[pawl.Running]
				if (overlap == CancelOld) != (cancelled == 5) || overlap != Allow && live != 1 || overlap == Allow && live != 3 {
					t.Errorf("%v runs", stats.Runs)
				}
			})
		})
	}
}

func TestJ49_N20_catchUpAfterAWeek(t *testing.T) {
	for _, c := range []struct {
		catchUp CatchUp
		max     int
		window  time.Duration
		want    []string
	}{
		{"", 0, 0, []string{"01:00 skipped 167", "00:00 started", "01:00 started"}},
		{CatchUpNone, 0, 0, []string{"01:00 skipped 168", "01:00 started"}},
		{CatchUpAll, 3, 0, []string{"01:00 skipped 165", "22:00 started", "23:00 started", "00:00 started", "01:00 started"}},
		{CatchUpAll, 0, 90 * time.Minute, []string{"01:00 skipped 166", "23:00 started", "00:00 started", "01:00 started"}},
	} {
		idle(t, func(t *testing.T, e *pawl.Engine) {
			put(t, e, Schedule{Cron: "@hourly", Overlap: Allow, CatchUp: c.catchUp, CatchUpMax: c.max, CatchUpWindow: c.window})
			time.Sleep(7*24*time.Hour + 10*time.Minute) // nobody there; virtual
			fire(t, e, time.Hour)
			wantLedger(t, e, c.want...)
		})
	}
}

func TestManySlotsThatWereMissed(t *testing.T) {
	idle(t, func(t *testing.T, e *pawl.Engine) {
		put(t, e, Schedule{Every: time.Second, Overlap: Allow, CatchUp: CatchUpAll, CatchUpMax: 5})
		time.Sleep(3 * 24 * time.Hour) // 259,200 slots: more than one turn walks
		fire(t, e, 500*time.Millisecond)
		started, skipped := 0, 0
		for _, line := range ledger(t, e) {
			var at, what string
			n := 1
			_, _ = fmt.Sscan(line, &at, &what, &n)
			if what == "started" {
				started += n
			} else {
				skipped += n
			}
		}
		if started != 5+61 || started+skipped != 259_200 { // those of the last minute are on time
			t.Errorf("%d started, %d skipped", started, skipped)
		}
	})
}

func TestJitterIsTheSlots(t *testing.T) {
	s := Schedule{ID: "s", Cron: "@hourly", Jitter: time.Minute}
	next, err := s.timer()
	if err != nil {
		t.Fatal(err)
	}
	slot := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	seen := map[time.Duration]bool{}
	for i := range 50 {
		at := slot.Add(time.Duration(i) * time.Hour)
		d := s.due(at, next).Sub(at)
		if d < 0 || d >= time.Minute || d != s.due(at, next).Sub(at) {
			t.Errorf("jitter %v", d)
		}
		seen[d.Truncate(time.Second)] = true
	}
	if len(seen) < 20 {
		t.Errorf("50 slots are delayed by %d different seconds", len(seen))
	}
	inBubble(t, func(t *testing.T, e *pawl.Engine) {
		s := put(t, e, Schedule{Cron: "@hourly", Jitter: 30 * time.Minute})
		due := s.due(s.Next, next)
		fire(t, e, time.Until(due)-time.Millisecond)
		wantLedger(t, e)
		fire(t, e, 100*time.Millisecond)
		wantLedger(t, e, "01:00 started")
	})
}

// A jitter that is longer than the time between two slots loses none: each comes before the next.
func TestJitterLeavesEachSlotItsTurn(t *testing.T) {
	inBubble(t, func(t *testing.T, e *pawl.Engine) {
		put(t, e, Schedule{Cron: "* * * * *", Jitter: 10 * time.Minute, Overlap: Allow})
		fire(t, e, 30*time.Minute)
		started := 0
		for _, line := range ledger(t, e) {
			if !strings.HasSuffix(line, " started") {
				t.Errorf("with a Runner that is there: %s", line)
			}
			started++
		}
		if started < 29 { // the last may be still to come
			t.Errorf("%d of 30 slots were started", started)
		}
	})
	inBubble(t, func(t *testing.T, e *pawl.Engine) { // the last slot of all has all of it
		at := time.Now().Add(time.Minute)
		s := put(t, e, Schedule{At: at, Jitter: 20 * time.Minute})
		fire(t, e, time.Until(s.due(s.Next, func(time.Time) time.Time { return time.Time{} }))+time.Second)
		wantLedger(t, e, s.Next.Format("15:04")+" started")
	})
}

func TestPauseResumeTriggerBackfill(t *testing.T) {
	inBubble(t, func(t *testing.T, e *pawl.Engine) {
		s := Schedules{e}
		put(t, e, Schedule{Cron: "@hourly"})
		if _, err := s.Pause(t.Context(), "", "s", "the bank is closed"); err != nil {
			t.Fatal(err)
		}
		fire(t, e, 150*time.Minute)
		wantLedger(t, e)
		o, err := s.Trigger(t.Context(), "", "s", TriggerOptions{Once: "x"})
		if err != nil || o.Outcome != Started {
			t.Fatalf("%+v, %v", o, err)
		}
		again, err := s.Trigger(t.Context(), "", "s", TriggerOptions{Once: "x"})
		if err != nil || again != o {
			t.Errorf("the same request again: %+v, %v; want %+v", again, err, o)
		}
		got, err := s.Resume(t.Context(), "", "s")
		if err != nil || got.Paused || got.Next.Hour() != 3 {
			t.Fatalf("%+v, %v", got, err)
		}
		wantLedger(t, e, "01:00 skipped", "02:00 skipped", "02:30 started")
		now := time.Now()
		if n, err := s.Backfill(t.Context(), "", "s", now.Add(-3*time.Hour), now, ""); err != nil || n != 3 {
			t.Errorf("backfill: %d, %v", n, err) // midnight too: a backfill asks the times, not when it was made
		}
		if _, err := s.Backfill(t.Context(), "", "s", now, now.Add(time.Hour), ""); !errors.Is(err, pawl.ErrInput) {
			t.Errorf("a backfill of the future: %v", err)
		}
		fire(t, e, time.Hour)
		wantLedger(t, e, "00:00 started", "01:00 started", "01:00 skipped", "02:00 started", "02:00 skipped", "02:30 started", "03:00 started")
		if n, err := s.Backfill(t.Context(), "", "s", time.Now().Add(-2*time.Hour), time.Now(), Allow); err != nil || n != 2 {
			t.Errorf("backfill: %d, %v", n, err)
		}
		fire(t, e, time.Minute)
		if stats, _ := e.Stats(t.Context()); stats.Runs[pawl.Completed] != 5 {
			t.Errorf("%v runs, want 5: what ran does not run again", stats.Runs)
		}
		if err := s.Delete(t.Context(), "", "s"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(t.Context(), "", "s"); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("a deleted one: %v", err)
		}
		before := ledger(t, e)
		fire(t, e, 3*time.Hour)
		wantLedger(t, e, before...)
	})
}

func TestPutAndRevisions(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		e := client(t, open(), quick)
		s := Schedules{e}
		one, err := s.Put(t.Context(), Schedule{ID: "a", Tenant: "acme", Workflow: "quick", Cron: "@daily"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(t.Context(), Schedule{ID: "a", Tenant: "acme", Workflow: "quick", Cron: "@daily"}); !errors.Is(err, pawl.ErrConflict) {
			t.Errorf("a new one that is there: %v", err)
		}
		two, err := s.Put(t.Context(), Schedule{ID: "a", Tenant: "acme", Workflow: "quick", Cron: "@weekly", Revision: one.Revision})
		if err != nil || two.Revision == one.Revision || two.Created != one.Created {
			t.Errorf("%+v, %v", two, err)
		}
		var stale *RevisionError
		if _, err := s.Put(t.Context(), one); !errors.As(err, &stale) || stale.Have != two.Revision {
			t.Errorf("an old revision: %v", err)
		}
		two.Revision = AnyRevision
		same, err := s.Put(t.Context(), two)
		if err != nil || same.Revision == AnyRevision || !same.Updated.Equal(two.Updated) {
			t.Errorf("the same again: %+v, %v", same, err)
		}
		got, err := s.Get(t.Context(), "acme", "a")
		if err != nil || got.Cron != "@weekly" || got.Revision != same.Revision {
			t.Errorf("%+v, %v", got, err)
		}
		for _, tenant := range []string{"", "other"} {
			if _, err := s.Get(t.Context(), tenant, "a"); !errors.Is(err, pawl.ErrNotFound) {
				t.Errorf("tenant %q sees it: %v", tenant, err)
			}
			if list, err := s.List(t.Context(), tenant, "", "", 0); err != nil || len(list) != 0 {
				t.Errorf("tenant %q lists %v, %v", tenant, list, err)
			}
		}
		if list, err := s.List(t.Context(), "acme", "", "", 0); err != nil || len(list) != 1 {
			t.Errorf("%v, %v", list, err)
		}
		for name, bad := range map[string]Schedule{
			"no id":      {Workflow: "w", Cron: "@daily"},
			"id":         {ID: "a/b", Workflow: "w", Cron: "@daily"},
			"no time":    {ID: "a", Workflow: "w"},
			"two times":  {ID: "a", Workflow: "w", Cron: "@daily", Every: time.Hour},
			"cron":       {ID: "a", Workflow: "w", Cron: "0 0 31 2 *"},
			"zone":       {ID: "a", Workflow: "w", Cron: "@daily", Zone: "Mars"},
			"overlap":    {ID: "a", Workflow: "w", Cron: "@daily", Overlap: "queue"},
			"past":       {ID: "b", Workflow: "w", At: time.Now().Add(-time.Hour)},
			"over":       {ID: "b", Workflow: "w", Cron: "@daily", End: time.Now().Add(-time.Hour)},
			"input":      {ID: "b", Workflow: "w", Cron: "@daily", Input: json.RawMessage("{")},
			"attribute":  {ID: "b", Workflow: "w", Cron: "@daily", Attributes: map[string]string{"slot": "x"}},
			"workflow":   {ID: "b", Cron: "@daily"},
			"half every": {ID: "b", Workflow: "w", Every: 1500 * time.Millisecond},
		} {
			bad.Revision = AnyRevision
			if _, err := s.Put(t.Context(), bad); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestJ43_N20_threeNodesFireEachSlotOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var engines []*pawl.Engine
		for range 3 {
			engines = append(engines, client(t, open(), quick))
		}
		e := engines[0]
		const schedules = 10
		for i := range schedules {
			put(t, e, Schedule{ID: fmt.Sprint("s", i), Every: time.Second, Overlap: Allow})
		}
		ctx, stop := context.WithTimeout(t.Context(), 4*time.Second)
		defer stop()
		var nodes sync.WaitGroup
		for _, e := range engines {
			nodes.Go(func() {
				if err := (&Runner{Engine: e}).Run(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		nodes.Wait()
		runs, err := e.List(t.Context(), pawl.Filter{Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		lines := 0
		for i := range schedules {
			page, _, err := Schedules{e}.Occurrences(t.Context(), "", fmt.Sprint("s", i), "", 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range page {
				if o.Outcome == Started {
					lines++
				} else if o.Outcome != Starting {
					t.Errorf("%+v", o)
				}
			}
			if len(page) < 2 {
				t.Errorf("schedule %d was fired %d times", i, len(page))
			}
		}
		if len(runs) < lines || len(runs) > lines+3*atOnce { // those under way when ctx ended
			t.Errorf("%d runs and %d lines", len(runs), lines)
		}
	})
}

// dying is a store that its process loses: from the write on that fatal names, nothing goes through.
type dying struct {
	pawl.Store
	fatal func(*pawl.Batch) bool
	after bool // the write is there, but nobody hears of it
	mu    sync.Mutex
	dead  bool
}

var errDied = errors.New("the process died")

func (d *dying) Commit(ctx context.Context, b *pawl.Batch) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errDied
	}
	if d.dead = d.fatal(b); d.dead && !d.after {
		return errDied
	}
	err := d.Store.Commit(ctx, b)
	if d.dead {
		return errDied
	}
	return err
}

func TestACrashAnywhereLosesAndDoublesNothing(t *testing.T) {
	for point := range 3 { // the decision, the start, the ledger
		for _, after := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s, err := sqlite.Open(sqlite.Memory, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				put(t, client(t, s, quick), Schedule{Cron: "@hourly"})
				n := 0
				d := &dying{Store: s, after: after, fatal: func(*pawl.Batch) bool { n++; return n == point+1 }}
				fire(t, client(t, d, quick), time.Hour+time.Second)
				if !d.dead {
					t.Fatal("it did not die")
				}
				e := client(t, s, quick)
				fire(t, e, 30*time.Second)
				wantLedger(t, e, "01:00 started")
				if runs, err := e.List(t.Context(), pawl.Filter{}); err != nil || len(runs) != 1 {
					t.Errorf("death %d (after: %v): runs %v, %v", point, after, runs, err)
				}
			})
		}
	}
}

func TestAStartThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		stranger := client(t, s)
		put(t, stranger, Schedule{Cron: "0 * * * *", Overlap: Allow})
		fire(t, stranger, time.Hour+30*time.Second)
		wantLedger(t, stranger) // others may know the workflow
		fire(t, stranger, time.Minute)
		wantLedger(t, stranger, "01:00 retrying")
		page, _, _ := Schedules{stranger}.Occurrences(t.Context(), "", "s", "", 0)
		if !strings.Contains(page[0].Reason, "workflow quick") {
			t.Errorf("%+v", page[0])
		}
		e := client(t, s, quick)
		fire(t, e, time.Minute)
		wantLedger(t, e, "01:00 started")
	})
}

func TestInputThatIsRefusedFailsAtOnce(t *testing.T) {
	strict := pawl.Define("strict", func(c *pawl.Context, in struct{ A int }) (int, error) { return in.A, nil })
	synctest.Test(t, func(t *testing.T) {
		s, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		e := client(t, s, strict)
		put(t, e, Schedule{Workflow: "strict", Cron: "@hourly", Input: json.RawMessage(`{"B": 1}`)})
		fire(t, e, time.Hour+time.Minute)
		wantLedger(t, e, "01:00 failed")
	})
}

// A slot whose run can't be started is told of in the log: nobody else was there to see it.
func TestASlotThatFailsIsLogged(t *testing.T) {
	strict := pawl.Define("strict", func(c *pawl.Context, in struct{ A int }) (int, error) { return in.A, nil })
	synctest.Test(t, func(t *testing.T) {
		s, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		e := client(t, s, strict)
		put(t, e, Schedule{Workflow: "strict", Cron: "@hourly", Input: json.RawMessage(`{"B": 1}`)})
		var log logBuffer
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour+time.Minute)
		defer cancel()
		if err := (&Runner{Engine: e, Logger: slog.New(slog.NewTextHandler(&log, nil))}).Run(ctx); err != nil {
			t.Fatal(err)
		}
		if log.count("schedule=s ") != 1 || log.count("outcome=failed") != 1 || log.count(`unknown field`) != 1 {
			t.Errorf("the log says: %s", log.buf.String())
		}
	})
}
