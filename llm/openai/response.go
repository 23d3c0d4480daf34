package openai

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	oai "github.com/sashabaranov/go-openai"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/internal/exchange"
)

// response turns a decoded answer into ours, if it is a whole one.
func (c *Client) response(x *exchange.Call, answer *oai.ChatCompletionResponse) (*llm.Response, error) {
	x.Usage = usageOf(&answer.Usage)
	x.Usage.CacheWrites = cacheWrites(x.Body)
	raw, err := x.Raw(x.Body)
	if err != nil {
		return nil, err
	}
	if said := exchange.ErrorIn(x.Body); said != nil { // an error under a status of success
		return nil, x.Spoken(said)
	}
	if len(answer.Choices) == 0 {
		return nil, x.Truncated("the answer has no choices")
	}
	choice := &answer.Choices[0]
	p := parts{
		text:    text(&choice.Message),
		refusal: choice.Message.Refusal,
		reason:  string(choice.FinishReason),
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
	model, id     string
}

func (c *Client) assemble(x *exchange.Call, p parts, raw json.RawMessage) (*llm.Response, error) {
	switch p.reason {
	case "":
		return nil, x.Truncated("the answer has no finish reason")
	case "error":
		return nil, x.Error(llm.Unavailable, "the endpoint broke the answer off with an error")
	}
	return &llm.Response{
		Text: p.text, ToolCalls: p.calls, Refusal: p.refusal,
		Finish: finishOf(p), Usage: x.Usage,
		Provider: c.provider, Model: cmp.Or(p.model, x.Model), RequestID: x.RequestID(p.id), Limits: x.Limits(),
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
func (c *Client) embedding(x *exchange.Call, answer *oai.EmbeddingResponse, inputs int) (*llm.EmbedResponse, error) {
	x.Usage = usageOf(&answer.Usage)
	if said := exchange.ErrorIn(x.Body); said != nil {
		return nil, x.Spoken(said)
	}
	vectors := make([][]float32, inputs)
	for _, e := range answer.Data {
		if e.Index < 0 || e.Index >= inputs || vectors[e.Index] != nil || len(e.Embedding) == 0 {
			return nil, x.Error(llm.Unavailable, "the answer does not have one vector for each input")
		}
		vectors[e.Index] = e.Embedding
	}
	if slices.ContainsFunc(vectors, func(v []float32) bool { return v == nil }) {
		return nil, x.Truncated("the answer has fewer vectors than inputs were sent")
	}
	return &llm.EmbedResponse{
		Vectors: vectors, Usage: x.Usage,
		Provider: c.provider, Model: cmp.Or(string(answer.Model), x.Model), RequestID: x.RequestID(""), Limits: x.Limits(),
	}, nil
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

// cacheWrites reads what go-openai's types for chat completions do not have.
func cacheWrites(body []byte) int {
	var answer struct {
		Usage struct {
			Details struct {
				CacheWrites int `json:"cache_write_tokens"`
			} `json:"prompt_tokens_details"`
		}
	}
	if json.Unmarshal(body, &answer) != nil {
		return 0
	}
	return answer.Usage.Details.CacheWrites
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
