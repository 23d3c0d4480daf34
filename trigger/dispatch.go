package trigger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// turnEvent does what is left of an event. moved: it could do something.
func turnEvent(ctx context.Context, e *pawl.Engine, tenant, key string) (moved bool, err error) {
	row, version, err := readEvent(ctx, e, tenant, key)
	if errors.Is(err, pawl.ErrNotFound) {
		return false, nil
	}
	if err != nil || row.Due.IsZero() || row.Due.After(time.Now()) {
		return false, err
	}
	if !row.mine(e) {
		return row.unknown(ctx, e, version)
	}
	return true, row.dispatch(ctx, e, version)
}

// unknown notes that nobody has known the workflows that are left, once, when that is so for a
// minute. They stay due, for whoever knows them.
func (r *eventRow) unknown(ctx context.Context, e *pawl.Engine, version int64) (moved bool, err error) {
	if time.Since(r.Due) < late {
		return false, nil
	}
	var names []string
	for i := range r.Starts {
		if s := &r.Starts[i]; !s.Done && !s.Unknown {
			s.Unknown = true
			names = append(names, s.Workflow)
		}
	}
	if len(names) == 0 {
		return false, nil
	}
	if _, err := r.write(ctx, e, version, r.Due); err != nil {
		return false, ignoreConflict(err)
	}
	return true, fmt.Errorf("event %s (%s) can't start its runs: %s", r.Name, r.ID, unknownWorkflow(names...))
}

// unknownWorkflow says that nobody knows what is to be started, and what to do.
func unknownWorkflow(names ...string) string {
	return fmt.Sprintf("no node has registered workflow %s; start one that has, and it is started at once", strings.Join(names, ", "))
}

// mine reports whether this engine can do something of what is left.
func (r *eventRow) mine(e *pawl.Engine) bool {
	known := e.Workflows()
	return !r.Told || slices.ContainsFunc(r.Starts, func(s EventStart) bool { return !s.Done && slices.Contains(known, s.Workflow) })
}

// dispatch starts runs and tells those that wait, and writes how far it has come.
func (r *eventRow) dispatch(ctx context.Context, e *pawl.Engine, version int64) error {
	var failed error
	known := e.Workflows()
	for i := range r.Starts {
		s := &r.Starts[i]
		if s.Done || !slices.Contains(known, s.Workflow) {
			continue
		}
		err := r.start(ctx, e, s)
		switch {
		case err == nil:
			s.Done = true
		case errors.Is(err, pawl.ErrInput), errors.Is(err, pawl.ErrTooLarge), errors.Is(err, pawl.ErrEncoding), errors.Is(err, pawl.ErrConflict), errors.Is(err, pawl.ErrState):
			s.Done = true
			r.fail("subscription %s: %v", s.Subscription, err)
		default:
			failed = errors.Join(failed, err)
		}
	}
	if !r.Told {
		if err := r.tell(ctx, e); err != nil {
			failed = errors.Join(failed, err)
		} else {
			r.Told = true
		}
	}
	old := r.Due
	switch now := time.Now().UTC().Truncate(time.Microsecond); {
	case r.done():
		r.Due = time.Time{}
	case failed != nil:
		r.Due = now.Add(5 * time.Second)
	default:
		r.Due = now // another one knows the workflow
	}
	_, err := r.write(ctx, e, version, old)
	return errors.Join(failed, ignoreConflict(err))
}

// start starts one of the runs.
func (r *eventRow) start(ctx context.Context, e *pawl.Engine, s *EventStart) error {
	how := r.How[s.Subscription]
	input, err := r.input(how.Input)
	if err != nil {
		return err
	}
	b, gate, err := how.Control.bind(ctx, s.Subscription, r.subject())
	if err != nil {
		return fmt.Errorf("%w: %w", pawl.ErrInput, err)
	}
	l := launch{trigger: s.Subscription, tenant: r.Tenant, workflow: s.Workflow, run: s.Run, input: input, depth: r.Depth, bounds: b}
	if how.Control.gathers() {
		if err := l.check(ctx, e, how.Control); err != nil {
			return err
		}
		s.Run, _, err = l.gather(ctx, e, how.Control, gate, r.ID, r.Until)
		return err
	}
	info, err := l.start(ctx, e)
	if err == nil && info.ID != s.Run {
		r.fail("subscription %s: skipped, as run %s has not ended", s.Subscription, info.ID)
	}
	return err
}

// input is that of a run: the data, or what places make of the event.
func (r *eventRow) input(places Places) (json.RawMessage, error) {
	if places == nil {
		return r.Data, nil
	}
	data, err := exact(r.Data)
	if err != nil {
		return nil, fmt.Errorf("%w: the data of the event: %w", pawl.ErrInput, err)
	}
	return places.fill(map[string]any{"event": map[string]any{"id": r.ID, "name": r.Name, "data": data}})
}

// TriggerAttribute is the attribute of a run that names the subscription or webhook that started it.
const TriggerAttribute = "trigger"

// tell reaches those that wait. The event's id makes a delivery that is made again none.
func (r *eventRow) tell(ctx context.Context, e *pawl.Engine) error {
	once, window := hashOf(r.ID), time.Until(r.Until)+time.Hour
	got, err := e.Deliver(ctx, pawl.Delivery{Tenant: r.Tenant, Publish: r.Name, Data: r.Data, Once: "trigger:" + once, Window: window})
	if err != nil {
		return err
	}
	count := got.Count
	for f := (pawl.HookFilter{Tenant: r.Tenant, Kind: waitKind(r.Name), Limit: 1000}); ; {
		page, err := e.ListHooks(ctx, f)
		if err != nil {
			return err
		}
		for _, hook := range page {
			f.After = hook.ID
			var w Awaited
			if err := json.Unmarshal(hook.Meta, &w); err != nil {
				return fmt.Errorf("hook %s of run %s: %w", hook.Key, hook.Run.ID, err)
			}
			if hook.At.Add(-w.LookBack).After(r.At) {
				continue
			}
			fits, err := r.fits(ctx, w.Where)
			if err != nil {
				r.fail("run %s: %v", hook.Run.ID, err)
			}
			if !fits {
				continue
			}
			_, err = e.Deliver(ctx, pawl.Delivery{Run: pawl.Ref{Tenant: r.Tenant, ID: hook.Run.ID}, Hook: hook.Key, Data: kept{ID: r.ID, Data: r.Data, Until: r.Until}, Once: once, Window: window})
			switch {
			case err == nil:
				count++
			case errors.Is(err, pawl.ErrNotFound), errors.Is(err, pawl.ErrEnded): // nobody waits there any more
			case final(err): // the others are to have it
				r.fail("run %s: %v", hook.Run.ID, err)
			default:
				return err
			}
		}
		if len(page) < f.Limit {
			r.Count = count
			return nil
		}
	}
}
