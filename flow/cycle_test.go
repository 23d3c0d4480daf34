package flow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// cycles are flows that go round so many times: what they do in each round, by what it is called.
func cycles(rounds int) map[string]string {
	limits := fmt.Sprintf(`"limits": {"maxSteps": %d}, `, 5*rounds+10)
	round := func(work string) string {
		return fmt.Sprintf(`{"id": "f", %s"steps": [
		  {"id": "count", "type": "transform", "maxVisits": %d, "config": {"set": {"n": "default(variables.n, 0) + 1"}}, "next": "work"}, %s,
		  {"id": "again", "type": "transform", "config": {"expression": "variables.n"}, "maxVisits": %d, "next": [{"when": "variables.n >= %d", "to": "end"}, {"to": "count"}]}]}`,
			limits, rounds, work, rounds, rounds)
	}
	step := func(kind, config string) string {
		return fmt.Sprintf(`{"id": "work", "type": %q, "maxVisits": %d, "config": %s, "next": "again"}`, kind, rounds, config)
	}
	adds := func(id string) string {
		return `{"id": "` + id + `", "type": "transform", "config": {"expression": "variables.n + 1"}, "next": "end"}`
	}
	return map[string]string{
		"decision": round(step("ai-decision", `{"prompt": "Round {{variables.n}}?", "outputFormat": "boolean"}`)),
		"parallel": round(step("parallel", `{"branches": [{"id": "a", "steps": [`+adds("x")+`]}, {"id": "b", "steps": [`+adds("y")+`]}]}`)),
		"map":      round(step("map", `{"over": "[1, 2, 3]", "steps": [`+adds("x")+`]}`)),
	}
}

// goesRound defines a flow that goes round.
func goesRound(tb testing.TB, kind string, rounds int) pawl.Definition {
	opt := options(tb, &desk{}, llmtest.Rule{Text: "true"})
	return flow.Define(parse(tb, cycles(rounds)[kind], opt), opt)
}

// A round of a circle costs the same however many were before it: as many entries in the journal, of the same size.
func TestEachRoundOfACircleCostsTheSame(t *testing.T) {
	const rounds = 120
	for kind := range cycles(1) {
		t.Run(kind, func(t *testing.T) {
			e := working(t, goesRound(t, kind, rounds))
			run, err := e.StartRun(t.Context(), "f", json.RawMessage(`{}`))
			if err != nil {
				t.Fatal(err)
			}
			info, end, err := e.Wait(t.Context(), "", run.ID)
			if err != nil || info.State != pawl.Completed {
				t.Fatalf("%s %v %v", info.State, end, err)
			}
			type cost struct{ entries, bytes int }
			var costs []cost // of each round, from its first step on
			for entry, err := range e.Journal(t.Context(), pawl.Ref{ID: run.ID}) {
				if err != nil {
					t.Fatal(err)
				}
				if n := len(costs) + 1; entry.Key == "count" && n == 1 || entry.Key == fmt.Sprintf("count#%d", n) {
					costs = append(costs, cost{})
				}
				if len(costs) > 0 && entry.Kind != pawl.KindResult {
					c := &costs[len(costs)-1]
					c.entries, c.bytes = c.entries+1, c.bytes+len(entry.Data)
				}
			}
			if len(costs) != rounds {
				t.Fatalf("there are %d rounds in the journal, want %d", len(costs), rounds)
			}
			first, last := costs[1], costs[rounds-1]
			t.Logf("a round has %d entries of %d bytes", last.entries, last.bytes)
			if last.entries != first.entries || last.bytes > first.bytes+8*last.entries { // numbers of three digits, in each entry a few times
				t.Errorf("the second round has %d entries of %d bytes, the last %d of %d", first.entries, first.bytes, last.entries, last.bytes)
			}
		})
	}
}

// BenchmarkCircle is what a round of a circle costs, when it runs and when it is replayed, with so many rounds in a run.
func BenchmarkCircle(b *testing.B) {
	for _, kind := range []string{"decision", "parallel", "map"} {
		for _, rounds := range []int{10, 100, 1000} {
			def := goesRound(b, kind, rounds)
			e := working(b, def)
			once := func() string {
				run, err := e.StartRun(context.Background(), "f", json.RawMessage(`{}`))
				if err != nil {
					b.Fatal(err)
				}
				if info, _, err := e.Wait(context.Background(), "", run.ID); err != nil || info.State != pawl.Completed {
					b.Fatal(info.Reason, err)
				}
				return run.ID
			}
			b.Run(fmt.Sprintf("%s/%d/run", kind, rounds), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					once()
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*rounds), "µs/round")
			})
			id := once()
			b.Run(fmt.Sprintf("%s/%d/replay", kind, rounds), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					check, err := e.Replay(context.Background(), pawl.Ref{ID: id}, def, pawl.Replaying{})
					if err != nil || check.Diverged != "" {
						b.Fatal(check.Diverged, err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*rounds), "µs/round")
			})
		}
	}
}
