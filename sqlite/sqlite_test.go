package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest"
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
	t.Cleanup(func() { s.Close() })
	return s
}
