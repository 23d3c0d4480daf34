package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
	"github.com/spf13/cobra"
)

func (a *app) followCommand() *cobra.Command {
	return a.ofRun(&cobra.Command{
		Use:   "follow RUN",
		Short: "Show what a run does, as it does it",
		Long: `Show what a run has done and does, until it has ended. With -o json each journal
entry is a line, and the run as it ended the last one. A server that is restarted
meanwhile is waited for, and told of on standard error. Ctrl-C stops watching; the run goes on.`,
		Example: a.examples("runs follow run_01JD", "runs follow run_01JD -o json"),
	}, a.follow)
}

// follow shows a run, and the runs that it goes on as, to its end.
func (a *app) follow(ctx context.Context, id string) error {
	for {
		run, err := a.followOne(ctx, id)
		switch {
		case ctx.Err() != nil:
			return a.detached(ctx, id)
		case err != nil:
			return a.explain(err, id)
		case run.Next == "":
			return a.verdict(run)
		}
		if a.people() {
			a.out.line("%s %s", a.out.dim("goes on as"), a.out.bold(run.Next))
		}
		id = run.Next
	}
}

func (a *app) followOne(ctx context.Context, id string) (api.Run, error) {
	a.waits = true
	var began time.Time
	var said string
	for event, err := range a.client.Follow(ctx, id, -1) {
		if err != nil {
			return api.Run{}, err
		}
		switch event.Type {
		case api.EventEntry:
			if !a.people() {
				if err := a.stream(event.Data, *event.Entry, "key"); err != nil {
					return api.Run{}, err
				}
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
			if a.people() {
				said = a.idle(ctx, *event.Run, said)
			}
		case api.EventEnd:
			if a.people() {
				a.end(ctx, *event.Run)
				return *event.Run, nil
			}
			if a.output == "name" || a.fields != nil {
				return *event.Run, nil // these are of entries
			}
			return *event.Run, a.stream(event.Data, *event.Run, "id")
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
	case e.Kind == pawl.KindHook && !e.Failed: // what it is waited for with is told when it is
		took = ""
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
	text = oneLine(text)
	if !e.Failed { // an error is shown whole
		text = p.fit(text, 52)
	}
	p.line("%s %s %-28s %8s  %s", p.dim(fmt.Sprintf("%8.2fs", e.At.Sub(began).Seconds())), mark, oneLine(name), took, text)
}

// noteOf says in a few words what an entry holds.
func noteOf(e *pawl.Entry) string {
	switch {
	case e.Kind == pawl.KindAttempt:
		var a struct {
			Next time.Time `json:"next"`
		}
		if json.Unmarshal(e.Data, &a) != nil {
			return string(e.Data)
		}
		return fmt.Sprintf("%s; again in %s", e.Failure().Message, took(max(a.Next.Sub(e.At), 0)))
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
	if m.Usage != (llm.Usage{}) {
		text += fmt.Sprintf(": %d tokens in, %d out", m.Usage.Input, m.Usage.Output)
	} else if m.Guess {
		text += ": tokens unknown"
	}
	switch {
	case m.Guess:
		text += fmt.Sprintf(", cost unknown, %s assumed", money(pawl.USD, m.Cost))
	case m.Usage != (llm.Usage{}):
		text += ", " + money(pawl.USD, m.Cost)
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
	s, err := a.stands(ctx, run)
	if err != nil || s.run.State != run.State || countdown.ReplaceAllString(s.why, "") == countdown.ReplaceAllString(said, "") {
		return said
	}
	a.out.line("%s %s %s", a.out.dim("         ⧗"), a.out.yellow(run.State.String()+":"), s.why)
	a.tell("           ", s.helps)
	return s.why
}

// countdown is what changes in the sentence that says why a run waits while it waits.
var countdown = regexp.MustCompile(` \(in [^)]*\)`)

// end prints how a run ended. A failure is told by verdict.
func (a *app) end(ctx context.Context, run api.Run) {
	if run.State != pawl.Completed || run.Next != "" {
		return
	}
	cost := "" // without a charge there is none to tell
	if list, err := a.client.Costs(ctx, api.CostQuery{Run: run.ID, Family: true, Meter: pawl.USD}); err == nil && len(list.Items) == 1 {
		calls := "1 call"
		if n := list.Items[0].Charges; n != 1 {
			calls = fmt.Sprintf("%d calls", n)
		}
		cost = fmt.Sprintf(", for %s in %s", knownCost(list.Items[0]), calls)
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
		e.next = []string{"see what happened: " + a.hint("runs show %s", run.ID)}
		if again := a.again(run); again != "" {
			e.next = append(e.next, "go on from the step that failed: "+again)
		}
	}
	return e
}

// again is the command that lets a failed run do better, or ""; a flow that led to its end fail does so again when it is retried.
func (a *app) again(run api.Run) string {
	end, led := flow.Ended(run.Error)
	switch {
	case !led:
		return a.hint("runs retry %s", run.ID)
	case end.After != nil && end.After.Key != "":
		return a.hint("runs fork %s --from %s", run.ID, end.After.Key)
	}
	return ""
}

// stuck is the error of a run that only a person can move.
func (a *app) stuck(run api.Run) error {
	if run.State != pawl.Blocked {
		return nil
	}
	return &exitError{exitRunFailed, fmt.Errorf("run %s is blocked: %s", run.ID, run.Reason),
		[]string{"see what happened: " + a.hint("runs show %s", run.ID), "try again: " + a.hint("runs retry %s", run.ID), "or give it up: " + a.hint("runs cancel %s", run.ID)}}
}

// detached is what a watch ends with that was interrupted or whose time was over.
func (a *app) detached(ctx context.Context, id string) error {
	again := []string{"watch it again: " + a.hint("runs follow %s", id)}
	if context.Cause(ctx) == errTimeout {
		return &exitError{exitTimeout, fmt.Errorf("the run has not ended after %s; it goes on", a.timeout), again}
	}
	return &exitError{exitInterrupted, errors.New("stopped watching; the run goes on"), again}
}
