package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/flow/draft"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

func (a *app) generateCommand() *cobra.Command {
	var q api.GenerateRequest
	var change, out string
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "generate WORDS…", Short: "Let a model write a flow from words, or change one",
		Long: `Let the server's model write a flow from words, or change one that is there. What comes of it is a draft: it is
checked as a deployment is, explained, and runs nothing. Look at it, and let "drafts approve" deploy exactly that.
It costs at most $0.50, and what was paid for is not asked for again if the server is killed meanwhile.`,
		Example: a.examples(`generate "Sort tickets into billing and technical; ask a person before a refund"`, `generate --change triage "Tell #billing in Slack first"`, `generate --out digest.json "Every morning at 8, sum up what came in"`),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("%s needs words that say what the flow is to do", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Description = strings.Join(args, " ")
			var g api.Generated
			var err error
			if change == "" {
				g, err = a.client.Generate(cmd.Context(), q, wait)
			} else {
				g, err = a.client.GenerateChange(cmd.Context(), change, q, wait)
			}
			if err != nil {
				return a.elsewhere(err, "workflows list")
			}
			if out != "" && g.State == draft.Open {
				if err := writeNew(out, []byte(g.Text+"\n")); err != nil {
					return a.usage("--out: %w", err)
				}
				a.note("written to %s", out)
			}
			return a.showDraft(g.DraftView)
		},
	}
	cmd.Flags().StringVar(&change, "change", "", "the flow to change (default write a new one)")
	cmd.Flags().StringVar(&q.Model, "model", "", "that is asked, as provider/model (default the server's)")
	cmd.Flags().StringVar(&out, "out", "", "also write the flow into this file, which must not be there yet")
	cmd.Flags().DurationVar(&wait, "wait", 2*time.Minute, "how long to wait for it, at most 10m")
	a.completeNames(cmd, "change", a.workflowNames)
	return cmd
}

// writeNew writes a file that is not there.
func writeNew(file string, data []byte) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// showDraft shows all that is needed to decide on a draft.
func (a *app) showDraft(d api.DraftView) error {
	return a.show(view{body: a.last.body, of: d, table: func() {
		a.fact("draft", d.ID)
		a.fact("state", d.State)
		a.fact("workflow", d.WorkflowID)
		if d.Change {
			a.fact("changes", fmt.Sprintf("version %d", d.Base))
		}
		a.fact("words", d.Words)
		a.fact("by", strings.TrimSpace(d.By+" "+string(a.when(d.Created))))
		if d.Model != "" {
			cost := "a cost that is not known"
			if d.CostMicroUSD != nil {
				cost = flow.Dollars(*d.CostMicroUSD)
			}
			a.fact("written by", fmt.Sprintf("%s in %s, for %s", d.Model, count(d.Turns, "turn"), cost))
		}
		if d.Decided != nil {
			a.fact("decided", strings.TrimSpace(d.Decided.By+" "+string(a.when(d.Decided.At))+" "+d.Decided.Comment))
		}
		if d.Version != 0 {
			a.fact("version", d.Version)
		}
		a.fact("error", d.Error)
		a.fact("digest", d.Digest)
		if d.Explanation != nil {
			a.out.line("")
			a.lines(d.Explanation.String())
		}
		if d.WorstCase != nil {
			a.lines(d.WorstCase.Summary)
		}
		if d.Diff != nil {
			a.out.line("")
			a.changes(d.Diff.String(), d.Diff.Text)
		}
		for _, found := range d.Problems {
			a.out.line("%s %s", a.out.red("✗"), problemLine(d.WorkflowID, found))
		}
		for _, found := range d.Warnings {
			a.out.line("%s %s", a.out.yellow("!"), problemLine(d.WorkflowID, found))
		}
		switch {
		case d.State == draft.Writing:
			a.note("it is being written; look again: %s", style(a.hint("drafts show %s", d.ID)))
		case d.State != draft.Open:
		case len(d.Problems) > 0:
			a.note("it can't be approved as it is; ask again in other words, or mend the text: %s", style(a.hint("drafts show %s --jq .text", d.ID)))
		default:
			a.note("deploy exactly this: %s", style(a.hint("drafts approve %s --digest %s", d.ID, d.Digest)))
			a.note("or not: %s", style(a.hint("drafts reject %s", d.ID)))
		}
	}})
}

// lines prints a text line by line.
func (a *app) lines(text string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		a.out.line("%s", line)
	}
}

// changes prints what differs, and the same as a unified diff.
func (a *app) changes(steps, text string) {
	a.lines(steps)
	a.out.line("")
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, "+"):
			a.out.line("%s", a.out.green(clean(line)))
		case strings.HasPrefix(line, "-"):
			a.out.line("%s", a.out.red(clean(line)))
		default:
			a.out.line("%s", line)
		}
	}
}

func (a *app) draftsCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use: "drafts", Aliases: []string{"draft"}, Short: "See, propose, approve and reject drafts of flows",
		Long: `See, propose, approve and reject drafts of flows: those that "generate" has let a model write, and those that somebody
proposes. A draft runs nothing. It is deployed by who approves it, exactly as it was shown.`,
		Example: a.examples("drafts list", "drafts show draft_4k…", "drafts propose flows/triage.yaml"),
	}, a.draftsListCommand(), a.draftsShowCommand(), a.draftsProposeCommand(), a.draftsApproveCommand(), a.draftsRejectCommand(), a.draftsDeleteCommand())
}

// draftIDs are those of drafts that begin with what was typed.
func (a *app) draftIDs(ctx context.Context, typed string) (ids []string) {
	page, err := a.client.Drafts(ctx, api.DraftQuery{Limit: enough})
	if err != nil {
		return nil
	}
	for _, d := range page.Items {
		if strings.HasPrefix(d.ID, typed) {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

func (a *app) draftsListCommand() *cobra.Command {
	var q api.DraftQuery
	var state string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List drafts, newest first",
		Example: a.examples("drafts list", "drafts list --state open -o json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q.State = draft.State(state)
			page, err := a.client.Drafts(cmd.Context(), q)
			if err != nil {
				return err
			}
			return a.show(view{body: a.last.body, of: draft.Draft{}, list: true, table: func() {
				var rows [][]any
				for _, d := range page.Items {
					problems := ""
					if d.Faults > 0 {
						problems = fmt.Sprint(d.Faults)
					}
					rows = append(rows, []any{d.ID, string(d.State), d.WorkflowID, problems, a.when(d.Created), d.By, oneLine(d.Words)})
				}
				if rows == nil {
					a.note("no drafts")
					return
				}
				a.table(columns{"DRAFT", "STATE", "WORKFLOW", "PROBLEMS", "CREATED", "BY", "WORDS"}, rows)
				a.more(page.NextCursor)
			}})
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "only those: writing, open, approved, rejected or failed")
	cmd.Flags().StringVar(&q.Workflow, "workflow", "", "only those of this flow")
	cmd.Flags().IntVar(&q.Limit, "limit", 50, "how many, at most 500")
	cmd.Flags().StringVar(&q.Cursor, "cursor", "", "where to go on, as told by the list before")
	a.complete(cmd, "state", "writing", "open", "approved", "rejected", "failed")
	a.completeNames(cmd, "workflow", a.workflowNames)
	return cmd
}

// ofDraft is a command on one draft.
func (a *app) ofDraft(cmd *cobra.Command, do func(ctx context.Context, id string) error) *cobra.Command {
	cmd.Args, cmd.ValidArgsFunction = a.oneArg("DRAFT", a.draftIDs), a.completeFirst(a.draftIDs)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return a.elsewhere(do(cmd.Context(), args[0]), "drafts list")
	}
	return cmd
}

func (a *app) draftsShowCommand() *cobra.Command {
	return a.ofDraft(&cobra.Command{
		Use: "show DRAFT", Short: "Show a draft: what it does, all that it reaches, what is wrong, what it changes",
		Example: a.examples("drafts show draft_4k…", "drafts show draft_4k… --jq .text"),
	}, func(ctx context.Context, id string) error {
		d, err := a.client.Draft(ctx, id)
		if err != nil {
			return err
		}
		return a.showDraft(d)
	})
}

func (a *app) draftsProposeCommand() *cobra.Command {
	var comment string
	cmd := &cobra.Command{
		Use: "propose FILE", Short: "Propose a flow for somebody's approval",
		Long:    `Propose a flow, JSON or YAML, for somebody's approval. It must be one that could be deployed.`,
		Example: a.examples("drafts propose flows/triage.yaml", `drafts propose flows/triage.yaml --comment "asks before it pays"`),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := readFlow(args[0])
			if err != nil {
				return a.usage("%s: %w", args[0], err)
			}
			d, err := a.client.Propose(cmd.Context(), data, comment)
			if p, bad := errors.AsType[*api.Problem](err); bad && len(p.Errors) > 0 {
				return a.deployed([]deployedFile{{File: args[0], Errors: p.Errors, Warnings: p.Warnings}}, "deployed")
			}
			if err != nil {
				return err
			}
			return a.showDraft(d)
		},
	}
	cmd.Flags().StringVar(&comment, "comment", "", "what it is for")
	return cmd
}

func (a *app) draftsApproveCommand() *cobra.Command {
	var q api.ApproveDraftRequest
	var inactive bool
	cmd := a.ofDraft(&cobra.Command{
		Use: "approve DRAFT", Short: "Deploy a draft as it was shown",
		Long: `Deploy a draft, exactly as it was shown: --digest names that, as "drafts show" and "generate" tell it. Without it the draft
is shown now, and on a terminal you are asked. It is refused if the draft was decided meanwhile, or if another version of its
flow is active than when it was made.`,
		Example: a.examples("drafts approve draft_4k…", "drafts approve draft_4k… --digest 5c0a… --no-activate"),
	}, func(ctx context.Context, id string) error {
		if q.Digest == "" {
			d, err := a.client.Draft(ctx, id)
			if err != nil {
				return err
			}
			in, ok := a.stdin.(*os.File)
			if !ok || !a.people() || !term.IsTerminal(int(in.Fd())) {
				return a.usage("give --digest, of what you have looked at: %s", a.hint("drafts show %s", id))
			}
			if err := a.showDraft(d); err != nil {
				return err
			}
			if !a.agreed(in, "Deploy this?") {
				a.note("nothing was deployed")
				return nil
			}
			q.Digest = d.Digest
		}
		if inactive {
			q.Activate = new(false)
		}
		done, err := a.client.ApproveDraft(ctx, id, q)
		if err != nil {
			return err
		}
		return a.show(view{body: a.last.body, of: done, table: func() {
			a.out.line("%s version %d is deployed", done.Deployed.WorkflowID, done.Deployed.Version)
			a.note("start it: %s", style(a.hint("start %s", done.Deployed.WorkflowID)))
		}})
	})
	cmd.Flags().StringVar(&q.Digest, "digest", "", "of the draft as you have looked at it")
	cmd.Flags().StringVar(&q.Comment, "comment", "", "why")
	cmd.Flags().BoolVar(&inactive, "no-activate", false, "keep the version, and let runs start with the one that is active")
	return cmd
}

func (a *app) draftsRejectCommand() *cobra.Command {
	var q api.RejectDraftRequest
	cmd := a.ofDraft(&cobra.Command{
		Use: "reject DRAFT", Short: "Reject a draft",
		Example: a.examples("drafts reject draft_4k…", `drafts reject draft_4k… --comment "it pays before it asks"`),
	}, func(ctx context.Context, id string) error {
		d, err := a.client.RejectDraft(ctx, id, q)
		if err != nil {
			return err
		}
		return a.show(view{body: a.last.body, of: d, table: func() { a.out.line("%s is rejected", d.ID) }})
	})
	cmd.Flags().StringVar(&q.Comment, "comment", "", "why")
	return cmd
}

func (a *app) draftsDeleteCommand() *cobra.Command {
	return a.ofDraft(&cobra.Command{
		Use: "delete DRAFT", Aliases: []string{"rm"}, Short: "Withdraw a draft on which nobody has decided",
		Example: a.examples("drafts delete draft_4k…", "drafts delete draft_4k… -q"),
	}, func(ctx context.Context, id string) error {
		if err := a.client.DeleteDraft(ctx, id); err != nil {
			return err
		}
		body, err := json.Marshal(map[string]string{"deleted": id})
		if err != nil {
			return err
		}
		return a.show(view{body: body, name: "deleted", table: func() { a.out.line("%s is withdrawn", id) }})
	})
}
