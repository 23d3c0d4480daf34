package shop

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/trigger"
)

const maxBody = 64 << 10 // bytes of an order

type handler struct {
	shop   *Shop
	engine *pawl.Engine
}

// Handler serves the shop:
//
//	POST /orders       {"item": …, "cents": …, "card": …}; Idempotency-Key
//	GET  /orders/{id}  what has become of it
//
// and the webhooks of its orders, by pawl's own handler, for a provider that signs with secret.
func (s *Shop) Handler(mux *http.ServeMux, e *pawl.Engine, secret string, log *slog.Logger) error {
	verifier, err := trigger.NewVerifier(trigger.SignatureOptions{Scheme: trigger.Stripe, Secrets: []string{secret}})
	if err != nil {
		return err
	}
	h := &handler{shop: s, engine: e}
	mux.HandleFunc("POST /orders", demo.Answer(log, h.create))
	mux.HandleFunc("GET /orders/{id}", demo.Answer(log, h.show))
	verify := trigger.VerifyFunc(map[string]*trigger.Verifier{secretName: verifier}) // by the id of Stripe's event, however often it comes
	mux.Handle(pawl.WebhookPath, api.New(e, api.Options{Logger: log, Verify: verify}))
	return nil
}

// create starts an order. With an Idempotency-Key, the same again is answered with the order that
// is there.
func (h *handler) create(w http.ResponseWriter, r *http.Request) (int, any, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return 0, nil, err
	}
	var o Order
	if err := json.Unmarshal(body, &o); err != nil || o.Item == "" || o.Cents <= 0 {
		return 0, nil, demo.Refuse(http.StatusBadRequest, `the body must be {"item": "what is bought", "cents": what it costs}`)
	}
	var opts []pawl.StartOption
	if key := r.Header.Get("Idempotency-Key"); key != "" {
		sum := sha256.Sum256([]byte(key)) // a key may have any length and form
		opts = append(opts, pawl.ID("order-"+hex.EncodeToString(sum[:16])))
	}
	run, err := h.shop.Start(r.Context(), h.engine, o, opts...)
	if err != nil {
		return 0, nil, err
	}
	out, err := h.state(r, run.ID())
	if run.Existed() {
		return http.StatusOK, out, err
	}
	return http.StatusCreated, out, err
}

func (h *handler) show(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	out, err := h.state(r, r.PathValue("id"))
	return http.StatusOK, out, err
}

type shown struct {
	ID    string     `json:"id"`
	State pawl.State `json:"state"` // of the run
	Error string     `json:"error,omitempty"`
	Outcome
}

func (h *handler) state(r *http.Request, id string) (shown, error) {
	info, err := h.engine.Get(r.Context(), pawl.Ref{ID: id})
	if err != nil {
		return shown{}, err
	}
	if info.Workflow != Name {
		return shown{}, demo.Refuse(http.StatusNotFound, "%s is the id of no order", id)
	}
	out := shown{ID: id, State: info.State, Error: info.Reason, Outcome: Outcome{Status: info.Attrs["status"]}}
	if info.State == pawl.Completed {
		out.Outcome, err = pawl.Attach[Outcome](h.engine, id).Result(r.Context())
	}
	return out, err
}
