package flow_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
)

// A flow that starts many of itself, and those start many, which nobody waits for, comes to an end.
func TestFamiliesComeToAnEnd(t *testing.T) {
	opt := options(t, &desk{})
	opt.MaxFamily = 300
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), opt)
		s.deploys(t, `{"id": "f", "steps": [{"id": "m", "type": "map", "next": "end", "config": {"over": "variables.list", "failureMode": "continue", "steps": [
			{"id": "c", "type": "workflow", "config": {"workflow": "f", "detach": true}, "next": "end"}]}}]}`)
		list := make([]int, 10)
		data, err := json.Marshal(map[string]any{"list": list})
		if err != nil {
			t.Fatal(err)
		}
		run, err := s.StartRun(t.Context(), "f", data)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		n := 0
		for quiet := false; !quiet; time.Sleep(time.Second / 4) {
			if time.Since(began) > time.Minute {
				t.Fatal("it goes on")
			}
			n, quiet = 0, true
			f := pawl.Filter{Attrs: map[string]string{flow.FamilyAttribute: run.ID}, Limit: 1000}
			for {
				page, err := s.Engine.List(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				n += len(page)
				for _, r := range page {
					quiet = quiet && r.State.Terminal()
				}
				if len(page) < f.Limit {
					break
				}
				f.Cursor = page[len(page)-1].Key
			}
			quiet = quiet && n > 0
		}
		t.Logf("%d runs in %v", n, time.Since(began))
		if n < opt.MaxFamily || n > opt.MaxFamily+50 {
			t.Errorf("it has led to %d runs", n)
		}
	})
}
