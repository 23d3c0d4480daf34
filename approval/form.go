package approval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl/internal/schema"
)

// compile makes a schema of an object out of JSON. Everything that it refers to must be in it.
func compile(data json.RawMessage) (*schema.Schema, error) {
	var root struct {
		Type any `json:"type"`
	}
	if err := json.Unmarshal(data, &root); err != nil || root.Type != "object" {
		return nil, errors.New(`is not one of a form, which is an object: it needs "type": "object"`)
	}
	return schema.Compile(data)
}

// CheckForm holds a form against its schema and returns it as it is kept. A *FormError says
// what is wrong with it, all at once.
func CheckForm(of, form json.RawMessage) (json.RawMessage, error) {
	if len(form) > MaxShown {
		return nil, &FormError{[]Fault{{Why: fmt.Sprintf("it is %d bytes, the limit is %d", len(form), MaxShown)}}}
	}
	s, err := compile(of)
	if err != nil {
		return nil, fmt.Errorf("the form's schema: %w", err)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, form); err != nil {
		return nil, &FormError{[]Fault{{Why: "it is no JSON"}}}
	}
	err = s.CheckJSON(form)
	var faults schema.Faults
	if errors.As(err, &faults) {
		e := &FormError{}
		for _, f := range faults {
			e.Faults = append(e.Faults, Fault{Field: strings.Join(f.Path, "/"), Why: f.Why})
		}
		return nil, e
	}
	return out.Bytes(), err
}

// Field is how a property of a form is asked for. What no field of its own fits is asked for
// as JSON.
type Field struct {
	Name     string
	Title    string
	Help     string
	Kind     FieldKind
	Options  []Option // of Select and Several
	Required bool
	Default  string
	Min, Max string // of numbers
	MaxLen   int    // of texts, in characters; 0: no limit
}

// Option is one of the values of a field.
type Option struct{ Value, Label string }

// FieldKind says how a field is asked for.
type FieldKind string

// The kinds of fields.
const (
	Line    FieldKind = "text"
	Long    FieldKind = "textarea"
	Date    FieldKind = "date"
	Email   FieldKind = "email"
	Address FieldKind = "url"
	Number  FieldKind = "number"
	Integer FieldKind = "integer"
	YesNo   FieldKind = "checkbox"
	Select  FieldKind = "select"
	Several FieldKind = "several"
	AsJSON  FieldKind = "json"
)

// property is what a field is made of.
type property struct {
	Type        any               `json:"type"`
	Title       string            `json:"title"`
	Description string            `json:"description"`
	Enum        []json.RawMessage `json:"enum"`
	Const       json.RawMessage   `json:"const"`
	Format      string            `json:"format"`
	Default     json.RawMessage   `json:"default"`
	Minimum     json.Number       `json:"minimum"`
	Maximum     json.Number       `json:"maximum"`
	MaxLength   int               `json:"maxLength"`
	Items       *property         `json:"items"`
}

// Fields are those of a schema, in its order.
func Fields(schema json.RawMessage) ([]Field, error) {
	var s struct {
		Properties json.RawMessage `json:"properties"`
		Required   []string        `json:"required"`
	}
	if len(schema) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(schema, &s); err != nil {
		return nil, err
	}
	if len(s.Properties) == 0 {
		return nil, nil
	}
	var out []Field
	d := json.NewDecoder(bytes.NewReader(s.Properties))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("the properties of the schema are no object")
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, err
		}
		key, _ := name.(string)
		f := fieldOf(raw)
		f.Name, f.Required = key, slices.Contains(s.Required, key)
		if f.Title == "" {
			f.Title = key
		}
		out = append(out, f)
	}
	return out, nil
}

func fieldOf(raw json.RawMessage) Field {
	var p property
	if json.Unmarshal(raw, &p) != nil { // true, false, or keywords of another form
		return Field{Kind: AsJSON}
	}
	f := Field{Kind: AsJSON, Title: p.Title, Help: p.Description, Default: plain(p.Default), MaxLen: p.MaxLength}
	switch {
	case len(p.Enum) > 0:
		f.Kind, f.Options = Select, optionsOf(p.Enum)
	case p.Type == "string":
		switch p.Format {
		case "date":
			f.Kind = Date
		case "email":
			f.Kind = Email
		case "uri":
			f.Kind = Address
		default:
			f.Kind = Line
			if p.MaxLength > 200 {
				f.Kind = Long
			}
		}
	case p.Type == "integer", p.Type == "number":
		f.Kind, f.Min, f.Max = Number, p.Minimum.String(), p.Maximum.String()
		if p.Type == "integer" {
			f.Kind = Integer
		}
	case p.Type == "boolean":
		f.Kind = YesNo
	case p.Type == "array" && p.Items != nil && len(p.Items.Enum) > 0:
		f.Kind, f.Options, f.Default = Several, optionsOf(p.Items.Enum), ""
	default:
		f.Default = string(p.Default)
	}
	return f
}

// plain is a value as people write it.
func plain(v json.RawMessage) string {
	var text string
	if json.Unmarshal(v, &text) == nil {
		return text
	}
	return string(v)
}

func optionsOf(values []json.RawMessage) []Option {
	var out []Option
	for _, v := range values {
		out = append(out, Option{Value: string(v), Label: plain(v)})
	}
	return out
}

// FormOf makes a form of what was filled into its fields; values are by their names. What
// does not fit its field is left as text, for CheckForm to complain about.
func FormOf(fields []Field, values url.Values) (json.RawMessage, error) {
	form := map[string]json.RawMessage{}
	for _, f := range fields {
		given := values[f.Name]
		text := ""
		if len(given) > 0 {
			text = strings.TrimSpace(strings.ReplaceAll(given[0], "\r\n", "\n"))
		}
		switch f.Kind {
		case YesNo:
			form[f.Name] = json.RawMessage(strconv.FormatBool(text != ""))
			continue
		case Several:
			all := []json.RawMessage{}
			for _, v := range given {
				if !slices.ContainsFunc(f.Options, func(o Option) bool { return o.Value == v }) {
					v = quote(v)
				}
				all = append(all, json.RawMessage(v))
			}
			if data, err := json.Marshal(all); err == nil && (f.Required || len(all) > 0) {
				form[f.Name] = data
			}
			continue
		}
		if text == "" {
			continue // left out: CheckForm tells if it must not be
		}
		isJSON := f.Kind == AsJSON || f.Kind == Number || f.Kind == Integer ||
			f.Kind == Select && slices.ContainsFunc(f.Options, func(o Option) bool { return o.Value == text })
		if isJSON && json.Valid([]byte(text)) {
			form[f.Name] = json.RawMessage(text)
		} else {
			form[f.Name] = json.RawMessage(quote(text))
		}
	}
	return json.Marshal(form)
}

func quote(text string) string {
	data, err := json.Marshal(text)
	if err != nil { // text has a form always
		panic(err)
	}
	return string(data)
}
