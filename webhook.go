package pawl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// WebhookPath is where a server that mounts pawl's HTTP API answers webhooks made in code:
// the path is this and the token.
const WebhookPath = "/.well-known/workflow/v1/webhook/"

// WebhookKind is the kind of hooks that [NewWebhook] makes, if [HookKind] says no other.
const WebhookKind = "webhook"

// Webhook is a hook whose payloads are HTTP requests, and which answers them.
type Webhook struct {
	hook Hook[Request]
	url  string
}

// Request is an HTTP request that a webhook received.
type Request struct {
	ID     string      `json:"id"` // of this request; what [Respond] answers to
	Method string      `json:"method"`
	URL    string      `json:"url"`              // in full, as the caller asked for it
	Header http.Header `json:"header,omitempty"` // without those of the connection
	Body   []byte      `json:"body,omitempty"`
	// Until is when the caller of a webhook made with [RespondManually] is given up, and
	// Fallback the status that it gets then. Zero: it was answered at once.
	Until    time.Time `json:"until,omitzero"`
	Fallback int       `json:"fallback,omitempty"`
	// Run is the id of the run that received it: only its steps can answer.
	Run string `json:"run,omitempty"`
}

// JSON decodes the request's body.
func (r *Request) JSON(v any) error { return decode("body of a webhook request", r.Body, v) }

// Form reads the request's body as a form, of the type application/x-www-form-urlencoded or
// multipart/form-data, files included. ErrInput: it is none.
func (r *Request) Form() (*multipart.Form, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	var form *multipart.Form
	switch {
	case err != nil:
	case kind == "application/x-www-form-urlencoded":
		form = &multipart.Form{}
		form.Value, err = url.ParseQuery(string(r.Body))
	case kind == "multipart/form-data":
		form, err = multipart.NewReader(bytes.NewReader(r.Body), params["boundary"]).ReadForm(int64(len(r.Body)) + 1)
	default:
		err = fmt.Errorf("its Content-Type is %q", kind)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the body of the webhook's request is no form: %w", ErrInput, err)
	}
	return form, nil
}

// HiddenToken stands for the token in the URL of a [Request] on its way to the run: no store
// holds one. [Webhook.Wait] puts the token there again.
const HiddenToken = "{token}"

// Response is the answer to a webhook's request.
type Response struct {
	Status int         `json:"status"` // 0 means 200
	Header http.Header `json:"header,omitempty"`
	Body   []byte      `json:"body,omitempty"`
}

// check says why a response can't be sent.
func (r *Response) check() error {
	if r.Status != 0 && r.Status < 200 || r.Status > 599 {
		return fmt.Errorf("a webhook can't answer with status %d; it is one of 200 to 599", r.Status)
	}
	return nil
}

// Answer is how a webhook deals with its requests; the server that receives them reads it from
// the hook's Meta. It is made of the options of NewWebhook.
type Answer struct {
	Manual   bool            `json:"manual,omitempty"`   // a step answers, with Respond
	Wait     time.Duration   `json:"wait,omitempty"`     // Manual: how long the caller is held
	Response *Response       `json:"response,omitempty"` // the same for all; nil: 202 and no body. Manual: when no step has answered; nil: 504
	Scheme   string          `json:"scheme,omitempty"`   // how requests are signed; "": they are not
	Secret   string          `json:"secret,omitempty"`   // Scheme: the name of the secret, never itself
	Dedupe   string          `json:"dedupe,omitempty"`   // the header that names a delivery
	Body     json.RawMessage `json:"body,omitempty"`     // a JSON Schema of the requests' bodies; nil: they may be anything
	// Meta is what the option Meta was given.
	Meta json.RawMessage `json:"meta,omitempty"`
}

// Answering makes a webhook answer every request with r, at once, once it is durable.
// Without it the answer is 202 and no body. r's status is 200 to 599; 0 means 200.
func Answering(r Response) HookOption {
	return answer(func(a *Answer) error {
		a.Manual, a.Wait, a.Response = false, 0, &r
		return r.check()
	})
}

// RespondManually makes a webhook hold each caller until a step of the run answers it with
// [Respond], for as long as wait (0 means 30 s); then, or when the run ends without an answer, the
// caller gets fallback, if it is given, or 504.
func RespondManually(wait time.Duration, fallback ...Response) HookOption {
	if wait <= 0 {
		wait = 30 * time.Second
	}
	return answer(func(a *Answer) error {
		a.Manual, a.Wait, a.Response = true, wait, nil
		if len(fallback) == 0 {
			return nil
		}
		a.Response = &fallback[0]
		return fallback[0].check()
	})
}

// Signed makes a webhook refuse requests, with 401, that are not signed by the scheme (github,
// stripe, slack, standard or hmac) with the secret of a name, which the server knows: secrets are
// never given to workflows. A server that has no means to check answers 503. A request whose
// scheme names deliveries is delivered once: see [Dedupe].
func Signed(scheme, secretName string) HookOption {
	return answer(func(a *Answer) error {
		a.Scheme, a.Secret = scheme, secretName
		if scheme == "" || secretName == "" {
			return errors.New("Signed needs a scheme and the name of a secret")
		}
		return nil
	})
}

// Dedupe makes a webhook take each delivery once: the header tells which it is, and a request
// without it is refused. A repeat within 24 hours is answered as the first was. Senders try
// again when they get no answer in time.
func Dedupe(header string) HookOption {
	return answer(func(a *Answer) error {
		a.Dedupe = http.CanonicalHeaderKey(header)
		if header == "" {
			return errors.New("Dedupe needs the name of the header; with Signed the scheme's own is used")
		}
		return nil
	})
}

// BodySchema makes a webhook take requests only whose body is JSON that fits a JSON Schema: others get 422 with what does
// not fit, and the run does not learn of them. All that the schema refers to must be in it.
func BodySchema(s json.RawMessage) HookOption {
	return answer(func(a *Answer) error {
		a.Body = s
		if !json.Valid(s) {
			return fmt.Errorf("the schema of a webhook's bodies is not JSON: %.40q", s)
		}
		return nil
	})
}

func answer(set func(a *Answer) error) HookOption {
	return hookOption(func(h *HookSpec) error {
		if h.answer == nil {
			h.answer = &Answer{}
		}
		return set(h.answer)
	})
}

// NewWebhook registers a hook that HTTP callers reach at its URL; see [NewHook]. Its token
// is always pawl's own: whoever knows the URL may call it, so [Token] is refused. Requests are
// kept, in order, until they are waited for.
func NewWebhook(c *Context, opts ...HookOption) (*Webhook, error) {
	all := append([]HookOption{answer(func(*Answer) error { return nil }), HookKind(WebhookKind)}, opts...)
	all = append(all, hookOption(func(h *HookSpec) error {
		if h.Token != "" {
			return fmt.Errorf("pawl: a webhook's token is its only protection and always random: leave Token and ClaimToken out, or use NewHook behind your own route")
		}
		h.answer.Meta = h.Meta
		h.Meta = mustJSON(h.answer)
		return nil
	}))
	key, token, _, err := c.newHook("NewWebhook", true, all)
	if err != nil {
		return nil, err
	}
	base := strings.TrimSuffix(c.b.r.e.opt.PublicURL, "/")
	return &Webhook{hook: Hook[Request]{key: key, token: token}, url: base + WebhookPath + token}, nil
}

// URL returns the address at which callers reach the webhook: Options.PublicURL and
// WebhookPath and the token.
func (w *Webhook) URL() string { return w.url }

// Token returns the last part of the URL.
func (w *Webhook) Token() string { return w.hook.token }

// Wait returns the next request. With [Timeout] it returns ErrTimeout when none came.
func (w *Webhook) Wait(c *Context, opts ...WaitOption) (*Request, error) {
	r, err := w.hook.Wait(c, opts...)
	if err != nil {
		return nil, err
	}
	return w.received(c, &r), nil
}

// received gives a request what it has of the run.
func (w *Webhook) received(c *Context, r *Request) *Request {
	r.URL = strings.Replace(r.URL, WebhookPath+HiddenToken, WebhookPath+w.hook.token, 1)
	r.Run = c.RunID()
	return r
}

// All returns requests as they come; see [Hook.All].
func (w *Webhook) All(c *Context) iter.Seq2[*Request, error] {
	return func(yield func(*Request, error) bool) {
		for r, err := range w.hook.All(c) {
			if !yield(w.received(c, &r), err) {
				return
			}
		}
	}
}

// Close ends the webhook: callers get 410 from then on, and 404 when it is forgotten.
func (w *Webhook) Close(c *Context) error { return w.hook.Close(c) }

// Respond answers a request of a webhook made with [RespondManually], from the body of a
// step of the run that received it. The first answer counts. When the caller was given up
// already the error is ErrTimeout, is not tried again, and says what the caller got. That a
// caller has gone away by itself is no error.
func Respond(ctx context.Context, req *Request, resp Response) error {
	s := stepOf(ctx)
	if s == nil {
		return &MisuseError{Call: "Respond", Why: "it must be called in the body of a step, with the context that the body was given"}
	}
	if req.Run != "" && req.Run != s.r.info.ID {
		return &MisuseError{Call: "Respond", Why: "the request was received by run " + req.Run + ": a step of that run must answer it"}
	}
	if err := resp.check(); err != nil {
		return &MisuseError{Call: "Respond", Why: err.Error()}
	}
	if !req.Until.IsZero() && !time.Now().Before(req.Until) {
		return Fatal(fmt.Errorf("%w: the caller was to be answered by %s and got status %d then", ErrTimeout, req.Until.Format(time.RFC3339), req.Fallback))
	}
	if resp.Status == 0 {
		resp.Status = http.StatusOK
	}
	return s.writeChunk(ResponseStream+req.ID, resp, false)
}

// ResponseStream and a request's id name the stream of its run on which the answer to the
// request is written.
const ResponseStream = "$response:"
