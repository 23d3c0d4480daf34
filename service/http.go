package service

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// HTTPOptions say what [NewHTTP] makes.
type HTTPOptions struct {
	Network  Network       // whom it may speak with; zero: the public internet
	Timeout  time.Duration // of a call that says none; 0: 30 s. At most 10 minutes
	Idle     time.Duration // how long an answer may stand still; 0: 10 s
	MaxBytes int64         // of an answer's body, unpacked: what a call has that says nothing, and the most it can ask for; 0: 1 MiB
	// IdempotencyHeader is sent with [Call].Key by all but GET, HEAD and OPTIONS. "": Idempotency-Key; "-": none is sent.
	IdempotencyHeader string
	UserAgent         string // "": pawl
}

// HTTP is the service that asks any HTTP server. Its one action is "request".
type HTTP struct {
	*actions
	*wire
}

// wire is what services that speak HTTP have in common.
type wire struct {
	client *http.Client
	policy *policy
	opt    HTTPOptions
}

// What a call has at most.
const (
	maxTimeout     = 10 * time.Minute
	maxRequest     = 8 << 20  // bytes of a body
	maxSentHeaders = 32 << 10 // bytes
	maxURL         = 8 << 10  // bytes
)

// NewHTTP makes the service. The error says what is wrong with the options.
func NewHTTP(opt HTTPOptions) (*HTTP, error) {
	w, err := newWire(opt)
	if err != nil {
		return nil, err
	}
	list, err := newActions(Action{
		Name: "request", Effect: Writes,
		Doc:    "Sends an HTTP request and gives the answer: its status, some headers, and the body, parsed where it is JSON.",
		Params: fmt.Appendf(nil, requestParams, maxURL, maxTimeout.Milliseconds(), w.opt.MaxBytes),
		Result: json.RawMessage(answerSchema),
	})
	return &HTTP{list, w}, err
}

func newWire(opt HTTPOptions) (*wire, error) {
	if opt.Timeout < 0 || opt.Timeout > maxTimeout || opt.Idle < 0 || opt.MaxBytes < 0 {
		return nil, fmt.Errorf("times and sizes of HTTP are not negative, and a timeout is at most %v", maxTimeout)
	}
	opt.Timeout, opt.Idle = cmp.Or(opt.Timeout, 30*time.Second), cmp.Or(opt.Idle, 10*time.Second)
	opt.MaxBytes = cmp.Or(opt.MaxBytes, 1<<20)
	opt.UserAgent = cmp.Or(opt.UserAgent, "pawl")
	switch opt.IdempotencyHeader {
	case "":
		opt.IdempotencyHeader = "Idempotency-Key"
	case "-":
		opt.IdempotencyHeader = ""
	default:
		if !isToken(opt.IdempotencyHeader) || isOurs(opt.IdempotencyHeader) {
			return nil, fmt.Errorf("%q can't be the header of idempotency keys", opt.IdempotencyHeader)
		}
	}
	p, err := opt.Network.policy()
	if err != nil {
		return nil, err
	}
	return &wire{p.client(opt.Network.RootCAs), p, opt}, nil
}

// requestParams takes the limits of an address, a time and a body.
const requestParams = `{
"type": "object", "required": ["url"], "additionalProperties": false,
"properties": {
	"url": {"type": "string", "minLength": 1, "maxLength": %d, "description": "http:// or https://, with the path and what is fixed of the query", "x-pawl-fill": "url", "x-pawl-trusted": true},
	"method": {"enum": ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"], "default": "GET", "x-pawl-trusted": true},
	"headers": {"type": "object", "maxProperties": 100, "additionalProperties": {"type": "string", "x-pawl-trusted": true}, "x-pawl-trusted": true},
	"query": {"type": "object", "maxProperties": 200, "description": "is added to the address, escaped; a list stands there several times",
		"additionalProperties": {"anyOf": [{"type": ["string", "number", "boolean"]}, {"type": "array", "items": {"type": ["string", "number", "boolean"]}}]}},
	"body": {"description": "a text is sent as it is, all else as JSON"},
	"form": {"type": "object", "description": "is sent as a form, in place of a body", "additionalProperties": {"anyOf": [{"type": ["string", "number", "boolean"]}, {"type": "array", "items": {"type": ["string", "number", "boolean"]}}]}},
	"auth": {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false, "x-pawl-trusted": true, "properties": {
		"bearer": {"type": "string", "minLength": 1, "x-pawl-trusted": true},
		"basic": {"type": "object", "required": ["username", "password"], "additionalProperties": false, "properties": {"username": {"type": "string", "pattern": "^[^:]*$", "x-pawl-trusted": true}, "password": {"type": "string", "x-pawl-trusted": true}}},
		"header": {"type": "object", "required": ["name", "value"], "additionalProperties": false, "properties": {"name": {"type": "string", "minLength": 1, "x-pawl-trusted": true}, "value": {"type": "string", "minLength": 1, "x-pawl-trusted": true}}}}},
	"timeoutMs": {"type": "integer", "minimum": 1, "maximum": %d, "description": "for the whole answer"},
	"expect": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 200, "maximum": 599}, "description": "statuses that are no error; 200 to 299 unless given"},
	"maxBytes": {"type": "integer", "minimum": 1, "maximum": %d, "description": "of the answer's body"},
	"keepHeaders": {"type": "array", "maxItems": 50, "items": {"type": "string"}, "description": "headers of the answer that the result has besides the usual ones"},
	"idempotencyHeader": {"type": "string", "description": "has the key that is the same in each attempt; \"\" for none", "x-pawl-trusted": true}
}}`

const answerSchema = `{"type": "object", "required": ["status", "headers", "body", "url"], "properties": {
	"status": {"type": "integer"}, "headers": {"type": "object", "additionalProperties": {"type": "string"}},
	"body": {}, "encoding": {"const": "base64"}, "url": {"type": "string"}}}`

// requested are the parameters of a request.
type requested struct {
	URL       string            `json:"url"`
	Method    string            `json:"method"`
	Headers   map[string]string `json:"headers"`
	Query     map[string]any    `json:"query"`
	Body      json.RawMessage   `json:"body"`
	Form      map[string]any    `json:"form"`
	Auth      auth              `json:"auth"`
	TimeoutMs int64             `json:"timeoutMs"`
	Expect    []int             `json:"expect"`
	MaxBytes  int64             `json:"maxBytes"`
	Keep      []string          `json:"keepHeaders"`
	KeyHeader *string           `json:"idempotencyHeader"`
	more      []auth            // of described services: further ones
	secrets   []string          // of described services: what else must not be told
}

// auth is how a request says whose it is. Query is for described services.
type auth struct {
	Bearer string `json:"bearer"`
	Basic  *struct {
		Username string `json:"username"`
		Password string `json:"password"`
	} `json:"basic"`
	Header *named `json:"header"`
	Query  *named `json:"-"`
}

type named struct{ Name, Value string }

// Call sends the request. See the schema of the action for its parameters and its result, an [*Answer].
func (s *HTTP) Call(ctx context.Context, c Call) (any, error) {
	if _, err := s.check(c); err != nil {
		return nil, err
	}
	var r requested
	if err := decodeNumbers(c.Params, &r); err != nil {
		return nil, err
	}
	return s.carryOut(ctx, c, r)
}

// carryOut sends what was asked for, or tells what it would send.
func (w *wire) carryOut(ctx context.Context, c Call, r requested) (any, error) {
	x, err := w.exchange(c.Key, r)
	if err != nil {
		return nil, r.redactor().Error(err)
	}
	if c.DryRun {
		if err := w.looksOpen(x.url); err != nil {
			return nil, x.hidden.Error(err)
		}
		return x.plan()
	}
	answer, err := x.do(ctx, w.client)
	if err != nil {
		return nil, err // and no *Answer of nil
	}
	return answer, nil
}

// looksOpen tells what the rules of the network say of an address of which no name must be looked up.
func (w *wire) looksOpen(u *url.URL) error {
	address, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return nil
	}
	port, _ := strconv.ParseUint(portOf(u), 10, 16)
	return w.policy.check(address.String(), netip.AddrPortFrom(address, uint16(port)))
}

// plan is what would be sent.
func (x *exchange) plan() (Plan, error) {
	headers := map[string]string{}
	for name := range x.header {
		if headers[name] = x.header.Get(name); isCredential(name) {
			headers[name] = Redacted
		}
	}
	address := *x.url
	query := address.Query()
	for name, values := range query {
		for i := range values {
			if isCredential(name) {
				values[i] = Redacted
			}
		}
	}
	address.RawQuery = query.Encode()
	request := map[string]any{"method": x.method, "url": address.String(), "headers": headers}
	switch {
	case x.body == nil:
	case json.Valid(x.body):
		request["body"] = json.RawMessage(x.body)
	default:
		request["body"] = string(x.body)
	}
	clean, err := x.hidden.JSON(request)
	return Plan{Would: x.hidden.Text(x.method + " " + plainURL(x.url)), Request: clean}, err
}
