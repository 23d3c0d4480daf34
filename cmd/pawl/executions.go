package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow"
	"github.com/spf13/cobra"
)

func (a *app) executionsCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use: "executions", Aliases: []string{"execution", "ex"}, Short: "See what runs of flows have done, step by step",
		Example: a.examples("executions list --workflow triage", "executions show run_01JD"),
	}, a.executionsListCommand(), a.executionsShowCommand())
}

func (a *app) executionsListCommand() *cobra.Command {
	var q api.ExecutionQuery
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List runs of flows, newest first",
		Long:    "List runs of flows, newest first. Runs of code are not among them: those are in \"runs list\".",
		Example: a.examples("executions list", "executions list --workflow triage --limit 5"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			page, err := a.client.Executions(cmd.Context(), q)
			if err != nil {
				return a.explain(err, q.Workflow)
			}
			return a.show(view{body: a.last.body, of: api.ExecutionInfo{}, list: true, name: "executionId", table: func() {
				var rows [][]any
				for _, x := range page.Items {
					rows = append(rows, []any{x.ExecutionID, x.WorkflowID, x.Version, a.out.paintState(x.Status.String()), a.when(x.StartedAt), cut(oneLine(x.Reason), 80)})
				}
				if rows == nil {
					a.note("there is none")
				} else {
					a.table(columns{"~ID", "WORKFLOW", "VERSION", "STATE", "STARTED", "REASON"}, rows)
				}
				a.more(page.NextCursor)
			}})
		},
	}
	cmd.Flags().StringVar(&q.Workflow, "workflow", "", "only runs of this flow")
	cmd.Flags().IntVar(&q.Limit, "limit", 50, "how many, at most 500")
	cmd.Flags().StringVar(&q.Cursor, "cursor", "", "where to go on, as told by the list before")
	a.completeNames(cmd, "workflow", a.workflowNames)
	return cmd
}

func (a *app) executionsShowCommand() *cobra.Command {
	return a.ofRun(&cobra.Command{
		Use: "show RUN", Short: "Show a run of a flow: its steps, what they brought and cost, what it waits for",
		Long: `Show a run of a flow: each step that it came to, how it stands, how often it was tried, what it brought and what it
cost, those of branches and items too, and what it waits for now. Runs of code are shown by "runs show".`,
		Example: a.examples("executions show run_01JD", "executions show run_01JD -o json --jq .stepResults.classify.output"),
	}, func(ctx context.Context, id string) error {
		x, err := a.client.Execution(ctx, id)
		if err != nil {
			return err
		}
		return a.show(view{body: a.last.body, of: flow.Execution{}, name: "executionId", table: func() { a.execution(&x) }})
	})
}

func (a *app) execution(x *flow.Execution) {
	a.fact("run", x.ExecutionID)
	a.fact("workflow", fmt.Sprintf("%s, version %d", x.WorkflowID, x.Version))
	a.fact("state", a.out.paintState(x.Status.String()))
	for _, c := range x.Current {
		text := c.Step + ": " + c.Status
		if c.WaitsFor != "" {
			text += " for " + c.WaitsFor
		}
		if !c.Until.IsZero() {
			text += ", until " + stamp(c.Until)
		}
		a.fact("now", text)
	}
	a.fact("started", stamp(x.StartedAt))
	if x.CompletedAt != nil {
		a.fact("ended", stamp(*x.CompletedAt))
	}
	a.fact("cost", x.SayCost())
	for _, what := range x.Truncated {
		a.fact("left out", what)
	}
	a.out.line("")
	if rows := a.stepRows(x.StepResults, ""); rows != nil {
		a.table(columns{"STEP", "STATUS", "TRIES", "VISITS", "TOOK", "COST", "OUTPUT"}, rows)
	} else {
		a.note("no step was begun")
	}
	switch {
	case x.Output != nil:
		a.out.line("")
		a.out.line("%s", a.out.green("output"))
		a.out.value(x.Output)
	case x.Error != nil:
		a.out.line("")
		a.out.line("%s %s", a.out.red(x.Status.String()+":"), x.Error.Message)
	}
}

// stepRows are the steps in the order in which they began, those of branches below theirs.
func (a *app) stepRows(steps map[string]flow.StepResult, at string) (rows [][]any) {
	ids := make([]string, 0, len(steps))
	for id := range steps {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(x, y string) int {
		if n := steps[x].StartedAt.Compare(steps[y].StartedAt); n != 0 {
			return n
		}
		return strings.Compare(x, y)
	})
	for _, id := range ids {
		r := steps[id]
		said, cost := readable(string(r.Output)), ""
		if r.Error != nil {
			said = r.Error.Message
		}
		if r.CountedMicroUSD > 0 {
			cost = r.SayCost()
		}
		paint := a.out.yellow
		switch r.Status {
		case "completed":
			paint = a.out.green
		case "failed", "timed out", "cancelled":
			paint = a.out.red
		case "skipped":
			paint = a.out.dim
		}
		var tries any = "-" // what waits, and what holds other steps, is not tried
		if n := len(r.Attempts); n > 0 {
			tries = n
		}
		rows = append(rows, []any{at + id, paint(r.Status), tries, r.Visits, took(time.Duration(r.DurationMs) * time.Millisecond), cost, cut(oneLine(said), 120)})
		names := make([]string, 0, len(r.Branches))
		for name := range r.Branches {
			names = append(names, name)
		}
		slices.SortFunc(names, func(x, y string) int { // items by their number
			if n := len(x) - len(y); n != 0 && strings.Trim(x+y, "0123456789") == "" {
				return n
			}
			return strings.Compare(x, y)
		})
		for _, name := range names {
			rows = append(rows, a.stepRows(r.Branches[name].Steps, at+id+"/"+name+"/")...)
		}
	}
	return rows
}

func (a *app) workflowsMetricsCommand() *cobra.Command {
	var since, until string
	cmd := &cobra.Command{
		Use: "metrics FLOW", Short: "Show how the runs of a flow have come out, and what they have cost",
		Long: `Show how the runs of a flow have come out: how many completed and failed, how long they took and what they have
cost, in all and in the last 24 hours. "costs --workflow FLOW --by step" says which steps it was.`,
		Example:           a.examples("workflows metrics triage", "workflows metrics triage --since 168h"),
		Args:              a.oneArg("FLOW", a.workflowNames),
		ValidArgsFunction: a.completeFirst(a.workflowNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			var span flow.Span
			var err error
			if span.From, err = a.moment("since", since); err != nil {
				return err
			}
			if span.To, err = a.moment("until", until); err != nil {
				return err
			}
			m, err := a.client.WorkflowMetrics(cmd.Context(), args[0], span)
			if err != nil {
				return a.explain(err, args[0])
			}
			return a.show(view{body: a.last.body, of: flow.Metrics{}, name: "workflowId", table: func() { a.metrics(&m) }})
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "only runs begun from this day on, or so long ago: 2026-11-21, 24h")
	cmd.Flags().StringVar(&until, "until", "", "only runs begun before this day, or so long ago")
	return cmd
}

func (a *app) metrics(m *flow.Metrics) {
	a.fact("workflow", m.WorkflowID)
	if !m.Since.IsZero() {
		a.fact("since", stamp(m.Since)+" (there are too many runs to count all)")
	}
	a.out.line("")
	row := func(what string, t *flow.Tally) []any {
		ms := func(n int64) string { return took(time.Duration(n) * time.Millisecond) }
		each := "unknown"
		if t.AvgCostPerExecution != nil {
			each = *t.AvgCostPerExecution
		}
		return []any{what, t.TotalExecutions, t.Completed, t.Failed, t.Cancelled, t.Running, t.SuccessRate, t.SayCost(), each, ms(t.AvgDurationMs), ms(t.P95DurationMs)}
	}
	a.table(columns{"RUNS", "ALL", "COMPLETED", "FAILED", "CANCELLED", "RUNNING", "SUCCESS", "COST", "EACH", "TOOK", "P95"}, [][]any{row("counted", &m.Tally), row("last 24h", &m.Last24h)})
	var rows [][]any
	for version, c := range m.ByVersion {
		rows = append(rows, []any{version, c.TotalExecutions, c.Completed, c.Failed, c.Cancelled, c.Running, c.SuccessRate})
	}
	slices.SortFunc(rows, func(x, y []any) int {
		if n := len(x[0].(string)) - len(y[0].(string)); n != 0 {
			return n
		}
		return strings.Compare(x[0].(string), y[0].(string))
	})
	if rows != nil {
		a.out.line("")
		a.table(columns{"VERSION", "ALL", "COMPLETED", "FAILED", "CANCELLED", "RUNNING", "SUCCESS"}, rows)
	}
}
