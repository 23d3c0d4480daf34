package machine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Next is the outcome of a visit: what [Goto], [Fork], [Wait], [Done] or [Fail] makes. The
// zero value is none, and fails the run.
type Next struct {
	move  move
	fail  error
	wrong string
}

// move is what is recorded of an outcome.
type move struct {
	Goto    string        `json:"goto,omitempty"`
	Fork    []string      `json:"fork,omitempty"`
	Join    string        `json:"join,omitempty"`
	Wait    string        `json:"wait,omitempty"` // the state that an update lets it go on with
	Timeout time.Duration `json:"timeout,omitempty"`
	Late    string        `json:"late,omitempty"` // the state after the timeout
	Done    bool          `json:"done,omitempty"`
}

// record is the result of the step that a visit is.
type record struct {
	move
	State json.RawMessage `json:"state"`
}

// Goto goes on with a state.
func Goto(state string) Next {
	if state == "" {
		return Next{wrong: `Goto("") names no state; to end the run return Done`}
	}
	return Next{move: move{Goto: state}}
}

// Fork goes on with several states at the same time, each in a branch with its own copy of
// the value. A branch runs until it goes to the state join. When all have, the run goes on
// there, once, and its State.Join puts together what they made. The states are the names of
// the branches, so each can be given once. When a branch fails, the others are cancelled and
// the run fails.
func Fork(join string, states ...string) Next {
	switch {
	case join == "":
		return Next{wrong: "Fork names no state to join at"}
	case len(states) == 0:
		return Next{wrong: "Fork names no state to go to"}
	}
	return Next{move: move{Fork: slices.Clone(states), Join: join}}
}

// Wait lets the run wait, for free, until [Machine.Continue] lets it go on with a state.
func Wait(state string) Next {
	if state == "" {
		return Next{wrong: `Wait("") names no state to go on with`}
	}
	return Next{move: move{Wait: state}}
}

// Timeout ends a Wait after d and goes on with another state: Wait("ship").Timeout(week, "refund").
// d counts from the end of the visit, through crashes and updates.
func (n Next) Timeout(d time.Duration, state string) Next {
	switch {
	case n.move.Wait == "" || n.wrong != "":
		n.wrong = strings.TrimPrefix(n.wrong+"; Timeout belongs to a Wait", "; ")
	case state == "":
		n.wrong = "the Timeout of a Wait names no state to go on with"
	case d <= 0:
		n.wrong = fmt.Sprintf("the Timeout of a Wait is %v", d)
	}
	n.move.Timeout, n.move.Late = d, state
	return n
}

// Done ends the run: it is Completed, with the value as its result.
func Done() Next { return Next{move: move{Done: true}} }

// Fail ends the run as Failed, with err as its error, without another attempt. The value
// stays as it was before the visit. If that was one of a Do, [pawl.Engine.Retry] visits the
// state again.
func Fail(err error) Next {
	if err == nil {
		return Next{wrong: "Fail(nil) has no error"}
	}
	return Next{fail: err}
}

// String describes the outcome, for logs.
func (n Next) String() string {
	switch {
	case n.fail != nil:
		return "fail: " + n.fail.Error()
	case n.wrong != "":
		return n.wrong
	}
	return n.move.String()
}

func (m move) String() string {
	switch {
	case m.Goto != "":
		return "goto " + m.Goto
	case m.Join != "":
		return fmt.Sprintf("fork to %s, join at %s", strings.Join(m.Fork, ", "), m.Join)
	case m.Late != "":
		return fmt.Sprintf("wait, then %s; after %v %s", m.Wait, m.Timeout, m.Late)
	case m.Wait != "":
		return "wait, then " + m.Wait
	case m.Done:
		return "done"
	}
	return "no outcome"
}

func (n Next) empty() bool { return len(n.move.targets()) == 0 && !n.move.Done }

// targets are the states that the visited one leads to; a fork's branches lead to its join.
func (m move) targets() []string {
	switch {
	case m.Goto != "":
		return []string{m.Goto}
	case m.Join != "":
		return m.Fork
	case m.Late != "":
		return []string{m.Wait, m.Late}
	case m.Wait != "":
		return []string{m.Wait}
	}
	return nil
}
