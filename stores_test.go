package pawl_test

import (
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

// namedStore makes, for one test, a place to keep runs in.
type namedStore struct {
	name string
	make func(t *testing.T) place
}

// place is where runs are kept. Each call of open is one more process that opens it; exec
// goes past the store. It refuses moves that the table of states does not have.
type place struct {
	open func() pawl.Store
	exec func(sql string) error
}

// eachStore runs f once per store. What open returns may be closed by f, and is closed
// when the test ends; opened again it is the same place with the same runs.
func eachStore(t *testing.T, f func(t *testing.T, open func() pawl.Store)) {
	t.Helper()
	t.Parallel()
	for _, s := range stores {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			f(t, s.make(t).open)
		})
	}
}

// sqliteStores keeps runs in one file. As one process only may open it, those who have it
// open at the same time share it; when the last one closes it, the file is closed.
func sqliteStores(t *testing.T) place {
	f := &sharedFile{path: filepath.Join(t.TempDir(), "pawl.db")}
	return place{exec: f.exec, open: func() pawl.Store {
		t.Helper()
		s, err := f.open()
		if err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, s)
		return s
	}}
}

func closeAtEnd(t *testing.T, s pawl.Store) {
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
}

type sharedFile struct {
	path string

	mu    sync.Mutex
	store *sqlite.Store
	users int
}

func (f *sharedFile) open() (pawl.Store, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.users == 0 {
		s, err := sqlite.Open(f.path, &sqlite.Options{WALSize: -1})
		if err == nil {
			err = f.exec(guardSQLite)
		}
		if err != nil {
			return nil, err
		}
		f.store = s
	}
	f.users++
	return &fileUser{Store: f.store, f: f}, nil
}

func (f *sharedFile) exec(query string) error {
	db, err := sql.Open("sqlite", "file:"+f.path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		return err
	}
	_, err = db.Exec(query)
	return errors.Join(err, db.Close())
}

type fileUser struct {
	*sqlite.Store
	f    *sharedFile
	once sync.Once
}

func (u *fileUser) Close() (err error) {
	u.once.Do(func() {
		u.f.mu.Lock()
		defer u.f.mu.Unlock()
		if u.f.users--; u.f.users == 0 {
			err = u.Store.Close()
		}
	})
	return err
}
