package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/trigger"
)

// standing is how a run stands that does not move: what it waits for, and how it is helped.
type standing struct {
	run   api.Run
	why   string
	waits api.Why // what why says, apart
	hooks []api.Hook
	helps []help
	moves bool // it, or a child, is about to come to something else
}

// help is one line that helps a run.
type help struct {
	label string // next: a command; child, sender: what has to be known
	text  style  // it can be printed, and a command pasted
}

// depth is how far down the children of a run are looked at, and breadth how many of each.
const (
	depth   = 4
	breadth = 3
)

// stands finds out how a run stands.
func (a *app) stands(ctx context.Context, run api.Run) (s standing, err error) {
	return a.standsAt(ctx, run, depth)
}

func (a *app) standsAt(ctx context.Context, run api.Run, depth int) (s standing, err error) {
	s.run = run
	if !run.State.Terminal() {
		answer, err := a.client.Why(ctx, run.ID)
		if err != nil {
			return s, err
		}
		s.why, s.waits = answer.Why, answer
		if answer.State != run.State { // it has moved meanwhile
			if s.run, err = a.client.Run(ctx, run.ID, 0); err != nil {
				return s, err
			}
		}
		hooks, err := a.client.Hooks(ctx, run.ID)
		if err != nil {
			return s, err
		}
		s.hooks = hooks.Items
	}
	next := func(format string, args ...any) {
		s.helps = append(s.helps, help{"next", style(a.hint(format, args...))})
	}
	id := run.ID
	switch s.run.State {
	case pawl.Paused:
		next("runs resume %s", id)
	case pawl.Failed:
		if again := a.again(s.run); again != "" {
			s.helps = append(s.helps, help{"next", style(again)})
		}
	case pawl.Blocked:
		next("runs retry %s", id)
		next("runs cancel %s", id)
	case pawl.Pending, pawl.Waiting:
		for _, event := range s.waits.Events {
			if strings.HasPrefix(event, "machine:") { // a state machine takes updates only
				s.helps = append(s.helps, help{"next", style(a.hint("signal %s %s --data ", id, event) + shellQuote(`{"patch":JSON,"go":true}`))})
				continue
			}
			next("signal %s %s --data JSON", id, event)
		}
		for _, budget := range s.waits.Budgets {
			next("budgets topup %s AMOUNT", budget)
		}
		asks := false
		for _, h := range s.hooks {
			if asks = asks || h.Kind == approval.Kind; h.Kind != approval.Kind {
				s.helps = append(s.helps, a.toHook(h)...)
			}
		}
		if asks {
			for _, line := range a.toDecide(ctx, id) {
				s.helps = append(s.helps, help{"next", style(line)})
			}
		}
		if len(s.waits.Children) > 0 && depth > 0 {
			below, moves, err := a.children(ctx, id, depth-1)
			if err != nil {
				return s, err
			}
			s.helps, s.moves = append(s.helps, below...), moves
		}
		switch {
		case s.run.State == pawl.Waiting && !s.waits.Until.IsZero() && len(s.waits.Events)+len(s.waits.Hooks)+len(s.waits.Budgets)+len(s.waits.Children) == 0:
			next("runs wake %s", id)
		case s.waits.Ready:
			next("doctor")
		}
	}
	return s, nil
}

// toHook says how a hook is answered.
func (a *app) toHook(h api.Hook) []help {
	var meta struct {
		trigger.Awaited
		Scheme string // of a webhook whose requests are signed
		Secret string // the name of the secret
	}
	_ = json.Unmarshal(h.Meta, &meta) // what the code says of its own hooks need be no object
	switch {
	case strings.HasPrefix(h.Kind, trigger.HookKind) && meta.Where != "":
		return []help{{"where", style(oneLine(meta.Where))}, {"next", style(a.hint("events send %s --data JSON", meta.Event))}}
	case strings.HasPrefix(h.Kind, trigger.HookKind):
		return []help{{"next", style(a.hint("events send %s --data JSON", meta.Event))}}
	case h.URL != "" && meta.Scheme != "":
		return []help{{"sender", style(oneLine(fmt.Sprintf("the request is to be signed as %s does, with the secret %q of the server", meta.Scheme, meta.Secret)))},
			{"next", style("curl -d BODY -H SIGNATURE " + shellQuote(h.URL))}}
	case h.URL != "":
		return []help{{"next", style("curl -d TEXT " + shellQuote(h.URL))}}
	case h.Public: // this key may not send to hooks
		return nil
	}
	return []help{{"next", style(a.hint("hooks send %s %s --data JSON", h.Run, h.Key))}}
}

// children says how the children stand that a run waits for.
func (a *app) children(ctx context.Context, id string, depth int) (helps []help, moves bool, err error) {
	page, err := a.client.Runs(ctx, api.RunQuery{Parent: id, States: alive, Limit: breadth + 1})
	if err != nil {
		return nil, false, err
	}
	for i, child := range page.Items {
		if i == breadth {
			helps = append(helps, help{"next", style(a.hint("runs list --parent %s", id))})
			break
		}
		s, err := a.standsAt(ctx, api.Run{RunInfo: child}, depth)
		if err != nil {
			return nil, false, err
		}
		moves = moves || s.moves || s.run.State == pawl.Running || s.waits.Ready
		helps = append(append(helps, help{"child", style(oneLine(child.ID + " " + child.Workflow + ": " + s.why))}), s.helps...)
	}
	return helps, moves, nil
}

// lookFor is how long start looks for what its run comes to wait for. A test on a busy machine looks longer.
var lookFor = time.Second

// settles looks for a moment whether a run comes to an end, or to wait for something that can be
// answered, and says so. That it can't be seen is no trouble: the run is started.
func (a *app) settles(ctx context.Context, run api.Run) {
	if a.quiet {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	var found *standing
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		found = nil
		if run.State != pawl.Running {
			s, err := a.stands(ctx, run)
			if err != nil {
				break
			}
			moves := s.moves || s.waits.Ready || !s.run.Due.IsZero() && time.Until(s.run.Due) < lookFor
			if found = &s; len(s.helps) > 0 && !moves || s.run.State.Terminal() {
				break
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		now, err := a.client.Run(ctx, run.ID, 0)
		if err != nil {
			break
		}
		run = now
	}
	switch {
	case found == nil || found.run.State == pawl.Running:
	case found.run.State == pawl.Completed:
		a.note("it has completed; its result: %s", style(a.hint("runs result %s", run.ID)))
	case found.run.State == pawl.Failed, found.run.State == pawl.Cancelled:
		a.note("it has %s; see why: %s", ended(found.run.State), style(a.hint("runs show %s", run.ID)))
	default:
		a.note("%s", found.why)
		a.tell("  ", found.helps)
	}
}

func ended(s pawl.State) string {
	if s == pawl.Cancelled {
		return "been cancelled"
	}
	return s.String()
}

// tell prints what helps a run beside the data.
func (a *app) tell(indent string, helps []help) {
	for _, h := range helps {
		if h.label == "next" {
			a.note("%s%s", indent, h.text)
		} else {
			a.note("%s%s: %s", indent, h.label, h.text)
		}
	}
}
