package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/internal/schema"
	"github.com/pawlrun/pawl/trigger"
)

// webhooks answers requests to webhooks that workflows have made (pawl.NewWebhook). It is public:
// whoever knows a URL may call it, from any site, under any name of the host. It stands before
// the checks and routes of the rest of the API and shares nothing with them.
//
// Invariants:
//   - a status of 200 to 299 is sent after the request is durable, never before;
//   - the answer to a token that leads to no webhook is the same for all of them, and does not
//     depend on anything else of the request;
//   - a token is in no log and in nothing that is stored.
type webhooks struct {
	engine  *pawl.Engine
	opt     Options
	log     *slog.Logger
	clients *limiters // by address: before anything is looked up
	tokens  *limiters // of webhooks that exist
	unread  *gauge[int64]
}

func newWebhooks(engine *pawl.Engine, opt Options, log *slog.Logger) *webhooks {
	opt.MaxWebhookBody = cmp.Or(opt.MaxWebhookBody, 1<<20)
	return &webhooks{engine: engine, opt: opt, log: log,
		clients: newLimiters(opt.ClientRate, Rate{PerSecond: 50, Burst: 200}), tokens: newLimiters(opt.WebhookRate, Rate{PerSecond: 50, Burst: 200})}
}

// refusal is an answer that is the server's own.
type refusal struct {
	status int
	why    string        // in plain text; "": no body
	after  time.Duration // when to try again; zero: not said
}

func (e *refusal) Error() string { return e.why }

var (
	unknownHook = &refusal{status: http.StatusNotFound}
	endedHook   = &refusal{status: http.StatusGone, why: "this webhook has ended"}
)

// storeRetry is when a caller is asked to try again if the store could not be reached.
const storeRetry = 5 * time.Second

func (s *webhooks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.log.Error("pawl: panic in a webhook", "method", r.Method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			panic(http.ErrAbortHandler)
		}
	}()
	resp, err := s.receive(w, r)
	var no *refusal
	switch {
	case err == nil:
		s.answer(w, r, resp)
	case errors.As(err, &no):
		s.refuse(w, no)
	case r.Context().Err() != nil: // nobody is there
	case errors.Is(err, pawl.ErrNotFound):
		s.refuse(w, unknownHook)
	case errors.Is(err, pawl.ErrEnded):
		s.refuse(w, endedHook)
	case errors.Is(err, pawl.ErrTooLarge):
		s.refuse(w, &refusal{status: http.StatusRequestEntityTooLarge, why: "the request is too large"})
	case errors.Is(err, pawl.ErrInput):
		s.refuse(w, &refusal{status: http.StatusBadRequest, why: "the request does not fit what the webhook takes"})
	default:
		s.log.Error("pawl: a webhook could not be answered", "method", r.Method, "error", err)
		s.refuse(w, &refusal{status: http.StatusServiceUnavailable, why: "try again", after: storeRetry})
	}
}

// receive takes one request and says what to answer.
func (s *webhooks) receive(w http.ResponseWriter, r *http.Request) (*pawl.Response, error) {
	if wait := s.clients.take(s.client(r)); wait > 0 {
		return nil, &refusal{status: http.StatusTooManyRequests, why: "too many requests from this address", after: wait}
	}
	token := strings.TrimPrefix(r.URL.Path, pawl.WebhookPath)
	if token == "" {
		return nil, &refusal{status: http.StatusBadRequest, why: "the address lacks the webhook's token"}
	}
	ctx, cancel := context.WithTimeout(r.Context(), callLimit)
	defer cancel()
	h, err := s.engine.FindHook(ctx, "", token)
	over := errors.Is(err, pawl.ErrEnded)
	switch {
	case errors.Is(err, pawl.ErrNotFound), (err == nil || over) && !h.Public:
		return nil, unknownHook
	case err != nil && !over:
		return nil, err
	}
	if wait := s.tokens.take(token); wait > 0 {
		return nil, &refusal{status: http.StatusTooManyRequests, why: "too many requests to this webhook", after: wait}
	}
	var a pawl.Answer
	if err := json.Unmarshal(h.Meta, &a); err != nil {
		return nil, fmt.Errorf("what the webhook %s of run %s answers: %w", h.Key, h.Run.ID, err)
	}
	if over && a.Scheme == "" && a.Dedupe == "" { // or else it may be a repeat, which has its answer
		return nil, endedHook
	}
	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, &refusal{status: http.StatusUnsupportedMediaType, why: "send the body without Content-Encoding"}
	}
	body, err := s.body(w, r)
	if err != nil {
		return nil, err
	}
	once, err := s.delivery(ctx, r, &h, &a, body)
	if err != nil {
		return nil, err
	}
	if !over && a.Body != nil {
		if err := fits(a.Body, body); err != nil {
			return nil, err
		}
	}
	sent, err := s.unread.enter(ctx, h.Run.Key)
	switch {
	case err != nil:
		return nil, err
	case sent == nil:
		return nil, &refusal{status: http.StatusTooManyRequests, why: "the run has not taken what was sent to it before", after: backlogRetry}
	}
	defer sent()
	return s.deliver(r.Context(), w.Header(), &h, &a, once, s.request(r, token, body))
}

// fits holds a body against the schema that its webhook asks for.
func fits(of json.RawMessage, body []byte) error {
	compiled, err := schema.Compile(of)
	if err != nil {
		return fmt.Errorf("the schema of the webhook's bodies: %w", err)
	}
	err = compiled.CheckJSON(body)
	var faults schema.Faults
	if errors.As(err, &faults) {
		return &refusal{status: http.StatusUnprocessableEntity, why: "the body does not fit: " + faults.Error()}
	}
	return err
}

func (s *webhooks) body(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	data, err := readBody(w, r, s.opt.MaxWebhookBody)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, &refusal{status: http.StatusRequestEntityTooLarge, why: fmt.Sprintf("the body is over %d bytes", large.Limit)}
	case err != nil:
		return nil, &refusal{status: http.StatusBadRequest, why: "the body broke off"}
	}
	return data, nil
}

// delivery checks the request's signature, where the webhook asks for one, and names the
// delivery; "": it has no name.
func (s *webhooks) delivery(ctx context.Context, r *http.Request, h *pawl.HookInfo, a *pawl.Answer, body []byte) (string, error) {
	id := ""
	if a.Scheme != "" {
		var err error
		id, err = s.verify(ctx, r.Header, h.Run.Tenant, trigger.SignatureOptions{Scheme: trigger.Scheme(a.Scheme)}, a.Secret, body)
		var bad *badSignature
		switch {
		case errors.As(err, &bad):
			return "", &refusal{status: http.StatusUnauthorized, why: err.Error()}
		case err != nil:
			return "", fmt.Errorf("%w: webhook %s of run %s: check the signature with the secret %q: %v", pawl.ErrState, h.Key, h.Run.ID, a.Secret, err)
		}
	}
	if a.Dedupe != "" {
		values := r.Header.Values(a.Dedupe)
		if len(values) != 1 || values[0] == "" {
			return "", &refusal{status: http.StatusBadRequest, why: "the header " + a.Dedupe + ", which names the delivery, must be there once"}
		}
		id = values[0]
	}
	if id == "" {
		return "", nil
	}
	sum := sha256.Sum256([]byte(id)) // it may be long, and is the sender's
	return "webhook " + hex.EncodeToString(sum[:]), nil
}

// badSignature is an error that is the caller's fault; its text may be told.
type badSignature struct{ error }

// verify checks a request's signature with the settings that the server has under the secret's name, else with the secret of
// the tenant, of which two values may be good.
func (s *webhooks) verify(ctx context.Context, header http.Header, tenant string, how trigger.SignatureOptions, name string, body []byte) (string, error) {
	now := time.Now()
	if s.opt.Verify != nil {
		id, err := s.opt.Verify(string(how.Scheme), name, header, body, now)
		switch {
		case errors.Is(err, pawl.ErrNotFound) && s.opt.Secrets != nil:
		case err == nil, errors.Is(err, pawl.ErrState), errors.Is(err, pawl.ErrNotFound):
			return id, err
		default:
			return "", &badSignature{err}
		}
	}
	if s.opt.Secrets == nil {
		return "", fmt.Errorf("it wants requests signed by %s, and the server has neither Options.Verify nor Options.Secrets to check that", how.Scheme)
	}
	values, err := s.opt.Secrets.Values(ctx, tenant, name)
	if errors.Is(err, pawl.ErrNotFound) {
		return "", fmt.Errorf("%w of tenant %q, and none of that name in the server's settings: set it", err, tenant)
	}
	if err != nil {
		return "", err
	}
	how.Secrets = values
	v, err := trigger.NewVerifier(how)
	if err != nil {
		return "", err
	}
	signed, err := v.Verify(header, body, now)
	if err != nil {
		return "", &badSignature{err}
	}
	return signed.ID, nil
}

// first is what is remembered of the first of several deliveries of one name.
type first struct {
	ID    string    `json:"id"`
	Until time.Time `json:"until,omitzero"`
}

// deliver hands the request to the run and says what to answer, once it is durable; of a repeat,
// the answer's header says so.
func (s *webhooks) deliver(ctx context.Context, header http.Header, h *pawl.HookInfo, a *pawl.Answer, once string, req pawl.Request) (*pawl.Response, error) {
	was := first{ID: req.ID}
	if a.Manual {
		req.Until, req.Fallback = time.Now().Add(a.Wait).Truncate(time.Microsecond), http.StatusGatewayTimeout
		if a.Response != nil {
			req.Fallback = cmp.Or(a.Response.Status, http.StatusOK)
		}
		was.Until = req.Until
	}
	remember, err := json.Marshal(was)
	if err != nil {
		return nil, err
	}
	call, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	got, err := s.engine.Deliver(call, pawl.Delivery{Token: h.Token, Found: h, Data: req, Once: once, Answer: remember})
	if err != nil {
		return nil, err
	}
	if got.Repeated {
		header.Set(headerReplayed, "true")
		if err := json.Unmarshal(got.First, &was); err != nil {
			return nil, fmt.Errorf("what is remembered of a delivery to run %s: %w", got.Run.ID, err)
		}
	}
	switch {
	case a.Manual:
		return s.wait(ctx, got.Run, a, was)
	case a.Response != nil:
		return a.Response, nil
	}
	return &pawl.Response{Status: http.StatusAccepted}, nil
}

// late is how long after its time an answer is still looked for that was given just in time.
const late = 250 * time.Millisecond

// wait holds the caller until a step has answered the request, its time is over, or the run has
// ended.
func (s *webhooks) wait(ctx context.Context, run pawl.RunInfo, a *pawl.Answer, was first) (*pawl.Response, error) {
	until := was.Until.Add(late)
	if soon := time.Now().Add(late); soon.After(until) { // a repeat, of a request whose time is over
		until = soon
	}
	limit, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	defer context.AfterFunc(stopping(ctx), cancel)()
	for chunk, err := range s.engine.ReadStream(limit, run.Tenant, run.ID, pawl.ResponseStream+was.ID, 0) {
		switch {
		case err == nil:
			var resp pawl.Response
			if err := json.Unmarshal(chunk.Data, &resp); err != nil {
				return nil, fmt.Errorf("the answer that a step of run %s gave: %w", run.ID, err)
			}
			return &resp, nil
		case errors.Is(limit.Err(), context.DeadlineExceeded):
		case limit.Err() != nil && ctx.Err() == nil:
			return nil, &refusal{status: http.StatusServiceUnavailable, why: "the server is shutting down", after: storeRetry}
		case errors.Is(err, pawl.ErrNotFound): // it was deleted
		default:
			return nil, err
		}
		break
	}
	if a.Response != nil {
		return a.Response, nil
	}
	return nil, &refusal{status: http.StatusGatewayTimeout, why: "nobody has answered in time"}
}

// request is r as it is stored.
func (s *webhooks) request(r *http.Request, token string, body []byte) pawl.Request {
	h := r.Header.Clone()
	for _, list := range h.Values("Connection") {
		for name := range strings.SplitSeq(list, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopByHop {
		h.Del(name)
	}
	withoutOurs(h)
	for _, values := range h {
		for i := range values { // a proxy may tell of the address in headers
			values[i] = strings.ReplaceAll(values[i], token, pawl.HiddenToken)
		}
	}
	address := s.base(r) + pawl.WebhookPath + pawl.HiddenToken
	if r.URL.RawQuery != "" {
		address += "?" + strings.ReplaceAll(r.URL.RawQuery, token, pawl.HiddenToken)
	}
	return pawl.Request{ID: "req_" + rand.Text(), Method: r.Method, URL: address, Header: h, Body: body}
}

// withoutOurs takes out what lets its holder into this API: a browser sends its session along to a
// webhook's URL, which is of the same origin. The run has no use for it, and who reads its journal
// could use it.
func withoutOurs(h http.Header) {
	if scheme, key, _ := strings.Cut(h.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") && strings.HasPrefix(strings.TrimSpace(key), "pawl_") {
		h.Del("Authorization")
	}
	var kept []string
	for _, line := range h.Values("Cookie") {
		var others []string
		for cookie := range strings.SplitSeq(line, ";") {
			name, _, _ := strings.Cut(cookie, "=")
			if name = strings.TrimSpace(name); name != sessionCookie && name != loginCookie {
				others = append(others, strings.TrimSpace(cookie))
			}
		}
		if others != nil {
			kept = append(kept, strings.Join(others, "; "))
		}
	}
	h.Del("Cookie")
	if kept != nil {
		h["Cookie"] = kept
	}
}

// hopByHop are headers of the connection, which are not the sender's (RFC 9110, 7.6.1).
var hopByHop = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// base is the beginning of the URL that the caller has asked for.
func (s *webhooks) base(r *http.Request) string {
	if s.opt.PublicURL != "" {
		return strings.TrimSuffix(s.opt.PublicURL, "/")
	}
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if s.opt.TrustForwarded {
		if p := r.Header.Get("X-Forwarded-Proto"); p == "http" || p == "https" {
			scheme = p
		}
		host = cmp.Or(r.Header.Get("X-Forwarded-Host"), host)
	}
	return scheme + "://" + host
}

func (s *webhooks) refuse(w http.ResponseWriter, no *refusal) {
	var h http.Header
	if no.after > 0 {
		h = http.Header{"Retry-After": {strconv.Itoa(int((no.after + time.Second - 1) / time.Second))}}
	}
	body := []byte(no.why)
	if no.why != "" {
		body = append(body, '\n')
	}
	s.send(w, no.status, h, body)
}

func (s *webhooks) answer(w http.ResponseWriter, _ *http.Request, resp *pawl.Response) {
	s.send(w, cmp.Or(resp.Status, http.StatusOK), resp.Header, resp.Body)
}

// send answers. What a workflow says may be anything, and comes from the address of the API: a
// browser is to run nothing of it there.
func (s *webhooks) send(w http.ResponseWriter, status int, header http.Header, body []byte) {
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(writeLimit)) // not every ResponseWriter has one
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	if len(body) > 0 {
		h.Set("Content-Type", "text/plain; charset=utf-8")
	}
	for name, values := range header {
		h[http.CanonicalHeaderKey(name)] = values
	}
	for _, name := range hopByHop {
		h.Del(name)
	}
	if status != http.StatusNoContent && status != http.StatusNotModified {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	} else {
		h.Del("Content-Length")
		body = nil
	}
	w.WriteHeader(status)
	if len(body) > 0 {
		w.Write(body)
	}
	_ = rc.Flush()                       // who is gone needs no answer
	_ = rc.SetWriteDeadline(time.Time{}) // for the connection's next request
}
