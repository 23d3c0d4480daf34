package pawl

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Why says in one sentence what a run is waiting for, and who holds it, and which events were sent
// to it that it does not wait for. Runs of other tenants, as where a limit spans tenants, are counted
// and not named.
func (e *Engine) Why(ctx context.Context, run Ref) (string, error) {
	info, err := e.Get(ctx, run)
	if err != nil {
		return "", err
	}
	if info.State.Terminal() {
		return fmt.Sprintf("it is %s since %s", info.State, info.Ended.Format(time.RFC3339)), nil
	}
	now := time.Now()
	h, err := e.store.Holders(ctx, info.Key, now)
	if err != nil {
		return "", err
	}
	why, err := e.heldUp(ctx, &info, &h, now)
	if sent := untaken(h.Sent); err == nil && sent != "" {
		why += "; sent, and not waited for so far: " + sent
	}
	return why, err
}

// untaken lists events by name, each once.
func untaken(events []string) string {
	count := map[string]int{}
	var names []string
	for _, event := range events {
		if strings.HasPrefix(event, budgetEvent) {
			continue
		}
		if count[event]++; count[event] == 1 {
			names = append(names, event)
		}
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("%q", name)
		if n := count[name]; n > 1 {
			names[i] += fmt.Sprintf(" (%d times)", n)
		}
	}
	return strings.Join(names, ", ")
}

// heldUp says what holds a run up that has not ended.
func (e *Engine) heldUp(ctx context.Context, info *RunInfo, h *Holders, now time.Time) (_ string, err error) {
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
		return fmt.Sprintf("it is %s: %s", info.State, info.Reason), nil
	case info.Gate != "":
		what := "queued behind " + info.Gate
		if h.Slot != nil {
			what += fmt.Sprintf(", of which %d may run at once", h.Slot.N)
		}
		return fmt.Sprintf("%s; held by %s; %d ahead of it", what, ids(h.Holds), h.Ahead), nil
	case info.State == Running:
		return "a worker is at it: " + h.Worker, nil
	case info.State == Pending && info.NotBefore.After(now):
		return "it starts " + in(info.NotBefore), nil
	}
	var parts []string
	add := func(what string) {
		if !slices.Contains(parts, what) { // two branches may wait for the same
			parts = append(parts, what)
		}
	}
	for _, w := range h.Events {
		what := fmt.Sprintf("for the event %q", w.Event)
		if strings.HasPrefix(w.Event, budgetEvent) {
			if what, err = e.whyBudget(ctx, w); err != nil {
				return "", err
			}
		}
		add(what)
	}
	for _, k := range h.Hooks {
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
	}
	timer := !info.Due.IsZero() && info.Due.After(now)
	switch {
	case len(parts) > 0 && timer:
		return "it waits " + strings.Join(parts, ", ") + ", or until its timer " + in(info.Due), nil
	case len(parts) > 0:
		return "it waits " + strings.Join(parts, ", "), nil
	case timer:
		return "it waits for its timer " + in(info.Due), nil
	}
	return "it is ready and waits for a worker that knows " + info.Workflow, nil
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
