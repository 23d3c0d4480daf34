package pawl_test

import (
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// stores are those that every conformance test runs on.
var stores = []namedStore{{"sqlite", sqliteStores}, {"postgres", postgresStores}}

// postgresStores keeps runs in a database of its own; each open has its own connections.
func postgresStores(t *testing.T) func() pawl.Store {
	url := pgtest.URL(t)
	return func() pawl.Store {
		t.Helper()
		s, err := postgres.Open(t.Context(), url, nil)
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, s)
		return s
	}
}
