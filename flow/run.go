package flow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/service"
)

// Options are what runs of flows work with.
type Options struct {
	Models   *agent.Models // asked by decisions; nil: they fail
	Services service.Set
	// Secret finds a secret that a service's parameter names as {{secrets.name}}. It is asked at the last moment, and what it
	// returns goes to the service and nowhere else. nil: there are none.
	Secret func(ctx context.Context, name string) (string, error)
	// Model is asked where a step names none.
	Model string
	// Provider finds the provider of a model that a step names without one: "openai" of "gpt-4o-mini". nil: none is found.
	Provider func(model string) string
	// Logger tells what has nobody to tell it to. nil: nobody.
	Logger *slog.Logger
	// BaseURL is where people and services reach the API, for links of approvals; see approval.Request.
	BaseURL string
}

// Variables are what a run of a flow starts with: an object.
type Variables map[string]any

// UnmarshalJSON reads an object; whole numbers keep all their digits.
func (v *Variables) UnmarshalJSON(data []byte) error {
	value, err := decode(data)
	if err != nil {
		return err
	}
	object, is := value.(map[string]any)
	if !is && value != nil {
		return fmt.Errorf("the variables are %s and must be an object", kindOf(value))
	}
	*v = object
	return nil
}

// Define makes a workflow of a flow, for programs that bring their flows along. Its input are the variables, its result is
// the output of the last step.
func Define(f *Flow, opt Options) *pawl.Workflow[Variables, json.RawMessage] {
	options := []pawl.Option{pawl.BudgetUSD(f.limits.cost), pawl.Version(strconv.Itoa(f.Version))}
	if f.Inputs != nil {
		options = append(options, pawl.CheckInput(func(input json.RawMessage) error {
			if string(input) == "null" {
				input = json.RawMessage("{}")
			}
			return conform(f.Inputs, input)
		}))
	}
	if f.limits.timeout > 0 {
		options = append(options, pawl.Timeout(f.limits.timeout))
	}
	return pawl.Define(f.ID, func(c *pawl.Context, in Variables) (json.RawMessage, error) {
		return interpret(c, f, opt, in)
	}, options...)
}

// interpret runs a flow: it goes from step to step, and each step's work is one durable call under the step's id.
func interpret(c *pawl.Context, f *Flow, opt Options, in Variables) (json.RawMessage, error) {
	if in == nil {
		in = Variables{}
	}
	x := &run{flow: f, opt: opt}
	out, err := x.follow(c, f.main, newScope(c, f, in))
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// run is a flow at work.
type run struct {
	flow *Flow
	opt  Options
}

// scope is what steps of one graph see.
type scope struct {
	root      map[string]any
	variables map[string]any
	results   map[string]any
	cost      int64 // of the steps so far, in millionths of a US dollar
}

func newScope(c *pawl.Context, f *Flow, in map[string]any) *scope {
	s := &scope{variables: maps.Clone(in), results: map[string]any{}}
	s.root = map[string]any{
		"variables": s.variables, "stepResults": s.results, "steps": s.results, "workflowId": f.ID, "executionId": c.RunID(),
		"version": int64(f.Version), "startedAt": at(c.Now()), "costAccumulator": 0.0,
	}
	return s
}

// inner is the scope of a branch: it sees what was there before it, and what it adds only it sees.
func (s *scope) inner() *scope {
	in := &scope{root: maps.Clone(s.root), variables: maps.Clone(s.variables), results: maps.Clone(s.results), cost: s.cost}
	in.root["variables"], in.root["stepResults"], in.root["steps"] = in.variables, in.results, in.results
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

// worker is what a step of one type does.
type worker interface {
	work(x *run, c *pawl.Context, s *step, in *scope) (result, error)
	// reads calls f with each path that the work reads, and where it is written.
	reads(f func(at *node, u use))
}

// LimitError ends a run that goes beyond its flow's limits.
type LimitError struct {
	Step  string // that would have been next
	Limit string // maxSteps, maxVisits
	Most  int
	Seen  map[string]int // how often each step was visited
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("step %s would go over %s: %d (visits: %s)", e.Step, e.Limit, e.Most, visits(e.Seen))
}

// Fatal reports true.
func (e *LimitError) Fatal() bool { return true }

// ErrorCode names the error where it is kept.
func (e *LimitError) ErrorCode() string { return "flow_limit" }

// RouteError ends a run whose step has an output that leads nowhere.
type RouteError struct {
	Step   string
	Output string
	Known  []string
}

func (e *RouteError) Error() string {
	return fmt.Sprintf("no next step for output %.100q of step %s; it leads on for %q", e.Output, e.Step, e.Known)
}

// Fatal reports true.
func (e *RouteError) Fatal() bool { return true }

// ErrorCode names the error where it is kept.
func (e *RouteError) ErrorCode() string { return "no_next_step" }

// EndError ends a run that came to the end called fail.
type EndError struct {
	Step   string
	Output string
}

func (e *EndError) Error() string {
	return fmt.Sprintf("step %s leads to fail: %.500s", e.Step, e.Output)
}

// Fatal reports true.
func (e *EndError) Fatal() bool { return true }

// ErrorCode names the error where it is kept.
func (e *EndError) ErrorCode() string { return "flow_failed" }

// follow goes through a graph from its first step to an end, and returns the output of the last.
func (x *run) follow(c *pawl.Context, g graph, in *scope) (any, error) {
	seen := map[string]int{}
	s := g.steps[0]
	for n := 1; ; n++ {
		seen[s.id]++
		switch {
		case n > x.flow.limits.steps:
			return nil, &LimitError{s.id, "maxSteps", x.flow.limits.steps, seen}
		case s.maxVisits > 0 && seen[s.id] > s.maxVisits:
			return nil, &LimitError{s.id, "maxVisits", s.maxVisits, seen}
		}
		r, err := x.do(c, s, in)
		if err != nil {
			return nil, err
		}
		to, err := s.route(in, r)
		if err != nil {
			return nil, err
		}
		switch to {
		case End:
			return r.output, nil
		case Fail:
			return nil, &EndError{s.id, textOf(r.output)}
		}
		s = g.by[to]
	}
}

// do carries out one step, and lets what follows see what it brought.
func (x *run) do(c *pawl.Context, s *step, in *scope) (result, error) {
	started := c.Now()
	if s.when != nil {
		holds, err := s.when.holds(context.Background(), in.root)
		if err != nil {
			return result{}, fmt.Errorf("step %s: when: %w", s.id, err)
		}
		if !holds {
			r := result{status: "skipped"}
			in.keep(s, r, started, c.Now())
			return r, nil
		}
	}
	r, err := s.work.work(x, c, s, in)
	if err != nil {
		if r, err = s.failed(err); err != nil {
			return result{}, err
		}
	}
	in.spend(r.cost)
	in.keep(s, r, started, c.Now())
	return r, nil
}

// failure is what templates see of a step that failed.
type failure struct{ message, code string }

func failureOf(err error) *failure {
	f := &failure{message: err.Error()}
	var recorded *pawl.Failure
	var named interface{ ErrorCode() string }
	switch {
	case errors.As(err, &recorded):
		f.message, f.code = recorded.Message, recorded.Code
	case errors.As(err, &named):
		f.code = named.ErrorCode()
	}
	return f
}

// failed decides what comes of a step that failed for good. What ended the run or the branch, and not the step, stays an error.
func (s *step) failed(err error) (result, error) {
	if cancelled(err) {
		return result{}, err
	}
	r := result{status: "failed", failed: failureOf(err)}
	switch s.onFailure {
	case "skip":
		r.status = "skipped"
	case "fallback":
		r.to = s.fallback
	default:
		return result{}, err
	}
	return r, nil
}

// cancelled reports whether an error is the end of the run, or of the branch, and none of a step.
func cancelled(err error) bool {
	var step *pawl.StepError
	var child *pawl.RunError
	var branch *BranchError
	if errors.As(err, &step) || errors.As(err, &child) || errors.As(err, &branch) {
		return false
	}
	return errors.Is(err, pawl.ErrCancelled) || errors.Is(err, pawl.ErrTimeout)
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
		kept[of.variable] = r.output
		s.variables[of.variable] = r.output
	}
	s.results[of.id] = kept
}

// route finds the step that follows.
func (s *step) route(in *scope, r result) (string, error) {
	n := s.next
	switch {
	case r.to != "":
		return r.to, nil
	case n.to != "":
		return n.to, nil
	}
	by := r.by
	if by == nil {
		by = r.output
	}
	for _, w := range n.when {
		scope := maps.Clone(in.root)
		scope["output"] = by
		holds, err := w.when.holds(context.Background(), scope)
		if err != nil {
			return "", fmt.Errorf("step %s: next: %w", s.id, err)
		}
		if holds {
			return w.to, nil
		}
	}
	if r.status != "skipped" {
		switch by.(type) {
		case nil, map[string]any, []any:
		default:
			if to, is := n.by[textOf(by)]; is {
				return to, nil
			}
		}
	}
	if n.other != "" {
		return n.other, nil
	}
	e := &RouteError{Step: s.id, Output: textOf(by)}
	for _, t := range n.at.fieldsOf() {
		e.Known = append(e.Known, t.name)
	}
	return "", e
}

// options are those of the one durable call that a step makes.
func (s *step) options() []pawl.StepOption {
	opts := []pawl.StepOption{pawl.MaxAttempts(s.attempts), pawl.Backoff(s.backoff, s.maxBackoff)}
	if s.timeout > 0 {
		opts = append(opts, pawl.Timeout(s.timeout))
	}
	return opts
}

// under makes durable calls that have names of their own under the step's id.
func under(c *pawl.Context, s *step, f func(c *pawl.Context) (result, error)) (result, error) {
	return pawl.Go(c, s.id, f).Wait(c)
}

// refuse records under the step's id that it can't be carried out.
func refuse(c *pawl.Context, s *step, err error) error {
	return pawl.Do(c, s.id, func(context.Context) error { return pawl.Fatal(err) })
}

// decode reads JSON; whole numbers keep all their digits.
func decode(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return exact(v), nil
}

// exact makes int64 and float64 of the numbers in a value.
func exact(v any) any {
	switch v := v.(type) {
	case json.Number:
		return number(v.String())
	case map[string]any:
		for k := range v {
			v[k] = exact(v[k])
		}
	case []any:
		for i := range v {
			v[i] = exact(v[i])
		}
	}
	return v
}

func visits(seen map[string]int) string {
	var out []string
	for id, n := range seen {
		out = append(out, fmt.Sprintf("%s %d", id, n))
	}
	return strings.Join(slices.Sorted(slices.Values(out)), ", ")
}

// model is a model's name with its provider.
func (o *Options) model(name string) string {
	if o.Provider == nil || strings.Contains(name, "/") {
		return name
	}
	return o.Provider(name) + "/" + name
}
