package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

// told prints a run after an order, and what the order has done: its state may change a moment later.
func (a *app) told(run api.Run, done string) error {
	return a.show(view{body: a.last.body, of: run, table: func() { a.out.line("%s %s", run.ID, done) }})
}

// toldGone prints a run that is no more.
func (a *app) toldGone(run api.Run) error {
	body, err := json.Marshal(run)
	if err != nil {
		return err
	}
	return a.show(view{body: body, of: run, table: func() { a.out.line("%s deleted", run.ID) }})
}

func (a *app) cancelCommand() *cobra.Command {
	var reason string
	cmd := a.deedCommand(deed{"cancel", "cancelled", "cancelling", alive,
		func(ctx context.Context, id string) (api.Run, error) { return a.client.Cancel(ctx, id, reason) },
	}, "End runs", `End runs: steps under way see their context end, compensations run, children end too. The
order is durable when the command returns; the runs end soon after.`, "runs cancel run_01JD --reason 'wrong customer'", "runs cancel --state waiting --older 168h")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who look at the run later")
	return cmd
}

func (a *app) pauseCommand() *cobra.Command {
	var reason string
	cmd := a.deedCommand(deed{"pause", "paused", "pausing", []pawl.State{pawl.Pending, pawl.Running, pawl.Waiting},
		func(ctx context.Context, id string) (api.Run, error) { return a.client.Pause(ctx, id, reason) },
	}, "Stop runs until they are resumed", `Stop runs until "runs resume". What they have done stays done.`, "runs pause run_01JD", "runs pause --workflow research-agent -y")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who look at the run later")
	return cmd
}

func (a *app) resumeCommand() *cobra.Command {
	return a.deedCommand(deed{"resume", "resumed", "", []pawl.State{pawl.Paused, pawl.Blocked}, a.ofClient((*api.Client).Resume)},
		"Let paused or blocked runs go on", `Let paused or blocked runs go on from where they are.`, "runs resume run_01JD", "runs resume --state paused")
}

func (a *app) retryCommand() *cobra.Command {
	return a.deedCommand(deed{"retry", "retried", "", []pawl.State{pawl.Failed, pawl.Blocked}, a.ofClient((*api.Client).Retry)},
		"Let failed runs go on from the step that failed", `Let failed runs go on from the step that made them fail. Steps that were completed are not
run again. A blocked run goes on from where it is.`, "runs retry run_01JD", "runs retry --state failed --newer 1h")
}

func (a *app) wakeCommand() *cobra.Command {
	var q api.WakeRequest
	var text string
	cmd := a.deedCommand(deed{"wake", "woken", "", []pawl.State{pawl.Waiting},
		func(ctx context.Context, id string) (api.Run, error) { return a.client.Wake(ctx, id, q) },
	}, "End sleeps and timed waits early", `End sleeps and timed waits of runs early: all of them, or the one of a key. A wait for an event
ends as if its time were over: the code gets a timeout, not an event. With --data it ends as if the event had come.`, "runs wake run_01JD", `runs wake run_01JD --key review --data '{"approved":true}'`)
	do := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if q.Data, err = a.payload("--data", text); err != nil {
			return err
		}
		if err = do(cmd, args); err == nil && text == "" {
			a.note("waits for an event or a hook that had a time limit count as timed out; with --key and --data they end as if it had come")
		}
		return err
	}
	cmd.Flags().StringVar(&q.Key, "key", "", "key of the one wait to end, as in the journal")
	cmd.Flags().StringVar(&text, "data", "", "what that wait returns: JSON, @file, or - for standard input")
	return cmd
}

func (a *app) deleteCommand() *cobra.Command {
	return a.deedCommand(deed{"delete", "deleted", "", []pawl.State{pawl.Completed, pawl.Failed, pawl.Cancelled},
		func(ctx context.Context, id string) (api.Run, error) {
			run, err := a.client.Run(ctx, id, 0)
			if err == nil {
				err = a.client.DeleteRun(ctx, id)
			}
			return run, err
		},
	}, "Forget runs that have ended", `Forget runs that have ended: their journals, streams and results. What they have cost stays in
the ledger. It can't be undone.`, "runs delete run_01JD", "runs delete --state completed --older 720h")
}

func (a *app) statsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "stats", Short: "Count runs by state, and workers",
		Long:    `Count runs by state, those that a worker could take now, and the workers that are alive.`,
		Example: a.examples("stats", "stats --jq .runs.failed"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			stats, err := a.client.Stats(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(view{body: a.last.body, of: stats, table: func() {
				for _, state := range stateNames() {
					if n := stats.Runs[state]; n > 0 {
						a.fact(state, n)
					}
				}
				a.fact("ready", stats.Ready)
				if stats.Ready > 0 {
					a.fact("oldest", took(stats.OldestReady))
				}
				a.fact("workers", stats.Workers)
			}})
		},
	}
}

// ofClient is a call of the client that is made when there is one.
func (a *app) ofClient(call func(*api.Client, context.Context, string) (api.Run, error)) func(context.Context, string) (api.Run, error) {
	return func(ctx context.Context, id string) (api.Run, error) { return call(a.client, ctx, id) }
}

func (a *app) forkCommand() *cobra.Command {
	var q api.ForkRequest
	var input string
	cmd := a.ofRun(&cobra.Command{
		Use: "fork RUN", Short: "Start a new run from the journal of another",
		Long: `Start a new run from the journal of another: what is recorded before the step --from is taken
over, that step and what follows run anew. Without --from all of it does.`,
		Example: a.examples("runs fork run_01JD --from synthesize", `runs fork run_01JD --input '{"topic":"wind power","audience":"all"}'`),
	}, func(ctx context.Context, id string) (err error) {
		if q.Input, err = a.payload("--input", input); err != nil {
			return err
		}
		run, err := a.client.Fork(ctx, id, q)
		if q.From != "" && errors.Is(err, pawl.ErrNotFound) {
			return &exitError{exitNotFound, err, []string{"see its keys: " + a.hint("journal %s", id)}}
		}
		if err != nil {
			return err
		}
		return a.told(run, run.State.String())
	})
	flags := cmd.Flags()
	flags.StringVar(&q.From, "from", "", "key of the step to begin again at, as in the journal")
	flags.StringVarP(&input, "input", "i", "", "another input, without --from: JSON, @file, or - for standard input")
	flags.StringVar(&q.ID, "id", "", "the new run's id")
	return cmd
}

func (a *app) signalCommand() *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use:   "signal RUN [EVENT]",
		Short: "Send an event to a run",
		Long: `Send an event to a run, where it waits for it or will. Without an EVENT, the one that the run
waits for, if it is one. The event is durable when the command returns. One that the run does not wait
for now is kept until it does, and told of.`,
		Example: a.examples(`signal run_01JD review --data '{"approved":true}'`, "signal run_01JD review --data @review.json"),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 && len(args) != 2 {
				return fmt.Errorf("%s needs a RUN, and an EVENT if the run waits for several; see what it waits for: %s", cmd.CommandPath(), a.hint("runs show RUN"))
			}
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) != 1 {
				return a.completeFirst(a.runIDs)(cmd, args, typed)
			}
			return a.names(func(ctx context.Context, _ string) []string { return a.eventsAwaited(ctx, args[0]) })(cmd, args, typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := a.payload("--data", text)
			if err != nil {
				return err
			}
			id, err := a.runID(cmd.Context(), args[0])
			if err != nil {
				return a.explain(err, args[0])
			}
			event := ""
			if len(args) == 2 {
				event = args[1]
			} else if event, err = a.onlyEvent(cmd.Context(), id); err != nil {
				return a.explain(err, id)
			}
			before, err := a.client.Why(cmd.Context(), id)
			if err != nil {
				return a.explain(err, args[0])
			}
			run, err := a.client.Signal(cmd.Context(), id, event, data)
			if err != nil {
				return a.explain(err, args[0])
			}
			if before.State == pawl.Waiting && !slices.Contains(quotedAfter(before.Why, eventMark), event) {
				a.note("the run does not wait for %s now: %s; it keeps the event until it does", strconv.Quote(event), before.Why)
			}
			return a.told(run, "sent")
		},
	}
	cmd.Flags().StringVarP(&text, "data", "d", "", "the event's data: JSON, @file, or - for standard input (default null)")
	return cmd
}

// onlyEvent is the one event that a run waits for.
func (a *app) onlyEvent(ctx context.Context, id string) (string, error) {
	why, err := a.client.Why(ctx, id)
	if err != nil {
		return "", err
	}
	events := quotedAfter(why.Why, eventMark)
	if len(events) == 0 {
		return "", a.notFor(ctx, id, "waits for no event")
	}
	if len(events) > 1 {
		e := &exitError{code: exitUsage, err: fmt.Errorf("run %s waits for %d events: say which", id, len(events))}
		for _, event := range events {
			e.next = append(e.next, a.hint("signal %s %s --data JSON", id, event))
		}
		return "", e
	}
	return events[0], nil
}

// eventsAwaited are those that a run waits for.
func (a *app) eventsAwaited(ctx context.Context, id string) []string {
	why, err := a.client.Why(ctx, id)
	if err != nil {
		return nil
	}
	return quotedAfter(why.Why, eventMark)
}
