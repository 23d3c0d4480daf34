package approval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pawlrun/pawl"
)

// Answer is what somebody decides.
type Answer struct {
	Approved bool            `json:"approved"`
	By       string          `json:"by"` // who: the caller has checked it
	Comment  string          `json:"comment,omitempty"`
	Form     json.RawMessage `json:"form,omitempty"`
	Shown    string          `json:"shown"` // of the Approval that the decider has seen
	Via      string          `json:"-"`     // the way on which it came, for the audit
	Actor    string          `json:"-"`     // what the caller was known by, for the audit, whatever By claims
}

// Decide decides an approval, and returns it as it then is: still Pending where more must
// approve. When it returns nil the decision is durable and the run's: no other counts.
//
// ErrDecided: another came first, or By has voted already. ErrExpired, pawl.ErrEnded: it can't
// be decided any more. ErrNotAllowed: By may not; that is kept for the audit. ErrChanged: the
// answer is about something else. pawl.ErrInput: it is no answer, or its form does not fit.
// pawl.ErrNotFound: there is no such approval. After pawl.ErrUnknownOutcome the same answer may
// be given again: if it counts already, ErrDecided names its By.
func Decide(ctx context.Context, e *pawl.Engine, ref pawl.Ref, in Answer) (Approval, error) {
	a, s, err := find(ctx, e, ref)
	if err != nil {
		return a, err
	}
	if err := in.check(); err != nil {
		return a, fmt.Errorf("%w: approval %s: %w", pawl.ErrInput, a.ID, err)
	}
	now := time.Now()
	if a.State == Pending {
		if ok, why := a.May(in.By, now); !ok {
			refused := &NotAllowedError{ID: a.ID, By: in.By, Why: why}
			if err := keepRefusal(ctx, e, &a, s, &in, refused); err != nil {
				return a, errors.Join(refused, err)
			}
			return a, refused
		}
	}
	if err := a.undecided(&in); err != nil {
		return a, err
	}
	if !now.Before(a.Expires) {
		return a, &ExpiredError{ID: a.ID, At: a.Expires}
	}
	if in.Shown != a.Shown {
		return a, &ChangedError{ID: a.ID, Parts: changed(a.Shown, in.Shown), Seen: in.Shown, Now: a.Shown}
	}
	d := Decision{Approved: in.Approved, By: in.By, At: now.UTC().Truncate(time.Microsecond), Comment: in.Comment, Shown: in.Shown, Via: in.Via, Actor: in.Actor}
	if d.Form, err = a.form(&in); err != nil {
		return a, err
	}
	votes, last, err := cast(ctx, e, &a, s, vote{Decision: d})
	if errors.Is(err, pawl.ErrEnded) || errors.Is(err, pawl.ErrNotFound) { // between the two looks
		if a, _, err = find(ctx, e, ref); err == nil {
			if err = a.undecided(&in); err == nil {
				err = fmt.Errorf("%w: approval %s is not waited for any more", pawl.ErrEnded, a.ID)
			}
		}
		return a, err
	}
	if err != nil {
		return a, fmt.Errorf("decide approval %s: %w", a.ID, err)
	}
	if last.Expired {
		a.State, a.Expires = Expired, last.At
		return a, &ExpiredError{ID: a.ID, At: last.At}
	}
	a.Votes = votes
	if decides(votes, a.Need) {
		whole := decisionOf(votes, a.Need)
		a.State, a.Decision, a.Votes = Decided, &whole, nil
	}
	if !same(last.Decision, d) {
		return a, &DecidedError{ID: a.ID, First: last.Decision}
	}
	// The run keeps it too: whoever looks before it has come to that finds it here.
	if err := keep(ctx, e, a, s); err != nil {
		return a, fmt.Errorf("the decision on approval %s counts, but could not be put on record yet; its run will do so: %w", a.ID, err)
	}
	return a, nil
}

// undecided returns why an approval can't be decided any more, at least not by this one.
func (a *Approval) undecided(in *Answer) error {
	switch {
	case a.State == Decided:
		first := *a.Decision
		if v := a.Voted(in.By); v != nil {
			first = *v
		}
		return &DecidedError{ID: a.ID, First: first}
	case a.State == Expired:
		return &ExpiredError{ID: a.ID, At: a.Expires}
	case a.State == Ended:
		return fmt.Errorf("%w: approval %s: %s", pawl.ErrEnded, a.ID, a.Reason)
	}
	return nil
}

// same tells a vote from one that another call has given in the name of the same person.
func same(a, b Decision) bool {
	return a.By == b.By && a.Actor == b.Actor && a.Approved == b.Approved && a.At.Equal(b.At) && a.Comment == b.Comment && bytes.Equal(a.Form, b.Form)
}

func (in *Answer) check() error {
	if err := checkPerson(in.By); err != nil {
		return fmt.Errorf("by: %w", err)
	}
	switch {
	case len(in.Comment) > MaxComment:
		return fmt.Errorf("the comment is %d bytes, the limit is %d", len(in.Comment), MaxComment)
	case !utf8.ValidString(in.Comment) || strings.ContainsRune(in.Comment, 0):
		return errors.New("the comment is not UTF-8 without NUL")
	}
	return nil
}

// form is the answer's form, if it may be accepted.
func (a *Approval) form(in *Answer) (json.RawMessage, error) {
	data := bytes.TrimSpace(in.Form)
	if len(data) == 0 || string(data) == "null" {
		data = nil
	}
	if a.Schema == nil {
		if data != nil {
			return nil, &FormError{[]Fault{{Why: "approval " + a.ID + " asks for none"}}}
		}
		return nil, nil
	}
	if data == nil && !in.Approved {
		return nil, nil
	}
	if data == nil {
		data = []byte("{}")
	}
	return CheckForm(a.Schema, data)
}
