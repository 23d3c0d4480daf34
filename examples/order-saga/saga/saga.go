// Package saga is an order as a state machine: stock is reserved, a card is charged, the
// customer confirms, the parcel leaves. When one of these fails for good, or nobody confirms
// in time, states that undo what was done take their turn, the last deed first.
package saga

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/machine"
)

// Order is what the machine works on.
type Order struct {
	Item  string `json:"item"`
	Cents int    `json:"cents"`

	Reservation string `json:"reservation,omitempty"` // of the stock
	Charge      string `json:"charge,omitempty"`      // asked of the card, not paid before Paid
	Paid        bool   `json:"paid,omitempty"`        // the payment provider said so
	Parcel      string `json:"parcel,omitempty"`      // on its way
	Why         string `json:"why,omitempty"`         // it came to nothing
}

// Validate is asked before an order is accepted.
func (o Order) Validate() error {
	if o.Item == "" {
		return errors.New("item is empty")
	}
	if o.Cents <= 0 {
		return fmt.Errorf("cents is %d; it must be more than 0", o.Cents)
	}
	return nil
}

// World is what an order does to the world. Every deed has a key, and done twice with the
// same key it is done once.
type World interface {
	Reserve(ctx context.Context, key, item string) (reservation string, err error)
	Release(ctx context.Context, key, reservation string) error
	Charge(ctx context.Context, key string, cents int) (charge string, err error)
	Refund(ctx context.Context, key, charge string) error
	Ship(ctx context.Context, key, item string) (parcel string, err error)
}

// Patience is how long an order waits for its payment, if New is not told otherwise.
const Patience = 3 * 24 * time.Hour

// New makes the machine "order-saga".
func New(w World, patience time.Duration) (*machine.Machine[Order], error) {
	s := shop{world: w, patience: patience}
	if patience <= 0 {
		s.patience = Patience
	}
	// What must be undone is tried for days: nobody wants a customer charged for nothing.
	stubborn := []pawl.StepOption{pawl.MaxAttempts(200), pawl.Backoff(time.Second, time.Hour)}
	return machine.Define("order-saga", "reserve", []machine.State[Order]{
		{Name: "reserve", Do: s.reserve, Failed: instead("give-up"), To: []string{"charge", "give-up"}},
		{Name: "charge", Do: s.charge, Failed: instead("release"), To: []string{"check-payment", "refund", "release"}},
		{Name: "check-payment", Do: s.check, To: []string{"ship", "refund"}},
		{Name: "ship", Do: s.ship, Failed: instead("refund"), To: []string{machine.End, "refund"}},

		{Name: "refund", Do: s.refund, Step: stubborn, To: []string{"release"}},
		{Name: "release", Do: s.release, Step: stubborn, To: []string{"give-up"}},
		{Name: "give-up", Do: giveUp, To: []string{machine.End}},
	}, nil)
}

type shop struct {
	world    World
	patience time.Duration
}

func key(ctx context.Context) string { return pawl.InfoOf(ctx).StepID }

func (s shop) reserve(ctx context.Context, o *Order) (next machine.Next, err error) {
	o.Reservation, err = s.world.Reserve(ctx, key(ctx), o.Item)
	return machine.Goto("charge"), err
}

// charge asks the card for the money. The provider tells later, by Paid, whether it came.
func (s shop) charge(ctx context.Context, o *Order) (next machine.Next, err error) {
	o.Charge, err = s.world.Charge(ctx, key(ctx), o.Cents)
	o.Why = "nobody paid in time" // unless somebody does
	return machine.Wait("check-payment").Timeout(s.patience, "refund"), err
}

func (s shop) check(_ context.Context, o *Order) (machine.Next, error) {
	if !o.Paid {
		o.Why = "the payment was refused"
		return machine.Goto("refund"), nil
	}
	o.Why = ""
	return machine.Goto("ship"), nil
}

func (s shop) ship(ctx context.Context, o *Order) (next machine.Next, err error) {
	o.Parcel, err = s.world.Ship(ctx, key(ctx), o.Item)
	return machine.Done(), err
}

func (s shop) refund(ctx context.Context, o *Order) (machine.Next, error) {
	return machine.Goto("release"), s.world.Refund(ctx, key(ctx), o.Charge)
}

func (s shop) release(ctx context.Context, o *Order) (machine.Next, error) {
	return machine.Goto("give-up"), s.world.Release(ctx, key(ctx), o.Reservation)
}

// giveUp lets the run end as failed: an order that came to nothing did not succeed.
func giveUp(_ context.Context, o *Order) (machine.Next, error) {
	return machine.Fail(errors.New(o.Why)), nil
}

// instead goes on with the state that undoes what was done, after a failure for good.
func instead(state string) func(*Order, error) machine.Next {
	return func(o *Order, err error) machine.Next {
		o.Why = err.Error()
		return machine.Goto(state)
	}
}

// Paid tells an order what became of its payment. It may come before the order waits for it.
func Paid(ctx context.Context, e *pawl.Engine, m *machine.Machine[Order], orderID string, paid bool) error {
	return m.Send(ctx, e, pawl.Ref{ID: orderID}, "charge", map[string]bool{"paid": paid})
}
