package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// blocked waits until a session of the store waits for a lock.
func blocked(t *testing.T, c *pgx.Conn) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if value[bool](t, c, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name LIKE 'pawl/%' AND wait_event_type = 'Lock')") {
			return
		}
		if time.Now().After(end) {
			t.Fatal("nobody waits for a lock")
		}
	}
}

// A commit is caught in flight: between the fence and its end, it waits for a run's row.
func TestAWorkerIsNotDeclaredDeadUnderACommitInFlight(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	old, other := newDesk(t, openAt(t, url)).join(), newDesk(t, openAt(t, url)).join()
	r := old.eager("a")
	watcher, locker := session(t, url), session(t, url)
	execute(t, locker, "BEGIN")
	execute(t, locker, "SELECT FROM pawl.runs WHERE key = $1 FOR UPDATE", r.Key)

	ch := step(r, 1)
	ch.To = &pawl.Move{State: pawl.Waiting, Due: old.now.Add(time.Hour)}
	committed := make(chan error, 1)
	go func() { committed <- old.commit(&pawl.Batch{Worker: old.worker, Changes: []*pawl.Change{ch}}) }()
	blocked(t, watcher)

	// The heartbeat does not wait for it.
	beat, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := old.Beat(beat, old.worker, old.now, old.now.Add(time.Minute)); err != nil {
		t.Errorf("a heartbeat beside a commit in flight: %v", err)
	}

	left := make(chan error, 1)
	go func() { left <- other.Leave(context.WithoutCancel(t.Context()), old.worker, old.now) }()
	for end := time.Now().Add(30 * time.Second); value[int](t, watcher, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pawl/%' AND wait_event_type = 'Lock'") < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the burial does not wait for the commit")
		}
	}
	select {
	case err := <-left:
		t.Fatalf("the worker was buried under a commit in flight: %v", err)
	default:
	}
	execute(t, locker, "COMMIT")
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	if err := <-left; err != nil {
		t.Fatal(err)
	}
	if ch.Err != nil {
		t.Errorf("the change: %v", ch.Err)
	}
	if got := old.look("a"); got.State != pawl.Waiting || old.entries(r.Key) != 2 {
		t.Errorf("the run is %s with %d entries; want what the commit said", got.State, old.entries(r.Key))
	}
}

func TestADeadWorkerWritesNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	old, other := newDesk(t, openAt(t, url)).join(), newDesk(t, openAt(t, url)).join()
	r := old.eager("a")
	other.now = other.now.Add(2 * time.Minute)
	if err := other.Beat(t.Context(), other.worker, other.now, other.now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	got := other.claim()
	if len(got) != 1 || got[0].Info.ID != "a" || got[0].Info.Epoch != 2 || got[0].Info.Strikes != 1 {
		t.Fatalf("the other worker claims %+v; want the run, at epoch 2, with a strike", got)
	}
	end := step(r, 2)
	end.To = &pawl.Move{State: pawl.Completed}
	hook := step(r, 3)
	hook.Hooks = []pawl.HookSpec{{Key: "h", Token: "token"}}
	for what, b := range map[string]*pawl.Batch{
		"an append":    {Changes: []*pawl.Change{step(r, 1)}},
		"an end":       {Changes: []*pawl.Change{end}},
		"a hook":       {Changes: []*pawl.Change{hook}},
		"a start":      {Room: 1, Starts: []*pawl.Start{{Run: newRun("b")}}},
		"a signal":     {Sends: []*pawl.Send{signal("a")}},
		"nothing said": {},
	} {
		b.Worker = old.worker
		old.is(what, old.commit(b), pawl.ErrFenced)
	}
	if n := old.entries(r.Key); n != 1 {
		t.Errorf("the journal has %d entries; want the input alone", n)
	}
	_, err := old.Lookup(t.Context(), "", "b")
	old.is("look up what a dead worker started", err, pawl.ErrNotFound)
	_, err = old.FindHook(t.Context(), "", "token", time.Now())
	old.is("find the hook of a dead worker", err, pawl.ErrNotFound)
	if mail, err := other.Mail(t.Context(), other.worker); err != nil || len(mail) != 0 {
		t.Errorf("mail %v, error %v; want none", mail, err)
	}
	old.is("its heartbeat", old.Beat(t.Context(), old.worker, old.now, old.now.Add(time.Hour)), pawl.ErrFenced)
	_, err = old.Claim(t.Context(), pawl.ClaimRequest{Worker: old.worker, Now: old.now, Limit: 1})
	old.is("its claim", err, pawl.ErrFenced)
	other.sound()
}

// A heartbeat that comes while others think the worker dead keeps it alive.
func TestALateHeartbeatCounts(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	old, other := newDesk(t, openAt(t, url)).join(), newDesk(t, openAt(t, url)).join()
	old.eager("a")
	c, watcher := session(t, url), session(t, url)
	other.now = other.now.Add(2 * time.Minute)
	if err := other.Beat(t.Context(), other.worker, other.now, other.now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	execute(t, c, "BEGIN") // a heartbeat that has not ended when the claim looks
	execute(t, c, "UPDATE pawl.workers SET until = $1 WHERE id = $2", other.now.Add(time.Minute).UnixMicro(), old.worker)
	claimed := make(chan []pawl.Claim, 1)
	go func() { claimed <- other.claim() }()
	blocked(t, watcher)
	execute(t, c, "COMMIT")
	if got := <-claimed; len(got) != 0 {
		t.Errorf("the other worker claims %v; want nothing", got)
	}
	if got := old.look("a"); got.Worker != old.worker {
		t.Errorf("the run is held by %d; want %d", got.Worker, old.worker)
	}
}

// Burying waits for a commit that is stuck; runs that are ready do not.
func TestAStuckCommitDoesNotHoldUpTheOthersForLong(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	old, other := newDesk(t, openAt(t, url)).join(), newDesk(t, openAt(t, url)).join()
	old.start("ready")
	c := session(t, url)
	execute(t, c, "BEGIN")
	execute(t, c, "SELECT FROM pawl.workers WHERE id = $1 FOR KEY SHARE", old.worker)
	other.now = other.now.Add(2 * time.Minute)
	if err := other.Beat(t.Context(), other.worker, other.now, other.now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got := other.claim(); len(got) != 1 || got[0].Info.ID != "ready" {
		t.Errorf("the other worker claims %v; want the run that is ready", got)
	}
	if err := old.commit(&pawl.Batch{Worker: old.worker}); err != nil && !errors.Is(err, pawl.ErrFenced) {
		t.Error(err)
	}
}
