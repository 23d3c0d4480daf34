package main

import (
	"context"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

func (a *app) eventsCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use: "events", Aliases: []string{"event"}, Short: "Send an event to every run that waits for it",
		Example: a.examples(`events send invoice.paid --data '{"invoice":"42"}'`, "events send stock.arrived"),
	}, a.eventsSendCommand())
}

func (a *app) eventsSendCommand() *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use: "send EVENT", Short: "Send an event to every run that waits for it now",
		Long:    `Send an event to every run that waits for it now. To one run only: "signal RUN EVENT".`,
		Example: a.examples(`events send invoice.paid --data '{"invoice":"42"}'`, "events send invoice.paid --data @invoice.json"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := a.payload("--data", text)
			if err != nil {
				return err
			}
			sent, err := a.client.Publish(cmd.Context(), args[0], data)
			if err != nil {
				return a.explain(err, "RUN")
			}
			return a.show(view{body: a.last.body, of: sent, name: "event", table: func() { a.out.line("%s", sent.Event) }})
		},
	}
	cmd.Flags().StringVarP(&text, "data", "d", "", "the event's data: JSON, @file, or - for standard input (default null)")
	return cmd
}

func (a *app) hooksCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use: "hooks", Aliases: []string{"hook"}, Short: "See the hooks of a run, and answer them",
		Example: a.examples("hooks list run_01JD", `hooks send TOKEN --data '{"approved":true}'`),
	}, a.hooksListCommand(), a.hooksSendCommand())
}

func (a *app) hooksListCommand() *cobra.Command {
	return a.ofRun(&cobra.Command{
		Use: "list RUN", Aliases: []string{"ls"}, Short: "List the live hooks of a run",
		Long: `List the live hooks of a run: who has the token of one can send to it.`, Example: a.examples("hooks list run_01JD", "hooks list run_01JD --jq '.items[].token'"),
	}, func(ctx context.Context, id string) error {
		list, err := a.client.Hooks(ctx, id)
		if err != nil {
			return err
		}
		return a.show(view{body: a.last.body, of: api.Hook{}, list: true, name: "token", table: func() {
			var rows [][]any
			for _, h := range list.Items {
				kind := "code"
				if h.Public {
					kind = "webhook"
				}
				rows = append(rows, []any{h.Token, h.Key, kind, a.when(h.At), readable(string(h.Meta))})
			}
			if rows == nil {
				a.note("it has no live hook; see what it waits for: %s", style(a.hint("runs show %s", id)))
				return
			}
			a.table(columns{"TOKEN", "KEY", "KIND", "MADE", "ABOUT"}, rows)
		}})
	})
}

func (a *app) hooksSendCommand() *cobra.Command {
	var text string
	cmd := &cobra.Command{
		Use: "send TOKEN", Short: "Send a payload to a hook",
		Long:    `Send a payload to the hook with a token. It is durable when the command returns.`,
		Example: a.examples(`hooks send TOKEN --data '{"approved":true}'`, "hooks send TOKEN --data @answer.json"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := a.payload("--data", text)
			if err != nil {
				return err
			}
			got, err := a.client.SendHook(cmd.Context(), args[0], data)
			if err != nil {
				return a.explain(err, "RUN")
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
			return a.names(func(ctx context.Context) []string { return a.streamNames(ctx, args[0]) })(cmd, args, typed)
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
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
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
