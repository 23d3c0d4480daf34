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

// Outbox is what [Source]s with a Table need: triggers on the table, which write each change of a row, in the transaction that makes
// it, into the table pawl_outbox beside it: a line for each source that asks for it, and none when there is no source.
// A line is deleted when its run is committed.
type Outbox struct {
	Table      string      // as of a Source
	Operations []Operation // that the triggers tell of; empty means all three
	// Quiet leaves NOTIFY out, which on PostgreSQL tells Runners at once, and which makes the commits of those who write the
	// table wait for each other. Without it sources are looked at by their Interval.
	Quiet bool
}

// Plan returns the statements of Install, which is one transaction. ErrInput, ErrNotFound: there is no such table.
func (o Outbox) Plan(ctx context.Context, c Connection) ([]string, error) {
	if err := checkOperations(o.Operations); err != nil {
		return nil, fmt.Errorf("%w: outbox of table %.100q: %w", pawl.ErrInput, o.Table, err)
	}
	if len(o.Operations) == 0 {
		o.Operations = []Operation{Insert, Update, Delete}
	}
	db := databaseOf(c)
	t, err := db.table(ctx, o.Table)
	if err != nil {
		return nil, err
	}
	if c.Dialect == SQLite {
		return o.planSQLite(ctx, db, t)
	}
	return o.planPostgres(t), nil
}

// Install makes the outbox and the triggers, or those that are missing, and drops the triggers of other operations. What is in the outbox
// stays. On PostgreSQL it waits for those who write the table, and they for it. It needs the rights of the table's owner, and to create
// tables in its schema. A table of SQLite that gets another column is installed again.
func (o Outbox) Install(ctx context.Context, c Connection) error {
	statements, err := o.Plan(ctx, c)
	if err != nil {
		return err
	}
	if err := inOne(ctx, c.DB, statements); err != nil {
		return fmt.Errorf("install the outbox of table %s: %w", o.Table, installing(err))
	}
	return nil
}

// PlanUninstall returns the statements of Uninstall, which is one transaction.
func (o Outbox) PlanUninstall(ctx context.Context, c Connection) ([]string, error) {
	db := databaseOf(c)
	t, err := db.table(ctx, o.Table)
	gone := errors.Is(err, pawl.ErrNotFound) && t.name.name != ""
	if err != nil && !gone {
		return nil, err
	}
	var out []string
	if !gone {
		for _, op := range []Operation{Insert, Update, Delete} {
			out = append(out, db.dropTrigger(t, op))
		}
	}
	has, others, err := db.outboxOf(ctx, t)
	if err != nil || !has {
		return out, err
	}
	if others {
		return append(out, "DELETE FROM "+t.beside("pawl_outbox_readers")+" WHERE tbl = "+literal(t.canonical()),
			"DELETE FROM "+t.beside("pawl_outbox")+" WHERE tbl = "+literal(t.canonical())), nil
	}
	if c.Dialect == Postgres {
		out = append(out, "DROP FUNCTION IF EXISTS "+t.beside("pawl_outbox_write")+"()")
	}
	return append(out, "DROP TABLE IF EXISTS "+t.beside("pawl_outbox_readers"), "DROP TABLE IF EXISTS "+t.beside("pawl_outbox")), nil
}

// Uninstall drops the triggers of a table, and what the outbox has of it; the outbox too when no other table needs it. What was not
// taken yet starts no run. It does nothing where there is nothing.
func (o Outbox) Uninstall(ctx context.Context, c Connection) error {
	statements, err := o.PlanUninstall(ctx, c)
	if err != nil {
		return err
	}
	if err := inOne(ctx, c.DB, statements); err != nil {
		return fmt.Errorf("uninstall the outbox of table %s: %w", o.Table, installing(err))
	}
	return nil
}

func inOne(ctx context.Context, db *sql.DB, statements []string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, s := range statements {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// place is a table as its database knows it, and so where its outbox is.
type place struct {
	name tableName
}

// canonical is the table's name in the outbox.
func (p place) canonical() string { return p.name.quoted() }

// beside is another thing in the same schema.
func (p place) beside(name string) string {
	return tableName{p.name.schema, name}.quoted()
}

// table finds a table. ErrNotFound comes with what is known of its place.
func (d database) table(ctx context.Context, text string) (place, error) {
	t, err := parseTable(text)
	if err != nil {
		return place{}, fmt.Errorf("%w: %w", pawl.ErrInput, err)
	}
	if d.dialect == SQLite {
		return d.tableSQLite(ctx, t)
	}
	var schema, name, kind string
	err = d.QueryRowContext(ctx, `SELECT n.nspname, c.relname, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)`, t.quoted()).Scan(&schema, &name, &kind)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		if t.schema == "" {
			if err := d.QueryRowContext(ctx, "SELECT coalesce(current_schema(), 'public')").Scan(&t.schema); err != nil {
				return place{}, err
			}
		}
		return place{t}, fmt.Errorf("%w: there is no table %s in the database, or this role may not see it; names are taken as they are written, and PostgreSQL keeps those that were not quoted in small letters", pawl.ErrNotFound, t.quoted())
	case err != nil:
		return place{}, err
	case kind != "r" && kind != "p":
		return place{}, fmt.Errorf("%w: %s is not a table, so it has no triggers of its rows", pawl.ErrInput, t.quoted())
	}
	return place{tableName{schema, name}}, nil
}

func triggerName(op Operation) string { return "pawl_outbox_" + string(op) }

func (d database) dropTrigger(t place, op Operation) string {
	if d.dialect == SQLite {
		return "DROP TRIGGER IF EXISTS " + quoted(liteTrigger(t, op))
	}
	return "DROP TRIGGER IF EXISTS " + triggerName(op) + " ON " + t.canonical()
}

func (o Outbox) planPostgres(t place) []string {
	outbox, readers, write := t.beside("pawl_outbox"), t.beside("pawl_outbox_readers"), t.beside("pawl_outbox_write")
	body := `BEGIN
  INSERT INTO ` + outbox + ` (reader, tbl, op, "row", old)
  SELECT r.reader, TG_ARGV[0], lower(TG_OP),
    CASE TG_OP WHEN 'DELETE' THEN row_to_json(OLD) ELSE row_to_json(NEW) END,
    CASE TG_OP WHEN 'UPDATE' THEN row_to_json(OLD) END
  FROM ` + readers + ` r WHERE r.tbl = TG_ARGV[0] AND lower(TG_OP) = ANY (r.ops);
  IF FOUND AND TG_ARGV[1] = 'notify' THEN
    PERFORM pg_notify('pawl_outbox', '');
  END IF;
  RETURN NULL;
END`
	out := []string{
		"SET LOCAL standard_conforming_strings = on",
		"CREATE TABLE IF NOT EXISTS " + outbox + ` (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  reader text NOT NULL,
  tbl text NOT NULL,
  op text NOT NULL,
  "row" json NOT NULL,
  old json,
  txid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 10000)`, // each line is deleted soon
		"CREATE INDEX IF NOT EXISTS pawl_outbox_by_reader ON " + outbox + " (reader, id)",
		"CREATE TABLE IF NOT EXISTS " + readers + ` (
  reader text PRIMARY KEY,
  tbl text NOT NULL,
  ops text[] NOT NULL,
  born text NOT NULL,
  since timestamptz NOT NULL DEFAULT now()
)`,
		// Those who write the table need no rights on the outbox: the function has those of who installs it.
		"CREATE OR REPLACE FUNCTION " + write + "() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS " + literal(body),
		"REVOKE ALL ON FUNCTION " + write + "() FROM PUBLIC",
	}
	how := "notify"
	if o.Quiet {
		how = "quiet"
	}
	d := database{dialect: Postgres}
	for _, op := range []Operation{Insert, Update, Delete} {
		out = append(out, d.dropTrigger(t, op))
		if slices.Contains(o.Operations, op) {
			out = append(out, "CREATE TRIGGER "+triggerName(op)+" AFTER "+strings.ToUpper(string(op))+" ON "+t.canonical()+
				" FOR EACH ROW EXECUTE FUNCTION "+write+"("+literal(t.canonical())+", "+literal(how)+")")
		}
	}
	return out
}

// outboxOf reports whether the schema of a table has an outbox, and whether other tables need it too.
func (d database) outboxOf(ctx context.Context, t place) (has, others bool, err error) {
	if d.dialect == SQLite {
		return d.outboxOfSQLite(ctx, t)
	}
	err = d.QueryRowContext(ctx, "SELECT to_regclass($1) IS NOT NULL", t.beside("pawl_outbox_readers")).Scan(&has)
	if err != nil || !has {
		return has, false, err
	}
	err = d.QueryRowContext(ctx, `SELECT EXISTS (SELECT FROM pg_trigger g WHERE NOT g.tgisinternal AND g.tgparentid = 0
		AND g.tgfoid = to_regproc($1) AND g.tgrelid IS DISTINCT FROM to_regclass($2))`, t.beside("pawl_outbox_write"), t.canonical()).Scan(&others)
	return has, others, err
}

// watchable looks whether a table has the triggers that a source needs.
func (d database) watchable(ctx context.Context, s *Source) error {
	t, err := d.table(ctx, s.Table)
	if err != nil {
		return err
	}
	var have []string
	if d.dialect == SQLite {
		have, err = d.triggersSQLite(ctx, t)
	} else {
		// Those of a table that was renamed have its former name as their first argument, and write under that.
		have, err = d.texts(ctx, `SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass($1) AND NOT tgisinternal AND tgenabled <> 'D'
			AND position(convert_to($1, getdatabaseencoding()) || '\x00'::bytea IN tgargs) = 1`, t.canonical())
	}
	if err != nil {
		return err
	}
	for _, op := range s.operations() {
		name := triggerName(op)
		if d.dialect == SQLite {
			name = liteTrigger(t, op)
		}
		if !slices.Contains(have, name) {
			return fmt.Errorf("%w: nothing tells of an %s in table %s, or its trigger is disabled or has a former name of the table: install the outbox, with pawl databases install-outbox %s %s", pawl.ErrState, op, s.Table, s.Connection, s.Table)
		}
	}
	return nil
}

// installing adds to errors of a database what rights are needed.
func installing(err error) error {
	if isDenied(err) {
		return fmt.Errorf("%w: install it with a role that owns the table and may create tables in its schema; that role's rights are what the triggers write with", err)
	}
	return err
}
