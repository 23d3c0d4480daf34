package postgres_test

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/storetest"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func openAt(t testing.TB, url string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// The promises that every store keeps.
func TestStore(t *testing.T) {
	url := pgtest.URL(t)
	var schemas atomic.Int32
	storetest.Run(t, func(t *testing.T) pawl.Store {
		s, err := postgres.Open(t.Context(), url, &postgres.Options{Schema: fmt.Sprint("store", schemas.Add(1))})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}
