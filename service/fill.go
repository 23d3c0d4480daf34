package service

import (
	"fmt"
	"regexp"
	"strings"
)

// pattern is a text of a description with places: {{params.name}}, {{secrets.name}}, {{env.NAME}}, and {{params}} for those
// that stand nowhere else.
type pattern struct {
	parts []part
}

// part is text as it stands, or a place.
type part struct {
	text       string
	root, name string // "" and "": text
}

var (
	placeForm = regexp.MustCompile(`\{\{(.*?)\}\}`)
	placeName = regexp.MustCompile(`^\s*(params|secrets|env)(?:\.([A-Za-z0-9_.$\[\]-]+))?\s*$`)
)

func readPattern(f *findings, at *node) pattern {
	var p pattern
	text, done := at.str(), 0
	for _, found := range placeForm.FindAllStringSubmatchIndex(text, -1) {
		p.parts = append(p.parts, part{text: text[done:found[0]]})
		done = found[1]
		inner := text[found[2]:found[3]]
		m := placeName.FindStringSubmatch(inner)
		if m == nil || m[2] == "" && m[1] != "params" {
			f.fault(at, "write {{params.name}}, {{secrets.name}} or {{env.NAME}}", "{{%.60s}} is no place", inner)
			continue
		}
		p.parts = append(p.parts, part{root: m[1], name: m[2]})
	}
	p.parts = append(p.parts, part{text: text[done:]})
	if strings.Contains(placeForm.ReplaceAllString(text, ""), "{{") {
		f.fault(at, "", "a place is opened by {{ and not closed")
	}
	return p
}

// uses calls f for each place.
func (p pattern) uses(f func(part)) {
	for _, part := range p.parts {
		if part.root != "" {
			f(part)
		}
	}
}

// whole is the place that a text consists of, if it is one place and nothing else.
func (p pattern) whole() (part, bool) {
	var one part
	places := 0
	for _, part := range p.parts {
		if part.root != "" {
			one = part
			places++
		} else if part.text != "" {
			return part, false
		}
	}
	return one, places == 1
}

// scope is what places stand for in one call.
type scope struct {
	params  map[string]any
	rest    map[string]any // params that stand nowhere else
	secrets map[string]string
	env     map[string]string
}

func (s *scope) find(p part) (value any, is bool) {
	switch {
	case p.root == "params" && p.name == "":
		return s.rest, true
	case p.root == "params":
		value, is = s.params[p.name]
	case p.root == "secrets":
		value, is = s.secrets[p.name]
	default:
		value, is = s.env[p.name]
	}
	return value, is
}

// text fills a text. A parameter that is not given is an error here.
func (p pattern) fill(s *scope) (string, error) {
	var b strings.Builder
	for _, part := range p.parts {
		if part.root == "" {
			b.WriteString(part.text)
			continue
		}
		value, is := s.find(part)
		if !is {
			return "", &Error{Code: Invalid, Message: fmt.Sprintf("the %s %q is needed, and not given", strings.TrimSuffix(part.root, "s"), part.name)}
		}
		text, err := scalar(part.name, value)
		if err != nil {
			return "", err
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

// scalar is a value as text.
func scalar(name string, value any) (string, error) {
	switch value.(type) {
	case map[string]any, []any, nil:
		return "", &Error{Code: Invalid, Message: fmt.Sprintf("the parameter %q must be a text, a number or a boolean where it is used", name)}
	}
	return fmt.Sprint(value), nil
}

// filler is a value of a description with places in its texts.
type filler struct {
	at      *node
	pattern pattern
	items   []filler
	fields  []string // names, of items
}

func readFiller(f *findings, at *node) filler {
	out := filler{at: at}
	switch {
	case at.is(textKind):
		out.pattern = readPattern(f, at)
	case at.is(listKind):
		for _, item := range at.items {
			out.items = append(out.items, readFiller(f, item))
		}
	case at.is(objectKind):
		for _, field := range at.fields {
			out.fields = append(out.fields, field.name)
			out.items = append(out.items, readFiller(f, field.value))
		}
	}
	return out
}

func (x filler) uses(f func(at *node, p part)) {
	x.pattern.uses(func(p part) { f(x.at, p) })
	for _, item := range x.items {
		item.uses(f)
	}
}

// fill gives the value. A text that is one place keeps the value's type, and is left out of lists and objects where the parameter
// is not given.
func (x filler) fill(s *scope) (value any, is bool, err error) {
	switch {
	case x.at.is(textKind):
		if place, whole := x.pattern.whole(); whole {
			value, is = s.find(place)
			return value, is, nil
		}
		value, err = x.pattern.fill(s)
		return value, true, err
	case x.at.is(listKind):
		list := []any{}
		for _, item := range x.items {
			value, is, err := item.fill(s)
			if err != nil {
				return nil, false, err
			}
			if is {
				list = append(list, value)
			}
		}
		return list, true, nil
	case x.at.is(objectKind):
		object := map[string]any{}
		for i, name := range x.fields {
			value, is, err := x.items[i].fill(s)
			if err != nil {
				return nil, false, err
			}
			if is {
				object[name] = value
			}
		}
		return object, true, nil
	}
	return x.at.value(), true, nil
}
