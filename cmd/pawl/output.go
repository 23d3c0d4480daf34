package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/itchyny/gojq"
	"go.yaml.in/yaml/v3"
)

// formats are what -o takes.
var formats = []string{"table", "wide", "json", "jsonl", "yaml", "name"}

// view is what a command has to show.
type view struct {
	body  []byte // JSON: what programs get; of the server's answers, byte for byte what it said
	of    any    // a value of the Go type of the whole, or of an item of a list, for the names of its fields
	list  bool   // body is an object whose items are what is shown
	name  string // the field that -o name prints; "" means id
	table func() // prints it for people
}

// people reports whether the output is for people to read.
func (a *app) people() bool { return a.output == "table" || a.output == "wide" }

// show prints v in the form that was asked for.
func (a *app) show(v view) error {
	if a.people() {
		v.table()
		return nil
	}
	return a.data(v)
}

// data prints v for programs.
func (a *app) data(v view) error {
	if a.output == "json" && a.fields == nil && a.query == nil {
		a.out.json(v.body)
		return nil
	}
	items := []json.RawMessage{v.body}
	if v.list {
		var page struct{ Items []json.RawMessage }
		if err := json.Unmarshal(v.body, &page); err != nil {
			return fmt.Errorf("the answer has no items: %w", err)
		}
		items = page.Items
	}
	if a.output == "name" {
		return a.nameAll(items, v.name)
	}
	whole := v.body
	if a.fields != nil {
		for i, item := range items {
			var err error
			if items[i], err = a.pick(item, v.of); err != nil {
				return err
			}
		}
		whole = slices.Concat([]byte("["), bytes.Join(rawBytes(items), []byte(",")), []byte("]"))
		if !v.list {
			whole = items[0]
		}
	}
	switch {
	case a.query != nil:
		return a.ask(whole)
	case a.output == "jsonl":
		for _, item := range items {
			a.out.json(oneLineJSON(item))
		}
		return nil
	case a.output == "yaml":
		return a.yaml(whole)
	}
	a.out.json(whole)
	return nil
}

// stream prints one of the values of which a command that goes on shows many.
func (a *app) stream(value json.RawMessage, of any, name string) error {
	if a.output == "yaml" && a.query == nil {
		fmt.Fprintln(a.stdout, "---")
	}
	if a.output == "json" && a.query == nil {
		picked, err := a.pick(value, of)
		if err == nil {
			a.out.json(oneLineJSON(picked))
		}
		return err
	}
	return a.data(view{body: value, of: of, name: name})
}

func rawBytes(items []json.RawMessage) [][]byte {
	all := make([][]byte, len(items))
	for i, item := range items {
		all[i] = item
	}
	return all
}

func oneLineJSON(data []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, data) != nil {
		return data
	}
	return b.Bytes()
}

func (a *app) nameAll(items []json.RawMessage, field string) error {
	if field == "" {
		field = "id"
	}
	for _, item := range items {
		var fields map[string]json.RawMessage
		var name string
		if json.Unmarshal(item, &fields) != nil || json.Unmarshal(fields[field], &name) != nil {
			return a.usage("-o name: this has no names; take -o json")
		}
		a.out.line("%s", name)
	}
	return nil
}

// pick keeps the fields of --json, in their order. One that the type has and the object
// has not is null; one that no object of the type can have is refused.
func (a *app) pick(item json.RawMessage, of any) (json.RawMessage, error) {
	if a.fields == nil {
		return item, nil
	}
	var has map[string]json.RawMessage
	if err := json.Unmarshal(item, &has); err != nil {
		return nil, a.usage("--json names fields, but this has none; leave it out, or take --jq")
	}
	known := fieldNames(reflect.TypeOf(of))
	var b bytes.Buffer
	for i, field := range a.fields {
		value, ok := has[field]
		if !ok {
			if known != nil && !slices.Contains(known, field) {
				return nil, a.usage("--json %s: there is no such field; there are: %s", field, strings.Join(known, ", "))
			}
			value = json.RawMessage("null")
		}
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(field)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	return json.RawMessage("{" + b.String() + "}"), nil
}

// fieldNames are the names that a struct has in JSON, those of embedded ones included. nil
// means that anything may come.
func fieldNames(t reflect.Type) (names []string) {
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			names = append(names, fieldNames(f.Type)...)
		case name != "" && name != "-":
			names = append(names, name)
		}
	}
	return names
}

// ask prints what --jq makes of data: texts as they are, all else as JSON.
func (a *app) ask(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // whole numbers keep all their digits
	var value any
	if err := d.Decode(&value); err != nil {
		return err
	}
	for answers := a.query.Run(value); ; {
		answer, ok := answers.Next()
		if !ok {
			return nil
		}
		switch v := answer.(type) {
		case error:
			var halt *gojq.HaltError
			if errors.As(v, &halt) && halt.Value() == nil {
				return nil
			}
			return a.usage("--jq: %w", v)
		case string:
			a.out.line("%s", v)
		default:
			body, err := gojq.Marshal(v)
			if err != nil {
				return err
			}
			a.out.json(body)
		}
	}
}

// yaml prints JSON as YAML, names in the order in which they came.
func (a *app) yaml(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	node, err := yamlOf(d)
	if err != nil {
		return err
	}
	var b strings.Builder
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(node), e.Close()); err != nil {
		return err
	}
	_, err = io.WriteString(a.stdout, escaped(b.String())) // those that YAML itself prints stand between quotes: see yamlOf
	return err
}

// yamlOf reads one value of d.
func yamlOf(d *json.Decoder) (*yaml.Node, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	n := &yaml.Node{Kind: yaml.ScalarNode}
	switch v := t.(type) {
	case json.Delim:
		n.Kind = yaml.SequenceNode
		if v == '{' {
			n.Kind = yaml.MappingNode
		}
		for d.More() {
			child, err := yamlOf(d) // of an object, names and values by turns
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		if len(n.Content) == 0 {
			n.Style = yaml.FlowStyle // {} and []
		}
		_, err = d.Token()
	case string:
		n.SetString(v)
		if strings.ContainsFunc(v, dangerous) {
			n.Style = yaml.DoubleQuotedStyle
		}
	case json.Number:
		n.Tag, n.Value = "!!int", v.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	case bool:
		n.Tag, n.Value = "!!bool", fmt.Sprint(v)
	case nil:
		n.Tag, n.Value = "!!null", "null"
	}
	return n, err
}
