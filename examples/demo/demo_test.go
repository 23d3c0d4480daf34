package demo_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/examples/content-pipeline/content"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/rag-agent/rag"
	"github.com/pawlrun/pawl/examples/research-agent/research"
	"github.com/pawlrun/pawl/pawltest"
)

// The script must answer all that the three workflows ask, at the first attempt and
// without a repair, and every text that a user gets to see must say that it is scripted.
func TestTheScriptAnswersAllWorkflows(t *testing.T) {
	t.Chdir(t.TempDir()) // the content pipeline publishes to a file
	models := demo.Scripted(demo.Model())
	defs := []pawl.Definition{research.New(models), content.New(models, ""), rag.New(models)}
	for workflow, input := range map[string]string{
		"research-agent":   `{"topic": "rope"}`,
		"content-pipeline": `{"topic": "rope", "audience": "sailors"}`,
		"rag-agent":        `{"question": "Who can become a member?"}`,
	} {
		t.Run(workflow, func(t *testing.T) {
			pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
				run, err := h.Engine().StartRun(h.Context(), workflow, json.RawMessage(input))
				if err != nil {
					t.Fatal(err)
				}
				if workflow == "content-pipeline" {
					h.AwaitEvent(run.ID, "review")
					h.Signal(run.ID, "review", content.Review{Comment: "more about knots"})
					h.AwaitEntry(run.ID, pawl.KindStep, "revise")
					h.AwaitEvent(run.ID, "review")
					h.Signal(run.ID, "review", content.Review{Approved: true})
				}
				info := h.AwaitState(run.ID, pawl.Completed, pawl.Failed)
				if info.State != pawl.Completed {
					t.Fatalf("the run is %v: %s", info.State, info.Reason)
				}
				entries := h.Journal(run.ID)
				for _, e := range entries {
					if e.Failed {
						t.Errorf("%s, attempt %d: %s", e.Key, e.Attempt, e.Data)
					}
				}
				for q, err := range agent.Asked(h.Context(), h.Engine(), pawl.Ref{ID: run.ID}) {
					if err != nil || q.Why != "ask" {
						t.Errorf("%s of %s: %v", q.Why, q.Step, err)
					}
				}
				if result := string(entries[len(entries)-1].Data); !strings.Contains(result, "[scripted: no model was asked]") {
					t.Errorf("the result does not say that it is scripted: %s", result)
				}
			}, defs...)
		})
	}
}
