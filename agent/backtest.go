package agent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// Backtest is what to ask again: the questions that steps of past runs have put to a model,
// with something changed. Nothing else of those runs happens again.
type Backtest struct {
	Step   string     `json:"step"` // name of the steps: NameOf their keys, as ask or tools/ask
	Runs   []pawl.Ref `json:"runs"`
	Change Change     `json:"change"`
	// Budget bounds what it may cost, in millionths of a US dollar. 0 means $1.
	Budget int64 `json:"budget"`
	// Parallel is how many questions are asked at once. 0 means 16.
	Parallel int `json:"parallel"`
}

// Report is what a backtest has found.
type Report struct {
	Run       string     `json:"run"` // the run that asked: its journal has every answer
	Asked     int        `json:"asked"`
	Same      int        `json:"same"`
	Failed    int        `json:"failed"`
	CostWas   int64      `json:"costWas"` // in millionths of a US dollar
	CostIs    int64      `json:"costIs"`
	TookWas   Took       `json:"tookWas"`
	TookIs    Took       `json:"tookIs"`
	Decisions []Decision `json:"decisions"` // in the order of the runs and their journals
}

// Took is how long models took for an answer.
type Took struct {
	P50 time.Duration `json:"p50"`
	P95 time.Duration `json:"p95"`
}

// Decision is one question and both answers to it.
type Decision struct {
	Run   string        `json:"run"`
	Step  string        `json:"step"`
	Was   string        `json:"was"`
	Is    string        `json:"is,omitempty"`
	Error string        `json:"error,omitempty"`
	Cost  int64         `json:"cost"`
	Took  time.Duration `json:"took"`
}

// Backtester is the workflow that carries out backtests. A program that wants to run them
// registers it with its engine. A backtest is a run like others: it has a journal, a budget
// of its own, can be cancelled, and goes on after a crash without asking twice.
func (m *Models) Backtester() *pawl.Workflow[Backtest, Report] {
	return pawl.Define("agent.backtest", m.backtest, pawl.Internal(), pawl.Doc("Asks the questions of past runs again, with something changed."))
}

// RunBacktest starts a backtest and waits for its report. The same backtest started again
// answers with the report that is there. The engine's program must have registered
// [Models.Backtester].
func RunBacktest(ctx context.Context, e *pawl.Engine, b Backtest) (Report, error) {
	if b.Step == "" || len(b.Runs) == 0 {
		return Report{}, fmt.Errorf("%w: a backtest needs the name of a step and runs to look into", pawl.ErrInput)
	}
	input, err := json.Marshal(b)
	if err != nil {
		return Report{}, fmt.Errorf("%w: the backtest: %w", pawl.ErrInput, err)
	}
	sum := sha256.Sum256(input)
	info, err := e.StartRun(ctx, "agent.backtest", input, pawl.ID("backtest-"+hex.EncodeToString(sum[:8])),
		pawl.RunBudget(pawl.USD, cmp.Or(b.Budget, 1_000_000), false))
	if err != nil {
		return Report{}, err
	}
	return pawl.Attach[Report](e, info.ID).Result(ctx)
}

// asked is a request of a past run, by where its note is.
type asked struct {
	Run  pawl.Ref `json:"run"`
	Step string   `json:"step"`
	Seq  int64    `json:"seq"`
}

func (m *Models) backtest(c *pawl.Context, b Backtest) (Report, error) {
	parallel := cmp.Or(b.Parallel, 16)
	places := make(chan struct{}, parallel) // for all runs together
	found, err := pawl.Map(c, "run", b.Runs, func(c *pawl.Context, run pawl.Ref) ([]reasked, error) {
		memory := &questions{run: run, step: b.Step}
		all, err := pawl.Step(c, "questions", memory.find)
		if err != nil {
			return nil, err
		}
		return pawl.Map(c, "ask", all, func(c *pawl.Context, q asked) (reasked, error) {
			return pawl.Step(c, "model", func(ctx context.Context) (reasked, error) {
				select {
				case places <- struct{}{}:
				case <-ctx.Done():
					return reasked{}, context.Cause(ctx)
				}
				defer func() { <-places }()
				return m.again(ctx, memory, q, b.Change)
			}, pawl.MaxAttempts(8))
		}, pawl.Limit(parallel))
	}, pawl.Limit(parallel))
	if err != nil {
		return Report{}, err
	}
	decisions := slices.Concat(found...)
	if len(decisions) == 0 {
		return Report{}, pawl.Fatal(fmt.Errorf("%w: none of the %d runs has asked a model in a step %q", pawl.ErrNotFound, len(b.Runs), b.Step))
	}
	return reportOf(decisions), nil
}

// questions are those of one run that a backtest asks again, in memory while it does so: its
// journal is read once, and again only by a process that goes on with the backtest.
type questions struct {
	run  pawl.Ref
	step string // the name

	mu  sync.Mutex
	all []exchange // nil: not read here
}

// find finds the answered requests of the step, one for each of its occurrences.
func (q *questions) find(ctx context.Context) (out []asked, err error) {
	all, err := q.read(ctx)
	for _, x := range all {
		out = append(out, asked{Run: q.run, Step: x.asked.Step, Seq: x.asked.Seq})
	}
	return out, err
}

func (q *questions) read(ctx context.Context) ([]exchange, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.all != nil {
		return q.all, nil
	}
	all, err := exchanges(ctx, pawl.EngineOf(ctx), q.run, func(step string) bool { return pawl.NameOf(step) == q.step })
	if err != nil {
		return nil, pawl.Fatal(err)
	}
	q.all = slices.DeleteFunc(all, func(x exchange) bool { return !x.answered() })
	return q.all, nil
}

// at returns a question. It is gone when its run was deleted, or asked it anew, meanwhile.
func (q *questions) at(ctx context.Context, seq int64) (*exchange, error) {
	all, err := q.read(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].asked.Seq == seq {
			return &all[i], nil
		}
	}
	return nil, pawl.Fatal(fmt.Errorf("%w: run %s has no question at entry %d any more", pawl.ErrNotFound, q.run.ID, seq))
}

// reasked is what came of a question.
type reasked struct {
	Decision
	CostWas int64         `json:"costWas"`
	TookWas time.Duration `json:"tookWas"`
}

// again asks a question of a past run anew, changed.
func (m *Models) again(ctx context.Context, memory *questions, at asked, change Change) (reasked, error) {
	engine := pawl.EngineOf(ctx)
	was, err := memory.at(ctx, at.Seq)
	if err != nil {
		return reasked{}, err
	}
	out := reasked{Decision: Decision{Run: at.Run.ID, Step: at.Step, Was: decided(was.last.Value, was.last.Response)}, CostWas: was.cost, TookWas: was.took}
	q, err := change.question(ctx, engine, &was.asked)
	switch {
	case errors.Is(err, pawl.ErrInput), errors.Is(err, pawl.ErrNotFound): // it does not fit this question; it may fit others
		out.Error = err.Error()
		return out, nil
	case err != nil:
		return out, err
	}
	r, err := m.route(q.model)
	if err != nil {
		return out, err
	}
	a := &attempt{m: m, engine: engine, info: pawl.InfoOf(ctx), q: &Call{Shape: q.shape}, prompt: q.prompt, vars: q.vars}
	began := time.Now()
	res, err := a.converse(ctx, r, "ask", q.req)
	out.Took, out.Cost = time.Since(began), a.answer.Cost
	switch {
	case err == nil:
		out.Is = decided(res.Value, &llm.Response{Text: res.Text, ToolCalls: res.ToolCalls})
	case ctx.Err() != nil, !pawl.IsFatal(err):
		return out, err
	case llm.KindOf(err) == "" && !unread(err):
		return out, err
	default:
		out.Error = err.Error()
	}
	return out, nil
}

// unread reports whether err is that of an answer which could not be read.
func unread(err error) bool {
	var e *AnswerError
	return errors.As(err, &e)
}

// decided is an answer in one line: its value, its text, or the tools that it asks for.
func decided(value json.RawMessage, res *llm.Response) string {
	switch {
	case len(value) > 0:
		return string(value)
	case res == nil:
		return ""
	case len(res.ToolCalls) > 0:
		var names []string
		for _, call := range res.ToolCalls {
			names = append(names, call.Name+call.Arguments)
		}
		return strings.Join(names, " ")
	}
	return res.Text
}

func reportOf(all []reasked) Report {
	var r Report
	var was, is []time.Duration
	for _, a := range all {
		r.Asked++
		r.CostWas += a.CostWas
		r.CostIs += a.Cost
		was, is = append(was, a.TookWas), append(is, a.Took)
		switch {
		case a.Error != "":
			r.Failed++
		case a.Was == a.Is:
			r.Same++
		}
		r.Decisions = append(r.Decisions, a.Decision)
	}
	r.TookWas, r.TookIs = took(was), took(is)
	return r
}

func took(all []time.Duration) Took {
	slices.Sort(all)
	at := func(share int) time.Duration { return all[min(len(all)*share/100, len(all)-1)] }
	return Took{P50: at(50), P95: at(95)}
}

// String is the report as a table for people: what agrees, what it costs, and every decision
// that has changed.
func (r Report) String() string {
	var b strings.Builder
	changed := r.Asked - r.Same - r.Failed
	fmt.Fprintf(&b, "asked %d: %d the same (%.1f %%), %d changed, %d failed\n", r.Asked, r.Same, 100*float64(r.Same)/float64(max(r.Asked, 1)), changed, r.Failed)
	fmt.Fprintf(&b, "cost: $%.6f, was $%.6f\n", float64(r.CostIs)/1e6, float64(r.CostWas)/1e6)
	fmt.Fprintf(&b, "took: p50 %v, p95 %v; was p50 %v, p95 %v\n", r.TookIs.P50.Round(time.Millisecond), r.TookIs.P95.Round(time.Millisecond), r.TookWas.P50.Round(time.Millisecond), r.TookWas.P95.Round(time.Millisecond))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	if changed+r.Failed > 0 {
		fmt.Fprintln(w, "RUN\tSTEP\tWAS\tIS")
	}
	for _, d := range r.Decisions {
		switch {
		case d.Error != "":
			fmt.Fprintf(w, "%s\t%s\t%s\tfailed: %s\n", d.Run, d.Step, line(d.Was), line(d.Error))
		case d.Was != d.Is:
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", d.Run, d.Step, line(d.Was), line(d.Is))
		}
	}
	_ = w.Flush() // to a strings.Builder
	return b.String()
}

// line is text for a cell of a table.
func line(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 80 {
		return string(r[:79]) + "…"
	}
	return s
}
