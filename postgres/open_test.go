package postgres_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/storetest/pgtest"
	"github.com/pressly/goose/v3"
)

// session is a connection of another program.
func session(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func execute(t *testing.T, c *pgx.Conn, query string, args ...any) {
	t.Helper()
	if _, err := c.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func value[T any](t *testing.T, c *pgx.Conn, query string, args ...any) (v T) {
	t.Helper()
	if err := c.QueryRow(t.Context(), query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}

func TestManyProcessesMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			s, err := postgres.Open(t.Context(), url, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := s.Stats(t.Context(), time.Now()); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	c := session(t, url)
	files, err := filepath.Glob("migration/*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("migrations: %d, %v", len(files), err)
	}
	if n := value[int](t, c, "SELECT count(*) FROM pawl.pawl_schema WHERE version_id > 0"); n != len(files) {
		t.Errorf("%d migrations were recorded; want %d", n, len(files))
	}
	if n := value[int](t, c, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); n != 0 {
		t.Errorf("%d tables lie in schema public; want none", n)
	}
}

// A program around pawl may use goose too, and register migrations for a database of its own.
func TestMigrationsOfTheProgramAreNotRun(t *testing.T) {
	url := pgtest.URL(t)
	if err := goose.SetGlobalMigrations(goose.NewGoMigration(99, nil, nil)); err != nil {
		t.Fatal(err)
	}
	openAt(t, url)
	goose.ResetGlobalMigrations()
	if n := value[int](t, session(t, url), "SELECT count(*) FROM pawl.pawl_schema WHERE version_id = 99"); n != 0 {
		t.Error("a migration of the program was recorded")
	}
}

// A migration is done whole or not at all, and its failure is in nobody's way later.
func TestAMigrationThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	c := session(t, url)
	execute(t, c, `CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
			IF to_regclass('pawl.chunks') IS NOT NULL THEN RAISE 'no more tables'; END IF;
		END $$`)
	execute(t, c, "CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION refuse()")
	if _, err := postgres.Open(t.Context(), url, nil); err == nil || !strings.Contains(err.Error(), "no more tables") {
		t.Errorf("got %v; want the server's reason", err)
	}
	if left := value[[]string](t, c, "SELECT coalesce(array_agg(tablename::text), '{}') FROM pg_tables WHERE schemaname = 'pawl' AND tablename <> 'pawl_schema'"); len(left) > 0 {
		t.Errorf("it left the tables %v", left)
	}
	const locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
	for end := time.Now().Add(30 * time.Second); value[int](t, c, locks) > 0; time.Sleep(5 * time.Millisecond) { // the server hears that the connection is closed
		if time.Now().After(end) {
			t.Fatal("an advisory lock is held after it")
		}
	}
	execute(t, c, "DROP EVENT TRIGGER refuse")
	newDesk(t, openAt(t, url)).start("a")
	if n := value[int](t, c, locks); n != 0 {
		t.Errorf("%d advisory locks are held by a store that is open", n)
	}
}

func TestANewerSchemaIsRefused(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	openAt(t, url)
	execute(t, session(t, url), "INSERT INTO pawl.pawl_schema (version_id, is_applied) VALUES (99, true)")
	_, err := postgres.Open(t.Context(), url, nil)
	if !errors.Is(err, pawl.ErrSchema) || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("got %v; want ErrSchema that names version 99", err)
	}
}

func TestForeignTablesAreRefusedAndLeftAlone(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	c := session(t, url)
	execute(t, c, "CREATE TABLE runs (mine text)")
	execute(t, c, "INSERT INTO runs VALUES ('mine')")
	_, err := postgres.Open(t.Context(), url, &postgres.Options{Schema: "public"})
	if !errors.Is(err, pawl.ErrSchema) || !strings.Contains(err.Error(), "runs") {
		t.Errorf("got %v; want ErrSchema that names the table runs", err)
	}
	if n := value[int](t, c, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); n != 1 {
		t.Errorf("%d tables lie in the schema; want the one that was there", n)
	}
	openAt(t, url) // the default schema is another
	if mine := value[string](t, c, "SELECT mine FROM runs"); mine != "mine" {
		t.Errorf("the other program's row is %q", mine)
	}
}

func TestSchemasAreStoresOfTheirOwn(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	a := openAt(t, url)
	b, err := postgres.Open(t.Context(), url, &postgres.Options{Schema: `an "other" one`})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	newDesk(t, a).start("a")
	if _, err := b.Lookup(t.Context(), "", "a"); !errors.Is(err, pawl.ErrNotFound) {
		t.Errorf("a run of one schema looked up in another: error %v; want ErrNotFound", err)
	}
}

// A database may be set to acknowledge commits that a power cut can lose.
func TestCommitsAreDurableWhateverTheDatabasesDefaultIs(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	c := session(t, url)
	execute(t, c, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$")
	for _, unsafe := range []bool{false, true} {
		s, err := postgres.Open(t.Context(), url, &postgres.Options{Unsafe: unsafe})
		if err != nil {
			t.Fatal(err)
		}
		// What a transaction of the store sees is kept by a trigger.
		execute(t, c, `CREATE OR REPLACE FUNCTION pawl.seen() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN NEW.trace := current_setting('synchronous_commit'); RETURN NEW; END $$`)
		execute(t, c, "CREATE OR REPLACE TRIGGER seen BEFORE INSERT ON pawl.runs FOR EACH ROW EXECUTE FUNCTION pawl.seen()")
		want := map[bool]string{false: "on", true: "off"}[unsafe]
		newDesk(t, s).start("run " + want)
		if got := value[string](t, c, "SELECT trace FROM pawl.runs WHERE id = $1", "run "+want); got != want {
			t.Errorf("with Unsafe %v, synchronous_commit is %s; want %s", unsafe, got, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestErrorsDoNotTellThePassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://pawl:hunter2@127.0.0.1:1/x?connect_timeout=1", "postgres://pawl:hunter2@127.0.0.1:port/x"} {
		_, err := postgres.Open(t.Context(), url, nil)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v; want an error without the password", err)
		}
	}
}

func TestAClosedStoreSaysSo(t *testing.T) {
	t.Parallel()
	s, err := postgres.Open(t.Context(), pgtest.URL(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	watching := make(chan error, 1)
	go func() { watching <- s.Watch(context.Background(), func() {}) }()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-watching; err != nil {
		t.Errorf("Watch of a closed store: %v", err)
	}
	_, err = s.Stats(t.Context(), time.Now())
	if !errors.Is(err, pawl.ErrClosed) {
		t.Errorf("a read of a closed store: %v; want ErrClosed", err)
	}
	if err := s.Commit(t.Context(), &pawl.Batch{Now: time.Now()}); !errors.Is(err, pawl.ErrClosed) {
		t.Errorf("a commit to a closed store: %v; want ErrClosed", err)
	}
}
