package agent

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
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
	workers []*fleetWorker

	mu   sync.Mutex
	went []went
}

type fleetWorker struct {
	e    *pawl.Engine
	p    *Pacer
	ctx  context.Context
	kill context.CancelFunc
}

var errDead = errors.New("the process is gone")

// newFleet makes workers. faults, if not nil, says what happens to a read or a write of records.
func newFleet(t *testing.T, n int, limit Limit, faults func() storetest.Fault) *fleet {
	store := sqliteStore(t, sqlite.Memory)
	f := &fleet{t: t, limit: limit}
	for range n {
		w := &fleetWorker{p: NewPacer(map[string]Limit{"": limit})}
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
func (w *fleetWorker) skew(d time.Duration) {
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
