package dbchange

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
)

func (s *site) install(t *testing.T, o Outbox) {
	t.Helper()
	if err := o.Install(t.Context(), s.connection()); err != nil {
		t.Fatal(err)
	}
}

func (s *site) count(t *testing.T, query string) (n int) {
	t.Helper()
	if err := s.db.QueryRow(query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEverySourceOfATableGetsItsOperations(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		s.orders(t)
		e := client(t, s.store())
		s.install(t, Outbox{Table: "orders"})
		s.install(t, Outbox{Table: "orders"}) // nothing comes twice by that
		s.exec(t, "INSERT INTO orders (item) VALUES ('before')")
		put(t, e, Source{ID: "s", Table: "orders"})
		put(t, e, Source{ID: "all", Table: "orders", Operations: []Operation{Insert, Update, Delete}})
		background(t, s.runner(e))
		until(t, "both have entered", func() bool { return s.count(t, "SELECT count(*) FROM pawl_outbox_readers") == 2 })
		s.exec(t, "INSERT INTO orders (item) VALUES ('a')")
		s.exec(t, "UPDATE orders SET item = 'b' WHERE item = 'a'")
		s.exec(t, "DELETE FROM orders WHERE item = 'b'")
		tx, err := s.db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec("INSERT INTO orders (item) VALUES ('never')"); err != nil {
			t.Fatal(err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		wantItems(t, e, "a", "a", "b", "b")
		var got []string
		for id, c := range inputs(t, e) {
			if c.Table != "orders" || !strings.HasSuffix(c.At, "Z") {
				t.Errorf("%+v", c)
			}
			got = append(got, fmt.Sprintf("%s %s %v", id[:strings.IndexByte(id, '@')], c.Operation, c.Old != nil))
		}
		slices.Sort(got)
		if want := []string{"all delete false", "all insert false", "all update true", "s insert false"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		until(t, "the outbox is empty", func() bool { return s.count(t, "SELECT count(*) FROM pawl_outbox") == 0 })
		if err := (Sources{e}).Remove(t.Context(), "", "all"); err != nil {
			t.Fatal(err)
		}
		until(t, "who is removed leaves the outbox", func() bool { return s.count(t, "SELECT count(*) FROM pawl_outbox_readers") == 1 })
	})
}

func TestAnOutboxThatIsMadeAnewStartsNewRuns(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		s.orders(t)
		e := client(t, s.store())
		s.install(t, Outbox{Table: "orders"})
		put(t, e, Source{Table: "orders"})
		background(t, s.runner(e))
		polled(t, e)
		s.exec(t, "INSERT INTO orders (item) VALUES ('a')")
		wantItems(t, e, "a")
		for range 2 {
			if err := (Outbox{Table: "orders"}).Uninstall(t.Context(), s.connection()); err != nil {
				t.Fatal(err)
			}
		}
		until(t, "the error", func() bool { return strings.Contains(status(t, e).Error, "install-outbox shop orders") })
		s.exec(t, "INSERT INTO orders (item) VALUES ('unwatched')")
		s.install(t, Outbox{Table: "orders", Operations: []Operation{Insert}, Quiet: true})
		polled(t, e)
		s.exec(t, "INSERT INTO orders (item) VALUES ('b')") // its line has the number that a had
		wantItems(t, e, "a", "b")
		if err := Check(t.Context(), s.connection(), Source{ID: "u", Workflow: "w", Connection: "shop", Table: "orders", Operations: []Operation{Update}}); !errors.Is(err, pawl.ErrState) || !strings.Contains(err.Error(), "update") {
			t.Errorf("an operation without its trigger: %v", err)
		}
	})
}

// The triggers of a table that was renamed write under its former name, for nobody.
func TestARenamedTableIsInstalledAgain(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		s.orders(t)
		s.install(t, Outbox{Table: "orders"})
		s.exec(t, "ALTER TABLE orders RENAME TO purchases")
		src := Source{ID: "p", Workflow: "w", Connection: "shop", Table: "purchases"}
		if err := Check(t.Context(), s.connection(), src); !errors.Is(err, pawl.ErrState) || !strings.Contains(err.Error(), "install-outbox shop purchases") {
			t.Errorf("before it is installed: %v", err)
		}
		s.install(t, Outbox{Table: "purchases"})
		if err := Check(t.Context(), s.connection(), src); err != nil {
			t.Error(err)
		}
		e := client(t, s.store())
		put(t, e, Source{Table: "purchases"})
		background(t, s.runner(e))
		polled(t, e)
		s.exec(t, "INSERT INTO purchases (item) VALUES ('a')")
		wantItems(t, e, "a")
	})
}

func TestNamesInADatabaseAreOnlyNames(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		s.orders(t)
		const evil = `x"."y'; DROP TABLE orders; -- $pawl$ \`
		column := `item"', (SELECT 1)) --`
		table := tableName{name: evil}.quoted()
		s.exec(t, "CREATE TABLE "+table+" (id integer PRIMARY KEY, "+quoted(column)+" text)")
		e := client(t, s.store())
		s.install(t, Outbox{Table: table})
		put(t, e, Source{Table: table, Operations: []Operation{Insert, Update, Delete}})
		put(t, e, Source{ID: "q", Query: "SELECT * FROM " + table + " WHERE id > $1", Cursor: "id", Key: []string{column}, Existing: true})
		background(t, s.runner(e))
		polled(t, e)
		s.exec(t, "INSERT INTO "+table+" VALUES (1, 'a')")
		until(t, "both runs", func() bool { return len(inputs(t, e)) == 2 })
		for _, c := range inputs(t, e) {
			if want := `{"id":1,"item\"', (SELECT 1)) --":"a"}`; string(c.Row) != want {
				t.Errorf("the row is %s, want %s", c.Row, want)
			}
		}
		s.exec(t, "INSERT INTO orders (item) VALUES ('still there')")
		if err := (Outbox{Table: table}).Uninstall(t.Context(), s.connection()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTheOutboxOfOneTableStaysWhenThatOfAnotherGoes(t *testing.T) {
	for _, d := range []Dialect{Postgres, SQLite} {
		s := newSite(t, d, SQLite)
		s.orders(t)
		s.exec(t, "CREATE TABLE other (id integer PRIMARY KEY)")
		s.install(t, Outbox{Table: "orders"})
		s.install(t, Outbox{Table: "other"})
		if err := (Outbox{Table: "orders"}).Uninstall(t.Context(), s.connection()); err != nil {
			t.Fatal(err)
		}
		s.exec(t, "INSERT INTO orders (item) VALUES ('a')")
		s.exec(t, "INSERT INTO other VALUES (1)")
		if n := s.count(t, "SELECT count(*) FROM pawl_outbox"); n != 0 {
			t.Errorf("%s: the outbox has %d lines for nobody", d, n)
		}
		s.exec(t, "DROP TABLE other")
		for range 2 {
			if err := (Outbox{Table: "other"}).Uninstall(t.Context(), s.connection()); err != nil {
				t.Fatalf("%s: of a table that is gone: %v", d, err)
			}
		}
		if err := s.db.QueryRow("SELECT count(*) FROM pawl_outbox").Scan(new(int)); err == nil {
			t.Errorf("%s: the outbox of no table is still there", d)
		}
		if _, err := (Outbox{Table: "nothing"}).Plan(t.Context(), s.connection()); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("%s: a table that is not there: %v", d, err)
		}
		for _, table := range []string{"", "a.b.c", `"a`, `"a"b`, "a.", strings.Repeat("x", 400)} {
			if _, err := (Outbox{Table: table}).Plan(t.Context(), s.connection()); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("%s: table %q: %v", d, table, err)
			}
		}
	}
}

func TestAMissingRightIsExplained(t *testing.T) {
	t.Parallel()
	s := newSite(t, Postgres, SQLite)
	s.orders(t)
	conn, err := s.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	role := "poor_" + strings.ToLower(hashOf(s.watch))[:12]
	s.exec(t, "CREATE ROLE "+role)
	t.Cleanup(func() { _, _ = s.db.Exec("RESET ROLE; DROP OWNED BY " + role + "; DROP ROLE " + role) })
	s.db.SetMaxOpenConns(1) // all that follows is the role's
	s.exec(t, "SET ROLE "+role)
	err = Check(t.Context(), s.connection(), Source{ID: "s", Workflow: "w", Connection: "shop", Query: "SELECT id FROM orders WHERE id > $1", Cursor: "id"})
	if err == nil || !strings.Contains(err.Error(), "needs SELECT") {
		t.Errorf("a query without the right to read: %v", err)
	}
	if err := (Outbox{Table: "orders"}).Install(t.Context(), s.connection()); err == nil || !strings.Contains(err.Error(), "owns the table") {
		t.Errorf("install by a role without rights: %v", err)
	}
}

// Who writes a table of PostgreSQL needs no right on the outbox.
func TestWritersOfATableNeedNoRightsOnItsOutbox(t *testing.T) {
	t.Parallel()
	s := newSite(t, Postgres, SQLite)
	s.orders(t)
	e := client(t, s.store())
	s.install(t, Outbox{Table: "public.orders"})
	put(t, e, Source{Table: "orders"})
	background(t, s.runner(e))
	polled(t, e)
	role := "app_" + strings.ToLower(hashOf(s.watch))[:12]
	s.exec(t, "CREATE ROLE "+role)
	s.exec(t, "GRANT SELECT, INSERT ON orders TO "+role)
	t.Cleanup(func() { _, _ = s.db.Exec("DROP OWNED BY " + role + "; DROP ROLE " + role) })
	tx, err := s.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"SET LOCAL ROLE " + role, "SET LOCAL search_path = pg_temp", "INSERT INTO public.orders (item) VALUES ('a')"} {
		if _, err := tx.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	wantItems(t, e, "a")
}

func TestANotificationIsHeardAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, Postgres, SQLite)
	s.orders(t)
	e := client(t, s.store())
	s.install(t, Outbox{Table: "orders"})
	put(t, e, Source{Table: "orders", Interval: mostInterval})
	background(t, s.runner(e))
	until(t, "the first look", func() bool { return !status(t, e).LastPoll.IsZero() })
	for _, item := range []string{"a", "b"} {
		s.exec(t, "INSERT INTO orders (item) VALUES ($1)", item)
		until(t, "the run", func() bool { return slices.Contains(items(t, e), item) })
	}
}
