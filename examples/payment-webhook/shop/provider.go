package shop

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/demo"
)

// What a charge can come to.
const (
	Succeeded = "succeeded"
	Failed    = "failed"
	canceled  = "canceled"
)

// Cards are those that the played provider knows, and what they do. "" is good.
var Cards = map[string]string{
	"":         "pays after a second",
	"good":     "pays after a second",
	"declined": "is declined after a second",
	"late":     "pays, but the notice comes half a minute later",
	"none":     "never pays",
}

// Provider plays a payment provider, after the pattern of Stripe: it tells of each payment by a
// webhook, three times over, and tries again when nobody answers. It is made of runs itself, so
// that it survives a kill as a real one would.
type Provider struct {
	*pawl.Workflow[charge, string]
	Secret string // that it signs with
}

type charge struct {
	Amount  int    `json:"amount"`
	Card    string `json:"card"`
	Webhook string `json:"webhook"`
}

// NewProvider makes a Provider.
func NewProvider(secret string) *Provider {
	p := &Provider{Secret: secret}
	p.Workflow = pawl.Define("played-provider", p.run)
	return p
}

// settled has a record for each charge that has come to something. The first who writes it decides.
const settled = "played.charges"

func (p *Provider) run(c *pawl.Context, in charge) (string, error) {
	if in.Card == "none" {
		return "", nil
	}
	if err := c.Sleep(time.Second); err != nil {
		return "", err
	}
	want := Succeeded
	if in.Card == "declined" {
		want = Failed
	}
	state, err := pawl.Step(c, "settle", func(ctx context.Context) (string, error) {
		return settle(ctx, pawl.EngineOf(ctx), pawl.InfoOf(ctx).RunID, want)
	})
	if err != nil || state == canceled {
		return state, err
	}
	if in.Card == "late" {
		if err := c.Sleep(30 * time.Second); err != nil {
			return "", err
		}
	}
	for range 3 { // nobody may rely on its being once
		err := pawl.Do(c, "deliver", func(ctx context.Context) error { return p.deliver(ctx, in, state) },
			pawl.MaxAttempts(30), pawl.Backoff(time.Second, 10*time.Second))
		if err != nil {
			return "", err
		}
		if err := c.Sleep(500 * time.Millisecond); err != nil {
			return "", err
		}
	}
	return state, nil
}

// settle writes what a charge has come to, unless it has come to something before, and returns that.
func settle(ctx context.Context, e *pawl.Engine, id, state string) (string, error) {
	data, err := json.Marshal(state)
	if err != nil {
		return "", err
	}
	_, err = e.Write(ctx, pawl.Put{Space: settled, Key: id, Data: data})
	if !errors.Is(err, pawl.ErrConflict) {
		return state, err
	}
	r, err := e.Record(ctx, settled, id)
	if err != nil {
		return "", err
	}
	return state, json.Unmarshal(r.Data, &state)
}

// deliver sends a notice, signed anew: a signature is good for five minutes only.
func (p *Provider) deliver(ctx context.Context, in charge, state string) error {
	id, kind := pawl.InfoOf(ctx).RunID, "payment_intent.succeeded"
	if state == Failed {
		kind = "payment_intent.payment_failed"
	}
	body, err := json.Marshal(map[string]any{
		"id": "evt_" + id, "type": kind, "data": map[string]any{"object": map[string]any{"id": id, "amount": in.Amount}},
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, in.Webhook, bytes.NewReader(body))
	if err != nil {
		return pawl.Fatal(err)
	}
	now := time.Now().Unix()
	mac := hmac.New(sha256.New, []byte(p.Secret))
	fmt.Fprintf(mac, "%d.%s", now, body)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Stripe-Signature", fmt.Sprintf("t=%d,v1=%s", now, hex.EncodeToString(mac.Sum(nil))))
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode < 300, res.StatusCode == http.StatusGone: // who has closed the webhook wants no more
		return nil
	default:
		said, _ := io.ReadAll(io.LimitReader(res.Body, 200)) // for people
		return fmt.Errorf("the webhook answers %s %s", res.Status, said)
	}
}

// Handler serves the provider, under /provider.
func (p *Provider) Handler(mux *http.ServeMux, e *pawl.Engine, log *slog.Logger) {
	mux.HandleFunc("POST /provider/charges", demo.Answer(log, func(w http.ResponseWriter, r *http.Request) (int, any, error) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			return 0, nil, err
		}
		var in charge
		if err := json.Unmarshal(body, &in); err != nil || Cards[in.Card] == "" {
			return 0, nil, demo.Refuse(http.StatusBadRequest, "the body is no charge with a card that is known: %v", err)
		}
		sum := sha256.Sum256([]byte(r.Header.Get("Idempotency-Key")))
		run, err := p.Start(r.Context(), e, in, pawl.ID("ch_"+hex.EncodeToString(sum[:12])))
		if err != nil {
			return 0, nil, err
		}
		return http.StatusOK, map[string]string{"id": run.ID()}, nil
	}))
	mux.HandleFunc("POST /provider/charges/{id}/cancel", demo.Answer(log, func(_ http.ResponseWriter, r *http.Request) (int, any, error) {
		state, err := settle(r.Context(), e, r.PathValue("id"), canceled)
		return http.StatusOK, map[string]string{"state": state}, err
	}))
}
