package trigger

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// eachStore runs f on each store. What open returns is a store of its own, as another process
// would have it; SQLite's file has one owner, so there it is the same one.
func eachStore(t *testing.T, f func(t *testing.T, open func() pawl.Store)) {
	t.Helper()
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		s := sqliteStore(t, filepath.Join(t.TempDir(), "pawl.db"))
		f(t, func() pawl.Store { return s })
	})
	t.Run("postgres", func(t *testing.T) {
		url := pgtest.URL(t)
		f(t, func() pawl.Store {
			s, err := postgres.Open(t.Context(), url, nil)
			if err != nil {
				t.Fatal(err)
			}
			return closing(t, s)
		})
	})
}

func sqliteStore(t *testing.T, path string) pawl.Store {
	t.Helper()
	s, err := sqlite.Open(path, &sqlite.Options{WALSize: -1})
	if err != nil {
		t.Fatal(err)
	}
	return closing(t, s)
}

func closing(t *testing.T, s pawl.Store) pawl.Store {
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

// client is an engine that starts runs of its workflows and works none.
func client(t *testing.T, s pawl.Store, defs ...pawl.Definition) *pawl.Engine {
	t.Helper()
	e := pawl.New(s, nil)
	if err := e.Register(defs...); err != nil {
		t.Fatal(err)
	}
	return e
}

// background runs f until the test ends, or the returned function is called.
func background(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("it ended: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}
