package sqlite

import (
	"encoding/json"
	"fmt"

	"github.com/pawlrun/pawl"
)

// ended does what the end of a run means to others: its parent, its successor, those who
// queue behind it, the holders of its hooks.
func (t *tx) ended(ch *pawl.Change) error {
	var result json.RawMessage
	for i := range ch.Entries {
		if ch.Entries[i].Kind == pawl.KindResult {
			result = ch.Entries[i].Data
		}
	}
	return t.afterEnd(ch.Run, ch.To.State, result, ch.To.Next)
}

func (t *tx) afterEnd(run int64, state pawl.State, result json.RawMessage, next *pawl.Start) error {
	var info pawl.RunInfo
	var parent int64
	var single, limits string
	_, err := t.one("SELECT id, workflow, parent, parent_key, detached, single, limits FROM runs WHERE key = ?", []any{run}, func(r row) error {
		info = pawl.RunInfo{Key: run, ID: r.str(0), Workflow: r.str(1), ParentKey: r.str(3), Detached: r.int(4) != 0}
		parent, single, limits = r.int(2), r.str(5), r.str(6)
		return nil
	})
	if err != nil {
		return err
	}
	if t.untold[run] {
		t.told = append(t.told, run)
	}
	if limits != "" {
		if err := t.release(run); err != nil {
			return err
		}
	}
	inbox := "DELETE FROM inbox WHERE run = ?"
	switch {
	case next != nil:
		inbox += " AND NOT " + movable
	case state == pawl.Failed: // a retry may come
		inbox += " AND NOT " + lasting
	}
	for _, q := range []string{inbox, "DELETE FROM waits WHERE run = ?"} {
		if _, err := t.exec(q, run); err != nil {
			return err
		}
	}
	if next != nil {
		state = pawl.Completed
	}
	if err := t.unhookAll(run, state); err != nil {
		return err
	}
	if single != "" {
		if _, err := t.exec("UPDATE runs SET single = NULL WHERE key = ?", run); err != nil {
			return err
		}
		if next == nil {
			if err := t.passSingle(single); err != nil {
				return err
			}
		}
	}
	if next != nil {
		next.Run.Single, next.Run.Parent, next.Run.ParentKey, next.Run.Detached = single, parent, info.ParentKey, info.Detached
		if limits != "" {
			if err := json.Unmarshal([]byte(limits), &next.Run.Limits); err != nil {
				return fmt.Errorf("limits of run %s: %w", info.ID, err)
			}
		}
		if err := t.start(next); err != nil {
			return err
		}
		if next.Err != nil {
			return fmt.Errorf("%w: the run that was to go on in its place: %w", pawl.ErrRefused, next.Err)
		}
		return t.inherit(run, next)
	}
	if parent != 0 && !info.Detached {
		_, err := t.deliver(parent, pawl.MsgChild+info.ParentKey, pawl.ChildEnd(info, state, result))
		return err
	}
	return nil
}

// movable are the messages that a run which goes on as another leaves to that one: events
// that it did not take. What lies there for hooks, children and timers was its own.
const movable = "(name LIKE 'event:%' AND name NOT LIKE 'event:$%')"

// lasting are the messages that a failed run keeps for the case that it is retried.
const lasting = "(" + movable + " OR name LIKE 'hook:%' OR name LIKE 'child:%')"

// inherit gives the run that goes on in another's place what was sent to that, its
// attributes and its budgets.
func (t *tx) inherit(run int64, next *pawl.Start) error {
	if _, err := t.exec("UPDATE budgets SET run = ?, run_id = ? WHERE run = ?", next.Key, next.Run.ID, run); err != nil {
		return err
	}
	if _, err := t.exec("INSERT OR IGNORE INTO attrs (run, name, value) SELECT ?, name, value FROM attrs WHERE run = ?", next.Key, run); err != nil {
		return err
	}
	n, err := t.exec("UPDATE inbox SET run = ? WHERE run = ?", next.Key, run)
	if err != nil || n == 0 {
		return err
	}
	if err := t.tie(next.Key); err != nil {
		return err
	}
	for i := range t.b.Granted {
		if c := &t.b.Granted[i]; c.Info.Key == next.Key {
			c.Mail, err = t.inbox(next.Key)
		}
	}
	return err
}

// release gives back the run's places under concurrency limits and lets the next ones in.
func (t *tx) release(run int64) error {
	var keys []string
	err := t.query("SELECT limited FROM slots WHERE run = ?", []any{run}, func(r row) error {
		keys = append(keys, r.str(0))
		return nil
	})
	if err != nil || len(keys) == 0 {
		return err
	}
	if _, err := t.exec("DELETE FROM slots WHERE run = ?", run); err != nil {
		return err
	}
	for _, k := range keys {
		if err := t.admit("limit " + k); err != nil {
			return err
		}
	}
	return nil
}

// admit opens a gate for the first in its queue.
func (t *tx) admit(gate string) error {
	n, err := t.exec("UPDATE runs SET gate = NULL WHERE key = (SELECT key FROM runs WHERE gate = ? ORDER BY rank, key LIMIT 1)", gate)
	t.woke = t.woke || n > 0
	return err
}

// stepAside lets others past a run that was let in under these limits and did not take its
// place: nobody else would tell them.
func (t *tx) stepAside(limits string) error {
	var all []pawl.RunLimit
	if limits == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(limits), &all); err != nil {
		return err
	}
	for _, l := range all {
		if l.Per != 0 {
			continue
		}
		room := false
		_, err := t.one("SELECT count(*) FROM slots WHERE limited = ?", []any{l.Key}, func(r row) error { room = r.int(0) < int64(l.N); return nil })
		if err == nil && room {
			err = t.admit("limit " + l.Key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// passSingle gives a singleton key to the run that has queued for it longest.
func (t *tx) passSingle(single string) error {
	n, err := t.exec("UPDATE runs SET gate = NULL, ties = 1, single = ? WHERE key = (SELECT key FROM runs WHERE gate = ? ORDER BY key LIMIT 1)", single, "singleton "+single)
	t.woke = t.woke || n > 0
	return err
}
