package api_test

import (
	"encoding/json"
	"testing"

	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow"
)

func TestTriggersOfAFlowAreListedAndTried(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		var d api.Deployed
		h.ok(200, "POST", "/api/workflows", `{"id": "fired", "triggers": [{"type": "event", "eventName": "order", "where": "event.data.n > 1"}, {"type": "manual"}],
			"steps": [{"id": "say", "type": "transform", "config": {"expression": "variables.n"}, "next": "end"}]}`, &d)
		var list api.TriggerList
		h.ok(200, "GET", "/api/workflows/fired/triggers", "", &list)
		if len(list.Items) != 2 || list.Items[0].ID != "flow:fired:0" || list.Items[0].Type != "event" || !list.Items[0].Active {
			t.Errorf("%+v", list)
		}
		var fired flow.Fired
		h.ok(200, "POST", "/api/workflows/fired/triggers/0/test", `{"data": {"n": 1}, "dryRun": true}`, &fired)
		if fired.Matched || fired.Problem == "" {
			t.Errorf("%+v", fired)
		}
		fired = flow.Fired{}
		h.ok(200, "POST", "/api/workflows/fired/triggers/0/test", `{"data": {"n": 2}}`, &fired)
		if !fired.Matched || fired.Run == "" || fired.Version != 1 {
			t.Fatalf("%+v", fired)
		}
		var run struct{ Attributes map[string]json.RawMessage }
		h.ok(200, "GET", api.RunPath(fired.Run), "", &run)
		if string(run.Attributes["test"]) != `"true"` || string(run.Attributes["trigger"]) != `"flow:fired:0"` {
			t.Errorf("%+v", run)
		}
		h.refused(404, "not_found", "POST", "/api/workflows/fired/triggers/2/test", `{}`)
		h.refused(404, "not_found", "GET", "/api/workflows/nothing/triggers", "")
		h.refused(400, "bad_request", "POST", "/api/workflows/fired/triggers/0/test", `{"dta": 1}`)
	})
}
