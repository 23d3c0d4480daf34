package flow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/service"
)

// params are the parameters of a service's action, as a document gives them.
type params struct {
	of      string // service.action, for people
	fields  map[string]value
	schema  *schema  // of all of them; nil: it is not known
	trusted []placed // templates that name places or people
	secrets []*node  // names of secrets
	beside  bool     // they stand beside the fields of a step
}

// placed is a template and its parameter, in whose schema it stands.
type placed struct {
	param string // the name at the top
	at    *node
	*template
}

// readParams reads parameters from the fields of an object, and holds them against the action's schema as far as they are known
// before a run. beside says that they stand beside the fields of a step.
func readParams(f *findings, of string, action service.Action, at *node, beside bool) *params {
	p := &params{of: of, fields: map[string]value{}, beside: beside}
	for _, field := range at.fieldsOf() {
		p.fields[field.name] = readValue(f, field.value)
	}
	if action.Name == "" {
		return p // it is not known, which is said
	}
	known := f.schema(action.Params)
	if known.err != nil {
		f.fault(at, "", "the schema of %s can't be used: %v", of, known.err)
		return p
	}
	p.schema = &known.schema
	k := &paramCheck{f: f, p: p, of: known, root: known.root}
	k.note(at, known.root)
	k.object(at, p.fields, known.root)
	return p
}

// paramSchema is the schema of an action's parameters, read once for all steps of a document that call it.
type paramSchema struct {
	schema
	root map[string]any
	err  error
	made map[uintptr]partSchema // by the part's object in root
}

// partSchema is a part of a schema, compiled.
type partSchema struct {
	schema
	err error
}

// schema reads the schema of an action.
func (f *findings) schema(data json.RawMessage) *paramSchema {
	if f.schemas == nil {
		f.schemas = map[string]*paramSchema{}
	}
	s := f.schemas[string(data)]
	if s != nil {
		return s
	}
	s = &paramSchema{made: map[uintptr]partSchema{}}
	f.schemas[string(data)] = s
	if s.schema, s.err = compile(data); s.err != nil {
		return s
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	s.err = d.Decode(&s.root)
	return s
}

// fits holds a value against a part of the schema, which may refer to the whole.
func (s *paramSchema) fits(part map[string]any, v any) error {
	at := reflect.ValueOf(part).Pointer()
	made, is := s.made[at]
	if !is {
		made = compilePart(s.root, part)
		s.made[at] = made
	}
	if made.err != nil {
		return made.err
	}
	return made.fits(v)
}

// paramCheck walks through parameters and their schema at the same time.
type paramCheck struct {
	f    *findings
	p    *params
	of   *paramSchema
	root map[string]any // the whole schema
	top  string         // the parameter that is being looked at
	deep int
}

// maxSchemaDepth bounds how deep a schema is followed.
const maxSchemaDepth = 64

// note tells what a part of the schema says that could not be checked here.
func (k *paramCheck) note(at *node, schema map[string]any) {
	if text, is := schema[service.Note].(string); is {
		k.f.note(at, text)
	}
}

func (k *paramCheck) object(at *node, fields map[string]value, schema map[string]any) {
	properties, _ := schema["properties"].(map[string]any)
	if at.get("$ref") == nil {
		for _, name := range texts(schema["required"]) {
			if at.get(name) == nil {
				hint := ""
				if k.deep == 0 && k.p.beside && slices.Contains(ofCall, name) {
					hint = fmt.Sprintf(`a step has a field of that name, so give it as "params": {%q: …}`, name)
				}
				k.f.fault(at, hint, "%s needs the parameter %q", k.where(), name)
			}
		}
	}
	for _, field := range at.fieldsOf() {
		if k.deep == 0 {
			k.top = field.name
		}
		below, known := properties[field.name]
		if !known {
			if schema["additionalProperties"] == false {
				hint := k.f.did(field.name, sortedNames(properties))
				if hint == "" {
					hint = "it takes " + strings.Join(sortedNames(properties), ", ")
				}
				k.f.fault(field.at, hint, "%s has no parameter %q", k.where(), field.name)
				continue
			}
			below = schema["additionalProperties"]
		}
		v := fields[field.name]
		k.value(&v, below)
		fields[field.name] = v
	}
}

func (k *paramCheck) where() string {
	if k.deep == 0 {
		return k.p.of
	}
	return "the parameter " + k.top + " of " + k.p.of
}

// value looks at one value, and marks it with what its schema's leaf says of templates.
func (k *paramCheck) value(v *value, schema any) {
	leaf := k.resolve(schema)
	if leaf == nil || k.deep > maxSchemaDepth {
		return
	}
	k.deep++
	defer func() { k.deep-- }()
	k.note(v.at, leaf)
	fill, _ := leaf["x-pawl-fill"].(string)
	v.as = service.Fill(fill)
	holds := false
	named := trusted(k, leaf, v.template != nil)
	v.each(func(at *node, t *template) {
		holds = true
		if named {
			k.p.trusted = append(k.p.trusted, placed{k.top, at, t})
		}
	})
	if !holds {
		if leaf[service.Secret] == true && v.at.is(textKind) {
			k.p.secrets = append(k.p.secrets, v.at)
		}
		if err := k.of.fits(leaf, v.at.value()); err != nil {
			k.f.fault(v.at, "", "%v", err)
		}
		return
	}
	kinds := texts(leaf["type"])
	must := map[kind]string{listKind: "array", objectKind: "object"}[v.at.kind]
	switch {
	case v.as == service.FillNone:
		k.f.fault(v.at, "bind values instead, as values: [\"{{…}}\"] with $1 in the text", "%s takes no templates", k.top)
	case v.template != nil:
		if begins := strings.TrimLeft(v.template.parts[0].text, " \t\r\n"); len(kinds) == 0 && (strings.HasPrefix(begins, "{") || strings.HasPrefix(begins, "[")) {
			k.f.warn(v.at, "write the object itself: it is filled in leaf by leaf", "%s is JSON written as a text: what is filled in may break it", k.top)
		}
		if path := v.template.chooses(); v.as == service.FillURL && path != nil {
			k.f.fault(v.at, "write the host out, or let the text be one place alone", "{{%s}} stands where the scheme and the host of an address belong", path)
		}
		if !v.template.whole() && len(kinds) > 0 && !slices.Contains(kinds, "string") {
			k.f.fault(v.at, "let the text be one place alone: its value keeps its type", "%s is no text, but %s", k.top, strings.Join(kinds, " or "))
		}
	case must != "" && len(kinds) > 0 && !slices.Contains(kinds, must):
		k.f.fault(v.at, "", "%s is %s and must be %s", k.top, v.at.kind, strings.Join(kinds, " or "))
	case v.fields != nil:
		k.object(v.at, v.fields, leaf)
	default:
		for i := range v.items {
			k.value(&v.items[i], leaf["items"])
		}
	}
}

// resolve follows references within the schema. nil: nothing is said there.
func (k *paramCheck) resolve(schema any) map[string]any {
	for range maxSchemaDepth {
		m, _ := schema.(map[string]any)
		ref, is := m["$ref"].(string)
		if !is {
			return m
		}
		schema = k.root
		for name := range strings.SplitSeq(strings.TrimPrefix(strings.TrimPrefix(ref, "#"), "/"), "/") {
			name = strings.NewReplacer("~1", "/", "~0", "~").Replace(name)
			if list, is := schema.([]any); is {
				i, err := strconv.Atoi(name)
				if err != nil || i < 0 || i >= len(list) {
					return nil
				}
				schema = list[i]
				continue
			}
			m, _ := schema.(map[string]any)
			schema = m[name]
		}
	}
	return nil
}

// compilePart compiles a part of a schema with the definitions of the whole.
func compilePart(root, part map[string]any) (made partSchema) {
	whole := make(map[string]any, len(part)+2)
	for name, is := range part {
		whole[name] = is
	}
	for _, defs := range []string{"$defs", "definitions"} {
		if is, has := root[defs]; has && whole[defs] == nil {
			whole[defs] = is
		}
	}
	data, err := json.Marshal(whole)
	if err != nil {
		return partSchema{err: err}
	}
	made.schema, made.err = compile(data)
	return made
}

// texts are the texts of a list, or the one text.
func texts(v any) (out []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, one := range v {
			if text, is := one.(string); is {
				out = append(out, text)
			}
		}
	}
	return out
}

// values are the parameters, filled in.
func (p *params) values(root map[string]any) (map[string]any, error) {
	all, in := make(map[string]any, len(p.fields)), newFilling(root)
	for name, v := range p.fields {
		var err error
		if all[name], err = v.fill(in); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// fill makes the parameters, and holds them against the schema once more: what was filled in was not known before.
func (p *params) fill(root map[string]any) (json.RawMessage, error) {
	all, err := p.values(root)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(all)
	if err != nil {
		return nil, pawl.Fatal(err)
	}
	if p.schema == nil {
		return data, nil
	}
	return data, p.schema.check("the parameters of "+p.of, data)
}

func (p *params) reads(f func(at *node, u use)) {
	for _, name := range sortedNames(p.fields) {
		p.fields[name].reads(f)
	}
}
