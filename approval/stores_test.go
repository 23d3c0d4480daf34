package approval_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

var secret = []byte("0123456789abcdef0123456789abcdef")

// eachStore runs f on each store.
func eachStore(t *testing.T, f func(t *testing.T, s pawl.Store)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		s, err := sqlite.Open(filepath.Join(t.TempDir(), "pawl.db"), &sqlite.Options{WALSize: -1})
		if err != nil {
			t.Fatal(err)
		}
		closed(t, s)
		f(t, s)
	})
	t.Run("postgres", func(t *testing.T) {
		s, err := postgres.Open(t.Context(), pgtest.URL(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		closed(t, s)
		f(t, s)
	})
}

func closed(t *testing.T, s pawl.Store) {
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
}

// work lets an engine work until the test ends, or stop is called.
func work(t *testing.T, s pawl.Store, defs ...pawl.Definition) (e *pawl.Engine, stop func()) {
	t.Helper()
	e = pawl.New(s, &pawl.Options{Secret: secret, Poll: 50 * time.Millisecond})
	if err := e.Register(defs...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the engine ended: %v", err)
		}
	}
	t.Cleanup(stop)
	return e, stop
}

// asks is a workflow that asks for one decision and returns it.
func asks(q approval.Request) *pawl.Workflow[string, approval.Decision] {
	return pawl.Define("asks", func(c *pawl.Context, in string) (approval.Decision, error) {
		r := q
		r.Details = map[string]string{"item": in}
		return approval.Ask(c, "buy", r)
	})
}

// asked waits until an approval waits.
func asked(t *testing.T, e *pawl.Engine, id string) approval.Approval {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		a, err := approval.Get(t.Context(), e, pawl.Ref{ID: id})
		if err == nil {
			return a
		}
		if time.Now().After(end) {
			t.Fatalf("approval %s: %v", id, err)
		}
	}
}

func start(t *testing.T, e *pawl.Engine, w *pawl.Workflow[string, approval.Decision], id string) *pawl.Run[approval.Decision] {
	t.Helper()
	run, err := w.Start(t.Context(), e, "book", pawl.ID(id), pawl.Attributes(map[string]any{"user": "eve"}))
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		g, _ := json.Marshal(got)
		w, _ := json.Marshal(want)
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}
