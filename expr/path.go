package expr

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// path is a name, or a value, and what stands in it.
type path struct {
	name     string // of one of the Env's, or of a local
	local    int    // its place; -1: it is none
	of       node   // instead of a name
	at       int32
	segments []Segment
	places   []int32
}

func (n *path) eval(m *machine) (any, error) {
	if err := m.step(1 + len(n.segments)); err != nil {
		return nil, err
	}
	var v any
	var err error
	switch {
	case n.of != nil:
		if v, err = n.of.eval(m); err != nil {
			return nil, err
		}
	case n.local >= 0:
		v = m.locals[n.local]
	default:
		var is bool
		if v, is = m.vars[n.name]; !is {
			return nil, m.missing(n.at, &MissingError{Path: n.text(len(n.segments))})
		}
	}
	for i := range n.segments {
		s := &n.segments[i]
		if object, is := v.(map[string]any); is && !s.IsIndex {
			if v, is = object[s.Name]; is {
				continue
			}
			if m.quiet > 0 {
				return nil, errMissing
			}
			what := &MissingError{Path: n.text(len(n.segments)), At: n.text(i), Reason: fmt.Sprintf("has no field %q", s.Name)}
			return nil, m.lacks(n.places[i], what, object, s.Name)
		}
		if list, is := v.([]any); is && s.IsIndex {
			if s.Index < len(list) {
				v = list[s.Index]
				continue
			}
			return nil, n.missing(m, i, "has %d items", len(list))
		}
		if v, err = settle(v); err != nil {
			return nil, m.fail(n.places[i], "%s: %v", n.text(i), err)
		}
		switch v.(type) {
		case map[string]any:
			return nil, n.missing(m, i, "is an object, which has no index")
		case []any:
			return nil, n.missing(m, i, "is a list, which has no field %q; its first item is [0]", s.Name)
		}
		return nil, n.missing(m, i, "is %s", kindOf(v))
	}
	switch v.(type) { // what most are needs no more
	case string, int64, bool, nil, map[string]any, []any:
		return v, nil
	}
	if v, err = settle(v); err != nil {
		return nil, m.fail(n.at, "%s: %v", n.text(len(n.segments)), err)
	}
	return v, nil
}

func (n *path) missing(m *machine, i int, reason string, args ...any) error {
	if m.quiet > 0 {
		return errMissing
	}
	return m.missing(n.places[i], &MissingError{Path: n.text(len(n.segments)), At: n.text(i), Reason: fmt.Sprintf(reason, args...)})
}

// text is the path with the first segments.
func (n *path) text(segments int) string {
	first := Segment{Name: n.name}
	if n.of != nil {
		first.Name = "the value"
	}
	return pathText(append([]Segment{first}, n.segments[:segments]...))
}

// indexNode is of[key] with a key that is calculated.
type indexNode struct {
	of, key node
	at      int32
}

func (n indexNode) eval(m *machine) (any, error) {
	if err := m.step(1); err != nil {
		return nil, err
	}
	of, err := n.of.eval(m)
	if err != nil {
		return nil, err
	}
	key, err := n.key.eval(m)
	if err != nil {
		return nil, err
	}
	var item any
	switch v := of.(type) {
	case map[string]any:
		name, is := key.(string)
		if !is {
			return nil, m.fail(n.at, "the name of a field is %s and must be a text", kindOf(key))
		}
		if item, is = v[name]; !is {
			return nil, m.lacks(n.at, &MissingError{Path: fmt.Sprintf("[%.60q]", name), At: "the object", Reason: fmt.Sprintf("has no field %.60q", name)}, v, name)
		}
	case []any:
		i, is := wholeOf(key)
		if !is {
			return nil, m.fail(n.at, "the index of a list is %s and must be a whole number", kindOf(key))
		}
		if i < 0 || i >= int64(len(v)) {
			return nil, m.missing(n.at, &MissingError{Path: fmt.Sprintf("[%d]", i), At: "the list", Reason: fmt.Sprintf("has %d items, and none at %d", len(v), i)})
		}
		item = v[i]
	case nil:
		return nil, m.missing(n.at, &MissingError{Path: "[…]", At: "the value", Reason: "is null"})
	default:
		return nil, m.fail(n.at, "it is %s, and has nothing in it", kindOf(of))
	}
	if item, err = settle(item); err != nil {
		return nil, m.fail(n.at, "%v", err)
	}
	return item, nil
}

// wholeOf is a number without a fraction, as an int64.
func wholeOf(v any) (int64, bool) {
	switch n := v.(type) {
	case int64:
		return n, true
	case float64:
		return int64(n), n == math.Trunc(n) && math.Abs(n) < 1<<53
	}
	return 0, false
}

// pathText writes a path as an expression has it.
func pathText(path []Segment) string {
	var b strings.Builder
	for i, s := range path {
		switch {
		case s.IsIndex:
			b.WriteString("[" + strconv.Itoa(s.Index) + "]")
		case i == 0:
			b.WriteString(s.Name)
		case plainName(s.Name):
			b.WriteString("." + s.Name)
		default:
			b.WriteString("['" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s.Name) + "']")
		}
	}
	return b.String()
}

// plainName reports whether a name can stand behind a point.
func plainName(s string) bool {
	for i, c := range []byte(s) {
		if letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_'; !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
