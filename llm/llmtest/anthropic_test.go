package llmtest_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// TestServerSpeaksAnthropicsWireFormat looks at the very bytes, as the client in this
// module could share a mistake with the server.
func TestServerSpeaksAnthropicsWireFormat(t *testing.T) {
	s := llmtest.Script(
		llmtest.Rule{Contains: "tool", Text: "Hm.", ToolCalls: []llm.ToolCall{{ID: "c1", Name: "look", Arguments: `{"a":1}`}}, Usage: llm.Usage{Input: 9, Output: 2, Cached: 1, CacheWrites: 3, Reasoning: 1}},
		llmtest.Rule{Contains: "no", Refusal: "Never.", Usage: llm.Usage{Input: 1, Output: 1}},
		llmtest.Rule{Contains: "busy", Fail: []error{&llm.Error{Kind: llm.RateLimited, Message: "slow", Wait: 1500 * time.Millisecond, RequestID: "r"}}},
		llmtest.Rule{Contains: "long", Fail: []error{&llm.Error{Kind: llm.ContextTooLong, Message: "9 tokens > 8 maximum"}}},
		llmtest.Rule{Text: "Hi there", Usage: llm.Usage{Input: 3, Output: 2}},
	)
	server := httptest.NewServer(llmtest.Server(s))
	defer server.Close()
	const model = `"model":"scripted (no model was asked)"`
	user := func(text, more string) string {
		return `{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"` + text + `"}]` + more + `}`
	}
	bad := func(message string) string {
		return `{"error":{"message":"` + message + `","type":"invalid_request_error"},"request_id":"","type":"error"}` + "\n"
	}
	for _, c := range []struct {
		body   string
		status int
		want   string
	}{
		{user("hi", ""), 200,
			`{"content":[{"text":"Hi there","type":"text"}],"id":"msg_scripted-1",` + model + `,"role":"assistant","stop_details":null,"stop_reason":"end_turn","stop_sequence":null,"type":"message","usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"input_tokens":3,"output_tokens":2,"output_tokens_details":{"thinking_tokens":0}}}` + "\n"},
		{user("tool", ""), 200,
			`{"content":[{"text":"Hm.","type":"text"},{"id":"c1","input":{"a":1},"name":"look","type":"tool_use"}],"id":"msg_scripted-2",` + model + `,"role":"assistant","stop_details":null,"stop_reason":"tool_use","stop_sequence":null,"type":"message","usage":{"cache_creation_input_tokens":3,"cache_read_input_tokens":1,"input_tokens":5,"output_tokens":2,"output_tokens_details":{"thinking_tokens":1}}}` + "\n"},
		{user("tool", `,"stream":true`), 200,
			`event: message_start
data: {"message":{"content":[],"id":"msg_scripted-3",` + model + `,"role":"assistant","stop_details":null,"stop_reason":null,"stop_sequence":null,"type":"message","usage":{"cache_creation_input_tokens":3,"cache_read_input_tokens":1,"input_tokens":5,"output_tokens":1,"output_tokens_details":{"thinking_tokens":1}}},"type":"message_start"}

event: ping
data: {"type":"ping"}

event: content_block_start
data: {"content_block":{"text":"","type":"text"},"index":0,"type":"content_block_start"}

event: content_block_delta
data: {"delta":{"text":"Hm.","type":"text_delta"},"index":0,"type":"content_block_delta"}

event: content_block_stop
data: {"index":0,"type":"content_block_stop"}

event: content_block_start
data: {"content_block":{"id":"c1","input":{},"name":"look","type":"tool_use"},"index":1,"type":"content_block_start"}

event: content_block_delta
data: {"delta":{"partial_json":"{\"a","type":"input_json_delta"},"index":1,"type":"content_block_delta"}

event: content_block_delta
data: {"delta":{"partial_json":"\":1}","type":"input_json_delta"},"index":1,"type":"content_block_delta"}

event: content_block_stop
data: {"index":1,"type":"content_block_stop"}

event: message_delta
data: {"delta":{"stop_details":null,"stop_reason":"tool_use","stop_sequence":null},"type":"message_delta","usage":{"cache_creation_input_tokens":3,"cache_read_input_tokens":1,"input_tokens":5,"output_tokens":2,"output_tokens_details":{"thinking_tokens":1}}}

event: message_stop
data: {"type":"message_stop"}

`},
		{user("no", ""), 200,
			`{"content":[],"id":"msg_scripted-4",` + model + `,"role":"assistant","stop_details":{"category":null,"explanation":"Never.","type":"refusal"},"stop_reason":"refusal","stop_sequence":null,"type":"message","usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"input_tokens":1,"output_tokens":1,"output_tokens_details":{"thinking_tokens":0}}}` + "\n"},
		{user("busy", ""), 429, `{"error":{"message":"slow","type":"rate_limit_error"},"request_id":"r","type":"error"}` + "\n"},
		{user("long", ""), 400, bad(`prompt is too long: 9 tokens \u003e 8 maximum`)},
		{`{`, 400, bad("the body is not a messages request: unexpected EOF")},
		{`{"model":"m","messages":[{"role":"user","content":"hi"}]}`, 400, bad("max_tokens: Field required")},
		{`{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[]}]}`, 400, bad("messages.0: all messages must have non-empty content")},
		{user(" ", ""), 400, bad("messages.0: text content blocks must contain non-whitespace text")},
		{user("hi", `,"tools":[{"name":"t"}]`), 400, bad("tools.t.input_schema: Field required")},
		{`{"model":"m","max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"c","name":"n","input":"x"}]}]}`, 400, bad("messages.0: tool_use c: input: Input should be a valid dictionary")},
		{`{"model":"m","max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"c","name":"n","input":{}}]},{"role":"user","content":"and?"}]}`, 400, bad("messages.0: `tool_use` ids were found without `tool_result` blocks immediately after: c")},
	} {
		res, err := http.Post(server.URL+"/v1/messages", "application/json", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != c.status || string(got) != c.want {
			t.Errorf("POST %s gave %d, %v\n%s\nwant %d\n%s", c.body, res.StatusCode, err, got, c.status, c.want)
		}
		if res.StatusCode == 429 && (res.Header.Get("Retry-After") != "2" || res.Header.Get("Request-Id") != "r") {
			t.Errorf("Retry-After, Request-Id = %q, %q; want 2, r", res.Header.Get("Retry-After"), res.Header.Get("Request-Id"))
		}
	}

	req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/v1/nothing", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Anthropic-Version", "2023-06-01")
	for path, want := range map[string]string{
		"/v1/nothing": `"type":"error"`,
		"/v1/models":  `"id":"scripted (no model was asked)"`,
	} {
		req.URL.Path = path
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || !strings.Contains(string(got), want) {
			t.Errorf("GET %s gave %s, %v; want %s in it", path, got, err, want)
		}
	}
}
