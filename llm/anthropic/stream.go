package anthropic

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"

	sdk "github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/internal/exchange"
)

// Stream asks for the answer in pieces. See [llm.Streamer]. How many tokens were read
// comes at the beginning of a stream, how many were written at its end: the error of a
// stream that breaks off between the two has the former.
func (c *Client) Stream(ctx context.Context, req *llm.Request, each func(llm.Delta) error) (*llm.Response, error) {
	x, err := c.line.Call(req.Model, req.Validate())
	if err != nil {
		return nil, err
	}
	x.Stream = true
	if err := c.post(ctx, x, req, option.WithJSONSet("stream", true)); err != nil {
		return nil, err
	}
	defer x.Answer.Close()

	var g gathering
	for !g.ended {
		event, err := x.Event()
		if err != nil {
			return c.ended(ctx, x, &g, err)
		}
		delta, said, err := g.take(event)
		if err != nil {
			return nil, x.Malformed(event)
		}
		x.Usage = usageOf(&g.usage)
		if said != nil {
			return nil, x.Spoken(said)
		}
		if delta == (llm.Delta{}) {
			continue
		}
		if err := each(delta); err != nil {
			return nil, x.Abandoned(err)
		}
	}
	return c.ended(ctx, x, &g, io.EOF)
}

// ended makes a response of what was gathered, or says why it is none. The reason why the
// model stopped decides: with it the answer is whole, even if the connection broke before
// the protocol's own end mark; without it the answer is not, even if the stream ended in
// good order.
func (c *Client) ended(ctx context.Context, x *exchange.Call, g *gathering, err error) (*llm.Response, error) {
	if g.reason == "" || x.TooLarge() {
		if err != io.EOF {
			return nil, x.Failure(ctx, err)
		}
		if said := x.StrayError(); said != nil {
			return nil, x.Spoken(said)
		}
		return nil, x.Truncated("the stream ended without a stop reason")
	}
	raw, rawErr := x.RawEvents(g.events)
	if rawErr != nil {
		return nil, rawErr
	}
	return c.assemble(x, c.whole(x, g), raw)
}

// gathering puts the events of a stream together.
type gathering struct {
	parts
	ended     bool // by the protocol's own end mark
	usage     sdk.Usage
	events    [][]byte
	said      strings.Builder
	arguments []*strings.Builder // of calls, in the same order
	places    map[int64]int      // a block's index on the wire -> its place in calls
	blocks    []*piece           // all that the turn consists of, in the order in which they began
}

// take adds one event and returns what is new in it, or the error that it carries. Events
// of a kind it does not know, and what the model thinks, are kept and passed over.
func (g *gathering) take(raw []byte) (llm.Delta, *exchange.Said, error) {
	var e sdk.MessageStreamEventUnion
	if err := json.Unmarshal(raw, &e); err != nil {
		return llm.Delta{}, nil, err
	}
	g.events = append(g.events, raw)
	if said := exchange.ErrorIn(raw); said != nil {
		return llm.Delta{}, said, nil
	}
	switch e.Type {
	case "message_start":
		g.model, g.id, g.usage = string(e.Message.Model), e.Message.ID, e.Message.Usage
	case "content_block_start":
		return g.begin(e.Index, &e.ContentBlock), nil, nil
	case "content_block_delta":
		return g.add(e.Index, &e.Delta), nil, nil
	case "content_block_stop":
		return g.close(e.Index), nil, nil
	case "message_delta":
		if e.Delta.StopReason != "" {
			g.reason = string(e.Delta.StopReason)
		}
		g.refusal = e.Delta.StopDetails.Explanation
		g.count(&e.Usage)
	case "message_stop":
		g.ended = true
	}
	return llm.Delta{}, nil, nil
}

func (g *gathering) begin(index int64, block *sdk.ContentBlockStartEventContentBlockUnion) llm.Delta {
	g.blocks = append(g.blocks, &piece{index: index, Type: block.Type, ID: block.ID, Name: block.Name, Data: block.Data})
	g.piece(index).text.WriteString(block.Text + block.Thinking)
	switch block.Type {
	case "text":
		g.said.WriteString(block.Text) // empty, by all that is known
		return llm.Delta{Text: block.Text}
	case "tool_use":
		if g.places == nil {
			g.places = map[int64]int{}
		}
		at := len(g.calls)
		g.places[index] = at
		g.calls = append(g.calls, llm.ToolCall{ID: block.ID, Name: block.Name})
		g.arguments = append(g.arguments, &strings.Builder{})
		return llm.Delta{ToolCall: &llm.ToolCallDelta{Index: at, ID: block.ID, Name: block.Name}}
	}
	return llm.Delta{}
}

func (g *gathering) add(index int64, delta *sdk.MessageStreamEventUnionDelta) llm.Delta {
	if p := g.piece(index); p != nil {
		p.text.WriteString(delta.Text + delta.Thinking)
		p.Signature += delta.Signature
	}
	switch delta.Type {
	case "text_delta":
		g.said.WriteString(delta.Text)
		return llm.Delta{Text: delta.Text}
	case "input_json_delta":
		if at, ok := g.places[index]; ok && delta.PartialJSON != "" {
			return g.argue(at, delta.PartialJSON)
		}
	}
	return llm.Delta{}
}

// close ends a block. A call without arguments has no pieces of them.
func (g *gathering) close(index int64) llm.Delta {
	if at, ok := g.places[index]; ok && g.arguments[at].Len() == 0 {
		return g.argue(at, "{}")
	}
	return llm.Delta{}
}

func (g *gathering) argue(at int, piece string) llm.Delta {
	g.arguments[at].WriteString(piece)
	return llm.Delta{ToolCall: &llm.ToolCallDelta{Index: at, Arguments: piece}}
}

// count takes over what the end of a stream says of the usage: totals, of which endpoints
// leave out those that have not changed.
func (g *gathering) count(u *sdk.MessageDeltaUsage) {
	set := func(to *int64, said bool, n int64) {
		if said {
			*to = n
		}
	}
	set(&g.usage.InputTokens, u.JSON.InputTokens.Valid(), u.InputTokens)
	set(&g.usage.CacheReadInputTokens, u.JSON.CacheReadInputTokens.Valid(), u.CacheReadInputTokens)
	set(&g.usage.CacheCreationInputTokens, u.JSON.CacheCreationInputTokens.Valid(), u.CacheCreationInputTokens)
	set(&g.usage.OutputTokens, u.JSON.OutputTokens.Valid(), u.OutputTokens)
	set(&g.usage.OutputTokensDetails.ThinkingTokens, u.JSON.OutputTokensDetails.Valid(), u.OutputTokensDetails.ThinkingTokens)
}

// whole puts together what an answer in one piece would have been.
func (c *Client) whole(x *exchange.Call, g *gathering) parts {
	p := g.parts
	p.text = g.said.String()
	for i := range p.calls {
		p.calls[i].Arguments = g.arguments[i].String()
	}
	var blocks []json.RawMessage
	for _, b := range g.blocks {
		switch b.Type {
		case "text":
			b.Text = new(b.text.String())
		case "thinking":
			b.Thinking = new(b.text.String())
		case "tool_use":
			b.Input = input(g.arguments[g.places[b.index]].String())
		}
		raw, err := json.Marshal(b)
		if err != nil {
			return p // without a turn, as nobody could have it back
		}
		blocks = append(blocks, raw)
	}
	p.turn = c.turn(x, blocks)
	return p
}

// piece returns the block that has this index now, or nil.
func (g *gathering) piece(index int64) *piece {
	for _, p := range slices.Backward(g.blocks) {
		if p.index == index {
			return p
		}
	}
	return nil
}
