package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl/api"
	"github.com/spf13/cobra"
)

func (a *app) workflowsVersionsCommand() *cobra.Command {
	var limit int
	var cursor string
	cmd := &cobra.Command{
		Use: "versions WORKFLOW", Short: "List the versions of a flow",
		Long:              `List the versions of a flow, oldest first, and which of them new runs get.`,
		Example:           a.examples("workflows versions triage", "workflows versions triage -o json"),
		Args:              a.oneArg("WORKFLOW", a.workflowNames),
		ValidArgsFunction: a.completeFirst(a.workflowNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			page, err := a.client.WorkflowVersions(cmd.Context(), args[0], cursor, limit)
			if err != nil {
				return a.elsewhere(err, "workflows list")
			}
			body := a.last.body
			return a.show(view{body: body, of: api.FlowVersion{}, list: true, name: "hash", table: func() { a.versionTable(cmd.Context(), args[0], page) }})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "how many, at most 500")
	cmd.Flags().StringVar(&cursor, "cursor", "", "where to go on, as told by the list before")
	return cmd
}

func (a *app) versionTable(ctx context.Context, id string, page api.FlowVersionPage) {
	w, err := a.client.Workflow(ctx, id)
	if err != nil {
		a.note("which is active can't be seen: %s", err)
	}
	var rows [][]any
	for _, v := range page.Items {
		rows = append(rows, []any{v.Version, a.standing(&w, v.Version), a.when(v.Deployed), v.By, v.Hash[:min(12, len(v.Hash))]})
	}
	a.table(columns{"VERSION", "IS", "DEPLOYED", "BY", "+HASH"}, rows)
	a.more(page.NextCursor)
}

// standing says which runs get a version of a flow.
func (a *app) standing(w *api.Workflow, version int) style {
	switch {
	case version == w.Active:
		return a.out.green("active")
	case w.Canary != nil && w.Canary.Version == version:
		return a.out.yellow(fmt.Sprintf("canary %v%%", w.Canary.Percent))
	case version == w.Previous:
		return a.out.dim("before")
	}
	return ""
}

// versionOf says in a few words what new runs of a workflow get.
func versionOf(w *api.Workflow) string {
	switch {
	case w.Kind != api.KindFlow:
		return w.Version
	case w.Active == 0:
		return "none"
	case w.Canary != nil:
		return fmt.Sprintf("%d, %v%% %d", w.Active, w.Canary.Percent, w.Canary.Version)
	}
	return strconv.Itoa(w.Active)
}

// ofFlow is a command that changes which version of a flow new runs get.
func (a *app) ofFlow(cmd *cobra.Command, do func(ctx context.Context, id string) (api.Workflow, error)) *cobra.Command {
	var etag string
	if cmd.Args == nil {
		cmd.Args = a.oneArg("WORKFLOW", a.workflowNames)
	}
	cmd.ValidArgsFunction = a.completeFirst(a.workflowNames)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		if etag != "" {
			ctx = api.WithIfMatch(ctx, etag)
		}
		w, err := do(ctx, args[0])
		if err != nil {
			return a.elsewhere(err, "workflows list")
		}
		return a.show(view{body: a.last.body, of: w, name: "name", table: func() {
			a.fact("workflow", w.Name)
			a.fact("version", versionOf(&w))
			if w.Previous != 0 {
				a.fact("before", w.Previous)
			}
			if w.Active == 0 {
				a.note("no run starts, until: %s", style(a.hint("workflows activate %s %s", w.Name, strconv.Itoa(w.Latest))))
			}
		}})
	}
	cmd.Flags().StringVar(&etag, "if-match", "", "only if the flow still has this etag")
	return cmd
}

func (a *app) workflowsActivateCommand() *cobra.Command {
	var percent float64
	var q api.ActivateFlowRequest
	cmd := &cobra.Command{
		Use: "activate WORKFLOW VERSION", Short: "Let new runs have a version of a flow, all or a share of them",
		Long: `Let new runs have a version of a flow. With --percent it gets that share of the starts, as a canary beside the
active version; "workflows rollback" ends it, and activating it without --percent gives it all.`,
		Example: a.examples("workflows activate triage 2", "workflows activate triage 3 --percent 10"),
	}
	cmd.Args = func(_ *cobra.Command, args []string) (err error) {
		if len(args) != 2 {
			return fmt.Errorf("it is called as: %s", cmd.UseLine())
		}
		if q.Version, err = strconv.Atoi(args[1]); err != nil || q.Version < 1 {
			return fmt.Errorf("%q is no number of a version", args[1])
		}
		return nil
	}
	cmd = a.ofFlow(cmd, func(ctx context.Context, id string) (api.Workflow, error) {
		if cmd.Flags().Changed("percent") {
			q.Percent = &percent
		}
		return a.client.ActivateWorkflow(ctx, id, q)
	})
	cmd.Flags().Float64Var(&percent, "percent", 100, "the share of the starts that get it, above 0 and up to 100")
	return cmd
}

func (a *app) workflowsRollbackCommand() *cobra.Command {
	return a.ofFlow(&cobra.Command{
		Use: "rollback WORKFLOW", Short: "End a canary, or return to the version that was active before",
		Long:    `End the canary of a flow; if there is none, let new runs have the version that was active before. Runs that are there stay with theirs.`,
		Example: a.examples("workflows rollback triage", "workflows rollback triage --jq .active"),
	}, func(ctx context.Context, id string) (api.Workflow, error) { return a.client.RollbackWorkflow(ctx, id) })
}

func (a *app) workflowsDeactivateCommand() *cobra.Command {
	return a.ofFlow(&cobra.Command{
		Use: "deactivate WORKFLOW", Short: "Let no new run of a flow start; those that are there go on",
		Long:    `Let no new run of a flow start, until a version of it is activated. Runs that are there go on.`,
		Example: a.examples("workflows deactivate triage", "workflows deactivate triage -q"),
	}, func(ctx context.Context, id string) (api.Workflow, error) {
		return a.client.DeactivateWorkflow(ctx, id)
	})
}

func (a *app) workflowsExportCommand() *cobra.Command {
	var version int
	cmd := &cobra.Command{
		Use: "export WORKFLOW", Short: "Print the document of a flow",
		Long:              `Print the document of a flow as it can be deployed: the active version, or the one of --version. -o yaml prints it as YAML.`,
		Example:           a.examples("workflows export triage > triage.json", "workflows export triage --version 2 -o yaml"),
		Args:              a.oneArg("WORKFLOW", a.workflowNames),
		ValidArgsFunction: a.completeFirst(a.workflowNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if version == 0 {
				w, err := a.client.Workflow(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				if w.Kind != api.KindFlow {
					return a.usage("%s is a workflow of the program: there is no document of it", w.Name)
				}
				if version = w.Active; version == 0 {
					version = w.Latest
				}
			}
			v, err := a.client.WorkflowVersion(cmd.Context(), args[0], version)
			if err != nil {
				return a.elsewhere(err, "workflows list")
			}
			return a.show(view{body: v.Document, table: func() {
				var b bytes.Buffer
				if json.Indent(&b, v.Document, "", "  ") == nil {
					a.out.json(bytes.TrimSpace(b.Bytes()))
				}
			}})
		},
	}
	cmd.Flags().IntVar(&version, "version", 0, "the version to print (default the active one, or else the highest)")
	return cmd
}

// titleOf says what a workflow is for.
func titleOf(w *api.Workflow) string {
	if w.Doc == "" {
		return w.Title
	}
	return strings.TrimSpace(w.Doc)
}
