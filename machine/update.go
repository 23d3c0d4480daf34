package machine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// update is the data of the event that a waiting line takes: a new value for one version of
// it, or a patch for any.
type update struct {
	ID      string          `json:"id,omitempty"`
	Version *int            `json:"version,omitempty"` // nil: any
	State   json.RawMessage `json:"state,omitempty"`   // with Version
	Patch   json.RawMessage `json:"patch,omitempty"`   // without
	Go      bool            `json:"go,omitempty"`      // go on
	Reset   bool            `json:"reset,omitempty"`   // forget the visits so far
}

// updateEvent is the event that a line waits for in a state. So an update that comes early
// is kept until the run comes to wait there.
func updateEvent(path, state string) string {
	name := key(path, state, 1)
	if len(name) > 200 { // of a fork in a fork, with long names: events have names of 256 bytes at most
		sum := sha256.Sum256([]byte(name))
		name = hex.EncodeToString(sum[:])
	}
	return "machine:" + name
}

// update moves the line by an update and returns it; nil: it is refused, as it was made for
// another version of the value, or is none.
func (p *program) update(ln *line, data json.RawMessage) *update {
	var u update
	if json.Unmarshal(data, &u) != nil {
		return nil
	}
	state := u.State
	switch {
	case u.Version != nil && (*u.Version != ln.ver || state == nil):
		return nil
	case u.Version == nil && state != nil:
		return nil
	case u.Version == nil:
		var err error
		if state, err = mergePatch(ln.state, u.Patch); err != nil {
			return nil
		}
	}
	if p.valid(state) != nil {
		return nil
	}
	ln.state = state
	ln.ver++
	if u.Reset {
		ln.visits = map[string]int{}
	}
	if u.Go {
		ln.at, ln.move = ln.move.Wait, move{}
	}
	return &u
}

// mergePatch applies a JSON merge patch (RFC 7396): objects are merged, null deletes a key,
// anything else replaces. No patch, or null, changes nothing.
func mergePatch(value, patch json.RawMessage) (json.RawMessage, error) {
	if len(patch) == 0 || string(patch) == "null" {
		return value, nil
	}
	var v, p any
	if err := exact(patch, &p); err != nil {
		return nil, err
	}
	if len(value) > 0 {
		if err := exact(value, &v); err != nil {
			return nil, err
		}
	}
	return json.Marshal(merged(v, p))
}

func merged(v, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := v.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, change := range changes {
		if change == nil {
			delete(object, name)
		} else {
			object[name] = merged(object[name], change)
		}
	}
	return object
}

// exact decodes JSON without rounding its numbers.
func exact(data json.RawMessage, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(v)
}
