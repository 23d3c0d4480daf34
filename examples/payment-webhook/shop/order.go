// Package shop sells things: an order asks a payment provider for its money, waits until the
// provider tells by webhook that it has come, and is fulfilled, once, or cancelled.
//
// It takes no webhook that the provider has not signed, and never fulfils what was not paid.
package shop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/pawlrun/pawl"
)

// Name is that of the workflow.
const Name = "payment-order"

// secretName is what the workflow calls the secret that the provider signs with. Only the server
// has it.
const secretName = "payments"

// Order is what somebody buys.
type Order struct {
	Item  string `json:"item"`
	Cents int    `json:"cents"`
	Card  string `json:"card,omitempty"` // what pays; see Cards
}

// Outcome is what has become of an order.
type Outcome struct {
	Status string `json:"status"`           // Fulfilled or Cancelled
	Parcel string `json:"parcel,omitempty"` // its number
	Why    string `json:"why,omitempty"`    // it is cancelled
}

// What an order can be.
const (
	Waiting   = "waiting for its payment"
	Fulfilled = "fulfilled"
	Cancelled = "cancelled"
)

// Shop is the workflow of orders, and where its provider is. It is safe for concurrent use when
// it works.
type Shop struct {
	*pawl.Workflow[Order, Outcome]
	Provider string        // the address of the provider; to be set before an engine works
	Patience time.Duration // how long a payment is waited for
}

// New makes a Shop.
func New(patience time.Duration) *Shop {
	s := &Shop{Patience: patience}
	s.Workflow = pawl.Define(Name, s.run)
	return s
}

// notice is what the provider tells.
type notice struct {
	ID   string
	Type string
	Data struct {
		Object struct {
			ID     string
			Amount int
		}
	}
}

func (s *Shop) run(c *pawl.Context, o Order) (out Outcome, err error) {
	// Registered when it returns: the provider can't be faster than the order.
	hook, err := pawl.NewWebhook(c, pawl.Signed("stripe", secretName))
	if err != nil {
		return out, err
	}
	until := c.Now().Add(s.Patience)
	charge, err := pawl.Step(c, "charge", func(ctx context.Context) (string, error) {
		var made struct{ ID string }
		err := s.ask(ctx, "/charges", map[string]any{"amount": o.Cents, "card": o.Card, "webhook": hook.URL()}, &made)
		return made.ID, err
	})
	if err != nil {
		return out, err
	}
	if err := c.SetAttributes(map[string]any{"status": Waiting, "charge": charge}); err != nil {
		return out, err
	}
	state, err := s.await(c, hook, o, charge, until)
	if errors.Is(err, pawl.ErrTimeout) {
		// Perhaps it was paid, and the notice is late: the provider knows, and decides.
		state, err = pawl.Step(c, "give up", func(ctx context.Context) (string, error) {
			var now struct{ State string }
			err := s.ask(ctx, "/charges/"+charge+"/cancel", map[string]any{}, &now)
			return now.State, err
		})
	}
	if err != nil {
		return out, err
	}
	switch state {
	case Succeeded:
		out.Status = Fulfilled
		if out.Parcel, err = pawl.Step(c, "fulfil", func(ctx context.Context) (string, error) { return fulfil(ctx, o) }); err != nil {
			return out, err
		}
	case Failed:
		out = Outcome{Status: Cancelled, Why: "the payment was declined"}
	default:
		out = Outcome{Status: Cancelled, Why: fmt.Sprintf("there was no payment within %v", s.Patience)}
	}
	return out, c.SetAttributes(map[string]any{"status": out.Status})
}

// await waits for a notice about the charge. Repeats and forgeries do not get here: the server
// that takes requests holds them off. What is about something else is passed over.
func (s *Shop) await(c *pawl.Context, hook *pawl.Webhook, o Order, charge string, until time.Time) (string, error) {
	for {
		req, err := hook.Wait(c, pawl.Timeout(until.Sub(c.Now())))
		if err != nil {
			return "", err
		}
		var n notice
		switch err := req.JSON(&n); {
		case err != nil || n.Data.Object.ID != charge:
		case n.Type == "payment_intent.succeeded" && n.Data.Object.Amount == o.Cents:
			return Succeeded, nil
		case n.Type == "payment_intent.payment_failed":
			return Failed, nil
		}
	}
}

// parcels has a record for each order that was fulfilled.
const parcels = "payment.parcels"

// fulfil packs a parcel for the order of its run: one, whatever dies meanwhile.
func fulfil(ctx context.Context, o Order) (string, error) {
	order := pawl.InfoOf(ctx).RunID
	data, err := json.Marshal(o)
	if err != nil {
		return "", err
	}
	_, err = pawl.EngineOf(ctx).Write(ctx, pawl.Put{Space: parcels, Key: order, Data: data}) // If is 0: only where none is
	if errors.Is(err, pawl.ErrConflict) {
		err = nil // an attempt that was cut off has packed it
	}
	return "parcel-" + order, err
}

var client = &http.Client{Timeout: 20 * time.Second}

// ask asks the provider. A second attempt has the same key as the first, and so the same answer.
func (s *Shop) ask(ctx context.Context, path string, what, into any) error {
	body, err := json.Marshal(what)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Provider+path, bytes.NewReader(body))
	if err != nil {
		return pawl.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", pawl.InfoOf(ctx).StepID)
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		err := fmt.Errorf("the provider answers %s %.200s", res.Status, data)
		if res.StatusCode < 500 && res.StatusCode != http.StatusTooManyRequests {
			return pawl.Fatal(err)
		}
		return err
	}
	return json.Unmarshal(data, into)
}
