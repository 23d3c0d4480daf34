package pawl

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Delivery is a message from outside, with the addressee that it is for: one of a hook by its
// Token (and its Tenant, if code has chosen it), a hook of a run by its key (Run, Hook), an event
// for a run (Run, Event), or an event for all runs of a tenant that wait for it (Tenant, Publish).
type Delivery struct {
	Token   string
	Run     Ref
	Hook    string
	Event   string
	Tenant  string // with Token and Publish
	Publish string

	// Found is what [Engine.FindHook] has just returned of the Token, live or ended, for who has asked:
	// Deliver does not ask again. It may be out of date by the time of the transaction, which decides
	// whose the token is. nil, or a hook of another token: Deliver asks.
	Found *HookInfo

	// Data is what arrives, of a form that JSON has.
	Data any

	// Once, if not empty, names the delivery: a second one of the same name to the same
	// addressee is not delivered but answered with what the first was given as Answer. For
	// callers that try again when they got no answer. At most 256 bytes.
	Once string
	// Window is for how long the first is remembered. 0 means 24 h.
	Window time.Duration
	// Answer is remembered with the first, for repeats to be answered with.
	Answer json.RawMessage
}

// Receipt says what became of a delivery.
type Receipt struct {
	Run      RunInfo         // that got it; with Publish: none
	Count    int             // how many runs got it
	Repeated bool            // nothing was delivered: this is what became of the first with the same Once
	First    json.RawMessage // Repeated: the Answer of the first
}

// Deliver sends a message to its addressee. When it returns nil the message is durable; with
// ErrUnknownOutcome it may be: with Once it may be delivered again without harm.
//
// Whether a delivery with Once is the first is decided in the transaction that stores the
// message, so that of several at the same moment one arrives. A repeat is known for as long as
// Window says, also when the hook is closed or the run has ended since.
//
// A payload is held against the [Schema] of the hook that gets it: if the token changes hands meanwhile,
// against that of the new owner.
//
// ErrNotFound: no such run or hook. ErrEnded: it has ended, or was closed. ErrInput: the payload
// does not fit the hook's [Schema], or the delivery is not well formed. ErrTooLarge.
// ErrConflict: the token went from hand to hand; nothing was delivered.
func (e *Engine) Deliver(ctx context.Context, d Delivery) (Receipt, error) {
	for range 10 {
		m, what, err := d.message()
		if err != nil {
			return Receipt{}, fmt.Errorf("%w: %w", ErrInput, err)
		}
		if m.Data, err = encode(what, d.Data, e.opt.MaxPayload); err != nil {
			return Receipt{}, err
		}
		if d.Token != "" || d.Hook != "" {
			if info, err := e.address(ctx, &d, m); err != nil {
				return Receipt{Run: info}, err
			}
		}
		if d.Once != "" {
			m.Once = &Once{ID: d.Once, Until: now().Add(cmp.Or(d.Window, 24*time.Hour)), Answer: d.Answer}
		}
		if err := e.submit(ctx, &item{send: m}); err != nil { // m may still be written to
			return Receipt{}, err
		}
		if m.Moved { // what was looked at is not what would get it: its schema may be another
			d.Found = nil
			continue
		}
		r := Receipt{Run: m.Info, Count: m.Count, Repeated: m.Repeated, First: m.First}
		if m.Err != nil {
			return r, m.Err
		}
		if d.Publish == "" {
			r.Count = 1
		}
		if r.Repeated && d.Publish == "" {
			r.Run, err = e.whole(ctx, r.Run)
		}
		return r, err
	}
	return Receipt{}, fmt.Errorf("%w: the token of the hook goes from hand to hand; send it again", ErrConflict)
}

// finds reports whether Found is of the token that is meant.
func (d *Delivery) finds() bool {
	h := d.Found
	return d.Token != "" && h != nil && h.ID != 0 && slices.Contains(storedTokens(d.Token), h.stored) && TokenSpace(d.Tenant, h.stored) == TokenSpace(h.Run.Tenant, h.stored)
}

// message makes what is sent, without what only the store knows, and says what it is.
func (d *Delivery) message() (m *Send, what string, err error) {
	event, ways := "", 0
	for _, way := range []bool{d.Token != "", d.Hook != "", d.Event != "", d.Publish != ""} {
		if way {
			ways++
		}
	}
	m, what = &Send{}, "payload of a hook"
	switch {
	case ways != 1:
		return nil, "", errors.New("a delivery has one addressee: a Token, a Run and a Hook, a Run and an Event, or Publish")
	case d.Token != "":
		m.Tenant = d.Tenant
	case d.Event != "":
		event = d.Event
		m.Tenant, m.RunID, m.Name = d.Run.Tenant, d.Run.ID, MsgEvent+event
	case d.Publish != "":
		event = d.Publish
		m.Tenant, m.Publish, m.Name = d.Tenant, event, MsgEvent+event
	}
	if event != "" {
		what, err = "data of event "+event, checkName("name of an event", event)
	}
	switch {
	case err != nil:
	case (d.Hook != "" || d.Event != "") && d.Run.ID == "":
		err = errors.New("a delivery to a Hook or an Event of a run names the Run")
	case len(d.Once) > maxName || !isText(d.Once):
		err = fmt.Errorf("the name of a delivery (Once) is no text of at most %d bytes without NUL: %.40q", maxName, d.Once)
	case d.Window < 0:
		err = fmt.Errorf("the window of a delivery is negative: %v", d.Window)
	case d.Answer != nil && !json.Valid(d.Answer):
		err = errors.New("the answer of a delivery is not JSON")
	}
	return m, what, err
}

// address finds the hook that a delivery is for, and holds the payload against its schema.
func (e *Engine) address(ctx context.Context, d *Delivery, m *Send) (RunInfo, error) {
	h, err := e.addressee(ctx, d)
	m.Token, m.Hook = h.Token, cmp.Or(h.ID, noHook)
	if d.Hook != "" { // it is this run's: should the token be claimed by now, it is not for its new owner
		m.Tenant, m.RunID = d.Run.Tenant, h.Run.ID
	}
	if err != nil {
		if d.Once != "" && m.Token != "" && (errors.Is(err, ErrNotFound) || errors.Is(err, ErrEnded)) {
			return h.Run, nil // the store may know that it was delivered before
		}
		return h.Run, err
	}
	if len(h.Schema) > 0 {
		if e.opt.CheckSchema == nil {
			return h.Run, fmt.Errorf("%w: hook %s of run %s has a schema, and this engine has no Options.CheckSchema to hold the payload against it", ErrState, h.Key, h.Run.ID)
		}
		if err := e.opt.CheckSchema(h.Schema, m.Data); err != nil {
			return h.Run, fmt.Errorf("%w: payload of hook %s of run %s: %w", ErrInput, h.Key, h.Run.ID, err)
		}
	}
	return h.Run, nil
}

// noHook is the ID of no hook.
const noHook = -1

// remembered is what a store keeps of a delivery with a name.
type remembered struct {
	Key      int64           `json:"key,omitempty"`
	Run      string          `json:"run,omitempty"`
	Tenant   string          `json:"tenant,omitempty"`
	Workflow string          `json:"workflow,omitempty"`
	Count    int             `json:"count,omitempty"`
	Answer   json.RawMessage `json:"answer,omitempty"`
}

// deliveries is the space of the records of deliveries. No caller can write to it.
const deliveries = "$delivery"

// Place is where a store remembers a message with Once: the space and the key of a record.
func (m *Send) Place() (space, key string) {
	parts := []string{"event", m.Tenant, m.RunID, m.Name}
	switch {
	case m.Publish != "":
		parts = []string{"publish", m.Tenant, m.Publish}
	case m.Token != "":
		parts = []string{"hook", m.Token}
		if space := TokenSpace(m.Tenant, m.Token); space != "" {
			parts = append(parts, space)
		}
	}
	h := sha256.New()
	for _, p := range append(parts, m.Once.ID) {
		h.Write(binary.AppendUvarint(nil, uint64(len(p)))) // so that no two lists look the same
		h.Write([]byte(p))
	}
	return deliveries, hex.EncodeToString(h.Sum(nil))
}

// Remembers is what the record there holds when the message has been delivered, from its answers.
func (m *Send) Remembers() json.RawMessage {
	return mustJSON(remembered{m.Info.Key, m.Info.ID, m.Info.Tenant, m.Info.Workflow, m.Count, m.Once.Answer})
}

// Repeats fills in the answers from what the record there holds: the message was delivered before.
func (m *Send) Repeats(record json.RawMessage) error {
	var r remembered
	if err := json.Unmarshal(record, &r); err != nil {
		return fmt.Errorf("the record of a delivery: %w", err)
	}
	m.Info = RunInfo{Key: r.Key, ID: r.Run, Tenant: r.Tenant, Workflow: r.Workflow}
	m.Count, m.Repeated, m.First = r.Count, true, r.Answer
	return nil
}
