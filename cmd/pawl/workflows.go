package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

func (a *app) workflowsCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use: "workflows", Aliases: []string{"workflow", "wf"}, Short: "See what can be started, and choose versions of flows",
		Example: a.examples("workflows list", "workflows show research-agent", "workflows activate triage 2"),
	}, a.workflowsListCommand(), a.workflowsShowCommand(), a.workflowsVersionsCommand(), a.workflowsExportCommand(),
		a.workflowsActivateCommand(), a.workflowsRollbackCommand(), a.workflowsMigrateCommand(), a.workflowsDeactivateCommand(), a.workflowsMetricsCommand())
}

func (a *app) workflowsListCommand() *cobra.Command {
	var all bool
	var limit int
	var cursor string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the workflows that the server can start",
		Long: `List the workflows that the server can start, those of its program and the flows that were deployed: the
version that new runs get, what starts them beside people (schedules, and subscriptions to
events), the fields of their input where they are known ("?": optional), and what they do. Those that other
code starts are left out of the table; --all shows them.`,
		Example: a.examples("workflows list", "workflows list --all -o wide"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := a.client.Workflows(cmd.Context(), cursor, limit)
			if err != nil {
				return err
			}
			return a.show(view{body: a.last.body, of: api.Workflow{}, list: true, name: "name", table: func() {
				a.workflowTable(cmd.Context(), list.Items, all)
				a.more(list.NextCursor)
			}})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also those that other code starts")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many, at most 500")
	cmd.Flags().StringVar(&cursor, "cursor", "", "where to go on, as told by the list before")
	return cmd
}

func (a *app) workflowTable(ctx context.Context, items []api.Workflow, all bool) {
	starts := a.startersOf(ctx, "")
	var rows [][]any
	hidden := 0
	for _, w := range items {
		if w.Internal && !all {
			hidden++
			continue
		}
		by := strings.Join(starts[w.Name], " ")
		if w.Internal {
			by = strings.TrimSpace("code " + by)
		}
		rows = append(rows, []any{w.Name, versionOf(&w), inputOf(&w), by, titleOf(&w)})
	}
	if rows == nil {
		a.note("the server has no workflow to start")
	} else {
		a.table(columns{"NAME", "VERSION", "INPUT", "STARTED BY", "ABOUT"}, rows)
	}
	if hidden > 0 {
		a.note("%d more that other code starts: %s", hidden, style(a.hint("workflows list --all")))
	}
}

// inputOf are the names of the fields of a workflow's input.
func inputOf(w *api.Workflow) string {
	var names []string
	for _, f := range w.Fields {
		if f.Optional {
			f.Name += "?"
		}
		names = append(names, f.Name)
	}
	return strings.Join(names, " ")
}

// startersOf are the schedules and the subscriptions that start workflows, by workflow: all, or those of one. That they
// can't be seen is no trouble: they are said beside.
func (a *app) startersOf(ctx context.Context, workflow string) map[string][]string {
	found := map[string][]string{}
	add := func(name, what string) {
		if workflow == "" || name == workflow {
			found[name] = append(found[name], what)
		}
	}
	for cursor, more := "", true; more; more = cursor != "" {
		page, err := a.client.Schedules(ctx, "", cursor, enough)
		if err != nil {
			a.note("schedules can't be seen: %s", err)
			break
		}
		for _, s := range page.Items {
			add(s.Workflow, "schedule:"+s.ID)
		}
		cursor = page.NextCursor
	}
	for cursor, more := "", true; more; more = cursor != "" {
		page, err := a.client.Subscriptions(ctx, "", cursor, enough)
		if err != nil {
			a.note("subscriptions can't be seen: %s", err)
			break
		}
		for _, s := range page.Items {
			add(s.Workflow, "event:"+s.Event)
		}
		cursor = page.NextCursor
	}
	return found
}

func (a *app) workflowsShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show WORKFLOW", Short: "Show a workflow: what it does, takes and is started by",
		Long: `Show a workflow: what it does, the fields of its input where they are known, what starts it beside people,
and the command that does.`,
		Example:           a.examples("workflows show research-agent", "workflows show research-agent -o json"),
		Args:              a.oneArg("WORKFLOW", a.workflowNames),
		ValidArgsFunction: a.completeFirst(a.workflowNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			w, err := a.client.Workflow(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(view{body: a.last.body, of: w, name: "name", table: func() { a.showWorkflow(cmd.Context(), &w) }})
		},
	}
}

func (a *app) showWorkflow(ctx context.Context, w *api.Workflow) {
	if w.Kind != api.KindFlow {
		a.fact("workflow", strings.TrimSpace(w.Name+" "+w.Version))
	} else {
		a.fact("workflow", w.Name)
	}
	a.fact("about", titleOf(w))
	if w.Kind == api.KindFlow {
		a.fact("version", versionOf(w))
		a.fact("latest", w.Latest)
		a.fact("changed", strings.TrimSpace(string(a.when(w.Changed))+" "+w.By))
	}
	if w.Internal {
		a.fact("internal", "other code starts it")
	}
	a.fact("started by", strings.Join(a.startersOf(ctx, w.Name)[w.Name], ", "))
	var rows [][]any
	for _, f := range w.Fields {
		must := ""
		if f.Optional {
			must = "yes"
		}
		var values []string
		for _, v := range f.Values {
			values = append(values, string(v))
		}
		rows = append(rows, []any{f.Name, f.Kind, must, strings.Join(values, ", ")})
	}
	if rows != nil {
		a.out.line("")
		a.table(columns{"FIELD", "KIND", "OPTIONAL", "VALUES"}, rows)
	}
	a.out.line("")
	start := a.hint("start %s", w.Name)
	if example := exampleOf(w.Fields); example != "" {
		start += " --input " + shellQuote(example)
	}
	a.fact("start", style(start))
	if w.Kind == api.KindFlow {
		a.fact("versions", style(a.hint("workflows versions %s", w.Name)))
		a.fact("document", style(a.hint("workflows export %s", w.Name)))
	}
	if w.Mermaid != "" {
		a.fact("draw", style(a.hint("graph %s", w.Name)))
	}
	a.fact("runs", style(a.hint("runs list --workflow %s", w.Name)))
}

// exampleOf is an input with a value of the right kind in each field that is not optional.
func exampleOf(fields []pawl.Field) string {
	values := map[string]string{"string": `"…"`, "number": "1.5", "integer": "1", "boolean": "true", "array": "[]", "object": "{}", "time": `"2026-11-21T18:00:00Z"`, "any": "null"}
	var pairs []string
	for _, f := range fields {
		if f.Optional {
			continue
		}
		value := values[f.Kind]
		if len(f.Values) > 0 {
			value = string(f.Values[0])
		}
		if name, err := json.Marshal(f.Name); err == nil {
			pairs = append(pairs, string(name)+":"+value)
		}
	}
	if pairs == nil {
		return ""
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

// namesOf are those of the workflows that people start.
func namesOf(items []api.Workflow) (names []string) {
	for _, w := range items {
		if !w.Internal {
			names = append(names, w.Name)
		}
	}
	return slices.Clip(names)
}
