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
