package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest"
)

// went is a call that was let go.
type went struct {
	at       time.Time
	came     time.Time
	worker   int
	priority int
	tokens   int64
}

// fleet is some workers with a pacer each, on one store that fails them now and then. What
// they let go is noted down, to be held against what they were allowed.
type fleet struct {
	t       *testing.T
	limit   Limit
	workers []*paceWorker

	mu   sync.Mutex
	went []went
}

type paceWorker struct {
	e      *pawl.Engine
	p      *Pacer
	ctx    context.Context
	kill   context.CancelFunc
	deaths int
}

var errDead = errors.New("the process is gone")

// newFleet makes workers. faults, if not nil, says what happens to a read or a write of records.
func newFleet(t *testing.T, n int, limit Limit, faults func() storetest.Fault) *fleet {
	store := sqliteStore(t, sqlite.Memory)
	f := &fleet{t: t, limit: limit}
	for range n {
		w := &paceWorker{p: NewPacer(map[string]Limit{"": limit})}
		w.ctx, w.kill = context.WithCancel(t.Context())
		w.e = pawl.New(storetest.Faulty(store, func(method string, _ int) storetest.Fault {
			switch {
			case w.ctx.Err() != nil && t.Context().Err() == nil:
				return storetest.Fault{Err: errDead}
			case faults != nil && (method == "Commit" || method == "Records"):
				return faults()
			}
			return storetest.Fault{}
		}), nil)
		f.workers = append(f.workers, w)
	}
	return f
}

// skew has a worker's clock run ahead, for as long as its lane lives.
func (w *paceWorker) skew(d time.Duration) {
	l := w.p.lane(w.e, "b")
	l.mu.Lock()
	l.ahead += int64(d)
	l.mu.Unlock()
}

// call takes a slot of worker i, and says whether it went.
func (f *fleet) call(ctx context.Context, i int, tokens int64, priority int) (*Slot, error) {
	w := f.workers[i]
	came := time.Now()
	s, err := w.p.Take(ctx, w.e, "b", tokens, priority)
	if err == nil && w.ctx.Err() == nil {
		f.mu.Lock()
		f.went = append(f.went, went{time.Now(), came, i, priority, tokens})
		f.mu.Unlock()
	}
	return s, err
}

// check holds what went against the limit: in no window more than the bucket holds and what
// flows in, and slack more calls.
func (f *fleet) check(what string, slack float64) {
	f.t.Helper()
	slices.SortFunc(f.went, func(a, b went) int { return a.at.Compare(b.at) })
	per := cmp.Or(f.limit.Per, time.Minute).Seconds()
	sum := func(name string, limit int64, of func(went) int64) {
		if limit == 0 {
			return
		}
		rate := float64(limit) / per
		size := max(1, f.limit.Burst.Seconds()*rate)
		for i := range f.went {
			n := int64(0)
			for j := i; j < len(f.went); j++ {
				n += of(f.went[j])
				d := f.went[j].at.Sub(f.went[i].at)
				if most := size + d.Seconds()*rate + slack*float64(of(f.went[j])); float64(n) > most+1e-3*most {
					f.t.Fatalf("%s: %d %s in %v, at most %.2f of %+v", what, n, name, d, most, f.limit)
				}
			}
		}
	}
	sum("calls", f.limit.Requests, func(went) int64 { return 1 })
	sum("tokens", f.limit.Tokens, func(w went) int64 { return w.tokens })
}

func randomLimit(r *rand.Rand) Limit {
	l := Limit{Requests: 1 + r.Int64N(60), Per: time.Second}
	if r.IntN(2) == 0 {
		l.Tokens = 2000 + r.Int64N(8000)
		l.Burst = time.Second // so that a call's tokens are there at all
	}
	if r.IntN(2) == 0 {
		l.Burst = max(l.Burst, time.Duration(r.Int64N(int64(3*time.Second))))
	}
	return l
}

// Whatever comes and leaves, and whoever dies, on however many workers: in no window more is
// let go than the bucket allows, and everybody who stays is let go in the end.
func TestWorkersKeepTheRateTogether(t *testing.T) {
	for seed := range uint64(12) {
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

// A refusal where no limit is known stops all workers for as long as the provider asks.
func TestARefusalStopsAllWorkers(t *testing.T) {
	for seed := range uint64(5) {
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
	for seed := range uint64(3) {
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
