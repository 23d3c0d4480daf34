package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pawlrun/pawl"
)

var workloads = []struct {
	name, what string
	run        func() (figures, error)
}{
	{"ten", "runs of ten steps, 1,000 in flight", func() (figures, error) { return tenSteps(1000, n(20_000)) }},
	{"ten50", "runs of ten steps, 50 in flight", func() (figures, error) { return tenSteps(50, n(5_000)) }},
	{"alone", "runs of ten steps, one in flight", func() (figures, error) { return tenSteps(1, n(1000)) }},
	{"event", "an event sent to a waiting run, until the run has completed", func() (figures, error) { return eventToEnd(n(1000)) }},
	{"call", "calls of a model on this machine, one at a time", func() (figures, error) { return calls(n(2000)) }},
	{"fan", "1,000 parallel steps in one run", func() (figures, error) { return fanOut(1000) }},
	{"waiting", "runs that wait, then are due at the same second", func() (figures, error) { return waiting(n(100_000)) }},
	{"recover", "runs interrupted in a step, until all have gone on", func() (figures, error) { return recovery(n(10_000)) }},
	{"long", "one run of many steps: speed at its beginning and its end", func() (figures, error) { return longRun(n(100_000)) }},
}

type answer struct {
	N    int
	Text string
}

const hundredBytes = "a hundred bytes of text, as the short answer of a model would be, so that payloads are not nothing…"

var ten = pawl.Define("ten", func(c *pawl.Context, n int) (int, error) {
	for range 10 {
		a, err := pawl.Step(c, "step", func(context.Context) (answer, error) { return answer{n + 1, hundredBytes}, nil })
		if err != nil {
			return 0, err
		}
		n = a.N
	}
	return n, nil
})

func tenSteps(inFlight, runs int) (figures, error) {
	b, err := begin(&pawl.Options{MaxRunning: inFlight + 100}, ten)
	if err != nil {
		return nil, err
	}
	took := make([]time.Duration, runs)
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	cpu, start := cpuTime(), time.Now()
	for range inFlight {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < runs; i = int(next.Add(1)) - 1 {
				began := time.Now()
				r, err := ten.Start(context.Background(), b.Engine, i)
				if err == nil {
					var out int
					if out, err = r.Result(context.Background()); out != i+10 {
						err = errors.Join(err, fmt.Errorf("run %d returned %d", i, out))
					}
				}
				if err != nil {
					failed.Add(1)
					fmt.Fprintln(os.Stderr, err)
				}
				took[i] = time.Since(began)
			}
		})
	}
	wg.Wait()
	wall, used := time.Since(start), cpuTime()-cpu
	if failed.Load() > 0 {
		return nil, fmt.Errorf("%d runs failed", failed.Load())
	}
	slices.Sort(took)
	steps := float64(runs * 10)
	return figures{
		{"steps/s", steps / wall.Seconds(), ""},
		{"runs/s", float64(runs) / wall.Seconds(), ""},
		{"run p50", ms(took[runs/2]), "ms"},
		{"run p99", ms(took[runs*99/100]), "ms"},
		{"process CPU per step", used.Seconds() * 1e6 / steps, "µs"},
	}, b.stop()
}

var waitForGo = pawl.Define("wait", func(c *pawl.Context, n int) (int, error) {
	v, err := pawl.WaitFor[int](c, "go")
	return n + v, err
})

func eventToEnd(times int) (figures, error) {
	b, err := begin(nil, waitForGo)
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	var took []time.Duration
	for i := range times {
		r, err := waitForGo.Start(ctx, b.Engine, i)
		if err != nil {
			return nil, err
		}
		if err := until(b, pawl.Waiting, r.ID()); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := b.Signal(ctx, r.ID(), "go", 1); err != nil {
			return nil, err
		}
		if _, err := r.Result(ctx); err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return figures{{"event to end p50", ms(took[times/2]), "ms"}, {"event to end p99", ms(took[times*99/100]), "ms"}}, b.stop()
}

func until(b *bench, s pawl.State, id string) error {
	for {
		info, err := b.Get(context.Background(), pawl.Ref{ID: id})
		if err != nil || info.State == s {
			return err
		}
		time.Sleep(200 * time.Microsecond)
	}
}

var fan = pawl.Define("fan", func(c *pawl.Context, n int) (int, error) {
	out, err := pawl.Map(c, "part", make([]int, n), func(c *pawl.Context, _ int) (int, error) {
		a, err := pawl.Step(c, "step", func(context.Context) (answer, error) { return answer{1, hundredBytes}, nil })
		return a.N, err
	})
	sum := 0
	for _, v := range out {
		sum += v
	}
	return sum, err
})

func fanOut(width int) (figures, error) {
	b, err := begin(nil, fan)
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	for range 10 {
		began := time.Now()
		r, err := fan.Start(context.Background(), b.Engine, width)
		if err != nil {
			return nil, err
		}
		if sum, err := r.Result(context.Background()); err != nil || sum != width {
			return nil, fmt.Errorf("sum %d: %w", sum, err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return figures{{"run, median of ten", ms(took[5]), "ms"}, {"run, worst of ten", ms(took[9]), "ms"}}, b.stop()
}

func waiting(runs int) (figures, error) {
	at := make(chan time.Time, 1)
	var early, woken atomic.Int64
	var lateMost atomic.Int64
	target := atomic.Pointer[time.Time]{}
	nap := pawl.Define("nap", func(c *pawl.Context, n int) (int, error) {
		if err := c.SleepUntil(*target.Load()); err != nil {
			return 0, err
		}
		now := time.Now()
		if now.Before(*target.Load()) {
			early.Add(1)
		}
		late := now.Sub(*target.Load()).Nanoseconds()
		for old := lateMost.Load(); late > old && !lateMost.CompareAndSwap(old, late); old = lateMost.Load() {
		}
		if woken.Add(1) == int64(runs) {
			at <- now
		}
		return n, nil
	})
	b, err := begin(&pawl.Options{ParkFor: time.Second}, nap)
	if err != nil {
		return nil, err
	}
	// All due in the same instant, late enough for all to be asleep before.
	due := time.Now().Add(15*time.Second + time.Duration(runs)*60*time.Microsecond)
	target.Store(&due)
	idle := memory()
	var next atomic.Int64
	var wg sync.WaitGroup
	var firstErr atomic.Pointer[error]
	start := time.Now()
	for range 500 {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= runs; i = int(next.Add(1)) {
				if _, err := nap.Start(context.Background(), b.Engine, i); err != nil {
					firstErr.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	startsPerSecond := float64(runs) / time.Since(start).Seconds()
	if e := firstErr.Load(); e != nil {
		return nil, *e
	}
	var asleep int64
	for asleep < int64(runs) {
		if time.Now().After(due) {
			return nil, errors.New("the runs were not all asleep when they became due: make the workload smaller")
		}
		s, err := b.Stats(context.Background())
		if err != nil {
			return nil, err
		}
		asleep = s.Runs[pawl.Waiting]
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(1500 * time.Millisecond) // until the last is evicted
	used := memory() - idle
	cpu, began := cpuTime(), time.Now()
	time.Sleep(min(10*time.Second, time.Until(due)-200*time.Millisecond))
	idleCPU := float64(cpuTime()-cpu) / float64(time.Since(began)) * 100
	last := <-at
	if woken.Load() != int64(runs) {
		return nil, fmt.Errorf("%d of %d woke", woken.Load(), runs)
	}
	return figures{
		{"starts/s", startsPerSecond, ""},
		{"memory while they wait", float64(used) / (1 << 20), "MiB above an idle engine"},
		{"idle CPU while they wait", idleCPU, "% of a core"},
		{"woken early", float64(early.Load()), "runs"},
		{"due until the last has woken", ms(last.Sub(due)), "ms"},
	}, b.stop()
}

func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func recovery(runs int) (figures, error) {
	release := make(chan struct{})
	var bodies, second atomic.Int64
	held := pawl.Define("held", func(c *pawl.Context, n int) (int, error) {
		if err := pawl.Do(c, "before", func(context.Context) error { bodies.Add(1); return nil }); err != nil {
			return 0, err
		}
		return pawl.Step(c, "held", func(ctx context.Context) (int, error) {
			second.Add(1)
			select {
			case <-release:
			case <-ctx.Done():
				return 0, ctx.Err()
			}
			return n, nil
		})
	})
	path := newPath()
	store, err := open(path)
	if err != nil {
		return nil, err
	}
	cut := &severed{Store: store}
	b, err := work(cut, path, &pawl.Options{MaxRunning: runs + 1, Lease: 2 * time.Second}, held)
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	var next, failed atomic.Int64
	for range 200 {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= runs; i = int(next.Add(1)) {
				if _, err := held.Start(context.Background(), b.Engine, i); err != nil {
					failed.Add(1)
					fmt.Fprintln(os.Stderr, err)
				}
			}
		})
	}
	wg.Wait()
	if failed.Load() > 0 { // it would be waited for them for ever
		return nil, fmt.Errorf("%d runs did not start", failed.Load())
	}
	for second.Load() < int64(runs) {
		time.Sleep(time.Millisecond)
	}
	cut.off.Store(true) // the worker is gone as by a kill: it leaves nothing, it says nothing
	if err := store.Close(); err != nil {
		return nil, err
	}
	first := bodies.Load()
	began := time.Now()
	again, err := open(path)
	if err != nil {
		return nil, err
	}
	b2, err := work(again, path, &pawl.Options{MaxRunning: runs + 1}, held)
	if err != nil {
		return nil, err
	}
	for second.Load() < int64(2*runs) {
		time.Sleep(time.Millisecond)
	}
	took := time.Since(began)
	close(release)
	rerun := bodies.Load() - first
	err = b2.stop()
	if berr := b.stop(); !errors.Is(berr, pawl.ErrClosed) { // its store was taken away
		err = errors.Join(err, berr)
	}
	return figures{{"restart until all go on", ms(took), "ms"}, {"recorded steps run again", float64(rerun), ""}}, err
}

// severed is a store that can be taken away from its engine.
type severed struct {
	pawl.Store
	off atomic.Bool
}

func (s *severed) Commit(ctx context.Context, b *pawl.Batch) error {
	if s.off.Load() {
		return pawl.ErrFenced
	}
	return s.Store.Commit(ctx, b)
}

func (s *severed) Claim(ctx context.Context, r pawl.ClaimRequest) (pawl.Claims, error) {
	if s.off.Load() {
		return pawl.Claims{}, pawl.ErrFenced
	}
	return s.Store.Claim(ctx, r)
}

func (s *severed) Beat(ctx context.Context, w int64, now, until time.Time) error {
	if s.off.Load() {
		return pawl.ErrFenced
	}
	return s.Store.Beat(ctx, w, now, until)
}

func (s *severed) Join(ctx context.Context, w pawl.WorkerInfo, until time.Time) (int64, error) {
	if s.off.Load() {
		return 0, pawl.ErrClosed
	}
	return s.Store.Join(ctx, w, until)
}

func (s *severed) Leave(ctx context.Context, w int64, now time.Time) error { return nil }

func longRun(steps int) (figures, error) {
	var marks [4]time.Time
	tenth := max(steps/10, 1)
	long := pawl.Define("long", func(c *pawl.Context, n int) (int, error) {
		for i := range n {
			switch i {
			case 100:
				marks[0] = time.Now()
			case 100 + tenth:
				marks[1] = time.Now()
			case n - tenth:
				marks[2] = time.Now()
			}
			if _, err := pawl.Step(c, "step", func(context.Context) (answer, error) { return answer{i, hundredBytes}, nil }); err != nil {
				return 0, err
			}
		}
		marks[3] = time.Now()
		return n, nil
	})
	b, err := begin(nil, long)
	if err != nil {
		return nil, err
	}
	r, err := long.Start(context.Background(), b.Engine, steps)
	if err != nil {
		return nil, err
	}
	if _, err := r.Result(context.Background()); err != nil {
		return nil, err
	}
	head := float64(tenth) / marks[1].Sub(marks[0]).Seconds()
	tail := float64(tenth) / marks[3].Sub(marks[2]).Seconds()
	return figures{{"steps/s, first tenth", head, ""}, {"steps/s, last tenth", tail, ""}, {"last / first", tail / head * 100, "%"}}, b.stop()
}

// bareStore is the load of ten without an engine: each writer starts a run, appends ten
// entries one after the other and ends it, and waits each time until that is durable; one
// goroutine commits what has come.
func bareStore(writers, runs int) (figures, error) {
	store, err := open(newPath())
	if err != nil {
		return nil, err
	}
	ctx := context.Background()
	worker, err := store.Join(ctx, pawl.WorkerInfo{Name: "bare", Started: time.Now()}, time.Now().Add(time.Hour))
	if err != nil {
		return nil, err
	}
	type ask struct {
		start *pawl.Start // or
		ch    *pawl.Change
		done  chan struct{}
	}
	queue := make(chan ask, writers)
	failed := make(chan error, 1)
	go func() {
		b := &pawl.Batch{}
		var asks []ask
		for a := range queue {
			asks = append(asks[:0], a)
			for more := true; more && len(asks) < 1024; {
				select {
				case a, ok := <-queue:
					if more = ok; ok {
						asks = append(asks, a)
					}
				default:
					more = false
				}
			}
			*b = pawl.Batch{
				Worker: worker, Now: time.Now(), Room: len(asks), Workflows: []string{"ten"},
				Changes: b.Changes[:0], Starts: b.Starts[:0], Granted: b.Granted[:0],
			}
			for _, a := range asks {
				if a.start != nil {
					b.Starts = append(b.Starts, a.start)
				} else {
					b.Changes = append(b.Changes, a.ch)
				}
			}
			if err := store.Commit(ctx, b); err != nil {
				failed <- err
				return
			}
			for _, a := range asks {
				a.done <- struct{}{}
			}
		}
	}()
	data := []byte(`{"N":1,"Text":"` + hundredBytes + `"}`)
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range writers {
		wg.Go(func() {
			done := make(chan struct{}, 1)
			ch := &pawl.Change{Epoch: 1, Entries: make([]pawl.Entry, 1)}
			for n := next.Add(1); n <= int64(runs); n = next.Add(1) {
				st := &pawl.Start{Run: pawl.NewRun{ID: fmt.Sprint("run", n), Workflow: "ten", Input: []byte("1"), Keep: -1, Eager: true}}
				queue <- ask{start: st, done: done}
				<-done
				ch.Run, ch.To = st.Key, nil
				for seq := range int64(10) {
					ch.Entries[0] = pawl.Entry{Seq: seq + 1, Kind: pawl.KindStep, Key: "step#7", At: time.Now(), Data: data}
					queue <- ask{ch: ch, done: done}
					<-done
				}
				ch.Entries[0] = pawl.Entry{Seq: 11, Kind: pawl.KindResult, At: time.Now(), Data: data}
				ch.To = &pawl.Move{State: pawl.Completed, Keep: -1}
				queue <- ask{ch: ch, done: done}
				<-done
			}
		})
	}
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	select {
	case err := <-failed:
		return nil, err
	case <-ended:
	}
	wall := time.Since(start)
	close(queue)
	done, err := store.Stats(ctx, time.Now())
	if err == nil && done.Runs[pawl.Completed] != int64(runs) {
		err = fmt.Errorf("%d of %d runs have completed", done.Runs[pawl.Completed], runs)
	}
	if err != nil {
		return nil, err
	}
	return figures{{"steps/s", float64(10*runs) / wall.Seconds(), ""}}, store.Close()
}

func ms(d time.Duration) float64 { return math.Round(d.Seconds()*1e5) / 100 }

// cpuTime is what this process has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
