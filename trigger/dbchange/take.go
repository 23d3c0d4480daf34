package dbchange

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl"
)

// Lines of an outbox are taken as they can be seen, and deleted when their runs are committed. No cursor passes them, so
// it does not matter in which order transactions commit, and how long others are open. A line that is taken twice, by a crash
// before its delete or by two servers, makes the same run's id.

func (w *work) reader() reader { return reader{w.src.Connection, w.src.Table, w.st.Reader} }

// outbox takes lines. more: there are further ones, now.
func (w *work) outbox(ctx context.Context) (more bool, err error) {
	t, err := w.db.table(ctx, w.src.Table)
	if err != nil {
		return false, err
	}
	if w.st.Reader == "" {
		w.st.Reader = rand.Text()
		if err := w.save(ctx); err != nil {
			return false, err
		}
	}
	if err := w.enter(ctx, t); err != nil {
		return false, err
	}
	rows, more, err := w.lines(ctx, t)
	if err != nil || len(rows) == 0 {
		return false, explained(err)
	}
	started, refused, err := w.start(ctx, rows)
	if err != nil {
		return false, err
	}
	if err := w.passed(ctx, rows, started, refused); err != nil {
		return false, err
	}
	numbers := make([]int64, len(rows))
	for i, r := range rows {
		numbers[i] = r.outbox
	}
	if err := w.db.deleteLines(ctx, t, w.st.Reader, numbers); err != nil {
		return false, fmt.Errorf("delete what was taken from the outbox: %w", explained(err))
	}
	return more, nil
}

// enter has the triggers write for this source, if they don't.
func (w *work) enter(ctx context.Context, t place) error {
	has, _, err := w.db.outboxOf(ctx, t)
	if err != nil {
		return explained(err)
	}
	if !has {
		return w.db.watchable(ctx, &w.src) // it says what is to be done
	}
	ops := ","
	for _, op := range w.src.operations() {
		ops += string(op) + ","
	}
	shown, given := "ops", "$3"
	if w.db.dialect == Postgres {
		shown, given = "',' || array_to_string(ops, ',') || ','", "string_to_array(trim(both ',' from $3), ',')"
	}
	for range 3 {
		var have string
		err := w.db.QueryRowContext(ctx, "SELECT born, "+shown+" FROM "+t.beside("pawl_outbox_readers")+w.db.sql(" WHERE reader = $1 AND tbl = $2"), w.st.Reader, t.canonical()).Scan(&w.born, &have)
		if err == nil && have == ops {
			return nil
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return explained(err)
		}
		if err := w.db.watchable(ctx, &w.src); err != nil {
			return err
		}
		// Numbers of an outbox that was made anew begin anew: born tells them from the former ones.
		insert := "INSERT INTO " + t.beside("pawl_outbox_readers") + w.db.sql(" (reader, tbl, ops, born) VALUES ($1, $2, "+given+", $4)") + " ON CONFLICT (reader) DO UPDATE SET ops = excluded.ops, tbl = excluded.tbl"
		if _, err := w.db.ExecContext(ctx, insert, w.st.Reader, t.canonical(), ops, rand.Text()); err != nil {
			return fmt.Errorf("enter the source into the outbox: %w", explained(err))
		}
	}
	return fmt.Errorf("the source's line in pawl_outbox_readers is changed by somebody else all the time")
}

// lines reads what the outbox has for this source.
func (w *work) lines(ctx context.Context, t place) (out []row, more bool, err error) {
	at, size := "at", func(column string) string { return "octet_length(" + column + ")" }
	if w.db.dialect == Postgres {
		at = `to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
		size = func(column string) string { return "octet_length(" + column + "::text)" }
	}
	shown, before := size(`"row"`), "coalesce("+size("old")+", 0)"
	fits := fmt.Sprintf("%s + %s <= %d", shown, before, mostRow)
	rows, err := w.db.QueryContext(ctx, fmt.Sprintf(`SELECT id, op, CASE WHEN %[1]s THEN CAST("row" AS text) END, CASE WHEN %[1]s THEN CAST(old AS text) END, %[2]s, CASE WHEN %[3]s <= %[4]d THEN substr(CAST("row" AS text), 1, 100) ELSE '…' END FROM `, fits, at, shown, 4*mostRow)+
		t.beside("pawl_outbox")+w.db.sql(" WHERE reader = $1 ORDER BY id LIMIT ")+strconv.Itoa(batch), w.st.Reader)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	bytes := 0
	for rows.Next() {
		var r row
		var object, old sql.NullString
		var begins string
		if err := rows.Scan(&r.outbox, &r.change.Operation, &object, &old, &r.change.At, &begins); err != nil {
			return nil, false, err
		}
		r.change.Table = w.src.Table
		r.name = fmt.Sprintf("of line %d of the outbox, of the %s at %s of a row of %s that begins with %s", r.outbox, r.change.Operation, r.change.At, w.src.Table, strings.ToValidUTF8(begins, "\ufffd"))
		if !object.Valid {
			r.err = errLarge
		}
		r.change.Row = clean(object.String)
		if old.Valid {
			r.change.Old = clean(old.String)
		}
		r.id = w.src.runID("outbox", w.born, strconv.FormatInt(r.outbox, 10), string(r.change.Operation), r.change.At, object.String)
		out = append(out, r)
		if bytes += len(object.String) + len(old.String); bytes > mostBytes {
			return out, true, nil
		}
	}
	return out, len(out) == batch, rows.Err()
}

func (d database) deleteLines(ctx context.Context, t place, reader string, numbers []int64) error {
	among, arg := "= ANY ($2)", any(numbers)
	if d.dialect == SQLite {
		data, err := json.Marshal(numbers)
		if err != nil {
			return err
		}
		among, arg = "IN (SELECT value FROM json_each($2))", string(data)
	}
	_, err := d.ExecContext(ctx, "DELETE FROM "+t.beside("pawl_outbox")+d.sql(" WHERE reader = $1 AND id "+among), reader, arg)
	return err
}

// clear takes former readers of this source out of their outboxes. Those whose connection is not known here stay in Gone.
func (w *work) clear(ctx context.Context) error {
	var left []reader
	var failed error
	for _, r := range w.st.Gone {
		if err := w.leave(ctx, r); err != nil {
			left = append(left, r)
			if !errors.Is(err, pawl.ErrNotFound) {
				failed = errors.Join(failed, err)
			}
		}
	}
	if len(left) < len(w.st.Gone) {
		w.st.Gone = left
		if err := w.save(ctx); err != nil {
			return err
		}
	}
	return failed
}

func (w *work) leave(ctx context.Context, r reader) error {
	c, err := w.house.r.Connect(ctx, r.Connection)
	if err != nil {
		return fmt.Errorf("connection %s: %w", r.Connection, err)
	}
	db := databaseOf(c)
	t, err := db.table(ctx, r.Table)
	if err != nil && (!errors.Is(err, pawl.ErrNotFound) || t.name.name == "") {
		return err
	}
	has, _, err := db.outboxOf(ctx, t)
	if err != nil || !has {
		return explained(err)
	}
	if _, err := db.ExecContext(ctx, "DELETE FROM "+t.beside("pawl_outbox_readers")+db.sql(" WHERE reader = $1"), r.Name); err != nil {
		return explained(err)
	}
	_, err = db.ExecContext(ctx, "DELETE FROM "+t.beside("pawl_outbox")+db.sql(" WHERE reader = $1"), r.Name)
	return explained(err)
}
