package pawl

import (
	"context"
	"fmt"
	"iter"
	"net/http"
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
	URL    string      `json:"url"` // in full, as the caller asked for it
	Header http.Header `json:"header,omitempty"`
	Body   []byte      `json:"body,omitempty"`
}

// JSON decodes the request's body.
func (r *Request) JSON(v any) error { return decode("body of a webhook request", r.Body, v) }

// Response is the answer to a webhook's request.
type Response struct {
	Status int         `json:"status"` // 0 means 200
	Header http.Header `json:"header,omitempty"`
	Body   []byte      `json:"body,omitempty"`
}

// Answer is how a webhook answers its requests; the server that receives them reads it
// from the hook's Meta.
type Answer struct {
	Manual   bool          `json:"manual,omitempty"`   // a step answers, with Respond
	Wait     time.Duration `json:"wait,omitempty"`     // Manual: how long the caller is held; then 504
	Response *Response     `json:"response,omitempty"` // the same for all; nil: 202 and no body
}

// Answering makes a webhook answer every request with r, at once, once it is durable.
// Without it the answer is 202 and no body.
func Answering(r Response) HookOption { return answer(Answer{Response: &r}) }

// RespondManually makes a webhook hold each caller until a step of the run answers it with
// [Respond], for as long as wait (0 means 30 s); then the caller gets 504.
func RespondManually(wait time.Duration) HookOption {
	if wait <= 0 {
		wait = 30 * time.Second
	}
	return answer(Answer{Manual: true, Wait: wait})
}

func answer(a Answer) HookOption {
	return hookOption(func(h *HookSpec) error {
		if a.Response != nil && (a.Response.Status != 0 && a.Response.Status < 200 || a.Response.Status > 599) {
			return fmt.Errorf("pawl: a webhook can't answer with status %d", a.Response.Status)
		}
		h.Meta = mustJSON(a)
		return nil
	})
}

// NewWebhook registers a hook that HTTP callers reach at its URL; see [NewHook]. Its token
// is always pawl's own: whoever knows the URL may call it, so [Token] is refused. Requests are
// kept, in order, until they are waited for.
func NewWebhook(c *Context, opts ...HookOption) (*Webhook, error) {
	all := append([]HookOption{answer(Answer{}), HookKind(WebhookKind)}, opts...)
	all = append(all, hookOption(func(h *HookSpec) error {
		if h.Token != "" {
			return fmt.Errorf("pawl: a webhook's token is its only protection and always random: leave Token out, or use NewHook behind your own route")
		}
		return nil
	}))
	key, token, err := c.newHook("NewWebhook", true, all)
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
	return &r, nil
}

// All returns requests as they come; see [Hook.All].
func (w *Webhook) All(c *Context) iter.Seq2[*Request, error] {
	return func(yield func(*Request, error) bool) {
		for r, err := range w.hook.All(c) {
			if !yield(&r, err) {
				return
			}
		}
	}
}

// Close ends the webhook: callers get 410 from then on, and 404 when it is forgotten.
func (w *Webhook) Close(c *Context) error { return w.hook.Close(c) }

// Respond answers a request of a webhook made with [RespondManually], from the body of a
// step. The first answer counts. Answering a caller that is gone is no error.
func Respond(ctx context.Context, req *Request, resp Response) error {
	s, ok := ctx.Value(stepKey{}).(*stepContext)
	if !ok {
		return &MisuseError{Call: "Respond", Why: "it must be called in the body of a step, with the context that the body was given"}
	}
	if resp.Status == 0 {
		resp.Status = http.StatusOK
	}
	return s.r.writeChunk(ResponseStream+req.ID, resp, false)
}

// ResponseStream and a request's id name the stream of its run on which the answer to the
// request is written.
const ResponseStream = "$response:"
