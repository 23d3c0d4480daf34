package flow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"unicode/utf8"
)

// decode reads JSON; whole numbers keep all their digits.
func decode(data []byte) (any, error) {
	one := bytes.TrimSpace(data)
	if text, is := unescaped(one); is {
		return text, nil
	}
	if len(one) > 0 && one[0] != '{' && one[0] != '[' && json.Valid(one) {
		return scalar(one)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return exact(v, 0)
}

// unescaped is the text that is written in JSON as it is, without anything escaped. Steps bring such texts by the megabyte, and to
// read JSON sign by sign takes ten times as long.
func unescaped(one []byte) (string, bool) {
	last := len(one) - 1
	if last < 1 || one[0] != '"' || one[last] != '"' {
		return "", false
	}
	text := one[1:last]
	if bytes.IndexByte(text, '"') >= 0 || bytes.IndexByte(text, '\\') >= 0 || !utf8.Valid(text) {
		return "", false
	}
	for _, c := range text {
		if c < ' ' {
			return "", false
		}
	}
	return string(text), true
}

// scalar is decode of valid JSON that is no object and no list, as what steps bring often is: without the buffers of a reader.
func scalar(one []byte) (any, error) {
	switch one[0] {
	case 'n':
		return nil, nil
	case 't', 'f':
		return one[0] == 't', nil
	case '"':
		var text string
		err := json.Unmarshal(one, &text)
		return text, err
	}
	return exact(json.Number(one), 0)
}

// exact makes int64 and float64 of the numbers in a value, which lies so deep in another. One that is neither is an error, as it could not be told on.
func exact(v any, deep int) (_ any, err error) {
	if deep > maxNesting {
		return nil, fmt.Errorf("it is nested more than %d deep", maxNesting)
	}
	switch v := v.(type) {
	case json.Number:
		n := number(v.String())
		if f, is := n.(float64); is && math.IsInf(f, 0) {
			return nil, fmt.Errorf("the number %.40s is too large", v)
		}
		return n, nil
	case map[string]any:
		for k, is := range v {
			switch is.(type) {
			case json.Number, map[string]any, []any:
				if v[k], err = exact(is, deep+1); err != nil {
					return nil, err
				}
			}
		}
	case []any:
		for i, is := range v {
			switch is.(type) {
			case json.Number, map[string]any, []any:
				if v[i], err = exact(is, deep+1); err != nil {
					return nil, err
				}
			}
		}
	}
	return v, nil
}
