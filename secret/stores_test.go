package secret

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// eachStore runs f with an engine on each store. What another returns is an engine of another process; SQLite's file has one
// owner, so there it is one on the same store.
func eachStore(t *testing.T, f func(t *testing.T, e *pawl.Engine, another func() *pawl.Engine)) {
	t.Helper()
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		s, err := sqlite.Open(filepath.Join(t.TempDir(), "pawl.db"), &sqlite.Options{WALSize: -1})
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, s.Close)
		f(t, engineOn(t, s), func() *pawl.Engine { return engineOn(t, s) })
	})
	t.Run("postgres", func(t *testing.T) {
		url := pgtest.URL(t)
		open := func() *pawl.Engine {
			s, err := postgres.Open(t.Context(), url, nil)
			if err != nil {
				t.Fatal(err)
			}
			closeAtEnd(t, s.Close)
			return engineOn(t, s)
		}
		f(t, open(), open)
	})
}

func engineOn(t *testing.T, s pawl.Store) *pawl.Engine {
	e := pawl.New(s, nil)
	closeAtEnd(t, e.Close)
	return e
}

func closeAtEnd(t *testing.T, end func() error) {
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

// ring makes a key ring of keys.
func ring(t testing.TB, keys ...string) *Keyring {
	t.Helper()
	var all string
	for _, key := range keys {
		all += key + "\n"
	}
	k, err := ParseKeys(all)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// set keeps a value over whatever is there.
func set(t testing.TB, s Store, tenant, name, value string) Secret {
	t.Helper()
	out, err := s.Set(context.Background(), Spec{Tenant: tenant, Name: name, Value: value, By: "ann", Revision: AnyRevision})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still not: " + what)
		}
	}
}
