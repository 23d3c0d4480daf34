package agent

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// eachStore runs f on each store. What open returns is a store of its own, as another
// process would have it; SQLite's file has one owner, so there it is the same one.
func eachStore(t *testing.T, f func(t *testing.T, open func() pawl.Store)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		s := sqliteStore(t, filepath.Join(t.TempDir(), "pawl.db"))
		f(t, func() pawl.Store { return s })
	})
	t.Run("postgres", func(t *testing.T) {
		url := pgtest.URL(t)
		f(t, func() pawl.Store { return postgresStore(t, url) })
	})
}

// eachStoreAtOnce is eachStore for an f that measures no time and keeps all that it has to itself:
// both stores are tried at the same time, and nothing else is.
func eachStoreAtOnce(t *testing.T, f func(t *testing.T, open func() pawl.Store)) {
	t.Helper()
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		t.Parallel()
		f(t, open)
	})
}

func sqliteStore(t *testing.T, path string) pawl.Store {
	t.Helper()
	s, err := sqlite.Open(path, &sqlite.Options{WALSize: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

func postgresStore(t *testing.T, url string) pawl.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

// memory is an engine that works nothing, on a store in memory.
func memory(t *testing.T) *pawl.Engine {
	t.Helper()
	return pawl.New(sqliteStore(t, sqlite.Memory), nil)
}

// work lets an engine work until the test ends.
func work(t *testing.T, store pawl.Store, defs ...pawl.Definition) *pawl.Engine {
	t.Helper()
	e := pawl.New(store, nil)
	if err := e.Register(defs...); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the engine ended: %v", err)
		}
	})
	return e
}
