package trigger

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

// The slots at Start and at End are its slots, those before and after are not.
func TestStartAndEndBelongToASchedule(t *testing.T) {
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	s := Schedule{Cron: "@hourly", Start: day.Add(3 * time.Hour), End: day.Add(5 * time.Hour)}
	got, err := s.Slots(day, 10)
	if err != nil || len(got) != 3 || !got[0].Equal(s.Start) || !got[2].Equal(s.End) {
		t.Errorf("%v, %v; want 03:00, 04:00 and 05:00", got, err)
	}
}

// Whatever changes when a schedule comes changes what comes next, and nothing else does.
func TestNewTimesCountFromTheChange(t *testing.T) {
	idle(t, func(t *testing.T, e *pawl.Engine) {
		// Clocks in New York go back at 06:00: it is 01:45 there, for the first time.
		time.Sleep(time.Until(time.Date(2000, 10, 29, 5, 45, 0, 0, time.UTC)))
		first := Schedule{Cron: "30 1 * * *", Zone: "America/New_York"}
		next := func(s Schedule) string { return put(t, e, s).Next.Format("01-02T15:04") }
		if got := next(first); got != "10-30T06:30" {
			t.Fatalf("%s", got)
		}
		for _, c := range []struct {
			what   string
			change func(*Schedule)
			want   string
		}{
			{"fold", func(s *Schedule) { s.Fold = FoldTwice }, "10-29T06:30"},
			{"zone", func(s *Schedule) { s.Zone = "Europe/Berlin" }, "10-30T00:30"},
			{"cron", func(s *Schedule) { s.Cron = "50 1 * * *" }, "10-29T05:50"},
			{"start", func(s *Schedule) { s.Start = time.Date(2000, 11, 5, 0, 0, 0, 0, time.UTC) }, "11-05T06:30"},
		} {
			s := first
			c.change(&s)
			if got := next(s); got != c.want {
				t.Errorf("another %s: next %s, want %s", c.what, got, c.want)
			}
			if got := next(first); got != "10-30T06:30" {
				t.Errorf("%s as it was: next %s", c.what, got)
			}
		}
		time.Sleep(time.Until(time.Date(2001, 3, 31, 12, 0, 0, 0, time.UTC))) // on April 1 clocks go from 02:00 to 03:00
		gap := Schedule{ID: "gap", Cron: "30 2 * * *", Zone: "America/New_York"}
		if got := next(gap); got != "04-01T07:00" {
			t.Errorf("%s", got)
		}
		gap.Gap = GapSkip
		if got := next(gap); got != "04-02T06:30" {
			t.Errorf("another gap: next %s", got)
		}
		gap.Input = json.RawMessage(`1`)
		time.Sleep(48 * time.Hour)
		if got := next(gap); got != "04-02T06:30" {
			t.Errorf("another input: next %s, and the slot that nobody has fired is lost", got)
		}
	})
}

// refusing is a store that takes no new run.
type refusing struct{ pawl.Store }

func (r refusing) Commit(ctx context.Context, b *pawl.Batch) error {
	if len(b.Starts) > 0 {
		return errors.New("the disk is full")
	}
	return r.Store.Commit(ctx, b)
}

// A start that fails, or whose workflow nobody knows, is tried for a day, and then the ledger says that it was given up.
func TestAStartIsGivenUpAfterADay(t *testing.T) {
	for name, c := range map[string]struct {
		defs []pawl.Definition
		why  string
	}{
		"fails":   {[]pawl.Definition{quick}, "the disk is full"},
		"unknown": {nil, "no node has registered workflow quick"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, err := sqlite.Open(sqlite.Memory, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				e := client(t, refusing{s}, c.defs...)
				put(t, e, Schedule{At: time.Now().Add(time.Hour)})
				line := func() Occurrence {
					page, _, err := Schedules{e}.Occurrences(t.Context(), "", "s", "", 0)
					if err != nil || len(page) != 1 {
						t.Fatalf("%+v, %v", page, err)
					}
					return page[0]
				}
				work := func(d time.Duration) {
					ctx, stop := context.WithTimeout(t.Context(), d)
					defer stop()
					if err := (&Runner{Engine: e, Logger: slog.New(slog.DiscardHandler)}).Run(ctx); err != nil {
						t.Fatal(err)
					}
				}
				work(time.Hour + 10*time.Minute)
				time.Sleep(22 * time.Hour) // nobody is there: a day of attempts would prove no more
				work(90 * time.Second)
				if o := line(); o.Outcome != Retrying || !strings.Contains(o.Reason, c.why) {
					t.Errorf("for a day: %+v", o)
				}
				time.Sleep(2 * time.Hour)
				work(5 * time.Minute)
				if o := line(); o.Outcome != Failed || !strings.Contains(o.Reason, "given up after") || !strings.Contains(o.Reason, c.why) {
					t.Errorf("after a day: %+v", o)
				}
				if got, err := (Schedules{e}).Get(t.Context(), "", "s"); err != nil || got.Waiting != 0 {
					t.Errorf("%+v, %v", got, err)
				}
			})
		})
	}
}

// What was asked for by hand waits for the run before it, once for each request, goes on when the schedule
// is paused, and goes with it when that is deleted.
func TestWhatWasAskedForByHandWhileARunIsThere(t *testing.T) {
	inBubble(t, func(t *testing.T, e *pawl.Engine) {
		s := Schedules{e}
		put(t, e, Schedule{Workflow: "slow", Cron: "0 * * * *", Overlap: BufferAll})
		trigger := func(once string) Occurrence {
			t.Helper()
			o, err := s.Trigger(t.Context(), "", "s", TriggerOptions{Once: once})
			if err != nil {
				t.Fatal(err)
			}
			return o
		}
		waiting := func(want int) {
			t.Helper()
			if got, err := s.Get(t.Context(), "", "s"); err != nil || got.Waiting != want {
				t.Errorf("%d wait, want %d: %v", got.Waiting, want, err)
			}
		}
		if o := trigger("a"); o.Outcome != Started {
			t.Fatalf("%+v", o)
		}
		time.Sleep(time.Second)
		b := trigger("b")
		if b.Outcome != Buffered {
			t.Fatalf("%+v", b)
		}
		time.Sleep(time.Second)
		if again := trigger("b"); again.Run != b.Run || !again.Slot.Equal(b.Slot) || again.Outcome != Buffered {
			t.Errorf("the same request while it waits: %+v, want %+v", again, b)
		}
		waiting(1)
		if _, err := s.Pause(t.Context(), "", "s", "closed"); err != nil {
			t.Fatal(err)
		}
		waiting(1)
		fire(t, e, 5*time.Minute)
		if info, err := e.Get(t.Context(), pawl.Ref{ID: b.Run}); err != nil || info.State != pawl.Completed {
			t.Errorf("asked for by hand, before the pause: %v, %v", info.State, err)
		}
		got, err := s.Resume(t.Context(), "", "s")
		if err != nil || got.Paused || got.Reason != "" {
			t.Errorf("resumed: %+v, %v", got, err)
		}
		c := trigger("c")
		d := trigger("d")
		if c.Outcome != Started || d.Outcome != Buffered {
			t.Fatalf("%+v, %+v", c, d)
		}
		if err := s.Delete(t.Context(), "", "s"); err != nil {
			t.Fatal(err)
		}
		fire(t, e, 10*time.Minute)
		if _, err := e.Get(t.Context(), pawl.Ref{ID: d.Run}); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("it was started for a schedule that was deleted: %v", err)
		}
		page, _, err := s.Occurrences(t.Context(), "", "s", "", 1)
		if err != nil || len(page) != 1 || page[0].Run != d.Run || page[0].Outcome != Skipped || !strings.Contains(page[0].Reason, "deleted") {
			t.Errorf("%+v, %v", page, err)
		}
	})
}

// A run that has the id of a slot and is another's is not taken for the schedule's, nor is one that holds the
// workflow's singleton key.
func TestAnothersRunIsNotTheSlots(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		single := pawl.Define("single", func(c *pawl.Context, in any) (string, error) { return pawl.WaitFor[string](c, "go") },
			pawl.Singleton(func(json.RawMessage) (string, error) { return "one", nil }))
		e := client(t, open(), quick, single)
		s := Schedules{e}
		at := time.Now().Add(-3 * time.Minute).Truncate(time.Minute).UTC()
		for _, id := range []string{"taken", "single"} {
			sch := Schedule{ID: id, Workflow: "quick", Cron: "* * * * *"}
			if id == "single" {
				sch.Workflow = "single"
			}
			put(t, e, sch)
		}
		if _, err := e.StartRun(t.Context(), "quick", json.RawMessage(`"mine"`), pawl.ID("taken@"+slotText(at))); err != nil {
			t.Fatal(err)
		}
		if _, err := e.StartRun(t.Context(), "single", nil, pawl.ID("first")); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"taken", "single"} {
			if n, err := s.Backfill(t.Context(), "", id, at, at.Add(time.Second), Allow); err != nil || n != 1 {
				t.Fatal(n, err)
			}
		}
		background(t, (&Runner{Engine: e, Poll: 50 * time.Millisecond}).Run)
		for id, want := range map[string]string{"taken": "failed that run is none of this schedule", "single": "skipped run first holds the singleton key"} {
			outcome, why, _ := strings.Cut(want, " ")
			eventually(t, id, func() bool {
				o, err := e.Record(t.Context(), occurrenceSpace, occurrenceKey(id, at, ByBackfill))
				if errors.Is(err, pawl.ErrNotFound) {
					return false
				}
				if err != nil {
					t.Fatal(err)
				}
				var line Occurrence
				if err := json.Unmarshal(o.Data, &line); err != nil {
					t.Fatal(err)
				}
				if line.Outcome == Starting || line.Outcome == "" {
					return false
				}
				if string(line.Outcome) != outcome || !strings.Contains(line.Reason, why) {
					t.Fatalf("%+v, want %s", line, want)
				}
				return true
			})
		}
	})
}

// A run of a slot has what its schedule says: tenant, priority, budget, attributes and input.
func TestARunHasWhatItsScheduleSays(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		e := client(t, open(), quick)
		put(t, e, Schedule{Tenant: "acme", Workflow: "quick", Cron: "@hourly", Priority: 7, BudgetUSD: 1.5, Input: json.RawMessage(`{"a":[1,2]}`), Attributes: map[string]string{"team": "ops"}})
		o, err := Schedules{e}.Trigger(t.Context(), "acme", "s", TriggerOptions{})
		if err != nil || o.Outcome != Started {
			t.Fatalf("%+v, %v", o, err)
		}
		ref := pawl.Ref{Tenant: "acme", ID: o.Run}
		info, err := e.Get(t.Context(), ref)
		if err != nil || info.Tenant != "acme" || info.Priority != 7 || info.Attrs["team"] != "ops" || info.Attrs[ScheduleAttribute] != "s" || info.Attrs[SlotAttribute] != slotText(o.Slot) {
			t.Errorf("%+v, %v", info, err)
		}
		budgets, err := e.Budgets(t.Context(), pawl.BudgetFilter{Tenant: "acme"})
		if err != nil || len(budgets) != 1 || budgets[0].Name != pawl.RunBudgetName(o.Run, pawl.USD) || budgets[0].Limit != 1_500_000 {
			t.Errorf("%+v, %v", budgets, err)
		}
		if runs, err := e.List(t.Context(), pawl.Filter{}); err != nil || len(runs) != 0 {
			t.Errorf("%d runs of the default tenant, %v", len(runs), err)
		}
	})
}

// At most a thousand slots wait. A backfill that has more is refused as a whole, and a slot that comes to them is skipped.
func TestAThousandSlotsWait(t *testing.T) {
	idle(t, func(t *testing.T, e *pawl.Engine) {
		s := Schedules{e}
		put(t, e, Schedule{Every: time.Second, Overlap: BufferAll, Start: time.Now().Add(2 * time.Hour)})
		put(t, e, Schedule{Every: time.Second, Overlap: BufferAll})
		time.Sleep(time.Hour)
		if _, err := s.Pause(t.Context(), "", "s", "for now"); err != nil {
			t.Fatal(err)
		}
		end := time.Now().Truncate(time.Second)
		if n, err := s.Backfill(t.Context(), "", "s", end.Add(-1001*time.Second), end, BufferAll); !errors.Is(err, pawl.ErrInput) || n != 0 {
			t.Errorf("1001: %d, %v", n, err)
		}
		if got, err := s.Get(t.Context(), "", "s"); err != nil || got.Waiting != 0 {
			t.Errorf("%d of a backfill that was refused wait, %v", got.Waiting, err)
		}
		if n, err := s.Backfill(t.Context(), "", "s", end.Add(-1000*time.Second), end, BufferAll); err != nil || n != 1000 {
			t.Errorf("1000: %d, %v", n, err)
		}
		if _, err := s.Backfill(t.Context(), "", "s", end.Add(-2000*time.Second), end.Add(-1999*time.Second), BufferAll); !errors.Is(err, pawl.ErrInput) {
			t.Errorf("one more: %v", err)
		}
		o, err := s.Trigger(t.Context(), "", "s", TriggerOptions{})
		if err != nil || o.Outcome != Skipped || !strings.Contains(o.Reason, "1000 slots wait already") {
			t.Errorf("by hand: %+v, %v", o, err)
		}
	})
}

// What people have done to a schedule stays when the program that declares it starts again: a pause, and that a
// schedule for one time has been.
func TestASetLeavesWhatPeopleHaveDone(t *testing.T) {
	idle(t, func(t *testing.T, e *pawl.Engine) {
		at := time.Now().Add(time.Hour)
		sync := func(input string) {
			t.Helper()
			set := NewSet(e)
			for _, s := range []Schedule{{ID: "s", Workflow: "quick", Cron: "@daily", Input: json.RawMessage(input)}, {ID: "once", Workflow: "quick", At: at, Input: json.RawMessage(input)}} {
				if err := set.OnSchedule(s); err != nil {
					t.Fatal(err)
				}
			}
			if err := set.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		sync("1")
		s := Schedules{e}
		if _, err := s.Pause(t.Context(), "", "s", "holidays"); err != nil {
			t.Fatal(err)
		}
		fire(t, e, 2*time.Hour)
		for _, input := range []string{"1", "2"} {
			sync(input)
			if got, err := s.Get(t.Context(), "", "s"); err != nil || !got.Paused || got.Reason != "holidays" || string(got.Input) != input {
				t.Errorf("with input %s: %+v, %v", input, got, err)
			}
			if got, err := s.Get(t.Context(), "", "once"); err != nil || !got.Next.IsZero() {
				t.Errorf("with input %s: %+v, %v", input, got, err)
			}
		}
		fire(t, e, time.Hour)
		if runs, err := e.List(t.Context(), pawl.Filter{}); err != nil || len(runs) != 1 {
			t.Errorf("%d runs, %v; want that of the schedule for one time", len(runs), err)
		}
	})
}
