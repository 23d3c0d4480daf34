package pawl

import (
	"context"
	"fmt"
	"time"
)

// Replaying says how far a journal is replayed.
type Replaying struct {
	// Entries bounds how many entries of the journal are read, from its beginning. 0: all.
	Entries int64
	// Limit bounds how long the workflow function may take to get there. 0 means 30 s.
	Limit time.Duration
	// Arrived is called once, when the function has come as far as the journal goes: each of its branches is in
	// a durable call that is not recorded, or it has returned. What it does after that is nothing that the run
	// has done. nil: nobody is told.
	Arrived func()
}

// Replay lets a workflow function go through the journal of a run, whatever its state, up to where that ends: so
// that code which watches itself can tell what the run has done. As in [Engine.Check] nothing is written, no body of
// a step is run, and the run itself is not touched. def is code that fits the run, of its workflow's name; it need not
// be registered. If it does not fit, or takes too long, the answer says so in Diverged. ErrNotFound; ErrInput.
func (e *Engine) Replay(ctx context.Context, run Ref, def Definition, how Replaying) (Check, error) {
	info, err := e.Get(ctx, run)
	if err != nil {
		return Check{}, err
	}
	if def == nil || def.definition() == nil || def.definition().name != info.Workflow {
		return Check{}, fmt.Errorf("%w: replay run %s: it is of the workflow %q, and the code is of another", ErrInput, run.ID, info.Workflow)
	}
	if how.Limit <= 0 {
		how.Limit = checkLimit
	}
	found, err := e.check(ctx, []RunInfo{info}, checking{
		defs: map[string]*definition{info.Workflow: def.definition()}, limit: how.Limit, most: how.Entries, told: how.Arrived, ended: true,
	})
	if err != nil {
		return Check{}, err
	}
	return found[0], nil
}
