package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

func (a *app) costsCommand() *cobra.Command {
	q := api.CostQuery{}
	var by, since, until string
	cmd := &cobra.Command{
		Use:   "costs [RUN]",
		Short: "Show what runs have cost",
		Long: `Show what a run has cost, with its children, or all runs. The sums are those of the ledger, which has a row for
each call, failed ones too. What is reserved for calls under way, or for calls that were cut
off, is shown as open. Where a price is not known, or the provider did not say what a call used, the cost is unknown;
what budgets count for it is shown as assumed.`,
		Example:           a.examples("costs run_01JD", "costs --by day --since 168h", "costs --by step --workflow research-agent"),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeFirst(a.runIDs),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if len(args) == 1 { // that a run has cost nothing is no answer if there is no such run
				if q.Run, err = a.runID(cmd.Context(), args[0]); err != nil {
					return a.explain(err, args[0])
				}
				q.Family = true
			}
			switch {
			case by == "model":
				q.By = pawl.ByItem
			case by == "prompt":
				q.By = pawl.ByLabel
			case by != "" && !slices.Contains([]string{"step", "run", "workflow", "day", "version"}, by):
				return a.usage("--by %q: it is one of model, step, run, workflow, day, version, prompt", by)
			case by != "":
				q.By = pawl.CostBy(by)
			case q.Run != "":
				q.By = pawl.ByItem
			default:
				q.By = pawl.ByWorkflow
			}
			if q.From, err = a.moment("since", since); err != nil {
				return err
			}
			if q.To, err = a.moment("until", until); err != nil {
				return err
			}
			return a.costs(cmd.Context(), q)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&by, "by", "", "what to sum apart: model, step, run, workflow, day, version or prompt (default: model of one run, else workflow)")
	flags.StringVar(&q.Workflow, "workflow", "", "only runs of this workflow")
	flags.StringVar(&q.Step, "step", "", "only steps of this name")
	flags.StringVar(&q.Item, "model", "", "only calls of this model, as provider/model")
	flags.StringVar(&since, "since", "", "only from this day on, or so long ago: 2026-11-21, 24h")
	flags.StringVar(&until, "until", "", "only before this day, or so long ago")
	a.complete(cmd, "by", "model", "step", "run", "workflow", "day", "version", "prompt")
	a.completeNames(cmd, "workflow", a.workflowNames)
	return cmd
}

// moment reads a day in UTC, a time, or how long ago it was.
func (a *app) moment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	if days, is := strings.CutSuffix(text, "d"); is {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Now().AddDate(0, 0, -int(n)), nil
		}
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	return time.Time{}, a.usage("--%s %q: write a day such as 2026-11-21, or how long ago, such as 24h or 7d", flag, text)
}

func (a *app) costs(ctx context.Context, q api.CostQuery) error {
	list, err := a.client.Costs(ctx, q)
	if err != nil {
		return err
	}
	return a.show(view{body: a.last.body, of: pawl.Cost{}, list: true, name: "key", table: func() { a.costTable(q.By, list.Items) }})
}

func (a *app) costTable(by pawl.CostBy, costs []pawl.Cost) {
	if len(costs) == 0 {
		a.note("nothing was charged")
		return
	}
	var rows [][]any
	sums := map[string]*pawl.Cost{}
	for _, c := range costs {
		rows = append(rows, costRow(c))
		sum := sums[c.Meter]
		if sum == nil {
			sum = &pawl.Cost{Key: "in all", Meter: c.Meter}
			sums[c.Meter] = sum
		}
		sum.Charges, sum.Times, sum.Amount, sum.Open, sum.Guessed = sum.Charges+c.Charges, sum.Times+c.Times, sum.Amount+c.Amount, sum.Open+c.Open, sum.Guessed+c.Guessed
	}
	if sum := sums[costs[0].Meter]; len(sums) == 1 && len(rows) > 1 {
		rows = append(rows, costRow(*sum))
	}
	head := strings.ToUpper(strings.NewReplacer("item", "model", "label", "prompt").Replace(string(by)))
	a.table(columns{head, "CALLS", "TIMES", "COST", "OPEN", "ASSUMED"}, rows)
}

func costRow(c pawl.Cost) []any {
	amount := func(n int64) string {
		if n == 0 {
			return ""
		}
		return money(c.Meter, n)
	}
	return []any{c.Key, c.Charges, c.Times, knownCost(c), amount(c.Open), amount(c.Guessed)}
}

// knownCost is what is known of a cost: an amount that was assumed is none.
func knownCost(c pawl.Cost) string {
	switch {
	case c.Guessed == 0:
		return money(c.Meter, c.Amount)
	case c.Guessed == c.Amount:
		return "unknown"
	}
	return money(c.Meter, c.Amount-c.Guessed) + " + unknown"
}

// money writes an amount of a meter: millionths of a dollar as dollars, others as they are.
func money(meter string, n int64) string {
	if meter != pawl.USD {
		return fmt.Sprintf("%d %s", n, meter)
	}
	return fmt.Sprintf("$%d.%06d", n/1_000_000, n%1_000_000)
}
