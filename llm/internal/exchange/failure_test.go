package exchange

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
		{"Anthropic, rate", 429, `{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your rate limit"},"request_id":"r"}`, llm.RateLimited, "rate_limit_error", "would exceed"},
		{"Anthropic, busy", 529, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, llm.Overloaded, "overloaded_error", "Overloaded"},
		{"Anthropic, prompt", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 208310 tokens > 200000 maximum"}}`, llm.ContextTooLong, "invalid_request_error", "208310"},
		{"Anthropic, prompt and answer", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"input length and ` + "`max_tokens`" + ` exceed context limit: 188240 + 21333 > 200000"}}`, llm.ContextTooLong, "invalid_request_error", "188240"},
		{"Anthropic, bytes", 413, `{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}`, llm.ContextTooLong, "request_too_large", "maximum size"},
		{"Anthropic, field", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: Field required"}}`, llm.BadRequest, "invalid_request_error", "max_tokens"},
		{"Anthropic, key", 401, `{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}`, llm.Auth, "authentication_error", "invalid x-api-key"},
		{"Anthropic, right", 403, `{"type":"error","error":{"type":"permission_error","message":"Your API key may not"}}`, llm.Auth, "permission_error", "may not"},
		{"Anthropic, bill", 402, `{"type":"error","error":{"type":"billing_error","message":"Check your payment details"}}`, llm.QuotaExceeded, "billing_error", "payment"},
		{"Anthropic, empty account", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}`, llm.QuotaExceeded, "invalid_request_error", "credit balance"},
		{"Anthropic, spend limit", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified API usage limits. You will regain access on 2026-12-01."}}`, llm.QuotaExceeded, "invalid_request_error", "regain"},
		{"Anthropic, filter", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"Output blocked by content filtering policy"}}`, llm.Refused, "invalid_request_error", "filtering"},
		{"Anthropic, model", 404, `{"type":"error","error":{"type":"not_found_error","message":"model: claude-x"}}`, llm.BadRequest, "not_found_error", "claude-x"},
		{"Anthropic, time", 504, `{"type":"error","error":{"type":"timeout_error","message":"The request timed out"}}`, llm.Timeout, "timeout_error", "timed out"},
		{"Anthropic, failure", 500, `{"type":"error","error":{"type":"api_error","message":"Internal server error"}}`, llm.Unavailable, "api_error", "Internal"},
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
		e := (&Call{Model: "m", line: New(Options{}), status: c.status, Body: []byte(c.body), Header: http.Header{}}).refused()
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
		if got := kindOf(status, &Said{}); got != want {
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

func TestLimitsAreRead(t *testing.T) {
	const date = "Fri, 20 Nov 2026 10:00:00 GMT"
	for _, c := range []struct {
		header map[string]string
		want   llm.Limits
	}{
		{nil, llm.Limits{}},
		{map[string]string{"x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "499", "x-ratelimit-reset-requests": "120ms", "x-ratelimit-limit-tokens": "30000", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"},
			llm.Limits{Requests: llm.Limit{Limit: 500, Remaining: 499, Reset: 120 * time.Millisecond}, Tokens: llm.Limit{Limit: 30000, Reset: 6 * time.Minute}}},
		{map[string]string{"x-ratelimit-limit-requests": "14400", "x-ratelimit-reset-requests": "2m59.56s"}, llm.Limits{Requests: llm.Limit{Limit: 14400, Reset: 2*time.Minute + 59560*time.Millisecond}}},
		{map[string]string{"x-ratelimit-limit-requests": "5", "x-ratelimit-reset-requests": "12.5"}, llm.Limits{Requests: llm.Limit{Limit: 5, Reset: 12500 * time.Millisecond}}},
		{map[string]string{"x-ratelimit-limit-requests": "5", "x-ratelimit-reset-requests": "1d2h"}, llm.Limits{Requests: llm.Limit{Limit: 5, Reset: maxWait}}},
		{map[string]string{"x-ratelimit-limit-requests": "5", "x-ratelimit-reset-requests": "0d3s"}, llm.Limits{Requests: llm.Limit{Limit: 5, Reset: 3 * time.Second}}},
		{map[string]string{"x-ratelimit-limit-requests": "5", "x-ratelimit-reset-requests": "99999h"}, llm.Limits{Requests: llm.Limit{Limit: 5, Reset: maxWait}}},
		{map[string]string{"x-ratelimit-limit-requests": "5", "x-ratelimit-reset-requests": "-3s"}, llm.Limits{Requests: llm.Limit{Limit: 5}}},
		{map[string]string{"x-ratelimit-limit-requests": "many", "x-ratelimit-remaining-requests": "-4", "x-ratelimit-reset-requests": "soon"}, llm.Limits{}},
		{map[string]string{
			"anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-remaining": "49", "anthropic-ratelimit-requests-reset": "2026-11-20T10:00:02Z",
			"anthropic-ratelimit-input-tokens-limit": "40000", "anthropic-ratelimit-input-tokens-remaining": "39000", "anthropic-ratelimit-input-tokens-reset": "2026-11-20T11:00:30+01:00",
			"anthropic-ratelimit-output-tokens-limit": "8000", "anthropic-ratelimit-output-tokens-remaining": "8000", "anthropic-ratelimit-output-tokens-reset": "2026-11-20T09:59:00Z",
			"anthropic-ratelimit-tokens-limit": "48000", "anthropic-ratelimit-tokens-remaining": "47000", "anthropic-ratelimit-tokens-reset": "2126-11-20T10:00:00Z"},
			llm.Limits{
				Requests:    llm.Limit{Limit: 50, Remaining: 49, Reset: 2 * time.Second},
				InputTokens: llm.Limit{Limit: 40000, Remaining: 39000, Reset: 30 * time.Second}, OutputTokens: llm.Limit{Limit: 8000, Remaining: 8000},
				Tokens: llm.Limit{Limit: 48000, Remaining: 47000, Reset: maxWait}}},
	} {
		h := http.Header{"Date": {date}}
		for name, value := range c.header {
			h.Set(name, value)
		}
		if got := (&Call{Header: h}).Limits(); got != c.want {
			t.Errorf("%v\n say %+v\nwant %+v", c.header, got, c.want)
		}
	}
}

// TestNoProxyFromTheEnvironment: net/http reads it once per process, so the field is what
// can be checked.
func TestNoProxyFromTheEnvironment(t *testing.T) {
	own := New(Options{}).HTTP.Transport.(*recorder).next.(*http.Transport)
	if own.Proxy != nil {
		t.Error("the client's own transport has a proxy")
	}
}
