package pawl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// StartRun starts a run of a workflow that is registered here, known by its name, with
// input as JSON. See [Workflow.Start].
func (e *Engine) StartRun(ctx context.Context, workflow string, input json.RawMessage, opts ...StartOption) (RunInfo, error) {
	def, err := e.definition(workflow)
	if err != nil {
		return RunInfo{}, err
	}
	return e.start(ctx, def, input, opts)
}

func (e *Engine) start(ctx context.Context, def *definition, input json.RawMessage, opts []StartOption) (RunInfo, error) {
	s, err := e.prepare(ctx, def, input, opts)
	if err != nil {
		return RunInfo{}, err
	}
	return e.submitStart(ctx, s)
}

func (e *Engine) submitStart(ctx context.Context, s *Start) (RunInfo, error) {
	it := &item{start: s}
	workflow := s.Run.Workflow
	if err := e.submit(ctx, it); err != nil { // s may still be written to
		return RunInfo{}, fmt.Errorf("start %s: %w", workflow, err)
	}
	if s.Err != nil {
		return s.Info, fmt.Errorf("start %s: %w", workflow, s.Err)
	}
	info := s.Info
	if s.Existed {
		info.Existed = true
		return e.whole(ctx, info)
	}
	for _, a := range s.Run.Attrs {
		if info.Attrs == nil {
			info.Attrs = map[string]string{}
		}
		if a.Value != nil {
			info.Attrs[a.Name] = *a.Value
		}
	}
	e.opt.Observer.RunStarted(info)
	return info, nil
}

var errNoContext = fmt.Errorf("%w: the context is nil; give context.Background() where there is none", ErrInput)

// submit commits what a caller from outside asks. When ctx ends first, the answer is not
// known: the commit may still happen.
func (e *Engine) submit(ctx context.Context, it *item) error {
	if ctx == nil {
		return errNoContext
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	e.mu.Lock()
	closed := e.closed
	e.mu.Unlock()
	if closed {
		return fmt.Errorf("%w: Close of the engine was called; make another with New", ErrClosed)
	}
	if ctx.Done() == nil {
		return e.pipe.do(it)
	}
	done := make(chan struct{})
	it.then = func(*item) { close(done) }
	e.pipe.post(it)
	select {
	case <-done:
		return it.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
	}
}

// apart joins names so that no others give the same.
func apart(names ...string) (s string) {
	for _, name := range names {
		s += colons.Replace(name) + ":"
	}
	return s
}

var colons = strings.NewReplacer("%", "%25", ":", "%3A")

// prepare checks all that can be checked before anything is stored.
func (e *Engine) prepare(ctx context.Context, def *definition, input json.RawMessage, opts []StartOption) (*Start, error) {
	version := def.opts.version
	if def.versions != nil {
		var given startOptions
		if err := apply(opts, func(opt StartOption) { opt.start(&given) }); err != nil {
			return nil, fmt.Errorf("%w: start %s: %w", ErrInput, def.name, err)
		}
		var err error
		if def, version, err = def.pick(ctx, Starting{Tenant: given.run.Tenant, ID: given.run.ID, Version: given.version, Input: input}); err != nil {
			return nil, err
		}
	}
	o := startOptions{run: NewRun{Priority: def.opts.priority}, timeout: def.opts.timeout}
	if err := errors.Join(apply(opts, func(opt StartOption) { opt.start(&o) }), o.err); err != nil {
		return nil, fmt.Errorf("%w: start %s: %w", ErrInput, def.name, err)
	}
	if o.version != "" && version != o.version {
		return nil, fmt.Errorf("%w: workflow %s has no versions to choose from: leave out AtVersion(%q)", ErrInput, def.name, o.version)
	}
	run := &o.run
	if len(input) > e.opt.MaxPayload {
		return nil, &TooLargeError{What: "input of " + def.name, Size: len(input), Limit: e.opt.MaxPayload}
	}
	if err := def.check(input); err != nil {
		return nil, err
	}
	attrs, err := attributes(o.attrs)
	if err != nil {
		return nil, err
	}
	if err := bounded(run, def.opts.budgets); err != nil {
		return nil, fmt.Errorf("start %s: %w", def.name, err)
	}
	policy := def.opts.policy
	if o.policy != nil {
		policy = *o.policy
	}
	if run.ID != "" {
		if err := checkName("run id", run.ID); err != nil {
			return nil, fmt.Errorf("%w: start %s: %w", ErrInput, def.name, err)
		}
		if policy == CancelOld || policy == Queue {
			run.Single = "id:" + apart(run.Tenant) + run.ID
		}
	} else {
		run.ID = newID()
	}
	if def.opts.single != nil {
		key, err := def.opts.single(input)
		if err != nil {
			return nil, fmt.Errorf("%w: singleton key of %s: %w", ErrInput, def.name, err)
		}
		run.Single = "key:" + apart(run.Tenant, def.name) + key
	}
	if o.single != "" {
		if def.opts.single != nil {
			return nil, fmt.Errorf("%w: start %s: SingletonKey(%q): the workflow is a Singleton by a key of its own", ErrInput, def.name, o.single)
		}
		run.Single = "start:" + apart(run.Tenant, def.name) + o.single
	}
	for _, l := range o.rates {
		l.Key = "start:" + apart(run.Tenant, def.name) + l.Key
		run.Limits = append(run.Limits, l)
	}
	for _, l := range def.opts.limits {
		key := "workflow:" + def.name
		if l.key != nil {
			k, err := l.key(input)
			if err != nil {
				return nil, fmt.Errorf("%w: limit key of %s: %w", ErrInput, def.name, err)
			}
			key = "key:" + apart(run.Tenant, def.name) + k
		}
		run.Limits = append(run.Limits, RunLimit{Key: key, N: l.n, Per: l.per})
	}
	now := now()
	if o.delay > 0 {
		run.NotBefore = now.Add(o.delay)
	}
	if o.timeout > 0 {
		if t := now.Add(o.timeout); run.Deadline.IsZero() || t.Before(run.Deadline) {
			run.Deadline = t
		}
	}
	run.Workflow, run.Version, run.Input = def.name, version, compact(input)
	run.Attrs, run.Seed, run.Keep = attrs, newSeed(), def.opts.keepAfter(Cancelled)
	e.mu.Lock()
	run.Eager = e.defs[def.name] != nil
	e.mu.Unlock()
	return &Start{Run: *run, Policy: policy, Exact: o.single != ""}, nil
}

// CheckStart says what StartRun would refuse before it asks the store for the start: ErrUnknown, ErrInput, ErrTooLarge; of a workflow
// with versions also what its Pick and Load say. It starts nothing, and returns the version that a run would have.
func (e *Engine) CheckStart(ctx context.Context, workflow string, input json.RawMessage, opts ...StartOption) (version string, err error) {
	def, err := e.definition(workflow)
	if err != nil {
		return "", err
	}
	s, err := e.prepare(ctx, def, input, opts)
	if err != nil {
		return "", err
	}
	return s.Run.Version, nil
}

// compact makes equal inputs equal bytes, as far as white space goes.
func compact(input json.RawMessage) json.RawMessage {
	if len(input) == 0 {
		return json.RawMessage("null")
	}
	var buf bytes.Buffer
	if json.Compact(&buf, input) != nil {
		return input
	}
	return buf.Bytes()
}

// Run is a handle to a run with a result of type Out.
type Run[Out any] struct {
	e      *Engine
	tenant string
	id     string
	key    int64

	existed bool
}

// Attach makes a handle to a run by its id, of the opts only [Tenant] counts. It asks nothing of
// the store: that there is no such run is the ErrNotFound of Result.
func Attach[Out any](e *Engine, id string, opts ...StartOption) *Run[Out] {
	var o startOptions
	for _, opt := range opts {
		if opt != nil {
			opt.start(&o)
		}
	}
	return &Run[Out]{e: e, tenant: o.run.Tenant, id: id}
}

// ID returns the run's id.
func (r *Run[Out]) ID() string { return r.id }

// Existed reports whether the start that made the handle met a run that was there already.
func (r *Run[Out]) Existed() bool { return r.existed }

// Result waits until the run has ended and returns its result. A run that ended otherwise
// is a *RunError; one that is Blocked is too, at once, as only a person can move it. It
// follows ContinueAs.
func (r *Run[Out]) Result(ctx context.Context) (Out, error) {
	var out Out
	if r.e == nil {
		return out, fmt.Errorf("%w: result of run %q: its handle was attached to no engine", ErrInput, r.id)
	}
	info, entry, err := r.e.waitEnd(ctx, r.tenant, r.id, r.key)
	if err != nil {
		return out, err
	}
	if info.State != Completed {
		cause := error(&Failure{Message: info.Reason})
		if entry != nil && entry.Failed {
			cause = entry.Failure().err()
		}
		return out, &RunError{RunID: info.ID, Workflow: info.Workflow, State: info.State, Err: cause}
	}
	err = decode("result of "+info.Workflow, entry.Data, &out)
	return out, err
}

// Wait waits until a run has ended, or is Blocked, and returns what is known of it and its
// last entry. It follows ContinueAs.
func (e *Engine) Wait(ctx context.Context, tenant, id string) (RunInfo, *Entry, error) {
	info, entry, err := e.waitEnd(ctx, tenant, id, 0)
	if err != nil {
		return info, entry, err
	}
	info, err = e.whole(ctx, info)
	return info, entry, err
}

// whole is info with what other tables know of the run, which neither a commit's answer nor
// a watcher's news has. A run that was deleted since stays as it was told.
func (e *Engine) whole(ctx context.Context, info RunInfo) (RunInfo, error) {
	full, err := e.store.Lookup(ctx, info.Tenant, info.ID)
	switch {
	case errors.Is(err, ErrNotFound):
		return info, nil
	case err != nil:
		return info, fmt.Errorf("read run %s: %w", info.ID, err)
	}
	full.Existed = info.Existed
	return full, nil
}

func (e *Engine) waitEnd(ctx context.Context, tenant, id string, key int64) (RunInfo, *Entry, error) {
	if ctx == nil {
		return RunInfo{}, nil, errNoContext
	}
	if key == 0 {
		info, err := e.store.Lookup(ctx, tenant, id)
		if err != nil {
			return info, nil, fmt.Errorf("wait for run %q of tenant %q: %w", id, tenant, err)
		}
		key = info.Key
	}
	sub := e.watch.subscribeEnd(key)
	defer func() { e.watch.unsubscribe(sub) }()
	poll := 50 * time.Millisecond
	for {
		if e.holds(key) { // this engine will tell: it does so after it has let go of the run
			poll = e.opt.Poll
		} else {
			info, err := e.store.Lookup(ctx, tenant, id)
			if err != nil {
				return info, nil, err
			}
			switch {
			case info.Next != "":
				next, err := e.store.Lookup(ctx, tenant, info.Next)
				if err != nil {
					return next, nil, err
				}
				e.watch.unsubscribe(sub)
				id, key = next.ID, next.Key
				sub = e.watch.subscribeEnd(key)
				continue
			case info.State.Terminal():
				entry, err := e.store.Result(ctx, info.Key)
				return info, &entry, err
			case info.State == Blocked:
				return info, nil, nil
			}
		}
		timer := time.NewTimer(poll)
		poll = min(2*poll, e.opt.Poll)
		select {
		case <-ctx.Done():
			timer.Stop()
			return RunInfo{}, nil, fmt.Errorf("run %s has not ended: %w", id, ctx.Err())
		case <-sub.c:
			timer.Stop()
			if end := sub.end.Load(); end != nil && end.info.Next == "" {
				return end.info, end.entry, nil
			}
		case <-timer.C:
		}
	}
}

// holds reports whether this engine works the run now.
func (e *Engine) holds(key int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.runs[key] != nil
}
