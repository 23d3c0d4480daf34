package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pawlrun/pawl"
)

// Audit implements pawl.Store.
func (s *Store) Audit(ctx context.Context, now time.Time) (out []pawl.Finding, err error) {
	found := func(what string) func(row pgx.CollectableRow) error {
		return func(row pgx.CollectableRow) error {
			f := pawl.Finding{What: what}
			var state int16
			err := row.Scan(&f.RunID, &state)
			f.State = pawl.State(state)
			out = append(out, f)
			return err
		}
	}
	err = s.read(ctx, "audit", func(c *pgxpool.Conn) error {
		q := &pgx.Batch{}
		for _, a := range audits {
			q.Queue("SELECT id, state FROM runs AS r WHERE " + a.which).Query(func(rows pgx.Rows) error {
				_, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) { return struct{}{}, found(a.what)(row) })
				return err
			})
		}
		return c.SendBatch(ctx, q).Close()
	})
	if err != nil || len(out) == 0 {
		return nil, err
	}
	// Now with a lock on each: what was on its way when it was seen is no finding.
	err = s.write(ctx, "audit", func(t *tx) error {
		out = nil
		t.begin()
		for _, a := range audits {
			t.rows(found(a.what), "UPDATE runs AS r SET "+a.mend+", changed = DEFAULT WHERE key = ANY(ARRAY(SELECT key FROM runs AS r WHERE "+a.which+
				" ORDER BY key FOR UPDATE SKIP LOCKED)) AND "+a.which+" RETURNING id, state", now.UnixMicro())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(out) > 0 {
		s.hint()
	}
	return out, nil
}

// audits are the ways in which a run could wait for ever: which runs do, and what makes
// them claimable. Behind a limit, one that was let in and has not been claimed yet will
// take the place, or step aside.
var audits = []struct{ what, which, mend string }{
	{
		"it is held by a worker that is gone",
		"worker <> 0 AND NOT EXISTS (SELECT FROM workers AS w WHERE w.id = r.worker)",
		"worker = 0, state = 1, rank = $1",
	},
	{
		"it is running, and no worker holds it",
		"state = 2 AND worker = 0 AND rank IS NULL",
		"rank = $1, state = 1",
	},
	{
		"it is pending, and neither ready nor due",
		"state = 1 AND worker = 0 AND rank IS NULL AND due IS NULL AND gate IS NULL",
		"rank = $1",
	},
	{
		"it waits for nothing: no time, event, hook or child",
		`state = 3 AND rank IS NULL AND due IS NULL AND gate IS NULL
			AND NOT EXISTS (SELECT FROM waits AS w WHERE w.run = r.key) AND NOT EXISTS (SELECT FROM hooks AS h WHERE h.run = r.key AND h.until IS NULL)
			AND NOT EXISTS (SELECT FROM runs AS c WHERE c.parent = r.key AND c.state NOT IN (4, 5, 6))`,
		"rank = $1",
	},
	{
		"it has messages, and nobody is told",
		"state = 3 AND rank IS NULL AND gate IS NULL AND EXISTS (SELECT FROM inbox AS i WHERE i.run = r.key AND i.id > coalesce(r.seen, 0))",
		"rank = $1",
	},
	{
		"it is queued behind a limit that has room or a singleton that is free",
		`gate IS NOT NULL AND NOT EXISTS (SELECT FROM slots AS s WHERE r.gate = 'limit ' || s.limited)
			AND gate NOT IN (SELECT 'limit ' || (l->>'key') FROM runs AS a, jsonb_array_elements(a.limits::jsonb) AS l
				WHERE a.rank IS NOT NULL AND a.gate IS NULL AND a.limits IS NOT NULL)
			AND NOT EXISTS (SELECT FROM runs AS h WHERE h.single IS NOT NULL AND r.gate = 'singleton ' || h.single)`,
		"gate = NULL, rank = coalesce(rank, $1)",
	},
}

// Purge implements pawl.Store.
func (s *Store) Purge(ctx context.Context, now time.Time, limit int) (n int, err error) {
	err = s.write(ctx, "purge", func(t *tx) error {
		var keys []int64
		t.begin()
		t.rows(func(row pgx.CollectableRow) error {
			var key int64
			err := row.Scan(&key)
			keys = append(keys, key)
			return err
		}, "SELECT key FROM runs WHERE expires IS NOT NULL AND expires <= $1 ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED", now.UnixMicro(), limit)
		err := t.send()
		if n = len(keys); err == nil && n > 0 {
			t.delete(keys)
		}
		gone := func(count int64) { n = max(n, int(count)) }
		t.count(gone, "DELETE FROM records WHERE (space, key) IN (SELECT space, key FROM records WHERE until <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)", now.UnixMicro(), limit)
		t.count(gone, "DELETE FROM hooks WHERE (token, space) IN (SELECT token, space FROM hooks WHERE forget <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)", now.UnixMicro(), limit)
		return err
	})
	if err != nil {
		n = 0
	}
	return n, err
}
