package flow

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/internal/spelling"
)

// Backtests is the name of the workflow that carries out backtests of decisions: see [Registry.Backtester].
const Backtests = "flow.backtest"

// Bounds of a backtest.
const (
	runsOfBacktest    = 50
	maxRunsOfBacktest = 500
)

// Backtest says which decisions of past runs of a flow are asked again, and how they differ.
type Backtest struct {
	Tenant string
	Flow   string // its id
	// Step is the id of an ai-decision, or its place where several have the id: parallel.branch/step, map/step.
	Step string
	// Runs are ids of runs of the flow. nil: the newest Limit of those that were made since Since.
	Runs  []string
	Since time.Time // zero: whenever
	Limit int       // 0 means 50; at most 500

	// Change is made to the questions; its Prompt and its Version need questions that were recorded so.
	Change agent.Change
	// PromptRef asks a prompt of the registry instead, name or name@version, filled in with what the step's vars say, or else with
	// the run's variables as the step saw them.
	PromptRef string
	// Document is the flow with the step changed, JSON or YAML: its question, its model, the values that it allows. What the run's
	// other steps brought stays. Not with PromptRef.
	Document []byte

	Budget   int64 // as agent.Backtest.Budget
	Parallel int   // as agent.Backtest.Parallel
}

// asks is how a backtest makes questions anew: the With of an agent.Backtest.
type asks struct {
	Document  json.RawMessage `json:"document,omitempty"`
	PromptRef string          `json:"promptRef,omitempty"`
	RouteOn   string          `json:"routeOn,omitempty"` // what of the answers is compared
}

// Backtester is the workflow that carries out backtests of decisions. A program that wants to run them registers it with its
// engine. Its input is what [Registry.PlanBacktest] returns.
func (r *Registry) Backtester() pawl.Definition {
	return r.models().BacktesterOf(Backtests, recaster{r})
}

// models are those that decisions ask.
func (r *Registry) models() *agent.Models {
	if r.opt.Models == nil {
		return agent.New(agent.Options{})
	}
	return r.opt.Models
}

// PlanBacktest checks what a backtest asks for, picks the runs, and reads what it would ask and what that is likely to cost. Nothing is
// asked. [Problems]: the document can't be deployed; pawl.ErrInput, pawl.ErrNotFound: there is no such flow, step, prompt or run, or
// the step is no decision; pawl.ErrTooLarge: it would ask too much.
func (r *Registry) PlanBacktest(ctx context.Context, q Backtest) (b agent.Backtest, e agent.Estimate, err error) {
	place, with, err := r.recasting(ctx, q)
	if err != nil {
		return b, e, err
	}
	runs, err := r.runsOf(ctx, q)
	if err != nil {
		return b, e, err
	}
	if q.Change.Model != "" {
		q.Change.Model = r.opt.model(q.Change.Model)
	}
	b = agent.Backtest{Step: place, Runs: runs, Change: q.Change, Budget: q.Budget, Parallel: q.Parallel}
	if with.Document != nil || with.PromptRef != "" || with.RouteOn != "" {
		b.With, _ = json.Marshal(with) // its document is JSON
	}
	e, err = r.models().Estimate(ctx, r.engine, b, recaster{r})
	return b, e, err
}

// recasting checks what a backtest changes, and returns the name of the step's keys.
func (r *Registry) recasting(ctx context.Context, q Backtest) (place string, with asks, err error) {
	bad := func(format string, args ...any) (string, asks, error) {
		return "", with, fmt.Errorf("%w: %s", pawl.ErrInput, fmt.Sprintf(format, args...))
	}
	head, err := r.head(ctx, q.Tenant, q.Flow)
	if err != nil {
		return "", with, err
	}
	switch {
	case q.Step == "":
		return bad("which step is asked again? give the id of a decision")
	case q.Change == (agent.Change{}) && q.PromptRef == "" && q.Document == nil:
		return bad("what is asked otherwise? give another model, prompt or system, or a flow with the step changed")
	case q.PromptRef != "" && q.Document != nil:
		return bad("both a flow and a prompt of the registry would make the question: name the prompt in the flow's step, as its promptRef")
	case q.Change.Prompt != "" && q.PromptRef != "", q.Change.Version != 0 && (q.PromptRef != "" || q.Document != nil):
		return bad("a prompt is named twice: leave one of them out")
	}
	f, err := r.changed(ctx, q, head)
	if err != nil {
		return "", with, err
	}
	place, d, err := f.decisionAt(q.Step)
	if err != nil {
		return "", with, err
	}
	with.PromptRef = q.PromptRef
	if q.Document != nil {
		with.Document = f.JSON()
	}
	if q.PromptRef != "" {
		name, version, err := cutRef(q.PromptRef)
		if err == nil {
			_, err = r.prompt(name, version)
		}
		if err != nil {
			return "", with, err
		}
	}
	if d.routeOn != nil {
		with.RouteOn = d.routeOn.String()
	}
	return place, with, nil
}

// changed is the flow that has the step as it is asked now.
func (r *Registry) changed(ctx context.Context, q Backtest, head Info) (*Flow, error) {
	if q.Document == nil {
		version := head.Active
		if version == 0 {
			version = head.Latest
		}
		return r.Flow(ctx, q.Tenant, q.Flow, version)
	}
	f, err := Parse(q.Document, r.WorldOf(ctx, q.Tenant))
	if err == nil && f.ID != q.Flow {
		err = fmt.Errorf("%w: the document is the flow %q, and the runs are of %q", pawl.ErrInput, f.ID, q.Flow)
	}
	return f, err
}

// cutRef reads name or name@version; version 0: the one that a run gets.
func cutRef(ref string) (name string, version int, err error) {
	name, number, pinned := strings.Cut(ref, "@")
	if pinned {
		if version, err = strconv.Atoi(number); err != nil || version < 1 {
			return "", 0, fmt.Errorf("%w: %q is no version of a prompt: write name, or name@3", pawl.ErrInput, number)
		}
	}
	return name, version, nil
}

// decisionAt finds a decision by its id or its place, which is the name of its keys in a journal.
func (f *Flow) decisionAt(name string) (place string, d *decision, err error) {
	all := map[string]*step{}
	var places, found []string
	f.main.places("", func(at string, s *step) {
		if _, is := s.work.(*decision); is {
			places = append(places, at)
		}
		if at == name || s.id == name {
			found = append(found, at)
		}
		all[at] = s
	})
	if slices.Contains(found, name) {
		found = []string{name}
	}
	switch {
	case len(found) == 0:
		hint := spelling.Hint(name, places)
		if hint == "" && len(places) > 0 {
			hint = "its decisions are " + strings.Join(places, ", ")
		}
		return "", nil, fmt.Errorf("%w: flow %s has no step %q; %s", pawl.ErrInput, f.ID, name, hint)
	case len(found) > 1:
		return "", nil, fmt.Errorf("%w: flow %s has several steps %q; name one by its place: %s", pawl.ErrInput, f.ID, name, strings.Join(found, ", "))
	}
	d, is := all[found[0]].work.(*decision)
	if !is {
		return "", nil, fmt.Errorf("%w: step %q of flow %s is of the type %s, and only an ai-decision can be asked again", pawl.ErrInput, name, f.ID, all[found[0]].kind)
	}
	return found[0], d, nil
}

// places calls do with each step and the name that its keys have in journals.
func (g graph) places(at string, do func(at string, s *step)) {
	for _, s := range g.steps {
		do(at+s.id, s)
		switch w := s.work.(type) {
		case *parallel:
			for _, b := range w.branches {
				b.graph.places(at+s.id+"."+b.id+"/", do)
			}
		case *each:
			w.graph.places(at+s.id+"/", do)
		}
	}
}

// runsOf are the runs that a backtest looks into.
func (r *Registry) runsOf(ctx context.Context, q Backtest) (refs []pawl.Ref, err error) {
	if len(q.Runs) > maxRunsOfBacktest || q.Limit > maxRunsOfBacktest || q.Limit < 0 {
		return nil, fmt.Errorf("%w: a backtest looks into at most %d runs", pawl.ErrInput, maxRunsOfBacktest)
	}
	for _, id := range q.Runs {
		ref := pawl.Ref{Tenant: q.Tenant, ID: id}
		run, err := r.engine.Get(ctx, ref)
		if err != nil {
			return nil, err
		}
		if run.Workflow != q.Flow {
			return nil, fmt.Errorf("%w: run %s is of the workflow %s, not of %s", pawl.ErrInput, id, run.Workflow, q.Flow)
		}
		refs = append(refs, ref)
	}
	if q.Runs != nil {
		return refs, nil
	}
	limit := q.Limit
	if limit == 0 {
		limit = runsOfBacktest
	}
	page, err := r.engine.List(ctx, pawl.Filter{Tenant: q.Tenant, Workflow: q.Flow, After: q.Since, Limit: limit})
	if err != nil {
		return nil, err
	}
	for _, run := range page {
		refs = append(refs, pawl.Ref{Tenant: q.Tenant, ID: run.ID})
	}
	if refs == nil && q.Since.IsZero() {
		return nil, fmt.Errorf("%w: flow %s has had no run yet: there is nothing to ask again", pawl.ErrNotFound, q.Flow)
	}
	if refs == nil {
		return nil, fmt.Errorf("%w: flow %s has had no run since %s: there is nothing to ask again", pawl.ErrNotFound, q.Flow, q.Since.UTC().Format(time.RFC3339))
	}
	return refs, nil
}
