package llmtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/pawlrun/pawl/llm"
)

// Anthropic's wire format, in types of our own.

var anthropic = dialect{
	provider: "anthropic",
	read: func(body []byte) (*llm.Request, reply, error) {
		var wire messagesRequest
		if err := json.NewDecoder(bytes.NewReader(body)).Decode(&wire); err != nil {
			return nil, reply{}, fmt.Errorf("the body is not a messages request: %w", err)
		}
		req, err := wire.request()
		return req, reply{stream: wire.Stream}, err
	},
	answer: func(w http.ResponseWriter, res *llm.Response) {
		w.Header().Set("Request-Id", res.RequestID)
		writeJSON(w, messageOf(res))
	},
	stream:    writeMessageStream,
	cut:       cutMessage,
	fail:      writeMessagesError,
	setLimits: writeMessagesLimits,
	named:     roundUp,
}

// schemaName stands for the name of a schema, which the format has no place for.
const schemaName = "answer"

type messagesRequest struct {
	Model         string
	MaxTokens     *int `json:"max_tokens"`
	System        blocks
	Messages      []blockMessage
	Temperature   *float64
	StopSequences []string `json:"stop_sequences"`
	Tools         []struct {
		Name, Description string
		InputSchema       json.RawMessage `json:"input_schema"`
		CacheControl      *cacheControl   `json:"cache_control"`
	}
	ToolChoice struct{ Type, Name string } `json:"tool_choice"`
	// OutputConfig.Format is how a structured answer is asked for.
	OutputConfig struct {
		Format struct {
			Type   string
			Schema json.RawMessage
		}
	} `json:"output_config"`
	Stream bool
}

type blockMessage struct {
	Role    string
	Content blocks
}

type cacheControl struct{ Type string }

// blocks is a list of blocks, or a text that stands for one.
type blocks []block

type block struct {
	Type         string
	Text         string
	ID           string          // tool_use
	Name         string          // tool_use
	Input        json.RawMessage // tool_use
	ToolUseID    string          `json:"tool_use_id"` // tool_result
	Content      blocks          // tool_result
	CacheControl *cacheControl   `json:"cache_control"`
}

func (b *blocks) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		*b = blocks{{Type: "text", Text: text}}
		return nil
	}
	return json.Unmarshal(data, (*[]block)(b))
}

// text joins the texts, and says whether a part of the prompt up to here is to be cached.
func (b blocks) text() (text string, cache bool, err error) {
	for _, part := range b {
		if part.Type != "text" {
			return "", false, fmt.Errorf("a block of type %q cannot be read here, only text", part.Type)
		}
		if part.Text == "" {
			return "", false, errors.New("text content blocks must be non-empty")
		}
		text += part.Text
		cache = cache || part.CacheControl != nil
	}
	return text, cache, nil
}

// request reads a wire request as ours, and refuses what the API would for its form.
func (w *messagesRequest) request() (*llm.Request, error) {
	if w.MaxTokens == nil {
		return nil, errors.New("max_tokens: Field required")
	}
	req := &llm.Request{Model: w.Model, MaxTokens: *w.MaxTokens, Temperature: w.Temperature, Stop: w.StopSequences}
	var err error
	if req.System, req.Cache, err = w.System.text(); err != nil {
		return nil, fmt.Errorf("system: %w", err)
	}
	marks := 0
	for _, t := range w.Tools {
		if t.InputSchema == nil {
			return nil, fmt.Errorf("tools.%s.input_schema: Field required", t.Name)
		}
		if t.CacheControl != nil {
			req.Cache = true
		}
		req.Tools = append(req.Tools, llm.Tool{Name: t.Name, Description: t.Description, Parameters: t.InputSchema})
	}
	if req.Cache {
		marks++
	}
	for i, m := range w.Messages {
		turn, err := m.messages()
		if err != nil {
			return nil, fmt.Errorf("messages.%d: %w", i, err)
		}
		for _, m := range turn {
			if m.Cache {
				marks++
			}
		}
		req.Messages = append(req.Messages, turn...)
		if i > 0 {
			if err := answered(w.Messages[i-1], m); err != nil {
				return nil, fmt.Errorf("messages.%d: %w", i-1, err)
			}
		}
	}
	if marks > 4 {
		return nil, fmt.Errorf("A maximum of 4 blocks with cache_control may be provided. Found %d.", marks) //nolint:staticcheck // the API's own words
	}
	switch w.ToolChoice.Type {
	case "":
	case "any":
		req.ToolChoice = llm.ToolChoiceRequired
	case "tool":
		req.ToolChoice = llm.ChooseTool(w.ToolChoice.Name)
	default:
		req.ToolChoice = llm.ToolChoice(w.ToolChoice.Type)
	}
	if f := w.OutputConfig.Format; f.Type == "json_schema" {
		req.Schema = &llm.Schema{Name: schemaName, JSON: f.Schema}
	}
	return req, nil
}

// messages takes a turn apart: each result of a tool, and each text of the user, is a
// message; all that the assistant says in a turn is one.
func (w *blockMessage) messages() ([]llm.Message, error) {
	if len(w.Content) == 0 {
		return nil, errors.New("all messages must have non-empty content")
	}
	var out []llm.Message
	assistant := llm.Message{Role: llm.RoleAssistant}
	for _, b := range w.Content {
		cache := b.CacheControl != nil
		switch {
		case b.Type == "text" && strings.TrimSpace(b.Text) == "":
			return nil, errors.New("text content blocks must contain non-whitespace text")
		case b.Type == "text" && w.Role == "assistant":
			assistant.Content += b.Text
			assistant.Cache = assistant.Cache || cache
		case b.Type == "text":
			out = append(out, llm.Message{Role: llm.Role(w.Role), Content: b.Text, Cache: cache})
		case strings.HasSuffix(b.Type, "thinking") && w.Role == "assistant": // which a script does not look at
		case b.Type == "tool_use" && w.Role == "assistant":
			if !object(b.Input) {
				return nil, fmt.Errorf("tool_use %s: input: Input should be a valid dictionary", b.ID)
			}
			assistant.ToolCalls = append(assistant.ToolCalls, llm.ToolCall{ID: b.ID, Name: b.Name, Arguments: string(b.Input)})
			assistant.Cache = assistant.Cache || cache
		case b.Type == "tool_result" && w.Role == "user":
			text, _, err := b.Content.text()
			if err != nil {
				return nil, fmt.Errorf("tool_result %s: %w", b.ToolUseID, err)
			}
			out = append(out, llm.Message{Role: llm.RoleTool, ToolCallID: b.ToolUseID, Content: text, Cache: cache})
		default:
			return nil, fmt.Errorf("a block of type %q cannot be read in a message of role %q here", b.Type, w.Role)
		}
	}
	if w.Role == "assistant" {
		out = append(out, assistant)
	}
	return out, nil
}

// answered checks that every tool call of one turn has its result in the next.
func answered(turn, next blockMessage) error {
	results := map[string]bool{}
	for _, b := range next.Content {
		if b.Type == "tool_result" {
			results[b.ToolUseID] = true
		}
	}
	for _, b := range turn.Content {
		if b.Type == "tool_use" && !results[b.ID] {
			return fmt.Errorf("`tool_use` ids were found without `tool_result` blocks immediately after: %s", b.ID)
		}
	}
	return nil
}

func object(b []byte) bool {
	var m map[string]json.RawMessage
	return json.Unmarshal(b, &m) == nil && m != nil
}
