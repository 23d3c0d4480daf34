package main

import (
	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

func (a *app) workflowsMigrateCommand() *cobra.Command {
	var q api.MigrateRequest
	cmd := &cobra.Command{
		Use: "migrate WORKFLOW", Short: "Let runs under way go on with another version",
		Long: `Let runs of a flow that are under way go on with another version of it: the active one, or that of --to. What they have
recorded stays, and is not done again. A run whose journal or variables don't fit the version keeps its own, and why
is told; so does one that is at work just now. --dry-run only tells which fit.`,
		Example:           a.examples("workflows migrate triage --dry-run", "workflows migrate triage --from 1 --to 2"),
		Args:              a.oneArg("WORKFLOW", a.workflowNames),
		ValidArgsFunction: a.completeFirst(a.workflowNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			done, err := a.client.MigrateWorkflow(cmd.Context(), args[0], q)
			if err != nil {
				return a.elsewhere(err, "workflows list")
			}
			return a.show(view{body: a.last.body, of: done, list: true, name: "run", table: func() {
				var rows [][]any
				for _, r := range done.Runs {
					is := a.out.green("fits")
					switch {
					case r.Migrated:
						is = a.out.green("migrated")
					case !r.Fits:
						is = a.out.red("does not fit")
					}
					rows = append(rows, []any{r.Run, r.From, is, r.Why})
				}
				a.table(columns{"RUN", "FROM", "IS", "+WHY"}, rows)
				a.more(done.Next)
			}})
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&q.From, "from", 0, "only runs of this version")
	flags.IntVar(&q.To, "to", 0, "the version that they go on with (default the active one)")
	flags.StringSliceVar(&q.Runs, "run", nil, "only this run, which may be given several times")
	flags.BoolVar(&q.DryRun, "dry-run", false, "only tell which runs fit")
	flags.IntVar(&q.Limit, "limit", 100, "how many runs to look at, at most 500")
	flags.StringVar(&q.Cursor, "cursor", "", "where to go on, as told by the list before")
	return cmd
}
