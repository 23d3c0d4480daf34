package dbchange

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/trigger"
)

// Refusal is a row that can't start a run: its workflow does not take it. It does not stop those behind it.
type Refusal struct {
	Run    string          `json:"run"` // the id that its run would have
	Reason string          `json:"reason"`
	At     time.Time       `json:"at"`
	Change json.RawMessage `json:"change,omitempty"` // left out if it is larger than 64 KiB: Reason says what the row is found by

	again bool // it was refused before, and is not counted again
}

const (
	refusedFor  = 30 * 24 * time.Hour
	mostRefused = 64 << 10
	atOnce      = 256 // starts that wait for one commit
)

// start starts the runs of rows, as many at once as share a commit. An error means that it is not known of some whether they
// have; then all are started again.
func (w *work) start(ctx context.Context, rows []row) (started int, refused []Refusal, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(atOnce, len(rows)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(rows)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				no, err := w.one(ctx, &rows[i])
				if err != nil {
					cancel(err)
					return
				}
				if no != nil {
					mu.Lock()
					refused = append(refused, *no)
					mu.Unlock()
				}
			}
		})
	}
	workers.Wait()
	if ctx.Err() != nil {
		return 0, nil, fmt.Errorf("start its runs: %w", context.Cause(ctx))
	}
	return len(rows) - len(refused), refused, nil
}

// one starts the run of a row, or finds it.
func (w *work) one(ctx context.Context, r *row) (*Refusal, error) {
	if !w.holds() {
		return nil, errLost
	}
	if r.err != nil {
		no := &Refusal{Run: r.id, Reason: fmt.Sprintf("the row %s: %v", r.name, r.err), At: time.Now().UTC()}
		if r.odd {
			_, err := w.e.Record(ctx, refusedSpace+w.src.Tenant, w.refusedKey(r.id))
			if err != nil && !errors.Is(err, pawl.ErrNotFound) {
				return nil, err
			}
			no.again = err == nil
		}
		return no, nil
	}
	input, err := json.Marshal(r.change)
	refuse := func(reason string) (*Refusal, error) {
		no := &Refusal{Run: r.id, Reason: reason, At: time.Now().UTC()}
		if len(input) <= mostRefused {
			no.Change = input
		}
		if no.Change == nil {
			no.Reason = fmt.Sprintf("the row %s: %s", r.name, reason)
		}
		return no, nil
	}
	if err != nil {
		return refuse(fmt.Sprintf("it is not JSON: %v", err))
	}
	info, err := w.e.StartRun(ctx, w.src.Workflow, input, w.src.options(r.id)...)
	switch {
	case err == nil && info.ID != r.id:
		return refuse(fmt.Sprintf("run %s holds the singleton key of workflow %s", info.ID, w.src.Workflow))
	case err == nil:
		return nil, nil
	case errors.Is(err, pawl.ErrUnknownOutcome):
		return nil, err
	case errors.Is(err, pawl.ErrConflict):
		info, gerr := w.e.Get(ctx, pawl.Ref{Tenant: w.src.Tenant, ID: r.id})
		if gerr != nil {
			return nil, gerr
		}
		if info.Attrs[trigger.TriggerAttribute] == w.src.ID { // the row was changed after its run was started
			return nil, nil
		}
		return refuse(err.Error() + "; that run is none of this source")
	case errors.Is(err, pawl.ErrInput), errors.Is(err, pawl.ErrTooLarge), errors.Is(err, pawl.ErrEncoding):
		return refuse(err.Error())
	}
	return nil, err
}

// refusedKey is where a refused row is kept.
func (w *work) refusedKey(run string) string { return w.src.ID + "/" + tail(run) }

// Refused returns a page of the rows of a source that could not start a run, in no order that means anything, from behind the one whose
// run is after on. They are kept for 30 days. limit is as of List.
func (s Sources) Refused(ctx context.Context, tenant, id, after string, limit int) (out []Refusal, err error) {
	if after != "" {
		after = id + "/" + tail(after)
	}
	page, err := s.Engine.Records(ctx, refusedSpace+tenant, id+"/", after, limit)
	for _, record := range page {
		var r Refusal
		if err := json.Unmarshal(record.Data, &r); err != nil {
			return nil, fmt.Errorf("database source %s: a refused row can't be read: %w", id, err)
		}
		out = append(out, r)
	}
	return out, err
}
