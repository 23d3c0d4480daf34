package expr

import (
	"math"
	"strings"
	"time"
)

// ordered is an operator that asks for the order of two values.
func ordered(sign string, holds func(int) bool) func(m *machine, a, b any) (any, error) {
	return func(m *machine, a, b any) (any, error) {
		c, ok, err := compare(m, a, b)
		if err == nil && !ok {
			err = refuse(sign, a, b)
		}
		return holds(c), err
	}
}

// compare orders two values of a kind that has an order; false: they have none.
func compare(m *machine, a, b any) (int, bool, error) {
	switch x := a.(type) {
	case string:
		if y, is := b.(string); is {
			if err := m.scan(min(len(x), len(y))); err != nil {
				return 0, true, err
			}
			return strings.Compare(x, y), true, nil
		}
	case bool:
		if y, is := b.(bool); is {
			return truthNumber(x) - truthNumber(y), true, nil
		}
	case time.Time:
		if y, is := b.(time.Time); is {
			return x.Compare(y), true, nil
		}
	case time.Duration:
		if y, is := b.(time.Duration); is {
			return order(x, y), true, nil
		}
	case int64:
		switch y := b.(type) {
		case int64:
			return order(x, y), true, nil
		case float64:
			return -mixed(y, x), true, nil
		}
	case float64:
		switch y := b.(type) {
		case int64:
			return mixed(x, y), true, nil
		case float64:
			return order(x, y), true, nil
		}
	}
	return 0, false, nil
}

func truthNumber(b bool) int {
	if b {
		return 1
	}
	return 0
}

func order[T int64 | float64 | time.Duration](x, y T) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// mixed compares a double with an int64 without making a double of that, which would lose digits.
func mixed(x float64, y int64) int {
	switch {
	case x >= 1<<63:
		return 1
	case x < -1<<63:
		return -1
	}
	whole := math.Trunc(x)
	if c := order(int64(whole), y); c != 0 {
		return c
	}
	return order(x, whole)
}

// equal compares two values. Numbers are equal by value; values of different kinds are not.
func equal(m *machine, a, b any, depth int) (bool, error) {
	if depth > maxNesting {
		return false, &LimitError{"depth", maxNesting}
	}
	if err := m.step(1); err != nil {
		return false, err
	}
	switch x := a.(type) {
	case nil:
		return b == nil, nil
	case string:
		y, is := b.(string)
		if !is || len(x) != len(y) {
			return false, nil
		}
		if err := m.scan(len(x)); err != nil {
			return false, err
		}
		return x == y, nil
	case []any:
		y, is := b.([]any)
		if !is || len(x) != len(y) {
			return false, nil
		}
		for i := range x {
			if same, err := equalItems(m, x[i], y[i], depth+1); err != nil || !same {
				return false, err
			}
		}
		return true, nil
	case map[string]any:
		y, is := b.(map[string]any)
		if !is || len(x) != len(y) {
			return false, nil
		}
		all := true
		for name := range x { // all of them, so that the steps do not depend on the order of a map
			other, is := y[name]
			if !is {
				all = false
				continue
			}
			same, err := equalItems(m, x[name], other, depth+1)
			if err != nil {
				return false, err
			}
			all = all && same
		}
		return all, nil
	}
	c, has, err := compare(m, a, b)
	return has && c == 0, err
}

func equalItems(m *machine, a, b any, depth int) (bool, error) {
	a, err := settle(a)
	if err == nil {
		b, err = settle(b)
	}
	if err != nil {
		return false, operand("%v", err)
	}
	return equal(m, a, b, depth)
}

// in reports whether a list has an item, or an object a field.
func in(m *machine, a, b any) (any, error) {
	switch of := b.(type) {
	case []any:
		for _, item := range of {
			if same, err := equalItems(m, a, item, 0); err != nil || same {
				return same, err
			}
		}
		return false, nil
	case map[string]any:
		name, is := a.(string)
		if !is {
			return false, nil
		}
		_, has := of[name]
		return has, m.scan(len(name))
	}
	return nil, refuse("in", a, b)
}
