package postgres

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// A transaction of another program that stays open for minutes keeps nothing from being told, and lets nothing be
// told twice; one that commits late is met.
func TestNewsWhileATransactionStaysOpen(t *testing.T) {
	url := pgtest.URL(t)
	s, err := Open(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	now := time.Now()
	start := func(id string) {
		t.Helper()
		b := &pawl.Batch{Now: now, Starts: []*pawl.Start{{Run: pawl.NewRun{ID: id, Workflow: "w", Input: []byte(`1`)}}}}
		if err := s.Commit(t.Context(), b); err != nil || b.Starts[0].Err != nil {
			t.Fatal(err, b.Starts[0].Err)
		}
	}
	n, err := s.News(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	told := func() (out []string) {
		t.Helper()
		got, err := n.Next(t.Context(), now)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range got {
			out = append(out, fmt.Sprint(g.Run.ID, " ", len(g.Entries)))
		}
		return out
	}
	want := func(what string, want ...string) {
		t.Helper()
		if got := told(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: told %v, want %v", what, got, want)
		}
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	open, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open.Exec(t.Context(), "SELECT pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	start("first")
	want("while it is open", "first 1")
	for i := range 20 { // five minutes: the cursor moves on without it
		now = now.Add(15 * time.Second)
		want("nothing new")
		id := fmt.Sprint("r", i)
		start(id)
		want("while it is open", id+" 1")
		want("nothing new")
	}
	if err := open.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	start("last")
	want("when it is over", "last 1")

	// One of the store's that commits late, behind others that began later.
	late, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := late.Exec(t.Context(), "UPDATE pawl.runs SET reason = 'late', changed = pg_current_xact_id() WHERE id = 'first'"); err != nil {
		t.Fatal(err)
	}
	start("between")
	want("before it commits", "between 1")
	now = now.Add(14 * time.Second)
	start("again")
	want("before it commits", "again 1")
	if err := late.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("when it has", "first 0")
	want("nothing new")
}
