package main

import (
	"context"

	"github.com/pawlrun/pawl/agent"
	"github.com/spf13/cobra"
)

func (a *app) breakersCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use: "breakers", Aliases: []string{"breaker"}, Short: "See which services and models are left alone, and have them tried again",
		Long: `A service or a model that fails three times in a row is left alone for 30 s by all workers, and then tried by one
call. See which are, and close the circuit of one that is mended.`,
		Example: a.examples("breakers list", "breakers reset service:/tickets"),
	}, a.breakersListCommand(), a.breakersResetCommand())
}

func (a *app) breakerNames(ctx context.Context, typed string) []string {
	return pages(typed, func(cursor string) (names []string, next string, err error) {
		page, err := a.client.Breakers(ctx, cursor, enough)
		for _, b := range page.Items {
			names = append(names, b.Endpoint)
		}
		return names, page.NextCursor, err
	})
}

func (a *app) breakersListCommand() *cobra.Command {
	var limit int
	var cursor string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List circuits that are not closed, or whose last calls failed",
		Example: a.examples("breakers list", "breakers list -o json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			page, err := a.client.Breakers(cmd.Context(), cursor, limit)
			if err != nil {
				return err
			}
			return a.show(view{body: a.last.body, of: agent.BreakerState{}, list: true, name: "endpoint", table: func() {
				var rows [][]any
				for _, b := range page.Items {
					rows = append(rows, []any{b.Endpoint, string(b.State), b.Failures, a.when(b.Since), a.when(b.Until), b.Last})
				}
				if rows == nil {
					a.note("all circuits are closed")
					return
				}
				a.table(columns{"ENDPOINT", "STATE", "FAILURES", "SINCE", "UNTIL", "LAST"}, rows)
				a.more(page.NextCursor)
			}})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "how many, at most 500")
	cmd.Flags().StringVar(&cursor, "cursor", "", "where to go on, as told by the list before")
	return cmd
}

func (a *app) breakersResetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reset ENDPOINT", Short: "Close a circuit: calls go again",
		Long:              `Close the circuit of an endpoint, as "breakers list" names it. Workers know of it within a second.`,
		Example:           a.examples("breakers reset service:/tickets", "breakers reset openai"),
		Args:              a.oneArg("ENDPOINT", a.breakerNames),
		ValidArgsFunction: a.completeFirst(a.breakerNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.client.ResetBreaker(cmd.Context(), args[0]); err != nil {
				return a.elsewhere(err, "breakers list")
			}
			a.out.line("%s is closed", args[0])
			return nil
		},
	}
}
