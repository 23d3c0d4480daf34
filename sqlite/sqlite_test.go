package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest"
	"github.com/pressly/goose/v3"
)

func TestStoreInAFile(t *testing.T) {
	storetest.Run(t, func(t *testing.T) pawl.Store { return open(t, filepath.Join(t.TempDir(), "pawl.db")) })
}

func TestStoreInMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) pawl.Store { return open(t, sqlite.Memory) })
}

// open opens a store without the log that is made at once: sixteen megabytes per test.
func open(t *testing.T, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(path, &sqlite.Options{WALSize: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

func TestASecondOpenIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pawl.db")
	s := open(t, path)
	_, err := sqlite.Open(path, nil)
	if !errors.Is(err, pawl.ErrLocked) {
		t.Fatalf("a second Open: %v; want ErrLocked", err)
	}
	for _, want := range []string{path, strconv.Itoa(os.Getpid())} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error %q does not name %s", err, want)
		}
	}
	start(t, s, "a") // the first one has not noticed
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestAFileOfAnotherProgramIsLeftAlone(t *testing.T) {
	database := func(t *testing.T, path string) {
		exec(t, path, "CREATE TABLE theirs (x INTEGER)", "INSERT INTO theirs VALUES (1)")
	}
	text := func(t *testing.T, path string) {
		if err := os.WriteFile(path, []byte(strings.Repeat("this is no database\n", 1000)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, make := range map[string]func(*testing.T, string){"a database": database, "no database": text} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "theirs")
			make(t, path)
			before := read(t, path)
			if _, err := sqlite.Open(path, nil); !errors.Is(err, pawl.ErrSchema) {
				t.Errorf("Open: %v; want ErrSchema", err)
			}
			if !bytes.Equal(read(t, path), before) {
				t.Error("the file was changed")
			}
			if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a log was left beside it: %v", err)
			}
		})
	}
}

func TestAFileOfANewerPawlIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pawl.db")
	s := open(t, path)
	start(t, s, "a")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	exec(t, path, "INSERT INTO pawl_schema (version_id, is_applied) VALUES (9000, 1)")
	_, err := sqlite.Open(path, nil)
	if !errors.Is(err, pawl.ErrSchema) || !strings.Contains(err.Error(), "9000") {
		t.Fatalf("Open: %v; want ErrSchema, and which version it is", err)
	}
	exec(t, path, "DELETE FROM pawl_schema WHERE version_id = 9000")
	lookup(t, open(t, path), "a")
}

// A program around pawl may use goose too, and register migrations for a database of its own.
func TestMigrationsOfTheProgramAreNotRun(t *testing.T) {
	if err := goose.SetGlobalMigrations(goose.NewGoMigration(99, nil, nil)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "pawl.db")
	err := open(t, path).Close()
	goose.ResetGlobalMigrations()
	if err != nil {
		t.Fatal(err)
	}
	open(t, path) // of version 99 it would be a newer pawl's
}

func TestFilesAreReadableForTheirOwnerOnly(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := t.TempDir()
	s, err := sqlite.Open(filepath.Join(dir, "pawl.db"), &sqlite.Options{WALSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	start(t, s, "a")
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 4 {
		t.Fatalf("%v, %v; want the database, its log, the log's index and the lock", files, err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f.Name(), info.Mode())
		}
	}
}

func TestAPathMayHaveAnyCharacter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c=d#e%41é.db")
	s := open(t, path)
	start(t, s, "a")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(read(t, path)) == 0 {
		t.Error("the file is empty")
	}
	lookup(t, open(t, path), "a")
}

func TestAllSurvivesCloseAndOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pawl.db")
	s := open(t, path)
	now := time.Now()
	w, err := s.Join(t.Context(), pawl.WorkerInfo{Name: "w", Started: now}, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	start(t, s, "a")
	r := claim(t, s, w)
	commit(t, s, &pawl.Batch{Worker: w, Changes: []*pawl.Change{{
		Run: r.Key, Epoch: r.Epoch, Entries: []pawl.Entry{{Seq: 1, Kind: pawl.KindStep, Key: "s", At: now, Data: []byte(`1`)}},
		Hooks: []pawl.HookSpec{{Key: "h", Token: "tok"}},
		Attrs: []pawl.Attr{{Name: "x", Value: new("1")}},
	}}})
	commit(t, s, &pawl.Batch{Sends: []*pawl.Send{{Token: "tok", Data: []byte(`"hello"`)}}})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, path)
	if err := s.Commit(t.Context(), &pawl.Batch{Worker: w, Now: now}); !errors.Is(err, pawl.ErrFenced) {
		t.Errorf("the worker of the process before: %v; want it fenced", err)
	}
	w, err = s.Join(t.Context(), pawl.WorkerInfo{Name: "w", Started: now}, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Claim(t.Context(), pawl.ClaimRequest{Worker: w, Now: time.Now(), Limit: 10, Workflows: []string{"flow"}})
	if err != nil || len(got.Runs) != 1 || len(got.Runs[0].Mail) != 1 || string(got.Runs[0].Mail[0].Data) != `"hello"` {
		t.Fatalf("claim: %+v, %v; want the run with its message", got, err)
	}
	if j, err := s.Journal(t.Context(), r.Key, -1, 10); err != nil || len(j) != 2 || j[1].Key != "s" {
		t.Errorf("journal: %v, %v", j, err)
	}
	if info := lookup(t, s, "a"); info.Attrs["x"] != "1" {
		t.Errorf("attributes: %v", info.Attrs)
	}
	seen := got.Runs[0].Mail[0].ID
	commit(t, s, &pawl.Batch{Sends: []*pawl.Send{{Token: "tok", Data: []byte(`2`)}}})
	mail, err := s.Mail(t.Context(), w)
	if err != nil || len(mail) != 2 || mail[1].ID <= seen {
		t.Errorf("mail: %v, %v; want message ids to go on from %d", mail, err, seen)
	}
}

func TestAClosedStoreSaysSo(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "pawl.db"), sqlite.Memory} {
		s := open(t, path)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("a second Close: %v", err)
		}
		if err := s.Commit(t.Context(), &pawl.Batch{Now: time.Now()}); !errors.Is(err, pawl.ErrClosed) {
			t.Errorf("Commit: %v; want ErrClosed", err)
		}
		if _, err := s.Lookup(t.Context(), "", "a"); !errors.Is(err, pawl.ErrClosed) {
			t.Errorf("Lookup: %v; want ErrClosed", err)
		}
	}
}

// Close waits for calls under way; those that come later are answered, not hung.
func TestCloseWhileOthersReadAndWrite(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "pawl.db"))
	start(t, s, "a")
	var wg sync.WaitGroup
	busy := make(chan struct{}, 16)
	for range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				_, err := s.Lookup(context.Background(), "", "a")
				if err == nil {
					err = s.Commit(context.Background(), &pawl.Batch{Now: time.Now()})
				}
				if errors.Is(err, pawl.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				if i == 0 {
					busy <- struct{}{}
				}
			}
		})
	}
	for range cap(busy) {
		<-busy
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func start(t *testing.T, s *sqlite.Store, id string) {
	t.Helper()
	st := &pawl.Start{Run: pawl.NewRun{ID: id, Workflow: "flow", Input: []byte(`1`), Keep: -1}}
	commit(t, s, &pawl.Batch{Starts: []*pawl.Start{st}})
	if st.Err != nil {
		t.Fatal(st.Err)
	}
}

func commit(t *testing.T, s *sqlite.Store, b *pawl.Batch) {
	t.Helper()
	b.Now = time.Now()
	if err := s.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func claim(t *testing.T, s *sqlite.Store, worker int64) pawl.RunInfo {
	t.Helper()
	got, err := s.Claim(t.Context(), pawl.ClaimRequest{Worker: worker, Now: time.Now(), Limit: 10, Workflows: []string{"flow"}})
	if err != nil || len(got.Runs) != 1 {
		t.Fatalf("claim: %v, %v; want one run", got, err)
	}
	return got.Runs[0].Info
}

func lookup(t *testing.T, s *sqlite.Store, id string) pawl.RunInfo {
	t.Helper()
	info, err := s.Lookup(t.Context(), "", id)
	if err != nil {
		t.Fatalf("look up %s: %v", id, err)
	}
	return info
}

// exec changes a database file by other means than ours.
func exec(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range statements {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
