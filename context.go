package pawl

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Context is what a workflow function makes durable calls with. It belongs to one
// goroutine, that of the function it was given to, and ends with it. It is not a
// context.Context, so that a durable call inside a step does not compile; step bodies get
// a context.Context of their own.
//
// Every durable call first looks into the journal. What was recorded is returned; what was
// not is done and recorded. Calls in a cancelled scope that were not recorded return the
// reason of the cancel: ErrCancelled, ErrTimeout or what was given to WithCancel's cancel.
type Context struct {
	b *branch
	s *scope
}

// scope is what a cancel or a deadline reaches: a run, a branch, WithCancel, WithTimeout.
type scope struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	until  time.Time // zero: no deadline
}

// RunID returns the id of the run.
func (c *Context) RunID() string { return c.b.r.info.ID }

// Now returns the time of the newest journal entry that this branch has looked at: it is
// the same in every replay, never runs backwards, and after a Sleep is not before its end.
// Until the first entry it is the time at which the run was started.
func (c *Context) Now() time.Time { return c.b.clock }

// Rand returns a source of random numbers that gives the same numbers in every replay. It
// is seeded per run and branch; it is not fit for secrets.
func (c *Context) Rand() *rand.Rand {
	b := c.b
	if b.rand == nil {
		h := fnv.New64a()
		h.Write([]byte(b.path))
		b.rand = rand.New(rand.NewPCG(uint64(b.r.info.Seed), h.Sum64()))
	}
	return b.rand
}

const (
	barrier = "$barrier" // waits for the end of a replay's round
	hold    = "$hold"    // waits to be killed: the run is being paused or drained
)

// key names the next call of a name on this branch: path, name and occurrence.
func (b *branch) nextKey(name string) string {
	if strings.ContainsAny(name, "/#%") {
		name = escape.Replace(name)
	}
	if b.seen == nil {
		b.seen = map[string]int{}
	}
	n := b.seen[name] + 1
	b.seen[name] = n
	switch {
	case b.path == "" && n == 1:
		return name
	case n == 1:
		return b.path + "/" + name
	case b.path == "":
		return name + "#" + strconv.Itoa(n)
	}
	return b.path + "/" + name + "#" + strconv.Itoa(n)
}

// Key returns the key that the next step or branch of a name gets here. Asking makes none: the same key is
// the answer until there is one.
func (c *Context) Key(name string) string {
	key := c.b.nextKey(name)
	c.b.seen[escape.Replace(name)]--
	return key
}

var escape = strings.NewReplacer("/", "%2F", "#", "%23", "%", "%25")

// act is called when a call was not recorded and is about to be made: it waits for the end
// of the replay's round, stops for a pause or a drain, and refuses in a cancelled scope. A refusal is
// not recorded, so it must not wait: what the code did after it may be.
func (c *Context) act() error {
	b, r := c.b, c.b.r
	for r.replaying.Load() && c.s.ctx.Err() == nil {
		r.mu.Lock()
		if !r.replaying.Load() || c.s.ctx.Err() != nil {
			r.mu.Unlock()
		} else if b.wait(c.s, barrier, "", time.Time{}) == forRound {
			break
		}
	}
	return c.actAgain()
}

// actAgain is act for what the run has done before and has to do once more: that it comes to
// this, and what comes after, is on record, so nothing that others find in a replay bears on it.
func (c *Context) actAgain() error {
	r := c.b.r
	if c.s.ctx.Err() != nil {
		r.mu.Lock()
		if r.pausing != nil || r.draining || r.dead.Load() {
			c.hold()
		}
		r.mu.Unlock()
		return context.Cause(c.s.ctx)
	}
	r.mu.Lock()
	if r.draining || r.pausing != nil {
		c.hold()
	}
	r.mu.Unlock()
	return nil
}

// hold blocks for good: the run stops here and goes on elsewhere. Caller holds mu.
func (c *Context) hold() {
	for {
		c.b.wait(c.s, hold, "", time.Time{})
		c.b.r.mu.Lock()
	}
}

// Sleep waits for d, for free: a run in which nothing else goes on leaves memory. It wakes
// at d or later, never earlier. It returns early with an error when its scope is
// cancelled, and with nil when an operator wakes the run. d may not be over 100 years.
func (c *Context) Sleep(d time.Duration) error {
	return c.sleep("Sleep", func() time.Time { return time.Now().Add(d) })
}

// SleepUntil is Sleep with a time to wake at; a time that has passed does not wait.
func (c *Context) SleepUntil(t time.Time) error {
	return c.sleep("SleepUntil", func() time.Time { return t })
}

type sleepEntry struct {
	Until time.Time `json:"until"`
}

func (c *Context) sleep(call string, until func() time.Time) error {
	b, r := c.b, c.b.r
	if err := b.enter(call, ""); err != nil {
		return err
	}
	defer b.exit()
	key := b.nextKey("$sleep")
	var s sleepEntry
	if e := c.recorded(KindSleep, key); e != nil {
		if e.Failed {
			return c.interruptedAgain(e)
		}
		if err := decode("a sleep's entry", e.Data, &s); err != nil {
			return err
		}
		r.mu.Lock()
		woken := r.past.woken[key]
		r.mu.Unlock()
		if woken {
			return nil
		}
	} else {
		if err := c.act(); err != nil {
			return err
		}
		s.Until = roundUp(until())
		at := now()
		r.mu.Lock()
		r.note(Entry{Kind: KindSleep, Key: key, At: at, Data: mustJSON(s)})
		r.mu.Unlock()
		b.tell(at)
	}
	if !s.Until.After(time.Now()) {
		b.tell(s.Until)
		return nil
	}
	if err := c.act(); err != nil {
		return c.interrupted(KindSleep, key)
	}
	r.mu.Lock()
	switch b.wait(c.s, key, "", s.Until) {
	case forCancel:
		return c.interrupted(KindSleep, key)
	case forTime:
		b.tell(s.Until)
	}
	return nil
}

// interrupted notes that a cancel ended a call which a replay would find to have ended
// otherwise: a sleep whose time has come meanwhile, a branch that has returned meanwhile.
func (c *Context) interrupted(kind Kind, key string) error {
	err, r, at := context.Cause(c.s.ctx), c.b.r, now()
	r.mu.Lock()
	r.note(Entry{Kind: kind, Key: key, Failed: true, At: at, Data: mustJSON(failureOf(err))})
	r.mu.Unlock()
	c.b.tell(at)
	return err
}

// interruptedAgain replays what interrupted noted. The branch that cancels the scope may
// not have got so far yet.
func (c *Context) interruptedAgain(e *Entry) error {
	if err := c.act(); err != nil {
		return err
	}
	return e.Failure().err()
}

// inAWhile is d from now, as a journal keeps it: never too early.
func inAWhile(d time.Duration) time.Time { return roundUp(time.Now().Add(d)) }

func roundUp(t time.Time) time.Time {
	return t.Add(time.Microsecond - 1).Truncate(time.Microsecond).UTC()
}

// tell sets the branch's clock forward.
func (b *branch) tell(t time.Time) {
	if t.After(b.clock) {
		b.clock = t
	}
}

// WithCancel returns a Context of the same goroutine whose durable calls can be cancelled
// together, those in branches started with it included, and the cancel function. The
// reason is what the calls then return; nil means ErrCancelled. Cancelling twice is nothing.
func WithCancel(c *Context) (*Context, func(reason error)) {
	s := c.s.inner()
	return &Context{b: c.b, s: s}, func(reason error) {
		if reason == nil {
			reason = ErrCancelled
		}
		c.b.r.cancelScope(s, reason)
	}
}

// WithTimeout is WithCancel with a deadline, d from the first time it is called: the time
// is journalled and survives restarts. After it, calls return ErrTimeout.
func WithTimeout(c *Context, d time.Duration) (*Context, func(reason error)) {
	inner, cancel := WithCancel(c)
	b, r := c.b, c.b.r
	if err := b.enter("WithTimeout", ""); err != nil {
		inner.s.cancel(err)
		return inner, cancel
	}
	defer b.exit()
	key := b.nextKey("$timeout")
	var s sleepEntry
	if e := c.recorded(KindScope, key); e != nil {
		if err := decode("a scope's entry", e.Data, &s); err != nil {
			inner.s.cancel(err)
			return inner, cancel
		}
	} else {
		s.Until = inAWhile(d)
		at := now()
		r.mu.Lock()
		r.note(Entry{Kind: KindScope, Key: key, At: at, Data: mustJSON(s)})
		r.mu.Unlock()
		b.tell(at)
	}
	r.mu.Lock()
	inner.s.until = s.Until
	if s.Until.After(time.Now()) {
		r.scopes = append(r.scopes, inner.s)
		r.arm(s.Until)
	} else {
		inner.s.cancel(ErrTimeout)
	}
	r.mu.Unlock()
	return inner, cancel
}

func (s *scope) inner() *scope {
	n := &scope{}
	n.ctx, n.cancel = context.WithCancelCause(s.ctx)
	return n
}

func (r *live) cancelScope(s *scope, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.cancel(why)
	for i, o := range r.scopes {
		if o == s {
			r.scopes = append(r.scopes[:i], r.scopes[i+1:]...)
			break
		}
	}
	if r.dead.Load() || r.phase == ending {
		return
	}
	r.wakeCancelled()
}

// mustJSON encodes a value of ours, which always has a JSON form.
func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
