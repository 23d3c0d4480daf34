package flow_test

import (
	"encoding/json"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
)

// A run whose child has ended goes on where nobody knows the child's workflow any more: what is on record needs nobody.
func TestARunGoesOnWithoutItsChildsWorkflow(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt := options(t, &desk{})
		kid := pawl.Define("kid", func(*pawl.Context, json.RawMessage) (int, error) { return 7, nil })
		s := serve(t, open(), opt, kid)
		s.deploys(t, of(`{"id": "kid", "type": "workflow", "config": {"workflow": "kid"}, "next": "hold"}`, `{"id": "hold", "type": "wait", "config": {"for": "event", "event": "go"}, "next": "out"}`, tells("out", "steps.kid.output")))
		s.starts(t, "a")
		s.until(t, "a", func(x flow.Execution) bool { return x.CurrentStep == "hold" && x.Current[0].Status == "waiting" })
		s.stop()
		s = serve(t, open(), opt)
		s.ends(t, "a", "7")
	})
}
