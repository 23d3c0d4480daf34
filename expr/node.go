package expr

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// node is a part of an expression. What eval returns is of one of the kinds; what is in lists and objects may not be settled yet.
type node interface {
	eval(m *machine) (any, error)
}

type constant struct{ value any }

func (n constant) eval(m *machine) (any, error) { return n.value, m.step(1) }

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
			return nil, m.missing(n.at, &MissingError{Path: n.text(len(n.segments))}, nil)
		}
	}
	for i := range n.segments {
		s := &n.segments[i]
		if object, is := v.(map[string]any); is && !s.IsIndex {
			if v, is = object[s.Name]; is {
				continue
			}
			return nil, n.missing(m, i, object, `has no field %q`, s.Name)
		}
		if list, is := v.([]any); is && s.IsIndex {
			if s.Index < len(list) {
				v = list[s.Index]
				continue
			}
			return nil, n.missing(m, i, nil, "has %d items", len(list))
		}
		if v, err = settle(v); err != nil {
			return nil, m.fail(n.places[i], "%s: %v", n.text(i), err)
		}
		switch v.(type) {
		case map[string]any:
			return nil, n.missing(m, i, nil, "is an object, which has no index")
		case []any:
			return nil, n.missing(m, i, nil, "is a list, which has no field %q; its first item is [0]", s.Name)
		}
		return nil, n.missing(m, i, nil, "is %s", kindOf(v))
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

func (n *path) missing(m *machine, i int, fields map[string]any, reason string, args ...any) error {
	if m.quiet > 0 {
		return errMissing
	}
	return m.missing(n.places[i], &MissingError{Path: n.text(len(n.segments)), At: n.text(i), Reason: fmt.Sprintf(reason, args...)}, fields)
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
			return nil, m.missing(n.at, &MissingError{Path: fmt.Sprintf("[%.60q]", name), At: "the object", Reason: fmt.Sprintf(`has no field "%.60s"`, name)}, v)
		}
	case []any:
		i, is := wholeOf(key)
		if !is {
			return nil, m.fail(n.at, "the index of a list is %s and must be a whole number", kindOf(key))
		}
		if i < 0 || i >= int64(len(v)) {
			return nil, m.missing(n.at, &MissingError{Path: fmt.Sprintf("[%d]", i), At: "the list", Reason: fmt.Sprintf("has %d items, and none at %d", len(v), i)}, nil)
		}
		item = v[i]
	case nil:
		return nil, m.missing(n.at, &MissingError{Path: "[…]", At: "the value", Reason: "is null"}, nil)
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

type listNode struct{ items []node }

func (n listNode) eval(m *machine) (any, error) {
	list, err := m.list(len(n.items), 0)
	if err != nil {
		return nil, err
	}
	for _, item := range n.items {
		v, err := item.eval(m)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, nil
}

type objectNode struct{ fields []fieldNode }

type fieldNode struct {
	name, value node
	at          int32
}

func (n objectNode) eval(m *machine) (any, error) {
	if err := m.step(1); err != nil {
		return nil, err
	}
	if err := m.produce(mapBytes + fieldBytes*len(n.fields)); err != nil {
		return nil, err
	}
	object := make(map[string]any, len(n.fields))
	for _, f := range n.fields {
		key, err := f.name.eval(m)
		if err != nil {
			return nil, err
		}
		name, is := key.(string)
		if !is {
			return nil, m.fail(f.at, "the name of a field is %s and must be a text", kindOf(key))
		}
		if _, twice := object[name]; twice {
			return nil, m.fail(f.at, "the field %.60q stands twice in one object", name)
		}
		if object[name], err = f.value.eval(m); err != nil {
			return nil, err
		}
	}
	return object, nil
}

// logicNode is a && b && …, or a || b || …: a part that decides does so even if one before it could not be evaluated.
type logicNode struct {
	or    bool
	parts []node
	at    int32
}

func (n logicNode) sign() string {
	if n.or {
		return "||"
	}
	return "&&"
}

func (n logicNode) eval(m *machine) (any, error) {
	if err := m.step(1); err != nil {
		return nil, err
	}
	var failed error
	for _, part := range n.parts {
		v, err := part.eval(m)
		if err == nil {
			truth, is := v.(bool)
			if is && truth == n.or {
				return truth, nil
			}
			if !is {
				err = m.fail(n.at, "%s takes true or false, and not %s", n.sign(), kindOf(v))
			}
		}
		if err != nil {
			if !tame(err) {
				return nil, err
			}
			if failed == nil {
				failed = err
			}
		}
	}
	return !n.or, failed
}

type notNode struct {
	of node
	at int32
}

func (n notNode) eval(m *machine) (any, error) {
	v, err := n.of.eval(m)
	if err != nil {
		return nil, err
	}
	truth, is := v.(bool)
	if !is {
		return nil, m.fail(n.at, "! takes true or false, and not %s", kindOf(v))
	}
	return !truth, m.step(1)
}

type negateNode struct {
	of node
	at int32
}

func (n negateNode) eval(m *machine) (any, error) {
	v, err := n.of.eval(m)
	if err != nil {
		return nil, err
	}
	if err := m.step(1); err != nil {
		return nil, err
	}
	switch x := v.(type) {
	case int64:
		if x != math.MinInt64 {
			return -x, nil
		}
		return nil, m.fail(n.at, "-(%d) is an overflow: whole numbers have 64 bits", x)
	case float64:
		return -x, nil
	case time.Duration:
		if x != math.MinInt64 {
			return -x, nil
		}
		return nil, m.fail(n.at, "-(%s) is an overflow: durations have 64 bits", durationText(x))
	}
	return nil, m.fail(n.at, "- takes a number, and not %s", kindOf(v))
}

type conditionalNode struct {
	test, yes, no node
	at            int32
}

func (n conditionalNode) eval(m *machine) (any, error) {
	if err := m.step(1); err != nil {
		return nil, err
	}
	v, err := n.test.eval(m)
	if err != nil {
		return nil, err
	}
	truth, is := v.(bool)
	switch {
	case !is:
		return nil, m.fail(n.at, "what stands before ? is %s and must be true or false", kindOf(v))
	case truth:
		return n.yes.eval(m)
	}
	return n.no.eval(m)
}

type binaryNode struct {
	op   *binary
	a, b node
	at   int32
}

func (n binaryNode) eval(m *machine) (any, error) {
	if err := m.step(1); err != nil {
		return nil, err
	}
	a, err := n.a.eval(m)
	if err != nil {
		return nil, err
	}
	b, err := n.b.eval(m)
	if err != nil {
		return nil, err
	}
	v, err := n.op.apply(m, a, b)
	if bad, is := err.(*operandError); is {
		e := m.fail(n.at, "%s", bad.message).(*Error)
		e.Hint = bad.hint
		return nil, e
	}
	return v, err
}

// operandError is what an operator makes of values that it does not take; the node that knows the place makes an Error of it.
type operandError struct{ message, hint string }

func (e *operandError) Error() string { return e.message }

func operand(format string, args ...any) error {
	return &operandError{message: strings.TrimSpace(fmt.Sprintf(format, args...))}
}
