// Package schema holds values against JSON Schemas that others have written. A schema is closed: what it refers to is in
// it, and nothing is fetched or read from a disk.
package schema

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
)

// root is what references in a schema without $id are relative to. Nothing is there.
const root = "pawl://schema"

// Schema is a JSON Schema (2020-12, unless it names an older one), ready to hold values against. It may be shared.
type Schema struct {
	compiled *jsonschema.Schema
	patterns map[string]int // how many instructions each has
}

// Compile reads a schema, formats asserted. The error says what is wrong with it in words for its author.
func Compile(data []byte) (*Schema, error) {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("it is no JSON: %w", err)
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(refuse{})
	c.AssertFormat()
	if err := c.AddResource(root, document); err != nil {
		return nil, err
	}
	compiled, err := c.Compile(root)
	if err != nil {
		return nil, errors.New(strings.ReplaceAll(strings.TrimPrefix(err.Error(), "jsonschema: "), root, ""))
	}
	s := &Schema{compiled, map[string]int{}}
	s.measure(compiled, map[*jsonschema.Schema]bool{})
	return s, nil
}

// refuse stands between a schema and the files and networks that it refers to.
type refuse struct{}

func (refuse) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s is outside of the schema: copy it into $defs", url)
}

// Faults are what does not fit: an error.
type Faults []Fault

// Fault is one thing that does not fit.
type Fault struct {
	Path []string // names and indexes that lead to it; none: it is the whole
	Why  string
}

func (f Faults) Error() string {
	texts := make([]string, len(f))
	for i := range f {
		texts[i] = f[i].String()
	}
	return strings.Join(texts, "; ")
}

// String is the fault with its place, as a JSON Pointer, before it.
func (f Fault) String() string {
	if len(f.Path) == 0 {
		return f.Why
	}
	return f.Pointer() + ": " + f.Why
}

// Pointer is the fault's place as RFC 6901 writes it.
func (f Fault) Pointer() string {
	var b strings.Builder
	for _, name := range f.Path {
		b.WriteByte('/')
		b.WriteString(escape.Replace(name))
	}
	return b.String()
}

var escape = strings.NewReplacer("~", "~0", "/", "~1")

// What is told of one value is bounded: so many faults, and so many bytes of each.
const (
	MaxFaults = 20
	maxWhy    = 200
)

// CheckJSON holds a text against the schema, and returns Faults if it does not fit, or is no JSON; also if it would take more than
// [MaxWork] to say so, which is counted first: who wrote the schema or the text does not decide how long that takes.
func (s *Schema) CheckJSON(data []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return Faults{{Why: "it is no JSON: " + err.Error()}}
	}
	if s.tooMuch(v) {
		return Faults{{Why: fmt.Sprintf("it would take more than %d steps to hold it against its JSON Schema: take out alternatives and patterns of the schema, or give less", MaxWork)}}
	}
	err = s.compiled.Validate(v)
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return err
	}
	var found found
	found.leaves(invalid)
	if found.more > 0 {
		found.list = append(found.list, Fault{Why: fmt.Sprintf("and %d more", found.more)})
	}
	return found.list
}

// Check is CheckJSON of a value's JSON.
func (s *Schema) Check(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.CheckJSON(data)
}

// english is how faults are told.
var english = message.NewPrinter(language.English)

// found is what is at the ends of a validation's findings, each once.
type found struct {
	list Faults
	more int
}

func (n *found) leaves(e *jsonschema.ValidationError) {
	for _, cause := range e.Causes {
		n.leaves(cause)
	}
	if len(e.Causes) > 0 {
		return
	}
	if len(n.list) == MaxFaults {
		n.more++
		return
	}
	why := e.ErrorKind.LocalizedString(english)
	if len(why) > maxWhy { // it quotes the value
		why = strings.ToValidUTF8(why[:maxWhy], "") + "…"
	}
	if !slices.ContainsFunc(n.list, func(f Fault) bool { return f.Why == why && slices.Equal(f.Path, e.InstanceLocation) }) {
		n.list = append(n.list, Fault{e.InstanceLocation, why})
	}
}
