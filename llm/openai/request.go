package openai

import (
	"cmp"
	"encoding/json"

	oai "github.com/sashabaranov/go-openai"

	"github.com/pawlrun/pawl/llm"
)

// chatRequest says req in go-openai's words. What those cannot express is added by the
// function that finishing returns.
func chatRequest(req *llm.Request) oai.ChatCompletionRequest {
	out := oai.ChatCompletionRequest{
		Messages:   messages(req),
		Stop:       req.Stop,
		ToolChoice: toolChoice(req.ToolChoice),
	}
	for _, t := range req.Tools {
		parameters := t.Parameters
		if len(parameters) == 0 {
			parameters = json.RawMessage(`{"type":"object","properties":{}}`)
		}
		out.Tools = append(out.Tools, oai.Tool{Type: oai.ToolTypeFunction, Function: &oai.FunctionDefinition{
			Name: t.Name, Description: t.Description, Parameters: parameters,
		}})
	}
	if s := req.Schema; s != nil {
		out.ResponseFormat = &oai.ChatCompletionResponseFormat{
			Type: oai.ChatCompletionResponseFormatTypeJSONSchema,
			JSONSchema: &oai.ChatCompletionResponseFormatJSONSchema{
				Name: s.Name, Description: s.Description, Schema: s.JSON, Strict: true,
			},
		}
	}
	return out
}

func messages(req *llm.Request) []oai.ChatCompletionMessage {
	var out []oai.ChatCompletionMessage
	if req.System != "" {
		out = append(out, oai.ChatCompletionMessage{Role: oai.ChatMessageRoleSystem, Content: req.System})
	}
	for _, m := range req.Messages {
		message := oai.ChatCompletionMessage{Role: string(m.Role), Content: m.Content, ToolCallID: m.ToolCallID}
		for _, call := range m.ToolCalls {
			message.ToolCalls = append(message.ToolCalls, oai.ToolCall{
				ID: call.ID, Type: oai.ToolTypeFunction,
				// Arguments must be there, and some models give none to a tool that takes none.
				Function: oai.FunctionCall{Name: call.Name, Arguments: cmp.Or(call.Arguments, "{}")},
			})
		}
		out = append(out, message)
	}
	return out
}

func toolChoice(c llm.ToolChoice) any {
	if name, ok := c.Tool(); ok {
		return oai.ToolChoice{Type: oai.ToolTypeFunction, Function: oai.ToolFunction{Name: name}}
	}
	if c == "" {
		return nil
	}
	return string(c)
}

// finishing returns a function that adds to a request's body what go-openai would drop, a
// temperature of 0 and an empty content, and what it would judge. It refuses some
// combinations of model, tools, temperature and token limit by a list of its own, which
// ages, and which the names of other endpoints' models may hit by chance; so it does not
// get to see the model.
func finishing(req *llm.Request, maxTokensField string) func([]byte) ([]byte, error) {
	add := map[string]any{"model": req.Model}
	if req.Temperature != nil {
		add["temperature"] = *req.Temperature
	}
	if req.MaxTokens > 0 {
		add[maxTokensField] = req.MaxTokens
	}
	silent := false
	for _, m := range req.Messages {
		silent = silent || m.Content == "" && len(m.ToolCalls) == 0
	}
	return func(body []byte) ([]byte, error) {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(body, &fields); err != nil {
			return nil, err
		}
		for name, value := range add {
			b, err := json.Marshal(value)
			if err != nil {
				return nil, err
			}
			fields[name] = b
		}
		if silent {
			b, err := withContent(fields["messages"])
			if err != nil {
				return nil, err
			}
			fields["messages"] = b
		}
		return json.Marshal(fields)
	}
}

// withContent gives every message that has neither content nor tool calls an empty
// content, which the protocol wants to see.
func withContent(body json.RawMessage) (json.RawMessage, error) {
	var messages []map[string]json.RawMessage
	if err := json.Unmarshal(body, &messages); err != nil {
		return nil, err
	}
	for _, m := range messages {
		if m["content"] == nil && m["tool_calls"] == nil {
			m["content"] = json.RawMessage(`""`)
		}
	}
	return json.Marshal(messages)
}
