package flowtest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
)

// Report is what came of the cases of a flow.
type Report struct {
	WorkflowID string   `json:"workflowId"`
	Cases      []Result `json:"cases"`
	Coverage   Coverage `json:"coverage"`
	Notes      []string `json:"notes,omitempty"` // what was not looked at
}

// Failed is how many cases failed.
func (r *Report) Failed() (n int) {
	for _, c := range r.Cases {
		if !c.Passed {
			n++
		}
	}
	return n
}

// Result is what came of a case.
type Result struct {
	Name     string   `json:"name"`
	Line     int      `json:"line,omitempty"`
	Passed   bool     `json:"passed"`
	Failures []string `json:"failures,omitempty"` // what is wrong, each in a sentence
	Path     []string `json:"path"`               // that the run took
	TookMs   int64    `json:"tookMs"`
}

// Coverage is what all cases together have come by, those that failed too.
type Coverage struct {
	Percent float64 `json:"percent"` // of steps, ways and sides of conditions; 100 where there are none
	Covered int     `json:"covered"`
	Total   int     `json:"total"`
	Missed  []Miss  `json:"missed"` // in the order of the document
}

// Miss is something that no case did.
type Miss struct {
	Step   string `json:"step"`
	Kind   string `json:"kind"` // step, next, when
	What   string `json:"what"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

func coverageOf(points []flow.Point, passed map[string]bool) Coverage {
	c := Coverage{Percent: 100, Total: len(points), Missed: []Miss{}}
	for _, p := range points {
		if passed[p.At] {
			c.Covered++
		} else {
			c.Missed = append(c.Missed, Miss{p.Step, p.Kind, p.Says, p.Line, p.Column})
		}
	}
	if c.Total > 0 {
		c.Percent = float64(c.Covered*1000/c.Total) / 10 // never 100 where something is missing
	}
	return c
}

// result holds what the run did against what was expected.
func (t *trial) result(r *Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.Path = append(r.Path, t.path...)
	r.Failures = append(r.Failures, t.faults...)
	fault := func(format string, args ...any) { r.Failures = append(r.Failures, fmt.Sprintf(format, args...)) }
	e := &t.c.Expect
	if e.Path != nil && !slices.Equal(e.Path, t.path) {
		fault("%s", pathDiff(e.Path, t.path))
	}
	if !t.ended.State.Terminal() {
		return // it was told why
	}
	want := e.Status
	if want == "" {
		if want = "completed"; e.Error != "" || len(e.Path) > 0 && e.Path[len(e.Path)-1] == flow.Fail {
			want = "failed"
		}
	}
	got := t.ended.State.String()
	switch {
	case got == want:
	case t.ended.State == pawl.Completed:
		fault("the run completed, and should have %s", want)
	default:
		fault("the run %s, and should have %s: %s", got, want, t.trouble)
	}
	if e.Error != "" && t.ended.State != pawl.Completed && !strings.Contains(t.trouble, e.Error) {
		fault("the error should contain %q, and is %q", e.Error, t.trouble)
	}
	if e.HasOutput && t.ended.State == pawl.Completed {
		for _, d := range differences("output", e.Output, t.output, true) {
			fault("%s", d)
		}
	}
	if e.Variables != nil {
		for _, d := range differences("variables", e.Variables, plain(t.variables), false) {
			fault("%s", d)
		}
	}
	for _, id := range sorted(e.Calls) {
		for _, d := range t.callDiff(id, e.Calls[id]) {
			fault("%s", d)
		}
	}
	for _, left := range []*told{&t.answers, &t.services, &t.waits, &t.childs} {
		r.Failures = append(r.Failures, left.left()...)
	}
}

// callDiff holds the calls of a step against what was expected of them.
func (t *trial) callDiff(id string, want any) (out []string) {
	got := t.calls[id]
	list, is := want.([]any)
	switch {
	case want == nil && len(got) > 0:
		return []string{fmt.Sprintf("%s was called, and should not have been: with %s", id, words(got[0]))}
	case want == nil:
		return nil
	case len(got) == 0:
		return []string{fmt.Sprintf("%s was not called, and should have been", id)}
	case is && len(list) != len(got):
		return []string{fmt.Sprintf("%s was called %d times, and should have been %d times", id, len(got), len(list))}
	case is:
		for i := range list {
			out = append(out, differences(fmt.Sprintf("call %d of %s", i+1, id), list[i], got[i], false)...)
		}
		return out
	}
	var first []string // of several calls, one must fit
	for i, call := range got {
		d := differences("the call of "+id, want, call, false)
		if len(d) == 0 {
			return nil
		}
		if i == 0 {
			first = d
		}
	}
	return first
}
