package llmtest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/pawlrun/pawl/llm"
)

// What Anthropic's wire format makes of an answer.

// stopReasons says how Anthropic writes each reason.
var stopReasons = map[llm.Finish]string{
	llm.FinishStop: "end_turn", llm.FinishLength: "max_tokens", llm.FinishToolCalls: "tool_use", llm.FinishRefused: "refusal",
	llm.FinishOther: "a_reason_of_its_own",
}

// stop returns what an answer says of its end.
func stop(res *llm.Response) map[string]any {
	var details any
	reason := stopReasons[res.Finish]
	if res.Refusal != "" {
		reason = stopReasons[llm.FinishRefused]
		details = map[string]any{"type": "refusal", "category": nil, "explanation": res.Refusal}
	}
	return map[string]any{"stop_reason": reason, "stop_sequence": nil, "stop_details": details}
}

func messageOf(res *llm.Response) map[string]any {
	content := []any{}
	if res.Text != "" {
		content = append(content, map[string]any{"type": "text", "text": res.Text})
	}
	for _, c := range res.ToolCalls {
		content = append(content, map[string]any{"type": "tool_use", "id": c.ID, "name": c.Name, "input": inputOf(c.Arguments)})
	}
	out := map[string]any{
		"id": "msg_" + res.RequestID, "type": "message", "role": "assistant", "model": res.Model,
		"content": content, "usage": messageUsageOf(res.Usage, res.Usage.Output),
	}
	for name, value := range stop(res) {
		out[name] = value
	}
	return out
}

// inputOf is what a model wrote as the arguments of a call. The format takes objects only.
func inputOf(arguments string) json.RawMessage {
	if b := json.RawMessage(cmp.Or(arguments, "{}")); object(b) {
		return b
	}
	return marshal(map[string]string{"arguments": arguments})
}

func messageUsageOf(u llm.Usage, output int) any {
	return map[string]any{
		"input_tokens": max(u.Input-u.Cached-u.CacheWrites, 0), "output_tokens": output,
		"cache_read_input_tokens": u.Cached, "cache_creation_input_tokens": u.CacheWrites,
		"output_tokens_details": map[string]any{"thinking_tokens": u.Reasoning},
	}
}

// writeMessageStream sends an answer event by event, each in a write of its own.
func writeMessageStream(w http.ResponseWriter, res *llm.Response, _ reply) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Request-Id", res.RequestID)
	out := http.NewResponseController(w)
	send := func(name string, event map[string]any) {
		event["type"] = name
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, marshal(event))
		_ = out.Flush() // fails only if the client has gone away
	}
	start := messageOf(res)
	start["content"], start["stop_reason"], start["stop_details"] = []any{}, nil, nil
	start["usage"] = messageUsageOf(res.Usage, min(res.Usage.Output, 1))
	send("message_start", map[string]any{"message": start})
	send("ping", map[string]any{})

	open, at := "", -1 // the block that is being written
	begin := func(key string, content map[string]any) {
		if open == key {
			return
		}
		if open != "" {
			send("content_block_stop", map[string]any{"index": at})
		}
		if open = key; key != "" {
			at++
			send("content_block_start", map[string]any{"index": at, "content_block": content})
		}
	}
	for _, d := range deltas(res) {
		if d.ToolCall == nil {
			begin("text", map[string]any{"type": "text", "text": ""})
			send("content_block_delta", map[string]any{"index": at, "delta": map[string]any{"type": "text_delta", "text": d.Text}})
			continue
		}
		begin("tool "+strconv.Itoa(d.ToolCall.Index), map[string]any{"type": "tool_use", "id": d.ToolCall.ID, "name": d.ToolCall.Name, "input": map[string]any{}})
		send("content_block_delta", map[string]any{"index": at, "delta": map[string]any{"type": "input_json_delta", "partial_json": d.ToolCall.Arguments}})
	}
	begin("", nil)
	send("message_delta", map[string]any{"delta": stop(res), "usage": messageUsageOf(res.Usage, res.Usage.Output)})
	send("message_stop", map[string]any{})
}

func cutMessage(w http.ResponseWriter, how reply) {
	if how.stream {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"cut\",\"type\":\"message\",\"role\":\"assistant\",\"model\":%q,\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n", ModelName)
		fmt.Fprint(w, "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n")
		fmt.Fprint(w, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"This answer \"}}\n\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, "{\"id\":\"cut\",\"type\":\"message\",\"role\":\"assistant\",\"model\":%q,\"content\":[{\"type\":\"text\",\"text\":\"This answer ", ModelName)
}
