package pawl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Ref names a run: by its id, within a tenant.
type Ref struct {
	Tenant string
	ID     string
}

// Signal sends an event to a run, where [WaitFor] takes it: now, or when it comes to wait
// for it. A run that goes on as another ([ContinueAs]) leaves to that what it did not take. When Signal returns nil the event is durable. ErrNotFound, ErrEnded, ErrTooLarge.
func (e *Engine) Signal(ctx context.Context, runID, event string, data any) error {
	return e.SignalRef(ctx, Ref{ID: runID}, event, data)
}

// SignalRef is Signal for a run of a tenant.
func (e *Engine) SignalRef(ctx context.Context, run Ref, event string, data any) error {
	if event == "" {
		return fmt.Errorf("%w: %w", ErrInput, checkName("event", event))
	}
	_, err := e.Deliver(ctx, Delivery{Run: run, Event: event, Data: data})
	return err
}

// Publish sends an event to every run of the default tenant that waits for it now. That
// there is none is no error.
func (e *Engine) Publish(ctx context.Context, event string, data any) error {
	_, err := e.PublishTo(ctx, "", event, data)
	return err
}

// PublishTo sends an event to every run of a tenant that waits for it now, and tells how many
// there were.
func (e *Engine) PublishTo(ctx context.Context, tenant, event string, data any) (int, error) {
	if event == "" {
		return 0, fmt.Errorf("%w: %w", ErrInput, checkName("event", event))
	}
	r, err := e.Deliver(ctx, Delivery{Tenant: tenant, Publish: event, Data: data})
	return r.Count, err
}

// Resume sends a payload to the hook with a token: of those that code has chosen, one of the
// default tenant; for others use [Engine.Deliver]. ErrNotFound: no hook has it. ErrEnded: its
// hook was closed, or its run has ended, and that is remembered: see [NewHook], [Retain].
func (e *Engine) Resume(ctx context.Context, token string, data any) (RunInfo, error) {
	if token == "" {
		return RunInfo{}, fmt.Errorf("%w: no live hook has an empty token", ErrNotFound)
	}
	r, err := e.Deliver(ctx, Delivery{Token: token, Data: data})
	return r.Run, err
}

func (e *Engine) order(ctx context.Context, o *Order) (RunInfo, error) {
	if err := e.submit(ctx, &item{order: o}); err != nil { // o may still be written to
		return RunInfo{}, fmt.Errorf("%s run %s: %w", o.Verb, o.RunID, err)
	}
	if o.Err != nil {
		return o.Info, fmt.Errorf("%s run %s: %w", o.Verb, o.RunID, o.Err)
	}
	e.watch.touch(o.Info.Key)
	return o.Info, nil
}

func reasonData(reason string) json.RawMessage {
	return mustJSON(map[string]string{"reason": reason})
}

// Cancel ends a run: steps under way see their context end, waits return ErrCancelled,
// compensations run, children are cancelled too, and the run is Cancelled, whatever its
// function returns. It returns when the order is durable. ErrNotFound, ErrEnded.
func (e *Engine) Cancel(ctx context.Context, run Ref, reason string) (RunInfo, error) {
	return e.order(ctx, &Order{Verb: VerbCancel, Tenant: run.Tenant, RunID: run.ID, Data: reasonData(reason)})
}

// Pause stops a run until Unpause, and then its children: a step under way sees its context
// end; what it returns nevertheless is recorded. ErrNotFound, ErrEnded, ErrState when it is
// paused already.
func (e *Engine) Pause(ctx context.Context, run Ref, reason string) (RunInfo, error) {
	info, err := e.order(ctx, &Order{Verb: VerbPause, Tenant: run.Tenant, RunID: run.ID, Data: reasonData(reason)})
	if err != nil {
		return info, err
	}
	return info, e.eachChild(ctx, info, func(child RunInfo) error {
		if child.State == Paused || child.State == Blocked {
			return nil
		}
		_, err := e.Pause(ctx, Ref{child.Tenant, child.ID}, pausedWithParent)
		return err
	})
}

// Unpause lets a run that is Paused or Blocked go on, and the children that were paused
// with it. ErrState otherwise.
func (e *Engine) Unpause(ctx context.Context, run Ref) (RunInfo, error) {
	info, err := e.order(ctx, &Order{Verb: VerbUnpause, Tenant: run.Tenant, RunID: run.ID})
	if err != nil {
		return info, err
	}
	return info, e.eachChild(ctx, info, func(child RunInfo) error {
		if child.State != Paused || child.Reason != pausedWithParent {
			return nil
		}
		_, err := e.Unpause(ctx, Ref{child.Tenant, child.ID})
		return err
	})
}

const pausedWithParent = "its parent is paused"

// eachChild calls f for the children of a run that have not ended, detached ones excepted.
// One that ends meanwhile is no error.
func (e *Engine) eachChild(ctx context.Context, parent RunInfo, f func(child RunInfo) error) error {
	for cursor := int64(0); ; {
		page, err := e.store.List(ctx, Filter{Tenant: parent.Tenant, Parent: parent.Key, Limit: 200, Cursor: cursor})
		if err != nil || len(page) == 0 {
			return err
		}
		for _, child := range page {
			cursor = child.Key
			if child.State.Terminal() || child.Detached {
				continue
			}
			if err := f(child); err != nil && !errors.Is(err, ErrEnded) && !errors.Is(err, ErrState) {
				return fmt.Errorf("child %s: %w", child.ID, err)
			}
		}
	}
}

// Wake ends a run's sleeps and timed waits early: the one with the given key, or all of
// them. data, if not nil, is what a wait for an event or a hook with that key returns. A
// wake that finds nothing to end does nothing.
func (e *Engine) Wake(ctx context.Context, run Ref, key string, data any) (RunInfo, error) {
	o := map[string]any{}
	if key != "" {
		o["key"] = key
	}
	if data != nil {
		o["data"] = data
	}
	body, err := encode("data of a wake", o, e.opt.MaxPayload)
	if err != nil {
		return RunInfo{}, err
	}
	return e.order(ctx, &Order{Verb: VerbWake, Tenant: run.Tenant, RunID: run.ID, Data: body})
}

// Delete removes an ended run and all that is its own. ErrState: it has not ended.
func (e *Engine) Delete(ctx context.Context, run Ref) error {
	_, err := e.order(ctx, &Order{Verb: VerbDelete, Tenant: run.Tenant, RunID: run.ID})
	return err
}

// Get returns what is known of a run without its journal. ErrNotFound.
func (e *Engine) Get(ctx context.Context, run Ref) (RunInfo, error) {
	info, err := e.store.Lookup(ctx, run.Tenant, run.ID)
	if err != nil {
		return info, fmt.Errorf("run %s: %w", run.ID, err)
	}
	return info, nil
}

// List returns a page of runs, newest first. The next page has the Key of the last run as
// its Cursor.
func (e *Engine) List(ctx context.Context, f Filter) ([]RunInfo, error) {
	if f.Limit <= 0 {
		f.Limit = 50
	}
	f.Limit = min(f.Limit, 1000)
	return e.store.List(ctx, f)
}

// Journal returns a run's entries in order, as far as they are there.
func (e *Engine) Journal(ctx context.Context, run Ref) iter.Seq2[Entry, error] {
	return e.JournalAfter(ctx, run, -1)
}

// JournalAfter is Journal from the entry behind the one with a seq on; -1 is before the first. What it
// costs does not grow with what lies before, and it holds a small part of the journal at a time.
func (e *Engine) JournalAfter(ctx context.Context, run Ref, after int64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		info, err := e.Get(ctx, run)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		e.pages(ctx, info.Key, max(after, -1), yield)
	}
}

// pageBytes is about how much of a journal is read at a time.
const pageBytes = 1 << 20

// pages yields the entries that are there after a seq, and reports the last seq and
// whether to go on.
func (e *Engine) pages(ctx context.Context, key, after int64, yield func(Entry, error) bool) (int64, bool) {
	for limit := 50; ; {
		page, err := e.store.Journal(ctx, key, after, limit)
		if err != nil {
			yield(Entry{}, err)
			return after, false
		}
		size := 0
		for _, entry := range page {
			if !yield(entry, nil) {
				return after, false
			}
			after, size = entry.Seq, size+len(entry.Data)
		}
		if len(page) == 0 {
			return after, true
		}
		limit = min(max(pageBytes*len(page)/max(size, 1), 4), 500) // entries may be large
	}
}

// Follow returns a run's entries with Seq > after and goes on with new ones as they are
// committed, until the run has ended, is Paused or Blocked, or ctx ends. Entries are shared
// with other readers: do not change their Data.
func (e *Engine) Follow(ctx context.Context, run Ref, after int64) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		r, err := e.OpenJournal(ctx, run, after)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		r.ends = pauses
		each(ctx, r, yield)
	}
}

// OpenJournal returns a reader of a run's entries with Seq > after, through pauses, until the
// run has ended. ErrNotFound.
func (e *Engine) OpenJournal(ctx context.Context, run Ref, after int64) (*Reader[Entry], error) {
	info, err := e.Get(ctx, run)
	if err != nil {
		return nil, err
	}
	newest, err := e.store.Result(ctx, info.Key)
	if err != nil {
		return nil, fmt.Errorf("journal of run %s: %w", run.ID, err)
	}
	r := attach(e, sourceKey{run: info.Key, journal: true}, info, max(after, -1)+1, newest.Seq, func() *source[Entry] {
		return &source[Entry]{
			read: func(ctx context.Context, from int64) ([]Entry, error) {
				return e.store.Journal(ctx, info.Key, from-1, pageItems)
			},
			index: func(e Entry) int64 { return e.Seq }, size: func(e Entry) int { return len(e.Data) },
		}
	})
	r.ends = State.Terminal
	return r, nil
}

// Audit looks for runs that nothing would ever wake, makes them claimable, and reports
// them. A working engine does so every 30 s, or every Options.Poll if that is longer.
func (e *Engine) Audit(ctx context.Context) ([]Finding, error) {
	found, err := e.store.Audit(ctx, time.Now())
	if len(found) > 0 {
		e.kick()
	}
	return found, err
}

// Queued counts a tenant's runs that nobody has begun, those of a later time and those behind a
// limit too. It reads and returns no more than most.
func (e *Engine) Queued(ctx context.Context, tenant string, most int) (int, error) {
	return e.store.Queued(ctx, tenant, most)
}

// Unread counts the events and payloads that were sent to a run, by its [RunInfo.Key], and that it
// has not taken. It reads and returns no more than most.
func (e *Engine) Unread(ctx context.Context, run int64, most int) (int, error) {
	return e.store.Unread(ctx, run, most)
}

// Stats counts runs, by state and ready ones, and workers.
func (e *Engine) Stats(ctx context.Context) (Stats, error) { return e.store.Stats(ctx, time.Now()) }

// Close ends the engine as a client: calls that write return ErrClosed. It does not close
// the store, and does not stop Run: end its context.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.pipe.rest()
	return nil
}
