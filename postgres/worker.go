package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
)

// Join implements pawl.Store.
func (s *Store) Join(ctx context.Context, w pawl.WorkerInfo, until time.Time) (id int64, err error) {
	err = s.write(ctx, "join", func(t *tx) error {
		t.rows(func(row pgx.CollectableRow) error { return row.Scan(&id) },
			"INSERT INTO workers (name, session, started, until) VALUES ($1, $2, $3, $4) RETURNING id", clean(w.Name), s.session(), microOr0(w.Started), until.UnixMicro())
		return nil
	})
	return id, err
}

// Beat implements pawl.Store. It is one statement that may be given up with ctx: whether it
// took effect the next one will tell.
func (s *Store) Beat(ctx context.Context, worker int64, now, until time.Time) error {
	c, err := s.acquire(ctx, s.beats)
	if err != nil {
		return s.wrap("heartbeat", err)
	}
	defer c.Release()
	tag, err := c.Exec(ctx, "UPDATE workers SET until = $1 WHERE id = $2", until.UnixMicro(), worker)
	if err == nil && tag.RowsAffected() == 0 {
		err = pawl.ErrFenced
	}
	return s.wrap("heartbeat", err)
}

// Leave implements pawl.Store.
func (s *Store) Leave(ctx context.Context, worker int64, now time.Time) error {
	_, err := s.bury(ctx, worker, now, nil)
	s.hint()
	return err
}

// bury declares a worker dead and frees what it holds. With expired it does so only if its
// lease ended before that time; then it died, and each of its runs has a strike: the first
// one if its journal has grown since the last. It reports whether the worker is dead now.
//
// The first statement waits for the worker's commits in flight (see fence). Those after it
// have snapshots of their own: they see what those commits have left to the worker.
func (s *Store) bury(ctx context.Context, worker int64, now time.Time, expired *time.Time) (dead bool, err error) {
	us := now.UnixMicro()
	tries := tries
	if expired != nil { // the next claim tries again
		tries = 1
		s.interrupt(ctx, worker, *expired)
	}
	err = s.writeIn(ctx, "free the runs of a worker", tries, func(t *tx) error {
		dead = expired == nil
		t.begin()
		if dead {
			t.exec("DELETE FROM workers WHERE id = $1", worker)
		} else {
			t.exec("SET LOCAL lock_timeout = '500ms'") // a commit that got stuck must not hold up whoever claims
			t.count(func(n int64) { dead = n > 0 }, "DELETE FROM workers WHERE id = $1 AND until < $2", worker, expired.UnixMicro())
		}
		var limits []string
		t.rows(func(row pgx.CollectableRow) error {
			var limit string
			err := row.Scan(&limit)
			limits = append(limits, "limit "+limit)
			return err
		}, "SELECT DISTINCT s.limited FROM slots AS s JOIN runs AS r ON r.key = s.run WHERE r.worker = $1", worker)
		if err := t.send(); err != nil || !dead {
			return err
		}
		if len(limits) > 0 {
			t.gates(s.schema, nil, nil, nil, limits, func(string) {})
		}
		alone := false
		t.rows(func(row pgx.CollectableRow) error {
			var solo bool
			err := row.Scan(&solo)
			alone = alone || solo
			return err
		}, "SELECT solo FROM runs WHERE worker = $1 ORDER BY key FOR UPDATE", worker)
		if err := t.send(); err != nil {
			return err
		}
		if len(limits) > 0 {
			t.exec("DELETE FROM slots WHERE run IN (SELECT key FROM runs WHERE worker = $1)", worker)
			t.exec("UPDATE runs SET gate = NULL, changed = DEFAULT WHERE gate = ANY($1::text[])", limits)
		}
		const free = "state = $2, worker = 0, rank = $3 - coalesce(priority, 0) * 1000000::bigint, updated = $3, changed = DEFAULT WHERE worker = $1"
		strike := ""
		switch {
		case expired == nil:
		case alone: // the run on trial did it: the others keep the strikes that they had
			strike = "strikes = coalesce(strikes, 0) + solo::integer, solo = false, "
		default:
			strike = `strikes = CASE WHEN (SELECT max(seq) FROM journal WHERE run = runs.key) > coalesce(mark, 0) THEN 1 ELSE coalesce(strikes, 0) + 1 END,
				mark = (SELECT max(seq) FROM journal WHERE run = runs.key), solo = false, `
		}
		t.exec("UPDATE runs SET "+strike+free, worker, int16(pawl.Pending), us)
		return nil
	})
	return dead && err == nil, err
}

// interrupt ends the transactions in which a worker whose lease has ended was stopped: they
// hold its row (see fence) for as long as the server lets them be idle. A worker that was
// not stopped loses a connection, and with it nothing but what it may not commit any more.
// That this is not permitted, or fails, is no error: the server ends them in the end.
func (s *Store) interrupt(ctx context.Context, worker int64, expired time.Time) {
	c, err := s.acquire(ctx, s.reads)
	if err != nil {
		return
	}
	defer c.Release()
	_, _ = c.Exec(ctx, `SELECT pg_terminate_backend(a.pid) FROM workers AS w JOIN pg_stat_activity AS a ON a.application_name = w.session
		WHERE w.id = $1 AND w.until < $2 AND a.datname = current_database() AND a.state LIKE 'idle in transaction%'
		AND a.state_change < clock_timestamp() - interval '200 ms'`, worker, expired.UnixMicro())
}
