//go:build unix

package pgtest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestCommittedRowsSurviveACrash(t *testing.T) {
	t.Parallel()
	server := startServer(t, Options{Fsync: true})
	address, err := server.NewDatabase("books")
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, address)
	if got := setting(t, address, "fsync"); got != "on" {
		t.Fatalf("fsync = %s, want on", got)
	}
	execSQL(t, conn, "CREATE TABLE mine (n int)")
	for range 3 {
		execSQL(t, conn, "INSERT INTO mine VALUES (1)")
		execSQL(t, conn, "BEGIN")
		execSQL(t, conn, "INSERT INTO mine VALUES (2)")
		if err := server.Crash(); err != nil {
			t.Fatal(err)
		}
		if err := conn.Ping(t.Context()); err == nil {
			t.Fatal("a connection outlived the crash")
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		conn = connect(t, address)
	}
	if n := queryInt(t, conn, "SELECT count(*) FROM mine WHERE n = 1"); n != 3 {
		t.Errorf("%d committed rows are left, want 3", n)
	}
	if n := queryInt(t, conn, "SELECT count(*) FROM mine WHERE n = 2"); n != 0 {
		t.Errorf("%d rows that were never committed are there", n)
	}
	if log := server.log(); !strings.Contains(log, "database system was not properly shut down") {
		t.Errorf("the server did not recover from a crash:\n%s", log)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	server := startServer(t, Options{Settings: map[string]string{"max_connections": "17", "application_name": "two words"}})
	for name, want := range map[string]string{"fsync": "off", "synchronous_commit": "on", "max_connections": "17", "application_name": "two words"} {
		if got := setting(t, server.URL(), name); got != want {
			t.Errorf("%s = %s, want %s", name, got, want)
		}
	}
}

func TestAWrongSettingIsReportedAndLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", openTempDir(t))
	t.Setenv(EnvDir, "")
	_, err := Start(Options{Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("got %v, want the server's own words about no_such_setting", err)
	}
	if left := entries(t, os.Getenv("TMPDIR")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAMissingTemporaryDirectoryIsReported(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "missing"))
	t.Setenv(EnvDir, "")
	if _, err := Start(Options{}); err == nil || !strings.Contains(err.Error(), os.Getenv("TMPDIR")) {
		t.Errorf("got %v, want an error that names %s", err, os.Getenv("TMPDIR"))
	}
}

func TestOnlyServersWithoutFsyncAreInTheDirectoryThatIsGiven(t *testing.T) {
	given, temporary := openTempDir(t), openTempDir(t)
	t.Setenv(EnvDir, given)
	t.Setenv("TMPDIR", temporary)
	for want, opt := range map[string]Options{given: {}, temporary: {Fsync: true}} {
		if server := startServer(t, opt); filepath.Dir(server.dir) != want {
			t.Errorf("with fsync %v the server is in %s, want it in %s", opt.Fsync, server.dir, want)
		}
	}
}

func TestWrongOrderOfCalls(t *testing.T) {
	t.Parallel()
	server := startServer(t, Options{})
	if err := server.Start(); err == nil {
		t.Error("a running server was started")
	}
	if err := server.Crash(); err != nil {
		t.Fatal(err)
	}
	if err := server.Crash(); err == nil {
		t.Error("a crashed server crashed again")
	}
	for range 2 {
		if err := server.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	if err := server.Start(); err == nil {
		t.Error("a stopped server was started")
	}
}

func TestStopEndsTheServerAndRemovesItsFiles(t *testing.T) {
	t.Parallel()
	server := startServer(t, Options{})
	pid := server.process.Process.Pid
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the server's process %d is still there (%v)", pid, err)
	}
	if _, err := os.Stat(server.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there (%v)", server.dir, err)
	}
}

func TestTheNewestInstalledVersionIsUsed(t *testing.T) {
	root := t.TempDir()
	t.Setenv("PATH", root)
	pattern := filepath.Join(root, "*", "bin")
	if _, err := programDir(pattern); !errors.Is(err, errNoPostgres) {
		t.Errorf("nothing installed: %v, want %v", err, errNoPostgres)
	}
	install(t, filepath.Join(root, "9", "bin"), "initdb", "postgres")
	install(t, filepath.Join(root, "15", "bin"), "initdb", "postgres")
	install(t, filepath.Join(root, "16", "bin"), "psql")
	if got, err := programDir(pattern); err != nil || got != filepath.Join(root, "15", "bin") {
		t.Errorf("got %s, %v, want version 15", got, err)
	}
	install(t, root, "initdb", "postgres")
	if got, err := programDir(pattern); err != nil || got != root {
		t.Errorf("got %s, %v, want the one in PATH, %s", got, err, root)
	}
}

func startServer(t *testing.T, opt Options) *Server {
	t.Helper()
	server, err := Start(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func setting(t *testing.T, address, name string) string {
	t.Helper()
	var value string
	if err := connect(t, address).QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

func install(t *testing.T, dir string, names ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// openTempDir makes a directory that the user postgres may enter too, with a name short enough for a socket.
func openTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgtest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range found {
		names = append(names, entry.Name())
	}
	return names
}
