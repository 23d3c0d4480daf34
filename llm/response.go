package llm

import "encoding/json"

// Response is a model's whole answer.
type Response struct {
	Text      string     `json:"text,omitempty"`
	ToolCalls []ToolCall `json:"toolCalls,omitempty"`

	// Refusal is what the model said in place of an answer when it declined, if it said
	// anything. It is kept out of Text so that no program takes it for the answer.
	Refusal string `json:"refusal,omitempty"`

	// Turn is what the next request is to have back beside the fields above; see
	// Message.Turn. It is nil if these say all there is.
	Turn json.RawMessage `json:"turn,omitempty"`

	Finish Finish `json:"finish"`
	Usage  Usage  `json:"usage"`

	Provider  string `json:"provider"`
	Model     string `json:"model"`               // the model that answered, as the provider names it
	RequestID string `json:"requestId,omitempty"` // the provider's name for this call, to quote to its support
	Limits    Limits `json:"limits,omitzero"`     // what the provider said of its rate limits when it answered

	// Raw is the provider's answer, byte for byte as it came: the JSON document or, for a
	// stream, a JSON array of its events. Bytes that are not UTF-8, which JSON forbids,
	// are replaced by U+FFFD. encoding/json drops the white space between its tokens when
	// it writes a Response, so after a journal Raw is the same document, not always the
	// same bytes. It can be large: who needs no audit may set it to nil.
	Raw json.RawMessage `json:"raw,omitempty"`
}

// Message returns the answer as the assistant's turn, to be appended to the messages of
// the next request.
func (r *Response) Message() Message {
	text := r.Text
	if text == "" {
		text = r.Refusal
	}
	return Message{Role: RoleAssistant, Content: text, ToolCalls: r.ToolCalls, Turn: r.Turn}
}

// Finish says why an answer ended.
type Finish string

// The reasons.
const (
	FinishStop      Finish = "stop"       // the model had said all, or met a stop text
	FinishLength    Finish = "length"     // MaxTokens or the model's own limit was reached: the text is cut
	FinishToolCalls Finish = "tool_calls" // the model waits for the results of ToolCalls
	FinishRefused   Finish = "refused"    // the model or a content filter declined, perhaps half way
	FinishOther     Finish = "other"      // a reason of the provider's own; Raw has it
)

// Usage counts the tokens of a call, as the provider counted them. All zero means that
// the provider did not say.
type Usage struct {
	Input       int `json:"input"`                 // read by the model, cached ones included
	Output      int `json:"output"`                // written by the model, reasoning included
	Cached      int `json:"cached,omitempty"`      // the part of Input that came from the provider's cache
	CacheWrites int `json:"cacheWrites,omitempty"` // the part of Input that went into the provider's cache, at a price of its own
	Reasoning   int `json:"reasoning,omitempty"`   // the part of Output that was thought and not shown
}

// Add returns the sum of u and v. It is for counting: what calls cost together is the sum
// of what each cost, as a long prompt may have a price of its own.
func (u Usage) Add(v Usage) Usage {
	return Usage{
		Input:       u.Input + v.Input,
		Output:      u.Output + v.Output,
		Cached:      u.Cached + v.Cached,
		CacheWrites: u.CacheWrites + v.CacheWrites,
		Reasoning:   u.Reasoning + v.Reasoning,
	}
}
