package expr

import (
	"fmt"
	"math"
	"time"

	"cel.dev/cel-go/common/operators"
)

// binary is an operator between two values.
type binary struct {
	sign  string
	rules []rule // which kinds it takes and makes; nil: any, and it makes a truth
	apply func(m *machine, a, b any) (any, error)
}

type rule struct{ left, right, result kinds }

var (
	compared = []rule{{numberKind, numberKind, boolKind}, {textKind, textKind, boolKind}, {boolKind, boolKind, boolKind}, {timeKind, timeKind, boolKind}, {durationKind, durationKind, boolKind}}
	numbers  = []rule{{intKind, intKind, intKind}, {doubleKind, numberKind, doubleKind}, {numberKind, doubleKind, doubleKind}}
)

var binaries = map[string]*binary{
	operators.Add: {"+", append([]rule{{textKind, textKind, textKind}, {listKind, listKind, listKind}, {timeKind, durationKind, timeKind}, {durationKind, timeKind, timeKind},
		{durationKind, durationKind, durationKind}}, numbers...), add},
	operators.Subtract:      {"-", append([]rule{{timeKind, timeKind, durationKind}, {timeKind, durationKind, timeKind}, {durationKind, durationKind, durationKind}}, numbers...), subtract},
	operators.Multiply:      {"*", numbers, multiply},
	operators.Divide:        {"/", numbers, divide},
	operators.Modulo:        {"%", []rule{{intKind, intKind, intKind}}, modulo},
	operators.Equals:        {"==", nil, func(m *machine, a, b any) (any, error) { return equal(m, a, b, 0) }},
	operators.NotEquals:     {"!=", nil, func(m *machine, a, b any) (any, error) { same, err := equal(m, a, b, 0); return !same, err }},
	operators.Less:          {"<", compared, ordered("<", func(c int) bool { return c < 0 })},
	operators.LessEquals:    {"<=", compared, ordered("<=", func(c int) bool { return c <= 0 })},
	operators.Greater:       {">", compared, ordered(">", func(c int) bool { return c > 0 })},
	operators.GreaterEquals: {">=", compared, ordered(">=", func(c int) bool { return c >= 0 })},
	operators.In:            {"in", []rule{{anyKind, listKind, boolKind}, {textKind, objectKind, boolKind}}, in},
}

// result is what the operator makes of values of these kinds; 0: it takes none of them.
func (op *binary) result(left, right kinds) (out kinds) {
	if op.rules == nil {
		if widened(left)&widened(right) == 0 && left != nullKind && right != nullKind {
			return 0 // never equal
		}
		return boolKind
	}
	for _, r := range op.rules {
		if left&r.left != 0 && right&r.right != 0 {
			out |= r.result
		}
	}
	return out
}

// widened is a kind with those whose values may equal its own.
func widened(k kinds) kinds {
	if k&numberKind != 0 {
		k |= numberKind
	}
	return k
}

func (op *binary) refusal(left, right kinds) string {
	if op.rules == nil {
		return fmt.Sprintf("%s never equals %s", left, right)
	}
	return fmt.Sprintf("%s does not take %s and %s", op.sign, left, right)
}

func (op *binary) hint(left, right kinds) string {
	switch {
	case op.sign == "+" && (left == textKind || right == textKind) && (left|right)&^(textKind|numberKind|boolKind) == 0:
		return "make a text of the other with string()"
	case op.sign == "%" && (left|right)&^numberKind == 0:
		return "make whole numbers of both with int()"
	case op.sign == "in" && left == textKind && right == textKind:
		return "ask with text.contains('…')"
	}
	return ""
}

func refuse(sign string, a, b any) error {
	left, right := kindOf(a), kindOf(b)
	op := &binary{sign: sign, rules: numbers}
	return &operandError{op.refusal(left, right), op.hint(left, right)}
}

func overflow(a any, sign string, b any) error {
	return operand("%v %s %v is an overflow: whole numbers have 64 bits", a, sign, b)
}

// finite refuses what a calculation must not make.
func finite(a any, sign string, b any, result float64) (any, error) {
	if math.IsInf(result, 0) || math.IsNaN(result) {
		return nil, operand("%v %s %v is no number", a, sign, b)
	}
	return result, nil
}

// doubles are two numbers as doubles, if one of them is one.
func doubles(a, b any) (x, y float64, is bool) {
	x, isX := double(a)
	y, isY := double(b)
	return x, y, isX && isY
}

func double(v any) (float64, bool) {
	switch n := v.(type) {
	case float64:
		return n, true
	case int64:
		return float64(n), true
	}
	return 0, false
}

func add(m *machine, a, b any) (any, error) {
	switch x := a.(type) {
	case int64:
		if y, is := b.(int64); is {
			if sum := x + y; (sum > x) == (y > 0) {
				return sum, nil
			}
			return nil, overflow(a, "+", b)
		}
	case string:
		if y, is := b.(string); is {
			if err := m.text(len(x) + len(y)); err != nil {
				return nil, err
			}
			return x + y, nil
		}
	case []any:
		if y, is := b.([]any); is {
			out, err := m.list(len(x)+len(y), 0)
			if err != nil {
				return nil, err
			}
			return append(append(out, x...), y...), nil
		}
	case time.Time:
		if y, is := b.(time.Duration); is {
			return later(x, y)
		}
	case time.Duration:
		switch y := b.(type) {
		case time.Time:
			return later(y, x)
		case time.Duration:
			if sum := x + y; (sum > x) == (y > 0) {
				return sum, nil
			}
			return nil, operand("%s + %s is an overflow: durations have 64 bits", durationText(x), durationText(y))
		}
	}
	if x, y, is := doubles(a, b); is {
		return finite(a, "+", b, x+y)
	}
	return nil, refuse("+", a, b)
}

func subtract(_ *machine, a, b any) (any, error) {
	switch x := a.(type) {
	case int64:
		if y, is := b.(int64); is {
			if rest := x - y; (rest < x) == (y > 0) {
				return rest, nil
			}
			return nil, overflow(a, "-", b)
		}
	case time.Time:
		switch y := b.(type) {
		case time.Duration:
			if y != math.MinInt64 {
				return later(x, -y)
			}
		case time.Time:
			if d := x.Sub(y); d != math.MaxInt64 && d != math.MinInt64 {
				return d, nil
			}
			return nil, operand("the times are more than 292 years apart")
		}
	case time.Duration:
		if y, is := b.(time.Duration); is {
			if rest := x - y; (rest < x) == (y > 0) {
				return rest, nil
			}
			return nil, operand("%s - %s is an overflow: durations have 64 bits", durationText(x), durationText(y))
		}
	}
	if x, y, is := doubles(a, b); is {
		return finite(a, "-", b, x-y)
	}
	return nil, refuse("-", a, b)
}

func multiply(_ *machine, a, b any) (any, error) {
	if x, is := a.(int64); is {
		if y, is := b.(int64); is {
			product := x * y
			if x != 0 && (product/x != y || x == -1 && y == math.MinInt64) {
				return nil, overflow(a, "*", b)
			}
			return product, nil
		}
	}
	if x, y, is := doubles(a, b); is {
		return finite(a, "*", b, x*y)
	}
	return nil, refuse("*", a, b)
}

func divide(_ *machine, a, b any) (any, error) {
	if x, is := a.(int64); is {
		if y, is := b.(int64); is {
			switch {
			case y == 0:
				return nil, operand("division by zero")
			case y == -1 && x == math.MinInt64:
				return nil, overflow(a, "/", b)
			}
			return x / y, nil
		}
	}
	if x, y, is := doubles(a, b); is {
		if y == 0 {
			return nil, operand("division by zero")
		}
		return finite(a, "/", b, x/y)
	}
	return nil, refuse("/", a, b)
}

func modulo(_ *machine, a, b any) (any, error) {
	x, isX := a.(int64)
	y, isY := b.(int64)
	switch {
	case !isX || !isY:
		return nil, refuse("%", a, b)
	case y == 0:
		return nil, operand("division by zero")
	case y == -1:
		return int64(0), nil
	}
	return x % y, nil
}
