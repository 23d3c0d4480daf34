package sqlite_test

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

type out struct {
	N    int
	Text string
}

func BenchmarkTenSteps1000(b *testing.B) { benchTen(b, 1000) }
func BenchmarkTenSteps1(b *testing.B)    { benchTen(b, 1) }

func benchTen(b *testing.B, inflight int) {
	s, err := sqlite.Open(filepath.Join(b.TempDir(), "a.db"), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	ten := pawl.Define("ten", func(c *pawl.Context, n int) (int, error) {
		for range 10 {
			o, err := pawl.Step(c, "step", func(ctx context.Context) (out, error) {
				return out{n, "a hundred bytes or so of text, as a small answer of a model might be, and some more to fill up"}, nil
			})
			if err != nil {
				return 0, err
			}
			n = o.N + 1
		}
		return n, nil
	})
	e := pawl.New(s, &pawl.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), MaxRunning: 2000})
	if err := e.Register(ten); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- e.Run(ctx) }()
	for !e.Working() {
		time.Sleep(time.Millisecond)
	}
	b.ResetTimer()
	var wg sync.WaitGroup
	runs := make(chan int)
	for range inflight {
		wg.Go(func() {
			for n := range runs {
				r, err := ten.Start(context.Background(), e, n)
				if err != nil {
					b.Error(err)
					return
				}
				if _, err := r.Result(ctx); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := range b.N {
		runs <- i
	}
	close(runs)
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)*10/b.Elapsed().Seconds(), "steps/s")
	stop()
	if err := <-done; err != nil {
		b.Error(err)
	}
}
