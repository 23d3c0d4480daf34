package openai

import (
	"context"
	"encoding/json"
	"io"
	"strings"

	oai "github.com/sashabaranov/go-openai"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/internal/exchange"
)

// Stream asks for the answer in pieces. See [llm.Streamer]. The usage comes at the very
// end of a stream; an endpoint that does not send it leaves it zero.
func (c *Client) Stream(ctx context.Context, req *llm.Request, each func(llm.Delta) error) (*llm.Response, error) {
	x, err := c.chat(req)
	if err != nil {
		return nil, err
	}
	x.Stream = true
	request := chatRequest(req)
	request.StreamOptions = &oai.StreamOptions{IncludeUsage: true}
	stream, err := c.api.CreateChatCompletionStream(x.With(ctx), request)
	if err != nil {
		return nil, x.Failure(ctx, err)
	}
	defer stream.Close()
	if !x.OK() { // go-openai takes a redirect for an answer
		return nil, x.Failure(ctx, nil)
	}

	var g gathering
	for {
		event, err := x.Event()
		if err != nil {
			return c.ended(ctx, x, &g, err)
		}
		deltas, said, err := g.take(event)
		if err != nil {
			return nil, x.Malformed(event)
		}
		x.Usage = g.usage
		if said != nil {
			return nil, x.Spoken(said)
		}
		for _, d := range deltas {
			if err := each(d); err != nil {
				return nil, x.Abandoned(err)
			}
		}
	}
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
		return nil, x.Truncated("the stream ended without a finish reason")
	}
	raw, rawErr := x.RawEvents(g.events)
	if rawErr != nil {
		return nil, rawErr
	}
	return c.assemble(x, g.whole(), raw)
}

// gathering puts the events of a stream together.
type gathering struct {
	parts
	usage     llm.Usage
	events    [][]byte
	said      strings.Builder
	refused   strings.Builder
	arguments []*strings.Builder // of calls, in the same order
	places    map[int]int        // the wire's index of a call -> its place in calls
}

type event struct {
	oai.ChatCompletionStreamResponse
	Error *exchange.Said `json:"error"`
}

// take adds one event and returns what is new in it, or the error that it carries.
func (g *gathering) take(raw []byte) ([]llm.Delta, *exchange.Said, error) {
	var e event
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, nil, err
	}
	g.events = append(g.events, raw)
	if e.Model != "" {
		g.model = e.Model
	}
	if e.ID != "" {
		g.id = e.ID
	}
	if e.Usage != nil {
		g.usage = usageOf(e.Usage)
		g.usage.CacheWrites = cacheWrites(raw)
	}
	if e.Error != nil && *e.Error != (exchange.Said{}) {
		return nil, e.Error, nil
	}
	var deltas []llm.Delta
	for _, choice := range e.Choices {
		if choice.Index != 0 { // we ask for one choice only
			continue
		}
		if choice.FinishReason != "" && choice.FinishReason != oai.FinishReasonNull {
			g.reason = string(choice.FinishReason)
		}
		g.refused.WriteString(choice.Delta.Refusal)
		if t := choice.Delta.Content; t != "" {
			g.said.WriteString(t)
			deltas = append(deltas, llm.Delta{Text: t})
		}
		for _, call := range choice.Delta.ToolCalls {
			deltas = append(deltas, llm.Delta{ToolCall: g.call(&call)})
		}
	}
	return deltas, nil, nil
}

// call adds a piece of a tool call. Some endpoints leave out the index: there a new id
// begins a new call.
func (g *gathering) call(piece *oai.ToolCall) *llm.ToolCallDelta {
	at := len(g.calls) - 1
	known := at >= 0 && (piece.ID == "" || piece.ID == g.calls[at].ID)
	if piece.Index != nil {
		at, known = g.places[*piece.Index]
	}
	if !known {
		at = len(g.calls)
		g.calls = append(g.calls, llm.ToolCall{ID: piece.ID, Name: piece.Function.Name})
		g.arguments = append(g.arguments, &strings.Builder{})
		if piece.Index != nil {
			if g.places == nil {
				g.places = map[int]int{}
			}
			g.places[*piece.Index] = at
		}
	}
	g.arguments[at].WriteString(piece.Function.Arguments)
	d := &llm.ToolCallDelta{Index: at, Arguments: piece.Function.Arguments}
	if !known {
		d.ID, d.Name = piece.ID, piece.Function.Name
	}
	return d
}

func (g *gathering) whole() parts {
	p := g.parts
	p.text, p.refusal = g.said.String(), g.refused.String()
	for i := range p.calls {
		p.calls[i].Arguments = g.arguments[i].String()
	}
	return p
}
