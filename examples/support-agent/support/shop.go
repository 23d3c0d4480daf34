package support

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Order is one of the shop's orders.
type Order struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	Cents int    `json:"cents"` // what was paid for it
	State string `json:"state"`
}

// orders play the shop's database. Nothing writes them; refunds are records of the store.
var orders = map[string]Order{
	"1001": {ID: "1001", Title: "The Ashley Book of Knots", Cents: 1290, State: "on its way, due tomorrow"},
	"1002": {ID: "1002", Title: "An Atlas of Harbours", Cents: 4800, State: "delivered on Monday"},
	"1003": {ID: "1003", Title: "Sails and How to Mend Them", Cents: 1850, State: "lost by the carrier"},
}

// Space is where refunds are kept: a record for each order that was paid back.
const Space = "shop.refunds"

// Refund is what was paid back for an order.
type Refund struct {
	Order  string    `json:"order"`
	Cents  int       `json:"cents"`
	Reason string    `json:"reason"`
	Key    string    `json:"key"` // the step that booked it
	At     time.Time `json:"at"`
}

// findArgs and refundArgs are what a model writes.
type findArgs struct {
	Order string `json:"order" jsonschema:"the order's number, such as 1001"`
}

type refundArgs struct {
	Order  string `json:"order" jsonschema:"the order's number, such as 1001"`
	Cents  int    `json:"cents" jsonschema:"how much to pay back, in US cents"`
	Reason string `json:"reason" jsonschema:"why, in a sentence that an approver understands"`
}

// lookUp returns an order. That there is none is an answer and not a mishap: it is fatal, so
// that the step is not tried again, and the model is told.
func lookUp(_ context.Context, in findArgs) (Order, error) {
	o, ok := orders[in.Order]
	if !ok {
		known := strings.Join(slices.Sorted(maps.Keys(orders)), ", ")
		return o, pawl.Fatal(fmt.Errorf("there is no order %q; ask the customer for the number. This small shop has %s", in.Order, known))
	}
	return o, nil
}

// book pays an order back, at most once: an order has one record, and the record names the
// step that wrote it. That step, called again after a crash, finds its own booking; any other
// finds that the money is gone. So no two small refunds pass by the approval of a large one.
func book(ctx context.Context, in refundArgs) (Refund, error) {
	o, err := lookUp(ctx, findArgs{Order: in.Order})
	if err != nil {
		return Refund{}, err
	}
	if in.Cents <= 0 || in.Cents > o.Cents {
		return Refund{}, pawl.Fatal(fmt.Errorf("order %s cost %s; %d cents can't be paid back for it", o.ID, Dollars(o.Cents), in.Cents))
	}
	r := Refund{Order: o.ID, Cents: in.Cents, Reason: in.Reason, Key: pawl.InfoOf(ctx).StepID, At: time.Now().UTC()}
	data, err := json.Marshal(r)
	if err != nil {
		return r, err
	}
	e := pawl.EngineOf(ctx)
	_, err = e.Write(ctx, pawl.Put{Space: Space, Key: o.ID, Data: data}) // If is 0: only where none is
	if !errors.Is(err, pawl.ErrConflict) {
		return r, err
	}
	there, err := refundOf(ctx, e, o.ID)
	if err != nil {
		return r, err
	}
	if there.Key != r.Key {
		return r, pawl.Fatal(fmt.Errorf("order %s has been paid back already: %s on %s", o.ID, Dollars(there.Cents), there.At.Format(time.DateOnly)))
	}
	return there, nil
}

func refundOf(ctx context.Context, e *pawl.Engine, order string) (r Refund, err error) {
	rec, err := e.Record(ctx, Space, order)
	if err == nil {
		err = json.Unmarshal(rec.Data, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read the refund of order %s: %w", order, err)
	}
	return r, nil
}

// Refunds returns what was paid back so far, by order; at most 1,000.
func Refunds(ctx context.Context, e *pawl.Engine) ([]Refund, error) {
	records, err := e.Records(ctx, Space, "", "", 1000)
	if err != nil {
		return nil, fmt.Errorf("read the refunds: %w", err)
	}
	out := make([]Refund, len(records))
	for i, rec := range records {
		if err := json.Unmarshal(rec.Data, &out[i]); err != nil {
			return nil, fmt.Errorf("read the refund of order %s: %w", rec.Key, err)
		}
	}
	return out, nil
}

// Dollars is an amount as people write it.
func Dollars(cents int) string { return fmt.Sprintf("$%d.%02d", cents/100, cents%100) }
