package database

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	sqlitedriver "modernc.org/sqlite"

	"github.com/pawlrun/pawl/service"
)

// query reads, in a transaction that is rolled back: nothing that it sets stays.
func (d *database) query(ctx context.Context, p *params) (*Result, error) {
	var out *Result
	err := d.session(ctx, d.reading, p, func(c *sql.Conn) error {
		tx, err := c.BeginTx(ctx, &sql.TxOptions{ReadOnly: d.dialect != sqlite}) // SQLite's file is open for reading only
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := d.limit(ctx, tx, p); err != nil {
			return err
		}
		out, err = d.rows(ctx, tx, p)
		return err
	})
	return out, err
}

// execute writes, in a transaction. With Once it first takes the key: who finds it taken gives what was kept under it.
func (d *database) execute(ctx context.Context, p *params, key string) (*Result, error) {
	var out *Result
	err := d.session(ctx, d.writing, p, func(c *sql.Conn) error {
		tx, err := c.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := d.limit(ctx, tx, p); err != nil {
			return err
		}
		sum := sha256.Sum256([]byte(key))
		id := hex.EncodeToString(sum[:])
		if d.Once {
			var done bool
			if out, done, err = d.take(ctx, tx, id); err != nil || done {
				return err
			}
		}
		if p.givesRows {
			out, err = d.rows(ctx, tx, p)
		} else {
			out, err = d.change(ctx, tx, p)
		}
		if err != nil {
			return err
		}
		if d.Once {
			if err := d.keep(ctx, tx, id, out); err != nil {
				return err
			}
		}
		if err := tx.Commit(); err != nil {
			return &commitError{err}
		}
		return nil
	})
	return out, err
}

// commitError is an error behind which the transaction may stand or not, unless the database says which.
type commitError struct{ error }

func (e *commitError) Unwrap() error { return e.error }

// leaves finds what could leave something in a session of MySQL: locks and variables.
var leaves = regexp.MustCompile(`(?i)lock|@`)

// session has a connection of its own. One in which a statement may have left something is not used again.
func (d *database) session(ctx context.Context, db *sql.DB, p *params, f func(*sql.Conn) error) error {
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	switch d.dialect {
	case sqlite:
		// No other file is attached, whatever a statement says.
		for id, most := range map[int]int{limitAttached: 0, limitLength: mostBytes} {
			if _, err := sqlitedriver.Limit(c, id, most); err != nil {
				return err
			}
		}
	case mysql:
		if leaves.MatchString(p.Query) {
			defer func() { _ = c.Raw(func(any) error { return driver.ErrBadConn }) }()
		}
		if err := d.limitMySQL(ctx, c, p.timeout); err != nil {
			return err
		}
	}
	return f(c)
}

// The numbers of SQLite's limits.
const (
	limitLength   = 0
	limitAttached = 7
)

// limit has PostgreSQL end a statement by itself, should nobody be left to ask for its end.
func (d *database) limit(ctx context.Context, tx *sql.Tx, p *params) error {
	if d.dialect != postgres {
		return nil
	}
	_, err := tx.ExecContext(ctx, fmt.Sprintf("SET LOCAL statement_timeout = %d", p.timeout.Milliseconds()))
	return err
}

// limitMySQL is limit for MySQL and MariaDB, which have different settings for it. MySQL has it for SELECT only.
func (d *database) limitMySQL(ctx context.Context, c *sql.Conn, timeout time.Duration) error {
	var version string
	if err := c.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return err
	}
	set := fmt.Sprintf("SET SESSION max_execution_time = %d", timeout.Milliseconds())
	if strings.Contains(version, "MariaDB") {
		set = fmt.Sprintf("SET SESSION max_statement_time = %.3f", timeout.Seconds())
	}
	_, err := c.ExecContext(ctx, set)
	return err
}

// rows carries out a statement that gives rows. One whose rows are not all taken is ended: drivers would read the rest, however
// much it is.
func (d *database) rows(ctx context.Context, tx *sql.Tx, p *params) (*Result, error) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	got, err := d.ask(ctx, tx, p)
	if err != nil {
		return nil, err
	}
	defer got.Close()
	out, err := d.read(got, p)
	if err != nil {
		end()
	}
	return out, err
}

func (d *database) ask(ctx context.Context, tx *sql.Tx, p *params) (*sql.Rows, error) {
	if d.dialect != mysql {
		return tx.QueryContext(ctx, p.Query, p.bound...)
	}
	// Prepared, values come with their types, whether any are bound or not. The transaction closes it.
	statement, err := tx.PrepareContext(ctx, p.Query)
	if err != nil {
		return nil, err
	}
	return statement.QueryContext(ctx, p.bound...)
}

// change carries out a statement that gives none.
func (d *database) change(ctx context.Context, tx *sql.Tx, p *params) (*Result, error) {
	done, err := tx.ExecContext(ctx, p.Query, p.bound...)
	if err != nil {
		return nil, err
	}
	n, err := done.RowsAffected()
	if err != nil {
		return nil, err
	}
	return &Result{Rows: []json.RawMessage{}, Columns: []string{}, RowCount: n}, nil
}

// once are the statements of the table of calls.
var once = map[dialect]struct{ take, find, keep string }{
	postgres: {"INSERT INTO pawl_calls (id, at) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING", "SELECT result FROM pawl_calls WHERE id = $1", "UPDATE pawl_calls SET result = $1 WHERE id = $2"},
	mysql:    {"INSERT IGNORE INTO pawl_calls (id, at) VALUES (?, ?)", "SELECT result FROM pawl_calls WHERE id = ?", "UPDATE pawl_calls SET result = ? WHERE id = ?"},
	sqlite:   {"INSERT OR IGNORE INTO pawl_calls (id, at) VALUES (?, ?)", "SELECT result FROM pawl_calls WHERE id = ?", "UPDATE pawl_calls SET result = ? WHERE id = ?"},
}

// take writes the key, waiting for another transaction that has it. If it was there, done is true and the result is that of then.
func (d *database) take(ctx context.Context, tx *sql.Tx, id string) (kept *Result, done bool, err error) {
	taken, err := tx.ExecContext(ctx, once[d.dialect].take, id, time.Now().Unix())
	if err != nil {
		return nil, false, &callsError{err}
	}
	if n, err := taken.RowsAffected(); err != nil || n == 1 {
		return nil, false, err
	}
	var result sql.NullString
	if err := tx.QueryRowContext(ctx, once[d.dialect].find, id).Scan(&result); err != nil {
		return nil, false, &callsError{err}
	}
	kept = &Result{}
	if err := json.Unmarshal([]byte(result.String), kept); err != nil {
		return nil, false, fault(service.BadAnswer, "the table pawl_calls of %s holds no result for this step, although it was carried out: %v", d.name, err)
	}
	return kept, true, nil
}

func (d *database) keep(ctx context.Context, tx *sql.Tx, id string, out *Result) error {
	data, err := json.Marshal(out)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, once[d.dialect].keep, string(data), id); err != nil {
		return &callsError{err}
	}
	return nil
}

// callsError is an error of the table of calls, which the author of a flow knows nothing of.
type callsError struct{ error }

func (e *callsError) Unwrap() error { return e.error }
