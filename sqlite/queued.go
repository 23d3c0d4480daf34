package sqlite

import "context"

// Queued implements pawl.Store. A run that is granted at its start never is in the index.
func (s *Store) Queued(ctx context.Context, tenant string, most int) (int, error) {
	return s.count(ctx, "SELECT count(*) FROM (SELECT 1 FROM runs WHERE tenant = ? AND state = 1 LIMIT ?)", tenant, most)
}

// Unread implements pawl.Store.
func (s *Store) Unread(ctx context.Context, run int64, most int) (int, error) {
	return s.count(ctx, "SELECT count(*) FROM (SELECT 1 FROM inbox WHERE run = ? LIMIT ?)", run, most)
}

func (s *Store) count(ctx context.Context, query string, args ...any) (n int, err error) {
	err = s.read(ctx, func(c *conn) error {
		_, err := c.one(query, args, func(r row) error { n = int(r.int(0)); return nil })
		return err
	})
	return n, err
}
