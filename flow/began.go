package flow

import (
	"cmp"
	"context"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/trigger"
)

// began is what a run sees as trigger: what has started it.
type began struct {
	Type string `json:"type"`           // that of the document's trigger; manual
	ID   string `json:"id,omitempty"`   // as it is listed: flow:triage:0
	Slot string `json:"slot,omitempty"` // of a schedule, the time for which the run was started
	Test bool   `json:"test"`           // somebody tries the trigger
}

// readsTrigger reports whether anything in a flow reads what has started a run. Few do, and only their runs take the step
// that looks.
func (f *Flow) readsTrigger() bool {
	found := false
	look := func(_ *node, u use) { found = found || u.path[0].Name == "trigger" }
	f.main.each(func(s *step) {
		for _, u := range s.when.paths() {
			look(nil, u)
		}
		for _, w := range s.next.when {
			for _, u := range w.when.paths() {
				look(nil, u)
			}
		}
		if _, is := s.work.(*parallel); !is { // its steps come by themselves
			s.work.reads(look)
		}
	})
	return found
}

// began looks at what has started the run, once. No step of a document can have that name.
func (x *run) began(c *pawl.Context) (any, error) {
	out, err := pawl.Step(c, ":trigger", func(ctx context.Context) (json.RawMessage, error) {
		info := pawl.InfoOf(ctx)
		run, err := pawl.EngineOf(ctx).Get(ctx, pawl.Ref{Tenant: info.Tenant, ID: info.RunID})
		if err != nil {
			return nil, err
		}
		b := began{Type: "manual", ID: cmp.Or(run.Attrs[trigger.TriggerAttribute], run.Attrs[trigger.ScheduleAttribute]), Slot: run.Attrs[trigger.SlotAttribute], Test: run.Attrs[trigger.TestAttribute] == "true"}
		if place, is := strings.CutPrefix(b.ID, "flow:"+x.flow.ID+":"); is {
			starts := triggerNodes(x.flow.root)
			if n, err := strconv.Atoi(place); err == nil && n >= 0 && n < len(starts) {
				b.Type = starts[n].get("type").str()
			}
		}
		return json.Marshal(b)
	})
	if err != nil {
		return nil, err
	}
	return decode(out)
}
