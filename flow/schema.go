package flow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/pawlrun/pawl"
)

// schema is a JSON Schema that was compiled. It refers to nothing outside of itself.
type schema struct{ *jsonschema.Schema }

// schemaURL is what references in a schema without $id are relative to. Nothing is there.
const schemaURL = "pawl://flow/schema"

// compile reads a JSON Schema.
func compile(data json.RawMessage) (schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return schema{}, err
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(loadsNothing{})
	c.AssertFormat()
	if err := c.AddResource(schemaURL, doc); err != nil {
		return schema{}, err
	}
	s, err := c.Compile(schemaURL)
	return schema{s}, err
}

// loadsNothing stands between a schema and the files and networks that it refers to.
type loadsNothing struct{}

func (loadsNothing) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s is outside of the schema: copy it into $defs", url)
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

// maxFaults bounds what is told of one value.
const maxFaults = 20

// check holds JSON against the schema.
func (s schema) check(of string, data json.RawMessage) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%w: %s are no JSON: %w", pawl.ErrInput, of, err)
	}
	err = s.Validate(v)
	var invalid *jsonschema.ValidationError
	if errors.As(err, &invalid) {
		return &SchemaError{of, leaves(invalid, nil)}
	}
	return err
}

// English is how faults are told.
var english = message.NewPrinter(language.English)

// leaves adds the leaves of what a validation found.
func leaves(e *jsonschema.ValidationError, to []SchemaFault) []SchemaFault {
	if len(e.Causes) == 0 && len(to) < maxFaults {
		fault := SchemaFault{Why: e.ErrorKind.LocalizedString(english)}
		for _, name := range e.InstanceLocation {
			fault.Pointer = pointer(fault.Pointer, name)
		}
		if !slices.Contains(to, fault) {
			to = append(to, fault)
		}
	}
	for _, cause := range e.Causes {
		to = leaves(cause, to)
	}
	return to
}

// fits holds a value against the schema, and returns the first that does not fit.
func (s schema) fits(v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	err = s.check("", value)
	var bad *SchemaError
	if errors.As(err, &bad) {
		fault := bad.Faults[0]
		if fault.Pointer != "" {
			return fmt.Errorf("%s: %s", fault.Pointer, fault.Why)
		}
		return errors.New(fault.Why)
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
