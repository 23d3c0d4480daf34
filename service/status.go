package service

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// maxRetryAfter bounds for how long another side can put off the next try.
const maxRetryAfter = 24 * time.Hour

// codes are those of statuses that mean what others of their hundred don't.
var codes = map[int]string{
	401: Denied, 403: Denied, 407: Denied, 404: NotFound, 410: NotFound, 408: TimedOut, 425: Unavailable, 429: RateLimited, 501: Invalid, 505: Invalid,
}

// refused is the error of an answer with another status than was expected.
func (x *exchange) refused(got *http.Response, body []byte) *Error {
	e := &Error{Status: got.StatusCode, Code: codes[got.StatusCode]}
	switch {
	case e.Code != "":
	case e.Status >= 500:
		e.Code = Unavailable
	case e.Status >= 400:
		e.Code = Invalid
	default:
		e.Code = BadAnswer // neither a fault nor what was expected
	}
	if !e.Fatal() {
		e.After = retryAfter(got.Header, time.Now())
	}
	e.Message = "the answer is not what was expected"
	if said := excerpt(body); said != "" {
		e.Message = "it answers: " + said
	}
	return e
}

// excerpt is the beginning of a body for people, on one line.
func excerpt(body []byte) string {
	const most = 300
	var b strings.Builder
	space := false
	for _, c := range string(body[:min(len(body), 4*most)]) {
		switch {
		case unicode.IsSpace(c):
			space = b.Len() > 0
			continue
		case !unicode.IsPrint(c) || c == unicode.ReplacementChar:
			continue
		}
		if space {
			b.WriteByte(' ')
		}
		space = false
		if b.WriteRune(c); b.Len() >= most {
			return b.String() + "…"
		}
	}
	if len(body) > 4*most {
		b.WriteString("…")
	}
	return b.String()
}

// retryAfter reads the header of that name: seconds, or a date, which is compared with that of the answer where it has one,
// so that clocks may differ. 0: there is none, or it is in the past or no time.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(text, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	if said, err := http.ParseTime(h.Get("Date")); err == nil {
		now = said
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// failed is the error of a request to which there was no whole answer.
func (x *exchange) failed(ctx context.Context, err error) error {
	var known *Error
	if errors.As(err, &known) {
		return &Error{Code: known.Code, Message: x.at(known.Message), Status: known.Status, After: known.After}
	}
	if cause := context.Cause(ctx); errors.Is(cause, errTime) || errors.Is(cause, errIdle) {
		return &Error{Code: TimedOut, Message: x.at(cause.Error() + "; the request may have been carried out"), Err: cause}
	}
	var outer *url.Error // its text holds the whole address
	if errors.As(err, &outer) {
		err = outer.Err
	}
	var certificate *tls.CertificateVerificationError
	var timeout net.Error
	switch text := err.Error(); {
	case errors.As(err, &certificate):
		return &Error{Code: Forbidden, Message: x.at("its certificate is not trusted: " + certificate.Err.Error()), Err: err}
	case strings.Contains(text, "response headers exceeded") || strings.Contains(text, "header list"): // net/http has no types for these
		return &Error{Code: TooLarge, Message: x.at("the headers of the answer are over their limit"), Err: err}
	case strings.Contains(text, "malformed HTTP") || strings.Contains(text, "malformed MIME") || strings.Contains(text, "server gave HTTP response to HTTPS client"),
		strings.Contains(text, "missing Location") || strings.Contains(text, "failed to parse Location"),
		strings.Contains(text, "COMPRESSION_ERROR") || strings.Contains(text, "PROTOCOL_ERROR"): // of HTTP/2, as for headers without end
		return &Error{Code: BadAnswer, Message: x.at("what it answers is not HTTP as it should be: " + text), Err: err}
	case errors.As(err, &timeout) && timeout.Timeout():
		return &Error{Code: TimedOut, Message: x.at("no connection in time"), Err: err}
	}
	return &Error{Code: Unavailable, Message: x.at("no answer: " + err.Error()), Err: err}
}
