package main

import (
	"context"
	"errors"
	"math"
	"strconv"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

func (a *app) budgetsCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use: "budgets", Aliases: []string{"budget"}, Short: "Bound what runs may spend",
		Example: a.examples("budgets set research --workflow research-agent --limit 5 --per 24h", "budgets list"),
	}, a.budgetsListCommand(), a.budgetsSetCommand(), a.budgetsTopupCommand(), a.budgetsDeleteCommand())
}

func (a *app) budgetNames(ctx context.Context, typed string) []string {
	return pages(typed, func(cursor string) (names []string, next string, err error) {
		page, err := a.client.Budgets(ctx, cursor, enough)
		for _, b := range page.Items {
			names = append(names, b.Name)
		}
		return names, page.NextCursor, err
	})
}

// elsewhere says where a name that there is not can be looked up. It is no run's.
func (a *app) elsewhere(err error, list string) error {
	if errors.Is(err, pawl.ErrNotFound) {
		if _, done := errors.AsType[*exitError](err); !done {
			return &exitError{exitNotFound, err, []string{"see what is there: " + a.hint("%s", style(list))}}
		}
	}
	if p, ok := errors.AsType[*api.Problem](err); ok && (p.Status == 412 || p.Status == 409) {
		return &exitError{exitConflict, err, []string{"see how it is now: " + a.hint("%s", style(list))}}
	}
	return err
}

func budgetOn(b *api.Budget) string {
	switch {
	case b.Run != "":
		return "run " + b.Run
	case b.Workflow != "":
		return "workflow " + b.Workflow
	case b.Attr != "":
		return b.Attr + "=" + b.Value
	}
	return "all runs"
}

func (a *app) budgetsListCommand() *cobra.Command {
	var cursor string
	var limit int
	cmd := &cobra.Command{
		Use: "list [RUN]", Aliases: []string{"ls"}, Short: "List budgets: all, or those of a run",
		Long:              `List budgets, by name: all, or those that bound a run.`,
		Example:           a.examples("budgets list", "budgets list run_01JD -o json"),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeFirst(a.runIDs),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			var page api.BudgetPage
			if len(args) == 0 {
				page, err = a.client.Budgets(cmd.Context(), cursor, limit)
			} else {
				var id string
				if id, err = a.runID(cmd.Context(), args[0]); err != nil {
					return a.explain(err, args[0])
				}
				page, err = a.client.RunBudgets(cmd.Context(), id, cursor, limit)
			}
			if err != nil {
				return err
			}
			return a.show(view{body: a.last.body, of: api.Budget{}, list: true, name: "name", table: func() {
				var rows [][]any
				for _, b := range page.Items {
					rows = append(rows, []any{b.Name, budgetOn(&b), money(b.Meter, b.Limit+b.Extra), b.Per, money(b.Meter, b.Spent), money(b.Meter, b.Reserved), money(b.Meter, b.Left)})
				}
				if rows == nil {
					a.note("no budgets")
					return
				}
				a.table(columns{"NAME", "BOUNDS", "LIMIT", "PER", "SPENT", "RESERVED", "LEFT"}, rows)
				a.more(page.NextCursor)
			}})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "how many, at most 500")
	cmd.Flags().StringVar(&cursor, "cursor", "", "where to go on, as told by the list before")
	return cmd
}

func (a *app) budgeted(b api.Budget) error {
	return a.show(view{body: a.last.body, of: b, name: "name", table: func() {
		a.out.line("%s bounds %s: %s left of %s", b.Name, budgetOn(&b), money(b.Meter, b.Left), money(b.Meter, b.Limit+b.Extra))
	}})
}

// amount reads what a person writes of a meter: dollars of usd, whole units of others.
func (a *app) amount(what, text, meter string) (int64, error) {
	if meter != pawl.USD {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, a.usage("%s %q: write a whole number", what, text)
		}
		return n, nil
	}
	usd, err := strconv.ParseFloat(text, 64)
	if err != nil || math.Abs(usd) > 1e12 || math.IsNaN(usd) {
		return 0, a.usage("%s %q: write an amount of US dollars, such as 0.50", what, text)
	}
	return int64(math.Round(usd * 1e6)), nil
}

func (a *app) budgetsSetCommand() *cobra.Command {
	var q api.BudgetRequest
	var limit, etag string
	cmd := &cobra.Command{
		Use: "set NAME", Short: "Make or change a budget",
		Long: `Make a budget, or let the one of that name be what the flags say; what was spent of it stays. It bounds one
run with its descendants, the runs of a workflow, those with an attribute, or all.`,
		Example:           a.examples("budgets set research --workflow research-agent --limit 5 --per 24h", "budgets set acme --attr customer=acme --limit 20 --wait"),
		Args:              a.oneArg("NAME", a.budgetNames),
		ValidArgsFunction: a.completeFirst(a.budgetNames),
	}
	var attr []string
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if limit == "" {
			return a.usage("how much may be spent? give --limit")
		}
		if q.Limit, err = a.amount("--limit", limit, q.Meter); err != nil {
			return err
		}
		pairs, err := a.pairs(attr)
		if err == nil && len(pairs) > 1 {
			err = a.usage("--attr may be given once")
		}
		if err != nil {
			return err
		}
		for name, value := range pairs {
			q.Attr, q.Value = name, value
		}
		ctx := cmd.Context()
		if etag != "" {
			ctx = api.WithIfMatch(ctx, etag)
		}
		b, err := a.client.SetBudget(ctx, args[0], q)
		if err != nil {
			return a.elsewhere(err, "budgets list")
		}
		return a.budgeted(b)
	}
	flags := cmd.Flags()
	flags.StringVar(&limit, "limit", "", "the most that may be spent: of usd in US dollars, of another meter in its units")
	flags.StringVar(&q.Meter, "meter", pawl.USD, "what is counted")
	flags.StringVar(&q.Per, "per", "", "the limit is for each period of this length, such as 24h (default for ever)")
	flags.BoolVar(&q.Wait, "wait", false, "steps that find too little left wait for more; else they fail")
	flags.StringVar(&q.Run, "run", "", "bound this run and its descendants")
	flags.StringVar(&q.Workflow, "workflow", "", "bound the runs of this workflow")
	flags.StringArrayVar(&attr, "attr", nil, "bound runs with this attribute, as name=value")
	flags.StringVar(&etag, "if-match", "", "only if it still has this etag")
	a.completeNames(cmd, "run", a.runIDs)
	a.completeNames(cmd, "workflow", a.workflowNames)
	return cmd
}

func (a *app) budgetsTopupCommand() *cobra.Command {
	return a.repeatable(&cobra.Command{
		Use: "topup NAME AMOUNT", Short: "Let more be spent of a budget",
		Long:              `Let more be spent of a budget: of usd in US dollars. Steps that wait for it go on.`,
		Example:           a.examples("budgets topup research 2.50", "budgets topup acme 10 -o json"),
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeFirst(a.budgetNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			now, err := a.client.Budget(cmd.Context(), args[0])
			if err != nil {
				return a.elsewhere(err, "budgets list")
			}
			by, err := a.amount("AMOUNT", args[1], now.Meter)
			if err != nil {
				return err
			}
			b, err := a.client.TopUp(cmd.Context(), args[0], by)
			if err != nil {
				return a.elsewhere(err, "budgets list")
			}
			return a.budgeted(b)
		},
	})
}

func (a *app) budgetsDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Remove a budget",
		Long:              `Remove a budget: nothing is bounded by it any more.`,
		Example:           a.examples("budgets delete research", "budgets delete acme -q"),
		Args:              a.oneArg("NAME", a.budgetNames),
		ValidArgsFunction: a.completeFirst(a.budgetNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.client.DeleteBudget(cmd.Context(), args[0]); err != nil {
				return a.elsewhere(err, "budgets list")
			}
			a.note("deleted")
			return nil
		},
	}
}
