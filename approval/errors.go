package approval

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Sentinels answer yes or no to [errors.Is].
var (
	ErrExpired    = errors.New("approval: expired")                               // nobody decided in time
	ErrDecided    = errors.New("approval: is decided")                            // a *DecidedError
	ErrChanged    = errors.New("approval: what was shown is not what is decided") // a *ChangedError
	ErrNotAllowed = errors.New("approval: may not decide")                        // a *NotAllowedError
)

// ExpiredError reports that nobody decided in time. It is an ErrExpired and a pawl.ErrTimeout.
type ExpiredError struct {
	ID string
	At time.Time
}

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("approval %s expired at %s: nobody had decided it", e.ID, e.At.UTC().Format(time.RFC3339))
}

// Is makes it an ErrExpired and a pawl.ErrTimeout.
func (e *ExpiredError) Is(target error) bool {
	return target == ErrExpired || target == pawl.ErrTimeout
}

// DecidedError reports that a decision came too late. It is an ErrDecided.
type DecidedError struct {
	ID    string
	First Decision // the one that counts; of somebody who has voted already, the vote
}

func (e *DecidedError) Error() string {
	what := "rejected"
	if e.First.Approved {
		what = "approved"
	}
	return fmt.Sprintf("approval %s was %s by %s at %s already: a decision counts once", e.ID, what, e.First.By, e.First.At.UTC().Format(time.RFC3339))
}

// Is makes it an ErrDecided.
func (e *DecidedError) Is(target error) bool { return target == ErrDecided }

// ChangedError reports a decision about something else than what is to be decided. It is an
// ErrChanged.
type ChangedError struct {
	ID    string
	Parts []string // which of title, message, details and form differ; none: it can't be told
	Seen  string   // what the decider was shown, as Shown names it
	Now   string
}

func (e *ChangedError) Error() string {
	switch {
	case e.Seen == "":
		return fmt.Sprintf("a decision on approval %s must say what it is about: read it, and send its \"shown\" along", e.ID)
	case len(e.Parts) == 0:
		return fmt.Sprintf("the decision is about something else than what approval %s shows: read it again", e.ID)
	}
	return fmt.Sprintf("the decision is about something else: the %s of approval %s changed since: read it again", strings.Join(e.Parts, " and the "), e.ID)
}

// Is makes it an ErrChanged.
func (e *ChangedError) Is(target error) bool { return target == ErrChanged }

// NotAllowedError reports a decision of somebody who may not decide. It is an ErrNotAllowed.
type NotAllowedError struct {
	ID  string
	By  string
	Why string
}

func (e *NotAllowedError) Error() string {
	return fmt.Sprintf("%q may not decide approval %s: %s", e.By, e.ID, e.Why)
}

// Is makes it an ErrNotAllowed.
func (e *NotAllowedError) Is(target error) bool { return target == ErrNotAllowed }

// FormError reports a form that does not fit its schema. It is a pawl.ErrInput.
type FormError struct {
	Faults []Fault
}

// Fault is one thing that is wrong with a form.
type Fault struct {
	Field string `json:"field"` // "": the form as a whole
	Why   string `json:"why"`
}

func (e *FormError) Error() string {
	var parts []string
	for _, f := range e.Faults {
		if f.Field == "" {
			parts = append(parts, f.Why)
		} else {
			parts = append(parts, f.Field+": "+f.Why)
		}
	}
	return "the form does not fit: " + strings.Join(parts, "; ")
}

// Is makes it a pawl.ErrInput.
func (e *FormError) Is(target error) bool { return target == pawl.ErrInput }
