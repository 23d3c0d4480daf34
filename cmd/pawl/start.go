package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

func (a *app) startCommand() *cobra.Command {
	var q api.StartRequest
	var input string
	var budget float64
	var follow, wait bool
	var attrs []string
	var priority int
	var delay, limit time.Duration
	cmd := &cobra.Command{
		Use:   "start WORKFLOW",
		Short: "Start a run",
		Long: `Start a run of a workflow and print its id. The run is durable when the id is there. For up to
a second the command then looks whether the run ends or waits, and says what answers it; with -q
it does not. With --id the start may be repeated: it answers with the run that is there.`,
		Example: a.examples(`start research-agent --input '{"topic":"tidal power"}' --follow`, "start rag-agent -i @question.json --wait --timeout 2m -o json",
			"start rag-agent -i - --id question-7 --attr customer=acme < question.json"),
		Args:              a.oneArg("WORKFLOW", a.workflowNames),
		ValidArgsFunction: a.completeFirst(a.workflowNames),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if follow && wait {
				return a.usage("--follow waits already: leave --wait out")
			}
			if cmd.Flags().Changed("budget") {
				if !(budget >= 0) {
					return a.usage("--budget %v: write an amount of US dollars, such as 0.50", budget)
				}
				q.BudgetUSD = &budget
			}
			q.Workflow = args[0]
			pairs, err := a.pairs(attrs)
			if err != nil {
				return err
			}
			if q.Attributes == nil && pairs != nil {
				q.Attributes = map[string]any{}
			}
			for name, value := range pairs {
				q.Attributes[name] = value
			}
			if cmd.Flags().Changed("priority") {
				q.Priority = &priority
			}
			for _, d := range []struct {
				text *string
				d    time.Duration
			}{{&q.Delay, delay}, {&q.Timeout, limit}} {
				if d.d > 0 {
					*d.text = d.d.String()
				}
			}
			if q.Input, err = a.payload("--input", input); err != nil {
				return err
			}
			return a.start(cmd.Context(), q, follow, wait)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&input, "input", "i", "", "the run's input: JSON, @file, or - for standard input")
	flags.StringVar(&q.ID, "id", "", "the run's id, which makes the start idempotent (default a new one)")
	flags.StringArrayVar(&attrs, "attr", nil, "attribute to find the run by, as name=value; may be repeated")
	flags.IntVar(&priority, "priority", 0, "runs with a higher one go first (default what the workflow says)")
	flags.DurationVar(&delay, "delay", 0, "begin no sooner than this from now")
	flags.DurationVar(&limit, "run-timeout", 0, "cancel the run when it has not ended after so long")
	flags.StringVar(&q.OnConflict, "on-conflict", "", "when the id or the workflow's singleton key is taken: existing, reject, cancel_old or queue (default existing)")
	a.complete(cmd, "on-conflict", "existing", "reject", "cancel_old", "queue")
	flags.Float64Var(&budget, "budget", 0, "the most that the run may cost, in US dollars (default what the workflow says)")
	flags.BoolVarP(&follow, "follow", "f", false, "show what the run does until it has ended")
	flags.BoolVar(&wait, "wait", false, "wait until the run has ended, then print its result")
	return a.repeatable(cmd)
}

// longPoll is how long one request waits for a run's end; then comes the next.
const longPoll = time.Minute

func (a *app) start(ctx context.Context, q api.StartRequest, follow, wait bool) error {
	run, err := a.client.Start(ctx, q, 0)
	if errors.Is(err, pawl.ErrInput) {
		return &exitError{exitUsage, err, []string{"see what it takes: " + a.hint("workflows show %s", q.Workflow)}}
	}
	if err != nil {
		return a.explain(err, q.ID)
	}
	switch {
	case follow:
		if a.people() {
			a.out.line("%s %s", a.out.bold(run.ID), run.Workflow)
		}
		return a.follow(ctx, run.ID)
	case wait:
		run, err := a.ended(ctx, run.ID, true)
		if err != nil {
			return a.explain(err, run.ID)
		}
		return a.printResult(run)
	}
	return a.show(view{body: a.last.body, of: run, table: func() {
		a.out.line("%s", run.ID)
		what := "started"
		if run.Existed {
			what = fmt.Sprintf("it was there already, %s", run.State)
		}
		a.note("%s; follow it: %s", what, style(a.hint("runs follow %s", run.ID)))
		a.settles(ctx, run)
	}})
}

// payload reads what --input or --data says: JSON, @file or -.
func (a *app) payload(flag, text string) (json.RawMessage, error) {
	var data []byte
	var err error
	what := flag
	switch {
	case text == "":
		return nil, nil
	case text == "-":
		what = "standard input"
		data, err = io.ReadAll(a.stdin)
	case strings.HasPrefix(text, "@"):
		what = text[1:]
		data, err = os.ReadFile(what)
	default:
		data = []byte(text)
	}
	if err != nil {
		return nil, a.usage("%s: %w", flag, err)
	}
	if !json.Valid(data) {
		return nil, &exitError{exitUsage, fmt.Errorf("%s is not JSON: %s", what, cut(oneLine(string(data)), 60)),
			[]string{`in a shell, put JSON in single quotes: ` + flag + ` '{"topic":"tidal power"}'`, "or in a file: " + flag + " @input.json"}}
	}
	return data, nil
}

// oneArg wants exactly one argument, and says what it could be.
func (a *app) oneArg(name string, known known) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		if len(args) > 1 {
			return fmt.Errorf("%s takes one %s, not %d arguments: put text with spaces in quotes", cmd.CommandPath(), name, len(args))
		}
		article := "a"
		if strings.ContainsRune("AEIO", rune(name[0])) {
			article = "an"
		}
		text := fmt.Sprintf("%s needs %s %s", cmd.CommandPath(), article, name)
		if a.connect() == nil {
			if names := known.find(cmd.Context(), ""); len(names) > 0 {
				text += "; there are: " + strings.Join(names[:min(len(names), 10)], ", ")
			}
		}
		return errors.New(text)
	}
}
