package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// The database server is killed in the middle of the work, and comes back.
func TestCrashOfTheServer(t *testing.T) {
	t.Parallel()
	server, err := pgtest.Start(pgtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	count := pawl.Define("count", func(c *pawl.Context, n int) (int, error) {
		for range 20 {
			var err error
			if n, err = pawl.Step(c, "add", func(ctx context.Context) (int, error) { return n + 1, nil }); err != nil {
				return 0, err
			}
			if err := c.Sleep(10 * time.Millisecond); err != nil {
				return 0, err
			}
		}
		return n, nil
	})
	p := boot(t, server.URL(), pawl.Options{}, count)
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	const runs = 50
	for i := range runs {
		if _, err := count.Start(ctx, p.Engine, i*100, pawl.ID(fmt.Sprint("run", i))); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := server.Crash(); err != nil {
			t.Fatal(err)
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range runs {
		for { // a read may meet the server while it is down
			n, err := pawl.Attach[int](p.Engine, fmt.Sprint("run", i)).Result(ctx)
			if err == nil && n == i*100+20 {
				break
			}
			if ctx.Err() != nil || err == nil {
				t.Fatalf("run%d: %d, %v; want %d", i, n, err, i*100+20)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	d := newDesk(t, openAt(t, server.URL()))
	for i := range runs {
		info := d.look(fmt.Sprint("run", i))
		all, err := d.Journal(ctx, info.Key, -1, 1000)
		if err != nil {
			t.Fatal(err)
		}
		steps := 0
		for seq, e := range all {
			if e.Seq != int64(seq) {
				t.Errorf("run%d: entry %d has seq %d", i, seq, e.Seq)
			}
			if e.Kind == pawl.KindStep {
				steps++
			}
		}
		if steps != 20 {
			t.Errorf("run%d: %d steps were recorded; want 20", i, steps)
		}
	}
	d.sound()
}
