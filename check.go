package pawl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// Check is what came of holding a run's journal against the code of this engine.
type Check struct {
	Run RunInfo `json:"run"`
	// Diverged says why the run would be blocked; "": it would go on.
	Diverged string `json:"diverged,omitempty"`
	// NoSecret says that Diverged is only this: the run has a hook whose token is derived of a
	// secret, and this engine has no Options.Secret. But for that the code fits.
	NoSecret bool `json:"noSecret,omitempty"`
	// Drift are keys of entries, at most 100, that the code has not asked for when it comes to what
	// Next says. What it asks for later it still finds.
	Drift []string `json:"drift,omitempty"`
	// Next says what the run would do where its journal ends: begin a step, by its key, wait, end.
	Next string `json:"next,omitempty"`
}

// checkedAtOnce is how many runs a check has in memory.
const checkedAtOnce = 64

// checkLimit is how long the code of one run may take to get to the end of its journal.
const checkLimit = 30 * time.Second

// Check replays the journals of the runs that f picks and that have not ended, newest first,
// with the workflows registered here, and tells for each what would come of it: before code
// is deployed, whether it fits what is under way. Nothing is written, no body of a step is run,
// and the runs go on meanwhile wherever they are: f.Limit and f.Cursor are not used. Only what
// workflow functions do outside of durable calls is done, as in any replay. A run whose code
// does not get to the end of its journal within 30 s has diverged.
//
// Changes that a message or a timer would bring about are not looked ahead to: a check says
// that what was recorded still fits.
func (e *Engine) Check(ctx context.Context, f Filter) iter.Seq2[Check, error] {
	if f.States == nil {
		f.States = []State{Pending, Running, Waiting, Paused, Blocked}
	}
	return func(yield func(Check, error) bool) {
		f.Cursor, f.Limit = 0, checkedAtOnce
		for {
			page, err := e.store.List(ctx, f)
			var found []Check
			if err == nil {
				found, err = e.check(ctx, page, checking{defs: e.code(), limit: checkLimit})
			}
			if err != nil {
				yield(Check{}, err)
				return
			}
			for _, c := range found {
				if !yield(c, nil) {
					return
				}
			}
			if len(page) < f.Limit {
				return
			}
			f.Cursor = page[len(page)-1].Key
		}
	}
}

// checking is what runs are held against.
type checking struct {
	defs  map[string]*definition
	limit time.Duration
	most  int64  // entries of a journal that are read; 0: all
	told  func() // called as it is known of a run what comes of it, before anything is stopped; nil: nobody is
	ended bool   // runs that have ended, too
}

// code are the workflows that are registered. It is not to be changed.
func (e *Engine) code() map[string]*definition {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.defs
}

// check replays runs in an engine of their own, on a store that has nothing but them and
// takes nothing.
func (e *Engine) check(callers context.Context, runs []RunInfo, how checking) ([]Check, error) {
	ctx, stop := context.WithTimeout(callers, how.limit)
	defer stop()
	s := &checkStore{Store: e.store, left: map[int64]bool{}, found: map[int64]Check{}, bare: map[int64]string{}, done: stop, most: how.most, told: how.told}
	known := runs[:0:0]
	for _, run := range runs {
		switch {
		case run.State.Terminal() && !how.ended:
		case how.defs[run.Workflow] == nil:
			s.found[run.Key] = Check{Diverged: fmt.Sprintf("no workflow is called %q here", run.Workflow)}
		default:
			s.left[run.Key] = true
			known = append(known, run)
		}
	}
	if s.runs = known; len(known) > 0 {
		opt := e.opt
		opt.Logger, opt.Observer, opt.Drain = slog.New(slog.DiscardHandler), nil, time.Nanosecond
		opt.Intercept = func(ctx context.Context, _ func(context.Context) (json.RawMessage, error)) (json.RawMessage, error) {
			stepped := ctx.Value(stepKey{}).(*stepContext)
			s.tell(stepped.r.info.Key, Check{Next: "step " + stepped.key})
			<-ctx.Done()
			return nil, context.Cause(ctx)
		}
		s.dry = New(s, &opt)
		s.dry.unsecured = s.unsecured
		s.dry.defs, s.dry.names = how.defs, slices.Sorted(maps.Keys(how.defs))
		if err := errors.Join(s.dry.Run(ctx), context.Cause(callers)); err != nil {
			return nil, err
		}
	}
	var out []Check
	for _, run := range runs {
		if run.State.Terminal() && !how.ended {
			continue
		}
		c, ok := s.found[run.Key]
		if !ok {
			c.Diverged = fmt.Sprintf("its code did not get to the end of the journal within %v", how.limit)
		}
		if why := s.bare[run.Key]; why != "" && c.Diverged == "" {
			c.Diverged, c.NoSecret = why, true
		}
		c.Run = run
		out = append(out, c)
	}
	return out, nil
}

// checkStore reads from the store under it, hands out its runs once, and takes nothing: the
// first thing that a run wants to write says what came of its replay.
type checkStore struct {
	Store
	runs []RunInfo
	dry  *Engine
	done func()
	told func()
	most int64

	mu    sync.Mutex
	left  map[int64]bool
	found map[int64]Check
	bare  map[int64]string // runs with a hook that needs the secret which this engine has not, and what is said of it
}

// unsecured remembers a run that would be blocked for want of a secret, and lets its replay go on.
func (s *checkStore) unsecured(run int64, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bare[run] = why
}

func (s *checkStore) tell(run int64, c Check) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.left[run] {
		return
	}
	delete(s.left, run)
	s.found[run] = c
	if s.told != nil {
		s.told()
	}
	if len(s.left) == 0 {
		s.done()
	}
}

func (s *checkStore) Join(context.Context, WorkerInfo, time.Time) (int64, error) { return 1, nil }
func (s *checkStore) Beat(context.Context, int64, time.Time, time.Time) error    { return nil }
func (s *checkStore) Leave(context.Context, int64, time.Time) error              { return nil }
func (s *checkStore) Mail(context.Context, int64) ([]Mail, error)                { return nil, nil }
func (s *checkStore) Audit(context.Context, time.Time) ([]Finding, error)        { return nil, nil }
func (s *checkStore) Purge(context.Context, time.Time, int) (int, error)         { return 0, nil }

func (s *checkStore) Claim(context.Context, ClaimRequest) (Claims, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var c Claims
	for _, run := range s.runs {
		if run.State.Terminal() { // its time is over, and what came of it is in the journal
			run.Deadline = time.Time{}
		}
		run.Worker, run.State, run.Strikes = 1, Running, 0
		c.Runs = append(c.Runs, Claim{Info: run})
	}
	s.runs = nil
	return c, nil
}

func (s *checkStore) Journal(ctx context.Context, run, after int64, limit int) ([]Entry, error) {
	page, err := s.Store.Journal(ctx, run, after, limit)
	return s.first(page), err
}

func (s *checkStore) Index(ctx context.Context, run, after int64, limit, inline int) ([]Entry, error) {
	page, err := s.Store.Index(ctx, run, after, limit, inline)
	return s.first(page), err
}

// first are those of some entries that are read.
func (s *checkStore) first(page []Entry) []Entry {
	for i := range page {
		if s.most > 0 && page[i].Seq >= s.most {
			return page[:i]
		}
	}
	return page
}

func (s *checkStore) Commit(_ context.Context, b *Batch) error {
	if len(b.Starts)+len(b.Sends)+len(b.Orders)+len(b.Budgets)+len(b.Settles)+len(b.Writes) > 0 {
		return fmt.Errorf("%w: nothing is written in a check", ErrRefused)
	}
	for _, ch := range b.Changes {
		if ch.To == nil && len(ch.Entries) == 0 { // a wait made known, while other branches go on
			continue
		}
		c := checked(ch)
		if ch.To != nil && ch.To.State.Terminal() { // it may have ended before all was asked for
			c.Drift = append(c.Drift, s.dry.unasked(ch.Run)...)
		}
		s.tell(ch.Run, c)
		ch.Err = ErrFenced
	}
	return nil
}

// checked tells what a change is the beginning of.
func checked(ch *Change) (c Check) {
	last := Entry{}
	for _, e := range ch.Entries {
		if e.Kind == KindDrift {
			var d struct{ Keys []string }
			if err := json.Unmarshal(e.Data, &d); err == nil {
				c.Drift = d.Keys
			}
			continue
		}
		last = e
	}
	switch to := ch.To; {
	case to != nil && to.State == Blocked:
		return Check{Diverged: to.Reason}
	case to != nil && to.State == Pending:
		return Check{Diverged: "its journal could not be read; check again"}
	case to != nil && to.State == Waiting:
		c.Next = "wait"
	case to != nil && to.State.Terminal():
		c.Next = "end as " + to.State.String()
		if to.Reason != "" {
			c.Next += ": " + to.Reason
		}
	case to != nil:
		c.Next = "be " + to.State.String()
	case last.Key != "":
		c.Next = last.Kind.String() + " " + last.Key
	default:
		c.Next = "go on"
	}
	return c
}

// unasked are the keys of what a replay that goes on has not asked for yet, at most 100.
func (e *Engine) unasked(run int64) []string {
	e.mu.Lock()
	r := e.runs[run]
	e.mu.Unlock()
	if r == nil || !r.replaying.Load() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unasked()
}
