package llm

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrAnswerTooLarge is wrapped by the *Error of a call whose answer was larger than the
// provider's client accepts.
var ErrAnswerTooLarge = errors.New("the answer is too large")

// Kind says what went wrong with a call, in terms that all providers share.
type Kind string

// The kinds. Of those marked with a star another attempt may succeed.
const (
	RateLimited    Kind = "rate_limited"     // * too many calls or tokens in a short time
	Overloaded     Kind = "overloaded"       // * the provider has no capacity
	Timeout        Kind = "timeout"          // * the deadline passed, here or at the provider
	Truncated      Kind = "truncated"        // * the answer or stream broke off without a finish reason
	Unavailable    Kind = "unavailable"      // * no connection, or the provider failed
	ContextTooLong Kind = "context_too_long" // the request does not fit into the model's context
	Refused        Kind = "refused"          // the provider's policy forbids the request
	BadRequest     Kind = "bad_request"      // the request is wrong for this model or endpoint
	Auth           Kind = "auth"             // the key is missing, wrong, or not allowed to do this
	QuotaExceeded  Kind = "quota_exceeded"   // credit or a spending limit is used up: waiting does not help
)

// kinds holds what is to be known of each kind: how a person calls it, whether another
// attempt may succeed, and what to do about it.
var kinds = map[Kind]struct {
	words     string
	retryable bool
	next      string
}{
	RateLimited:    {"rate limited", true, "call less often or raise the limit at the provider"},
	Overloaded:     {"provider overloaded", true, "try again later"},
	Timeout:        {"timed out", true, "allow more time or ask for less"},
	Truncated:      {"answer cut off", true, "try again"},
	Unavailable:    {"provider unavailable", true, "try again later, and check the base URL if it goes on"},
	ContextTooLong: {"request too long for the model", false, "shorten the messages or use a model with a larger context"},
	Refused:        {"refused by the provider's policy", false, "change the content of the request"},
	BadRequest:     {"bad request", false, "correct the request"},
	Auth:           {"not authorised", false, "check the API key and what it may do"},
	QuotaExceeded:  {"quota used up", false, "add credit or raise the spending limit at the provider"},
}

// Error is a call to a model that failed. It goes through JSON whole but for Err.
//
// Its methods Fatal and RetryAfter are what pawl's engine looks for to decide about
// another attempt, ErrorCode and MarshalJSON what its journal keeps of a failure.
type Error struct {
	Kind      Kind          `json:"kind"`
	Provider  string        `json:"provider"`
	Model     string        `json:"model,omitempty"`  // the model that was asked
	Status    int           `json:"status,omitempty"` // the HTTP status; 0 if no answer came
	Code      string        `json:"code,omitempty"`   // the provider's own name for the error
	Message   string        `json:"message"`          // what happened, in the provider's words if it had any; never a key
	Wait      time.Duration `json:"wait,omitempty"`   // how long the provider asks to wait, in nanoseconds; 0 if it did not ask
	RequestID string        `json:"requestId,omitempty"`
	Usage     Usage         `json:"usage,omitzero"`  // what the failed call is known to have used
	Limits    Limits        `json:"limits,omitzero"` // what the provider said of its rate limits
	Err       error         `json:"-"`               // the cause, if there is one in this process
}

// Error says which model failed, how, in whose words, and what to do next.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Provider)
	if e.Model != "" {
		fmt.Fprintf(&b, " %s", e.Model)
	}
	about, known := kinds[e.Kind]
	if !known {
		about.words = string(e.Kind)
	}
	fmt.Fprintf(&b, ": %s", about.words)
	if e.Message != "" {
		fmt.Fprintf(&b, ": %s", e.Message)
	}
	var facts []string
	if e.Status != 0 {
		facts = append(facts, fmt.Sprintf("HTTP %d", e.Status))
	}
	if e.Code != "" {
		facts = append(facts, e.Code)
	}
	if e.RequestID != "" {
		facts = append(facts, "request "+e.RequestID)
	}
	if len(facts) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(facts, ", "))
	}
	switch {
	case e.Wait > 0:
		fmt.Fprintf(&b, "; wait %v before the next attempt", e.Wait)
	case about.next != "":
		fmt.Fprintf(&b, "; %s", about.next)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Retryable reports whether the same call, made again, may succeed. An unknown kind is
// not retryable.
func (e *Error) Retryable() bool { return kinds[e.Kind].retryable }

// Fatal reports whether another attempt is not worth it: it is !Retryable.
func (e *Error) Fatal() bool { return !e.Retryable() }

// RetryAfter returns how long the provider asks to wait before the next attempt, and
// whether it asked.
func (e *Error) RetryAfter() (time.Duration, bool) { return e.Wait, e.Wait > 0 }

// ErrorCode returns "llm_" and the kind: the name of the failure in a journal.
func (e *Error) ErrorCode() string { return "llm_" + string(e.Kind) }

// MarshalJSON writes the fields.
func (e *Error) MarshalJSON() ([]byte, error) {
	type fields Error
	return json.Marshal((*fields)(e))
}

// IsRetryable reports whether err is, or wraps, an [*Error] that is retryable.
func IsRetryable(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Retryable()
}

// KindOf returns the kind of the [*Error] that err is or wraps, or "" if there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return ""
}
