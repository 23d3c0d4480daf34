// Package pglisten listens for notifications of PostgreSQL over pools of pgx's database/sql driver. It is apart from
// package dbchange so that who embeds that links no driver but the one in use.
package pglisten

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// On returns a dbchange.Connection's Listen. It takes one session of the pool for as long as it listens. A pool that may
// open fewer than three has none to spare: for it On returns nil.
func On(db *sql.DB) func(ctx context.Context, channel string, heard func()) error {
	if most := db.Stats().MaxOpenConnections; most > 0 && most < 3 {
		return nil
	}
	return func(ctx context.Context, channel string, heard func()) error {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		failed := error(nil)
		_ = conn.Raw(func(c any) error {
			std, ok := c.(*stdlib.Conn)
			if !ok {
				failed = fmt.Errorf("listen on a connection of %T: it must be one of pgx's driver", c)
				return nil
			}
			failed = listen(ctx, std.Conn(), channel, heard)
			return driver.ErrBadConn // the pool gets no session back that listens
		})
		return failed
	}
}

func listen(ctx context.Context, conn *pgx.Conn, channel string, heard func()) error {
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return err
	}
	for {
		heard() // also at first: what came before was not heard
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}
