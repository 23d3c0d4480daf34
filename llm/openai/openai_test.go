package openai_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/openai"
)

func hello() *llm.Request {
	return &llm.Request{Model: "gpt-4o-mini", Messages: []llm.Message{llm.User("hi")}}
}

// endpoint serves f and returns a client of it.
func endpoint(t *testing.T, opt openai.Options, f http.HandlerFunc) *openai.Client {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	opt.BaseURL = server.URL + "/v1"
	return openai.New(opt)
}

// saying is an endpoint that always gives the same bytes.
func saying(t *testing.T, body string) *openai.Client {
	return endpoint(t, openai.Options{}, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) })
}

func stream(c *openai.Client) (*llm.Response, error) {
	return c.Stream(context.Background(), hello(), func(llm.Delta) error { return nil })
}

const answer = `{"id":"a","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}]}`

// sent returns what one call puts on the wire.
func sent(t *testing.T, opt openai.Options, req *llm.Request) (body map[string]any, header http.Header) {
	t.Helper()
	c := endpoint(t, opt, func(w http.ResponseWriter, r *http.Request) {
		header = r.Header
		b, err := io.ReadAll(r.Body)
		if err != nil || int64(len(b)) != r.ContentLength || json.Unmarshal(b, &body) != nil {
			t.Errorf("the body %q (%d of %d bytes) cannot be read: %v", b, len(b), r.ContentLength, err)
		}
		io.WriteString(w, answer)
	})
	if _, err := c.Generate(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	return body, header
}

func TestTheRequestOnTheWire(t *testing.T) {
	req := hello()
	req.Temperature, req.MaxTokens = new(0.0), 9
	req.Tools = []llm.Tool{{Name: "now"}}
	req.Schema = &llm.Schema{Name: "s", JSON: json.RawMessage(`{"type":"object"}`)}
	req.Messages = append(req.Messages,
		llm.Message{Role: llm.RoleAssistant, ToolCalls: []llm.ToolCall{{ID: "c", Name: "now"}}},
		llm.ToolResult(llm.ToolCall{ID: "c"}, ""))
	got, _ := sent(t, openai.Options{}, req)
	var want map[string]any
	if err := json.Unmarshal([]byte(`{
		"model": "gpt-4o-mini", "stream": false, "temperature": 0, "max_tokens": 9,
		"messages": [
			{"role": "user", "content": "hi"},
			{"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "now", "arguments": "{}"}}]},
			{"role": "tool", "tool_call_id": "c", "content": ""}],
		"tools": [{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}],
		"response_format": {"type": "json_schema", "json_schema": {"name": "s", "strict": true, "schema": {"type": "object"}}}
	}`), &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("on the wire:\n%v\nwant\n%v", got, want)
	}
}

// TestTheEndpointJudges sends what go-openai would refuse for these models on its own.
func TestTheEndpointJudges(t *testing.T) {
	for _, model := range []string{"gpt-5-mini", "o1-of-another-house", "gpt-6-sol", "text-davinci-003"} {
		req := hello()
		req.Model, req.Temperature, req.MaxTokens, req.Tools = model, new(0.2), 5, []llm.Tool{{Name: "now"}}
		if got, _ := sent(t, openai.Options{}, req); got["model"] != model || got["temperature"] != 0.2 || got["max_tokens"] != 5.0 {
			t.Errorf("%s: on the wire: %v", model, got)
		}
	}
}

// dialling sends every connection to server, whatever host was meant.
type dialling struct{ server *httptest.Server }

func (d dialling) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", d.server.Listener.Addr().String()
	return http.DefaultTransport.RoundTrip(r)
}

func TestTheTokenLimitHasTheNameThatTheHostKnows(t *testing.T) {
	var body map[string]any
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body = nil
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		io.WriteString(w, answer)
	}))
	defer server.Close()
	for _, c := range []struct{ base, field, want string }{
		{"", "", "max_completion_tokens"},
		{"https://eu.api.openai.com/v1", "", "max_completion_tokens"},
		{"https://x.openai.azure.com/openai/v1", "", "max_completion_tokens"},
		{"https://api.mistral.ai/v1", "", "max_tokens"},
		{"https://notopenai.com/v1", "", "max_tokens"},
		{"https://api.mistral.ai/v1", "max_new_tokens", "max_new_tokens"},
	} {
		model := openai.New(openai.Options{BaseURL: c.base, MaxTokensField: c.field, HTTPClient: &http.Client{Transport: dialling{server}}})
		req := hello()
		req.MaxTokens = 7
		if _, err := model.Generate(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"max_tokens", "max_completion_tokens", "max_new_tokens"} {
			if _, there := body[name]; there != (name == c.want) {
				t.Errorf("%s: %s on the wire is %v; want %s alone", c.base, name, there, c.want)
			}
		}
	}
}

func TestHeaders(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", "from-the-environment")
	t.Setenv("OPENAI_ORG_ID", "from-the-environment")
	_, h := sent(t, openai.Options{}, hello())
	for _, name := range []string{"Authorization", "OpenAI-Organization", "OpenAI-Project"} {
		if v := h.Get(name); v != "" {
			t.Errorf("%s: %q is sent although it was not set", name, v)
		}
	}
	extra := http.Header{"Api-Key": {"azure-key-1"}, "X-Title": {"pawl"}}
	_, h = sent(t, openai.Options{APIKey: "sk-123456", Organization: "org-1", Project: "proj-1", Header: extra}, hello())
	for name, want := range map[string]string{
		"Authorization": "Bearer sk-123456", "OpenAI-Organization": "org-1", "OpenAI-Project": "proj-1", "Api-Key": "azure-key-1", "X-Title": "pawl",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q; want %q", name, got, want)
		}
	}
	if len(extra) != 2 {
		t.Errorf("the caller's header was changed to %v", extra)
	}
}

func TestRawIsByteForByte(t *testing.T) {
	body := " {\n\t\"choices\" : [ {\"message\":{\"content\":\"<ok>\"},\"finish_reason\":\"stop\"} ], \"of_their_own\": 1.50 }\r\n\n"
	res, err := saying(t, body).Generate(t.Context(), hello())
	if err != nil || string(res.Raw) != body {
		t.Errorf("Raw = %q, %v; want %q", res.Raw, err, body)
	}

	events := []string{`{"choices":[{"delta":{"content":"<o"}}], "odd" : 1.50}`, `{"choices":[{"delta":{"content":"k>"},"finish_reason":"stop"}]}`}
	res, err = stream(saying(t, "data: "+events[0]+"\n\ndata: "+events[1]+"\n\ndata: [DONE]\n\n"))
	if want := "[" + events[0] + "," + events[1] + "]"; err != nil || string(res.Raw) != want {
		t.Errorf("Raw of the stream = %q, %v; want %q", res.Raw, err, want)
	}

	res, err = saying(t, strings.Replace(answer, "ok", "a\xffb", 1)).Generate(t.Context(), hello())
	if want := strings.Replace(answer, "ok", "a\uFFFDb", 1); err != nil || string(res.Raw) != want || res.Text != "a\uFFFDb" {
		t.Errorf("bytes that are no UTF-8 became %q, %v; want %q", res.Raw, err, want)
	}

	if res, err := saying(t, answer+"and more").Generate(t.Context(), hello()); llm.KindOf(err) != llm.Unavailable || res != nil {
		t.Errorf("an answer with something after its end gave %v, %v; want an error, as no journal can hold it", res, err)
	}
}

func TestAnswersAsEndpointsGiveThem(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       llm.Response
	}{
		{"content in parts", `{"id":"i","choices":[{"message":{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},"finish_reason":"stop"}]}`,
			llm.Response{Text: "ab", Finish: llm.FinishStop, Model: "gpt-4o-mini", RequestID: "i"}},
		{"stop with a forced tool", `{"id":"i","model":"m","choices":[{"message":{"content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"n","arguments":"{}"}}]},"finish_reason":"stop"}]}`,
			llm.Response{ToolCalls: []llm.ToolCall{{ID: "c", Name: "n", Arguments: "{}"}}, Finish: llm.FinishToolCalls, Model: "m", RequestID: "i"}},
		{"cut with a tool", `{"id":"i","model":"m","choices":[{"message":{"tool_calls":[{"id":"c","type":"function","function":{"name":"n","arguments":"{"}}]},"finish_reason":"length"}]}`,
			llm.Response{ToolCalls: []llm.ToolCall{{ID: "c", Name: "n", Arguments: "{"}}, Finish: llm.FinishLength, Model: "m", RequestID: "i"}},
		{"error null", `{"id":"i","model":"m","error":null,"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}`,
			llm.Response{Text: "a", Finish: llm.FinishStop, Model: "m", RequestID: "i"}},
	} {
		res, err := saying(t, c.body).Generate(t.Context(), hello())
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		res.Raw, c.want.Provider = nil, "openai"
		if !reflect.DeepEqual(res, &c.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, res, &c.want)
		}
	}
}

func TestStreamsAsEndpointsGiveThem(t *testing.T) {
	const a = `{"choices":[{"index":0,"delta":{"content":"a"}}]}`
	const b = `{"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":"stop"}]}`
	tools := []llm.ToolCall{{ID: "c1", Name: "x", Arguments: `{"k":1}`}, {ID: "c2", Name: "y", Arguments: `{}`}}
	for _, c := range []struct {
		name, body string
		text       string
		calls      []llm.ToolCall
	}{
		{"plain", "data: " + a + "\n\ndata: " + b + "\n\ndata: [DONE]\n\n", "ab", nil},
		{"without an end mark", "data: " + a + "\n\ndata: " + b + "\n\n", "ab", nil},
		{"without the last line's end", "data: " + a + "\n\ndata: " + b, "ab", nil},
		{"carriage returns, no spaces", "data:" + a + "\r\n\r\ndata:" + b + "\r\n\r\ndata:[DONE]\r\n\r\n", "ab", nil},
		{"comments and other fields", strings.Repeat(": still alive\n\n", 1000) + "event: message\nid: 1\nretry: 9\ndata: " + a + "\n\n: x\n\ndata: " + b + "\n\n", "ab", nil},
		{"an event over two lines", "data: " + a[:11] + "\ndata: " + a[11:] + "\n\ndata: " + b + "\n\n", "ab", nil},
		{"another choice", `data: {"choices":[{"index":1,"delta":{"content":"no"},"finish_reason":"stop"}]}` + "\n\ndata: " + a + "\n\ndata: " + b + "\n\n", "ab", nil},
		{"tools with an index", `data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c1","function":{"name":"x","arguments":""}},{"index":1,"id":"c2","function":{"name":"y","arguments":"{"}}]}}]}` + "\n\n" +
			`data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"k\":1}"}},{"index":1,"function":{"arguments":"}"}}]},"finish_reason":"tool_calls"}]}` + "\n\n", "", tools},
		{"tools without one", `data: {"choices":[{"delta":{"tool_calls":[{"id":"c1","function":{"name":"x","arguments":"{\"k\""}}]}}]}` + "\n\n" +
			`data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":":1}"}},{"id":"c2","function":{"name":"y","arguments":"{}"}}]},"finish_reason":"stop"}]}` + "\n\n", "", tools},
		{"an index that begins late", `data: {"choices":[{"delta":{"tool_calls":[{"index":7,"id":"c1","function":{"name":"x","arguments":"{\"k\":1}"}},{"index":3,"id":"c2","function":{"name":"y","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}` + "\n\n", "", tools},
	} {
		res, err := stream(saying(t, c.body))
		if err != nil || res.Text != c.text || !reflect.DeepEqual(res.ToolCalls, c.calls) {
			t.Errorf("%s: got %+v, %v; want %q, %v", c.name, res, err, c.text, c.calls)
		}
	}
}

// TestErrorsUnderAStatusOfSuccess: gateways answer 200 before they know how it ends.
func TestErrorsUnderAStatusOfSuccess(t *testing.T) {
	const limited = `{"error":{"code":429,"message":"upstream is busy","metadata":{}}}`
	const a = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"
	for _, c := range []struct {
		name, body string
		stream     bool
		kind       llm.Kind
		says       string
	}{
		{"whole", limited, false, llm.RateLimited, "upstream is busy"},
		{"in the first event", "data: " + limited + "\n\n", true, llm.RateLimited, "upstream is busy"},
		{"after comments", ": working\n\n: working\n\ndata: " + limited + "\n\n", true, llm.RateLimited, "upstream is busy"},
		{"half way", a + `data: {"id":"x","error":{"code":"server_error","message":"lost it"},"choices":[{"delta":{},"finish_reason":"error"}]}` + "\n\n", true, llm.Unavailable, "lost it"},
		{"in the place of a stream", limited, true, llm.RateLimited, "upstream is busy"},
		{"in the place of a stream, over lines", "{\n \"error\": {\n  \"code\": 429, \"message\": \"upstream is busy\"}\n}\n", true, llm.RateLimited, "upstream is busy"},
		{"context, half way", a + `data: {"error":{"message":"maximum context length reached"}}` + "\n\n", true, llm.ContextTooLong, "reached"},
		{"a reason alone", `{"choices":[{"message":{"content":"a"},"finish_reason":"error"}]}`, false, llm.Unavailable, "broke the answer off"},
	} {
		var res *llm.Response
		var err error
		if c.stream {
			res, err = stream(saying(t, c.body))
		} else {
			res, err = saying(t, c.body).Generate(t.Context(), hello())
		}
		if llm.KindOf(err) != c.kind || res != nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, %v; want %s, %q", c.name, res, err, c.kind, c.says)
		}
	}
}

func TestUsageOfAFailedCallIsKept(t *testing.T) {
	_, err := saying(t, `{"choices":[{"message":{"content":"a"},"finish_reason":null}],"usage":{"prompt_tokens":5,"completion_tokens":9}}`).Generate(t.Context(), hello())
	e, ok := errors.AsType[*llm.Error](err)
	if !ok || e.Kind != llm.Truncated || e.Usage != (llm.Usage{Input: 5, Output: 9}) {
		t.Errorf("got %+v; want truncated, with 5 and 9 tokens", err)
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
		c := endpoint(t, openai.Options{APIKey: "sk-123456"}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", other.URL)
			w.WriteHeader(status)
			io.WriteString(w, answer) // even so it is no answer
		})
		_, err := c.Generate(t.Context(), hello())
		_, streamErr := stream(c)
		_, embedErr := c.Embed(t.Context(), &llm.EmbedRequest{Model: "e", Input: []string{"a"}})
		for _, err := range []error{err, streamErr, embedErr} {
			if llm.KindOf(err) != llm.BadRequest || !strings.Contains(err.Error(), other.URL) {
				t.Errorf("%d gave %v; want a bad request that names the new place", status, err)
			}
		}
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("the other host was called %d times", n)
	}
}

func TestTheCallersHTTPClientIsUsedAndLeftAlone(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a server notices that a client has gone only when it has read all
		<-r.Context().Done()
	}))
	defer server.Close()
	hc := &http.Client{Transport: dialling{server}, Timeout: 50 * time.Millisecond}
	c := openai.New(openai.Options{BaseURL: "http://nowhere.invalid/v1", HTTPClient: hc})
	for name, ask := range map[string]func() error{
		"Generate": func() error { _, err := c.Generate(t.Context(), hello()); return err },
		"Stream":   func() error { _, err := stream(c); return err },
	} {
		if err := ask(); llm.KindOf(err) != llm.Timeout {
			t.Errorf("%s: got %v; want the client's own time limit to be a timeout", name, err)
		}
	}
	if hc.CheckRedirect != nil || hc.Transport != (dialling{server}) {
		t.Errorf("the caller's client was changed to %+v", hc)
	}
}

func TestATimeLimitInTheMiddleOfAnAnswerIsATimeout(t *testing.T) {
	c := endpoint(t, openai.Options{HTTPClient: &http.Client{Timeout: 100 * time.Millisecond}}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	if _, err := c.Generate(t.Context(), hello()); llm.KindOf(err) != llm.Timeout {
		t.Errorf("Generate: got %v; want a timeout", err)
	}
	if _, err := stream(c); llm.KindOf(err) != llm.Timeout {
		t.Errorf("Stream: got %v; want a timeout", err)
	}
}

func TestACauseIsKept(t *testing.T) {
	why := errors.New("the run was cancelled")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := saying(t, answer).Generate(ctx, hello()); !errors.Is(err, context.Canceled) || !errors.Is(err, why) {
		t.Errorf("got %v; want both context.Canceled and the cause", err)
	}
}

func TestUnusableOptionsAreReportedBeforeACall(t *testing.T) {
	const key = "sk-secret-0123456789"
	for _, c := range []struct {
		opt  openai.Options
		kind llm.Kind
	}{
		{openai.Options{BaseURL: "api.openai.com/v1"}, llm.BadRequest},
		{openai.Options{BaseURL: "ftp://host/v1"}, llm.BadRequest},
		{openai.Options{BaseURL: "http://%zz/" + key}, llm.BadRequest},
		{openai.Options{BaseURL: "https://host/v1?key=" + key}, llm.BadRequest},
		{openai.Options{BaseURL: "https://me:" + key + "@host/v1"}, llm.BadRequest},
		{openai.Options{APIKey: key + "\n"}, llm.Auth},
	} {
		m := openai.New(c.opt)
		_, err := m.Generate(t.Context(), hello())
		_, streamErr := stream(m)
		_, embedErr := m.Embed(t.Context(), &llm.EmbedRequest{Model: "e", Input: []string{"a"}})
		for _, err := range []error{err, streamErr, embedErr} {
			if llm.KindOf(err) != c.kind || strings.Contains(fmt.Sprintf("%v %+v", err, err), key) {
				t.Errorf("%+v gave %v; want %s, without the key", c.opt, err, c.kind)
			}
		}
	}
}

func TestExtraHeadersAreInNoError(t *testing.T) {
	const key = "azure-0123456789"
	c := endpoint(t, openai.Options{Header: http.Header{"Api-Key": {key}, "Authorization": {"Token tok-0123456789"}}}, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(401)
		fmt.Fprintf(w, "no %s, no %s", r.Header.Get("Api-Key"), strings.TrimPrefix(r.Header.Get("Authorization"), "Token "))
	})
	_, err := c.Generate(t.Context(), hello())
	if llm.KindOf(err) != llm.Auth || strings.Contains(err.Error(), "0123456789") || !strings.Contains(err.Error(), "no [concealed], no [concealed]") {
		t.Errorf("got %v", err)
	}
}

// TestAConnectionResetInTheMiddleIsACutAnswer: the model was at work, so this is not the
// same as no connection at all.
func TestAConnectionResetInTheMiddleIsACutAnswer(t *testing.T) {
	read := make(chan struct{})
	c := endpoint(t, openai.Options{HTTPClient: &http.Client{Transport: signalling{read}}}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\ndata: {")
		<-read // a reset that overtakes the answer would take the place of it
		if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
			t.Error(err)
		}
		_ = conn.Close()
	})
	if _, err := c.Generate(t.Context(), hello()); llm.KindOf(err) != llm.Truncated {
		t.Errorf("Generate: got %v; want truncated", err)
	}
	if _, err := stream(c); llm.KindOf(err) != llm.Truncated {
		t.Errorf("Stream: got %v; want truncated", err)
	}
}

// signalling says on its channel that the beginning of an answer has come.
type signalling struct{ read chan struct{} }

func (s signalling) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		s.read <- struct{}{}
	}
	return res, err
}

func TestVectorsFindTheirInputs(t *testing.T) {
	embed := func(body string) (*llm.EmbedResponse, error) {
		return saying(t, body).Embed(t.Context(), &llm.EmbedRequest{Model: "e", Input: []string{"a", "b"}})
	}
	res, err := embed(`{"model":"e-2","data":[{"index":1,"embedding":[2]},{"index":0,"embedding":[1]}],"usage":{"prompt_tokens":4}}`)
	if err != nil || !reflect.DeepEqual(res.Vectors, [][]float32{{1}, {2}}) || res.Model != "e-2" || res.Usage.Input != 4 {
		t.Errorf("out of order: got %+v, %v", res, err)
	}
	for body, kind := range map[string]llm.Kind{
		`{"data":[{"index":0,"embedding":[1]}]}`:                                                           llm.Truncated,
		`{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[2]}]}`:                               llm.Unavailable,
		`{"data":[{"index":0,"embedding":[1]},{"index":2,"embedding":[2]}]}`:                               llm.Unavailable,
		`{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[]}]}`:                                llm.Unavailable,
		`{"data":[{"index":0,"embedding":[1]},{"index":1,"embedd`:                                          llm.Truncated,
		`{"error":{"message":"no such model","code":404}}`:                                                 llm.BadRequest,
		`{"data":[],"error":{"message":"This model's maximum context length is 8192 tokens","code":null}}`: llm.ContextTooLong,
	} {
		if res, err := embed(body); llm.KindOf(err) != kind || res != nil {
			t.Errorf("%s gave %v, %v; want %s", body, res, err, kind)
		}
	}
}

func TestTheSizeOfAnAnswerIsBounded(t *testing.T) {
	endless := func(line string) *openai.Client {
		return endpoint(t, openai.Options{MaxAnswerBytes: 10_000}, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, line); err != nil {
					return
				}
			}
		})
	}
	for name, line := range map[string]string{
		"events":     "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
		"comments":   ": x\n",
		"one line":   "x",
		"blank ones": "\n",
		"after all":  "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n",
	} {
		res, err := stream(endless(line))
		if !errors.Is(err, llm.ErrAnswerTooLarge) || res != nil {
			t.Errorf("%s without end, streamed: got %v, %v", name, res, err)
		}
		if _, err := endless(line).Generate(t.Context(), hello()); !errors.Is(err, llm.ErrAnswerTooLarge) {
			t.Errorf("%s without end: got %v", name, err)
		}
	}
	if _, err := endless(answer+strings.Repeat(" ", 20_000)).Generate(t.Context(), hello()); !errors.Is(err, llm.ErrAnswerTooLarge) {
		t.Errorf("an answer with endless space after it: got %v", err)
	}
	poor := endpoint(t, openai.Options{MaxAnswerBytes: 10}, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(429)
		io.WriteString(w, `{"error":{"message":"No credit","code":"insufficient_quota"}}`+strings.Repeat(" ", 1<<20))
	})
	if _, err := poor.Generate(t.Context(), hello()); llm.KindOf(err) != llm.QuotaExceeded {
		t.Errorf("an error larger than an answer may be: got %v; want its beginning to be read", err)
	}
	exact := endpoint(t, openai.Options{MaxAnswerBytes: int64(len(answer))}, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) })
	if _, err := exact.Generate(t.Context(), hello()); err != nil {
		t.Errorf("an answer of exactly the limit: %v", err)
	}
}

// The provider itself answers nobody without a key, so it is not asked.
func TestWithoutAKeyNobodyIsAsked(t *testing.T) {
	_, err := openai.New(openai.Options{}).Generate(t.Context(), &llm.Request{Model: "m", Messages: []llm.Message{llm.User("?")}})
	if llm.KindOf(err) != llm.Auth || !strings.Contains(err.Error(), "OPENAI_API_KEY") || !strings.Contains(err.Error(), "llmtest.Script") {
		t.Errorf("it answers %v", err)
	}
}
