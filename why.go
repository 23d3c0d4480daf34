package pawl

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Reason is what a run is waiting for, for programs; Text says it for people.
type Reason struct {
	State    State     `json:"state"`
	Text     string    `json:"why"`                // one sentence
	Events   []string  `json:"events,omitempty"`   // that it waits for, each once
	Hooks    []string  `json:"hooks,omitempty"`    // keys of those that it waits with
	Budgets  []string  `json:"budgets,omitempty"`  // names of those that it waits for more of
	Children []string  `json:"children,omitempty"` // of its own tenant, that have not ended
	Until    time.Time `json:"until,omitzero"`     // when its timer ends what it waits for
	Ready    bool      `json:"ready,omitempty"`    // it waits for nothing but a worker
	Unread   []string  `json:"unread,omitempty"`   // events that were sent and that it does not wait for, each once
}

// Why says in one sentence what a run is waiting for, and who holds it, and which events were sent
// to it that it does not wait for. Runs of other tenants, as where a limit spans tenants, are counted
// and not named.
func (e *Engine) Why(ctx context.Context, run Ref) (string, error) {
	r, err := e.Reason(ctx, run)
	return r.Text, err
}

// Reason says what Why says, and apart what it is made of.
func (e *Engine) Reason(ctx context.Context, run Ref) (Reason, error) {
	info, err := e.Get(ctx, run)
	if err != nil {
		return Reason{}, err
	}
	r := Reason{State: info.State}
	if info.State.Terminal() {
		r.Text = fmt.Sprintf("it is %s since %s", info.State, info.Ended.Format(time.RFC3339))
		return r, nil
	}
	now := time.Now()
	h, err := e.store.Holders(ctx, info.Key, now)
	if err != nil {
		return Reason{}, err
	}
	if err := e.heldUp(ctx, &r, &info, &h, now); err != nil {
		return Reason{}, err
	}
	var sent string
	if sent, r.Unread = untaken(h.Sent); sent != "" {
		r.Text += "; sent, and not waited for so far: " + sent
	}
	return r, nil
}

// untaken lists events by name, each once: for people, and as they are.
func untaken(events []string) (text string, names []string) {
	count := map[string]int{}
	for _, event := range events {
		if strings.HasPrefix(event, budgetEvent) {
			continue
		}
		if count[event]++; count[event] == 1 {
			names = append(names, event)
		}
	}
	said := make([]string, len(names))
	for i, name := range names {
		said[i] = fmt.Sprintf("%q", name)
		if n := count[name]; n > 1 {
			said[i] += fmt.Sprintf(" (%d times)", n)
		}
	}
	return strings.Join(said, ", "), names
}

// heldUp says in r what holds a run up that has not ended.
func (e *Engine) heldUp(ctx context.Context, r *Reason, info *RunInfo, h *Holders, now time.Time) error {
	ids := func(runs []RunInfo) string { // what is another tenant's is counted, not named
		var out []string
		others := 0
		for _, r := range runs {
			if r.Tenant == info.Tenant {
				out = append(out, r.ID)
			} else {
				others++
			}
		}
		if others == 1 {
			out = append(out, "1 run of another tenant")
		} else if others > 1 {
			out = append(out, fmt.Sprintf("%d runs of other tenants", others))
		}
		return strings.Join(out, ", ")
	}
	in := func(t time.Time) string {
		return fmt.Sprintf("at %s (in %s)", t.Format(time.RFC3339), spoken(max(t.Sub(now), 0)))
	}
	switch {
	case info.State == Paused || info.State == Blocked:
		r.Text = fmt.Sprintf("it is %s: %s", info.State, info.Reason)
		return nil
	case info.Gate != "":
		what := "queued behind " + info.Gate
		if h.Slot != nil {
			what += fmt.Sprintf(", of which %d may run at once", h.Slot.N)
		}
		r.Text = fmt.Sprintf("%s; held by %s; %d ahead of it", what, ids(h.Holds), h.Ahead)
		return nil
	case info.State == Running:
		r.Text = "a worker is at it: " + h.Worker
		return nil
	case info.State == Pending && info.NotBefore.After(now):
		r.Text, r.Until = "it starts "+in(info.NotBefore), info.NotBefore
		return nil
	}
	var parts []string
	add := func(what string) {
		if !slices.Contains(parts, what) { // two branches may wait for the same
			parts = append(parts, what)
		}
	}
	for _, w := range h.Events {
		if !strings.HasPrefix(w.Event, budgetEvent) {
			r.Events = once(r.Events, w.Event)
			add(fmt.Sprintf("for the event %q", w.Event))
			continue
		}
		budget, what, err := e.whyBudget(ctx, w)
		if err != nil {
			return err
		}
		if budget != "" {
			r.Budgets = once(r.Budgets, budget)
		}
		add(what)
	}
	for _, k := range h.Hooks {
		r.Hooks = append(r.Hooks, k.Key)
		switch k.Kind {
		case "":
			parts = append(parts, "for a payload on hook "+k.Key)
		case WebhookKind:
			parts = append(parts, "for a request to webhook "+k.Key)
		default:
			if title := titleOf(k.Meta); title != "" {
				add(fmt.Sprintf("for the %s %q", k.Kind, title))
			} else {
				add(fmt.Sprintf("for a payload on hook %s (%s)", k.Key, k.Kind))
			}
		}
	}
	if len(h.Children) > 0 {
		parts = append(parts, "for its children "+ids(h.Children))
		for _, child := range h.Children {
			if child.Tenant == info.Tenant {
				r.Children = append(r.Children, child.ID)
			}
		}
	}
	timer := !info.Due.IsZero() && info.Due.After(now)
	if timer {
		r.Until = info.Due
	}
	switch {
	case len(parts) > 0 && timer:
		r.Text = "it waits " + strings.Join(parts, ", ") + ", or until its timer " + in(info.Due)
	case len(parts) > 0:
		r.Text = "it waits " + strings.Join(parts, ", ")
	case timer:
		r.Text = "it waits for its timer " + in(info.Due)
	default:
		r.Ready = true
		r.Text = "it is ready and waits for a worker that knows " + info.Workflow
	}
	return nil
}

// once adds a name that is not there.
func once(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(names, name)
}

// titleOf is what a hook's meta calls itself; "" if nothing.
func titleOf(meta json.RawMessage) string {
	var m struct{ Title string }
	if json.Unmarshal(meta, &m) != nil {
		return ""
	}
	return m.Title
}

// spoken writes a duration for people: its two largest units.
func spoken(d time.Duration) string {
	units := []struct {
		d    time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}}
	d = d.Round(time.Second)
	for i, u := range units {
		if d < u.d {
			continue
		}
		text := fmt.Sprintf("%d%s", d/u.d, u.name)
		if i+1 < len(units) && d%u.d >= units[i+1].d {
			text += fmt.Sprintf(" %d%s", d%u.d/units[i+1].d, units[i+1].name)
		}
		return text
	}
	return "0s"
}
