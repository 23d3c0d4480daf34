package pawl

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Sentinels answer yes or no to [errors.Is]. Those marked journalled keep their
// identity when an error is read back from a journal.
var (
	ErrNotFound       = errors.New("pawl: not found")                    // journalled
	ErrUnknown        = errors.New("pawl: unknown workflow")             // no workflow of that name is registered with the engine
	ErrDuplicate      = errors.New("pawl: name is already registered")   // two workflows of one name
	ErrConflict       = errors.New("pawl: id is taken by another input") // journalled; the same run id was started with other input
	ErrExists         = errors.New("pawl: run exists")                   // journalled; policy Reject met a run with that id or singleton key
	ErrEnded          = errors.New("pawl: run has ended")                // journalled
	ErrState          = errors.New("pawl: not possible in this state")
	ErrTimeout        = errors.New("pawl: timed out")                   // journalled
	ErrCancelled      = errors.New("pawl: cancelled")                   // journalled
	ErrTooLarge       = errors.New("pawl: too large")                   // journalled
	ErrEncoding       = errors.New("pawl: value cannot be encoded")     // journalled
	ErrBudget         = errors.New("pawl: budget exceeded")             // journalled
	ErrInput          = errors.New("pawl: refused")                     // journalled; input that does not decode or validate
	ErrMisuse         = errors.New("pawl: durable call in wrong place") // journalled; see MisuseError
	ErrClosed         = errors.New("pawl: closed")                      // the engine or its store was closed
	ErrFenced         = errors.New("pawl: lease lost")                  // another owner has taken over: drop everything
	ErrUnknownOutcome = errors.New("pawl: outcome unknown")
	ErrRefused        = errors.New("pawl: refused by the store") // it can't store this and never will; nothing was written
	ErrSchema         = errors.New("pawl: schema does not fit")  // the store is of a newer or foreign schema
	ErrGap            = errors.New("pawl: more has changed than can be told: list anew")
	ErrLocked         = errors.New("pawl: store is in use by another process")
)

// sentinels maps the names under which sentinels are journalled.
var sentinels = map[string]error{
	"timeout":   ErrTimeout,
	"cancelled": ErrCancelled,
	"too_large": ErrTooLarge,
	"encoding":  ErrEncoding,
	codeBudget:  ErrBudget,
	"conflict":  ErrConflict,
	"exists":    ErrExists,
	"ended":     ErrEnded,
	"not_found": ErrNotFound,
	"input":     ErrInput,
	codeMisuse:  ErrMisuse,
}

// StepError reports that a step ended in failure: it used up its attempts, its error
// was fatal, or its scope was cancelled.
type StepError struct {
	Step     string // the step's key in its run
	Attempts int
	Err      error // the last attempt's error, as recorded
}

func (e *StepError) Error() string {
	if e.Attempts <= 1 {
		return fmt.Sprintf("step %q: %v", e.Step, e.Err)
	}
	return fmt.Sprintf("step %q failed after %d attempts: %v", e.Step, e.Attempts, e.Err)
}
func (e *StepError) Unwrap() error { return e.Err }

// RunError reports how a run that did not complete ended. Result and Call return it.
type RunError struct {
	RunID    string `json:"run"`
	Workflow string `json:"workflow"`
	State    State  `json:"state"` // Failed, Cancelled or Blocked
	Err      error  `json:"-"`
}

func (e *RunError) Error() string {
	return fmt.Sprintf("run %s of %s %s: %v", e.RunID, e.Workflow, e.State, e.Err)
}
func (e *RunError) Unwrap() error { return e.Err }

// MarshalJSON writes which run it was; a Failure has that as its Details.
func (e *RunError) MarshalJSON() ([]byte, error) {
	type fields RunError
	return json.Marshal((*fields)(e))
}

// HookConflictError reports that a hook's token belongs to another live run.
type HookConflictError struct {
	Token string
	RunID string // the owner
}

func (e *HookConflictError) Error() string {
	return fmt.Sprintf("hook token %q is already in use by run %s", e.Token, e.RunID)
}
func (e *HookConflictError) Is(target error) bool { return target == ErrConflict }

const codeHookConflict = "hook_conflict"

// HookClaimedError reports that a hook is over because another one has taken its token, with
// [ClaimToken]. Nothing that is sent to the token from then on comes here.
type HookClaimedError struct {
	Token string
	RunID string // who has it now
	Hook  string // that run's hook, by its key
}

func (e *HookClaimedError) Error() string {
	return fmt.Sprintf("hook token %q was claimed by run %s: what is sent to it goes there; end, or go on without it", e.Token, e.RunID)
}

const codeHookClaimed = "hook_claimed"

// Codes of failures that get their types back.
const (
	codeMisuse   = "misuse"
	codeTooLarge = "too_large"
	codeBudget   = "budget"
	codePanic    = "panic"
)

// MisuseError reports a durable call made where none can be made: inside a step, from a
// goroutine that pawl did not start, on a Context that another goroutine is using, or
// after its function returned. Nothing was stored.
type MisuseError struct {
	Call string // what was called, e.g. `Step "charge"`
	Why  string
}

func (e *MisuseError) Error() string        { return "pawl: " + e.Call + ": " + e.Why }
func (e *MisuseError) Is(target error) bool { return target == ErrMisuse }

// TooLargeError reports a payload over its limit. Nothing was stored.
type TooLargeError struct {
	What  string
	Size  int
	Limit int
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("pawl: %s is %d bytes, the limit is %d: store it elsewhere and keep a reference", e.What, e.Size, e.Limit)
}
func (e *TooLargeError) Is(target error) bool { return target == ErrTooLarge }

// EncodingError reports a Go value that has no JSON form. Path leads to the part at fault.
type EncodingError struct {
	What string
	Path string
	Err  error
}

func (e *EncodingError) Error() string {
	return fmt.Sprintf("pawl: %s: %s cannot be encoded as JSON: %v", e.What, e.Path, e.Err)
}
func (e *EncodingError) Unwrap() error        { return e.Err }
func (e *EncodingError) Is(target error) bool { return target == ErrEncoding }

// DecodingError reports recorded or received JSON that does not fit the Go type that the code
// asks for. It is an ErrInput: as of the data of an event, the payload of a hook, or a step's
// result whose type was changed since.
type DecodingError struct {
	What string // such as: event review
	Type string
	Err  error
}

func (e *DecodingError) Error() string {
	return fmt.Sprintf("pawl: %s does not fit %s: %v", e.What, e.Type, e.Err)
}
func (e *DecodingError) Unwrap() error        { return e.Err }
func (e *DecodingError) Is(target error) bool { return target == ErrInput }

// DivergedError reports that a journal entry is of another kind than the code asks for
// under the same key. The run is Blocked with this text as its reason.
type DivergedError struct {
	Key     string
	Journal Kind
	Code    Kind
}

func (e *DivergedError) Error() string {
	return fmt.Sprintf("the code no longer fits the journal: %q was recorded as a %s, the code now asks for a %s; "+
		"deploy code that fits (a new name for the new call, or Version) and retry the run, or cancel it", e.Key, e.Journal, e.Code)
}

// Fatal marks err as not worth another attempt. A nil err stays nil.
func Fatal(err error) error {
	if err == nil {
		return nil
	}
	return &fatalError{err}
}

type fatalError struct{ err error }

func (e *fatalError) Error() string { return e.err.Error() }
func (e *fatalError) Unwrap() error { return e.err }
func (e *fatalError) Fatal() bool   { return true }

// RetryAfter asks that the next attempt start no sooner than d from now, in place of the
// back-off. The attempt still counts. A nil err stays nil; a negative d means at once.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return &retryError{err, max(d, 0)}
}

type retryError struct {
	err error
	d   time.Duration
}

func (e *retryError) Error() string                     { return e.err.Error() }
func (e *retryError) Unwrap() error                     { return e.err }
func (e *retryError) RetryAfter() (time.Duration, bool) { return e.d, true }

// IsFatal reports whether err, live or read back from a journal, says that another attempt
// is not worth it. Any error with a method Fatal() bool can say so.
func IsFatal(err error) bool {
	var f interface{ Fatal() bool }
	return errors.As(err, &f) && f.Fatal()
}

func retryAfter(err error) (time.Duration, bool) {
	var r interface {
		RetryAfter() (time.Duration, bool)
	}
	if errors.As(err, &r) {
		return r.RetryAfter()
	}
	return 0, false
}

// Failure is an error as a journal keeps it: the same before and after a crash. It keeps
// the message, the Go type's name, a code, whether it was fatal, and what it wrapped; it
// does not keep the Go value, so match codes and sentinels, not your own error types.
// An error with a method ErrorCode() string sets Code; one that marshals itself to JSON
// (json.Marshaler) sets Details.
type Failure struct {
	Message  string          `json:"message"`
	Type     string          `json:"type,omitempty"`
	Code     string          `json:"code,omitempty"`
	IsFatal  bool            `json:"fatal,omitempty"`
	Step     string          `json:"step,omitempty"`     // the key of the step that failed, where one did
	Attempts int             `json:"attempts,omitempty"` // of that step
	Stack    string          `json:"stack,omitempty"`    // of a panic, cut to 4 KiB
	Details  json.RawMessage `json:"details,omitempty"`
	Cause    *Failure        `json:"cause,omitempty"`
}

func (f *Failure) Error() string { return f.Message }

// Fatal reports whether the recorded error was fatal.
func (f *Failure) Fatal() bool { return f.IsFatal }

func (f *Failure) Unwrap() error {
	if f.Cause == nil {
		return nil
	}
	return f.Cause.err()
}

// Is reports whether target is the sentinel that was recorded under Code.
func (f *Failure) Is(target error) bool { return f.Code != "" && sentinels[f.Code] == target }

// err gives a recorded failure of pawl's own its type back, so that errors.As finds a *StepError,
// *RunError, *HookConflictError, *HookClaimedError, *MisuseError, *TooLargeError, *BudgetError or *PanicError in
// an error that passed through a journal.
func (f *Failure) err() error {
	if f.Step != "" && f.Cause != nil {
		return &StepError{Step: f.Step, Attempts: f.Attempts, Err: f.Cause.err()}
	}
	if r := f.run(); r != nil && f.Cause != nil {
		r.Err = f.Cause.err()
		return r
	}
	var typed error
	switch f.Code {
	case codeHookConflict:
		typed = detailed(f, func(e *HookConflictError) bool { return e.Token != "" })
	case codeHookClaimed:
		typed = detailed(f, func(e *HookClaimedError) bool { return e.Token != "" })
	case codeMisuse:
		typed = detailed(f, func(e *MisuseError) bool { return e.Call != "" })
	case codeTooLarge:
		typed = detailed(f, func(e *TooLargeError) bool { return e.What != "" })
	case codeBudget:
		typed = detailed(f, func(e *BudgetError) bool { return e.Budget.Name != "" })
	case codePanic:
		if value, ok := strings.CutPrefix(f.Message, panicText); ok {
			typed = &PanicError{Value: value, Stack: f.Stack}
		}
	}
	switch {
	case typed == nil:
		return f
	case f.IsFatal:
		return Fatal(typed)
	}
	return typed
}

// detailed is the error of pawl's own that f tells of, as its Details have it; nil: they do not.
func detailed[E any, P interface {
	*E
	error
}](f *Failure, whole func(P) bool) error {
	e := P(new(E))
	if len(f.Details) == 0 || json.Unmarshal(f.Details, e) != nil || !whole(e) {
		return nil
	}
	return e
}

const (
	maxMessage = 16 << 10 // bytes of an error's text that a journal keeps
	maxStack   = 4 << 10
	maxCauses  = 8
)

// PanicError is a panic in a step or a workflow, as an error.
type PanicError struct {
	Value string
	Stack string
}

func (e *PanicError) Error() string { return panicText + e.Value }

const panicText = "panic: "

func failureOf(err error) *Failure { return failureDepth(err, 0) }

func failureDepth(err error, depth int) *Failure {
	if f, ok := err.(*Failure); ok {
		return f
	}
	f := &Failure{Message: cut(err.Error(), maxMessage), IsFatal: IsFatal(err)}
	inner := err
	for { // the marks are not errors of their own
		if m, ok := inner.(*fatalError); ok {
			inner = m.err
		} else if m, ok := inner.(*retryError); ok {
			inner = m.err
		} else {
			break
		}
	}
	f.Type = fmt.Sprintf("%T", inner)
	switch e := inner.(type) {
	case *StepError:
		f.Step, f.Attempts = e.Step, e.Attempts
	case *PanicError:
		f.Code, f.Stack = codePanic, cut(e.Stack, maxStack)
	case *MisuseError:
		f.Code, f.Details = codeMisuse, mustJSON(e)
	case *TooLargeError:
		f.Code, f.Details = codeTooLarge, mustJSON(e)
	case *BudgetError:
		f.Code, f.Details = codeBudget, mustJSON(e)
	case *HookConflictError:
		f.Code, f.Details = codeHookConflict, mustJSON(e)
	case *HookClaimedError:
		f.Code, f.Details = codeHookClaimed, mustJSON(e)
	case *siblingError:
		f.Details = mustJSON(e)
	case interface{ ErrorCode() string }:
		f.Code = cut(e.ErrorCode(), 128)
	}
	for code, s := range sentinels {
		if inner == s {
			f.Code = code
		} else if is, ok := inner.(interface{ Is(error) bool }); ok && f.Code == "" && is.Is(s) {
			f.Code = code
		}
	}
	if m, ok := inner.(json.Marshaler); ok {
		if b, err := m.MarshalJSON(); err == nil && len(b) <= maxMessage && json.Valid(b) {
			f.Details = b
		}
	}
	if cause := errors.Unwrap(inner); cause != nil && depth < maxCauses {
		f.Cause = failureDepth(cause, depth+1)
	} else if many, ok := inner.(interface{ Unwrap() []error }); ok && depth < maxCauses {
		if errs := many.Unwrap(); len(errs) > 0 {
			f.Cause = failureDepth(errs[0], depth+1)
		}
	}
	return f
}

// cut shortens s to at most n bytes without splitting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}
