package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

// A gauge never lets more through, in any window, than its size and what flows in.
func TestAGaugeKeepsItsRate(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		ru := rule{limit: 1 + r.Int64N(1000), per: time.Duration(1+r.IntN(3600)) * time.Second}
		ru.full = max(ru.span(1), time.Duration(r.Int64N(int64(ru.per))))
		size := float64(ru.full) / float64(ru.span(1))
		var g gauge
		now := int64(1e18)
		type taken struct{ at, n int64 }
		var all []taken
		for range 200 {
			now += r.Int64N(int64(ru.span(1 + r.Int64N(5))))
			n := 1 + r.Int64N(max(int64(size), 1))
			at := g.when(ru, now, n)
			if at < now {
				t.Fatalf("seed %d: a slot in the past", seed)
			}
			g.take(ru, at, n)
			all = append(all, taken{at, n})
			now = at
		}
		for i := range all {
			var sum int64
			for _, b := range all[i:] {
				sum += b.n
				if most := size + float64(b.at-all[i].at)/float64(ru.span(1)); float64(sum) > most+1e-3*most+1 {
					t.Fatalf("seed %d: %d in %v, at most %.2f of %+v", seed, sum, time.Duration(b.at-all[i].at), most, ru)
				}
			}
		}
	}
}

// The same of a bucket as a whole: times at which calls of one process are let go, in
// virtual time, whatever they need and whenever they come and leave.
func TestABucketKeepsItsRate(t *testing.T) {
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 3))
			e := memory(t)
			limit := Limit{Requests: 1 + r.Int64N(100), Tokens: 1 + r.Int64N(5000), Per: time.Second, Burst: time.Duration(r.Int64N(int64(time.Second)))}
			pacer := NewPacer(map[string]Limit{"": limit})
			var mu sync.Mutex
			var went []time.Time
			var all sync.WaitGroup
			for range 150 {
				tokens, start, give := r.Int64N(100), time.Duration(r.Int64N(int64(time.Second))), time.Duration(r.Int64N(int64(20*time.Second)))
				all.Go(func() {
					time.Sleep(start)
					ctx, cancel := context.WithTimeout(t.Context(), give)
					defer cancel()
					if s, err := pacer.Take(ctx, e, "b", tokens, 0); err == nil {
						mu.Lock()
						went = append(went, time.Now())
						mu.Unlock()
						s.Done(tokens, Seen{})
					}
				})
			}
			all.Wait()
			slices.SortFunc(went, time.Time.Compare)
			burst := max(1, limit.Burst.Seconds()*float64(limit.Requests))
			for i := range went {
				for j := i; j < len(went); j++ {
					if n, most := j-i+1, burst+went[j].Sub(went[i]).Seconds()*float64(limit.Requests); float64(n) > most+1e-3 {
						t.Fatalf("seed %d: %d calls in %v, at most %.2f of %+v", seed, n, went[j].Sub(went[i]), most, limit)
					}
				}
			}
			if len(went) == 0 {
				t.Fatal("nobody went")
			}
			time.Sleep(time.Second) // what is to be told is told
		})
	}
}

func TestHigherPriorityGoesFirstAndNobodyStarves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memory(t)
		pacer := NewPacer(map[string]Limit{"": {Requests: 1, Per: time.Second}})
		var mu sync.Mutex
		var order []string
		var all sync.WaitGroup
		take := func(name string, priority int) {
			all.Go(func() {
				if _, err := pacer.Take(t.Context(), e, "b", 0, priority); err != nil {
					t.Error(err)
				}
				mu.Lock()
				order = append(order, name)
				mu.Unlock()
			})
			time.Sleep(time.Millisecond)
		}
		take("first", 0)
		take("low", -1)
		take("a", 0)
		take("b", 0)
		take("high", 1)
		for i := range 20 { // a second apart, and each before "low" but for its age
			take(fmt.Sprint("later", i), 0)
			time.Sleep(time.Second)
		}
		all.Wait()
		if got := strings.Join(order[:4], " "); got != "first high a b" {
			t.Errorf("the order was %v", order)
		}
		if at := slices.Index(order, "low"); at < 8 || at > 16 {
			t.Errorf("the call of low priority was number %d: %v", at, order)
		}
	})
}

// A worker whose callers rank lower leaves the slots to another's.
func TestPriorityHoldsAcrossWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := sqliteStore(t, sqlite.Memory)
		limit := map[string]Limit{"": {Requests: 10, Per: time.Second}}
		var all sync.WaitGroup
		var low, lowBefore atomic.Int64
		busy, urgent := NewPacer(limit), NewPacer(limit)
		one, two := pawl.New(store, nil), pawl.New(store, nil)
		for range 100 {
			all.Go(func() {
				if _, err := busy.Take(t.Context(), one, "b", 0, 0); err != nil {
					t.Error(err)
				}
				low.Add(1)
			})
		}
		time.Sleep(2 * time.Second)
		before := low.Load()
		var high sync.WaitGroup
		for range 20 {
			high.Go(func() {
				if _, err := urgent.Take(t.Context(), two, "b", 0, 5); err != nil {
					t.Error(err)
				}
			})
		}
		began := time.Now()
		high.Wait()
		lowBefore.Store(low.Load() - before)
		if took := time.Since(began); took > 3*time.Second || lowBefore.Load() > 8 {
			t.Errorf("20 urgent calls took %v, and %d others went before them", took, lowBefore.Load())
		}
		all.Wait()
		if took := time.Since(began); took > 10500*time.Millisecond {
			t.Errorf("120 calls at 10 a second took %v after the first 2 s", took)
		}
	})
}

func TestACallerThatLeavesCostsNobodyASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memory(t)
		pacer := NewPacer(map[string]Limit{"": {Requests: 10, Tokens: 1000, Per: time.Second}})
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("not wanted any more")
		var all sync.WaitGroup
		began := time.Now()
		for i := range 60 {
			all.Go(func() {
				own := t.Context()
				if i%2 == 0 {
					own = ctx
				}
				_, err := pacer.Take(own, e, "b", 100, 0)
				if i%2 != 0 && err != nil || err != nil && !errors.Is(err, why) {
					t.Error(err)
				}
			})
			time.Sleep(time.Microsecond)
		}
		time.Sleep(1050 * time.Millisecond) // half of those with a slot go too
		cancel(why)
		all.Wait()
		if took := time.Since(began); took > 3*time.Second+700*time.Millisecond {
			t.Errorf("about 36 calls at 10 a second took %v", took)
		}
		time.Sleep(time.Second)
	})
}

// One who leaves after it was told when to go gives its slot to the next.
func TestASlotThatIsNotUsedGoesToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := memory(t)
		pacer := NewPacer(map[string]Limit{"": {Requests: 10, Per: time.Second}})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		began := time.Now()
		for i := range 7 { // four slots are taken at once
			all.Go(func() {
				own := t.Context()
				if i >= 1 && i <= 3 {
					own = ctx
				}
				if _, err := pacer.Take(own, e, "b", 0, -i); err != nil && own != ctx {
					t.Error(err)
				}
			})
		}
		time.Sleep(50 * time.Millisecond)
		cancel()
		all.Wait()
		if took := time.Since(began); took != 300*time.Millisecond {
			t.Errorf("the last of four went after %v", took)
		}
	})
}
