package pawl

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestACheckEndsThoughCodeDoesNot: the code of one run never comes to a durable call.
func TestACheckEndsThoughCodeDoesNot(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	e := New(stuckStore{}, nil)
	stuck := Define("stuck", func(*Context, struct{}) (struct{}, error) { <-release; return struct{}{}, nil })
	if err := e.Register(stuck); err != nil {
		t.Fatal(err)
	}
	runs := []RunInfo{{Key: 1, ID: "one", Workflow: "stuck", State: Waiting}}
	found, err := e.check(t.Context(), runs, checking{defs: e.defs, limit: 20 * time.Millisecond})
	if err != nil || len(found) != 1 || !strings.Contains(found[0].Diverged, "did not get to the end") {
		t.Errorf("found %+v, %v", found, err)
	}
}

// stuckStore has the journal of one run.
type stuckStore struct{ Store }

func (stuckStore) Journal(context.Context, int64, int64, int) ([]Entry, error) {
	return []Entry{{Kind: KindInput, Data: []byte("{}")}}, nil
}

func (stuckStore) Index(context.Context, int64, int64, int, int) ([]Entry, error) { return nil, nil }
