package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pawlrun/pawl/flow/flowtest"
)

// recordCase makes a case of a run, and adds it to a file of cases.
func (a *app) recordCase(ctx context.Context, run, file string) error {
	if !isCases(file) {
		return a.usage("%s: a file of cases ends in .test.yaml, .test.yml or .test.json", file)
	}
	if err := a.connect(); err != nil {
		return err
	}
	id, err := a.runID(ctx, run)
	if err != nil {
		return a.explain(err, run)
	}
	x, err := a.client.Execution(ctx, id)
	if err != nil {
		return a.explain(err, run)
	}
	version, err := a.client.WorkflowVersion(ctx, x.WorkflowID, x.Version)
	if err != nil {
		return a.explain(err, run)
	}
	var input json.RawMessage
	for entry, err := range a.client.Journal(ctx, id) {
		if err != nil {
			return a.explain(err, run)
		}
		input = entry.Data // the first holds the start
		break
	}
	c, notes, err := flowtest.Record(x, input, version.Document)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	data, err := c.AddTo(old, strings.EqualFold(filepath.Ext(file), ".json"))
	if err != nil {
		return a.usage("%s: %w", filepath.ToSlash(file), err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		return err
	}
	a.note("%s: the case %q was added; look through it: it holds what the run was given", filepath.ToSlash(file), c.Name)
	for _, text := range notes {
		a.note("%s", text)
	}
	body, err := json.Marshal(map[string]any{"file": filepath.ToSlash(file), "name": c.Name, "run": id, "notes": notes})
	if err != nil {
		return err
	}
	return a.show(view{body: body, of: struct {
		File, Name, Run string
		Notes           []string
	}{}, name: "name", table: func() { a.out.line("%s", fmt.Sprintf("%s: %s", filepath.ToSlash(file), c.Name)) }})
}
