package flow_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// Metrics and costs are those of the runs, counted by hand: what failed has cost too.
func TestJ44_metricsAndCosts(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		used := llm.Usage{Input: 1000, Output: 500} // 2000 millionths of a dollar
		s := serve(t, open(), options(t, &desk{},
			llmtest.Rule{Contains: "good", Text: "yes", Usage: used}, llmtest.Rule{Contains: "bad", Text: "neither", Usage: used}, llmtest.Rule{Contains: "Answer again", Text: "neither", Usage: used}))
		doc := func(more string) string {
			return `{"id": "judge", "name": "Judge", ` + more + `"steps": [
			  {"id": "ask", "type": "ai-decision", "retryPolicy": {"maxAttempts": 1}, "config": {"prompt": "Is it fine? {{variables.text}}", "outputFormat": "enum", "allowedValues": ["yes", "no"], "maxRepairs": 1}, "next": {"yes": "again", "no": "end"}},
			  {"id": "again", "type": "ai-decision", "maxVisits": 1, "config": {"prompt": "Sure? {{variables.text}}", "outputFormat": "boolean"}, "next": {"true": "end", "false": "end"}}]}`
		}
		empty, err := s.Metrics(t.Context(), "", "judge", flow.Span{})
		if !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("a flow that is not there: %+v, %v", empty, err)
		}
		s.deploys(t, doc(""))
		m, err := s.Metrics(t.Context(), "", "judge", flow.Span{})
		equal(t, "none", fmt.Sprintln(m.TotalExecutions, m.SuccessRate, m.SuccessRatio == nil, *m.TotalCost, err), "0 N/A true $0.0000 <nil>\n")
		begin := time.Now()
		run := func(text, version string) {
			info, err := s.StartRun(t.Context(), "judge", json.RawMessage(`{"text": "`+text+`"}`), pawl.AtVersion(version))
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = s.Wait(t.Context(), "", info.ID)
			if err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			run("good", "1") // two calls
		}
		run("bad", "1") // fails after a call and a repair
		s.deploys(t, doc(`"description": "two", `))
		run("good", "2")
		later, err := s.StartRun(t.Context(), "judge", json.RawMessage(`{"text": "good"}`), pawl.Delay(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		gone, err := s.StartRun(t.Context(), "judge", json.RawMessage(`{"text": "good"}`), pawl.Delay(time.Hour))
		if err == nil {
			_, err = s.Cancel(t.Context(), pawl.Ref{ID: gone.ID}, "")
		}
		if err != nil {
			t.Fatal(err)
		}
		m, err = s.Metrics(t.Context(), "", "judge", flow.Span{})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "counts", fmt.Sprint(m.TotalExecutions, m.Completed, m.Failed, m.Cancelled, m.Running), "7 4 1 1 1")
		equal(t, "rate", fmt.Sprintln(m.SuccessRate, *m.SuccessRatio), "80.0% 0.8\n")
		equal(t, "cost", fmt.Sprintln(*m.TotalCost, *m.TotalCostMicroUSD, *m.TotalCostUSD, *m.AvgCostPerExecution, *m.AvgCostMicroUSD), "$0.0200 20000 0.02 $0.0029 2857\n")
		equal(t, "versions", fmt.Sprint(m.ByVersion["1"].TotalExecutions, m.ByVersion["1"].Failed, m.ByVersion["2"].Completed), "4 1 1")
		equal(t, "last day", m.Last24h.TotalExecutions, 7)
		if m.P50DurationMs > m.P95DurationMs || m.P95DurationMs > m.P99DurationMs || m.AvgDurationMs > time.Since(begin).Milliseconds() {
			t.Errorf("durations: %+v", m)
		}
		old, err := s.Metrics(t.Context(), "", "judge", flow.Span{To: begin})
		equal(t, "before", fmt.Sprintln(old.TotalExecutions, *old.TotalCostMicroUSD, err), "0 0 <nil>\n")
		c, err := s.Registry.Costs(t.Context(), "", "judge", flow.Span{From: begin.Add(-time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		say := func(of map[string]flow.StepCost) string {
			data, err := json.Marshal(of)
			if err != nil {
				t.Fatal(err)
			}
			return string(data)
		}
		step := func(cost, calls, times int64) flow.StepCost {
			avg := (cost + times/2) / times
			return flow.StepCost{TotalCost: new(flow.Dollars(cost)), TotalCostUSD: new(float64(cost) / 1e6), TotalCostMicroUSD: &cost, AvgCost: new(flow.Dollars(avg)), AvgCostMicroUSD: &avg, Counted: flow.Counted{CountedMicroUSD: cost}, Calls: calls, Invocations: times}
		}
		equal(t, "by step", say(c.CostByStep), say(map[string]flow.StepCost{"ask": step(12000, 6, 5), "again": step(8000, 4, 4)}))
		equal(t, "by model", say(c.ByModel), say(map[string]flow.StepCost{"test/m": step(20000, 10, 5)}))
		equal(t, "by version", say(c.ByVersion), say(map[string]flow.StepCost{"1": step(16000, 8, 4), "2": step(4000, 2, 1)}))
		equal(t, "in all", fmt.Sprintln(*c.TotalCost, c.TotalExecutions, len(c.ByDay) > 0, len(c.ByPrompt), strings.HasPrefix(c.Period, "since ")), "$0.0200 7 true 0 true\n")
		if _, err := s.Registry.Costs(t.Context(), "acme", "judge", flow.Span{}); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("another tenant's: %v", err)
		}
		d, err := s.Dashboard(t.Context(), "", "", 10)
		if err != nil || d.TotalWorkflows != 1 || d.TotalExecutions != 7 || d.Workflows[0].Name != "Judge" || d.Workflows[0].Metrics.Completed != 4 || d.After != "" {
			t.Errorf("dashboard: %+v, %v", d, err)
		}
		if later.State != pawl.Pending {
			t.Error(later.State)
		}
	})
}

func TestJ54_dollars(t *testing.T) {
	for micro, want := range map[int64]string{0: "$0.0000", 1: "$0.000001", 99: "$0.000099", 100: "$0.0001", 31_249: "$0.0312", 31_250: "$0.0313", 1_234_567: "$1.2346", -42_000_000: "-$42.0000"} {
		equal(t, "dollars", flow.Dollars(micro), want)
	}
}
