package approval

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Event is something that happened to an approval.
type Event struct {
	At    time.Time `json:"at"`
	What  string    `json:"what"`         // see the constants
	By    string    `json:"by,omitempty"` // who voted, or was refused
	Via   string    `json:"via,omitempty"`
	Actor string    `json:"actor,omitempty"` // as of a Decision
	Text  string    `json:"text,omitempty"`  // a comment; why it was refused; the error of a notice
}

// What an Event can be, beside a Notice that was given: notified-asked and so on.
const (
	EventAsked    = "asked"
	EventApproved = "approved" // a vote
	EventRejected = "rejected" // a vote
	EventRefused  = "refused"  // somebody who may not decide tried to
	EventExpired  = "expired"
	EventNotified = "notified-" // and what about; with a Text it failed
)

// History tells what happened to an approval, in order: from the journal of its run, and from
// the record of those who were refused. Of a run that is no more it has what is on record. It
// reads the whole journal. pawl.ErrNotFound.
func History(ctx context.Context, e *pawl.Engine, ref pawl.Ref) ([]Event, error) {
	a, err := Get(ctx, e, ref)
	if err != nil {
		return nil, err
	}
	run, hook, err := hookOf(ref.ID)
	if err != nil {
		return nil, err
	}
	path := strings.TrimSuffix(hook, hookSuffix)
	out, found, err := journalled(ctx, e, pawl.Ref{Tenant: ref.Tenant, ID: run}, path)
	if err != nil {
		return nil, err
	}
	if !found {
		out = append(out, Event{At: a.Asked, What: EventAsked})
	}
	for _, ev := range a.remembered() { // what the run has not come to yet, or is no more there to tell
		if !slices.ContainsFunc(out, func(o Event) bool { return o.What == ev.What && o.By == ev.By && o.At.Equal(ev.At) }) {
			out = append(out, ev)
		}
	}
	for after := ""; ; {
		all, err := e.Records(ctx, spaceRefused, keyOf(ref.Tenant, ref.ID)+"/", after, 100)
		if err != nil {
			return nil, err
		}
		for _, rec := range all {
			after = rec.Key
			var r refusal
			if err := json.Unmarshal(rec.Data, &r); err != nil {
				return nil, err
			}
			out = append(out, Event{At: r.At, What: EventRefused, By: r.By, Via: r.Via, Actor: r.Actor, Text: r.Why})
		}
		if len(all) < 100 {
			break
		}
	}
	slices.SortStableFunc(out, func(a, b Event) int { return a.At.Compare(b.At) })
	return out, nil
}

// journalled are the events in the journal of a run, under the path of an approval.
func journalled(ctx context.Context, e *pawl.Engine, run pawl.Ref, path string) (out []Event, found bool, err error) {
	for entry, err := range e.Journal(ctx, run) {
		if errors.Is(err, pawl.ErrNotFound) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		name, ok := strings.CutPrefix(entry.Key, path+"/")
		if !ok {
			continue
		}
		switch {
		case entry.Kind == pawl.KindHook && !entry.Failed:
			found = true
			out = append(out, Event{At: entry.At, What: EventAsked})
		case entry.Kind == pawl.KindPayload && !entry.Failed:
			var v vote
			if json.Unmarshal(entry.Data, &v) == nil && v.Slot > 0 && !v.Expired {
				out = append(out, v.Decision.event())
			}
		case entry.Kind == pawl.KindStep && name == "expire" && !entry.Failed:
			var c closing
			if err := json.Unmarshal(entry.Data, &c); err != nil {
				return nil, false, err
			}
			if c.Expired != nil {
				out = append(out, Event{At: *c.Expired, What: EventExpired})
			}
		case entry.Kind == pawl.KindStep && strings.HasPrefix(name[strings.LastIndexByte(name, '/')+1:], notifyStep):
			by, step := "", name // of a Notifier they are in its branch
			if i := strings.LastIndexByte(name, '/'); i >= 0 {
				by, step = name[:i], name[i+1:]
			}
			what, _, _ := strings.Cut(strings.TrimPrefix(step, notifyStep), "#")
			by, _, _ = strings.Cut(by, "#")
			ev := Event{At: entry.At, What: EventNotified + what, Via: by}
			if entry.Failed {
				ev.Text = entry.Failure().Error()
			}
			out = append(out, ev)
		}
	}
	return out, found, nil
}

func (d Decision) event() Event {
	ev := Event{At: d.At, What: EventRejected, By: d.By, Via: d.Via, Actor: d.Actor, Text: d.Comment}
	if d.Approved {
		ev.What = EventApproved
	}
	return ev
}

// remembered are the votes and the end that an approval tells by itself.
func (a *Approval) remembered() (out []Event) {
	votes := a.Votes
	if d := a.Decision; d != nil && d.By != "" {
		if votes = d.Votes; len(votes) == 0 {
			votes = []Decision{*d}
		}
	}
	for _, v := range votes {
		out = append(out, v.event())
	}
	if a.State == Expired {
		out = append(out, Event{At: a.Expires, What: EventExpired})
	}
	return out
}
