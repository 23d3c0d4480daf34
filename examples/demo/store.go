package demo

import (
	"context"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/sqlite"
)

// Open opens a store: a file, or a database by a postgres:// URL, which several processes
// may share.
func Open(ctx context.Context, where string) (pawl.Store, error) {
	if strings.HasPrefix(where, "postgres://") || strings.HasPrefix(where, "postgresql://") {
		return postgres.Open(ctx, where, nil)
	}
	return sqlite.Open(where, nil)
}
