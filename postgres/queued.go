package postgres

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Queued implements pawl.Store. A run that is granted at its start never is in the index.
func (s *Store) Queued(ctx context.Context, tenant string, most int) (int, error) {
	return s.count(ctx, "SELECT count(*) FROM (SELECT FROM runs WHERE tenant = $1 AND state = 1 LIMIT $2) AS q", clean(tenant), most)
}

// Unread implements pawl.Store.
func (s *Store) Unread(ctx context.Context, run int64, most int) (int, error) {
	return s.count(ctx, "SELECT count(*) FROM (SELECT FROM inbox WHERE run = $1 LIMIT $2) AS q", run, most)
}

func (s *Store) count(ctx context.Context, query string, args ...any) (n int, err error) {
	err = s.read(ctx, "count", func(c *pgxpool.Conn) error { return c.QueryRow(ctx, query, args...).Scan(&n) })
	return n, err
}
