package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow"
	"github.com/spf13/cobra"
)

func (a *app) diffCommand() *cobra.Command {
	var version int
	cmd := &cobra.Command{
		Use: "diff FILE", Short: "Compare a file with the version of its flow that is active",
		Long: `Compare a flow in a file with the version of it that is active on the server, or with the one of --version: step by step,
wherever the steps stand, and as a unified diff of both, written one way.`,
		Example: a.examples("diff flows/triage.yaml", "diff flows/triage.yaml --version 2 -o json"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := readFlow(args[0])
			if err != nil {
				return a.usage("%s: %w", args[0], err)
			}
			document, err := flow.JSON(data)
			if err != nil {
				return a.usage("%s: %w", args[0], err)
			}
			var named struct{ ID string }
			if err := json.Unmarshal(document, &named); err != nil || named.ID == "" {
				return a.usage("%s has no id by which its flow could be found", args[0])
			}
			was, err := a.client.ExportWorkflow(cmd.Context(), named.ID, version)
			if errors.Is(err, pawl.ErrNotFound) && version == 0 {
				a.note("there is no flow %s yet: all of it is new", named.ID)
				was, err = json.RawMessage("{}"), nil
			}
			if err != nil {
				return a.elsewhere(err, "workflows list")
			}
			c, err := flow.Compare(was, data)
			if err != nil {
				return a.usage("%s: %w", args[0], err)
			}
			body, err := json.Marshal(c)
			if err != nil {
				return err
			}
			return a.show(view{body: body, of: c, table: func() {
				if len(c.Changes) == 0 {
					a.note("they say the same")
					return
				}
				a.changes(c.String(), c.Text)
			}})
		},
	}
	cmd.Flags().IntVar(&version, "version", 0, "the version to compare with (default the active one, or else the highest)")
	return cmd
}

func (a *app) explainCommand() *cobra.Command {
	var version int
	cmd := &cobra.Command{
		Use: "explain FILE|WORKFLOW", Short: "Say in words what a flow does, and all that it reaches",
		Long: `Say in words what a flow does: what starts it, a line for each step with what follows it, and all that it can reach. What a
run's data or a model's words would choose is marked with CARE. It is made of the document by fixed rules; no
model is asked. A flow in a file may have faults.`,
		Example: a.examples("explain flows/triage.yaml", "explain triage", "explain triage --version 2 -o json"),
		Args:    a.oneArg("FILE|WORKFLOW", a.workflowNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			var e flow.Explanation
			if _, err := os.Stat(args[0]); err == nil {
				data, err := readFlow(args[0])
				if err != nil {
					return a.usage("%s: %w", args[0], err)
				}
				world, err := (&worlds{app: a}).of(args[0])
				if err != nil {
					return err
				}
				if e, err = flow.Explain(data, world); err != nil {
					return a.usage("%s: %w", args[0], err)
				}
			} else if e, err = a.client.Explain(cmd.Context(), args[0], version); err != nil {
				return a.elsewhere(err, "workflows list")
			}
			body, err := json.Marshal(e)
			if err != nil {
				return err
			}
			return a.show(view{body: body, of: e, table: func() { a.lines(e.String()) }})
		},
	}
	cmd.Flags().IntVar(&version, "version", 0, "of a deployed flow (default the active one, or else the highest)")
	return cmd
}

func (a *app) exportCommand() *cobra.Command {
	var folder string
	cmd := &cobra.Command{
		Use: "export [WORKFLOW…]", Short: "Write deployed flows into files, which deploy takes elsewhere",
		Long: `Write the active versions of flows, all or those named, into a folder: ID.json each, in the place of files that are there. The numbers of their versions are
left out, so that "deploy FOLDER" makes of them, on any server, what is there already or the next version. Prompts, secrets and
services are named in a flow, and do not go along.`,
		Example: a.examples("export --dir backup", "export triage --dir backup -q"),
		RunE: func(cmd *cobra.Command, ids []string) error {
			if folder == "" {
				return a.usage("say where to with --dir, such as --dir backup")
			}
			if len(ids) == 0 {
				for cursor, more := "", true; more; more = cursor != "" {
					page, err := a.client.Workflows(cmd.Context(), cursor, 500)
					if err != nil {
						return err
					}
					for _, w := range page.Items {
						if w.Kind == api.KindFlow && w.Active != 0 {
							ids = append(ids, w.Name)
						}
					}
					cursor = page.NextCursor
				}
			}
			if err := os.MkdirAll(folder, 0o777); err != nil {
				return a.usage("--dir: %w", err)
			}
			type exported struct {
				WorkflowID string `json:"workflowId"`
				File       string `json:"file"`
			}
			list := []exported{}
			for _, id := range ids {
				if filepath.Base(id) != id {
					return a.usage("%q is no name of a flow", id)
				}
				document, err := a.client.ExportWorkflow(cmd.Context(), id, 0)
				if err != nil {
					return a.elsewhere(err, "workflows list")
				}
				file := filepath.Join(folder, id+".json")
				if err := writeFlow(file, document); err != nil {
					return err
				}
				list = append(list, exported{id, filepath.ToSlash(file)})
			}
			body, err := json.Marshal(map[string]any{"items": list})
			if err != nil {
				return err
			}
			return a.show(view{body: body, of: exported{}, list: true, name: "file", table: func() {
				var rows [][]any
				for _, e := range list {
					rows = append(rows, []any{e.WorkflowID, e.File})
				}
				if rows == nil {
					a.note("the server has no flow that is active")
					return
				}
				a.table(columns{"WORKFLOW", "FILE"}, rows)
			}})
		},
	}
	cmd.Flags().StringVar(&folder, "dir", "", "the folder to write into; it is made")
	return cmd
}

// writeFlow writes a document for people, without the number of its version.
func writeFlow(file string, document json.RawMessage) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(document, &fields); err != nil {
		return err
	}
	delete(fields, "version")
	flat, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, flat, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(file, append(b.Bytes(), '\n'), 0o666)
}
