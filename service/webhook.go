package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// WebhookOptions say what [NewWebhook] makes.
type WebhookOptions struct {
	HTTP HTTPOptions
	// Secrets finds what to sign with, by its name in the calls; "" is that of calls which name none. Several are for a time of
	// change: the first is the one in use, and standard and stripe sign with all, so that who receives may know any of them.
	// With standard a secret is the base64 of 24 to 64 bytes, with or without "whsec_".
	Secrets func(ctx context.Context, name string) ([]string, error)
}

// Webhook is the service that posts events to who asked for them, signed. Its one action is "send". It sends the same id in
// each attempt of a step, so that who receives can tell a repeat.
type Webhook struct {
	*actions
	*wire
	secrets func(ctx context.Context, name string) ([]string, error)
}

// NewWebhook makes the service. The error says what is wrong with the options.
func NewWebhook(opt WebhookOptions) (*Webhook, error) {
	if opt.Secrets == nil {
		return nil, errors.New("webhooks are signed: give Secrets")
	}
	w, err := newWire(opt.HTTP)
	if err != nil {
		return nil, err
	}
	list, err := newActions(Action{
		Name: "send", Effect: Once,
		Doc:    "Posts an event to an address, signed by Standard Webhooks or as GitHub, Stripe or plain HMAC do.",
		Params: fmt.Appendf(nil, sendParams, maxURL, maxTimeout.Milliseconds()),
		Result: json.RawMessage(deliverySchema),
	})
	return &Webhook{list, w, opt.Secrets}, err
}

const sendParams = `{
"type": "object", "required": ["url", "data"], "additionalProperties": false,
"properties": {
	"url": {"type": "string", "minLength": 1, "maxLength": %d, "x-pawl-fill": "url", "x-pawl-trusted": true},
	"event": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,100}$", "description": "what happened: order.paid. With standard the body is {type, timestamp, data}; with github it is the header X-GitHub-Event"},
	"timestamp": {"type": "string", "format": "date-time", "description": "when it happened, with standard and an event"},
	"data": {"description": "the body, or with standard and an event its data"},
	"scheme": {"enum": ["standard", "github", "stripe", "hmac"], "default": "standard"},
	"secret": {"type": "string", "description": "the name of the secret to sign with", "x-pawl-trusted": true, "x-pawl-secret": true},
	"header": {"type": "string", "description": "has the signature, with hmac", "x-pawl-trusted": true},
	"headers": {"type": "object", "maxProperties": 100, "additionalProperties": {"type": "string", "x-pawl-trusted": true}, "x-pawl-trusted": true},
	"timeoutMs": {"type": "integer", "minimum": 1, "maximum": %d},
	"expect": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 200, "maximum": 599}}
}}`

const deliverySchema = `{"type": "object", "required": ["id", "status"], "properties": {"id": {"type": "string"}, "status": {"type": "integer"}}}`

// Delivery is an event that was taken.
type Delivery struct {
	ID     string `json:"id"`     // as the receiver knows it
	Status int    `json:"status"` // of its answer
}

// sending are the parameters of send.
type sending struct {
	URL       string            `json:"url"`
	Event     string            `json:"event"`
	Timestamp string            `json:"timestamp"`
	Data      json.RawMessage   `json:"data"`
	Scheme    string            `json:"scheme"`
	Secret    string            `json:"secret"`
	Header    string            `json:"header"`
	Headers   map[string]string `json:"headers"`
	TimeoutMs int64             `json:"timeoutMs"`
	Expect    []int             `json:"expect"`
}

// Call posts the event. The result is a [*Delivery]; what the answer says is not kept.
func (s *Webhook) Call(ctx context.Context, c Call) (any, error) {
	if _, err := s.check(c); err != nil {
		return nil, err
	}
	var p sending
	if err := decodeNumbers(c.Params, &p); err != nil {
		return nil, err
	}
	if p.Scheme == "" {
		p.Scheme = SchemeStandard
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	secrets, err := s.secrets(ctx, p.Secret)
	if err != nil {
		return nil, fmt.Errorf("the secret %q of the webhook: %w", p.Secret, err)
	}
	id := headerKey(c.Key, ".")
	x, err := s.delivery(p, id, secrets)
	if err != nil {
		return nil, NewRedactor(secrets...).Error(err)
	}
	if c.DryRun {
		if err := s.looksOpen(x.url); err != nil {
			return nil, err
		}
		return x.plan()
	}
	answer, err := x.do(ctx, s.client)
	if err != nil {
		return nil, err
	}
	return &Delivery{ID: id, Status: answer.Status}, nil
}

// check refuses what a scheme can't say.
func (p sending) check() error {
	bad := func(format string, args ...any) error {
		return &Error{Code: Invalid, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case p.Scheme == SchemeHMAC && (!isToken(p.Header) || isOurs(p.Header)):
		return bad("the scheme hmac needs the name of a header for its signature, and %q is none", p.Header)
	case p.Scheme != SchemeHMAC && p.Header != "":
		return bad("the scheme %s has a header of its own", p.Scheme)
	case p.Event != "" && (p.Scheme == SchemeStripe || p.Scheme == SchemeHMAC):
		return bad("the scheme %s has no place for an event: write it into the data", p.Scheme)
	case p.Timestamp != "" && (p.Event == "" || p.Scheme != SchemeStandard):
		return bad("a timestamp belongs to an event of the scheme standard")
	}
	return nil
}

// delivery makes the request and signs it now.
func (s *Webhook) delivery(p sending, id string, secrets []string) (*exchange, error) {
	body, err := p.body()
	if err != nil {
		return nil, err
	}
	none := ""
	x, err := s.exchange("", requested{URL: p.URL, Method: "POST", Headers: p.Headers, Body: json.RawMessage("{}"), TimeoutMs: p.TimeoutMs, Expect: p.Expect, KeyHeader: &none})
	if err != nil {
		return nil, err
	}
	x.body, x.unread, x.hidden = body, true, NewRedactor(secrets...)
	proof, err := signed(p.Scheme, p.Header, id, time.Now(), body, secrets)
	if err != nil {
		return nil, &Error{Code: Invalid, Message: fmt.Sprintf("the secret %q: %v", p.Secret, err)}
	}
	if p.Scheme == SchemeGitHub && p.Event != "" {
		proof["X-GitHub-Event"] = p.Event
	}
	if p.Scheme == SchemeStripe || p.Scheme == SchemeHMAC {
		proof["Idempotency-Key"] = id
	}
	for _, name := range slices.Sorted(maps.Keys(proof)) {
		if x.header.Get(name) != "" {
			return nil, &Error{Code: Invalid, Message: fmt.Sprintf("the header %s is the signature's, and can't be given", name)}
		}
		if err := x.setHeader(name, proof[name]); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// body is what is sent: the same in each attempt, since who receives compares.
func (p sending) body() ([]byte, error) {
	var b bytes.Buffer
	data := p.Data
	if p.Event != "" && p.Scheme == SchemeStandard {
		event := map[string]any{"type": p.Event, "data": p.Data}
		if p.Timestamp != "" {
			event["timestamp"] = p.Timestamp
		}
		var err error
		if data, err = json.Marshal(event); err != nil {
			return nil, &Error{Code: Invalid, Message: err.Error()}
		}
	}
	if err := json.Compact(&b, data); err != nil {
		return nil, &Error{Code: Invalid, Message: err.Error()}
	}
	if b.Len() > maxRequest {
		return nil, &Error{Code: Invalid, Message: fmt.Sprintf("the body has %d bytes, the limit is %d", b.Len(), maxRequest)}
	}
	return b.Bytes(), nil
}
