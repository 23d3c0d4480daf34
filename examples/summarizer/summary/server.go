package summary

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/demo"
)

// Limits of requests.
const (
	maxBody    = 1 << 20 // bytes of POST /summaries
	maxPayload = 5 << 20 // bytes of a webhook
	maxWait    = time.Minute
	maxListed  = 100
)

// HandlerOptions are the settings of a Service's HTTP server.
type HandlerOptions struct {
	APIKey        string // that /summaries and /digests want in the header x-apikey; "" lets everybody in
	WebhookSecret string // that GitHub signs with; "" means that webhooks are refused
	Logger        *slog.Logger
	Closing       context.Context // ?wait= ends with it; nil: only with the request
}

// Handler serves the service with what an engine has stored:
//
//	POST /summaries          summarise {"text": …}; Idempotency-Key, ?wait=10s
//	GET  /summaries          the last 10; ?limit=
//	GET  /summaries/{id}     one, whatever has become of it
//	GET  /digests            the last 10; ?limit=
//	POST /webhook/summarize  summarise an issue or a comment, as GitHub tells of it
func (s *Service) Handler(e *pawl.Engine, opt HandlerOptions) http.Handler {
	if opt.Logger == nil {
		opt.Logger = slog.Default()
	}
	if opt.Closing == nil {
		opt.Closing = context.Background()
	}
	h := &handler{Service: s, engine: e, opt: opt}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /summaries", h.answer(h.withKey(h.create)))
	mux.HandleFunc("GET /summaries", h.answer(h.withKey(h.list(summarySpace))))
	mux.HandleFunc("GET /summaries/{id}", h.answer(h.withKey(h.show)))
	mux.HandleFunc("GET /digests", h.answer(h.withKey(h.list(digestSpace))))
	mux.HandleFunc("POST /webhook/summarize", h.answer(h.webhook))
	return mux
}

type handler struct {
	*Service
	engine *pawl.Engine
	opt    HandlerOptions
}

type object = map[string]any

func (h *handler) answer(f demo.Endpoint) http.HandlerFunc { return demo.Answer(h.opt.Logger, f) }

func (h *handler) withKey(f demo.Endpoint) demo.Endpoint {
	want := sha256.Sum256([]byte(h.opt.APIKey)) // so that the comparison does not tell the key's length
	return func(w http.ResponseWriter, r *http.Request) (int, any, error) {
		got := sha256.Sum256([]byte(r.Header.Get("x-apikey")))
		if h.opt.APIKey != "" && subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			return 0, nil, demo.Refuse(http.StatusUnauthorized, "the header x-apikey is missing or wrong")
		}
		return f(w, r)
	}
}

// create starts a run. With an Idempotency-Key, the same request again is answered with the
// run that is there.
func (h *handler) create(w http.ResponseWriter, r *http.Request) (int, any, error) {
	wait, err := waitOf(r)
	if err != nil {
		return 0, nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Text string `json:"text"`
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return 0, nil, demo.Refuse(http.StatusBadRequest, `the body is not {"text": "…"}: %v`, err)
	}
	if d.More() {
		return 0, nil, demo.Refuse(http.StatusBadRequest, `there is something after {"text": "…"} in the body`)
	}
	if strings.TrimSpace(in.Text) == "" {
		return 0, nil, demo.Refuse(http.StatusBadRequest, `text is missing: send {"text": "what is to be summarised"}`)
	}
	var opts []pawl.StartOption
	if key := r.Header.Get("Idempotency-Key"); key != "" {
		sum := sha256.Sum256([]byte(key)) // a key may have any length and form
		opts = append(opts, pawl.ID("post-"+hex.EncodeToString(sum[:16])))
	}
	run, err := h.machine.Start(r.Context(), h.engine, Summary{Text: in.Text, Source: "api"}, opts...)
	if errors.Is(err, pawl.ErrConflict) {
		return 0, nil, demo.Refuse(http.StatusConflict, "this Idempotency-Key was used for another text; take a new one")
	}
	if err != nil {
		return 0, nil, err
	}
	if err := h.await(r.Context(), run, wait); err != nil {
		return 0, nil, err
	}
	out, err := h.state(r.Context(), run.ID())
	w.Header().Set("Location", "/summaries/"+run.ID())
	switch {
	case wait > 0 && out.Error != "":
		return http.StatusBadGateway, out, err
	case run.Existed():
		return http.StatusOK, out, err
	}
	return http.StatusCreated, out, err
}

func waitOf(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return 0, nil
	}
	wait, err := time.ParseDuration(text)
	if err != nil || wait < 0 || wait > maxWait {
		return 0, demo.Refuse(http.StatusBadRequest, "wait is %q; it must be a duration up to %v, such as 10s", text, maxWait)
	}
	return wait, nil
}

// await returns when the run has ended, or when the time is over: then it goes on.
func (h *handler) await(ctx context.Context, run *pawl.Run[Summary], wait time.Duration) error {
	if wait == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer context.AfterFunc(h.opt.Closing, cancel)()
	_, _, err := h.engine.Wait(limited, "", run.ID())
	if limited.Err() != nil {
		return ctx.Err()
	}
	return err
}

// shown is a summary with what has become of its run.
type shown struct {
	ID    string     `json:"id"`
	State pawl.State `json:"state"`
	Error string     `json:"error,omitempty"` // why it is not completed and will not be by itself
	Summary
}

func (h *handler) show(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	out, err := h.state(r.Context(), r.PathValue("id"))
	return http.StatusOK, out, err
}

func (h *handler) state(ctx context.Context, id string) (shown, error) {
	now, err := h.machine.State(ctx, h.engine, pawl.Ref{ID: id})
	if errors.Is(err, pawl.ErrInput) { // a run of another workflow
		err = demo.Refuse(http.StatusNotFound, "%s is the id of no summary", id)
	}
	return shown{ID: id, State: now.Run.State, Error: now.Run.Reason, Summary: now.Value}, err
}

// list answers with the newest records of a space.
func (h *handler) list(space string) demo.Endpoint {
	return func(_ http.ResponseWriter, r *http.Request) (int, any, error) {
		limit := 10
		if text := r.URL.Query().Get("limit"); text != "" {
			var err error
			if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxListed {
				return 0, nil, demo.Refuse(http.StatusBadRequest, "limit is %q; it must be a number from 1 to %d", text, maxListed)
			}
		}
		records, err := h.engine.Records(r.Context(), space, "", "", limit)
		out := make([]json.RawMessage, len(records))
		for i := range records {
			out[i] = records[i].Data
		}
		return http.StatusOK, out, err
	}
}
