package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/internal/spelling"
	"github.com/spf13/cobra"
)

func (a *app) approvalsCommand() *cobra.Command {
	return a.noun(&cobra.Command{
		Use: "approvals", Aliases: []string{"approval"}, Short: "See what waits for a person's decision",
		Example: a.examples("approvals list", "approvals show run_01JD/pay"),
	}, a.approvalsListCommand(), a.approvalsShowCommand(), a.approvalsLinkCommand())
}

func (a *app) approvalsListCommand() *cobra.Command {
	var q api.ApprovalQuery
	var state string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List approvals",
		Long:    `List approvals: those that wait, in the order in which they were asked for, or those that are over, newest first.`,
		Example: a.examples("approvals list --approver ann", "approvals list --state decided -o json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if q.State = approval.State(state); !slices.Contains([]string{"pending", "decided", "expired"}, state) {
				return a.usage("--state %q: it is one of pending, decided, expired", state)
			}
			page, err := a.client.Approvals(cmd.Context(), q)
			if err != nil {
				return err
			}
			return a.show(view{body: a.last.body, of: approval.Approval{}, list: true, table: func() {
				var rows [][]any
				for _, p := range page.Items {
					by := strings.Join(p.Approvers, " ")
					if p.Decision != nil {
						by = p.Decision.By
					}
					rows = append(rows, []any{p.ID, p.Title, a.out.paintApproval(&p), by, p.Workflow, a.when(p.Asked), a.when(p.Expires)})
				}
				if rows == nil {
					a.note("no approval is %s", state)
					return
				}
				a.table(columns{"~ID", "TITLE", "STATE", "WHO", "+WORKFLOW", "ASKED", "EXPIRES"}, rows)
				if state == "pending" {
					a.note("decide: %s", style(a.decisions(&page.Items[0])[0]))
				}
				a.more(page.Next)
			}})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&state, "state", "pending", "pending, decided or expired")
	flags.StringVar(&q.Approver, "approver", "", "pending: only what this one may decide; else only what this one voted on")
	flags.StringVar(&q.Run, "run", "", "only those of the run with this id")
	flags.IntVar(&q.Limit, "limit", 50, "how many, at most 200")
	flags.StringVar(&q.Cursor, "cursor", "", "where to go on, as told by the list before")
	a.complete(cmd, "state", "pending", "decided", "expired")
	a.completeNames(cmd, "run", a.runIDs)
	return cmd
}

// paintApproval says how an approval stands.
func (p *printer) paintApproval(a *approval.Approval) style {
	switch {
	case a.Decision != nil && a.Decision.Approved:
		return p.green("approved")
	case a.Decision != nil:
		return p.red("rejected")
	case a.State == approval.Pending:
		return p.yellow(string(a.State))
	}
	return p.dim(string(a.State))
}

// approvalIDs are those that wait.
func (a *app) approvalIDs(ctx context.Context, typed string) []string {
	return pages(typed, func(cursor string) (ids []string, next string, err error) {
		page, err := a.client.Approvals(ctx, api.ApprovalQuery{Cursor: cursor, Limit: 200})
		for _, p := range page.Items {
			ids = append(ids, p.ID)
		}
		return ids, page.Next, err
	})
}

// overPages is how many pages of those that are over are looked through, newest first.
const overPages = 5

// approval finds the one that is meant: with the id typed, or else the only one that waits for the
// run with that id, or whose id begins so, or if none waits the only one that is over. "run_" may be
// left out. verb is what is typed before one.
func (a *app) approval(ctx context.Context, verb, typed string) (api.ApprovalAnswer, error) {
	one, err := a.client.Approval(ctx, typed, false)
	if !errors.Is(err, pawl.ErrNotFound) && !errors.Is(err, pawl.ErrInput) {
		return one, err
	}
	var found, ofRun []string
	look := func(q api.ApprovalQuery, pages int) error {
		for ; pages > 0; pages-- {
			page, err := a.client.Approvals(ctx, q)
			if err != nil {
				return err
			}
			for _, p := range page.Items {
				if strings.HasPrefix(p.ID, typed) || strings.HasPrefix(p.ID, "run_"+typed) {
					found = append(found, p.ID)
				}
				if p.Run == typed || p.Run == "run_"+typed {
					ofRun = append(ofRun, p.ID)
				}
			}
			if q.Cursor = page.Next; q.Cursor == "" {
				break
			}
		}
		return nil
	}
	if lerr := look(api.ApprovalQuery{Limit: 200}, math.MaxInt); lerr != nil {
		return one, lerr
	}
	for _, over := range []approval.State{approval.Decided, approval.Expired} { // what waits goes before
		if len(found) > 0 {
			break
		}
		if lerr := look(api.ApprovalQuery{State: over, Limit: 200}, overPages); lerr != nil {
			return one, lerr
		}
	}
	if len(ofRun) == 0 { // a run that asks for nothing is not another whose id begins so
		for _, id := range []string{typed, "run_" + typed} {
			if _, rerr := a.client.Run(ctx, id, 0); rerr == nil {
				return one, a.notFor(ctx, id, "asks for no approval")
			}
		}
	}
	text := fmt.Sprintf("%q is the beginning of several approvals' ids: type more of it", typed)
	if len(ofRun) > 0 { // that another run's id begins so does not matter
		found, text = ofRun, fmt.Sprintf("run %s asks for %d approvals: say which", typed, len(ofRun))
	}
	switch len(found) {
	case 0:
		return one, a.asksNothing(ctx, typed, err)
	case 1:
		return a.client.Approval(ctx, found[0], false)
	}
	var next []string
	for i, id := range found {
		if i == 5 {
			next = append(next, "and more: "+a.hint("approvals list"))
			break
		}
		next = append(next, a.hint(verb+" %s", id))
	}
	return one, &exitError{exitUsage, errors.New(text), next}
}

// asksNothing is the error of an approval that is not there, where a run is named what it waits for.
func (a *app) asksNothing(ctx context.Context, typed string, err error) error {
	id, rerr := a.runID(ctx, typed)
	if rerr != nil {
		return &exitError{exitNotFound, err, []string{"see what waits: " + a.hint("approvals list")}}
	}
	return a.notFor(ctx, id, "asks for no approval")
}

// notFor is the error of an answer that a run does not wait for: it says what it waits for instead.
func (a *app) notFor(ctx context.Context, id, what string) error {
	e := &exitError{code: exitConflict, err: fmt.Errorf("run %s %s", id, what), next: []string{"see: " + a.hint("runs show %s", id)}}
	run, err := a.client.Run(ctx, id, 0)
	if err != nil {
		return e
	}
	s, err := a.stands(ctx, run)
	if err != nil {
		return e
	}
	if s.run.State.Terminal() {
		e.err = fmt.Errorf("%w: it is %s", e.err, s.run.State)
		return e
	}
	e.err = fmt.Errorf("%w; %s", e.err, s.why)
	for _, h := range s.helps {
		if h.label == "next" {
			e.next = append(e.next, string(h.text))
		}
	}
	return e
}

func (a *app) approvalsShowCommand() *cobra.Command {
	var history bool
	cmd := &cobra.Command{
		Use: "show APPROVAL", Short: "Show an approval: what is asked, who may decide, what has become of it",
		Long:              `Show an approval. An APPROVAL is its id, or as much of its beginning as is not another's that waits.`,
		Example:           a.examples("approvals show run_01JD/pay", "approvals show run_01JD --history -o json"),
		Args:              a.oneArg("APPROVAL", a.approvalIDs),
		ValidArgsFunction: a.completeFirst(a.approvalIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			one, err := a.approval(cmd.Context(), "approvals show", args[0])
			if err == nil && history {
				one, err = a.client.Approval(cmd.Context(), one.ID, true)
			}
			if err != nil {
				return a.explain(err, "RUN")
			}
			return a.show(view{body: a.last.body, of: one, table: func() { a.showApproval(&one) }})
		},
	}
	cmd.Flags().BoolVar(&history, "history", false, "also what happened to it")
	return cmd
}

func (a *app) approvalsLinkCommand() *cobra.Command {
	var approver string
	cmd := &cobra.Command{
		Use: "link APPROVAL", Short: "Make the link at which an approver decides",
		Long: `Make the address of the page at which an approver decides, without a key. Who has it decides in the
approver's name: send it to nobody else. It works until the approval is over.`,
		Example:           a.examples("approvals link run_01JD/pay --approver ann", "approvals link run_01JD -o json"),
		Args:              a.oneArg("APPROVAL", a.approvalIDs),
		ValidArgsFunction: a.completeFirst(a.approvalIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			one, err := a.approval(cmd.Context(), "approvals link", args[0])
			if err != nil {
				return a.explain(err, "RUN")
			}
			switch {
			case approver != "":
			case len(one.Approvers) == 1:
				approver = one.Approvers[0]
			case len(one.Approvers) > 1:
				return a.usage("whose link? give --approver, one of: %s", strings.Join(one.Approvers, ", "))
			default:
				return a.usage("anybody may decide on %s, and a link is one person's: give --approver NAME", one.ID)
			}
			link, err := a.client.ApprovalLink(cmd.Context(), one.ID, approver)
			if err != nil {
				return a.explain(err, one.Run)
			}
			return a.show(view{body: a.last.body, of: link, name: "url", table: func() {
				a.out.line("%s", link.URL)
				a.note("who has it decides as %s", link.Approver)
			}})
		},
	}
	cmd.Flags().StringVar(&approver, "approver", "", "whom it is for (default the only one who may decide)")
	return cmd
}

func (a *app) showApproval(one *api.ApprovalAnswer) {
	a.fact("approval", one.ID)
	a.fact("state", a.out.paintApproval(&one.Approval))
	a.fact("asks", one.Title)
	a.fact("run", one.Run+" "+one.Workflow)
	a.fact("approvers", strings.Join(one.Approvers, ", "))
	a.fact("not", strings.Join(one.Not, ", "))
	if one.Need > 1 {
		a.fact("needs", fmt.Sprintf("%d, has %d", one.Need, len(one.Votes)))
	}
	a.fact("asked", stamp(one.Asked))
	a.fact("expires", stamp(one.Expires))
	a.fact("why", one.Reason)
	if d := one.Decision; d != nil {
		a.fact("by", d.By+" "+stamp(d.At))
		a.fact("done by", d.Actor)
		a.fact("comment", d.Comment)
		a.fact("form", string(d.Form))
	}
	if one.Message != "" {
		a.out.line("")
		a.out.line("%s", one.Message)
	}
	if len(one.Details) > 0 {
		a.out.line("")
		a.out.value(one.Details)
	}
	if fields, err := approval.Fields(one.Schema); err == nil && len(fields) > 0 && one.State == approval.Pending {
		var rows [][]any
		for _, f := range fields {
			var values []string
			for _, o := range f.Options {
				values = append(values, o.Label)
			}
			must := ""
			if f.Required {
				must = "yes"
			}
			rows = append(rows, []any{f.Name, f.Kind, must, strings.Join(values, " "), strings.TrimSpace(f.Title + " " + f.Help)})
		}
		a.out.line("")
		a.table(columns{"FIELD", "KIND", "REQUIRED", "VALUES", "ABOUT"}, rows)
	}
	if len(one.History) > 0 {
		var rows [][]any
		for _, e := range one.History {
			rows = append(rows, []any{e.At.Local().Format("2006-01-02 15:04:05"), e.What, e.By, e.Via, e.Actor, e.Text})
		}
		a.out.line("")
		a.table(columns{"AT", "WHAT", "BY", "VIA", "DONE BY", "TEXT"}, rows)
	}
	if one.State == approval.Pending {
		a.out.line("")
		for _, line := range a.decisions(&one.Approval) {
			a.fact("next", style(line))
		}
		a.fact("link", style(a.linkHint(&one.Approval)))
	}
}

// decisions are the commands that decide an approval.
func (a *app) decisions(one *approval.Approval) []string {
	approve := a.hint("approve %s", one.ID)
	if fields, err := approval.Fields(one.Schema); err == nil {
		for _, f := range fields {
			if f.Required {
				approve += " --field " + shellQuote(f.Name+"=VALUE")
			}
		}
	}
	by := a.byOf(one)
	return []string{approve + by, a.hint("reject %s --comment WHY", one.ID) + by}
}

// byOf is the flag that says who decides an approval, where it must: whom a key is named for decides by it, and an approver who runs
// the program by their name.
func (a *app) byOf(one *approval.Approval) string {
	may := slices.DeleteFunc(one.Deciders(time.Now()), func(name string) bool { return one.Voted(name) != nil })
	switch person := a.person(); {
	case a.meant.Key != "":
		return ""
	case len(may) > 0 && !slices.Contains(may, person):
		return " --by " + shellQuote(may[0])
	case person == "":
		return " --by NAME"
	}
	return ""
}

// linkHint says how somebody without a key may decide.
func (a *app) linkHint(one *approval.Approval) string {
	if len(one.Approvers) == 1 {
		return a.hint("approvals link %s", one.ID)
	}
	return a.hint("approvals link %s --approver", one.ID) + " NAME"
}

// toDecide are the commands that decide what a run asks for.
func (a *app) toDecide(ctx context.Context, run string) (lines []string) {
	page, err := a.client.Approvals(ctx, api.ApprovalQuery{Run: run})
	if err != nil {
		return []string{a.hint("approvals list --run %s", run)}
	}
	for i, p := range page.Items {
		if i == breadth {
			return append(lines, a.hint("approvals list --run %s", run))
		}
		lines = append(lines, a.decisions(&p)...)
	}
	return lines
}

func (a *app) approveCommand() *cobra.Command {
	return a.decideCommand("approve", true, "Approve what a run asks for",
		`Approve what a run asks for. An APPROVAL is its id, or as much of its beginning as is not another's that
waits: the run's id will do. The decision is about what the server shows now, and counts when the command returns.

A form is filled in with --field; "approvals show APPROVAL" shows its fields.`,
		"approve run_01JD/pay --field account=travel", "approve run_01JD --comment 'as agreed'")
}

func (a *app) rejectCommand() *cobra.Command {
	return a.decideCommand("reject", false, "Reject what a run asks for",
		`Reject what a run asks for. An APPROVAL is its id, or as much of its beginning as is not another's that
waits: the run's id will do. The decision is about what the server shows now, and counts when the command returns.`,
		"reject run_01JD/pay --comment 'too expensive'", "reject run_01JD --by ann")
}

func (a *app) decideCommand(verb string, approved bool, short, long string, examples ...string) *cobra.Command {
	q := api.DecisionRequest{Approved: &approved}
	var fields []string
	cmd := &cobra.Command{
		Use: verb + " APPROVAL", Short: short, Long: long, Example: a.examples(examples...),
		Args:              a.oneArg("APPROVAL", a.approvalIDs),
		ValidArgsFunction: a.completeFirst(a.approvalIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			one, err := a.approval(ctx, verb, args[0])
			if err != nil {
				return a.explain(err, "RUN")
			}
			if q.By, err = a.decider(ctx, q.By); err != nil {
				return err
			}
			if len(fields) > 0 {
				known, err := approval.Fields(one.Schema)
				if err != nil {
					return fmt.Errorf("the form of %s: %w", one.ID, err)
				}
				values, err := a.fieldValues(known, fields)
				if err != nil {
					return err
				}
				if q.Form, err = approval.FormOf(known, values); err != nil {
					return a.usage("%w", err)
				}
			}
			q.Shown = one.Shown
			done, err := a.client.Decide(ctx, one.ID, q)
			if err != nil {
				show := []string{"see: " + a.hint("approvals show %s", one.ID)}
				if errors.Is(err, pawl.ErrInput) { // the form
					return &exitError{exitUsage, err, show}
				}
				err = a.explain(err, one.Run)
				if e, ok := errors.AsType[*exitError](err); ok && e.code != exitConflict {
					return err
				}
				return &exitError{exitConflict, err, show}
			}
			return a.show(view{body: a.last.body, of: done, table: func() {
				a.out.line("%s %s", done.ID, a.out.paintApproval(&done))
				if done.Decision == nil {
					a.note("%d of %d have approved", len(done.Votes), done.Need)
					return
				}
				a.note("see what the run makes of it: %s", style(a.hint("runs follow %s", done.Run)))
			}})
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&fields, "field", nil, "fill in a field of the form, as name=value; may be repeated")
	flags.StringVar(&q.Comment, "comment", "", "why, for those who look at it later")
	flags.StringVar(&q.By, "by", "", "who decides, on a server without keys (default $USER; with a key it is the key's name)")
	return cmd
}

// decider is who decides: where keys are asked for, whom the key is named for.
func (a *app) decider(ctx context.Context, by string) (string, error) {
	who, err := a.client.Whoami(ctx)
	if err != nil {
		return "", a.explain(err, "RUN")
	}
	if who.ID == "" && !who.Session {
		if name := cmp.Or(by, a.person()); name != "" {
			return name, nil
		}
		return "", a.usage("who decides? give --by NAME")
	}
	name := who.Name
	if quoted, ok := strings.CutPrefix(name, "the key "); ok {
		if plain, err := strconv.Unquote(quoted); err == nil {
			name = plain
		}
	}
	if by != "" && by != name {
		return "", a.usage("this server knows who decides: the key's name, %q; leave --by out", name)
	}
	return name, nil
}

// person is who runs the program, as far as this machine knows; "": it does not.
func (a *app) person() string {
	if name := cmp.Or(a.env("USER"), a.env("LOGNAME")); name != "" {
		return name
	}
	u, err := a.account()
	if err != nil {
		return ""
	}
	return u.Username
}

// fieldValues reads what --field says.
func (a *app) fieldValues(known []approval.Field, texts []string) (url.Values, error) {
	var names []string
	for _, f := range known {
		names = append(names, f.Name)
	}
	values := url.Values{}
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		switch {
		case !ok || name == "":
			return nil, a.usage("--field %q is not name=value", text)
		case len(names) == 0:
			return nil, a.usage("--field %s: the approval has no form", name)
		case !slices.Contains(names, name):
			return nil, a.usage("--field %s: the form has no such field; %s", name, spelling.Choice(name, names))
		}
		values.Add(name, value)
	}
	return values, nil
}
