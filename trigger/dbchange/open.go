package dbchange

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// running names the transactions that are open now and may have taken a cursor's value which nobody sees yet. On
// SQLite there are none: who writes there is alone.
//
// Each transaction of PostgreSQL holds the lock of its virtual id from its beginning to its end, also before it
// writes, which the snapshot's xmin does not know of. Locks can be read by everybody. A prepared transaction has given up
// that lock, and is known by its xid.
func (d database) running(ctx context.Context) (live, prepared []string, err error) {
	if d.dialect != Postgres {
		return nil, nil, nil
	}
	var standby bool
	if err := d.QueryRowContext(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
		return nil, nil, err
	}
	if standby {
		return nil, nil, errors.New("the connection leads to a standby, which does not know the transactions that are open: give that of the primary")
	}
	if live, err = d.texts(ctx, `SELECT l.virtualtransaction FROM pg_locks l
		WHERE l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock' AND l.granted AND l.pid <> pg_backend_pid()
		AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid
			AND (a.datname <> current_database() OR a.backend_type = 'autovacuum worker'))`); err != nil {
		return nil, nil, fmt.Errorf("read which transactions are open: %w", err)
	}
	if prepared, err = d.texts(ctx, `SELECT transaction::text FROM pg_prepared_xacts WHERE database = current_database()`); err != nil {
		return nil, nil, fmt.Errorf("read which transactions are prepared: %w", err)
	}
	return live, prepared, nil
}

func (d database) texts(ctx context.Context, query string, args ...any) (out []string, err error) {
	rows, err := d.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s sql.NullString
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		out = append(out, s.String)
	}
	return out, rows.Err()
}
