package llmtest

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/pawlrun/pawl/llm"
)

// OpenAI's wire format, in types of our own: a fake that shared a client's types would
// share its mistakes.

var openAI = dialect{
	provider: "openai",
	read: func(body []byte) (*llm.Request, reply, error) {
		var wire wireRequest
		if err := json.NewDecoder(bytes.NewReader(body)).Decode(&wire); err != nil {
			return nil, reply{}, fmt.Errorf("the body is not a chat completion request: %w", err)
		}
		req, err := wire.request()
		return req, reply{wire.Stream, wire.StreamOptions.IncludeUsage}, err
	},
	answer: func(w http.ResponseWriter, res *llm.Response) {
		w.Header().Set("X-Request-Id", res.RequestID)
		writeJSON(w, wireAnswerOf(res))
	},
	stream:    writeStream,
	cut:       cutOff,
	fail:      writeError,
	setLimits: writeLimits,
	named:     func(wait time.Duration) time.Duration { return wait }, // Retry-After-Ms
}

type wireRequest struct {
	Model               string
	Messages            []wireMessage
	Temperature         *float64
	MaxTokens           int             `json:"max_tokens"`
	MaxCompletionTokens int             `json:"max_completion_tokens"`
	Stop                texts           // a text or a list of them
	Tools               []wireTool      `json:"tools"`
	ToolChoice          json.RawMessage `json:"tool_choice"`
	ResponseFormat      struct {
		Type       string
		JSONSchema struct {
			Name, Description string
			Schema            json.RawMessage
		} `json:"json_schema"`
	} `json:"response_format"`
	Stream        bool
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

type wireMessage struct {
	Role       string         `json:"role"`
	Content    *texts         `json:"content"` // a text, a list of parts, or null
	Refusal    *string        `json:"refusal,omitempty"`
	ToolCalls  []wireToolCall `json:"tool_calls,omitempty"`
	ToolCallID string         `json:"tool_call_id,omitempty"`
}

type wireTool struct {
	Type     string
	Function struct {
		Name, Description string
		Parameters        json.RawMessage
	}
}

type wireToolCall struct {
	Index    *int   `json:"index,omitempty"` // in events only
	ID       string `json:"id,omitempty"`
	Type     string `json:"type,omitempty"`
	Function struct {
		Name      string  `json:"name,omitempty"`
		Arguments *string `json:"arguments"`
	} `json:"function"`
}

// texts is one text or a list of texts, or of parts with a text.
type texts []string

func (t *texts) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	var one string
	if json.Unmarshal(b, &one) == nil {
		*t = texts{one}
		return nil
	}
	var parts []struct{ Type, Text string }
	if json.Unmarshal(b, &parts) == nil {
		for _, p := range parts {
			if p.Type != "text" {
				return fmt.Errorf("a part of type %q cannot be read here, only text", p.Type)
			}
			*t = append(*t, p.Text)
		}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(t))
}

func (t *texts) MarshalJSON() ([]byte, error) { return json.Marshal(t.join()) }

func (t *texts) join() (s string) {
	if t != nil {
		for _, part := range *t {
			s += part
		}
	}
	return s
}

// request reads a wire request as ours. Instructions at the beginning become System.
func (w *wireRequest) request() (*llm.Request, error) {
	req := &llm.Request{Model: w.Model, Temperature: w.Temperature, Stop: w.Stop, MaxTokens: max(w.MaxTokens, w.MaxCompletionTokens)}
	for i, m := range w.Messages {
		if m.Content == nil && len(m.ToolCalls) == 0 {
			return nil, fmt.Errorf("message %d has neither content nor tool calls", i)
		}
		if m.Role == "developer" {
			m.Role = "system"
		}
		if i == 0 && m.Role == "system" {
			req.System = m.Content.join()
			continue
		}
		message := llm.Message{Role: llm.Role(m.Role), Content: m.Content.join(), ToolCallID: m.ToolCallID}
		for _, c := range m.ToolCalls {
			if c.Type != "function" || c.Function.Arguments == nil {
				return nil, fmt.Errorf("message %d: tool call %q is no function or has no arguments", i, c.ID)
			}
			message.ToolCalls = append(message.ToolCalls, llm.ToolCall{ID: c.ID, Name: c.Function.Name, Arguments: *c.Function.Arguments})
		}
		req.Messages = append(req.Messages, message)
	}
	for _, t := range w.Tools {
		req.Tools = append(req.Tools, llm.Tool{Name: t.Function.Name, Description: t.Function.Description, Parameters: t.Function.Parameters})
	}
	var err error
	if req.ToolChoice, err = choice(w.ToolChoice); err != nil {
		return nil, err
	}
	if f := w.ResponseFormat; f.Type == "json_schema" {
		req.Schema = &llm.Schema{Name: f.JSONSchema.Name, Description: f.JSONSchema.Description, JSON: f.JSONSchema.Schema}
	}
	return req, nil
}

func choice(b json.RawMessage) (llm.ToolChoice, error) {
	if b == nil {
		return "", nil
	}
	var mode string
	if json.Unmarshal(b, &mode) == nil {
		return llm.ToolChoice(mode), nil
	}
	var named struct{ Function struct{ Name string } }
	if json.Unmarshal(b, &named) != nil || named.Function.Name == "" {
		return "", errors.New("tool_choice is neither a mode nor a function")
	}
	return llm.ChooseTool(named.Function.Name), nil
}

// wireFinishes says how OpenAI writes each reason.
var wireFinishes = map[llm.Finish]string{
	llm.FinishStop: "stop", llm.FinishLength: "length", llm.FinishToolCalls: "tool_calls", llm.FinishRefused: "content_filter",
	llm.FinishOther: "a_reason_of_its_own",
}

func finishReason(res *llm.Response) string {
	if res.Refusal != "" {
		return "stop" // OpenAI's way: the refusal itself tells
	}
	return wireFinishes[res.Finish]
}

func wireAnswerOf(res *llm.Response) any {
	message := wireMessage{Role: "assistant", Content: &texts{res.Text}}
	if res.Refusal != "" {
		message.Content, message.Refusal = nil, &res.Refusal
	}
	for _, c := range res.ToolCalls {
		w := wireToolCall{ID: c.ID, Type: "function"}
		w.Function.Name, w.Function.Arguments = c.Name, &c.Arguments
		message.ToolCalls = append(message.ToolCalls, w)
	}
	return map[string]any{
		"id": "chatcmpl-" + res.RequestID, "object": "chat.completion", "created": 0, "model": res.Model,
		"choices": []any{map[string]any{"index": 0, "message": message, "logprobs": nil, "finish_reason": finishReason(res)}},
		"usage":   wireUsageOf(res.Usage),
	}
}

// wireEventsOf returns the events of a stream: the role, the pieces, the reason, and the
// usage if it was asked for.
func wireEventsOf(res *llm.Response, includeUsage bool) []any {
	event := func(choices ...any) map[string]any {
		if choices == nil {
			choices = []any{}
		}
		return map[string]any{"id": "chatcmpl-" + res.RequestID, "object": "chat.completion.chunk", "created": 0, "model": res.Model, "choices": choices}
	}
	delta := func(reason any, d map[string]any) any {
		return event(map[string]any{"index": 0, "delta": d, "finish_reason": reason})
	}
	out := []any{delta(nil, map[string]any{"role": "assistant", "content": ""})}
	for _, d := range deltas(res) {
		if d.ToolCall == nil {
			out = append(out, delta(nil, map[string]any{"content": d.Text}))
			continue
		}
		w := wireToolCall{Index: &d.ToolCall.Index, ID: d.ToolCall.ID}
		w.Function.Name, w.Function.Arguments = d.ToolCall.Name, &d.ToolCall.Arguments
		if w.ID != "" {
			w.Type = "function"
		}
		out = append(out, delta(nil, map[string]any{"tool_calls": []wireToolCall{w}}))
	}
	if res.Refusal != "" {
		out = append(out, delta(nil, map[string]any{"refusal": res.Refusal}))
	}
	out = append(out, delta(finishReason(res), map[string]any{}))
	if includeUsage {
		last := event()
		last["usage"] = wireUsageOf(res.Usage)
		out = append(out, last)
	}
	return out
}

func wireUsageOf(u llm.Usage) any {
	details := map[string]any{"cached_tokens": u.Cached}
	if u.CacheWrites > 0 {
		details["cache_write_tokens"] = u.CacheWrites
	}
	return map[string]any{
		"prompt_tokens": u.Input, "completion_tokens": u.Output, "total_tokens": u.Input + u.Output,
		"prompt_tokens_details":     details,
		"completion_tokens_details": map[string]any{"reasoning_tokens": u.Reasoning},
	}
}

type wireEmbedRequest struct {
	Model          string
	Input          texts
	Dimensions     int
	EncodingFormat string `json:"encoding_format"`
}

func wireVectorsOf(res *llm.EmbedResponse, asBase64 bool) any {
	data := make([]any, len(res.Vectors))
	for i, v := range res.Vectors {
		var embedding any = v
		if asBase64 {
			var b []byte
			for _, f := range v {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(f))
			}
			embedding = base64.StdEncoding.EncodeToString(b)
		}
		data[i] = map[string]any{"object": "embedding", "index": i, "embedding": embedding}
	}
	return map[string]any{
		"object": "list", "data": data, "model": res.Model,
		"usage": map[string]any{"prompt_tokens": res.Usage.Input, "total_tokens": res.Usage.Input},
	}
}

// writeStream sends an answer event by event, each in a write of its own.
func writeStream(w http.ResponseWriter, res *llm.Response, how reply) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Request-Id", res.RequestID)
	out := http.NewResponseController(w)
	for _, event := range wireEventsOf(res, how.usage) {
		fmt.Fprintf(w, "data: %s\n\n", marshal(event))
		_ = out.Flush() // fails only if the client has gone away
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

func marshal(event any) []byte {
	b, err := json.Marshal(event)
	if err != nil {
		panic(fmt.Sprintf("llmtest: an event that is no JSON: %v", err))
	}
	return b
}

func cutOff(w http.ResponseWriter, how reply) {
	if how.stream {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: {\"id\":\"cut\",\"model\":%q,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"This answer \"},\"finish_reason\":null}]}\n\n", ModelName)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, "{\"id\":\"cut\",\"model\":%q,\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"This answer ", ModelName)
}
