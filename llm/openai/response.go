package openai

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	oai "github.com/sashabaranov/go-openai"

	"github.com/pawlrun/pawl/llm"
)

// response turns a decoded answer into ours, if it is a whole one.
func (c *Client) response(x *exchange, answer *oai.ChatCompletionResponse) (*llm.Response, error) {
	usage := usageOf(&answer.Usage)
	raw, err := c.raw(x, x.body)
	if err != nil {
		return nil, err
	}
	if said := errorIn(x.body); said != nil { // an error under a status of success
		return nil, c.spoken(x, said, usage)
	}
	if len(answer.Choices) == 0 {
		return nil, c.truncated(x, usage, "the answer has no choices")
	}
	choice := &answer.Choices[0]
	p := parts{
		text:    text(&choice.Message),
		refusal: choice.Message.Refusal,
		reason:  string(choice.FinishReason),
		usage:   usage,
		model:   answer.Model,
		id:      answer.ID,
	}
	for _, call := range choice.Message.ToolCalls {
		p.calls = append(p.calls, llm.ToolCall{ID: call.ID, Name: call.Function.Name, Arguments: call.Function.Arguments})
	}
	return c.assemble(x, p, raw)
}

// parts is what an answer consists of, whether it came whole or as a stream.
type parts struct {
	text, refusal string
	calls         []llm.ToolCall
	reason        string // why it ended, in the endpoint's words
	usage         llm.Usage
	model, id     string
}

func (c *Client) assemble(x *exchange, p parts, raw json.RawMessage) (*llm.Response, error) {
	switch p.reason {
	case "":
		return nil, c.truncated(x, p.usage, "the answer has no finish reason")
	case "error":
		e := c.wireError(x, llm.Unavailable, "the endpoint broke the answer off with an error")
		e.Usage = p.usage
		return nil, e
	}
	return &llm.Response{
		Text: p.text, ToolCalls: p.calls, Refusal: p.refusal,
		Finish: finishOf(p), Usage: p.usage,
		Provider: c.provider, Model: cmp.Or(p.model, x.model), RequestID: requestID(x.header, p.id),
		Raw: raw,
	}, nil
}

// finishes maps the reasons of the protocol to ours; what is missing is FinishOther.
var finishes = map[string]llm.Finish{
	"stop":           llm.FinishStop,
	"length":         llm.FinishLength,
	"tool_calls":     llm.FinishToolCalls,
	"function_call":  llm.FinishToolCalls,
	"content_filter": llm.FinishRefused,
}

func finishOf(p parts) llm.Finish {
	finish := cmp.Or(finishes[p.reason], llm.FinishOther)
	switch {
	case p.refusal != "":
		return llm.FinishRefused // the protocol says stop
	case finish == llm.FinishStop && len(p.calls) > 0:
		return llm.FinishToolCalls // the protocol says stop if the choice named a tool
	}
	return finish
}

// embedding puts the vectors into the order of the inputs.
func (c *Client) embedding(x *exchange, answer *oai.EmbeddingResponse, inputs int) (*llm.EmbedResponse, error) {
	usage := usageOf(&answer.Usage)
	if said := errorIn(x.body); said != nil {
		return nil, c.spoken(x, said, usage)
	}
	vectors := make([][]float32, inputs)
	for _, e := range answer.Data {
		if e.Index < 0 || e.Index >= inputs || vectors[e.Index] != nil || len(e.Embedding) == 0 {
			return nil, c.wireError(x, llm.Unavailable, "the answer does not have one vector for each input")
		}
		vectors[e.Index] = e.Embedding
	}
	if slices.ContainsFunc(vectors, func(v []float32) bool { return v == nil }) {
		return nil, c.truncated(x, usage, "the answer has fewer vectors than inputs were sent")
	}
	return &llm.EmbedResponse{
		Vectors: vectors, Usage: usage,
		Provider: c.provider, Model: cmp.Or(string(answer.Model), x.model), RequestID: requestID(x.header, ""),
	}, nil
}

// raw checks that body, of which a decoder may have looked at the beginning only, is a
// document that a journal can hold.
func (c *Client) raw(x *exchange, body []byte) (json.RawMessage, error) {
	if !json.Valid(body) {
		return nil, c.wireError(x, llm.Unavailable, "the answer is not JSON: "+excerpt(body))
	}
	if !utf8.Valid(body) {
		body = bytes.ToValidUTF8(body, []byte("\uFFFD"))
	}
	return body, nil
}

// text returns what a message says, also if the endpoint gives it in parts.
func text(m *oai.ChatCompletionMessage) string {
	if len(m.MultiContent) == 0 {
		return m.Content
	}
	var b strings.Builder
	for _, part := range m.MultiContent {
		b.WriteString(part.Text)
	}
	return b.String()
}

func usageOf(u *oai.Usage) llm.Usage {
	out := llm.Usage{Input: u.PromptTokens, Output: u.CompletionTokens}
	if d := u.PromptTokensDetails; d != nil {
		out.Cached = d.CachedTokens
	}
	if d := u.CompletionTokensDetails; d != nil {
		out.Reasoning = d.ReasoningTokens
	}
	return out
}

// requestID returns the name under which the endpoint logged the call, or else the
// answer's own id.
func requestID(h http.Header, id string) string { return cmp.Or(h.Get("X-Request-Id"), id) }
