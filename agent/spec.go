package agent

import (
	"encoding/json"
	"fmt"
)

// spec is a shape as the journal keeps it.
type spec struct {
	Kind   string          `json:"kind"` // text, one of, number, boolean, json
	Values []string        `json:"values,omitempty"`
	Range  *Range          `json:"range,omitempty"`
	Schema json.RawMessage `json:"schema,omitempty"`
}

// written is the shape for a note; nil: there is none.
func (s *Shape) written() json.RawMessage {
	if s == nil {
		return nil
	}
	data, err := json.Marshal(s.spec)
	if err != nil { // its schema compiled, so it is JSON
		panic(err)
	}
	return data
}

// shapeOf makes the shape anew that written wrote; nil: there was none.
func shapeOf(written json.RawMessage) (*Shape, error) {
	if len(written) == 0 {
		return nil, nil
	}
	var s spec
	if err := json.Unmarshal(written, &s); err != nil {
		return nil, fmt.Errorf("the shape of a recorded question: %w", err)
	}
	switch s.Kind {
	case "text":
		return Text(), nil
	case "one of":
		return OneOf(s.Values...)
	case "number":
		return Number(*s.Range)
	case "boolean":
		return Boolean(), nil
	case "json":
		return JSON(s.Schema)
	}
	return nil, fmt.Errorf("the shape of a recorded question is of the unknown kind %q", s.Kind)
}

// MaxTokens is how many tokens an answer of the shape may have at first, where the call says
// nothing: 512, or 4,096 for text and JSON. Models that think before they answer need some for that.
func (s *Shape) MaxTokens() int {
	if s.spec.Kind == "text" || s.spec.Kind == "json" {
		return 4096
	}
	return 512
}
