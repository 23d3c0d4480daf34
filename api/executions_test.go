package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// A browser that wants a page is sent to the dashboard, and a program gets JSON; without a key it gets nothing.
func TestDashboardForBrowsersAndPrograms(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: unlimited()})
		_, secret := h.key("", api.RunsRead)
		r := h.send("GET", "/dashboard", "", func(r *http.Request) { r.Header.Set("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8") })
		if r.status != 303 || r.header.Get("Location") != "/ui/" {
			t.Errorf("a browser: %d %q", r.status, r.header)
		}
		if r := h.send("GET", "/dashboard", "", func(r *http.Request) { r.Header.Set("Accept", "application/json") }); r.status != 401 {
			t.Errorf("without a key: %d", r.status)
		}
		var d map[string]any
		r = h.send("GET", "/dashboard", "", bearer(secret))
		if err := json.Unmarshal(r.body, &d); err != nil || r.status != 200 || d["totalWorkflows"] != 0.0 || d["totalExecutions"] != 0.0 || len(d["workflows"].([]any)) != 0 {
			t.Errorf("a program: %d %s", r.status, r.body)
		}
	})
}

// The shapes that programs rely on, by their names.
func TestShapesOfExecutions(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: unlimited()})
		_, secret := h.key("", api.Admin)
		c := h.as(secret)
		if _, err := c.Deploy(t.Context(), []byte(`{"id":"shaped","name":"Shaped","steps":[{"id":"ask","type":"ai-decision","config":{"prompt":"Which? {{variables.text}}","outputFormat":"enum","allowedValues":["a","b"],"outputVariable":"which"},"next":{"default":"end"}}]}`), api.DeployOptions{}); err != nil {
			t.Fatal(err)
		}
		e, err := c.Execute(t.Context(), "shaped", json.RawMessage(`{"text":"t"}`), 0, 20*time.Second)
		if err != nil || e.Status != "completed" {
			t.Fatal(e, err)
		}
		read := func(path string) map[string]any {
			t.Helper()
			var v map[string]any
			r := h.send("GET", path, "", bearer(secret))
			if err := json.Unmarshal(r.body, &v); err != nil || r.status != 200 {
				t.Fatalf("%s: %d %s", path, r.status, r.body)
			}
			return v
		}
		has := func(what string, v any, names string) {
			t.Helper()
			m, _ := v.(map[string]any)
			for name := range strings.FieldsSeq(names) {
				if _, is := m[name]; !is {
					t.Errorf("%s has no %s: %v", what, name, m)
				}
			}
		}
		x := read("/api/executions/" + e.ExecutionID)
		has("an execution", x, "workflowId executionId version status variables stepResults costAccumulator currentStep errors startedAt completedAt output")
		ask := x["stepResults"].(map[string]any)["ask"].(map[string]any)
		has("a step's result", ask, "output rawOutput tokenUsage cost status startedAt completedAt attempts visits which")
		if ask["which"] != ask["output"] || x["variables"].(map[string]any)["which"] != ask["output"] || x["variables"].(map[string]any)["text"] != "t" {
			t.Errorf("the answer's names: %v", x)
		}
		m := read("/api/workflows/shaped/metrics?days=1")
		has("metrics", m, "workflowId totalExecutions completed failed cancelled running successRate successRatio totalCost totalCostUsd avgCostPerExecution avgDurationMs p50DurationMs p95DurationMs p99DurationMs last24h byVersion")
		if m["totalExecutions"] != 1.0 || m["successRate"] != "100.0%" || !strings.HasPrefix(m["totalCost"].(string), "$") {
			t.Errorf("metrics: %v", m)
		}
		costs := read("/api/workflows/shaped/costs?days=30")
		has("costs", costs, "workflowId period totalExecutions totalCost totalCostUsd costByStep byModel byDay byVersion byPrompt")
		has("the cost of a step", costs["costByStep"].(map[string]any)["ask"], "totalCost avgCost invocations totalCostUsd")
		d := read("/dashboard")
		one := d["workflows"].([]any)[0]
		has("a flow of the dashboard", one, "id name metrics")
		has("its metrics", one.(map[string]any)["metrics"], "workflowId totalExecutions last24h")
		for path, status := range map[string]int{
			"/api/workflows/shaped/metrics?days=0": 400, "/api/workflows/shaped/costs?days=3&from=2026-01-01": 400, "/api/workflows/shaped/costs?from=2026-01-02&to=2026-01-01": 400,
			"/api/workflows/nobody/metrics": 404, "/api/workflows/nobody/costs": 404, "/api/workflows/nobody/graph": 404, "/api/workflows/echo/graph": 404, "/api/workflows/shaped/graph?format=png": 400,
			"/api/workflows/shaped/graph?version=9": 404, "/api/executions?status=lost": 400, "/api/executions?cursor=x": 400, "/api/executions?workflow=nobody": 404,
		} {
			if r := h.send("GET", path, "", bearer(secret)); r.status != status {
				t.Errorf("%s: %d %s, want %d", path, r.status, r.body, status)
			}
		}
		r := h.send("GET", "/api/workflows/shaped/graph?format=svg", "", bearer(secret))
		if r.status != 200 || r.header.Get("Content-Type") != "image/svg+xml" || !strings.HasPrefix(string(r.body), "<svg ") {
			t.Errorf("the picture: %d %q", r.status, r.header)
		}
	})
}
