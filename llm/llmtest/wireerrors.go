package llmtest

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/pawlrun/pawl/llm"
)

// How the providers report errors and rate limits.

// wireError is how a provider reports a kind of error.
type wireError struct {
	status     int
	kind, code string
	words      string // what the message begins with, where only that tells
}

// of returns how e is reported.
func of(table map[llm.Kind]wireError, e *llm.Error) wireError {
	about, ok := table[e.Kind]
	if !ok {
		about = table[llm.Unavailable]
	}
	if e.Status != 0 {
		about.status = e.Status
	}
	return about
}

// wireErrors says how OpenAI reports each kind.
var wireErrors = map[llm.Kind]wireError{
	llm.RateLimited:    {http.StatusTooManyRequests, "requests", "rate_limit_exceeded", ""},
	llm.Overloaded:     {http.StatusServiceUnavailable, "service_unavailable_error", "server_is_overloaded", ""},
	llm.Timeout:        {http.StatusGatewayTimeout, "server_error", "", ""},
	llm.Unavailable:    {http.StatusInternalServerError, "server_error", "", ""},
	llm.ContextTooLong: {http.StatusBadRequest, "invalid_request_error", "context_length_exceeded", ""},
	llm.Refused:        {http.StatusBadRequest, "invalid_request_error", "content_policy_violation", ""},
	llm.BadRequest:     {http.StatusBadRequest, "invalid_request_error", "", ""},
	llm.Auth:           {http.StatusUnauthorized, "invalid_request_error", "invalid_api_key", ""},
	llm.QuotaExceeded:  {http.StatusTooManyRequests, "insufficient_quota", "insufficient_quota", ""},
}

func writeError(w http.ResponseWriter, e *llm.Error) {
	about := of(wireErrors, e)
	if e.Code != "" {
		about.code = e.Code
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if e.RequestID != "" {
		h.Set("X-Request-Id", e.RequestID)
	}
	if e.Wait > 0 {
		h.Set("Retry-After", wholeSeconds(e.Wait))
		h.Set("Retry-After-Ms", strconv.FormatFloat(float64(e.Wait)/float64(time.Millisecond), 'f', -1, 64))
	}
	w.WriteHeader(about.status)
	var code any // null, if there is none
	if about.code != "" {
		code = about.code
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"error": map[string]any{"message": e.Message, "type": about.kind, "param": nil, "code": code},
	})
}

// wholeSeconds rounds up: who waits less would come too early.
func wholeSeconds(d time.Duration) string {
	return strconv.FormatInt(int64(roundUp(d)/time.Second), 10)
}

func roundUp(d time.Duration) time.Duration { return (d + time.Second - 1).Truncate(time.Second) }

func writeLimits(h http.Header, l llm.Limits) {
	for what, limit := range map[string]llm.Limit{"Requests": l.Requests, "Tokens": l.Tokens} {
		if limit != (llm.Limit{}) {
			h.Set("X-Ratelimit-Limit-"+what, strconv.Itoa(limit.Limit))
			h.Set("X-Ratelimit-Remaining-"+what, strconv.Itoa(limit.Remaining))
			h.Set("X-Ratelimit-Reset-"+what, limit.Reset.String())
		}
	}
}

// messagesErrors says how Anthropic reports each kind.
var messagesErrors = map[llm.Kind]wireError{
	llm.RateLimited:    {http.StatusTooManyRequests, "rate_limit_error", "", ""},
	llm.Overloaded:     {529, "overloaded_error", "", ""},
	llm.Timeout:        {http.StatusGatewayTimeout, "timeout_error", "", ""},
	llm.Unavailable:    {http.StatusInternalServerError, "api_error", "", ""},
	llm.ContextTooLong: {http.StatusBadRequest, "invalid_request_error", "", "prompt is too long: "},
	llm.Refused:        {http.StatusBadRequest, "invalid_request_error", "", "Output blocked by content filtering policy: "},
	llm.BadRequest:     {http.StatusBadRequest, "invalid_request_error", "", ""},
	llm.Auth:           {http.StatusUnauthorized, "authentication_error", "", ""},
	llm.QuotaExceeded:  {http.StatusPaymentRequired, "billing_error", "", ""},
}

func writeMessagesError(w http.ResponseWriter, e *llm.Error) {
	about := of(messagesErrors, e)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if e.RequestID != "" {
		h.Set("Request-Id", e.RequestID)
	}
	if e.Wait > 0 {
		h.Set("Retry-After", wholeSeconds(e.Wait))
	}
	w.WriteHeader(about.status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"type":       "error",
		"error":      map[string]any{"type": cmp.Or(e.Code, about.kind), "message": about.words + e.Message},
		"request_id": e.RequestID,
	})
}

func writeMessagesLimits(h http.Header, l llm.Limits) {
	for what, limit := range map[string]llm.Limit{"Requests": l.Requests, "Tokens": l.Tokens, "Input-Tokens": l.InputTokens, "Output-Tokens": l.OutputTokens} {
		if limit != (llm.Limit{}) {
			prefix := "Anthropic-Ratelimit-" + what + "-"
			h.Set(prefix+"Limit", strconv.Itoa(limit.Limit))
			h.Set(prefix+"Remaining", strconv.Itoa(limit.Remaining))
			h.Set(prefix+"Reset", time.Now().Add(limit.Reset).UTC().Format(time.RFC3339))
		}
	}
}
