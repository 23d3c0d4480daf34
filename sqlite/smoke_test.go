package sqlite_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

func TestSmoke(t *testing.T) {
	s, err := sqlite.Open(filepath.Join(t.TempDir(), "a.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	add := pawl.Define("add", func(c *pawl.Context, n int) (int, error) {
		for i := range 3 {
			var err error
			n, err = pawl.Step(c, "add", func(ctx context.Context) (int, error) { return n + i, nil })
			if err != nil {
				return 0, err
			}
		}
		if err := c.Sleep(100 * time.Millisecond); err != nil {
			return 0, err
		}
		ev, err := pawl.WaitFor[int](c, "go")
		if err != nil {
			return 0, err
		}
		xs, err := pawl.Map(c, "par", []int{1, 2, 3}, func(c *pawl.Context, a int) (int, error) {
			return pawl.Step(c, "sq", func(context.Context) (int, error) { return a * a, nil })
		})
		if err != nil {
			return 0, err
		}
		return n + ev + xs[2], nil
	})
	e := pawl.New(s, nil)
	if err := e.Register(add); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- e.Run(ctx) }()
	time.Sleep(50 * time.Millisecond)
	r, err := add.Start(ctx, e, 10)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(250 * time.Millisecond)
	why, err := e.Why(ctx, pawl.Ref{ID: r.ID()})
	fmt.Println(why, err)
	if err := e.Signal(ctx, r.ID(), "go", 100); err != nil {
		t.Fatal(err)
	}
	tctx, c := context.WithTimeout(ctx, 5*time.Second)
	defer c()
	n, err := r.Result(tctx)
	fmt.Println(n, err)
	for en, err := range e.Journal(ctx, pawl.Ref{ID: r.ID()}) {
		fmt.Println(en.Seq, en.Kind, en.Key, string(en.Data), err)
	}
	stop()
	fmt.Println(<-done)
}
