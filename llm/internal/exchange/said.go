package exchange

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/pawlrun/pawl/llm"
)

// codes maps the code or type of an error, in lower case, to its kind. It goes before the
// status, which is coarser: 429 alone does not tell a busy minute from an empty account.
// Quota errors are fatal because no wait that a retry would choose fills an account. The
// table is one for all providers: gateways pass on in one provider's format what another
// said.
var codes = map[string]llm.Kind{
	"context_length_exceeded":      llm.ContextTooLong,
	"string_above_max_length":      llm.ContextTooLong,
	"exceed_context_size_error":    llm.ContextTooLong, // llama.cpp
	"request_too_large":            llm.ContextTooLong, // Anthropic
	"content_filter":               llm.Refused,
	"content_policy_violation":     llm.Refused,
	"responsibleaipolicyviolation": llm.Refused, // Azure
	"moderation_blocked":           llm.Refused,
	"invalid_prompt":               llm.Refused,
	"insufficient_quota":           llm.QuotaExceeded,
	"billing_not_active":           llm.QuotaExceeded,
	"billing_hard_limit_reached":   llm.QuotaExceeded,
	"credit_balance_exhausted":     llm.QuotaExceeded,
	"billing_error":                llm.QuotaExceeded, // Anthropic
	"invalid_api_key":              llm.Auth,
	"authentication_error":         llm.Auth,
	"account_deactivated":          llm.Auth,
	"invalid_organization":         llm.Auth,
	"permission_denied":            llm.Auth,
	"permission_error":             llm.Auth, // Anthropic
	"model_not_found":              llm.BadRequest,
	"not_found_error":              llm.BadRequest, // Anthropic
	"rate_limit_exceeded":          llm.RateLimited,
	"rate_limit_error":             llm.RateLimited, // Anthropic
	"slow_down":                    llm.RateLimited,
	"server_is_overloaded":         llm.Overloaded,
	"engine_overloaded":            llm.Overloaded,
	"overloaded_error":             llm.Overloaded,
	"timeout_error":                llm.Timeout, // Anthropic
}

// statuses maps what codes did not decide. Others: below 500 BadRequest, else Unavailable.
var statuses = map[int]llm.Kind{
	http.StatusUnauthorized:          llm.Auth,
	http.StatusPaymentRequired:       llm.QuotaExceeded,
	http.StatusForbidden:             llm.Auth,
	http.StatusProxyAuthRequired:     llm.Auth,
	http.StatusRequestTimeout:        llm.Timeout,
	http.StatusConflict:              llm.Unavailable,
	http.StatusRequestEntityTooLarge: llm.ContextTooLong,
	http.StatusTooEarly:              llm.Unavailable,
	http.StatusTooManyRequests:       llm.RateLimited,
	http.StatusServiceUnavailable:    llm.Overloaded,
	http.StatusGatewayTimeout:        llm.Timeout,
	524:                              llm.Timeout,    // Cloudflare: the origin took too long
	529:                              llm.Overloaded, // not registered, but in use for this
}

// words tell kinds apart for which endpoints have no code: Anthropic says all that is
// wrong with a request, the account it is charged to included, as invalid_request_error,
// and vLLM has a code for nothing. They are asked when code and status leave it open.
var words = []struct {
	part string // of the message, in lower case
	kind llm.Kind
}{
	{"maximum context length", llm.ContextTooLong},
	{"context window", llm.ContextTooLong},
	{"available context size", llm.ContextTooLong},
	{"prompt is too long", llm.ContextTooLong},
	{"exceed context limit", llm.ContextTooLong},
	{"blocked by content filtering", llm.Refused},
	{"credit balance is too low", llm.QuotaExceeded},
	{"reached your specified api usage limit", llm.QuotaExceeded},
}

// kindOf decides the kind of an error that an endpoint reported.
func kindOf(status int, said *Said) llm.Kind {
	for _, name := range []string{said.Code, said.Type} {
		if kind, ok := codes[strings.ToLower(name)]; ok {
			return kind
		}
	}
	kind, ok := statuses[status]
	if !ok {
		kind = llm.BadRequest
		if status >= 500 {
			kind = llm.Unavailable
		}
	}
	if kind == llm.BadRequest || kind == llm.Unavailable {
		message := strings.ToLower(said.Message)
		for _, w := range words {
			if strings.Contains(message, w.part) {
				return w.kind
			}
		}
	}
	return kind
}

// Said is an error in an endpoint's words.
type Said struct{ Code, Type, Message string }

func (e *Said) name() string { return cmp.Or(e.Code, e.Type) }

// UnmarshalJSON takes an object with a code, type and message of any kind, or a mere
// text: endpoints differ, and an error that is told badly is to be read all the same.
func (e *Said) UnmarshalJSON(b []byte) error {
	var fields map[string]json.RawMessage
	if json.Unmarshal(b, &fields) != nil {
		e.Message = plain(b)
		return nil
	}
	e.Code, e.Type, e.Message = plain(fields["code"]), plain(fields["type"]), plain(fields["message"])
	return nil
}

// plain returns the text of a JSON string, the JSON itself of anything else, and "" for null.
func plain(b json.RawMessage) string {
	var s string
	if json.Unmarshal(b, &s) == nil {
		return s
	}
	return string(b)
}

// ErrorIn returns the error that a body or event holds, or nil.
func ErrorIn(body []byte) *Said {
	var answer struct{ Error *Said }
	if json.Unmarshal(body, &answer) != nil || answer.Error == nil || *answer.Error == (Said{}) {
		return nil
	}
	return answer.Error
}

// complaint reads the body of an answer that is known to be an error.
func complaint(body []byte) *Said {
	if said := ErrorIn(body); said != nil {
		return said
	}
	var flat struct{ Code, Type, Message, Detail json.RawMessage } // Mistral and FastAPI
	if json.Unmarshal(body, &flat) == nil {
		return &Said{Code: plain(flat.Code), Type: plain(flat.Type), Message: cmp.Or(plain(flat.Message), plain(flat.Detail))}
	}
	return &Said{Message: excerpt(body)}
}
