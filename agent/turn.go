package agent

import (
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pawlrun/pawl"
)

// turn takes the slots of the next moment. It returns when to look again, and whether there
// is anything to look for.
func (l *lane) turn() (wait time.Duration, more bool, err error) {
	l.mu.Lock()
	if len(l.callers.list)+len(l.reports) == 0 && l.more == 0 {
		l.running = false
		l.mu.Unlock()
		return 0, false, nil
	}
	if since := time.Since(l.wrote); since < linger && l.version != 0 {
		l.mu.Unlock()
		return linger - since, true, nil
	}
	known := l.b != nil && time.Since(l.read) < glance
	if known = known || l.b != nil && !l.unlimited() && time.Since(l.read) < longSleep; !known {
		l.b = nil
	}
	l.mu.Unlock()
	if !known {
		if err := l.look(); err != nil {
			return 0, true, err
		}
	}
	t := l.plan()
	if !t.write {
		return t.wait, true, nil
	}
	began := time.Now()
	version, err := l.write(t.b)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = nil
	if err != nil {
		for _, c := range t.out {
			if !c.gone {
				heap.Push(&l.callers, c)
			}
		}
		l.b = nil
		if errors.Is(err, pawl.ErrConflict) {
			return 0, true, nil // another worker was first: look again
		}
		l.doubt(t.heard)
		return 0, true, err
	}
	l.lag, l.wrote = time.Since(began), began
	l.b, l.version, l.read = t.b, version, time.Now()
	l.reports = slices.Delete(l.reports, 0, t.heard)
	l.more -= t.more
	l.answer(t.out)
	return t.wait - l.lag, true, nil
}

// doubt is called when a write may or may not have happened: what it was to give back is not
// given back again.
func (l *lane) doubt(heard int) {
	for i := range l.reports[:heard] {
		l.reports[i].more = max(l.reports[i].more, 0)
	}
	l.more = max(l.more, 0)
}

// answer lets those of a plan go.
func (l *lane) answer(out []*caller) {
	for _, c := range out {
		if c.gone {
			l.hand(c.plan)
		} else {
			l.give(c, c.plan)
		}
	}
}

// look asks the store for the bucket.
func (l *lane) look() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := l.engine.Record(ctx, paceSpace, l.name)
	b := &bucket{}
	if err == nil {
		b, err = readBucket(r)
	} else if errors.Is(err, pawl.ErrNotFound) {
		err = nil
	}
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.b, l.version, l.read = b, r.Version, time.Now()
	l.ahead = max(l.ahead, b.At-l.steady())
	l.mu.Unlock()
	return nil
}

func (l *lane) write(b *bucket) (int64, error) {
	data, err := json.Marshal(b)
	if err != nil {
		return 0, err
	}
	until := time.Now().Add(bucketKept + time.Duration(max(b.Requests.Zero-b.At, b.Tokens.Zero-b.At, b.Blocked-b.At, 0)))
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	versions, err := l.engine.Write(ctx, pawl.Put{Space: paceSpace, Key: l.name, If: l.version, Data: data, Until: until})
	if err != nil {
		return 0, err
	}
	return versions[0], nil
}

// planned is what a turn is about to do.
type planned struct {
	b     *bucket
	out   []*caller
	heard int   // so many reports are in b
	more  int64 // and so much of the lane's more
	write bool
	wait  time.Duration
}

// plan works out who may go when.
func (l *lane) plan() (t planned) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock()
	b := *l.b
	b.At, b.Queues = now, maps.Clone(b.Queues)
	t.b, t.heard, t.more = &b, len(l.reports), l.more
	for _, r := range l.reports {
		t.write = b.hear(r, l.limit) || t.write
	}
	requests, tokens := b.rules(l.limit)
	if t.more != 0 && tokens.limit > 0 {
		b.Tokens.owe(tokens, now, t.more)
		t.write = true
	}
	free := requests.limit == 0 && tokens.limit == 0
	yield := !free && l.yields(&b, now)
	slow := min(2*l.lag, 2*time.Second) // the next slots must be here in time, however slow the store
	last, next := max(now, b.Blocked), int64(0)
	if l.late > horizon/2 { // those who go late fill the time of as many slots to come
		l.room = min(b.Requests.when(requests, last, 1)+int64(l.late), l.pace.after(requests, now, l.out))
		l.late = 0
		l.lap++
	}
	last = max(last, l.room)
	for !yield && len(l.callers.list) > 0 && len(t.out) < maxChunk {
		c := l.callers.list[0]
		n := min(c.tokens, tokens.most())
		at := b.Tokens.when(tokens, b.Requests.when(requests, last, 1), n)
		if at > now+int64(horizon+slow) {
			next = at
			break
		}
		heap.Pop(&l.callers)
		c.plan = grant{at: at, tokens: n, rule: requests, lap: l.lap}
		if !free {
			b.Requests.take(requests, at, 1)
			b.Tokens.take(tokens, at, n)
			b.Taken++
			b.Spent += n
			c.plan.taken, c.plan.spent = b.Taken, b.Spent
		}
		t.out = append(t.out, c)
		last = at
	}
	// Others need to know of this queue more often the sooner there is something to share out.
	told := min(max(time.Duration(next-now)/4, queueTold), 8*queueTold)
	if !free || b.Blocked > now {
		t.write = l.show(&b, now, told) || t.write || len(t.out) > 0
	}
	if !t.write { // nothing that others need to know
		l.reports, l.more = l.reports[:0], 0
		l.answer(t.out)
	}
	switch {
	case yield:
		l.b = nil
		t.wait, t.write = yieldFor, false
	case len(l.callers.list) == 0:
	case next > 0:
		jitter := rand.N(notice / 8) // so that workers do not all come at once
		t.wait = min(time.Duration(next-now)-notice-slow-jitter, told)
		t.wait = max(t.wait, time.Millisecond)
	}
	if t.write {
		l.next = t.b
	}
	return t
}

// yields reports whether another worker's queue goes before this one.
func (l *lane) yields(b *bucket, now int64) bool {
	if len(l.callers.list) == 0 {
		return false
	}
	rank := l.callers.list[0].rank + l.ahead
	for worker, q := range b.Queues {
		if worker != l.worker && q.Callers > 0 && now-q.At < queueFresh && q.Rank < rank-yieldTo {
			return true
		}
	}
	return false
}

// show puts into b what others are to know of this queue. It reports whether that is worth
// a write by itself.
func (l *lane) show(b *bucket, now int64, told time.Duration) bool {
	maps.DeleteFunc(b.Queues, func(_ string, q queue) bool { return now-q.At > queueShown })
	was, shown := b.Queues[l.worker]
	n := len(l.callers.list)
	if n == 0 {
		delete(b.Queues, l.worker)
		return false
	}
	if b.Queues == nil {
		b.Queues = map[string]queue{}
	}
	is := queue{Callers: n, Rank: l.callers.list[0].rank + l.ahead, At: now}
	b.Queues[l.worker] = is
	return !shown || now-was.At >= int64(told) || is.Rank < was.Rank-yieldTo
}
