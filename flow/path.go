package flow

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl/expr"
)

// Path names a value in what a step can see: variables.order['line items'][0].price. It is the one grammar of paths
// in a flow: a name begins with a letter or "_", goes on with letters, digits, "_" and "-", and is followed by any of
// .name, ['any name'], ["any name"] and [0]. A name in quotes may hold \' \" and \\.
type Path []Segment

// Segment is one name or index of a path, also of one that an expression reads.
type Segment = expr.Segment

const maxPath = 1024 // bytes

// pathError is a text that is no path, with the byte at which it goes wrong.
type pathError struct {
	at      int
	message string
}

func (e *pathError) Error() string { return e.message }

// ParsePath reads a path.
func ParsePath(text string) (Path, error) {
	path, rest, err := readPath(text)
	if err == nil && rest != len(text) {
		err = &pathError{rest, fmt.Sprintf("%q can't follow the path %q", text[rest:], text[:rest])}
	}
	if err != nil {
		return nil, err
	}
	return path, nil
}

// readPath reads the path at the beginning of text and returns where it ends.
func readPath(text string) (Path, int, error) {
	if len(text) > maxPath {
		text = text[:maxPath]
	}
	end := nameEnd(text, 0)
	if end == 0 {
		return nil, 0, &pathError{0, fmt.Sprintf("a path begins with a name, not with %.10q", text)}
	}
	path := Path{{Name: text[:end]}}
	for end < len(text) {
		switch text[end] {
		case '.':
			next := nameEnd(text, end+1)
			if next == end+1 {
				return nil, end, &pathError{end + 1, fmt.Sprintf("a name must follow %q; other names stand in brackets: ['two words']", text[:end+1])}
			}
			path = append(path, Segment{Name: text[end+1 : next]})
			end = next
		case '[':
			segment, next, err := readBracket(text, end)
			if err != nil {
				return nil, end, err
			}
			path = append(path, segment)
			end = next
		default:
			return path, end, nil
		}
	}
	return path, end, nil
}

// nameEnd is where a name that begins at a byte ends; the same byte if none does.
func nameEnd(text string, at int) int {
	for i := at; i < len(text); i++ {
		c := text[i]
		letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_'
		if !letter && (i == at || c != '-' && (c < '0' || c > '9')) {
			return i
		}
	}
	return max(at, len(text))
}

// readBracket reads [0], ['name'] or ["name"].
func readBracket(text string, at int) (Segment, int, error) {
	bad := func(at int, why string) (Segment, int, error) { return Segment{}, at, &pathError{at, why} }
	i := at + 1
	if i < len(text) && (text[i] == '\'' || text[i] == '"') {
		name, next, ok := readQuoted(text, i)
		switch {
		case !ok:
			return bad(at, fmt.Sprintf("the name %.40s has no end", text[i:]))
		case next >= len(text) || text[next] != ']':
			return bad(next, fmt.Sprintf("%q needs a ]", text[at:next]))
		}
		return Segment{Name: name}, next + 1, nil
	}
	for i < len(text) && text[i] >= '0' && text[i] <= '9' {
		i++
	}
	index, err := strconv.Atoi(text[at+1 : i])
	switch {
	case i == at+1:
		return bad(i, "brackets hold a name in quotes or an index from 0: ['a name'], [0]")
	case err != nil || index > 1<<31:
		return bad(at+1, fmt.Sprintf("the index %.20s is too large", text[at+1:i]))
	case i >= len(text) || text[i] != ']':
		return bad(i, fmt.Sprintf("%q needs a ]", text[at:i]))
	}
	return Segment{Index: index, IsIndex: true}, i + 1, nil
}

// readQuoted reads a text in the quotes that stand at a byte, and returns where it ends.
func readQuoted(text string, at int) (string, int, bool) {
	var b strings.Builder
	for i := at + 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == text[at]:
			return b.String(), i + 1, true
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", 0, false
}

// String writes the path as ParsePath reads it.
func (p Path) String() string {
	var b strings.Builder
	for i, s := range p {
		switch {
		case s.IsIndex:
			fmt.Fprintf(&b, "[%d]", s.Index)
		case nameEnd(s.Name, 0) != len(s.Name) || s.Name == "":
			b.WriteString("['" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s.Name) + "']")
		case i > 0:
			b.WriteString("." + s.Name)
		default:
			b.WriteString(s.Name)
		}
	}
	return b.String()
}

// UnresolvedError is a path that names nothing.
type UnresolvedError struct {
	Path   string // the whole path
	At     string // the part of it that is there; "" is none
	Reason string // "has no field "x"", "is a text"
}

func (e *UnresolvedError) Error() string {
	if e.At == "" {
		return fmt.Sprintf("unresolved reference {{%s}}: there is nothing of that name", e.Path)
	}
	return fmt.Sprintf("unresolved reference {{%s}}: %s %s", e.Path, e.At, e.Reason)
}

// Fatal reports true: a step that is tried again sees the same.
func (e *UnresolvedError) Fatal() bool { return true }

// ErrorCode names the error where it is kept.
func (e *UnresolvedError) ErrorCode() string { return "unresolved" }

// Lookup finds what the path names below root, which holds values of JSON as Go has them. A field that is there and null
// is found; below null there is nothing.
func (p Path) Lookup(root map[string]any) (any, error) {
	var at any = root
	for i, s := range p {
		missing := func(format string, args ...any) (any, error) {
			e := &UnresolvedError{Path: p.String(), Reason: fmt.Sprintf(format, args...)}
			if i > 0 {
				e.At = p[:i].String()
			}
			return nil, e
		}
		switch v := at.(type) {
		case map[string]any:
			next, is := v[s.Name]
			switch {
			case s.IsIndex:
				return missing("is an object, which has no index")
			case !is:
				return missing("has no field %q", s.Name)
			}
			at = next
		case []any:
			switch {
			case !s.IsIndex:
				return missing("is a list, which has no field %q; its first item is [0]", s.Name)
			case s.Index >= len(v):
				return missing("has %d items", len(v))
			}
			at = v[s.Index]
		case nil:
			return missing("is null")
		default:
			return missing("is %s", kindOf(v))
		}
	}
	return at, nil
}

// kindOf says what a value is.
func kindOf(v any) kind {
	switch v.(type) {
	case nil:
		return nullKind
	case bool:
		return booleanKind
	case string:
		return textKind
	case []any:
		return listKind
	case map[string]any:
		return objectKind
	}
	return numberKind
}
