package api_test

import (
	"encoding/json"
	"fmt"
	"strings"
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

// What a flow answers comes from the address that people sign in at: it can't take back what keeps a browser from running it there.
func TestAnswersOfFlowsLeaveBrowsersTheirRules(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		flows := map[string]string{
			"trigger": `{"id": "pages", "trigger": {"type": "webhook", "path": "/pages", "scheme": "none", "methods": ["GET"], "respond": {"headers": {"Content-Type": "text/html", %q: "x"}, "body": "<script>steal()</script>"}},
				"steps": [{"id": "say", "type": "transform", "config": {"expression": "1"}, "next": "end"}]}`,
			"wait": `{"id": "pages", "steps": [{"id": "call", "type": "wait", "config": {"for": "webhook", "respond": {"headers": {"Content-Type": "text/html", %q: "x"}, "body": "<script>steal()</script>"}}, "next": "end"}]}`,
		}
		for kind, text := range flows {
			for _, name := range []string{"Content-Security-Policy", "content-security-policy", "X-Content-Type-Options", "X-Frame-Options", "Set-Cookie", "Clear-Site-Data", "Service-Worker-Allowed"} {
				if p := h.refused(400, "input", "POST", "/api/workflows", fmt.Sprintf(text, name)); !strings.Contains(p.Detail, "browser") {
					t.Errorf("%s, %s: %s", kind, name, p.Detail)
				}
			}
		}
		var d api.Deployed
		h.ok(200, "POST", "/api/workflows", fmt.Sprintf(flows["trigger"], "X-Mine"), &d)
		r := h.send("GET", "/pages", "")
		if r.status != 200 || r.header.Get("X-Mine") != "x" || r.header.Get("Content-Type") != "text/html" || r.header.Get("Content-Security-Policy") != "sandbox; frame-ancestors 'none'" {
			t.Errorf("%d %v", r.status, r.header)
		}
	})
}
