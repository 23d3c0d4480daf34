package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"fmt"
	"io/fs"
	"log"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pressly/goose/v3"
	gosestore "github.com/pressly/goose/v3/database"
)

//go:embed migration/*.sql
var migrations embed.FS

// applicationID marks a file as pawl's: "pawl" as a number.
const applicationID = 0x7061776c

// setUp checks the library and the file, and migrates. fresh: the file had nothing in it.
func (s *Store) setUp(path string) (fresh bool, err error) {
	var version string
	var id, tables int64
	get := func(q string, to func(r row)) error {
		_, err := s.w.one(q, nil, func(r row) error { to(r); return nil })
		return err
	}
	if err := get("SELECT sqlite_version()", func(r row) { version = r.str(0) }); err != nil {
		return false, err
	}
	if !atLeast(version, 3, 51, 3) {
		return false, fmt.Errorf("SQLite %s is linked in, 3.51.3 is needed: older ones can corrupt a write-ahead log", version)
	}
	if err := get("PRAGMA application_id", func(r row) { id = r.int(0) }); err != nil {
		return false, err
	}
	if err := get("SELECT count(*) FROM sqlite_schema", func(r row) { tables = r.int(0) }); err != nil {
		return false, err
	}
	if tables > 0 && id != applicationID {
		return false, fmt.Errorf("%w: the file is a database of another program", pawl.ErrSchema)
	}
	if tables == 0 {
		for _, q := range []string{"PRAGMA auto_vacuum = INCREMENTAL", "PRAGMA page_size = 4096", "PRAGMA application_id = " + strconv.Itoa(applicationID)} {
			if _, err := s.w.exec(q); err != nil {
				return false, err
			}
		}
	}
	if path != Memory {
		for _, q := range []string{"PRAGMA journal_mode = WAL", "PRAGMA wal_autocheckpoint = 2000", "PRAGMA journal_size_limit = -1"} {
			if err := get(q, func(row) {}); err != nil {
				return false, err
			}
		}
	}
	return tables == 0, s.migrate()
}

func atLeast(version string, want ...int) bool {
	for i, part := range strings.SplitN(version, ".", 4) {
		n, _ := strconv.Atoi(part)
		if i < len(want) && n != want[i] {
			return n > want[i]
		}
	}
	return true
}

// schemaTable is where the versions of the schema are kept.
const schemaTable = "pawl_schema"

func (s *Store) migrate() error {
	db := sql.OpenDB(only{s.w.c})
	defer db.Close()
	db.SetMaxOpenConns(1)
	store, err := gosestore.NewStore(gosestore.DialectSQLite3, schemaTable)
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
	ctx := context.Background()
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

// migrationSteps are the files in order. Each goes to SQLite as it is, in a transaction: the
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
			_, err := tx.ExecContext(ctx, string(text))
			return err
		}}, nil))
	}
	return steps, nil
}

type nowhere struct{}

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }

// only lends one connection to database/sql, which migrations are written for.
type only struct{ c driver.Conn }

func (o only) Connect(context.Context) (driver.Conn, error) { return lent{o.c}, nil }
func (o only) Driver() driver.Driver                        { return nil }

type lent struct{ driver.Conn }

func (lent) Close() error { return nil }

func (l lent) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	return l.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
}
