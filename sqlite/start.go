package sqlite

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
)

const runInsert = `INSERT INTO runs (key, id, tenant, workflow, version, state, epoch, worker, rank, due, gate, priority, created, updated,
	not_before, deadline, parent, parent_key, detached, ties, single, singleton, limits, keep, seed, forked, trace)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id, tenant) DO NOTHING`

// start stores a new run, or tells of the one that is there.
func (t *tx) start(st *pawl.Start) error {
	run := &st.Run
	for n := 2; ; n++ {
		done, err := t.tryStart(st)
		if done || err != nil {
			return err
		}
		// The id is taken.
		old, found, err := t.lookup(run.Tenant, run.ID)
		if err != nil || !found {
			return errors.Join(err, fmt.Errorf("run %s is there and is not", run.ID))
		}
		switch {
		case st.Policy == pawl.Reject:
			st.Info, st.Existed, st.Err = old, true, fmt.Errorf("%w: id %s is taken by a run that is %s", pawl.ErrExists, run.ID, old.State)
			return nil
		case !st.Exact && (st.Policy == pawl.CancelOld || st.Policy == pawl.Queue):
			base := run.ID
			if n > 2 {
				base = base[:len(base)-len(fmt.Sprintf("~%d", n-1))]
			}
			run.ID = fmt.Sprintf("%s~%d", base, n)
			continue
		}
		return t.existing(st, old)
	}
}

// existing answers a start with the run that is there.
func (t *tx) existing(st *pawl.Start, old pawl.RunInfo) error {
	st.Key, st.Info, st.Existed = old.Key, old, true
	if old.Workflow != st.Run.Workflow {
		st.Err = fmt.Errorf("%w: id %s belongs to a run of %s", pawl.ErrConflict, old.ID, old.Workflow)
		return nil
	}
	if old.ID != st.Run.ID {
		return nil // met by its singleton key
	}
	if err := t.flush(); err != nil {
		return err
	}
	_, err := t.one("SELECT data FROM journal WHERE run = ? AND seq = 0", []any{old.Key}, func(r row) error {
		if !bytes.Equal(r.bytes(0), st.Run.Input) {
			st.Err = fmt.Errorf("%w: run %s of %s", pawl.ErrConflict, old.ID, old.Workflow)
		}
		return nil
	})
	return err
}

// tryStart stores the run unless its id is taken.
func (t *tx) tryStart(st *pawl.Start) (done bool, err error) {
	run := &st.Run
	b := t.b
	var gate, rank, due, limits any
	single := text(run.Single)
	if run.Single != "" {
		var holder pawl.RunInfo
		held, err := t.one("SELECT "+runCols+" FROM runs WHERE single = ?", []any{run.Single}, func(r row) error { holder = scanRun(r); return nil })
		if err != nil {
			return false, err
		}
		if held {
			switch st.Policy {
			case pawl.ReturnExisting:
				return true, t.existing(st, holder)
			case pawl.Reject:
				st.Info, st.Existed = holder, true
				st.Err = fmt.Errorf("%w: run %s holds the singleton key", pawl.ErrExists, holder.ID)
				return true, nil
			}
			gate, single = "singleton "+run.Single, nil
		}
	}
	now := !run.NotBefore.After(t.now)
	if now {
		rank = t.rank(run.Priority)
	} else {
		due = run.NotBefore
	}
	if len(run.Limits) > 0 {
		limits = string(mustJSON(run.Limits))
	}
	state, epoch, worker := pawl.Pending, int64(0), int64(0)
	eager := run.Eager && now && gate == nil && limits == nil && st.Copy == nil && b.Worker != 0 && t.room > 0 && t.knows(run.Workflow)
	if eager {
		state, epoch, worker, rank = pawl.Running, 1, b.Worker, nil
	}
	key := t.nextRun + 1
	n, err := t.exec(runInsert, key, run.ID, run.Tenant, run.Workflow, text(run.Version), int64(state), epoch, worker, rank, due, gate,
		orNull(int64(run.Priority)), t.us, t.us, timeOrNull(run.NotBefore), run.Deadline, orNull(run.Parent), text(run.ParentKey),
		orNull(boolean(run.Detached)), boolean(run.Parent != 0 || run.Single != "" || limits != nil), single, text(run.Single), limits, keep(run.Keep), run.Seed, text(run.ForkedFrom), text(run.Trace))
	if err != nil || n == 0 {
		return false, err
	}
	t.nextRun = key
	if gate != nil && st.Policy == pawl.CancelOld {
		if err := t.cancelHolder(run.Single); err != nil {
			return false, err
		}
	}
	st.Key = key
	st.Info = pawl.RunInfo{
		Key: key, ID: run.ID, Tenant: run.Tenant, Workflow: run.Workflow, Version: run.Version, State: state, Epoch: epoch, Worker: worker,
		Priority: run.Priority, Created: t.now, Updated: t.now, NotBefore: run.NotBefore, Deadline: run.Deadline, ParentKey: run.ParentKey,
		ParentRun: run.Parent, Seed: run.Seed, Detached: run.Detached, Keep: run.Keep, Forked: run.ForkedFrom, Trace: run.Trace,
	}
	if g, ok := gate.(string); ok {
		st.Info.Gate = g
	}
	st.Info.Created = time.UnixMicro(t.us).UTC()
	t.append(key, &pawl.Entry{Kind: pawl.KindInput, At: t.now, Data: run.Input})
	if err := t.attrs(key, run.Attrs); err != nil {
		return false, err
	}
	for _, budget := range run.Budgets {
		budget.Name, budget.Tenant, budget.Run = pawl.RunBudgetName(run.ID, budget.Meter), run.Tenant, run.ID
		budget.Roll(t.now)
		if err := t.setBudget(&budget, key); err != nil {
			return false, err
		}
	}
	if st.Copy != nil {
		if err := t.copy(key, st.Copy); err != nil {
			return false, err
		}
	}
	switch {
	case eager:
		t.room--
		b.Granted = append(b.Granted, pawl.Claim{Info: st.Info, Start: st})
	case gate != nil:
	case now:
		t.woke = true
	case b.Due.IsZero() || run.NotBefore.Before(b.Due):
		b.Due = run.NotBefore
	}
	return true, nil
}

// copy gives a fork its first entries.
func (t *tx) copy(run int64, c *pawl.Copy) error {
	if err := t.flush(); err != nil {
		return err
	}
	_, err := t.exec(`INSERT INTO journal (run, seq, kind, key, at, took, data)
		SELECT ?, seq, kind, key, at, took, data FROM journal WHERE run = ? AND seq > 0 AND seq < ?
		AND seq NOT IN (SELECT value FROM json_each(?) WHERE value IS NOT NULL)`, run, c.From, c.Until, string(mustJSON(c.Omit)))
	if err != nil {
		return err
	}
	for _, e := range c.Replace {
		_, err := t.exec("UPDATE journal SET kind = ?, data = ? WHERE run = ? AND seq = ?", kindOf(&e), raw(e.Data), run, e.Seq)
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) cancelHolder(single string) error {
	var key int64
	found, err := t.one("SELECT key FROM runs WHERE single = ?", []any{single}, func(r row) error { key = r.int(0); return nil })
	if err != nil || !found {
		return err
	}
	return t.cancel(key, json.RawMessage(`{"reason":"a newer run was started in its place"}`))
}
