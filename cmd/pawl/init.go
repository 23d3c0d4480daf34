package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/templates"
	"github.com/spf13/cobra"
)

//go:embed first.yaml
var firstFlow []byte

//go:embed first.test.yaml
var firstCases []byte

// initFile is a file that init makes, by its place below the folder.
type initFile struct {
	path string
	data []byte
}

func (a *app) initCommand() *cobra.Command {
	var name string
	var list bool
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Make a folder with a first flow",
		Long: `Make a folder with a first flow in it, flows/triage.yaml, its cases for "pawl test", and the JSON Schema with which
editors complete and check flows. "pawl dev", started in that folder, deploys the flow, and again whenever it is saved. With --template, make the
folder of a flow that is complete: the flow and its cases in flows, descriptions of the services it needs in services,
input.json, and README.md, which says what to change; --list names the templates. What is there already is not
overwritten: then nothing is made.`,
		Example: a.examples("init", "init support", "init --list", "init --template rag-answer answers"),
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if list {
				if name != "" || len(args) > 0 {
					return a.usage("--list makes nothing, and takes neither --template nor DIR")
				}
				return a.listTemplates()
			}
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			files, start, err := a.firstFiles(name)
			if err != nil {
				return err
			}
			return a.init(dir, append(files, initFile{"flow.schema.json", append(flow.Schema(), '\n')}), start)
		},
	}
	cmd.Flags().StringVar(&name, "template", "", "make the folder of this template")
	cmd.Flags().BoolVar(&list, "list", false, "list the templates, and make nothing")
	a.complete(cmd, "template", templateNames()...)
	return cmd
}

// firstFiles are the files of a template, or of the first flow, and the command that starts a run of it.
func (a *app) firstFiles(template string) (files []initFile, start string, err error) {
	if template == "" {
		return []initFile{{"flows/triage.yaml", firstFlow}, {"flows/triage.test.yaml", firstCases}}, `start triage --input '{"ticketText":"The app does not start."}' --follow`, nil
	}
	t, is := templates.Get(template)
	if !is {
		return nil, "", a.usage("there is no template %q; there are %s", template, strings.Join(templateNames(), ", "))
	}
	for _, f := range t.Files {
		files = append(files, initFile{f.Path, []byte(f.Data)})
	}
	return files, "start " + t.Name + " --input @input.json --follow", nil
}

func templateNames() (names []string) {
	for _, t := range templates.List() {
		names = append(names, t.Name)
	}
	return names
}

func (a *app) listTemplates() error {
	type item struct {
		Name  string `json:"name"`
		Title string `json:"title"`
		About string `json:"about"`
	}
	items := []item{}
	var rows [][]any
	for _, t := range templates.List() {
		items = append(items, item{t.Name, t.Title, t.About})
		rows = append(rows, []any{t.Name, t.Title, t.About})
	}
	body, err := json.Marshal(map[string]any{"items": items})
	if err != nil {
		return err
	}
	return a.show(view{body: body, of: item{}, list: true, name: "name", table: func() {
		a.table(columns{"NAME", "TITLE", "+DOES"}, rows)
		a.note("make one: %s", style(a.self+" init --template NAME DIR"))
	}})
}

// init makes files below dir, and says what comes next: start is the command that starts a run.
func (a *app) init(dir string, files []initFile, start string) error {
	for _, f := range files {
		at := filepath.Join(dir, f.path)
		if _, err := os.Lstat(at); err == nil {
			return &exitError{exitConflict, fmt.Errorf("%s is there already; nothing was made", at), []string{"make it elsewhere: " + a.self + " init DIR"}}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return a.usage("%w", err)
		}
	}
	items := []map[string]string{}
	for _, f := range files {
		at := filepath.Join(dir, f.path)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := createFile(at, f.data); err != nil {
			return err
		}
		items = append(items, map[string]string{"file": filepath.ToSlash(at)})
	}
	body, err := json.Marshal(map[string]any{"items": items})
	if err != nil {
		return err
	}
	return a.show(view{body: body, list: true, name: "file", table: func() {
		for _, item := range items {
			a.out.line("made %s", item["file"])
		}
		if slices.ContainsFunc(files, func(f initFile) bool { return f.path == "README.md" }) {
			a.note("%s says what to change, and which services it needs", filepath.ToSlash(filepath.Join(dir, "README.md")))
		}
		a.note("next:")
		if dir != "." {
			a.note("  cd %s", shellQuote(dir))
		}
		a.note("  %s", style(a.self+" dev"))
		a.note("and in another terminal:")
		a.note("  %s", style(a.self+" "+start))
	}})
}

// createFile makes a file that was not there.
func createFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
