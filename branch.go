package pawl

import (
	"container/list"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"
)

// branch is one goroutine of a run: its root, or one that Go or Map started.
type branch struct {
	r    *live
	path string // scope path of its keys; "" for the root
	top  *scope // the scope that it began in
	seen map[string]int
	rand *rand.Rand

	// clock is the time of the newest journal entry that the branch has looked at.
	clock time.Time

	busy atomic.Bool // a durable call is under way
	gone atomic.Bool // its function returned
	goid uint64
	sps  [4]uintptr // where its stack pointer was in durable calls
	next uint8      // of sps to be replaced

	change Change // its commit under way
	item   item
	entry  [2]Entry

	// Its wait under way, under the run's mu.
	in   *list.Element // of r.waits; nil: not blocked
	s    *scope
	key  string
	name string
	due  time.Time
	why  reason
	got  Message
	back chan struct{}
}

// reason is why a blocked branch was woken.
type reason uint8

const (
	forNothing reason = iota // the run left this worker
	forMessage
	forTime
	forCancel
	forOrder
	forBranch // another branch
	forRound  // all branches have come to something new, or are in bodies
)

func newBranch(r *live, path string, s *scope) *branch {
	b := &branch{r: r, path: path, top: s, s: s}
	b.change.Entries = b.entry[:0]
	return b
}

// begin is called by the branch's own goroutine.
func (b *branch) begin() { b.goid = goid() }

// enter begins a durable call. It refuses calls from a wrong place, and ends the goroutine
// of a run that left this worker.
//
//go:noinline
func (b *branch) enter(call, name string) error {
	if b.r.dead.Load() {
		runtime.Goexit()
	}
	why := ""
	switch {
	case b.gone.Load():
		why = "its workflow or branch function has returned; durable calls belong inside it"
	case !b.busy.CompareAndSwap(false, true):
		why = "another durable call is under way on this Context: a step's body can't make durable calls, " +
			"and two goroutines can't share a Context; use Go or Map for parallel work"
	case !b.own():
		b.busy.Store(false)
		why = "called from a goroutine that pawl did not start; use Go or Map"
	}
	if why != "" {
		if name != "" {
			call += " " + name
		}
		return &MisuseError{Call: call, Why: why}
	}
	return nil
}

func (b *branch) exit() { b.busy.Store(false) }

// own reports whether this is the branch's goroutine. Asking the runtime costs
// microseconds, so it is asked only when the stack pointer is not where it was in an earlier
// call: stacks of two goroutines do not overlap. It must be the same to the byte, as another
// goroutine may have got a stack that this one's has outgrown; its way to the call is another.
//
//go:noinline
func (b *branch) own() bool {
	var mark byte
	sp := uintptr(unsafe.Pointer(&mark))
	if slices.Contains(b.sps[:], sp) {
		return true
	}
	if goid() != b.goid {
		return false
	}
	b.sps[b.next%uint8(len(b.sps))] = sp
	b.next++
	return true
}

// goid reads the goroutine's number from the head of its stack trace.
func goid() uint64 {
	var buf [40]byte
	n := runtime.Stack(buf[:], false)
	var id uint64
	for _, c := range buf[len("goroutine "):n] {
		if c < '0' || c > '9' {
			break
		}
		id = id*10 + uint64(c-'0')
	}
	return id
}

// send queues the branch's change. Caller holds mu, unlocks, and calls await.
func (b *branch) send(ch *Change) (first bool) {
	if b.item.wake == nil {
		b.item.wake = make(chan signal, 1)
	}
	b.item.worker, b.item.change, b.item.err = b.r.worker, ch, nil
	return b.r.e.pipe.put(&b.item)
}

func (b *branch) await(first bool) { b.r.e.pipe.wait(&b.item, first) }

// commit stores what is pending and what build adds, and returns when it is durable. It
// does not return when the run was lost.
func (b *branch) commit(build func(ch *Change)) {
	r := b.r
	r.mu.Lock()
	if r.dead.Load() || r.phase == ending { // nothing is appended after the end
		r.mu.Unlock()
		runtime.Goexit()
	}
	ch := r.collect(&b.change)
	build(ch)
	first := b.send(ch)
	r.mu.Unlock()
	b.await(first)
	if err := errors.Join(b.item.err, ch.Err); err != nil {
		r.lost(err)
		runtime.Goexit()
	}
	clear(ch.Entries) // what the branch keeps for its next change, and is kept itself while somebody has its Future, must not hold results
	if r.dead.Load() {
		runtime.Goexit()
	}
	r.e.watch.touch(r.info.Key)
}

// flush makes what is pending durable.
func (b *branch) flush() {
	b.r.mu.Lock()
	dirty := b.r.dirty()
	b.r.mu.Unlock()
	if dirty {
		b.commit(func(*Change) {})
	}
}

// wait blocks the branch; mu is held on entry and not on return. It does not return when
// the run left this worker. In a scope that was cancelled since the caller looked it does
// not block: nobody would wake it.
func (b *branch) wait(s *scope, key, name string, due time.Time) reason {
	r := b.r
	if r.dead.Load() { // nobody would wake it
		r.mu.Unlock()
		runtime.Goexit()
	}
	if s.ctx.Err() != nil && key != hold && key != anyBranch && !r.stopping() {
		r.mu.Unlock()
		return forCancel
	}
	b.s, b.key, b.name, b.due = s, key, name, due
	b.in = r.waits.PushBack(b)
	if b.back == nil {
		b.back = make(chan struct{}, 1)
	}
	if name != "" {
		if r.byName == nil {
			r.byName = map[string][]*branch{}
		}
		r.byName[name] = append(r.byName[name], b)
	}
	r.active--
	if r.active == 0 {
		r.quiet()
	} else {
		r.round()
		if !due.IsZero() {
			r.arm(due)
		}
	}
	r.mu.Unlock()
	<-b.back
	if r.dead.Load() {
		runtime.Goexit()
	}
	return b.why
}

// wake lets a blocked branch go on. Caller holds mu.
func (r *live) wake(b *branch, why reason) {
	r.waits.Remove(b.in)
	b.in = nil
	if b.name != "" {
		if left := slices.DeleteFunc(r.byName[b.name], func(o *branch) bool { return o == b }); len(left) > 0 {
			r.byName[b.name] = left
		} else {
			delete(r.byName, b.name)
		}
	}
	b.why = why
	r.active++
	b.back <- struct{}{}
}

// stopping reports whether the run is to stay as it is and go on elsewhere: its contexts
// end then too, but no wait does. Caller holds mu.
func (r *live) stopping() bool { return r.pausing != nil || r.draining }

// wakeCancelled wakes the branches whose wait is in a cancelled scope.
func (r *live) wakeCancelled() {
	if r.stopping() {
		return
	}
	for el := r.waits.Front(); el != nil; {
		b := el.Value.(*branch)
		el = el.Next()
		if b.s.ctx.Err() != nil && b.key != hold {
			r.wake(b, forCancel)
		}
	}
}

// wakeDue wakes the branches whose time has come and cancels scopes past their deadline.
func (r *live) wakeDue(t time.Time) {
	expired := false
	r.scopes = slices.DeleteFunc(r.scopes, func(s *scope) bool {
		if s.until.After(t) {
			return false
		}
		if s == r.root.top && r.order == nil { // the run's own deadline
			r.order = &Failure{Message: "the run's deadline has passed: " + s.until.UTC().Format(time.RFC3339), Code: "timeout", Type: "deadline"}
			data := mustJSON(r.order)
			r.note(Entry{Kind: KindOrder, Key: "$cancel", At: now(), Data: data})
			r.interrupt(r.order)
		} else {
			s.cancel(ErrTimeout)
		}
		expired = true
		return true
	})
	if expired {
		r.wakeCancelled()
	}
	for el := r.waits.Front(); el != nil; {
		b := el.Value.(*branch)
		el = el.Next()
		if !b.due.IsZero() && !b.due.After(t) {
			r.wake(b, forTime)
		}
	}
}

// earliest is when the first wait or scope ends by time; zero: none does.
func (r *live) earliest() time.Time {
	var first time.Time
	for el := r.waits.Front(); el != nil; el = el.Next() {
		if due := el.Value.(*branch).due; !due.IsZero() && (first.IsZero() || due.Before(first)) {
			first = due
		}
	}
	for _, s := range r.scopes {
		if first.IsZero() || s.until.Before(first) {
			first = s.until
		}
	}
	return first
}

// arm sees to it that the run is looked at by t at the latest.
func (r *live) arm(t time.Time) {
	if t.IsZero() || !r.timerAt.IsZero() && !t.Before(r.timerAt) {
		return
	}
	r.timerAt = t
	if r.timer == nil {
		r.timer = time.AfterFunc(time.Until(t), r.tick)
	} else {
		r.timer.Reset(time.Until(t))
	}
}

func (r *live) tick() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timerAt = time.Time{}
	if r.dead.Load() || r.phase != running || r.root == nil {
		return
	}
	r.wakeDue(time.Now())
	r.goOn()
}
