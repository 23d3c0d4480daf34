package openai

import (
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl/llm"
)

// TestErrorBodies feeds the bodies that endpoints really send.
func TestErrorBodies(t *testing.T) {
	for _, c := range []struct {
		from   string
		status int
		body   string
		kind   llm.Kind
		code   string
		says   string
	}{
		{"OpenAI, rate", 429, `{"error":{"message":"Rate limit reached for gpt-4o","type":"tokens","param":null,"code":"rate_limit_exceeded"}}`, llm.RateLimited, "rate_limit_exceeded", "Rate limit reached for gpt-4o"},
		{"OpenAI, empty account", 429, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}`, llm.QuotaExceeded, "insufficient_quota", "You exceeded your current quota"},
		{"OpenAI, empty account, newer code", 429, `{"error":{"message":"No credit","type":"insufficient_quota","code":"credit_balance_exhausted"}}`, llm.QuotaExceeded, "credit_balance_exhausted", "No credit"},
		{"OpenAI, ramp", 503, `{"error":{"message":"Slow down","type":"rate_limit_error","code":"slow_down"}}`, llm.RateLimited, "slow_down", "Slow down"},
		{"OpenAI, context", 400, `{"error":{"message":"This model's maximum context length is 8192 tokens","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}`, llm.ContextTooLong, "context_length_exceeded", "8192"},
		{"OpenAI, key", 401, `{"error":{"message":"Incorrect API key provided: sk-1***9","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`, llm.Auth, "invalid_api_key", "Incorrect"},
		{"OpenAI, model", 404, `{"error":{"message":"The model x does not exist","type":"invalid_request_error","param":null,"code":"model_not_found"}}`, llm.BadRequest, "model_not_found", "does not exist"},
		{"OpenAI, parameter", 400, `{"error":{"message":"Unsupported parameter: 'max_tokens'","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}`, llm.BadRequest, "unsupported_parameter", "max_tokens"},
		{"OpenAI, failure", 500, `{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}`, llm.Unavailable, "server_error", "had an error"},
		{"OpenAI, list of messages", 400, `{"error":{"message":["a","b"],"type":"invalid_request_error"}}`, llm.BadRequest, "invalid_request_error", `["a","b"]`},
		{"Azure, filter", 400, `{"error":{"message":"The response was filtered","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}`, llm.Refused, "content_filter", "filtered"},
		{"vLLM", 400, `{"object":"error","message":"This model's maximum context length is 16384 tokens. However, you requested 122946","type":"BadRequestError","param":null,"code":400}`, llm.ContextTooLong, "400", "16384"},
		{"llama.cpp", 500, `{"error":{"code":500,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}`, llm.ContextTooLong, "500", "exceeds"},
		{"FastAPI", 422, `{"detail":[{"loc":["body"],"msg":"field required"}]}`, llm.BadRequest, "", "field required"},
		{"a mere text", 400, `{"error":"model not found"}`, llm.BadRequest, "", "model not found"},
		{"a proxy", 502, "<html>\n<h1>Bad\x1b[31m Gateway</h1>", llm.Unavailable, "", "<html> <h1>Bad[31m Gateway</h1>"},
		{"nothing", 503, "", llm.Overloaded, "", "Service Unavailable"},
		{"null", 500, `{"error":null}`, llm.Unavailable, "", "Internal Server Error"},
		{"a long story", 500, strings.Repeat("é", 5000), llm.Unavailable, "", "é …"},
	} {
		e := New(Options{}).refused(&exchange{model: "m", status: c.status, body: []byte(c.body), header: http.Header{}})
		if e.Kind != c.kind || e.Code != c.code || e.Status != c.status || !strings.Contains(e.Message, c.says) {
			t.Errorf("%s:\n got %s %q %q\nwant %s %q %q", c.from, e.Kind, e.Code, e.Message, c.kind, c.code, c.says)
		}
		if len(e.Message) > maxMessageBytes+len(" …") {
			t.Errorf("%s: the message has %d bytes", c.from, len(e.Message))
		}
	}
}

// TestKindsOfStatuses holds every status of an error to a kind, so that none is left to
// chance.
func TestKindsOfStatuses(t *testing.T) {
	for status := 400; status < 600; status++ {
		want := llm.BadRequest
		switch status {
		case 401, 403, 407:
			want = llm.Auth
		case 402:
			want = llm.QuotaExceeded
		case 408, 504, 524:
			want = llm.Timeout
		case 413:
			want = llm.ContextTooLong
		case 429:
			want = llm.RateLimited
		case 503, 529:
			want = llm.Overloaded
		default:
			if status == 409 || status == 425 || status >= 500 {
				want = llm.Unavailable
			}
		}
		if got := kindOf(status, &endpointError{}); got != want {
			t.Errorf("status %d is %s; want %s", status, got, want)
		}
	}
}

func TestRetryAfterIsRead(t *testing.T) {
	const date = "Fri, 20 Nov 2026 10:00:00 GMT"
	for _, c := range []struct {
		header map[string]string
		want   time.Duration
	}{
		{nil, 0},
		{map[string]string{"Retry-After": "20"}, 20 * time.Second},
		{map[string]string{"Retry-After": "0.25"}, 250 * time.Millisecond},
		{map[string]string{"Retry-After": "0"}, 0},
		{map[string]string{"Retry-After": "-3"}, 0},
		{map[string]string{"Retry-After": "soon"}, 0},
		{map[string]string{"Retry-After": "NaN"}, 0},
		{map[string]string{"Retry-After": "Inf"}, maxWait},
		{map[string]string{"Retry-After": "9223372036854775807"}, maxWait},
		{map[string]string{"Retry-After-Ms": "1500", "Retry-After": "2"}, 1500 * time.Millisecond},
		{map[string]string{"Retry-After-Ms": "12.5"}, 12500 * time.Microsecond},
		{map[string]string{"Retry-After-Ms": "x", "Retry-After": "2"}, 2 * time.Second},
		{map[string]string{"Retry-After": date, "Date": "Fri, 20 Nov 2026 09:59:30 GMT"}, 30 * time.Second},
		{map[string]string{"Retry-After": date, "Date": "Fri, 20 Nov 2026 10:00:30 GMT"}, 0},
		{map[string]string{"Retry-After": "Fri, 20 Nov 2076 10:00:00 GMT", "Date": date}, maxWait},
	} {
		h := http.Header{}
		for name, value := range c.header {
			h.Set(name, value)
		}
		if got := retryAfter(h); got != c.want {
			t.Errorf("%v asks for %v; want %v", c.header, got, c.want)
		}
	}
	if got, ok := duration("1e400", time.Second); ok || got != 0 {
		t.Errorf("a number past all range gives %v, %v", got, ok)
	}
	if maxWait <= 0 || maxWait > math.MaxInt64/2 {
		t.Error("maxWait is out of bounds")
	}
}

// TestNoProxyFromTheEnvironment: net/http reads it once per process, so the field is what
// can be checked.
func TestNoProxyFromTheEnvironment(t *testing.T) {
	own := httpClient(Options{}).Transport.(*recorder).next.(*http.Transport)
	if own.Proxy != nil {
		t.Error("the client's own transport has a proxy")
	}
}
