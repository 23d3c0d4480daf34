package trigger

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// watch knows which schedules wait for runs to end, and lets them rest until they have. It saves looks, and
// makes the next one come in time; what it misses is found by one every few seconds.
type watch struct {
	engine *pawl.Engine
	news   chan struct{} // has an element when a schedule need not rest any more
	work   sync.WaitGroup

	mu      sync.Mutex
	rests   map[dueEntry]*resting
	waiting int // goroutines
}

// resting is a schedule that can't go on.
type resting struct {
	until  time.Time // somebody looks then, whatever happens
	cancel func()    // of who waits for the runs; nil: nobody does
}

const (
	restFor    = 5 * time.Second
	mostWaited = 64          // schedules whose runs are waited for; others are looked at every restFor
	forgotten  = time.Minute // a schedule that nobody has looked at for so long is not due any more
)

func newWatch(e *pawl.Engine) *watch {
	return &watch{engine: e, news: make(chan struct{}, 1), rests: map[dueEntry]*resting{}}
}

// rest says for which runs a schedule waits, and until when at most, if that is not zero. No runs: it does not.
func (w *watch) rest(ctx context.Context, e dueEntry, runs []string, until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.rests[e]
	if len(runs) == 0 {
		w.forget(e)
		return
	}
	if r == nil {
		r = &resting{}
		w.rests[e] = r
	}
	if r.until = time.Now().Add(restFor); !until.IsZero() && until.Before(r.until) {
		r.until = until
	}
	if r.cancel == nil && w.waiting < mostWaited {
		ctx, r.cancel = context.WithCancel(ctx)
		w.waiting++
		w.work.Go(func() { w.wait(ctx, e, r, runs) })
	}
}

// forget lets a schedule be looked at. Caller holds mu.
func (w *watch) forget(e dueEntry) {
	if r := w.rests[e]; r != nil {
		if r.cancel != nil {
			r.cancel()
		}
		delete(w.rests, e)
	}
}

// wait waits until all the runs have ended, also those that they go on as, and lets the schedule be
// looked at then. One that is blocked would not end: it is left to the looks.
func (w *watch) wait(ctx context.Context, e dueEntry, r *resting, runs []string) {
	over := true
	for _, id := range runs {
		info, _, err := w.engine.Wait(ctx, e.Tenant, id)
		if over = err == nil && info.State.Terminal() || errors.Is(err, pawl.ErrNotFound); !over {
			break
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting--
	r.cancel()
	r.cancel = nil
	if over && w.rests[e] == r {
		delete(w.rests, e)
		select {
		case w.news <- struct{}{}:
		default:
		}
	}
}

// resting reports whether a look at a schedule would be for nothing.
func (w *watch) resting(e dueEntry) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.rests[e]
	return r != nil && time.Now().Before(r.until)
}

// soonest is how long the next look may be put off: at most d, and not behind the end of a rest.
func (w *watch) soonest(d time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for e, r := range w.rests {
		switch left := r.until.Sub(now); {
		case left > 0:
			d = min(d, left)
		case left < -forgotten:
			w.forget(e)
		}
	}
	return d
}
