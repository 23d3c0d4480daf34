package flow

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// shape is what a value of a document may be. Shapes are data: documents are checked by them, and the published JSON
// Schema is written of them, so the two can't differ.
type shape interface {
	look(f *findings, n *node)
	schema() map[string]any
	takes() []kind
}

// text is a text.
type text struct {
	doc     string
	least   int // characters
	most    int // 0: no limit but the document's
	pattern *regexp.Regexp
	means   string // what the pattern asks for
	one     []string
	still   bool // it is taken as it stands: who writes a place into it would have its braces sent
}

func (s text) takes() []kind { return []kind{textKind} }

func (s text) look(f *findings, n *node) {
	switch long := len([]rune(n.text)); {
	case s.one != nil && !slices.Contains(s.one, n.text):
		hint := f.did(n.text, s.one)
		if hint == "" {
			hint = "write one of " + strings.Join(s.one, ", ")
		}
		f.fault(n, hint, "%.60q is not known here", n.text)
	case long < s.least && long == 0:
		f.fault(n, "", "it is empty")
	case s.most > 0 && long > s.most:
		f.fault(n, "", "it has %d characters, the limit is %d", long, s.most)
	case s.still && strings.Contains(n.text, "{{"):
		f.fault(n, "write what it is", "no places are filled in here, and %.60q holds one", n.text)
	case s.pattern != nil && !s.pattern.MatchString(n.text):
		f.fault(n, s.means, "%.60q can't be used here", n.text)
	}
}

func (s text) schema() map[string]any {
	m := map[string]any{"type": "string"}
	if s.one != nil {
		m["enum"] = s.one
	}
	if s.least > 0 {
		m["minLength"] = s.least
	}
	if s.most > 0 {
		m["maxLength"] = s.most
	}
	if s.pattern != nil {
		m["pattern"] = s.pattern.String()
	}
	return m
}

// num is a number.
type num struct {
	whole      bool
	least      float64
	most       float64 // below least: none
	aboveLeast bool    // least itself is too small
}

func (s num) takes() []kind { return []kind{numberKind} }

func (s num) look(f *findings, n *node) {
	v := n.float(0)
	switch {
	case s.whole && v != float64(int64(v)):
		f.fault(n, "", "%s is no whole number", n.text)
	case s.aboveLeast && v <= s.least:
		f.fault(n, "", "%s must be above %v", n.text, s.least)
	case v < s.least:
		f.fault(n, "", "%s is below %v", n.text, s.least)
	case s.most >= s.least && v > s.most:
		f.fault(n, "", "%s is above %v", n.text, s.most)
	}
}

func (s num) schema() map[string]any {
	m := map[string]any{"type": "number"}
	if s.whole {
		m["type"] = "integer"
	}
	if s.aboveLeast {
		m["exclusiveMinimum"] = s.least
	} else {
		m["minimum"] = s.least
	}
	if s.most >= s.least {
		m["maximum"] = s.most
	}
	return m
}

// number of any size.
type anyNumber struct{}

func (anyNumber) takes() []kind          { return []kind{numberKind} }
func (anyNumber) look(*findings, *node)  {}
func (anyNumber) schema() map[string]any { return map[string]any{"type": "number"} }

// truth is true or false.
type truth struct{}

func (truth) takes() []kind          { return []kind{booleanKind} }
func (truth) look(*findings, *node)  {}
func (truth) schema() map[string]any { return map[string]any{"type": "boolean"} }

// anything is any value.
type anything struct{}

func (anything) takes() []kind {
	return []kind{nullKind, booleanKind, numberKind, textKind, listKind, objectKind}
}
func (anything) look(*findings, *node)  {}
func (anything) schema() map[string]any { return map[string]any{} }

// asItIs is any value, in which no places are filled in.
type asItIs struct{ anything }

func (s asItIs) look(f *findings, n *node) {
	if n.is(textKind) && strings.Contains(n.text, "{{") {
		f.warn(n, "", "no places are filled in here: %.60q is sent with its braces", n.text)
	}
	for _, item := range n.items {
		s.look(f, item)
	}
	for _, field := range n.fields {
		s.look(f, field.value)
	}
}

// jsonSchema is a JSON Schema. Whether it is one is looked at where it is compiled.
type jsonSchema struct{}

func (jsonSchema) takes() []kind          { return []kind{objectKind} }
func (jsonSchema) look(*findings, *node)  {}
func (jsonSchema) schema() map[string]any { return map[string]any{"type": "object"} }

// list is a list of one kind of thing.
type list struct {
	of          shape
	least, most int // most 0: no limit but the document's
}

func (s list) takes() []kind { return []kind{listKind} }

func (s list) look(f *findings, n *node) {
	switch {
	case len(n.items) < s.least && len(n.items) == 0:
		f.fault(n, "", "the list is empty")
	case len(n.items) < s.least:
		f.fault(n, "", "it has %d items, and needs %d", len(n.items), s.least)
	case s.most > 0 && len(n.items) > s.most:
		f.fault(n, "", "it has %d items, the limit is %d", len(n.items), s.most)
	}
	for _, item := range n.items {
		look(f, item, s.of)
	}
}

func (s list) schema() map[string]any {
	m := map[string]any{"type": "array", "items": s.of.schema()}
	if s.least > 0 {
		m["minItems"] = s.least
	}
	if s.most > 0 {
		m["maxItems"] = s.most
	}
	return m
}

// table is an object with names of the author's own.
type table struct{ of shape }

func (s table) takes() []kind { return []kind{objectKind} }

func (s table) look(f *findings, n *node) {
	for _, field := range n.fields {
		look(f, field.value, s.of)
	}
}

func (s table) schema() map[string]any {
	return map[string]any{"type": "object", "additionalProperties": s.of.schema()}
}

// either is one of several shapes that take different kinds of values.
type either []shape

func (s either) takes() (out []kind) {
	for _, one := range s {
		out = append(out, one.takes()...)
	}
	return out
}

func (s either) look(f *findings, n *node) {
	for _, one := range s {
		if slices.Contains(one.takes(), n.kind) {
			one.look(f, n)
			return
		}
	}
}

func (s either) schema() map[string]any {
	var all []any
	for _, one := range s {
		all = append(all, one.schema())
	}
	return map[string]any{"anyOf": all}
}

// attr is a field of a record.
type attr struct {
	name     string
	doc      string
	is       shape
	required bool
	usual    any // what it is when it is left out, for the schema
}

// record is an object whose fields are known.
type record struct {
	doc   string
	attrs []attr
	open  bool // other fields are looked at elsewhere
}

func (s record) takes() []kind { return []kind{objectKind} }

func (s record) look(f *findings, n *node) {
	for _, field := range n.fields {
		i := slices.IndexFunc(s.attrs, func(a attr) bool { return a.name == field.name })
		switch {
		case i >= 0:
			look(f, field.value, s.attrs[i].is)
		case !s.open:
			hint := f.did(field.name, s.names())
			if hint == "" {
				hint = "known here are " + strings.Join(s.names(), ", ")
			}
			f.fault(field.at, hint, "there is no field %.60q", field.name)
		}
	}
	for _, a := range s.attrs {
		if a.required && n.get(a.name) == nil {
			f.fault(n, a.doc, "the field %q is missing", a.name)
		}
	}
}

func (s record) has(name string) bool {
	return slices.ContainsFunc(s.attrs, func(a attr) bool { return a.name == name })
}

func (s record) names() (out []string) {
	for _, a := range s.attrs {
		out = append(out, a.name)
	}
	return out
}

func (s record) schema() map[string]any {
	fields, required := map[string]any{}, []string{}
	for _, a := range s.attrs {
		m := maps.Clone(a.is.schema())
		if a.doc != "" {
			m["description"] = a.doc
		}
		if a.usual != nil {
			m["default"] = a.usual
		}
		fields[a.name] = m
		if a.required {
			required = append(required, a.name)
		}
	}
	m := map[string]any{"type": "object", "properties": fields}
	if s.doc != "" {
		m["description"] = s.doc
	}
	if len(required) > 0 {
		m["required"] = required
	}
	if !s.open {
		m["additionalProperties"] = false
	}
	return m
}

// look holds a value against a shape: first that it is of a kind that the shape takes.
func look(f *findings, n *node, s shape) {
	takes := s.takes()
	if slices.Contains(takes, n.kind) {
		s.look(f, n)
		return
	}
	var names []string
	for _, k := range takes {
		names = append(names, k.String())
	}
	f.fault(n, "", "it is %s and must be %s", n.kind, strings.Join(names, " or "))
}

// named is a shape that is written once in the schema, under $defs, as it may hold itself.
type named struct {
	name string
	of   func() shape
}

func (s named) takes() []kind             { return s.of().takes() }
func (s named) look(f *findings, n *node) { s.of().look(f, n) }
func (s named) schema() map[string]any {
	return map[string]any{"$ref": fmt.Sprintf("#/$defs/%s", s.name)}
}
