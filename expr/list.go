package expr

import (
	"maps"
	"math"
	"math/bits"
	"slices"
	"unicode/utf8"
)

var listFunctions = map[string]function{
	"size":     {"size(x)", []kinds{textKind | listKind | objectKind}, 1, false, intKind, size},
	"keys":     {"keys(object)", []kinds{objectKind}, 1, false, listKind, func(m *machine, args []any) (any, error) { return m.keys(args[0].(map[string]any)) }},
	"values":   {"values(object)", []kinds{objectKind}, 1, false, listKind, values},
	"sort":     {"sort(list)", []kinds{listKind}, 1, false, listKind, sorted},
	"distinct": {"distinct(list)", []kinds{listKind}, 1, false, listKind, distinct},
	"first":    {"first(list)", []kinds{listKind}, 1, false, anyKind, func(m *machine, args []any) (any, error) { return end(args[0].([]any), 0) }},
	"last":     {"last(list)", []kinds{listKind}, 1, false, anyKind, func(m *machine, args []any) (any, error) { return end(args[0].([]any), 1) }},
	"flatten":  {"flatten(list)", []kinds{listKind}, 1, false, listKind, flatten},
}

func size(m *machine, args []any) (any, error) {
	switch v := args[0].(type) {
	case string:
		if err := m.scan(len(v)); err != nil {
			return nil, err
		}
		return int64(utf8.RuneCountInString(v)), nil
	case []any:
		return int64(len(v)), nil
	case map[string]any:
		return int64(len(v)), nil
	}
	return nil, nil
}

// keys are the names of an object's fields, sorted: what is made of them does not depend on chance.
func (m *machine) keys(object map[string]any) ([]any, error) {
	if err := m.sorting(len(object)); err != nil {
		return nil, err
	}
	if err := m.produce(len(object) * (slotBytes + textBytes)); err != nil {
		return nil, err
	}
	out := make([]any, 0, len(object))
	for _, name := range sortedKeys(object) {
		out = append(out, name)
	}
	return out, nil
}

// sorting pays for sorting n items.
func (m *machine) sorting(n int) error { return m.step(1 + n*bits.Len(uint(n))) }

func sortedKeys(object map[string]any) []string { return slices.Sorted(maps.Keys(object)) }

func values(m *machine, args []any) (any, error) {
	object := args[0].(map[string]any)
	out, err := m.keys(object)
	if err != nil {
		return nil, err
	}
	for i, name := range out {
		out[i] = object[name.(string)]
	}
	return out, nil
}

func sorted(m *machine, args []any) (any, error) {
	list := args[0].([]any)
	if err := m.sorting(len(list)); err != nil {
		return nil, err
	}
	out, err := m.list(len(list), 0)
	if err != nil {
		return nil, err
	}
	for _, item := range list {
		v, err := settle(item)
		if err != nil {
			return nil, operand("%v", err)
		}
		if _, has, _ := compare(m, v, v); !has {
			return nil, operand("%s has no order", kindOf(v))
		}
		out = append(out, v)
	}
	var failed error
	slices.SortStableFunc(out, func(a, b any) int {
		if failed != nil {
			return 0
		}
		c, has, err := compare(m, a, b)
		if err == nil && !has {
			err = operand("%s and %s have no order", kindOf(a), kindOf(b))
		}
		failed = err
		return c
	})
	if failed != nil {
		return nil, failed
	}
	return out, nil
}

// distinct keeps the first of equal items.
func distinct(m *machine, args []any) (any, error) {
	list := args[0].([]any)
	if err := m.list0(3 * len(list)); err != nil { // and what tells them apart
		return nil, err
	}
	out := make([]any, 0, len(list))
	seen := make(map[any]struct{}, len(list))
	var objects []any // and lists, which no map tells apart
	for _, item := range list {
		v, err := settle(item)
		if err != nil {
			return nil, operand("%v", err)
		}
		var key any = v
		switch x := v.(type) {
		case []any, map[string]any:
			same, err := in(m, v, objects)
			if err != nil {
				return nil, err
			}
			if !same.(bool) {
				objects, out = append(objects, v), append(out, v)
			}
			continue
		case float64: // 1.0 is 1
			if x == math.Trunc(x) {
				key = intOf(x)
			}
		case string:
			if err := m.scan(len(x)); err != nil {
				return nil, err
			}
		}
		if _, is := seen[key]; !is {
			seen[key] = struct{}{}
			out = append(out, v)
		}
	}
	return out, nil
}

func end(list []any, from int) (any, error) {
	if len(list) == 0 {
		return nil, emptyList()
	}
	v, err := settle(list[from*(len(list)-1)])
	if err != nil {
		return nil, operand("%v", err)
	}
	return v, nil
}

// flatten puts the items of lists in a list in their place, one level.
func flatten(m *machine, args []any) (any, error) {
	list := args[0].([]any)
	total := 0
	for _, item := range list {
		inner, is := item.([]any)
		if err := m.step(1); err != nil {
			return nil, err
		}
		if is {
			total += len(inner)
		} else {
			total++
		}
	}
	out, err := m.list(total, 0)
	if err != nil {
		return nil, err
	}
	for _, item := range list {
		if inner, is := item.([]any); is {
			out = append(out, inner...)
		} else {
			out = append(out, item)
		}
	}
	return out, nil
}
