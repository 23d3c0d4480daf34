package postgres

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
)

// early goes on with the runs of insertEarly, and answers starts whose id was taken.
func (w *work) early(list []*fresh) error {
	var ids, tenants []string
	var taken []*pawl.Start
	stored := map[int64]bool{}
	for _, f := range list {
		if f.st.Key != 0 && !stored[f.st.Key] {
			stored[f.st.Key] = true
			if err := w.stored(f); err != nil {
				return err
			}
		} else if p := f.st.Policy; p == pawl.ReturnExisting || p == pawl.Reject || f.st.Exact {
			taken, ids, tenants = append(taken, f.st), append(ids, f.st.Run.ID), append(tenants, f.st.Run.Tenant)
		}
	}
	if len(taken) == 0 {
		return nil
	}
	w.rows(func(row pgx.CollectableRow) error {
		var n int
		var input []byte
		old, err := scanRun(row, &n, &input)
		if err == nil {
			w.met(taken[n-1], old.RunInfo, input)
		}
		return err
	}, `SELECT `+runCols+`, u.n, (SELECT data FROM journal WHERE run = r.key AND seq = 0)
		FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS u (want, space, n) JOIN runs AS r ON r.id = u.want AND r.tenant = u.space`, ids, tenants)
	return w.send() // those that were not found any more are tried again one by one
}

// met answers a start with the run that has its id.
func (w *work) met(st *pawl.Start, old pawl.RunInfo, input []byte) {
	if r := w.runs[old.Key]; r != nil {
		old = r.RunInfo
	}
	if st.Policy == pawl.Reject {
		st.Info, st.Existed, st.Err = old, true, fmt.Errorf("%w: id %s is taken by a run that is %s", pawl.ErrExists, st.Run.ID, old.State)
		return
	}
	w.existing(st, old)
	if st.Err != nil || old.ID != st.Run.ID {
		return
	}
	for _, p := range w.entries { // of this very transaction
		if p.run == old.Key && p.e.Seq == 0 {
			input = p.e.Data
		}
	}
	if !bytes.Equal(input, st.Run.Input) {
		st.Err = fmt.Errorf("%w: run %s of %s", pawl.ErrConflict, old.ID, old.Workflow)
	}
}

func (w *work) existing(st *pawl.Start, old pawl.RunInfo) {
	st.Key, st.Info, st.Existed = old.Key, old, true
	if old.Workflow != st.Run.Workflow {
		st.Err = fmt.Errorf("%w: id %s belongs to a run of %s", pawl.ErrConflict, old.ID, old.Workflow)
	}
}

// start stores a new run, or tells of the one that is there.
func (w *work) start(st *pawl.Start) error {
	n := &st.Run
	base := n.ID
	for suffix, missed := 2, 0; ; {
		done, err := w.tryStart(st)
		if done || err != nil {
			return err
		}
		// The id is taken.
		if !st.Exact && (st.Policy == pawl.CancelOld || st.Policy == pawl.Queue) {
			n.ID = fmt.Sprintf("%s~%d", base, suffix)
			suffix++
			continue
		}
		var old *run
		var input []byte
		w.rows(func(row pgx.CollectableRow) (err error) {
			old, err = scanRun(row, &input)
			return err
		}, "SELECT "+runCols+", (SELECT data FROM journal WHERE run = r.key AND seq = 0) FROM runs AS r WHERE id = $1 AND tenant = $2", n.ID, n.Tenant)
		if err := w.send(); err != nil {
			return err
		}
		if old != nil {
			w.met(st, old.RunInfo, input)
			return nil
		}
		if missed++; missed == 10 { // each time it was deleted between two statements
			return fmt.Errorf("run %s is there and is not", n.ID)
		}
	}
}

// tryStart stores the run unless its id is taken.
func (w *work) tryStart(st *pawl.Start) (done bool, err error) {
	n := &st.Run
	gate, single := "", n.Single
	var holder *run
	if single != "" {
		// With the gate's lock nobody else can take or give back the key.
		if err := w.lockGate("singleton " + single); err != nil {
			return false, err
		}
		if holder, err = w.holder(single); err != nil {
			return false, err
		}
	}
	if holder != nil {
		switch st.Policy {
		case pawl.ReturnExisting:
			w.existing(st, holder.RunInfo)
			if st.Err == nil && holder.ID == n.ID {
				return false, nil // the input is to be compared
			}
			return true, nil
		case pawl.Reject:
			st.Info, st.Existed = holder.RunInfo, true
			st.Err = fmt.Errorf("%w: run %s holds the singleton key", pawl.ErrExists, holder.ID)
			return true, nil
		}
		gate, single = "singleton "+n.Single, ""
	}
	f := w.shape(st, gate, single, w.room > 0)
	st.Key = 0
	w.insert([]*fresh{f})
	if err := w.send(); err != nil || st.Key == 0 {
		return false, err
	}
	if err := w.stored(f); err != nil || holder == nil || st.Policy != pawl.CancelOld {
		return true, err
	}
	old, err := w.run(holder.Key)
	if err == nil {
		err = w.cancel(old, json.RawMessage(`{"reason":"a newer run was started in its place"}`))
	}
	st.Info = w.runs[st.Key].RunInfo // the old one may have ended at once
	return true, err
}

// holder returns the run that holds a singleton key.
func (w *work) holder(single string) (*run, error) {
	var found *run
	w.rows(func(row pgx.CollectableRow) (err error) {
		found, err = scanRun(row)
		return err
	}, "SELECT "+runCols+" FROM runs WHERE single = $1", single)
	if err := w.send(); err != nil || found == nil {
		return nil, err
	}
	if r := w.runs[found.Key]; r != nil {
		return r, nil
	}
	return found, nil
}

// copy gives a fork its first entries.
func (w *work) copy(run int64, c *pawl.Copy) error {
	if err := w.runHooks(); err != nil {
		return err
	}
	w.flushEntries()
	w.exec(`INSERT INTO journal (run, seq, kind, key, at, took, data)
		SELECT $1, seq, kind, key, at, took, data FROM journal WHERE run = $2 AND seq > 0 AND seq < $3 AND seq <> ALL($4::bigint[])`, run, c.From, c.Until, append([]int64{}, c.Omit...))
	for i := range c.Replace {
		e := &c.Replace[i]
		w.exec("UPDATE journal SET kind = $1, data = $2 WHERE run = $3 AND seq = $4", kindOf(e), []byte(e.Data), run, e.Seq)
	}
	return nil
}

func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of our own types
	}
	return b
}
