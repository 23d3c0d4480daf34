//go:build unix

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func TestMain(m *testing.M) {
	if os.Getenv(envOrphan) != "" {
		orphan()
	}
	os.Exit(Main(m))
}

func TestURLGivesAFreshDatabasePerCall(t *testing.T) {
	first, second := URL(t), URL(t)
	for _, address := range []string{first, second} {
		conn := connect(t, address)
		if n := queryInt(t, conn, "SELECT count(*) FROM pg_class WHERE relname = 'mine'"); n != 0 {
			t.Fatalf("a fresh database has %d tables of another one", n)
		}
		execSQL(t, conn, "CREATE TABLE mine (n int)")
	}
}

func TestURLDropsTheDatabaseThoughSomeoneIsConnected(t *testing.T) {
	var address string
	var left *pgx.Conn
	t.Run("user", func(t *testing.T) {
		address = URL(t)
		var err error
		if left, err = pgx.Connect(t.Context(), address); err != nil {
			t.Fatal(err)
		}
	})
	defer left.Close(context.Background())
	if err := left.Ping(t.Context()); err == nil {
		t.Error("a connection outlived its database")
	}
	_, err := pgx.Connect(t.Context(), address)
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "3D000" {
		t.Errorf("connecting to a dropped database: %v, want error 3D000 (no such database)", err)
	}
}

func TestURLInParallel(t *testing.T) {
	for i := range 8 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			conn := connect(t, URL(t))
			execSQL(t, conn, "CREATE TABLE mine (n int)")
			execSQL(t, conn, "INSERT INTO mine VALUES (1)")
			if n := queryInt(t, conn, "SELECT count(*) FROM mine"); n != 1 {
				t.Errorf("%d rows, want the one of this test", n)
			}
		})
	}
}

func TestURLUsesTheServerThatIsGiven(t *testing.T) {
	server := startServer(t, Options{})
	t.Setenv(EnvURL, server.URL())
	conn := connect(t, URL(t))
	var directory string
	if err := conn.QueryRow(t.Context(), "SHOW data_directory").Scan(&directory); err != nil {
		t.Fatal(err)
	}
	if directory != server.data() {
		t.Errorf("the database is in %s, want the server that %s names, %s", directory, EnvURL, server.data())
	}
}

func TestAGivenAddressMustBeAURLAndIsNotRepeated(t *testing.T) {
	_, err := withDatabase("host=db password=secret", "mine")
	if err == nil || !strings.Contains(err.Error(), EnvURL) || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want an error that names %s and no password", err, EnvURL)
	}
	got, err := withDatabase("postgres://me:pw@db:5433/postgres?sslmode=require", "mine")
	if want := "postgres://me:pw@db:5433/mine?sslmode=require"; err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func connect(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = conn.Close(ctx) // the server may have been crashed under it
	})
	return conn
}

func execSQL(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func queryInt(t *testing.T, conn *pgx.Conn, sql string) int {
	t.Helper()
	var n int
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}
