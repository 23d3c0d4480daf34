package pawl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"runtime"
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

// past is what a journal says about the calls that a replay will make.
type past struct {
	entries   map[string]*Entry
	attempts  map[string]*Entry // the newest failed attempt of each step that has not ended
	woken     map[string]bool   // waits that an operator ended
	perPath   map[string]int    // entries not yet asked for, by scope path
	cancelled *Failure
}

// load reads the journal. The payloads of a long one are read with it, page by page.
func (r *live) load() error {
	p := past{entries: map[string]*Entry{}, attempts: map[string]*Entry{}, woken: map[string]bool{}, perPath: map[string]int{}}
	after := int64(-1)
	for {
		page, err := r.e.store.Journal(context.Background(), r.info.Key, after, 2000)
		if err != nil {
			return err
		}
		for i := range page {
			if err := r.recall(&p, &page[i]); err != nil {
				return fmt.Errorf("%w: entry %d: %w", errUnreadable, page[i].Seq, err)
			}
			after = page[i].Seq
		}
		if len(page) == 0 {
			break
		}
	}
	if after < 0 {
		return fmt.Errorf("%w: it is empty", errUnreadable)
	}
	r.seq = after + 1
	r.past = p
	if len(p.entries)+len(p.attempts) > 0 {
		r.replaying.Store(true)
	}
	return nil
}

// errUnreadable: reading the journal again would help nobody.
var errUnreadable = errors.New("the run's journal can't be read")

// recall sorts an entry of the journal into what a replay will look up.
func (r *live) recall(p *past, e *Entry) error {
	switch e.Kind {
	case KindInput:
		r.input = e.Data
	case KindAttempt:
		p.attempts[e.Key] = e
	case KindDrift:
	case KindOrder:
		switch e.Key {
		case "$cancel":
			p.cancelled = e.Failure()
		case "$wake":
			var o struct{ Keys []string }
			if err := decode("an order's entry", e.Data, &o); err != nil {
				return err
			}
			for _, k := range o.Keys {
				p.woken[k] = true
			}
		case "$retry": // the run failed before this: what made it fail is asked again
			p.cancelled = nil
			for k, e := range p.entries {
				if e.Failed && (e.Kind == KindSleep || e.Kind == KindRace) && e.Failure().ordered() { // as of the cancel that is taken back
					delete(p.entries, k)
					p.perPath[pathOf(k)]--
				}
			}
			var o struct{ Keys []string }
			if err := decode("an order's entry", e.Data, &o); err != nil {
				return err
			}
			for _, k := range o.Keys {
				if old := p.entries[k]; old != nil && old.Failed {
					delete(p.entries, k)
					p.perPath[pathOf(k)]--
				}
				delete(p.attempts, k)
			}
		}
	case KindResult:
	default:
		if p.entries[e.Key] == nil {
			p.perPath[pathOf(e.Key)]++
		}
		p.entries[e.Key] = e
		if e.Kind == KindStep {
			delete(p.attempts, e.Key)
		}
		if e.Kind == KindChild && !e.Failed {
			var ch childEntry
			if json.Unmarshal(e.Data, &ch) == nil && !ch.Detached {
				r.attach(ch.Run)
			}
		}
		if e.Kind == KindChildEnd {
			delete(r.children, childOf(e.Data))
		}
	}
	return nil
}

func pathOf(key string) string {
	if i := strings.LastIndexByte(key, '/'); i >= 0 {
		return key[:i]
	}
	return ""
}

// endReplay is called, under mu, when every branch has reached something that is not in
// the journal: from here on the run acts.
func (r *live) endReplay() {
	r.replaying.Store(false)
	if len(r.past.entries) > 0 && r.pausing == nil && !r.draining { // those stop a replay halfway
		r.drift()
	}
	r.past = past{attempts: r.past.attempts, woken: r.past.woken}
	for el := r.waits.Front(); el != nil; {
		b := el.Value.(*branch)
		el = el.Next()
		if b.key == barrier || b.key == anyBranch && b.s.ctx.Err() != nil {
			r.wake(b, forBranch)
		}
	}
}

// drift reports entries that the code no longer asks for.
func (r *live) drift() {
	keys := make([]string, 0, len(r.past.entries))
	for k := range r.past.entries {
		if len(keys) < 100 {
			keys = append(keys, k)
		}
	}
	r.e.log.Warn("pawl: the code no longer asks for some of what a run's journal holds",
		"run", r.info.ID, "workflow", r.info.Workflow, "keys", keys)
	r.note(Entry{Kind: KindDrift, Key: "$drift", At: now(), Data: mustJSON(map[string]any{"keys": keys})})
}

const (
	barrier = "$barrier" // waits for the end of replay
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

var escape = strings.NewReplacer("/", "%2F", "#", "%23", "%", "%25")

// recorded looks key up in the journal. It returns nil where there is nothing; a run whose
// journal has another kind there is blocked and does not return.
func (c *Context) recorded(kind Kind, key string) *Entry {
	b, r := c.b, c.b.r
	if !r.replaying.Load() {
		return nil
	}
	r.mu.Lock()
	e := r.past.entries[key]
	if e != nil {
		delete(r.past.entries, key)
		r.past.perPath[pathOf(key)]--
	}
	r.mu.Unlock()
	if e == nil {
		return nil
	}
	if e.Kind != kind {
		r.block((&DivergedError{Key: key, Journal: e.Kind, Code: kind}).Error())
		runtime.Goexit()
	}
	if e.At.After(b.clock) {
		b.clock = e.At
	}
	return e
}

// act is called when a call was not recorded and is about to be made: it waits for the end
// of replay, stops for a pause or a drain, and refuses in a cancelled scope. A refusal is
// not recorded, so it must not wait: what the code did after it may be.
func (c *Context) act() error {
	b, r := c.b, c.b.r
	for r.replaying.Load() && c.s.ctx.Err() == nil {
		r.mu.Lock()
		if r.replaying.Load() && c.s.ctx.Err() == nil {
			b.wait(c.s, barrier, "", time.Time{})
		} else {
			r.mu.Unlock()
		}
	}
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
		r.mu.Lock()
		r.note(Entry{Kind: KindSleep, Key: key, At: now(), Data: mustJSON(s)})
		r.mu.Unlock()
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
	err, r := context.Cause(c.s.ctx), c.b.r
	r.mu.Lock()
	r.note(Entry{Kind: kind, Key: key, Failed: true, At: now(), Data: mustJSON(failureOf(err))})
	r.mu.Unlock()
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
		r.mu.Lock()
		r.note(Entry{Kind: KindScope, Key: key, At: now(), Data: mustJSON(s)})
		r.mu.Unlock()
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
