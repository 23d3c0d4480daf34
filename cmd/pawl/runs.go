package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

func (a *app) runsCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use:     "runs",
		Aliases: []string{"run"},
		Short:   "List, show, follow and steer runs",
		Example: fmt.Sprintf("  %[1]s runs list --state failed\n  %[1]s runs show run_01JD", a.self),
	}, a.listCommand(), a.showCommand(), a.followCommand(), a.cancelCommand(), a.pauseCommand(), a.resumeCommand(), a.retryCommand(), a.forkCommand())
}

func (a *app) listCommand() *cobra.Command {
	q := api.RunQuery{}
	var states, attrs []string
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List runs, newest first",
		Example: fmt.Sprintf("  %[1]s runs list --state failed,blocked --limit 20\n  %[1]s runs list --workflow research-agent --attr phase=plan", a.self),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range states {
				state, err := pawl.ParseState(name)
				if err != nil {
					return a.usage("--state %q: there are %s", name, strings.Join(stateNames(), ", "))
				}
				q.States = append(q.States, state)
			}
			for _, pair := range attrs {
				name, value, ok := strings.Cut(pair, "=")
				if !ok || name == "" {
					return a.usage("--attr %q is not name=value", pair)
				}
				if q.Attrs == nil {
					q.Attrs = map[string]string{}
				}
				q.Attrs[name] = value
			}
			return a.list(cmd.Context(), q)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&q.Workflow, "workflow", "", "only runs of this workflow")
	flags.StringSliceVar(&states, "state", nil, "only runs in these states")
	flags.StringArrayVar(&attrs, "attr", nil, "only runs with this attribute, as name=value; may be repeated")
	flags.IntVar(&q.Limit, "limit", 50, "how many, at most 500")
	flags.StringVar(&q.Cursor, "cursor", "", "where to go on, as told by the list before")
	a.completeNames(cmd, "workflow", a.workflowNames)
	a.complete(cmd, "state", stateNames()...)
	return cmd
}

func stateNames() (names []string) {
	for s := pawl.Pending; s <= pawl.Blocked; s++ {
		names = append(names, s.String())
	}
	return names
}

func (a *app) list(ctx context.Context, q api.RunQuery) error {
	page, err := a.client.Runs(ctx, q)
	if err != nil {
		return err
	}
	if a.json() {
		a.out.json(a.body)
		return nil
	}
	notes := newPrinter(a.stderr, false)
	if len(page.Items) == 0 {
		notes.line("no runs; start one: %s", style(a.hint("start WORKFLOW")))
		return nil
	}
	var rows [][]string
	for _, run := range page.Items {
		rows = append(rows, []string{run.ID, run.Workflow, run.State.String(), ago(run.Created), lasted(run), about(run)})
	}
	a.out.table([]string{"ID", "WORKFLOW", "STATE", "CREATED", "TOOK", "ABOUT"}, rows)
	if page.NextCursor != "" {
		notes.line("there are more: --limit, or --cursor %s", page.NextCursor)
	}
	return nil
}

func lasted(run pawl.RunInfo) string {
	if run.Ended.IsZero() {
		return ""
	}
	return took(run.Ended.Sub(run.Created))
}

// about is the one thing worth telling of a run in a list.
func about(run pawl.RunInfo) string {
	if run.Reason != "" {
		return run.Reason
	}
	return attributesOf(run)
}

func attributesOf(run pawl.RunInfo) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(run.Attrs)) {
		pairs = append(pairs, name+"="+run.Attrs[name])
	}
	return strings.Join(pairs, " ")
}

func (a *app) showCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show RUN",
		Short: "Show a run: what is known of it, what it waits for, its journal",
		Long: `Show a run: what is known of it, what it waits for, its journal and how it ended.
With -o json, the run alone; "runs follow -o json" has the journal.`,
		Example:           fmt.Sprintf("  %[1]s runs show run_01JD\n  %[1]s runs show run_01JD -o json", a.self),
		Args:              a.oneArg("RUN", a.runIDs),
		ValidArgsFunction: a.completeFirst(a.runIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.explain(a.show(cmd.Context(), args[0]), args[0])
		},
	}
}

func (a *app) show(ctx context.Context, id string) error {
	run, err := a.client.Run(ctx, id, 0)
	if err != nil {
		return err
	}
	if a.json() {
		a.out.json(a.body)
		return nil
	}
	p := a.out
	fact := func(name, value string) {
		if value != "" {
			p.line("%s %s", p.dim(fmt.Sprintf("%-11s", name)), oneLine(value))
		}
	}
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.Local().Format(time.DateTime)
	}
	fact("run", run.ID)
	fact("workflow", strings.TrimSpace(run.Workflow+" "+run.Version))
	fact("state", run.State.String())
	if !run.State.Terminal() {
		why, err := a.client.Why(ctx, id)
		if err != nil {
			return err
		}
		fact("why", why.Why)
	}
	fact("attributes", attributesOf(run.RunInfo))
	fact("created", at(run.Created)+" ("+ago(run.Created)+")")
	fact("ended", at(run.Ended))
	fact("took", lasted(run.RunInfo))
	fact("deadline", at(run.Deadline))
	fact("parent", run.Parent)
	fact("forked from", run.Forked)
	fact("goes on as", run.Next)
	if run.Epoch > 1 {
		fact("claims", strconv.FormatInt(run.Epoch, 10))
	}
	hooks, err := a.client.Hooks(ctx, id)
	if err != nil {
		return err
	}
	for _, h := range hooks.Items {
		fact("hook", h.Key+" "+h.Token)
	}
	var rows [][]string
	for entry, err := range a.client.Journal(ctx, id) {
		if err != nil {
			return err
		}
		row := []string{strconv.FormatInt(entry.Seq, 10), entry.At.Local().Format("15:04:05.000"), entry.Kind.String(), entry.Key, "", "", cut(oneLine(noteOf(&entry)), 200)}
		if entry.Attempt > 0 {
			row[4] = strconv.Itoa(entry.Attempt)
		}
		if entry.Took > 0 {
			row[5] = took(entry.Took)
		}
		rows = append(rows, row)
	}
	p.line("")
	p.table([]string{"SEQ", "AT", "KIND", "KEY", "ATTEMPT", "TOOK", "DATA"}, rows)
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
