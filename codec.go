package pawl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// encode turns v into the JSON that a journal keeps. what names the value in errors.
func encode(what string, v any, limit int) (json.RawMessage, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, &EncodingError{What: what, Path: culprit(reflect.ValueOf(v), "value", 0), Err: err}
	}
	if len(b) > limit {
		return nil, &TooLargeError{What: what, Size: len(b), Limit: limit}
	}
	return b, nil
}

// giver is a result that is JSON already, and gives it away.
type giver interface {
	json.Marshaler
	GiveJSON() json.RawMessage
}

// ready is the JSON of a value that gives its own away, if that is what encode would make of it to the byte; else nil. It is not
// copied: json.Marshal does so twice, and such values are the large ones.
func ready(v any) json.RawMessage {
	if own, is := v.(giver); is {
		if data := own.GiveJSON(); asEncoded(data) {
			return data
		}
	}
	return nil
}

// asEncoded reports whether data is JSON as json.Marshal writes it: without white space between values, in which nothing is to be escaped for HTML.
func asEncoded(data []byte) bool {
	quoted := false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '<', c == '>', c == '&':
			return false
		case c == 0xe2 && i+2 < len(data) && data[i+1] == 0x80 && data[i+2]&^1 == 0xa8: // U+2028, U+2029
			return false
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c <= ' ' && !quoted:
			return false
		}
	}
	return json.Valid(data)
}

// decode is the inverse of encode. Absent data leaves *v as it is.
func decode(what string, data []byte, v any) error {
	if len(data) == 0 {
		return nil
	}
	if err := unmarshal(data, v); err != nil {
		return &DecodingError{What: what, Type: fmt.Sprintf("%T", v)[1:], Err: err} // v is a pointer
	}
	return nil
}

// unmarshal is json.Unmarshal. What reads itself, as a json.RawMessage does, gets valid data at once: json.Unmarshal would look for its
// end first, though it has found that all of it is one value.
func unmarshal(data []byte, v any) error {
	if u, is := v.(json.Unmarshaler); is && json.Valid(data) {
		return u.UnmarshalJSON(bytes.Trim(data, " \t\r\n"))
	}
	return json.Unmarshal(data, v)
}

// decodeInput is decode with unknown fields and trailing data refused, for what comes
// from outside.
func decodeInput(workflow string, data []byte, v any) error {
	if len(data) == 0 {
		data = []byte("null")
	}
	if bytes.Equal(bytes.TrimSpace(data), []byte("null")) && !takesNull(v) {
		return fmt.Errorf("%w: input of %s: it is null, or was left out, and an input of type %T is needed",
			ErrInput, workflow, reflect.ValueOf(v).Elem().Interface())
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil && d.More() {
		err = errors.New("there is more after the JSON value")
	}
	if err != nil {
		return fmt.Errorf("%w: input of %s: %s", ErrInput, workflow, misread(err, v))
	}
	return nil
}

// takesNull reports whether null is a value of what v points to, rather than the lack of one. Of a struct it is the one
// without fields, as {} is: JSON of Go can't tell which fields must be there, a method Validate can.
func takesNull(v any) bool {
	if _, ok := v.(json.Unmarshaler); ok {
		return true
	}
	switch t := reflect.TypeOf(v).Elem(); t.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Map, reflect.Slice, reflect.Struct:
		return true
	default:
		return false
	}
}

// misread says what of a JSON text does not fit *v, in words of JSON and not of Go.
func misread(err error, v any) string {
	var wrong *json.UnmarshalTypeError
	text := strings.TrimPrefix(err.Error(), "json: ")
	switch {
	case errors.As(err, &wrong) && wrong.Field != "":
		return fmt.Sprintf("%q is of kind %s, and should be of kind %s", wrong.Field, wrong.Value, kindOf(wrong.Type))
	case errors.As(err, &wrong):
		return fmt.Sprintf("it is of kind %s, and should be of kind %s", wrong.Value, kindOf(wrong.Type))
	case strings.HasPrefix(text, "unknown field "):
		var names []string
		for _, f := range fieldsOf(reflect.TypeOf(v).Elem()) {
			names = append(names, f.Name)
		}
		if names != nil {
			text += "; there are: " + strings.Join(names, ", ")
		}
	}
	return text
}

// culprit finds the part of v that has no JSON form, as a Go path.
func culprit(v reflect.Value, path string, depth int) string {
	if !v.IsValid() || depth > 32 {
		return path
	}
	bad := func(x reflect.Value) bool {
		if !x.IsValid() || !x.CanInterface() {
			return false
		}
		_, err := json.Marshal(x.Interface())
		return err != nil
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			return culprit(v.Elem(), path, depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Tag.Get("json") != "-" && bad(v.Field(i)) {
				return culprit(v.Field(i), path+"."+f.Name, depth+1)
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if bad(v.Index(i)) {
				return culprit(v.Index(i), path+"["+strconv.Itoa(i)+"]", depth+1)
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if bad(it.Value()) {
				return culprit(it.Value(), fmt.Sprintf("%s[%v]", path, it.Key()), depth+1)
			}
		}
	}
	return path
}
