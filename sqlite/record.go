package sqlite

import (
	"cmp"
	"context"
	"time"

	"github.com/pawlrun/pawl"
)

// record writes a set of records, if all are of the versions that they are to be of.
func (t *tx) record(w *pawl.Write) error {
	have, err := t.versions(w)
	if err != nil || w.Err != nil {
		return err
	}
	return t.put(w, have)
}

// versions returns those of the records that w writes, expired ones included, and refuses w if one is
// not what it is to be.
func (t *tx) versions(w *pawl.Write) ([]int64, error) {
	have := make([]int64, len(w.Puts))
	for i, p := range w.Puts {
		var live bool
		_, err := t.one("SELECT version, until IS NULL OR until > ? FROM records WHERE space = ? AND key = ?", []any{t.us, p.Space, p.Key}, func(r row) error {
			have[i], live = r.int(0), r.int(1) != 0
			return nil
		})
		if err != nil {
			return nil, err
		}
		if p.If >= 0 && (live && have[i] != p.If || !live && p.If != 0) {
			w.Err = &pawl.RecordConflictError{Space: p.Space, Key: p.Key, Want: p.If}
			return nil, nil
		}
	}
	return have, nil
}

// put writes records over the versions that are there.
func (t *tx) put(w *pawl.Write, have []int64) error {
	w.Versions = make([]int64, len(w.Puts))
	for i, p := range w.Puts {
		var err error
		if p.Data == nil {
			_, err = t.exec("DELETE FROM records WHERE space = ? AND key = ?", p.Space, p.Key)
		} else {
			w.Versions[i] = max(have[i]+1, t.us) // greater than that of any that was deleted
			_, err = t.exec(`INSERT INTO records (space, key, version, until, data) VALUES (?, ?, ?, ?, ?)
				ON CONFLICT (space, key) DO UPDATE SET version = excluded.version, until = excluded.until, data = excluded.data`,
				p.Space, p.Key, w.Versions[i], p.Until, raw(p.Data))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Records implements pawl.Store.
func (s *Store) Records(ctx context.Context, space, prefix, after string, limit int, now time.Time) (out []pawl.Record, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.query(`SELECT key, version, data, until FROM records WHERE space = ? AND key >= ? AND key > ? AND key < ? AND substr(key, 1, length(?)) = ?
			AND (until IS NULL OR until > ?) ORDER BY key LIMIT ?`, []any{space, prefix, after, cmp.Or(pawl.PrefixEnd(prefix), "\xff"), prefix, prefix, now, limit}, func(r row) error {
			out = append(out, pawl.Record{Space: space, Key: r.str(0), Version: r.int(1), Data: r.bytes(2), Until: r.time(3)})
			return nil
		})
	})
	return out, err
}
