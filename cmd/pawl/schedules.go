package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/trigger"
	"github.com/spf13/cobra"
)

func (a *app) schedulesCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use: "schedules", Aliases: []string{"schedule"}, Short: "Start runs by the clock",
		Example: a.examples("schedules put digest --workflow research-agent --cron '0 9 * * MON-FRI' --zone Europe/Berlin", "schedules list"),
	}, a.schedulesListCommand(), a.schedulesShowCommand(), a.schedulesPutCommand(), a.schedulesPauseCommand(), a.schedulesResumeCommand(),
		a.schedulesTriggerCommand(), a.schedulesBackfillCommand(), a.schedulesNextCommand(), a.schedulesOccurrencesCommand(), a.schedulesDeleteCommand())
}

func (a *app) scheduleIDs(ctx context.Context, typed string) (ids []string) {
	page, err := a.client.Schedules(ctx, typed, "", enough)
	if err != nil {
		return nil
	}
	for _, s := range page.Items {
		ids = append(ids, s.ID)
	}
	return ids
}

// ofSchedule is a command about one schedule.
func (a *app) ofSchedule(cmd *cobra.Command, do func(ctx context.Context, id string) error) *cobra.Command {
	cmd.Args = a.oneArg("SCHEDULE", a.scheduleIDs)
	cmd.ValidArgsFunction = a.completeFirst(a.scheduleIDs)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.elsewhere(do(cmd.Context(), args[0]), "schedules list")
	}
	return cmd
}

func (a *app) schedulesListCommand() *cobra.Command {
	var prefix, cursor string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List schedules",
		Long:    `List schedules, by id.`,
		Example: a.examples("schedules list", "schedules list --prefix digest -o json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			page, err := a.client.Schedules(cmd.Context(), prefix, cursor, limit)
			if err != nil {
				return err
			}
			return a.show(view{body: a.last.body, of: api.Schedule{}, list: true, table: func() {
				var rows [][]any
				for _, s := range page.Items {
					rows = append(rows, []any{s.ID, s.Workflow, a.paintSchedule(&s), stamp(s.Next), a.lastOf(&s), s.Description})
				}
				if rows == nil {
					a.note("no schedules; make one: %s", style(a.hint("schedules put")+" --help"))
					return
				}
				a.table(columns{"ID", "WORKFLOW", "STATE", "NEXT", "LAST", "WHEN"}, rows)
				a.more(page.NextCursor)
			}})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&prefix, "prefix", "", "only those whose id begins so")
	flags.IntVar(&limit, "limit", 50, "how many, at most 500")
	flags.StringVar(&cursor, "cursor", "", "where to go on, as told by the list before")
	return cmd
}

func (a *app) paintSchedule(s *api.Schedule) style {
	switch {
	case s.Paused:
		return a.out.yellow("paused")
	case s.Next.IsZero():
		return a.out.dim("over")
	}
	return a.out.green("active")
}

// lastOf says what became of the newest slot.
func (a *app) lastOf(s *api.Schedule) style {
	switch {
	case s.Last == nil:
		return ""
	case s.Last.Outcome == trigger.Failed || s.Last.Outcome == trigger.Retrying:
		return a.out.red(string(s.Last.Outcome))
	}
	return style(clean(string(s.Last.Outcome)))
}

// scheduled shows a schedule.
func (a *app) scheduled(s api.Schedule) error {
	return a.show(view{body: a.last.body, of: s, table: func() {
		a.fact("schedule", s.ID)
		a.fact("workflow", s.Workflow)
		a.fact("when", s.Description)
		a.fact("state", a.paintSchedule(&s))
		a.fact("reason", s.Reason)
		a.fact("next", stamp(s.Next))
		if last := s.Last; last != nil {
			a.fact("last", stamp(last.Slot)+" "+string(a.lastOf(&s))+" "+last.Run)
			a.fact("because", last.Reason)
		}
		a.fact("input", string(s.Input))
		a.fact("overlap", s.Overlap)
		a.fact("catch-up", s.CatchUp)
		a.fact("jitter", s.Jitter)
		if s.Waiting > 0 {
			a.fact("waiting", s.Waiting)
		}
		a.fact("running", strings.Join(s.Live, ", "))
	}})
}

func (a *app) schedulesShowCommand() *cobra.Command {
	return a.ofSchedule(&cobra.Command{
		Use: "show SCHEDULE", Short: "Show a schedule",
		Long:    `Show a schedule: what it starts, when, and how it stands.`,
		Example: a.examples("schedules show digest", "schedules show digest -o yaml"),
	}, func(ctx context.Context, id string) error {
		s, err := a.client.Schedule(ctx, id)
		if err != nil {
			return err
		}
		return a.scheduled(s)
	})
}

func (a *app) schedulesPutCommand() *cobra.Command {
	var q api.ScheduleRequest
	var input, at, etag string
	var attrs []string
	cmd := a.ofSchedule(&cobra.Command{
		Use: "put SCHEDULE", Short: "Make or change a schedule",
		Long: `Make a schedule, or let the one of that id be what the flags say: those that are left out have their
default. A server fires it as long as one of the store's runs.`,
		Example: a.examples("schedules put digest --workflow research-agent -i '{\"topic\":\"tides\"}' --cron '0 9 * * MON-FRI' --zone Europe/Berlin",
			"schedules put sync --workflow rag-agent -i '{\"question\":\"fees?\"}' --every 15m --overlap buffer_one --catch-up none"),
	}, func(ctx context.Context, id string) (err error) {
		if q.Input, err = a.payload("--input", input); err != nil {
			return err
		}
		if q.Attributes, err = a.pairs(attrs); err != nil {
			return err
		}
		if at != "" {
			if q.At, err = time.Parse(time.RFC3339, at); err != nil {
				return a.usage("--at %q: write a time such as 2026-11-21T18:00:00Z", at)
			}
		}
		if q.Workflow == "" {
			return a.usage("which workflow does it start? give --workflow")
		}
		if etag != "" {
			ctx = api.WithIfMatch(ctx, etag)
		}
		s, err := a.client.PutSchedule(ctx, id, q)
		if err != nil {
			return err
		}
		if s.Created.Equal(s.Updated) {
			a.note("made")
		} else {
			a.note("it was there, and is what you said now")
		}
		return a.scheduled(s)
	})
	flags := cmd.Flags()
	flags.StringVar(&q.Workflow, "workflow", "", "what it starts")
	flags.StringVarP(&input, "input", "i", "", "each run's input: JSON, @file, or - for standard input")
	flags.StringVar(&q.Cron, "cron", "", "when: minute, hour, day of month, month, day of week; or @daily and the like")
	flags.StringVar(&q.Every, "every", "", "when: each time so much has passed, such as 15m")
	flags.StringVar(&at, "at", "", "when: once, at this time, such as 2026-11-21T18:00:00Z")
	flags.StringVar(&q.Zone, "zone", "", "time zone of --cron, such as Europe/Berlin (default UTC)")
	flags.StringVar(&q.Gap, "gap", "", "a time that does not exist where clocks are set forward: after or skip (default after)")
	flags.StringVar(&q.Fold, "fold", "", "a time that comes twice where clocks are set back: once or twice (default once)")
	flags.StringVar(&q.Jitter, "jitter", "", "delay each start by a time from 0 up to this")
	flags.StringVar(&q.Overlap, "overlap", "", "when the run before has not ended: skip, buffer_one, buffer_all, cancel_old or allow (default skip)")
	flags.StringVar(&q.CatchUp, "catch-up", "", "what nobody was there to start: last, none or all (default last)")
	flags.StringVar(&q.CatchUpWindow, "catch-up-window", "", "how old that may be (default as old as it is)")
	flags.BoolVar(&q.Paused, "paused", false, "it fires when it is resumed")
	flags.StringArrayVar(&attrs, "attr", nil, "attribute of each run, as name=value; may be repeated")
	flags.Float64Var(&q.BudgetUSD, "budget", 0, "the most that each run may cost, in US dollars (default no bound)")
	flags.IntVar(&q.Priority, "priority", 0, "of each run")
	flags.StringVar(&etag, "if-match", "", "only if it still has this etag")
	a.completeNames(cmd, "workflow", a.workflowNames)
	a.complete(cmd, "gap", "after", "skip")
	a.complete(cmd, "fold", "once", "twice")
	a.complete(cmd, "overlap", "skip", "buffer_one", "buffer_all", "cancel_old", "allow")
	a.complete(cmd, "catch-up", "last", "none", "all")
	return cmd
}

func (a *app) schedulesPauseCommand() *cobra.Command {
	var reason string
	cmd := a.ofSchedule(&cobra.Command{
		Use: "pause SCHEDULE", Short: "Stop a schedule until it is resumed",
		Long:    `Stop a schedule until "schedules resume". Runs that it has started go on.`,
		Example: a.examples("schedules pause digest --reason holidays", "schedules pause digest -o json"),
	}, func(ctx context.Context, id string) error {
		s, err := a.client.PauseSchedule(ctx, id, reason)
		if err != nil {
			return err
		}
		return a.scheduled(s)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for those who look at it later")
	return cmd
}

func (a *app) schedulesResumeCommand() *cobra.Command {
	return a.ofSchedule(&cobra.Command{
		Use: "resume SCHEDULE", Short: "Let a schedule go on with its next slot",
		Long:    `Let a paused schedule go on with its next slot. Those that have passed are not fired.`,
		Example: a.examples("schedules resume digest", "schedules resume digest --jq .next"),
	}, func(ctx context.Context, id string) error {
		s, err := a.client.ResumeSchedule(ctx, id)
		if err != nil {
			return err
		}
		return a.scheduled(s)
	})
}

func (a *app) schedulesTriggerCommand() *cobra.Command {
	var q api.TriggerRequest
	var once string
	cmd := a.ofSchedule(&cobra.Command{
		Use: "trigger SCHEDULE", Short: "Fire a schedule now, paused or not",
		Long:    `Fire a schedule now, paused or not. The same --once again, within a day, starts nothing.`,
		Example: a.examples("schedules trigger digest", "schedules trigger digest --overlap allow --once today"),
	}, func(ctx context.Context, id string) error {
		if once != "" {
			ctx = api.WithIdempotencyKey(ctx, once)
		}
		o, err := a.client.TriggerSchedule(ctx, id, q)
		if err != nil {
			return err
		}
		return a.show(view{body: a.last.body, of: o, name: "run", table: func() {
			a.out.line("%s %s", o.Run, o.Outcome)
			if o.Reason != "" {
				a.note("%s", o.Reason)
			}
			if o.Outcome == trigger.Started {
				a.note("follow it: %s", style(a.hint("runs follow %s", o.Run)))
			}
		}})
	})
	cmd.Flags().StringVar(&q.Overlap, "overlap", "", "when a run of it has not ended: skip, buffer_one, buffer_all, cancel_old or allow (default the schedule's)")
	cmd.Flags().StringVar(&once, "once", "", "names the request, so that it may be repeated")
	a.complete(cmd, "overlap", "skip", "buffer_one", "buffer_all", "cancel_old", "allow")
	return cmd
}

func (a *app) schedulesNextCommand() *cobra.Command {
	var limit int
	cmd := a.ofSchedule(&cobra.Command{
		Use: "next SCHEDULE", Short: "Tell when a schedule comes next",
		Long:    `Tell when a schedule comes next, also one that is paused.`,
		Example: a.examples("schedules next digest", "schedules next digest --limit 3 -o json"),
	}, func(ctx context.Context, id string) error {
		list, err := a.client.NextSlots(ctx, id, limit)
		if err != nil {
			return err
		}
		return a.show(view{body: a.last.body, list: true, table: func() {
			for _, at := range list.Items {
				a.out.line("%s", at.Local().Format("Mon 2006-01-02 15:04:05 MST"))
			}
			if len(list.Items) == 0 {
				a.note("it does not come any more")
			}
		}})
	})
	cmd.Flags().IntVar(&limit, "limit", 10, "how many, at most 500")
	return cmd
}

func (a *app) schedulesOccurrencesCommand() *cobra.Command {
	var limit int
	var cursor string
	cmd := a.ofSchedule(&cobra.Command{
		Use: "occurrences SCHEDULE", Short: "Show what became of a schedule's slots, newest first",
		Long:    `Show what became of each slot of a schedule: the run that it started, or why it was left out.`,
		Example: a.examples("schedules occurrences digest", "schedules occurrences digest --json slot,outcome,reason"),
	}, func(ctx context.Context, id string) error {
		page, err := a.client.Occurrences(ctx, id, cursor, limit)
		if err != nil {
			return err
		}
		return a.show(view{body: a.last.body, of: trigger.Occurrence{}, list: true, name: "run", table: func() {
			var rows [][]any
			for _, o := range page.Items {
				slot := stamp(o.Slot)
				if o.Count > 1 {
					slot += fmt.Sprintf(" and %d more", o.Count-1)
				}
				rows = append(rows, []any{slot, o.Outcome, o.Cause, o.Run, o.Reason})
			}
			if rows == nil {
				a.note("none has come yet; see when: %s", style(a.hint("schedules next %s", id)))
				return
			}
			a.table(columns{"SLOT", "OUTCOME", "CAUSE", "RUN", "WHY"}, rows)
			a.more(page.NextCursor)
		}})
	})
	cmd.Flags().IntVar(&limit, "limit", 50, "how many, at most 500")
	cmd.Flags().StringVar(&cursor, "cursor", "", "where to go on, as told by the list before")
	return cmd
}

func (a *app) schedulesDeleteCommand() *cobra.Command {
	var etag string
	cmd := a.ofSchedule(&cobra.Command{
		Use: "delete SCHEDULE", Short: "Remove a schedule; its runs go on",
		Long:    `Remove a schedule. Runs that it has started go on, and what became of its slots can be read for a while.`,
		Example: a.examples("schedules delete digest", "schedules delete digest -q"),
	}, func(ctx context.Context, id string) error {
		if etag != "" {
			ctx = api.WithIfMatch(ctx, etag)
		}
		err := a.client.DeleteSchedule(ctx, id)
		if err == nil {
			a.note("deleted")
		}
		return err
	})
	cmd.Flags().StringVar(&etag, "if-match", "", "only if it still has this etag")
	return cmd
}
