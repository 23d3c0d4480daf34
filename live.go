package pawl

import (
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// live is a run in memory: the goroutines of its branches, and what they have to say.
//
// Invariants, all under mu:
//   - active counts the branches that can go on by themselves: in user code, in a step,
//     waiting for a commit. When it falls to zero the run is quiet, and whoever made it so
//     calls quiet: replay ends, or the run suspends, stops, or stays for a timer.
//   - A branch that blocks is in waits; whoever wakes it takes it out and raises active
//     before the branch moves.
//   - pend holds what was decided but is not yet durable (a message taken, a deadline
//     set). Every commit of the run takes it along, and no step body starts before it is
//     durable.
//   - Sequence numbers are given out, and changes queued, under mu: the journal's order is
//     the order of the pipeline.
//   - After dead is set no branch makes another durable call: it ends by runtime.Goexit.
type live struct {
	e      *Engine
	def    *definition
	info   RunInfo
	worker int64
	ctx    context.Context // cancelled with the run
	cancel context.CancelCauseFunc

	since time.Time // parked
	place *list.Element

	replaying atomic.Bool  // the journal holds what the code has not asked for, or may
	bodies    atomic.Int64 // branches in a body
	dead      atomic.Bool
	reading   sync.Mutex // held while what a replay needs is read; before mu

	mu       sync.Mutex
	seq      int64
	active   int       // branches that are not blocked
	acts     bool      // it has come to something new: its first round is over
	waits    list.List // of *branch
	byName   map[string][]*branch
	inbox    map[string][]Message
	seen     int64
	early    []Message // that came while the journal was read
	began    bool      // the mail of the claim was taken
	wakes    []Message // orders to wake that wait for the waits that they end: until the run is quiet
	pend     Change
	past     past
	scopes   []*scope // open, with a deadline
	timer    *time.Timer
	force    *time.Timer // ends a cancelled run that does not return
	timerAt  time.Time
	root     *branch
	undo     []undo
	suspend  Change
	item     item
	phase    phase
	blocked  bool          // block was called
	draining bool          // stop at the next durable calls; never taken back
	stop     chan struct{} // made by stopAtRest, closed when the run is at rest, has ended, or has left this worker
	told     bool          // stop is closed
	pausing  json.RawMessage
	order    *Failure         // why the run is being cancelled
	streams  map[string]int64 // next index; -1: closed
	versions map[string]int
	closed   map[string]bool   // hooks that were closed, by key
	claims   map[string]*claim // of hooks whose token another has, by the name of their messages
	attrs    map[string]bool   // names of the run's attributes; nil: not asked yet
	children map[int64]bool    // attached and not known to have ended
	input    json.RawMessage
}

type phase uint8

const (
	running phase = iota
	suspending
	atRest // parked, or stopped for a drain
	ending
)

var (
	errDraining = errors.New("pawl: the worker is shutting down")
	errPausing  = errors.New("pawl: the run is being paused")
	errDead     = errors.New("pawl: the run left this worker")
)

// lingering is how close a timer must be for a quiet run to stay in its worker's hands.
const lingering = 20 * time.Millisecond

func newLive(e *Engine, def *definition, info RunInfo) *live {
	r := &live{e: e, def: def, info: info, worker: info.Worker, closed: map[string]bool{}}
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	return r
}

// begin loads the run and runs its function, in the goroutine that becomes its root branch.
func (r *live) begin(c Claim) {
	defer r.e.drop(r)
	if c.Start != nil {
		r.input, r.seq = c.Start.Run.Input, 1
	} else if err := r.load(); err != nil {
		r.unread(err)
		return
	}
	if r.dead.Load() || r.def.versions != nil && !r.find() {
		return
	}
	root := newBranch(r, "", &scope{ctx: r.ctx, cancel: r.cancel})
	r.mu.Lock()
	r.root = root
	root.clock = r.info.Created
	r.active = 1
	if !r.info.Deadline.IsZero() {
		root.top.until = r.info.Deadline
		r.scopes = append(r.scopes, root.top)
		r.arm(r.info.Deadline)
	}
	if f := r.past.cancelled; f != nil {
		r.order = f
		r.interrupt(orderedError(f))
	}
	for _, m := range append(c.Mail, r.early...) {
		r.take(m)
	}
	r.began, r.early = true, nil
	r.mu.Unlock()
	r.e.opt.Observer.RunClaimed(r.info)
	if r.info.Strikes >= r.e.opt.MaxStrikes {
		r.block(fmt.Sprintf("claimed %d times in a row by workers that died before it made progress; "+
			"see what it does first, then retry or cancel it", r.info.Strikes))
		return
	}
	r.main(root)
}

// main calls the workflow function and ends the run with what it returned.
func (r *live) main(root *branch) {
	root.begin()
	c := &Context{b: root, s: root.top}
	var out json.RawMessage
	err := error(&PanicError{Value: "the workflow's goroutine was ended (runtime.Goexit)"})
	defer func() {
		if r.dead.Load() {
			_ = recover()
			return
		}
		if p := recover(); p != nil {
			err = panicError(p)
		}
		r.finish(c, out, err)
	}()
	out, err = r.def.run(c, r.input, r.e.opt.MaxPayload)
}

func panicError(p any) error {
	buf := make([]byte, 16<<10)
	return &PanicError{Value: fmt.Sprint(p), Stack: string(buf[:runtime.Stack(buf, false)])}
}

// finish ends the run: compensations first, if it failed, then one commit.
func (r *live) finish(c *Context, out json.RawMessage, err error) {
	defer func() {
		_ = recover() // a Goexit or panic here leaves the run to its next owner
	}()
	var again *continueError
	goesOn := errors.As(err, &again)
	r.mu.Lock()
	order := r.order
	r.mu.Unlock()
	if err != nil && !goesOn || order != nil {
		r.compensate(c)
	}
	r.mu.Lock()
	order = r.order
	r.mu.Unlock()
	switch {
	case order != nil && order.Code == "timeout":
		r.conclude(c.b, Failed, order, nil)
	case order != nil:
		r.conclude(c.b, Cancelled, order, nil)
	case goesOn:
		r.conclude(c.b, Completed, nil, again)
	case err != nil:
		r.conclude(c.b, Failed, failureOf(err), nil)
	default:
		r.conclude(c.b, Completed, out, nil)
	}
}

// conclude commits the end of the run, on behalf of b. end is its result, a *Failure, or nil.
func (r *live) conclude(b *branch, s State, end any, next *continueError) {
	at := now()
	entry := Entry{Kind: KindResult, At: at}
	move := &Move{State: s, Keep: r.def.opts.keepAfter(s)}
	switch v := end.(type) {
	case *Failure:
		entry.Failed = true
		entry.Data, _ = json.Marshal(v)
		move.Reason = cut(v.Message, 1000)
	case json.RawMessage:
		entry.Data = v
	}
	if next != nil {
		move.Next = &next.start
		entry.Data, _ = json.Marshal(map[string]string{"continuedAs": next.start.Run.ID})
	}
	r.mu.Lock()
	if r.dead.Load() || r.phase == ending {
		r.mu.Unlock()
		return
	}
	r.phase = ending
	for _, message := range slices.Sorted(maps.Keys(r.claims)) {
		_ = r.taken(r.claims[message]) // it is to be seen, also if nobody has waited for it
	}
	ch := r.collect(&b.change)
	entry.Seq = r.nextSeq()
	ch.Entries = append(ch.Entries, entry)
	ch.To = move
	if tell := r.e.onEnd.Load(); tell != nil && next == nil && s != Cancelled {
		info := r.info
		info.State, info.Reason, info.Ended, info.Updated = s, move.Reason, at, at
		ch.Puts = (*tell)(&info, entry.Seq)
	}
	for child := range r.children {
		ch.Cancels = append(ch.Cancels, child)
	}
	first := b.send(ch)
	r.mu.Unlock()
	b.await(first)
	if b.item.err != nil || ch.Err != nil {
		r.lost(errors.Join(b.item.err, ch.Err))
		return
	}
	info := r.info // a copy: other branches may still read it
	info.State, info.Reason, info.Ended, info.Updated = s, move.Reason, at, at
	if next != nil {
		info.Next = next.start.Info.ID
	}
	r.end()
	r.e.drop(r)
	r.e.watch.ended(info, &entry)
	r.e.opt.Observer.RunEnded(info, &entry)
}

// end lets the goroutines of other branches go.
func (r *live) end() {
	r.mu.Lock()
	r.dead.Store(true)
	r.wakeAll()
	if r.timer != nil {
		r.timer.Stop()
	}
	if r.force != nil {
		r.force.Stop()
	}
	r.stopped()
	r.mu.Unlock()
	r.cancel(errDead)
}

// kill ends the run in memory only: it was evicted, fenced or taken over.
func (r *live) kill() { r.end() }

func (r *live) wakeAll() {
	for el := r.waits.Front(); el != nil; el = r.waits.Front() {
		r.wake(el.Value.(*branch), forNothing)
	}
}

// lost is called when a commit of the run failed. Either this worker no longer owns the
// run, or the store will never take what the run has to say.
func (r *live) lost(err error) {
	if errors.Is(err, ErrRefused) {
		r.block(fmt.Sprintf("the store refuses what the run has to say: %v; nothing of that was stored; mend its cause, then retry or cancel the run", err))
		return
	}
	if !errors.Is(err, ErrFenced) && !errors.Is(err, ErrUnknownOutcome) {
		r.e.log.Error("pawl: a run's commit failed", "run", r.info.ID, "error", err)
	}
	r.e.drop(r)
	r.kill()
}

// block stops the run where a person must look at it. It does not wait: it may be called by
// who leads the pipeline.
func (r *live) block(why string) {
	r.mu.Lock()
	again := r.blocked
	r.blocked = true
	r.mu.Unlock()
	if again {
		return
	}
	r.e.log.Error("pawl: run blocked", "run", r.info.ID, "workflow", r.info.Workflow, "reason", why)
	r.e.drop(r)
	r.kill()
	r.giveBack(Blocked, cut(why, 1000), time.Time{})
}

// giveBack returns the run to the store in a state that is no end. Nothing that the run says
// later is stored.
func (r *live) giveBack(s State, why string, due time.Time) {
	ch := &Change{Run: r.info.Key, Epoch: r.info.Epoch, To: &Move{State: s, Reason: why, Due: due, Seen: 1<<63 - 1}}
	r.e.pipe.post(&item{worker: r.worker, change: ch, then: func(it *item) {
		if err := errors.Join(it.err, ch.Err); err != nil && !errors.Is(err, ErrFenced) {
			r.e.log.Error("pawl: give a run back", "run", r.info.ID, "state", s, "error", err)
		}
		r.e.watch.touch(r.info.Key)
	}})
}

// now is the time as journals keep it.
func now() time.Time { return time.Now().Truncate(time.Microsecond) }

func (r *live) nextSeq() int64 {
	s := r.seq
	r.seq++
	return s
}

// collect starts a change with all that is pending. Caller holds mu.
func (r *live) collect(ch *Change) *Change {
	*ch = Change{Run: r.info.Key, Epoch: r.info.Epoch, Entries: ch.Entries[:0]}
	p := &r.pend
	ch.Entries = append(ch.Entries, p.Entries...)
	p.Entries = p.Entries[:0]
	if len(p.Consumed) > 0 || len(p.Waits) > 0 || len(p.Unwaits) > 0 {
		ch.Consumed, ch.Waits, ch.Unwaits = p.Consumed, p.Waits, p.Unwaits
		p.Consumed, p.Waits, p.Unwaits = nil, nil, nil
	}
	if len(p.Settles) > 0 {
		ch.Settles, p.Settles = p.Settles, nil
	}
	if len(p.Unhooks) > 0 {
		ch.Unhooks, p.Unhooks = p.Unhooks, nil
	}
	return ch
}

// note records e with the next commit.
func (r *live) note(e Entry) {
	e.Seq = r.nextSeq()
	r.pend.Entries = append(r.pend.Entries, e)
}

func (r *live) dirty() bool {
	return len(r.pend.Entries)+len(r.pend.Consumed)+len(r.pend.Unwaits)+len(r.pend.Settles) > 0
}

// quiet is called, under mu, when no branch can go on by itself.
func (r *live) quiet() {
	switch {
	case r.dead.Load() || r.phase == ending:
		return
	case r.replaying.Load():
		r.endRound()
		if r.active > 0 {
			return
		}
	}
	if r.phase != running {
		return
	}
	for wakes := r.wakes; len(wakes) > 0; wakes = wakes[1:] {
		r.wakeByOrder(wakes[0])
	}
	if r.wakes = nil; r.active > 0 {
		return
	}
	if r.draining { // Leave gives the run back as it is in the store
		r.phase = atRest
		r.stopped()
		return
	}
	move := &Move{State: Waiting, Seen: r.seen, Due: r.earliest()}
	if r.pausing != nil {
		move = &Move{State: Paused, Seen: r.seen}
		if r.order != nil { // cancelled meanwhile: its next owner does it
			move.State, move.Due = Pending, now()
		}
	} else if !move.Due.IsZero() && time.Until(move.Due) < lingering {
		r.arm(move.Due)
		return
	}
	r.phase = suspending
	if r.timer != nil {
		r.timer.Stop()
		r.timerAt = time.Time{}
	}
	ch := r.collect(&r.suspend)
	ch.To = move
	r.item = item{worker: r.worker, change: ch, then: r.suspended}
	r.e.pipe.post(&r.item)
}

// suspended takes up the answer to the commit that quiet sent.
func (r *live) suspended(it *item) {
	r.mu.Lock()
	if err := errors.Join(it.err, it.change.Err); err != nil {
		r.mu.Unlock()
		r.lost(err)
		return
	}
	if mail := it.change.Mail; len(mail) > 0 { // not suspended: something came first
		r.phase = running
		for _, m := range mail {
			r.take(m)
		}
		r.goOn()
		r.mu.Unlock()
		return
	}
	r.phase = atRest
	state := it.change.To.State
	r.info.State = state
	r.stopped()
	r.mu.Unlock()
	r.e.watch.touch(r.info.Key)
	if state == Waiting {
		r.e.opt.Observer.RunWaits(r.info)
		r.e.park(r)
		return
	}
	r.e.drop(r)
	r.kill()
}

// resume goes on with a parked run that was claimed again.
func (r *live) resume(c Claim) {
	r.mu.Lock()
	r.info.Epoch, r.info.State = c.Info.Epoch, Running
	r.phase = running
	for _, m := range c.Mail {
		r.take(m)
	}
	r.wakeDue(time.Now())
	r.goOn()
	r.mu.Unlock()
	r.e.watch.touch(r.info.Key)
}

// goOn sees to it that something happens next: what is quiet comes to rest, and what is not
// is looked at when its first wait or scope ends by time. Caller holds mu.
func (r *live) goOn() {
	if r.active == 0 {
		r.quiet()
	} else {
		r.arm(r.earliest())
	}
}

// stopAtRest asks the run to stop at its next durable calls; the channel is closed when it has.
func (r *live) stopAtRest() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop != nil {
		return r.stop
	}
	r.draining, r.stop = true, make(chan struct{})
	switch {
	case r.dead.Load() || r.phase == atRest:
		r.stopped()
	case r.active == 0 && r.phase == running && r.root != nil:
		r.quiet()
	}
	return r.stop
}

// stopped tells who asked the run to stop that it has. Several things can be the last that
// it does. Caller holds mu.
func (r *live) stopped() {
	if r.stop != nil && !r.told {
		r.told = true
		close(r.stop)
	}
}
