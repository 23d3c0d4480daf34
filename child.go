package pawl

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
)

// Child is a run that another run started.
type Child[Out any] struct {
	key      string
	id       string
	detached bool
}

type childEntry struct {
	ID       string `json:"id"`
	Run      int64  `json:"run"`
	Detached bool   `json:"detached,omitempty"`
}

// childEnd is what a child's end tells its parent.
type childEnd struct {
	ID       string          `json:"id"`
	Run      int64           `json:"run"`
	Workflow string          `json:"workflow"`
	State    State           `json:"state"`
	Result   json.RawMessage `json:"result,omitempty"` // or a Failure
}

// ChildEnd is the message that a store sends to the parent of a run that ended: result is
// the data of the run's KindResult entry.
func ChildEnd(child RunInfo, s State, result json.RawMessage) json.RawMessage {
	return mustJSON(childEnd{ID: child.ID, Run: child.Key, Workflow: child.Workflow, State: s, Result: result})
}

// childOf is the run key of the child whose end data tells; zero: it tells of none.
func childOf(data json.RawMessage) int64 {
	var end childEnd
	if decode("a child's end", data, &end) != nil {
		return 0
	}
	return end.Run
}

func (r *live) attach(child int64) {
	if r.children == nil {
		r.children = map[int64]bool{}
	}
	r.children[child] = true
}

// Call runs the workflow as a child of the run and returns its result. While it waits, the
// parent holds no place among the running. A child that failed or was cancelled is a
// *RunError; a child is cancelled with its parent.
func (w *Workflow[In, Out]) Call(c *Context, in In, opts ...StartOption) (Out, error) {
	child, err := w.Spawn(c, in, opts...)
	if err != nil {
		var zero Out
		return zero, err
	}
	return child.Wait(c)
}

// Spawn starts the workflow as a child of the run, in one transaction with the journal
// entry that says so, and does not wait for it. A child that has not ended when its parent
// ends is cancelled, unless it was started with [Detach]. With [ID] a start may meet a run
// that is there already: if its input is the same, the child is that run, and it is not
// cancelled with the parent.
func (w *Workflow[In, Out]) Spawn(c *Context, in In, opts ...StartOption) (*Child[Out], error) {
	ch, key, err := c.spawn(w.def.name, func() (*definition, error) { return &w.def, nil }, in, opts)
	if err != nil {
		return nil, err
	}
	return &Child[Out]{key: key, id: ch.ID, detached: ch.Detached}, nil
}

// spawn starts a child of a workflow. It is found only where there is none on record yet: a replay needs no more than the record.
func (c *Context) spawn(name string, find func() (*definition, error), in any, opts []StartOption) (ch childEntry, key string, err error) {
	b, r := c.b, c.b.r
	if err := b.enter("Spawn", name); err != nil {
		return ch, "", err
	}
	defer b.exit()
	key = b.nextKey("$child:" + name)
	act := c.act
	if e := c.recorded(KindChild, key); e != nil {
		switch {
		case e.Failed:
			return ch, "", e.Failure().err()
		case !e.renews():
			return ch, key, decode("a child's entry", e.Data, &ch)
		}
		act = c.actAgain
	}
	// What the code alone decides is refused before act: a replay must not stop at it.
	data, err := encode("input of "+name, in, r.e.opt.MaxPayload)
	if err != nil {
		return ch, "", err
	}
	def, err := find()
	if err != nil {
		return ch, "", err
	}
	start, err := r.e.prepare(r.ctx, def, data, append([]StartOption{Tenant(r.info.Tenant)}, opts...)) // keys are made with the tenant
	if err != nil {
		return ch, "", err
	}
	if err := act(); err != nil {
		return ch, "", err
	}
	start.Run.Parent, start.Run.ParentKey = r.info.Key, key
	if start.Run.Priority == 0 {
		start.Run.Priority = r.info.Priority
	}
	if start.Run.Trace == "" {
		start.Run.Trace = r.info.Trace
	}
	e := Entry{Kind: KindChild, Key: key, At: now()}
	b.commit(func(ch *Change) {
		// The store writes the entry: only it knows whether the start met another run.
		e.Seq = r.nextSeq()
		ch.Entries = append(ch.Entries, e)
		ch.Children = []*Start{start}
	})
	b.tell(e.At)
	if start.Err != nil {
		return ch, "", failureOf(start.Err).err()
	}
	ch = childEntry{ID: start.Info.ID, Run: start.Info.Key, Detached: start.Run.Detached || start.Existed}
	if !ch.Detached {
		r.mu.Lock()
		r.attach(ch.Run)
		r.mu.Unlock()
	}
	return ch, key, nil
}

// ChildEntry is the data that a store writes into the KindChild entry of a start: its
// outcome. A failed start makes a failed entry.
func ChildEntry(s *Start) (data json.RawMessage, failed bool) {
	if s.Err != nil {
		return mustJSON(failureOf(s.Err)), true
	}
	return mustJSON(childEntry{ID: s.Info.ID, Run: s.Info.Key, Detached: s.Run.Detached || s.Existed}), false
}

// ID returns the child's run id.
func (ch *Child[Out]) ID() string { return ch.id }

// Wait returns the child's result; see [Workflow.Call] for its errors. It can be waited
// for once. A child that was started with [Detach], or that is a run which was there already,
// tells this run nothing: ErrMisuse.
func (ch *Child[Out]) Wait(c *Context, opts ...WaitOption) (Out, error) {
	var out Out
	if ch.detached {
		return out, &MisuseError{Call: "Child.Wait", Why: "run " + ch.id + " is on its own (Detach, or an ID that was taken), so its end is not told to this run; " +
			"wait for it in a step, with Attach and Result"}
	}
	data, err := c.childResult(ch.key, opts)
	if err != nil {
		return out, err
	}
	var end childEnd
	if err := decode("a child's end", data, &end); err != nil {
		return out, err
	}
	if end.State != Completed {
		f := &Failure{Message: end.State.String()}
		if err := decode("a child's failure", end.Result, f); err != nil {
			f.Message += "; " + err.Error()
		}
		return out, &RunError{RunID: end.ID, Workflow: end.Workflow, State: end.State, Err: f.err()}
	}
	err = decode("result of "+end.Workflow, end.Result, &out)
	return out, err
}

func (c *Context) childResult(key string, opts []WaitOption) (json.RawMessage, error) {
	if err := c.b.enter("Child.Wait", ""); err != nil {
		return nil, err
	}
	defer c.b.exit()
	return c.receive(KindChildEnd, key+".end", MsgChild+key, "", opts)
}

// continueError is what ContinueAs returns for the workflow function to return.
type continueError struct{ start Start }

func (e *continueError) Error() string {
	return "pawl: the run continues as " + e.start.Run.ID + " (return this error from the workflow function)"
}

// ContinueAs ends the run and goes on as a new one of the same workflow, with fresh history
// and the input in: return what it returns. The new run takes over the parent, the
// singleton key, limits, attributes, budgets and the events that were not taken; hooks do
// not move. A handle's Result, [Engine.Signal] and orders by the first id follow the chain.
func ContinueAs[In any](c *Context, in In) error {
	r := c.b.r
	data, err := encode("input of "+r.def.name, in, r.e.opt.MaxPayload)
	if err != nil {
		return err
	}
	if err := r.def.check(data); err != nil {
		return err
	}
	return &continueError{Start{Run: NewRun{
		ID: newID(), Tenant: r.info.Tenant, Workflow: r.info.Workflow, Version: r.def.opts.version,
		Input: data, Seed: newSeed(), Priority: r.info.Priority, Deadline: r.info.Deadline,
		Keep: r.def.opts.keepAfter(Cancelled), Trace: r.info.Trace, Eager: true,
	}}}
}

// undoPrefix begins the keys of compensations that ran.
const undoPrefix = "$undo:"

// isUndo reports whether an entry is a compensation's.
func isUndo(e *Entry) bool {
	name := e.Key[strings.LastIndexByte(e.Key, '/')+1:]
	return e.Kind == KindStep && strings.HasPrefix(name, undoPrefix)
}

// undo is a compensation. Its key is that of its place on the branch that registered it:
// the order among branches is not the same in every replay.
type undo struct {
	key string
	fn  func(context.Context) error
}

// OnFailure registers a compensation: if the run fails or is cancelled, fn runs as a step
// before the run ends, last registered first, even when the run's own scope is cancelled.
// A compensation that fails does not keep the others from running. Register it after the
// step that it undoes. It returns nothing to look at, so a call in a wrong place (see ErrMisuse)
// blocks the run.
func (c *Context) OnFailure(name string, fn func(ctx context.Context) error) {
	b, r := c.b, c.b.r
	err := b.enter("OnFailure", name)
	if err == nil {
		defer b.exit()
		if err = checkName("name of a compensation", name); err != nil {
			err = &MisuseError{Call: "OnFailure", Why: err.Error()}
		} else if fn == nil {
			err = noFunction("OnFailure", name)
		}
	}
	if err != nil { // to go on would mean to forget it
		r.block(err.Error())
		return
	}
	key := b.nextKey(undoPrefix + name)
	r.mu.Lock()
	r.undo = append(r.undo, undo{key, fn})
	r.mu.Unlock()
}

// compensate runs the compensations in a scope that no cancel reaches.
func (r *live) compensate(c *Context) {
	r.mu.Lock()
	todo := r.undo
	r.undo = nil
	slices.Reverse(todo)
	// What ran before a crash is looked up first: a replay ends at the first that did not.
	var ran []undo
	todo = slices.DeleteFunc(todo, func(u undo) bool {
		if r.past.entries[u.key] == nil {
			return false
		}
		ran = append(ran, u)
		return true
	})
	todo = append(ran, todo...)
	r.mu.Unlock()
	if len(todo) == 0 {
		return
	}
	c.b.busy.Store(false)
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	inner := &Context{b: c.b, s: &scope{ctx: ctx, cancel: cancel}}
	for _, u := range todo {
		err := inner.stepAs("OnFailure", u.key, nil, func(ctx context.Context) (json.RawMessage, error) { return nil, u.fn(ctx) }, nil)
		if err != nil {
			r.e.log.Error("pawl: compensation failed", "run", r.info.ID, "compensation", u.key, "error", err)
		}
	}
}
