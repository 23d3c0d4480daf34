package pawl

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Doc says in a sentence what a workflow does, for lists that people choose from.
func Doc(text string) Option { return option(func(o *options) { o.doc = text }) }

// Internal marks a workflow that other code starts, as a machine does for its states. It can be
// started like any other; lists for people leave it out.
func Internal() Option { return option(func(o *options) { o.internal = true }) }

// WorkflowInfo is what an engine knows of a workflow that is registered with it.
type WorkflowInfo struct {
	Name     string
	Version  string // as [Version] said
	Doc      string // as [Doc] said
	Internal bool   // as [Internal] said
	// Fields are those of the input, where it is an object whose fields are known: those of its Go
	// type. nil: any JSON may be right, or the type decodes its JSON itself.
	Fields []Field
}

// Field is one of the fields of a workflow's input.
type Field struct {
	Name string `json:"name"` // in JSON
	// Kind is string, number, integer, boolean, array, object, time or any.
	Kind string `json:"kind" enum:"string,number,integer,boolean,array,object,time,any"`
	// Optional: the type says omitempty or omitzero. A field that is not there has its zero value either
	// way; whether the workflow does with that is the workflow's own affair.
	Optional bool `json:"optional,omitempty"`
	// Values are all that it may have, where a schema names them; nil: any of its kind.
	Values []json.RawMessage `json:"values,omitempty"`
}

// Shaped is implemented by an input that decodes its JSON itself, to say which type its JSON has.
type Shaped interface{ JSONType() reflect.Type }

// Workflow tells what is known of a workflow; ErrUnknown if it is not registered.
func (e *Engine) Workflow(name string) (WorkflowInfo, error) {
	d, err := e.definition(name)
	if err != nil {
		return WorkflowInfo{}, err
	}
	return WorkflowInfo{Name: d.name, Version: d.opts.version, Doc: d.opts.doc, Internal: d.opts.internal, Fields: fieldsOf(d.in)}, nil
}

// fieldsOf lists the fields of a type's JSON, in their order; nil if it is no object, or says nothing.
func fieldsOf(t reflect.Type) (fields []Field) {
	if t == nil { // it depends on the version
		return nil
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if s, ok := reflect.Zero(t).Interface().(Shaped); ok {
		if t = s.JSONType(); t.Kind() != reflect.Struct {
			return nil
		}
	}
	if t.Kind() != reflect.Struct || ownJSON(t) {
		return nil
	}
	for f := range t.Fields() {
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case name == "-" && opts == "":
		case f.Anonymous && name == "" && inner.Kind() == reflect.Struct && !ownJSON(inner):
			for _, more := range fieldsOf(inner) { // a field of the outer one hides it
				if !slices.ContainsFunc(fields, func(f Field) bool { return f.Name == more.Name }) {
					fields = append(fields, more)
				}
			}
		case f.IsExported():
			if name == "" {
				name = f.Name
			}
			one := Field{Name: name, Kind: kindOf(f.Type), Optional: strings.Contains(","+opts+",", ",omitempty,") || strings.Contains(","+opts+",", ",omitzero,")}
			if i := slices.IndexFunc(fields, func(f Field) bool { return f.Name == name }); i >= 0 {
				fields[i] = one
			} else {
				fields = append(fields, one)
			}
		}
	}
	return fields
}

// ownJSON reports whether a type decodes its JSON itself.
func ownJSON(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// kindOf is what a Go type is in JSON, in one word.
func kindOf(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	p := reflect.PointerTo(t)
	switch {
	case t == reflect.TypeFor[time.Time]():
		return "time"
	case p.Implements(reflect.TypeFor[json.Unmarshaler]()):
		return "any"
	case p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return "string"
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return "string" // base64
		}
		return "array"
	case reflect.Array:
		return "array"
	case reflect.Map, reflect.Struct:
		return "object"
	}
	if k := t.Kind(); k >= reflect.Int && k <= reflect.Uintptr {
		return "integer"
	}
	return "any"
}
