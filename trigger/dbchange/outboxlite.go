package dbchange

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
)

func (d database) tableSQLite(ctx context.Context, t tableName) (place, error) {
	if t.schema != "" && t.schema != "main" {
		return place{}, fmt.Errorf("%w: table %s: a trigger of SQLite writes into its own file only: leave %s out, or write main", pawl.ErrInput, t.quoted(), t.schema)
	}
	t.schema = ""
	var kind string
	err := d.QueryRowContext(ctx, "SELECT name, type FROM sqlite_master WHERE name = ?1 COLLATE NOCASE AND type IN ('table', 'view')", t.name).Scan(&t.name, &kind)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return place{t}, fmt.Errorf("%w: there is no table %s in the database", pawl.ErrNotFound, t.quoted())
	case err != nil:
		return place{}, err
	case kind != "table":
		return place{}, fmt.Errorf("%w: %s is not a table, so it has no triggers of its rows", pawl.ErrInput, t.quoted())
	}
	return place{t}, nil
}

// liteTrigger is a trigger's name, of which there is one in the whole file.
func liteTrigger(t place, op Operation) string {
	return triggerName(op) + "_" + hashOf(strings.ToLower(t.name.name))[:12]
}

func (o Outbox) planSQLite(ctx context.Context, d database, t place) ([]string, error) {
	columns, err := d.texts(ctx, "SELECT name FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid", t.name.name)
	if err != nil {
		return nil, err
	}
	if len(columns) > 500 {
		return nil, fmt.Errorf("%w: table %s has %d columns, the limit is 500", pawl.ErrInput, t.canonical(), len(columns))
	}
	out := []string{
		`CREATE TABLE IF NOT EXISTS pawl_outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  reader TEXT NOT NULL,
  tbl TEXT NOT NULL,
  op TEXT NOT NULL,
  "row" TEXT NOT NULL,
  old TEXT,
  at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
)`,
		`CREATE INDEX IF NOT EXISTS pawl_outbox_by_reader ON pawl_outbox (reader, id)`,
		`CREATE TABLE IF NOT EXISTS pawl_outbox_readers (
  reader TEXT PRIMARY KEY,
  tbl TEXT NOT NULL,
  ops TEXT NOT NULL,
  born TEXT NOT NULL
)`,
	}
	for _, op := range []Operation{Insert, Update, Delete} {
		out = append(out, d.dropTrigger(t, op))
		if slices.Contains(o.Operations, op) {
			out = append(out, liteTriggerText(t, op, columns))
		}
	}
	return out, nil
}

func liteTriggerText(t place, op Operation, columns []string) string {
	row, old := triggeredObject("NEW.", columns), "NULL"
	switch op {
	case Delete:
		row = triggeredObject("OLD.", columns)
	case Update:
		old = triggeredObject("OLD.", columns)
	}
	return "CREATE TRIGGER " + quoted(liteTrigger(t, op)) + " AFTER " + strings.ToUpper(string(op)) + " ON " + t.canonical() + " BEGIN\n" +
		`  INSERT INTO pawl_outbox (reader, tbl, op, "row", old)` + "\n  SELECT reader, tbl, " + literal(string(op)) + ", " + row + ", " + old + "\n" +
		"  FROM pawl_outbox_readers WHERE tbl = " + literal(t.canonical()) + " AND instr(ops, " + literal(","+string(op)+",") + ") > 0;\nEND"
}

// triggeredObject is liteObject for the library of whoever writes the table: older ones take 127 arguments at most.
func triggeredObject(prefix string, columns []string) string {
	if len(columns) <= 60 {
		return liteObject(prefix, columns)
	}
	var parts []string
	for _, name := range columns {
		parts = append(parts, "SELECT "+literal(name)+" AS n, "+liteValue(prefix+quoted(name))+" AS v")
	}
	return "(SELECT json_group_object(n, v) FROM (" + strings.Join(parts, " UNION ALL ") + "))"
}

func (d database) outboxOfSQLite(ctx context.Context, t place) (has, others bool, err error) {
	names, err := d.texts(ctx, "SELECT name FROM sqlite_master WHERE name = 'pawl_outbox_readers' OR type = 'trigger' AND name LIKE 'pawl\\_outbox\\_%' ESCAPE '\\'")
	for _, name := range names {
		switch {
		case name == "pawl_outbox_readers":
			has = true
		case !slices.ContainsFunc([]Operation{Insert, Update, Delete}, func(op Operation) bool { return name == liteTrigger(t, op) }):
			others = true
		}
	}
	return has, others, err
}

func (d database) triggersSQLite(ctx context.Context, t place) ([]string, error) {
	return d.texts(ctx, "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE", t.name.name)
}
