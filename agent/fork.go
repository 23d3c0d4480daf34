package agent

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// Refork is a fork of a run at a step that has asked a model, with the question changed.
type Refork struct {
	Run    pawl.Ref
	Step   string // the step's key, as Asking.Step
	Change Change
	// ID of the new run; "": made of all of the above, so that the same Refork is the same run.
	ID string
	// Options are those of the fork's start, such as pawl.BudgetUSD: see pawl.ForkOptions.
	Options []pawl.StartOption
}

// ReforkError reports a [Refork] that can't be. It wraps what kind of error it is.
type ReforkError struct {
	Run  string
	Step string
	Why  string
	Err  error // pawl.ErrNotFound, pawl.ErrState, pawl.ErrInput, pawl.ErrTooLarge, pawl.ErrConflict
}

func (e *ReforkError) Error() string {
	return fmt.Sprintf("fork run %s at step %q: %v: %s", e.Run, e.Step, e.Err, e.Why)
}

func (e *ReforkError) Unwrap() error { return e.Err }

// ForkAsked forks a run at a step that has asked a model, and asks it there with something
// changed: another model, prompt, instructions. All that the run has recorded before the
// step stays, and all after it runs anew, with the new answer.
//
// What is asked is the question that the run has recorded, changed, and no other: no
// fallback is asked, no cache is looked into, and a prompt is of the version that it was,
// unless Change says otherwise. Of several attempts it is that which was answered, or else the
// last: a step that failed can be asked again too. The answer is read, repaired, streamed and paid
// as that of every call: on the budgets of the fork, and once, as a step of it. Its notes are in the fork's journal,
// with the Change; [Asked], [RunBacktest] and another ForkAsked find it there.
//
// The step may be in a branch. What other branches had recorded by then, in the order of the journal, stays too.
//
// Asked again with the same ID, or with the same Run, Step and Change and no ID, it answers
// with the run that is there: nothing is paid twice. It returns when the fork is durable and
// does not wait for it. The fork runs where its workflow is worked, by that program's Models:
// a model that those do not know fails the step.
//
// Errors are a *ReforkError: ErrNotFound (no such run or step), ErrState (the run has not come
// to the step, or is in it; the run is a child, whose parent would not hear of the answer), ErrInput (the
// step has asked no model, the Change does not fit), ErrTooLarge (the question was too large for a
// note), ErrConflict (ID is that of another run); or what pawl.Engine.Fork returns.
func ForkAsked(ctx context.Context, e *pawl.Engine, f Refork) (pawl.RunInfo, error) {
	bad := func(err error, format string, args ...any) error {
		return &ReforkError{Run: f.Run.ID, Step: f.Step, Why: fmt.Sprintf(format, args...), Err: err}
	}
	info, err := e.Get(ctx, f.Run)
	switch {
	case errors.Is(err, pawl.ErrNotFound):
		return info, bad(pawl.ErrNotFound, "there is no such run")
	case err != nil:
		return info, err
	case info.Parent != "" && !info.Detached:
		return info, bad(pawl.ErrState, "it is a child of run %s, which would not hear of the answer; fork that, before it starts the child", info.Parent)
	}
	was, err := lastAsked(ctx, e, info, f.Step)
	if err != nil {
		return info, err
	}
	if _, err := f.Change.question(ctx, e, was); err != nil {
		if errors.Is(err, pawl.ErrInput) || errors.Is(err, pawl.ErrNotFound) {
			err = bad(err, "the change does not fit the question")
		}
		return info, err
	}
	want := forkedAt{Run: info.ID, Step: f.Step, Seq: was.Seq, Change: f.Change}
	id := cmp.Or(f.ID, want.id(info.Tenant))
	if old, err := e.Get(ctx, pawl.Ref{Tenant: info.Tenant, ID: id}); err == nil {
		if is, err := readForked(ctx, e, info.Tenant, id); err != nil || old.Forked != info.ID || !is.same(&want) {
			return old, errors.Join(notThere(err), bad(pawl.ErrConflict, "run %s is there, and is not this fork; give the fork another ID", id))
		}
		old.Existed = true
		return old, nil
	} else if !errors.Is(err, pawl.ErrNotFound) {
		return info, err
	}
	if err := want.write(ctx, e, info.Tenant, id); err != nil {
		if errors.Is(err, pawl.ErrConflict) {
			err = bad(pawl.ErrConflict, "another fork was begun under the ID %s; give this one another", id)
		}
		return info, err
	}
	// A taken id is never to give another one: the step would not find what it is to ask.
	opts := append(append([]pawl.StartOption(nil), f.Options...), pawl.OnConflict(pawl.ReturnExisting))
	return e.Fork(ctx, pawl.Ref{Tenant: info.Tenant, ID: info.ID}, pawl.ForkOptions{From: f.Step, ID: id, Options: opts})
}

// lastAsked finds the question of a step that a fork of it asks again.
func lastAsked(ctx context.Context, e *pawl.Engine, run pawl.RunInfo, step string) (*Asking, error) {
	bad := func(err error, format string, args ...any) error {
		return &ReforkError{Run: run.ID, Step: step, Why: fmt.Sprintf(format, args...), Err: err}
	}
	ref := pawl.Ref{Tenant: run.Tenant, ID: run.ID}
	ended, begun, other := false, false, pawl.Kind(0)
	for entry, err := range e.Journal(ctx, ref) {
		switch {
		case err != nil:
			return nil, err
		case entry.Key != step || step == "":
		case entry.Kind == pawl.KindStep:
			ended = true
		case entry.Kind == pawl.KindAttempt, entry.Kind == pawl.KindNote, entry.Kind == pawl.KindAttributes && entry.Attempt > 0:
			begun = true
		default:
			other = entry.Kind
		}
	}
	switch {
	case ended:
	case begun:
		return nil, bad(pawl.ErrState, "the run is in that step; wait until it has ended, or cancel the run")
	case other != 0:
		return nil, bad(pawl.ErrInput, "it is no step: the journal has a %s there", other)
	case strings.Contains(step, "$child:"):
		return nil, bad(pawl.ErrInput, "it is of a child of the run; that is a run of its own")
	case run.State.Terminal():
		return nil, bad(pawl.ErrNotFound, "the run has no such step; its questions are those that Asked returns")
	default:
		return nil, bad(pawl.ErrState, "the run has not come to a step of that key yet; it is %s", run.State)
	}
	asked := false
	found, err := exchanges(ctx, e, ref, func(key string) bool {
		asked = asked || key == step
		return key == step
	})
	switch {
	case err != nil:
		return nil, err
	case len(found) > 0:
		return &found[0].asked, nil
	case asked:
		return nil, bad(pawl.ErrTooLarge, "its question was too large for a note, so it is not known any more")
	}
	return nil, bad(pawl.ErrInput, "it is no step that has asked a model")
}

// forkSpace has what forks are to ask, by the run. The core keeps none of it: it stays when the run is deleted.
const forkSpace = "agent.forks"

// forkedAt tells a fork's step what to ask.
type forkedAt struct {
	Run    string `json:"run"` // the original
	Step   string `json:"step"`
	Seq    int64  `json:"seq"` // of the question's note
	Change Change `json:"change"`
}

// id is made of what the fork is to ask.
func (f *forkedAt) id(tenant string) string {
	data, _ := json.Marshal([]any{tenant, f.Run, f.Step, f.Change}) // write reports a change without a JSON form
	sum := sha256.Sum256(data)
	return "fork-" + hex.EncodeToString(sum[:8])
}

func (f *forkedAt) same(g *forkedAt) bool { return f.id("") == g.id("") }

func forkKey(tenant, id string) string {
	sum := sha256.Sum256([]byte(tenant + "\x00" + id))
	return hex.EncodeToString(sum[:])
}

// write leaves word for a fork that is about to start. Whoever did so before must have said the same: pawl.ErrConflict.
func (f *forkedAt) write(ctx context.Context, e *pawl.Engine, tenant, id string) error {
	data, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("%w: the change has no JSON form: %w", pawl.ErrInput, err)
	}
	_, err = e.Write(ctx, pawl.Put{Space: forkSpace, Key: forkKey(tenant, id), Data: data})
	if errors.Is(err, pawl.ErrConflict) {
		is, rerr := readForked(ctx, e, tenant, id)
		if rerr != nil {
			return rerr
		}
		if is.same(f) {
			return nil
		}
	}
	return err
}

func readForked(ctx context.Context, e *pawl.Engine, tenant, id string) (*forkedAt, error) {
	rec, err := e.Record(ctx, forkSpace, forkKey(tenant, id))
	if err != nil {
		return nil, err
	}
	f := &forkedAt{}
	if err := json.Unmarshal(rec.Data, f); err != nil {
		return nil, fmt.Errorf("record %q of %s: %w", rec.Key, forkSpace, err)
	}
	return f, nil
}

// notThere is nil for an error that only says so.
func notThere(err error) error {
	if errors.Is(err, pawl.ErrNotFound) {
		return nil
	}
	return err
}

// forked returns what a step is to ask in place of what its code says; nil: nothing, as the
// run is no fork by ForkAsked at that step.
func (a *attempt) forked(ctx context.Context) (*forkedAt, error) {
	if a.info.ForkedFrom == "" {
		return nil, nil
	}
	f, err := readForked(ctx, a.engine, a.info.Tenant, a.info.RunID)
	if err != nil {
		return nil, notThere(err)
	}
	if f.Run != a.info.ForkedFrom || f.Step != a.info.Step {
		return nil, nil
	}
	return f, nil
}

// Forked tells how a question differs from that of the run that this one was forked of.
type Forked struct {
	Run    string       `json:"run"`
	Change Change       `json:"change"`
	At     int          `json:"at,omitempty"`  // the message that was changed
	Was    *llm.Message `json:"was,omitempty"` // and what it was; nil: none was
}

// fromRun asks what the original of the run has asked, changed.
func (a *attempt) fromRun(ctx context.Context, f *forkedAt) (*Answer, error) {
	ref := pawl.Ref{Tenant: a.info.Tenant, ID: f.Run}
	was, err := askedAt(ctx, a.engine, ref, f.Seq)
	if err != nil {
		return nil, err
	}
	q, err := f.Change.question(ctx, a.engine, was)
	switch {
	case errors.Is(err, pawl.ErrInput), errors.Is(err, pawl.ErrNotFound):
		return nil, pawl.Fatal(err)
	case err != nil:
		return nil, err
	case !q.fits(a.q):
		return nil, pawl.Fatal(&ReforkError{Run: f.Run, Step: f.Step, Err: pawl.ErrState, Why: "its code asks for an answer of another shape than the run did; fork the run without a change"})
	}
	a.prompt, a.vars = q.prompt, q.vars
	a.fork = &Forked{Run: f.Run, Change: f.Change, At: q.at, Was: q.was}
	a.q.Cache, a.q.Known = CacheFor{}, 0
	r, err := a.m.route(q.model)
	if err != nil {
		return nil, err
	}
	return a.converse(ctx, r, "ask", q.req)
}

// askedAt reads one question of a run.
func askedAt(ctx context.Context, e *pawl.Engine, run pawl.Ref, seq int64) (*Asking, error) {
	for a, err := range Asked(ctx, e, run) {
		if errors.Is(err, pawl.ErrNotFound) {
			break
		}
		if err != nil {
			return nil, err
		}
		if a.Seq == seq && a.Request != nil {
			return &a, nil
		}
	}
	return nil, pawl.Fatal(fmt.Errorf("%w: run %s has no question at entry %d any more", pawl.ErrNotFound, run.ID, seq))
}
