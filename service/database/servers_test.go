//go:build unix

package database_test

import (
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/service/database"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

func TestMain(m *testing.M) {
	code := pgtest.Main(m)
	maria.stop()
	os.Exit(code)
}

// a kind is a database that tests run on.
type kind struct {
	name string
	open func(t *testing.T) (dsn string, admin *sql.DB) // an empty database of the test's own
}

var kinds = []kind{{"postgres", openPostgres}, {"mariadb", openMaria}, {"sqlite", openFile}}

// each runs a test on every kind.
func each(t *testing.T, f func(t *testing.T, k kind, dsn string, admin *sql.DB)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			dsn, admin := k.open(t)
			f(t, k, dsn, admin)
		})
	}
}

// q is a statement with ? for values, in the kind's own form.
func (k kind) q(statement string) string {
	if k.name != "postgres" {
		return statement
	}
	for n := 1; strings.Contains(statement, "?"); n++ {
		statement = strings.Replace(statement, "?", fmt.Sprint("$", n), 1)
	}
	return statement
}

func openPostgres(t *testing.T) (string, *sql.DB) {
	dsn := pgtest.URL(t)
	return dsn, admin(t, "pgx", dsn)
}

func openFile(t *testing.T) (string, *sql.DB) {
	path := filepath.Join(t.TempDir(), "a b%41.db")
	db := admin(t, "sqlite", path)
	run(t, db, "CREATE TABLE made (n)")
	return "sqlite:" + path, db
}

func openMaria(t *testing.T) (string, *sql.DB) {
	socket, err := maria.start()
	if err != nil {
		t.Fatalf("a MariaDB for this test: %v (make test-needs installs it)", err)
	}
	name := "pawl_" + strings.ToLower(rand.Text())
	run(t, admin(t, "mysql", "root@unix("+socket+")/"), "CREATE DATABASE "+name+" CHARACTER SET utf8mb4")
	return "mysql://root@localhost/" + name + "?socket=" + socket, admin(t, "mysql", "root@unix("+socket+")/"+name)
}

func admin(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func run(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func count(t *testing.T, db *sql.DB, query string) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// maria is the one MariaDB that tests share.
var maria mariadb

// mariadb is a server in a directory of its own. A shell holds it by a pipe, so that it ends with the test process however that ends.
type mariadb struct {
	once   sync.Once
	socket string
	err    error
	pipe   io.Closer
	shell  *exec.Cmd
}

func (m *mariadb) start() (string, error) {
	m.once.Do(func() { m.socket, m.err = m.launch() })
	return m.socket, m.err
}

func (m *mariadb) stop() {
	if m.pipe != nil {
		_ = m.pipe.Close()
		_ = m.shell.Wait()
	}
}

func (m *mariadb) launch() (string, error) {
	dir, err := os.MkdirTemp("", "maria-")
	if err != nil {
		return "", err
	}
	user := ""
	if os.Getuid() == 0 {
		user = "--user=root"
	}
	m.shell = exec.Command("sh", "-c", `
PATH=$PATH:/usr/sbin:/usr/local/sbin
mariadb-install-db --no-defaults --datadir="$0/data" --auth-root-authentication-method=normal --skip-test-db $1 >"$0/log" 2>&1 &&
{ mariadbd --no-defaults --datadir="$0/data" --socket="$0/s" --pid-file="$0/pid" --skip-networking --innodb-lock-wait-timeout=1 --innodb-flush-log-at-trx-commit=0 $1 >>"$0/log" 2>&1 </dev/null & echo $! >"$0/server"; }
cat >/dev/null
[ ! -f "$0/server" ] || { kill -9 "$(cat "$0/server")"; wait; }
rm -rf "$0"`, dir, user)
	if m.pipe, err = m.shell.StdinPipe(); err != nil {
		return "", err
	}
	if err := m.shell.Start(); err != nil {
		return "", err
	}
	socket := filepath.Join(dir, "s")
	db, err := sql.Open("mysql", "root@unix("+socket+")/")
	if err != nil {
		return "", err
	}
	defer db.Close()
	for until := time.Now().Add(2 * time.Minute); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		if _, err = os.Stat(socket); err != nil {
			continue
		}
		if err = db.Ping(); err == nil {
			return socket, nil
		}
	}
	log, _ := os.ReadFile(filepath.Join(dir, "log"))
	return "", fmt.Errorf("it does not start: %w\n%s", err, log)
}

// overTCP forwards a port of loopback to a socket.
func overTCP(t *testing.T, socket string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", socket)
			if err != nil {
				_ = in.Close()
				continue
			}
			pipe := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_, _ = to.Close(), from.Close()
			}
			go pipe(out, in)
			go pipe(in, out)
		}
	}()
	return l.Addr().String()
}

// open makes a service with one connection named main that may write.
func open(t *testing.T, c database.Connection) *database.Service {
	t.Helper()
	c.Execute = true
	return with(t, database.Options{Connections: map[string]database.Connection{"main": c}})
}

func with(t *testing.T, opt database.Options) *database.Service {
	t.Helper()
	s, err := database.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// call is one call; more are further fields of its parameters.
func call(t *testing.T, s *database.Service, action, key, query string, values []any, more ...string) (*database.Result, error) {
	t.Helper()
	fields := map[string]any{"query": query, "values": values}
	if values == nil {
		delete(fields, "values")
	}
	data, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSuffix(string(data), "}")
	for _, field := range more {
		text += ", " + field
	}
	out, err := s.Call(t.Context(), service.Call{Action: action, Key: key, Params: json.RawMessage(text + "}")})
	if err != nil {
		return nil, err
	}
	return out.(*database.Result), nil
}

// rows is the rows of a query that must go well, as JSON.
func rows(t *testing.T, s *database.Service, query string, values ...any) string {
	t.Helper()
	out, err := call(t, s, "query", "k", query, values)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	data, err := json.Marshal(out.Rows)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func refused(t *testing.T, what string, err error, code, word string) {
	t.Helper()
	var e *service.Error
	if !errors.As(err, &e) {
		t.Errorf("%.200s: got %v, want an error with the code %s", what, err, code)
		return
	}
	if e.Code != code || !strings.Contains(e.Error(), word) {
		t.Errorf("%.200s: got %s: %v; want %s with %q", what, e.Code, e, code, word)
	}
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}
