package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"

	oai "github.com/sashabaranov/go-openai"

	"github.com/pawlrun/pawl/llm"
)

// Stream asks for the answer in pieces. See [llm.Streamer]. The usage comes at the very
// end of a stream; an endpoint that does not send it leaves it zero.
func (c *Client) Stream(ctx context.Context, req *llm.Request, each func(llm.Delta) error) (*llm.Response, error) {
	x, err := c.chat(req)
	if err != nil {
		return nil, err
	}
	x.stream = true
	request := chatRequest(req)
	request.StreamOptions = &oai.StreamOptions{IncludeUsage: true}
	stream, err := c.api.CreateChatCompletionStream(withExchange(ctx, x), request)
	if err != nil {
		return nil, c.failure(ctx, x, err)
	}
	defer stream.Close()
	if !x.ok() { // go-openai takes a redirect for an answer
		return nil, c.refused(x)
	}

	var g gathering
	for {
		event, err := x.event()
		if err != nil {
			return c.ended(ctx, x, &g, err)
		}
		deltas, said, err := g.take(event)
		if err != nil {
			return nil, c.wireError(x, llm.Unavailable, "an event of the stream is not what the protocol says: "+excerpt(event))
		}
		if said != nil {
			return nil, c.spoken(x, said, g.usage)
		}
		for _, d := range deltas {
			if err := each(d); err != nil {
				return nil, fmt.Errorf("%s %s: stream abandoned: %w", c.provider, req.Model, err)
			}
		}
	}
}

// ended makes a response of what was gathered, or says why it is none. The reason why the
// model stopped decides: with it the answer is whole, even if the connection broke before
// the protocol's own end mark; without it the answer is not, even if the stream ended in
// good order.
func (c *Client) ended(ctx context.Context, x *exchange, g *gathering, err error) (*llm.Response, error) {
	if g.reason == "" || x.tooLarge {
		if err != io.EOF {
			return nil, c.failure(ctx, x, err)
		}
		if said := errorIn(x.stray); said != nil {
			return nil, c.spoken(x, said, g.usage)
		}
		return nil, c.truncated(x, g.usage, "the stream ended without a finish reason")
	}
	raw, rawErr := c.raw(x, append(append([]byte{'['}, bytes.Join(g.events, []byte{','})...), ']'))
	if rawErr != nil {
		return nil, rawErr
	}
	return c.assemble(x, g.whole(), raw)
}

// otherField matches the lines of a stream that say nothing to us, comments among them.
var otherField = regexp.MustCompile(`^(event|id|retry)?:`)

// event returns the data of the stream's next event, and io.EOF at its end. go-openai has
// a reader for this too, but it loses an error that follows a comment, and the comments
// that some endpoints send to keep the connection alive are common.
func (x *exchange) event() ([]byte, error) {
	var data []byte
	for {
		line, err := x.lines.ReadBytes('\n')
		line = bytes.TrimRight(line, "\r\n")
		if field, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			if data != nil {
				data = append(data, '\n')
			}
			data = append(data, bytes.TrimPrefix(field, []byte(" "))...)
		} else if !otherField.Match(line) {
			x.stray = append(x.stray, line...)
		}
		// An event ends with an empty line. The last one is forgiven for ending with the
		// stream, unless it is cut.
		if len(data) > 0 && (len(line) == 0 || err == io.EOF && (string(data) == "[DONE]" || json.Valid(data))) {
			if string(data) == "[DONE]" {
				return nil, io.EOF
			}
			return data, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// gathering puts the events of a stream together.
type gathering struct {
	parts
	events    [][]byte
	said      strings.Builder
	refused   strings.Builder
	arguments []*strings.Builder // of calls, in the same order
	places    map[int]int        // the wire's index of a call -> its place in calls
}

type event struct {
	oai.ChatCompletionStreamResponse
	Error *endpointError `json:"error"`
}

// take adds one event and returns what is new in it, or the error that it carries.
func (g *gathering) take(raw []byte) ([]llm.Delta, *endpointError, error) {
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
	}
	if e.Error != nil && *e.Error != (endpointError{}) {
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
