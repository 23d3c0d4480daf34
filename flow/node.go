package flow

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// kind is what a value of a document is.
type kind uint8

const (
	nullKind kind = iota + 1
	booleanKind
	numberKind
	textKind
	listKind
	objectKind
)

func (k kind) String() string {
	return [...]string{"nothing", "null", "true or false", "a number", "a text", "a list", "an object"}[k]
}

// node is a value of a document and where it stands. A nil node is a value that is not there.
type node struct {
	kind   kind
	text   string // of a text; a number as JSON writes it
	truth  bool
	items  []*node
	fields []field
	in     *node  // that holds it; nil: it is the document
	name   string // of the field that it is in an object
	index  int    // that it has in a list
	line   int    // from 1
	column int    // from 1, in characters
}

// pointer is where the node stands, as RFC 6901 says it. It is made when it is asked for: a document of long names would have
// pointers many times its size.
func (n *node) pointer() string {
	if n.in == nil {
		return ""
	}
	if n.in.kind == listKind {
		return n.in.pointer() + "/" + strconv.Itoa(n.index)
	}
	return pointer(n.in.pointer(), n.name)
}

// field is a member of an object, in the order of the document.
type field struct {
	name  string
	at    *node // the name's place
	value *node
}

// get returns the value of a field, or nil.
func (n *node) get(name string) *node {
	if n == nil {
		return nil
	}
	for i := range n.fields {
		if n.fields[i].name == name {
			return n.fields[i].value
		}
	}
	return nil
}

func (n *node) is(k kind) bool { return n != nil && n.kind == k }

// str is a text, or "".
func (n *node) str() string {
	if !n.is(textKind) {
		return ""
	}
	return n.text
}

// strs are the texts of a list, or the one text.
func (n *node) strs() []string {
	if n.is(textKind) {
		return []string{n.text}
	}
	if n == nil {
		return nil
	}
	var out []string
	for _, item := range n.items {
		out = append(out, item.str())
	}
	return out
}

// yes is a boolean, or false.
func (n *node) yes() bool { return n.is(booleanKind) && n.truth }

// float is a number, or other.
func (n *node) float(other float64) float64 {
	if !n.is(numberKind) {
		return other
	}
	f, err := strconv.ParseFloat(n.text, 64)
	if err != nil {
		return other
	}
	return f
}

// int is a whole number, or other.
func (n *node) int(other int) int {
	if !n.is(numberKind) {
		return other
	}
	return int(n.float(float64(other)))
}

// value is the node as values of Go: nil, bool, int64 or float64, string, []any, map[string]any.
func (n *node) value() any {
	if n == nil {
		return nil
	}
	switch n.kind {
	case booleanKind:
		return n.truth
	case numberKind:
		return number(n.text)
	case textKind:
		return n.text
	case listKind:
		list := make([]any, len(n.items))
		for i, item := range n.items {
			list[i] = item.value()
		}
		return list
	case objectKind:
		object := make(map[string]any, len(n.fields))
		for _, f := range n.fields {
			object[f.name] = f.value.value()
		}
		return object
	}
	return nil
}

// number is a literal as an int64 where it is whole and fits, else as a float64.
func number(literal string) any {
	if n, err := strconv.ParseInt(literal, 10, 64); err == nil {
		return n
	}
	f, _ := strconv.ParseFloat(literal, 64)
	if whole := int64(f); float64(whole) == f && f > -1<<53 && f < 1<<53 {
		return whole // 1.0, 1e3
	}
	return f
}

// canonical writes a node as JSON with the names of objects sorted: two documents that say the same are the same bytes.
func (n *node) canonical(b *bytes.Buffer) {
	switch {
	case n == nil || n.kind == nullKind:
		b.WriteString("null")
	case n.kind == listKind:
		b.WriteByte('[')
		for i, item := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			item.canonical(b)
		}
		b.WriteByte(']')
	case n.kind == objectKind:
		fields := slices.SortedFunc(slices.Values(n.fields), func(x, y field) int { return strings.Compare(x.name, y.name) })
		b.WriteByte('{')
		for i, f := range fields {
			if i > 0 {
				b.WriteByte(',')
			}
			writeText(b, f.name)
			b.WriteByte(':')
			f.value.canonical(b)
		}
		b.WriteByte('}')
	case n.kind == textKind:
		writeText(b, n.text)
	default:
		data, _ := json.Marshal(n.value()) // a finite number or a boolean
		b.Write(data)
	}
}

func writeText(b *bytes.Buffer, s string) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a bytes.Buffer takes all
	b.Truncate(b.Len() - 1)
}

// pointer adds a name to an RFC 6901 pointer.
func pointer(of, name string) string {
	if strings.ContainsAny(name, "~/") {
		name = strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
	}
	return of + "/" + name
}
