package flow_test

import (
	"encoding/json"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/trigger"
)

// A run sees what has started it.
func TestARunSeesItsTrigger(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		s.deploys(t, `{"id": "f", "triggers": [{"type": "manual"}, {"type": "event", "eventName": "order"}], "steps": [
		  {"id": "say", "type": "transform", "config": {"expression": "[trigger.type, default(trigger.id, '-'), trigger.test]"}, "next": "end"}]}`)
		by := map[string]string{}
		s.starts(t, "by-hand")
		by["by-hand"] = `["manual","-",false]`
		fired, err := s.Fire(t.Context(), "", "f", 1, trigger.Sample{Data: json.RawMessage(`{}`)}, false)
		if err != nil {
			t.Fatal(err)
		}
		by[fired.Run] = `["event","flow:f:1",true]`
		for id, want := range by {
			if out, err := pawl.Attach[json.RawMessage](s.Engine, id).Result(t.Context()); err != nil || string(out) != want {
				t.Errorf("%s: %s, %v; want %s", id, out, err, want)
			}
		}
	})
}
