package expr

import (
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"strings"
	"time"
)

// Type is what is known of an expression's value before it is evaluated.
type Type string

// The types. Times and durations leave an expression as texts.
const (
	Unknown Type = "unknown" // several may be
	Null    Type = "null"
	Bool    Type = "bool"
	Number  Type = "number"
	Text    Type = "text"
	List    Type = "list"
	Object  Type = "object"
)

// kinds is a set of kinds of values: those that something may have.
type kinds uint16

const (
	nullKind kinds = 1 << iota
	boolKind
	intKind
	doubleKind
	textKind
	listKind
	objectKind
	timeKind
	durationKind

	numberKind = intKind | doubleKind
	anyKind    = 1<<9 - 1
)

var kindNames = [...]struct{ of, sentence string }{
	{"null", "null"}, {"bool", "true or false"}, {"int", "a whole number"}, {"double", "a fraction"}, {"string", "a text"}, {"list", "a list"}, {"map", "an object"},
	{"timestamp", "a time"}, {"duration", "a duration"},
}

// String says the kinds in words: "a text or a list".
func (k kinds) String() string {
	var out []string
	for i, name := range kindNames {
		switch one := kinds(1) << i; {
		case k&one == 0:
		case one == doubleKind && k&intKind != 0:
			out[len(out)-1] = "a number"
		default:
			out = append(out, name.sentence)
		}
	}
	return strings.Join(out, " or ")
}

// typeOf makes one type of what may be.
func (k kinds) typeOf() Type {
	for _, one := range []struct {
		kinds
		Type
	}{{nullKind, Null}, {boolKind, Bool}, {numberKind, Number}, {textKind | timeKind | durationKind, Text}, {listKind, List}, {objectKind, Object}} {
		if k&^one.kinds == 0 {
			return one.Type
		}
	}
	return Unknown
}

// kindOf is the kind of a value that settle has seen.
func kindOf(v any) kinds {
	switch v.(type) {
	case nil:
		return nullKind
	case bool:
		return boolKind
	case int64:
		return intKind
	case float64:
		return doubleKind
	case string:
		return textKind
	case []any:
		return listKind
	case map[string]any:
		return objectKind
	case time.Time:
		return timeKind
	}
	return durationKind
}

// nameOf is what type() calls a value.
func nameOf(v any) string { return kindNames[bits.TrailingZeros16(uint16(kindOf(v)))].of }

// settle makes one of the kinds of a value from outside: what Go has several types for becomes one, what JSON does not have is refused.
func settle(v any) (any, error) {
	switch n := v.(type) {
	case nil, bool, int64, string, []any, map[string]any, time.Time, time.Duration:
		return v, nil
	case float64:
		if math.IsNaN(n) || math.IsInf(n, 0) {
			return nil, fmt.Errorf("%v is no number that can be calculated with", n)
		}
		return v, nil
	case int:
		return int64(n), nil
	case int32:
		return int64(n), nil
	case int16:
		return int64(n), nil
	case int8:
		return int64(n), nil
	case uint8:
		return int64(n), nil
	case uint16:
		return int64(n), nil
	case uint32:
		return int64(n), nil
	case uint:
		return unsigned(uint64(n)), nil
	case uint64:
		return unsigned(n), nil
	case float32:
		return settle(float64(n))
	case json.Number:
		if i, err := n.Int64(); err == nil {
			return i, nil
		}
		f, err := n.Float64()
		if err != nil {
			return nil, fmt.Errorf("%.40q is no number that can be calculated with", string(n))
		}
		return settle(f)
	}
	return nil, fmt.Errorf("a value of Go's type %T is none that JSON has", v)
}

func unsigned(n uint64) any {
	if n > math.MaxInt64 {
		return float64(n)
	}
	return int64(n)
}
