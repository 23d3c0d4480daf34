package main

import (
	"context"
	"time"

	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/trigger"
	"github.com/spf13/cobra"
)

func (a *app) subscriptionsCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use: "subscriptions", Aliases: []string{"subscription", "subs"}, Short: "Start runs by events",
		Example: a.examples("events subscriptions put big-orders --event order.placed --where 'event.data.amount > 1000' --workflow research-agent", "events subscriptions list"),
	}, a.subscriptionsListCommand(), a.subscriptionsShowCommand(), a.subscriptionsPutCommand(), a.subscriptionsEventsCommand(), a.subscriptionsDeleteCommand())
}

func (a *app) subscriptionIDs(ctx context.Context, typed string) (ids []string) {
	page, err := a.client.Subscriptions(ctx, typed, "", enough)
	if err != nil {
		return nil
	}
	for _, s := range page.Items {
		ids = append(ids, s.ID)
	}
	return ids
}

// ofSubscription is a command about one subscription.
func (a *app) ofSubscription(cmd *cobra.Command, do func(ctx context.Context, id string) error) *cobra.Command {
	cmd.Args = a.oneArg("SUBSCRIPTION", a.subscriptionIDs)
	cmd.ValidArgsFunction = a.completeFirst(a.subscriptionIDs)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.elsewhere(do(cmd.Context(), args[0]), "events subscriptions list")
	}
	return cmd
}

func (a *app) subscriptionsListCommand() *cobra.Command {
	var prefix, cursor string
	var limit int
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List subscriptions",
		Long:    `List subscriptions to events, by id.`,
		Example: a.examples("events subscriptions list", "events subscriptions list --prefix big -o json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			page, err := a.client.Subscriptions(cmd.Context(), prefix, cursor, limit)
			if err != nil {
				return err
			}
			return a.show(view{body: a.last.body, of: api.Subscription{}, list: true, table: func() {
				var rows [][]any
				for _, s := range page.Items {
					rows = append(rows, []any{s.ID, s.Event, s.Workflow, s.Where})
				}
				if rows == nil {
					a.note("no subscriptions; make one: %s", style(a.hint("events subscriptions put")+" --help"))
					return
				}
				a.table(columns{"ID", "EVENT", "WORKFLOW", "WHERE"}, rows)
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

// subscribed shows a subscription.
func (a *app) subscribed(s api.Subscription) error {
	return a.show(view{body: a.last.body, of: s, table: func() {
		a.fact("subscription", s.ID)
		a.fact("event", s.Event)
		a.fact("where", s.Where)
		a.fact("workflow", s.Workflow)
		a.fact("updated", stamp(s.Updated))
	}})
}

func (a *app) subscriptionsShowCommand() *cobra.Command {
	return a.ofSubscription(&cobra.Command{
		Use: "show SUBSCRIPTION", Short: "Show a subscription",
		Long:    `Show a subscription: which events start which workflow.`,
		Example: a.examples("events subscriptions show big-orders", "events subscriptions show big-orders -o yaml"),
	}, func(ctx context.Context, id string) error {
		s, err := a.client.Subscription(ctx, id)
		if err != nil {
			return err
		}
		return a.subscribed(s)
	})
}

func (a *app) subscriptionsPutCommand() *cobra.Command {
	var q api.SubscriptionRequest
	var etag string
	cmd := a.ofSubscription(&cobra.Command{
		Use: "put SUBSCRIPTION", Short: "Let events start runs",
		Long: `Let each event of a name start a run, whose input is the event's data; or let the subscription of
that id be what the flags say. --where is an expression (CEL) on event.id, event.name and event.data.`,
		Example: a.examples("events subscriptions put big-orders --event order.placed --where 'event.data.amount > 1000' --workflow research-agent",
			"events subscriptions put all-orders --event order.placed --workflow rag-agent"),
	}, func(ctx context.Context, id string) error {
		switch {
		case q.Event == "":
			return a.usage("which events? give --event")
		case q.Workflow == "":
			return a.usage("which workflow do they start? give --workflow")
		}
		if etag != "" {
			ctx = api.WithIfMatch(ctx, etag)
		}
		s, err := a.client.PutSubscription(ctx, id, q)
		if err != nil {
			return err
		}
		return a.subscribed(s)
	})
	flags := cmd.Flags()
	flags.StringVar(&q.Event, "event", "", "the events' name")
	flags.StringVar(&q.Where, "where", "", "what an event must fit (default all do)")
	flags.StringVar(&q.Workflow, "workflow", "", "what each of them starts")
	flags.StringVar(&etag, "if-match", "", "only if it still has this etag")
	a.completeNames(cmd, "workflow", a.workflowNames)
	return cmd
}

func (a *app) subscriptionsEventsCommand() *cobra.Command {
	var since, cursor string
	var limit int
	cmd := a.ofSubscription(&cobra.Command{
		Use: "events SUBSCRIPTION", Short: "Show which events a subscription has taken, oldest first",
		Long:    `Show which events a subscription has taken, of those that are still kept, and those on which its expression failed.`,
		Example: a.examples("events subscriptions events big-orders", "events subscriptions events big-orders --since 2026-11-21T18:00:00Z"),
	}, func(ctx context.Context, id string) (err error) {
		var from time.Time
		if since != "" {
			if from, err = time.Parse(time.RFC3339, since); err != nil {
				return a.usage("--since %q: write a time such as 2026-11-21T18:00:00Z", since)
			}
		}
		page, err := a.client.SubscriptionEvents(ctx, id, from, cursor, limit)
		if err != nil {
			return err
		}
		return a.show(view{body: a.last.body, of: trigger.Matched{}, list: true, name: "event", table: func() {
			var rows [][]any
			for _, m := range page.Items {
				rows = append(rows, []any{stamp(m.At), m.Event, m.Run, m.Error})
			}
			if rows == nil && page.NextCursor == "" {
				a.note("none that is still kept")
				return
			}
			a.table(columns{"AT", "EVENT", "RUN", "ERROR"}, rows)
			a.more(page.NextCursor)
		}})
	})
	flags := cmd.Flags()
	flags.StringVar(&since, "since", "", "only those since then, such as 2026-11-21T18:00:00Z (default all that are kept)")
	flags.IntVar(&limit, "limit", 50, "how many, at most 500")
	flags.StringVar(&cursor, "cursor", "", "where to go on, as told by the list before")
	return cmd
}

func (a *app) subscriptionsDeleteCommand() *cobra.Command {
	var etag string
	cmd := a.ofSubscription(&cobra.Command{
		Use: "delete SUBSCRIPTION", Short: "Remove a subscription; its runs go on",
		Long:    `Remove a subscription. Runs that it has started go on.`,
		Example: a.examples("events subscriptions delete big-orders", "events subscriptions delete big-orders -q"),
	}, func(ctx context.Context, id string) error {
		if etag != "" {
			ctx = api.WithIfMatch(ctx, etag)
		}
		err := a.client.DeleteSubscription(ctx, id)
		if err == nil {
			a.note("deleted")
		}
		return err
	})
	cmd.Flags().StringVar(&etag, "if-match", "", "only if it still has this etag")
	return cmd
}
