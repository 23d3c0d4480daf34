package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/llm"
	"github.com/spf13/cobra"
)

func (a *app) followCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "follow RUN",
		Short: "Show what a run does, as it does it",
		Long: `Show what a run has done and does, until it has ended. With -o json each journal
entry is a line, and the run as it ended the last one. A server that is restarted
meanwhile is waited for. Ctrl-C stops watching; the run goes on.`,
		Example:           fmt.Sprintf("  %[1]s runs follow run_01JD\n  %[1]s runs follow run_01JD -o json", a.self),
		Args:              a.oneArg("RUN", a.runIDs),
		ValidArgsFunction: a.completeFirst(a.runIDs),
		RunE:              func(cmd *cobra.Command, args []string) error { return a.follow(cmd.Context(), args[0]) },
	}
}

// follow shows a run, and the runs that it goes on as, to its end.
func (a *app) follow(ctx context.Context, id string) error {
	for {
		run, err := a.followOne(ctx, id)
		switch {
		case ctx.Err() != nil:
			return a.detached(id)
		case err != nil:
			return a.explain(err, id)
		case run.Next == "":
			return a.verdict(run)
		}
		if !a.json() {
			a.out.line("%s %s", a.out.dim("goes on as"), a.out.bold(run.Next))
		}
		id = run.Next
	}
}

func (a *app) followOne(ctx context.Context, id string) (api.Run, error) {
	var began time.Time
	var said string
	for event, err := range a.client.Follow(ctx, id, -1) {
		if err != nil {
			return api.Run{}, err
		}
		switch event.Type {
		case api.EventEntry:
			if a.json() {
				a.out.json(event.Data)
				continue
			}
			if began.IsZero() {
				began = event.Entry.At
			}
			a.entry(event.Entry, began)
		case api.EventState:
			if err := a.stuck(*event.Run); err != nil {
				return *event.Run, err
			}
			if !a.json() {
				said = a.idle(ctx, *event.Run, said)
			}
		case api.EventEnd:
			if a.json() {
				a.out.json(event.Data)
			} else {
				a.end(ctx, *event.Run)
			}
			return *event.Run, nil
		}
	}
	return api.Run{}, errors.New("the server ended the view without an end of the run")
}

// entry prints one line of a run's journal, if it means something to who watches.
func (a *app) entry(e *pawl.Entry, began time.Time) {
	p := a.out
	mark, text := p.dim("·"), ""
	took := style(took(e.Took))
	switch {
	case e.Kind == pawl.KindStep && e.Failed:
		mark, text = p.red("✗"), e.Failure().Message
	case e.Kind == pawl.KindStep:
		mark = p.green("✓")
	case e.Kind == pawl.KindAttempt:
		mark, text = p.yellow("!"), noteOf(e)
	case e.Kind == pawl.KindNote:
		text, took = noteOf(e), ""
	case e.Kind == pawl.KindChunk, e.Kind == pawl.KindScope, e.Kind == pawl.KindResult:
		return
	default:
		took, text = "", noteOf(e)
	}
	name := e.Key
	if name == "" || name[0] == '$' && e.Kind != pawl.KindOrder { // keys of pawl's own say less than the kind
		name = e.Kind.String()
	}
	if e.Attempt > 1 || e.Kind == pawl.KindAttempt {
		name += fmt.Sprintf(" (attempt %d)", e.Attempt)
	}
	limit := 160
	if p.width > 0 {
		limit = max(p.width-52, 20)
	}
	if e.Failed {
		limit = 0 // an error is shown whole
	}
	p.line("%s %s %-28s %8s  %s", p.dim(fmt.Sprintf("%8.2fs", e.At.Sub(began).Seconds())), mark, oneLine(name), took, cut(oneLine(text), limit))
}

// noteOf says in a few words what an entry holds.
func noteOf(e *pawl.Entry) string {
	switch {
	case e.Kind == pawl.KindAttempt:
		var a struct {
			Next  time.Time     `json:"next"`
			Error *pawl.Failure `json:"error"`
		}
		if json.Unmarshal(e.Data, &a) != nil || a.Error == nil {
			return string(e.Data)
		}
		return fmt.Sprintf("%s; again in %s", a.Error.Message, took(max(a.Next.Sub(e.At), 0)))
	case e.Kind == pawl.KindNote:
		var made agent.Made
		if json.Unmarshal(e.Data, &made) == nil && made.Model != "" {
			return madeOf(&made)
		}
	case e.Failed:
		return e.Failure().Message
	case e.Kind == pawl.KindSleep:
		var s struct {
			Until time.Time `json:"until"`
		}
		if json.Unmarshal(e.Data, &s) == nil && !s.Until.IsZero() {
			return "sleeps until " + s.Until.Local().Format(time.DateTime)
		}
	}
	return readable(string(e.Data))
}

// madeOf says in a few words what came of a call of a model.
func madeOf(m *agent.Made) string {
	text := m.Model
	if m.Why != "ask" {
		text += " (" + m.Why + ")"
	}
	if m.Paced >= 100*time.Millisecond {
		text += ", waited " + took(m.Paced)
	}
	if m.Cached {
		return text + ": from the cache"
	}
	if m.Cost > 0 || m.Usage != (llm.Usage{}) {
		text += fmt.Sprintf(": %d tokens in, %d out, %s", m.Usage.Input, m.Usage.Output, money(pawl.USD, m.Cost))
	}
	if m.Guess {
		text += " assumed"
	}
	if m.Error != "" {
		text += ": " + m.Error
	}
	return text
}

// idle tells once what a run waits for that may need a person, and how to help.
func (a *app) idle(ctx context.Context, run api.Run, said string) string {
	soon := !run.Due.IsZero() && time.Until(run.Due) < 5*time.Second
	if run.State != pawl.Waiting && run.State != pawl.Paused || soon {
		return said
	}
	why, err := a.client.Why(ctx, run.ID)
	if err != nil || why.State != run.State || why.Why == said {
		return said
	}
	a.out.line("%s %s %s", a.out.dim("         ⧗"), a.out.yellow(run.State.String()+":"), why.Why)
	notes := newPrinter(a.stderr, false)
	switch {
	case run.State == pawl.Paused:
		notes.line("           let it go on: %s", style(a.hint("runs resume %s", run.ID)))
	case strings.Contains(why.Why, "for the event"):
		notes.line("           send it: %s", style(a.hint("signal %s EVENT --data JSON", run.ID)))
	}
	return why.Why
}

// end prints how a run ended. A failure is told by verdict.
func (a *app) end(ctx context.Context, run api.Run) {
	if run.State != pawl.Completed || run.Next != "" {
		return
	}
	cost := "" // without a charge there is none to tell
	if list, err := a.client.Costs(ctx, api.CostQuery{Run: run.ID, Family: true, Meter: pawl.USD}); err == nil && len(list.Items) == 1 {
		cost = fmt.Sprintf(", for %s in %d calls", money(pawl.USD, list.Items[0].Amount), list.Items[0].Charges)
	}
	a.out.line("%s in %s%s", a.out.green("completed"), took(run.Ended.Sub(run.Created)), cost)
	if run.Result != nil {
		a.out.value(run.Result)
	}
}

// verdict is the error of a run that ended badly.
func (a *app) verdict(run api.Run) error {
	if run.State == pawl.Completed {
		return nil
	}
	reason := run.Reason
	if run.Error != nil {
		reason = run.Error.Message
	}
	e := &exitError{code: exitRunFailed, err: fmt.Errorf("run %s %s: %s", run.ID, run.State, reason)}
	if run.State == pawl.Failed {
		e.next = []string{"see what happened: " + a.hint("runs show %s", run.ID), "go on from the step that failed: " + a.hint("runs retry %s", run.ID)}
	}
	return e
}

// stuck is the error of a run that only a person can move.
func (a *app) stuck(run api.Run) error {
	if run.State != pawl.Blocked {
		return nil
	}
	return &exitError{exitRunFailed, fmt.Errorf("run %s is blocked: %s", run.ID, run.Reason),
		[]string{"see what happened: " + a.hint("runs show %s", run.ID), "try again: " + a.hint("runs retry %s", run.ID), "or give it up: " + a.hint("runs cancel %s", run.ID)}}
}

// detached is what an interrupted watch ends with.
func (a *app) detached(id string) error {
	return &exitError{exitInterrupted, errors.New("stopped watching; the run goes on"), []string{"watch it again: " + a.hint("runs follow %s", id)}}
}
