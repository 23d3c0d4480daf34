package machine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
)

// node is a state without its type.
type node struct {
	name    string
	to      []string
	max     int                          // 0: the machine's
	atOnce  int                          // visits at work; 0: any number
	place   *pawl.Workflow[turn, record] // of which a visit is a run, with atOnce
	join    bool
	durable bool
	wrong   string // what is wrong with it by itself
	step    []pawl.StepOption
	do      func(ctx context.Context, v Visit, in given) (record, error)
	failed  func(state json.RawMessage, err error) (record, error) // nil: the run fails
	call    func(c *pawl.Context, in given) (record, error)
}

// given is what a visit begins with.
type given struct {
	state    json.RawMessage
	branches map[string]json.RawMessage // nil: it is no join
}

func newNode[S any](p *program, st State[S], use []Middleware) *node {
	n := &node{name: st.Name, to: slices.Clone(st.To), max: st.MaxVisits, atOnce: st.Concurrency, join: st.Join != nil, step: st.Step, durable: st.Call != nil}
	switch {
	case st.Do == nil && st.Call == nil:
		n.wrong = "has neither Do nor Call; give it one"
	case st.Do != nil && st.Call != nil:
		n.wrong = "has both Do and Call; take one away"
	case st.Call != nil && len(st.Step) > 0:
		n.wrong = "has options for a step, but its Call is none; give them to the steps that it makes"
	case st.Call != nil && st.Failed != nil:
		n.wrong = "has Failed, which belongs to Do; handle the errors of its calls in Call"
	case st.Concurrency < 0:
		n.wrong = fmt.Sprintf("has a Concurrency of %d; 0 is any number", st.Concurrency)
	case st.Call != nil && st.Concurrency > 0:
		n.wrong = "has a Concurrency, which belongs to Do; give it to the workflows that its Call starts"
	case st.Concurrency > 0 && len(p.name)+1+len(st.Name) > 256:
		n.wrong = "has a Concurrency, and a name that is too long, with the machine's, for the workflow that its visits are: at most 255 bytes together"
	case slices.Contains(st.Step, nil):
		n.wrong = "has an option that is nil; remove it"
	}
	begin := func(in given) (*S, error) {
		s := new(S)
		if err := decode(in.state, s); err != nil {
			return nil, p.fault(n.name, CodeState, "its value no longer fits %T, mend the type and retry the run: %w", *s, err)
		}
		if in.branches == nil {
			return s, nil
		}
		if st.Join == nil {
			return nil, p.fault(n.name, CodeJoin, "a fork that is under way joins there, but it has no Join any more; bring that back and retry the run")
		}
		branches := map[string]S{}
		for name, data := range in.branches {
			var b S
			if err := decode(data, &b); err != nil {
				return nil, p.fault(n.name, CodeState, "what branch %q made no longer fits %T, mend the type and retry the run: %w", name, b, err)
			}
			branches[name] = b
		}
		if err := st.Join(s, branches); err != nil {
			return nil, fmt.Errorf("join: %w", err)
		}
		return s, nil
	}
	end := func(s *S, next Next) (record, error) {
		if next.fail != nil {
			return record{}, &fault{CodeFailed, next.fail.Error(), next.fail}
		}
		if next.wrong != "" || next.empty() {
			return record{}, p.fault(n.name, CodeOutcome, "%s", cmp.Or(next.wrong, "it returned no outcome: return what Goto, Fork, Wait, Done or Fail makes"))
		}
		state, err := json.Marshal(s)
		if err != nil {
			return record{}, p.fault(n.name, CodeState, "its value has no JSON form: %w", err)
		}
		return record{move: next.move, State: state}, nil
	}
	n.do = func(ctx context.Context, v Visit, in given) (record, error) {
		s, err := begin(in)
		if err != nil {
			return record{}, err
		}
		handle := func(ctx context.Context, _ Visit) (Next, error) { return st.Do(ctx, s) }
		for _, around := range slices.Backward(use) {
			handle = around(handle)
		}
		next, err := handle(ctx, v)
		if err != nil {
			return record{}, err
		}
		return end(s, next)
	}
	if st.Failed != nil {
		n.failed = func(state json.RawMessage, err error) (record, error) {
			s := new(S)
			if misfit := decode(state, s); misfit != nil {
				return record{}, p.fault(n.name, CodeState, "its value no longer fits %T, mend the type and retry the run: %w", *s, misfit)
			}
			return end(s, st.Failed(s, err))
		}
	}
	n.call = func(c *pawl.Context, in given) (record, error) {
		s, err := begin(in)
		if err != nil {
			return record{}, err
		}
		next, err := st.Call(c, s)
		if err != nil {
			return record{}, err
		}
		return end(s, next)
	}
	return n
}

// decode reads a value; absent data is null.
func decode(data json.RawMessage, v any) error {
	if len(data) == 0 {
		return nil
	}
	return json.Unmarshal(data, v)
}

// Codes of the errors with which a machine fails a run: the Code of the *pawl.Failure that
// errors.As finds in the error of the run's result.
const (
	CodeFailed  = "machine_failed"  // a state returned Fail; what that was given is the cause
	CodeOutcome = "machine_outcome" // a state returned no outcome, or one that means nothing
	CodeUnknown = "machine_unknown" // a state went to one that the machine does not have, or did not declare
	CodeJoin    = "machine_join"    // branches of a fork do not join as they must
	CodeVisits  = "machine_visits"  // a state was visited more often than it may be
	CodeState   = "machine_state"   // the value of the run does not fit its type or has no JSON form
)

// fault is an error that a machine ends a run with. No further attempt would mend it.
type fault struct {
	code  string
	text  string
	cause error // nil: there is none
}

func (f *fault) Error() string     { return f.text }
func (f *fault) Unwrap() error     { return f.cause }
func (f *fault) ErrorCode() string { return f.code }
func (f *fault) Fatal() bool       { return true }

// ours reports whether a machine made err, and no function of a state.
func ours(err error) bool {
	var f *pawl.Failure
	return errors.As(err, &f) && strings.HasPrefix(f.Code, "machine_")
}

func (p *program) fault(state, code, format string, args ...any) error {
	err := fmt.Errorf("machine %s: state %q: "+format, append([]any{p.name, state}, args...)...)
	return &fault{code, err.Error(), errors.Unwrap(err)}
}
