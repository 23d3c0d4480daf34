package agent

import "slices"

// mend returns v with what models get wrong in ways that leave no doubt about what they
// mean: null for an optional member that may be absent but not null, as a wish asks for, and
// one of some texts in another case or with other punctuation. It looks where properties,
// items and references to #/$defs lead, and changes nothing else; whether the outcome is
// right is the schema's to say.
func mend(root, s object, v any, depth int) any {
	if depth <= 0 {
		return v
	}
	if ref, ok := s.get("$ref").(string); ok {
		if to := defined(root, ref); to != nil {
			v = mend(root, to, v, depth-1)
		}
	}
	if only := alternative(s, v); only != nil {
		v = mend(root, only, v, depth-1)
	}
	switch v := v.(type) {
	case string:
		return mendText(s, v)
	case []any:
		if items, ok := s.get("items").(object); ok {
			out := make([]any, len(v))
			for i, e := range v {
				out[i] = mend(root, items, e, depth-1)
			}
			return out
		}
	case object:
		properties, _ := s.get("properties").(object)
		others, _ := s.get("additionalProperties").(object)
		required, _ := s.get("required").([]any)
		var out object
		for _, m := range v {
			p, known := properties.get(m.key).(object)
			if !known {
				p = others
			}
			if m.value == nil && known && !slices.Contains(required, any(m.key)) && !takesNull(root, p, depth) {
				continue
			}
			out = append(out, member{m.key, mend(root, p, m.value, depth-1)})
		}
		if out == nil {
			out = object{}
		}
		return out
	}
	return v
}

// mendText returns the one allowed text that v is under the fold, or v.
func mendText(s object, v string) string {
	allowed, _ := s.get("enum").([]any)
	found := ""
	for _, a := range allowed {
		text, ok := a.(string)
		if !ok || text != v && fold(text) != fold(v) {
			continue
		}
		if text == v || found != "" {
			return v
		}
		found = text
	}
	if found != "" {
		return found
	}
	return v
}

// takesNull reports whether a schema names null as a type of its own; a schema that names no
// type may take it too.
func takesNull(root, s object, depth int) bool {
	if ref, ok := s.get("$ref").(string); ok && depth > 0 {
		if to := defined(root, ref); to != nil {
			return takesNull(root, to, depth-1)
		}
	}
	if enum, ok := s.get("enum").([]any); ok {
		return slices.Contains(enum, nil)
	}
	if any, ok := s.get("anyOf").([]any); ok {
		for _, a := range any {
			if o, ok := a.(object); ok && takesNull(root, o, depth-1) {
				return true
			}
		}
		return false
	}
	t := kinds(s)
	return len(t) == 0 || slices.Contains(t, "null")
}

// alternative returns the one of a schema's alternatives that is of v's type, if there is
// exactly one.
func alternative(s object, v any) (only object) {
	list, _ := s.get("anyOf").([]any)
	for _, e := range list {
		o, _ := e.(object)
		if t := kinds(o); len(t) > 0 && !slices.Contains(t, kindOf(v)) {
			continue
		}
		if only != nil {
			return nil
		}
		only = o
	}
	return only
}
