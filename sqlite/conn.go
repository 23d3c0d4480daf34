package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"

	sqlite "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// conn is one SQLite connection with its prepared statements. It is used by one goroutine
// at a time.
//
// It stands on the driver without database/sql: on the write path that costs a microsecond
// per statement. No statement is given a context that can end: a statement that is
// interrupted inside a transaction rolls it back, and the next one would commit by itself.
type conn struct {
	c     driver.Conn
	stmts map[string]driver.Stmt
	args  []driver.NamedValue
	trace func(query string, args []any) // nil: nobody wants to know
}

func dial(dsn string, trace func(string, []any)) (*conn, error) {
	c, err := (&sqlite.Driver{}).Open(dsn)
	if err != nil {
		return nil, err
	}
	return &conn{c: c, stmts: map[string]driver.Stmt{}, trace: trace}, nil
}

func (c *conn) prepare(query string) (driver.Stmt, error) {
	if s := c.stmts[query]; s != nil {
		return s, nil
	}
	s, err := c.c.Prepare(query)
	if err != nil {
		return nil, fmt.Errorf("prepare %.60q: %w", query, err)
	}
	c.stmts[query] = s
	return s, nil
}

func (c *conn) bind(args []any) []driver.NamedValue {
	if cap(c.args) < len(args) {
		c.args = make([]driver.NamedValue, len(args)*2)
	}
	out := c.args[:len(args)]
	for i, a := range args {
		out[i] = driver.NamedValue{Ordinal: i + 1, Value: value(a)}
	}
	return out
}

func value(a any) driver.Value {
	switch v := a.(type) {
	case int:
		return int64(v)
	case time.Time:
		if v.IsZero() {
			return nil
		}
		return v.UnixMicro()
	case raw:
		if v == nil {
			return nil
		}
		return []byte(v)
	case bool:
		if v {
			return int64(1)
		}
		return int64(0)
	}
	return a
}

// raw is JSON on its way into a BLOB; nil is NULL.
type raw []byte

// exec runs a statement and returns how many rows it changed.
func (c *conn) exec(query string, args ...any) (int64, error) {
	if c.trace != nil {
		c.trace(query, args)
	}
	s, err := c.prepare(query)
	if err != nil {
		return 0, err
	}
	bound := c.bind(args)
	res, err := s.(driver.StmtExecContext).ExecContext(context.Background(), bound)
	clear(bound) // results of steps may be large, and the next statement may come late
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// query calls each for every row. The row is only good during the call.
func (c *conn) query(query string, args []any, each func(r row) error) error {
	if c.trace != nil {
		c.trace(query, args)
	}
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	rows, err := s.(driver.StmtQueryContext).QueryContext(context.Background(), c.bind(args))
	if err != nil {
		return err
	}
	n := len(rows.Columns())
	dest := make([]driver.Value, n)
	for {
		switch err = rows.Next(dest); {
		case err == io.EOF:
			return rows.Close()
		case err == nil:
			err = each(dest)
		}
		if err != nil {
			return errors.Join(err, rows.Close())
		}
	}
}

// one is query for at most one row; found tells whether there was one.
func (c *conn) one(query string, args []any, each func(r row) error) (found bool, err error) {
	err = c.query(query, args, func(r row) error {
		found = true
		return each(r)
	})
	return found, err
}

func (c *conn) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, c.c.Close())...)
}

// row reads columns by position.
type row []driver.Value

func (r row) int(i int) int64 {
	v, _ := r[i].(int64)
	return v
}

func (r row) str(i int) string {
	switch v := r[i].(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

// bytes is a column's value, which is the caller's: the driver makes each anew, and copying it once more is dear where it is large.
func (r row) bytes(i int) []byte {
	switch v := r[i].(type) {
	case []byte:
		return v
	case string:
		return []byte(v)
	}
	return nil
}

func (r row) null(i int) bool { return r[i] == nil }

func (r row) time(i int) time.Time {
	if r[i] == nil {
		return time.Time{}
	}
	return time.UnixMicro(r.int(i)).UTC()
}

// code returns SQLite's primary result code of err, or 0.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// refusal reports whether err lies in what was to be written: it will never be taken.
func refusal(err error) bool {
	switch code(err) {
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE:
		return true
	}
	return false
}

// fatal reports whether after err nothing more can be believed that this process reads or
// writes: an fsync or a write that failed, a page that makes no sense.
func fatal(err error) bool {
	switch code(err) {
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return true
	}
	return false
}
