package expr

import "math"

var numberFunctions = map[string]function{
	"round": {"round(number, digits?)", []kinds{numberKind, intKind}, 1, false, numberKind, round},
	"floor": {"floor(number)", []kinds{numberKind}, 1, false, numberKind, whole(math.Floor)},
	"ceil":  {"ceil(number)", []kinds{numberKind}, 1, false, numberKind, whole(math.Ceil)},
	"abs":   {"abs(number)", []kinds{numberKind}, 1, false, numberKind, abs},
	"min":   {"min(list), min(a, b, …)", []kinds{anyKind}, 1, true, anyKind, best(-1)},
	"max":   {"max(list), max(a, b, …)", []kinds{anyKind}, 1, true, anyKind, best(1)},
	"sum":   {"sum(list)", []kinds{listKind}, 1, false, numberKind | durationKind, sum},
	"avg":   {"avg(list)", []kinds{listKind}, 1, false, doubleKind, avg},
}

// whole is for what makes a whole number, which is an int where it fits.
func whole(change func(float64) float64) func(*machine, []any) (any, error) {
	return func(_ *machine, args []any) (any, error) {
		if f, is := args[0].(float64); is {
			return intOf(change(f)), nil
		}
		return args[0], nil
	}
}

func intOf(f float64) any {
	if f >= -1<<63 && f < 1<<63 {
		return int64(f)
	}
	return f
}

// round rounds halves away from zero.
func round(_ *machine, args []any) (any, error) {
	digits := int64(0)
	if len(args) == 2 {
		digits = args[1].(int64)
	}
	f, is := args[0].(float64)
	switch {
	case digits < 0 || digits > 15:
		return nil, operand("it takes 0 to 15 digits, and not %d", digits)
	case !is:
		return args[0], nil
	case digits == 0:
		return intOf(math.Round(f)), nil
	}
	by := math.Pow10(int(digits))
	if r := math.Round(f*by) / by; !math.IsInf(f*by, 0) {
		return r, nil
	}
	return f, nil // so large that it has no such digits
}

func abs(_ *machine, args []any) (any, error) {
	switch n := args[0].(type) {
	case float64:
		return math.Abs(n), nil
	case int64:
		if n == math.MinInt64 {
			return nil, operand("abs(%d) is an overflow: whole numbers have 64 bits", n)
		}
		return max(n, -n), nil
	}
	return nil, nil
}

// best finds the least or greatest of a list, or of several values.
func best(sign int) func(*machine, []any) (any, error) {
	return func(m *machine, args []any) (any, error) {
		list := args
		if len(args) == 1 {
			of, is := args[0].([]any)
			if !is {
				return nil, operand("it takes a list or several values, and not %s", kindOf(args[0]))
			}
			list = of
		}
		var found any
		for i, item := range list {
			if err := m.step(1); err != nil {
				return nil, err
			}
			v, err := settle(item)
			if err != nil {
				return nil, operand("%v", err)
			}
			if i == 0 {
				found = v
			}
			c, has, err := compare(m, v, found)
			switch {
			case err != nil:
				return nil, err
			case !has:
				return nil, operand("%s and %s have no order", kindOf(found), kindOf(v))
			case c == sign:
				found = v
			}
		}
		if len(list) == 0 {
			return nil, emptyList()
		}
		return found, nil
	}
}

// emptyList is what is asked of a list that has no items. It is missing: default() stands for it.
func emptyList() error { return &MissingError{Path: "[0]", At: "the list", Reason: "is empty"} }

func sum(m *machine, args []any) (any, error) {
	var total any = int64(0)
	for i, item := range args[0].([]any) {
		if err := m.step(1); err != nil {
			return nil, err
		}
		v, err := settle(item)
		if err != nil {
			return nil, operand("%v", err)
		}
		if kindOf(v)&(numberKind|durationKind) == 0 {
			return nil, operand("item %d is %s and no number", i, kindOf(v))
		}
		if i == 0 {
			total = v
			continue
		}
		if total, err = add(m, total, v); err != nil {
			return nil, err
		}
	}
	return total, nil
}

func avg(m *machine, args []any) (any, error) {
	list := args[0].([]any)
	if len(list) == 0 {
		return nil, emptyList()
	}
	total, err := sum(m, args)
	if err != nil {
		return nil, err
	}
	f, is := double(total)
	if !is {
		return nil, operand("its items are durations and no numbers")
	}
	return f / float64(len(list)), nil
}
