package main

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/internal/spelling"
	"github.com/spf13/cobra"
)

func (a *app) runsCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use:     "runs",
		Aliases: []string{"run"},
		Short:   "List, show, follow and steer runs",
		Example: a.examples("runs list --state failed", "runs show run_01JD"),
	}, a.listCommand(), a.showCommand(), a.followCommand(), a.resultCommand(), a.cancelCommand(), a.pauseCommand(), a.resumeCommand(), a.retryCommand(), a.wakeCommand(), a.forkCommand(), a.forkAskedCommand(), a.deleteCommand())
}

// picking are the flags that pick runs.
type picking struct {
	workflow     string
	states       []string
	attrs        []string
	older, newer string
	parent       string
}

func (a *app) pickingFlags(cmd *cobra.Command, p *picking) {
	flags := cmd.Flags()
	flags.StringVar(&p.workflow, "workflow", "", "only runs of this workflow")
	flags.StringSliceVar(&p.states, "state", nil, "only runs in these states: "+strings.Join(stateNames(), ", "))
	flags.StringArrayVar(&p.attrs, "attr", nil, "only runs with this attribute, as name=value; may be repeated")
	flags.StringVar(&p.older, "older", "", "only runs made longer ago than this, or before this day: 2h, 2026-11-21")
	flags.StringVar(&p.parent, "parent", "", "only children of the run with this id")
	flags.StringVar(&p.newer, "newer", "", "only runs made since then: 2h, 2026-11-21")
	a.completeNames(cmd, "workflow", a.workflowNames)
	a.complete(cmd, "state", stateNames()...)
}

// none reports whether nothing was picked.
func (p *picking) none() bool {
	return p.workflow == "" && p.states == nil && p.attrs == nil && p.older == "" && p.newer == "" && p.parent == ""
}

// runQuery reads the flags.
func (a *app) runQuery(p *picking) (q api.RunQuery, err error) {
	q.Workflow, q.Parent = p.workflow, p.parent
	for _, name := range p.states {
		state, err := pawl.ParseState(name)
		if err != nil {
			return q, a.usage("--state %q: there are %s", name, strings.Join(stateNames(), ", "))
		}
		q.States = append(q.States, state)
	}
	if q.Attrs, err = a.pairs(p.attrs); err != nil {
		return q, err
	}
	if q.Since, err = a.moment("newer", p.newer); err != nil {
		return q, err
	}
	q.Until, err = a.moment("older", p.older)
	return q, err
}

// pairs reads what --attr says.
func (a *app) pairs(texts []string) (pairs map[string]string, err error) {
	for _, pair := range texts {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, a.usage("--attr %q is not name=value", pair)
		}
		if pairs == nil {
			pairs = map[string]string{}
		}
		pairs[name] = value
	}
	return pairs, nil
}

func (a *app) listCommand() *cobra.Command {
	var p picking
	var limit int
	var cursor string
	var watch bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List runs, newest first",
		Long:    `List runs, newest first. With --watch the list is drawn anew every two seconds, until Ctrl-C.`,
		Example: a.examples("runs list --state failed,blocked --limit 20", "runs list --workflow research-agent --attr phase=plan", "runs list --state running --watch"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := a.runQuery(&p)
			if err != nil {
				return err
			}
			q.Limit, q.Cursor = limit, cursor
			if watch {
				return a.watch(cmd.Context(), func(ctx context.Context) error { return a.list(ctx, q) })
			}
			return a.list(cmd.Context(), q)
		},
	}
	flags := cmd.Flags()
	a.pickingFlags(cmd, &p)
	flags.IntVar(&limit, "limit", 50, "how many, at most 500")
	flags.StringVar(&cursor, "cursor", "", "where to go on, as told by the list before")
	flags.BoolVarP(&watch, "watch", "w", false, "draw the list anew as it changes")
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
	return a.show(view{body: a.last.body, of: pawl.RunInfo{}, list: true, table: func() {
		if len(page.Items) == 0 {
			a.noRuns(ctx, q)
		} else {
			shown := a.runTable(page.Items)
			if i := slices.IndexFunc(page.Items, func(run pawl.RunInfo) bool { return run.State == pawl.Waiting }); i >= 0 {
				a.note("why: %s", style(a.hint("runs show %s", shown[i])))
			}
		}
		if page.NextCursor != "" {
			a.note("there are more: --limit, or --cursor %s", page.NextCursor)
		}
	}})
}

// noRuns tells a store without runs from a filter that none fits.
func (a *app) noRuns(ctx context.Context, q api.RunQuery) {
	q.Limit = 0
	if reflect.ValueOf(q).IsZero() {
		a.note("no runs; start one: %s", style(a.hint("start WORKFLOW")))
		return
	}
	a.note("no run fits; see all: %s", style(a.hint("runs list")))
	if names := a.workflowNames(ctx, ""); q.Workflow != "" && len(names) > 0 && !slices.Contains(names, q.Workflow) {
		a.note("the server has no workflow %q; %s", q.Workflow, spelling.Choice(q.Workflow, names))
	}
}

// runTable prints runs, and returns their ids as they stand there: on a narrow terminal shortened to what names them.
func (a *app) runTable(runs []pawl.RunInfo) (ids []string) {
	var rows [][]any
	for _, run := range runs {
		rows = append(rows, []any{run.ID, a.out.paintState(run.State.String()), run.Workflow, a.when(run.Created), lasted(run), a.when(run.Due), run.Epoch, run.Parent, gist(run)})
	}
	a.table(columns{"~ID", "STATE", "WORKFLOW", "CREATED", "TOOK", "+DUE", "+CLAIMS", "+PARENT", "ABOUT"}, rows)
	for _, row := range rows {
		ids = append(ids, row[0].(string))
	}
	return ids
}

func lasted(run pawl.RunInfo) string {
	if run.Ended.IsZero() {
		return ""
	}
	return took(run.Ended.Sub(run.Created))
}

// gist is the one thing worth telling of a run in a list.
func gist(run pawl.RunInfo) string {
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
