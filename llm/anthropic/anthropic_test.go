package anthropic_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/anthropic"
	"github.com/pawlrun/pawl/llm/llmtest"
)

func hello() *llm.Request {
	return &llm.Request{Model: "claude-opus-4-5", Messages: []llm.Message{llm.User("hi")}}
}

// endpoint serves f and returns a client of it.
func endpoint(t *testing.T, opt anthropic.Options, f http.HandlerFunc) *anthropic.Client {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	opt.BaseURL = server.URL
	return anthropic.New(opt)
}

// saying is an endpoint that always gives the same bytes.
func saying(t *testing.T, body string) *anthropic.Client {
	return endpoint(t, anthropic.Options{}, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) })
}

func stream(c *anthropic.Client) (*llm.Response, error) {
	return c.Stream(context.Background(), hello(), func(llm.Delta) error { return nil })
}

const answer = `{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"ok"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":2}}`

// sent returns what one call puts on the wire.
func sent(t *testing.T, opt anthropic.Options, req *llm.Request) (body string, header http.Header) {
	t.Helper()
	c := endpoint(t, opt, func(w http.ResponseWriter, r *http.Request) {
		header = r.Header
		b, err := io.ReadAll(r.Body)
		if err != nil || int64(len(b)) != r.ContentLength || r.URL.Path != "/v1/messages" {
			t.Errorf("POST %s: the body %q (%d of %d bytes) cannot be read: %v", r.URL.Path, b, len(b), r.ContentLength, err)
		}
		body = string(b)
		io.WriteString(w, answer)
	})
	if _, err := c.Generate(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	return body, header
}

// same compares JSON, but for the order of fields outside the texts in verbatim.
func same(t *testing.T, got, want string, verbatim ...string) {
	t.Helper()
	var g, w any
	if json.Unmarshal([]byte(got), &g) != nil || json.Unmarshal([]byte(want), &w) != nil || !reflect.DeepEqual(g, w) {
		t.Errorf("on the wire:\n%s\nwant\n%s", got, want)
	}
	for _, v := range verbatim {
		if !strings.Contains(got, v) {
			t.Errorf("on the wire:\n%s\nwant in it, byte for byte,\n%s", got, v)
		}
	}
}

func TestTheRequestOnTheWire(t *testing.T) {
	req := hello()
	req.System, req.Temperature, req.Stop = "Be brief.", new(0.0), []string{"END"}
	req.Tools = []llm.Tool{{Name: "now"}, {Name: "way", Description: "Tells the way.", Parameters: json.RawMessage(`{"type":"object","properties":{"to":{"type":"string"},"by":{"type":"string"}}}`)}}
	req.Schema = &llm.Schema{Name: "s", Description: "d", JSON: json.RawMessage(`{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"number"}},"required":["z","a"],"additionalProperties":false}`)}
	req.Messages = append(req.Messages,
		llm.Message{Role: llm.RoleAssistant, Content: "I look.", ToolCalls: []llm.ToolCall{{ID: "c1", Name: "now"}, {ID: "c2", Name: "way", Arguments: `{"to": `}}},
		llm.ToolResult(llm.ToolCall{ID: "c1"}, "noon"),
		llm.ToolResult(llm.ToolCall{ID: "c2"}, ""),
		llm.Message{Role: llm.RoleAssistant, Content: " \n"},
		llm.User("Go on."),
		llm.Message{Role: llm.RoleSystem, Content: "Hurry."})
	got, _ := sent(t, anthropic.Options{}, req)
	same(t, got, `{
		"model": "claude-opus-4-5", "max_tokens": 4096, "temperature": 0, "stop_sequences": ["END"],
		"system": [{"type": "text", "text": "Be brief."}],
		"messages": [
			{"role": "user", "content": [{"type": "text", "text": "hi"}]},
			{"role": "assistant", "content": [
				{"type": "text", "text": "I look."},
				{"type": "tool_use", "id": "c1", "name": "now", "input": {}},
				{"type": "tool_use", "id": "c2", "name": "way", "input": {"arguments": "{\"to\": "}}]},
			{"role": "user", "content": [
				{"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "noon"}]},
				{"type": "tool_result", "tool_use_id": "c2"},
				{"type": "text", "text": "Go on."}]},
			{"role": "system", "content": [{"type": "text", "text": "Hurry."}]}],
		"tools": [
			{"name": "now", "input_schema": {"type": "object", "properties": {}}},
			{"name": "way", "description": "Tells the way.", "input_schema": {"type": "object", "properties": {"to": {"type": "string"}, "by": {"type": "string"}}}}],
		"output_config": {"format": {"type": "json_schema", "schema": {"type":"object","properties":{"z":{"type":"string"},"a":{"type":"number"}},"required":["z","a"],"additionalProperties":false}}}
	}`, string(req.Schema.JSON), string(req.Tools[1].Parameters))

	req = hello()
	req.MaxTokens = 100_000 // for which the SDK's own method would insist on a stream
	got, _ = sent(t, anthropic.Options{MaxTokens: 7}, req)
	same(t, got, `{"model":"claude-opus-4-5","max_tokens":100000,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}`)
	got, _ = sent(t, anthropic.Options{MaxTokens: 7}, hello())
	same(t, got, `{"model":"claude-opus-4-5","max_tokens":7,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}`)
}

func TestWhatIsToBeCachedIsMarked(t *testing.T) {
	type block struct {
		Text, Name   string
		CacheControl *struct{ Type string } `json:"cache_control"`
	}
	marks := func(req *llm.Request) (at []string) {
		t.Helper()
		body, _ := sent(t, anthropic.Options{}, req)
		var wire struct {
			Tools, System []block
			Messages      []struct{ Content []block }
		}
		if err := json.Unmarshal([]byte(body), &wire); err != nil {
			t.Fatal(err)
		}
		all := append(wire.Tools, wire.System...)
		for _, m := range wire.Messages {
			all = append(all, m.Content...)
		}
		for _, b := range all {
			if b.CacheControl != nil && b.CacheControl.Type == "ephemeral" {
				at = append(at, b.Text+b.Name)
			}
		}
		return at
	}
	full := func() *llm.Request {
		req := hello()
		req.System, req.Tools = "SYSTEM", []llm.Tool{{Name: "other"}, {Name: "TOOL"}}
		req.Messages = nil
		for i := range 5 {
			req.Messages = append(req.Messages, llm.User(fmt.Sprintf("M%d", i+1)))
		}
		return req
	}
	for _, c := range []struct {
		what   string
		change func(*llm.Request)
		want   []string
	}{
		{"nothing", func(*llm.Request) {}, nil},
		{"the beginning", func(r *llm.Request) { r.Cache = true }, []string{"SYSTEM"}},
		{"tools without a system prompt", func(r *llm.Request) { r.Cache, r.System = true, "" }, []string{"TOOL"}},
		{"one message", func(r *llm.Request) { r.Messages[1].Cache = true }, []string{"M2"}},
		{"the beginning and all messages", func(r *llm.Request) {
			r.Cache = true
			for i := range r.Messages {
				r.Messages[i].Cache = true
			}
		}, []string{"SYSTEM", "M3", "M4", "M5"}},
		{"all messages", func(r *llm.Request) {
			for i := range r.Messages {
				r.Messages[i].Cache = true
			}
		}, []string{"M2", "M3", "M4", "M5"}},
	} {
		req := full()
		c.change(req)
		if got := marks(req); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: marks at %v; want %v", c.what, got, c.want)
		}
	}
}

// TestNothingComesFromTheEnvironment sets all that the SDK would read.
func TestNothingComesFromTheEnvironment(t *testing.T) {
	for _, name := range []string{"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE"} {
		t.Setenv(name, "from-the-environment")
	}
	t.Setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
	t.Setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Odd: from-the-environment")
	t.Setenv("ANTHROPIC_OPEN_TELEMETRY", "true")
	_, h := sent(t, anthropic.Options{}, hello())
	for name, values := range h {
		if strings.Contains(strings.Join(values, ""), "from-the-environment") || name == "X-Api-Key" || name == "Authorization" || name == "Traceparent" {
			t.Errorf("%s: %q is sent although it was not set", name, values)
		}
	}
	extra := http.Header{"Anthropic-Beta": {"one,two"}, "Authorization": {"Bearer tok-0123456789"}}
	_, h = sent(t, anthropic.Options{APIKey: "sk-ant-123456", Header: extra}, hello())
	for name, want := range map[string]string{"X-Api-Key": "sk-ant-123456", "Anthropic-Beta": "one,two", "Authorization": "Bearer tok-0123456789", "Anthropic-Version": "2023-06-01"} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q; want %q", name, got, want)
		}
	}
	if len(extra) != 2 {
		t.Errorf("the caller's header was changed to %v", extra)
	}
}

func TestRawIsByteForByte(t *testing.T) {
	body := " {\n\t\"content\" : [ {\"type\":\"text\",\"text\":\"<ok>\"} ], \"stop_reason\":\"end_turn\", \"of_their_own\": 1.50 }\r\n\n"
	res, err := saying(t, body).Generate(t.Context(), hello())
	if err != nil || string(res.Raw) != body {
		t.Errorf("Raw = %q, %v; want %q", res.Raw, err, body)
	}
	events := []string{`{"type":"message_start", "odd" : 1.50,"message":{"id":"i"}}`, `{"type":"message_delta","delta":{"stop_reason":"end_turn"}}`, `{"type":"message_stop"}`}
	res, err = stream(saying(t, "data: "+strings.Join(events, "\n\ndata: ")+"\n\n"))
	if want := "[" + strings.Join(events, ",") + "]"; err != nil || string(res.Raw) != want {
		t.Errorf("Raw of the stream = %q, %v; want %q", res.Raw, err, want)
	}
	if res, err := saying(t, answer+"and more").Generate(t.Context(), hello()); llm.KindOf(err) != llm.Unavailable || res != nil {
		t.Errorf("an answer with something after its end gave %v, %v; want an error, as no journal can hold it", res, err)
	}
}

func TestAnswersAsEndpointsGiveThem(t *testing.T) {
	call := []llm.ToolCall{{ID: "c", Name: "n", Arguments: `{"a" : 1}`}}
	for _, c := range []struct {
		name, body string
		want       llm.Response
	}{
		{"thinking", `{"id":"i","model":"m","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"redacted_thinking","data":"x"},{"type":"text","text":"a"},{"type":"text","text":"b"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":9,"output_tokens_details":{"thinking_tokens":7}}}`,
			llm.Response{Text: "ab", Finish: llm.FinishStop, Usage: llm.Usage{Input: 1, Output: 9, Reasoning: 7}}},
		{"the cache", `{"id":"i","model":"m","content":[],"stop_reason":"stop_sequence","usage":{"input_tokens":1,"cache_read_input_tokens":20,"cache_creation_input_tokens":300,"output_tokens":4}}`,
			llm.Response{Finish: llm.FinishStop, Usage: llm.Usage{Input: 321, Cached: 20, CacheWrites: 300, Output: 4}}},
		{"a tool", `{"id":"i","model":"m","content":[{"type":"tool_use","id":"c","name":"n","input":{"a" : 1}}],"stop_reason":"tool_use"}`,
			llm.Response{ToolCalls: call, Finish: llm.FinishToolCalls}},
		{"a tool of the provider's own", `{"id":"i","model":"m","content":[{"type":"server_tool_use","id":"c","name":"web_search","input":{}},{"type":"a_new_block","x":1}],"stop_reason":"pause_turn"}`,
			llm.Response{Finish: llm.FinishOther}},
		{"cut with a tool", `{"id":"i","model":"m","content":[{"type":"tool_use","id":"c","name":"n","input":{"a" : 1}}],"stop_reason":"max_tokens"}`,
			llm.Response{ToolCalls: call, Finish: llm.FinishLength}},
		{"a full context", `{"id":"i","model":"m","content":[{"type":"text","text":"a"}],"stop_reason":"model_context_window_exceeded"}`,
			llm.Response{Text: "a", Finish: llm.FinishLength}},
		{"a refusal without a word", `{"id":"i","model":"m","content":[],"stop_reason":"refusal","stop_details":null}`,
			llm.Response{Finish: llm.FinishRefused}},
		{"a refusal half way", `{"id":"i","model":"m","content":[{"type":"text","text":"First, "}],"stop_reason":"refusal","stop_details":{"type":"refusal","category":"bio","explanation":"No."}}`,
			llm.Response{Text: "First, ", Refusal: "No.", Finish: llm.FinishRefused}},
		{"error null", `{"id":"i","model":"m","error":null,"content":[{"type":"text","text":"a"}],"stop_reason":"end_turn"}`,
			llm.Response{Text: "a", Finish: llm.FinishStop}},
	} {
		res, err := saying(t, c.body).Generate(t.Context(), hello())
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		res.Raw, res.Turn = nil, nil // which have tests of their own
		c.want.Provider, c.want.Model, c.want.RequestID = "anthropic", "m", "i"
		if !reflect.DeepEqual(res, &c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, res, &c.want)
		}
	}
}

// events makes a stream of them, each with its name before it as the API has it.
func events(list ...string) string {
	var b strings.Builder
	for _, e := range list {
		var named struct{ Type string }
		_ = json.Unmarshal([]byte(e), &named) // one that is broken has no name
		fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", named.Type, e)
	}
	return b.String()
}

const (
	start = `{"type":"message_start","message":{"id":"i","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":5,"cache_read_input_tokens":20,"cache_creation_input_tokens":300,"output_tokens":1}}}`
	text  = `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`
	ab    = `{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"ab"}}`
	shut  = `{"type":"content_block_stop","index":0}`
	ended = `{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":9}}`
	over  = `{"type":"message_stop"}`
)

func TestStreamsAsEndpointsGiveThem(t *testing.T) {
	used := llm.Usage{Input: 325, Cached: 20, CacheWrites: 300, Output: 9}
	for _, c := range []struct {
		name, body string
		want       llm.Response
	}{
		{"plain", events(start, text, ab, shut, ended, over), llm.Response{Text: "ab", Usage: used}},
		{"without an end mark", events(start, text, ab, shut, ended), llm.Response{Text: "ab", Usage: used}},
		{"pings and news", events(start, `{"type":"ping"}`, text, `{"type":"a_new_event","index":0}`, ab, `{"type":"content_block_delta","index":0,"delta":{"type":"a_new_delta"}}`, shut, ended, over), llm.Response{Text: "ab", Usage: used}},
		{"thinking", events(start, `{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"secret"}}`, `{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"x"}}`, shut,
			strings.ReplaceAll(text, `"index":0`, `"index":1`), strings.ReplaceAll(ab, `"index":0`, `"index":1`), ended, over), llm.Response{Text: "ab", Usage: used}},
		{"tools", events(start, `{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"c1","name":"x","input":{}}}`,
			`{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":""}}`,
			`{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"k\""}}`,
			`{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"c2","name":"y","input":{}}}`,
			`{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":": 1}"}}`, `{"type":"content_block_stop","index":3}`, `{"type":"content_block_stop","index":4}`,
			strings.Replace(ended, "end_turn", "tool_use", 1), over),
			llm.Response{ToolCalls: []llm.ToolCall{{ID: "c1", Name: "x", Arguments: `{"k": 1}`}, {ID: "c2", Name: "y", Arguments: `{}`}}, Finish: llm.FinishToolCalls, Usage: used}},
		{"all totals at the end", events(start, text, ab, shut, `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":6,"cache_read_input_tokens":0,"cache_creation_input_tokens":400,"output_tokens":10,"output_tokens_details":{"thinking_tokens":4}}}`, over),
			llm.Response{Text: "ab", Usage: llm.Usage{Input: 406, CacheWrites: 400, Output: 10, Reasoning: 4}}},
		{"a refusal", events(start, text, ab, shut, `{"type":"message_delta","delta":{"stop_reason":"refusal","stop_details":{"type":"refusal","category":null,"explanation":"No."}},"usage":{"output_tokens":9}}`, over),
			llm.Response{Text: "ab", Refusal: "No.", Finish: llm.FinishRefused, Usage: used}},
	} {
		res, err := stream(saying(t, c.body))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		res.Raw, res.Turn = nil, nil // which have tests of their own
		c.want.Provider, c.want.Model, c.want.RequestID = "anthropic", "m", "i"
		if c.want.Finish == "" {
			c.want.Finish = llm.FinishStop
		}
		if !reflect.DeepEqual(res, &c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, res, &c.want)
		}
	}
}

func TestTheEndMarkEndsAStreamThatStaysOpen(t *testing.T) {
	c := endpoint(t, anthropic.Options{}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		io.WriteString(w, events(start, text, ab, shut, ended, over))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if res, err := c.Stream(ctx, hello(), func(llm.Delta) error { return nil }); err != nil || res.Text != "ab" || ctx.Err() != nil {
		t.Errorf("got %+v, %v; want the answer, without waiting for the connection to end", res, err)
	}
}

// TestErrorsUnderAStatusOfSuccess: the provider answers 200 before it knows how it ends.
func TestErrorsUnderAStatusOfSuccess(t *testing.T) {
	said := func(kind, message string) string {
		return fmt.Sprintf(`{"type":"error","error":{"type":%q,"message":%q},"request_id":"r"}`, kind, message)
	}
	for _, c := range []struct {
		name, body string
		stream     bool
		kind       llm.Kind
		known      bool // that some of the usage is
	}{
		{"whole", said("overloaded_error", "Overloaded"), false, llm.Overloaded, false},
		{"in the first event", events(said("overloaded_error", "Overloaded")), true, llm.Overloaded, false},
		{"half way", events(start, text, ab, said("overloaded_error", "Overloaded")), true, llm.Overloaded, true},
		{"rate, half way", events(start, text, ab, said("rate_limit_error", "Slow down")), true, llm.RateLimited, true},
		{"failure, half way", events(start, text, ab, said("api_error", "Internal server error")), true, llm.Unavailable, true},
		{"time, half way", events(start, text, ab, said("timeout_error", "Too slow")), true, llm.Timeout, true},
		{"request, half way", events(start, text, ab, said("invalid_request_error", "Output blocked by content filtering policy")), true, llm.Refused, true},
		{"another request, half way", events(start, text, ab, said("invalid_request_error", "no")), true, llm.BadRequest, true},
		{"in the place of a stream", said("overloaded_error", "Overloaded"), true, llm.Overloaded, false},
		{"an event that is no JSON", events(start, text) + "data: {\"type\":\n\n", true, llm.Unavailable, true},
	} {
		var res *llm.Response
		var err error
		if c.stream {
			res, err = stream(saying(t, c.body))
		} else {
			res, err = saying(t, c.body).Generate(t.Context(), hello())
		}
		var e *llm.Error
		if !errors.As(err, &e) || e.Kind != c.kind || res != nil {
			t.Errorf("%s: got %v, %v; want %s", c.name, res, err, c.kind)
			continue
		}
		want := llm.Usage{}
		if c.known {
			want = llm.Usage{Input: 325, Cached: 20, CacheWrites: 300, Output: 1}
		}
		if e.Usage != want {
			t.Errorf("%s: the usage is %+v; want %+v, as far as it was told", c.name, e.Usage, want)
		}
	}
}

func TestUsageOfAStreamThatEndsEarlyIsKept(t *testing.T) {
	want := llm.Usage{Input: 325, Cached: 20, CacheWrites: 300, Output: 1}
	var e *llm.Error
	if _, err := stream(saying(t, events(start, text, ab))); !errors.As(err, &e) || e.Kind != llm.Truncated || e.Usage != want {
		t.Errorf("cut: got %+v; want truncated, with %+v", err, want)
	}
	c := endpoint(t, anthropic.Options{}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		io.WriteString(w, events(start, text, ab))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.Stream(ctx, hello(), func(llm.Delta) error { return nil }); !errors.As(err, &e) || e.Kind != llm.Timeout || e.Usage != want {
		t.Errorf("out of time: got %+v; want a timeout, with %+v", err, want)
	}
}

func TestTheSizeOfAnAnswerIsBounded(t *testing.T) {
	endless := func(first, line string) *anthropic.Client {
		return endpoint(t, anthropic.Options{MaxAnswerBytes: 10_000}, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, first)
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, line); err != nil {
					return
				}
			}
		})
	}
	var e *llm.Error
	for name, line := range map[string]string{"events": events(ab), "pings": "event: ping\ndata: {\"type\": \"ping\"}\n\n", "comments": ": x\n", "one line": "x", "blank ones": "\n", "after all": events(ended)} {
		res, err := stream(endless(events(start, text), line))
		if !errors.As(err, &e) || !errors.Is(err, llm.ErrAnswerTooLarge) || res != nil || e.Usage.Input != 325 {
			t.Errorf("%s without end, streamed: got %v, %+v; want too large, with the usage", name, res, err)
		}
		if _, err := endless("", line).Generate(t.Context(), hello()); !errors.Is(err, llm.ErrAnswerTooLarge) {
			t.Errorf("%s without end: got %v", name, err)
		}
	}
	large := strings.Repeat("x", 5<<20)
	script := llmtest.Script(llmtest.Rule{Text: large})
	server := httptest.NewServer(llmtest.Server(script))
	defer server.Close()
	c := anthropic.New(anthropic.Options{BaseURL: server.URL})
	if res, err := c.Generate(t.Context(), hello()); err != nil || res.Text != large {
		t.Errorf("an answer of 5 MiB: %v", err)
	}
	if res, err := stream(c); err != nil || res.Text != large {
		t.Errorf("an answer of 5 MiB, streamed: %v", err)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		io.WriteString(w, answer)
	}))
	defer other.Close()
	for _, status := range []int{301, 302, 307, 308} {
		c := endpoint(t, anthropic.Options{APIKey: "sk-ant-123456"}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", other.URL)
			w.WriteHeader(status)
			io.WriteString(w, answer) // even so it is no answer
		})
		_, err := c.Generate(t.Context(), hello())
		_, streamErr := stream(c)
		for _, err := range []error{err, streamErr} {
			if llm.KindOf(err) != llm.BadRequest || !strings.Contains(err.Error(), other.URL) {
				t.Errorf("%d gave %v; want a bad request that names the new place", status, err)
			}
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("the other host was called %d times", n)
	}
}

func TestUnusableOptionsAreReportedBeforeACall(t *testing.T) {
	const key = "sk-ant-secret-0123456789"
	for _, c := range []struct {
		opt  anthropic.Options
		kind llm.Kind
	}{
		{anthropic.Options{BaseURL: "api.anthropic.com"}, llm.BadRequest},
		{anthropic.Options{BaseURL: "https://host/?key=" + key}, llm.BadRequest},
		{anthropic.Options{BaseURL: "https://me:" + key + "@host"}, llm.BadRequest},
		{anthropic.Options{APIKey: key + "\n"}, llm.Auth},
	} {
		m := anthropic.New(c.opt)
		_, err := m.Generate(t.Context(), hello())
		_, streamErr := stream(m)
		for _, err := range []error{err, streamErr} {
			if llm.KindOf(err) != c.kind || strings.Contains(fmt.Sprintf("%v %+v %+v", err, err, m), key) {
				t.Errorf("%+v gave %v; want %s, without the key", c.opt, err, c.kind)
			}
		}
	}
}

// The SDK would obey, were it let.
func TestTheProvidersWordsAboutRetriesAreNotObeyed(t *testing.T) {
	var calls atomic.Int64
	c := endpoint(t, anthropic.Options{}, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.Header().Set("X-Should-Retry", "true")
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(529)
	})
	if _, err := c.Generate(t.Context(), hello()); llm.KindOf(err) != llm.Overloaded || calls.Load() != 1 {
		t.Errorf("after %d calls: %v; want one call and overloaded", calls.Load(), err)
	}
}

// The provider itself answers nobody without a key, so it is not asked.
func TestWithoutAKeyNobodyIsAsked(t *testing.T) {
	_, err := anthropic.New(anthropic.Options{}).Generate(t.Context(), &llm.Request{Model: "m", Messages: []llm.Message{llm.User("?")}})
	if llm.KindOf(err) != llm.Auth || !strings.Contains(err.Error(), "ANTHROPIC_API_KEY") || !strings.Contains(err.Error(), "llmtest.Script") {
		t.Errorf("it answers %v", err)
	}
}
