package agent

import (
	"cmp"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// field is a struct's field as encoding/json sees it.
type field struct {
	reflect.StructField
	name     string
	optional bool
	depth    int // of embedding
	at       string
}

// fields returns the schema of a struct.
func (y *typer) fields(t reflect.Type, at string) (object, error) {
	all, err := y.collect(t, at, 0)
	if err != nil {
		return nil, err
	}
	properties, required := object{}, []any{}
	for i, f := range all {
		hidden := false
		for j, other := range all {
			switch {
			case i == j || other.name != f.name:
			case other.depth == f.depth:
				return nil, badShape(f.at, "two fields are called %q in JSON", f.name)
			case other.depth < f.depth:
				hidden = true
			}
		}
		if hidden {
			continue
		}
		s, err := y.schema(f.Type, f.at)
		if err != nil {
			return nil, err
		}
		if s, err = tagged(s, f); err != nil {
			return nil, err
		}
		properties = append(properties, member{f.name, s})
		if !f.optional {
			required = append(required, f.name)
		}
	}
	return object{{"type", "object"}, {"properties", properties}, {"required", required}, {"additionalProperties", false}}, nil
}

// collect lists the fields of t and of the structs embedded in it.
func (y *typer) collect(t reflect.Type, at string, depth int) (out []field, err error) {
	for i := range t.NumField() {
		f := field{StructField: t.Field(i), depth: depth}
		f.at = at + "." + f.Name
		tag := f.Tag.Get("json")
		if tag == "-" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		f.name = cmp.Or(name, f.Name)
		list := strings.Split(options, ",")
		f.optional = slices.Contains(list, "omitempty") || slices.Contains(list, "omitzero")
		if slices.Contains(list, "string") {
			return nil, badShape(f.at, "the json option string is not supported; make the field a string")
		}
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch known, err := said(inner, f.at); {
		case f.Anonymous && name == "" && inner.Kind() == reflect.Struct && known == nil && err == nil:
			if !f.IsExported() && f.Type.Kind() == reflect.Pointer {
				return nil, badShape(f.at, "encoding/json can't fill a pointer to an unexported embedded struct")
			}
			if slices.Contains(y.open[:len(y.open)-1], inner) || inner == t {
				return nil, badShape(f.at, "%s contains itself; give a schema with $defs to JSON", inner)
			}
			y.open = append(y.open, inner)
			more, err := y.collect(inner, f.at, depth+1)
			y.open = y.open[:len(y.open)-1]
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		case !f.IsExported():
			return nil, badShape(f.at, `an unexported field is never filled; export it, or leave it out with the tag json:"-"`)
		default:
			out = append(out, f)
		}
	}
	return out, nil
}

// tagged adds to a field's schema what its tags say.
func tagged(s object, f field) (object, error) {
	if text, ok := f.Tag.Lookup("enum"); ok {
		if to, ok := s.get("items").(object); ok {
			to, err := enumerated(to, text, f.at)
			if err != nil {
				return nil, err
			}
			s = s.set("items", to)
		} else {
			var err error
			if s, err = enumerated(s, text, f.at); err != nil {
				return nil, err
			}
		}
	}
	for _, keyword := range []string{"minimum", "maximum"} {
		text, ok := f.Tag.Lookup(keyword)
		if !ok {
			continue
		}
		if !finite(text) || !slices.Contains(kinds(s), "number") && !slices.Contains(kinds(s), "integer") {
			return nil, badShape(f.at, "the tag %s:%q: it must be a JSON number, and its field a number", keyword, text)
		}
		s = s.set(keyword, json.Number(text))
	}
	if text := f.Tag.Get("jsonschema"); text != "" {
		s = s.set("description", text)
	}
	return s, nil
}

// enumerated restricts a string or number to the values of a tag.
func enumerated(s object, tag, at string) (object, error) {
	texts := strings.Split(tag, ",")
	var allowed []any
	switch types := kinds(s); {
	case s.has("enum"):
		return nil, badShape(at, "it has the tag enum and a type with a method Enum")
	case slices.Contains(types, "string"):
		if _, err := OneOf(texts...); err != nil {
			return nil, badShape(at, "the tag enum: %s", err.(*ShapeError).Why)
		}
		for _, t := range texts {
			allowed = append(allowed, t)
		}
	case slices.Contains(types, "integer"), slices.Contains(types, "number"):
		for _, t := range texts {
			if !finite(t) {
				return nil, badShape(at, "the tag enum: %q is no number", t)
			}
			allowed = append(allowed, json.Number(t))
		}
	default:
		return nil, badShape(at, "the tag enum is for strings and numbers, and slices of them")
	}
	if slices.Contains(kinds(s), "null") {
		allowed = append(allowed, nil)
	}
	return s.set("enum", allowed), nil
}
