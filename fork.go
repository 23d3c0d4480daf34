package pawl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// ForkOptions say how a fork differs from the run that it is made of.
type ForkOptions struct {
	From    string                     // key of the step to begin again at; "": at the start
	Input   json.RawMessage            // another input; nil: the same. Only with From ""
	Results map[string]json.RawMessage // other results of steps before From, by key
	ID      string                     // of the new run; "": a new one
	// Options are those of the start, in place of what the fork takes over: a budget in place
	// of that for the same meter, an attribute in place of that of the same name (nil unsets it).
	Options []StartOption
}

// Fork starts a new run from the journal of another: what is recorded before the step From
// is taken over, From and what follows runs anew, with the code as it is now.
//
// The fork takes over, where Options do not say otherwise:
//   - the tenant, always, and the priority;
//   - budgets, with nothing spent of them: for each meter the limit that the run has now, so
//     that what it was topped up by for good is in it. A run that has several for a meter, or is a child and so under
//     those of the runs above it, gives the fork the lowest; of runs that were deleted they are gone;
//   - the attributes that the run had at From, but for one of its start that it has changed since;
//   - as much time as the run had from its start to its deadline. Scopes and waits with a
//     deadline that were open at From have as much time left as they had there;
//   - which side of a change ([Context.Version]) it is on, where it has passed that before From;
//   - that operators woke it or let it be retried before From.
//
// It has of its workflow, as it is defined now: limits, the singleton key, retention and the version.
// It does not take over what is the original's own: events, taken later or not at all (send them again), hooks, children and steps
// that are under way at From (the fork makes its own), streams (they begin empty), what it
// cost, a delay, the trace context and the parent: nobody is told how the fork ends.
//
// A fork under the ID of one that is there answers with that. ErrNotFound: no such run or
// step. ErrConflict: ID is that of another run. ErrExists: the workflow is a Singleton, and the
// run with its key has not ended; see [OnConflict]. ErrInput.
func (e *Engine) Fork(ctx context.Context, run Ref, o ForkOptions) (RunInfo, error) {
	info, err := e.store.Lookup(ctx, run.Tenant, run.ID)
	if err != nil {
		return info, fmt.Errorf("fork run %s: %w", run.ID, err)
	}
	def, err := e.definition(info.Workflow)
	if err != nil {
		return info, err
	}
	past, err := e.cut(ctx, info, &o)
	if err != nil {
		return info, err
	}
	opts, err := e.inherit(ctx, def, info, &o, past.attrs)
	if err != nil {
		return info, fmt.Errorf("fork run %s: %w", run.ID, err)
	}
	s, err := e.prepare(ctx, def, past.input, opts)
	if err != nil {
		return info, err
	}
	s.Copy = &past.copy
	s.Run.ForkedFrom, s.Run.Seed, s.Run.Eager = info.ID, info.Seed, false
	fork, err := e.submitStart(ctx, s)
	switch {
	case err != nil || !fork.Existed || fork.ID == o.ID && fork.Forked == info.ID:
		return fork, err
	case fork.ID == o.ID:
		return fork, fmt.Errorf("fork run %s: %w: run %s is there, and is no fork of it; give the fork another id", info.ID, ErrConflict, fork.ID)
	}
	return fork, fmt.Errorf("fork run %s: %w: run %s holds the singleton key of %s; end it, or let the fork queue behind it (OnConflict)", info.ID, ErrExists, fork.ID, info.Workflow)
}

// inherit makes the options of a fork's start: what it takes over, then what it was given.
func (e *Engine) inherit(ctx context.Context, def *definition, info RunInfo, o *ForkOptions, attrs map[string]any) ([]StartOption, error) {
	var own startOptions
	if err := errors.Join(apply(o.Options, func(opt StartOption) { opt.start(&own) }), own.err); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	if own.run.Tenant != "" && own.run.Tenant != info.Tenant {
		return nil, fmt.Errorf("%w: a fork stays with the tenant of its run, %q; leave the option Tenant out", ErrInput, info.Tenant)
	}
	opts := []StartOption{Priority(info.Priority)}
	if def.versions != nil {
		opts = append(opts, AtVersion(info.Version))
	}
	if !info.Deadline.IsZero() && own.timeout == 0 && own.run.Deadline.IsZero() {
		opts = append(opts, Timeout(0), Deadline(now().Add(info.Deadline.Sub(info.Created)))) // not that of the definition: the run had its own
	}
	budgets, err := e.bounds(ctx, info)
	if err != nil {
		return nil, err
	}
	for _, b := range budgets {
		if !slices.ContainsFunc(own.run.Budgets, func(o Budget) bool { return o.Meter == b.Meter }) {
			opts = append(opts, runBudget{b})
		}
	}
	opts = append(opts, o.Options...)
	maps.Copy(attrs, own.attrs)
	maps.DeleteFunc(attrs, func(_ string, v any) bool { return v == nil })
	opts = append(opts, Tenant(info.Tenant), Attributes(attrs))
	if o.ID != "" {
		opts = append(opts, ID(o.ID))
	}
	return opts, nil
}

// bounds are the budgets that bound a run and are not shared with others: its own and those
// of the runs above it, of each meter the one with the lowest limit, with nothing spent.
func (e *Engine) bounds(ctx context.Context, info RunInfo) ([]Budget, error) {
	low := map[string]Budget{}
	for {
		holder, err := e.last(ctx, info)
		if err != nil {
			return nil, err
		}
		all, err := e.Budgets(ctx, BudgetFilter{Tenant: holder.Tenant, Run: holder.Key, Limit: 1000})
		if err != nil {
			return nil, err
		}
		for _, b := range all {
			if b.Per == 0 {
				b.Limit += b.Extra
			}
			if known, ok := low[b.Meter]; !ok || b.Limit < known.Limit {
				low[b.Meter] = Budget{Meter: b.Meter, Limit: b.Limit, Per: b.Per, Wait: b.Wait}
			}
		}
		if info.Parent == "" || info.Detached {
			break
		}
		child := info
		if info, err = e.store.Lookup(ctx, child.Tenant, child.Parent); errors.Is(err, ErrNotFound) || err == nil && info.Key != child.ParentRun {
			break // it was deleted
		} else if err != nil {
			return nil, err
		}
	}
	return slices.Collect(maps.Values(low)), nil
}

// last is the run that has gone on in a run's place (ContinueAs), and has its budgets.
func (e *Engine) last(ctx context.Context, info RunInfo) (RunInfo, error) {
	for info.Next != "" {
		next, err := e.store.Lookup(ctx, info.Tenant, info.Next)
		if errors.Is(err, ErrNotFound) { // it was deleted
			break
		}
		if err != nil {
			return info, err
		}
		info = next
	}
	return info, nil
}

// cutting is what a fork is made of.
type cutting struct {
	copy  Copy
	input json.RawMessage
	attrs map[string]any

	open   map[string][]Entry // hooks, children and attempts that are the original's: the fork makes its own
	ended  map[string][]Entry // children that have told their end
	scopes []Entry            // with a deadline
	until  time.Time          // when From began, or a little before
}

// cut reads a run's journal up to From.
func (e *Engine) cut(ctx context.Context, info RunInfo, o *ForkOptions) (*cutting, error) {
	p := &cutting{copy: Copy{From: info.Key, Until: 1}, attrs: map[string]any{}, open: map[string][]Entry{}, ended: map[string][]Entry{}, until: info.Created}
	left := map[string]bool{} // results that were not met yet
	for k, v := range o.Results {
		if !json.Valid(v) {
			return nil, fmt.Errorf("%w: result of step %q is not JSON", ErrInput, k)
		}
		left[k] = true
	}
	later := map[string]any{} // attributes set at any time
	found := o.From == ""
	for entry, err := range e.Journal(ctx, Ref{info.Tenant, info.ID}) {
		if err != nil {
			return nil, err
		}
		if entry.Kind == KindInput {
			p.input = entry.Data
			continue
		}
		begun := entry.leftBy(o.From) && !found
		if entry.Key == o.From && !begun && !found {
			p.copy.Until, found = entry.Seq, true
			if at := entry.At.Add(-entry.Took); at.Before(p.until) {
				p.until = at
			}
		}
		if entry.Kind == KindAttributes {
			var set map[string]any
			if err := entry.readable(&set); err != nil {
				return nil, fmt.Errorf("fork run %s: %w", info.ID, err)
			}
			maps.Copy(later, set)
			if !found && !begun {
				maps.Copy(p.attrs, set)
			}
		}
		switch {
		case found:
		case begun:
			p.copy.Omit = append(p.copy.Omit, entry.Seq)
		default:
			if err := p.take(entry); err != nil {
				return nil, fmt.Errorf("fork run %s: %w", info.ID, err)
			}
			if v, ok := o.Results[entry.Key]; ok && entry.Kind == KindStep {
				entry.Data, entry.Failed = v, false
				p.copy.Replace = append(p.copy.Replace, entry)
				delete(left, entry.Key)
			}
		}
	}
	switch {
	case !found:
		return nil, fmt.Errorf("%w: run %s has no entry %q; see its journal for the keys", ErrNotFound, info.ID, o.From)
	case len(left) > 0:
		return nil, fmt.Errorf("%w: run %s has no step before %q with these keys: %q", ErrNotFound, info.ID, o.From, slices.Sorted(maps.Keys(left)))
	case o.Input != nil && o.From != "":
		return nil, fmt.Errorf("%w: a fork with another input begins at the start: leave From empty", ErrInput)
	case o.Input != nil:
		p.input = o.Input
	}
	for _, left := range p.open {
		p.renew(left)
	}
	for name, v := range info.Attrs {
		if _, set := later[name]; !set { // it has it from its start
			p.attrs[name] = v
		}
	}
	return p, p.postpone(now())
}

// renew leaves out what is the original's. Of a hook or child an entry stays that has the fork
// make its own there, in its replay: left out, that would end the replay, and what is recorded
// after it would be done again.
func (p *cutting) renew(left []Entry) {
	last := -1
	for i, e := range left {
		if e.Kind == KindHook || e.Kind == KindChild {
			last = i
		}
	}
	for i, e := range left {
		if i == last {
			e.Data = renewal
			p.copy.Replace = append(p.copy.Replace, e)
		} else {
			p.copy.Omit = append(p.copy.Omit, e.Seq)
		}
	}
}

// take looks at an entry that the fork begins with.
func (p *cutting) take(entry Entry) error {
	p.until = entry.At
	switch entry.Kind {
	case KindHook, KindChild, KindAttempt, KindNote:
		if entry.Failed && entry.Kind != KindAttempt { // there is no hook, no child
			break
		}
		p.open[entry.Key] = append(p.open[entry.Key], entry)
	case KindStep:
		delete(p.open, entry.Key)
	case KindHookClosed:
		delete(p.open, closedHook(entry.Key))
	case KindChildEnd:
		key := strings.TrimSuffix(entry.Key, ".end")
		p.ended[key] = append(p.open[key], entry)
		delete(p.open, key)
	case KindScope:
		if step, ok := strings.CutSuffix(entry.Key, firstMark); ok {
			p.open[step] = append(p.open[step], entry)
		} else {
			p.scopes = append(p.scopes, entry)
		}
	case KindDrift:
		p.copy.Omit = append(p.copy.Omit, entry.Seq)
	case KindOrder: // what it ended or had asked again is so in the fork; that it was stopped is not
		if entry.Key != "$wake" && entry.Key != "$retry" {
			p.copy.Omit = append(p.copy.Omit, entry.Seq)
		}
		if entry.Key != "$retry" {
			break
		}
		var o struct{ Keys []string }
		if err := entry.readable(&o); err != nil {
			return err
		}
		for _, key := range o.Keys { // children that had ended and were to end again
			child := strings.TrimSuffix(key, ".end")
			if entries := p.ended[child]; entries != nil {
				p.open[child] = append(p.open[child], entries...)
				delete(p.ended, child)
			}
		}
	}
	return nil
}

// postpone gives the scopes and waits that were open at From the time that they had left.
func (p *cutting) postpone(now time.Time) error {
	for _, entry := range p.scopes {
		var s sleepEntry
		if err := entry.readable(&s); err != nil {
			return err
		}
		if s.Until.After(p.until) {
			s.Until = roundUp(s.Until.Add(now.Sub(p.until)))
			entry.Data = mustJSON(s)
			p.copy.Replace = append(p.copy.Replace, entry)
		}
	}
	return nil
}

// leftBy reports whether an entry was left by a call before the call was recorded itself: it
// is none that a fork from there takes over.
func (e *Entry) leftBy(key string) bool {
	switch e.Kind {
	case KindAttempt, KindNote:
		return e.Key == key
	case KindAttributes:
		return e.Key == key && e.Attempt > 0 // a body's
	case KindScope:
		return e.Key == key+".until" || e.Key == key+firstMark
	}
	return false
}
