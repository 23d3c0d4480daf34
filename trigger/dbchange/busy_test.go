package dbchange

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"modernc.org/sqlite"
)

// One look at a time: while the database keeps a look waiting no other one begins, not in another Runner either, however often it is their
// time, and longer than a lease lasts.
func TestJ48_looksDoNotOverlap(t *testing.T) {
	t.Parallel()
	for _, store := range []Dialect{SQLite, Postgres} {
		t.Run(fmt.Sprint("in ", store), func(t *testing.T) {
			s := newSite(t, Postgres, store)
			s.orders(t)
			put(t, client(t, s.store()), byID)
			for range 2 {
				background(t, s.runner(client(t, s.store())))
			}
			e := client(t, s.store())
			polled(t, e)
			busy, err := s.db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer busy.Rollback()
			if _, err := busy.Exec("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE; INSERT INTO orders (item) VALUES ('a')"); err != nil {
				t.Fatal(err)
			}
			waiting := func() (n int) {
				t.Helper()
				if err := s.db.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n
			}
			until(t, "a look waits", func() bool { return waiting() > 0 })
			for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				if n := waiting(); n != 1 {
					t.Fatalf("%d looks are under way", n)
				}
			}
			if err := busy.Commit(); err != nil {
				t.Fatal(err)
			}
			wantItems(t, e, "a")
			polled(t, e)
			wantItems(t, e, "a")
		})
	}
}

// shaky is a driver that has a fault now and then.
type shaky struct {
	lite   sqlite.Driver
	url    string
	faulty atomic.Bool
}

func (c *shaky) Connect(context.Context) (driver.Conn, error) {
	if c.faulty.Load() {
		panic("the driver has a fault")
	}
	return c.lite.Open(c.url)
}

func (c *shaky) Driver() driver.Driver { return &c.lite }

// A program's Connect that panics, and a driver that does, are errors of a look: the process lives, the error is shown, and the trigger goes on.
func TestJ48_aPanicIsAnErrorOfALook(t *testing.T) {
	t.Parallel()
	for _, store := range []Dialect{SQLite, Postgres} {
		t.Run(fmt.Sprint("in ", store), func(t *testing.T) {
			s := newSite(t, SQLite, store)
			s.orders(t)
			e := client(t, s.store())
			fault := &shaky{url: s.watch}
			db := sql.OpenDB(fault)
			defer db.Close()
			db.SetMaxIdleConns(-1) // each question opens one
			var asked atomic.Int64
			r := s.runner(e)
			r.Connect = func(context.Context, string) (Connection, error) {
				if asked.Add(1) == 1 {
					panic("the program has a fault")
				}
				return Connection{DB: db, Dialect: SQLite}, nil
			}
			put(t, e, byID)
			background(t, r)
			polled(t, e)
			fault.faulty.Store(true)
			s.exec(t, "INSERT INTO orders (item) VALUES ('a')")
			until(t, "the error is shown", func() bool { return strings.Contains(status(t, e).Error, "panic: the driver has a fault") })
			fault.faulty.Store(false)
			wantItems(t, e, "a")
			polled(t, e)
		})
	}
}
