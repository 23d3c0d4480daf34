package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// process is an engine with a store of its own. When it is dead it neither beats nor leaves.
type process struct {
	*pawl.Engine
	store cut
}

// cut is the store as the engine of a process sees it.
type cut struct {
	*postgres.Store
	dead *atomic.Bool
}

var errCut = errors.New("the process is cut off")

func (c cut) Beat(ctx context.Context, worker int64, now, until time.Time) error {
	if c.dead.Load() {
		return errCut
	}
	return c.Store.Beat(ctx, worker, now, until)
}

func (c cut) Leave(ctx context.Context, worker int64, now time.Time) error {
	if c.dead.Load() {
		return errCut
	}
	return c.Store.Leave(ctx, worker, now)
}

func (c cut) Commit(ctx context.Context, b *pawl.Batch) error {
	if c.dead.Load() {
		return errCut
	}
	return c.Store.Commit(ctx, b)
}

func (c cut) Claim(ctx context.Context, q pawl.ClaimRequest) (pawl.Claims, error) {
	if c.dead.Load() {
		return pawl.Claims{}, errCut
	}
	return c.Store.Claim(ctx, q)
}

func (c cut) Join(ctx context.Context, w pawl.WorkerInfo, until time.Time) (int64, error) {
	if c.dead.Load() {
		return 0, errCut
	}
	return c.Store.Join(ctx, w, until)
}

func boot(t *testing.T, url string, opt pawl.Options, defs ...pawl.Definition) *process {
	t.Helper()
	p := &process{store: cut{openAt(t, url), new(atomic.Bool)}}
	opt.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	opt.Lease = 300 * time.Millisecond
	p.Engine = pawl.New(p.store, &opt)
	if err := p.Register(defs...); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for end := time.Now().Add(30 * time.Second); !p.Working(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the engine does not join")
		}
	}
	return p
}

// The workflow of TestSmoke of sqlite, on two processes, one of which dies: no recorded step
// runs again, and all runs end with the same result.
func TestAnotherProcessTakesOver(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	var mu sync.Mutex
	recorded := map[string]bool{} // steps whose result a later step has seen
	again := 0
	begin := func(ctx context.Context) {
		mu.Lock()
		defer mu.Unlock()
		if i := pawl.InfoOf(ctx); recorded[i.StepID] {
			again++
		}
	}
	add := pawl.Define("add", func(c *pawl.Context, n int) (int, error) {
		for i := range 3 {
			var err error
			var id string
			n, err = pawl.Step(c, "add", func(ctx context.Context) (int, error) {
				begin(ctx)
				id = pawl.InfoOf(ctx).StepID
				return n + i, nil
			})
			if err != nil {
				return 0, err
			}
			mu.Lock()
			recorded[id] = id != ""
			mu.Unlock()
		}
		if err := c.Sleep(50 * time.Millisecond); err != nil {
			return 0, err
		}
		event, err := pawl.WaitFor[int](c, "go")
		if err != nil {
			return 0, err
		}
		squares, err := pawl.Map(c, "par", []int{1, 2, 3}, func(c *pawl.Context, a int) (int, error) {
			return pawl.Step(c, "square", func(ctx context.Context) (int, error) {
				begin(ctx)
				return a * a, nil
			})
		})
		if err != nil {
			return 0, err
		}
		return n + event + squares[2], nil
	})
	first, second := boot(t, url, pawl.Options{}, add), boot(t, url, pawl.Options{}, add)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	const runs = 40
	for i := range runs {
		if _, err := add.Start(ctx, first.Engine, 10, pawl.ID(fmt.Sprint("run", i))); err != nil {
			t.Fatal(err)
		}
	}
	first.store.dead.Store(true)
	for i := range runs {
		if err := second.Signal(ctx, fmt.Sprint("run", i), "go", 100); err != nil {
			t.Fatal(err)
		}
	}
	for i := range runs {
		n, err := pawl.Attach[int](second.Engine, fmt.Sprint("run", i)).Result(ctx)
		if err != nil || n != 122 {
			t.Errorf("run%d: %d, %v; want 122", i, n, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if again > 0 {
		t.Errorf("%d steps ran again after their result was recorded", again)
	}
	if found, err := second.store.Audit(ctx, time.Now()); err != nil || len(found) > 0 {
		t.Errorf("audit: %v, %v", found, err)
	}
}

// Polling is far off: what wakes the other process is a notification.
func TestANotificationWakesTheOtherProcess(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	wait := pawl.Define("wait", func(c *pawl.Context, n int) (int, error) { return pawl.WaitFor[int](c, "go") })
	boot(t, url, pawl.Options{Poll: time.Hour}, wait)
	client := pawl.New(openAt(t, url), nil)
	if err := client.Register(wait); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	c := session(t, url)
	for round, id := range []string{"one", "two"} {
		// Wait for the listener; in the second round for the one that follows the killed one.
		for {
			if value[int](t, c, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN %' AND datname = current_database()") > 0 {
				break
			}
			if ctx.Err() != nil {
				t.Fatal("nobody listens")
			}
			time.Sleep(5 * time.Millisecond)
		}
		r, err := wait.Start(ctx, client, 1, pawl.ID(id))
		if err != nil {
			t.Fatal(err)
		}
		if err := client.Signal(ctx, id, "go", 7); err != nil {
			t.Fatal(err)
		}
		if n, err := r.Result(ctx); err != nil || n != 7 {
			t.Fatalf("%s: %d, %v; want 7", id, n, err)
		}
		if round == 0 {
			execute(t, c, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN %' AND datname = current_database()")
		}
	}
}

// A notification is a hint that comes soon and rarely.
func TestNotificationsAreFew(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	from := newDesk(t, openAt(t, url))
	c := session(t, url)
	execute(t, c, "LISTEN pawl")
	began := time.Now()
	for i := range 200 {
		from.start(fmt.Sprint("run", i))
	}
	took := time.Since(began)
	// One of our own comes after all that were sent before it.
	other := session(t, url)
	execute(t, other, "SELECT pg_notify('pawl', 'end')")
	n := 0
	for ended := false; n == 0 || !ended; {
		wait, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		got, err := c.WaitForNotification(wait)
		cancel()
		if err != nil {
			t.Fatalf("after %d notifications: %v", n, err)
		}
		if got.Payload == "end" {
			ended = true
		} else {
			n++
		}
	}
	if most := int(took/(10*time.Millisecond)) + 1; n > most {
		t.Errorf("%d notifications in %v; want %d at most", n, took, most)
	}
}
