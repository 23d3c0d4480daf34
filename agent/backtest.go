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

// Change is how the questions differ from those that were asked. What is empty stays as it was.
type Change struct {
	Model       string   `json:"model,omitempty"` // as provider/model
	System      *string  `json:"system,omitempty"`
	Prompt      string   `json:"prompt,omitempty"` // in place of the last message of the user; {{prompt}} in it stands for that
	Temperature *float64 `json:"temperature,omitempty"`
	MaxTokens   int      `json:"maxTokens,omitempty"`
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
	return pawl.Define("agent.backtest", m.backtest)
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
	found, err := pawl.Map(c, "find", b.Runs, func(c *pawl.Context, run pawl.Ref) ([]asked, error) {
		return pawl.Step(c, "questions", func(ctx context.Context) ([]asked, error) { return questions(ctx, run, b.Step) })
	}, pawl.Limit(cmp.Or(b.Parallel, 16)))
	if err != nil {
		return Report{}, err
	}
	all := slices.Concat(found...)
	if len(all) == 0 {
		return Report{}, pawl.Fatal(fmt.Errorf("%w: none of the %d runs has asked a model in a step %q", pawl.ErrNotFound, len(b.Runs), b.Step))
	}
	decisions, err := pawl.Map(c, "ask", all, func(c *pawl.Context, q asked) (reasked, error) {
		return pawl.Step(c, "model", func(ctx context.Context) (reasked, error) { return m.again(ctx, q, b.Change) }, pawl.MaxAttempts(8))
	}, pawl.Limit(cmp.Or(b.Parallel, 16)))
	if err != nil {
		return Report{}, err
	}
	return reportOf(decisions), nil
}

// questions finds the answered requests of a step, one for each of its occurrences.
func questions(ctx context.Context, run pawl.Ref, step string) ([]asked, error) {
	last := map[string]asked{}
	var order []string
	for a, err := range Asked(ctx, pawl.EngineOf(ctx), run) {
		if err != nil {
			return nil, pawl.Fatal(err)
		}
		if pawl.NameOf(a.Step) != step || a.Error != "" || a.Request == nil || a.Why != "ask" && a.Why != "fallback" && a.Why != "more room" {
			continue
		}
		if _, ok := last[a.Step]; !ok {
			order = append(order, a.Step)
		}
		last[a.Step] = asked{Run: run, Step: a.Step, Seq: a.Seq}
	}
	var out []asked
	for _, key := range order {
		out = append(out, last[key])
	}
	return out, nil
}

// reasked is what came of a question.
type reasked struct {
	Decision
	CostWas int64         `json:"costWas"`
	TookWas time.Duration `json:"tookWas"`
}

// again asks a question of a past run anew, changed.
func (m *Models) again(ctx context.Context, q asked, change Change) (reasked, error) {
	var was Asking
	for a, err := range Asked(ctx, pawl.EngineOf(ctx), q.Run) {
		if err != nil {
			return reasked{}, pawl.Fatal(err)
		}
		if a.Seq == q.Seq {
			was = a
			break
		}
	}
	if was.Request == nil {
		return reasked{}, pawl.Fatal(fmt.Errorf("%w: run %s has no note %d any more", pawl.ErrNotFound, q.Run.ID, q.Seq))
	}
	shape, err := shapeOf(was.Shape)
	if err != nil {
		return reasked{}, pawl.Fatal(err)
	}
	out := reasked{Decision: Decision{Run: q.Run.ID, Step: q.Step, Was: decided(was.Value, was.Response)}, CostWas: was.Cost, TookWas: was.Took}
	req := was.Request
	change.apply(req)
	name := cmp.Or(change.Model, was.Model)
	r, err := m.route(name)
	if err != nil {
		return out, err
	}
	a := &attempt{m: m, engine: pawl.EngineOf(ctx), info: pawl.InfoOf(ctx), q: &Call{Shape: shape}}
	began := time.Now()
	res, err := a.converse(ctx, r, "ask", req)
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

// apply changes a request.
func (c *Change) apply(req *llm.Request) {
	if c.System != nil {
		req.System = *c.System
	}
	if c.Temperature != nil {
		req.Temperature = c.Temperature
	}
	req.MaxTokens = cmp.Or(c.MaxTokens, req.MaxTokens)
	if c.Prompt == "" {
		return
	}
	req.Messages = slices.Clone(req.Messages)
	for i, msg := range slices.Backward(req.Messages) {
		if msg.Role == llm.RoleUser {
			req.Messages[i].Content = strings.ReplaceAll(c.Prompt, "{{prompt}}", msg.Content)
			return
		}
	}
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
