package anthropic

import (
	"bytes"
	"cmp"
	"encoding/json"
	"strings"

	sdk "github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/packages/param"

	"github.com/pawlrun/pawl/llm"
)

// maxMarks is how many cache_control marks a request may have.
const maxMarks = 4

// params says req in the SDK's words.
func (c *Client) params(req *llm.Request) sdk.MessageNewParams {
	out := sdk.MessageNewParams{
		Model:         req.Model,
		MaxTokens:     int64(cmp.Or(req.MaxTokens, c.maxTokens)),
		Messages:      c.messages(req),
		Tools:         tools(req),
		ToolChoice:    toolChoice(req.ToolChoice),
		StopSequences: req.Stop,
	}
	if req.System != "" {
		block := sdk.TextBlockParam{Text: req.System}
		if req.Cache {
			block.CacheControl = sdk.NewCacheControlEphemeralParam() // what comes before it, the tools, is kept too
		}
		out.System = []sdk.TextBlockParam{block}
	}
	if req.Temperature != nil {
		out.Temperature = sdk.Float(*req.Temperature)
	}
	if req.Schema != nil {
		// As it was written: the SDK's map would order the fields by name, and a model
		// writes them in the order that it is given.
		out.OutputConfig.Format = param.Override[sdk.JSONOutputFormatParam](json.RawMessage(`{"type":"json_schema","schema":` + string(req.Schema.JSON) + `}`))
	}
	return out
}

func tools(req *llm.Request) []sdk.ToolUnionParam {
	var out []sdk.ToolUnionParam
	for i, t := range req.Tools {
		tool := &sdk.ToolParam{Name: t.Name, InputSchema: sdk.ToolInputSchemaParam{Properties: map[string]any{}}}
		if t.Description != "" {
			tool.Description = sdk.String(t.Description)
		}
		if len(t.Parameters) > 0 {
			tool.InputSchema = param.Override[sdk.ToolInputSchemaParam](json.RawMessage(t.Parameters))
		}
		if req.Cache && req.System == "" && i == len(req.Tools)-1 {
			tool.CacheControl = sdk.NewCacheControlEphemeralParam()
		}
		out = append(out, sdk.ToolUnionParam{OfTool: tool})
	}
	return out
}

func toolChoice(c llm.ToolChoice) sdk.ToolChoiceUnionParam {
	if name, ok := c.Tool(); ok {
		return sdk.ToolChoiceUnionParam{OfTool: &sdk.ToolChoiceToolParam{Name: name}}
	}
	switch c {
	case llm.ToolChoiceAuto:
		return sdk.ToolChoiceUnionParam{OfAuto: &sdk.ToolChoiceAutoParam{}}
	case llm.ToolChoiceRequired:
		return sdk.ToolChoiceUnionParam{OfAny: &sdk.ToolChoiceAnyParam{}}
	case llm.ToolChoiceNone:
		none := sdk.NewToolChoiceNoneParam()
		return sdk.ToolChoiceUnionParam{OfNone: &none}
	}
	return sdk.ToolChoiceUnionParam{}
}

// messages gathers the turns. Those of the same side that follow each other are one, as
// all results of a turn's tool calls must come in the turn after it.
func (c *Client) messages(req *llm.Request) []sdk.MessageParam {
	marks := marked(req)
	var out []sdk.MessageParam
	for i := range req.Messages {
		m := &req.Messages[i]
		blocks := c.again(m, req.Model)
		if blocks == nil {
			blocks = blocksOf(m)
		}
		if len(blocks) == 0 {
			continue
		}
		if marks[i] {
			mark(&blocks[len(blocks)-1])
		}
		role := sdk.MessageParamRole(m.Role)
		if m.Role == llm.RoleTool {
			role = sdk.MessageParamRoleUser
		}
		if last := len(out) - 1; last >= 0 && out[last].Role == role {
			out[last].Content = append(out[last].Content, blocks...)
			continue
		}
		out = append(out, sdk.MessageParam{Role: role, Content: blocks})
	}
	return out
}

// blocksOf returns what a message says, which for an assistant's turn may be nothing.
// Anthropic refuses texts of white space only.
func blocksOf(m *llm.Message) []sdk.ContentBlockParamUnion {
	if m.Role == llm.RoleTool {
		result := &sdk.ToolResultBlockParam{ToolUseID: m.ToolCallID}
		if m.Content != "" {
			result.Content = []sdk.ToolResultBlockParamContentUnion{{OfText: &sdk.TextBlockParam{Text: m.Content}}}
		}
		return []sdk.ContentBlockParamUnion{{OfToolResult: result}}
	}
	var out []sdk.ContentBlockParamUnion
	if m.Role != llm.RoleAssistant || strings.TrimSpace(m.Content) != "" {
		out = append(out, sdk.NewTextBlock(m.Content))
	}
	for _, call := range m.ToolCalls {
		out = append(out, sdk.NewToolUseBlock(call.ID, input(call.Arguments), call.Name))
	}
	return out
}

// input returns a tool call's arguments as the object that the protocol wants.
func input(arguments string) json.RawMessage {
	text := []byte(arguments)
	if len(bytes.TrimSpace(text)) == 0 {
		return json.RawMessage(`{}`)
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(text, &object) == nil && object != nil {
		return text
	}
	b, err := json.Marshal(map[string]string{"arguments": arguments})
	if err != nil {
		return json.RawMessage(`{}`) // a map of texts can always be written
	}
	return b
}

// marked returns which messages get a mark: of those that want one, the last that fit
// beside the request's own.
func marked(req *llm.Request) map[int]bool {
	left := maxMarks
	if req.Cache && (req.System != "" || len(req.Tools) > 0) {
		left--
	}
	out := map[int]bool{}
	for i := len(req.Messages) - 1; i >= 0 && len(out) < left; i-- {
		if req.Messages[i].Cache {
			out[i] = true
		}
	}
	return out
}

func mark(block *sdk.ContentBlockParamUnion) {
	if control := block.GetCacheControl(); control != nil {
		*control = sdk.NewCacheControlEphemeralParam()
	}
}
