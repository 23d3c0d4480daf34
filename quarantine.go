package pawl

import (
	"context"
	"time"
)

// suspectAt is how many strikes make a run a suspect: it may be what kills its workers.
const suspectAt = 3

// quarantine works suspects one at a time and as alone as can be, so that when the process
// dies again it is known which run did it, and no innocent one is blocked in its place.
// While a suspect is tried the worker takes no other run; a store charges a death during
// the trial to the suspect alone (Change.Solo). A trial ends when the run makes progress,
// ends or waits, at the latest after trialTime.
func (e *Engine) quarantine(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.suspected:
		}
		s, more := e.nextSuspect()
		if more {
			wakeUp(e.suspected)
		}
		if s.run == nil {
			continue
		}
		r, c := s.run, s.claim
		e.log.Warn("pawl: a run whose workers keep dying is tried alone", "run", r.info.ID, "workflow", r.info.Workflow, "strikes", r.info.Strikes)
		e.trial.Store(true)
		e.aloneFor(ctx, r)
		ch := &Change{Run: r.info.Key, Epoch: r.info.Epoch, Solo: true}
		if e.pipe.do(&item{worker: r.worker, change: ch}) == nil {
			e.background.Go(func() { r.begin(c) })
			r.proven(ctx, trialTime)
		}
		e.trial.Store(false)
		e.kick()
	}
}

const trialTime = 2 * time.Second

type suspect struct {
	run   *live
	claim Claim
}

// suspect queues a run for its trial. Caller holds e.mu.
func (e *Engine) suspect(r *live, c Claim) {
	e.suspects = append(e.suspects, suspect{r, c})
	wakeUp(e.suspected)
}

func (e *Engine) nextSuspect() (s suspect, more bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.suspects) == 0 {
		return s, false
	}
	s, e.suspects = e.suspects[0], e.suspects[1:]
	return s, len(e.suspects) > 0
}

// wakeUp lets whoever waits on c look, now or when it comes to wait.
func wakeUp(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// aloneFor waits, for a while, until no other run is at work.
func (e *Engine) aloneFor(ctx context.Context, r *live) {
	deadline := time.Now().Add(trialTime)
	for ctx.Err() == nil && time.Now().Before(deadline) {
		e.mu.Lock()
		others := len(e.runs) - 1 - len(e.suspects)
		e.mu.Unlock()
		if others <= 0 {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// proven waits until the run has added to its journal or has left this worker's hands.
func (r *live) proven(ctx context.Context, most time.Duration) {
	sub := r.e.watch.subscribe(r.info.Key)
	defer r.e.watch.unsubscribe(sub)
	timer := time.NewTimer(most)
	defer timer.Stop()
	for r.e.holds(r.info.Key) {
		select {
		case <-sub.c:
			return
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}
