package demo

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/pawlrun/pawl"
)

// maxWebhook is how many bytes the body of a webhook's request may have.
const maxWebhook = 1 << 20

// Webhooks takes requests for the webhooks that runs have made, at [pawl.WebhookPath] and a token.
type Webhooks struct {
	Engine *pawl.Engine
	Log    *slog.Logger
	// Verify tells a good request from others, which get 401 and its error, and names the delivery,
	// so that it counts once however often it comes; "" names none. nil: all are good.
	Verify func(h http.Header, body []byte) (once string, err error)
}

// Register adds the route to a server, for all methods.
func (h *Webhooks) Register(mux *http.ServeMux) {
	mux.HandleFunc(pawl.WebhookPath+"{token}", func(w http.ResponseWriter, r *http.Request) {
		res, err := h.take(w, r)
		if err != nil {
			Answer(h.Log, func(http.ResponseWriter, *http.Request) (int, any, error) { return 0, nil, err })(w, r)
			return
		}
		for name, values := range res.Header {
			w.Header()[http.CanonicalHeaderKey(name)] = values
		}
		w.WriteHeader(res.Status)
		w.Write(res.Body) // whoever is gone has a run that knows of it all the same
	})
}

// take delivers a request, and finds its answer as the webhook says.
func (h *Webhooks) take(w http.ResponseWriter, r *http.Request) (res pawl.Response, err error) {
	hook, err := h.Engine.FindHook(r.Context(), r.PathValue("token"))
	ended := errors.Is(err, pawl.ErrEnded) // a repeat of what came before is answered all the same
	if err != nil && !ended {
		return res, err
	}
	if !hook.Public {
		return res, Refuse(http.StatusNotFound, "there is no such webhook")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxWebhook))
	if err != nil {
		return res, err
	}
	once := ""
	if h.Verify != nil {
		if once, err = h.Verify(r.Header, body); err != nil {
			return res, Refuse(http.StatusUnauthorized, "%v", err)
		}
	}
	req := pawl.Request{ID: rand.Text(), Method: r.Method, URL: "http://" + r.Host + r.URL.RequestURI(), Header: r.Header, Body: body}
	receipt, err := h.Engine.Deliver(r.Context(), pawl.Delivery{Token: r.PathValue("token"), Data: req, Once: once})
	if errors.Is(err, pawl.ErrEnded) || ended && errors.Is(err, pawl.ErrNotFound) {
		return res, Refuse(http.StatusGone, "this webhook is closed")
	}
	if err != nil {
		return res, err
	}
	var how pawl.Answer
	if err := json.Unmarshal(hook.Meta, &how); err != nil {
		return res, err
	}
	switch {
	case how.Manual && !receipt.Repeated:
		return h.await(r.Context(), receipt.Run.ID, req.ID, how.Wait)
	case how.Response != nil:
		res = *how.Response
	default:
		res.Status = http.StatusAccepted
	}
	if res.Status == 0 {
		res.Status = http.StatusOK
	}
	return res, nil
}

// await waits for the answer of a step. The caller gets 504 if none comes in time.
func (h *Webhooks) await(ctx context.Context, run, request string, wait time.Duration) (res pawl.Response, err error) {
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for chunk, err := range h.Engine.ReadStream(limited, "", run, pawl.ResponseStream+request, 0) {
		if err != nil {
			break
		}
		return res, json.Unmarshal(chunk.Data, &res)
	}
	if ctx.Err() != nil {
		return res, ctx.Err()
	}
	return res, Refuse(http.StatusGatewayTimeout, "the request was taken, and not answered in time")
}
