package pawl_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// stores are those that every conformance test runs on.
var stores = []namedStore{{"sqlite", sqliteStores}, {"postgres", postgresStores}}

// postgresStores keeps runs in a database of its own; each open has its own connections.
func postgresStores(t *testing.T) place {
	url := pgtest.URL(t)
	exec := func(query string) error {
		c, err := pgx.Connect(t.Context(), url)
		if err != nil {
			return err
		}
		_, err = c.Exec(t.Context(), query)
		return errors.Join(err, c.Close(t.Context()))
	}
	guard := sync.OnceValue(func() error { return exec(guardPostgres) })
	return place{exec: exec, open: func() pawl.Store {
		t.Helper()
		s, err := postgres.Open(t.Context(), url, nil)
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, s)
		if err := guard(); err != nil {
			t.Fatal(err)
		}
		return s
	}}
}
