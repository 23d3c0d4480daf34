package dbchange

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
)

// The environment of a process that is a server, until it is killed.
const (
	serverStore   = "DBCHANGE_TEST_STORE"
	serverWatched = "DBCHANGE_TEST_WATCHED"
)

func serveUntilKilled(store, watched string) int {
	ctx := context.Background()
	p, err := postgres.Open(ctx, store, nil)
	if err != nil {
		slog.Error("open the store", "error", err)
		return 1
	}
	e := pawl.New(p, nil)
	db, err := sql.Open("pgx", watched)
	if err == nil {
		err = e.Register(taken)
	}
	if err == nil {
		s := &site{dialect: Postgres, db: db}
		r := s.runner(e)
		r.Logger = nil
		err = r.Run(ctx)
	}
	slog.Error("the server has ended", "error", err)
	return 1
}

// Each committed row starts one run: with writers whose transactions commit out of order and roll back, and servers that
// are killed in the middle.
func TestJ48_N20_CrashEachCommittedRowStartsOneRun(t *testing.T) {
	rows := 5000
	if os.Getenv("PAWL_CRASH") == "long" {
		rows = 100_000
	}
	for name, src := range map[string]Source{
		"by a query": {Query: "SELECT id, item FROM orders WHERE id > $1", Cursor: "id", Settle: -1},
		"by a table": {Table: "orders", Operations: []Operation{Insert, Update}},
	} {
		t.Run(name, func(t *testing.T) {
			eachSite(t, func(t *testing.T, s *site) {
				n := rows
				if s.dialect == SQLite || s.url == "" {
					n = rows / 5 // a transaction of SQLite is a sync, and there the servers are of one process
				}
				exactlyOnce(t, s, src, n)
			})
		})
	}
}

func exactlyOnce(t *testing.T, s *site, src Source, rows int) {
	s.orders(t)
	e := client(t, s.store())
	if src.Table != "" {
		if err := (Outbox{Table: src.Table}).Install(t.Context(), s.connection()); err != nil {
			t.Fatal(err)
		}
	}
	src.Existing = src.Query != ""
	put(t, e, src)
	stopServers := s.servers(t)
	if src.Table != "" { // it begins when it is entered
		until(t, "the first look", func() bool { return !status(t, e).LastPoll.IsZero() })
	}
	began := time.Now()
	committed := s.write(t, rows)
	wrote := time.Since(began)
	for last, at := int64(-1), time.Now(); time.Since(at) < 30*time.Second; time.Sleep(50 * time.Millisecond) {
		n := status(t, e).Rows
		if n >= int64(len(committed)) {
			break
		}
		if n != last {
			last, at = n, time.Now()
		}
	}
	took := time.Since(began)
	stopServers()
	stop := background(t, s.runner(e)) // one more look, and the last word
	for range 2 {
		polled(t, e)
	}
	stop()
	got := map[string]int{}
	for _, c := range inputs(t, e) {
		var row struct{ Item string }
		if err := json.Unmarshal(c.Row, &row); err != nil {
			t.Fatal(err)
		}
		got[row.Item]++
	}
	missed, doubled, strange := 0, 0, 0
	for item, n := range got {
		if _, is := committed[item]; !is {
			strange++
		}
		if n > 1 {
			doubled++
		}
	}
	for item := range committed {
		if got[item] == 0 {
			missed++
		}
	}
	if missed+doubled+strange > 0 {
		t.Errorf("of %d committed rows %d were missed and %d doubled; %d runs are of rows that were not committed", len(committed), missed, doubled, strange)
	}
	t.Logf("%d rows written in %v, all started %v after the first: %.0f a second", len(committed), wrote.Round(time.Millisecond), took.Round(time.Millisecond), float64(len(committed))/took.Seconds())
	if st := status(t, e); st.Refused != 0 || st.Error != "" {
		t.Errorf("%+v", st)
	}
}

// servers runs two Runners, of which one is killed every while. In processes, where the store lets two have it.
func (s *site) servers(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i := range 2 {
		all.Go(func() {
			for ctx.Err() == nil {
				life := time.Duration(500+rand.IntN(1500)) * time.Millisecond
				if i == 1 {
					life *= 2
				}
				if s.server(t, ctx, life); t.Failed() {
					return
				}
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	t.Cleanup(stop)
	return stop
}

func (s *site) server(t *testing.T, ctx context.Context, life time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, life)
	defer cancel()
	if s.url == "" || s.dialect == SQLite {
		var store pawl.Store
		if s.url == "" {
			store = s.store() // the one that there is
		} else {
			own, err := postgres.Open(context.Background(), s.url, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer own.Close()
			store = own
		}
		e := pawl.New(store, nil)
		defer e.Close()
		if err := e.Register(taken); err != nil {
			t.Error(err)
		}
		if err := s.runner(e).Run(ctx); err != nil {
			t.Errorf("a server has ended: %v", err)
		}
		return
	}
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), serverStore+"="+s.url, serverWatched+"="+s.watch)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); ctx.Err() == nil {
		t.Errorf("a server has ended before it was killed: %v", err)
	}
}

// write commits rows from 8 writers, and returns their items.
func (s *site) write(t *testing.T, rows int) map[string]bool {
	t.Helper()
	committed := map[string]bool{}
	var mu sync.Mutex
	var left atomic.Int64
	left.Store(int64(rows))
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			for n := 0; left.Load() > 0; n++ {
				many := 1 + random.IntN(10)
				var items []string
				tx, err := s.db.BeginTx(context.Background(), nil)
				if err != nil {
					t.Error(err)
					return
				}
				for i := range many {
					item := fmt.Sprintf("%d-%d-%d", w, n, i)
					items = append(items, item)
					query := "INSERT INTO orders (item) VALUES ($1)"
					if s.dialect == SQLite {
						query = "INSERT INTO orders (item) VALUES (?1)"
					}
					if _, err := tx.Exec(query, item); err != nil {
						t.Error(err)
						_ = tx.Rollback()
						return
					}
					if s.dialect == Postgres && random.IntN(20) == 0 { // others overtake it
						time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
					}
				}
				if s.dialect == Postgres && random.IntN(100) == 0 {
					time.Sleep(time.Duration(random.IntN(2000)) * time.Millisecond)
				}
				if random.IntN(5) == 0 {
					if err := tx.Rollback(); err != nil {
						t.Error(err)
					}
					continue
				}
				if err := tx.Commit(); err != nil {
					t.Error(err)
					return
				}
				left.Add(-int64(many))
				mu.Lock()
				for _, item := range items {
					committed[item] = true
				}
				mu.Unlock()
			}
		})
	}
	writers.Wait()
	return committed
}
