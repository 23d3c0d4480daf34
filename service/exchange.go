package service

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Answer is what an HTTP server answered.
type Answer struct {
	Status   int               `json:"status"`
	Headers  map[string]string `json:"headers"`            // those that were asked for, and a few more, in small letters
	Body     any               `json:"body"`               // what JSON says, else text; null where there is none
	Encoding string            `json:"encoding,omitempty"` // "base64": the body is no text, and stands here in base64
	URL      string            `json:"url"`                // the address that answered, which redirects may have changed
}

// keptHeaders are those of an answer that everybody gets to see.
var keptHeaders = []string{"Content-Type", "Date", "Etag", "Last-Modified", "Link", "Location", "Retry-After", "X-Request-Id"}

const (
	maxJSONDepth  = 200
	maxKeptHeader = 8 << 10 // bytes of one header's value
	maxRefusal    = 4 << 10 // bytes of an answer that is none, of which people see the beginning
)

// exchange is one request and what is taken as its answer.
type exchange struct {
	method   string
	url      *url.URL
	header   http.Header
	body     []byte
	expect   []int    // statuses that are good; none: 2xx
	keep     []string // headers of the answer
	maxBytes int64    // of the body, after it was unpacked
	unread   bool     // the body of a good answer is not looked at
	timeout  time.Duration
	idle     time.Duration // between two parts of the body
	hidden   *Redactor
}

// The reasons for which an exchange is ended from here.
var (
	errTime = errors.New("no whole answer in time")
	errIdle = errors.New("the answer stopped coming")
)

// do sends the request and reads the answer, with all limits. Its error is an *Error, or that of ctx.
func (x *exchange) do(ctx context.Context, client *http.Client) (*Answer, error) {
	inner, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer time.AfterFunc(x.timeout, func() { end(errTime) }).Stop()
	answer, err := x.send(inner, client, end)
	switch {
	case err == nil:
		return answer, answer.clean(x.hidden)
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, context.Cause(ctx)
	case ctx.Err() != nil:
		err = &Error{Code: TimedOut, Message: x.at("the step's time is over; the request may have been carried out"), Err: ctx.Err()}
		return nil, x.hidden.Error(err)
	}
	return nil, x.hidden.Error(x.failed(inner, err))
}

// at puts what was asked for in front.
func (x *exchange) at(text string) string {
	return fmt.Sprintf("%s %s: %s", x.method, plainURL(x.url), text)
}

func (x *exchange) send(ctx context.Context, client *http.Client, end context.CancelCauseFunc) (*Answer, error) {
	var body io.Reader
	if x.body != nil {
		body = bytes.NewReader(x.body)
	}
	r, err := http.NewRequestWithContext(ctx, x.method, "", body)
	if err != nil {
		return nil, &Error{Code: Invalid, Message: err.Error()}
	}
	r.URL, r.Host, r.Header = x.url, x.url.Host, x.header // the address was read once
	got, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer got.Body.Close()
	if !x.good(got.StatusCode) {
		data, _ := x.read(got, end, maxRefusal, true)
		return nil, x.refused(got, data) // its body is a help only, as far as it has come
	}
	if x.unread {
		_, _ = x.read(got, end, maxRefusal, true) // a short one to its end, so that the connection can be used again
		return &Answer{Status: got.StatusCode, URL: got.Request.URL.Redacted()}, nil
	}
	data, err := x.read(got, end, x.maxBytes, false)
	if err != nil {
		return nil, err
	}
	answer := &Answer{Status: got.StatusCode, Headers: map[string]string{}, URL: got.Request.URL.Redacted()}
	for name, values := range got.Header {
		text := strings.Join(values, ", ")
		wanted := slices.ContainsFunc(x.keep, func(s string) bool { return strings.EqualFold(s, name) })
		if (wanted || slices.Contains(keptHeaders, name)) && len(text) <= maxKeptHeader && utf8.ValidString(text) {
			answer.Headers[strings.ToLower(name)] = text
		}
	}
	return answer, answer.setBody(got.Header, data)
}

// read takes the body as far as it may go. The limit is on what it is when unpacked; with cut, what is longer ends there. An error comes with what
// was there before it.
func (x *exchange) read(got *http.Response, end context.CancelCauseFunc, most int64, cut bool) ([]byte, error) {
	if got.ContentLength > most && x.method != http.MethodHead && !cut {
		return nil, x.tooLarge()
	}
	if e := got.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") && x.method != http.MethodHead {
		return nil, &Error{Code: BadAnswer, Status: got.StatusCode, Message: fmt.Sprintf("the answer is packed as %.40q, which was not asked for", e)}
	}
	timer := time.AfterFunc(x.idle, func() { end(errIdle) })
	defer timer.Stop()
	var b bytes.Buffer
	part := make([]byte, 16<<10)
	for {
		n, err := got.Body.Read(part)
		if timer.Reset(x.idle); int64(b.Len()+n) > most {
			if cut {
				b.Write(part[:int(most)-b.Len()])
				return b.Bytes(), nil
			}
			return nil, x.tooLarge()
		}
		b.Write(part[:n])
		if errors.Is(err, io.EOF) {
			return b.Bytes(), nil
		}
		if err != nil {
			return b.Bytes(), err
		}
	}
}

func (x *exchange) tooLarge() *Error {
	return &Error{Code: TooLarge, Message: fmt.Sprintf("the answer has over %d bytes, the limit (maxBytes)", x.maxBytes)}
}

func (x *exchange) good(status int) bool {
	if len(x.expect) > 0 {
		return slices.Contains(x.expect, status)
	}
	return status >= 200 && status < 300
}

// setBody reads a body as what the headers say it is.
func (a *Answer) setBody(h http.Header, data []byte) error {
	kind, params, _ := mime.ParseMediaType(h.Get("Content-Type"))
	isJSON := kind == "application/json" || strings.HasSuffix(kind, "+json")
	switch latin := strings.ToLower(params["charset"]); {
	case len(bytes.TrimSpace(data)) == 0 && isJSON || len(data) == 0:
		return nil
	case isJSON:
		data = bytes.TrimPrefix(data, []byte("\ufeff"))
		if !utf8.Valid(data) || !json.Valid(data) {
			return &Error{Code: BadAnswer, Status: a.Status, Message: "the answer says that it is JSON, and is none"}
		}
		if depth(data) > maxJSONDepth {
			return &Error{Code: BadAnswer, Status: a.Status, Message: fmt.Sprintf("the answer is JSON of over %d values within values", maxJSONDepth)}
		}
		a.Body = json.RawMessage(data)
	case utf8.Valid(data):
		a.Body = string(data)
	case latin == "iso-8859-1" || latin == "latin1":
		runes := make([]rune, len(data))
		for i, b := range data {
			runes[i] = rune(b)
		}
		a.Body = string(runes)
	default:
		a.Body, a.Encoding = base64.StdEncoding.EncodeToString(data), "base64"
	}
	return nil
}

// clean takes the keys of the request out of the answer: servers tell what they were asked, and addresses may hold keys.
func (a *Answer) clean(r *Redactor) error {
	a.URL = r.Text(a.URL)
	for name, value := range a.Headers {
		a.Headers[name] = r.Text(value)
	}
	switch body := a.Body.(type) {
	case string:
		a.Body = r.Text(body)
	case json.RawMessage:
		clean, err := r.JSON(body)
		if err != nil {
			return &Error{Code: BadAnswer, Status: a.Status, Message: "the answer can't be cleaned of keys: " + err.Error()}
		}
		a.Body = clean
	}
	return nil
}

// depth is how deep values of valid JSON lie within others.
func depth(data []byte) int {
	now, most, quoted := 0, 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted:
			if c == '\\' {
				i++
			} else if c == '"' {
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '[' || c == '{':
			now++
			most = max(most, now)
		case c == ']' || c == '}':
			now--
		}
	}
	return most
}
