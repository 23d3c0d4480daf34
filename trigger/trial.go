package trigger

import (
	"context"
	"encoding/json"
	"net/http"
	"net/textproto"
	"net/url"

	"github.com/pawlrun/pawl"
)

// Sample is what a trigger is tried with: of a subscription an event, of a route a request.
type Sample struct {
	ID      string            `json:"id,omitempty"`   // of the event or the delivery
	Data    json.RawMessage   `json:"data,omitempty"` // of the event; of a request its body, as JSON, also where a form is taken
	Headers map[string]string `json:"headers,omitempty"`
	Query   map[string]string `json:"query,omitempty"`
}

// Trial is what a trigger makes of a sample. Nothing was kept or started.
type Trial struct {
	Matched bool            `json:"matched"`         // the event fits
	Input   json.RawMessage `json:"input,omitempty"` // of the run
}

// Try says what a subscription makes of an event: *[MatchError], *[PlaceError].
func (s *Subscription) Try(ctx context.Context, sample Sample) (Trial, error) {
	row := &eventRow{ID: sample.ID, Name: s.Event, Data: sample.Data}
	if row.ID == "" {
		row.ID = "sample"
	}
	if len(row.Data) == 0 {
		row.Data = json.RawMessage("null")
	}
	fits, err := row.fits(ctx, s.Where)
	if err != nil || !fits {
		return Trial{}, err
	}
	t := Trial{Matched: true}
	if t.Input, err = row.input(s.Input); err == nil {
		_, _, err = s.Control.bind(ctx, s.ID, row.subject())
	}
	return t.batched(s.Control, err)
}

// Try says what a route makes of a request, whatever its signature: *[ArrivalError], *[PlaceError].
func (r *Route) Try(ctx context.Context, sample Sample) (Trial, error) {
	a := Arrival{ID: sample.ID, Method: http.MethodPost, Header: http.Header{}, Query: url.Values{}, Body: sample.Data}
	if r.Methods != nil {
		a.Method = r.Methods[0]
	}
	for name, value := range sample.Headers {
		a.Header[textproto.CanonicalMIMEHeaderKey(name)] = []string{value}
	}
	for name, value := range sample.Query {
		a.Query.Set(name, value)
	}
	tried := *r
	tried.Form = false
	body, err := tried.read(&a)
	if err != nil {
		return Trial{}, err
	}
	id, err := r.delivery(&a, body)
	if err != nil {
		return Trial{}, err
	}
	t := Trial{Matched: true}
	if t.Input, err = r.input(&a, id, body); err == nil {
		err = r.bindTo(ctx, id, body)
	}
	return t.batched(r.Control, err)
}

func (r *Route) bindTo(ctx context.Context, id string, body any) error {
	data, err := json.Marshal(body)
	if err == nil {
		_, _, err = r.Control.bind(ctx, r.ID, &subject{id: id, name: r.Path, data: data})
	}
	return err
}

// batched is the trial with the input that a batch of one has.
func (t Trial) batched(c *Control, err error) (Trial, error) {
	if err == nil && c != nil && c.Batch != nil {
		t.Input, err = batchOf([]json.RawMessage{t.Input})
	}
	return t, err
}

// TestAttribute is the attribute of a run that was started to try a trigger.
const TestAttribute = "test"

// Test starts a run as a trigger would have, at once and marked with [TestAttribute].
func Test(ctx context.Context, e *pawl.Engine, tenant, trigger, workflow string, input json.RawMessage, opts ...pawl.StartOption) (pawl.RunInfo, error) {
	return e.StartRun(ctx, workflow, input, append(opts, pawl.Tenant(tenant), pawl.Attributes(map[string]any{TriggerAttribute: trigger, TestAttribute: "true"}))...)
}
