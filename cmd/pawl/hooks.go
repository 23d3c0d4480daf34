package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/trigger"
	"github.com/spf13/cobra"
)

func (a *app) eventsCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use: "events", Aliases: []string{"event"}, Short: "Publish an event to all who want it",
		Example: a.examples(`events send invoice.paid --data '{"invoice":"42"}'`, "events send stock.arrived"),
	}, a.eventsSendCommand(), a.subscriptionsCommand())
}

func (a *app) eventsSendCommand() *cobra.Command {
	var text, id string
	cmd := &cobra.Command{
		Use: "send EVENT", Short: "Publish an event to all who want it",
		Long: `Publish an event: every run that waits for it gets it, and subscriptions to it start a run each.
The same --id again does nothing. To one run only: "signal RUN EVENT".`,
		Example: a.examples(`events send invoice.paid --data '{"invoice":"42"}'`, "events send invoice.paid --data @invoice.json --id invoice-42"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := a.payload("--data", text)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			if id != "" {
				ctx = api.WithIdempotencyKey(ctx, id)
			}
			sent, err := a.client.Publish(ctx, args[0], data)
			if err != nil {
				return a.explain(err, "RUN")
			}
			return a.show(view{body: a.last.body, of: sent, table: func() {
				a.out.line("%s %s", sent.Event, sent.ID)
				a.note("%d waiting runs got it, %d are started by it", sent.Count, len(sent.Runs))
				for _, run := range sent.Runs {
					a.note("  %s", style(a.hint("runs follow %s", run)))
				}
			}})
		},
	}
	cmd.Flags().StringVarP(&text, "data", "d", "", "the event's data: JSON, @file, or - for standard input (default null)")
	cmd.Flags().StringVar(&id, "id", "", "the event's id, which makes it one however often it is sent (default a new one)")
	return cmd
}

func (a *app) hooksCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use: "hooks", Aliases: []string{"hook"}, Short: "See the hooks of runs, and answer them",
		Example: a.examples("hooks list run_01JD", `hooks send run_01JD review --data '{"approved":true}'`),
	}, a.hooksListCommand(), a.hooksSendCommand())
}

func (a *app) hooksListCommand() *cobra.Command {
	q := api.HookQuery{}
	cmd := &cobra.Command{
		Use: "list [RUN]", Aliases: []string{"ls"}, Short: "List live hooks: of a run, or of all",
		Long: `List live hooks of a run, or of all runs. A webhook's URL, and with -o wide the token of any hook,
are shown to those who may send to hooks: who has one needs no key.`,
		Example:           a.examples("hooks list run_01JD", "hooks list --kind webhook --jq '.items[].url'"),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeFirst(a.runIDs),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if len(args) == 1 {
				if q.Run, err = a.runID(cmd.Context(), args[0]); err != nil {
					return a.explain(err, args[0])
				}
			}
			page, err := a.client.HookPage(cmd.Context(), q)
			if err != nil {
				return err
			}
			return a.show(view{body: a.last.body, of: api.Hook{}, list: true, name: "key", table: func() {
				var rows [][]any
				for _, h := range page.Items {
					rows = append(rows, []any{h.Key, h.Run, kindOf(h), a.when(h.At), h.Token, style(clean(h.URL)), aboutHook(h)})
				}
				switch {
				case rows == nil && q.Run != "":
					a.note("it has no live hook; see what it waits for: %s", style(a.hint("runs show %s", q.Run)))
				case rows == nil:
					a.note("no run has a live hook")
				default:
					a.table(columns{"KEY", "RUN", "KIND", "MADE", "+TOKEN", "URL", "ABOUT"}, rows)
				}
				a.more(page.NextCursor)
			}})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&q.Kind, "kind", "", "only hooks of this kind: webhook, approval, or one of the code's own")
	flags.IntVar(&q.Limit, "limit", 50, "how many, at most 500")
	flags.StringVar(&q.Cursor, "cursor", "", "where to go on, as told by the list before")
	a.complete(cmd, "kind", "webhook", "approval")
	return cmd
}

// more says how a list that is not at its end goes on.
func (a *app) more(cursor string) {
	if cursor != "" {
		a.note("there are more: --limit, or --cursor %s", cursor)
	}
}

// kindOf says what a hook waits for.
func kindOf(h api.Hook) string {
	switch {
	case h.Kind != "":
		return h.Kind
	case h.Public:
		return "webhook"
	}
	return "code"
}

// aboutHook is what the code has said of a hook. That of a webhook is how it answers, and of an
// approval what "approvals show" has.
func aboutHook(h api.Hook) string {
	if h.Public || h.Kind == approval.Kind {
		return ""
	}
	return readable(string(h.Meta))
}

func (a *app) hookKeys(ctx context.Context, run string) (keys []string) {
	list, err := a.client.Hooks(ctx, run)
	if err != nil {
		return nil
	}
	for _, h := range list.Items {
		keys = append(keys, h.Key)
	}
	return keys
}

func (a *app) hooksSendCommand() *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use: "send RUN [KEY]", Short: "Send a payload to a hook",
		Long: `Send a payload to a hook: to that of a run with a KEY, as "hooks list" shows it; or, with one argument, to
the one that has that TOKEN, or else to the only one of the RUN. It is durable when the command returns. A webhook is
called at its URL instead, an approval is decided with "approve" or "reject", and an event is sent with "events send".`,
		Example: a.examples(`hooks send run_01JD review --data '{"approved":true}'`, "hooks send TOKEN --data @answer.json"),
		Args:    cobra.RangeArgs(1, 2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) != 1 {
				return a.completeFirst(a.hookTargets)(cmd, args, typed)
			}
			return a.names(func(ctx context.Context, _ string) []string { return a.hookKeys(ctx, args[0]) })(cmd, args, typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := a.payload("--data", text)
			if err != nil {
				return err
			}
			send := a.sendKey
			if len(args) == 1 {
				send = a.sendToken
			}
			got, err := send(cmd.Context(), args, data)
			if err != nil {
				return err
			}
			return a.show(view{body: a.last.body, of: got, name: "run", table: func() {
				a.out.line("%s", got.Run)
				a.note("it has it; see what it makes of it: %s", style(a.hint("runs follow %s", got.Run)))
			}})
		},
	}
	cmd.Flags().StringVarP(&text, "data", "d", "", "the payload: JSON, @file, or - for standard input (default null)")
	return cmd
}

// sendKey sends to the hook that a run has under a key.
func (a *app) sendKey(ctx context.Context, args []string, data json.RawMessage) (got api.Accepted, err error) {
	id, err := a.runID(ctx, args[0])
	if err != nil {
		return got, a.explain(err, args[0])
	}
	got, err = a.client.SendRunHook(ctx, id, args[1], data)
	switch {
	case errors.Is(err, pawl.ErrNotFound):
		return got, &exitError{exitNotFound, err, []string{"see what hooks it has: " + a.hint("hooks list %s", id)}}
	case errors.Is(err, pawl.ErrState): // it takes no bare payload
		return got, &exitError{exitConflict, err, []string{"see how it is answered: " + a.hint("runs show %s", id)}}
	}
	return got, a.explain(err, id)
}

// sendToken sends to the hook with a token; if none has it, to the only one of the run with that id.
func (a *app) sendToken(ctx context.Context, args []string, data json.RawMessage) (got api.Accepted, err error) {
	got, err = a.client.SendHook(ctx, args[0], data)
	if !errors.Is(err, pawl.ErrNotFound) {
		return got, a.explain(err, "RUN")
	}
	id, rerr := a.runID(ctx, args[0])
	if rerr != nil {
		return got, a.elsewhere(err, "hooks list")
	}
	got, err = a.sendOnly(ctx, id, data)
	return got, a.explain(err, id)
}

// sendOnly sends to the only hook of a run that takes something from people.
func (a *app) sendOnly(ctx context.Context, id string, data json.RawMessage) (got api.Accepted, err error) {
	list, err := a.client.Hooks(ctx, id)
	if err != nil {
		return got, err
	}
	var keys []string
	for _, h := range list.Items {
		if !h.Public && h.Kind != approval.Kind && !strings.HasPrefix(h.Kind, trigger.HookKind) {
			keys = append(keys, h.Key)
		}
	}
	if len(keys) == 0 {
		return got, a.notFor(ctx, id, "has no hook that takes a payload")
	}
	if len(keys) > 1 {
		e := &exitError{code: exitUsage, err: fmt.Errorf("run %s has %d hooks: say which", id, len(keys))}
		for _, key := range keys {
			e.next = append(e.next, a.hint("hooks send %s %s --data JSON", id, key))
		}
		return got, e
	}
	return a.client.SendRunHook(ctx, id, keys[0], data)
}

func (a *app) workflowsCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use: "workflows", Aliases: []string{"workflow", "wf"}, Short: "See what can be started",
		Example: a.examples("workflows list", "workflows list -o name"),
	}, &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the workflows that the server can start",
		Example: a.examples("workflows list", "workflows list -o name"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := a.client.Workflows(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(view{body: a.last.body, of: api.Workflow{}, list: true, name: "name", table: func() {
				var rows [][]any
				for _, w := range list.Items {
					rows = append(rows, []any{w.Name})
				}
				if rows == nil {
					a.note("the server has no workflow")
					return
				}
				a.table(columns{"NAME"}, rows)
			}})
		},
	})
}

func (a *app) streamCommand() *cobra.Command {
	var follow bool
	var from int64
	cmd := &cobra.Command{
		Use: "stream RUN [NAME]", Short: "Read what a run writes while it works",
		Long: `Read a stream of a run: what it writes for those who watch, such as the text of a model as it
comes. Without a NAME the streams are listed. Text is printed as text, other chunks as lines of
JSON; with -o jsonl each chunk is a line as the server sent it.`,
		Example: a.examples("stream run_01JD", "stream run_01JD progress --follow", "stream run_01JD progress --from -10 -o jsonl"),
		Args:    cobra.RangeArgs(1, 2),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) != 1 {
				return a.completeFirst(a.runIDs)(cmd, args, typed)
			}
			return a.names(func(ctx context.Context, _ string) []string { return a.streamNames(ctx, args[0]) })(cmd, args, typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := a.runID(cmd.Context(), args[0])
			if err == nil && len(args) == 1 {
				err = a.streams(cmd.Context(), id)
			} else if err == nil {
				err = a.readStream(cmd.Context(), id, args[1], from, follow)
			}
			return a.explain(err, args[0])
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the stream has ended")
	cmd.Flags().Int64Var(&from, "from", 0, "index of the first chunk; negative: so many before the end")
	return cmd
}

func (a *app) streamNames(ctx context.Context, id string) (names []string) {
	list, err := a.client.Streams(ctx, id)
	if err != nil {
		return nil
	}
	for _, s := range list.Items {
		if s.Name != "" {
			names = append(names, s.Name)
		}
	}
	return names
}

func (a *app) streams(ctx context.Context, id string) error {
	list, err := a.client.Streams(ctx, id)
	if err != nil {
		return err
	}
	return a.show(view{body: a.last.body, of: pawl.StreamInfo{}, list: true, name: "name", table: func() {
		var rows [][]any
		for _, s := range list.Items {
			rows = append(rows, streamRow(s))
		}
		if rows == nil {
			a.note("the run has written no stream")
			return
		}
		a.table(columns{"NAME", "CHUNKS", "ENDED"}, rows)
	}})
}
