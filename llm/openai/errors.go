package openai

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"github.com/pawlrun/pawl/llm"
)

// codes maps the code or type of an error, in lower case, to its kind. It goes before the
// status, which is coarser: 429 alone does not tell a busy minute from an empty account.
// Quota errors are fatal because no wait that a retry would choose fills an account.
var codes = map[string]llm.Kind{
	"context_length_exceeded":      llm.ContextTooLong,
	"string_above_max_length":      llm.ContextTooLong,
	"exceed_context_size_error":    llm.ContextTooLong, // llama.cpp
	"content_filter":               llm.Refused,
	"content_policy_violation":     llm.Refused,
	"responsibleaipolicyviolation": llm.Refused, // Azure
	"moderation_blocked":           llm.Refused,
	"invalid_prompt":               llm.Refused,
	"insufficient_quota":           llm.QuotaExceeded,
	"billing_not_active":           llm.QuotaExceeded,
	"billing_hard_limit_reached":   llm.QuotaExceeded,
	"credit_balance_exhausted":     llm.QuotaExceeded,
	"invalid_api_key":              llm.Auth,
	"authentication_error":         llm.Auth,
	"account_deactivated":          llm.Auth,
	"invalid_organization":         llm.Auth,
	"permission_denied":            llm.Auth,
	"model_not_found":              llm.BadRequest,
	"rate_limit_exceeded":          llm.RateLimited,
	"slow_down":                    llm.RateLimited,
	"server_is_overloaded":         llm.Overloaded,
	"engine_overloaded":            llm.Overloaded,
	"overloaded_error":             llm.Overloaded,
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

// tooLong are the words by which endpoints that have no code for it, vLLM among them,
// say that a request does not fit.
var tooLong = []string{"maximum context length", "context window", "available context size"}

// kindOf decides the kind of an error that an endpoint reported.
func kindOf(status int, said *endpointError) llm.Kind {
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
		for _, words := range tooLong {
			if strings.Contains(message, words) {
				return llm.ContextTooLong
			}
		}
	}
	return kind
}

// failure says why a call has no answer. err is what go-openai made of it; of that only
// what the exchange does not know better is used.
func (c *Client) failure(ctx context.Context, x *exchange, err error) error {
	switch {
	case x.status != 0 && !x.ok():
		return c.refused(x)
	case x.tooLarge:
		e := c.wireError(x, llm.BadRequest, fmt.Sprintf(
			"the answer is larger than %d bytes; set Request.MaxTokens or raise Options.MaxAnswerBytes", x.limit))
		e.Err = llm.ErrAnswerTooLarge
		return e
	case ctx.Err() != nil:
		return c.stopped(ctx, x)
	case !x.sent:
		return c.wireError(x, llm.BadRequest, "the request could not be made: "+err.Error())
	case timedOut(err) || x.broken != nil && (timedOut(x.broken) || x.late()):
		return c.wireError(x, llm.Timeout, "the HTTP client's time limit passed: "+err.Error())
	case x.status == 0:
		return c.wireError(x, llm.Unavailable, err.Error())
	case x.broken != nil:
		return c.truncated(x, llm.Usage{}, "the connection broke in the middle of the answer: "+x.broken.Error())
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return c.truncated(x, llm.Usage{}, "the answer ends in the middle")
	default:
		return c.wireError(x, llm.Unavailable, "the answer is not what the protocol says: "+excerpt(x.body))
	}
}

// refused reports an answer whose status is not one of success.
func (c *Client) refused(x *exchange) *llm.Error {
	if x.status/100 == 3 {
		return c.wireError(x, llm.BadRequest, "the endpoint redirects to "+x.header.Get("Location")+"; set that as the base URL if it is right")
	}
	said := complaint(x.body)
	e := c.wireError(x, kindOf(x.status, said), cmp.Or(said.Message, http.StatusText(x.status)))
	e.Code = c.conceal(excerpt([]byte(said.name())))
	e.Wait = retryAfter(x.header)
	return e
}

// spoken reports an error that came in the place of an answer, or in the midst of one,
// after the endpoint had answered with a status of success.
func (c *Client) spoken(x *exchange, said *endpointError, usage llm.Usage) *llm.Error {
	status, err := strconv.Atoi(said.Code) // some gateways put the status here
	if err != nil || status < 400 || status > 599 {
		status = http.StatusInternalServerError
	}
	e := c.wireError(x, kindOf(status, said), cmp.Or(said.Message, "the endpoint reported an error without a message"))
	e.Code = c.conceal(excerpt([]byte(said.name())))
	e.Wait = retryAfter(x.header)
	e.Usage = usage
	return e
}

// stopped reports that ctx ended the call.
func (c *Client) stopped(ctx context.Context, x *exchange) error {
	why := ctx.Err()
	if cause := context.Cause(ctx); cause != why {
		why = fmt.Errorf("%w: %w", why, cause)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		e := c.wireError(x, llm.Timeout, "the deadline passed before the answer was there")
		e.Err = why
		return e
	}
	return fmt.Errorf("%s %s: %w", c.provider, x.model, why)
}

func (c *Client) truncated(x *exchange, usage llm.Usage, message string) *llm.Error {
	e := c.wireError(x, llm.Truncated, message)
	e.Usage = usage
	return e
}

// wireError makes an error of what is known of the call. Everything that came from
// outside goes through conceal, as endpoints do echo keys.
func (c *Client) wireError(x *exchange, kind llm.Kind, message string) *llm.Error {
	return &llm.Error{
		Kind: kind, Provider: c.provider, Model: x.model, Status: x.status,
		Message: excerpt([]byte(c.conceal(message))), RequestID: c.conceal(excerpt([]byte(requestID(x.header, "")))),
	}
}

func timedOut(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// endpointError is an error in an endpoint's words.
type endpointError struct{ Code, Type, Message string }

func (e *endpointError) name() string { return cmp.Or(e.Code, e.Type) }

// UnmarshalJSON takes an object with a code, type and message of any kind, or a mere
// text: endpoints differ, and an error that is told badly is to be read all the same.
func (e *endpointError) UnmarshalJSON(b []byte) error {
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

// errorIn returns the error that a body or event holds, or nil.
func errorIn(body []byte) *endpointError {
	var answer struct{ Error *endpointError }
	if json.Unmarshal(body, &answer) != nil || answer.Error == nil || *answer.Error == (endpointError{}) {
		return nil
	}
	return answer.Error
}

// complaint reads the body of an answer that is known to be an error.
func complaint(body []byte) *endpointError {
	if said := errorIn(body); said != nil {
		return said
	}
	var flat struct{ Code, Type, Message, Detail json.RawMessage } // Mistral and FastAPI
	if json.Unmarshal(body, &flat) == nil {
		return &endpointError{Code: plain(flat.Code), Type: plain(flat.Type), Message: cmp.Or(plain(flat.Message), plain(flat.Detail))}
	}
	return &endpointError{Message: excerpt(body)}
}

// maxMessageBytes is how much of a text from outside gets into an error.
const maxMessageBytes = 1000

// excerpt returns the beginning of b on one line, without what could disturb a terminal.
func excerpt(b []byte) string {
	cut := len(b) > maxMessageBytes
	if cut {
		b = b[:maxMessageBytes]
	}
	s := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(b), ""))
	s = strings.Join(strings.Fields(s), " ")
	if cut {
		s += " …"
	}
	return s
}
