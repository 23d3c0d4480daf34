package pawl

import (
	"context"
	"errors"
	"time"
)

// claimBatch is how many runs one claim asks for at most.
const claimBatch = 256

// schedule claims runs while there is room: when told (kick), when one becomes due, and
// every Options.Poll in any case. It ends with either context.
func (e *Engine) schedule(ctx, inner context.Context, id int64) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-inner.Done():
			return
		case <-e.kicked:
		case <-timer.C:
		}
		next := time.Now().Add(e.opt.Poll)
		e.due.Store(next.UnixMicro())
		for {
			n := min(e.room(), claimBatch)
			if n == 0 {
				e.hungry.Store(true)
				break
			}
			claims, err := e.store.Claim(inner, ClaimRequest{Worker: id, Now: time.Now(), Limit: n, Workflows: e.known()})
			if err != nil {
				switch {
				case inner.Err() != nil:
					return
				case errors.Is(err, ErrFenced), errors.Is(err, ErrUnknownOutcome):
					e.fenced(id, err)
					return
				}
				e.log.Warn("pawl: claim", "error", err)
				break
			}
			for _, c := range claims.Runs {
				e.take(c)
			}
			if len(claims.Runs) > 0 {
				e.feed.touch()
			}
			e.hungry.Store(claims.More)
			if !claims.Due.IsZero() && claims.Due.Before(next) {
				next = claims.Due
			}
			if !claims.More {
				break
			}
		}
		e.fetch(inner, id)
		e.due.Store(next.UnixMicro())
		timer.Reset(time.Until(next))
	}
}

// fetch delivers messages that other processes sent to runs held here.
func (e *Engine) fetch(ctx context.Context, id int64) {
	e.mu.Lock()
	held := len(e.runs)
	e.mu.Unlock()
	if held == 0 {
		return
	}
	mail, err := e.store.Mail(ctx, id)
	if err != nil {
		if ctx.Err() == nil {
			e.log.Warn("pawl: fetch messages", "error", err)
		}
		return
	}
	e.deliver(mail)
}

func (e *Engine) deliver(mail []Mail) {
	for i := range mail {
		e.mu.Lock()
		r := e.runs[mail[i].Run]
		e.mu.Unlock()
		if r != nil {
			r.deliver(mail[i].Message)
		}
	}
}

// settle takes up what a commit answered.
func (e *Engine) settle(b *Batch) {
	e.feed.touch()
	for i := range b.Granted {
		e.take(b.Granted[i])
	}
	e.deliver(b.Mail)
	if b.Ready || !b.Due.IsZero() && b.Due.UnixMicro() < e.due.Load() {
		e.kick()
	}
}

// take begins or goes on with a run that the store gave to this worker.
func (e *Engine) take(c Claim) {
	key := c.Info.Key
	e.mu.Lock()
	r := e.parked[key]
	if r != nil {
		delete(e.parked, key)
		e.parking.Remove(r.place)
	}
	if c.Info.Worker != e.id.Load() { // the worker ended meanwhile, and abandon has been here
		e.mu.Unlock()
		if r != nil {
			r.kill()
		}
		return
	}
	if r != nil && r.worker == c.Info.Worker && r.info.Epoch+1 == c.Info.Epoch {
		e.runs[key] = r
		e.mu.Unlock()
		r.resume(c)
		return
	}
	fresh := newLive(e, e.defs[c.Info.Workflow], c.Info)
	e.runs[key] = fresh
	onTrial := c.Info.Strikes >= suspectAt && c.Info.Strikes < e.opt.MaxStrikes
	if onTrial {
		e.suspect(fresh, c)
	}
	e.mu.Unlock()
	if r != nil {
		r.kill() // another worker had the run meanwhile
	}
	if !onTrial {
		e.background.Go(func() { fresh.begin(c) })
	}
}

// drop forgets a run that this worker no longer holds.
func (e *Engine) drop(r *live) {
	e.mu.Lock()
	if e.runs[r.info.Key] == r {
		delete(e.runs, r.info.Key)
	}
	e.mu.Unlock()
	if e.hungry.Load() {
		e.kick()
	}
}

// park keeps a waiting run's goroutines for a while.
func (e *Engine) park(r *live) {
	e.mu.Lock()
	if e.runs[r.info.Key] != r { // abandoned, or woken and claimed anew, since its commit
		e.mu.Unlock()
		r.kill()
		return
	}
	delete(e.runs, r.info.Key)
	var out *live
	if e.opt.MaxParked == 0 || e.stopping {
		out = r
	} else {
		r.since = time.Now()
		e.parked[r.info.Key] = r
		r.place = e.parking.PushBack(r)
		if e.parking.Len() > e.opt.MaxParked {
			out = e.unparkOldest()
		} else if e.evictor == nil {
			e.evictor = time.AfterFunc(e.opt.ParkFor, e.evict)
		}
	}
	e.mu.Unlock()
	if out != nil {
		out.kill()
	}
	if e.hungry.Load() {
		e.kick()
	}
}

func (e *Engine) unparkOldest() *live {
	r := e.parking.Remove(e.parking.Front()).(*live)
	delete(e.parked, r.info.Key)
	return r
}

// evict ends the goroutines of runs that have been parked for Options.ParkFor.
func (e *Engine) evict() {
	var out []*live
	e.mu.Lock()
	e.evictor = nil
	for front := e.parking.Front(); front != nil; front = e.parking.Front() {
		if left := time.Until(front.Value.(*live).since.Add(e.opt.ParkFor)); left > 0 {
			e.evictor = time.AfterFunc(left, e.evict)
			break
		}
		out = append(out, e.unparkOldest())
	}
	e.mu.Unlock()
	for _, r := range out {
		r.kill()
	}
}

// drain lets what is under way come to a rest: each run stops at its next durable call.
// After Options.Drain the contexts of step bodies are cancelled, and what does not return
// within a second more is left behind. What is held afterwards is freed by Leave.
func (e *Engine) drain(id int64) {
	e.mu.Lock()
	held := make([]*live, 0, len(e.runs))
	for _, r := range e.runs {
		held = append(held, r)
	}
	e.mu.Unlock()
	var rest []<-chan struct{}
	for _, r := range held {
		rest = append(rest, r.stopAtRest())
	}
	e.log.Debug("pawl: worker stops: no more runs are taken, steps under way may finish", "worker", id, "runs", len(held), "within", e.opt.Drain)
	wait := func(d time.Duration) bool {
		deadline := time.NewTimer(d)
		defer deadline.Stop()
		for _, r := range rest {
			select {
			case <-r:
			case <-deadline.C:
				return false
			}
		}
		return true
	}
	if wait(e.opt.Drain) {
		return
	}
	for _, r := range held {
		r.cancel(errDraining)
	}
	wait(time.Second)
}
