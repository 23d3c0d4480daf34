package api

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/internal/spelling"
)

// slack is how much larger than the largest payload a body may be: for the object around it.
const slack = 64 << 10

// body reads the request's body, which must be one JSON value or nothing.
func (s *server) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	data, err := readBody(w, r, s.maxBody)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, fmt.Errorf("%w: the body of the request is over %d bytes: store it elsewhere and send a reference", pawl.ErrTooLarge, large.Limit)
	case err != nil:
		return nil, badRequest("the body of the request broke off: %v", err)
	}
	data = bytes.TrimSpace(data)
	if len(data) == 0 {
		return nil, nil
	}
	return data, checkJSON(data)
}

// textTypes are the media types of documents; the first is what a document is without one that tells.
var textTypes = []string{"application/json", "application/yaml"}

// text reads a request's body as it came: a document, of which its reader says what is wrong and where.
func (s *server) text(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	data, err := readBody(w, r, flow.MaxDocument)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, fmt.Errorf("%w: the document is over %d bytes", pawl.ErrTooLarge, large.Limit)
	case err != nil:
		return nil, badRequest("the body of the request broke off: %v", err)
	}
	trimmed := bytes.TrimSpace(data)
	if len(trimmed) == 0 {
		return nil, nil
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); trimmed[0] != '{' {
		switch kind {
		case "application/json":
			return nil, badRequest("the body is no JSON object, as its Content-Type says: YAML is sent as application/yaml")
		case "application/x-www-form-urlencoded": // curl's -d, which takes the ends of lines out
			p := badRequest("the body is no JSON object, and was sent as a form")
			p.Hint = "send YAML as it is: curl --data-binary @flow.yaml -H 'Content-Type: application/yaml'"
			return nil, p
		}
	}
	return data, nil
}

// checkFields refuses a body that is no object, or has a field, at any depth, that the type t
// does not know under exactly its name.
func checkFields(data []byte, t reflect.Type) error {
	if data[0] != '{' {
		return badRequest("the body must be a JSON object with these fields: %s", strings.Join(fieldsOf(t), ", "))
	}
	return knownFields(data, t, "")
}

var (
	rawType  = reflect.TypeFor[json.RawMessage]()
	textType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// knownFields checks the objects in data that t makes structs of. What is of another kind
// than t wants is left to whoever decodes it.
func knownFields(data json.RawMessage, t reflect.Type, at string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == rawType || reflect.PointerTo(t).Implements(textType):
	case t.Kind() == reflect.Slice:
		var items []json.RawMessage
		if json.Unmarshal(data, &items) != nil {
			return nil
		}
		for i, item := range items {
			if err := knownFields(item, t.Elem(), fmt.Sprintf("%s%d.", at, i)); err != nil {
				return err
			}
		}
	case t.Kind() == reflect.Struct:
		var fields map[string]json.RawMessage
		if json.Unmarshal(data, &fields) != nil {
			return nil
		}
		known := fieldsOf(t)
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			i := slices.Index(known, name)
			if i < 0 {
				p := badRequest("the body has a field %q, which this call does not know", at+name)
				p.Hint = spelling.Choice(name, known)
				return p
			}
			if err := knownFields(fields[name], t.Field(i).Type, at+name+"."); err != nil {
				return err
			}
		}
	}
	return nil
}

// unmarshal reads a body that has passed the checks.
func unmarshal(data []byte, into any) error {
	err := json.Unmarshal(data, into)
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Errorf("field %q can't be a %s", wrong.Field, wrong.Value)
	}
	if err != nil {
		return fmt.Errorf("the body does not fit: %w", err)
	}
	return nil
}

// fieldsOf lists the names that a struct's fields have in JSON, in their order.
func fieldsOf(t reflect.Type) []string {
	var names []string
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, cmp.Or(name, f.Name))
	}
	return names
}

// checkJSON refuses what encoding/json would let pass: bytes that are not UTF-8, and a
// name that an object has twice, of which one reader takes the first and the next the last.
func checkJSON(data []byte) error {
	if !utf8.Valid(data) {
		return badRequest("the body is not valid UTF-8")
	}
	var one json.RawMessage
	if err := json.Unmarshal(data, &one); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return badRequest("the body is not one JSON value: %v at byte %d", syntax, syntax.Offset)
		}
		return badRequest("the body is not one JSON value: %v", err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return uniqueNames(d, nil)
}

// maxDepth is how deep values may be nested in a body. It bounds the stack of who reads it.
const maxDepth = 512

// uniqueNames reads one value of d, which is known to be sound. path is where it is; the text of
// it is made for an error only.
func uniqueNames(d *json.Decoder, path []string) error {
	if len(path) > maxDepth {
		return badRequest("the body is nested deeper than %d", maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return badRequest("the body is not one JSON value: %v", err)
	}
	switch t {
	case json.Delim('{'):
		seen := map[string]bool{}
		for d.More() {
			t, err := d.Token()
			name, _ := t.(string)
			if err != nil {
				return badRequest("the body is not one JSON value: %v", err)
			}
			at := append(path, name)
			if seen[name] {
				return badRequest("the body has /%s twice", strings.Join(at, "/"))
			}
			seen[name] = true
			if err := uniqueNames(d, at); err != nil {
				return err
			}
		}
		_, err = d.Token()
	case json.Delim('['):
		for i := 0; d.More(); i++ {
			if err := uniqueNames(d, append(path, strconv.Itoa(i))); err != nil {
				return err
			}
		}
		_, err = d.Token()
	}
	return err
}
