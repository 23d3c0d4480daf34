package agent

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A refusal where no limit is known stops all workers for as long as the provider asks.
func TestARefusalStopsAllWorkers(t *testing.T) {
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 16))
			f := newFleet(t, 1+r.IntN(4), Limit{}, nil)
			type stop struct{ from, to time.Time }
			var stops []stop
			var all sync.WaitGroup
			for range 400 {
				worker, start := r.IntN(len(f.workers)), time.Duration(r.Int64N(int64(60*time.Second)))
				wait := time.Duration(0)
				if r.IntN(40) == 0 {
					wait = time.Duration(1+r.IntN(8)) * time.Second
				}
				all.Go(func() {
					time.Sleep(start)
					s, err := f.call(t.Context(), worker, 0, 0)
					if err != nil {
						t.Error(err)
						return
					}
					if s.Done(0, Seen{Refused: wait > 0, Wait: wait}); wait > 0 {
						f.mu.Lock()
						stops = append(stops, stop{time.Now(), time.Now().Add(wait)})
						f.mu.Unlock()
					}
				})
			}
			all.Wait()
			time.Sleep(time.Second)
			for _, s := range stops {
				for _, w := range f.went {
					if w.at.After(s.from.Add(glance+horizon)) && w.at.Before(s.to) {
						t.Errorf("seed %d: a call went %v after a refusal that asked to wait %v", seed, w.at.Sub(s.from), s.to.Sub(s.from))
					}
				}
			}
			if len(stops) == 0 {
				t.Fatal("none was refused")
			}
		})
	}
}

// What providers say, and how much calls are said to use, stops a bucket for two days at
// most, whatever it is: a day, and the longest period a limit may have.
func TestNoLieStopsABucketForEver(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 15))
		number := func() int64 {
			return []int64{0, 1, -1, 2, r.Int64N(1000), r.Int64N(1 << 40), -r.Int64N(1 << 40), math.MaxInt64, math.MinInt64}[r.IntN(9)]
		}
		var limit Limit
		if r.IntN(2) == 0 {
			limit = Limit{Requests: number() % 1000, Tokens: number() % 1000, Per: time.Duration(r.Int64N(int64(time.Hour))), Burst: time.Duration(r.Int64N(int64(time.Hour)))}
		}
		now := time.Now().UnixNano()
		b := &bucket{At: now}
		for range 30 {
			now += r.Int64N(int64(time.Minute))
			requests, tokens := b.rules(limit)
			n := min(max(number(), 0), tokens.most())
			if at := b.Tokens.when(tokens, b.Requests.when(requests, now, 1), n); at < now+int64(time.Second) {
				b.Requests.take(requests, at, 1)
				b.Tokens.take(tokens, at, n)
			}
			b.Taken += r.Int64N(1 << 20)
			b.Spent += r.Int64N(1 << 40)
			said := Seen{number(), number(), time.Duration(number()), number(), number(), time.Duration(number()), r.IntN(2) == 0, time.Duration(number())}
			b.hear(report{Seen: said.sane(), taken: r.Int64N(b.Taken + 1), spent: r.Int64N(b.Spent + 1), released: now - r.Int64N(int64(time.Minute)), heard: now,
				more: min(max(number(), -maxTokens), maxTokens)}, limit)
			requests, tokens = b.rules(limit)
			at := max(b.Blocked, b.Tokens.when(tokens, b.Requests.when(requests, now, 1), number()&maxTokens))
			if held := time.Duration(at - now); held > 48*time.Hour || at < now {
				t.Fatalf("seed %d: the next call goes after %v: %+v of %+v", seed, held, b, limit)
			}
		}
	}
}

// Buckets that nobody uses any more take no memory, but for a minute.
func TestBucketsThatAreNotUsedAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memory(t)
		p := NewPacer(map[string]Limit{"limited": {Requests: 1000, Per: time.Second}})
		var all sync.WaitGroup
		for i := range 3000 {
			all.Go(func() {
				s, err := p.Take(t.Context(), e, fmt.Sprintf("%s/%d", []string{"limited", "free"}[i%2], i), 1, 0)
				if err != nil {
					t.Error(err)
					return
				}
				s.Done(1, Seen{})
			})
		}
		all.Wait()
		time.Sleep(2 * laneKept)
		if _, err := p.Take(t.Context(), e, "free/one", 1, 0); err != nil {
			t.Fatal(err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if n := len(p.lanes); n != 1 {
			t.Errorf("%d buckets are still in memory", n)
		}
		time.Sleep(bucketKept)
		if state, err := p.State(t.Context(), e); err != nil || len(state) != 0 {
			t.Errorf("%d buckets are still in the store: %v", len(state), err)
		}
	})
}

// With a provider whose headers tell the truth, and no limit of one's own, hardly a call is
// refused, and what the provider allows is used, by however many workers.
func TestWorkersLearnALimitTogether(t *testing.T) {
	for seed := range uint64(2) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 17))
			f := newFleet(t, 1+r.IntN(4), Limit{}, nil)
			limit := 60 + r.Int64N(200)
			rate := float64(limit) / 60
			var mu sync.Mutex
			full, at, refused, early := float64(limit), time.Now(), 0, 0
			calls := int(3 * limit)
			var all sync.WaitGroup
			began := time.Now()
			for range calls {
				worker, start, takes := r.IntN(len(f.workers)), time.Duration(r.Int64N(int64(time.Minute))), time.Duration(r.Int64N(int64(2*time.Second)))
				all.Go(func() {
					time.Sleep(start)
					for {
						s, err := f.call(t.Context(), worker, 0, 0)
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						full = min(float64(limit), full+rate*time.Since(at).Seconds())
						at = time.Now()
						said := Seen{RequestsLimit: limit, Refused: full < 1}
						if !said.Refused {
							full--
						} else if refused++; time.Since(began) < 5*time.Second {
							early++
						}
						said.RequestsLeft = int64(full)
						said.RequestsReset = time.Duration((float64(limit) - full) / rate * float64(time.Second))
						if said.Refused {
							said.Wait = time.Second
						}
						mu.Unlock()
						time.Sleep(takes)
						if s.Done(0, said); !said.Refused {
							return
						}
						time.Sleep(time.Second)
					}
				})
			}
			all.Wait()
			took := time.Since(began)
			time.Sleep(time.Minute)
			if refused-early > calls/20 {
				t.Errorf("seed %d: %d of %d calls were refused", seed, refused, calls)
			}
			if need := float64(calls)/rate - 60; took.Seconds() > 1.1*need+10 { // a minute's worth was there
				t.Errorf("seed %d: %d calls at %d a minute took %v, not %.0f s", seed, calls, limit, took, need)
			}
			t.Logf("seed %d: %d workers, %d calls at %d a minute took %v; %d refused", seed, len(f.workers), calls, limit, took, refused)
		})
	}
}
