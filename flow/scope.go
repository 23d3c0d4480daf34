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
	cost      int64    // of the steps so far, in millionths of a US dollar, and of those around it before it
	base      int64    // cost at its beginning
	of        *beneath // of the step whose branch it is; nil: it is that of the run
	under     *beneath // of the step that is under way
	trail     *trail
	callbacks callbacks
	held      *held
	sizes     map[string]int // of what is in variables and results and was put there in this scope: "variable:name", "step:id"
	// of the scope around this one, until something is put in
	lentVariables, lentResults bool
}

func newScope(c *pawl.Context, f *Flow, in map[string]any, of *spent) *scope {
	s := &scope{variables: maps.Clone(in), results: map[string]any{}, sizes: map[string]int{}, callbacks: callbacks{}.clone(), held: &held{of: of}}
	s.root = map[string]any{
		"variables": s.variables, "stepResults": s.results, "steps": s.results, "workflowId": f.ID, "executionId": c.RunID(),
		"version": int64(f.Version), "startedAt": at(c.Now()), "costAccumulator": 0.0,
	}
	return s
}

// inner is the scope of a branch: it sees what was there before it, and what it adds only it sees.
// Most and times are as [held.inner] takes them.
func (s *scope) inner(of *step, branch string, most *int, times int) (*scope, error) {
	held := s.held.inner(most, times)
	if err := held.grow(of.id, sizeOfBranch); err != nil {
		return nil, err
	}
	return &scope{
		root: maps.Clone(s.root), variables: s.variables, results: s.results, lentVariables: true, lentResults: true, cost: s.cost, base: s.cost, of: s.under,
		sizes: map[string]int{}, held: held, trail: s.trail.inner(branch), callbacks: s.callbacks.clone(),
	}, nil
}

// own makes a map that is lent a copy, to put something in.
func (s *scope) own(of *step, lent *bool, m *map[string]any, names ...string) error {
	if !*lent {
		return nil
	}
	if err := s.held.grow(of.id, sizeOfMap(len(*m))); err != nil {
		return err
	}
	*m, *lent = maps.Clone(*m), false
	for _, name := range names {
		s.root[name] = *m
	}
	return nil
}

// count counts the size of what is put in under a key, in place of what was there.
func (s *scope) count(of *step, key string, size int) error {
	by := size - s.sizes[key]
	s.sizes[key] = size
	return s.held.grow(of.id, by)
}

// set sets a variable.
func (s *scope) set(of *step, name string, v any) error {
	if err := s.own(of, &s.lentVariables, &s.variables, "variables"); err != nil {
		return err
	}
	s.variables[name] = v
	s.trail.sets(name, v)
	return s.count(of, "variable:"+name, sizeOf(v, s.held.of.most.bytes))
}

// spend counts what a step cost.
func (s *scope) spend(r *result) {
	s.cost += r.cost
	if r.guess && s.of != nil {
		s.of.guess.Store(true)
	}
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
	guess  bool       // a part of cost is assumed
	failed *failure
	child  string         // the journal's entry of the run that made it fail; "": none did
	after  *Handled       // the failure with which the run went on; nil: there was none, or it does not matter
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
func (s *scope) keep(of *step, r result, started, completed time.Time) error {
	if err := s.own(of, &s.lentResults, &s.results, "stepResults", "steps"); err != nil {
		return err
	}
	kept := map[string]any{
		"output": r.output, "status": r.status, "startedAt": at(started), "completedAt": at(completed), "cost": float64(r.cost) / 1e6,
	}
	if r.guess { // what budgets count is not what it cost
		kept["cost"] = nil
	}
	if r.status == "" {
		kept["status"] = "completed"
	}
	if r.raw != "" {
		kept["rawOutput"] = r.raw
	}
	if r.usage != nil && *r.usage != (llm.Usage{}) { // else the provider did not say
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
			if err := s.set(of, of.variable, r.output); err != nil {
				return err
			}
		}
	}
	s.results[of.id] = kept
	return s.count(of, "step:"+of.id, sizeOf(kept, s.held.of.most.bytes))
}
