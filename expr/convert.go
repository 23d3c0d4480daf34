package expr

import (
	"math"
	"strconv"
	"strings"
	"time"
)

var conversions = map[string]function{
	"int":       {"int(x)", []kinds{numberKind | textKind | timeKind}, 1, false, intKind, toInt},
	"double":    {"double(x)", []kinds{numberKind | textKind}, 1, false, doubleKind, toDouble},
	"string":    {"string(x)", []kinds{boolKind | numberKind | textKind | timeKind | durationKind}, 1, false, textKind, toText},
	"bool":      {"bool(x)", []kinds{boolKind | textKind}, 1, false, boolKind, toBool},
	"type":      {"type(x)", []kinds{anyKind}, 1, false, textKind, func(_ *machine, args []any) (any, error) { return nameOf(args[0]), nil }},
	"json":      {"json(x)", []kinds{anyKind}, 1, false, textKind, toJSON},
	"parseJson": {"parseJson(text)", []kinds{textKind}, 1, false, anyKind, parseJSON},
}

func toInt(m *machine, args []any) (any, error) {
	switch v := args[0].(type) {
	case int64:
		return v, nil
	case float64:
		if f := math.Trunc(v); f >= -1<<63 && f < 1<<63 {
			return int64(f), nil
		}
		return nil, operand("%v does not fit into 64 bits", v)
	case time.Time:
		return v.Unix(), nil
	case string:
		if err := m.scan(len(v)); err != nil {
			return nil, err
		}
		n, err := strconv.ParseInt(v[:min(len(v), 400)], 10, 64) // more can't fit, and its errors quote what they are given
		if err != nil || len(v) > 400 {
			return nil, operand("%.40q is no whole number of 64 bits", v)
		}
		return n, nil
	}
	return nil, nil
}

func toDouble(m *machine, args []any) (any, error) {
	if s, is := args[0].(string); is {
		if err := m.scan(len(s)); err != nil {
			return nil, err
		}
		f, err := strconv.ParseFloat(s[:min(len(s), 400)], 64)
		if err != nil || len(s) > 400 || math.IsNaN(f) || math.IsInf(f, 0) || strings.ContainsAny(s, "xX_") {
			return nil, operand("%.40q is no number", s)
		}
		return f, nil
	}
	f, _ := double(args[0])
	return f, nil
}

func toText(m *machine, args []any) (any, error) {
	s, _ := scalarText(args[0])
	return s, m.produce(textBytes + min(len(s), 40))
}

// scalarText is what is no list, object or null as a text.
func scalarText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		return numberText(v), true
	case time.Time:
		return timeText(v), true
	case time.Duration:
		return durationText(v), true
	}
	return "", false
}

// numberText writes a double as JSON does: 2, 2.5, 1e+21.
func numberText(f float64) string {
	if f == 0 {
		return "0" // -0 too
	}
	format := byte('f')
	if a := math.Abs(f); a < 1e-6 || a >= 1e21 {
		format = 'e'
	}
	return strconv.FormatFloat(f, format, -1, 64)
}

func toBool(_ *machine, args []any) (any, error) {
	s, is := args[0].(string)
	if !is {
		return args[0], nil
	}
	switch s {
	case "1", "t", "true", "TRUE", "True":
		return true, nil
	case "0", "f", "false", "FALSE", "False":
		return false, nil
	}
	return nil, operand("%.40q is neither true nor false", s)
}
