package main

import (
	"context"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

func (a *app) watchCommand() *cobra.Command {
	var q api.FeedQuery
	var attrs, states []string
	var steps bool
	cmd := &cobra.Command{
		Use: "watch", Short: "Show what happens to all runs, as it happens",
		Long: `Show what happens to all runs from now on, until Ctrl-C: each change of a run's state, and with --steps each
entry of their journals. With -o json each is a line. One run alone: "runs follow RUN".`,
		Example: a.examples("watch --workflow research-agent --steps", "watch --state failed,blocked -o json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			ctx := cmd.Context()
			if q.Attrs, err = a.pairs(attrs); err != nil {
				return err
			}
			for _, name := range states {
				state, err := pawl.ParseState(name)
				if err != nil {
					return a.usage("--state %q: %w", name, err)
				}
				q.States = append(q.States, state)
			}
			if !steps {
				q.Types = []pawl.FeedType{pawl.FeedRun}
			}
			a.note("watching; Ctrl-C ends it")
			for event, err := range a.client.Feed(ctx, q, "") {
				switch {
				case context.Cause(ctx) == errTimeout:
					return &exitError{exitTimeout, errTimeout, nil} // it changes nothing, so nothing is left in doubt
				case ctx.Err() != nil:
					return context.Cause(ctx)
				case err != nil:
					return err
				case event.Item == nil:
				case !a.people():
					if err := a.stream(event.Data, *event.Item, "run"); err != nil {
						return err
					}
				default:
					a.happened(event)
				}
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&q.Workflow, "workflow", "", "only runs of this workflow")
	flags.StringSliceVar(&states, "state", nil, "only what happens in these states of a run")
	flags.StringArrayVar(&attrs, "attr", nil, "only runs with this attribute, as name=value; may be repeated")
	flags.BoolVar(&steps, "steps", false, "also the entries of their journals")
	a.completeNames(cmd, "workflow", a.workflowNames)
	a.complete(cmd, "state", stateNames()...)
	return cmd
}

// happened prints one item of the feed for people.
func (a *app) happened(event api.Event) {
	p, item := a.out, event.Item
	at := item.At
	if at.IsZero() {
		at = time.Now()
	}
	clock := p.dim(at.Local().Format("15:04:05"))
	switch {
	case event.Type == api.EventGap:
		p.line("%s %s", clock, p.yellow("some of what happened was missed"))
	case item.Key != "" || item.Seq > 0:
		mark := p.dim("·")
		switch {
		case item.Failed:
			mark = p.red("✗")
		case item.Kind == pawl.KindStep:
			mark = p.green("✓")
		}
		p.line("%s %s %s %s %s", clock, mark, item.Run, item.Kind, oneLine(item.Key+" "+fmt.Sprint(took(item.Took))))
	default:
		p.line("%s   %s %s %s %s", clock, item.Run, p.dim(item.Workflow), p.paintState(item.State.String()), oneLine(item.Reason))
	}
}
