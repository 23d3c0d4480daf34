package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pawlrun/pawl/flow"
	"github.com/spf13/cobra"
)

//go:embed first.yaml
var firstFlow []byte

// initFile is a file that init makes, by its place below the folder.
type initFile struct {
	path string
	data []byte
}

func (a *app) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init [DIR]",
		Short: "Make a folder with a first flow",
		Long: `Make a folder with a first flow in it, flows/triage.yaml, and the JSON Schema with which editors complete and check
flows. "pawl dev", started in that folder, deploys the flow, and again whenever it is saved. What is there already is not
overwritten: then nothing is made.`,
		Example: a.examples("init", "init support"),
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			return a.init(dir, []initFile{{"flows/triage.yaml", firstFlow}, {"flow.schema.json", append(flow.Schema(), '\n')}})
		},
	}
}

func (a *app) init(dir string, files []initFile) error {
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
		a.note("next:")
		if dir != "." {
			a.note("  cd %s", shellQuote(dir))
		}
		a.note("  %s", style(a.self+" dev"))
		a.note("and in another terminal:")
		a.note("  %s", style(a.self+` start triage --input '{"ticketText":"The app does not start."}' --follow`))
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
