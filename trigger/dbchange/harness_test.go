package dbchange

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest/pgtest"
	"github.com/pawlrun/pawl/trigger/dbchange/pglisten"
	_ "modernc.org/sqlite"
)

func TestMain(m *testing.M) {
	if store := os.Getenv(serverStore); store != "" {
		os.Exit(serveUntilKilled(store, os.Getenv(serverWatched)))
	}
	os.Exit(pgtest.Main(m))
}

// taken is a workflow that does nothing: tests look at its runs.
var taken = pawl.Define("taken", func(c *pawl.Context, in Change) (string, error) { return "", nil })

// site is a watched database and a store, of each kind.
type site struct {
	url     string // of the store, if it is PostgreSQL
	watch   string // of the watched database
	store   func() pawl.Store
	db      *sql.DB
	dialect Dialect
}

// eachSite runs f on each kind of watched database and of store.
func eachSite(t *testing.T, f func(t *testing.T, s *site)) {
	t.Helper()
	t.Parallel()
	for _, d := range []Dialect{Postgres, SQLite} {
		for _, store := range []Dialect{Postgres, SQLite} {
			t.Run(fmt.Sprintf("%s in %s", d, store), func(t *testing.T) { f(t, newSite(t, d, store)) })
		}
	}
}

func newSite(t *testing.T, watched, store Dialect) *site {
	t.Helper()
	s := &site{dialect: watched}
	if watched == Postgres {
		s.watch = pgtest.URL(t)
	} else {
		s.watch = liteURL(filepath.Join(t.TempDir(), "watched.db"))
	}
	s.db = openWatched(t, watched, s.watch)
	if store == SQLite {
		one, err := sqlite.Open(filepath.Join(t.TempDir(), "pawl.db"), &sqlite.Options{WALSize: -1})
		if err != nil {
			t.Fatal(err)
		}
		closing(t, one.Close)
		s.store = func() pawl.Store { return one }
		return s
	}
	s.url = pgtest.URL(t)
	s.store = func() pawl.Store {
		p, err := postgres.Open(t.Context(), s.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		closing(t, p.Close)
		return p
	}
	return s
}

func liteURL(path string) string {
	return "file:" + path + "?_pragma=busy_timeout(30000)&_pragma=journal_mode(WAL)&_txlock=immediate"
}

func openWatched(t *testing.T, d Dialect, url string) *sql.DB {
	t.Helper()
	driver := "pgx"
	if d == SQLite {
		driver = "sqlite"
	}
	db, err := sql.Open(driver, url)
	if err != nil {
		t.Fatal(err)
	}
	closing(t, db.Close)
	return db
}

func closing(t *testing.T, close func() error) {
	t.Helper()
	t.Cleanup(func() {
		if err := close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

func (s *site) connection() Connection {
	if s.dialect == SQLite {
		return Connection{DB: s.db, Dialect: SQLite}
	}
	return Connection{DB: s.db, Dialect: Postgres, Listen: pglisten.On(s.db)}
}

func (s *site) connect(_ context.Context, name string) (Connection, error) {
	if name != "shop" {
		return Connection{}, fmt.Errorf("%w: connection %s", pawl.ErrNotFound, name)
	}
	return s.connection(), nil
}

func (s *site) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	if _, err := s.db.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// orders makes the table that most tests watch.
func (s *site) orders(t *testing.T) {
	t.Helper()
	if s.dialect == Postgres {
		s.exec(t, `CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL, at timestamptz NOT NULL DEFAULT now(), raw bytea)`)
		return
	}
	s.exec(t, `CREATE TABLE orders (id INTEGER PRIMARY KEY AUTOINCREMENT, item TEXT NOT NULL, at DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')), raw BLOB)`)
}

// client is an engine that starts runs of taken and works none.
func client(t *testing.T, s pawl.Store) *pawl.Engine {
	t.Helper()
	e := pawl.New(s, nil)
	if err := e.Register(taken); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func (s *site) runner(e *pawl.Engine) *Runner {
	return &Runner{Engine: e, Connect: s.connect, Poll: 50 * time.Millisecond, Lease: time.Second, Logger: slog.New(slog.DiscardHandler)}
}

// background runs a Runner until the test ends, or the returned function is called.
func background(t *testing.T, r *Runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the Runner ended: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func put(t *testing.T, e *pawl.Engine, src Source) Source {
	t.Helper()
	if src.ID == "" {
		src.ID = "s"
	}
	src.Workflow, src.Connection, src.Revision = "taken", "shop", -1
	if src.Interval == 0 {
		src.Interval = 20 * time.Millisecond
	}
	src, err := Sources{e}.Put(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// until waits for a condition.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func status(t *testing.T, e *pawl.Engine) Status {
	t.Helper()
	st, err := Sources{e}.Status(t.Context(), "", "s")
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// polled waits until a look that began from now on has gone well.
func polled(t *testing.T, e *pawl.Engine) {
	t.Helper()
	now := time.Now()
	for range 2 { // the first may have begun before
		until(t, "a look", func() bool { st := status(t, e); ok := st.LastPoll.After(now) && st.Error == ""; return ok })
		now = time.Now()
	}
}

// inputs are those of all runs there are, by their ids.
func inputs(t *testing.T, e *pawl.Engine) map[string]Change {
	t.Helper()
	out := map[string]Change{}
	f := pawl.Filter{Limit: 1000}
	for {
		page, err := e.List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range page {
			f.Cursor = info.Key
			for entry, err := range e.Journal(t.Context(), pawl.Ref{ID: info.ID}) {
				if err != nil {
					t.Fatal(err)
				}
				var c Change
				if err := json.Unmarshal(entry.Data, &c); err != nil {
					t.Fatal(err)
				}
				out[info.ID] = c
				break
			}
		}
		if len(page) < f.Limit {
			return out
		}
	}
}

// items are those of the rows of all runs, sorted.
func items(t *testing.T, e *pawl.Engine) (out []string) {
	t.Helper()
	for _, c := range inputs(t, e) {
		var row struct{ Item string }
		if err := json.Unmarshal(c.Row, &row); err != nil {
			t.Fatalf("%s: %v", c.Row, err)
		}
		out = append(out, row.Item)
	}
	slices.Sort(out)
	return out
}

func wantItems(t *testing.T, e *pawl.Engine, want ...string) {
	t.Helper()
	var got []string
	until(t, fmt.Sprintf("%d runs", len(want)), func() bool { got = items(t, e); return len(got) >= len(want) })
	if !slices.Equal(got, want) {
		t.Errorf("there are runs of %q, want %q", got, want)
	}
}
