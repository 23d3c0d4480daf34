package research_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/research-agent/research"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/pawltest"
)

func agent(m llm.Model) *pawl.Workflow[research.Input, research.Report] {
	return research.New(demo.Scripted(m))
}

func wants(schema string) func(*llm.Request) bool {
	return func(r *llm.Request) bool { return r.Schema != nil && r.Schema.Name == schema }
}

func planOf(questions ...string) string {
	return `{"questions": ["` + strings.Join(questions, `", "`) + `"]}`
}

const (
	shallow = `{"findings": ["known"], "confidence": "sure", "followUp": ""}`
	deep    = `{"findings": ["half known"], "confidence": "unsure", "followUp": "why?"}`
)

func TestEveryCrashIsSurvived(t *testing.T) {
	pawltest.CrashEverywhere(t, agent(inOrder{demo.Model()}), research.Input{Topic: "rope"})
}

// inOrder answers questions that are asked at the same time one after the other, a longer
// question later, so that the lines which branches write to the same stream have an order
// that can be compared.
type inOrder struct{ llm.Model }

func (m inOrder) Generate(ctx context.Context, req *llm.Request) (*llm.Response, error) {
	text := req.Messages[len(req.Messages)-1].Content
	select {
	case <-time.After(time.Duration(len(text)) * 10 * time.Millisecond):
		return m.Model.Generate(ctx, req)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// The plan decides how many steps there are, and an answer may ask for one more.
func TestThePlanDecidesTheSteps(t *testing.T) {
	for questions := 1; questions <= 6; questions++ {
		t.Run(fmt.Sprint(questions), func(t *testing.T) {
			var asked []string
			want := []string{"plan"}
			for i := range questions {
				asked = append(asked, fmt.Sprintf("question %d", i))
				want = append(want, fmt.Sprintf("research[%d]/look-into", i))
			}
			want = append(want, "research[0]/follow-up", "synthesize")
			model := llmtest.Script(
				llmtest.Rule{When: wants("plan"), Text: planOf(asked...)},
				llmtest.Rule{When: wants("finding"), Contains: "question 0", Text: deep},
				llmtest.Rule{When: wants("finding"), Text: shallow},
				llmtest.Rule{Text: "the report"},
			)
			w := agent(model)
			pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
				run := pawltest.Start(h, w, research.Input{Topic: "rope"})
				report := pawltest.Result(h, run)
				if report.Text != "the report" || len(report.Findings) != questions+1 || report.Findings[1].Question != "why?" {
					t.Errorf("the report is %+v", report)
				}
				got := h.Keys(run.ID())
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("the steps are %q, want %q", got, want)
				}
				attrs := h.Info(run.ID()).Attrs
				if attrs["topic"] != "rope" || attrs["phase"] != "done" {
					t.Errorf("the attributes are %v", attrs)
				}
			}, w)
		})
	}
}

func TestAtMostThreeQuestionsAtATime(t *testing.T) {
	var now, most atomic.Int64
	model := llmtest.Script(
		llmtest.Rule{When: wants("plan"), Text: planOf("a", "b", "c", "d", "e", "f")},
		llmtest.Rule{When: wants("finding"), Answer: func(ctx context.Context, _ *llm.Request) (*llm.Response, error) {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(time.Second) // of virtual time: all that can be under way are
			now.Add(-1)
			return &llm.Response{Text: shallow}, nil
		}},
		llmtest.Rule{Text: "the report"},
	)
	w := agent(model)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		pawltest.Result(h, pawltest.Start(h, w, research.Input{Topic: "rope"}))
		if most.Load() != 3 {
			t.Errorf("%d questions were worked on at the same time, want 3", most.Load())
		}
	}, w)
}

func TestABadPlanIsRepairedOnce(t *testing.T) {
	tooMany := planOf("1", "2", "3", "4", "5", "6", "7")
	model := llmtest.Script(
		llmtest.Rule{When: wants("plan"), Times: 1, Text: tooMany},
		llmtest.Rule{When: wants("plan"), Contains: "it has 7 questions", Text: planOf("only one")},
		llmtest.Rule{When: wants("finding"), Text: shallow},
		llmtest.Rule{Text: "the report"},
	)
	w := agent(model)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run := pawltest.Start(h, w, research.Input{Topic: "rope"})
		pawltest.Result(h, run)
		if want := []string{"plan", "research[0]/look-into", "synthesize"}; !slices.Equal(h.Keys(run.ID()), want) {
			t.Errorf("the steps are %q, want %q", h.Keys(run.ID()), want)
		}
		repair := model.Calls()[1].Messages
		if len(repair) != 3 || repair[1].Role != llm.RoleAssistant || repair[1].Content != tooMany {
			t.Errorf("the model was not shown its answer: %+v", repair)
		}
	}, w)
}

// What a provider says about another attempt reaches the engine.
func TestTheProviderSaysWhenToTryAgain(t *testing.T) {
	model := llmtest.Script(
		llmtest.Rule{When: wants("plan"), Fail: []error{&llm.Error{Kind: llm.RateLimited, Message: "slow down", Wait: 3 * time.Hour}}, Text: planOf("one")},
		llmtest.Rule{When: wants("finding"), Text: shallow},
		llmtest.Rule{Text: "the report"},
	)
	w := agent(model)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		began := time.Now()
		pawltest.Result(h, pawltest.Start(h, w, research.Input{Topic: "rope"}))
		// A journal keeps times to the microsecond.
		if took := time.Since(began) + time.Microsecond; took < 3*time.Hour || took > 3*time.Hour+time.Minute {
			t.Errorf("asked to wait for 3h, it took %v", took)
		}
		if n := len(model.Calls()); n != 4 {
			t.Errorf("%d calls, want 4", n)
		}
	}, w)
}

func TestAWrongKeyIsNotTriedTwice(t *testing.T) {
	model := llmtest.Script(llmtest.Rule{Fail: []error{&llm.Error{Kind: llm.Auth, Message: "no such key"}}, Text: "never"})
	w := agent(model)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		_, err := pawltest.ResultError(h, pawltest.Start(h, w, research.Input{Topic: "rope"}))
		step, ok := errors.AsType[*pawl.StepError](err)
		if !ok || step.Step != "plan" || step.Attempts != 1 || !pawl.IsFatal(err) {
			t.Errorf("the run ended with %v", err)
		}
		if n := len(model.Calls()); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
	}, w)
}

func TestInputIsChecked(t *testing.T) {
	for topic, ok := range map[string]bool{
		"rope": true, "": false, "  \n": false, strings.Repeat("x", 200): true, strings.Repeat("x", 201): false,
	} {
		if err := (research.Input{Topic: topic}).Validate(); (err == nil) != ok {
			t.Errorf("topic of %d bytes: %v", len(topic), err)
		}
	}
	w := agent(demo.Model())
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		if _, err := w.Start(h.Context(), h.Engine(), research.Input{}); !errors.Is(err, pawl.ErrInput) {
			t.Errorf("an empty topic was answered with %v", err)
		}
	}, w)
}

func TestWorkflowsCanBeRegistered(t *testing.T) {
	model := demo.Model()
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run, err := h.Engine().StartRun(h.Context(), "research-agent", []byte(`{"topic": "rope"}`))
		if err != nil {
			t.Fatal(err)
		}
		if info := h.AwaitState(run.ID, pawl.Completed, pawl.Failed); info.State != pawl.Completed {
			t.Errorf("the run is %v: %s", info.State, info.Reason)
		}
	}, research.New(demo.Scripted(model)))
}
