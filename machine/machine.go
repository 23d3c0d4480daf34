package machine

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"reflect"
	"slices"

	"github.com/pawlrun/pawl"
)

// State is one state of a machine over values of type S. It has a Do or a Call.
type State[S any] struct {
	// Name is unique in the machine and is the name of the step that a visit is: 1 to 100
	// bytes of text, without / # % : and control characters, not beginning with $.
	Name string

	// Do is what a visit does, as one step: at least once, its outcome recorded once. It may
	// change *s in any way; what it leaves there goes on to the next state. What it changed
	// when it returns an error is lost.
	Do func(ctx context.Context, s *S) (Next, error)

	// Call is Do for a state that makes durable calls: it starts children (a nested machine),
	// makes steps, sleeps. It is workflow code, called again in every replay, and must be
	// determined by s and by what its durable calls return. It is no step: an error of it
	// fails the run, and middleware does not see it. The keys of its calls begin with the
	// state's name and ":/", as in "ship:/book".
	Call func(c *pawl.Context, s *S) (Next, error)

	// Join, on a state that forks join at, puts what the branches made into *s, which is as
	// it was at the fork. branches has one value per branch, by the name of the branch's
	// first state. It is called before Do, in the same step, or before Call, and must be a
	// function of its arguments. When the state is reached by Goto, Join is not called.
	Join func(s *S, branches map[string]S) error

	// Failed, if not nil, is asked when a visit with Do has failed for good: its attempts are
	// used up, or its error is fatal. It gets the value as it was before the visit, and the
	// last error as the journal has it, and says how to go on: with a state that undoes what
	// was done, or with Fail. What it leaves in *s goes on. It is no step: it must be a
	// function of its arguments, as it is called again in every replay. Without it the run
	// fails. It is not asked about Fail, a cancel, or an outcome that the machine can't follow.
	Failed func(s *S, err error) Next

	// To declares which states this one may go to, fork to or wait for, and End if it may be
	// the last. Another outcome then fails the run. nil declares nothing: it may go anywhere.
	To []string

	// MaxVisits is how often a run may visit the state; the next visit fails the run. 0
	// means Options.MaxVisits; negative: without limit. A branch counts on from what was
	// visited before its fork; at the join what the branches visited is added up.
	MaxVisits int

	// Step are the options of the step that a visit with Do is: MaxAttempts, Backoff,
	// Timeout, AttemptTimeout.
	Step []pawl.StepOption

	// Concurrency is how many visits with Do are at work at once, in all runs of the machine
	// and across all workers; the others wait for a place. 0: any number. Each visit is then
	// a run of its own, a child of the workflow "<machine>.<state>": pawl.InfoOf tells of that
	// run, and the journal of that run has the attempts. A branch counts like a run.
	Concurrency int
}

// End in State.To declares that a state may be the last one.
const End = "[*]"

// Options are a machine's settings. The zero value works; fields say their defaults.
type Options struct {
	// Use is called around each visit of a state with Do, the first outermost.
	Use []Middleware
	// MaxVisits is the limit of the states that have none of their own. 0 means 1,000;
	// negative: no limit.
	MaxVisits int
	// ContinueAfter is after how many visits a run goes on as a new one with a fresh journal
	// (see pawl.ContinueAs), outside of forks. 0 means 1,000; negative: never.
	ContinueAfter int
	// Workflow are options of the workflow that the machine is: Timeout, Concurrency, …
	Workflow []pawl.Option
}

const (
	defaultMaxVisits     = 1000
	defaultContinueAfter = 1000
)

// Visit tells middleware which visit it surrounds. pawl.InfoOf tells of which run.
type Visit struct {
	Machine string
	State   string
	Number  int // of the visits of this state, from 1
}

// Handler makes a visit.
type Handler func(ctx context.Context, v Visit) (Next, error)

// Middleware surrounds visits: it is given the handler of the visit, or the next middleware,
// and returns one that calls it. It runs in the step, so once per attempt. It may change ctx
// and the outcome, or not call next at all.
type Middleware func(next Handler) Handler

// Machine is a state machine, made once by [Define]. It is a pawl.Definition.
type Machine[S any] struct {
	// Workflow is the workflow that the machine is, for what takes one, as pawltest does.
	*pawl.Workflow[Input[S], S]

	p *program
}

// Define makes a machine that begins in the state start. The name is the workflow's. opt may
// be nil. What does not hold together is reported at once, all of it, as a
// *[DefinitionError]; then there is no machine: names that are wrong or taken, states that
// are not there, and, as far as transitions are declared, states that cannot be reached,
// from which no end can be reached, or that go round without a limit.
func Define[S any](name, start string, states []State[S], opt *Options) (*Machine[S], error) {
	var o Options
	if opt != nil {
		o = *opt
	}
	p := &program{
		name: name, start: start, nodes: map[string]*node{},
		limit:         cmp.Or(o.MaxVisits, defaultMaxVisits),
		continueAfter: cmp.Or(o.ContinueAfter, defaultContinueAfter),
	}
	p.valid = func(state json.RawMessage) error { return decode(state, new(S)) }
	for i := range states {
		p.order = append(p.order, newNode(p, states[i], o.Use))
	}
	problems := p.check(o.MaxVisits != 0)
	if slices.Contains(o.Workflow, nil) {
		problems = append(problems, "one of Options.Workflow is nil; remove it")
	}
	if slices.ContainsFunc(o.Use, func(m Middleware) bool { return m == nil }) {
		problems = append(problems, "one of Options.Use is nil; remove it")
	}
	if len(problems) > 0 {
		return nil, &DefinitionError{Machine: name, Problems: problems}
	}
	for _, n := range p.order {
		if n.atOnce > 0 {
			n.place = p.placeOf(n)
			o.Workflow = append(slices.Clip(o.Workflow), pawl.Uses(n.place))
		}
	}
	w := pawl.Define(name, func(c *pawl.Context, in Input[S]) (S, error) {
		var out S
		place, err := in.place()
		if err != nil {
			return out, err
		}
		end, again, err := p.run(c, place)
		switch {
		case err != nil:
			return out, err
		case again != nil:
			return out, pawl.ContinueAs(c, Input[S]{at: again})
		}
		return out, decode(end, &out)
	}, o.Workflow...)
	return &Machine[S]{Workflow: w, p: p}, nil
}

// Start starts a run with the value s; see pawl.Workflow.Start.
func (m *Machine[S]) Start(ctx context.Context, e *pawl.Engine, s S, opts ...pawl.StartOption) (*pawl.Run[S], error) {
	return m.Workflow.Start(ctx, e, Input[S]{State: s}, opts...)
}

// Call runs the machine as a child of a run and returns its value at the end; see
// pawl.Workflow.Call. So a state with a Call nests a machine.
func (m *Machine[S]) Call(c *pawl.Context, s S, opts ...pawl.StartOption) (S, error) {
	return m.Workflow.Call(c, Input[S]{State: s}, opts...)
}

// Spawn starts the machine as a child of a run; see pawl.Workflow.Spawn.
func (m *Machine[S]) Spawn(c *pawl.Context, s S, opts ...pawl.StartOption) (*pawl.Child[S], error) {
	return m.Workflow.Spawn(c, Input[S]{State: s}, opts...)
}

// Input is what a run of a machine is started with. Its JSON is that of State. A run that
// goes on in place of another has {"$machine": …} there, which says where; so an S whose
// first key is "$machine" is not possible.
type Input[S any] struct {
	State S
	at    *place
}

// JSONType says that the JSON is that of an S, unless S decodes its own.
func (Input[S]) JSONType() reflect.Type { return reflect.TypeFor[S]() }

// place is where a run goes on: its JSON is part of an input's.
type place struct {
	At      string          `json:"at,omitempty"` // "": at the start
	State   json.RawMessage `json:"state"`
	Version int             `json:"version,omitempty"`
	Visits  map[string]int  `json:"visits,omitempty"`
}

// continued is the JSON of an input that goes on.
type continued struct {
	Place *place `json:"$machine"`
}

func (in Input[S]) place() (*place, error) {
	if in.at != nil {
		return in.at, nil
	}
	state, err := json.Marshal(in.State)
	return &place{State: state}, err
}

// MarshalJSON writes the state, or where to go on.
func (in Input[S]) MarshalJSON() ([]byte, error) {
	if in.at != nil {
		return json.Marshal(continued{in.at})
	}
	return json.Marshal(in.State)
}

// UnmarshalJSON is the inverse of MarshalJSON. It refuses fields that S does not have.
func (in *Input[S]) UnmarshalJSON(data []byte) error {
	if at := placeIn(data); at != nil {
		in.at = at
		return decode(at.State, &in.State)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(&in.State)
}

// placeIn returns where an input says to go on; nil: it is a first one.
func placeIn(data []byte) *place {
	if !bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte(`{"$machine":`)) {
		return nil
	}
	var c continued
	if json.Unmarshal(data, &c) != nil {
		return nil
	}
	return c.Place
}

// Validate calls the Validate method of the value, if it has one, before a run is started.
func (in *Input[S]) Validate() error {
	if in.at != nil { // it was valid when the first run was started
		return nil
	}
	return validate(&in.State)
}

func validate[S any](s *S) error {
	if v, ok := any(s).(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}
