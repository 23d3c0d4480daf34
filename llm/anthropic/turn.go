package anthropic

import (
	"encoding/json"
	"strings"

	sdk "github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/packages/param"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/internal/exchange"
)

// turn is an llm.Message.Turn of ours: what an assistant's turn consisted of, block by
// block, and whose it was, as a model takes back its own thoughts only.
type turn struct {
	Provider string            `json:"provider"`
	Model    string            `json:"model"` // that was asked
	Content  []json.RawMessage `json:"content"`
}

// piece is a block of a turn: as it is written, and as a stream gives it.
type piece struct {
	Type      string          `json:"type"`
	Text      *string         `json:"text,omitempty"`
	Thinking  *string         `json:"thinking,omitempty"`
	Signature string          `json:"signature,omitempty"`
	Data      string          `json:"data,omitempty"` // of redacted_thinking
	ID        string          `json:"id,omitempty"`
	Name      string          `json:"name,omitempty"`
	Input     json.RawMessage `json:"input,omitempty"`

	index int64 // on the wire
	text  strings.Builder
}

// turn returns the turn that blocks make up, or nil if a message says all of it, or if
// there is a block of a kind that is not known to be taken back.
func (c *Client) turn(x *exchange.Call, blocks []json.RawMessage) json.RawMessage {
	thought := false
	for _, raw := range blocks {
		var b struct{ Type string }
		if json.Unmarshal(raw, &b) != nil {
			return nil
		}
		switch b.Type {
		case "thinking", "redacted_thinking":
			thought = true
		case "text", "tool_use":
		default:
			return nil
		}
	}
	if !thought {
		return nil
	}
	b, err := json.Marshal(turn{c.provider, x.Model, blocks})
	if err != nil {
		return nil
	}
	return b
}

// again returns the blocks of a turn as model wrote them, or nil if m has none, if they
// are another's, or if they do not say what m says.
func (c *Client) again(m *llm.Message, model string) []sdk.ContentBlockParamUnion {
	if len(m.Turn) == 0 {
		return nil
	}
	var t turn
	if json.Unmarshal(m.Turn, &t) != nil || t.Provider != c.provider || t.Model != model {
		return nil
	}
	var out []sdk.ContentBlockParamUnion
	var text strings.Builder
	calls := 0
	for _, raw := range t.Content {
		var b piece
		if json.Unmarshal(raw, &b) != nil {
			return nil
		}
		switch b.Type {
		case "text":
			if b.Text == nil {
				return nil
			}
			text.WriteString(*b.Text)
			if strings.TrimSpace(*b.Text) != "" {
				out = append(out, sdk.NewTextBlock(*b.Text))
			}
		case "tool_use":
			if calls == len(m.ToolCalls) || m.ToolCalls[calls].ID != b.ID || m.ToolCalls[calls].Name != b.Name {
				return nil
			}
			out = append(out, sdk.NewToolUseBlock(b.ID, input(m.ToolCalls[calls].Arguments), b.Name))
			calls++
		default:
			out = append(out, param.Override[sdk.ContentBlockParamUnion](raw))
		}
	}
	if text.String() != m.Content || calls != len(m.ToolCalls) {
		return nil
	}
	return out
}
