package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pawlrun/pawl"
)

// newsReader is a pawl.NewsReader.
//
// A run's row holds the transaction that wrote it last. Rows that were written since the last
// call are those of transactions that were not over then: the oldest of these is the cursor,
// so that one which commits late is met all the same. A step writes no row of runs: of the
// runs that workers hold, and of those whose rows were written, the end of the journal is
// looked at. That is one look into an index per run under way, and no step pays for it.
//
// Invariant: of a run in known, all entries up to seq were told.
type newsReader struct {
	s      *Store
	cursor string // transactions before it are over, and what they wrote was told
	mark   string // a transaction that had not begun at marked
	marked time.Time
	known  map[int64]*told
}

type told struct {
	seq     int64
	changed string // the transaction whose row was told
	seen    time.Time
}

const (
	// maxNews is how many runs one call tells of.
	maxNews = 5000
	// tail is how far back the journal of a run that was not known is looked at first.
	tail = 200
	// remembered is how long a run is known of which nothing is heard.
	remembered = time.Minute
	// longest is more than a transaction of this package lasts, whose process may stand still: the server ends
	// those that are idle for 10 s (idle_in_transaction_session_timeout). Those of other programs in
	// the same server must not hold the cursor back for as long as they go on.
	longest = time.Minute
)

// News implements pawl.Store.
func (s *Store) News(ctx context.Context, now time.Time) (pawl.NewsReader, error) {
	r := &newsReader{s: s, known: map[int64]*told{}}
	err := s.read(ctx, "begin to read news", func(c *pgxpool.Conn) error {
		return r.look(ctx, c, now, func(t pgx.Tx) error {
			held, err := r.held(ctx, t)
			for run, seq := range held {
				r.known[run] = &told{seq: seq, seen: now}
			}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	// Rows of transactions that are over, while older ones are not, are met again.
	if _, err := r.Next(ctx, now); err != nil && !errors.Is(err, pawl.ErrGap) {
		return nil, err
	}
	return r, nil
}

// look reads in one snapshot, and moves the cursor when all went well.
func (r *newsReader) look(ctx context.Context, c *pgxpool.Conn, now time.Time, read func(t pgx.Tx) error) error {
	t, err := c.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	defer t.Rollback(context.WithoutCancel(ctx))
	var oldest, next string
	if err := t.QueryRow(ctx, "SELECT pg_snapshot_xmin(s)::text, pg_snapshot_xmax(s)::text FROM pg_current_snapshot() AS s").Scan(&oldest, &next); err != nil {
		return err
	}
	if err := read(t); err != nil {
		return err
	}
	switch {
	case r.mark == "" || less(r.mark, oldest) || r.mark == oldest:
		r.mark, r.marked = next, now
	case now.Sub(r.marked) > longest:
		oldest, r.mark, r.marked = r.mark, next, now
	}
	if less(r.cursor, oldest) {
		r.cursor = oldest
	}
	return nil
}

// less compares transaction numbers, which have no leading zeros.
func less(a, b string) bool { return len(a) < len(b) || len(a) == len(b) && a < b }

// held returns the runs that workers hold, and the newest entry of each.
func (r *newsReader) held(ctx context.Context, t pgx.Tx) (map[int64]int64, error) {
	return seqs(t.Query(ctx, "SELECT key, (SELECT max(seq) FROM journal WHERE run = runs.key) FROM runs WHERE worker <> 0"))
}

// newest returns the newest entry of each of some runs.
func newest(ctx context.Context, t pgx.Tx, runs []int64) (map[int64]int64, error) {
	return seqs(t.Query(ctx, "SELECT run, (SELECT max(seq) FROM journal AS j WHERE j.run = k.run) FROM unnest($1::bigint[]) AS k (run)", runs))
}

func seqs(rows pgx.Rows, err error) (map[int64]int64, error) {
	if err != nil {
		return nil, err
	}
	out := map[int64]int64{}
	var run int64
	var seq *int64
	_, err = pgx.ForEachRow(rows, []any{&run, &seq}, func() error {
		out[run] = orNone(seq)
		return nil
	})
	return out, err
}

// Next implements pawl.NewsReader.
func (r *newsReader) Next(ctx context.Context, now time.Time) (out []pawl.News, err error) {
	lost := false
	err = r.s.read(ctx, "read news", func(c *pgxpool.Conn) error {
		return r.look(ctx, c, now, func(t pgx.Tx) error {
			out, lost, err = r.news(ctx, t, now)
			return err
		})
	})
	switch {
	case err != nil:
		return nil, err
	case lost:
		return nil, pawl.ErrGap
	}
	err = r.s.read(ctx, "read attributes", func(c *pgxpool.Conn) error {
		infos := make([]pawl.RunInfo, len(out))
		for i := range out {
			infos[i] = out[i].Run
		}
		err := dress(ctx, c, infos)
		for i := range out {
			out[i].Run = infos[i]
		}
		return err
	})
	return out, err
}

func (r *newsReader) news(ctx context.Context, t pgx.Tx, now time.Time) (out []pawl.News, lost bool, err error) {
	at := map[int64]int{}
	var more []int64 // runs whose journals may have grown
	add := func(run pawl.RunInfo, moved bool) {
		at[run.Key] = len(out)
		out, more = append(out, pawl.News{Run: run, Moved: moved}), append(more, run.Key)
	}
	rows, err := t.Query(ctx, "SELECT "+runCols+", changed::text FROM runs WHERE changed >= $1::text::xid8 ORDER BY changed LIMIT $2", r.cursor, maxNews+1)
	if err != nil {
		return nil, false, err
	}
	changed := map[int64]string{}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (none struct{}, err error) {
		var by string
		info, err := scanRun(row, &by)
		switch k := r.known[info.Key]; {
		case err != nil:
		case k != nil && k.changed == by: // it is met for as long as an older transaction is not over
			k.seen = now
		default:
			changed[info.Key] = by
			add(info.RunInfo, true)
		}
		return none, err
	})
	if err != nil {
		return nil, false, err
	}
	held, err := r.held(ctx, t)
	if err != nil {
		return nil, false, err
	}
	if len(out) > maxNews { // what comes after this snapshot is told
		for run, k := range r.known {
			if _, ok := held[run]; !ok {
				delete(r.known, run)
			} else {
				k.seq, k.seen = max(k.seq, held[run]), now
			}
		}
		return nil, true, nil
	}
	var strange []int64
	for run, seq := range held {
		k := r.known[run]
		if k != nil {
			k.seen = now
		}
		if _, ok := at[run]; !ok && (k == nil || seq > k.seq) {
			strange = append(strange, run)
		}
	}
	if len(strange) > 0 {
		rows, err := t.Query(ctx, "SELECT "+runCols+" FROM runs WHERE key = ANY($1::bigint[])", strange)
		if err != nil {
			return nil, false, err
		}
		if _, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (none struct{}, err error) {
			info, err := scanInfo(row)
			add(info, false)
			return none, err
		}); err != nil {
			return nil, false, err
		}
	}
	if len(more) == 0 {
		return nil, false, nil
	}
	if err := r.entries(ctx, t, out, at, more); err != nil {
		return nil, false, err
	}
	ends, err := newest(ctx, t, more)
	if err != nil {
		return nil, false, err
	}
	for i := range out {
		k := r.known[out[i].Run.Key]
		if k == nil {
			k = &told{}
			r.known[out[i].Run.Key] = k
		}
		k.seen = now
		if by, ok := changed[out[i].Run.Key]; ok {
			k.changed = by
		}
		if k.seq = ends[out[i].Run.Key]; len(out[i].Entries) == maxNews { // the others come next
			k.seq = out[i].Entries[maxNews-1].Seq
		}
	}
	for run, k := range r.known {
		if now.Sub(k.seen) > remembered {
			delete(r.known, run)
		}
	}
	return out, false, nil
}

// entries fills in what was appended to the journals of runs. Of a run that is not known that is what
// transactions wrote that were not over when the reader looked last: had older ones written, the run would
// be known of it. No clock is asked, as those of workers may differ by any time. The journal of such a run is read
// backwards, in steps.
func (r *newsReader) entries(ctx context.Context, t pgx.Tx, out []pawl.News, at map[int64]int, runs []int64) error {
	for back := int64(tail); len(runs) > 0; back *= 10 {
		after := make([]int64, len(runs))
		for i, run := range runs {
			if after[i] = -2; r.known[run] != nil {
				after[i] = r.known[run].seq
			}
			out[at[run]].Entries = nil
		}
		rows, err := t.Query(ctx, `SELECT e.seq, e.kind, e.key, e.at, e.took, NULL::bytea, 0, k.run, k.after = -2 AND e.seq > 0 AND e.seq <= s.start + 1
			FROM unnest($1::bigint[], $2::bigint[]) AS k (run, after),
			LATERAL (SELECT CASE WHEN k.after >= -1 THEN k.after ELSE (SELECT max(seq) FROM journal WHERE run = k.run) - $3 END AS start) AS s,
			LATERAL (SELECT * FROM journal AS j WHERE j.run = k.run AND j.seq > s.start
				AND (k.after >= -1 OR age(j.xmin) BETWEEN 0 AND age($4::text::xid8::xid)) ORDER BY j.seq LIMIT $5) AS e ORDER BY k.run, e.seq`, runs, after, back, r.cursor, maxNews)
		if err != nil {
			return fmt.Errorf("journals: %w", err)
		}
		runs = nil // of which there may be more
		if _, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (none struct{}, err error) {
			var run, at64, took int64
			var kind int32
			var e pawl.Entry
			var edge bool
			err = row.Scan(&e.Seq, &kind, &e.Key, &at64, &took, (*[]byte)(&e.Data), &e.Size, &run, &edge)
			e.Kind, e.Failed, e.Attempt = pawl.Kind(kind&127), kind&128 != 0, int(kind>>8)
			e.At, e.Took = fromMicro(&at64), time.Duration(took)
			n := &out[at[run]]
			if n.Entries = append(n.Entries, e); edge {
				runs = append(runs, run)
			}
			return none, err
		}); err != nil {
			return err
		}
	}
	return nil
}

// Close implements pawl.NewsReader.
func (*newsReader) Close() error { return nil }
