package dbchange

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// text is an expression of a text of so many signs.
func (s *site) text(n int) string {
	if s.dialect == Postgres {
		return fmt.Sprintf("repeat('x', %d)", n)
	}
	return fmt.Sprintf("printf('%%.*c', %d, 'x')", n)
}

// refusals are the reasons of the rows that were refused.
func refusals(t *testing.T, s Sources, id string) (all []string) {
	t.Helper()
	page, err := s.Refused(t.Context(), "", id, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range page {
		if len(r.Change) == 0 && len(r.Reason) > 1000 {
			t.Errorf("the reason has %d bytes: %.200s", len(r.Reason), r.Reason)
		}
		all = append(all, r.Reason)
	}
	return all
}

// A row of any size is refused with what it is found by, is not read, and does not stop the others.
func TestARowOfAnySizeIsRefusedByItsName(t *testing.T) {
	t.Parallel()
	for watched, store := range map[Dialect]Dialect{Postgres: SQLite, SQLite: Postgres} {
		s := newSite(t, watched, store)
		s.orders(t)
		e := client(t, s.store())
		src := byID
		src.Existing = true
		put(t, e, src)
		s.install(t, Outbox{Table: "orders"})
		put(t, e, Source{ID: "table", Table: "orders", Operations: []Operation{Insert, Update}})
		stop := background(t, s.runner(e))
		until(t, "it has entered", func() bool { return s.count(t, "SELECT count(*) FROM pawl_outbox_readers") == 1 })
		stop()
		s.exec(t, "INSERT INTO orders (item) VALUES ('a')")
		s.exec(t, "INSERT INTO orders (item) VALUES ("+s.text(9<<20)+")")
		s.exec(t, "INSERT INTO orders (item) VALUES ("+s.text(40<<20)+")")
		s.exec(t, "INSERT INTO orders (item) VALUES ('b')")
		s.exec(t, "UPDATE orders SET item = 'c' WHERE id = 2")
		s.exec(t, "UPDATE orders SET item = 'd' WHERE item = 'c'")
		background(t, s.runner(e))
		// The update from what was too large can't be told of; that from c to d can.
		wantItems(t, e, "a", "a", "b", "b", "d", "d")
		for id, want := range map[string]int{"s": 1, "table": 3} {
			until(t, "they are passed", func() bool { return len(refusals(t, Sources{e}, id)) == want })
			for _, reason := range refusals(t, Sources{e}, id) {
				if !strings.Contains(reason, "8 MiB") || id == "s" && !strings.Contains(reason, "with the cursor ") || id == "table" && !strings.Contains(reason, "of a row of orders") {
					t.Errorf("%s: the reason is %s", id, reason)
				}
			}
		}
	}
}

// Many rows with one cursor, which have to be read together, are read a part at a time.
func TestRowsWithOneCursorTakeLittleMemory(t *testing.T) {
	t.Parallel()
	for _, d := range []Dialect{Postgres, SQLite} {
		s := newSite(t, d, SQLite)
		s.orders(t)
		e := client(t, s.store())
		put(t, e, Source{Query: "SELECT id, item, at FROM orders WHERE at > $1", Cursor: "at", Existing: true})
		tx, err := s.db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		const many = 16
		for i := range many {
			if _, err := tx.Exec(fmt.Sprintf("INSERT INTO orders (item, at) VALUES (%s, '2026-01-01 10:00:00')", s.text(1_500_000+i))); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		w := &work{src: Source{ID: "s", Cursor: "at", Query: "SELECT id, item, at FROM orders WHERE at > $1"}, db: databaseOf(s.connection())}
		form, err := w.db.prepare(t.Context(), &w.src)
		if err != nil {
			t.Fatal(err)
		}
		rows, more, err := w.db.page(t.Context(), &w.src, form, form.first, mostNew, func(row) bool { return false })
		if err != nil || len(rows) != many || more {
			t.Fatalf("%s: %d rows, %v, %v", d, len(rows), more, err)
		}
		bytes, left := 0, 0
		for _, r := range rows {
			if bytes += len(r.change.Row); r.left {
				left++
			}
		}
		if bytes > mostBytes+mostRow || left < many/8 {
			t.Errorf("%s: %d bytes are read at once, and %d rows left", d, bytes, left)
		}
		background(t, s.runner(e))
		until(t, "all runs", func() bool { return status(t, e).Rows == many })
	}
}

// Rows whose cursor has no place in an order are refused once, and do not stop the others.
func TestRowsWithoutAPlaceDoNotStopTheOthers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dialect Dialect
		cursor  string
		good    string // of a number
		odd     []string
	}{
		{Postgres, "numeric", "%d", []string{"'NaN'", "1e300 + 0.5", "10.5 + 1e-250"}},
		{Postgres, "timestamptz", "'2026-01-01 10:00:%02d'", []string{"'infinity'", "'12026-01-01'"}},
		{Postgres, "date", "'2026-01-%02d'", []string{"'infinity'"}},
		{SQLite, "", "%d", []string{"10.5", "x'ff00'", "9e999", "printf('%.*c', 5000000, 'x')", "CAST(x'ff41' AS TEXT)"}},
		{SQLite, "TEXT", "'2026-01-%02d'", []string{"x'00'", "printf('%.*c', 5000000, 'x')", "CAST(x'ff41' AS TEXT)"}},
	} {
		t.Run(string(c.dialect)+" "+c.cursor, func(t *testing.T) {
			s := newSite(t, c.dialect, SQLite)
			s.exec(t, "CREATE TABLE orders (id INTEGER PRIMARY KEY, item text, nr "+c.cursor+")")
			good := func(n int, item string) {
				s.exec(t, fmt.Sprintf("INSERT INTO orders VALUES (%d, '%s', %s)", n, item, fmt.Sprintf(c.good, n)))
			}
			e := client(t, s.store())
			good(1, "old")
			src := Source{Query: "SELECT id, item, nr FROM orders WHERE nr > $1", Cursor: "nr", Settle: -1}
			put(t, e, src)
			background(t, s.runner(e))
			polled(t, e)
			good(2, "a")
			for i, odd := range c.odd {
				s.exec(t, fmt.Sprintf("INSERT INTO orders VALUES (%d, 'odd', %s)", 100+i, odd))
			}
			good(11, "b")
			good(12, "c")
			wantItems(t, e, "a", "b", "c")
			for i := range 5 { // the cursor moves on, and they are shown again
				good(13+i, "d")
				polled(t, e)
			}
			wantItems(t, e, "a", "b", "c", "d", "d", "d", "d", "d")
			if st := status(t, e); st.Error != "" || st.Refused != int64(len(c.odd)) {
				t.Errorf("%d are refused, want %d: %s", st.Refused, len(c.odd), st.Error)
			}
			for _, reason := range refusals(t, Sources{e}, "s") {
				if !strings.Contains(reason, "its cursor ") || !strings.Contains(reason, "the key [10") && !strings.Contains(reason, `the key {"id":10`) {
					t.Errorf("the reason is %s", reason)
				}
			}
		})
	}
}

// A look that is broken off leaves no connection behind that can't write: the pool is that of others too.
func TestALookThatIsBrokenOffLeavesAPoolThatWrites(t *testing.T) {
	t.Parallel()
	s := newSite(t, SQLite, SQLite)
	s.orders(t)
	s.db.SetMaxOpenConns(1)
	d := databaseOf(s.connection())
	for i := range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for range i * 20 {
				runtime.Gosched()
			}
			cancel()
		}()
		_ = d.reading(ctx, func(tx asker) error {
			rows, err := tx.QueryContext(ctx, "SELECT 1")
			if err != nil {
				return err
			}
			return rows.Close()
		})
		cancel()
		s.exec(t, "INSERT INTO orders (item) VALUES ('a')")
	}
}
