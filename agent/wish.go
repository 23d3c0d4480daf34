package agent

import (
	"fmt"
	"slices"
	"strings"
)

// A wish is a schema as providers take it: the part of JSON Schema that OpenAI's strict mode
// and Anthropic's structured outputs have in common. Every object is closed and all its
// properties are required; an optional one may be null in place of absent. Bounds, lengths
// and patterns become words of the description. A wish allows at least what the schema
// allows of closed objects: the answer is validated by the schema itself.

// kept are the keywords of a wish that are copied as they are.
var kept = []string{"title", "description", "enum", "const"}

// formats are those that both kinds of provider know.
var formats = []string{"date-time", "date", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}

// told are the keywords that a description tells of.
var told = []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
	"minItems", "maxItems", "uniqueItems", "format"}

// untold are keywords that a wish leaves out: they only narrow what is allowed, or say
// nothing about it.
var untold = []string{"$schema", "$id", "$comment", "$defs", "default", "examples", "deprecated", "readOnly", "writeOnly", "not", "if", "then", "else",
	"dependentRequired", "propertyNames", "contains", "minContains", "maxContains", "minProperties", "maxProperties",
	"contentEncoding", "contentMediaType"}

// wishOf returns the wish for a schema, wrapped into an object if the schema is not of one;
// or what no wish can say.
func wishOf(root object) (wish object, wrapped bool, err error) {
	w := &wisher{root: root}
	wish, err = w.schema(root, "")
	if err != nil {
		return nil, false, err
	}
	if !slices.Equal(kinds(wish), []string{"object"}) || wish.has("anyOf") || wish.has("enum") || wish.has("$ref") {
		wish, wrapped = wrap(wish), true
	}
	defs, _ := root.get("$defs").(object)
	var out object
	for i := 0; i < len(w.used); i++ { // those used by a definition are used too
		d, _ := defs.get(w.used[i]).(object)
		wished, err := w.schema(d, "/$defs/"+w.used[i])
		if err != nil {
			return nil, false, err
		}
		out = append(out, member{w.used[i], wished})
	}
	if out != nil {
		wish = wish.set("$defs", out)
	}
	return wish, wrapped, nil
}

// wrap makes an object with the one property "value".
func wrap(value object) object {
	return object{
		{"type", "object"},
		{"properties", object{{wrapper, value}}},
		{"required", []any{wrapper}},
		{"additionalProperties", false},
	}
}

const wrapper = "value"

type wisher struct {
	root object
	used []string // definitions
}

func (w *wisher) schema(v any, at string) (object, error) {
	s, ok := v.(object)
	if !ok {
		return nil, fmt.Errorf("at %s/: a schema that is no object", at)
	}
	out := object{}
	for _, m := range s {
		switch {
		case m.key == "type" || slices.Contains(kept, m.key):
			out = append(out, m)
		case m.key == "format" && slices.Contains(formats, fmt.Sprint(m.value)):
			out = append(out, m)
		case slices.Contains(told, m.key), slices.Contains(untold, m.key):
		case m.key == "$ref":
			if defined(w.root, fmt.Sprint(m.value)) == nil {
				return nil, fmt.Errorf("at %s: a reference that is not to #/$defs", at)
			}
			if name := strings.TrimPrefix(fmt.Sprint(m.value), "#/$defs/"); !slices.Contains(w.used, name) {
				w.used = append(w.used, name)
			}
			out = append(out, m)
		case m.key == "anyOf", m.key == "oneOf":
			list, _ := m.value.([]any)
			var each []any
			for i, e := range list {
				one, err := w.schema(e, fmt.Sprintf("%s/%s/%d", at, m.key, i))
				if err != nil {
					return nil, err
				}
				each = append(each, one)
			}
			if out.has("anyOf") {
				return nil, fmt.Errorf("at %s: anyOf and oneOf in one schema", at)
			}
			out = append(out, member{"anyOf", each})
		case m.key == "items":
			items, err := w.schema(m.value, at+"/items")
			if err != nil {
				return nil, err
			}
			out = append(out, member{"items", items})
		case m.key == "properties", m.key == "required", m.key == "additionalProperties" && m.value == false: // see object
		default:
			return nil, fmt.Errorf("at %s: %q", at, m.key)
		}
	}
	if out.has("$ref") { // which strict mode wants alone
		return object{{"$ref", out.get("$ref")}}, nil
	}
	types := kinds(out)
	if len(types) == 0 {
		if types = valueKinds(out); len(types) == 1 {
			out = append(object{{"type", types[0]}}, out...)
		}
	}
	if slices.Contains(types, "object") {
		if err := w.object(s, &out, at); err != nil {
			return nil, err
		}
	} else if s.has("properties") || s.has("required") {
		return nil, fmt.Errorf("at %s: properties without the type object", at)
	} else if slices.Contains(types, "array") && !out.has("items") {
		return nil, fmt.Errorf("at %s: an array of anything", at)
	} else if len(types) == 0 && !out.has("anyOf") {
		return nil, fmt.Errorf("at %s: a value of any type", at)
	}
	return describe(s, out), nil
}

// valueKinds returns the types of the values that a schema lists.
func valueKinds(s object) (types []string) {
	list, _ := s.get("enum").([]any)
	if s.has("const") {
		list = []any{s.get("const")}
	}
	for _, v := range list {
		if k := kindOf(v); !slices.Contains(types, k) {
			types = append(types, k)
		}
	}
	return types
}

// object closes an object.
func (w *wisher) object(s object, out *object, at string) error {
	properties, _ := s.get("properties").(object)
	if len(properties) == 0 && s.get("additionalProperties") != false {
		return fmt.Errorf("at %s: an object with members of any name", at)
	}
	required, _ := s.get("required").([]any)
	wished, names := object{}, []any{}
	for _, p := range properties {
		one, err := w.schema(p.value, at+"/properties/"+p.key)
		if err != nil {
			return err
		}
		if !slices.Contains(required, any(p.key)) {
			one = orNull(one)
		}
		wished, names = append(wished, member{p.key, one}), append(names, p.key)
	}
	for _, r := range required {
		if !wished.has(fmt.Sprint(r)) {
			return fmt.Errorf("at %s: %q is required and has no schema", at, r)
		}
	}
	*out = append(*out, member{"properties", wished}, member{"required", names}, member{"additionalProperties", false})
	return nil
}

// orNull lets a property be null.
func orNull(s object) object {
	if slices.Contains(kinds(s), "null") {
		return s
	}
	if t, ok := s.get("type").(string); ok && t != "object" && t != "array" && !s.has("enum") && !s.has("const") && !s.has("anyOf") {
		return s.set("type", []any{t, "null"})
	}
	return object{{"anyOf", []any{s, object{{"type", "null"}}}}}
}

// kinds returns the types that a schema names.
func kinds(s object) []string {
	switch t := s.get("type").(type) {
	case string:
		return []string{t}
	case []any:
		var names []string
		for _, e := range t {
			names = append(names, fmt.Sprint(e))
		}
		return names
	}
	return nil
}

// describe adds to a description what the keywords say that a wish has no place for.
func describe(s, out object) object {
	var words []string
	for _, m := range s {
		value := string(encode(m.value))
		if slices.Contains(told, m.key) && !out.has(m.key) && len(value) < 200 {
			words = append(words, m.key+" "+strings.Trim(value, `"`))
		}
	}
	if len(words) == 0 {
		return out
	}
	text, _ := s.get("description").(string)
	return out.set("description", strings.TrimSpace(text+" ("+strings.Join(words, ", ")+")"))
}
