package postgres

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pawlrun/pawl"
)

// Mail implements pawl.Store.
func (s *Store) Mail(ctx context.Context, worker int64) (out []pawl.Mail, err error) {
	err = s.read(ctx, "fetch messages", func(c *pgxpool.Conn) error {
		out, err = collect(ctx, c, func(row pgx.CollectableRow) (pawl.Mail, error) {
			m, err := scanMessage(row)
			return pawl.Mail{Run: m.run, Message: m.Message}, err
		}, "SELECT i.run, i.id, i.name, i.at, i.data FROM inbox AS i JOIN runs AS r ON r.key = i.run WHERE r.worker = $1 ORDER BY i.id", worker)
		return err
	})
	return out, err
}

// Holders implements pawl.Store.
func (s *Store) Holders(ctx context.Context, run int64, now time.Time) (h pawl.Holders, err error) {
	err = s.read(ctx, "look what a run waits for", func(c *pgxpool.Conn) error {
		info, err := one(ctx, c, scanInfo, runByKey, run)
		if errors.Is(err, pawl.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		h.Events, err = collect(ctx, c, func(row pgx.CollectableRow) (w pawl.Wait, err error) {
			err = row.Scan(&w.Key, &w.Event, &w.Need)
			return w, err
		}, "SELECT key, event, coalesce(need, 0) FROM waits WHERE run = $1 ORDER BY key", run)
		if err != nil {
			return err
		}
		h.Sent, err = collect(ctx, c, pgx.RowTo[string], `SELECT substr(i.name, length($2::text) + 1) FROM inbox AS i WHERE i.run = $1 AND starts_with(i.name, $2)
			AND NOT EXISTS (SELECT FROM waits AS w WHERE w.run = i.run AND $2 || w.event = i.name) ORDER BY i.id LIMIT 100`, run, pawl.MsgEvent)
		if err != nil {
			return err
		}
		if h.Hooks, err = hooks(ctx, c, pawl.HookFilter{Run: run, Limit: 1000}); err != nil {
			return err
		}
		runs := func(cond string, args ...any) ([]pawl.RunInfo, error) {
			return collect(ctx, c, scanInfo, "SELECT "+runCols+" FROM runs WHERE "+cond+" ORDER BY key LIMIT 20", args...)
		}
		if h.Children, err = runs("parent = $1 AND state NOT IN (4, 5, 6)", run); err != nil {
			return err
		}
		if info.Worker != 0 {
			h.Worker, err = one(ctx, c, pgx.RowTo[string], "SELECT name FROM workers WHERE id = $1", info.Worker)
			if err != nil && !errors.Is(err, pawl.ErrNotFound) {
				return err
			}
		}
		if info.Gate == "" {
			return nil
		}
		if limit, ok := strings.CutPrefix(info.Gate, "limit "); ok {
			h.Slot = pawl.LimitOf(info.Limits, limit)
			h.Holds, err = runs("key IN (SELECT run FROM slots WHERE limited = $1)", limit)
		} else {
			h.Holds, err = runs("single = $1", strings.TrimPrefix(info.Gate, "singleton "))
		}
		if err != nil {
			return err
		}
		h.Ahead, err = one(ctx, c, pgx.RowTo[int],
			"SELECT count(*) FROM runs AS q, runs AS me WHERE me.key = $1 AND q.gate = me.gate AND (q.rank, q.key) < (me.rank, me.key)", run)
		return err
	})
	return h, err
}
