//go:build unix

package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// EnvURL names the environment variable that, when set, holds the postgres:// URL of a running server for [URL] to use in place
// of a private one. Its role must be allowed to create databases.
const EnvURL = "PAWL_TEST_POSTGRES_URL"

// EnvDir names the environment variable that, when set, holds the directory in which servers without fsync have their data, in place of the
// one for temporary files. A database is hundreds of files: in memory, such as in /dev/shm, they are made and removed with a fraction of the work.
const EnvDir = "PAWL_TEST_POSTGRES_DIR"

// URL returns the address of a fresh, empty database that belongs to t alone and is dropped, whoever is still connected,
// when t ends. The first call starts the server, in about a second, or uses the one that [EnvURL] names; a private
// server runs with fsync off. URL ends the test when no database can be had. It is safe for parallel tests.
func URL(t testing.TB) string {
	t.Helper()
	admin, err := shared.url()
	if err != nil {
		t.Fatalf("a PostgreSQL database for this test: %v", err)
	}
	name := "pawl_" + strings.ToLower(rand.Text())
	address, err := createDatabase(admin, name)
	if err != nil {
		t.Fatalf("a PostgreSQL database for this test: %v", err)
	}
	t.Cleanup(func() {
		if err := execute(admin, "DROP DATABASE "+identifier(name)+" WITH (FORCE)"); err != nil {
			t.Errorf("drop database %s: %v", name, err)
		}
	})
	return address
}

// Main runs m's tests, stops the shared server and returns the exit code. It is for TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
// Without it the server ends just as well, a moment after the process.
func Main(m *testing.M) int {
	code := m.Run()
	if err := Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// Stop ends the server that [URL] shares and removes its data, and does nothing when there is none.
// [URL] must not be called afterwards.
func Stop() error { return shared.stop() }

var shared sharedServer

// sharedServer starts on first use. A failed start is remembered: the tests that follow fail at once and for the same reason.
type sharedServer struct {
	mu      sync.Mutex
	started bool
	server  *Server
	err     error
}

func (s *sharedServer) url() (string, error) {
	if given := os.Getenv(EnvURL); given != "" {
		return given, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		s.started = true
		s.server, s.err = Start(Options{})
	}
	if s.err != nil {
		return "", s.err
	}
	return s.server.URL(), nil
}

func (s *sharedServer) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		return nil
	}
	server := s.server
	s.server, s.err = nil, errors.New("pgtest.Stop was called already")
	return server.Stop()
}

// createDatabase copies template0, which nobody can be connected to or have filled.
func createDatabase(admin, name string) (string, error) {
	address, err := withDatabase(admin, name)
	if err != nil {
		return "", err
	}
	if err := execute(admin, "CREATE DATABASE "+identifier(name)+" TEMPLATE template0"); err != nil {
		return "", fmt.Errorf("create database %s: %w", name, err)
	}
	return address, nil
}

// withDatabase returns admin with name in place of its database. The address itself stays out of errors: it may hold a password.
func withDatabase(admin, name string) (string, error) {
	u, err := url.Parse(admin)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return "", fmt.Errorf("%s must be a URL like postgres://user:password@host:5432/postgres", EnvURL)
	}
	u.Path = "/" + name
	return u.String(), nil
}

func execute(address, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

func identifier(name string) string { return pgx.Identifier{name}.Sanitize() }
