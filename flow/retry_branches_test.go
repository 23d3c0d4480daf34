package flow_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/pawltest"
	"github.com/pawlrun/pawl/service"
)

// TestJ40_aRetryTakesUpWhatWasEnded: when a run that failed by a branch, or an item, is retried, the branches that were ended for it
// go on from where they were, and nothing that was done is done again.
func TestJ40_aRetryTakesUpWhatWasEnded(t *testing.T) {
	branches := func(mode, quorum string) string {
		return strings.NewReplacer("MODE", mode, " QUORUM", quorum).Replace(parallelDoc)
	}
	statuses := `{"a":"completed","b":"completed","c":"completed"}`
	for name, of := range map[string]struct {
		doc, want string
		said      []string
	}{
		"failFast": {branches("failFast", ""), statuses, []string{"send to=a", "send to=a2", "send to=b", "send to=b", "send to=c"}},
		"quorum":   {branches("quorum", `, "quorum": 3`), statuses, []string{"send to=a", "send to=a2", "send to=b", "send to=b", "send to=c"}},
		"map": {`{"id": "p", "steps": [{"id": "each", "type": "map", "config": {"over": "['a', 'b', 'c']", "steps": [
			{"id": "slow", "type": "wait", "when": "item == 'c'", "config": {"for": "delay", "timeoutMs": 3600000}, "next": "say"},
			{"id": "say", "type": "service", "config": {"service": "desk", "to": "{{item}}"}, "next": "end"}]}, "next": "count"},
			{"id": "count", "type": "transform", "config": {"expression": "size(steps.each.output)"}, "next": "end"}]}`,
			`3`, []string{"send to=a", "send to=b", "send to=b", "send to=c"}},
	} {
		t.Run(name, func(t *testing.T) {
			var mended atomic.Bool
			d := &desk{fail: func(said string) error {
				if strings.Contains(said, "to=b") && !mended.Load() {
					return &service.Error{Code: service.Denied, Message: "no"}
				}
				return nil
			}}
			opt := options(t, d)
			g := flow.Define(parse(t, of.doc, opt), opt)
			pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
				run := pawltest.Start(h, g, flow.Variables{})
				if _, err := pawltest.ResultError(h, run); err == nil || !strings.Contains(err.Error(), "no") {
					t.Fatalf("it did not fail: %v", err)
				}
				mended.Store(true)
				if _, err := h.Engine().Retry(h.Context(), pawl.Ref{ID: run.ID()}); err != nil {
					t.Fatal(err)
				}
				equal(t, "result", string(pawltest.Result(h, run)), of.want)
				said := d.said()
				slices.Sort(said)
				equal(t, "calls", fmt.Sprint(said), fmt.Sprint(of.said))
			}, g)
		})
	}
}
