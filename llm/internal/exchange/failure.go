package exchange

import (
	"cmp"
	"context"
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

// Failure says why a call has no answer. err is what the SDK made of it, and may be nil if
// it took for an answer what is none; of that only what the Call does not know better is
// used.
func (x *Call) Failure(ctx context.Context, err error) error {
	switch {
	case x.status != 0 && !x.success():
		return x.refused()
	case x.tooLarge:
		e := x.Error(llm.BadRequest, fmt.Sprintf(
			"the answer is larger than %d bytes; set Request.MaxTokens or raise Options.MaxAnswerBytes", x.limit))
		e.Err = llm.ErrAnswerTooLarge
		return e
	case ctx.Err() != nil:
		return x.stopped(ctx)
	case !x.sent:
		return x.Error(llm.BadRequest, "the request could not be made: "+err.Error())
	case timedOut(err) || x.broken != nil && (timedOut(x.broken) || x.late()):
		return x.Error(llm.Timeout, "the HTTP client's time limit passed: "+err.Error())
	case x.status == 0:
		return x.Error(llm.Unavailable, err.Error())
	case x.broken != nil:
		return x.Truncated("the connection broke in the middle of the answer: " + x.broken.Error())
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return x.Truncated("the answer ends in the middle")
	default:
		return x.Error(llm.Unavailable, "the answer is not what the protocol says: "+excerpt(x.Body))
	}
}

// refused reports an answer whose status is not one of success.
func (x *Call) refused() *llm.Error {
	if x.status/100 == 3 {
		return x.Error(llm.BadRequest, "the endpoint redirects to "+x.Header.Get("Location")+"; set that as the base URL if it is right")
	}
	said := complaint(x.Body)
	e := x.Error(kindOf(x.status, said), cmp.Or(said.Message, http.StatusText(x.status)))
	e.Code = x.line.conceal(excerpt([]byte(said.name())))
	e.Wait = retryAfter(x.Header)
	return e
}

// Spoken reports an error that came in the place of an answer, or in the midst of one,
// after the endpoint had answered with a status of success.
func (x *Call) Spoken(said *Said) *llm.Error {
	status, err := strconv.Atoi(said.Code) // some gateways put the status here
	switch {
	case err == nil && status >= 400 && status <= 599:
	case said.Type == "invalid_request_error":
		status = http.StatusBadRequest
	default:
		status = http.StatusInternalServerError
	}
	e := x.Error(kindOf(status, said), cmp.Or(said.Message, "the endpoint reported an error without a message"))
	e.Code = x.line.conceal(excerpt([]byte(said.name())))
	e.Wait = retryAfter(x.Header)
	return e
}

// Truncated reports an answer that is not whole.
func (x *Call) Truncated(message string) *llm.Error { return x.Error(llm.Truncated, message) }

// Malformed reports an event that does not follow the protocol.
func (x *Call) Malformed(event []byte) *llm.Error {
	return x.Error(llm.Unavailable, "an event of the stream is not what the protocol says: "+excerpt(event))
}

// Abandoned wraps an error of the one who reads a stream.
func (x *Call) Abandoned(err error) error {
	return fmt.Errorf("%s %s: stream abandoned: %w", x.line.provider, x.Model, err)
}

// Error makes an error of what is known of the call. Everything that came from outside
// goes through conceal, as endpoints do echo keys.
func (x *Call) Error(kind llm.Kind, message string) *llm.Error {
	return &llm.Error{
		Kind: kind, Provider: x.line.provider, Model: x.Model, Status: x.status,
		Message: excerpt([]byte(x.line.conceal(message))), RequestID: x.line.conceal(excerpt([]byte(x.RequestID("")))),
		Usage: x.Usage, Limits: x.Limits(),
	}
}

// stopped reports that ctx ended the call.
func (x *Call) stopped(ctx context.Context) error {
	why := ctx.Err()
	if cause := context.Cause(ctx); cause != why {
		why = fmt.Errorf("%w: %w", why, cause)
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		e := x.Error(llm.Timeout, "the deadline passed before the answer was there")
		e.Err = why
		return e
	}
	return fmt.Errorf("%s %s: %w", x.line.provider, x.Model, why)
}

func timedOut(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
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
