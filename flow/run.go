package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/pawlrun/pawl"
)

// interpret runs a flow: it goes from step to step, and each step's work is one durable call under the step's id.
// What it does is noted in seen, if that is not nil.
func interpret(c *pawl.Context, f *Flow, opt Options, kin *families, in Variables, seen *trail) (json.RawMessage, error) {
	if in == nil {
		in = Variables{}
	}
	x := &run{flow: f, opt: opt, kin: kin, spent: spent{most: f.limits}}
	if opt.Trace != nil && seen == nil {
		x.trace = opt.Trace(c.RunID())
	}
	scope := newScope(c, f, in, &x.spent)
	scope.trail = seen
	if err := scope.held.grow("its start", sizeOf(map[string]any(in), f.limits.bytes)); err != nil {
		return nil, err
	}
	if f.readsBegan {
		var err error
		if scope.root["trigger"], err = x.began(c); err != nil {
			return nil, err
		}
	}
	out, err := x.follow(c, f.main, scope, 0)
	if over := x.spent.over(); over != nil { // also where a branch failed whose failure stops nobody
		return nil, over
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// run is a flow at work.
type run struct {
	flow  *Flow
	opt   Options
	trace func(Passage) // nil: nobody is told
	spent spent
	gate  gate
	kin   *families
}

// worker is what a step of one type does.
type worker interface {
	work(x *run, c *pawl.Context, s *step, in *scope) (result, error)
	// reads calls f with each path that the work reads, and where it is written.
	reads(f func(at *node, u use))
}

// follow goes through a graph from its first step to an end, and returns the output of the last. As many steps as free says
// do not count for maxSteps.
func (x *run) follow(c *pawl.Context, g graph, in *scope, free int) (any, error) {
	seen := map[string]int{}
	s := g.steps[0]
	var after *Handled
	for n := 0; ; n++ {
		seen[s.id]++
		if err := x.spent.step(s.id, n < free, seen); err != nil {
			return nil, err
		}
		if s.maxVisits > 0 && seen[s.id] > s.maxVisits {
			return nil, &LimitError{s.id, "maxVisits", s.maxVisits, seen}
		}
		in.trail.begin(c, s)
		x.enters(s)
		r, err := x.do(c, s, in)
		in.trail.end(c, r, err)
		if err != nil {
			x.leaves(s, in, result{status: "failed"}, target{})
			return nil, err
		}
		way, err := s.route(in, r)
		x.leaves(s, in, r, way)
		if err != nil {
			return nil, err
		}
		to := way.to
		in.trail.leads(to)
		if r.after != nil {
			after = r.after
		}
		switch to {
		case End:
			return r.output, nil
		case Fail:
			return nil, &EndError{s.id, textOf(r.output), after}
		}
		s = g.by[to]
	}
}

// do carries out one step, and lets what follows see what it brought.
func (x *run) do(c *pawl.Context, s *step, in *scope) (result, error) {
	started := c.Now()
	if s.when != nil {
		holds, err := s.when.holds(context.Background(), in.root)
		if err != nil {
			return result{}, fmt.Errorf("step %s: when: %w", s.id, err)
		}
		if !holds {
			r := result{status: "skipped"}
			return r, in.keep(s, r, started, c.Now())
		}
	}
	for _, wait := range s.opens {
		if _, err := x.webhook(c, wait, in); err != nil {
			return result{}, err
		}
	}
	key := ""
	if in.under = new(beneath); s.spends() {
		key = c.Key(s.id)
	}
	r, err := s.work.work(x, c, s, in)
	r.guess = r.guess || in.under.guess.Load()
	if err != nil {
		before := r // of what was done before it failed
		if r, err = s.failed(x.atLimit(c, s, err), r.child); err != nil {
			in.lose()
			return result{cost: before.cost, guess: before.guess}, err
		}
		r.cost, r.guess = before.cost, before.guess
	}
	if r.failed != nil || in.under.lost.Load() {
		if err := x.bill(c, s, key, in, &r); err != nil {
			in.lose()
			return result{}, err
		}
	}
	in.spend(&r)
	return r, in.keep(s, r, started, c.Now())
}

// failed decides what comes of a step that failed for good. What ended the run or the branch, and not the step, stays an error.
func (s *step) failed(err error, child string) (result, error) {
	if cancelled(err) || endsRun(err) {
		return result{}, err
	}
	r := result{status: "failed", failed: failureOf(err)}
	switch s.onFailure {
	case "skip":
		r.status = "skipped"
	case "fallback":
		r.to, r.after = s.fallback, handled(s.id, err, child)
	default:
		return result{}, err
	}
	return r, nil
}

// cancelled reports whether an error is the end of the run, or of the branch, and none of a step.
func cancelled(err error) bool {
	var step *pawl.StepError
	var child *pawl.RunError
	var branch *BranchError
	if errors.As(err, &step) || errors.As(err, &child) || errors.As(err, &branch) {
		return false
	}
	return errors.Is(err, pawl.ErrCancelled) || errors.Is(err, pawl.ErrTimeout)
}

// route finds the step that follows, and where the document says so.
func (s *step) route(in *scope, r result) (target, error) {
	n := s.next
	switch {
	case r.to != "" && r.status == "timed out":
		return target{r.to, s.at.get("config").get("onTimeout")}, nil
	case r.to != "":
		return target{r.to, s.at.get("fallbackStep")}, nil
	case n.to != "":
		return target{n.to, n.at}, nil
	}
	by := r.by
	if by == nil {
		by = r.output
	}
	root := in.root
	if len(n.when) > 0 {
		root = maps.Clone(root)
		root["output"] = r.output
	}
	for _, w := range n.when {
		holds, err := w.when.holds(context.Background(), root)
		if err != nil {
			return target{}, fmt.Errorf("step %s: next: %w", s.id, err)
		}
		if holds {
			return target{w.to, w.at.get("to")}, nil
		}
	}
	if r.status != "skipped" {
		switch by.(type) {
		case nil, map[string]any, []any:
		default:
			name := textOf(by)
			if to, is := n.by[name]; is {
				return target{to, n.at.get(name)}, nil
			}
		}
	}
	if n.other != "" {
		at := n.at.get("default")
		if n.at.is(listKind) {
			at = n.at.items[len(n.at.items)-1].get("to")
		}
		return target{n.other, at}, nil
	}
	e := &RouteError{Step: s.id, Output: textOf(by)}
	for _, t := range n.at.fieldsOf() {
		e.Known = append(e.Known, t.name)
	}
	return target{}, e
}

// options are those of the one durable call that a step makes.
func (s *step) options() []pawl.StepOption {
	opts := []pawl.StepOption{pawl.MaxAttempts(s.attempts), pawl.Backoff(s.backoff, s.maxBackoff)}
	if s.timeout > 0 {
		opts = append(opts, pawl.Timeout(s.timeout))
	}
	return opts
}

// under makes durable calls that have names of their own under the step's id.
func under(c *pawl.Context, s *step, f func(c *pawl.Context) (result, error)) (result, error) {
	return pawl.Go(c, s.id, f).Wait(c)
}

// refuse records under the step's id that it can't be carried out.
func refuse(c *pawl.Context, s *step, err error) error {
	return pawl.Do(c, s.id, func(context.Context) error { return pawl.Fatal(err) })
}
