package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// places lets so many questions be asked at the same time.
type places struct {
	free  chan struct{}
	alone sync.RWMutex // held by one that is asked while no other is
	vain  bool         // what others have put aside does not come back; with alone
}

// outcome is how a question went with the money.
type outcome uint8

const (
	enough outcome = iota
	poor           // there is too little money
	held           // there is, once others have given back what they put aside for themselves
)

const (
	backIn   = 2 * time.Second // what an answered question did not need is back, in the budget, with the commit of its step
	backEach = 10 * time.Millisecond
)

// take calls f in its turn, and again, with no other under way, if it says that there was too little money: what others had
// put aside for themselves they may not have needed.
func (p *places) take(ctx context.Context, f func() outcome) error {
	select {
	case p.free <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-p.free }()
	if p.with(f) == enough {
		return nil
	}
	p.alone.Lock()
	defer p.alone.Unlock()
	end := time.Now().Add(backIn)
	for f() == held && !p.vain {
		select {
		case <-time.After(backEach):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		p.vain = time.Now().After(end) // as what a crash has cut off
	}
	return nil
}

func (p *places) with(f func() outcome) outcome {
	p.alone.RLock()
	defer p.alone.RUnlock()
	return f()
}

// questions are those of one run that a backtest asks again, in memory while it does so: its
// journal is read once, and again only by a process that goes on with the backtest.
type questions struct {
	engine   *pawl.Engine // nil: that of the step
	recaster Recaster
	b        *Backtest
	run      pawl.Ref

	mu     sync.Mutex
	read   bool
	all    []exchange
	past   past
	recast Recast
	unfit  error // why none of the run's questions can be made as the backtest says
}

// find finds the answered requests of the step, one for each of its occurrences.
func (q *questions) find(ctx context.Context) (past, error) {
	if q.run.Tenant != pawl.InfoOf(ctx).Tenant { // whoever may start runs may have written the backtest
		return past{}, pawl.Fatal(fmt.Errorf("%w: there is no run %s", pawl.ErrNotFound, q.run.ID))
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.past, q.readOnce(ctx)
}

// readOnce reads the run's journal, if that was not done. Caller holds mu.
func (q *questions) readOnce(ctx context.Context) error {
	if q.read {
		return nil
	}
	if q.engine == nil {
		q.engine = pawl.EngineOf(ctx)
	}
	seen := map[string]bool{}
	all, err := exchanges(ctx, q.engine, q.run, func(key string) bool {
		is := pawl.NameOf(key) == q.b.Step
		seen[key] = seen[key] || is
		return is
	})
	var lost *ConversationError
	switch {
	case errors.As(err, &lost): // what it was asked with nobody knows any more
		all = nil
	case errors.Is(err, pawl.ErrNotFound): // the run was deleted
		all, seen = nil, nil
	case err != nil:
		return pawl.Fatal(err)
	}
	steps := 0
	for _, is := range seen {
		if is {
			steps++
		}
	}
	q.past.Absent = steps - len(all)
	all = slices.DeleteFunc(all, func(x exchange) bool {
		switch {
		case !x.answered():
			q.past.Unanswered++
		case x.last.Response == nil && x.last.Value == nil:
			q.past.Absent++
		default:
			return false
		}
		return true
	})
	if len(all) > maxOfRun {
		return pawl.Fatal(fmt.Errorf("%w: run %s has asked %d questions in steps %q; a backtest takes at most %d of a run", pawl.ErrTooLarge, q.run.ID, len(all), q.b.Step, maxOfRun))
	}
	if len(q.b.With) > 0 && len(all) > 0 {
		if q.recaster == nil {
			return pawl.Fatal(fmt.Errorf("%w: nothing here makes questions of %q otherwise", pawl.ErrInput, q.b.Step))
		}
		q.recast, err = q.recaster.Recast(ctx, q.run, q.b.Step, q.b.With)
		switch {
		case errors.Is(err, pawl.ErrInput), errors.Is(err, pawl.ErrNotFound):
			q.unfit = err
		case err != nil:
			return err
		}
	}
	for _, x := range all {
		q.past.Questions = append(q.past.Questions, pastQuestion{
			Step: x.asked.Step, Seq: x.asked.Seq, Was: short(q.said(x.last.Value, x.last.Response)), Cost: x.cost, Took: x.took, Usage: x.usage, Mends: x.mends,
		})
	}
	q.all, q.read = all, true
	return nil
}

// said is what counts of an answer, in one line: its value, its text, or the tools that it asks for.
func (q *questions) said(value json.RawMessage, res *llm.Response) string {
	if len(value) > 0 && q.recast.Counts != nil {
		value = q.recast.Counts(value)
	}
	return decided(value, res)
}

// at returns a question as it was, and as it is asked now. It is gone when its run was deleted, or asked it anew, meanwhile.
func (q *questions) at(ctx context.Context, seq int64) (was *exchange, now *recast, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.readOnce(ctx); err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(q.all, func(x exchange) bool { return x.asked.Seq == seq })
	if i < 0 {
		return nil, nil, pawl.Fatal(fmt.Errorf("%w: run %s has no question at entry %d any more", pawl.ErrNotFound, q.run.ID, seq))
	}
	was = &q.all[i]
	now, err = q.now(ctx, &was.asked)
	return was, now, err
}

// now is a question as it is asked now.
func (q *questions) now(ctx context.Context, was *Asking) (*recast, error) {
	if q.unfit != nil {
		return nil, q.unfit
	}
	if q.recast.Questions == nil {
		return q.b.Change.question(ctx, q.engine, was)
	}
	made, is := q.recast.Questions[was.Step]
	switch {
	case !is:
		return nil, fmt.Errorf("%w: how step %s came to its question is not known any more", pawl.ErrNotFound, was.Step)
	case made.Err != nil:
		return nil, made.Err
	}
	req, prompt, vars, err := made.Call.request(ctx, q.engine, q.run.ID)
	if err != nil {
		return nil, err
	}
	other := &Asking{Made: Made{Model: made.Call.Model, Request: req, Prompt: prompt, Vars: vars, Shape: made.Call.Shape.written()}, Step: was.Step}
	out, err := q.b.Change.question(ctx, q.engine, other)
	if err == nil {
		out.repairs = made.Call.Repairs
	}
	return out, err
}

// Kinds of failures beside those of package llm.
const (
	kindUnfit   = "unfit"   // the change does not fit the question: nobody was asked
	kindInvalid = "invalid" // the answer is none of those that are allowed, and could not be mended
	kindBudget  = "budget"  // there was too little money: nobody was asked, or not to the end
)

// unfits reports whether err says that a question can't be made as the change says.
func unfits(err error) bool {
	var prompt *PromptError
	return errors.Is(err, pawl.ErrInput) || errors.Is(err, pawl.ErrNotFound) || errors.Is(err, pawl.ErrState) || errors.As(err, &prompt)
}

// ask asks a question of a past run anew, changed. Where nothing was asked for want of money it says so.
func (t *backtesting) ask(ctx context.Context, memory *questions, q pastQuestion) (out reasked, money outcome, err error) {
	was, now, err := memory.at(ctx, q.Seq)
	switch {
	case unfits(err): // it may fit others
		out.Kind, out.Error = kindUnfit, err.Error()
		return out, enough, nil
	case err != nil:
		return out, enough, err
	}
	r, err := t.m.route(now.model)
	if err != nil {
		return out, enough, err
	}
	info := pawl.InfoOf(ctx)
	a := &attempt{m: t.m, engine: pawl.EngineOf(ctx), info: info, q: &Call{Shape: now.shape, Repairs: now.repairs}, prompt: now.prompt, vars: now.vars}
	res, err := a.converse(ctx, r, "ask", now.req)
	out.Took, out.Cost, out.Usage, out.Mends = a.took, a.answer.Cost, a.answer.Usage, a.mended
	switch {
	case err == nil:
		is := memory.said(res.Value, &llm.Response{Text: res.Text, ToolCalls: res.ToolCalls})
		out.Is, out.Same = short(is), is == memory.said(was.last.Value, was.last.Response)
		return out, enough, nil
	case ctx.Err() != nil:
		return out, enough, err
	case errors.Is(err, pawl.ErrBudget) && pawl.IsFatal(err):
		out.Kind = kindBudget
		var refused *pawl.BudgetError
		switch {
		case a.asked:
		case errors.As(err, &refused) && refused.Budget.Reserved > 0:
			money = held
		default:
			money = poor
		}
	case unread(err):
		out.Kind = kindInvalid
	case llm.KindOf(err) == llm.Auth, llm.KindOf(err) == llm.QuotaExceeded: // so it is for all questions
		return out, enough, err
	case llm.KindOf(err) == "", !pawl.IsFatal(err) && info.Attempt < stepAttempts:
		return out, enough, err
	default:
		out.Kind = string(llm.KindOf(err))
	}
	out.Error = err.Error()
	return out, money, nil
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

// short is an answer as a report has it. Answers are compared whole.
func short(s string) string {
	const most = 500 // bytes
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
