package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pawlrun/pawl"
)

// page is about how many bytes of data one call of Journal returns.
const page = 4 << 20

// Journal implements pawl.Store.
func (s *Store) Journal(ctx context.Context, run, after int64, limit int) ([]pawl.Entry, error) {
	return s.entries(ctx, run, after, limit, math.MaxInt32)
}

// Index implements pawl.Store.
func (s *Store) Index(ctx context.Context, run, after int64, limit, inline int) ([]pawl.Entry, error) {
	return s.entries(ctx, run, after, limit, inline)
}

// entries reads a page. The sizes are known without the data, which is often stored elsewhere.
func (s *Store) entries(ctx context.Context, run, after int64, limit, inline int) (out []pawl.Entry, err error) {
	err = s.read(ctx, "read a journal", func(c *pgxpool.Conn) error {
		out, err = collect(ctx, c, scanEntry, `SELECT seq, kind, key, at, took, CASE WHEN size <= $5 THEN data END, CASE WHEN size > $5 THEN size ELSE 0 END FROM (
				SELECT *, sum(CASE WHEN size <= $5 THEN size ELSE 0 END) OVER (ORDER BY seq) - CASE WHEN size <= $5 THEN size ELSE 0 END AS before FROM (
					SELECT seq, kind, key, at, took, data, coalesce(octet_length(data), 0) AS size FROM journal WHERE run = $1 AND seq > $2 ORDER BY seq LIMIT $3) AS j) AS k
			WHERE before <= $4 ORDER BY seq`, run, after, limit, page, inline)
		return err
	})
	return out, err
}

func scanEntry(row pgx.CollectableRow) (e pawl.Entry, err error) {
	var kind int32
	var at, took int64
	err = row.Scan(&e.Seq, &kind, &e.Key, &at, &took, (*[]byte)(&e.Data), &e.Size)
	e.Kind, e.Failed, e.Attempt = pawl.Kind(kind&127), kind&128 != 0, int(kind>>8)
	e.At, e.Took = fromMicro(&at), time.Duration(took)
	return e, err
}

// collect returns all rows of a query.
func collect[T any](ctx context.Context, c *pgxpool.Conn, scan func(pgx.CollectableRow) (T, error), query string, args ...any) ([]T, error) {
	rows, err := c.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.AppendRows([]T(nil), rows, scan)
}

// one returns the first row of a query, or ErrNotFound.
func one[T any](ctx context.Context, c *pgxpool.Conn, scan func(pgx.CollectableRow) (T, error), query string, args ...any) (T, error) {
	rows, err := c.Query(ctx, query, args...)
	var t T
	if err != nil {
		return t, err
	}
	t, err = pgx.CollectOneRow(rows, scan)
	if errors.Is(err, pgx.ErrNoRows) {
		err = pawl.ErrNotFound
	}
	return t, err
}

// Result implements pawl.Store.
func (s *Store) Result(ctx context.Context, run int64) (e pawl.Entry, err error) {
	err = s.read(ctx, "read a result", func(c *pgxpool.Conn) error {
		e, err = one(ctx, c, scanEntry, "SELECT seq, kind, key, at, took, data, 0 FROM journal WHERE run = $1 ORDER BY seq DESC LIMIT 1", run)
		return err
	})
	return e, err
}

// Lookup implements pawl.Store.
func (s *Store) Lookup(ctx context.Context, tenant, id string) (info pawl.RunInfo, err error) {
	if !isText(tenant) || !isText(id) {
		return info, pawl.ErrNotFound
	}
	err = s.read(ctx, "look up a run", func(c *pgxpool.Conn) error {
		if info, err = one(ctx, c, scanInfo, "SELECT "+runCols+" FROM runs WHERE id = $1 AND tenant = $2", id, tenant); err != nil {
			return err
		}
		one := []pawl.RunInfo{info}
		err = dress(ctx, c, one)
		info = one[0]
		return err
	})
	return info, err
}

func scanInfo(row pgx.CollectableRow) (pawl.RunInfo, error) {
	r, err := scanRun(row)
	return r.RunInfo, err
}

// dress fills in what runs have in other tables.
func dress(ctx context.Context, c *pgxpool.Conn, runs []pawl.RunInfo) error {
	if len(runs) == 0 {
		return nil
	}
	at := map[int64]*pawl.RunInfo{}
	var keys, parents []int64
	for i := range runs {
		at[runs[i].Key], keys = &runs[i], append(keys, runs[i].Key)
		if p := runs[i].ParentRun; p != 0 {
			parents = append(parents, p)
		}
	}
	q := &pgx.Batch{}
	q.Queue("SELECT run, name, value FROM attrs WHERE run = ANY($1::bigint[])", keys).Query(func(rows pgx.Rows) error {
		var run int64
		var name string
		var value []byte
		_, err := pgx.ForEachRow(rows, []any{&run, &name, &value}, func() error {
			if at[run].Attrs == nil {
				at[run].Attrs = map[string]string{}
			}
			at[run].Attrs[name] = string(value)
			return nil
		})
		return err
	})
	if len(parents) > 0 {
		ids := map[int64]string{}
		q.Queue("SELECT key, id FROM runs WHERE key = ANY($1::bigint[])", parents).Query(func(rows pgx.Rows) error {
			var key int64
			var id string
			_, err := pgx.ForEachRow(rows, []any{&key, &id}, func() error { ids[key] = id; return nil })
			for i := range runs {
				runs[i].Parent = ids[runs[i].ParentRun]
			}
			return err
		})
	}
	return c.SendBatch(ctx, q).Close()
}

// List implements pawl.Store.
func (s *Store) List(ctx context.Context, f pawl.Filter) (out []pawl.RunInfo, err error) {
	if !isText(f.Tenant) || !isText(f.Workflow) || !isText(f.Query) {
		return nil, nil
	}
	var args []any
	arg := func(a any) string {
		args = append(args, a)
		return fmt.Sprintf("$%d", len(args))
	}
	where := []string{"true"}
	and := func(cond string, a any) { where = append(where, cond+arg(a)) }
	if !f.AllTenants {
		and("tenant = ", f.Tenant)
	}
	if f.Query != "" {
		and("id >= ", f.Query)
		if end := pawl.PrefixEnd(f.Query); end != "" {
			and("id < ", end)
		}
	}
	if f.Workflow != "" {
		and("workflow = ", f.Workflow)
	}
	if len(f.States) > 0 {
		var states []string
		for _, st := range f.States { // as text: a partial index has some states
			states = append(states, fmt.Sprint(int(st)))
		}
		where = append(where, "state IN ("+strings.Join(states, ", ")+")")
	}
	if f.Parent != 0 {
		and("parent = ", f.Parent)
	}
	if !f.After.IsZero() {
		and("created >= ", f.After.UnixMicro())
	}
	if !f.Before.IsZero() {
		and("created < ", f.Before.UnixMicro())
	}
	if f.Cursor != 0 {
		and("key < ", f.Cursor)
	}
	for name, value := range f.Attrs {
		if !isText(name) {
			return nil, nil
		}
		where = append(where, "key IN (SELECT run FROM attrs WHERE name = "+arg(name)+" AND value = "+arg([]byte(value))+")")
	}
	limit := f.Limit
	if limit <= 0 {
		limit = 50
	}
	query := "SELECT " + runCols + " FROM runs WHERE " + strings.Join(where, " AND ") + " ORDER BY key DESC LIMIT " + arg(min(limit, 1000))
	err = s.read(ctx, "list runs", func(c *pgxpool.Conn) error {
		if out, err = collect(ctx, c, scanInfo, query, args...); err != nil {
			return err
		}
		return dress(ctx, c, out)
	})
	return out, err
}

// Chunks implements pawl.Store.
func (s *Store) Chunks(ctx context.Context, run int64, stream string, from int64, limit int) (out []pawl.Chunk, err error) {
	err = s.read(ctx, "read a stream", func(c *pgxpool.Conn) error {
		out, err = collect(ctx, c, func(row pgx.CollectableRow) (pawl.Chunk, error) {
			ch := pawl.Chunk{Stream: stream}
			var at int64
			err := row.Scan(&ch.Index, &at, &ch.Closed, (*[]byte)(&ch.Data), &ch.Step, &ch.Attempt, &ch.Epoch, &ch.First)
			ch.At = fromMicro(&at)
			return ch, err
		}, `SELECT idx, at, closed, data, step, attempt, epoch, first FROM (
				SELECT *, sum(size) OVER (ORDER BY idx) - size AS before FROM (
					SELECT idx, at, closed, data, step, attempt, epoch, first, coalesce(octet_length(data), 0) AS size FROM chunks WHERE run = $1 AND stream = $2 AND idx >= $3 ORDER BY idx LIMIT $4) AS c) AS d
			WHERE before <= $5 ORDER BY idx`, run, clean(stream), from, limit, page)
		return err
	})
	return out, err
}

// newestChunks finds the last chunk of each stream of a run by as many looks into the index.
const newestChunks = `WITH RECURSIVE s (stream) AS (
		(SELECT stream FROM chunks WHERE run = $1 ORDER BY stream LIMIT 1)
		UNION ALL SELECT (SELECT stream FROM chunks WHERE run = $1 AND stream > s.stream ORDER BY stream LIMIT 1) FROM s WHERE s.stream IS NOT NULL)
	SELECT s.stream, c.idx, c.closed FROM s, LATERAL (SELECT idx, closed FROM chunks WHERE run = $1 AND stream = s.stream ORDER BY idx DESC LIMIT 1) AS c
	WHERE s.stream IS NOT NULL ORDER BY s.stream`

// Streams implements pawl.Store.
func (s *Store) Streams(ctx context.Context, run int64) (out []pawl.StreamInfo, err error) {
	err = s.read(ctx, "read streams", func(c *pgxpool.Conn) error {
		out, err = collect(ctx, c, func(row pgx.CollectableRow) (pawl.StreamInfo, error) {
			var i pawl.StreamInfo
			err := row.Scan(&i.Name, &i.Tail, &i.Closed)
			if i.Closed {
				i.Tail--
			}
			return i, err
		}, newestChunks, run)
		return err
	})
	return out, err
}

const runByKey = "SELECT " + runCols + " FROM runs WHERE key = $1"

// Stats implements pawl.Store.
func (s *Store) Stats(ctx context.Context, now time.Time) (out pawl.Stats, err error) {
	out.Runs = map[pawl.State]int64{}
	err = s.read(ctx, "count", func(c *pgxpool.Conn) error {
		var state int16
		var n int64
		rows, err := c.Query(ctx, "SELECT state, count(*) FROM runs GROUP BY state")
		if err != nil {
			return err
		}
		if _, err := pgx.ForEachRow(rows, []any{&state, &n}, func() error { out.Runs[pawl.State(state)] = n; return nil }); err != nil {
			return err
		}
		var oldest *int64
		err = c.QueryRow(ctx, `SELECT (SELECT count(*) FROM runs WHERE rank IS NOT NULL AND gate IS NULL) + (SELECT count(*) FROM runs WHERE due <= $1 AND rank IS NULL AND gate IS NULL),
			(SELECT count(*) FROM workers WHERE until >= $1), (SELECT min(updated) FROM runs WHERE rank IS NOT NULL AND gate IS NULL)`, now.UnixMicro()).Scan(&out.Ready, &out.Workers, &oldest)
		if oldest != nil {
			out.Oldest = max(now.Sub(fromMicro(oldest)), 0)
		}
		return err
	})
	return out, err
}
