package machine

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pawlrun/pawl"
)

// Snapshot is a run as its journal has it.
type Snapshot[S any] struct {
	Run      pawl.RunInfo        // the run that goes on now, or ended: after ContinueAfter visits another than the one asked for
	Place[S]                     // of the run itself
	Branches map[string]Place[S] // of a fork under way, by path, such as "review:legal"
	Stats    map[string]Stat     // by state; over all the runs from the one asked for on
	Edges    []Edge              // the transitions taken, likewise
	Total    time.Duration       // from the start to the end, or to now
}

// Place is where a run, or a branch of it, is.
type Place[S any] struct {
	Value   S
	Version int            // counts the changes of Value: one per visit and per update
	At      string         // the state under way; of a run that waits, is forked or has ended, the one that it was in last
	Waiting bool           // for an update
	Next    string         // Waiting: the state that an update lets it go on with
	Until   time.Time      // Waiting: when its time is over; zero: never
	Late    string         // Waiting: the state that it goes on with then
	Join    string         // forked: the state that the branches join at
	Visits  map[string]int // that count for MaxVisits
}

// State reads where a run is. It asks nothing of its worker. ErrNotFound: no such run;
// ErrInput: it is one of another workflow.
func (m *Machine[S]) State(ctx context.Context, e *pawl.Engine, run pawl.Ref) (Snapshot[S], error) {
	var snap Snapshot[S]
	h := newHistory(m.p)
	var began time.Time
	for {
		info, err := m.find(ctx, e, run)
		if err != nil {
			return snap, err
		}
		if began.IsZero() {
			began = info.Created
		}
		if err := h.readAll(ctx, e, run); err != nil {
			return snap, err
		}
		snap.Run = info
		if info.Next == "" {
			break
		}
		run.ID = info.Next
	}
	snap.Stats, snap.Edges = h.stats, h.sorted()
	if snap.Total = time.Since(began); snap.Run.State.Terminal() {
		snap.Total = snap.Run.Ended.Sub(began)
	}
	var err error
	if snap.Place, err = placeOf[S](h.root); err != nil {
		return snap, err
	}
	for path, t := range h.lines {
		if path == "" {
			continue
		}
		if snap.Branches == nil {
			snap.Branches = map[string]Place[S]{}
		}
		if snap.Branches[path], err = placeOf[S](t); err != nil {
			return snap, err
		}
	}
	return snap, nil
}

// UpdateOption sets a property of an Update, a Continue or a Send.
type UpdateOption func(*updateOptions)

type updateOptions struct {
	branch  string
	version *int
	reset   bool
}

// In names the branch that is meant, by its path, as Snapshot.Branches has it. Without it
// the run itself is.
func In(branch string) UpdateOption { return func(o *updateOptions) { o.branch = branch } }

// IfVersion makes the change only if Place.Version is still v: what the one who decided on
// the change had before him.
func IfVersion(v int) UpdateOption { return func(o *updateOptions) { o.version = &v } }

// ResetVisits forgets how often states were visited so far, for MaxVisits.
func ResetVisits() UpdateOption { return func(o *updateOptions) { o.reset = true } }

// Update changes the value of a run that waits, and lets it wait on. change is called with
// the value as it is; what it makes of it is accepted if nobody else has changed the run
// meanwhile. When Update returns nil, the run has taken it, once, and it is durable.
//
// ErrConflict: another update or the timeout came first; nothing was changed: look again.
// ErrState: the run does not wait, so the visit under way will decide what comes next; try
// again when it waits, or [Machine.Send]. ErrEnded, ErrNotFound. ErrUnknownOutcome: ctx ended
// before a worker took it; it will, unless the run changes first.
func (m *Machine[S]) Update(ctx context.Context, e *pawl.Engine, run pawl.Ref, change func(*S) error, opts ...UpdateOption) error {
	return m.change(ctx, e, run, "updated", false, change, opts)
}

// Continue lets a run that waits go on with the state that its Wait names, with a change of
// its value, if change is not nil. Of several calls for one wait one is accepted, and the
// others are conflicts. See [Machine.Update] for when it returns and for its errors.
func (m *Machine[S]) Continue(ctx context.Context, e *pawl.Engine, run pawl.Ref, change func(*S) error, opts ...UpdateOption) error {
	return m.change(ctx, e, run, "continued", true, change, opts)
}

// Send merges patch into the value of a run (as JSON, see [Merge]) and lets it go on, when
// it waits in state: now, or when it comes to wait there. It is for news that may come early
// and may not be lost, such as that of a payment. It returns when it is durable and does not
// hear what became of it. What nobody took is dropped with its run, also when that goes on as
// a new one (Options.ContinueAfter). Each wait in the state takes one: if the same news may
// come twice and the run wait there twice, use Continue.
//
// ErrInput: the machine has no such state, or the patch does not fit. ErrEnded, ErrNotFound.
func (m *Machine[S]) Send(ctx context.Context, e *pawl.Engine, run pawl.Ref, state string, patch any, opts ...UpdateOption) error {
	o := optionsOf(opts)
	data, err := json.Marshal(patch)
	switch {
	case err != nil:
		return fmt.Errorf("%w: the patch has no JSON form: %w", pawl.ErrInput, err)
	case m.p.nodes[state] == nil:
		return fmt.Errorf("%w: machine %s has no state %q to wait in; it has %s", pawl.ErrInput, m.p.name, state, m.p.names())
	case o.version != nil:
		return fmt.Errorf("%w: Send takes whatever version there is; with IfVersion use Continue", pawl.ErrInput)
	}
	if err := strict(data, new(S)); err != nil {
		return fmt.Errorf("%w: the patch does not fit the machine's value: %w", pawl.ErrInput, err)
	}
	info, err := m.last(ctx, e, run)
	if err != nil {
		return err
	}
	run.ID = info.ID
	return e.SignalRef(ctx, run, updateEvent(o.branch, state), update{ID: rand.Text(), Patch: data, Go: true, Reset: o.reset})
}

// Merge makes a change for Update and Continue of a JSON merge patch (RFC 7396): objects are
// merged, null deletes a key, anything else replaces what was there. A key that S does not
// have is an error.
func Merge[S any](patch any) func(*S) error {
	return func(s *S) error {
		data, err := json.Marshal(patch)
		if err != nil {
			return fmt.Errorf("%w: the patch has no JSON form: %w", pawl.ErrInput, err)
		}
		value, err := json.Marshal(s)
		if err != nil {
			return err
		}
		if value, err = mergePatch(value, data); err != nil {
			return err
		}
		var out S
		if err := strict(value, &out); err != nil {
			return fmt.Errorf("%w: the patch does not fit the machine's value: %w", pawl.ErrInput, err)
		}
		*s = out
		return nil
	}
}

func strict(data json.RawMessage, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

func optionsOf(opts []UpdateOption) (o updateOptions) {
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

func (m *Machine[S]) change(ctx context.Context, e *pawl.Engine, run pawl.Ref, deed string, goOn bool, change func(*S) error, opts []UpdateOption) error {
	o := optionsOf(opts)
	info, err := m.last(ctx, e, run)
	if err != nil {
		return err
	}
	run.ID = info.ID
	refused := func(why error, format string, args ...any) error {
		return fmt.Errorf("run %s of machine %s cannot be %s: %w: "+format, append([]any{run.ID, m.p.name, deed, why}, args...)...)
	}
	if info.State.Terminal() {
		return refused(pawl.ErrEnded, "it has already %s", info.State)
	}
	h := newHistory(m.p)
	if err := h.readAll(ctx, e, run); err != nil {
		return err
	}
	t := h.lines[o.branch]
	switch {
	case t == nil:
		return refused(pawl.ErrNotFound, "it has no branch %q under way; under way are %q", o.branch, slices.Sorted(maps.Keys(h.lines)))
	case o.version != nil && *o.version != t.ver:
		return refused(pawl.ErrConflict, "its version is %d, not %d; look again", t.ver, *o.version)
	case t.branches != nil:
		return refused(pawl.ErrState, "its fork at %q is under way; name the branch (In): %q", t.at, slices.Sorted(maps.Keys(h.lines))[1:])
	case t.move.Wait == "":
		return refused(pawl.ErrState, "state %q is under way; try again when it waits", t.at)
	}
	var s S
	if err := decode(t.state, &s); err != nil {
		return fmt.Errorf("run %s of machine %s: its value does not fit %T: %w", run.ID, m.p.name, s, err)
	}
	if change != nil {
		if err := change(&s); err != nil {
			return err
		}
	}
	if err := validate(&s); err != nil {
		return fmt.Errorf("%w: %w", pawl.ErrInput, err)
	}
	state, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("%w: the changed value has no JSON form: %w", pawl.ErrInput, err)
	}
	version := t.ver
	u := update{ID: rand.Text(), Version: &version, State: state, Go: goOn, Reset: o.reset}
	if err := e.SignalRef(ctx, run, updateEvent(o.branch, t.at), u); err != nil {
		return fmt.Errorf("run %s of machine %s cannot be %s: %w", run.ID, m.p.name, deed, err)
	}
	conflict := func() error { return refused(pawl.ErrConflict, "it changed meanwhile; look again") }
	for entry, err := range e.Follow(ctx, run, h.seq) {
		switch {
		case err != nil && ctx.Err() != nil:
			return refused(pawl.ErrUnknownOutcome, "no worker took the change yet (%v); one will, unless the run changes first", ctx.Err())
		case err != nil:
			return refused(pawl.ErrUnknownOutcome, "the change is stored, but its outcome could not be read: %v", err)
		}
		h.read(entry)
		if h.taken != nil && h.taken.ID == u.ID {
			if h.accepted {
				return nil
			}
			return conflict()
		}
		if now := h.lines[o.branch]; now == nil || now.ver != version || now.move.Wait == "" {
			return conflict()
		}
	}
	switch info, err = e.Get(ctx, run); {
	case err != nil:
		return refused(pawl.ErrUnknownOutcome, "the change is stored, but its outcome could not be read: %v", err)
	case info.State.Terminal():
		return conflict()
	}
	return refused(pawl.ErrUnknownOutcome, "it is %s, and takes the change when it goes on", info.State)
}

// find looks a run up and sees that it is one of the machine.
func (m *Machine[S]) find(ctx context.Context, e *pawl.Engine, run pawl.Ref) (pawl.RunInfo, error) {
	info, err := e.Get(ctx, run)
	if err == nil && info.Workflow != m.p.name {
		err = fmt.Errorf("%w: run %s is one of %s, not of machine %s", pawl.ErrInput, run.ID, info.Workflow, m.p.name)
	}
	return info, err
}

// last follows a run to the one that goes on in its place.
func (m *Machine[S]) last(ctx context.Context, e *pawl.Engine, run pawl.Ref) (pawl.RunInfo, error) {
	for {
		info, err := m.find(ctx, e, run)
		if err != nil || info.Next == "" {
			return info, err
		}
		run.ID = info.Next
	}
}

func (h *history) readAll(ctx context.Context, e *pawl.Engine, run pawl.Ref) error {
	for entry, err := range e.Journal(ctx, run) {
		if err != nil {
			return err
		}
		h.read(entry)
	}
	if h.root == nil {
		return errors.New("pawl: the journal of run " + run.ID + " has no input")
	}
	return nil
}

func placeOf[S any](t *track) (Place[S], error) {
	at := Place[S]{Version: t.ver, At: t.at, Visits: maps.Clone(t.visits)}
	if t.move.Wait != "" {
		at.Waiting, at.Next, at.Late = true, t.move.Wait, t.move.Late
		if at.Late != "" {
			at.Until = t.entered.Add(t.move.Timeout)
		}
	}
	if t.branches != nil {
		at.Join = t.move.Join
	}
	if err := decode(t.state, &at.Value); err != nil {
		return at, fmt.Errorf("its value does not fit %T: %w", at.Value, err)
	}
	return at, nil
}
