package flow

import (
	"html"
	"maps"
	"slices"
	"strings"

	"github.com/pawlrun/pawl/service"
)

// value is a value of a document in which texts may be templates. It is filled in leaf by leaf: data can't change its form.
type value struct {
	at       *node
	constant any // if it holds no template
	template *template
	items    []value
	fields   map[string]value
	as       service.Fill // what a parameter's schema says of templates
}

// readValue reads a value; the faults of its templates are told.
func readValue(f *findings, at *node) value {
	v := value{at: at}
	switch {
	case at.is(textKind):
		v.constant = at.text
		v.template = readText(f, at)
	case at.is(listKind):
		v.items = make([]value, len(at.items))
		for i, item := range at.items {
			v.items[i] = readValue(f, item)
		}
	case at.is(objectKind):
		v.fields = make(map[string]value, len(at.fields))
		for _, field := range at.fields {
			if strings.Contains(field.name, "{{") {
				f.fault(field.at, "make the object of a transform: {variables.name: 1}", "the name of a field holds no places, and %.60q has one", field.name)
			}
			v.fields[field.name] = readValue(f, field.value)
		}
	default:
		v.constant = at.value()
	}
	return v
}

// readText reads a text as a template; nil if it has no places.
func readText(f *findings, at *node) *template {
	t, faults := parseTemplate(at.str())
	for _, fault := range faults {
		f.fault(at, "", "%v", fault)
	}
	return t
}

// fill is the value with its templates filled in.
func (v value) fill(in *filling) (any, error) {
	switch {
	case v.template != nil && v.as == service.FillURL && !v.template.whole():
		return v.template.text(in, intoURL)
	case v.template != nil && v.as == service.FillHTML:
		return v.template.text(in, intoHTML)
	case v.template != nil:
		return v.template.fill(in)
	case v.at.is(listKind):
		list := make([]any, len(v.items))
		for i := range v.items {
			var err error
			if list[i], err = v.items[i].fill(in); err != nil {
				return nil, err
			}
		}
		return list, nil
	case v.fields != nil:
		object := make(map[string]any, len(v.fields))
		for name, field := range v.fields {
			var err error
			if object[name], err = field.fill(in); err != nil {
				return nil, err
			}
		}
		return object, nil
	}
	return v.constant, nil
}

// each calls f with every template of the value and where it stands.
func (v value) each(f func(at *node, t *template)) {
	if v.template != nil {
		f(v.at, v.template)
	}
	for i := range v.items {
		v.items[i].each(f)
	}
	for _, field := range v.at.fieldsOf() {
		v.fields[field.name].each(f)
	}
}

// fieldsOf are the fields of an object; of another value none.
func (n *node) fieldsOf() []field {
	if !n.is(objectKind) {
		return nil
	}
	return n.fields
}

// reads calls f with each path that the value's templates read.
func (v value) reads(f func(at *node, u use)) {
	v.each(func(at *node, t *template) {
		for _, u := range t.paths() {
			f(at, u)
		}
	})
}

// intoHTML escapes what is put into HTML.
func intoHTML(_ string, _ part, v any) (string, error) { return html.EscapeString(textOf(v)), nil }

// sortedNames are the names of a map, sorted.
func sortedNames[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }
