package pawl

import (
	"fmt"
	"slices"
)

// State is where a run is in its life.
type State uint8

// The states of a run. Completed, Failed and Cancelled are terminal.
const (
	Pending   State = iota + 1 // stored, not started: waiting for its time, a worker or a slot
	Running                    // a worker holds it
	Waiting                    // for time, an event, a hook, a child: costs a row
	Completed                  // returned a result
	Failed                     // returned an error
	Cancelled                  // by a person, its parent or its successor
	Paused                     // by a person or a budget; goes on when unpaused
	Blocked                    // its code no longer fits its journal, or it keeps crashing its worker; Reason says which
)

// moves is the whole life of a run: no store makes another move, and the tests run under
// triggers that would refuse one. No move leaves a terminal state but an operator's Retry: of a
// Failed run, and with it of children that were Cancelled because that run failed.
var moves = map[State][]State{
	Pending:   {Running, Paused, Cancelled},
	Running:   {Waiting, Completed, Failed, Cancelled, Paused, Blocked, Pending},
	Waiting:   {Running, Pending, Paused, Cancelled, Blocked},
	Paused:    {Pending, Waiting, Cancelled},
	Blocked:   {Pending, Waiting, Cancelled},
	Failed:    {Pending},
	Cancelled: {Pending},
	// Completed: none.
}

// CanMove reports whether a run may go from s to the state to.
func (s State) CanMove(to State) bool { return slices.Contains(moves[s], to) }

// Terminal reports whether s is an end.
func (s State) Terminal() bool { return s == Completed || s == Failed || s == Cancelled }

var stateNames = [...]string{"", "pending", "running", "waiting", "completed", "failed", "cancelled", "paused", "blocked"}

func (s State) String() string {
	if int(s) < len(stateNames) && s > 0 {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// ParseState is the inverse of String.
func ParseState(name string) (State, error) {
	if i := slices.Index(stateNames[1:], name); i >= 0 {
		return State(i + 1), nil
	}
	return 0, fmt.Errorf("pawl: no state is called %q; there are %v", name, stateNames[1:])
}

// MarshalText writes the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the state's name.
func (s *State) UnmarshalText(b []byte) (err error) {
	*s, err = ParseState(string(b))
	return err
}
