package dbchange

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
)

// database is a watched database.
type database struct {
	*sql.DB
	dialect Dialect
	listen  func(ctx context.Context, channel string, heard func()) error
}

func databaseOf(c Connection) database { return database{c.DB, c.Dialect, c.Listen} }

// row is one that is to start a run.
type row struct {
	at     position // of a query
	outbox int64    // of a table: its number there
	id     string   // of its run
	change Change
	err    error // it can't start one
}

// runID is made of what tells a row apart from all others of its source.
func (s *Source) runID(parts ...string) string {
	sum := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(sum, "%d:%s", len(p), p)
	}
	return s.ID + "@" + hex.EncodeToString(sum.Sum(nil)[:16])
}

// form is how a query is read.
type form struct {
	first position // below all of its rows
	page  string   // rows above $1, as many as $2
	top   string   // the greatest position above $1
	next  string   // the greatest above $1 and below $2
}

// prepare looks whether the query can be run, and returns how. ErrInput.
func (d database) prepare(ctx context.Context, s *Source) (*form, error) {
	query, err := bind(s.Query, d.dialect)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", pawl.ErrInput, err)
	}
	names, types, err := d.columns(ctx, query)
	if err != nil {
		return nil, err
	}
	i := slices.Index(names, s.Cursor)
	if i < 0 {
		return nil, fmt.Errorf("%w: the query has no column %q for its cursor; it has %s", pawl.ErrInput, s.Cursor, strings.Join(names, ", "))
	}
	for j, name := range names {
		if slices.Contains(names[:j], name) {
			return nil, fmt.Errorf("%w: two columns of the query are named %q; name one otherwise, with AS", pawl.ErrInput, name)
		}
	}
	key := s.Key
	if len(key) == 0 {
		if key = []string{"id"}; !slices.Contains(names, "id") {
			key = names
		}
	}
	for _, k := range key {
		if !slices.Contains(names, k) {
			return nil, fmt.Errorf("%w: the query has no column %q for its key; it has %s", pawl.ErrInput, k, strings.Join(names, ", "))
		}
	}
	f := &form{}
	at, object, keys := "", "", ""
	if d.dialect == SQLite {
		at, object, keys = "pawl_q."+quoted(s.Cursor), liteObject("pawl_q.", names), liteObject("pawl_q.", key)
		at = "typeof(" + at + "), CAST(" + at + " AS TEXT)"
	} else {
		if at, f.first, err = canonical("pawl_q."+quoted(s.Cursor), types[i]); err != nil {
			return nil, fmt.Errorf("%w: the cursor %s %w", pawl.ErrInput, s.Cursor, err)
		}
		var parts []string
		for _, k := range key {
			parts = append(parts, "pawl_q."+quoted(k))
		}
		at, object, keys = "'', "+at, "row_to_json(pawl_q)::text", "json_build_array("+strings.Join(parts, ", ")+")::text"
	}
	column := "pawl_q." + quoted(s.Cursor)
	from := " FROM (\n" + query + "\n) AS pawl_q WHERE " + column + " IS NOT NULL"
	second := d.sql("$2")
	f.page = "SELECT " + at + ", " + object + ", " + keys + from + " ORDER BY " + column + " LIMIT " + second
	f.top = "SELECT " + at + from + " ORDER BY " + column + " DESC LIMIT 1"
	f.next = "SELECT " + at + from + " AND " + column + " < " + second + " ORDER BY " + column + " DESC LIMIT 1"
	return f, nil
}

// columns describes what a query selects, without reading it.
func (d database) columns(ctx context.Context, query string) (names, types []string, err error) {
	err = d.reading(ctx, func(tx asker) error {
		rows, err := tx.QueryContext(ctx, "SELECT * FROM (\n"+query+"\n) AS pawl_q LIMIT 0", nil)
		if err != nil {
			return err
		}
		defer rows.Close()
		columns, err := rows.ColumnTypes()
		if err != nil {
			return err
		}
		for _, c := range columns {
			names, types = append(names, c.Name()), append(types, c.DatabaseTypeName())
		}
		return rows.Err()
	})
	if err != nil {
		return nil, nil, fmt.Errorf("the query can't be run: %w", explained(err))
	}
	return names, types, nil
}

// canonical is an expression that gives a column's positions, and the one below all.
func canonical(column, kind string) (string, position, error) {
	switch kind {
	case "INT2":
		return column + "::text", position{"-32768", true}, nil
	case "INT4":
		return column + "::text", position{"-2147483648", true}, nil
	case "INT8":
		return column + "::text", position{"-9223372036854775808", true}, nil
	case "NUMERIC":
		return column + "::text", position{"-1e300", true}, nil
	case "TIMESTAMPTZ":
		return "coalesce(to_char(" + column + " AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00', '')", position{Text: "0001-01-01 00:00:00.000000+00"}, nil
	case "TIMESTAMP":
		return "coalesce(to_char(" + column + ", 'YYYY-MM-DD HH24:MI:SS.US'), '')", position{Text: "0001-01-01 00:00:00.000000"}, nil
	case "DATE":
		return "coalesce(to_char(" + column + ", 'YYYY-MM-DD'), '')", position{Text: "0001-01-01"}, nil
	case "UUID":
		return column + "::text", position{Text: "00000000-0000-0000-0000-000000000000"}, nil
	}
	return "", position{}, fmt.Errorf("is of type %s, whose order pawl does not know: take one that is integer, numeric, timestamp, timestamptz, date or uuid", strings.ToLower(kind))
}

// liteObject is an expression that gives columns as a JSON object, whatever their types are.
func liteObject(prefix string, names []string) string {
	var parts []string
	for _, name := range names {
		parts = append(parts, literal(name)+", "+liteValue(prefix+quoted(name)))
	}
	return "json_object(" + strings.Join(parts, ", ") + ")"
}

// liteValue is what JSON can hold of a value: SQLite refuses bytes there.
func liteValue(v string) string {
	return `CASE typeof(` + v + `) WHEN 'blob' THEN '\x' || lower(hex(` + v + `)) ELSE ` + v + ` END`
}

// sql is a statement of ours, written with the places of PostgreSQL.
func (d database) sql(text string) string {
	if d.dialect == SQLite {
		return strings.NewReplacer("$1", "?1", "$2", "?2", "$3", "?3", "$4", "?4").Replace(text)
	}
	return text
}

// argument is a position as the database takes it.
func (d database) argument(p position) any {
	if d.dialect == SQLite && p.Number {
		var n int64
		if _, err := fmt.Sscan(p.Text, &n); err == nil {
			return n
		}
	}
	return p.Text // PostgreSQL reads it as the type that the query compares it with
}

// mostBytes is how much of rows is read at once, for each batch of them.
const mostBytes = 16 << 20

// page reads up to limit rows above a position, in their order. more: there may be further ones.
func (d database) page(ctx context.Context, s *Source, f *form, after position, limit int) (out []row, more bool, err error) {
	for _, after := range d.starts(after) {
		if out, more, err = d.pageAbove(ctx, s, f, after, limit); err != nil || len(out) > 0 {
			break
		}
	}
	return out, more, err
}

func (d database) pageAbove(ctx context.Context, s *Source, f *form, after position, limit int) (out []row, more bool, err error) {
	err = d.reading(ctx, func(tx asker) error {
		rows, err := tx.QueryContext(ctx, f.page, d.argument(after), limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		bytes := 0
		for rows.Next() {
			var kind, at, object, key string
			if err := rows.Scan(&kind, &at, &object, &key); err != nil {
				return err
			}
			p, err := d.position(f, kind, at)
			if err != nil {
				return err
			}
			out = append(out, row{at: p, id: s.runID(at, key), change: Change{Row: clean(object)}})
			if bytes += len(object); bytes > mostBytes*max(limit/batch, 1) {
				more = true
				return nil
			}
		}
		more = len(out) == limit
		return rows.Err()
	})
	if err != nil {
		return nil, false, explained(err)
	}
	return out, more, nil
}

// starts are the positions to look from. SQLite's columns have no type: lowest is below text first, then below numbers.
func (d database) starts(after position) []position {
	if d.dialect == SQLite && after.zero() {
		return []position{lowest, {"-9223372036854775808", true}}
	}
	return []position{after}
}

// top is the greatest position; lowest if there are no rows. below, if it is not lowest, is above it.
func (d database) top(ctx context.Context, f *form, below position) (p position, err error) {
	for _, after := range d.starts(f.first) {
		err = d.reading(ctx, func(tx asker) error {
			query, args := f.top, []any{d.argument(after)}
			if !below.zero() {
				query, args = f.next, append(args, d.argument(below))
			}
			var kind, at string
			err := tx.QueryRowContext(ctx, query, args...).Scan(&kind, &at)
			if errors.Is(err, sql.ErrNoRows) {
				return nil
			}
			if err == nil {
				p, err = d.position(f, kind, at)
			}
			return err
		})
		if err != nil {
			return lowest, explained(err)
		}
		if !p.zero() {
			break
		}
	}
	return p, nil
}

func (d database) position(f *form, kind, at string) (position, error) {
	switch {
	case d.dialect == Postgres:
		if at == "NaN" || strings.Contains(at, "Infinity") || at == "" {
			return lowest, fmt.Errorf("a row's cursor is %q, which has no place in an order", at)
		}
		return position{at, f.first.Number}, nil
	case kind == "integer":
		return position{at, true}, nil
	case kind == "text":
		return position{at, false}, nil
	}
	return lowest, fmt.Errorf("a row's cursor is %s (%.40q), whose order pawl does not know: take a column of integers, or of text such as 2026-01-31T10:00:00Z", kind, at)
}

// clean is JSON without bytes that are no text, which SQLite does not refuse.
func clean(object string) []byte { return []byte(strings.ToValidUTF8(object, "\ufffd")) }

// asker is a transaction, or a connection.
type asker interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// reading runs f where nothing can be written.
func (d database) reading(ctx context.Context, f func(tx asker) error) error {
	conn, err := d.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if d.dialect == SQLite { // without a transaction: the pool may be set up to begin those as writers
		if _, err := conn.ExecContext(ctx, "PRAGMA query_only = 1"); err != nil {
			return err
		}
		defer func() { // the pool's other users write
			if _, err := conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA query_only = 0"); err != nil {
				_ = conn.Raw(func(any) error { return driver.ErrBadConn })
			}
		}()
		return f(conn)
	}
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, "SET LOCAL TimeZone = 'UTC'"); err != nil { // the text of times is part of a row's key
		return err
	}
	return f(tx)
}

// explained adds what to do about errors of a database.
func explained(err error) error {
	if isDenied(err) {
		return fmt.Errorf("%w: the role of this connection needs SELECT on what the query reads; for a table it needs SELECT and DELETE on pawl_outbox, and SELECT, INSERT, UPDATE and DELETE on pawl_outbox_readers beside it", err)
	}
	return err
}

func isDenied(err error) bool {
	var state interface{ SQLState() string }                     // pgx's errors have it
	return errors.As(err, &state) && state.SQLState() == "42501" // insufficient_privilege
}
