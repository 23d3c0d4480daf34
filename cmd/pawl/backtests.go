package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// backtesting is what the command line says of a backtest.
type backtesting struct {
	api.BacktestRequest
	picking
	workflow string // the flow, or the workflow of the program, whose runs are meant
	since    string
	file     string // a flow with the step changed
	budget   float64
	limit    int
	wait     bool
	yes, dry bool
}

func (a *app) backtestCommand() *cobra.Command {
	var b backtesting
	var system string
	var temperature float64
	cmd := &cobra.Command{
		Use: "backtest STEP [RUN…]", Short: "Ask the questions of past runs again, with something changed",
		Long: `Ask the questions that past runs have asked in a STEP again, with something changed, and compare. Runs are
not changed. Without a RUN the flags pick runs, newest first. It is a run itself; its result is the report.

A STEP of a flow is an ai-decision, as FLOW.STEP, or STEP with --workflow. --flow FILE asks what the step of
the file asks, --prompt NAME@VERSION what the prompt of the registry does, filled in with what each run had
there. What it is likely to cost is told first, and is to be confirmed; --budget ends it.`,
		Example: a.examples("backtest triage.classify --model openai/gpt-4o-mini", "backtest classify --workflow triage --flow flows/triage.yaml --since 7d --yes", "backtest triage.classify --prompt sort@2 --dry-run",
			"backtest synthesize run_01JD run_01JE --model anthropic/claude-haiku-4-5 --wait"),
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			if err := a.readChange(cmd, &b.Change, &system, &temperature); err != nil {
				return err
			}
			if cmd.Flags().Changed("budget") {
				b.BudgetUSD = &b.budget
			}
			if b.since != "" {
				if _, err := a.moment("since", b.since); err != nil {
					return err
				}
				b.newer = b.since
			}
			b.Step = args[0]
			flow, err := a.backtestOf(ctx, &b, args[1:])
			if err != nil {
				return err
			}
			if flow {
				return a.backtestFlow(ctx, &b, !cmd.Flags().Changed("wait") || b.wait)
			}
			return a.backtestCode(ctx, &b)
		},
	}
	a.changeFlags(cmd, &b.Change, &system, &temperature)
	a.pickingFlags(cmd, &b.picking)
	flags := cmd.Flags()
	flags.Lookup("prompt").Usage = "in place of the user's last message, in which {{prompt}} stands for that; @file and - too; of a flow also NAME@VERSION, a prompt of the registry"
	flags.StringVar(&b.file, "flow", "", "a flow in a file, whose step is asked instead; nothing is deployed")
	flags.StringVar(&b.since, "since", "", "only runs made since then: 7d, 2026-11-21; --newer is the same")
	flags.IntVar(&b.limit, "limit", 20, "how many runs the flags pick at most")
	flags.Float64Var(&b.budget, "budget", 1, "the most that it may cost, in US dollars")
	flags.IntVar(&b.Parallel, "parallel", 0, "how many questions are asked at once (default 16)")
	flags.StringVar(&b.ID, "id", "", "id of the run that asks (default a new one)")
	flags.BoolVar(&b.wait, "wait", false, "wait for the report and print it (default of flows; --wait=false does not)")
	flags.BoolVarP(&b.yes, "yes", "y", false, "of a flow: don't ask whether it may cost what is estimated")
	flags.BoolVar(&b.dry, "dry-run", false, "of a flow: only tell what it would ask and is likely to cost")
	return cmd
}

// backtestOf finds whose runs are meant, picks them, and reports whether they are those of a flow.
func (a *app) backtestOf(ctx context.Context, b *backtesting, runs []string) (flow bool, err error) {
	for _, typed := range runs {
		id, err := a.runID(ctx, typed)
		if err != nil {
			return false, a.explain(err, typed)
		}
		b.Runs = append(b.Runs, id)
	}
	named := b.picking.workflow
	switch {
	case named == "" && len(b.Runs) > 0:
		run, err := a.client.Run(ctx, b.Runs[0], 0)
		if err != nil {
			return false, a.explain(err, b.Runs[0])
		}
		named = run.Workflow
		b.Step = strings.TrimPrefix(b.Step, named+".")
	case named == "":
		before, after, dotted := strings.Cut(b.Step, ".")
		if !dotted {
			break
		}
		named, b.Step, b.picking.workflow = before, after, before
	}
	switch {
	case len(b.Runs) > 0 && !b.picking.none():
		return false, a.usage("name runs or pick them by flags, not both")
	case len(b.Runs) == 0 && b.picking.none():
		return false, a.usage("which runs? name the flow, as FLOW.%s, or runs, or pick them by flags such as --workflow", b.Step)
	}
	b.workflow = named
	if named != "" {
		w, err := a.client.Workflow(ctx, named)
		if err != nil {
			return false, a.explain(err, named)
		}
		flow = w.Latest > 0
	}
	if len(b.Runs) > 0 {
		return flow, nil
	}
	query, err := a.runQuery(&b.picking)
	if err != nil {
		return false, err
	}
	query.Limit = b.limit
	page, err := a.client.Runs(ctx, query)
	if err != nil {
		return false, err
	}
	for _, run := range page.Items {
		b.Runs = append(b.Runs, run.ID)
	}
	if b.Runs == nil {
		return false, &exitError{exitNotFound, errors.New("no run is as the flags say: there is nothing to ask again"), []string{"see what there is: " + a.hint("runs list")}}
	}
	return flow, nil
}

// backtestCode asks questions of a workflow of the program again.
func (a *app) backtestCode(ctx context.Context, b *backtesting) error {
	switch {
	case b.file != "" || b.dry || b.yes:
		return a.usage("--flow, --dry-run and --yes are for decisions of flows, and %s is a workflow of the program", b.workflow)
	case registered.MatchString(b.Change.Prompt):
		return a.usage("--prompt NAME@VERSION is for decisions of flows; --version asks another version of the prompt that the question was made of")
	}
	if err := a.changesSomething(&b.Change); err != nil {
		return err
	}
	run, err := a.client.Backtest(ctx, b.BacktestRequest)
	if err != nil {
		return a.explain(err, b.ID)
	}
	return a.backtestTold(ctx, &run, len(b.Runs), b.wait)
}

// registered is a prompt of the registry by its name and version.
var registered = regexp.MustCompile(`^[^\s{}@]+@[0-9]+$`)

// backtestFlow tells what asking a decision again is likely to cost, and asks if that is what the person wants.
func (a *app) backtestFlow(ctx context.Context, b *backtesting, wait bool) error {
	c := &b.Change
	q := api.WorkflowBacktestRequest{
		Step: b.Step, Model: c.Model, System: c.System, Temperature: c.Temperature, MaxTokens: c.MaxTokens,
		Runs: b.Runs, MaxUSD: b.BudgetUSD, Parallel: b.Parallel, DryRun: true, ID: b.ID,
	}
	switch {
	case c.Version != 0:
		return a.usage("--version of which prompt? give --prompt NAME@%d", c.Version)
	case registered.MatchString(c.Prompt):
		q.PromptRef = c.Prompt
	default:
		q.Prompt = c.Prompt
	}
	if b.file != "" {
		data, err := readFlow(b.file)
		if err != nil {
			return a.usage("--flow: %w", err)
		}
		if q.Flow, err = json.Marshal(string(data)); err != nil {
			return err
		}
	} else if *c == (agent.Change{}) {
		return a.usage("what is asked otherwise? give --model, --flow, --prompt, --system, --temperature or --max-tokens")
	}
	plan, err := a.client.BacktestWorkflow(ctx, b.workflow, q, 0)
	if err != nil {
		return a.explain(err, b.workflow)
	}
	e := &plan.Estimate
	if b.dry {
		return a.show(view{body: a.last.body, of: plan, table: func() { a.out.line("%s", strings.Join(a.estimated(b, e), "\n")) }})
	}
	if e.Questions > 0 {
		if ok, err := a.agreedTo(b, e); !ok || err != nil {
			return err
		}
	}
	q.DryRun = false
	started, err := a.client.BacktestWorkflow(ctx, b.workflow, q, 0)
	if err != nil {
		return a.explain(err, b.workflow)
	}
	if started.Run == nil {
		return fmt.Errorf("the server has told of no run that asks")
	}
	return a.backtestTold(ctx, started.Run, len(b.Runs), wait)
}

// agreedTo asks whether a backtest may cost what it is likely to.
func (a *app) agreedTo(b *backtesting, e *agent.Estimate) (bool, error) {
	lines := a.estimated(b, e)
	if b.yes {
		for _, line := range lines {
			a.note("%s", line)
		}
		return true, nil
	}
	in, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		ok = false
	}
	for _, line := range lines {
		fmt.Fprintln(a.stderr, clean(line))
	}
	if !ok {
		return false, &exitError{exitUsage, errors.New("nothing was asked: nobody is there to confirm it"), []string{"if you mean it, add --yes"}}
	}
	if !a.agreed(in, "Ask them?") {
		a.note("nothing was asked")
		return false, nil
	}
	return true, nil
}

// estimated says what a backtest would ask, and what that is likely to cost.
func (a *app) estimated(b *backtesting, e *agent.Estimate) (lines []string) {
	add := func(n int, format string, args ...any) {
		if n > 0 {
			lines = append(lines, fmt.Sprintf(format, args...))
		}
	}
	asks := strings.Join(e.Models, ", ")
	if asks == "" {
		asks = "nobody"
	}
	add(1, "%s of %s: %d questions of %s, asked of %s", b.Step, b.workflow, e.Questions, runsOf(e.Runs), asks)
	add(e.Questions, "likely to cost %s, as answers were so far (%d tokens in, %d out); it was %s", money(pawl.USD, e.Cost), e.Tokens.Input, e.Tokens.Output, money(pawl.USD, e.CostWas))
	add(e.Questions, "at most $%s (--budget): what is left then is not asked", strconv.FormatFloat(b.budget, 'f', -1, 64))
	add(len(e.Unpriced), "the price of %s is not known: a call counts as %s", strings.Join(e.Unpriced, ", "), money(pawl.USD, e.Each))
	add(e.Unchanged, "%d of them are word for word as they were, of the same model", e.Unchanged)
	add(e.Unfit, "%d are not asked, as the change does not fit them: %s", e.Unfit, e.Why)
	add(e.Absent, "%d are not asked, as their words are not in the journal", e.Absent)
	add(e.Unanswered, "%d are not asked, as they had no answer then", e.Unanswered)
	add(e.Without, "%s did not come to the step", runsOf(e.Without))
	return lines
}

// backtestTold tells of a backtest that was started, and waits for its report if that is wanted.
func (a *app) backtestTold(ctx context.Context, run *api.Run, runs int, wait bool) error {
	if !wait {
		return a.show(view{body: a.last.body, of: *run, table: func() {
			a.out.line("%s", run.ID)
			a.note("it asks %d runs' questions; see the report: %s", runs, style(a.hint("runs result %s --wait", run.ID)))
		}})
	}
	ended, err := a.ended(ctx, run.ID, true)
	if err != nil {
		return a.explain(err, run.ID)
	}
	var report agent.Report
	if !a.people() || ended.Result == nil || json.Unmarshal(ended.Result, &report) != nil {
		return a.printResult(ended)
	}
	a.out.line("%s", strings.TrimRight(report.String(), "\n"))
	return a.verdict(ended)
}
