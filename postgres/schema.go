package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pawlrun/pawl"
	"github.com/pressly/goose/v3"
	goosestore "github.com/pressly/goose/v3/database"
)

//go:embed migration/*.sql
var migrations embed.FS

// schemaTable is where the versions of the schema are kept.
const schemaTable = "pawl_schema"

// tables are those that migrations make.
var tables = []string{"runs", "journal", "inbox", "waits", "hooks", "chunks", "attrs", "slots", "rates", "workers", "budgets", "charges", "records"}

// migrate brings the schema up to date. One process at a time does so: the others wait for
// its advisory lock, which the server takes back when the process dies. If durable, it also
// sees to it that sessions of cc wait for their commits to reach the disk.
func (s *Store) migrate(ctx context.Context, cc *pgx.ConnConfig, durable bool) error {
	guarding := cc.Copy()
	guarding.RuntimeParams["lock_timeout"] = "0"
	guard, err := pgx.ConnectConfig(ctx, guarding)
	if err != nil {
		return err
	}
	defer guard.Close(context.WithoutCancel(ctx))
	if _, err := guard.Exec(ctx, "SELECT pg_advisory_lock(hashtextextended('pawl schema ' || $1, 0))", s.schema); err != nil {
		return fmt.Errorf("wait for another process to migrate the schema: %w", err)
	}
	if err := s.prepare(ctx, guard); err != nil {
		return err
	}
	if durable {
		var commit string
		if err := guard.QueryRow(ctx, "SELECT current_setting('synchronous_commit')").Scan(&commit); err != nil {
			return err
		}
		if commit == "off" {
			cc.RuntimeParams["synchronous_commit"] = "on"
		}
	}
	// A migration that waits for a table's lock makes everybody else wait behind it: it
	// gives up soon, and tries again.
	migrating := cc.Copy()
	migrating.RuntimeParams["lock_timeout"] = "2s"
	db := stdlib.OpenDB(*migrating)
	defer db.Close()
	for try := 1; ; try++ {
		err := up(ctx, db)
		var pg *pgconn.PgError
		if err == nil || try == 5 || !errors.As(err, &pg) || pg.Code != lockTimeout {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
}

// prepare makes the schema, and refuses one that is another program's.
func (s *Store) prepare(ctx context.Context, c *pgx.Conn) error {
	var exists, known bool
	var taken []string
	err := c.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1), c.known, c.taken
		FROM (SELECT coalesce(bool_or(relname = $2), false) AS known, coalesce(array_agg(relname::text ORDER BY relname) FILTER (WHERE relname = ANY($3)), '{}') AS taken
			FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname = $1) AS c`, s.schema, schemaTable, tables).Scan(&exists, &known, &taken)
	switch {
	case err != nil:
		return fmt.Errorf("look at schema %q: %w", s.schema, err)
	case !exists:
		if _, err := c.Exec(ctx, "CREATE SCHEMA "+pgx.Identifier{s.schema}.Sanitize()); err != nil {
			return fmt.Errorf("make schema %q (or have it made by a role that may): %w", s.schema, err)
		}
	case !known && len(taken) > 0:
		return fmt.Errorf("%w: schema %q holds tables of another program: %s; choose another with Options.Schema",
			pawl.ErrSchema, s.schema, strings.Join(taken, ", "))
	}
	return nil
}

func up(ctx context.Context, db *sql.DB) error {
	store, err := goosestore.NewStore(goosestore.DialectPostgres, schemaTable)
	if err != nil {
		return err
	}
	steps, err := migrationSteps()
	if err != nil {
		return err
	}
	p, err := goose.NewProvider("", db, nil, goose.WithStore(store), goose.WithGoMigrations(steps...),
		goose.WithDisableGlobalRegistry(true), // those of the program around this package are for its own database
		goose.WithLogger(log.New(nowhere{}, "", 0)))
	if err != nil {
		return err
	}
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	sources := p.ListSources()
	if newest := sources[len(sources)-1].Version; have > newest {
		return fmt.Errorf("%w: its schema is version %d, this pawl knows up to %d: use a newer pawl", pawl.ErrSchema, have, newest)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate the schema from version %d: %w", have, err)
	}
	return nil
}

// migrationSteps are the files in order. Each goes to the server as it is, in a transaction: the
// reader that goose has for files takes four megabytes of memory for every few lines, which
// each test with a store of its own pays under the race detector.
func migrationSteps() (steps []*goose.Migration, err error) {
	files, err := fs.Glob(migrations, "migration/*.sql")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		version, err := goose.NumericComponent(file)
		if err != nil {
			return nil, err
		}
		text, err := migrations.ReadFile(file)
		if err != nil {
			return nil, err
		}
		steps = append(steps, goose.NewGoMigration(version, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, string(text), pgx.QueryExecModeSimpleProtocol)
			return err
		}}, nil))
	}
	return steps, nil
}

type nowhere struct{}

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
