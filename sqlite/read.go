package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Journal implements pawl.Store.
func (s *Store) Journal(ctx context.Context, run, after int64, limit int) ([]pawl.Entry, error) {
	return s.entries(ctx, "SELECT seq, kind, key, at, took, data FROM journal WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?", run, after, limit)
}

// Index implements pawl.Store. The length of a blob is known without reading it.
func (s *Store) Index(ctx context.Context, run, after int64, limit, inline int) ([]pawl.Entry, error) {
	return s.entries(ctx, `SELECT seq, kind, key, at, took, iif(length(data) > ?, NULL, data), iif(length(data) > ?, length(data), 0)
		FROM journal WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?`, inline, inline, run, after, limit)
}

// maxPage is about how many bytes of data one call returns.
const maxPage = 4 << 20

func (s *Store) entries(ctx context.Context, query string, args ...any) (out []pawl.Entry, err error) {
	err = s.read(ctx, func(c *conn) error {
		size := 0
		err := c.query(query, args, func(r row) error {
			e := scanEntry(r)
			if len(r) > 6 {
				e.Size = int(r.int(6))
			}
			out = append(out, e)
			if size += len(e.Data); size > maxPage {
				return errEnough
			}
			return nil
		})
		if size > maxPage {
			err = nil
		}
		return err
	})
	return out, err
}

var errEnough = fmt.Errorf("enough")

func scanEntry(r row) pawl.Entry {
	kind := r.int(1)
	return pawl.Entry{
		Seq: r.int(0), Kind: pawl.Kind(kind & 127), Failed: kind&128 != 0, Attempt: int(kind >> 8),
		Key: r.str(2), At: r.time(3), Took: time.Duration(r.int(4)), Data: r.bytes(5),
	}
}

// Result implements pawl.Store.
func (s *Store) Result(ctx context.Context, run int64) (e pawl.Entry, err error) {
	err = s.read(ctx, func(c *conn) error {
		found, err := c.one("SELECT seq, kind, key, at, took, data FROM journal WHERE run = ? ORDER BY seq DESC LIMIT 1", []any{run}, func(r row) error {
			e = scanEntry(r)
			return nil
		})
		if err == nil && !found {
			err = pawl.ErrNotFound
		}
		return err
	})
	return e, err
}

// Lookup implements pawl.Store.
func (s *Store) Lookup(ctx context.Context, tenant, id string) (info pawl.RunInfo, err error) {
	err = s.read(ctx, func(c *conn) error {
		var found bool
		if info, found, err = c.lookup(tenant, id); err == nil && !found {
			err = pawl.ErrNotFound
		}
		if err != nil {
			return err
		}
		return c.dress([]*pawl.RunInfo{&info})
	})
	return info, err
}

// dress fills in what runs have in other tables.
func (c *conn) dress(runs []*pawl.RunInfo) error {
	for _, info := range runs {
		err := c.query("SELECT name, value FROM attrs WHERE run = ?", []any{info.Key}, func(r row) error {
			if info.Attrs == nil {
				info.Attrs = map[string]string{}
			}
			info.Attrs[r.str(0)] = r.str(1)
			return nil
		})
		if err != nil {
			return err
		}
		if info.ParentRun != 0 {
			if _, err := c.one("SELECT id FROM runs WHERE key = ?", []any{info.ParentRun}, func(r row) error { info.Parent = r.str(0); return nil }); err != nil {
				return err
			}
		}
	}
	return nil
}

// List implements pawl.Store.
func (s *Store) List(ctx context.Context, f pawl.Filter) (out []pawl.RunInfo, err error) {
	q := "SELECT " + runCols + " FROM runs WHERE true"
	var args []any
	and := func(cond string, a ...any) {
		q += " AND " + cond
		args = append(args, a...)
	}
	if !f.AllTenants {
		and("tenant = ?", f.Tenant)
	}
	if f.Query != "" {
		and("id >= ? AND id < ?", f.Query, cmp.Or(pawl.PrefixEnd(f.Query), "\xff"))
	}
	if f.Workflow != "" {
		and("workflow = ?", f.Workflow)
	}
	if len(f.States) > 0 {
		var names []string
		for _, st := range f.States {
			names = append(names, fmt.Sprint(int(st)))
		}
		and("state IN (" + strings.Join(names, ", ") + ")")
	}
	if f.Parent != 0 {
		and("parent = ?", f.Parent)
	}
	if !f.After.IsZero() {
		and("created >= ?", f.After)
	}
	if !f.Before.IsZero() {
		and("created < ?", f.Before)
	}
	if f.Cursor != 0 {
		and("key < ?", f.Cursor)
	}
	for name, value := range f.Attrs {
		and("key IN (SELECT run FROM attrs WHERE name = ? AND value = ?)", name, value)
	}
	q += " ORDER BY key DESC LIMIT ?"
	limit := f.Limit
	if limit <= 0 {
		limit = 50
	}
	args = append(args, min(limit, 1000))
	err = s.read(ctx, func(c *conn) error {
		err := c.query(q, args, func(r row) error {
			out = append(out, scanRun(r))
			return nil
		})
		var all []*pawl.RunInfo
		for i := range out {
			all = append(all, &out[i])
		}
		if err == nil {
			err = c.dress(all)
		}
		return err
	})
	return out, err
}

// Chunks implements pawl.Store.
func (s *Store) Chunks(ctx context.Context, run int64, stream string, from int64, limit int) (out []pawl.Chunk, err error) {
	size := 0
	err = s.read(ctx, func(c *conn) error {
		return c.query("SELECT idx, at, closed, data FROM chunks WHERE run = ? AND stream = ? AND idx >= ? ORDER BY idx LIMIT ?", []any{run, stream, from, limit}, func(r row) error {
			out = append(out, pawl.Chunk{Stream: stream, Index: r.int(0), At: r.time(1), Closed: r.int(2) != 0, Data: r.bytes(3)})
			if size += len(out[len(out)-1].Data); size > maxPage {
				return errEnough
			}
			return nil
		})
	})
	if size > maxPage {
		err = nil
	}
	return out, err
}

// newestChunks finds the last chunk of each stream of a run by as many looks into the index.
const newestChunks = `WITH RECURSIVE s (stream) AS (
		SELECT min(stream) FROM chunks WHERE run = ?1
		UNION ALL SELECT (SELECT min(stream) FROM chunks WHERE run = ?1 AND stream > s.stream) FROM s WHERE s.stream IS NOT NULL)
	SELECT s.stream, c.idx, c.closed FROM s JOIN chunks c ON c.run = ?1 AND c.stream = s.stream
		AND c.idx = (SELECT max(idx) FROM chunks WHERE run = ?1 AND stream = s.stream)
	WHERE s.stream IS NOT NULL`

// Streams implements pawl.Store.
func (s *Store) Streams(ctx context.Context, run int64) (out []pawl.StreamInfo, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.query(newestChunks, []any{run}, func(r row) error {
			i := pawl.StreamInfo{Name: r.str(0), Tail: r.int(1), Closed: r.int(2) != 0}
			if i.Closed {
				i.Tail--
			}
			out = append(out, i)
			return nil
		})
	})
	return out, err
}

// Holders implements pawl.Store.
func (s *Store) Holders(ctx context.Context, run int64, now time.Time) (h pawl.Holders, err error) {
	err = s.read(ctx, func(c *conn) error {
		info, found, err := c.get(run)
		if err != nil || !found {
			return err
		}
		err = c.query("SELECT key, event, need FROM waits WHERE run = ? ORDER BY key", []any{run}, func(r row) error {
			h.Events = append(h.Events, pawl.Wait{Key: r.str(0), Event: r.str(1), Need: r.int(2)})
			return nil
		})
		if err != nil {
			return err
		}
		err = c.query("SELECT substr(i.name, ?2) FROM inbox i WHERE i.run = ?1 AND i.name LIKE ?3 AND NOT EXISTS (SELECT 1 FROM waits w WHERE w.run = i.run AND ?4 || w.event = i.name) ORDER BY i.id LIMIT 100",
			[]any{run, len(pawl.MsgEvent) + 1, pawl.MsgEvent + "%", pawl.MsgEvent}, func(r row) error {
				h.Sent = append(h.Sent, r.str(0))
				return nil
			})
		if err != nil {
			return err
		}
		if h.Hooks, err = c.hooks(pawl.HookFilter{Run: run, Limit: 1000}); err != nil {
			return err
		}
		runs := func(cond string, args ...any) (out []pawl.RunInfo, err error) {
			err = c.query("SELECT "+runCols+" FROM runs WHERE "+cond+" ORDER BY key LIMIT 20", args, func(r row) error {
				out = append(out, scanRun(r))
				return nil
			})
			return out, err
		}
		if h.Children, err = runs("parent = ? AND state NOT IN (4, 5, 6)", run); err != nil {
			return err
		}
		if info.Worker != 0 {
			if _, err := c.one("SELECT name FROM workers WHERE id = ?", []any{info.Worker}, func(r row) error { h.Worker = r.str(0); return nil }); err != nil {
				return err
			}
		}
		if info.Gate == "" {
			return nil
		}
		if limit, ok := strings.CutPrefix(info.Gate, "limit "); ok {
			h.Slot = pawl.LimitOf(info.Limits, limit)
			h.Holds, err = runs("key IN (SELECT run FROM slots WHERE limited = ?)", limit)
		} else {
			h.Holds, err = runs("single = ?", strings.TrimPrefix(info.Gate, "singleton "))
		}
		if err != nil {
			return err
		}
		_, err = c.one("SELECT count(*) FROM runs q, runs me WHERE me.key = ? AND q.gate = me.gate AND (q.rank, q.key) < (me.rank, me.key)", []any{run}, func(r row) error {
			h.Ahead = int(r.int(0))
			return nil
		})
		return err
	})
	return h, err
}

// Stats implements pawl.Store.
func (s *Store) Stats(ctx context.Context, now time.Time) (out pawl.Stats, err error) {
	out.Runs = map[pawl.State]int64{}
	err = s.read(ctx, func(c *conn) error {
		err := c.query("SELECT state, count(*) FROM runs GROUP BY state", nil, func(r row) error {
			out.Runs[pawl.State(r.int(0))] = r.int(1)
			return nil
		})
		if err != nil {
			return err
		}
		_, err = c.one(`SELECT (SELECT count(*) FROM runs WHERE rank IS NOT NULL AND gate IS NULL) + (SELECT count(*) FROM runs WHERE due <= ?1 AND rank IS NULL AND gate IS NULL),
			(SELECT count(*) FROM workers WHERE until >= ?1), (SELECT min(updated) FROM runs WHERE rank IS NOT NULL AND gate IS NULL)`, []any{now}, func(r row) error {
			out.Ready, out.Workers = r.int(0), r.int(1)
			if t := r.time(2); !t.IsZero() {
				out.Oldest = max(now.Sub(t), 0)
			}
			return nil
		})
		return err
	})
	return out, err
}
