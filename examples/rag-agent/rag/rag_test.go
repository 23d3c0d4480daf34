package rag_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/rag-agent/rag"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/pawltest"
)

func agent(m *llmtest.Scripted) *pawl.Workflow[rag.Input, rag.Result] {
	return rag.New(demo.Scripted(m))
}

func wants(schema string) func(*llm.Request) bool {
	return func(r *llm.Request) bool { return r.Schema != nil && r.Schema.Name == schema }
}

var late = rag.Input{Question: "What does a tool cost that comes back late?"}

// Embedding comes early, in any order; what follows is in order.
var before = []string{"passages", "embed[0]/batch", "embed[1]/batch", "embed[2]/batch", "embed-question", "search"}

func stepsAre(t *testing.T, h *pawltest.Harness, runID string, after ...string) {
	t.Helper()
	got := h.Keys(runID)
	slices.Sort(got[1:4])
	if want := slices.Concat(before, after); !slices.Equal(got, want) {
		t.Errorf("the steps are %q, want %q", got, want)
	}
}

func TestEveryCrashIsSurvived(t *testing.T) {
	pawltest.CrashEverywhere(t, agent(demo.Model()), late)
}

func TestTheAnswerIsFoundAndCited(t *testing.T) {
	for question, source := range map[string]string{
		late.Question:                                   "fees#3",
		"Do I pay for a dull blade?":                    "damage#1",
		"When is the workshop open?":                    "workshop#1",
		"How many tools may I have at home?":            "borrowing#1",
		"Which proof of address do I need when I join?": "joining#2",
	} {
		t.Run(source, func(t *testing.T) {
			model := demo.Model()
			w := agent(model)
			pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
				run := pawltest.Start(h, w, rag.Input{Question: question})
				r := pawltest.Result(h, run)
				if !r.Supported || r.Answers != 1 || !slices.Equal(r.Citations, []string{source}) {
					t.Errorf("the result is %+v", r)
				}
				if len(r.Hits) != 4 || r.Hits[0].ID != source || !slices.IsSortedFunc(r.Hits, func(a, b rag.Hit) int { return int(1e6 * (b.Score - a.Score)) }) {
					t.Errorf("found were %+v", r.Hits)
				}
				stepsAre(t, h, run.ID(), "answer", "fact-check")
				if attrs := h.Info(run.ID()).Attrs; attrs["topic"] != question || attrs["phase"] != "done" {
					t.Errorf("the attributes are %v", attrs)
				}
				var texts []string
				for _, call := range model.Embeds() {
					texts = append(texts, call.Input...)
				}
				if slices.Sort(texts); len(texts) != 21 || len(slices.Compact(texts)) != 21 {
					t.Errorf("%d texts were embedded, want 20 passages and the question, each once", len(texts))
				}
			}, w)
		})
	}
}

const (
	right   = `{"answer": "One euro a day.", "citations": ["fees#3"]}`
	wrong   = `{"answer": "Ten euros a day.", "citations": ["fees#3"]}`
	fine    = `{"supported": true, "problems": []}`
	notFine = `{"supported": false, "problems": ["ten euros: the passages say 1 euro"]}`
)

func TestAnAnswerThatFailsTheCheckIsGivenAgainOnce(t *testing.T) {
	for _, c := range []struct {
		name      string
		second    string
		supported bool
	}{
		{"and is right", right, true},
		{"and is wrong again", wrong, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			model := llmtest.Script(
				llmtest.Rule{When: wants("verdict"), Contains: "Answer: Ten", Text: notFine},
				llmtest.Rule{When: wants("verdict"), Text: fine},
				llmtest.Rule{When: wants("answer"), Contains: "the passages say 1 euro", Text: c.second},
				llmtest.Rule{When: wants("answer"), Text: wrong},
			)
			w := agent(model)
			pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
				run := pawltest.Start(h, w, late)
				r := pawltest.Result(h, run)
				if r.Answers != 2 || r.Supported != c.supported || (len(r.Problems) == 0) != c.supported {
					t.Errorf("the result is %+v", r)
				}
				stepsAre(t, h, run.ID(), "answer", "fact-check", "answer#2", "fact-check#2")
			}, w)
		})
	}
}

// A model may not cite what it was not shown.
func TestAnInventedSourceIsRepaired(t *testing.T) {
	model := llmtest.Script(
		llmtest.Rule{When: wants("answer"), Contains: `it cites "fees#99"`, Text: right},
		llmtest.Rule{When: wants("answer"), Text: `{"answer": "One euro a day.", "citations": ["fees#99"]}`},
		llmtest.Rule{When: wants("verdict"), Text: fine},
	)
	w := agent(model)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run := pawltest.Start(h, w, late)
		if r := pawltest.Result(h, run); !slices.Equal(r.Citations, []string{"fees#3"}) {
			t.Errorf("the result is %+v", r)
		}
		stepsAre(t, h, run.ID(), "answer", "fact-check")
	}, w)
}

// The embedding model is changed, by a deploy, between the corpus and the question.
type changing struct{ *llmtest.Scripted }

func (c changing) Embed(ctx context.Context, req *llm.EmbedRequest) (*llm.EmbedResponse, error) {
	other := *req
	if len(req.Input) == 1 {
		other.Dimensions = 64
	}
	return c.Scripted.Embed(ctx, &other)
}

func TestVectorsOfTwoModelsAreNotCompared(t *testing.T) {
	model := demo.Model()
	w := rag.New(demo.Scripted(changing{model}))
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		_, err := pawltest.ResultError(h, pawltest.Start(h, w, late))
		if step, ok := errors.AsType[*pawl.StepError](err); !ok || step.Step != "search" || step.Attempts != 1 {
			t.Errorf("the run ended with %v", err)
		}
	}, w)
}

func TestInputIsChecked(t *testing.T) {
	for _, question := range []string{"", " ", strings.Repeat("x", 241)} {
		if (rag.Input{Question: question}).Validate() == nil {
			t.Errorf("%.20q is accepted", question)
		}
	}
	if err := late.Validate(); err != nil {
		t.Error(err)
	}
}

func TestWorkflowsCanBeRegistered(t *testing.T) {
	model := demo.Model()
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run, err := h.Engine().StartRun(h.Context(), "rag-agent", []byte(`{"question": "Who can join?"}`))
		if err != nil {
			t.Fatal(err)
		}
		if info := h.AwaitState(run.ID, pawl.Completed, pawl.Failed); info.State != pawl.Completed {
			t.Errorf("the run is %v: %s", info.State, info.Reason)
		}
	}, rag.New(demo.Scripted(model)))
}
