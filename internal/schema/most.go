package schema

import (
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Place leads from a value to one in it.
type Place struct {
	Name string // of a field
	Item bool   // an item of a list instead: the one with Index, or any if that is below 0
	// Index counts from 0.
	Index int
}

// maxParts bounds how many parts of a schema MostItems looks at.
const maxParts = 1000

// MostItems is how many items a list at a place has at most, in any value that fits the schema. false: it says nothing of that, or
// too much to be looked at.
func (s *Schema) MostItems(at []Place) (int, bool) {
	m := most{left: maxParts}
	n, is := m.of(s.compiled, at)
	return n, is && m.left > 0
}

// most looks for the bound of a list. All that a part of a schema says holds at the same time, so the lowest of its bounds counts;
// of alternatives the highest does. What is not looked at can only lower a bound.
type most struct{ left int }

func (m *most) of(s *jsonschema.Schema, at []Place) (least int, is bool) {
	if m.left--; s == nil || m.left <= 0 {
		return 0, false
	}
	lower := func(n int, known bool) {
		if known && (!is || n < least) {
			least, is = n, true
		}
	}
	if s.Bool != nil && !*s.Bool {
		lower(0, true)
	}
	lower(m.of(s.Ref, at))
	for _, all := range s.AllOf {
		lower(m.of(all, at))
	}
	lower(m.highest(s.AnyOf, at))
	lower(m.highest(s.OneOf, at))
	switch {
	case len(at) == 0:
		if s.MaxItems != nil {
			lower(*s.MaxItems, true)
		}
		if s.Enum != nil {
			lower(longest(s.Enum.Values), true)
		}
		if s.Const != nil {
			lower(longest([]any{*s.Const}), true)
		}
	case at[0].Item:
		lower(m.highest(items(s, at[0].Index), at[1:]))
	default:
		lower(m.field(s, at[0].Name, at[1:]))
	}
	return least, is
}

// highest is the bound of alternatives: none is known unless all have one.
func (m *most) highest(all []*jsonschema.Schema, at []Place) (high int, is bool) {
	for _, one := range all {
		n, known := m.of(one, at)
		if !known {
			return 0, false
		}
		high = max(high, n)
	}
	return high, len(all) > 0
}

// field is the bound within a field: by its name, or by what is said of all that are not named.
func (m *most) field(s *jsonschema.Schema, name string, at []Place) (int, bool) {
	if own, named := s.Properties[name]; named {
		return m.of(own, at)
	}
	switch others := s.AdditionalProperties.(type) {
	case bool:
		return 0, !others && len(s.PatternProperties) == 0 // there is none
	case *jsonschema.Schema:
		if len(s.PatternProperties) == 0 {
			return m.of(others, at)
		}
	}
	return 0, false
}

// items are the parts that say what an item of a list must be, or any of them. A nil says nothing.
func items(s *jsonschema.Schema, index int) []*jsonschema.Schema {
	first, rest := s.PrefixItems, s.Items2020
	switch old := s.Items.(type) { // before 2020-12
	case *jsonschema.Schema:
		rest = old
	case []*jsonschema.Schema:
		first = old
		rest, _ = s.AdditionalItems.(*jsonschema.Schema)
	}
	switch {
	case index < 0:
		return append(append([]*jsonschema.Schema{}, first...), rest)
	case index < len(first):
		return first[index : index+1]
	}
	return []*jsonschema.Schema{rest}
}

// longest is the length of the longest list of values.
func longest(values []any) (n int) {
	for _, v := range values {
		if list, is := v.([]any); is {
			n = max(n, len(list))
		}
	}
	return n
}
