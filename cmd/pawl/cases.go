package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/flow/flowtest"
	"github.com/pawlrun/pawl/service"
	"github.com/spf13/cobra"
)

// testedFile is a flow, its file of cases, and what came of these.
type testedFile struct {
	File      string `json:"file"`
	CasesFile string `json:"casesFile,omitempty"` // "": there is none
	flowtest.Report
	Valid  bool          `json:"valid"`            // both files could be read
	Errors []api.Finding `json:"errors,omitempty"` // of the flow
	Wrong  []api.Finding `json:"casesErrors,omitempty"`
}

// testFlags are those of "pawl test".
type testFlags struct {
	run      string
	coverage bool
	least    float64
	record   string
}

func (a *app) testCommand() *cobra.Command {
	var f testFlags
	cmd := &cobra.Command{
		Use:   "test PATH…",
		Short: "Take flows through the cases beside them, without a server",
		Long: `Take flows through their cases: files, or all below a folder. The cases of triage.yaml are in triage.test.yaml (or
.yml, .json) beside it. Each says what models answer, services return and people decide, and what the run must do then.
No model and no service is asked, and nothing is waited for. The exit code is 1 if a case fails.

With --record, a run of a deployed flow becomes a case: it is added to FILE.`,
		Example: a.examples("test flows", "test flows/triage.yaml --run billing", "test flows --coverage --min-coverage 80", "test --record run_01JD flows/triage.test.yaml"),
		Args: func(cmd *cobra.Command, args []string) error {
			if f.record != "" && len(args) != 1 {
				return errors.New("--record takes one file of cases: pawl test --record RUN FILE")
			}
			return a.paths(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.record != "" {
				return a.recordCase(cmd.Context(), f.record, args[0])
			}
			return a.test(cmd.Context(), args, f)
		},
	}
	cmd.Flags().StringVar(&f.run, "run", "", "only cases whose name contains this")
	cmd.Flags().BoolVar(&f.coverage, "coverage", false, "tell which steps, ways and conditions no case has come by")
	cmd.Flags().Float64Var(&f.least, "min-coverage", 0, "fail where the cases of a flow come by less than this, in percent")
	cmd.Flags().StringVar(&f.record, "record", "", "make a case of this run of a deployed flow")
	return cmd
}

func (a *app) test(ctx context.Context, paths []string, f testFlags) error {
	if f.least < 0 || f.least > 100 {
		return a.usage("--min-coverage %v: write percents, from 0 to 100", f.least)
	}
	paths = slices.Clone(paths)
	for i, path := range paths {
		paths[i] = flowBeside(path)
	}
	files, err := a.flowFiles(paths)
	if err != nil {
		return err
	}
	w := worlds{app: a}
	list := []testedFile{}
	cases, ran := 0, 0
	for _, file := range files {
		world, err := w.of(file)
		if err != nil {
			return err
		}
		one, all := a.testFile(ctx, file, world.Services, f)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		cases += all
		ran += len(one.Cases)
		list = append(list, one)
	}
	bad := slices.ContainsFunc(list, func(t testedFile) bool { return !t.Valid })
	switch {
	case !bad && cases == 0:
		return a.usage("there are no cases for %s: write some into %s", filepath.ToSlash(files[0]), filepath.ToSlash(strings.TrimSuffix(files[0], filepath.Ext(files[0]))+".test.yaml"))
	case !bad && ran == 0:
		return a.usage("no case has a name that contains %q", f.run)
	}
	return a.tested(list, f)
}

// testFile takes one flow through its cases, of which there are all.
func (a *app) testFile(ctx context.Context, file string, set service.Set, f testFlags) (t testedFile, all int) {
	t = testedFile{File: filepath.ToSlash(file), Valid: true, Report: flowtest.Report{Cases: []flowtest.Result{}}}
	beside, err := casesBeside(file)
	t.CasesFile = filepath.ToSlash(beside)
	var list flowtest.Cases
	if err == nil && beside != "" {
		var data []byte
		if data, err = readFlow(beside); err == nil {
			list, err = flowtest.ReadCases(data)
		}
	}
	if err != nil {
		t.Valid, t.Wrong = false, findingsOf(err)
		return t, 0
	}
	data, err := readFlow(file)
	if err == nil {
		opt := flowtest.Options{Services: set, Only: func(name string) bool { return strings.Contains(strings.ToLower(name), strings.ToLower(f.run)) }}
		var r flowtest.Report
		if r, err = flowtest.Run(ctx, data, list, opt); err == nil {
			t.Report = r
		}
	}
	if err != nil {
		t.Valid, t.Errors = false, findingsOf(err)
	}
	return t, len(list)
}

// findingsOf are the places of an error of a document, or the one error.
func findingsOf(err error) (out []api.Finding) {
	found, is := errors.AsType[flow.Problems](err)
	if !is {
		return []api.Finding{{Message: err.Error()}}
	}
	for _, p := range found.Faults() {
		out = append(out, api.FindingOf(p))
	}
	return out
}

// tested tells what came of all files; an error if a case failed.
func (a *app) tested(list []testedFile, f testFlags) error {
	body, err := json.Marshal(map[string]any{"items": list})
	if err != nil {
		return err
	}
	if err := a.show(view{body: body, of: testedFile{}, list: true, name: "workflowId", table: func() { a.testedTable(list, f) }}); err != nil {
		return err
	}
	failed, ran, bad := 0, 0, 0
	var below []string
	p := a.printerOn(a.stderr)
	for _, t := range list {
		failed, ran = failed+t.Failed(), ran+len(t.Cases)
		for _, found := range t.Errors {
			p.line("%s", problemLine(t.File, found))
		}
		for _, found := range t.Wrong {
			p.line("%s", problemLine(t.CasesFile, found))
		}
		if bad += len(t.Errors) + len(t.Wrong); t.Valid && t.Coverage.Percent < f.least {
			below = append(below, fmt.Sprintf("%s: the cases come by %.1f %% of it, and %v %% are asked for", t.File, t.Coverage.Percent, f.least))
		}
	}
	switch {
	case bad > 0:
		return &exitError{exitUsage, errors.New(count(bad, "problem") + " in the files"), nil}
	case failed > 0:
		return &exitError{exitFailure, fmt.Errorf("%d of %s failed", failed, count(ran, "case")), nil}
	case below != nil:
		return &exitError{exitFailure, errors.New(strings.Join(below, "; ")), []string{"see what is missing with --coverage"}}
	}
	return nil
}

// testedTable tells people, a line for each case.
func (a *app) testedTable(list []testedFile, f testFlags) {
	for _, t := range list {
		if !t.Valid {
			continue
		}
		if len(t.Cases) == 0 {
			a.out.line("%s %s: %s", a.out.dim("–"), t.File, "no cases")
		}
		for _, c := range t.Cases {
			if c.Passed {
				a.out.line("%s %s: %s %s", a.out.green("✓"), t.File, oneLine(c.Name), a.out.dim(fmt.Sprintf("(%d ms)", c.TookMs)))
				continue
			}
			a.out.line("%s %s:%d: %s", a.out.red("✗"), t.CasesFile, c.Line, oneLine(c.Name))
			for _, text := range c.Failures {
				a.out.line("    %s", oneLine(text))
			}
		}
		for _, text := range t.Notes {
			a.note("%s: %s", t.File, oneLine(text))
		}
		if f.coverage {
			a.out.line("%s: %s %% covered, %d of %d", t.File, fmt.Sprintf("%.1f", t.Coverage.Percent), t.Coverage.Covered, t.Coverage.Total)
			for _, m := range t.Coverage.Missed {
				a.out.line("    %s:%d:%d: %s: %s", t.File, m.Line, m.Column, m.Step, oneLine(m.What))
			}
		}
	}
}

// isCases reports whether a file is one of cases, by its name.
func isCases(file string) bool {
	ext := strings.ToLower(filepath.Ext(file))
	return slices.Contains(flowEndings, ext) && strings.HasSuffix(strings.ToLower(strings.TrimSuffix(file, filepath.Ext(file))), ".test")
}

// casesBeside finds the file of cases of a flow; "": there is none.
func casesBeside(file string) (found string, err error) {
	base := strings.TrimSuffix(file, filepath.Ext(file))
	for _, ending := range flowEndings {
		name := base + ".test" + ending
		if _, err := os.Stat(name); err != nil {
			continue
		}
		if found != "" {
			return found, fmt.Errorf("%s holds cases of the same flow; keep one of the files", filepath.ToSlash(name))
		}
		found = name
	}
	return found, nil
}

// flowBeside is the flow of a file of cases, and any other path itself.
func flowBeside(path string) string {
	if !isCases(path) {
		return path
	}
	base := strings.TrimSuffix(path, filepath.Ext(path))
	for _, ending := range flowEndings {
		name := strings.TrimSuffix(base, filepath.Ext(base)) + ending
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	return path
}
