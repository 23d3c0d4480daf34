package llmtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

func ask(s *llmtest.Scripted, text string) (*llm.Response, error) {
	return s.Generate(context.Background(), &llm.Request{Model: "m", Messages: []llm.Message{llm.User(text)}})
}

func TestTheFirstRuleThatMatchesAnswers(t *testing.T) {
	s := llmtest.Script(
		llmtest.Rule{Contains: "refund", When: func(r *llm.Request) bool { return r.System == "strict" }, Text: "never"},
		llmtest.Rule{Contains: "refund", Text: "once", Times: 1},
		llmtest.Rule{Contains: "refund", Text: "always"},
		llmtest.Rule{Contains: "echo", Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
			return &llm.Response{Text: strings.ToUpper(r.Messages[0].Content)}, nil
		}},
	)
	for _, c := range [][2]string{{"a refund", "once"}, {"a refund", "always"}, {"a refund", "always"}, {"echo me", "ECHO ME"}} {
		if res, err := ask(s, c[0]); err != nil || res.Text != c[1] {
			t.Errorf("%q gave %+v, %v; want %q", c[0], res, err, c[1])
		}
	}
	if _, err := ask(s, "something else"); llm.KindOf(err) != llm.BadRequest || !strings.Contains(err.Error(), "something else") {
		t.Errorf("a request without a rule gave %v; want a bad request that shows it", err)
	}
	strict := &llm.Request{Model: "m", System: "strict", Messages: []llm.Message{llm.User("a refund")}}
	if res, err := s.Generate(t.Context(), strict); err != nil || res.Text != "never" {
		t.Errorf("under the system prompt: %+v, %v; want never", res, err)
	}
	if n := len(s.Calls()); n != 6 {
		t.Errorf("%d calls were kept; want 6", n)
	}
}

func TestItSaysThatItIsScripted(t *testing.T) {
	res, err := ask(llmtest.Script(llmtest.Rule{Text: "three short words"}), "two words")
	if err != nil {
		t.Fatal(err)
	}
	if res.Model != "scripted (no model was asked)" || res.Provider != "scripted" || !strings.Contains(string(res.Raw), "no model was asked") {
		t.Errorf("the response says %q, %q, %s of where it comes from", res.Model, res.Provider, res.Raw)
	}
	if want := (llm.Usage{Input: 2, Output: 3}); res.Usage != want {
		t.Errorf("Usage = %+v; want the words, %+v", res.Usage, want)
	}
}

func TestFailuresComeFirstAndAreTheScriptsOwn(t *testing.T) {
	first, second := errors.New("first"), &llm.Error{Kind: llm.Overloaded}
	s := llmtest.Script(llmtest.Rule{Fail: []error{first, second}, Text: "at last"})
	if _, err := ask(s, "a"); err != first {
		t.Errorf("the first call gave %v", err)
	}
	if _, err := ask(s, "a"); err != error(second) {
		t.Errorf("the second call gave %v", err)
	}
	if res, err := ask(s, "a"); err != nil || res.Text != "at last" {
		t.Errorf("the third call gave %v, %v", res, err)
	}
}

func TestCallsAreCopies(t *testing.T) {
	s := llmtest.Script(llmtest.Rule{})
	req := &llm.Request{
		Model:       "m",
		Messages:    []llm.Message{{Role: llm.RoleAssistant, ToolCalls: []llm.ToolCall{{ID: "c", Name: "n", Arguments: "{}"}}}, llm.User("hi")},
		Tools:       []llm.Tool{{Name: "n", Parameters: json.RawMessage(`{"a":1}`)}},
		Temperature: new(1.0), Stop: []string{"x"}, Schema: &llm.Schema{Name: "s", JSON: json.RawMessage(`{"b":2}`)},
	}
	if _, err := s.Generate(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []*llm.Request{req, &s.Calls()[0]} { // the caller's request, then what Calls gave
		r.Messages[0].ToolCalls[0].Name, r.Messages[1].Content = "changed", "changed"
		r.Tools[0].Parameters[2], r.Schema.JSON[2] = 'z', 'z'
		*r.Temperature, r.Stop[0], r.Schema.Name = 9, "changed", "changed"
		if got, err := json.Marshal(s.Calls()[0]); err != nil || string(got) != string(want) {
			t.Errorf("a change outside changed the kept call to\n%s\nwant\n%s", got, want)
		}
	}
}

func TestDelayTakesItsTimeAndNoMoreThanTheContextAllows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := llmtest.Script(llmtest.Rule{Delay: time.Minute, Text: "done"})
		start := time.Now()
		if res, err := ask(s, "a"); err != nil || res.Text != "done" || time.Since(start) != time.Minute {
			t.Errorf("after %v: %v, %v; want the answer after a minute", time.Since(start), res, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		_, err := s.Generate(ctx, &llm.Request{Model: "m", Messages: []llm.Message{llm.User("a")}})
		if llm.KindOf(err) != llm.Timeout || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("after %v: %v; want a timeout after a second", time.Since(start), err)
		}
	})
}

func TestStreamedPiecesNeverCutACharacter(t *testing.T) {
	s := llmtest.Script(llmtest.Rule{Text: "ä ö ü", ToolCalls: []llm.ToolCall{{ID: "c", Name: "n", Arguments: `"ä"`}, {ID: "d", Name: "n", Arguments: ``}}})
	var text, arguments string
	res, err := s.Stream(t.Context(), &llm.Request{Model: "m", Messages: []llm.Message{llm.User("a")}}, func(d llm.Delta) error {
		for _, r := range d.Text {
			if r == '\uFFFD' {
				t.Errorf("the piece %q holds half a character", d.Text)
			}
		}
		text += d.Text
		if d.ToolCall != nil && d.ToolCall.Index == 0 {
			if strings.ContainsRune(d.ToolCall.Arguments, '\uFFFD') {
				t.Errorf("the piece %q holds half a character", d.ToolCall.Arguments)
			}
			arguments += d.ToolCall.Arguments
		}
		return nil
	})
	if err != nil || text != res.Text || arguments != res.ToolCalls[0].Arguments {
		t.Errorf("the pieces make up %q, %q; want %q, %q (%v)", text, arguments, res.Text, res.ToolCalls[0].Arguments, err)
	}
}

func TestVectorsOfLikeTextsAreNear(t *testing.T) {
	dot := func(a, b string) (sum float64) {
		va, vb := llmtest.Vector(a, 256), llmtest.Vector(b, 256)
		for i := range va {
			sum += float64(va[i]) * float64(vb[i])
		}
		return sum
	}
	paragraphs := []string{
		"Refunds are paid within fourteen days to the card that was charged.",
		"Our support desk is open from nine to five on weekdays.",
		"Parcels are shipped from Hamburg and take three days to arrive.",
	}
	for question, want := range map[string]int{
		"How do I get a refund?":           0,
		"When is the support desk open?":   1,
		"How long does shipping a parcel?": 2,
	} {
		best := 0
		for i := range paragraphs {
			if dot(question, paragraphs[i]) > dot(question, paragraphs[best]) {
				best = i
			}
		}
		if best != want || dot(question, paragraphs[want]) < 0.1 {
			t.Errorf("%q finds %q; want %q", question, paragraphs[best], paragraphs[want])
		}
	}
	if d := dot("The Refund, please!", "please the refund"); math.Abs(d-1) > 1e-6 {
		t.Errorf("order, case and marks matter: %v; want 1", d)
	}
	if d := dot("", "…"); math.Abs(d-1) > 1e-6 {
		t.Errorf("texts without words have the nearness %v; want 1, and no NaN", d)
	}
	if !reflect.DeepEqual(llmtest.Vector("refund", 8), []float32{-0.57346237, 0, 0, 0, 0, 0, 0, -0.8192319}) {
		t.Errorf("the vector of refund has changed to %v", llmtest.Vector("refund", 8))
	}
}

// TestServerSpeaksTheWireFormat looks at the very bytes, as the clients in this module
// could share a mistake with the server.
func TestServerSpeaksTheWireFormat(t *testing.T) {
	s := llmtest.Script(
		llmtest.Rule{Contains: "tool", ToolCalls: []llm.ToolCall{{ID: "c1", Name: "look", Arguments: `{"a":1}`}}, Usage: llm.Usage{Input: 3, Output: 2, Cached: 1, Reasoning: 1}},
		llmtest.Rule{Contains: "busy", Fail: []error{&llm.Error{Kind: llm.RateLimited, Message: "slow", Wait: 1500 * time.Millisecond}}},
		llmtest.Rule{Text: "Hi there", Usage: llm.Usage{Input: 3, Output: 2}},
	)
	server := httptest.NewServer(llmtest.Server(s))
	defer server.Close()
	const model = `"model":"scripted (no model was asked)"`
	for _, c := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"hi"}]}`, 200,
			`{"choices":[{"finish_reason":"stop","index":0,"logprobs":null,"message":{"role":"assistant","content":"Hi there"}}],"created":0,"id":"chatcmpl-scripted-1",` + model + `,"object":"chat.completion","usage":{"completion_tokens":2,"completion_tokens_details":{"reasoning_tokens":0},"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":0},"total_tokens":5}}` + "\n"},
		{"/chat/completions", `{"model":"m","messages":[{"role":"developer","content":"be"},{"role":"user","content":[{"type":"text","text":"a to"},{"type":"text","text":"ol"}]}],"stop":"x"}`, 200,
			`{"choices":[{"finish_reason":"tool_calls","index":0,"logprobs":null,"message":{"role":"assistant","content":"","tool_calls":[{"id":"c1","type":"function","function":{"name":"look","arguments":"{\"a\":1}"}}]}}],"created":0,"id":"chatcmpl-scripted-2",` + model + `,"object":"chat.completion","usage":{"completion_tokens":2,"completion_tokens_details":{"reasoning_tokens":1},"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":1},"total_tokens":5}}` + "\n"},
		{"/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true}}`, 200,
			`data: {"choices":[{"delta":{"content":"","role":"assistant"},"finish_reason":null,"index":0}],"created":0,"id":"chatcmpl-scripted-3",` + model + `,"object":"chat.completion.chunk"}

data: {"choices":[{"delta":{"content":"Hi "},"finish_reason":null,"index":0}],"created":0,"id":"chatcmpl-scripted-3",` + model + `,"object":"chat.completion.chunk"}

data: {"choices":[{"delta":{"content":"there"},"finish_reason":null,"index":0}],"created":0,"id":"chatcmpl-scripted-3",` + model + `,"object":"chat.completion.chunk"}

data: {"choices":[{"delta":{},"finish_reason":"stop","index":0}],"created":0,"id":"chatcmpl-scripted-3",` + model + `,"object":"chat.completion.chunk"}

data: {"choices":[],"created":0,"id":"chatcmpl-scripted-3",` + model + `,"object":"chat.completion.chunk","usage":{"completion_tokens":2,"completion_tokens_details":{"reasoning_tokens":0},"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":0},"total_tokens":5}}

data: [DONE]

`},
		{"/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"busy"}]}`, 429,
			`{"error":{"code":"rate_limit_exceeded","message":"slow","param":null,"type":"requests"}}` + "\n"},
		{"/v1/chat/completions", `{"model":"m","messages":[{"role":"tool","tool_call_id":"c"}]}`, 400,
			`{"error":{"code":null,"message":"message 0 has neither content nor tool calls","param":null,"type":"invalid_request_error"}}` + "\n"},
		{"/v1/chat/completions", `{`, 400,
			`{"error":{"code":null,"message":"the body is not a chat completion request: unexpected EOF","param":null,"type":"invalid_request_error"}}` + "\n"},
		{"/v1/embeddings", `{"model":"e","input":"refund","dimensions":2}`, 200,
			`{"data":[{"embedding":[-0.57346237,-0.8192319],"index":0,"object":"embedding"}],` + model + `,"object":"list","usage":{"prompt_tokens":1,"total_tokens":1}}` + "\n"},
		{"/v1/embeddings", `{"model":"e","input":["…"],"dimensions":1,"encoding_format":"base64"}`, 200,
			`{"data":[{"embedding":"AACAPw==","index":0,"object":"embedding"}],` + model + `,"object":"list","usage":{"prompt_tokens":1,"total_tokens":1}}` + "\n"},
		{"/v1/models", ``, 404,
			`{"error":{"code":"unknown_url","message":"there is no POST /v1/models here","param":null,"type":"invalid_request_error"}}` + "\n"},
	} {
		res, err := http.Post(server.URL+c.path, "application/json", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != c.status || string(got) != c.want {
			t.Errorf("POST %s %s gave %d, %v\n%s\nwant %d\n%s", c.path, c.body, res.StatusCode, err, got, c.status, c.want)
		}
		if ms := res.Header.Get("Retry-After-Ms"); res.StatusCode == 429 && (ms != "1500" || res.Header.Get("Retry-After") != "2") {
			t.Errorf("Retry-After, Retry-After-Ms = %q, %q; want 2, 1500", res.Header.Get("Retry-After"), ms)
		}
	}
}
