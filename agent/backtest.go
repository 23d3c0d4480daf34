package agent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// Backtest is what to ask again: the questions that steps of past runs have put to a model,
// with something changed. Nothing else of those runs happens again, and nothing of them is changed.
type Backtest struct {
	Step   string     `json:"step"` // name of the steps: NameOf their keys, as ask or tools/ask
	Runs   []pawl.Ref `json:"runs"` // of the tenant that the backtest is of: others are not read
	Change Change     `json:"change"`
	// With is for the [Recaster] of a program that has one: it makes the questions, and Change is made to those. Empty: they are
	// those that were recorded.
	With json.RawMessage `json:"with,omitempty"`
	// Budget bounds what it may cost, in millionths of a US dollar. 0 means $1. Questions for which too little is left are not
	// asked, and the report counts them.
	Budget int64 `json:"budget"`
	// Parallel is how many questions are asked at once. 0 means 16; at most 64.
	Parallel int `json:"parallel"`
}

// Recaster knows how questions of runs were made, and can make them otherwise. Package flow has one.
type Recaster interface {
	// Recast tells of one run how its questions are made now; with is that of the Backtest. ErrInput and ErrNotFound: the run's
	// questions can't be made so, those of others may.
	Recast(ctx context.Context, run pawl.Ref, step string, with json.RawMessage) (Recast, error)
}

// Recast is how the questions of a run are made now.
type Recast struct {
	// Questions has them by the steps' keys. nil: they are those that were recorded. A key that is not there can't be asked.
	Questions map[string]Recasting
	// Counts is what of an answer's value is compared. nil: all of it.
	Counts func(value json.RawMessage) json.RawMessage
}

// Recasting is a question, or why there is none.
type Recasting struct {
	Call Call
	Err  error
}

// maxParallel bounds Backtest.Parallel, maxOfRun how many questions of one run are asked.
const (
	maxParallel = 64
	maxOfRun    = 1000
)

// Backtester is the workflow that carries out backtests. A program that wants to run them
// registers it with its engine. A backtest is a run like others: it has a journal, a budget
// of its own, can be cancelled, and goes on after a crash without asking twice.
func (m *Models) Backtester() *pawl.Workflow[Backtest, Report] {
	return m.BacktesterOf("agent.backtest", nil)
}

// BacktesterOf is a [Models.Backtester] of another name, for runs whose questions r can make otherwise.
func (m *Models) BacktesterOf(name string, r Recaster) *pawl.Workflow[Backtest, Report] {
	return pawl.Define(name, func(c *pawl.Context, b Backtest) (Report, error) {
		return (&backtesting{m: m, recaster: r, b: b}).run(c)
	}, pawl.Internal(), pawl.Doc("Asks the questions of past runs again, with something changed."))
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
	info, err := e.StartRun(ctx, "agent.backtest", input, pawl.ID("backtest-"+hex.EncodeToString(sum[:8])), pawl.Tenant(b.Runs[0].Tenant),
		pawl.RunBudget(pawl.USD, cmp.Or(b.Budget, 1_000_000), false))
	if err != nil {
		return Report{}, err
	}
	return pawl.Attach[Report](e, info.ID, pawl.Tenant(info.Tenant)).Result(ctx)
}

// backtesting is a backtest at work.
type backtesting struct {
	m        *Models
	recaster Recaster
	b        Backtest
	places   places
}

// past is what is found of a run.
type past struct {
	Questions []pastQuestion `json:"questions,omitempty"`
	// Absent counts steps of the name whose question or answer the journal does not have, Unanswered those that have no answer.
	Absent     int `json:"absent,omitempty"`
	Unanswered int `json:"unanswered,omitempty"`
}

// pastQuestion is a request of a past run, by where its note is, and what came of it.
type pastQuestion struct {
	Step  string        `json:"step"`
	Seq   int64         `json:"seq"`
	Was   string        `json:"was"`
	Cost  int64         `json:"cost"`
	Took  time.Duration `json:"took"`
	Usage llm.Usage     `json:"usage"`
	Mends int           `json:"mends,omitempty"`
}

// reasked is what came of a question now.
type reasked struct {
	Same  bool          `json:"same,omitempty"`
	Is    string        `json:"is,omitempty"`
	Kind  string        `json:"kind,omitempty"`
	Error string        `json:"error,omitempty"`
	Cost  int64         `json:"cost"`
	Took  time.Duration `json:"took"`
	Usage llm.Usage     `json:"usage"`
	Mends int           `json:"mends,omitempty"`
}

func (t *backtesting) run(c *pawl.Context) (Report, error) {
	parallel := min(cmp.Or(max(t.b.Parallel, 0), 16), maxParallel)
	t.places.free = make(chan struct{}, parallel) // for all runs together
	type cases struct {
		past
		now []reasked
	}
	found, err := pawl.Map(c, "run", t.b.Runs, func(c *pawl.Context, run pawl.Ref) (out cases, err error) {
		memory := &questions{recaster: t.recaster, b: &t.b, run: run}
		if out.past, err = pawl.Step(c, "questions", memory.find); err != nil {
			return out, err
		}
		out.now, err = pawl.Map(c, "ask", out.Questions, func(c *pawl.Context, q pastQuestion) (reasked, error) {
			return pawl.Step(c, "model", func(ctx context.Context) (out reasked, err error) {
				turn := t.places.take(ctx, func() (money outcome) {
					out, money, err = t.ask(ctx, memory, q)
					return money
				})
				if turn != nil {
					err = turn
				}
				return out, err
			}, pawl.MaxAttempts(stepAttempts))
		}, pawl.Limit(parallel))
		return out, err
	}, pawl.Limit(parallel))
	if err != nil {
		return Report{}, err
	}
	r := newReport(c.RunID())
	for i, of := range found {
		r.add(t.b.Runs[i], of.past, of.now)
	}
	if r.Asked+r.Absent+r.Unanswered+r.Unasked == 0 {
		return Report{}, pawl.Fatal(fmt.Errorf("%w: none of the %d runs has asked a model in a step %q", pawl.ErrNotFound, len(t.b.Runs), t.b.Step))
	}
	return r.end(), nil
}
