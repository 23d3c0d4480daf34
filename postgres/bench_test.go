package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// durable starts a server that syncs, so that a figure means something, unless one is given.
func durable(b *testing.B) *postgres.Store {
	b.Helper()
	if os.Getenv(pgtest.EnvURL) != "" {
		return openAt(b, pgtest.URL(b))
	}
	server, err := pgtest.Start(pgtest.Options{Settings: map[string]string{"fsync": "on"}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := server.Stop(); err != nil {
			b.Error(err)
		}
	})
	return openAt(b, server.URL())
}

var hundredBytes = json.RawMessage(`{"n":1,"text":"a hundred bytes or so of text, as a small answer of a model might be, and some more"}`)

// One entry per commit and goroutine; commits are gathered as an engine does it.
func BenchmarkAppend1(b *testing.B)    { benchAppend(b, 1) }
func BenchmarkAppend100(b *testing.B)  { benchAppend(b, 100) }
func BenchmarkAppend1000(b *testing.B) { benchAppend(b, 1000) }

func benchAppend(b *testing.B, goroutines int) {
	s := durable(b)
	ctx := b.Context()
	now := time.Now()
	worker, err := s.Join(ctx, pawl.WorkerInfo{Name: "bench", Started: now}, now.Add(time.Hour))
	if err != nil {
		b.Fatal(err)
	}
	begin := &pawl.Batch{Worker: worker, Now: now, Room: goroutines, Workflows: []string{"flow"}}
	for i := range goroutines {
		begin.Starts = append(begin.Starts, &pawl.Start{Run: pawl.NewRun{ID: fmt.Sprint("run", i), Workflow: "flow", Input: hundredBytes, Eager: true}})
	}
	if err := s.Commit(ctx, begin); err != nil {
		b.Fatal(err)
	}
	type ask struct {
		ch   *pawl.Change
		done chan error
	}
	asks := make(chan ask, goroutines)
	var loop, all sync.WaitGroup
	batches := 0
	loop.Go(func() {
		for first := range asks {
			batch := &pawl.Batch{Worker: worker, Now: time.Now(), Changes: []*pawl.Change{first.ch}}
			answer := []chan error{first.done}
			for more := true; more && len(answer) < 1024; {
				select {
				case a, ok := <-asks:
					if more = ok; ok {
						batch.Changes, answer = append(batch.Changes, a.ch), append(answer, a.done)
					}
				default:
					more = false
				}
			}
			err := s.Commit(ctx, batch)
			batches++
			for _, done := range answer {
				done <- err
			}
		}
	})
	b.ResetTimer()
	for i := range goroutines {
		run := begin.Granted[i].Info.Key
		n := b.N / goroutines
		if i < b.N%goroutines {
			n++
		}
		all.Go(func() {
			done := make(chan error)
			for seq := range n {
				e := pawl.Entry{Seq: int64(seq) + 1, Kind: pawl.KindStep, Key: "step", Attempt: 1, At: time.Now(), Data: hundredBytes}
				asks <- ask{&pawl.Change{Run: run, Epoch: 1, Entries: []pawl.Entry{e}}, done}
				if err := <-done; err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	close(asks)
	loop.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(float64(b.N)/float64(batches), "entries/commit")
}

// Runs of ten steps through an engine: a start, ten steps, an end.
func BenchmarkTenSteps1(b *testing.B)    { benchTenSteps(b, 1) }
func BenchmarkTenSteps200(b *testing.B)  { benchTenSteps(b, 200) }
func BenchmarkTenSteps1000(b *testing.B) { benchTenSteps(b, 1000) }

func benchTenSteps(b *testing.B, inflight int) {
	s := durable(b)
	ten := pawl.Define("ten", func(c *pawl.Context, n int) (int, error) {
		for range 10 {
			_, err := pawl.Step(c, "step", func(ctx context.Context) (json.RawMessage, error) { return hundredBytes, nil })
			if err != nil {
				return 0, err
			}
		}
		return n, nil
	})
	e := pawl.New(s, &pawl.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), MaxRunning: 2000})
	if err := e.Register(ten); err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- e.Run(ctx) }()
	for !e.Working() {
		time.Sleep(time.Millisecond)
	}
	b.ResetTimer()
	var all sync.WaitGroup
	inputs := make(chan int)
	for range inflight {
		all.Go(func() {
			for n := range inputs {
				r, err := ten.Start(context.Background(), e, n)
				if err == nil {
					_, err = r.Result(ctx)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	for i := range b.N {
		inputs <- i
	}
	close(inputs)
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)*10/b.Elapsed().Seconds(), "steps/s")
	stop()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}
