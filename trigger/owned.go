package trigger

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// OwnedPrefix begins the ids of schedules, subscriptions and routes that have an owner. Nobody else may choose such an id.
const OwnedPrefix = "flow:"

// Owned are the triggers of one owner, which it changes together with what it keeps itself: see [Replace].
type Owned struct {
	Schedules []Schedule
	Events    []Subscription
	Routes    []Route
}

// Replace returns what is to be written so that an owner has these triggers in a tenant and no others; nothing is written
// yet: the owner adds its own to it and gives all to one Engine.Write, so that one is never there without the other. The write is an
// ErrConflict if anything has changed meanwhile; then Replace is asked again.
//
// The owner begins with [OwnedPrefix], and the id of each trigger with the owner and ":". What stays the same is not written, so a
// schedule goes on where it is. A schedule whose times have changed begins with the first slot from now on.
// ErrInput: one can't be. *[PathError]: a path is taken by somebody else.
func Replace(ctx context.Context, e *pawl.Engine, tenant, owner string, want Owned) ([]pawl.Put, error) {
	w := &replacement{e: e, tenant: tenant, owner: owner, now: time.Now().UTC()}
	if !strings.HasPrefix(owner, OwnedPrefix) {
		return nil, fmt.Errorf("%w: the owner %.100q must begin with %s", pawl.ErrInput, owner, OwnedPrefix)
	}
	err := errors.Join(w.schedules(ctx, want.Schedules), w.events(ctx, want.Events), w.routes(ctx, want.Routes))
	return w.puts, err
}

// replacement gathers the writes of one owner.
type replacement struct {
	e             *pawl.Engine
	tenant, owner string
	now           time.Time
	puts          []pawl.Put
}

// own checks that a trigger is the owner's.
func (w *replacement) own(tenant, id, owner string) error {
	if tenant != w.tenant || owner != w.owner || !strings.HasPrefix(id, w.owner+":") {
		return fmt.Errorf("%w: trigger %.128q of tenant %.128q is none of %s", pawl.ErrInput, id, tenant, w.owner)
	}
	return nil
}

// there calls f with each record of a space that the owner has.
func (w *replacement) there(ctx context.Context, space string, f func(pawl.Record) error) error {
	for after := ""; ; {
		page, err := w.e.Records(ctx, space+w.tenant, w.owner+":", after, 1000)
		if err != nil {
			return fmt.Errorf("read the triggers of %s: %w", w.owner, err)
		}
		for _, record := range page {
			if after = record.Key; err == nil {
				err = f(record)
			}
		}
		if err != nil || len(page) < 1000 {
			return err
		}
	}
}

func (w *replacement) schedules(ctx context.Context, want []Schedule) error {
	left := map[string]Schedule{}
	for _, sch := range want {
		if err := errors.Join(w.own(sch.Tenant, sch.ID, sch.Owner), sch.check()); err != nil {
			return err
		}
		left[sch.ID] = sch
	}
	change := func(r *row, version int64, f func() ([]Occurrence, error)) error {
		lines, err := f()
		if errors.Is(err, errSame) {
			return nil
		}
		if err != nil {
			return err
		}
		puts, err := r.puts(version, lines, w.now)
		w.puts = append(w.puts, puts...)
		return err
	}
	err := w.there(ctx, scheduleSpace, func(record pawl.Record) error {
		r := &row{}
		if err := json.Unmarshal(record.Data, r); err != nil {
			return fmt.Errorf("schedule %s: its record can't be read: %w", record.Key, err)
		}
		sch, stays := left[record.Key]
		delete(left, record.Key)
		return change(r, record.Version, func() ([]Occurrence, error) {
			switch {
			case stays:
				return r.become(sch, w.now)
			case r.Deleted:
				return nil, errSame
			}
			return r.remove(w.now), nil
		})
	})
	for _, sch := range left {
		r := &row{}
		err = errors.Join(err, change(r, 0, func() ([]Occurrence, error) { return r.become(sch, w.now) }))
	}
	return err
}

func (w *replacement) events(ctx context.Context, want []Subscription) error {
	left := map[string]Subscription{}
	for _, sub := range want {
		if err := errors.Join(w.own(sub.Tenant, sub.ID, sub.Owner), sub.check()); err != nil {
			return err
		}
		left[sub.ID] = sub
	}
	become := func(sub Subscription, old *Subscription, version int64) error {
		puts, err := sub.puts(old, version, w.now)
		w.puts = append(w.puts, puts...)
		return err
	}
	err := w.there(ctx, subscriptionSpace, func(record pawl.Record) error {
		var old Subscription
		if err := json.Unmarshal(record.Data, &old); err != nil {
			return fmt.Errorf("subscription %s: %w", record.Key, err)
		}
		sub, stays := left[record.Key]
		if delete(left, record.Key); stays {
			return become(sub, &old, record.Version)
		}
		w.puts = append(w.puts, old.removal(record.Version)...)
		return nil
	})
	for _, sub := range left {
		err = errors.Join(err, become(sub, &Subscription{}, 0))
	}
	return err
}

// ownable refuses to make what is, or would look like, an owner's.
func ownable(what, id, owner string) error {
	if owner != "" || strings.HasPrefix(id, OwnedPrefix) {
		return fmt.Errorf("%w: %s %.160s: what begins with %s belongs to a flow: deploy the flow, or choose another id", pawl.ErrState, what, id, OwnedPrefix)
	}
	return nil
}

// theirs refuses to change what has an owner.
func theirs(what, id, owner string) error {
	if owner == "" {
		return nil
	}
	return fmt.Errorf("%w: %s %s belongs to %s: change its triggers and deploy it, or deactivate it", pawl.ErrState, what, id, ownerText(owner))
}

// ownerText is an owner as people say it: "flow triage" of "flow:triage".
func ownerText(owner string) string {
	kind, name, _ := strings.Cut(owner, ":")
	return cmp.Or(kind, "somebody") + " " + name
}
