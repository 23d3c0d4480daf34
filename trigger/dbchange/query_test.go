package dbchange

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

var byID = Source{Query: "SELECT id, item FROM orders WHERE id > $1", Cursor: "id", Settle: -1}

func TestRowsThatAreThereAtTheBeginningStartRunsOnlyIfThatIsAskedFor(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		s.orders(t)
		e := client(t, s.store())
		s.exec(t, "INSERT INTO orders (item) VALUES ('old'), ('older')")
		put(t, e, byID)
		stop := background(t, s.runner(e))
		polled(t, e)
		s.exec(t, "INSERT INTO orders (item) VALUES ('new')")
		wantItems(t, e, "new")
		stop()
		s.exec(t, "INSERT INTO orders (item) VALUES ('unseen')") // nobody looks
		background(t, s.runner(e))
		wantItems(t, e, "new", "unseen")

		all := byID
		all.ID, all.Existing = "all", true
		put(t, e, all)
		wantItems(t, e, "new", "new", "old", "older", "unseen", "unseen")
	})
}

// The second transaction has taken its value and has not written: it has no xid yet, and the snapshot's xmin does not know of it.
func TestARowThatCommitsLateBelowTheCursorIsFound(t *testing.T) {
	t.Parallel()
	s := newSite(t, Postgres, SQLite)
	s.orders(t)
	e := client(t, s.store())
	put(t, e, byID)
	background(t, s.runner(e))
	polled(t, e)

	late, err := s.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := late.Exec("INSERT INTO orders (item) VALUES ('late')"); err != nil {
		t.Fatal(err)
	}
	later, err := s.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	var id int64
	if err := later.QueryRow("SELECT nextval(pg_get_serial_sequence('orders', 'id'))").Scan(&id); err != nil {
		t.Fatal(err)
	}
	s.exec(t, "INSERT INTO orders (item) VALUES ('early'), ('early')")
	for range 3 {
		polled(t, e)
		s.exec(t, "INSERT INTO orders (item) VALUES ('early')")
	}
	wantItems(t, e, "early", "early", "early", "early", "early")
	if st := status(t, e); len(st.Open) < 2 || st.Low != "-9223372036854775808" {
		t.Errorf("two transactions are open, and the cursor has passed: %+v", st)
	}
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	wantItems(t, e, "early", "early", "early", "early", "early", "late")
	if _, err := later.Exec("INSERT INTO orders (id, item) OVERRIDING SYSTEM VALUE VALUES ($1, 'later')", id); err != nil {
		t.Fatal(err)
	}
	polled(t, e)
	if err := later.Commit(); err != nil {
		t.Fatal(err)
	}
	wantItems(t, e, "early", "early", "early", "early", "early", "late", "later")
	until(t, "the cursor has passed", func() bool { return len(status(t, e).Low) < 10 && status(t, e).Low >= "6" })
}

func TestARowOfAPreparedTransactionIsFound(t *testing.T) {
	t.Parallel()
	s := newSite(t, Postgres, SQLite)
	var most int
	if err := s.db.QueryRow("SELECT current_setting('max_prepared_transactions')::int").Scan(&most); err != nil {
		t.Fatal(err)
	}
	w := &work{src: Source{Settle: -1}}
	w.st.Marks = []mark{{Max: position{"5", true}, Open: []string{"3/7"}}}
	w.follow([]string{"3/7"}, nil)
	if m := w.st.Marks[0]; len(m.Open) != 1 {
		t.Errorf("an open transaction has gone: %+v", m)
	}
	w.follow(nil, []string{"991"}) // it was prepared
	if m := w.st.Marks[0]; !slices.Equal(m.Open, []string{"991"}) || !m.Prepared {
		t.Errorf("a prepared transaction has gone: %+v", m)
	}
	w.follow(nil, []string{"992"})
	if m := w.st.Marks[0]; len(m.Open) != 0 {
		t.Errorf("the transaction has committed: %+v", m)
	}
	if most == 0 { // the server has none: the question must still be answered
		if _, prepared, err := databaseOf(s.connection()).running(t.Context()); err != nil || len(prepared) != 0 {
			t.Errorf("%v, %v", prepared, err)
		}
	}
}

func TestRowsWithTheSameCursorAreToldApart(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		s.orders(t)
		e := client(t, s.store())
		put(t, e, Source{Query: "SELECT id, item, at FROM orders WHERE at > $1", Cursor: "at", Existing: true})
		background(t, s.runner(e))
		s.exec(t, "INSERT INTO orders (item, at) VALUES ('a', '2026-01-01 10:00:00'), ('b', '2026-01-01 10:00:00')")
		wantItems(t, e, "a", "b")
		s.exec(t, "INSERT INTO orders (item, at) VALUES ('c', '2026-01-01 10:00:00')") // with the greatest value there is
		wantItems(t, e, "a", "b", "c")
		s.exec(t, "UPDATE orders SET at = '2026-01-02 10:00:00' WHERE item = 'a'")
		wantItems(t, e, "a", "a", "b", "c")
		polled(t, e)
		s.exec(t, "INSERT INTO orders (item, at) VALUES ('d', '2026-01-01 09:00:00')") // late, below all that was seen
		wantItems(t, e, "a", "a", "b", "c", "d")
	})
}

func TestARowThatNoWorkflowTakesDoesNotStopTheOthers(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		s.orders(t)
		e := client(t, s.store())
		src := byID
		src.Existing = true
		put(t, e, src)
		s.exec(t, "INSERT INTO orders (item) VALUES ('a')")
		if s.dialect == Postgres {
			s.exec(t, "INSERT INTO orders (item) VALUES (repeat('x', 3000000))")
		} else {
			s.exec(t, "INSERT INTO orders (item) VALUES (printf('%.*c', 3000000, 'x'))")
		}
		s.exec(t, "INSERT INTO orders (item) VALUES ('b')")
		background(t, s.runner(e))
		wantItems(t, e, "a", "b")
		until(t, "the row is passed", func() bool { return status(t, e).Refused == 1 })
		refused, err := Sources{e}.Refused(t.Context(), "", "s", "", 0)
		if err != nil || len(refused) != 1 || !strings.Contains(refused[0].Reason, "limit") || !strings.HasPrefix(refused[0].Run, "s@") {
			t.Errorf("%+v, %v", refused, err)
		}
		polled(t, e)
		if st := status(t, e); st.Refused != 1 || st.Rows != 2 {
			t.Errorf("it is refused again: %+v", st)
		}
	})
}

func TestAnErrorOfTheDatabaseIsShownAndOverWhenItIs(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		s.orders(t)
		e := client(t, s.store())
		put(t, e, byID)
		background(t, s.runner(e))
		polled(t, e)
		s.exec(t, "ALTER TABLE orders RENAME TO away")
		until(t, "the error", func() bool { return strings.Contains(status(t, e).Error, "orders") })
		s.exec(t, "INSERT INTO away (item) VALUES ('meanwhile')")
		s.exec(t, "ALTER TABLE away RENAME TO orders")
		wantItems(t, e, "meanwhile")
		until(t, "the end of the error", func() bool { st := status(t, e); return st.Error == "" && st.Failures == 0 })
	})
}

func TestARemovedOrPausedSourceStartsNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, SQLite, SQLite)
	s.orders(t)
	e := client(t, s.store())
	put(t, e, byID)
	background(t, s.runner(e))
	polled(t, e)
	sources := Sources{e}
	if err := sources.Pause(t.Context(), "", "s", true); err != nil {
		t.Fatal(err)
	}
	until(t, "it is let go", func() bool { return !status(t, e).Watched })
	s.exec(t, "INSERT INTO orders (item) VALUES ('a')")
	time.Sleep(100 * time.Millisecond) // nothing is to happen
	wantItems(t, e)
	if err := sources.Pause(t.Context(), "", "s", false); err != nil {
		t.Fatal(err)
	}
	wantItems(t, e, "a")
	if err := sources.Remove(t.Context(), "", "s"); err != nil {
		t.Fatal(err)
	}
	if _, err := sources.Get(t.Context(), "", "s"); !errors.Is(err, pawl.ErrNotFound) {
		t.Errorf("it is still there: %v", err)
	}
	until(t, "all is taken away", func() bool {
		n := 0
		for _, space := range []string{sourceSpace, indexSpace, stateSpace, seenSpace, claimSpace} {
			page, err := e.Records(t.Context(), space, "", "", 0)
			if err != nil {
				t.Fatal(err)
			}
			n += len(page)
		}
		return n == 0
	})
	put(t, e, byID) // it begins anew
	polled(t, e)
	s.exec(t, "INSERT INTO orders (item) VALUES ('b')")
	wantItems(t, e, "a", "b")
}

func TestValuesKeepTheirFormInJSON(t *testing.T) {
	t.Parallel()
	for dialect, want := range map[Dialect]string{
		Postgres: `{"id":9007199254740993,"item":"ä\"'\\","raw":"\\x00ff","n":123456789012345678901234567890.5}`,
		SQLite:   `{"id":9007199254740993,"item":"ä\"'\\","raw":"\\x00ff","n":0.5}`,
	} {
		s := newSite(t, dialect, SQLite)
		s.orders(t)
		e := client(t, s.store())
		number, bytes, over := "0.5", "x'00ff'", ""
		if dialect == Postgres {
			number, bytes, over = "123456789012345678901234567890.5::numeric", `'\x00ff'`, "OVERRIDING SYSTEM VALUE "
		}
		put(t, e, Source{Query: "SELECT id, item, raw, " + number + " AS n FROM orders WHERE id > $1", Cursor: "id", Existing: true})
		s.exec(t, "INSERT INTO orders (id, item, raw) "+over+`VALUES (9007199254740993, 'ä"''\', `+bytes+")")
		background(t, s.runner(e))
		until(t, "the run", func() bool { return len(inputs(t, e)) == 1 })
		for _, c := range inputs(t, e) {
			if string(c.Row) != want {
				t.Errorf("%s: the row is %s, want %s", dialect, c.Row, want)
			}
		}
	}
}

func TestWhatCanNotBeWatchedIsRefused(t *testing.T) {
	t.Parallel()
	for _, d := range []Dialect{Postgres, SQLite} {
		s := newSite(t, d, SQLite)
		s.orders(t)
		for _, c := range []struct {
			query, cursor, want string
			key                 []string
		}{
			{"SELECT id FROM orders WHERE id > $1", "nr", `no column "nr"`, nil},
			{"SELECT id FROM orders WHERE id > $1", "id", `no column "nr"`, []string{"nr"}},
			{"SELECT id FROM orders", "id", "does not name the cursor's value", nil},
			{"SELECT id FROM orders WHERE item = '$1' -- $1", "id", "does not name the cursor's value", nil},
			{"SELECT id FROM orders WHERE id > $1; DROP TABLE orders", "id", "more than one statement", nil},
			{"SELECT id FROM orders WHERE id > $1) AS q; --", "id", "parenthesis", nil},
			{"SELECT id FROM orders WHERE id > $1 AND $2 = 1", "id", "$2", nil},
			{"SELECT id FROM (SELECT id FROM orders WHERE id > $1", "id", "parenthesis", nil},
			{"DELETE FROM orders WHERE id > $1", "id", "", nil},
			{"SELECT id FROM nothing WHERE id > $1", "id", "nothing", nil},
			{"SELECT id FROM orders WHERE id > $1 AND item = 'open", "id", "not closed", nil},
		} {
			src := Source{ID: "s", Workflow: "w", Connection: "shop", Query: c.query, Cursor: c.cursor, Key: c.key}
			if err := Check(t.Context(), s.connection(), src); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %s by %s: %v, want %q", d, c.query, c.cursor, err, c.want)
			}
		}
		for _, query := range []string{
			"SELECT id FROM orders WHERE id > $1;\n ", "SELECT id FROM orders WHERE id > $1 -- all; of them",
			"SELECT id, ';' AS x /* ; */ FROM orders WHERE id > $1 AND id > $1", "WITH o AS (SELECT * FROM orders) SELECT id FROM o WHERE id > $1 ORDER BY item",
		} {
			if err := Check(t.Context(), s.connection(), Source{ID: "s", Workflow: "w", Connection: "shop", Query: query, Cursor: "id"}); err != nil {
				t.Errorf("%s: %s: %v", d, query, err)
			}
		}
	}
	s := newSite(t, Postgres, SQLite)
	s.orders(t)
	err := Check(t.Context(), s.connection(), Source{ID: "s", Workflow: "w", Connection: "shop", Query: "SELECT item FROM orders WHERE item > $1", Cursor: "item"})
	if !errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), "text") {
		t.Errorf("a cursor whose order depends on the language: %v", err)
	}
	err = Check(t.Context(), s.connection(), Source{ID: "s", Workflow: "w", Connection: "shop", Query: "SELECT id, item AS id FROM orders WHERE id > $1", Cursor: "id"})
	if !errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), "two columns") {
		t.Errorf("two columns of one name: %v", err)
	}
}

func TestSourcesOfAnOwnerAreReplacedTogether(t *testing.T) {
	t.Parallel()
	s := newSite(t, SQLite, SQLite)
	e := client(t, s.store())
	replace := func(ids ...string) int {
		t.Helper()
		var want []Source
		for _, id := range ids {
			src := byID
			src.ID, src.Owner, src.Workflow, src.Connection = id, "flow:f", "taken", "shop"
			want = append(want, src)
		}
		puts, err := Replace(t.Context(), e, "", "flow:f", want)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Write(t.Context(), puts...); err != nil {
			t.Fatal(err)
		}
		return len(puts)
	}
	list := func() (ids []string) {
		t.Helper()
		page, err := Sources{e}.List(t.Context(), "", "", 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, src := range page {
			ids = append(ids, src.ID)
		}
		return ids
	}
	replace("flow:f:1", "flow:f:2")
	if n := replace("flow:f:1", "flow:f:2"); n != 0 {
		t.Errorf("%d records are written of what stays the same", n)
	}
	replace("flow:f:2", "flow:f:3")
	if got := list(); !slices.Equal(got, []string{"flow:f:2", "flow:f:3"}) {
		t.Errorf("there are %v", got)
	}
	if err := (Sources{e}).Remove(t.Context(), "", "flow:f:2"); !errors.Is(err, pawl.ErrState) {
		t.Errorf("somebody else removes it: %v", err)
	}
	if _, err := (Sources{e}).Put(t.Context(), Source{ID: "flow:x"}); !errors.Is(err, pawl.ErrState) {
		t.Errorf("somebody else takes an owner's id: %v", err)
	}
	if _, err := Replace(t.Context(), e, "", "flow:f", []Source{byID}); !errors.Is(err, pawl.ErrInput) {
		t.Errorf("an owner takes another id: %v", err)
	}
	replace()
	if got := list(); len(got) != 0 {
		t.Errorf("there are %v", got)
	}
}

func TestASourceIsChangedByItsRevision(t *testing.T) {
	t.Parallel()
	s := newSite(t, SQLite, SQLite)
	e := client(t, s.store())
	first := put(t, e, byID)
	if same := put(t, e, byID); same.Revision != first.Revision {
		t.Error("what stays the same is written")
	}
	second := first
	second.Interval = time.Minute
	second, err := Sources{e}.Put(t.Context(), second)
	if err != nil || second.Revision <= first.Revision || !second.Created.Equal(first.Created) {
		t.Errorf("%+v, %v", second, err)
	}
	for _, revision := range []int64{first.Revision, 0} {
		first.Revision = revision
		if _, err := (Sources{e}).Put(t.Context(), first); !errors.Is(err, pawl.ErrConflict) {
			t.Errorf("revision %d: %v", revision, err)
		}
	}
	data, err := json.Marshal(second)
	if err != nil || !strings.Contains(string(data), `"connection":"shop"`) {
		t.Errorf("%s, %v", data, err)
	}
}
