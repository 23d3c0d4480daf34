package llmtest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl/llm"
)

// Echo returns a rule that answers everything with what was said, and says that no model
// was asked. It gives a structured answer if a schema asks for one, and calls a tool if
// one must be called; the values it makes up are the first that a schema allows, and texts
// say that they are scripted.
func Echo() Rule {
	return Rule{Answer: func(_ context.Context, req *llm.Request) (*llm.Response, error) {
		if call, ok := forced(req); ok {
			return &llm.Response{ToolCalls: []llm.ToolCall{call}}, nil
		}
		if req.Schema != nil {
			return &llm.Response{Text: sample(req.Schema.JSON)}, nil
		}
		last := req.Messages[len(req.Messages)-1]
		who := map[llm.Role]string{llm.RoleTool: "The tool", llm.RoleAssistant: "I", llm.RoleSystem: "The system"}[last.Role]
		if who == "" {
			who = "You"
		}
		return &llm.Response{Text: fmt.Sprintf("This is a script, no model was asked. %s said: %s", who, last.Content)}, nil
	}}
}

// forced returns a call of the tool that the request insists on, unless it was called.
func forced(req *llm.Request) (llm.ToolCall, bool) {
	name, named := req.ToolChoice.Tool()
	if len(req.Tools) == 0 || !named && req.ToolChoice != llm.ToolChoiceRequired {
		return llm.ToolCall{}, false
	}
	at := max(slices.IndexFunc(req.Tools, func(t llm.Tool) bool { return t.Name == name }), 0)
	tool := req.Tools[at]
	return llm.ToolCall{ID: fmt.Sprintf("call_%d", len(req.Messages)), Name: tool.Name, Arguments: sample(tool.Parameters)}, true
}

// shape is what of a JSON Schema is needed to make up a value.
type shape struct {
	Type       any // a name or a list of them
	Const      json.RawMessage
	Enum       []json.RawMessage
	Default    json.RawMessage
	Properties map[string]json.RawMessage
	Required   []string
	Items      json.RawMessage
	MinItems   int
	Minimum    *float64
	MinLength  int
	AnyOf      []json.RawMessage
	OneOf      []json.RawMessage
	AllOf      []json.RawMessage
	Ref        string                     `json:"$ref"`
	Defs       map[string]json.RawMessage `json:"$defs"`
}

// deepest is how far a value goes down; schemas may go in circles.
const deepest = 16

// sample makes up a value of a schema, as well as it can without understanding all of
// JSON Schema.
func sample(schema json.RawMessage) string {
	if len(schema) == 0 {
		return "{}"
	}
	var root shape
	_ = json.Unmarshal(schema, &root) // what cannot be read says nothing
	b, err := json.Marshal(value(schema, root.Defs, deepest))
	if err != nil {
		return "{}"
	}
	return string(b)
}

func value(schema json.RawMessage, defs map[string]json.RawMessage, depth int) any {
	var s shape
	if depth == 0 || json.Unmarshal(schema, &s) != nil {
		return nil
	}
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		return value(defs[name], defs, depth-1)
	}
	switch {
	case s.Const != nil:
		return s.Const
	case len(s.Enum) > 0:
		return s.Enum[0]
	case s.Default != nil:
		return s.Default
	}
	for _, choices := range [][]json.RawMessage{s.AnyOf, s.OneOf, s.AllOf} {
		if len(choices) > 0 {
			return value(choices[0], defs, depth-1)
		}
	}
	kind, _ := s.Type.(string)
	if list, ok := s.Type.([]any); ok && len(list) > 0 {
		kind, _ = list[0].(string)
	}
	if kind == "" && s.Properties != nil {
		kind = "object"
	}
	switch kind {
	case "object":
		out := map[string]any{}
		for _, name := range s.Required {
			out[name] = value(s.Properties[name], defs, depth-1)
		}
		return out
	case "array":
		out := []any{}
		for range min(max(s.MinItems, 1), 100) {
			out = append(out, value(s.Items, defs, depth-1))
		}
		return out
	case "string":
		return "scripted" + strings.Repeat(".", max(min(s.MinLength, 10_000)-len("scripted"), 0))
	case "integer", "number":
		if s.Minimum != nil {
			return *s.Minimum
		}
		return 1
	case "boolean":
		return true
	}
	return nil
}
