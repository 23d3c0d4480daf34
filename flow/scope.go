package flow

import (
	"errors"
	"maps"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// scope is what steps of one graph see.
type scope struct {
	root      map[string]any
	variables map[string]any
	results   map[string]any
	cost      int64 // of the steps so far, in millionths of a US dollar
	trail     *trail
	callbacks callbacks
}

func newScope(c *pawl.Context, f *Flow, in map[string]any) *scope {
	s := &scope{variables: maps.Clone(in), results: map[string]any{}, callbacks: callbacks{}.clone()}
	s.root = map[string]any{
		"variables": s.variables, "stepResults": s.results, "steps": s.results, "workflowId": f.ID, "executionId": c.RunID(),
		"version": int64(f.Version), "startedAt": at(c.Now()), "costAccumulator": 0.0,
	}
	return s
}

// inner is the scope of a branch: it sees what was there before it, and what it adds only it sees.
func (s *scope) inner(branch string) *scope {
	in := &scope{root: maps.Clone(s.root), variables: maps.Clone(s.variables), results: maps.Clone(s.results), cost: s.cost}
	in.root["variables"], in.root["stepResults"], in.root["steps"] = in.variables, in.results, in.results
	in.trail, in.callbacks = s.trail.inner(branch), s.callbacks.clone()
	return in
}

// spend counts what a step cost.
func (s *scope) spend(micro int64) {
	s.cost += micro
	s.root["costAccumulator"] = float64(s.cost) / 1e6
}

// at is a time as templates see it.
func at(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// result is what a step brought.
type result struct {
	output any
	by     any        // what next chooses by; nil: the output
	to     string     // where it goes on whatever next says; "": as next says
	raw    string     // what a model said
	usage  *llm.Usage // of models
	cost   int64      // of models, in millionths of a US dollar
	failed *failure
	more   map[string]any // what else templates find
	status string         // completed, skipped
}

// failure is what templates see of a step that failed.
type failure struct{ message, code string }

func failureOf(err error) *failure {
	f := &failure{message: err.Error()}
	var recorded *pawl.Failure
	var panicked *pawl.PanicError
	var named interface{ ErrorCode() string }
	switch {
	case errors.As(err, &recorded):
		f.message, f.code = recorded.Message, recorded.Code
	case errors.As(err, &panicked):
		f.message, f.code = panicked.Error(), "panic"
	case errors.As(err, &named):
		f.code = named.ErrorCode()
	}
	return f
}

// keep puts what a step brought where templates find it.
func (s *scope) keep(of *step, r result, started, completed time.Time) {
	kept := map[string]any{
		"output": r.output, "status": r.status, "startedAt": at(started), "completedAt": at(completed), "cost": float64(r.cost) / 1e6,
	}
	if r.status == "" {
		kept["status"] = "completed"
	}
	if r.raw != "" {
		kept["rawOutput"] = r.raw
	}
	if r.usage != nil {
		kept["tokenUsage"] = map[string]any{"promptTokens": r.usage.Input, "completionTokens": r.usage.Output, "totalTokens": r.usage.Input + r.usage.Output}
	}
	if r.failed != nil {
		kept["error"] = map[string]any{"message": r.failed.message, "code": r.failed.code}
	}
	maps.Copy(kept, r.more)
	if of.variable != "" {
		if _, hides := kept[of.variable]; !hides { // a deployment is refused where it would
			kept[of.variable] = r.output
		}
		if _, is := s.variables[of.variable]; !is || r.status == "" { // a step that did not complete brings nothing
			s.variables[of.variable] = r.output
		}
	}
	s.results[of.id] = kept
}
