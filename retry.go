package pawl

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Retry lets a Failed run go on from the step that made it fail, with all that was
// recorded before, and a Blocked one from where it is. If a child made it fail, that child is
// retried with it, and children that were cancelled when it failed go on too, from their
// own journals; so do branches that [All] or [Map] cancelled beside the one that failed, and those that failed beside it. What was sent to the run and not taken is still there, and its hooks are open
// again, also one whose token another run has had meanwhile; one that was claimed from the live run stays over. A run that failed by an error that its own function made is run again from its journal:
// it fails again, unless its code has changed. It takes its singleton key again, or queues for it.
//
// ErrState: it is neither Failed nor Blocked; or its compensations have run; or a child of it
// is still being cancelled. *HookConflictError, an ErrConflict: another run has a token of its
// hooks; when that is given back, it can be retried.
func (e *Engine) Retry(ctx context.Context, run Ref) (RunInfo, error) {
	info, err := e.store.Lookup(ctx, run.Tenant, run.ID)
	if err != nil {
		return info, err
	}
	o, err := e.retryOf(ctx, info)
	if err != nil {
		return info, fmt.Errorf("retry run %s: %w", run.ID, err)
	}
	info, err = e.order(ctx, o)
	var taken *HookConflictError
	if errors.As(err, &taken) {
		err = fmt.Errorf("%w; retry run %s when that run has given it back, as by its end, or cancel that run", err, run.ID)
	}
	return info, err
}

// errUndone: what the journal holds as done, compensations have undone.
var errUndone = fmt.Errorf("%w: its compensations have undone what its journal holds as done; fork it from a step before, or start it anew", ErrState)

// retryOf makes the order that lets a run go on, with the children that it waits for.
func (e *Engine) retryOf(ctx context.Context, info RunInfo) (*Order, error) {
	o := &Order{Verb: VerbRetry, Tenant: info.Tenant, RunID: info.ID}
	if info.State == Failed || info.State == Cancelled {
		if err := e.reopen(ctx, info, o); err != nil {
			return nil, err
		}
	}
	o.Data = mustJSON(map[string]any{"keys": o.Keys})
	return o, nil
}

// reopen adds to the order what has to be forgotten of a run that has ended, and what has to
// be brought back.
func (e *Engine) reopen(ctx context.Context, info RunInfo, o *Order) error {
	end, err := e.store.Result(ctx, info.Key)
	if err != nil {
		return err
	}
	culprits := map[string]bool{} // the children that made it fail
	marks := map[string]bool{}
	for f := end.Failure(); f != nil && len(culprits) == 0; f = f.Cause {
		if f.Step != "" {
			o.Keys = append(o.Keys, f.Step)
		}
		marks[f.mark()] = true
		if r := f.run(); r != nil {
			culprits[r.RunID] = true
		}
	}
	left, err := e.leftOpen(ctx, info)
	if err != nil {
		return err
	}
	o.Keys = append(o.Keys, left.takeBack(marks, "", culprits)...)
	for key, hook := range left.hooks {
		if left.closed[key] == nil || left.closed[key].ordered() {
			o.Hooks = append(o.Hooks, hook)
		}
	}
	slices.SortFunc(o.Hooks, func(a, b HookSpec) int { return cmp.Or(cmp.Compare(a.Token, b.Token), cmp.Compare(a.Key, b.Key)) })
	for key, ch := range left.children {
		if err := e.reopenChild(ctx, info, o, key, ch, culprits[ch.end.ID]); err != nil {
			return err
		}
	}
	return nil
}

// reopenChild adds to the order what lets a run wait for a child again that made it fail, or
// of whose end it has no record.
func (e *Engine) reopenChild(ctx context.Context, parent RunInfo, o *Order, key string, ch openChild, culprit bool) error {
	recorded := ch.end.ID != ""
	if recorded && !culprit {
		return nil
	}
	child, err := e.lookupLast(ctx, parent.Tenant, ch.ID)
	again := false // its end was not of its own making, or made the parent fail
	switch {
	case errors.Is(err, ErrNotFound):
		o.Keys = append(o.Keys, key, key+".end") // there will be another
		return nil
	case err != nil:
		return err
	case child.State == Failed:
		again = culprit
	case child.State == Cancelled:
		again = !recorded && child.Reason == ReasonParentEnded
	case !child.State.Terminal() && !recorded:
		return fmt.Errorf("%w: its child %s of %s is still being cancelled; try again when that has ended", ErrState, child.ID, child.Workflow)
	}
	if culprit && child.State != Cancelled {
		o.Keys = append(o.Keys, key+".end")
	}
	if !again {
		return nil
	}
	also, err := e.retryOf(ctx, child)
	if errors.Is(err, errUndone) {
		o.Keys = append(o.Keys, key, key+".end")
		return nil
	}
	if err != nil {
		return fmt.Errorf("child %s of %s: %w", child.ID, child.Workflow, err)
	}
	o.Also = append(append(o.Also, also), also.Also...)
	also.Also = nil
	return nil
}

// lookupLast finds the run with an id, or the one that has gone on in its place.
func (e *Engine) lookupLast(ctx context.Context, tenant, id string) (RunInfo, error) {
	info, err := e.store.Lookup(ctx, tenant, id)
	for err == nil && info.Next != "" {
		info, err = e.store.Lookup(ctx, tenant, info.Next)
	}
	return info, err
}

// leftOpen is what a journal begins and does not end.
type leftOpen struct {
	hooks    map[string]HookSpec  // by key
	closed   map[string]*Failure  // why a cancel closed those of hooks that it closed, by key
	children map[string]openChild // by key, those that have ended too
	races    []failedFirst        // in the journal's order
	also     map[string][]broken  // what failed beside them, by their keys
	steps    map[string]string    // the marks of steps that failed, by key
}

// failedFirst is what an All or a Map has recorded of its failure.
type failedFirst struct {
	key string
	raceEntry
}

type openChild struct {
	childEntry
	end childEnd // zero: there is no record of it
}

// leftOpen reads the journal of a run that has ended. errUndone: it can't go on.
func (e *Engine) leftOpen(ctx context.Context, info RunInfo) (*leftOpen, error) {
	l := &leftOpen{map[string]HookSpec{}, map[string]*Failure{}, map[string]openChild{}, nil, map[string][]broken{}, map[string]string{}}
	for entry, err := range e.Journal(ctx, Ref{info.Tenant, info.ID}) {
		if err == nil {
			err = l.read(&entry)
		}
		if err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *leftOpen) read(e *Entry) error {
	if isUndo(e) {
		return errUndone
	}
	switch {
	case e.Kind == KindHook && !e.Failed:
		var h hookEntry
		if err := e.readable(&h); err != nil {
			return err
		}
		if spec, ok := h.spec(e.Key); ok {
			l.hooks[e.Key] = spec
		}
	case e.Kind == KindHookClosed && e.cut():
		l.closed[closedHook(e.Key)] = e.Failure()
	case e.Kind == KindHookClosed:
		delete(l.hooks, closedHook(e.Key))
	case e.Kind == KindStep:
		if delete(l.steps, e.Key); e.Failed {
			l.steps[e.Key] = e.Failure().mark()
		}
	case e.Kind == KindRace && !e.Failed && strings.HasSuffix(e.Key, alsoMark):
		var of alsoEntry
		if err := e.readable(&of); err != nil {
			return err
		}
		l.also[strings.TrimSuffix(e.Key, alsoMark)] = of.Also
	case e.Kind == KindRace && !e.Failed:
		var race raceEntry
		if err := e.readable(&race); err != nil {
			return err
		}
		if race.Failure != "" {
			l.races = append(l.races, failedFirst{e.Key, race})
		}
	case e.Kind == KindChild && !e.Failed:
		var ch openChild
		if err := e.readable(&ch.childEntry); err != nil {
			return err
		}
		if delete(l.children, e.Key); ch.ID != "" && !ch.Detached {
			l.children[e.Key] = ch
		}
	case e.Kind == KindChildEnd && !e.Failed:
		key := strings.TrimSuffix(e.Key, ".end")
		ch, ok := l.children[key]
		if err := e.readable(&ch.end); err != nil {
			return err
		}
		if ok {
			l.children[key] = ch
		}
	case e.Kind == KindOrder && e.Key == "$retry":
		var forgotten struct{ Keys []string }
		if err := e.readable(&forgotten); err != nil {
			return err
		}
		maps.DeleteFunc(l.closed, func(_ string, f *Failure) bool { return f.ordered() })
		for _, key := range forgotten.Keys {
			l.races = slices.DeleteFunc(l.races, func(of failedFirst) bool {
				if of.key == key {
					l.reopen(of.Branch)
				}
				return of.key == key
			})
			delete(l.also, strings.TrimSuffix(key, alsoMark))
			delete(l.steps, key)
			delete(l.children, key)
			if ch, ok := l.children[strings.TrimSuffix(key, ".end")]; ok {
				ch.end = childEnd{}
				l.children[strings.TrimSuffix(key, ".end")] = ch
			}
		}
	}
	return nil
}

// takeBack finds, from the last, the failures of All and Map that are among those with these marks and lie under a path, each
// within the branch that failed in the one before, and opens what was closed because of them. It returns their keys, and those of
// the steps that made branches fail beside them; culprits gets the children that did.
func (l *leftOpen) takeBack(marks map[string]bool, under string, culprits map[string]bool) (keys []string) {
	for _, of := range slices.Backward(l.races) {
		if !marks[of.Failure] || !strings.HasPrefix(pathOf(of.key)+"/", under) {
			continue
		}
		keys, under = append(keys, of.key), of.Branch+"/"
		l.reopen(of.Branch)
		if len(l.also[of.key]) > 0 {
			keys = append(keys, of.key+alsoMark)
		}
		for _, b := range l.also[of.key] {
			theirs := map[string]bool{}
			for _, mark := range b.Failures {
				theirs[mark] = true
			}
			for key, mark := range l.steps {
				if theirs[mark] && strings.HasPrefix(key, b.Branch+"/") {
					keys = append(keys, key)
				}
			}
			for _, run := range b.Runs {
				culprits[run] = true
			}
			keys = append(keys, l.takeBack(theirs, b.Branch+"/", culprits)...)
		}
	}
	return keys
}

// reopen opens what was closed because a branch failed before its siblings.
func (l *leftOpen) reopen(branch string) {
	maps.DeleteFunc(l.closed, func(_ string, f *Failure) bool { return f.sibling() == branch })
}

// run is what a recorded *RunError told of the run that ended; nil: it was none.
func (f *Failure) run() *RunError {
	if f.Type != "*pawl.RunError" {
		return nil
	}
	var e RunError
	if json.Unmarshal(f.Details, &e) != nil || e.RunID == "" {
		return nil
	}
	return &e
}
