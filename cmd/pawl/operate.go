package main

import (
	"context"
	"fmt"

	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

// orderCommand is a command that orders something of one run and prints the run's state.
func (a *app) orderCommand(use, short, long string, do func(ctx context.Context, id string) (api.Run, error)) *cobra.Command {
	return &cobra.Command{
		Use: use + " RUN", Short: short, Long: long,
		Example:           fmt.Sprintf("  %[1]s runs %[2]s run_01JD\n  %[1]s runs %[2]s run_01JD -o json", a.self, use),
		Args:              a.oneArg("RUN", a.runIDs),
		ValidArgsFunction: a.completeFirst(a.runIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			run, err := do(cmd.Context(), args[0])
			if err != nil {
				return a.explain(err, args[0])
			}
			return a.told(run)
		},
	}
}

// told prints a run after an order, which may take effect a moment later.
func (a *app) told(run api.Run) error {
	if a.json() {
		a.out.json(a.body)
	} else {
		a.out.line("%s %s", run.ID, run.State)
	}
	return nil
}

func (a *app) cancelCommand() *cobra.Command {
	var reason string
	cmd := a.orderCommand("cancel", "End a run", `End a run: steps under way see their context end, compensations run, children end
too. The order is durable when the command returns; the run ends soon after.`,
		func(ctx context.Context, id string) (api.Run, error) { return a.client.Cancel(ctx, id, reason) })
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who look at the run later")
	return cmd
}

func (a *app) pauseCommand() *cobra.Command {
	var reason string
	cmd := a.orderCommand("pause", "Stop a run until it is resumed", `Stop a run until "runs resume". What it has done stays done.`,
		func(ctx context.Context, id string) (api.Run, error) { return a.client.Pause(ctx, id, reason) })
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who look at the run later")
	return cmd
}

func (a *app) resumeCommand() *cobra.Command {
	return a.orderCommand("resume", "Let a paused or blocked run go on", `Let a paused or blocked run go on from where it is.`,
		func(ctx context.Context, id string) (api.Run, error) { return a.client.Resume(ctx, id) })
}

func (a *app) retryCommand() *cobra.Command {
	return a.orderCommand("retry", "Let a failed run go on from the step that failed", `Let a failed run go on from the step that made it fail. Steps that were completed
are not run again. A blocked run goes on from where it is.`,
		func(ctx context.Context, id string) (api.Run, error) { return a.client.Retry(ctx, id) })
}

func (a *app) forkCommand() *cobra.Command {
	var q api.ForkRequest
	var input string
	cmd := a.orderCommand("fork", "Start a new run from the journal of another", `Start a new run from the journal of another: what is recorded before the step --from
is taken over, that step and what follows run anew. Without --from all of it does.`,
		func(ctx context.Context, id string) (run api.Run, err error) {
			if q.Input, err = a.payload("--input", input); err != nil {
				return run, err
			}
			return a.client.Fork(ctx, id, q)
		})
	cmd.Example = fmt.Sprintf("  %[1]s runs fork run_01JD --from synthesize\n  %[1]s runs fork run_01JD --input '{\"topic\":\"wind power\"}'", a.self)
	flags := cmd.Flags()
	flags.StringVar(&q.From, "from", "", "key of the step to begin again at, as in the journal")
	flags.StringVar(&input, "input", "", "another input, without --from: JSON, @file, or - for standard input")
	flags.StringVar(&q.ID, "id", "", "the new run's id")
	return cmd
}

func (a *app) signalCommand() *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use:   "signal RUN EVENT",
		Short: "Send an event to a run",
		Long: `Send an event to a run, where it waits for it or will. The event is durable when the
command returns.`,
		Example: fmt.Sprintf("  %[1]s signal run_01JD review --data '{\"approved\":true}'\n  %[1]s signal run_01JD review --data @review.json", a.self),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("%s needs a RUN and an EVENT; see what the run waits for: %s", cmd.CommandPath(), a.hint("runs show RUN"))
			}
			return nil
		},
		ValidArgsFunction: a.completeFirst(a.runIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := a.payload("--data", text)
			if err != nil {
				return err
			}
			run, err := a.client.Signal(cmd.Context(), args[0], args[1], data)
			if err != nil {
				return a.explain(err, args[0])
			}
			return a.told(run)
		},
	}
	cmd.Flags().StringVar(&text, "data", "", "the event's data: JSON, @file, or - for standard input (default null)")
	return cmd
}
