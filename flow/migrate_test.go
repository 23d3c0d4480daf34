package flow_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
)

// TestJ45_runsMigrate: runs that wait go on with another version when somebody says so, what is recorded stays, and what does not
// fit is told before and left alone.
func TestJ45_runsMigrate(t *testing.T) {
	doc := func(inputs, says string) string {
		return `{"id": "f", "inputs": {"type": "object"` + inputs + `}, "steps": [{"id": "one", "type": "transform", "config": {"set": {"was": "version"}}, "next": "hold"},
		  {"id": "hold", "type": "wait", "config": {"for": "event", "event": "go"}, "next": "say"},
		  {"id": "say", "type": "transform", "config": {"set": {"is": "version", "was": "variables.was", "` + says + `": "workflowId"}}, "next": "end"}]}`
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		s.deploys(t, doc("", "first"))
		for _, id := range []string{"a", "b"} {
			s.starts(t, id)
			s.waits(t, id)
		}
		migrate := func(m flow.Migration) flow.Migrated {
			t.Helper()
			m.ID = "f"
			done, err := s.Registry.Migrate(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			return done
		}
		s.deploys(t, doc("", "second"))
		dry := migrate(flow.Migration{DryRun: true})
		equal(t, "to", dry.To, 2)
		equal(t, "dry run", dry.Sums, flow.MoverSums{Fit: 2})
		equal(t, "one", migrate(flow.Migration{Runs: []string{"a"}}).Sums, flow.MoverSums{Fit: 1, Migrated: 1})
		s.waits(t, "a")
		s.ends(t, "a", `{"is":2,"second":"f","was":1}`)
		s.deploys(t, doc(`, "required": ["who"]`, "third"))
		misfit := migrate(flow.Migration{From: 1})
		equal(t, "misfit", misfit.Sums, flow.MoverSums{Misfit: 1})
		if why := misfit.Runs[0].Why; !strings.Contains(why, "who") || misfit.Runs[0].Run != "b" {
			t.Errorf("%+v", misfit.Runs)
		}
		s.ends(t, "b", `{"first":"f","is":1,"was":1}`)
		equal(t, "none are left", len(migrate(flow.Migration{}).Runs), 0)
		if _, err := s.Registry.Migrate(t.Context(), flow.Migration{ID: "f", To: 9}); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("a version that is not there: %v", err)
		}
		if _, err := s.Registry.Migrate(t.Context(), flow.Migration{ID: "f", Tenant: "other"}); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("another tenant's: %v", err)
		}
	})
}

// waits until a run waits.
func (s *server) waits(t *testing.T, id string) {
	t.Helper()
	for {
		info, err := s.Engine.Get(t.Context(), pawl.Ref{ID: id})
		if err != nil || info.State.Terminal() {
			t.Fatalf("run %s is %s, %v", id, info.State, err)
		}
		if info.State == pawl.Waiting {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}
