package pawl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// pipeline makes one transaction of what many have to say at the same moment.
//
// There is no writer goroutine. Whoever finds the pipeline idle leads: it commits what is
// queued, answers it, and hands the lead to one of those who queued meanwhile. So a lone
// run pays no hand-over, and a thousand runs share an fsync.
//
// Invariants:
//   - one leader at a time; batches are committed, and their answers taken up by the
//     engine (settle), in the order in which they were queued;
//   - what one run submits is queued in the order of its journal, because runs submit
//     under their own lock;
//   - an item is answered exactly once, after its transaction ended.
type pipeline struct {
	e *Engine

	mu    sync.Mutex
	queue []*item
	spare []*item // the last batch's array, to be used again
	busy  bool
	idle  sync.Cond // busy became false

	batch   Batch           // the leader's
	refused map[int64]int64 // the leader's: epochs of runs, by key, of which it refused a change
	began   atomic.Int64    // unix nanoseconds at which the store was asked to commit; zero: it is not being asked
}

// item is one thing to be committed: exactly one of change to write is set.
type item struct {
	worker int64 // with change: who says it
	change *Change
	start  *Start
	send   *Send
	order  *Order
	budget *BudgetOrder
	settle *Settle
	write  *Write

	err  error       // of the transaction
	wake chan signal // for one who waits; nil: nobody does
	then func(*item) // called by the leader, in order, before anyone is woken
}

type signal uint8

const (
	answered signal = iota
	lead
)

// maxBatch bounds a transaction: what comes later waits for the next one.
const maxBatch = 1024

// put queues it. It reports whether the caller must now call lead.
func (p *pipeline) put(it *item) bool {
	p.mu.Lock()
	p.queue = append(p.queue, it)
	first := !p.busy
	p.busy = true
	p.mu.Unlock()
	return first
}

// wait returns when it has been answered. first is what put returned.
func (p *pipeline) wait(it *item, first bool) {
	if first || <-it.wake == lead {
		p.lead(it)
	}
}

// do queues it and waits.
func (p *pipeline) do(it *item) error {
	if it.wake == nil {
		it.wake = make(chan signal, 1)
	}
	p.wait(it, p.put(it))
	return it.err
}

// post queues it and does not wait: its then is called.
func (p *pipeline) post(it *item) {
	if p.put(it) {
		go p.lead(nil)
	}
}

// rest returns when nothing is queued and nobody leads.
func (p *pipeline) rest() {
	p.mu.Lock()
	for p.busy {
		p.idle.Wait()
	}
	p.mu.Unlock()
}

// lead commits the next batch and, while nobody who waits can take over, the following
// ones. own, if not nil, is in the first of them.
func (p *pipeline) lead(own *item) {
	for {
		p.mu.Lock()
		items := p.queue
		if len(items) > maxBatch {
			p.queue = append(p.spare[:0], items[maxBatch:]...)
			items = items[:maxBatch]
		} else {
			p.queue = p.spare[:0]
		}
		p.spare = nil
		p.mu.Unlock()

		p.write(items)

		p.mu.Lock()
		var next *item
		more := len(p.queue) > 0
		if more {
			if i := slices.IndexFunc(p.queue[:min(len(p.queue), maxBatch)], func(it *item) bool { return it.wake != nil }); i >= 0 {
				next = p.queue[i]
			}
		} else {
			p.busy = false
			p.idle.Broadcast()
		}
		p.mu.Unlock()
		if next != nil {
			next.wake <- lead
		}
		for _, it := range items {
			if it != nil && it.wake != nil && it != own {
				it.wake <- answered
			}
		}
		own = nil
		p.mu.Lock()
		if p.spare == nil {
			clear(items)
			p.spare = items[:0]
		}
		p.mu.Unlock()
		if !more || next != nil {
			return
		}
	}
}

// write commits items and takes up the answers. Where one of them makes the store refuse
// all, halves are committed by themselves, so that it ends alone.
func (p *pipeline) write(items []*item) {
	err := p.commit(items)
	if err != nil && len(items) > 1 {
		half := len(items) / 2
		p.write(items[:half])
		p.write(items[half:])
		return
	}
	if err != nil {
		p.refuse(items[0], err)
	}
	for i, it := range items {
		if it.then != nil {
			it.then(it)
			items[i] = nil // from here on its owner may use it again
		}
	}
	p.e.settle(&p.batch)
	p.batch.release()
}

// refuse answers an item that the store will never take. What its run has said since must
// not be stored either: that stands on what was refused.
func (p *pipeline) refuse(it *item, err error) {
	it.err = err
	if it.change == nil {
		return
	}
	if p.refused == nil {
		p.refused = map[int64]int64{}
	}
	p.refused[it.change.Run] = it.change.Epoch
}

// stands reports whether ch may be stored after all that was refused. The change that
// blocks the run for it comes last.
func (p *pipeline) stands(ch *Change) bool {
	if epoch, ok := p.refused[ch.Run]; !ok || epoch != ch.Epoch {
		return true
	}
	if ch.To != nil && ch.To.State == Blocked {
		delete(p.refused, ch.Run)
		return true
	}
	return false
}

// commit writes items in one transaction. A store that could not write is asked again for
// as long as the worker may believe in its lease: the runs wait, nothing is lost. It returns
// an error, and has answered nothing, only where the store will never take them all.
func (p *pipeline) commit(items []*item) error {
	b := &p.batch
	*b = Batch{
		Changes: b.Changes[:0], Starts: b.Starts[:0], Sends: b.Sends[:0], Orders: b.Orders[:0],
		Budgets: b.Budgets[:0], Settles: b.Settles[:0], Writes: b.Writes[:0],
		Granted: b.Granted[:0], Mail: b.Mail[:0],
	}
	w := p.e.worker()
	for _, it := range items {
		switch {
		case it.change != nil && it.worker != w:
			it.err = ErrFenced // said by a run of an earlier life of this engine
		case it.change != nil && len(p.refused) > 0 && !p.stands(it.change):
			it.err = ErrRefused
		case it.change != nil:
			b.Changes = append(b.Changes, it.change)
		case it.start != nil:
			b.Starts = append(b.Starts, it.start)
		case it.send != nil:
			b.Sends = append(b.Sends, it.send)
		case it.order != nil:
			b.Orders = append(b.Orders, it.order)
		case it.budget != nil:
			b.Budgets = append(b.Budgets, it.budget)
		case it.settle != nil:
			b.Settles = append(b.Settles, it.settle)
		case it.write != nil:
			b.Writes = append(b.Writes, it.write)
		}
	}
	if len(b.Changes)+b.outside() == 0 {
		return nil
	}
	b.Worker, b.Workflows = w, p.e.known()
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		b.Now, b.Room = time.Now(), p.e.room()
		if p.e.hungry.Load() { // there is a queue: whatever is ready goes by its rank
			b.Room = 0
		}
		p.began.Store(b.Now.UnixNano())
		err := p.e.store.Commit(context.Background(), b)
		p.began.Store(0)
		if err == nil {
			return nil
		}
		b.Unanswer() // what a transaction gave that was not committed, or may not have been
		switch {
		case errors.Is(err, ErrFenced) && w != 0:
			p.e.fenced(w, err)
			if b.outside() > 0 { // nothing was written: these need no lease
				for _, it := range items {
					if it.change != nil {
						it.err = ErrFenced
					}
				}
				b.Changes, b.Worker, w = b.Changes[:0], 0, 0
				continue
			}
		case errors.Is(err, ErrRefused):
			return err
		case errors.Is(err, ErrUnknownOutcome):
			p.e.fenced(w, err)
			err = fmt.Errorf("commit: %w", err)
		case p.e.patient(w):
			p.e.log.Error("pawl: the store does not take writes, trying again", "error", err, "in", pause)
			time.Sleep(pause)
			continue
		case w != 0: // its lease is over: runs that are dropped here must not stay with it
			p.e.fenced(w, fmt.Errorf("gave up a write: %w", err))
		}
		for _, it := range items {
			if it.err == nil {
				it.err = err
			}
		}
		return nil
	}
}
