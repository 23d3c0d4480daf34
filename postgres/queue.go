package postgres

import (
	"encoding/json"

	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
)

// release gives back the run's places under concurrency limits and lets the next ones in.
func (w *work) release(r *run) error {
	if r.Limits == "" {
		return nil
	}
	var keys []string
	w.rows(func(row pgx.CollectableRow) error {
		var key string
		err := row.Scan(&key)
		keys = append(keys, key)
		return err
	}, "DELETE FROM slots WHERE run = $1 RETURNING limited", r.Key)
	if err := w.send(); err != nil {
		return err
	}
	for _, key := range keys {
		if err := w.lockGate("limit " + key); err != nil {
			return err
		}
		if err := w.admit(key); err != nil {
			return err
		}
	}
	return nil
}

// admit lets in the first in the queue behind a limit, whose lock is held.
func (w *work) admit(limit string) error {
	next, err := w.first("limit "+limit, "rank, key")
	if err == nil && next != nil {
		next.Gate, next.dirty, w.woke = "", true, true
	}
	return err
}

// stepAside lets others past a run that was let in under these limits and does not take its
// place: nobody else would tell them.
func (w *work) stepAside(limits string) error {
	if limits == "" {
		return nil
	}
	var all []pawl.RunLimit
	if err := json.Unmarshal([]byte(limits), &all); err != nil {
		return err
	}
	for _, l := range all {
		if l.Per != 0 {
			continue
		}
		if err := w.lockGate("limit " + l.Key); err != nil {
			return err
		}
		used := 0
		w.rows(func(row pgx.CollectableRow) error { return row.Scan(&used) }, "SELECT count(*) FROM slots WHERE limited = $1", l.Key)
		if err := w.send(); err != nil {
			return err
		}
		if used < l.N {
			if err := w.admit(l.Key); err != nil {
				return err
			}
		}
	}
	return nil
}

// passSingle gives a singleton key to the run that has queued for it longest.
func (w *work) passSingle(single string) error {
	next, err := w.first("singleton "+single, "key")
	if err != nil || next == nil {
		return err
	}
	w.exec("UPDATE runs SET single = $1 WHERE key = $2", single, next.Key)
	next.Gate, next.single, next.ties, next.dirty, w.woke = "", single, true, true, true
	return nil
}

// first finds the first run in the queue behind a gate, whose lock is held.
func (w *work) first(gate, order string) (*run, error) {
	not := []int64{}
	for {
		var key int64
		w.rows(func(row pgx.CollectableRow) error { return row.Scan(&key) },
			"SELECT key FROM runs WHERE gate = $1 AND key <> ALL($2::bigint[]) ORDER BY "+order+" LIMIT 1", gate, not)
		if err := w.send(); err != nil || key == 0 {
			return nil, err
		}
		r, err := w.run(key)
		if err != nil {
			return nil, err
		}
		if r != nil && r.Gate == gate {
			return r, nil
		}
		not = append(not, key) // it was let in or ended by this very transaction, or since the query
	}
}

// lockGate takes the lock of a gate that was not known to be needed.
func (w *work) lockGate(name string) error {
	if w.held[name] {
		return nil
	}
	w.gates(w.s.schema, nil, nil, nil, []string{name}, w.gate)
	return w.send()
}
