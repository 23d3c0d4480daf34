package flow_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/trigger"
)

// A decision that decides nothing is warned of: nothing reads its output, and it goes on the same way whatever it is.
func TestJ37_anOutputThatNothingReads(t *testing.T) {
	severity := func(next string) string {
		return ask("severity", next, `, "outputFormat": "number", "outputVariable": "sev"`)
	}
	for doc, warned := range map[string]bool{
		of(severity(`"b"`), send("b", end, "")):                                                true,
		of(severity(`{"default": "b"}`), send("b", end, "")):                                   true,
		of(severity(`"b"`), send("b", end, `, "text": "{{steps.severity.status}}"`)):           false,
		of(severity(`"b"`), send("b", end, `, "text": "{{stepResults.severity.output}}"`)):     false,
		of(severity(`"b"`), send("b", end, `, "text": "{{variables.sev}}"`)):                   false,
		of(severity(`"b"`), send("b", end, "", `"when": "variables.sev > 3"`)):                 false,
		of(severity(`[{"when": "output > 3", "to": "b"}, {"to": "end"}]`), send("b", end, "")): false,
		of(severity(`{"3": "b", "default": "end"}`), send("b", end, "")):                       false,
		of(severity(end)): false, // it is the run's
		of(branches("p", end, "", severity(`"b"`)+","+send("b", end, ""))): true,
	} {
		f, err := flow.Parse([]byte(doc), world())
		if err != nil {
			t.Errorf("%s: %v", doc, err)
			continue
		}
		is := slices.ContainsFunc(f.Warnings, func(p flow.Problem) bool {
			return p.Warning && strings.HasSuffix(p.Pointer, "/steps/0/id") && p.Message == `nothing reads the output of step "severity"`
		})
		if is != warned {
			t.Errorf("%s: warned is %v: %v", doc, is, f.Warnings)
		}
	}
}

// Runs are listed, paused, resumed, cancelled and deleted by requests, and what is not there is 404 and no row of zeros.
func TestJ38_runsAreSteeredByRequests(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		c := s.calls(t, api.Options{Flows: s.Registry})
		s.deploys(t, version("", "one"))
		run := c.send("POST", "/api/workflows/f/execute", `{}`)
		equal(t, "started", fmt.Sprint(run.status, " ", strings.Contains(run.body, `"status":"started"`)), "202 true")
		at := "/api/runs/" + run.execution
		s.until(t, run.execution, func(x flow.Execution) bool { return x.CurrentStep == "hold" && x.Current[0].Status == "waiting" })
		is := func(what string, status string) {
			t.Helper()
			s.until(t, run.execution, func(x flow.Execution) bool { return x.Status.String() == status })
			if got := c.send("GET", "/api/executions?workflow=f", ""); got.status != 200 || !strings.Contains(got.body, `"`+run.execution+`"`) || !strings.Contains(got.body, `"`+status+`"`) {
				t.Errorf("%s: the list is %d %s", what, got.status, got.body)
			}
		}
		is("started", "waiting")
		equal(t, "delete a live one", c.send("DELETE", at, "").status, 409)
		equal(t, "pause", c.send("POST", at+"/pause", `{}`).status, 200)
		is("paused", "paused")
		equal(t, "resume", c.send("POST", at+"/resume", `{}`).status, 200)
		is("resumed", "waiting")
		equal(t, "cancel", c.send("POST", at+"/cancel", `{"reason": "enough"}`).status, 200)
		is("cancelled", "cancelled")
		equal(t, "cancel again", c.send("POST", at+"/cancel", `{}`).status, 410)
		equal(t, "delete", c.send("DELETE", at, "").status/100, 2)
		for _, call := range []string{
			"GET " + at, "GET /api/executions/" + run.execution, "DELETE " + at, "POST " + at + "/cancel", "POST " + at + "/pause", "GET " + at + "/journal",
			"GET /api/workflows/nobody/metrics", "GET /api/workflows/nobody/costs", "GET /api/workflows/nobody", "GET /api/workflows/nobody/graph", "POST /api/workflows/nobody/execute",
		} {
			method, path, _ := strings.Cut(call, " ")
			body := ""
			if method == "POST" {
				body = "{}"
			}
			if got := c.send(method, path, body); got.status != 404 || !strings.Contains(got.header.Get("Content-Type"), "application/problem+json") {
				t.Errorf("%s: %d %s", call, got.status, got.body)
			}
		}
	})
}

// Metrics are of the store: they have one shape, and another server tells the same after a restart. A flow that never ran has none that could mislead.
func TestJ43_J44_metricsAreOfTheStore(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt, _ := counted(t, &desk{}, llmtest.Rule{Contains: "good", Text: "a", Usage: thousand}, llmtest.Rule{Text: "neither", Usage: thousand})
		s := serve(t, open(), opt)
		s.deploys(t, of(strings.Replace(ask("a", `{"a": "end", "b": "end"}`, enum+`, "maxRepairs": 0`), `"?"`, `"{{variables.x}}"`, 1)))
		metrics := func() map[string]any {
			got := s.calls(t, api.Options{Flows: s.Registry}).send("GET", "/api/workflows/f/metrics", "")
			var m map[string]any
			if err := json.Unmarshal([]byte(got.body), &m); err != nil || got.status != 200 {
				t.Fatalf("%d %s", got.status, got.body)
			}
			return m
		}
		m := metrics()
		equal(t, "never ran", fmt.Sprint(m["workflowId"], m["totalExecutions"], m["completed"], m["failed"], m["successRate"], m["successRatio"], m["totalCost"], m["avgCostPerExecution"], m["avgDurationMs"]), "f0 0 0N/A<nil>$0.0000$0.00000")
		for _, x := range []string{"good", "good", "bad"} {
			info, err := s.StartRun(t.Context(), "f", json.RawMessage(`{"x": "`+x+`"}`))
			if err != nil {
				t.Fatal(err)
			}
			s.ended(t, info.ID)
		}
		before := metrics()
		equal(t, "counts", fmt.Sprint(before["totalExecutions"], before["completed"], before["failed"], " ", before["successRate"]), "3 2 1 66.7%")
		for _, name := range []string{"totalCostUsd", "totalCostMicroUsd", "avgCostMicroUsd", "p95DurationMs", "last24h", "byVersion"} {
			if before[name] == nil {
				t.Errorf("%s is missing in %v", name, before)
			}
		}
		s.stop()
		s = serve(t, open(), opt)
		after := metrics()
		equal(t, "after a restart", fmt.Sprint(after), fmt.Sprint(before))
	})
}

// A version's number says one document for ever, and is above 0; who names a version gets that, or is told that there is none.
func TestJ46_aNumberIsOneDocument(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		c := s.calls(t, api.Options{Flows: s.Registry})
		for number, want := range map[string]string{"0": "0 is below 1", "-1": "-1 is below 1", "1.5": "1.5 is no whole number", `"1"`: "it is a text and must be a number", "null": "it is null and must be a number", "1e300": "1e300 is no whole number"} {
			if got := c.send("POST", "/api/workflows", version(`, "version": `+number, "x")); got.status != 400 || !strings.Contains(got.body, `"/version"`) || !strings.Contains(got.body, want) {
				t.Errorf("version %s: %d %s", number, got.status, got.body)
			}
		}
		equal(t, "new", c.send("POST", "/api/workflows", version(`, "version": 3`, "x")).status, 200)
		again := c.send("POST", "/api/workflows", strings.Replace(version(`, "version": 3`, "x"), `"id": "f", "version": 3,`, ` "version":3,  "id" :"f",`, 1)) // the same, written in another way
		equal(t, "the same", fmt.Sprint(again.status, strings.Contains(again.body, `"version":3`)), "200 true")
		other := c.send("POST", "/api/workflows", version(`, "version": 3`, "y"))
		if other.status != 409 || !strings.Contains(other.body, "version 3 of flow f is there and says something else") || !strings.Contains(other.body, "number it 4") {
			t.Errorf("another: %d %s", other.status, other.body)
		}
		stored, err := s.Version(t.Context(), "", "f", 3)
		if err != nil || !strings.Contains(string(stored.Document), `"x"`) || strings.Contains(string(stored.Document), `"y"`) {
			t.Errorf("%s, %v", stored.Document, err)
		}
		for number, status := range map[string]int{"3": 202, "0": 400, "-1": 400, "x": 400, "4": 404} {
			if got := c.send("POST", "/api/workflows/f/execute?version="+number, `{}`); got.status != status {
				t.Errorf("start of version %s: %d %s", number, got.status, got.body)
			}
		}
		equal(t, "runs", len(s.runs(t, "", "f")), 1)
	})
}

// While runs of one version wait, another is deployed: they finish on theirs, also after a restart, and a request to the webhook starts one run of the new.
func TestN19_aRequestStartsTheNewVersionOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt := options(t, &desk{})
		s := serve(t, open(), opt)
		doc := func(n int) string {
			return strings.Replace(version(fmt.Sprintf(`, "version": %d, "trigger": {"type": "webhook", "path": "/go", "scheme": "none"}`, n), fmt.Sprint("v", n)), `"inputs": {"type": "object"}, `, "", 1)
		}
		s.deploys(t, doc(3))
		c := s.calls(t, api.Options{Flows: s.Registry})
		old := c.send("POST", "/go", `{"n": 1}`)
		equal(t, "of the old", old.status, 202)
		s.until(t, old.execution, func(x flow.Execution) bool { return x.CurrentStep == "hold" })
		s.deploys(t, doc(4))
		s.stop()
		s = serve(t, open(), opt)
		c = s.calls(t, api.Options{Flows: s.Registry})
		fresh := c.send("POST", "/go", `{"n": 2}`)
		equal(t, "of the new", fresh.status, 202)
		runs := map[string]int{}
		for _, run := range s.runs(t, "", "f") {
			runs[run.Version]++
		}
		equal(t, "runs by version", fmt.Sprint(runs), "map[3:1 4:1]")
		s.ends(t, old.execution, `{"is":3,"v3":"f"}`)
		s.ends(t, fresh.execution, `{"is":4,"v4":"f"}`)
	})
}

// What a document says of overlaps, times that were missed, their age and zones is what its schedule does.
func TestJ49_schedulesOfADocument(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		for more, want := range map[string]string{
			``:                              "skip none 0s UTC",
			`, "overlap": "queue"`:          "buffer_all none 0s UTC",
			`, "overlap": "cancelPrevious"`: "cancel_old none 0s UTC",
			`, "overlap": "allow"`:          "allow none 0s UTC",
			`, "catchUp": "one"`:            "skip last 0s UTC",
			`, "catchUp": "all", "timezone": "Europe/Berlin"`:   "skip all 0s Europe/Berlin",
			`, "catchUp": "all", "startingDeadlineMs": 3600000`: "skip all 1h0m0s UTC",
		} {
			s.deploys(t, triggered("f", "x", `{"type": "schedule", "cron": "0 9 * * 1-5"`+more+`}`))
			sch, err := trigger.Schedules{Engine: s.Engine}.Get(t.Context(), "", "flow:f:0")
			if err != nil {
				t.Fatal(err)
			}
			zone := sch.Zone
			if zone == "" {
				zone = "UTC"
			}
			equal(t, more, fmt.Sprint(sch.Overlap, " ", sch.CatchUp, " ", sch.CatchUpWindow, " ", zone), want)
		}
	})
	for more, want := range map[string]string{
		`"overlap": "sometimes"`:                     `/overlap: "sometimes" is not known here`,
		`"catchUp": "two"`:                           `/catchUp: "two" is not known here`,
		`"startingDeadlineMs": 60000`:                "/startingDeadlineMs: nothing that was missed is caught up",
		`"catchUp": "one", "startingDeadlineMs": -5`: "/startingDeadlineMs: -5 is below 1",
	} {
		got := problems(t, triggered("f", "x", `{"type": "schedule", "cron": "@daily", `+more+`}`), world())
		if len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%s: told is %q, want %q", more, got, want)
		}
	}
}

// A flow waits for a person: who only looks at the link of an approval, as scanners of mails do, decides nothing; only those decide who may; and when
// nobody does in time it goes another way.
func TestJ51_aFlowWaitsForAPerson(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		store, opt := open(), options(t, &desk{})
		s := serve(t, store, opt)
		front := pawl.New(store, &pawl.Options{Secret: []byte(strings.Repeat("s", 32))})
		c := (&server{Engine: front}).calls(t, api.Options{Flows: flow.NewRegistry(front, opt)})
		doc := func(id, more string) string {
			return strings.Replace(of(`{"id": "ask", "type": "wait", "config": {"for": "approval", "title": "Pay {{variables.n}}?", "approvers": ["ann"]`+more+`}, "next": {"approved": "yes", "rejected": "fail"}}`,
				tells("yes", "[steps.ask.output.by, steps.ask.output.comment, default(steps.ask.output.form, 0)]"), tells("late", "steps.ask.status")), `"id": "f"`, fmt.Sprintf(`"id": %q`, id), 1)
		}
		s.deploys(t, doc("asks", `, "timeoutMs": 600000, "onTimeout": "late", "remindMs": 60000, "schema": {"type": "object", "properties": {"cents": {"type": "integer"}}}`))
		run, err := s.StartRun(t.Context(), "asks", json.RawMessage(`{"n": 12}`))
		if err != nil {
			t.Fatal(err)
		}
		s.until(t, run.ID, func(x flow.Execution) bool { return x.CurrentStep == "ask" && x.Current[0].Status == "waiting" })
		var a approval.Approval
		eventually(t, "somebody is asked", func() bool {
			var err error
			a, err = approval.Get(t.Context(), s.Engine, pawl.Ref{ID: run.ID + "/ask"})
			return err == nil
		})
		equal(t, "title", a.Title, "Pay 12?")
		link, err := approval.Links{Engine: front, BaseURL: c.url}.For(a, "ann")
		if err != nil {
			t.Fatal(err)
		}
		path := strings.TrimPrefix(link, c.url)
		for _, method := range []string{"GET", "HEAD"} {
			equal(t, method, c.send(method, path, "").status, 200)
			equal(t, method+" with an answer", c.send(method, path+"?decision=approve", "").status, 200)
		}
		by := func(who, form string) answered {
			return c.send("POST", "/api/approvals/"+run.ID+"/ask", fmt.Sprintf(`{"approved": true, "by": %q, "shown": %q, "form": %s}`, who, a.Shown, form))
		}
		if got := by("bob", `{"cents": 5}`); got.status != 403 || !strings.Contains(got.body, "only ann may") {
			t.Errorf("another: %d %s", got.status, got.body)
		}
		form := func(cents string) answered {
			return c.send("POST", path, url.Values{"decision": {"approve"}, "comment": {"fine"}, "f.cents": {cents}}.Encode(), "Content-Type", "application/x-www-form-urlencoded")
		}
		for status, got := range map[int]answered{422: form("many"), 400: by("ann", `{"cents": "many"}`)} { // by a link and by a request
			if got.status != status || !strings.Contains(got.body, "cents") {
				t.Errorf("a form that does not fit: %d %s, want %d", got.status, got.body, status)
			}
		}
		forged := c.send("POST", path[:len(path)-3]+"AAA", url.Values{"decision": {"approve"}, "f.cents": {"5"}}.Encode(), "Content-Type", "application/x-www-form-urlencoded")
		equal(t, "forged", forged.status, 404)
		equal(t, "still", s.execution(t, run.ID).CurrentStep, "ask")
		if got := form("5"); got.status != 200 {
			t.Errorf("decided: %d %s", got.status, got.body)
		}
		equal(t, "result", s.result(t, "", run.ID), `["ann","fine",{"cents":5}]`)
		if again := c.send("POST", path, url.Values{"decision": {"reject"}}.Encode(), "Content-Type", "application/x-www-form-urlencoded"); again.status == 200 && strings.Contains(again.body, "rejected") {
			t.Errorf("decided again: %d %s", again.status, again.body)
		}
		x := s.after(t, doc("late", `, "timeoutMs": 200, "onTimeout": "late"`), `{"n": 1}`)
		equal(t, "nobody came", string(x.Output), `"timed out"`)
		x = s.after(t, strings.Replace(doc("never", `, "timeoutMs": 200`), ",\n"+tells("late", "steps.ask.status"), "", 1), `{"n": 1}`)
		equal(t, "and nothing is said of that", fmt.Sprint(x.Status, strings.Contains(x.Error.Message, "nobody came within 200ms")), "failed true")
	})
}

// Money is counted in whole millionths of a dollar: no sum is rounded on its way.
func TestJ54_moneyIsCountedInMillionths(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt, model := counted(t, &desk{}, llmtest.Rule{Contains: "tiny", Text: "x", Usage: llm.Usage{Input: 1}}, llmtest.Rule{Text: "x", Usage: llm.Usage{Input: 3, Output: 4}})
		s := serve(t, open(), opt)
		doc := strings.Replace(of(`{"id": "m", "type": "map", "config": {"over": "variables.list", "steps": [`+ask("a", end, `, "system": "{{item | trusted}}"`)+`]}, "next": "out"}`, tells("out", "costAccumulator")), `"id": "f"`, `"id": "sums"`, 1)
		list := strings.TrimSuffix(strings.Repeat(`"x",`, 30), ",")
		x := s.after(t, doc, `{"list": [`+list+`]}`)
		equal(t, "cost", fmt.Sprint(*x.CostMicroUSD, " ", string(x.Output), " ", len(model.Calls())), "330 0.00033 30")
		m, err := s.Metrics(t.Context(), "", "sums", flow.Span{})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "metrics", fmt.Sprint(*m.TotalCost, " ", *m.TotalCostMicroUSD, " ", m.AssumedMicroUSD), "$0.0003 330 0")
	})
}
