package expr

import (
	"encoding/json"
	"strings"
	"time"
	"unicode/utf8"
)

// toJSON writes a value as JSON, the names of objects sorted.
func toJSON(m *machine, args []any) (any, error) {
	w := jsonWriter{m: m}
	if err := w.value(args[0], 0); err != nil {
		return nil, err
	}
	return string(w.out), m.text(len(w.out))
}

type jsonWriter struct {
	m   *machine
	out []byte
}

func (w *jsonWriter) value(v any, depth int) error {
	if depth > maxNesting {
		return &LimitError{"depth", maxNesting}
	}
	if err := w.m.step(1); err != nil {
		return err
	}
	v, err := settle(v)
	if err != nil {
		return operand("%v", err)
	}
	switch v := v.(type) {
	case nil:
		return w.raw("null")
	case string:
		return w.text(v)
	case time.Time:
		return w.text(timeText(v))
	case time.Duration:
		return w.text(durationText(v))
	case []any:
		for i, item := range v {
			if err := w.before(i, "["); err != nil {
				return err
			}
			if err := w.value(item, depth+1); err != nil {
				return err
			}
		}
		if len(v) == 0 {
			return w.raw("[]")
		}
		return w.raw("]")
	case map[string]any:
		if err := w.m.sorting(len(v)); err != nil {
			return err
		}
		if err := w.m.produce(len(v) * textBytes); err != nil {
			return err
		}
		for i, name := range sortedKeys(v) {
			if err := w.before(i, "{"); err != nil {
				return err
			}
			if err := w.text(name); err != nil {
				return err
			}
			if err := w.raw(":"); err != nil {
				return err
			}
			if err := w.value(v[name], depth+1); err != nil {
				return err
			}
		}
		if len(v) == 0 {
			return w.raw("{}")
		}
		return w.raw("}")
	}
	s, _ := scalarText(v)
	return w.raw(s)
}

// before writes what stands before an item.
func (w *jsonWriter) before(i int, open string) error {
	if i > 0 {
		open = ","
	}
	return w.raw(open)
}

func (w *jsonWriter) raw(s string) error {
	if err := w.m.produce(len(s)); err != nil {
		return err
	}
	w.out = append(w.out, s...)
	return nil
}

const hexDigits = "0123456789abcdef"

func (w *jsonWriter) text(s string) error {
	if err := w.m.scan(4 * len(s)); err != nil {
		return err
	}
	if err := w.m.produce(len(s) + 2); err != nil {
		return err
	}
	if !utf8.ValidString(s) {
		if err := w.m.produce(3 * len(s)); err != nil {
			return err
		}
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	w.out = append(w.out, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		b := s[i]
		if b >= ' ' && b != '"' && b != '\\' {
			continue
		}
		w.out = append(w.out, s[from:i]...)
		from = i + 1
		switch b {
		case '"', '\\':
			w.out = append(w.out, '\\', b)
		case '\n':
			w.out = append(w.out, '\\', 'n')
		case '\r':
			w.out = append(w.out, '\\', 'r')
		case '\t':
			w.out = append(w.out, '\\', 't')
		default:
			w.out = append(w.out, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&15])
		}
		if err := w.m.produce(5); err != nil {
			return err
		}
	}
	w.out = append(append(w.out, s[from:]...), '"')
	return nil
}

// parseJSON reads a text of JSON. Names that stand twice in an object are refused: which of the two counts is a guess.
func parseJSON(m *machine, args []any) (any, error) {
	s := args[0].(string)
	if err := m.scan(8 * len(s)); err != nil { // about what its syntax costs to look at
		return nil, err
	}
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	r := jsonReader{m, d}
	v, err := r.value(0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err == nil || strings.TrimSpace(s[min(int(d.InputOffset()), len(s)):]) != "" {
		return nil, operand("something stands behind the JSON, at character %d", d.InputOffset()+1)
	}
	return v, nil
}

type jsonReader struct {
	m *machine
	d *json.Decoder
}

func (r jsonReader) token() (json.Token, error) {
	if err := r.m.step(4); err != nil {
		return nil, err
	}
	before := r.d.InputOffset()
	t, err := r.d.Token()
	if err != nil {
		return nil, operand("the text is no JSON, at character %d", before+1)
	}
	return t, nil
}

func (r jsonReader) value(depth int) (any, error) {
	t, err := r.token()
	if err != nil {
		return nil, err
	}
	return r.of(t, depth)
}

// of is the value that begins with a token.
func (r jsonReader) of(t json.Token, depth int) (any, error) {
	if depth > maxNesting {
		return nil, &LimitError{"depth", maxNesting}
	}
	switch t := t.(type) {
	case json.Number:
		v, err := settle(t)
		if err != nil {
			return nil, operand("%v", err)
		}
		return v, r.m.produce(slotBytes)
	case string:
		return t, r.m.produce(slotBytes + textBytes + len(t))
	case json.Delim:
		if t == '[' {
			return r.list(depth)
		}
		return r.object(depth)
	}
	return t, r.m.produce(slotBytes)
}

func (r jsonReader) list(depth int) (any, error) {
	if err := r.m.produce(2 * slotBytes); err != nil {
		return nil, err
	}
	list := []any{}
	for {
		t, err := r.token()
		if err != nil {
			return nil, err
		}
		if t == json.Delim(']') {
			return list, nil
		}
		v, err := r.of(t, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
}

func (r jsonReader) object(depth int) (any, error) {
	if err := r.m.produce(mapBytes); err != nil {
		return nil, err
	}
	object := map[string]any{}
	for {
		t, err := r.token()
		if err != nil {
			return nil, err
		}
		if t == json.Delim('}') {
			return object, nil
		}
		name, _ := t.(string)
		if _, twice := object[name]; twice {
			return nil, operand("the field %.60q stands twice in one object", name)
		}
		if err := r.m.produce(fieldBytes + len(name)); err != nil {
			return nil, err
		}
		if object[name], err = r.value(depth + 1); err != nil {
			return nil, err
		}
	}
}
