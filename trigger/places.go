package trigger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl"
)

// Places say of what an object is made: each of its names has a JSON pointer (RFC 6901) into a document. That of an event
// is {"event": {"id", "name", "data"}}, that of a request {"id", "method", "path", "query", "headers", "body"}, where the names in query and headers
// have their first value, and headers are written small.
type Places map[string]string

// PlaceError reports a place at which a document has nothing. It is an ErrInput.
type PlaceError struct {
	Name  string // that it was to be the value of
	Place string
}

func (e *PlaceError) Error() string {
	return fmt.Sprintf("there is nothing at %s, where %s comes from", e.Place, e.Name)
}

// Is makes it an ErrInput.
func (e *PlaceError) Is(target error) bool { return target == pawl.ErrInput }

func (p Places) check() error {
	if len(p) > 1000 {
		return fmt.Errorf("its input has %d places, the limit is 1000", len(p))
	}
	for name, place := range p {
		if !strings.HasPrefix(place, "/") || len(place) > 4096 {
			return fmt.Errorf("the place %.100q of %.100q is no JSON pointer: it begins with /", place, name)
		}
	}
	return nil
}

// mostFilled is how many bytes of JSON places may make: a thousand of them may lead to what is large.
const mostFilled = 8 << 20

// fill makes the object of a document. *PlaceError; ErrTooLarge, if it has over 8 MiB.
func (p Places) fill(document any) (json.RawMessage, error) {
	object, size := make(map[string]json.RawMessage, len(p)), 0
	for _, name := range slices.Sorted(maps.Keys(p)) {
		value, found := find(document, segments(p[name]))
		if !found {
			return nil, &PlaceError{name, p[name]}
		}
		data, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		if size += len(data); size > mostFilled {
			return nil, fmt.Errorf("%w: what the input of the run is made of has over %d MiB: let it have less of what comes", pawl.ErrTooLarge, mostFilled>>20)
		}
		object[name] = data
	}
	return json.Marshal(object)
}

// segments are the names of a JSON pointer.
func segments(pointer string) []string {
	parts := strings.Split(pointer, "/")[1:]
	for i := range parts {
		parts[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(parts[i])
	}
	return parts
}

// find looks for a value in a decoded document.
func find(v any, names []string) (any, bool) {
	for _, name := range names {
		switch at := v.(type) {
		case map[string]any:
			next, is := at[name]
			if !is {
				return nil, false
			}
			v = next
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(at) {
				return nil, false
			}
			v = at[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// mostNested is how deep JSON may be nested that starts runs. Nobody means more, and to walk through it takes a stack of its own.
const mostNested = 1000

// nested says what is wrong with JSON that is too deep.
func nested(data []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case quoted:
		case c == '[', c == '{':
			if depth++; depth > mostNested {
				return fmt.Errorf("it is nested more than %d deep", mostNested)
			}
		case c == ']', c == '}':
			depth--
		}
	}
	return nil
}

// exact decodes JSON; numbers keep all their digits. It must not be nested more than mostNested deep.
func exact(data []byte) (any, error) {
	if err := nested(data); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, errors.New("it is not JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("it is not JSON: something follows the value")
	}
	return v, nil
}
