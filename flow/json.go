package flow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of a document.
const (
	MaxDocument = 1 << 20 // bytes
	maxDepth    = 64      // values within values
	maxNodes    = 200_000
	maxName     = 1024 // bytes of the name of a field
)

// syntaxError is a document that is no JSON or YAML, or one that a machine could read in two ways.
type syntaxError struct {
	at      node
	message string
	hint    string
}

func (e *syntaxError) Error() string { return e.message }

// readDocument reads JSON, or YAML where the first sign is no brace.
func readDocument(data []byte) (*node, error) {
	switch {
	case len(data) > MaxDocument:
		return nil, &syntaxError{message: fmt.Sprintf("the document has %d bytes, the limit is %d", len(data), MaxDocument)}
	case !utf8.Valid(data):
		return nil, &syntaxError{message: "the document is not UTF-8"}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	switch text := bytes.TrimLeft(data, " \t\r\n"); {
	case len(text) == 0:
		return nil, &syntaxError{message: "the document is empty"}
	case text[0] == '{' || text[0] == '[':
		return readJSON(data)
	}
	return readYAML(data)
}

// jsonReader reads one JSON value, strictly: no name twice in an object, nothing behind it.
type jsonReader struct {
	data  []byte
	in    *json.Decoder
	nodes int
	// the place that was told last, from which the next is counted
	at, line, column int
}

func readJSON(data []byte) (*node, error) {
	r := &jsonReader{data: data, in: json.NewDecoder(bytes.NewReader(data)), line: 1, column: 1}
	r.in.UseNumber()
	n, err := r.value(node{}, 0)
	if err != nil {
		return nil, err
	}
	behind := node{}
	r.place(&behind)
	if _, err := r.in.Token(); !errors.Is(err, io.EOF) {
		return nil, &syntaxError{at: behind, message: "something stands behind the document's end", hint: "a file holds one flow"}
	}
	return n, nil
}

// place sets n's line and column to those of the next token.
func (r *jsonReader) place(n *node) {
	at := int(r.in.InputOffset())
	for at < len(r.data) && strings.IndexByte(" \t\r\n,:", r.data[at]) >= 0 {
		at++
	}
	r.count(at)
	n.line, n.column = r.line, r.column
}

// count moves the told place on to a byte of the document.
func (r *jsonReader) count(at int) {
	for at = min(at, len(r.data)); r.at < at; {
		c, size := utf8.DecodeRune(r.data[r.at:])
		r.at += size
		if r.column++; c == '\n' {
			r.line, r.column = r.line+1, 1
		}
	}
}

// value reads the value whose place is told.
func (r *jsonReader) value(at node, depth int) (*node, error) {
	n := &at
	r.place(n)
	if r.nodes++; r.nodes > maxNodes {
		return nil, &syntaxError{at: *n, message: fmt.Sprintf("the document has over %d values", maxNodes)}
	}
	if depth > maxDepth {
		return nil, &syntaxError{at: *n, message: fmt.Sprintf("the document is over %d values deep", maxDepth)}
	}
	token, err := r.token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case nil:
		n.kind = nullKind
	case bool:
		n.kind, n.truth = booleanKind, t
	case string:
		n.kind, n.text = textKind, t
	case json.Number:
		if n.kind, n.text = numberKind, t.String(); !finite(n.text) {
			return nil, &syntaxError{at: *n, message: fmt.Sprintf("the number %.40s is too large", t)}
		}
	case json.Delim:
		if t == '[' {
			n.kind = listKind
			for r.in.More() {
				item, err := r.value(node{in: n, index: len(n.items)}, depth+1)
				if err != nil {
					return nil, err
				}
				n.items = append(n.items, item)
			}
		} else {
			n.kind = objectKind
			if err := r.fields(n, depth); err != nil {
				return nil, err
			}
		}
		if _, err := r.token(); err != nil { // its end
			return nil, err
		}
	}
	return n, nil
}

func (r *jsonReader) fields(n *node, depth int) error {
	seen := map[string]bool{}
	for r.in.More() {
		name := &node{kind: textKind, in: n}
		r.place(name)
		token, err := r.token()
		if err != nil {
			return err
		}
		name.text, _ = token.(string) // the decoder takes nothing else here
		if name.name = name.text; len(name.name) > maxName {
			return longName(n, name)
		}
		if seen[name.text] {
			return &syntaxError{at: *name, message: fmt.Sprintf("%q stands twice in one object", name.text)}
		}
		seen[name.text] = true
		value, err := r.value(node{in: n, name: name.name}, depth+1)
		if err != nil {
			return err
		}
		n.fields = append(n.fields, field{name.text, name, value})
	}
	return nil
}

// token reads one, and tells where the document is no JSON.
func (r *jsonReader) token() (json.Token, error) {
	token, err := r.in.Token()
	if err == nil {
		return token, nil
	}
	bad := &syntaxError{message: "this is no JSON: " + strings.TrimPrefix(err.Error(), "json: ")}
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		r.count(len(r.data))
		bad.message = "the document ends before its last bracket is closed"
	case errors.As(err, &syntax):
		at := int(syntax.Offset)
		if quoted, _, is := strings.Cut(strings.TrimPrefix(syntax.Error(), "invalid character '"), "'"); is && !strings.HasPrefix(string(r.data[min(at, len(r.data)):]), quoted) {
			at-- // some errors count the character that they complain of
		}
		r.count(max(at, r.at))
	}
	bad.at.line, bad.at.column = r.line, r.column
	return nil, bad
}

// longName refuses the name of a field. It is told where the object stands: the name is too long to say.
func longName(in, name *node) error {
	at := *in
	at.line, at.column = name.line, name.column
	return &syntaxError{at: at, message: fmt.Sprintf("the name %.40q… has %d bytes, the limit is %d", name.text, len(name.text), maxName)}
}

func finite(literal string) bool {
	_, err := strconv.ParseFloat(literal, 64)
	return err == nil
}

// readObject reads a document of which no more is asked than that it is an object. The error is of type [Problems].
func readObject(data []byte) (*node, error) {
	f := &findings{}
	root, err := readDocument(data)
	var bad *syntaxError
	switch {
	case errors.As(err, &bad):
		f.fault(&bad.at, bad.hint, "%s", bad.message)
	case err != nil:
		return nil, err
	case root.kind != objectKind:
		look(f, root, document)
	default:
		return root, nil
	}
	return nil, f.sorted()
}

// JSON is a document as JSON: one in JSON as it is, one in YAML with the names in objects sorted. The error is of type
// [Problems]: it can't be read, or is no object. Other faults it may have.
func JSON(data []byte) (json.RawMessage, error) {
	root, err := readObject(data)
	if err != nil {
		return nil, err
	}
	if data = bytes.TrimSpace(data); json.Valid(data) {
		return data, nil
	}
	return flat(root), nil
}
