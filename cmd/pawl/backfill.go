package main

import (
	"context"
	"time"

	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

func (a *app) schedulesBackfillCommand() *cobra.Command {
	var q api.BackfillRequest
	var from, to string
	cmd := a.ofSchedule(&cobra.Command{
		Use: "backfill SCHEDULE", Short: "Fire slots of a schedule that have passed",
		Long: `Fire the slots of a schedule from one time on and before another, oldest first, one after the other if
--overlap says nothing else. At most 1000. A slot that has had its run keeps it, so a backfill may be repeated.`,
		Example: a.examples("schedules backfill digest --from 2026-11-01T00:00:00Z --to 2026-11-08T00:00:00Z --dry-run",
			"schedules backfill digest --from 2026-11-01T00:00:00Z --to 2026-11-08T00:00:00Z --overlap allow"),
	}, func(ctx context.Context, id string) error {
		for _, at := range []struct {
			flag, text string
			into       *time.Time
		}{{"--from", from, &q.From}, {"--to", to, &q.To}} {
			var err error
			if *at.into, err = time.Parse(time.RFC3339, at.text); err != nil {
				return a.usage("%s %q: write a time such as 2026-11-21T18:00:00Z", at.flag, at.text)
			}
		}
		done, err := a.client.BackfillSchedule(ctx, id, q)
		if err != nil {
			return err
		}
		return a.show(view{body: a.last.body, of: done, table: func() {
			a.fact("slots", done.Slots)
			a.fact("first", stamp(done.First))
			a.fact("last", stamp(done.Last))
			if done.DryRun {
				a.note("nothing was fired: --dry-run")
			} else if done.Slots > 0 {
				a.note("see what becomes of them: %s", style(a.hint("schedules occurrences %s", id)))
			}
		}})
	})
	flags := cmd.Flags()
	flags.StringVar(&from, "from", "", "from then on, such as 2026-11-21T18:00:00Z")
	flags.StringVar(&to, "to", "", "before then; it must have passed")
	flags.StringVar(&q.Overlap, "overlap", "", "when a run of it has not ended: skip, buffer_one, buffer_all, cancel_old or allow (default buffer_all)")
	flags.BoolVar(&q.DryRun, "dry-run", false, "only say how many there are")
	a.complete(cmd, "overlap", "skip", "buffer_one", "buffer_all", "cancel_old", "allow")
	return cmd
}
