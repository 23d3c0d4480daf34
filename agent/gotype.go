package agent

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Enum is implemented by types of kind string that have few values. Their schema is an enum
// of them, and [ShapeOf] of one is [OneOf] them. It is called on the zero value.
type Enum interface{ Enum() []string }

// Described is implemented by types that say their JSON Schema themselves, as those must
// that decode their own JSON. It is called on the zero value.
type Described interface{ JSONSchema() json.RawMessage }

// ShapeOf returns the shape of a Go type: Text for a string, OneOf for an [Enum], Number,
// Boolean, and else JSON of [SchemaOf] the type.
func ShapeOf[T any]() (*Shape, error) {
	t := reflect.TypeFor[T]()
	tree, err := schemaOf(t)
	if err != nil {
		return nil, err
	}
	_, says := reflect.New(t).Interface().(Described)
	switch kind := kinds(tree); {
	case says || len(kind) != 1:
	case tree.has("enum"):
		var values []string
		for _, v := range tree.get("enum").([]any) {
			values = append(values, fmt.Sprint(v))
		}
		return OneOf(values...)
	case kind[0] == "string" && !tree.has("format"):
		return Text(), nil
	case kind[0] == "boolean":
		return Boolean(), nil
	case kind[0] == "integer" || kind[0] == "number":
		return Number(Range{Min: bound(tree, "minimum"), Max: bound(tree, "maximum"), Integer: kind[0] == "integer"})
	}
	s, err := JSON(encode(tree))
	if err != nil {
		return nil, err
	}
	s.name = schemaName(t)
	return s, nil
}

func bound(s object, keyword string) *float64 {
	n, ok := s.get(keyword).(json.Number)
	if !ok {
		return nil
	}
	f, _ := n.Float64()
	return &f
}

// schemaName is t's name, as far as providers take it.
func schemaName(t reflect.Type) string {
	for t.Name() == "" && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name, _, _ := strings.Cut(t.Name(), "[")
	name = strings.Map(func(r rune) rune {
		if r < 128 {
			return r
		}
		return '_'
	}, name)
	return name[:min(len(name), 64)]
}

// SchemaOf returns the JSON Schema of a Go type, as encoding/json writes and reads it: of an
// answer, or of a tool's parameters.
//
// A struct is a closed object, its properties in the order of the fields. A field with
// omitempty or omitzero is optional, every other is required; a pointer may be null. The tag
// `jsonschema:"…"` describes a field to the model, `enum:"a,b,c"` lists what a string or a
// number may be (of a slice: each element), `minimum:"1"` and `maximum:"5"` bound a number.
// Embedded structs are part of the one around them. A map with string keys is an object with
// members of any name; any and json.RawMessage are any JSON; time.Time is a date-time; a type
// with MarshalText and UnmarshalText is a string. See also [Enum] and [Described].
//
// Refused with a *ShapeError that has the path of the field: functions, channels, complex
// numbers, unsafe pointers, interfaces with methods, unexported fields (no answer would ever
// reach them; the tag `json:"-"` leaves one out), the json option string, []byte (models are
// bad at base64: use a string), time.Duration (is 5 a second? use a string, or a number
// named for its unit), and types that contain themselves, which not all providers take: give
// a schema with $defs to [JSON] for those.
func SchemaOf[T any]() (json.RawMessage, error) {
	tree, err := schemaOf(reflect.TypeFor[T]())
	if err != nil {
		return nil, err
	}
	data := encode(tree)
	if _, _, err := compileSchema(data); err != nil { // what a Described said, or a tag
		return nil, err
	}
	return data, nil
}

func schemaOf(t reflect.Type) (object, error) {
	name := t.String()
	if t.Name() != "" {
		name = t.Name()
	}
	return (&typer{}).schema(t, name)
}

type typer struct {
	open []reflect.Type // that the type is a part of
}

var (
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
	rawType      = reflect.TypeFor[json.RawMessage]()
	numberType   = reflect.TypeFor[json.Number]()
)

func (y *typer) schema(t reflect.Type, at string) (object, error) {
	if slices.Contains(y.open, t) {
		return nil, badShape(at, "%s contains itself; give a schema with $defs to JSON", t)
	}
	y.open = append(y.open, t)
	defer func() { y.open = y.open[:len(y.open)-1] }()

	if t.Kind() == reflect.Pointer {
		s, err := y.schema(t.Elem(), at)
		if err != nil {
			return nil, err
		}
		if len(kinds(s)) == 0 && !s.has("anyOf") { // anything, or what a Described says
			if len(s) == 0 {
				return s, nil
			}
			return object{{"anyOf", []any{s, object{{"type", "null"}}}}}, nil
		}
		return orNull(s), nil
	}
	if s, err := said(t, at); s != nil || err != nil {
		return s, err
	}
	switch t.Kind() {
	case reflect.Bool:
		return object{{"type", "boolean"}}, nil
	case reflect.String:
		return object{{"type", "string"}}, nil
	case reflect.Float32, reflect.Float64:
		return object{{"type", "number"}}, nil
	case reflect.Int, reflect.Int64, reflect.Int8, reflect.Int16, reflect.Int32:
		s := object{{"type", "integer"}}
		if bits := t.Bits(); bits < 64 { // larger ones don't fit into JSON numbers as many write them
			s = append(s, member{"minimum", integer(-1 << (bits - 1))}, member{"maximum", integer(1<<(bits-1) - 1)})
		}
		return s, nil
	case reflect.Uint, reflect.Uint64, reflect.Uintptr, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		s := object{{"type", "integer"}, {"minimum", integer(0)}}
		if bits := t.Bits(); bits < 64 {
			s = append(s, member{"maximum", integer(1<<bits - 1)})
		}
		return s, nil
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return nil, badShape(at, "an interface with methods (%s) can't be decoded into; use a struct, or any", t)
		}
		return object{}, nil
	case reflect.Slice, reflect.Array:
		return y.list(t, at)
	case reflect.Map:
		if t.Key().Kind() != reflect.String {
			return nil, badShape(at, "a map with keys of type %s; JSON has string keys", t.Key())
		}
		each, err := y.schema(t.Elem(), at+"[]")
		if err != nil {
			return nil, err
		}
		return object{{"type", "object"}, {"additionalProperties", each}}, nil
	case reflect.Struct:
		return y.fields(t, at)
	}
	return nil, badShape(at, "a %s has no JSON form", t.Kind())
}

// said returns the schema of a type that is known, or that says it.
func said(t reflect.Type, at string) (object, error) {
	zero := reflect.New(t)
	if d, ok := zero.Interface().(Described); ok {
		data := d.JSONSchema()
		tree, err := parseWhole(string(data), maxSchemaDepth)
		s, ok := tree.(object)
		if err != nil || !ok || s.has("$defs") || s.has("$ref") {
			return nil, badShape(at, "what JSONSchema of %s returns is no JSON Schema without references: %s", t, excerpt(string(data), 60))
		}
		return s, nil
	}
	if e, ok := zero.Interface().(Enum); ok {
		if t.Kind() != reflect.String {
			return nil, badShape(at, "%s has a method Enum and is no string", t)
		}
		if _, err := OneOf(e.Enum()...); err != nil {
			return nil, badShape(at, "%s", err.(*ShapeError).Why)
		}
		var allowed []any
		for _, v := range e.Enum() {
			allowed = append(allowed, v)
		}
		return object{{"type", "string"}, {"enum", allowed}}, nil
	}
	switch {
	case t == timeType:
		return object{{"type", "string"}, {"format", "date-time"}}, nil
	case t == rawType:
		return object{}, nil
	case t == numberType:
		return object{{"type", "number"}}, nil
	case t == durationType:
		return nil, badShape(at, "a time.Duration is a number of nanoseconds in JSON, which no model knows; use a string, or a number named for its unit")
	}
	_, ownJSON := zero.Interface().(json.Unmarshaler)
	_, ownText := zero.Interface().(encoding.TextUnmarshaler)
	switch {
	case ownJSON:
		return nil, badShape(at, "%s decodes its own JSON; give it a method JSONSchema() json.RawMessage", t)
	case ownText:
		return object{{"type", "string"}}, nil
	}
	return nil, nil
}

func (y *typer) list(t reflect.Type, at string) (object, error) {
	if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
		return nil, badShape(at, "a []byte is base64 in JSON, which models are bad at; use a string")
	}
	each, err := y.schema(t.Elem(), at+"[]")
	if err != nil {
		return nil, err
	}
	s := object{{"type", "array"}, {"items", each}}
	if t.Kind() == reflect.Array {
		s = append(s, member{"minItems", integer(int64(t.Len()))}, member{"maxItems", integer(int64(t.Len()))})
	}
	return s, nil
}

func integer(n int64) json.Number { return json.Number(strconv.FormatInt(n, 10)) }

// finite reports whether s is a number as a tag must have it.
func finite(s string) bool {
	f, err := strconv.ParseFloat(s, 64)
	return err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) && number.MatchString(s)
}
