package flowtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/pawlrun/pawl/internal/spelling"
)

// pathDiff says where a run left the path that was expected.
func pathDiff(want, got []string) string {
	same := 0
	for same < len(want) && same < len(got) && want[same] == got[same] {
		same++
	}
	text := fmt.Sprintf("the path should be %s, and is %s", strings.Join(want, " → "), strings.Join(got, " → "))
	switch {
	case len(got) == 0:
		return fmt.Sprintf("the path should be %s, and the run came to no step", strings.Join(want, " → "))
	case same == 0:
		return text
	case same == len(got):
		return text + ": it ended at " + got[same-1]
	case same == len(want):
		return text + ": it went on behind " + want[same-1]
	}
	return fmt.Sprintf("%s: from %s it went to %s", text, got[same-1], got[same])
}

// maxDifferences bounds what is told of one value.
const maxDifferences = 10

// differences says how a value differs from what was expected; whole: also where it has more.
func differences(of string, want, got any, whole bool) (out []string) {
	var look func(at string, want, got any)
	look = func(at string, want, got any) {
		if len(out) >= maxDifferences {
			return
		}
		differ := func() { out = append(out, fmt.Sprintf("%s should be %s, and is %s", at, words(want), words(got))) }
		switch want := want.(type) {
		case map[string]any:
			other, is := got.(map[string]any)
			if !is {
				differ()
				return
			}
			for _, name := range sorted(want) {
				if v, is := other[name]; is {
					look(at+"."+name, want[name], v)
				} else {
					out = append(out, fmt.Sprintf("%s.%s should be %s, and is missing; %s", at, name, words(want[name]), spelling.Choice(name, sorted(other))))
				}
			}
			for _, name := range sorted(other) {
				if _, is := want[name]; !is && whole {
					out = append(out, fmt.Sprintf("%s.%s should not be there, and is %s", at, name, words(other[name])))
				}
			}
		case []any:
			other, is := got.([]any)
			if !is || len(other) != len(want) {
				differ()
				return
			}
			for i := range want {
				look(fmt.Sprintf("%s[%d]", at, i), want[i], other[i])
			}
		default:
			if !equal(want, got) {
				differ()
			}
		}
	}
	look(of, want, got)
	return out
}

// equal compares values that hold no others; 1 and 1.0 are the same number.
func equal(a, b any) bool {
	x, isX := float(a)
	y, isY := float(b)
	if isX && isY {
		i, whole := a.(int64)
		j, also := b.(int64)
		return whole && also && i == j || !(whole && also) && x == y
	}
	return reflect.DeepEqual(a, b)
}

func float(v any) (float64, bool) {
	switch v := v.(type) {
	case int64:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}

// plain is a value as JSON has it.
func plain(v any) any {
	data, err := json.Marshal(v)
	if err != nil {
		return v
	}
	out, err := decode(data)
	if err != nil {
		return v
	}
	return out
}

// decode reads JSON; whole numbers keep all their digits.
func decode(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return exact(v), nil
}

func exact(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			return v.String()
		}
		return f
	case map[string]any:
		for name := range v {
			v[name] = exact(v[name])
		}
	case []any:
		for i := range v {
			v[i] = exact(v[i])
		}
	}
	return v
}
