package agent

import (
	"cmp"
	"container/heap"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// lane is one process's queue of a bucket. While callers wait in it, one goroutine takes
// slots for them from the bucket, those of the next moment with one compare-and-swap, and
// tells each when to go.
//
// Invariants, under mu:
//   - a caller is in the queue, or planned by the turn under way, or answered, or gone;
//   - b with version is what the store held when it was last asked, or newer; nothing is
//     granted of a limited bucket but by writing over that version;
//   - one goroutine at most, and one if anybody waits.
//
// A lane that was given up while somebody still held it goes on by itself, as the lane of
// another worker would.
type lane struct {
	engine *pawl.Engine
	name   string
	worker string // of this lane, in the bucket's queues
	limit  Limit
	wake   chan struct{} // the queue has another head, or a report can't wait
	born   time.Time

	mu      sync.Mutex
	ahead   int64 // of this process's clock: the bucket's, in nanoseconds; never less than it was
	used    time.Time
	callers callers
	reports []report // not yet in the bucket
	more    int64    // tokens of slots that changed hands, not yet in the bucket either
	out     int      // slots that were given to callers who have not been released
	running bool
	timer   *time.Timer // starts the goroutine for reports; nil: none is set
	b       *bucket     // nil: not known
	next    *bucket     // it is being written in the place of b; nil: none is
	version int64       // of its record; 0: there is none
	read    time.Time
	lag     time.Duration // what the last write took
	pace    gauge         // of the calls let go here
	late    time.Duration // the last of them, behind its slot
	room    int64         // no slot is taken before, as late ones go then
	lap     int           // grows when room was made
	wrote   time.Time     // when the last write began
}

const (
	horizon   = 300 * time.Millisecond // slots are taken so far ahead
	notice    = 200 * time.Millisecond // and when the next is so near: a write for about 100 ms, which may be late
	linger    = 50 * time.Millisecond  // between two writes, in which callers gather
	maxChunk  = 4096                   // callers served by one write
	patience  = 5 * time.Second        // with a store that fails
	glance    = time.Second            // what is known of a bucket without limits is looked at again after this
	longSleep = 5 * time.Second        // and of any other
	yieldFor  = 25 * time.Millisecond
	yieldTo   = int64(time.Second) // a queue elsewhere whose first ranks earlier by this goes before ours
	queueTold = 500 * time.Millisecond
	tellAfter = 250 * time.Millisecond
)

// steady is the time by a clock that nobody sets, in unix nanoseconds.
func (l *lane) steady() int64 { return l.born.UnixNano() + int64(time.Since(l.born)) }

// clock is the time by the bucket's clock: that of the worker whose clock is furthest ahead,
// as far as this lane has seen. So it goes forth only, for all workers.
func (l *lane) clock() int64 { return l.steady() + l.ahead }

// now is the clock for those who do not hold mu.
func (l *lane) now() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock()
}

// until is how long it is until the bucket's clock shows t.
func (l *lane) until(t int64) time.Duration { return time.Duration(t - l.now()) }

// idle reports whether nobody has used the lane for a while, and nothing is left to do.
func (l *lane) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.running && l.timer == nil && l.out+len(l.callers.list)+len(l.reports) == 0 && time.Since(l.used) > laneKept
}

func (l *lane) enter(c *caller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used = time.Now()
	if len(l.callers.list) == 0 && l.free() {
		c.place = -1
		l.give(c, grant{at: l.clock(), tokens: c.tokens})
		return
	}
	l.callers.add(c)
	if c.place == 0 {
		l.start()
	}
}

// give answers a caller.
func (l *lane) give(c *caller, g grant) {
	if g.err == nil {
		l.out++
	}
	c.answer <- g
}

// free reports whether nothing limits the bucket, as far as was known a moment ago.
func (l *lane) free() bool {
	if l.b == nil || time.Since(l.read) > glance || l.b.Blocked > l.clock() {
		return false
	}
	return l.unlimited()
}

func (l *lane) unlimited() bool {
	requests, tokens := l.b.rules(l.limit)
	return requests.limit == 0 && tokens.limit == 0
}

// start sees to it that the goroutine runs, and looks.
func (l *lane) start() {
	if !l.running {
		l.running = true
		go l.run()
		return
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// leave is called by a caller that was not answered, or has not looked.
func (l *lane) leave(c *caller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.place >= 0 {
		heap.Remove(&l.callers, c.place)
		return
	}
	select {
	case g := <-c.answer:
		if g.err == nil {
			l.out--
			l.hand(g)
		}
	default:
		c.gone = true
	}
}

// pass gives a slot that its owner does not use to the next who waits here. out: the owner
// was not released.
func (l *lane) pass(g grant, out bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if out {
		l.out--
	}
	l.hand(g)
}

// hand gives a slot to the next, if there are the tokens that this one needs beyond those of
// the slot. Else the slot is lost, and its tokens go back.
func (l *lane) hand(g grant) {
	l.more -= g.tokens
	if len(l.callers.list) > 0 && l.affords(g.at, l.callers.list[0].tokens) {
		c := heap.Pop(&l.callers).(*caller)
		l.more += c.tokens
		g.tokens = c.tokens
		l.give(c, g)
	}
	if l.more != 0 {
		l.soon()
	}
}

// affords reports whether the bucket has n tokens at t, as far as is known, with those of
// slots that changed hands.
func (l *lane) affords(t, n int64) bool {
	b := cmp.Or(l.next, l.b)
	if n += l.more; n <= 0 || b == nil {
		return n <= 0
	}
	_, tokens := b.rules(l.limit)
	return b.Tokens.when(tokens, t, n) <= t
}

// release says how long the holder of a slot is to wait whose time has come: not at all, but
// for slots that were slept through, by this process or its store. Those must not go all together.
func (l *lane) release(g grant) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out--
	now := l.clock()
	at := l.pace.when(g.rule, now, 1)
	l.pace.take(g.rule, at, 1)
	if g.lap == l.lap { // else there is room for it
		l.late = time.Duration(at - g.at)
	}
	return time.Duration(at - now)
}

func (l *lane) tell(r report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(r)
}

// note keeps a report for the next turn, and makes one if none is coming.
func (l *lane) note(r report) {
	l.reports = append(l.reports, r)
	switch {
	case r.Refused, r.RequestsLimit+r.TokensLimit > 0 && l.free():
		l.start()
	default:
		l.soon()
	}
}

// soon makes a turn in a moment, if none is coming.
func (l *lane) soon() {
	if !l.running && l.timer == nil {
		l.timer = time.AfterFunc(tellAfter, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.timer = nil
			l.start()
		})
	}
}

// run serves those who wait until nobody does.
func (l *lane) run() {
	var failing time.Time
	for {
		wait, more, err := l.turn()
		switch {
		case !more:
			return
		case err == nil:
			failing = time.Time{}
		case failing.IsZero() && !permanent(err):
			failing, wait = time.Now(), notice/4
		case permanent(err) || time.Since(failing) > patience:
			l.fail(fmt.Errorf("take a slot of bucket %q: %w", l.name, err))
			failing = time.Time{}
		default:
			wait = notice
		}
		if wait <= 0 {
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-l.wake:
			timer.Stop()
		}
	}
}

// permanent reports whether another try is not worth it.
func permanent(err error) bool {
	var bad *json.SyntaxError
	var misfit *json.UnmarshalTypeError
	return errors.Is(err, pawl.ErrInput) || errors.Is(err, pawl.ErrClosed) || errors.Is(err, pawl.ErrTooLarge) ||
		errors.As(err, &bad) || errors.As(err, &misfit)
}

// fail answers all who wait.
func (l *lane) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.callers.list) > 0 {
		l.give(heap.Pop(&l.callers).(*caller), grant{err: err})
	}
	l.reports, l.more = nil, 0
}

func newID() string { return rand.Text()[:10] }
