package expr

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Error is an expression that can't be read, or that could not be evaluated.
type Error struct {
	Source  string
	Line    int // from 1; 0 if the fault has no place, as a limit has none
	Column  int // from 1, in characters
	Message string
	Hint    string // what to write instead, where that is known
	Err     error  // *LimitError, *MissingError, what ended the context, or nil

	lacks  string         // the field that an object lacks, and
	object map[string]any // that object: the hint is made of its fields when somebody is going to see it
}

// Error is the place, the message and the hint in one line.
func (e *Error) Error() string {
	text := e.Message
	if e.Line > 0 {
		text = fmt.Sprintf("%d:%d: %s", e.Line, e.Column, text)
	}
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// maxCaret is how many characters of a line Caret shows.
const maxCaret = 100

// Caret is the line of the source that the error is about, and below it a ^ under the place; "" if there is no place.
func (e *Error) Caret() string {
	if e.Line < 1 {
		return ""
	}
	lines := strings.Split(e.Source, "\n")
	if e.Line > len(lines) {
		return ""
	}
	line, at := []rune(strings.TrimRight(lines[e.Line-1], "\r")), e.Column-1
	before, after := "", ""
	if from := at - maxCaret/2; from > 0 && len(line) > maxCaret {
		line, at, before = line[min(from, len(line)):], at-from+1, "…"
	}
	if len(line) > maxCaret {
		line, after = line[:maxCaret], "…"
	}
	under := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, before+string(line[:min(max(at-utf8.RuneCountInString(before), 0), len(line))]))
	return before + string(line) + after + "\n" + under + "^"
}

// LimitError is an expression that goes beyond one of its [Limits].
type LimitError struct {
	Limit string // source, depth, steps, bytes, time
	Most  int64  // in bytes, levels, steps; of time in nanoseconds
}

func (e *LimitError) Error() string {
	switch e.Limit {
	case "source":
		return fmt.Sprintf("it is too long: the limit is %d bytes", e.Most)
	case "depth":
		return fmt.Sprintf("it is nested too deep: the limit is %d levels", e.Most)
	case "bytes":
		return fmt.Sprintf("it produces too much: the limit is %d bytes", e.Most)
	case "time":
		return fmt.Sprintf("it takes too long: the limit is %v", time.Duration(e.Most))
	}
	return fmt.Sprintf("it does too much: the limit is %d %s", e.Most, e.Limit)
}

// MissingError is something that an expression reads and that is not there.
type MissingError struct {
	Path   string // all that was asked for: variables.order.price
	At     string // the part of it that is there: variables.order; "" is none
	Reason string // has no field "price"
}

func (e *MissingError) Error() string {
	if e.At == "" {
		return fmt.Sprintf("there is no %s", e.Path)
	}
	return e.At + " " + e.Reason
}

// placed is an error at a character of the source, which count from 0.
func placed(source string, at int32, format string, args ...any) *Error {
	e := &Error{Source: source, Line: 1, Column: 1, Message: fmt.Sprintf(format, args...)}
	for _, r := range source {
		if at--; at < 0 {
			break
		}
		if e.Column++; r == '\n' {
			e.Line, e.Column = e.Line+1, 1
		}
	}
	return e
}

func blank(s string) bool { return strings.TrimSpace(s) == "" }
