package service

import (
	"fmt"
	"time"
)

// Error is a call that failed in a known way. An engine learns by its methods whether and when to try again.
type Error struct {
	Code    string        // one of the codes below
	Message string        // a sentence for people, without secrets
	Status  int           // of HTTP, or 0
	After   time.Duration // when the other side asked to try again; 0: it did not say
	Err     error         // the cause, or nil
}

// The codes of errors. Those of the first group are worth another try.
const (
	Unavailable = "unavailable"  // no connection, it was cut, or the other side answers that it can't now (5xx)
	TimedOut    = "timed_out"    // no whole answer in time; the action may have been carried out
	RateLimited = "rate_limited" // the other side asks to slow down

	Invalid   = "invalid"   // the parameters can't be carried out, here or says the other side (4xx)
	Denied    = "denied"    // the other side refuses who asks: key, token, rights
	NotFound  = "not_found" // what was named is not there
	Forbidden = "forbidden" // this service's own rules forbid it: an address, a statement, a size
	TooLarge  = "too_large" // the answer is over its limit
	BadAnswer = "bad_answer"
)

func (e *Error) Error() string {
	if e.Status != 0 {
		return fmt.Sprintf("%s (HTTP %d)", e.Message, e.Status)
	}
	return e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ErrorCode names the error where it is kept.
func (e *Error) ErrorCode() string { return e.Code }

// Fatal reports whether another try is useless.
func (e *Error) Fatal() bool {
	return e.Code != Unavailable && e.Code != TimedOut && e.Code != RateLimited
}

// RetryAfter tells when to try again, if the other side said so.
func (e *Error) RetryAfter() (time.Duration, bool) { return e.After, e.After > 0 }
