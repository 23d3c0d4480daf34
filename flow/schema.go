package flow

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"

	"github.com/pawlrun/pawl"
	closed "github.com/pawlrun/pawl/internal/schema"
)

// schema is a JSON Schema that was compiled. It refers to nothing outside of itself.
type schema struct{ *closed.Schema }

// compile reads a JSON Schema.
func compile(data json.RawMessage) (schema, error) {
	s, err := closed.Compile(data)
	return schema{s}, err
}

// SchemaError reports data that does not fit its JSON Schema. It is a pawl.ErrInput.
type SchemaError struct {
	Of     string // what did not fit: "the variables"
	Faults []SchemaFault
}

// SchemaFault is one thing that does not fit.
type SchemaFault struct {
	Pointer string `json:"pointer"` // RFC 6901, "" for the whole
	Why     string `json:"why"`
}

func (e *SchemaError) Error() string {
	var parts []string
	for _, f := range e.Faults {
		if f.Pointer == "" {
			parts = append(parts, f.Why)
		} else {
			parts = append(parts, f.Pointer+": "+f.Why)
		}
	}
	return e.Of + " don't fit: " + strings.Join(parts, "; ")
}

// Is makes it a pawl.ErrInput.
func (e *SchemaError) Is(target error) bool { return target == pawl.ErrInput }

// Fatal reports true: the same data does not fit again.
func (e *SchemaError) Fatal() bool { return true }

// check holds JSON against the schema.
func (s schema) check(of string, data json.RawMessage) error {
	err := s.CheckJSON(data)
	var faults closed.Faults
	if !errors.As(err, &faults) {
		return err
	}
	e := &SchemaError{Of: of}
	for _, f := range faults {
		e.Faults = append(e.Faults, SchemaFault{f.Pointer(), f.Why})
	}
	return e
}

// fits holds a value against the schema, and returns the first that does not fit.
func (s schema) fits(v any) error {
	err := s.Check(v)
	var faults closed.Faults
	if errors.As(err, &faults) {
		return errors.New(faults[0].String())
	}
	return err
}

// schemaText is a schema of the document as JSON, or nil.
func schemaText(n *node) json.RawMessage {
	if !n.is(objectKind) {
		return nil
	}
	var b bytes.Buffer
	n.canonical(&b)
	return b.Bytes()
}
