package schema

import (
	"encoding/json"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// work counts what it takes to hold a value against a schema. Alternatives that lead to the same parts of a schema, each by
// two ways, double it with each level, and a schema of ten lines may take longer than there is time. What is counted is no
// less than what a validation does, which stops at what does not fit.
type work struct {
	of   *Schema
	left int
	here []*jsonschema.Schema // that are held against the same part of the value, each for the one before
}

// visit counts a part of the schema that is held against a part of the value.
func (w *work) visit(s *jsonschema.Schema, v any) {
	if s == nil || w.left <= 0 {
		return
	}
	w.left--
	if slices.Contains(w.here, s) {
		return // it refers to itself, which is an error of the validation
	}
	w.here = append(w.here, s)
	if w.left -= len(w.here) / 16; s.Enum != nil {
		w.left -= len(s.Enum.Values)
	}
	for _, one := range []*jsonschema.Schema{s.Ref, s.RecursiveRef, s.Not, s.If, s.Then, s.Else} {
		w.visit(one, v)
	}
	if s.DynamicRef != nil {
		w.visit(s.DynamicRef.Ref, v)
	}
	for _, list := range [][]*jsonschema.Schema{s.AllOf, s.AnyOf, s.OneOf} {
		for _, one := range list {
			w.visit(one, v)
		}
	}
	switch v := v.(type) {
	case string:
		w.pattern(s.Pattern, v)
		if s.Format != nil || s.ContentEncoding != nil || s.ContentMediaType != nil || s.ContentSchema != nil {
			w.left -= len(v) / 16
		}
	case json.Number:
		w.number(v)
	case map[string]any:
		w.object(s, v)
	case []any:
		w.list(s, v)
	}
	w.here = w.here[:len(w.here)-1]
}

// inside visits a part of the value that lies in the one that is being visited.
func (w *work) inside(s *jsonschema.Schema, v any) {
	if s == nil || w.left <= 0 {
		return
	}
	here := w.here
	w.here = nil
	w.visit(s, v)
	w.here = here
}

func (w *work) object(s *jsonschema.Schema, v map[string]any) {
	w.left -= len(s.Required)
	for name, one := range s.Dependencies {
		if part, is := one.(*jsonschema.Schema); is && v[name] != nil {
			w.visit(part, v)
		}
	}
	for name, one := range s.DependentSchemas {
		if v[name] != nil {
			w.visit(one, v)
		}
	}
	additional, _ := s.AdditionalProperties.(*jsonschema.Schema)
	for name, value := range v {
		if w.left--; w.left <= 0 {
			return
		}
		w.inside(s.Properties[name], value)
		w.inside(s.PropertyNames, name)
		for pattern, one := range s.PatternProperties {
			w.pattern(pattern, name)
			w.inside(one, value)
		}
		if s.Properties[name] == nil {
			w.inside(additional, value)
		}
		w.inside(s.UnevaluatedProperties, value)
	}
}

func (w *work) list(s *jsonschema.Schema, v []any) {
	if s.UniqueItems {
		w.left -= parts(v, w.left)
	}
	items, _ := s.Items.(*jsonschema.Schema)
	more, _ := s.AdditionalItems.(*jsonschema.Schema)
	first, _ := s.Items.([]*jsonschema.Schema)
	first = append(first[:len(first):len(first)], s.PrefixItems...)
	for i, item := range v {
		if w.left--; w.left <= 0 {
			return
		}
		if i < len(first) {
			w.inside(first[i], item)
		} else {
			w.inside(more, item)
			w.inside(s.Items2020, item)
		}
		w.inside(items, item)
		w.inside(s.Contains, item)
		w.inside(s.UnevaluatedItems, item)
	}
}

// parts is how many values a value has in it. It stops counting at most.
func parts(v any, most int) int {
	n := 1
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if n += parts(item, most-n); n > most {
				break
			}
		}
	case map[string]any:
		for _, value := range v {
			if n += parts(value, most-n); n > most {
				break
			}
		}
	}
	return n
}

// number counts a number, which is calculated with in all its digits, so that 1e999999 has a million of them.
func (w *work) number(n json.Number) {
	digits, exponent, _ := strings.Cut(strings.ToLower(string(n)), "e")
	power, err := strconv.Atoi(exponent)
	if exponent != "" && err != nil {
		w.left = 0
		return
	}
	w.left -= (len(digits) + max(power, -power)) / 32
}

func (w *work) pattern(p jsonschema.Regexp, text string) {
	if p != nil {
		w.left -= len(text) * (w.of.patterns[p.String()] + 10) / 50
	}
}

// measure finds how long all patterns of a schema are once they are compiled: a{1000} is short and has a thousand instructions.
func (s *Schema) measure(at *jsonschema.Schema, seen map[*jsonschema.Schema]bool) {
	if at == nil || seen[at] {
		return
	}
	seen[at] = true
	pattern := func(p jsonschema.Regexp) {
		if p == nil {
			return
		}
		n := 1000 // of one that another engine reads
		if tree, err := syntax.Parse(p.String(), syntax.Perl); err == nil {
			if program, err := syntax.Compile(tree.Simplify()); err == nil {
				n = len(program.Inst)
			}
		}
		s.patterns[p.String()] = n
	}
	pattern(at.Pattern)
	for p, one := range at.PatternProperties {
		pattern(p)
		s.measure(one, seen)
	}
	for _, one := range []*jsonschema.Schema{at.Ref, at.RecursiveRef, at.Not, at.If, at.Then, at.Else, at.PropertyNames, at.UnevaluatedProperties, at.Contains, at.Items2020, at.UnevaluatedItems} {
		s.measure(one, seen)
	}
	if at.DynamicRef != nil {
		s.measure(at.DynamicRef.Ref, seen)
	}
	first, _ := at.Items.([]*jsonschema.Schema)
	for _, list := range [][]*jsonschema.Schema{at.AllOf, at.AnyOf, at.OneOf, at.PrefixItems, first} {
		for _, one := range list {
			s.measure(one, seen)
		}
	}
	for _, table := range []map[string]*jsonschema.Schema{at.Properties, at.DependentSchemas} {
		for _, one := range table {
			s.measure(one, seen)
		}
	}
	for _, any := range []any{at.AdditionalProperties, at.Items, at.AdditionalItems} {
		if one, is := any.(*jsonschema.Schema); is {
			s.measure(one, seen)
		}
	}
	for _, any := range at.Dependencies {
		if one, is := any.(*jsonschema.Schema); is {
			s.measure(one, seen)
		}
	}
}

// MaxWork is how much work it may take to hold a value against a schema. A part of a schema that is held against a part of a value is 1,
// and a byte that is held against a pattern of n instructions is (n+10)/50.
const MaxWork = 1_000_000

// tooMuch reports whether it would take too long to hold a value against the schema.
func (s *Schema) tooMuch(v any) bool {
	w := &work{of: s, left: MaxWork}
	w.visit(s.compiled, v)
	return w.left <= 0
}
