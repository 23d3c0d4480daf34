package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow"
	"github.com/spf13/cobra"
)

// deployedFile is what came of a file.
type deployedFile struct {
	File       string         `json:"file"`
	WorkflowID string         `json:"workflowId,omitempty"`
	Version    int            `json:"version,omitempty"`
	Existed    bool           `json:"existed,omitempty"`
	Active     int            `json:"active,omitempty"`
	DryRun     bool           `json:"dryRun,omitempty"`
	Valid      bool           `json:"valid"`
	Errors     []api.Finding  `json:"errors,omitempty"`
	Warnings   []api.Finding  `json:"warnings,omitempty"`
	WorstCase  *api.WorstCase `json:"worstCase,omitempty"`

	data     []byte
	conflict bool // another document has its number, or a workflow its name
}

// fault adds what is wrong with the file as a whole.
func (f *deployedFile) fault(format string, args ...any) {
	f.Valid = false
	f.Errors = append(f.Errors, api.Finding{Message: fmt.Sprintf(format, args...)})
}

// problemLine is a problem as editors read it: file:line:column: message.
func problemLine(file string, p api.Finding) string {
	text := file
	if p.Line > 0 {
		text += fmt.Sprintf(":%d:%d", p.Line, p.Column)
	}
	text += ": " + oneLine(p.Message)
	if p.Hint != "" {
		text += "; " + oneLine(p.Hint)
	}
	return text
}

func (a *app) deployCommand() *cobra.Command {
	var opt api.DeployOptions
	cmd := &cobra.Command{
		Use:   "deploy PATH…",
		Short: "Deploy flows: files, or all of a folder",
		Long: `Deploy flows, JSON or YAML, to the server: files, or all below a folder that end in .json, .yaml or .yml. All
are checked first; if anything is wrong with any of them, all of it is told, a line each as file:line:column, and
nothing is deployed.

New runs have what was deployed, runs that are there stay with their version. The same flow again is the same
version: the command may be repeated.`,
		Example: a.examples("deploy flows", "deploy flows/triage.yaml --dry-run", "deploy flows --no-activate -o json"),
		Args:    a.paths,
		RunE:    func(cmd *cobra.Command, args []string) error { return a.deploy(cmd.Context(), args, opt) },
	}
	cmd.Flags().BoolVar(&opt.DryRun, "dry-run", false, "let the server check all of it, and deploy nothing")
	cmd.Flags().BoolVar(&opt.Inactive, "no-activate", false, "keep the versions, and let runs start with those that are active")
	return cmd
}

// paths wants one or more of them.
func (a *app) paths(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%s needs a file or a folder of flows", cmd.CommandPath())
	}
	return nil
}

func (a *app) deploy(ctx context.Context, paths []string, opt api.DeployOptions) error {
	files, err := a.readFlows(paths)
	if err != nil {
		return err
	}
	childrenFirst(files)
	check := opt
	check.DryRun = true
	for i := range files {
		if err := a.deployFile(ctx, &files[i], check); err != nil {
			return a.explain(err, "RUN")
		}
	}
	unique(files)
	if wrong(files) == 0 && !opt.DryRun {
		for i := range files {
			if err := a.deployFile(ctx, &files[i], opt); err != nil {
				return a.explain(err, "RUN")
			}
		}
	}
	return a.deployed(files, "deployed")
}

// readFlows reads the files at paths.
func (a *app) readFlows(paths []string) (files []deployedFile, err error) {
	names, err := a.flowFiles(paths)
	for _, name := range names {
		f := deployedFile{File: filepath.ToSlash(name), Valid: true}
		if f.data, err = readFlow(name); err != nil {
			f.fault("it can't be read: %s", err)
			err = nil
		} else if len(bytes.TrimSpace(f.data)) == 0 {
			f.data = nil
			f.fault("the file is empty")
		}
		files = append(files, f)
	}
	return files, err
}

// deployFile asks the server for one file. What is wrong with the file is no error.
func (a *app) deployFile(ctx context.Context, f *deployedFile, opt api.DeployOptions) error {
	if f.data == nil {
		return nil
	}
	d, err := a.client.Deploy(ctx, f.data, opt)
	p, refused := errors.AsType[*api.Problem](err)
	switch {
	case err == nil:
		f.WorkflowID, f.Version, f.Existed, f.Active, f.DryRun, f.Warnings, f.WorstCase = d.WorkflowID, d.Version, d.Existed, d.Active, d.DryRun, d.Warnings, &d.WorstCase
	case refused && len(p.Errors) > 0:
		f.Valid, f.Errors, f.Warnings = false, p.Errors, p.Warnings
	case errors.Is(err, pawl.ErrConflict), errors.Is(err, pawl.ErrDuplicate):
		f.fault("%s", err)
		f.conflict = true
	case errors.Is(err, pawl.ErrTooLarge), errors.Is(err, pawl.ErrInput), refused && p.Code == "bad_request":
		f.fault("%s", err)
	default:
		return err
	}
	return nil
}

// unique refuses files of one and the same flow: which of them would be active?
func unique(files []deployedFile) {
	first := map[string]string{}
	for i := range files {
		f := &files[i]
		if other := first[f.WorkflowID]; other != "" && f.WorkflowID != "" {
			f.fault("%s is a flow %q too; deploy one of them, or give them different ids", other, f.WorkflowID)
		} else {
			first[f.WorkflowID] = f.File
		}
	}
}

func wrong(files []deployedFile) (n int) {
	for _, f := range files {
		n += len(f.Errors)
	}
	return n
}

// deployed tells what came of all files; an error if anything is wrong.
func (a *app) deployed(files []deployedFile, done string) error {
	body, err := json.Marshal(map[string]any{"items": files})
	if err != nil {
		return err
	}
	n, bad := wrong(files), 0
	code := exitConflict
	for _, f := range files {
		if !f.Valid {
			bad++
			if !f.conflict {
				code = exitUsage
			}
		}
	}
	a.findings(files)
	if n == 0 || !a.people() {
		if err := a.show(view{body: body, of: deployedFile{}, list: true, name: "workflowId", table: func() { a.deployedTable(files, done) }}); err != nil {
			return err
		}
	}
	if n == 0 {
		return nil
	}
	said := fmt.Errorf("%s in %s", count(n, "problem"), count(bad, "file"))
	if done == "deployed" {
		said = fmt.Errorf("%w; nothing was deployed", said)
	}
	return &exitError{code, said, nil}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// findings prints what is wrong with files, and what is odd about them, where errors stand.
func (a *app) findings(files []deployedFile) {
	p := a.printerOn(a.stderr)
	for _, f := range files {
		for _, found := range f.Errors {
			p.line("%s", problemLine(f.File, found))
		}
		if a.quiet {
			continue
		}
		for _, found := range f.Warnings {
			found.Message = "warning: " + found.Message
			p.line("%s", problemLine(f.File, found))
		}
	}
}

func (a *app) deployedTable(files []deployedFile, done string) {
	var rows [][]any
	for _, f := range files {
		if done == "valid" {
			rows = append(rows, []any{f.WorkflowID, a.out.green("valid"), f.File})
			continue
		}
		what := a.out.green("new")
		if f.Existed {
			what = a.out.dim("unchanged")
		}
		active := ""
		if f.Active != 0 {
			active = fmt.Sprint(f.Active)
		}
		rows = append(rows, []any{f.WorkflowID, f.Version, what, active, f.File})
	}
	if done == "valid" {
		a.table(columns{"WORKFLOW", "IS", "FILE"}, rows)
		a.worstCases(files)
		return
	}
	a.table(columns{"WORKFLOW", "VERSION", "IS", "ACTIVE", "FILE"}, rows)
	a.worstCases(files)
	switch {
	case files[0].DryRun:
		a.note("this would come of it; nothing was deployed")
	case len(files) == 1:
		a.note("start it: %s", style(a.hint("start %s", files[0].WorkflowID)))
	}
}

// worstCases tells in a line each what runs of the flows take at most.
func (a *app) worstCases(files []deployedFile) {
	for _, f := range files {
		if f.WorstCase != nil && f.WorstCase.Summary != "" { // a server of an earlier release says nothing
			a.note("%s: %s", f.WorkflowID, f.WorstCase.Summary)
		}
	}
}

func (a *app) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate PATH…",
		Short: "Say all that is wrong with flows, without a server",
		Long: `Check flows, JSON or YAML, without a server: files, or all below a folder that end in .json, .yaml or .yml. All
that is wrong is told, a line each as file:line:column. Services are those of this program, with the
settings of the environment; to check flows against what a server has, see "deploy --dry-run".`,
		Example: a.examples("validate flows", "validate flows/triage.yaml -o json"),
		Args:    a.paths,
		RunE:    func(_ *cobra.Command, args []string) error { return a.validate(args) },
	}
}

func (a *app) validate(paths []string) error {
	files, err := a.readFlows(paths)
	if err != nil {
		return err
	}
	w, flows := worlds{app: a}, map[string]*flow.Flow{}
	around := make([]flow.World, len(files))
	for i := range files {
		f := &files[i]
		if f.data == nil {
			continue
		}
		if around[i], err = w.of(f.File); err != nil {
			return err
		}
		around[i].Child = func(name string) *flow.Flow { return flows[name] }
		f.check(around[i], flows)
	}
	unique(files)
	for i := range files {
		if made := flows[files[i].WorkflowID]; made != nil && files[i].Valid {
			worst := made.WorstCase(around[i])
			files[i].WorstCase = &worst
		}
	}
	return a.deployed(files, "valid")
}

// check looks at the file without a server. A flow that is read goes to flows.
func (f *deployedFile) check(w flow.World, flows map[string]*flow.Flow) {
	made, err := flow.Parse(f.data, w)
	found, bad := errors.AsType[flow.Problems](err)
	switch {
	case err == nil:
		f.WorkflowID, f.Version, found = made.ID, made.Version, made.Warnings
		flows[made.ID] = made
	case !bad:
		f.fault("%s", err)
	}
	for _, p := range found {
		one := api.FindingOf(p)
		if p.Warning {
			f.Warnings = append(f.Warnings, one)
		} else {
			f.Valid, f.Errors = false, append(f.Errors, one)
		}
	}
}

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of flows, for editors",
		Long: `Print the JSON Schema of flows. An editor that knows it completes and checks them: keep it in a file, and name that in
"$schema" of a JSON flow, or in the first line of a YAML flow: # yaml-language-server: $schema=../flow.schema.json`,
		Example: a.examples("schema > flow.schema.json", "schema --jq .title"),
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			body := flow.Schema()
			return a.show(view{body: body, table: func() { a.out.line("%s", style(strings.TrimSpace(string(body)))) }})
		},
	}
}
