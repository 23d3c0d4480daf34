package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
)

// A tree is parsed JSON: nil, bool, string, json.Number, []any, or object. Unlike a map an
// object keeps the order of its members: a model writes them in the order of the schema that
// it was sent, so the order decides whether it gives its reasons before or after its verdict.
type object []member

type member struct {
	key   string
	value any
}

func (o object) get(key string) any {
	for _, m := range o {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

func (o object) has(key string) bool {
	for _, m := range o {
		if m.key == key {
			return true
		}
	}
	return false
}

// set returns o with a member of that key: in its old place, or at the end.
func (o object) set(key string, value any) object {
	for i := range o {
		if o[i].key == key {
			o[i].value = value
			return o
		}
	}
	return append(o, member{key, value})
}

// Limits of numbers. Exact arithmetic on 1e1000000 takes a long time.
const (
	maxDigits   = 100 // bytes of a number as it is written
	maxExponent = 308
)

var errDeep = errors.New("it is nested too deep")

// parseWhole parses text that is one JSON value and nothing else.
func parseWhole(text string, depth int) (any, error) {
	v, end, err := parse(text, depth)
	if err == nil && strings.TrimLeft(text[end:], " \t\r\n") != "" {
		err = fmt.Errorf("there is more after the JSON value: %s", excerpt(text[end:], 40))
	}
	return v, err
}

// parse parses the JSON value with which text begins, and tells where it ends. An object
// with two members of one name is refused, as readers disagree about which of them counts.
func parse(text string, depth int) (v any, end int, err error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	v, err = parseNext(d, depth)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the JSON breaks off before its end")
	}
	return v, int(d.InputOffset()), err
}

func parseNext(d *json.Decoder, depth int) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	if n, ok := token.(json.Number); ok {
		return plainNumber(n)
	}
	open, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	if depth <= 0 {
		return nil, errDeep
	}
	if open == '[' {
		list := []any{}
		for d.More() {
			v, err := parseNext(d, depth-1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	}
	o, seen := object{}, map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		key, _ := token.(string)
		if seen[key] {
			return nil, fmt.Errorf("an object has two members called %.60q", key)
		}
		seen[key] = true
		v, err := parseNext(d, depth-1)
		if err != nil {
			return nil, err
		}
		o = append(o, member{key, v})
	}
	_, err = d.Token()
	return o, err
}

// plainNumber returns n as this package writes it: a whole number without fraction and
// exponent, so that 4.0 decodes into an int; every other as it is.
func plainNumber(n json.Number) (json.Number, error) {
	s := string(n)
	mantissa, exponent, _ := strings.Cut(strings.ToLower(s), "e")
	if exponent != "" {
		if e, err := strconv.Atoi(exponent); err != nil || e > maxExponent || e < -maxExponent {
			return "", fmt.Errorf("the number %s is out of range", excerpt(s, 40))
		}
	}
	if len(s) > maxDigits {
		return "", fmt.Errorf("a number has over %d digits: %s", maxDigits, excerpt(s, 40))
	}
	if _, err := strconv.ParseFloat(s, 64); err != nil {
		return "", fmt.Errorf("the number %s is out of range", excerpt(s, 40))
	}
	if exponent == "" && !strings.Contains(mantissa, ".") {
		if s == "-0" {
			s = "0"
		}
		return json.Number(s), nil
	}
	if r, ok := new(big.Rat).SetString(s); ok && r.IsInt() {
		if whole := r.Num().String(); len(whole) <= 20 {
			return json.Number(whole), nil
		}
	}
	return n, nil
}

// encode writes a tree as compact JSON, in the order of its members.
func encode(v any) json.RawMessage {
	var b bytes.Buffer
	write(&b, v)
	return b.Bytes()
}

func write(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case object:
		b.WriteByte('{')
		for i, m := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			write(b, m.key)
			b.WriteByte(':')
			write(b, m.value)
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			write(b, e)
		}
		b.WriteByte(']')
	case json.Number:
		b.WriteString(string(v))
	default: // nil, bool, string: these always have a JSON form
		e := json.NewEncoder(b)
		e.SetEscapeHTML(false)
		_ = e.Encode(v)
		b.Truncate(b.Len() - 1) // the new line
	}
}

// loose returns a tree as encoding/json would have decoded it, with json.Number for numbers.
func loose(v any) any {
	switch v := v.(type) {
	case object:
		m := make(map[string]any, len(v))
		for _, e := range v {
			m[e.key] = loose(e.value)
		}
		return m
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = loose(e)
		}
		return list
	}
	return v
}

// kindOf names the JSON type of a tree.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case json.Number:
		return "number"
	case []any:
		return "array"
	}
	return "object"
}

// excerpt returns the first n bytes of s or so, in quotes.
func excerpt(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return strconv.Quote(s)
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return strconv.Quote(s[:n]) + "…"
}
