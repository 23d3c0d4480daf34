package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Error is err without the secrets. One that holds none, in its text or in those of its causes, is returned as it
// is. Another keeps its code, whether and when another try is worth it, and the sentinels that it is; it is an
// [*Error] if it was one; other types and its causes, which may hold secrets in their fields, are lost.
func (r *Redactor) Error(err error) error {
	if r == nil || err == nil || !r.dirty(err) {
		return err
	}
	return &redactedError{text: r.Text(err.Error()), of: err, redactor: r}
}

// dirty reports whether an error or one of its causes tells a secret.
func (r *Redactor) dirty(err error) bool {
	if text := err.Error(); r.Text(text) != text {
		return true
	}
	if m, is := err.(json.Marshaler); is {
		data, err := m.MarshalJSON()
		if clean, bad := r.JSON(json.RawMessage(data)); err != nil || bad != nil || !bytes.Equal(clean, data) {
			return true
		}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		cause := e.Unwrap()
		return cause != nil && r.dirty(cause)
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), func(cause error) bool { return cause != nil && r.dirty(cause) })
	}
	return false
}

// redactedError has what an engine asks of the error that it stands for, and shows nothing else of it.
type redactedError struct {
	text     string
	of       error
	redactor *Redactor
}

func (e *redactedError) Error() string { return e.text }

// Format is Error for every verb: no %#v prints what was taken out.
func (e *redactedError) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, e.text) }

// Is reports whether the error that this stands for is a sentinel.
func (e *redactedError) Is(target error) bool { return errors.Is(e.of, target) }

// As gives an *Error, if this stands for one.
func (e *redactedError) As(target any) bool {
	to, is := target.(**Error)
	var known *Error
	if !is || !errors.As(e.of, &known) {
		return false
	}
	*to = &Error{Code: known.Code, Message: e.redactor.Text(known.Message), Status: known.Status, After: known.After}
	return true
}

func (e *redactedError) ErrorCode() string {
	var coded interface{ ErrorCode() string }
	if errors.As(e.of, &coded) {
		return e.redactor.Text(coded.ErrorCode())
	}
	return ""
}

func (e *redactedError) Fatal() bool {
	var f interface{ Fatal() bool }
	return errors.As(e.of, &f) && f.Fatal()
}

func (e *redactedError) RetryAfter() (time.Duration, bool) {
	var after interface {
		RetryAfter() (time.Duration, bool)
	}
	if errors.As(e.of, &after) {
		return after.RetryAfter()
	}
	return 0, false
}
