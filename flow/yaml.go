package flow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// yamlReader makes nodes of YAML: the part of it that JSON can say, and aliases.
type yamlReader struct {
	nodes int
	open  map[*yaml.Node]bool // anchors that are being read: one that holds itself has no end
}

func readYAML(data []byte) (*node, error) {
	in := yaml.NewDecoder(bytes.NewReader(data))
	var document, more yaml.Node
	if err := in.Decode(&document); err != nil {
		return nil, yamlError(err)
	}
	if err := in.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, &syntaxError{at: node{line: more.Line, column: more.Column}, message: "the file holds more than one document", hint: "a file holds one flow"}
	}
	r := &yamlReader{open: map[*yaml.Node]bool{}}
	if len(document.Content) != 1 {
		return nil, &syntaxError{message: "the document is empty"}
	}
	return r.value(document.Content[0], node{}, 0)
}

// yamlLine is where the library says that a document is wrong.
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(?s)(.*)`)

func yamlError(err error) error {
	bad := &syntaxError{message: "this is no YAML: " + err.Error()}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		bad.at.line, _ = strconv.Atoi(m[1])
		bad.message = "this is no YAML: " + m[2]
		if bad.at.line > 0 {
			bad.at.column = 1
		}
	}
	return bad
}

// value reads the value whose place is told.
func (r *yamlReader) value(y *yaml.Node, at node, depth int) (*node, error) {
	n := &at
	n.line, n.column = y.Line, y.Column
	bad := func(hint, format string, args ...any) (*node, error) {
		return nil, &syntaxError{at: *n, message: fmt.Sprintf(format, args...), hint: hint}
	}
	if r.nodes++; r.nodes > maxNodes {
		return bad("", "the document has over %d values", maxNodes)
	}
	if depth > maxDepth {
		return bad("", "the document is over %d values deep", maxDepth)
	}
	switch y.Kind {
	case yaml.AliasNode:
		if r.open[y.Alias] {
			return bad("", "the anchor %q holds itself", y.Value)
		}
		r.open[y.Alias] = true
		defer delete(r.open, y.Alias)
		return r.value(y.Alias, at, depth)
	case yaml.SequenceNode:
		n.kind = listKind
		for i, item := range y.Content {
			value, err := r.value(item, node{in: n, index: i}, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, value)
		}
		return n, nil
	case yaml.MappingNode:
		return n, r.fields(n, y, depth)
	}
	switch tag := y.ShortTag(); tag {
	case "!!null":
		n.kind = nullKind
	case "!!bool":
		if n.kind = booleanKind; y.Decode(&n.truth) != nil {
			return bad("", "%q is neither true nor false", y.Value)
		}
	case "!!int", "!!float":
		n.kind = numberKind
		var whole int64
		var f float64
		switch {
		case tag == "!!int" && y.Decode(&whole) == nil:
			n.text = strconv.FormatInt(whole, 10)
		case y.Decode(&f) != nil || math.IsNaN(f) || math.IsInf(f, 0):
			return bad("", "%.40q is no number that JSON could say", y.Value)
		default:
			n.text = strconv.FormatFloat(f, 'g', -1, 64)
		}
	case "!!str", "!!timestamp":
		n.kind, n.text = textKind, y.Value
	default:
		return bad("write plain texts, numbers, true, false, null, lists and objects", "the tag %s is not known here", tag)
	}
	return n, nil
}

func (r *yamlReader) fields(n *node, y *yaml.Node, depth int) error {
	n.kind = objectKind
	seen := map[string]bool{}
	for i := 0; i+1 < len(y.Content); i += 2 {
		key := y.Content[i]
		name := &node{kind: textKind, text: key.Value, line: key.Line, column: key.Column, in: n, name: key.Value}
		switch {
		case key.Kind != yaml.ScalarNode:
			return &syntaxError{at: *name, message: "the name of a field must be a plain text"}
		case key.ShortTag() == "!!merge":
			return &syntaxError{at: *name, message: `"<<" merges are not known here`, hint: "write the fields out"}
		case len(key.Value) > maxName:
			return longName(n, name)
		case seen[key.Value]:
			return &syntaxError{at: *name, message: fmt.Sprintf("%q stands twice in one object", key.Value)}
		}
		seen[key.Value] = true
		value, err := r.value(y.Content[i+1], node{in: n, name: key.Value}, depth+1)
		if err != nil {
			return err
		}
		n.fields = append(n.fields, field{key.Value, name, value})
	}
	return nil
}
