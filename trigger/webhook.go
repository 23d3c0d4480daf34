package trigger

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pawlrun/pawl"
)

// Webhook starts a run for each request to a path that is signed as it should be.
type Webhook struct {
	ID       string // as of a Schedule
	Tenant   string
	Path     string // as it is asked for, such as /hooks/orders; see [ReservedPaths]
	Workflow string
	// Signature says how requests are signed. It must say so: Scheme None is without.
	Signature SignatureOptions
	// Dedupe is where a delivery's id is: a header; beginning with "/", a JSON pointer into the
	// body such as "/event/id"; or [DedupeBody], for which equal bodies are one delivery. "" means what
	// [Signed].ID says. Where that says nothing, as with hmac and none, each request starts a run.
	Dedupe string
	// Form takes application/x-www-form-urlencoded in place of JSON, as Slack's commands are. The input is
	// an object with the first value of each field, as text; Input gets the others too, in Delivery.Form.
	Form bool
	// Input makes the run's input of a delivery. nil: it is the body.
	Input func(Delivery) (any, error)
	// MaxBody is the most bytes that a body may have. 0 means 1 MiB.
	MaxBody int64
	// MaxInFlight is how many requests are worked on at once; more get 429. 0 means 256.
	MaxInFlight int
}

// DedupeBody is a [Webhook].Dedupe: requests with the same body are one delivery, for as long as the run of
// the first is kept.
const DedupeBody = "body"

// Delivery is a request that was let through.
type Delivery struct {
	ID string // of the sender, or, where it gives none, of pawl's making
	// Header is that of the request without Authorization, Proxy-Authorization and Cookie: what is made
	// of it is stored, and a browser sends its session along to any address of a server.
	Header http.Header
	Body   json.RawMessage // of a form: its fields as an object of texts
	Form   url.Values      // of a form: all values of its fields; else nil
}

// credentials are the headers that no input of a run is made of.
var credentials = []string{"Authorization", "Proxy-Authorization", "Cookie"}

// ReservedPaths are those that no Webhook may have, with all below them: they are the server's own.
var ReservedPaths = []string{"/api", "/.well-known", "/ui", "/metrics", "/healthz", "/readyz", "/dashboard", "/openapi.json", "/approve", "/login", "/logout", "/slack/interactions"}

// CheckPath says what is wrong with the path of a webhook: ErrInput.
func CheckPath(p string) error {
	bad := func(why string) error { return fmt.Errorf("%w: path %.100q of a webhook %s", pawl.ErrInput, p, why) }
	switch {
	case !strings.HasPrefix(p, "/") || p == "/":
		return bad("must begin with a slash and go on")
	case len(p) > 512:
		return bad("is longer than 512 bytes")
	case path.Clean(p) != p || strings.ContainsAny(p, "{}?#%\\ ") || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r > '~' }):
		return bad("must be a plain path, without .., //, a slash at the end, or wildcards")
	}
	if u, err := url.Parse(p); err != nil || u.EscapedPath() != p { // callers would escape it, and ask for another
		return bad("must have no signs that addresses escape")
	}
	for _, r := range ReservedPaths {
		if low := strings.ToLower(p); low == r || strings.HasPrefix(low, r+"/") {
			return bad("is reserved: choose one that is not below " + r)
		}
	}
	return nil
}

// handler answers the requests of one webhook.
type handler struct {
	Webhook
	engine   *pawl.Engine
	verifier *Verifier
	pointer  []string // of Dedupe; nil: none
	places   chan struct{}
}

// NewWebhookHandler checks w and returns what answers its requests, on whatever path it is
// mounted:
//
//	202 {"runId": …}  the run is stored; a delivery that came before gets the same, with the header
//	                  Idempotency-Replayed: true
//	400 no JSON, no form or one that is not UTF-8, JSON nested more than 1,000 deep, no id where Dedupe has it, or a body that is not there within 30 s; 401 not signed; 405 not POST; 409 another body under the id
//	413 too large; 415 another content, or one that is packed; 422 the workflow refuses it; 429 too many at once
//	503 the store does not answer, or the outcome is not known: try again
//
// Errors are problem+json (RFC 9457).
func NewWebhookHandler(e *pawl.Engine, w Webhook) (http.Handler, error) {
	bad := func(err error) (http.Handler, error) {
		return nil, fmt.Errorf("%w: webhook %.128q: %w", pawl.ErrInput, w.ID, err)
	}
	if err := CheckID(w.ID); err != nil {
		return bad(fmt.Errorf("its id %w", err))
	}
	if err := CheckPath(w.Path); err != nil {
		return bad(err)
	}
	if err := checkTenant(w.Tenant); err != nil {
		return bad(err)
	}
	if w.Workflow == "" {
		return bad(errors.New("name the workflow that it starts"))
	}
	if w.MaxBody < 0 || w.MaxInFlight < 0 {
		return bad(errors.New("MaxBody and MaxInFlight must not be negative"))
	}
	if w.MaxBody == 0 {
		w.MaxBody = 1 << 20
	}
	if w.MaxInFlight == 0 {
		w.MaxInFlight = 256
	}
	h := &handler{engine: e, places: make(chan struct{}, w.MaxInFlight)}
	switch {
	case w.Dedupe == "" || w.Dedupe == DedupeBody:
	case strings.HasPrefix(w.Dedupe, "/"):
		for part := range strings.SplitSeq(w.Dedupe[1:], "/") {
			h.pointer = append(h.pointer, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
		}
	default:
		w.Signature.IDHeader = w.Dedupe
	}
	var err error
	if h.verifier, err = NewVerifier(w.Signature); err != nil {
		return bad(err)
	}
	w.Signature.Secrets = nil
	h.Webhook = w
	return h, nil
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	expectBody(w, r)
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		problem(w, http.StatusMethodNotAllowed, "send it with POST")
		return
	}
	select {
	case h.places <- struct{}{}:
		defer func() { <-h.places }()
	default:
		w.Header().Set("Retry-After", "1")
		problem(w, http.StatusTooManyRequests, "too many requests at once; send it again later")
		return
	}
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		problem(w, http.StatusUnsupportedMediaType, "send it without Content-Encoding")
		return
	}
	want := "application/json"
	if h.Form {
		want = "application/x-www-form-urlencoded"
	}
	if types := r.Header.Values("Content-Type"); len(types) != 1 || !isType(types[0], want) {
		problem(w, http.StatusUnsupportedMediaType, "send it once with Content-Type: "+want)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.MaxBody))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			problem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the limit is %d bytes", h.MaxBody))
			return
		}
		problem(w, http.StatusBadRequest, "the body could not be read")
		return
	}
	signed, err := h.verifier.Verify(r.Header, body, time.Now())
	if err != nil {
		problem(w, http.StatusUnauthorized, err.Error())
		return
	}
	h.accept(w, r, signed, body)
}

// readLimit is how long the body of a request may take to arrive.
const readLimit = 30 * time.Second

// expectBody bounds how long a body may take, also one that nobody reads: before net/http sends an answer it reads what
// is left of the body, for as long as that takes. Who sends a byte now and then would keep a place, and a connection, for ever.
func expectBody(w http.ResponseWriter, r *http.Request) {
	if r.Body != nil && r.Body != http.NoBody {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readLimit)) // not every ResponseWriter has one
	}
}

func isType(have, want string) bool {
	name, _, _ := strings.Cut(have, ";")
	return strings.EqualFold(strings.TrimSpace(name), want)
}

// accept starts the run of a request whose sender is known.
func (h *handler) accept(w http.ResponseWriter, r *http.Request, signed Signed, body []byte) {
	d := Delivery{ID: signed.ID, Header: r.Header.Clone(), Body: body}
	for _, name := range credentials {
		d.Header.Del(name)
	}
	var value any
	if h.Form {
		fields, err := url.ParseQuery(string(body))
		if err != nil {
			problem(w, http.StatusBadRequest, "the body is no form")
			return
		}
		object := map[string]any{}
		for name, values := range fields {
			if !utf8.ValidString(name + strings.Join(values, "")) {
				problem(w, http.StatusBadRequest, fmt.Sprintf("field %.100q of the form is not UTF-8", name))
				return
			}
			object[name] = values[0]
		}
		value, d.Form = object, fields
		d.Body, _ = json.Marshal(object)
	} else if !utf8.Valid(body) {
		problem(w, http.StatusBadRequest, "the body is not UTF-8")
		return
	} else if err := nested(body); err != nil {
		problem(w, http.StatusBadRequest, "the body can't be taken: "+err.Error())
		return
	} else if err := json.Unmarshal(body, &value); err != nil {
		problem(w, http.StatusBadRequest, "the body is not JSON")
		return
	}
	if h.verifier.Scheme() == Slack && at(value, []string{"type"}) == "url_verification" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8") // Slack asks whether the address is ours
		_, _ = io.WriteString(w, at(value, []string{"challenge"}))
		return
	}
	switch {
	case h.Dedupe == DedupeBody:
		d.ID = hashOf(string(body))
	case h.pointer != nil:
		if d.ID = at(value, h.pointer); d.ID == "" {
			problem(w, http.StatusBadRequest, "the body has no id at "+h.Dedupe)
			return
		}
	case d.ID == "":
		d.ID = rand.Text()
	}
	input := d.Body
	if h.Input != nil {
		made, err := h.Input(d)
		if err == nil {
			input, err = json.Marshal(made)
		}
		if err != nil {
			problem(w, http.StatusUnprocessableEntity, "the input could not be made of it: "+err.Error())
			return
		}
	}
	h.start(r.Context(), w, h.ID+"@"+hashOf(d.ID), input)
}

func (h *handler) start(ctx context.Context, w http.ResponseWriter, run string, input json.RawMessage) {
	info, err := h.engine.StartRun(ctx, h.Workflow, input, pawl.ID(run), pawl.Tenant(h.Tenant), pawl.OnConflict(pawl.ReturnExisting),
		pawl.Attributes(map[string]any{TriggerAttribute: h.ID}))
	switch {
	case err == nil:
		if info.Existed {
			w.Header().Set("Idempotency-Replayed", "true")
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(w).Encode(map[string]string{"runId": info.ID})
	case errors.Is(err, pawl.ErrTooLarge):
		problem(w, http.StatusRequestEntityTooLarge, err.Error())
	case errors.Is(err, pawl.ErrConflict):
		problem(w, http.StatusConflict, "run "+run+" of the delivery with this id was started with another body")
	case errors.Is(err, pawl.ErrInput), errors.Is(err, pawl.ErrEncoding):
		problem(w, http.StatusUnprocessableEntity, err.Error())
	default: // of the store, or not known: whoever tries again does no harm
		w.Header().Set("Retry-After", "1")
		problem(w, http.StatusServiceUnavailable, "it could not be stored; send it again")
	}
}

// at finds a text or a number in decoded JSON; "" is none.
func at(v any, pointer []string) string {
	for _, name := range pointer {
		object, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		v = object[name]
	}
	switch v := v.(type) {
	case string:
		return v
	case float64:
		text, _ := json.Marshal(v)
		return string(text)
	}
	return ""
}

func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail})
}
