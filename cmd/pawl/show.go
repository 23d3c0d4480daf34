package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

// ofRun is a command about one run, which may be named by the beginning of its id.
func (a *app) ofRun(cmd *cobra.Command, do func(ctx context.Context, id string) error) *cobra.Command {
	cmd.Args = a.oneArg("RUN", a.runIDs)
	cmd.ValidArgsFunction = a.completeFirst(a.runIDs)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := a.runID(cmd.Context(), args[0])
		if err == nil {
			err = do(cmd.Context(), id)
		}
		return a.explain(err, args[0])
	}
	return cmd
}

// runID finds the run that is meant: the one with the id typed, or else the only one whose
// id begins so. "run_" may be left out.
func (a *app) runID(ctx context.Context, typed string) (string, error) {
	run, err := a.client.Run(ctx, typed, 0)
	if err == nil {
		return run.ID, nil
	}
	if !errors.Is(err, pawl.ErrNotFound) || typed == "" {
		return "", err
	}
	var found []string
	for _, prefix := range []string{typed, "run_" + typed} {
		page, perr := a.client.Runs(ctx, api.RunQuery{Prefix: prefix, Limit: 6})
		if perr != nil {
			return "", perr
		}
		for _, run := range page.Items {
			found = append(found, run.ID)
		}
	}
	switch len(found) {
	case 0:
		return "", err
	case 1:
		return found[0], nil
	}
	more := ""
	if len(found) > 5 {
		found, more = found[:5], ", …"
	}
	return "", a.usage("%q is the beginning of several runs' ids: %s%s; type more of it", typed, strings.Join(found, ", "), more)
}

func (a *app) showCommand() *cobra.Command {
	return a.ofRun(&cobra.Command{
		Use:   "show RUN",
		Short: "Show a run: what is known of it, what it waits for, its journal",
		Long: `Show a run: what is known of it, what it waits for and how to answer, its journal and how it
ended. With -o json, the run, and of one that has not ended also why it does not move, its hooks, and the commands
that help it; "journal RUN -o json" has the journal.`,
		Example: a.examples("runs show run_01JD", "runs show run_01JD -o json"),
	}, a.showRun)
}

func (a *app) showRun(ctx context.Context, id string) error {
	run, err := a.client.Run(ctx, id, 0)
	if err != nil {
		return err
	}
	body := a.last.body
	s, err := a.stands(ctx, run)
	if err != nil {
		return err
	}
	if !a.people() {
		if body, err = s.beside(body); err != nil {
			return err
		}
		return a.data(view{body: body, of: shownRun{}})
	}
	p := a.out
	a.fact("run", run.ID)
	a.fact("workflow", strings.TrimSpace(run.Workflow+" "+run.Version))
	a.fact("state", p.paintState(run.State.String()))
	a.fact("why", s.why)
	a.fact("attributes", attributesOf(run.RunInfo))
	a.fact("created", stamp(run.Created)+" ("+about(time.Since(run.Created))+" ago)")
	a.fact("ended", stamp(run.Ended))
	a.fact("took", lasted(run.RunInfo))
	a.fact("deadline", stamp(run.Deadline))
	a.fact("parent", run.Parent)
	a.fact("forked from", run.Forked)
	a.fact("goes on as", run.Next)
	if run.Epoch > 1 {
		a.fact("claims", run.Epoch)
	}
	for _, h := range s.hooks {
		a.fact("hook", strings.TrimSpace(h.Key+" "+kindOf(h)+" "+h.URL))
	}
	for _, h := range s.helps {
		a.fact(h.label, h.text)
	}
	p.line("")
	if err := a.journalTable(ctx, id); err != nil {
		return err
	}
	switch {
	case run.Result != nil:
		p.line("")
		p.line("%s", p.green("result"))
		p.value(run.Result)
	case run.Error != nil:
		p.line("")
		p.line("%s %s", p.red(run.State.String()+":"), run.Error.Message)
	}
	return nil
}

// shownRun is what programs get of a run that is shown.
type shownRun struct {
	api.Run
	shownStanding
}

// shownStanding is how a run stands that has not ended.
type shownStanding struct {
	Why      string     `json:"why"`
	Hooks    []api.Hook `json:"hooks"`
	Commands []string   `json:"commands"` // that help it
}

// beside adds how a run stands to the JSON of the run. What has ended stays as it is.
func (s *standing) beside(run []byte) ([]byte, error) {
	if s.why == "" {
		return run, nil
	}
	more := shownStanding{s.why, s.hooks, []string{}}
	for _, h := range s.helps {
		if h.label == "next" {
			more.Commands = append(more.Commands, string(h.text))
		}
	}
	if more.Hooks == nil {
		more.Hooks = []api.Hook{}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // commands are pasted
	if err := e.Encode(more); err != nil {
		return nil, err
	}
	head := bytes.TrimSuffix(bytes.TrimSpace(run), []byte("}"))
	return slices.Concat(head, []byte(","), bytes.TrimSpace(b.Bytes())[1:]), nil
}

// stamp is a moment for people.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}

// clockOf is the time of day of an entry.
func clockOf(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("15:04:05.000")
}

func (a *app) journalTable(ctx context.Context, id string) error {
	var rows [][]any
	for entry, err := range a.client.Journal(ctx, id) {
		if err != nil {
			return err
		}
		row := []any{entry.Seq, clockOf(entry.At), entry.Kind, entry.Key, "", "", cut(oneLine(noteOf(&entry)), 200)}
		if entry.Attempt > 0 {
			row[4] = entry.Attempt
		}
		if entry.Took > 0 {
			row[5] = took(entry.Took)
		}
		rows = append(rows, row)
	}
	a.table(columns{"SEQ", "AT", "KIND", "KEY", "ATTEMPT", "TOOK", "DATA"}, rows)
	return nil
}

func (a *app) journalCommand() *cobra.Command {
	var follow bool
	cmd := a.ofRun(&cobra.Command{
		Use:   "journal RUN",
		Short: "Show all that is on record of a run",
		Long: `Show all that is on record of a run, in the order in which it was committed. With --follow, also
what comes, until the run has ended.`,
		Example: a.examples("journal run_01JD", "journal run_01JD --follow -o jsonl", "journal run_01JD --json key,took -o jsonl"),
	}, func(ctx context.Context, id string) error {
		switch {
		case follow:
			return a.followJournal(ctx, id)
		case a.people():
			return a.journalTable(ctx, id)
		}
		list := struct {
			Items []json.RawMessage `json:"items"`
		}{[]json.RawMessage{}}
		for after := int64(-1); ; {
			page, err := a.client.JournalPage(ctx, id, after)
			if err != nil {
				return err
			}
			var raw struct{ Items []json.RawMessage }
			if err := json.Unmarshal(a.last.body, &raw); err != nil {
				return err
			}
			list.Items = append(list.Items, raw.Items...)
			if page.NextAfter == nil {
				break
			}
			after = *page.NextAfter
		}
		body, err := json.Marshal(list)
		if err != nil {
			return err
		}
		return a.data(view{body: body, of: pawl.Entry{}, list: true, name: "key"})
	})
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the run has ended")
	return cmd
}

// followJournal prints entries as they are committed, and nothing of what they mean.
func (a *app) followJournal(ctx context.Context, id string) error {
	a.waits = true
	for event, err := range a.client.Follow(ctx, id, -1) {
		switch {
		case ctx.Err() != nil:
			return a.detached(ctx, id)
		case err != nil:
			return err
		case event.Type != api.EventEntry:
		case !a.people():
			if err := a.stream(event.Data, *event.Entry, "key"); err != nil {
				return err
			}
		default:
			e := event.Entry
			a.out.line("%5d  %s  %-9s %-28s %s", e.Seq, clockOf(e.At), e.Kind, oneLine(e.Key), a.out.fit(oneLine(noteOf(e)), 60))
		}
	}
	return nil
}

// step is what became of one step of a run, gathered from its journal.
type step struct {
	Key      string          `json:"key"`
	State    string          `json:"state"` // completed, failed, or retrying: its last attempt failed and another one is due
	Attempts int             `json:"attempts"`
	TookMs   float64         `json:"tookMs"` // of the attempt that counts
	At       time.Time       `json:"at"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    string          `json:"error,omitempty"`
}

func (a *app) stepsCommand() *cobra.Command {
	return a.ofRun(&cobra.Command{
		Use:   "steps RUN",
		Short: "Show the steps of a run and what became of them",
		Long: `Show the steps of a run that are on record: how often each was tried, how long it took and what
it returned, or why it failed. A step under way for the first time is not on record yet.`,
		Example: a.examples("steps run_01JD", "steps run_01JD --json key,state,tookMs"),
	}, func(ctx context.Context, id string) error {
		list := struct {
			Items []*step `json:"items"`
		}{[]*step{}}
		byKey := map[string]*step{}
		for e, err := range a.client.Journal(ctx, id) {
			if err != nil {
				return err
			}
			if e.Kind != pawl.KindStep && e.Kind != pawl.KindAttempt {
				continue
			}
			s := byKey[e.Key]
			if s == nil {
				s = &step{Key: e.Key}
				byKey[e.Key] = s
				list.Items = append(list.Items, s)
			}
			s.Attempts, s.At, s.TookMs = max(s.Attempts, int(e.Attempt), 1), e.At, float64(e.Took)/float64(time.Millisecond)
			s.State, s.Result, s.Error = "completed", nil, ""
			switch {
			case e.Kind == pawl.KindAttempt:
				s.State, s.Error = "retrying", noteOf(&e)
			case e.Failed:
				s.State, s.Error = "failed", e.Failure().Message
			default:
				s.Result = e.Data
			}
		}
		body, err := json.Marshal(list)
		if err != nil {
			return err
		}
		return a.show(view{body: body, of: step{}, list: true, name: "key", table: func() {
			var rows [][]any
			for _, s := range list.Items {
				said := s.Error
				if said == "" {
					said = readable(string(s.Result))
				}
				paint := map[string]func(string) style{"completed": a.out.green, "failed": a.out.red, "retrying": a.out.yellow}[s.State]
				rows = append(rows, []any{s.Key, paint(s.State), s.Attempts, took(time.Duration(s.TookMs * float64(time.Millisecond))), a.when(s.At), cut(oneLine(said), 200)})
			}
			if rows == nil {
				a.note("no step is on record; see why: %s", style(a.hint("runs show %s", id)))
				return
			}
			a.table(columns{"STEP", "STATE", "ATTEMPTS", "TOOK", "ENDED", "RESULT"}, rows)
		}})
	})
}

func (a *app) resultCommand() *cobra.Command {
	var wait bool
	cmd := a.ofRun(&cobra.Command{
		Use:   "result RUN",
		Short: "Print the result of a run",
		Long: `Print the result of a run that has completed. One that has not is an error; with --wait it is
waited for. A run that went on as another is followed to the last one.`,
		Example: a.examples("runs result run_01JD", "runs result run_01JD --wait --timeout 5m -o json"),
	}, func(ctx context.Context, id string) error {
		run, err := a.ended(ctx, id, wait)
		if err != nil {
			return err
		}
		if !run.State.Terminal() {
			return &exitError{exitConflict, fmt.Errorf("run %s is %s, it has no result yet", run.ID, run.State), []string{
				"see why: " + a.hint("runs show %s", run.ID), "or wait: " + a.hint("runs result %s --wait", run.ID)}}
		}
		return a.printResult(run)
	})
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the run has ended")
	return cmd
}

// restart is how long a server that is waited for may be away.
const restart = 30 * time.Second

// ended returns a run, and with wait one that has ended.
func (a *app) ended(ctx context.Context, id string, wait bool) (api.Run, error) {
	pause := time.Duration(0)
	if wait {
		pause, a.waits = longPoll, true
	}
	var gone time.Time // since when the server that was there is not
	for {
		patience := pause
		if !gone.IsZero() { // whether it is back is soon told
			patience = 0
		}
		run, err := a.client.Run(ctx, id, patience)
		if wait && errors.Is(err, api.ErrUnreachable) { // it was there when the run was named or started
			if gone.IsZero() {
				gone = time.Now()
			}
			if time.Since(gone) < restart {
				select {
				case <-ctx.Done():
				case <-time.After(500 * time.Millisecond):
				}
				continue
			}
		}
		if err == nil {
			gone = time.Time{}
		}
		switch {
		case err != nil && ctx.Err() != nil:
			return run, a.detached(ctx, id)
		case err != nil:
			return run, err
		case run.Next != "":
			id = run.Next
			continue
		case run.State == pawl.Blocked && wait:
			return run, a.stuck(run)
		case run.State.Terminal() || !wait:
			return run, nil
		}
	}
}

// printResult prints how a run ended.
func (a *app) printResult(run api.Run) error {
	if !a.people() {
		if err := a.data(view{body: a.last.body, of: run}); err != nil {
			return err
		}
	} else if run.Result != nil {
		a.out.value(run.Result)
	}
	return a.verdict(run)
}
