package trigger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Subscription lets each event of a name start a run.
type Subscription struct {
	ID       string `json:"id"` // as of a Schedule
	Tenant   string `json:"tenant,omitempty"`
	Event    string `json:"event"`
	Where    string `json:"where,omitempty"` // a [Match]; "" fits all
	Workflow string `json:"workflow"`        // its input is the event's data
	// Input makes an object of the event, to be the input in place of its data. nil: the data is.
	Input   Places   `json:"input,omitempty"`
	Control *Control `json:"control,omitempty"` // nil: each event that fits starts a run at once
	// Owner is who alone changes it: see [Owned]. "": everybody may.
	Owner string `json:"owner,omitempty"`

	// Told of it, not given.
	Revision int64     `json:"revision,omitempty"` // another after each change
	Created  time.Time `json:"created,omitzero"`
	Updated  time.Time `json:"updated,omitzero"`
}

// A subscription lies in two places, which are written together: under its id, and under its
// event's name, where who publishes looks. The version of the first decides who writes.
const (
	subscriptionSpace = "trigger.subscriptions:"
	byEventSpace      = "trigger.subscriptions.by-event:"
)

// Subscribe writes a subscription, over one of the same id, and returns it as it then is; one that is
// there already and stays the same is not written. must is what revision the one that is there must have,
// 0 that there must be none: else *[RevisionError]. ErrInput.
func Subscribe(ctx context.Context, e *pawl.Engine, s Subscription, must ...IfRevision) (Subscription, error) {
	if err := errors.Join(ownable("subscription", s.ID, s.Owner), s.check()); err != nil {
		return Subscription{}, err
	}
	for {
		old, version, err := readSubscription(ctx, e, s.Tenant, s.ID)
		if err != nil {
			return Subscription{}, err
		}
		if err := holds(must, s.ID, old.Revision); err != nil {
			return Subscription{}, ofSubscription(err)
		}
		puts, err := s.puts(&old, version, time.Now().UTC())
		if err != nil || puts == nil {
			return old, err
		}
		if _, err = e.Write(ctx, puts...); !errors.Is(err, pawl.ErrConflict) { // else somebody was faster
			return s, err
		}
	}
}

// puts write s over what lies under its id, and tell it its revision; none: it is there already.
func (s *Subscription) puts(old *Subscription, version int64, now time.Time) ([]pawl.Put, error) {
	if version != 0 && old.same(s) {
		return nil, nil
	}
	s.Revision, s.Created, s.Updated = max(old.Revision+1, now.UnixMicro()), old.Created, now // no number comes again after a delete
	if version == 0 {
		s.Created = now
	}
	data, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	puts := []pawl.Put{
		{Space: subscriptionSpace + s.Tenant, Key: s.ID, If: version, Data: data},
		{Space: byEventSpace + s.Tenant, Key: s.key(), If: pawl.AnyVersion, Data: data},
	}
	if version != 0 && old.Event != s.Event {
		puts = append(puts, pawl.Put{Space: byEventSpace + s.Tenant, Key: old.key(), If: pawl.AnyVersion})
	}
	switch {
	case isEnd(s.Event):
		puts = append(puts, s.asks())
	case isEnd(old.Event):
		puts = append(puts, s.asksNoMore())
	}
	return puts, nil
}

// removal takes a subscription of a version away.
func (s *Subscription) removal(version int64) []pawl.Put {
	puts := []pawl.Put{{Space: subscriptionSpace + s.Tenant, Key: s.ID, If: version}, {Space: byEventSpace + s.Tenant, Key: s.key(), If: pawl.AnyVersion}}
	if isEnd(s.Event) {
		puts = append(puts, s.asksNoMore())
	}
	return puts
}

// same compares what was given.
func (s *Subscription) same(o *Subscription) bool {
	given := func(s Subscription) string {
		s.Revision, s.Created, s.Updated = 0, time.Time{}, time.Time{}
		data, _ := json.Marshal(s) // it was, or will be, stored so
		return string(data)
	}
	return given(*s) == given(*o)
}

func (s *Subscription) check() error {
	bad := func(err error) error { return fmt.Errorf("%w: subscription %.128q: %w", pawl.ErrInput, s.ID, err) }
	if err := CheckID(s.ID); err != nil {
		return bad(fmt.Errorf("its id %w", err))
	}
	if err := checkTenant(s.Tenant); err != nil {
		return bad(err)
	}
	if !nameable(s.Event) || s.Workflow == "" {
		return bad(errors.New("name a workflow and an event, whose name is text of 1 to 256 bytes that does not begin with $"))
	}
	if _, err := matchOf(s.Where); err != nil {
		return bad(err)
	}
	if err := errors.Join(s.Input.check(), s.Control.check()); err != nil {
		return bad(err)
	}
	return nil
}

func (s *Subscription) key() string { return hashOf(s.Event) + "." + s.ID }

func ofSubscription(err error) error {
	if wrong, ok := errors.AsType[*RevisionError](err); ok {
		wrong.of = "subscription"
	}
	return err
}

// readSubscription returns what lies under an id, with its version; 0: nothing.
func readSubscription(ctx context.Context, e *pawl.Engine, tenant, id string) (s Subscription, version int64, err error) {
	if CheckID(id) != nil { // there can't be one
		return s, 0, nil
	}
	r, err := e.Record(ctx, subscriptionSpace+tenant, id)
	if errors.Is(err, pawl.ErrNotFound) {
		return s, 0, nil
	}
	if err == nil {
		err = json.Unmarshal(r.Data, &s)
	}
	if err != nil {
		return s, 0, fmt.Errorf("subscription %s: %w", id, err)
	}
	return s, r.Version, nil
}

func noSubscription(id string) error {
	return fmt.Errorf("%w: subscription %.128q", pawl.ErrNotFound, id)
}

// FindSubscription returns a subscription. ErrNotFound.
func FindSubscription(ctx context.Context, e *pawl.Engine, tenant, id string) (Subscription, error) {
	s, version, err := readSubscription(ctx, e, tenant, id)
	if err == nil && version == 0 {
		err = noSubscription(id)
	}
	return s, err
}

// Subscriptions returns a page of a tenant's subscriptions whose id begins with prefix and comes
// after after, by id. limit 0 means 100; at most 1,000.
func Subscriptions(ctx context.Context, e *pawl.Engine, tenant, prefix, after string, limit int) ([]Subscription, error) {
	return readSubscriptions(ctx, e, subscriptionSpace+tenant, prefix, after, limit)
}

func readSubscriptions(ctx context.Context, e *pawl.Engine, space, prefix, after string, limit int) (out []Subscription, err error) {
	page, err := e.Records(ctx, space, prefix, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list subscriptions: %w", err)
	}
	for _, r := range page {
		var s Subscription
		if err := json.Unmarshal(r.Data, &s); err != nil {
			return nil, fmt.Errorf("subscription %s: %w", r.Key, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// subscribed are all subscriptions to the events of a name.
func subscribed(ctx context.Context, e *pawl.Engine, tenant, event string) (out []Subscription, err error) {
	for after := ""; ; {
		page, err := readSubscriptions(ctx, e, byEventSpace+tenant, hashOf(event)+".", after, 1000)
		if err != nil || len(page) == 0 {
			return out, err
		}
		out, after = append(out, page...), page[len(page)-1].key()
	}
}

// Unsubscribe removes a subscription. must is what revision it must have: else *[RevisionError].
// Runs that it has started go on, and those that an event was matched for are still started. ErrNotFound.
func Unsubscribe(ctx context.Context, e *pawl.Engine, tenant, id string, must ...IfRevision) error {
	for {
		s, version, err := readSubscription(ctx, e, tenant, id)
		if err != nil {
			return err
		}
		if version == 0 {
			return noSubscription(id)
		}
		if err := errors.Join(theirs("subscription", id, s.Owner), holds(must, id, s.Revision)); err != nil {
			return ofSubscription(err)
		}
		_, err = e.Write(ctx, s.removal(version)...)
		if !errors.Is(err, pawl.ErrConflict) {
			return err
		}
	}
}

// Matched is an event that a subscription has taken, or on which its expression failed.
type Matched struct {
	Event string    `json:"event"` // its id
	At    time.Time `json:"at"`
	Run   string    `json:"run,omitempty"`  // the id of the run that it starts
	Done  bool      `json:"done,omitempty"` // the run was started, or refused
	Error string    `json:"error,omitempty"`
}

// mostSearched is how many events one call of Matches looks at.
const mostSearched = 500

// Matches returns a page of the events that a subscription has taken since a time, oldest first, of those of
// its event's name that are still kept. cursor is where the page before ended, next where this one did;
// "": this is the last. A page may be short, or empty, before the last. ErrNotFound.
func Matches(ctx context.Context, e *pawl.Engine, tenant, id string, since time.Time, cursor string, limit int) (out []Matched, next string, err error) {
	s, err := FindSubscription(ctx, e, tenant, id)
	if err != nil {
		return nil, "", err
	}
	after := max(cursor, eventKey(s.Event, since))
	for searched := 0; ; {
		const few = 20 // an event may be large
		page, err := e.Records(ctx, eventSpace+tenant, hashOf(s.Event), after, few)
		if err != nil {
			return nil, "", err
		}
		for _, r := range page {
			if len(out) == limit || searched == mostSearched {
				return out, after, nil
			}
			var row eventRow
			if err := json.Unmarshal(r.Data, &row); err != nil {
				return nil, "", fmt.Errorf("event %s: %w", r.Key, err)
			}
			after = r.Key
			searched++
			if m, ok := row.matched(id); ok {
				out = append(out, m)
			}
		}
		if len(page) < few {
			return out, "", nil
		}
	}
}

// matched tells what an event was to a subscription.
func (r *eventRow) matched(subscription string) (m Matched, ok bool) {
	m = Matched{Event: r.ID, At: r.At}
	for _, s := range r.Starts {
		if s.Subscription == subscription {
			m.Run, m.Done, ok = s.Run, s.Done, true
		}
	}
	for _, text := range r.Errors {
		if why, of := strings.CutPrefix(text, "subscription "+subscription+": "); of {
			m.Error, ok = why, true
		}
	}
	return m, ok
}
