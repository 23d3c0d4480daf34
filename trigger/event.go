package trigger

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pawlrun/pawl"
)

// Event is something that has happened, for [Publish].
type Event struct {
	// ID makes it one event however often it is published. "" makes a new one.
	ID     string
	Name   string
	Tenant string
	Data   any // of a form that JSON has
	// Keep is how long it is remembered, for its ID and for waits that look back. 0 and less than
	// that mean 24 h.
	Keep time.Duration
}

// Published says what became of an event.
type Published struct {
	ID       string       `json:"id"`
	Repeated bool         `json:"repeated,omitempty"` // it was published before: this is what became of it then
	Runs     []string     `json:"runs,omitempty"`     // ids of the runs that subscriptions start
	Matches  []EventStart `json:"matches,omitempty"`  // the subscriptions that it fits, in the order of Runs
	Waiters  int          `json:"waiters"`            // how many runs that waited got it, as far as is known yet
	Pending  bool         `json:"pending,omitempty"`  // a Runner does what is left
	// Errors are of expressions that failed on it, of starts that were refused, and of those that are
	// pending because for a minute no Runner has known their workflow.
	Errors []string `json:"errors,omitempty"`
}

const (
	eventSpace   = "trigger.events:"
	eventIDSpace = "trigger.event.ids:"
	takenSpace   = "trigger.taken:"

	leastKept = 24 * time.Hour
)

// eventRow is an event as it is kept. Once it is written it is published: all else follows from
// it, and may be done again by anybody.
type eventRow struct {
	ID     string          `json:"id"`
	Name   string          `json:"name"`
	Tenant string          `json:"tenant,omitempty"`
	Data   json.RawMessage `json:"data"`
	At     time.Time       `json:"at"`
	Until  time.Time       `json:"until"`
	Starts []EventStart    `json:"starts,omitempty"`
	Told   bool            `json:"told,omitempty"` // those that wait have it
	Count  int             `json:"count,omitempty"`
	Errors []string        `json:"errors,omitempty"`
	Due    time.Time       `json:"due,omitzero"`

	From  string            `json:"from,omitempty"`  // of a run's end: its workflow
	Depth int               `json:"depth,omitempty"` // of a run's end: that of the runs which it starts
	How   map[string]manner `json:"how,omitempty"`   // by subscription: how it starts its run, where that is not with the data and at once

	// Room is nothing. What is written first is not smaller than what is written later, so that an event that is published comes to its end.
	Room string `json:"room,omitempty"`

	seen *subject // its data, decoded; nil: not yet
}

// mostErrors is how many bytes of errors an event keeps.
const mostErrors = 8 << 10

// fail notes an error, while there is room for it.
func (r *eventRow) fail(format string, args ...any) {
	const more = "there are more errors, which are not kept"
	text := strings.ToValidUTF8(fmt.Sprintf("%.1000s", fmt.Sprintf(format, args...)), "\ufffd")
	size := len(text)
	for _, e := range r.Errors {
		size += len(e)
	}
	switch n := len(r.Errors); {
	case slices.Contains(r.Errors, text): // what is left of the event is done once more
	case size <= mostErrors:
		r.Errors = append(r.Errors, text)
	case n > 0 && r.Errors[n-1] != more:
		r.Errors = append(r.Errors, more)
	}
}

// subject is the event as expressions see it.
func (r *eventRow) subject() *subject {
	if r.seen == nil {
		r.seen = &subject{id: r.ID, name: r.Name, data: r.Data}
	}
	return r.seen
}

// manner is how an event starts a run.
type manner struct {
	Input   Places   `json:"input,omitempty"`
	Control *Control `json:"control,omitempty"`
}

// EventStart is a run that an event starts.
type EventStart struct {
	Subscription string `json:"subscription"` // its id
	Workflow     string `json:"workflow"`
	Run          string `json:"run"`
	Done         bool   `json:"done,omitempty"`    // it was started, or refused
	Unknown      bool   `json:"unknown,omitempty"` // for a minute no Runner has known the workflow
}

func hashOf(parts ...string) string {
	sum := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(sum, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(sum.Sum(nil)[:16])
}

// key sorts the events of a name by their time.
func (r *eventRow) key() string { return eventKey(r.Name, r.At) + "." + hashOf(r.ID) }

func eventKey(name string, at time.Time) string { return hashOf(name) + dueTime(at) }

// Publish makes an event known: it starts a run for each [Subscription] that it fits, reaches every
// run that waits for it now ([pawl.WaitFor], [WaitFor]), and is kept for those that look back. When
// it returns nil, the event is durable and all that follows from it happens, each exactly
// once: what Publish does not get to, because its process dies or does not know a workflow, a
// [Runner] does. The same ID again does nothing and tells what became of the first.
// ErrInput, ErrTooLarge.
func Publish(ctx context.Context, e *pawl.Engine, ev Event) (Published, error) {
	if !nameable(ev.Name) || len(ev.ID) > 1024 || checkTenant(ev.Tenant) != nil {
		return Published{}, fmt.Errorf("%w: event %.40q: its name must be text of 1 to 256 bytes that does not begin with $, its id at most 1024, its tenant at most %d", pawl.ErrInput, ev.Name, maxTenant)
	}
	data, err := json.Marshal(ev.Data)
	if err != nil {
		return Published{}, fmt.Errorf("%w: data of event %s: %w", pawl.ErrInput, ev.Name, err)
	}
	if err := reserved(ev.Name); err != nil {
		return Published{}, err
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	row := &eventRow{ID: cmp.Or(ev.ID, rand.Text()), Name: ev.Name, Tenant: ev.Tenant, Data: data, At: now, Until: now.Add(max(ev.Keep, leastKept))}
	if first, err := firstEvent(ctx, e, ev.Tenant, row.ID); err != nil || first != nil {
		return first.published(true), err
	}
	if err := row.match(ctx, e); err != nil {
		return Published{}, err
	}
	return row.publish(ctx, e)
}

// publish writes an event that was matched, and does what follows.
func (r *eventRow) publish(ctx context.Context, e *pawl.Engine) (Published, error) {
	r.Due = r.At.Add(claimFor) // whoever publishes comes first
	r.Told = isEnd(r.Name)     // it is for subscriptions
	if len(r.Data) > 16<<10 {  // no engine takes less
		r.Room = strings.Repeat(" ", mostErrors+1000+64*len(r.Starts))
	}
	version, err := r.write(ctx, e, 0, time.Time{})
	if errors.Is(err, pawl.ErrConflict) {
		first, err := firstEvent(ctx, e, r.Tenant, r.ID)
		return first.published(true), err
	}
	if err != nil {
		return Published{}, fmt.Errorf("publish %s: %w", r.Name, err)
	}
	r.Room = ""
	_ = r.dispatch(ctx, e, version) // it is published; a Runner does what is left
	return r.published(false), nil
}

// nameable reports whether the core takes a name for an event's.
func nameable(name string) bool {
	return name != "" && len(name) <= 256 && name[0] != '$' && utf8.ValidString(name) && !strings.ContainsRune(name, 0)
}

// firstEvent finds what was published under an id; nil: nothing.
func firstEvent(ctx context.Context, e *pawl.Engine, tenant, id string) (*eventRow, error) {
	record, err := e.Record(ctx, eventIDSpace+tenant, hashOf(id))
	if errors.Is(err, pawl.ErrNotFound) {
		return nil, nil
	}
	var key string
	if err == nil {
		err = json.Unmarshal(record.Data, &key)
	}
	if err != nil {
		return nil, fmt.Errorf("event %.128q: %w", id, err)
	}
	row, _, err := readEvent(ctx, e, tenant, key)
	return row, err
}

func readEvent(ctx context.Context, e *pawl.Engine, tenant, key string) (*eventRow, int64, error) {
	record, err := e.Record(ctx, eventSpace+tenant, key)
	if err != nil {
		return nil, 0, err
	}
	row := &eventRow{}
	err = json.Unmarshal(record.Data, row)
	row.Room = ""
	return row, record.Version, err
}

func (r *eventRow) published(repeated bool) Published {
	if r == nil {
		return Published{}
	}
	p := Published{ID: r.ID, Matches: slices.Clone(r.Starts), Repeated: repeated, Waiters: r.Count, Pending: !r.done(), Errors: r.Errors}
	for _, s := range r.Starts {
		p.Runs = append(p.Runs, s.Run)
		if s.Unknown && !s.Done {
			p.Errors = append(slices.Clip(p.Errors), fmt.Sprintf("subscription %s: %s, until %s, when the event is forgotten", s.Subscription, unknownWorkflow(s.Workflow), clock(r.Until)))
		}
	}
	return p
}

func (r *eventRow) done() bool {
	return r.Told && !slices.ContainsFunc(r.Starts, func(s EventStart) bool { return !s.Done })
}

// match decides which runs it starts: by the subscriptions that there are now.
func (r *eventRow) match(ctx context.Context, e *pawl.Engine) error {
	all, err := subscribed(ctx, e, r.Tenant, r.Name)
	if err != nil {
		return err
	}
	for _, s := range all {
		fits, err := r.fits(ctx, s.Where)
		if err != nil {
			r.fail("subscription %s: %v", s.ID, err)
		}
		if fits {
			ok, why := r.chained(&s)
			if why != "" {
				r.fail("%s", why)
			}
			if !ok {
				continue
			}
			r.Starts = append(r.Starts, EventStart{Subscription: s.ID, Workflow: s.Workflow, Run: s.ID + "@" + hashOf(r.ID)})
			if s.Input != nil || s.Control != nil {
				if r.How == nil {
					r.How = map[string]manner{}
				}
				r.How[s.ID] = manner{s.Input, s.Control}
			}
		}
	}
	return nil
}

func (r *eventRow) fits(ctx context.Context, where string) (bool, error) {
	m, err := matchOf(where)
	if err != nil {
		return false, err
	}
	if m == nil {
		return true, nil
	}
	return m.fits(ctx, r.subject())
}

// write stores the row over a version, and moves its place in the index from old.
func (r *eventRow) write(ctx context.Context, e *pawl.Engine, version int64, old time.Time) (int64, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return 0, err
	}
	key := r.key()
	puts := []pawl.Put{{Space: eventSpace + r.Tenant, Key: key, If: version, Data: data, Until: r.Until}}
	if version == 0 {
		id, _ := json.Marshal(key)
		puts = append(puts, pawl.Put{Space: eventIDSpace + r.Tenant, Key: hashOf(r.ID), Data: id, Until: r.Until})
	}
	if !old.IsZero() && !old.Equal(r.Due) {
		puts = append(puts, pawl.Put{Space: dueSpace, Key: dueKey(old, "e", r.Tenant, key), If: pawl.AnyVersion})
	}
	if !r.Due.IsZero() && !old.Equal(r.Due) {
		entry, _ := json.Marshal(dueEntry{Tenant: r.Tenant, Event: key})
		puts = append(puts, pawl.Put{Space: dueSpace, Key: dueKey(r.Due, "e", r.Tenant, key), If: pawl.AnyVersion, Data: entry, Until: r.Until})
	}
	versions, err := e.Write(ctx, puts...)
	if err != nil {
		return 0, err
	}
	return versions[0], nil
}
