package anthropic

import (
	"cmp"
	"encoding/json"
	"strings"

	sdk "github.com/anthropics/anthropic-sdk-go"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/internal/exchange"
)

// response turns a decoded answer into ours, if it is a whole one.
func (c *Client) response(x *exchange.Call, answer *sdk.Message) (*llm.Response, error) {
	x.Usage = usageOf(&answer.Usage)
	raw, err := x.Raw(x.Body)
	if err != nil {
		return nil, err
	}
	if said := exchange.ErrorIn(x.Body); said != nil { // an error under a status of success
		return nil, x.Spoken(said)
	}
	var blocks []json.RawMessage
	p := parts{reason: string(answer.StopReason), refusal: answer.StopDetails.Explanation, model: string(answer.Model), id: answer.ID}
	var text strings.Builder
	for _, block := range answer.Content {
		blocks = append(blocks, json.RawMessage(block.RawJSON()))
		switch block.Type {
		case "text":
			text.WriteString(block.Text)
		case "tool_use":
			p.calls = append(p.calls, llm.ToolCall{ID: block.ID, Name: block.Name, Arguments: cmp.Or(string(block.Input), "{}")})
		}
	}
	p.text = text.String()
	p.turn = c.turn(x, blocks)
	return c.assemble(x, p, raw)
}

// parts is what an answer consists of, whether it came whole or as a stream.
type parts struct {
	text, refusal string
	calls         []llm.ToolCall
	turn          json.RawMessage
	reason        string // why it ended, in the endpoint's words
	model, id     string
}

func (c *Client) assemble(x *exchange.Call, p parts, raw json.RawMessage) (*llm.Response, error) {
	if p.reason == "" {
		return nil, x.Truncated("the answer has no stop reason")
	}
	return &llm.Response{
		Text: p.text, ToolCalls: p.calls, Refusal: p.refusal, Turn: p.turn,
		Finish: cmp.Or(finishes[p.reason], llm.FinishOther), Usage: x.Usage,
		Provider: c.provider, Model: cmp.Or(p.model, x.Model), RequestID: x.RequestID(p.id), Limits: x.Limits(),
		Raw: raw,
	}, nil
}

// finishes maps the reasons of the protocol to ours; what is missing, pause_turn among
// it, is FinishOther.
var finishes = map[string]llm.Finish{
	string(sdk.StopReasonEndTurn):                    llm.FinishStop,
	string(sdk.StopReasonStopSequence):               llm.FinishStop,
	string(sdk.StopReasonMaxTokens):                  llm.FinishLength,
	string(sdk.StopReasonModelContextWindowExceeded): llm.FinishLength,
	string(sdk.StopReasonToolUse):                    llm.FinishToolCalls,
	string(sdk.StopReasonRefusal):                    llm.FinishRefused,
}

// usageOf adds up what the protocol counts apart: its input_tokens are only those that
// the cache had no part in.
func usageOf(u *sdk.Usage) llm.Usage {
	return llm.Usage{
		Input:       int(u.InputTokens + u.CacheReadInputTokens + u.CacheCreationInputTokens),
		Output:      int(u.OutputTokens),
		Cached:      int(u.CacheReadInputTokens),
		CacheWrites: int(u.CacheCreationInputTokens),
		Reasoning:   int(u.OutputTokensDetails.ThinkingTokens),
	}
}
