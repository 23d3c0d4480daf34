package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ErrUnreachable says that no pawl server answered.
var ErrUnreachable = errors.New("no pawl server answers")

// Client speaks to a server of this package. It is safe for concurrent use. It repeats
// nothing but live views: a call that failed may or may not have been carried out.
//
// Errors are a *[Problem] if the server refused, wrap [ErrUnreachable] if there was none,
// and otherwise are those of ctx.
type Client struct {
	base     *url.URL
	http     *http.Client
	patience time.Duration
	key      string
}

// ClientOptions are a client's settings. The zero value works.
type ClientOptions struct {
	// HTTP makes the requests. It must not have a Timeout, which would cut live views
	// short. nil means one of the client's own, which follows no redirects.
	HTTP *http.Client
	// Key is the key that the server asks for, as it was handed out. Empty: none is sent.
	Key string
	// Patience is how long a live view whose connection was lost tries to find the server
	// again. 0 means 30 s; negative: not at all.
	Patience time.Duration
}

// NewClient makes a client of the server at baseURL, such as http://127.0.0.1:8420. It
// asks nothing of the server. opt may be nil.
func NewClient(baseURL string, opt *ClientOptions) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(baseURL, "/"))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("server %q is not an address such as http://127.0.0.1:8420", baseURL)
	}
	c := &Client{base: base, patience: 30 * time.Second}
	if opt != nil {
		c.http, c.key = opt.HTTP, opt.Key
		if opt.Patience != 0 {
			c.patience = opt.Patience
		}
	}
	if c.http == nil {
		c.http = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return c, nil
}

// Address returns the server's base URL, without a password if it has one.
func (c *Client) Address() string { return c.base.Redacted() }

// call makes one request and decodes its answer.
func call[T any](ctx context.Context, c *Client, method, path string, query url.Values, body any) (T, error) {
	var out T
	res, err := c.do(ctx, method, path, query, body, nil)
	if err != nil {
		return out, err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNoContent {
		return out, nil
	}
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind != "application/json" {
		return out, c.strange(res)
	}
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return out, c.lost(ctx, err)
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return out, fmt.Errorf("the answer of %s to %s %s can't be read: %w", c.Address(), method, path, err)
	}
	return out, nil
}

// do makes one request; its answer is a success.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body any, header http.Header) (*http.Response, error) {
	var data []byte
	media := "application/json"
	if doc, ok := body.(document); ok {
		if data = doc; !bytes.HasPrefix(bytes.TrimLeft(data, "\ufeff \t\r\n"), []byte("{")) {
			media = "application/yaml"
		}
	} else if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("the body of %s %s: %w", method, path, err)
		}
	}
	address := c.base.String() + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if header != nil {
		req.Header = header.Clone()
	}
	if body != nil {
		req.Header.Set("Content-Type", media)
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	if h, ok := ctx.Value(headersKey{}).(http.Header); ok {
		maps.Copy(req.Header, h)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	if res.StatusCode < 300 {
		return res, nil
	}
	defer res.Body.Close()
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind == "application/problem+json" {
		p := &Problem{}
		if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(p); err == nil && p.Code != "" {
			return nil, p
		}
	}
	return nil, c.strange(res)
}

// document is a body that is sent as it is: JSON, or else YAML.
type document []byte

// lost is the error of a connection that could not be made or broke off.
func (c *Client) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var of *url.Error
	if errors.As(err, &of) {
		err = of.Err
	}
	return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.Address(), err)
}

// strange is the error of an answer that no server of this package gives.
func (c *Client) strange(res *http.Response) error {
	return fmt.Errorf("%w at %s: something else is there, which says %s", ErrUnreachable, c.Address(), res.Status)
}

type headersKey struct{}

func withHeader(ctx context.Context, name, value string) context.Context {
	h, _ := ctx.Value(headersKey{}).(http.Header)
	if h = h.Clone(); h == nil {
		h = http.Header{}
	}
	h.Set(name, value)
	return context.WithValue(ctx, headersKey{}, h)
}

// WithIdempotencyKey returns a context in which a client sends an Idempotency-Key: what it asks
// for is done once, however often it is sent within 24 hours. Give each request a key of its
// own. Calls that can't remember what they did refuse it.
func WithIdempotencyKey(ctx context.Context, key string) context.Context {
	return withHeader(ctx, headerIdempotencyKey, key)
}

// WithIfMatch returns a context in which a client changes something only if it still has an ETag.
func WithIfMatch(ctx context.Context, etag string) context.Context {
	return withHeader(ctx, "If-Match", etag)
}
