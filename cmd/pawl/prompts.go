package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

func (a *app) promptsCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use: "prompts", Aliases: []string{"prompt"}, Short: "Versions of prompts, and which runs get",
		Example: a.examples("prompts put greet @greet.txt", "prompts activate greet 1=90 2=10"),
	}, a.promptsListCommand(), a.promptsShowCommand(), a.promptsPutCommand(), a.promptsActivateCommand(), a.promptsRollbackCommand())
}

func (a *app) promptNames(ctx context.Context, _ string) (names []string) {
	list, err := a.client.Prompts(ctx)
	if err != nil {
		return nil
	}
	for _, p := range list.Items {
		names = append(names, p.Name)
	}
	return names
}

// weights says which versions runs get.
func weights(active *agent.Activation) string {
	if active == nil || len(active.Weights) == 0 {
		return "the program's own text"
	}
	var all []string
	for _, v := range slices.Sorted(maps.Keys(active.Weights)) {
		all = append(all, fmt.Sprintf("%d=%d", v, active.Weights[v]))
	}
	return strings.Join(all, " ")
}

func (a *app) promptsListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List prompts",
		Long:    `List prompts, by name, and which versions runs get.`,
		Example: a.examples("prompts list", "prompts list -o name"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := a.client.Prompts(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(view{body: a.last.body, of: agent.PromptInfo{}, list: true, name: "name", table: func() {
				var rows [][]any
				for _, p := range list.Items {
					rows = append(rows, []any{p.Name, len(p.Versions), weights(p.Active)})
				}
				if rows == nil {
					a.note("no prompts; keep one: %s", style(a.hint("prompts put NAME @file")))
					return
				}
				a.table(columns{"NAME", "VERSIONS", "ACTIVE"}, rows)
			}})
		},
	}
}

func (a *app) prompted(p agent.PromptInfo) error {
	return a.show(view{body: a.last.body, of: p, name: "name", table: func() {
		a.fact("prompt", p.Name)
		a.fact("active", weights(p.Active))
		var rows [][]any
		for _, v := range p.Versions {
			rows = append(rows, []any{v.Version, a.when(v.At)})
		}
		a.out.line("")
		a.table(columns{"VERSION", "PUT"}, rows)
		rows = nil
		for _, h := range p.History {
			rows = append(rows, []any{a.when(h.Since), weights(&h), h.By})
		}
		if rows != nil {
			a.out.line("")
			a.table(columns{"SINCE", "ACTIVE", "BY"}, rows)
		}
	}})
}

func (a *app) promptsShowCommand() *cobra.Command {
	var version int
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show a prompt, or with --version the text of one",
		Long:              `Show the versions of a prompt and what was active when. With --version it prints that version's text.`,
		Example:           a.examples("prompts show greet", "prompts show greet --version 2"),
		Args:              a.oneArg("NAME", a.promptNames),
		ValidArgsFunction: a.completeFirst(a.promptNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if version == 0 {
				p, err := a.client.Prompt(cmd.Context(), args[0])
				if err != nil {
					return a.elsewhere(err, "prompts list")
				}
				return a.prompted(p)
			}
			v, err := a.client.PromptVersion(cmd.Context(), args[0], version)
			if err != nil {
				return a.elsewhere(err, "prompts list")
			}
			return a.show(view{body: a.last.body, of: v, name: "name", table: func() { a.out.line("%s", v.Text) }})
		},
	}
	cmd.Flags().IntVar(&version, "version", 0, "print the text of this version")
	return cmd
}

func (a *app) promptsPutCommand() *cobra.Command {
	return &cobra.Command{
		Use: "put NAME TEXT", Short: "Keep a text as a version of a prompt",
		Long: `Keep a text as a version of a prompt: TEXT itself, @file, or - for standard input. {{name}} is where a
variable comes. The same text is the same version. Nobody uses a new one until it is activated.`,
		Example:           a.examples("prompts put greet 'Hello {{name}}'", "prompts put greet @greet.txt -o json"),
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeFirst(a.promptNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := a.text(args[1])
			if err != nil {
				return err
			}
			v, err := a.client.PutPrompt(cmd.Context(), args[0], api.PromptRequest{Text: text})
			if err != nil {
				return err
			}
			return a.show(view{body: a.last.body, of: v, name: "name", table: func() {
				a.out.line("%s %d", args[0], v.Version)
				a.note("let runs get it: %s", style(a.hint("prompts activate %s", args[0])+" "+strconv.Itoa(v.Version)))
			}})
		},
	}
}

// text reads an argument that is a text, @file or -.
func (a *app) text(arg string) (string, error) {
	var data []byte
	var err error
	switch {
	case arg == "-":
		data, err = io.ReadAll(a.stdin)
	case strings.HasPrefix(arg, "@"):
		data, err = os.ReadFile(arg[1:])
	default:
		return arg, nil
	}
	if err != nil {
		return "", a.usage("%w", err)
	}
	return string(data), nil
}

func (a *app) promptsActivateCommand() *cobra.Command {
	var by, etag string
	cmd := &cobra.Command{
		Use: "activate NAME VERSION[=WEIGHT]…", Short: "Let runs get versions of a prompt",
		Long: `Let new runs get versions of a prompt: one, or several by weight. Without a VERSION each program's own
text is used again.`,
		Example:           a.examples("prompts activate greet 2", "prompts activate greet 1=90 2=10"),
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeFirst(a.promptNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := api.ActivateRequest{Weights: map[int]int{}, By: by}
			for _, arg := range args[1:] {
				version, weight, weighed := strings.Cut(arg, "=")
				n, err := strconv.Atoi(version)
				w := 1
				if err == nil && weighed {
					w, err = strconv.Atoi(weight)
				}
				if err != nil || n < 1 || w < 1 {
					return a.usage("%q is no version such as 2, or version and weight such as 2=10", arg)
				}
				q.Weights[n] = w
			}
			ctx := cmd.Context()
			if etag != "" {
				ctx = api.WithIfMatch(ctx, etag)
			}
			p, err := a.client.ActivatePrompt(ctx, args[0], q)
			if err != nil {
				return a.elsewhere(err, "prompts list")
			}
			return a.prompted(p)
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "who does it (default the key's name)")
	cmd.Flags().StringVar(&etag, "if-match", "", "only if its revision is still this")
	return cmd
}

func (a *app) promptsRollbackCommand() *cobra.Command {
	var by string
	cmd := &cobra.Command{
		Use: "rollback NAME", Short: "Undo the newest activation of a prompt",
		Long:              `Undo the newest activation of a prompt that was not undone.`,
		Example:           a.examples("prompts rollback greet", "prompts rollback greet --by ann"),
		Args:              a.oneArg("NAME", a.promptNames),
		ValidArgsFunction: a.completeFirst(a.promptNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.client.RollbackPrompt(cmd.Context(), args[0], api.RollbackRequest{By: by})
			if err != nil {
				return a.elsewhere(err, "prompts list")
			}
			return a.prompted(p)
		},
	}
	cmd.Flags().StringVar(&by, "by", "", "who does it (default the key's name)")
	return cmd
}

func (a *app) askedCommand() *cobra.Command {
	var full bool
	var q struct {
		cursor string
		limit  int
	}
	cmd := a.ofRun(&cobra.Command{
		Use: "asked RUN", Short: "Show what a run has asked models, what they said and what it cost",
		Long: `Show each request that a run has made of a model, in the order in which they ended. With --full, the whole
question and answer.`,
		Example: a.examples("asked run_01JD", "asked run_01JD --full"),
	}, func(ctx context.Context, id string) error {
		page, err := a.client.Asked(ctx, id, q.cursor, q.limit)
		if err != nil {
			return err
		}
		return a.show(view{body: a.last.body, of: agent.Asking{}, list: true, name: "step", table: func() {
			var rows [][]any
			for _, one := range page.Items {
				if full {
					a.asking(&one)
					continue
				}
				question := ""
				if one.Request != nil && len(one.Request.Messages) > 0 {
					question = oneLine(one.Request.Messages[len(one.Request.Messages)-1].Content)
				}
				rows = append(rows, []any{one.Step, one.Attempt, madeOf(&one.Made), took(one.Took), cut(question, 200), cut(oneLine(said(&one)), 200)})
			}
			switch {
			case len(page.Items) == 0:
				a.note("it has asked no model")
			case !full:
				a.table(columns{"STEP", "ATTEMPT", "MODEL", "TOOK", "+ASKED", "SAID"}, rows)
				a.note("ask again with a change: %s", style(a.hint("runs fork-asked %s %s --prompt TEXT", id, page.Items[0].Step)))
			}
			a.more(page.NextCursor)
		}})
	})
	flags := cmd.Flags()
	flags.BoolVar(&full, "full", false, "the whole question and answer")
	flags.IntVar(&q.limit, "limit", 20, "how many, at most 100")
	flags.StringVar(&q.cursor, "cursor", "", "where to go on, as told by the list before")
	return cmd
}

// said is what came of a request, for people.
func said(one *agent.Asking) string {
	switch {
	case one.Error != "":
		return one.Error
	case one.Response == nil:
		return ""
	case one.Response.Refusal != "":
		return "refused: " + one.Response.Refusal
	}
	text := one.Response.Text
	for _, call := range one.Response.ToolCalls {
		text = strings.TrimSpace(text + " → " + call.Name)
	}
	return text
}

// asking prints a request and its answer whole.
func (a *app) asking(one *agent.Asking) {
	p := a.out
	p.line("%s %s", p.bold(one.Step), p.dim(fmt.Sprintf("(attempt %d, %s) %s", one.Attempt, took(one.Took), madeOf(&one.Made))))
	if one.Request != nil {
		if one.Request.System != "" {
			p.line("%s %s", p.dim("system:"), one.Request.System)
		}
		for _, m := range one.Request.Messages {
			p.line("%s %s", p.dim(string(m.Role)+":"), m.Content)
		}
	}
	p.line("%s %s", p.dim("answer:"), said(one))
	p.line("")
}

// changeFlags are how a question differs from one that was asked.
func (a *app) changeFlags(cmd *cobra.Command, change *agent.Change, system *string, temperature *float64) {
	flags := cmd.Flags()
	flags.StringVar(&change.Model, "model", "", "another model, as provider/model")
	flags.StringVar(&change.Prompt, "prompt", "", "in place of the user's last message, in which {{prompt}} stands for that; @file and - too")
	flags.StringVar(system, "system", "", "other instructions; @file and - too")
	flags.IntVar(&change.Version, "version", 0, "another version of the prompt of the registry")
	flags.Float64Var(temperature, "temperature", 0, "how freely the model chooses its words")
	flags.IntVar(&change.MaxTokens, "max-tokens", 0, "the most that the model may write")
}

// changed reads them; something must be changed.
func (a *app) changed(cmd *cobra.Command, change *agent.Change, system *string, temperature *float64) error {
	if err := a.readChange(cmd, change, system, temperature); err != nil {
		return err
	}
	return a.changesSomething(change)
}

func (a *app) changesSomething(change *agent.Change) error {
	if *change == (agent.Change{}) {
		return a.usage("what is asked otherwise? give --model, --prompt, --system, --version, --temperature or --max-tokens")
	}
	return nil
}

// readChange reads them.
func (a *app) readChange(cmd *cobra.Command, change *agent.Change, system *string, temperature *float64) (err error) {
	if change.Prompt, err = a.text(change.Prompt); err != nil {
		return err
	}
	if cmd.Flags().Changed("system") {
		text, err := a.text(*system)
		if err != nil {
			return err
		}
		change.System = &text
	}
	if cmd.Flags().Changed("temperature") {
		change.Temperature = temperature
	}
	return nil
}

func (a *app) forkAskedCommand() *cobra.Command {
	var q api.ForkAskedRequest
	var system string
	var temperature float64
	cmd := &cobra.Command{
		Use: "fork-asked RUN STEP", Short: "Start a new run from the journal of another, with a question to a model changed",
		Long: `Start a new run from the journal of another: what is recorded before the STEP is taken over, there the model
is asked otherwise, and what follows runs anew. "asked RUN" shows the steps.`,
		Example:           a.examples("runs fork-asked run_01JD synthesize --model anthropic/claude-haiku-4-5", "runs fork-asked run_01JD ask --prompt '{{prompt}} In one sentence.'"),
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeFirst(a.runIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.changed(cmd, &q.Change, &system, &temperature); err != nil {
				return err
			}
			id, err := a.runID(cmd.Context(), args[0])
			if err != nil {
				return a.explain(err, args[0])
			}
			q.Step = args[1]
			run, err := a.client.ForkAsked(cmd.Context(), id, q)
			if err != nil {
				return a.explain(err, id)
			}
			return a.told(run, run.State.String())
		},
	}
	a.changeFlags(cmd, &q.Change, &system, &temperature)
	cmd.Flags().StringVar(&q.ID, "id", "", "the new run's id (default made of the change, so that the same is the same run)")
	return cmd
}
