package pawl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"
)

// StepOption sets a property of one step: [Timeout], [AttemptTimeout], [MaxAttempts],
// [Backoff].
type StepOption interface{ step(*stepOptions) }

type stepOption func(*stepOptions)

func (o stepOption) step(to *stepOptions) { o(to) }

type stepOptions struct {
	retry   retryPolicy
	total   time.Duration
	attempt time.Duration
	err     error // an option that can't be
}

type retryPolicy struct {
	attempts    int
	first, most time.Duration
}

// The default retry policy of steps.
const (
	defaultAttempts = 4
	defaultFirst    = time.Second
	defaultMost     = time.Minute
)

// AttemptTimeout bounds each attempt: its context ends after d with ErrTimeout, and the
// attempt has failed even if its body goes on. 0 means no limit, a negative d is refused.
func AttemptTimeout(d time.Duration) StepOption {
	return stepOption(func(o *stepOptions) {
		if o.attempt = d; d < 0 {
			o.err = errors.Join(o.err, fmt.Errorf("AttemptTimeout(%v): it is negative; 0 means no limit", d))
		}
	})
}

// Info tells a step's body what it is part of.
type Info struct {
	RunID        string
	ForkedFrom   string // id of the run that this one is a fork of; "": it is none
	Workflow     string
	Step         string    // the step's key in the run
	StepID       string    // idempotency key for the outside world: the same in every attempt and after every crash, and that of no other step of any tenant
	Attempt      int       // from 1; an attempt that was cut off, as by a kill, does not count, and Epoch differs
	Epoch        int64     // how many times the run had been claimed when the attempt began; of two attempts the later has the greater Epoch, or the same and no smaller Attempt
	Tenant       string    // the run's
	Priority     int       // the run's
	FirstStarted time.Time // when the first attempt started; one that was cut off by a crash does not count
	MaxPayload   int       // how many bytes of JSON its result may have, and each of its notes
}

// InfoOf returns the Info of the step whose body was given ctx; elsewhere it is zero.
func InfoOf(ctx context.Context) Info {
	if s := stepOf(ctx); s != nil {
		return Info{
			RunID: s.r.info.ID, ForkedFrom: s.r.info.Forked, Workflow: s.r.info.Workflow, Step: s.key, StepID: stepID(s.r.info.Tenant, s.r.info.ID, s.key),
			Attempt: s.attempt, Epoch: s.epoch, Tenant: s.r.info.Tenant, Priority: s.r.info.Priority, FirstStarted: s.first,
			MaxPayload: s.r.e.opt.MaxPayload,
		}
	}
	return Info{}
}

// stepID names a step among those of all tenants, whose runs may have the same ids. What pawl makes ids of does not begin with @.
func stepID(tenant, run, key string) string {
	if tenant != "" {
		run = "@" + apart(tenant) + run
	}
	return run + "/" + key
}

type stepKey struct{}

// stepOf finds the step whose body was given ctx; nil: it is of none, or nil itself.
func stepOf(ctx context.Context) *stepContext {
	if ctx == nil {
		return nil
	}
	s, _ := ctx.Value(stepKey{}).(*stepContext)
	return s
}

// EngineOf returns the engine that runs the step whose body was given ctx; elsewhere nil.
func EngineOf(ctx context.Context) *Engine {
	if s := stepOf(ctx); s != nil {
		return s.r.e
	}
	return nil
}

// stepContext is the context of a step's body.
type stepContext struct {
	context.Context
	r       *live
	key     string
	attempt int
	epoch   int64
	first   time.Time
	account atomic.Pointer[account] // of what it spends; nil: nothing yet
	wrote   []string                // streams, under the run's mu
}

func (s *stepContext) Value(key any) any {
	if key == (stepKey{}) {
		return s
	}
	return s.Context.Value(key)
}

// Step runs fn and records its result; once that is recorded, fn never runs again for this
// key, and Step returns the recorded result, as decoded from JSON. The key is the branch's
// path, the name and the occurrence of the name on it. Steps and branches ([Go], [Map], an
// approval) count occurrences together: behind an approval "pay", a step "pay" is pay#2.
//
// An error of fn is tried again ([MaxAttempts], [Backoff]), unless it is [Fatal] or the
// scope was cancelled; [RetryAfter] sets the wait. When no attempt is left Step returns a
// *StepError that is recorded too. A panic in fn is a failed attempt. A result that has no
// JSON form, or one that does not read back, or that is over the limit, is fatal: ErrEncoding,
// ErrTooLarge. A recorded result that no longer fits T, as its type was changed since, blocks
// the run: nothing is lost, and Retry goes on when the code fits again.
//
// A result that marshals itself and has a method GiveJSON() json.RawMessage is recorded as what that returns, without a copy: it must
// not be changed afterwards. fn must not make durable calls; its context ends when the run is cancelled or leaves the
// worker.
func Step[T any](c *Context, name string, fn func(ctx context.Context) (T, error), opts ...StepOption) (T, error) {
	var out T
	if fn == nil {
		return out, noFunction("Step", name)
	}
	err := c.step("Step", name, opts, func(ctx context.Context) (json.RawMessage, error) {
		v, err := fn(ctx)
		if err != nil {
			return nil, err
		}
		return encodeResult(c, name, v)
	}, func(data json.RawMessage) error {
		if len(data) == 0 {
			return nil
		}
		err := unmarshal(data, &out)
		if err != nil {
			err = &DecodingError{What: "result of step " + name, Type: fmt.Sprintf("%T", out), Err: err}
		}
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return out, nil
}

// Do is Step for a body without a result.
func Do(c *Context, name string, fn func(ctx context.Context) error, opts ...StepOption) error {
	if fn == nil {
		return noFunction("Do", name)
	}
	return c.step("Do", name, opts, func(ctx context.Context) (json.RawMessage, error) { return nil, fn(ctx) }, nil)
}

func noFunction(call, name string) error {
	return &MisuseError{Call: call + " " + name, Why: "its function is nil"}
}

func encodeResult(c *Context, name string, v any) (json.RawMessage, error) {
	what, limit := "result of step "+name, c.b.r.e.opt.MaxPayload
	if data := ready(v); data != nil {
		if len(data) > limit {
			return nil, Fatal(&TooLargeError{What: what, Size: len(data), Limit: limit})
		}
		return data, nil
	}
	data, err := encode(what, v, limit)
	return data, Fatal(err)
}

// step runs body, unless its result is recorded, and hands the result to read, if there is
// one to hand it to.
func (c *Context) step(call, name string, opts []StepOption, body func(context.Context) (json.RawMessage, error), read func(json.RawMessage) error) error {
	b := c.b
	if err := b.enter(call, name); err != nil {
		return err
	}
	defer b.exit()
	if err := checkName("name of a step", name); err != nil {
		return &MisuseError{Call: call, Why: err.Error()}
	}
	return c.stepAs(call, b.nextKey(name), opts, body, read)
}

// stepAs is step for a key that is known.
func (c *Context) stepAs(call, key string, opts []StepOption, body func(context.Context) (json.RawMessage, error), read func(json.RawMessage) error) error {
	b, r := c.b, c.b.r
	if e := c.recorded(KindStep, key); e != nil {
		data, err := stepResult(e)
		if err == nil && read != nil {
			if misfit := read(data); misfit != nil {
				r.outgrown(misfit)
			}
		}
		return err
	}
	o := stepOptions{retry: r.def.opts.retry}
	// What the code alone decides is refused before act: a replay must not stop at it.
	if err := errors.Join(apply(opts, func(opt StepOption) { opt.step(&o) }), o.err); err != nil {
		return &MisuseError{Call: call + " " + key, Why: err.Error()}
	}
	o.retry.fill()
	if err := c.act(); err != nil {
		return err
	}
	b.flush()

	attempt, first, next, waited := 1, now(), time.Time{}, false
	if e := r.attempted(key); e != nil { // before a restart: it failed, or waited for a budget
		var a attemptEntry
		if err := e.readable(&a); err != nil {
			r.unread(err)
			runtime.Goexit()
		}
		attempt, first, next, waited = e.Attempt+1, a.First, a.Next, e.Kind == KindScope
	}
	for {
		if next.After(time.Now()) {
			if err := c.pauseUntil(key, next); err != nil {
				return err
			}
		}
		if o.total > 0 && time.Since(first) >= o.total && (attempt > 1 || waited) {
			return c.endStep(key, max(attempt-1, 1), first, ErrTimeout)
		}
		if !r.e.leased(r.worker) { // the process was stopped, or the store is away: another owner may have run the step
			b.commit(func(*Change) {})
		}
		began := time.Now()
		ctx := &stepContext{Context: c.s.ctx, r: r, key: key, attempt: attempt, epoch: r.info.Epoch, first: first}
		data, err := c.inBody(ctx, &o, body)
		ctx.settle()
		took := time.Since(began)
		if err == nil && read != nil { // before it is recorded: it must give the same in every replay
			if misfit := read(data); misfit != nil {
				err = Fatal(&EncodingError{What: "result of step " + key, Path: "it", Err: fmt.Errorf("what it was encoded as does not read back: %v", misfit)})
			}
		}
		if err == nil {
			at := now()
			b.commit(func(ch *Change) {
				ch.Entries = append(ch.Entries, Entry{Seq: r.nextSeq(), Kind: KindStep, Key: key, Attempt: attempt, At: at, Took: took, Data: data})
			})
			b.tell(at)
			r.e.opt.Observer.StepEnded(r.info, key, attempt, took, nil)
			return nil
		}
		r.e.opt.Observer.StepEnded(r.info, key, attempt, took, err)
		if c.s.ctx.Err() != nil { // cancelled, not failed: no attempt is burned
			b.flush()
			if err := c.act(); err != nil {
				return err
			}
		}
		if budget, ok := waitsFor(err); ok { // nor here
			if attempt == 1 && !waited { // else the journal knows it
				c.keepFirst(key, first)
			} else {
				b.flush()
			}
			until := budget.Until()
			if limit := first.Add(o.total); o.total > 0 && (until.IsZero() || limit.Before(until)) {
				until = limit
			}
			if err := c.awaitBudget(key, budget, until); err != nil {
				return err
			}
			waited = true
			continue
		}
		wait, asked := retryAfter(err)
		if !asked {
			wait = o.retry.wait(attempt)
		}
		over := o.total > 0 && time.Since(first)+wait >= o.total
		if IsFatal(err) || attempt >= o.retry.attempts || over {
			return c.endStep(key, attempt, first, err)
		}
		at := roundUp(time.Now())
		next = at.Add(wait)
		note := mustJSON(attemptEntry{First: first, Next: next, Error: failureOf(err)})
		b.commit(func(ch *Change) {
			ch.Entries = append(ch.Entries, Entry{Seq: r.nextSeq(), Kind: KindAttempt, Key: key, Attempt: attempt, Failed: true, At: at, Took: took, Data: note})
		})
		attempt++
	}
}

// attemptEntry is the data of a KindAttempt.
type attemptEntry struct {
	First time.Time `json:"first"`
	Next  time.Time `json:"next"`
	Error *Failure  `json:"error"`
}

// firstMark ends the key of the entry that tells when a step which waits for a budget was
// first begun: its time limit goes on while the run is out of memory.
const firstMark = ".first"

// keepFirst records when a step was first begun. Each failed attempt does so too.
func (c *Context) keepFirst(key string, first time.Time) {
	e := Entry{Kind: KindScope, Key: key + firstMark, At: now(), Data: mustJSON(map[string]time.Time{"first": first})}
	c.b.commit(func(ch *Change) {
		e.Seq = c.b.r.nextSeq()
		ch.Entries = append(ch.Entries, e)
	})
}

// endStep records that the step failed.
func (c *Context) endStep(key string, attempts int, first time.Time, err error) error {
	r := c.b.r
	failure := failureOf(&StepError{Step: key, Attempts: attempts, Err: err})
	at := now()
	e := Entry{Kind: KindStep, Key: key, Attempt: attempts, Failed: true, At: at, Took: at.Sub(first), Data: mustJSON(failure)}
	c.b.commit(func(ch *Change) {
		e.Seq = r.nextSeq()
		ch.Entries = append(ch.Entries, e)
	})
	c.b.tell(at)
	return e.Failure().err()
}

func stepResult(e *Entry) (json.RawMessage, error) {
	if e.Failed {
		return nil, e.Failure().err()
	}
	return e.Data, nil
}

// pauseUntil waits for the next attempt as a durable timer.
func (c *Context) pauseUntil(key string, t time.Time) error {
	if err := c.act(); err != nil {
		return err
	}
	c.b.r.mu.Lock()
	if c.b.wait(c.s, key, "", t) == forCancel {
		return c.act()
	}
	return nil
}

// attempt runs the body once.
func (c *Context) attempt(ctx *stepContext, o *stepOptions, body func(context.Context) (json.RawMessage, error)) (json.RawMessage, error) {
	if c.b.r.e.opt.Intercept != nil {
		body = c.intercepted(ctx.key, body)
	}
	limit, whole := o.attempt, false
	if o.total > 0 {
		if left := o.total - time.Since(ctx.first); limit == 0 || left < limit {
			limit, whole = max(left, time.Millisecond), true
		}
	}
	if limit == 0 {
		return guard(ctx, body)
	}
	inner, cancel := context.WithTimeoutCause(c.s.ctx, limit, ErrTimeout)
	defer cancel()
	ctx.Context = inner
	over := func(err error) error {
		if whole {
			return fmt.Errorf("the step took over its limit of %v, attempts and waits together: %w", o.total, err)
		}
		return fmt.Errorf("the attempt took over its limit of %v: %w", o.attempt, err)
	}
	type result struct {
		data json.RawMessage
		err  error
	}
	done := make(chan result, 1)
	go func() { // a body that does not heed its context is left behind
		data, err := guard(ctx, body)
		done <- result{data, err}
	}()
	select {
	case res := <-done:
		if res.err != nil && inner.Err() != nil && c.s.ctx.Err() == nil {
			res.err = over(errors.Join(ErrTimeout, res.err))
		}
		return res.data, res.err
	case <-inner.Done():
		if c.s.ctx.Err() != nil {
			return nil, context.Cause(c.s.ctx)
		}
		return nil, over(ErrTimeout)
	}
}

// intercepted is body as Options.Intercept lets it be.
func (c *Context) intercepted(key string, body func(context.Context) (json.RawMessage, error)) func(context.Context) (json.RawMessage, error) {
	opt := &c.b.r.e.opt
	return func(ctx context.Context) (json.RawMessage, error) {
		data, err := opt.Intercept(ctx, body)
		switch {
		case err != nil:
			return nil, err
		case len(data) > opt.MaxPayload:
			return nil, Fatal(&TooLargeError{What: "result of step " + key, Size: len(data), Limit: opt.MaxPayload})
		case len(data) > 0 && !json.Valid(data):
			return nil, Fatal(&EncodingError{What: "result of step " + key, Path: "what Intercept returned", Err: errors.New("it is not JSON")})
		}
		return data, nil
	}
}

// guard calls body; a panic, or a Goexit, in it is an error.
func guard(ctx context.Context, body func(context.Context) (json.RawMessage, error)) (data json.RawMessage, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if p := recover(); p != nil {
			err = panicError(p)
		}
	}()
	data, err = body(ctx)
	returned = true
	return data, err
}

func (p *retryPolicy) fill() {
	if p.attempts <= 0 {
		p.attempts = defaultAttempts
	}
	if p.first <= 0 {
		p.first = defaultFirst
	}
	if p.most <= 0 {
		p.most = max(defaultMost, p.first)
	}
}

// wait is how long to wait after the n-th attempt: between half of and the full back-off.
func (p *retryPolicy) wait(n int) time.Duration {
	d := p.first
	for range n - 1 {
		if d = 2 * d; d >= p.most || d <= 0 {
			d = p.most
			break
		}
	}
	d = min(d, p.most)
	return d/2 + rand.N(d/2+1)
}
