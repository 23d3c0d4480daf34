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
	since  time.Time
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
	// tail is how far back the journal of a run is looked at that was not known.
	tail = 200
	// remembered is how long a run is known of which nothing is heard.
	remembered = time.Minute
	// longest is more than a transaction of this package lasts; those of other programs in
	// the same server must not hold the cursor back for as long as they go on.
	longest = time.Minute
)

// News implements pawl.Store.
func (s *Store) News(ctx context.Context, now time.Time) (pawl.NewsReader, error) {
	r := &newsReader{s: s, since: now, known: map[int64]*told{}}
	err := s.read(ctx, "begin to read news", func(c *pgxpool.Conn) error {
		return r.look(ctx, c, now, func(t pgx.Tx) error {
			held, err := r.held(ctx, t)
			for run, seq := range held {
				r.known[run] = &told{seq: seq, seen: r.since}
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
		if err == nil && (r.known[info.Key] == nil || r.known[info.Key].changed != by) {
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
		r.since = now
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
	if err := r.entries(ctx, t, now, out, at, more); err != nil {
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

// entries fills in what was appended to the journals of runs. Of a run that was not known,
// that is what is not older than the reader, or than what it remembers.
func (r *newsReader) entries(ctx context.Context, t pgx.Tx, now time.Time, out []pawl.News, at map[int64]int, runs []int64) error {
	since := now.Add(-remembered)
	if r.since.After(since) {
		since = r.since
	}
	after, from := make([]int64, len(runs)), make([]int64, len(runs))
	for i, run := range runs {
		if k := r.known[run]; k != nil {
			after[i] = k.seq
			continue
		}
		after[i], from[i] = -2, since.UnixMicro()
		if !out[at[run]].Run.Created.Before(r.since) {
			after[i], from[i] = -1, 0
		}
	}
	rows, err := t.Query(ctx, `SELECT e.seq, e.kind, e.key, e.at, e.took, NULL::bytea, 0, k.run FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS k (run, after, since), LATERAL (
			SELECT * FROM journal AS j WHERE j.run = k.run AND j.seq > CASE WHEN k.after >= -1 THEN k.after ELSE (SELECT max(seq) FROM journal WHERE run = k.run) - $4 END
			AND j.at >= k.since ORDER BY j.seq LIMIT $5) AS e ORDER BY k.run, e.seq`, runs, after, from, tail, maxNews)
	if err != nil {
		return fmt.Errorf("journals: %w", err)
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (none struct{}, err error) {
		var run, at64, took int64
		var kind int32
		var e pawl.Entry
		err = row.Scan(&e.Seq, &kind, &e.Key, &at64, &took, (*[]byte)(&e.Data), &e.Size, &run)
		e.Kind, e.Failed, e.Attempt = pawl.Kind(kind&127), kind&128 != 0, int(kind>>8)
		e.At, e.Took = fromMicro(&at64), time.Duration(took)
		n := &out[at[run]]
		n.Entries = append(n.Entries, e)
		return none, err
	})
	return err
}

// Close implements pawl.NewsReader.
func (*newsReader) Close() error { return nil }
