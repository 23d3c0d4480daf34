package sqlite

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// After a write of unknown outcome nobody is told what may not be on the disk.
func TestABrokenStoreAnswersNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pawl.db")
	s, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	start := func() error {
		return s.Commit(t.Context(), &pawl.Batch{Now: time.Now(), Starts: []*pawl.Start{{Run: pawl.NewRun{ID: "a", Workflow: "flow", Input: []byte(`1`)}}}})
	}
	look := func() error {
		_, err := s.Lookup(t.Context(), "", "a")
		return err
	}
	if err := errors.Join(start(), look()); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	err = s.breaks(errors.New("the disk is gone"))
	s.mu.Unlock()
	if err == nil {
		t.Fatal("breaks hands on why")
	}
	for what, err := range map[string]error{"write": start(), "read": look()} {
		if !errors.Is(err, pawl.ErrClosed) {
			t.Errorf("%s: %v; want ErrClosed", what, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(path, nil); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(look(), s.Close()); err != nil {
		t.Errorf("opened anew: %v", err)
	}
}
