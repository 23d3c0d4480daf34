package trigger

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) count(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.buf.String(), text)
}

// What starts a workflow that no node knows is told of after a minute, by name, and starts as soon as a
// node knows it.
func TestAWorkflowThatNobodyKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		ignorant := client(t, s)
		if _, err := Subscribe(t.Context(), ignorant, Subscription{ID: "all", Event: "order", Workflow: "taker"}); err != nil {
			t.Fatal(err)
		}
		if _, err := (Schedules{ignorant}).Put(t.Context(), Schedule{ID: "tick", Workflow: "taker", Every: time.Hour, Input: []byte(`{"n":1}`), Revision: AnyRevision}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(time.Now().Truncate(time.Hour).Add(time.Hour))) // the slot comes
		var log logBuffer
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		run := func(e *pawl.Engine) {
			go func() { ended <- (&Runner{Engine: e, Logger: slog.New(slog.NewTextHandler(&log, nil))}).Run(ctx) }()
		}
		defer func() {
			end()
			for range 2 {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		}()
		run(ignorant)
		publish := func() Published {
			t.Helper()
			p, err := Publish(t.Context(), ignorant, Event{ID: "e", Name: "order", Data: order{1}})
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		lines := func() string {
			t.Helper()
			got, _, err := Schedules{ignorant}.Occurrences(t.Context(), "", "tick", "", 10)
			if err != nil {
				t.Fatal(err)
			}
			out := ""
			for _, o := range got {
				out += string(o.Outcome) + ": " + o.Reason + "\n"
			}
			return out
		}
		if p := publish(); !p.Pending || len(p.Errors) != 0 {
			t.Errorf("just published: %+v", p)
		}
		time.Sleep(50 * time.Second)
		if n := log.count("taker"); n != 0 || lines() != "" || len(publish().Errors) != 0 {
			t.Errorf("before a minute is over: %d lines of the log, %q, %+v", n, lines(), publish())
		}
		time.Sleep(20 * time.Second)
		const want = "no node has registered workflow taker; start one that has"
		if p := publish(); !p.Pending || len(p.Errors) != 1 || !strings.Contains(p.Errors[0], "subscription all: "+want) || !strings.Contains(p.Errors[0], "until ") {
			t.Errorf("after a minute: %+v", p)
		}
		if got := lines(); !strings.HasPrefix(got, "retrying: "+want) {
			t.Errorf("the ledger says %q", got)
		}
		if n, m := log.count("event order (e)"), log.count("schedule=tick"); n != 1 || m != 1 || log.count(want) != 2 {
			t.Errorf("%d lines of the event, %d of the schedule: %s", n, m, log.buf.String())
		}
		time.Sleep(10*time.Minute + 17*time.Second)
		if n, m := log.count("event order (e)"), log.count("schedule=tick"); n != 1 || m < 8 || m > 12 {
			t.Errorf("after ten minutes %d lines of the event, want 1, and %d of the schedule, want one a minute", n, m)
		}

		run(client(t, s, taker))
		time.Sleep(5 * time.Second)
		if runs, err := ignorant.List(t.Context(), pawl.Filter{Workflow: "taker"}); err != nil || len(runs) != 2 {
			t.Errorf("%d runs, %v; want that of the event and that of the slot", len(runs), err)
		}
		if p := publish(); p.Pending || len(p.Errors) != 0 {
			t.Errorf("when a node knows it: %+v", p)
		}
		if got := lines(); !strings.HasPrefix(got, "started: ") {
			t.Errorf("the ledger says %q", got)
		}
	})
}
