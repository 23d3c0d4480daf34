package flow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
)

// decode reads JSON; whole numbers keep all their digits.
func decode(data []byte) (any, error) {
	if one := bytes.TrimSpace(data); len(one) > 0 && one[0] != '{' && one[0] != '[' && json.Valid(one) {
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
