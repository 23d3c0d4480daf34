package dbchange

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

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
	err    error  // it can't start one
	odd    bool   // its cursor has no place in an order: it may be shown again
	left   bool   // it was not read whole, and comes again: see page
	name   string // of a query: what people find it by
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
	column := "pawl_q." + quoted(s.Cursor)
	at, placed, object, keys := "", "", "", ""
	if d.dialect == SQLite {
		at, placed = liteCanonical(column)
		object = bounded(liteObject("pawl_q.", names), liteBytes(names), mostRow)
		keys = bounded(liteObject("pawl_q.", key), liteBytes(key), mostKey)
	} else {
		if at, placed, f.first, err = canonical(column, types[i]); err != nil {
			return nil, fmt.Errorf("%w: the cursor %s %w", pawl.ErrInput, s.Cursor, err)
		}
		var parts, kinds []string
		for _, k := range key {
			parts, kinds = append(parts, "pawl_q."+quoted(k)), append(kinds, types[slices.Index(names, k)])
		}
		at = "'', " + at
		object = bounded("row_to_json(pawl_q)::text", postgresBytes(names, types), mostRow)
		keys = bounded("json_build_array("+strings.Join(parts, ", ")+")::text", postgresBytes(key, kinds), mostKey)
	}
	from := " FROM (\n" + query + "\n) AS pawl_q WHERE " + column + " IS NOT NULL"
	second := d.sql("$2")
	f.page = "SELECT " + at + ", " + object + ", " + keys + from + " ORDER BY " + column + " LIMIT " + second
	f.top = "SELECT " + at + from + " AND " + placed + " ORDER BY " + column + " DESC LIMIT 1"
	f.next = "SELECT " + at + from + " AND " + placed + " AND " + column + " < " + second + " ORDER BY " + column + " DESC LIMIT 1"
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

// canonical are expressions that give a column's positions and whether a value has one, and the position below all.
func canonical(column, kind string) (at, placed string, first position, err error) {
	text := column + "::text"
	times := func(format, zone string) (string, string) {
		return "coalesce(to_char(" + column + zone + ", '" + format + "'), '')", column + " < '10000-01-01'" // the years of five digits are not in the order of their text
	}
	switch kind {
	case "INT2":
		return text, "true", position{"-32768", true}, nil
	case "INT4":
		return text, "true", position{"-2147483648", true}, nil
	case "INT8":
		return text, "true", position{"-9223372036854775808", true}, nil
	case "NUMERIC":
		return "left(" + text + ", " + strconv.Itoa(mostPosition+1) + ")", text + " !~ '[A-Za-z]' AND length(" + text + ") <= " + strconv.Itoa(mostPosition), position{"-1e300", true}, nil
	case "TIMESTAMPTZ":
		at, placed = times("YYYY-MM-DD HH24:MI:SS.US", " AT TIME ZONE 'UTC'")
		return "coalesce(" + at + " || '+00', '')", placed, position{Text: "0001-01-01 00:00:00.000000+00"}, nil
	case "TIMESTAMP":
		at, placed = times("YYYY-MM-DD HH24:MI:SS.US", "")
		return at, placed, position{Text: "0001-01-01 00:00:00.000000"}, nil
	case "DATE":
		at, placed = times("YYYY-MM-DD", "")
		return at, placed, position{Text: "0001-01-01"}, nil
	case "UUID":
		return text, "true", position{Text: "00000000-0000-0000-0000-000000000000"}, nil
	}
	return "", "", position{}, fmt.Errorf("is of type %s, whose order pawl does not know: take one that is integer, numeric, timestamp, timestamptz, date or uuid", strings.ToLower(kind))
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

// page reads up to limit rows above a position, in their order, and some 16 MiB of rows that are not known already. more: there
// may be further ones. Rows beyond these bytes that share the first one's cursor, so that there is no other place to begin the next page, are left: they
// have their ids only.
func (d database) page(ctx context.Context, s *Source, f *form, after position, limit int, known func(row) bool) (out []row, more bool, err error) {
	for _, after := range d.starts(after) {
		rows, further, err := d.pageAbove(ctx, s, f, after, limit, known)
		if err != nil {
			return nil, false, err
		}
		placed := slices.ContainsFunc(rows, func(r row) bool { return !r.odd })
		if placed || len(out) == 0 {
			out, more = rows, further
		}
		if placed {
			break
		}
	}
	return out, more, nil
}

func (d database) pageAbove(ctx context.Context, s *Source, f *form, after position, limit int, known func(row) bool) (out []row, more bool, err error) {
	err = d.reading(ctx, func(tx asker) error {
		rows, err := tx.QueryContext(ctx, f.page, d.argument(after), limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		bytes, last := 0, after
		for rows.Next() {
			var kind, at string
			var object, key sql.NullString
			if err := rows.Scan(&kind, &at, &object, &key); err != nil {
				return err
			}
			r := row{id: s.runID(at, key.String), name: fmt.Sprintf("with the cursor %.60s and the key %.100s", at, cmp.Or(key.String, "that is too long"))}
			if r.at, r.err = d.position(f, kind, at); r.err != nil { // it comes again with those behind it
				r.at, r.odd = last, true
			}
			last = r.at
			switch {
			case r.odd:
			case !object.Valid || !key.Valid:
				r.err = errLarge
			case known(r):
			case bytes > mostBytes:
				r.left = true
			default:
				r.change.Row = clean(object.String)
				bytes += len(object.String)
			}
			out = append(out, r)
			if bytes > mostBytes && r.at.compare(out[0].at) != 0 {
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

// position is that of a row, or an error that says why its cursor has none.
func (d database) position(f *form, kind, at string) (position, error) {
	switch {
	case len(at) > mostPosition:
		return lowest, fmt.Errorf("its cursor has more than %d bytes", mostPosition)
	case d.dialect == Postgres:
		if at == "NaN" || strings.Contains(at, "Infinity") || !f.first.Number && len(at) != len(f.first.Text) {
			return lowest, fmt.Errorf("its cursor is %q, which has no place in an order", at)
		}
		return position{at, f.first.Number}, nil
	case kind == "integer":
		return position{at, true}, nil
	case kind == "text" && utf8.ValidString(at):
		return position{at, false}, nil
	}
	return lowest, fmt.Errorf("its cursor is %s, whose order pawl does not know: take a column of integers, or of text such as 2026-01-31T10:00:00Z", kind)
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
		defer func() { // the pool's other users write; also where the next statement was broken off, it may have been done
			if _, err := conn.ExecContext(context.WithoutCancel(ctx), "PRAGMA query_only = 0"); err != nil {
				_ = conn.Raw(func(any) error { return driver.ErrBadConn })
			}
		}()
		if _, err := conn.ExecContext(ctx, "PRAGMA query_only = 1"); err != nil {
			return err
		}
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
