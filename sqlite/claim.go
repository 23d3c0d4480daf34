package sqlite

import (
	"context"
	"encoding/json"
	"time"

	"github.com/pawlrun/pawl"
)

// Join implements pawl.Store.
func (s *Store) Join(ctx context.Context, w pawl.WorkerInfo, until time.Time) (id int64, err error) {
	err = s.write(func(t *tx) error {
		_, err := t.one("INSERT INTO workers (name, started, until) VALUES (?, ?, ?) RETURNING id", []any{w.Name, w.Started, until}, func(r row) error {
			id = r.int(0)
			return nil
		})
		return err
	})
	return id, err
}

// Beat implements pawl.Store.
func (s *Store) Beat(ctx context.Context, worker int64, now, until time.Time) error {
	return s.write(func(t *tx) error {
		n, err := t.exec("UPDATE workers SET until = ? WHERE id = ?", until, worker)
		if err == nil && n == 0 {
			err = pawl.ErrFenced
		}
		return err
	})
}

// Leave implements pawl.Store.
func (s *Store) Leave(ctx context.Context, worker int64, now time.Time) error {
	err := s.write(func(t *tx) error {
		t.at(now)
		return t.bury(worker, false)
	})
	s.hint()
	return err
}

// buryAll declares dead whoever had the file open before: the lock on it says that they are.
func (s *Store) buryAll() error {
	return s.write(func(t *tx) error {
		t.at(time.Now())
		return t.buryWhere("true", nil)
	})
}

func (t *tx) buryWhere(cond string, args []any) error {
	var dead []int64
	err := t.query("SELECT id FROM workers WHERE "+cond, args, func(r row) error {
		dead = append(dead, r.int(0))
		return nil
	})
	for _, id := range dead {
		if err == nil {
			err = t.bury(id, true)
		}
	}
	return err
}

// bury frees what a worker holds. If it died, each of its runs has a strike: the first one
// if its journal has grown since the last.
func (t *tx) bury(worker int64, died bool) error {
	if _, err := t.exec("DELETE FROM workers WHERE id = ?", worker); err != nil {
		return err
	}
	var limits []string
	err := t.query("SELECT DISTINCT s.limited FROM slots s JOIN runs r ON r.key = s.run WHERE r.worker = ?", []any{worker}, func(r row) error {
		limits = append(limits, r.str(0))
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := t.exec("DELETE FROM slots WHERE run IN (SELECT key FROM runs WHERE worker = ?)", worker); err != nil {
		return err
	}
	for _, l := range limits {
		if _, err := t.exec("UPDATE runs SET gate = NULL WHERE gate = ?", "limit "+l); err != nil {
			return err
		}
	}
	strike := ""
	if died {
		solo := false
		if _, err := t.one("SELECT 1 FROM runs WHERE worker = ? AND solo = 1 LIMIT 1", []any{worker}, func(row) error { solo = true; return nil }); err != nil {
			return err
		}
		strike = `strikes = CASE WHEN (SELECT max(seq) FROM journal WHERE run = runs.key) > coalesce(mark, 0) THEN 1 ELSE coalesce(strikes, 0) + 1 END,
			mark = (SELECT max(seq) FROM journal WHERE run = runs.key), solo = NULL, `
		if solo { // the run on trial did it: the others keep the strikes that they had
			strike = "strikes = coalesce(strikes, 0) + coalesce(solo, 0), solo = NULL, "
		}
	}
	n, err := t.exec("UPDATE runs SET "+strike+"state = ?, worker = 0, rank = ? - coalesce(priority, 0) * 1000000, updated = ? WHERE worker = ?",
		int64(pawl.Pending), t.us, t.us, worker)
	t.woke = t.woke || n > 0
	return err
}

// Claim implements pawl.Store.
func (s *Store) Claim(ctx context.Context, q pawl.ClaimRequest) (out pawl.Claims, err error) {
	idle, err := s.nothingToClaim(ctx, q, &out)
	if err != nil || idle {
		return out, err
	}
	err = s.write(func(t *tx) error {
		out = pawl.Claims{}
		t.at(q.Now)
		// One whose own lease has ended is left for others to bury: it may get nothing.
		leased, err := t.one("SELECT 1 FROM workers WHERE id = ? AND until >= ?", []any{q.Worker, q.Now}, func(row) error { return nil })
		if err == nil && !leased {
			err = pawl.ErrFenced
		}
		if err != nil {
			return err
		}
		if err := t.buryWhere("until < ?", []any{q.Now}); err != nil {
			return err
		}
		found, err := t.candidates(q)
		if err != nil {
			return err
		}
		out.More = len(found) == q.Limit
		for _, c := range found {
			ok, err := t.pass(c)
			if err == nil && !ok {
				err = t.stepAside(c.limits)
			}
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			claim, err := t.grant(c.key, q.Worker)
			if err != nil {
				return err
			}
			out.Runs = append(out.Runs, claim)
		}
		out.More = out.More || t.woke
		return t.nextDue(&out)
	})
	return out, err
}

// nothingToClaim looks without a transaction whether there is anything to do: an idle
// engine asks every second.
func (s *Store) nothingToClaim(ctx context.Context, q pawl.ClaimRequest, out *pawl.Claims) (idle bool, err error) {
	err = s.read(ctx, func(c *conn) error {
		found, err := c.one(`SELECT 1 WHERE EXISTS (SELECT 1 FROM runs WHERE rank IS NOT NULL AND gate IS NULL)
			OR EXISTS (SELECT 1 FROM runs WHERE due <= ?1) OR EXISTS (SELECT 1 FROM workers WHERE until < ?1)
			OR NOT EXISTS (SELECT 1 FROM workers WHERE id = ?2)`,
			[]any{q.Now, q.Worker}, func(row) error { return nil })
		if err != nil || found {
			return err
		}
		idle = true
		return c.nextDue(out)
	})
	return idle, err
}

func (c *conn) nextDue(out *pawl.Claims) error {
	_, err := c.one("SELECT min(due) FROM runs WHERE due IS NOT NULL", nil, func(r row) error {
		out.Due = r.time(0)
		return nil
	})
	return err
}

type candidate struct {
	key      int64
	rank     int64
	epoch    int64
	priority int
	limits   string
}

// candidates are the runs that are ready, and those that are due, in the order of rank. The
// plus keeps SQLite from sorting all runs of a workflow where an index has the order.
func (t *tx) candidates(q pawl.ClaimRequest) ([]candidate, error) {
	names, err := json.Marshal(q.Workflows)
	if err != nil {
		return nil, err
	}
	var out []candidate
	add := func(r row) error {
		out = append(out, candidate{r.int(0), r.int(1), r.int(2), int(r.int(3)), r.str(4)})
		return nil
	}
	err = t.query(`SELECT key, rank, epoch, priority, limits FROM runs WHERE rank IS NOT NULL AND gate IS NULL
		AND +workflow IN (SELECT value FROM json_each(?)) ORDER BY rank LIMIT ?`, []any{string(names), q.Limit}, add)
	if err != nil {
		return nil, err
	}
	ready := len(out)
	err = t.query(`SELECT key, due - coalesce(priority, 0) * 1000000, epoch, priority, limits FROM runs WHERE due IS NOT NULL AND due <= ? AND rank IS NULL AND gate IS NULL
		AND +workflow IN (SELECT value FROM json_each(?)) ORDER BY due LIMIT ?`, []any{q.Now, string(names), q.Limit}, add)
	if err != nil {
		return nil, err
	}
	return merge(out[:ready:ready], out[ready:], q.Limit), nil
}

// merge takes the lowest ranks of two lists, the first of which is in order.
func merge(ready, due []candidate, limit int) []candidate {
	var out []candidate
	for len(out) < limit && len(ready)+len(due) > 0 {
		if len(due) == 0 || len(ready) > 0 && ready[0].rank <= due[0].rank {
			out, ready = append(out, ready[0]), ready[1:]
		} else {
			out, due = append(out, due[0]), due[1:]
		}
	}
	return out
}

// pass takes a place under each of a run's limits, or puts the run where it waits for one.
func (t *tx) pass(c candidate) (bool, error) {
	if c.limits == "" {
		return true, nil
	}
	var limits []pawl.RunLimit
	if err := json.Unmarshal([]byte(c.limits), &limits); err != nil {
		return false, err
	}
	for _, l := range limits {
		var full bool
		var err error
		if l.Per == 0 {
			_, err = t.one("SELECT count(*) FROM slots WHERE limited = ?", []any{l.Key}, func(r row) error { full = r.int(0) >= int64(l.N); return nil })
			if err == nil && full {
				_, err = t.exec("UPDATE runs SET gate = ?, rank = coalesce(rank, ?), due = NULL WHERE key = ?", "limit "+l.Key, c.rank, c.key)
				return false, err
			}
		} else if c.epoch == 0 {
			var oldest time.Time
			_, err = t.one("SELECT at FROM rates WHERE limited = ? AND at > ? ORDER BY at DESC LIMIT 1 OFFSET ?",
				[]any{l.Key, t.us - l.Per.Microseconds(), l.N - 1}, func(r row) error { oldest = r.time(0); return nil })
			if err == nil && !oldest.IsZero() {
				_, err = t.exec("UPDATE runs SET rank = NULL, due = ? WHERE key = ?", oldest.Add(l.Per), c.key)
				return false, err
			}
		}
		if err != nil {
			return false, err
		}
	}
	for _, l := range limits {
		var err error
		if l.Per == 0 {
			_, err = t.exec("INSERT OR IGNORE INTO slots (limited, run) VALUES (?, ?)", l.Key, c.key)
		} else if c.epoch == 0 {
			if _, err = t.exec("INSERT OR IGNORE INTO rates (limited, at, run) VALUES (?, ?, ?)", l.Key, t.us, c.key); err == nil {
				_, err = t.exec("DELETE FROM rates WHERE limited = ? AND at <= ?", l.Key, t.us-l.Per.Microseconds())
			}
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// Mail implements pawl.Store.
func (s *Store) Mail(ctx context.Context, worker int64) (out []pawl.Mail, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.query("SELECT i.run, i.id, i.name, i.data, i.at FROM inbox i JOIN runs r ON r.key = i.run WHERE r.worker = ? ORDER BY i.id", []any{worker}, func(r row) error {
			out = append(out, pawl.Mail{Run: r.int(0), Message: pawl.Message{ID: r.int(1), Name: r.str(2), Data: r.bytes(3), At: r.time(4)}})
			return nil
		})
	})
	return out, err
}

// Audit implements pawl.Store.
func (s *Store) Audit(ctx context.Context, now time.Time) (out []pawl.Finding, err error) {
	find := func(c *conn) error {
		out = nil
		for _, q := range audits {
			err := c.query(q.query, nil, func(r row) error {
				out = append(out, pawl.Finding{RunID: r.str(0), State: pawl.State(r.int(1)), What: q.what})
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err = s.read(ctx, find); err != nil || len(out) == 0 {
		return nil, err
	}
	err = s.write(func(t *tx) error {
		t.at(now)
		if err := find(t.conn); err != nil {
			return err
		}
		for _, q := range audits {
			if _, err := t.exec(q.mend, t.us); err != nil {
				return err
			}
		}
		t.woke = len(out) > 0
		return nil
	})
	s.hint()
	return out, err
}

// audits are the ways in which a run could wait for ever. Each query names such runs, each
// mend makes them claimable.
var audits = []struct{ what, query, mend string }{
	{
		"it is held by a worker that is gone",
		"SELECT id, state FROM runs WHERE worker <> 0 AND worker NOT IN (SELECT id FROM workers)",
		"UPDATE runs SET worker = 0, state = 1, rank = ? WHERE worker <> 0 AND worker NOT IN (SELECT id FROM workers)",
	},
	{
		"it is running, and no worker holds it",
		"SELECT id, state FROM runs WHERE state = 2 AND worker = 0 AND rank IS NULL",
		"UPDATE runs SET rank = ?, state = 1 WHERE state = 2 AND worker = 0 AND rank IS NULL",
	},
	{
		"it is pending, and neither ready nor due",
		"SELECT id, state FROM runs WHERE state = 1 AND worker = 0 AND rank IS NULL AND due IS NULL AND gate IS NULL",
		"UPDATE runs SET rank = ? WHERE state = 1 AND worker = 0 AND rank IS NULL AND due IS NULL AND gate IS NULL",
	},
	{
		"it waits for nothing: no time, event, hook or child",
		"SELECT id, state FROM runs AS r WHERE " + waitsForNothing,
		"UPDATE runs AS r SET rank = ? WHERE " + waitsForNothing,
	},
	{
		"it has messages, and nobody is told",
		"SELECT id, state FROM runs AS r WHERE " + unheard,
		"UPDATE runs AS r SET rank = ? WHERE " + unheard,
	},
	{
		"it is queued behind a limit that has room or a singleton that is free",
		"SELECT id, state FROM runs AS r WHERE " + behindNothing,
		"UPDATE runs AS r SET gate = NULL, rank = coalesce(rank, ?) WHERE " + behindNothing,
	},
}

const waitsForNothing = `state = 3 AND rank IS NULL AND due IS NULL AND gate IS NULL
	AND NOT EXISTS (SELECT 1 FROM waits w WHERE w.run = r.key) AND NOT EXISTS (SELECT 1 FROM hooks h WHERE h.run = r.key AND h.until IS NULL)
	AND NOT EXISTS (SELECT 1 FROM runs c WHERE c.parent = r.key AND c.state NOT IN (4, 5, 6))`

// A waiting run knows the messages up to seen: they are for waits that it has not come to.
const unheard = `state = 3 AND rank IS NULL AND gate IS NULL AND EXISTS (SELECT 1 FROM inbox i WHERE i.run = r.key AND i.id > coalesce(r.seen, 0))`

// One that was let in and has not been claimed yet will take the place, or step aside.
const behindNothing = `gate IS NOT NULL AND NOT EXISTS (SELECT 1 FROM slots s WHERE gate = 'limit ' || s.limited)
	AND gate NOT IN (SELECT 'limit ' || json_extract(l.value, '$.key') FROM runs a, json_each(a.limits) l WHERE a.rank IS NOT NULL AND a.gate IS NULL AND a.limits IS NOT NULL)
	AND NOT EXISTS (SELECT 1 FROM runs h WHERE h.single IS NOT NULL AND r.gate = 'singleton ' || h.single)`

// Purge implements pawl.Store.
func (s *Store) Purge(ctx context.Context, now time.Time, limit int) (n int, err error) {
	err = s.write(func(t *tx) error {
		var keys []int64
		err := t.query("SELECT key FROM runs WHERE expires IS NOT NULL AND expires <= ? ORDER BY expires LIMIT ?", []any{now, limit}, func(r row) error {
			keys = append(keys, r.int(0))
			return nil
		})
		for _, k := range keys {
			if err == nil {
				err = t.delete(k)
			}
		}
		n = len(keys)
		forget := func(q string) error {
			gone, err := t.exec(q, now, limit)
			n = max(n, int(gone))
			return err
		}
		if err == nil {
			err = forget("DELETE FROM records WHERE rowid IN (SELECT rowid FROM records WHERE until <= ? LIMIT ?)")
		}
		if err == nil {
			err = forget("DELETE FROM hooks WHERE id IN (SELECT id FROM hooks WHERE forget <= ? LIMIT ?)")
		}
		return err
	})
	if err != nil || n == 0 {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		_, err = s.w.exec("PRAGMA incremental_vacuum(500)")
	}
	return n, err
}
