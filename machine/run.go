package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
)

// program is a machine without its type.
type program struct {
	name, start   string
	order         []*node // as they were given
	nodes         map[string]*node
	limit         int // of visits of one state
	continueAfter int
	valid         func(state json.RawMessage) error
}

// run goes from place to the end of the machine and returns the value, or where to go on in
// a fresh run.
func (p *program) run(c *pawl.Context, at *place) (end json.RawMessage, again *place, err error) {
	ln := p.begin(at)
	for !ln.move.Done {
		if p.continueAfter > 0 && ln.steps >= p.continueAfter && ln.joins == nil {
			return nil, &place{At: ln.at, State: ln.state, Version: ln.ver, Visits: ln.visits}, nil
		}
		if err := p.advance(c, ln); err != nil {
			return nil, nil, err
		}
	}
	return ln.state, nil, nil
}

// advance visits the state that the line is at and does what the outcome says.
func (p *program) advance(c *pawl.Context, ln *line) error {
	n := p.nodes[ln.at]
	if n == nil {
		return p.fault(ln.at, CodeUnknown, "the run goes on there, but the machine has no such state any more; it has %s", p.names())
	}
	if max := p.max(n); max >= 0 && ln.visits[n.name] >= max {
		return p.fault(n.name, CodeVisits, "it was visited %d times, and its MaxVisits is %d; raise that and retry the run, or see why it goes round", ln.visits[n.name], max)
	}
	rec, err := p.visit(c, ln, n)
	if err != nil {
		return err
	}
	ln.visited(rec)
	switch {
	case rec.Join != "":
		return p.fork(c, ln)
	case rec.Wait != "":
		return p.wait(c, ln)
	}
	return nil
}

func (p *program) max(n *node) int {
	if n.max != 0 {
		return n.max
	}
	return p.limit
}

func (p *program) visit(c *pawl.Context, ln *line, n *node) (record, error) {
	in := given{ln.state, ln.joins}
	if n.durable {
		called := pawl.Go(c, n.name+":", func(c *pawl.Context) (record, error) { return n.call(c, in) })
		rec, err := called.Wait(c)
		if err == nil {
			err = p.fits(n, rec.move, ln.until)
		}
		if err != nil {
			return record{}, p.named(n, err)
		}
		return pawl.Step(c, n.name, func(context.Context) (record, error) { return rec, nil })
	}
	t := turn{Visit{Machine: p.name, State: n.name, Number: ln.visits[n.name] + 1}, in.state, in.branches, ln.until}
	if n.place != nil {
		return p.inPlace(c, ln, n, t)
	}
	rec, err := p.do(c, n, t)
	var failed *pawl.StepError
	if errors.As(err, &failed) {
		instead, handled, err := p.failed(n, ln, failed.Err)
		if err != nil { // with the step's name, so that Engine.Retry visits the state again
			err = &pawl.StepError{Step: failed.Step, Attempts: failed.Attempts, Err: err}
		}
		if handled {
			return instead, err
		}
	}
	return rec, err
}

// turn is what a visit is made with.
type turn struct {
	Visit    Visit                      `json:"visit"`
	State    json.RawMessage            `json:"state"`
	Branches map[string]json.RawMessage `json:"branches,omitempty"`
	Until    string                     `json:"until,omitempty"`
}

// do makes a visit as a step.
func (p *program) do(c *pawl.Context, n *node, t turn) (record, error) {
	return pawl.Step(c, n.name, func(ctx context.Context) (record, error) {
		rec, err := n.do(ctx, t.Visit, given{t.State, t.Branches})
		if err == nil {
			err = p.fits(n, rec.move, t.Until)
		}
		return rec, err
	}, n.step...)
}

// placeOf makes the workflow whose runs are the visits of a state of limited concurrency.
func (p *program) placeOf(n *node) *pawl.Workflow[turn, record] {
	return pawl.Define(p.name+"."+n.name, func(c *pawl.Context, t turn) (record, error) { return p.do(c, n, t) }, pawl.Concurrency(n.atOnce), pawl.Internal())
}

// inPlace makes a visit as a child. Its outcome is recorded here too, where readers of the
// machine's journal look for it.
func (p *program) inPlace(c *pawl.Context, ln *line, n *node, t turn) (record, error) {
	called := pawl.Go(c, n.name+":", func(c *pawl.Context) (record, error) { return n.place.Call(c, t) })
	rec, err := called.Wait(c)
	var run *pawl.RunError
	var failed *pawl.StepError
	if errors.As(err, &run) && errors.As(run.Err, &failed) {
		instead, handled, wrong := p.failed(n, ln, failed.Err)
		if handled {
			rec, err = instead, nil
		}
		if wrong != nil { // of that child, so that Engine.Retry visits the state again
			err = &pawl.RunError{RunID: run.RunID, Workflow: run.Workflow, State: run.State, Err: wrong}
		}
	}
	if err != nil {
		return record{}, err
	}
	return pawl.Step(c, n.name, func(context.Context) (record, error) { return rec, nil })
}

// named is an error of a Call with the names that an error of a step has by itself.
func (p *program) named(n *node, err error) error {
	var f *fault
	if !errors.As(err, &f) {
		return fmt.Errorf("machine %s: state %q: %w", p.name, n.name, err)
	}
	if f.code == CodeFailed {
		return &fault{f.code, fmt.Sprintf("machine %s: state %q: %s", p.name, n.name, f.text), f.cause}
	}
	return err
}

// failed asks a state how to go on after a visit that failed for good with err.
func (p *program) failed(n *node, ln *line, err error) (rec record, handled bool, _ error) {
	if n.failed == nil || ours(err) {
		return rec, false, nil
	}
	rec, err = n.failed(ln.state, err)
	if err == nil {
		err = p.fits(n, rec.move, ln.until)
	}
	return rec, true, err
}

// fits refuses outcomes that the machine cannot follow: before they are recorded.
func (p *program) fits(n *node, m move, until string) error {
	for _, t := range slices.Concat(m.targets(), []string{m.Join}) {
		if t != "" && p.nodes[t] == nil {
			return p.fault(n.name, CodeUnknown, "it goes to %q, which is no state of the machine; it has %s", t, p.names())
		}
	}
	if n.to != nil {
		for _, t := range m.targets() {
			if !slices.Contains(n.to, t) {
				return p.fault(n.name, CodeUnknown, "it goes to %q, but declares only %q; add it to its To", t, n.to)
			}
		}
		if m.Done && !slices.Contains(n.to, End) {
			return p.fault(n.name, CodeUnknown, "it is done, but declares only %q; add End to its To", n.to)
		}
	}
	if m.Join != "" {
		switch first := repeated(m.Fork); {
		case first != "":
			return p.fault(n.name, CodeJoin, "it forks to %q twice; branches are known by their first state, so give each a state of its own", first)
		case !p.nodes[m.Join].join:
			return p.fault(n.name, CodeJoin, "it forks to join at %q, which has no Join to put the branches together; give it one", m.Join)
		case slices.Contains(m.Fork, m.Join):
			return p.fault(n.name, CodeJoin, "it forks to %q and joins there too; give the branch a state of its own", m.Join)
		case m.Join == until:
			return p.fault(n.name, CodeJoin, "it forks inside of a branch and joins at %q, where that branch joins; give the inner fork a join of its own", until)
		}
	}
	if until == "" {
		return nil
	}
	for _, t := range m.targets() {
		if t != until && p.nodes[t].join {
			return p.fault(n.name, CodeJoin, "%s: this branch joins at %q, but goes to %q, which is another fork's", joinText, until, t)
		}
	}
	if m.Done {
		return p.fault(n.name, CodeJoin, "%s: this branch joins at %q, but ends the run with Done; go there, or Fail", joinText, until)
	}
	return nil
}

const joinText = "Parallel steps must join to the same next step"

// fork runs the branches of a fork and takes the line to their join.
func (p *program) fork(c *pawl.Context, ln *line) error {
	branches := ln.forked()
	ends := make([]*pawl.Future[*line], len(branches))
	for i, b := range branches {
		ends[i] = pawl.Go(c, ln.at+":"+b.at, func(c *pawl.Context) (*line, error) {
			for b.at != b.until {
				if err := p.advance(c, b); err != nil {
					return nil, err
				}
			}
			return b, nil
		})
	}
	if _, err := pawl.All(c, ends...); err != nil {
		return err
	}
	ln.joined(branches)
	return nil
}

// wait waits for updates until one lets the line go on, or the time is over.
func (p *program) wait(c *pawl.Context, ln *line) error {
	deadline := c.Now().Add(ln.move.Timeout)
	for {
		var opts []pawl.WaitOption
		if ln.move.Late != "" {
			opts = append(opts, pawl.Timeout(deadline.Sub(c.Now())))
		}
		data, err := pawl.WaitFor[json.RawMessage](c, updateEvent(ln.path, ln.at), opts...)
		switch {
		case ln.move.Late != "" && errors.Is(err, pawl.ErrTimeout):
			ln.late()
			return nil
		case err != nil:
			return err
		}
		if u := p.update(ln, data); u != nil && u.Go {
			return nil
		}
	}
}

func (p *program) names() string {
	quoted := make([]string, len(p.order))
	for i, n := range p.order {
		quoted[i] = fmt.Sprintf("%q", n.name)
	}
	return strings.Join(quoted, ", ")
}

func repeated(names []string) string {
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return name
		}
	}
	return ""
}
