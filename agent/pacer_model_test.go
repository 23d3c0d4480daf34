package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl/storetest"
)

// Whatever comes and leaves, and whoever dies, on however many workers: in no window more is
// let go than the bucket allows, and everybody who stays is let go in the end.
func TestWorkersKeepTheRateTogether(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 11))
			f := newFleet(t, 1+r.IntN(4), randomLimit(r), nil)
			var all sync.WaitGroup
			killed := -1
			if len(f.workers) > 1 && r.IntN(2) == 0 {
				killed = r.IntN(len(f.workers))
				all.Go(func() {
					time.Sleep(time.Duration(1+r.IntN(4)) * time.Second)
					f.workers[killed].kill()
				})
			}
			time.Sleep(time.Millisecond)
			for i := range 200 {
				worker, tokens, priority := r.IntN(len(f.workers)), 1+r.Int64N(1000), r.IntN(7)-3
				start, give := time.Duration(r.Int64N(int64(3*time.Second))), time.Duration(0)
				if r.IntN(3) == 0 {
					give = time.Duration(r.Int64N(int64(4 * time.Second)))
				}
				how := r.IntN(4)
				all.Go(func() {
					time.Sleep(start)
					ctx, cancel := context.WithCancel(f.workers[worker].ctx)
					defer cancel()
					if give > 0 {
						ctx, cancel = context.WithTimeout(ctx, give)
						defer cancel()
					}
					s, err := f.call(ctx, worker, tokens, priority)
					if err != nil {
						if ctx.Err() == nil {
							t.Errorf("seed %d: call %d: %v", seed, i, err)
						}
						return
					}
					switch how { // a call that is refused has used none, but that is not looked at here
					case 0:
						time.Sleep(time.Second)
						s.Done(tokens, Seen{Refused: true, Wait: time.Second})
					case 1, 2:
						s.Done(tokens, Seen{})
					}
				})
			}
			began := time.Now()
			all.Wait()
			time.Sleep(time.Minute) // what is to be told is told
			f.check(fmt.Sprint("seed ", seed), 0)
			var sum int64
			for _, w := range f.went {
				sum += w.tokens
			}
			need := float64(len(f.went)) / float64(f.limit.Requests)
			if f.limit.Tokens > 0 {
				need = max(need, float64(sum)/float64(f.limit.Tokens))
			}
			if took := f.went[len(f.went)-1].at.Sub(began).Seconds(); took > 1.25*need+6 {
				t.Errorf("seed %d: %d calls took %.1f s, %.1f s would do: %+v", seed, len(f.went), took, need, f.limit)
			}
		})
	}
}

// Clocks that are hours apart, and are set while calls wait, let no more go, and nobody waits
// for longer than without.
func TestClocksThatDifferKeepTheRate(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 12))
			limit := Limit{Requests: 5 + r.Int64N(50), Per: time.Second, Burst: time.Duration(r.Int64N(int64(time.Second)))}
			f := newFleet(t, 2+r.IntN(3), limit, nil)
			for _, w := range f.workers {
				w.skew(time.Duration(r.Int64N([]int64{1, int64(time.Second), int64(10 * time.Second), int64(24 * time.Hour)}[r.IntN(4)])))
			}
			var all sync.WaitGroup
			for range 300 {
				worker, start := r.IntN(len(f.workers)), time.Duration(r.Int64N(int64(2*time.Second)))
				all.Go(func() {
					time.Sleep(start)
					if _, err := f.call(t.Context(), worker, 0, 0); err != nil {
						t.Error(err)
					}
				})
			}
			for range 3 {
				time.Sleep(time.Duration(r.Int64N(int64(3 * time.Second))))
				f.workers[r.IntN(len(f.workers))].skew(time.Duration(r.Int64N(int64(time.Hour))))
			}
			began := time.Now()
			all.Wait()
			// Each time a clock goes ahead the bucket fills; what others were given by the old one goes beside.
			rate := float64(limit.Requests)
			jump := max(1, limit.Burst.Seconds()*rate) + horizon.Seconds()*rate
			f.check(fmt.Sprint("seed ", seed), 2+6*jump)
			if took, need := time.Since(began).Seconds(), 300/rate; took > 1.1*need+2 {
				t.Errorf("seed %d: 300 calls took %.1f s, not %.1f", seed, took, need)
			}
		})
	}
}

// A store that stands still, fails and loses its answers: nobody is forgotten, and no more
// goes than what a stall leaves behind.
func TestAStoreThatFailsNowAndThenKeepsTheRate(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 13))
			var mu sync.Mutex
			fine := false
			faults := func() (f storetest.Fault) {
				mu.Lock()
				defer mu.Unlock()
				if fine {
					return f
				}
				switch r.IntN(20) {
				case 0:
					f.Delay = time.Duration(r.Int64N(int64(3 * time.Second)))
				case 1:
					f.Err = errors.New("the disk is full")
				case 2:
					f.Lose = true
				default:
					f.Delay = time.Duration(r.Int64N(int64(5 * time.Millisecond)))
				}
				return f
			}
			limit := Limit{Requests: 5 + r.Int64N(50), Per: time.Second}
			f := newFleet(t, 1+r.IntN(4), limit, faults)
			var all sync.WaitGroup
			began := time.Now()
			const calls = 400
			for range calls {
				mu.Lock()
				worker, start := r.IntN(len(f.workers)), time.Duration(r.Int64N(int64(2*time.Second)))
				mu.Unlock()
				all.Go(func() {
					time.Sleep(start)
					for { // a caller may be told that the store fails: it comes again
						if s, err := f.call(t.Context(), worker, 0, 0); err == nil {
							s.Done(0, Seen{})
							return
						}
					}
				})
			}
			all.Wait()
			took := time.Since(began).Seconds()
			mu.Lock()
			fine = true
			mu.Unlock()
			time.Sleep(time.Minute)
			rate := float64(limit.Requests)
			f.check(fmt.Sprint("seed ", seed), 2+float64(len(f.workers))*2.3*rate)
			if whole := f.went[len(f.went)-1].at.Sub(f.went[0].at).Seconds(); (calls-1)/whole > 1.15*rate {
				t.Errorf("seed %d: %.1f calls a second over all, %v are allowed", seed, calls/whole, rate)
			}
			if need := calls / rate; took > 2*need+20 {
				t.Errorf("seed %d: %d calls took %.1f s, not %.1f", seed, calls, took, need)
			}
		})
	}
}

// Of calls on several workers none goes that ranks far behind one that has waited a while.
func TestWorkersServeByRankTogether(t *testing.T) {
	for seed := range uint64(5) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 14))
			f := newFleet(t, 2+r.IntN(3), Limit{Requests: 10, Per: time.Second}, nil)
			for _, w := range f.workers[1:] {
				if r.IntN(2) == 0 {
					w.skew(time.Duration(r.Int64N(int64(time.Hour))))
				}
			}
			var all sync.WaitGroup
			for i := range f.workers { // all lanes have seen the bucket's clock
				if _, err := f.call(t.Context(), i, 0, 0); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(2 * time.Second)
			f.went = nil
			for range 300 {
				worker, start, priority := r.IntN(len(f.workers)), time.Duration(r.Int64N(int64(20*time.Second))), r.IntN(5)-2
				all.Go(func() {
					time.Sleep(start)
					if _, err := f.call(t.Context(), worker, 0, priority); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			rank := func(w went) time.Time { return w.came.Add(-time.Duration(w.priority) * priorityWorth) }
			bad := 0
			for _, a := range f.went { // a waited while b went
				for _, b := range f.went {
					if b.at.Before(a.at) && b.at.After(a.came.Add(1500*time.Millisecond)) && rank(b).After(rank(a).Add(2*time.Second)) {
						bad++
						break
					}
				}
			}
			if bad > 6 { // of 300: the others had their slot already
				t.Errorf("seed %d: %d calls were passed by one that ranks behind", seed, bad)
			}
		})
	}
}
