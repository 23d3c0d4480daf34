package ask_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/ask"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/pawltest"
)

type point struct {
	X int `json:"x"`
	Y int `json:"y"`
}

func positive(p point) error {
	if p.X < 0 || p.Y < 0 {
		return errors.New("x and y must not be negative")
	}
	return nil
}

func request() llm.Request {
	return llm.Request{Model: "test", Messages: []llm.Message{llm.User("Where?")}}
}

func locate(m llm.Model) *pawl.Workflow[struct{}, ask.Answer[point]] {
	return pawl.Define("locate", func(c *pawl.Context, _ struct{}) (ask.Answer[point], error) {
		return ask.JSON(c, m, "locate", request(), positive)
	})
}

func describe(m llm.Model) *pawl.Workflow[struct{}, ask.Answer[string]] {
	return pawl.Define("describe", func(c *pawl.Context, _ struct{}) (ask.Answer[string], error) {
		return ask.Text(c, m, "describe", request())
	})
}

// Each answer is either taken as it is, or shown to the model again with what is wrong.
func TestJSONIsTakenStrictly(t *testing.T) {
	for answer, problem := range map[string]string{
		`{"x": 1, "y": 2}`:                    "",
		" {\"x\": 1, \"y\": 2}\n":             "",
		"```json\n{\"x\": 1, \"y\": 2}\n```":  "",
		"```\n{\"x\": 1, \"y\": 2}\n```":      "",
		`Here it is: {"x": 1, "y": 2}`:        "not the JSON object",
		`{"x": 1, "y": 2} Is that all right?`: "more after the JSON object",
		`{"x": 1, "y": 2}{"x": 3, "y": 4}`:    "more after the JSON object",
		`{"x": 1, "y": 2`:                     "not the JSON object",
		`{"x": 1, "y": 2, "z": 3}`:            `unknown field "z"`,
		`{"x": "one", "y": 2}`:                "not the JSON object",
		`[1, 2]`:                              "not the JSON object",
		`{"x": -1, "y": 2}`:                   "must not be negative",
		``:                                    "not the JSON object",
	} {
		t.Run(answer, func(t *testing.T) {
			model := llmtest.Script(
				llmtest.Rule{Contains: "Where?", Text: answer},
				llmtest.Rule{Contains: "cannot be used: ", Text: `{"x": 1, "y": 2}`},
			)
			w := locate(model)
			pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
				run := pawltest.Start(h, w, struct{}{})
				got := pawltest.Result(h, run)
				if got.Value != (point{1, 2}) {
					t.Errorf("the result is %+v", got)
				}
				calls := model.Calls()
				steps := h.Keys(run.ID())
				if problem == "" {
					if len(calls) != 1 || !slices.Equal(steps, []string{"locate"}) {
						t.Errorf("a good answer led to %d calls in the steps %q", len(calls), steps)
					}
					return
				}
				if len(calls) != 2 || !slices.Equal(steps, []string{"locate", "locate-repair"}) {
					t.Fatalf("a bad answer led to %d calls in the steps %q", len(calls), steps)
				}
				said := calls[1].Messages
				if len(said) != 3 || said[1].Content != answer || !strings.Contains(said[2].Content, problem) {
					t.Errorf("the model was told %+v", said)
				}
				if got.Usage.Output < len(strings.Fields(answer))+4 {
					t.Errorf("the usage %+v does not count both calls", got.Usage)
				}
			}, w)
		})
	}
}

// A repair that is no use is tried once more and then fails, so that a retry of the run
// has a step to begin at.
func TestAHopelessAnswerFailsTheRepair(t *testing.T) {
	model := llmtest.Script(
		llmtest.Rule{Times: 3, Text: "over there"},
		llmtest.Rule{Text: `{"x": 1, "y": 2}`},
	)
	w := locate(model)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run := pawltest.Start(h, w, struct{}{})
		_, err := pawltest.ResultError(h, run)
		step, ok := errors.AsType[*pawl.StepError](err)
		if !ok || step.Step != "locate-repair" || step.Attempts != 2 || !strings.Contains(err.Error(), "over there") {
			t.Fatalf("the run ended with %v", err)
		}
		if _, err := h.Engine().Retry(h.Context(), pawl.Ref{ID: run.ID()}); err != nil {
			t.Fatal(err)
		}
		if got := pawltest.Result(h, run); got.Value != (point{1, 2}) || len(model.Calls()) != 4 {
			t.Errorf("after a retry the result is %+v, with %d calls", got, len(model.Calls()))
		}
	}, w)
}

func TestAnAnswerThatWillNotComeIsNotAskedForAgain(t *testing.T) {
	for name, rule := range map[string]llmtest.Rule{
		"declined":   {Refusal: "I may not say."},
		"cut off":    {Text: "It lies in the", Finish: llm.FinishLength},
		"no such":    {Fail: []error{&llm.Error{Kind: llm.BadRequest, Message: "no such model"}}},
		"over quota": {Fail: []error{&llm.Error{Kind: llm.QuotaExceeded, Message: "pay first"}}},
	} {
		t.Run(name, func(t *testing.T) {
			model := llmtest.Script(rule)
			text := describe(model)
			pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
				_, err := pawltest.ResultError(h, pawltest.Start(h, text, struct{}{}))
				fatalOnce(t, err)
			}, text)
			model = llmtest.Script(rule)
			json := locate(model)
			pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
				_, err := pawltest.ResultError(h, pawltest.Start(h, json, struct{}{}))
				fatalOnce(t, err)
			}, json)
			if n := len(model.Calls()); n != 1 {
				t.Errorf("%d calls, want 1", n)
			}
		})
	}
}

func fatalOnce(t *testing.T, err error) {
	t.Helper()
	if step, ok := errors.AsType[*pawl.StepError](err); !ok || step.Attempts != 1 || !pawl.IsFatal(err) {
		t.Errorf("the run ended with %v", err)
	}
}

func TestAnEmptyTextIsAFailedAttempt(t *testing.T) {
	model := llmtest.Script(llmtest.Rule{Times: 2, Text: " \n"}, llmtest.Rule{Text: " In the harbour.\n"})
	w := describe(model)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		if got := pawltest.Result(h, pawltest.Start(h, w, struct{}{})); got.Value != "In the harbour." || len(model.Calls()) != 3 {
			t.Errorf("the result is %+v, after %d calls", got, len(model.Calls()))
		}
	}, w)
}
