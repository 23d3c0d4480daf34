package trigger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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

// fill makes the object of a document. *PlaceError.
func (p Places) fill(document any) (json.RawMessage, error) {
	object := make(map[string]any, len(p))
	for _, name := range slices.Sorted(maps.Keys(p)) {
		value, found := find(document, segments(p[name]))
		if !found {
			return nil, &PlaceError{name, p[name]}
		}
		object[name] = value
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

// exact decodes JSON; numbers keep all their digits.
func exact(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("something follows the value")
	}
	return v, nil
}
