package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Limits of a description.
const (
	MaxDescription = 4 << 20 // bytes
	maxNested      = 64      // values within values
	maxValues      = 200_000
)

// kind is what a value of a document is; several together are those that it may be.
type kind uint8

const (
	nullKind kind = 1 << iota
	booleanKind
	numberKind
	textKind
	listKind
	objectKind
	anyKind = nullKind | booleanKind | numberKind | textKind | listKind | objectKind
)

func (k kind) String() string {
	var words []string
	for i, word := range []string{"null", "true or false", "a number", "a text", "a list", "an object"} {
		if k&(1<<i) != 0 {
			words = append(words, word)
		}
	}
	return strings.Join(words, " or ")
}

// node is a value of a document and where it stands. A nil node is a value that is not there.
type node struct {
	kind    kind
	text    string // of a text; a number as JSON writes it
	truth   bool
	items   []*node
	fields  []field
	named   map[string]*node // the values of fields
	pointer string           // RFC 6901
	line    int              // from 1; 0: unknown
	column  int
}

type field struct {
	name  string
	at    *node // the name's place
	value *node
}

func (n *node) is(kinds kind) bool { return n != nil && n.kind&kinds != 0 }

// get is the value of a field, or nil.
func (n *node) get(name string) *node {
	if n == nil {
		return nil
	}
	return n.named[name]
}

// str is a text, or "".
func (n *node) str() string {
	if !n.is(textKind) {
		return ""
	}
	return n.text
}

// value is the node as values of Go. Numbers are as they are written.
func (n *node) value() any {
	switch {
	case n.is(booleanKind):
		return n.truth
	case n.is(numberKind):
		return json.Number(n.text)
	case n.is(textKind):
		return n.text
	case n.is(listKind):
		list := make([]any, len(n.items))
		for i, item := range n.items {
			list[i] = item.value()
		}
		return list
	case n.is(objectKind):
		object := make(map[string]any, len(n.fields))
		for _, f := range n.fields {
			object[f.name] = f.value.value()
		}
		return object
	}
	return nil
}

func (n *node) json() json.RawMessage {
	data, err := json.Marshal(n.value())
	if err != nil {
		return json.RawMessage("null") // a document holds nothing that JSON can't say
	}
	return data
}

// below is the pointer of a value within.
func (n *node) below(name string) string {
	if strings.ContainsAny(name, "~/") {
		name = strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
	}
	return n.pointer + "/" + name
}

// source reads a document: JSON, or YAML where the first sign is no bracket.
type source struct {
	nodes int
	data  []byte
	in    *json.Decoder
	// the place of JSON that was told last, from which the next is counted
	at, line, column int
	open             map[*yaml.Node]bool // anchors that are being read: one that holds itself has no end
}

func readSource(data []byte) (*node, error) {
	bad := func(message string) (*node, error) { return nil, Faults{{Message: message}} }
	switch {
	case len(data) > MaxDescription:
		return bad(fmt.Sprintf("it has %d bytes, the limit is %d", len(data), MaxDescription))
	case !utf8.Valid(data):
		return bad("it is not UTF-8")
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	s := &source{data: data, line: 1, column: 1, open: map[*yaml.Node]bool{}}
	text := bytes.TrimSpace(data)
	switch {
	case len(text) == 0:
		return bad("it is empty")
	case text[0] != '{' && text[0] != '[':
		return s.yaml()
	}
	s.in = json.NewDecoder(bytes.NewReader(data))
	s.in.UseNumber()
	root := &node{}
	if err := s.json(root, 0); err != nil {
		return nil, err
	}
	if _, err := s.in.Token(); !errors.Is(err, io.EOF) {
		return bad("something stands behind its end")
	}
	return root, nil
}

// stop is the fault of a document that can't be read on.
func stop(at *node, hint, format string, args ...any) error {
	return Faults{{Pointer: at.pointer, Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...), Hint: hint}}
}

// enter counts a value against the limits.
func (s *source) enter(n *node, depth int) error {
	if s.nodes++; s.nodes > maxValues {
		return stop(n, "", "the document has over %d values", maxValues)
	}
	if depth > maxNested {
		return stop(n, "", "the document is over %d values deep", maxNested)
	}
	return nil
}

// place tells n where the next token of JSON stands.
func (s *source) place(n *node) {
	at := int(s.in.InputOffset())
	for at < len(s.data) && strings.IndexByte(" \t\r\n,:", s.data[at]) >= 0 {
		at++
	}
	for s.at < at {
		c, size := utf8.DecodeRune(s.data[s.at:])
		s.at += size
		if s.column++; c == '\n' {
			s.line, s.column = s.line+1, 1
		}
	}
	n.line, n.column = s.line, s.column
}

func (s *source) token(at *node) (json.Token, error) {
	token, err := s.in.Token()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, stop(at, "", "the document ends before its last bracket is closed")
	}
	if err != nil {
		return nil, stop(at, "", "this is no JSON: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return token, nil
}

func (s *source) json(n *node, depth int) error {
	s.place(n)
	if err := s.enter(n, depth); err != nil {
		return err
	}
	token, err := s.token(n)
	if err != nil {
		return err
	}
	switch t := token.(type) {
	case nil:
		n.kind = nullKind
	case bool:
		n.kind, n.truth = booleanKind, t
	case string:
		n.kind, n.text = textKind, t
	case json.Number:
		n.kind, n.text = numberKind, t.String()
		if f, err := t.Float64(); err != nil || math.IsInf(f, 0) {
			return stop(n, "", "the number %.40s is too large", n.text)
		}
	case json.Delim:
		if n.kind = objectKind; t == '[' {
			n.kind = listKind
		}
		for s.in.More() {
			value := &node{}
			if n.kind == listKind {
				value.pointer = n.below(strconv.Itoa(len(n.items)))
				n.items = append(n.items, value)
			} else if err := s.name(n, value); err != nil {
				return err
			}
			if err := s.json(value, depth+1); err != nil {
				return err
			}
		}
		_, err = s.token(n) // its end
	}
	return err
}

// name reads the name of a field.
func (s *source) name(n, value *node) error {
	at := &node{kind: textKind}
	s.place(at)
	token, err := s.token(at)
	if err != nil {
		return err
	}
	at.text, _ = token.(string) // the decoder takes nothing else here
	at.pointer = n.below(at.text)
	value.pointer = at.pointer
	return n.add(at, value)
}

// add adds a field, which must be the first of its name.
func (n *node) add(at, value *node) error {
	if n.named[at.text] != nil {
		return stop(at, "", "%q stands twice in one object", at.text)
	}
	if n.named == nil {
		n.named = map[string]*node{}
	}
	n.named[at.text] = value
	n.fields = append(n.fields, field{at.text, at, value})
	return nil
}

// yamlLine is where the library says that a document is wrong.
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(?s)(.*)`)

func (s *source) yaml() (*node, error) {
	in := yaml.NewDecoder(bytes.NewReader(s.data))
	var document, more yaml.Node
	if err := in.Decode(&document); err != nil {
		at := &node{}
		text := err.Error()
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			at.line, _ = strconv.Atoi(m[1])
			text = m[2]
		}
		return nil, stop(at, "", "this is no YAML: %s", text)
	}
	if err := in.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, stop(&node{line: more.Line, column: more.Column}, "a file describes one service", "the file holds more than one document")
	}
	root := &node{}
	if len(document.Content) != 1 {
		return nil, stop(root, "", "it is empty")
	}
	return root, s.fromYAML(root, document.Content[0], 0)
}

func (s *source) fromYAML(n *node, y *yaml.Node, depth int) error {
	if n.line, n.column = y.Line, y.Column; y.Kind == yaml.AliasNode {
		if s.open[y.Alias] {
			return stop(n, "", "the anchor %q holds itself", y.Value)
		}
		s.open[y.Alias] = true
		defer delete(s.open, y.Alias)
		return s.fromYAML(n, y.Alias, depth)
	}
	if err := s.enter(n, depth); err != nil {
		return err
	}
	switch y.Kind {
	case yaml.SequenceNode:
		n.kind = listKind
		for i, item := range y.Content {
			value := &node{pointer: n.below(strconv.Itoa(i))}
			n.items = append(n.items, value)
			if err := s.fromYAML(value, item, depth+1); err != nil {
				return err
			}
		}
		return nil
	case yaml.MappingNode:
		n.kind = objectKind
		for i := 0; i+1 < len(y.Content); i += 2 {
			key := y.Content[i]
			at := &node{kind: textKind, text: key.Value, line: key.Line, column: key.Column, pointer: n.below(key.Value)}
			if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
				return stop(at, "write the fields out", "the name of a field must be a plain text, and no merge")
			}
			value := &node{pointer: at.pointer}
			if err := n.add(at, value); err != nil {
				return err
			}
			if err := s.fromYAML(value, y.Content[i+1], depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return n.scalar(y)
}

// scalar reads what YAML writes without brackets, as far as JSON can say it.
func (n *node) scalar(y *yaml.Node) error {
	switch tag := y.ShortTag(); tag {
	case "!!null":
		n.kind = nullKind
	case "!!bool":
		if n.kind = booleanKind; y.Decode(&n.truth) != nil {
			return stop(n, "", "%.40q is neither true nor false", y.Value)
		}
	case "!!int", "!!float":
		n.kind = numberKind
		var whole int64
		var f float64
		switch {
		case tag == "!!int" && y.Decode(&whole) == nil:
			n.text = strconv.FormatInt(whole, 10)
		case y.Decode(&f) != nil || math.IsNaN(f) || math.IsInf(f, 0):
			return stop(n, "", "%.40q is no number that JSON could say", y.Value)
		default:
			n.text = strconv.FormatFloat(f, 'g', -1, 64)
		}
	case "!!str", "!!timestamp":
		n.kind, n.text = textKind, y.Value
	default:
		return stop(n, "write plain texts, numbers, true, false, null, lists and objects", "the tag %s is not known here", tag)
	}
	return nil
}
