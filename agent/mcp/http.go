package mcp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
)

// errSessionGone is an HTTP answer by which a server says that it does not know the session.
// It did not look at the request then.
var errSessionGone = errors.New("the server has lost the session")

const (
	maxRedirects = 5
	maxErrorBody = 64 << 10
	maxWait      = time.Hour // that a server may ask for
)

// httpClient returns the client for o.URL: that of the user, if there is one, with a guard
// before its transport.
func httpClient(o *Options) *http.Client {
	c := &http.Client{}
	if o.Client != nil {
		*c = *o.Client
	}
	if c.Transport == nil {
		c.Transport = &http.Transport{
			DialContext:            (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout:    10 * time.Second,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2:      true,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
		}
	}
	home, _ := url.Parse(o.URL) // New has checked it
	c.Transport = &guard{next: c.Transport, home: home, header: o.Header}
	theirs := c.CheckRedirect
	c.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		switch {
		case !sameOrigin(r.URL, home):
			return &Error{Kind: Rejected, Message: fmt.Sprintf("the server redirects to %s://%s, which is not followed; if that is right, put it into Options.URL", r.URL.Scheme, r.URL.Host)}
		case len(via) > maxRedirects:
			return &Error{Kind: Rejected, Message: fmt.Sprintf("the server redirects over %d times", maxRedirects)}
		case theirs != nil:
			return theirs(r, via)
		}
		return nil
	}
	return c
}

// guard stands between the SDK and the network. The SDK ends the whole session, and with it
// the calls of other tools, at an answer it can't read or a status it does not expect; guard
// makes such an answer the error of its own request. And it holds the limits.
type guard struct {
	next   http.RoundTripper
	home   *url.URL
	header http.Header
}

func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if !sameOrigin(r.URL, g.home) {
		return nil, &Error{Kind: Rejected, Message: "a request to another host was refused"}
	}
	r = r.Clone(r.Context())
	for key, values := range g.header {
		if key = http.CanonicalHeaderKey(key); r.Header[key] == nil { // the protocol's own win
			r.Header[key] = values
		}
	}
	x, version := passed(r.Context()) // x is nil for a notification and the end of the session
	if version != "" && r.Header.Get("Mcp-Protocol-Version") == "" {
		r.Header.Set("Mcp-Protocol-Version", version)
	}
	resp, err := g.next.RoundTrip(r)
	if err == nil {
		err = g.admit(r, resp, x)
	}
	switch {
	case err == nil:
		return resp, nil
	case r.Method == http.MethodGet && x != nil && r.Context().Err() == nil:
		// The stream of a call broke and can't be resumed. As an error this would end the session.
		x.setFault(classify(err))
		return streamed(r, io.NopCloser(bytes.NewReader(faultEvent(x)))), nil
	}
	return nil, err
}

// admit lets a response pass to the SDK, or closes it and returns an error.
func (g *guard) admit(r *http.Request, resp *http.Response, x *exchange) error {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.Header.Get("Location") != "":
		return nil // to http.Client
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return refusal(r, resp)
	case x == nil:
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxErrorBody), resp.Body}
		return nil
	case kind == "text/event-stream":
		resp.Body = newEvents(resp.Body, x)
		return nil
	}
	defer resp.Body.Close()
	if kind != "application/json" {
		return &Error{Kind: Malformed, Status: resp.StatusCode, Message: fmt.Sprintf("the server's answer is of type %s, which is no MCP; see that Options.URL is its endpoint", named(kind))}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxMessage+1))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > maxMessage {
		return tooLarge()
	}
	m, err := jsonrpc.DecodeMessage(body)
	if err != nil {
		return &Error{Kind: Malformed, Message: "the answer can't be read: " + words(err.Error())}
	}
	if a, ok := m.(*jsonrpc.Response); !ok || a.ID != x.requestID() {
		return &Error{Kind: Malformed, Message: "the answer is not to the request"}
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// refusal is what an answer with a status that is no success means. If it is a JSON-RPC
// error of the server it is left to the SDK.
func refusal(r *http.Request, resp *http.Response) error {
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	status := resp.StatusCode
	hadSession := r.Header.Get("Mcp-Session-Id") != ""
	switch {
	case hadSession && status == http.StatusNotFound,
		// what servers written after the protocol's older examples say
		hadSession && status == http.StatusBadRequest && bytes.Contains(bytes.ToLower(body), []byte("session")):
		return errSessionGone
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return &Error{Kind: Denied, Status: status, Message: "the server does not let this program in; see that Options.Header has the right key"}
	case status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status >= 500:
		return &Error{Kind: Unavailable, Status: status, Message: "the server can't answer now", Wait: waitOf(resp.Header)}
	}
	if m, err := jsonrpc.DecodeMessage(body); err == nil {
		if a, ok := m.(*jsonrpc.Response); ok && a.Error != nil {
			resp.Body = io.NopCloser(bytes.NewReader(body))
			return nil
		}
	}
	return &Error{Kind: Rejected, Status: status, Message: "the server refuses the request; see that Options.URL is its endpoint"}
}

func waitOf(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil && n > 0 {
		return time.Duration(min(n, int(maxWait/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return min(max(time.Until(t), 0), maxWait)
	}
	return 0
}

func tooLarge() *Error {
	return &Error{Kind: TooLarge, Message: fmt.Sprintf("the answer is over %d bytes; ask for less", maxMessage)}
}

func streamed(r *http.Request, body io.ReadCloser) *http.Response {
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: body, ContentLength: -1, Request: r,
	}
}

func sameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return map[string]string{"http": "80", "https": "443"}[strings.ToLower(u.Scheme)]
}
