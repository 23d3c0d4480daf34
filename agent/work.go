package agent

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Where alternatives of a schema lead to themselves, each level of an answer may double the
// time that it takes to validate it. So the work is counted before it is done: visits of a
// part of the schema to a part of the answer.
const (
	maxVisits        = 200_000 // plus
	maxVisitsPerPart = 8       // of the answer
)

// tooMuch reports whether it would take too long to validate v.
func tooMuch(root object, v any) bool {
	w := &visits{root: root, left: maxVisits + maxVisitsPerPart*parts(v)}
	w.visit(root, v, 0)
	return w.left <= 0
}

func parts(v any) int {
	n := 1
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			n += parts(e)
		}
	case object:
		for _, m := range v {
			n += parts(m.value)
		}
	}
	return n
}

type visits struct {
	root object
	left int
}

func (w *visits) visit(schema, v any, depth int) {
	if w.left--; w.left <= 0 {
		return
	}
	s, ok := schema.(object)
	if !ok {
		return
	}
	if depth > 1000 { // references in a circle, on one spot
		w.left = 0
		return
	}
	for _, k := range s {
		switch k.key {
		case "$ref":
			ref, _ := k.value.(string)
			w.visit(resolve(w.root, ref), v, depth+1)
		case "not", "if", "then", "else":
			w.visit(k.value, v, depth+1)
		case "allOf", "anyOf", "oneOf":
			list, _ := k.value.([]any)
			for _, e := range list {
				w.visit(e, v, depth+1)
			}
		case "dependentSchemas", "dependencies":
			o, _ := k.value.(object)
			for _, e := range o {
				w.visit(e.value, v, depth+1)
			}
		default:
			w.inside(k, v, depth)
		}
	}
}

// inside visits the parts of v with the schemas of keyword k.
func (w *visits) inside(k member, v any, depth int) {
	switch v := v.(type) {
	case object:
		o, _ := k.value.(object)
		for _, m := range v {
			switch k.key {
			case "properties":
				if p := o.get(m.key); p != nil {
					w.visit(p, m.value, depth+1)
				}
			case "patternProperties":
				for _, p := range o {
					w.visit(p.value, m.value, depth+1)
				}
			case "additionalProperties", "unevaluatedProperties", "propertyNames":
				w.visit(o, m.value, depth+1)
			}
		}
	case []any:
		list, _ := k.value.([]any)
		for i, e := range v {
			switch k.key {
			case "items", "additionalItems", "unevaluatedItems", "contains", "prefixItems":
				if list == nil {
					w.visit(k.value, e, depth+1)
				} else if i < len(list) {
					w.visit(list[i], e, depth+1)
				}
			}
		}
	}
}

// resolve returns what a reference of the form #/path leads to, or nil.
func resolve(root object, ref string) any {
	path, ok := strings.CutPrefix(ref, "#")
	if path, err := url.PathUnescape(path); ok && err == nil {
		var at any = root
		for i, step := range strings.Split(path, "/") {
			step = unescapePointer.Replace(step)
			switch v := at.(type) {
			case object:
				at = v.get(step)
			case []any:
				if n, err := strconv.Atoi(step); err == nil && n >= 0 && n < len(v) {
					at = v[n]
				} else {
					return nil
				}
			default:
				return nil
			}
			if i == 0 {
				if step != "" { // an anchor
					return nil
				}
				at = root
			}
		}
		return at
	}
	return nil
}

// outlandish finds references that are not of the form #/path, and what would change their
// meaning.
func outlandish(root object, v any, at string) (place, why string) {
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			if place, why = outlandish(root, e, fmt.Sprintf("%s/%d", at, i)); why != "" {
				return place, why
			}
		}
	case object:
		for _, m := range v {
			here := at + pointer([]string{m.key})
			text, isText := m.value.(string)
			switch {
			case isText && m.key == "$ref" && resolve(root, text) == nil,
				isText && slices.Contains([]string{"$dynamicRef", "$recursiveRef"}, m.key):
				return here, fmt.Sprintf("the reference %s is not of the form #/path", excerpt(text, 100))
			case isText && m.key == "$id" && at != "":
				return here, "a schema within the schema has an $id; give it a place in $defs instead"
			case slices.Contains([]string{"enum", "const", "default", "examples"}, m.key):
				continue
			}
			if place, why = outlandish(root, m.value, here); why != "" {
				return place, why
			}
		}
	}
	return "", ""
}
