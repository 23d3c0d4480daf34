package sqlite

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// SQLite itself refuses to grow a file beyond a number of pages, with the error of a full
// disk and in the same places.
func TestAFullDiskLosesNothingAndEndsWithSpace(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "pawl.db"), &Options{WALSize: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	limit := func(pages int) {
		t.Helper()
		if err := s.w.query(fmt.Sprintf("PRAGMA max_page_count = %d", pages), nil, func(row) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	big := []byte(`"` + strings.Repeat("x", 100_000) + `"`)
	start := func(i int) error {
		return s.Commit(t.Context(), &pawl.Batch{Now: time.Now(), Starts: []*pawl.Start{
			{Run: pawl.NewRun{ID: fmt.Sprint("small", i), Workflow: "flow", Input: []byte(`1`)}},
			{Run: pawl.NewRun{ID: fmt.Sprint("big", i), Workflow: "flow", Input: big}},
		}})
	}
	limit(200)
	n := 0
	for err = start(n); err == nil && n < 100; err = start(n) {
		n++
	}
	if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, pawl.ErrUnknownOutcome) {
		t.Fatalf("start %d: %v; want ENOSPC, and that nothing was written", n, err)
	}
	for _, id := range []string{"small", "big"} {
		if _, err := s.Lookup(t.Context(), "", fmt.Sprint(id, n)); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("%s run of the commit that failed: %v; want ErrNotFound", id, err)
		}
		if _, err := s.Lookup(t.Context(), "", fmt.Sprint(id, n-1)); err != nil {
			t.Errorf("%s run of the commit before: %v", id, err)
		}
	}
	limit(1 << 20)
	if err := start(n); err != nil {
		t.Fatalf("with space again: %v", err)
	}
	if _, err := s.Lookup(t.Context(), "", fmt.Sprint("big", n)); err != nil {
		t.Fatal(err)
	}
}
