package agent

import (
	"encoding/json"
	"fmt"

	"github.com/pawlrun/pawl"
)

// AnswerError reports an answer that is not what was asked for. Another attempt, or better
// the repair turn that Repair words, may bring one that is. It survives a journal under the
// code "answer", with its fields as details.
type AnswerError struct {
	Want string `json:"want"`          // what was expected, in words fit for the model
	Why  string `json:"why"`           // what is wrong with the answer, likewise
	Got  string `json:"got,omitempty"` // how the answer begins: at most 300 bytes, in quotes
	Size int    `json:"size"`          // bytes of the whole answer
}

func (e *AnswerError) Error() string {
	s := fmt.Sprintf("the model's answer can't be used: %s; expected %s", e.Why, e.Want)
	if e.Got != "" {
		s += "; it was " + e.Got
	}
	return s
}

// Repair returns what to say to the model next, after its own answer: what was wrong and
// what to answer in its place.
func (e *AnswerError) Repair() string {
	return fmt.Sprintf("That answer can't be used: %s.\nAnswer again with %s and nothing else.", e.Why, e.Want)
}

// ErrorCode returns "answer".
func (e *AnswerError) ErrorCode() string { return "answer" }

// MarshalJSON writes the fields.
func (e *AnswerError) MarshalJSON() ([]byte, error) {
	type fields AnswerError
	return json.Marshal((*fields)(e))
}

// ShapeError reports a shape, a schema or a Go type that no answer can be read by. It is
// found when the shape is made, is a pawl.ErrInput, and is fatal: a defect of the program or
// of the definition, which no other attempt puts right.
type ShapeError struct {
	Place string // where: a JSON pointer into the schema, a path in the Go type, or "" for the whole
	Why   string // what is wrong, and what to do
}

func (e *ShapeError) Error() string {
	if e.Place == "" {
		return "agent: the shape of the answer: " + e.Why
	}
	return fmt.Sprintf("agent: the shape of the answer: at %s: %s", e.Place, e.Why)
}

// Is reports that it is a pawl.ErrInput.
func (e *ShapeError) Is(target error) bool { return target == pawl.ErrInput }

// Fatal reports true.
func (e *ShapeError) Fatal() bool { return true }

func badShape(place, format string, args ...any) *ShapeError {
	return &ShapeError{Place: place, Why: fmt.Sprintf(format, args...)}
}
