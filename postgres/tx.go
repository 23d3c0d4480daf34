package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pawlrun/pawl"
)

// tx is a write transaction whose statements are queued and go to the server together.
//
// Invariants:
//   - statements run in the order in which they were queued, each with a snapshot of its
//     own (READ COMMITTED): one that comes after a lock sees what the lock waited for;
//   - after one has failed the server skips the rest of what was sent, COMMIT included;
//   - no statement carries a context that a caller can end: a connection that is closed
//     between two statements costs everybody in the batch their answer.
type tx struct {
	c   *pgxpool.Conn
	ctx context.Context
	q   *pgx.Batch

	queued, done int // statements of the last send, and those whose result came back
}

const (
	// patience is how long one try of a transaction may take.
	patience = 15 * time.Second
	// tries is how often a transaction is begun that the server undid for no fault of its own.
	tries = 5
)

// Codes of PostgreSQL's errors.
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	lockTimeout          = "55P03"
	divisionByZero       = "22012"
	uniqueViolation      = "23505"
	transactionRollback  = "40" // the class
)

// write runs fn, which queues statements and may send them, and commits. What fn returns
// rolls back. fn is called again when the server says that nothing was written and that
// trying again may help.
func (s *Store) write(ctx context.Context, what string, fn func(t *tx) error) error {
	return s.writeIn(ctx, what, tries, fn)
}

func (s *Store) writeIn(ctx context.Context, what string, tries int, fn func(t *tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var err error
	for try := range tries {
		if try > 0 {
			time.Sleep(time.Duration(rand.Int64N(int64(time.Millisecond) << (2 * try))))
		}
		if err = s.try(ctx, fn); !passing(err) {
			break
		}
	}
	return s.wrap(what, err)
}

func (s *Store) try(ctx context.Context, fn func(t *tx) error) error {
	wait, cancel := context.WithTimeout(ctx, patience)
	c, err := s.acquire(wait, s.writes)
	cancel()
	if err != nil {
		return err
	}
	defer c.Release() // which closes a connection that is not idle
	inner, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	t := &tx{c: c, ctx: inner, q: &pgx.Batch{}}
	if err = fn(t); err == nil {
		err = t.end()
	}
	if err != nil {
		t.rollback()
	}
	return err
}

// passing reports whether err says that the transaction was undone, and may do better.
func passing(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || errors.Is(err, pawl.ErrUnknownOutcome) {
		return false
	}
	switch pg.Code {
	case serializationFailure, deadlockDetected, lockTimeout,
		uniqueViolation: // of a row that another transaction has made since this one looked
		return true
	}
	return false
}

// refusal reports whether err lies in what was to be written: data that is none (22), a
// constraint (23), more than an index or a row can hold (54). It will never be taken.
func refusal(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || errors.Is(err, pawl.ErrUnknownOutcome) || len(pg.Code) != 5 {
		return false
	}
	return slices.Contains([]string{"22", "23", "54"}, pg.Code[:2])
}

// begin makes what follows a transaction of several sends. Without it all must be queued
// before the first and only send, which the server takes as one transaction.
func (t *tx) begin() { t.exec("begin isolation level read committed") }

// exec queues a statement.
func (t *tx) exec(query string, args ...any) {
	t.q.Queue(query, args...).Exec(func(pgconn.CommandTag) error {
		t.done++
		return nil
	})
}

// count queues a statement; n is called with how many rows it changed.
func (t *tx) count(n func(int64), query string, args ...any) {
	t.q.Queue(query, args...).Exec(func(tag pgconn.CommandTag) error {
		t.done++
		n(tag.RowsAffected())
		return nil
	})
}

// rows queues a query; each is called for every row of its answer.
func (t *tx) rows(each func(r pgx.CollectableRow) error, query string, args ...any) {
	t.q.Queue(query, args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := each(rows); err != nil {
				rows.Close()
				return err
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
		t.done++
		return nil
	})
}

// send has the server do what is queued in a transaction that was begun, and waits.
func (t *tx) send() error {
	if t.q.Len() == 0 {
		return nil
	}
	if !t.begun() {
		return errors.New("statements are sent before the transaction has begun") // they would be one of their own
	}
	return t.sendAll()
}

func (t *tx) sendAll() error {
	q := t.q
	t.q, t.queued, t.done = &pgx.Batch{}, q.Len(), 0
	err := t.c.SendBatch(t.ctx, q).Close()
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == divisionByZero {
		return pawl.ErrFenced // see fence
	}
	return err
}

// end sends what is queued and commits. A transaction that was begun needs a COMMIT; one
// that was not is committed by the end of the send.
func (t *tx) end() error {
	var ended error
	statements := t.q.Len()
	if statements == 0 && !t.begun() {
		return nil
	}
	if t.begun() {
		ended = errUndone
		t.q.Queue("commit").Exec(func(tag pgconn.CommandTag) error {
			if tag.String() == "COMMIT" {
				ended = nil
			}
			return nil
		})
	}
	err := t.sendAll()
	if err == nil {
		return ended
	}
	// Results come back in order. An error that the server reports for a statement came
	// before the commit, and undid everything.
	var pg *pgconn.PgError
	var unsent pgx.ErrPreprocessingBatch
	switch {
	case errors.Is(err, pawl.ErrFenced), errors.As(err, &unsent), pgconn.SafeToRetry(err):
		return err
	case errors.As(err, &pg) && (t.done < statements || strings.HasPrefix(pg.Code, transactionRollback)):
		return err
	}
	return fmt.Errorf("%w: commit: %w", pawl.ErrUnknownOutcome, err)
}

var errUndone = errors.New("the server rolled the transaction back")

// begun reports whether a transaction is open on the connection, or queued to be.
func (t *tx) begun() bool {
	if len(t.q.QueuedQueries) > 0 && strings.HasPrefix(t.q.QueuedQueries[0].SQL, "begin ") {
		return true
	}
	return t.c.Conn().PgConn().TxStatus() != 'I'
}

func (t *tx) rollback() {
	pc := t.c.Conn().PgConn()
	if pc.IsClosed() || pc.TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), time.Second)
	defer cancel()
	if _, err := t.c.Exec(ctx, "rollback"); err != nil {
		_ = pc.Close(ctx) // the server rolls back what nobody can commit any more
	}
}

// fence queues the statement that lets only a worker commit that was not declared dead.
// Where there is no row, it fails, and with it all that follows.
//
// FOR KEY SHARE is the lock for this. It conflicts with DELETE, which is how a worker is
// declared dead: that waits for the commits in flight, and a commit that comes later waits
// for it and then finds no row. It does not conflict with an UPDATE of columns that are in
// no unique index, which is how a heartbeat extends the lease: heartbeats and commits never
// wait for each other. (FOR SHARE would make a heartbeat wait for each commit.)
func (t *tx) fence(worker int64) {
	t.exec("SELECT 1 / count(*) FROM (SELECT FROM workers WHERE id = $1 FOR KEY SHARE) AS lease", worker)
}

// gates queues the locks that make decisions about limits and singletons one after the
// other: of runs with these keys, of runs with these ids, and of gates by name. They are
// taken before any run's row is locked, and in one order, so that transactions do not block
// each other. each is told what was locked. Gates share 1,024 locks, as the server's memory
// for locks is small and a batch may touch thousands of gates.
func (t *tx) gates(schema string, keys []int64, ids, tenants, names []string, each func(gate string)) {
	t.rows(func(row pgx.CollectableRow) error {
		var name string
		var locked bool
		err := row.Scan(&name, &locked)
		each(name)
		return err
	}, `SELECT g.name, pg_advisory_xact_lock(hashtext('pawl gates ' || $5), g.lock) IS NOT NULL FROM (
		SELECT DISTINCT hashtext(name) & 1023 AS lock, name FROM (
			SELECT unnest(array_remove(ARRAY['singleton ' || singleton, gate], NULL) || ARRAY(SELECT 'limit ' || (l->>'key') FROM jsonb_array_elements(limits::jsonb) AS l))
				FROM runs WHERE key = ANY($1::bigint[] || ARRAY(SELECT r.key FROM unnest($2::text[], $3::text[]) AS u (id, tenant) JOIN runs AS r ON r.id = u.id AND r.tenant = u.tenant))
					AND (singleton IS NOT NULL OR gate IS NOT NULL OR limits IS NOT NULL)
			UNION ALL SELECT unnest($4::text[])) AS u (name) ORDER BY 1) AS g`, keys, ids, tenants, names, schema)
}
