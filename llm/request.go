package llm

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// Request is one question to a model: the conversation so far and how to go on with it.
type Request struct {
	Model    string    `json:"model"`
	System   string    `json:"system,omitempty"` // instructions, before all messages
	Messages []Message `json:"messages"`

	// Cache marks the tools and System as worth keeping in the provider's cache, because
	// other requests will begin with the very same. See also Message.Cache.
	Cache bool `json:"cache,omitempty"`

	Tools      []Tool     `json:"tools,omitempty"`
	ToolChoice ToolChoice `json:"toolChoice,omitempty"` // "" means ToolChoiceAuto

	// Schema asks for an answer that is JSON of this shape. Providers enforce it as far
	// as they can; whoever uses the answer validates it.
	Schema *Schema `json:"schema,omitempty"`

	// Temperature is how freely the model chooses its words. Nil means the provider's
	// default; a pointer to 0 is sent as 0.
	Temperature *float64 `json:"temperature,omitempty"`

	// MaxTokens is the most the model may write, reasoning included; 0 means no limit but
	// the model's own.
	MaxTokens int `json:"maxTokens,omitempty"`

	Stop []string `json:"stop,omitempty"` // texts at which the model is to stop
}

// Role says who speaks in a message.
type Role string

// The roles.
const (
	RoleSystem    Role = "system"    // instructions in the course of a conversation
	RoleUser      Role = "user"      // the person, or the program, that asks
	RoleAssistant Role = "assistant" // the model, in an earlier turn
	RoleTool      Role = "tool"      // the result of a tool call
)

// Message is one turn of a conversation.
type Message struct {
	Role       Role       `json:"role"`
	Content    string     `json:"content"`
	ToolCalls  []ToolCall `json:"toolCalls,omitempty"`  // assistant: the tools it asked for
	ToolCallID string     `json:"toolCallId,omitempty"` // tool: the call that this answers

	// Turn is, of an assistant's message, the turn as its provider wrote it, with what
	// Content and ToolCalls have no place for, such as thoughts that a model wants to have
	// back. It comes from Response.Message and is for the client that made it: others, and
	// the same client for another model or a message that was changed, go by the fields
	// above. Providers may refuse a Turn whose conversation before it was changed: who cuts
	// or rewrites a history sets it to nil.
	Turn json.RawMessage `json:"turn,omitempty"`

	// Cache marks all up to the end of this message as worth keeping in the provider's
	// cache. A mark changes what a call costs, never what it answers: reading from a cache
	// is cheap, writing to it may cost more than no cache. Providers that keep what they
	// want without being told ignore it; those that take few marks use Request.Cache and
	// the last ones.
	Cache bool `json:"cache,omitempty"`
}

// User returns a message of the one who asks.
func User(text string) Message { return Message{Role: RoleUser, Content: text} }

// ToolResult returns the message that answers call with what the tool said. An empty
// result is sent as an empty text.
func ToolResult(call ToolCall, content string) Message {
	return Message{Role: RoleTool, ToolCallID: call.ID, Content: content}
}

// Tool is a function that the model may ask to have called. The model never calls it:
// its wish comes back in [Response.ToolCalls].
type Tool struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Parameters  json.RawMessage `json:"parameters,omitempty"` // JSON Schema of the arguments; empty means none are taken
}

// ToolCall is the model's wish to have a tool called.
type ToolCall struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Arguments is the JSON object that the model wrote, as text, because a model may
	// write JSON that does not parse, and the journal must be able to hold that too.
	Arguments string `json:"arguments"`
}

// ToolChoice says whether the model may, must or must not ask for tools. See also
// [ChooseTool].
type ToolChoice string

// The choices.
const (
	ToolChoiceAuto     ToolChoice = "auto"     // the model decides
	ToolChoiceNone     ToolChoice = "none"     // no tool is to be asked for
	ToolChoiceRequired ToolChoice = "required" // some tool must be asked for
)

const choosePrefix = "tool:"

// ChooseTool returns the choice that the model must ask for the tool of this name.
func ChooseTool(name string) ToolChoice { return ToolChoice(choosePrefix + name) }

// Tool returns the name given to [ChooseTool], and whether c is such a choice.
func (c ToolChoice) Tool() (name string, ok bool) {
	if len(c) <= len(choosePrefix) || c[:len(choosePrefix)] != choosePrefix {
		return "", false
	}
	return string(c[len(choosePrefix):]), true
}

// Schema is the shape of a structured answer.
type Schema struct {
	Name        string          `json:"name"` // letters, digits, _ and -
	Description string          `json:"description,omitempty"`
	JSON        json.RawMessage `json:"json"` // a JSON Schema whose type is object
}

// Validate reports the first thing that makes r a request no provider could answer. It
// looks at the shape only: whether a model exists or a schema is sound is the provider's
// to say. Providers call it before they send anything.
func (r *Request) Validate() error {
	if r.Model == "" {
		return errors.New("no model is named; set Request.Model")
	}
	if len(r.Messages) == 0 {
		return errors.New("there are no messages; a request needs at least one")
	}
	for i, m := range r.Messages {
		if err := m.validate(); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
	}
	tools := make(map[string]bool, len(r.Tools))
	for i, t := range r.Tools {
		if t.Name == "" {
			return fmt.Errorf("tool %d has no name", i)
		}
		if tools[t.Name] {
			return fmt.Errorf("two tools are called %q", t.Name)
		}
		tools[t.Name] = true
		if len(t.Parameters) > 0 && !isObject(t.Parameters) {
			return fmt.Errorf("tool %q: parameters are not a JSON object", t.Name)
		}
	}
	if err := r.ToolChoice.validate(tools); err != nil {
		return err
	}
	if r.Schema != nil {
		if r.Schema.Name == "" {
			return errors.New("the schema has no name; set Schema.Name")
		}
		if !isObject(r.Schema.JSON) {
			return fmt.Errorf("schema %q is not a JSON object", r.Schema.Name)
		}
	}
	if t := r.Temperature; t != nil && (math.IsNaN(*t) || math.IsInf(*t, 0) || *t < 0) {
		return fmt.Errorf("temperature is %v; it must be a number from 0", *t)
	}
	if r.MaxTokens < 0 {
		return fmt.Errorf("MaxTokens is %d; it must not be negative", r.MaxTokens)
	}
	return nil
}

func (m *Message) validate() error {
	switch m.Role {
	case RoleSystem, RoleUser:
		if m.Content == "" {
			return fmt.Errorf("a %s message must have content", m.Role)
		}
	case RoleAssistant:
	case RoleTool:
		if m.ToolCallID == "" {
			return errors.New("a tool message must name the call it answers; see ToolResult")
		}
	default:
		return fmt.Errorf("role %q is not one of system, user, assistant, tool", m.Role)
	}
	if len(m.ToolCalls) > 0 && m.Role != RoleAssistant {
		return fmt.Errorf("a %s message cannot ask for tools; only the assistant does", m.Role)
	}
	if len(m.Turn) > 0 && (m.Role != RoleAssistant || !json.Valid(m.Turn)) {
		return fmt.Errorf("a %s message has a turn that is not the assistant's, or not JSON; take it from Response.Message or leave it out", m.Role)
	}
	for i, c := range m.ToolCalls {
		if c.ID == "" || c.Name == "" {
			return fmt.Errorf("tool call %d has no id or no name", i)
		}
	}
	return nil
}

func (c ToolChoice) validate(tools map[string]bool) error {
	if c == "" || c == ToolChoiceAuto || c == ToolChoiceNone {
		return nil
	}
	if name, ok := c.Tool(); ok {
		if !tools[name] {
			return fmt.Errorf("the tool choice names %q, which is not among the tools", name)
		}
		return nil
	}
	if c != ToolChoiceRequired {
		return fmt.Errorf("tool choice %q is not one of auto, none, required; name a tool with ChooseTool", c)
	}
	if len(tools) == 0 {
		return errors.New("a tool is required but there are no tools")
	}
	return nil
}

// Validate reports the first thing that makes r a request no provider could answer.
func (r *EmbedRequest) Validate() error {
	if r.Model == "" {
		return errors.New("no model is named; set EmbedRequest.Model")
	}
	if len(r.Input) == 0 {
		return errors.New("there is no input; a request needs at least one text")
	}
	for i, s := range r.Input {
		if s == "" {
			return fmt.Errorf("input %d is empty; an empty text has no vector", i)
		}
	}
	if r.Dimensions < 0 {
		return fmt.Errorf("%d dimensions are asked for; the number must not be negative", r.Dimensions)
	}
	return nil
}

func isObject(b json.RawMessage) bool {
	var m map[string]json.RawMessage
	return json.Unmarshal(b, &m) == nil && m != nil
}
