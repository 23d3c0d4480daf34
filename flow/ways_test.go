package flow_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// counted are options with a model whose requests can be counted.
func counted(t *testing.T, d *desk, rules ...llmtest.Rule) (flow.Options, *llmtest.Scripted) {
	t.Helper()
	model := llmtest.Script(rules...)
	prices, err := llm.DefaultPrices().With("test", []byte(`{"prices": [{"provider": "test", "model": "m", "input": 1000000, "output": 2000000}, {"provider": "test", "model": "dear", "input": 100000000, "output": 200000000}]}`))
	if err != nil {
		t.Fatal(err)
	}
	opt := options(t, d)
	opt.Models = agent.New(agent.Options{Providers: map[string]llm.Model{"test": model}, Prices: prices})
	return opt, model
}

// A step that is skipped has no output by which to go on: default says where, and without one the document is refused.
func TestJ33_aSkippedStepGoesTheWayOfDefault(t *testing.T) {
	for _, more := range []string{`"onFailure": "skip"`, `"when": "variables.yes"`} {
		for _, one := range []string{
			ask("a", `{"a": "end", "b": "end"}`, enum, more),
			ask("a", `{"true": "end", "false": "end"}`, `, "outputFormat": "boolean"`, more),
			ask("a", `[{"when": "output == 'a'", "to": "end"}]`, enum, more),
			send("a", `{"x": "end"}`, "", more),
		} {
			got := problems(t, of(one), world())
			if !slices.ContainsFunc(got, func(p string) bool {
				return strings.Contains(p, `/steps/0/next: step "a" may be skipped, and then has no output by which to go on; give "default"`)
			}) {
				t.Errorf("%s: told is %q", one, got)
			}
		}
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt, model := counted(t, &desk{}, llmtest.Rule{Text: "neither of them"})
		s := serve(t, open(), opt)
		doc := of(ask("a", `{"a": "fail", "b": "fail", "default": "b"}`, enum+`, "maxRepairs": 0`, `"onFailure": "skip"`), `{"id": "b", "type": "transform", "config": {"expression": "[steps.a.status, steps.a.output == null, workflowId]"}, "next": "end"}`)
		x := s.after(t, doc, `{}`)
		equal(t, "output", string(x.Output), `["skipped",true,"f"]`)
		equal(t, "steps", fmt.Sprint(x.StepResults["a"].Next, " ", x.StepResults["a"].Status), "b skipped")
		equal(t, "requests", len(model.Calls()), 1)
	})
}

// An answer that leads nowhere ends the run: the model is not asked once more, whatever the retry policy and onFailure say, and also not when
// the run is retried by hand.
func TestJ33_anAnswerThatLeadsNowhereIsNotBoughtAgain(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt, model := counted(t, &desk{}, llmtest.Rule{Text: "5"})
		s := serve(t, open(), opt)
		for i, more := range []string{`"retryPolicy": {"maxAttempts": 5, "backoffMs": 1}`, `"onFailure": "fallback", "fallbackStep": "b"`} {
			x := s.after(t, of(ask("a", `{"1": "b", "2": "end"}`, `, "outputFormat": "number"`, more), step("b", end)), `{"x": 1}`)
			because(t, x, "no_next_step", `no next step for output "5" of step a; it leads on for ["1" "2"]`)
			if _, err := s.Retry(t.Context(), pawl.Ref{ID: x.ExecutionID}); err != nil {
				t.Fatal(err)
			}
			x = s.ended(t, x.ExecutionID)
			because(t, x, "no_next_step")
			equal(t, more, fmt.Sprint(len(model.Calls())-i, " request, ", tried(x, "a"), ", the other step: ", x.StepResults["b"].Visits), "1 request, done, the other step: 0")
		}
	})
}

// Each step says what follows it.
func TestJ34_nextIsNeeded(t *testing.T) {
	inner := `[` + step("c", end) + `]`
	for kind, config := range map[string]string{
		"ai-decision": `{"prompt": "?"}`, "service": `{"service": "desk", "to": "x"}`, "transform": `{"expression": "variables.x"}`, "parallel": `{"branches": [{"id": "b", "steps": ` + inner + `}]}`,
		"wait": `{"for": "webhook"}`, "map": `{"over": "variables.x", "steps": ` + inner + `}`, "workflow": `{"workflow": "known"}`, "agent": `{"instructions": "help", "prompt": "?"}`,
	} {
		one := fmt.Sprintf(`{"id": "a", "type": %q, "config": %s`, kind, config)
		for next, want := range map[string]string{
			"":                    `/steps/0: the field "next" is missing; the step that follows: a name`,
			`, "next": null`:      "/steps/0/next: it is null and must be a text or an object or a list",
			`, "next": ""`:        "/steps/0/next: it is empty",
			`, "next": []`:        "/steps/0/next: the list is empty",
			`, "next": {}`:        "/steps/0/next: ",
			`, "next": "nowhere"`: `/steps/0/next: there is no step "nowhere" here`,
		} {
			got := problems(t, of(one+next+"}"), world())
			if !slices.ContainsFunc(got, func(p string) bool { return strings.Contains(p, want) }) {
				t.Errorf("%s%s: told is %q, want %q", kind, next, got, want)
			}
		}
		for _, next := range []string{end, `{"default": "end"}`, `[{"to": "end"}]`} {
			if _, err := flow.Parse([]byte(of(one+`, "next": `+next+"}")), world()); err != nil {
				t.Errorf("%s, next %s: %v", kind, next, err)
			}
		}
	}
}

// A transform whose value leads nowhere ends the run, at once and for good; with a default it goes that way.
func TestJ34_aTransformThatLeadsNowhere(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		doc := of(`{"id": "a", "type": "transform", "retryPolicy": {"maxAttempts": 9}, "config": {"expression": "variables.x"}, "next": {"yes": "end"MORE}}`, step("b", end))
		x := s.after(t, strings.Replace(strings.Replace(doc, "MORE", "", 1), ",\n"+step("b", end), "", 1), `{"x": "no"}`)
		because(t, x, "no_next_step", `no next step for output "no" of step a; it leads on for ["yes"]`)
		equal(t, "attempts", tried(x, "a"), "done")
		x = s.after(t, strings.Replace(doc, "MORE", `, "default": "b"`, 1), `{"x": "no"}`)
		equal(t, "with a default", string(x.Output), `"no"`)
	})
}

// A value finds its way by its text, as JSON writes it, and only one that has a text: neither objects nor null do, whatever they look like.
func TestJ35_valuesFindTheirWay(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		doc := of(`{"id": "a", "type": "transform", "config": {"expression": "variables.x"}, "next": {"4": "four", "4.5": "half", "true": "yes", "null": "odd", "[object Object]": "odd", "{}": "odd", "[]": "odd", "": "empty", "0": "zero"}}`,
			`{"id": "four", "type": "transform", "config": {"expression": "'four'"}, "next": "end"}`, `{"id": "half", "type": "transform", "config": {"expression": "'half'"}, "next": "end"}`,
			`{"id": "yes", "type": "transform", "config": {"expression": "'yes'"}, "next": "end"}`, `{"id": "odd", "type": "transform", "config": {"expression": "'odd'"}, "next": "end"}`,
			`{"id": "empty", "type": "transform", "config": {"expression": "'empty'"}, "next": "end"}`, `{"id": "zero", "type": "transform", "config": {"expression": "'zero'"}, "next": "end"}`)
		for in, want := range map[string]string{
			`4`: "four", `4.0`: "four", `"4"`: "four", `4.5`: "half", `4.50`: "half", `"4.5"`: "half", `true`: "yes", `"true"`: "yes", `""`: "empty", `0`: "zero", `-0`: "zero", `-0.0`: "zero",
			`"null"`: "odd", `"[object Object]"`: "odd",
			`null`: "", `{}`: "", `[]`: "", `{"a": 4}`: "", `[4]`: "", `4.4`: "", `"4 "`: "", `"Four"`: "", `false`: "", `"TRUE"`: "",
		} {
			x := s.after(t, doc, `{"x": `+in+`}`)
			if want == "" {
				because(t, x, "no_next_step", "of step a")
			} else {
				equal(t, in, string(x.Output), `"`+want+`"`)
			}
		}
	})
}

// Numbers go by conditions, of which the first that holds decides; JSON needs to be told by what it goes.
func TestJ35_numbersGoByConditionsAndJSONByRouteOn(t *testing.T) {
	for doc, want := range map[string]string{
		of(ask("a", `{"x": "end"}`, `, "outputFormat": "json", "outputSchema": {"type": "object"}`)):                                 `/steps/0/next/x: step "a" never has the output "x"; its output is JSON: give "routeOn", or conditions`,
		of(ask("a", `{"x": "end", "default": "end"}`, `, "outputFormat": "number", "routeOn": "x"`)):                                 `/steps/0/config/routeOn: routeOn has no meaning for outputFormat "number"`,
		of(ask("a", `{"x": "end", "default": "end"}`, `, "outputFormat": "json", "outputSchema": {}, "routeOn": "x."`)):              `/steps/0/config/routeOn: `,
		of(ask("a", `[{"when": "output >= 'x' + 1", "to": "end"}, {"to": "end"}]`, `, "outputFormat": "number"`)):                    `/steps/0/next/0/when: `,
		of(ask("a", `[{"when": "output + 1", "to": "end"}, {"to": "end"}]`, `, "outputFormat": "number"`)):                           `/steps/0/next/0/when: its value is of type number and must be bool`,
		of(ask("a", `[{"to": "end"}, {"when": "output > 1", "to": "end"}]`, `, "outputFormat": "number"`)):                           `/steps/0/next/0: only the last way may go without a condition`,
		of(`{"id": "a", "type": "map", "config": {"over": "variables.x", "steps": [` + step("c", end) + `]}, "next": {"x": "end"}}`): `/steps/0/next/x: step "a" never has the output "x"; its output is no text: use conditions`,
		of(`{"id": "a", "type": "transform", "config": {"set": {"y": "variables.x"}}, "next": {"x": "end"}}`):                        `/steps/0/next/x: step "a" never has the output "x"; its output is an object: use conditions`,
	} {
		got := problems(t, doc, world())
		if !slices.ContainsFunc(got, func(p string) bool { return strings.Contains(p, want) }) {
			t.Errorf("%s: told is %q, want %q", doc, got, want)
		}
	}
	says := func(id string) string {
		return fmt.Sprintf(`{"id": %q, "type": "transform", "config": {"expression": "'%s'"}, "next": "end"}`, id, id)
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		for answer, want := range map[string]string{"4.5": "page", "4": "page", "3.9": "mail", "2": "mail", "1": "none"} {
			s := serve(t, open(), options(t, &desk{}, llmtest.Rule{Text: answer}))
			x := s.after(t, of(ask("a", `[{"when": "output >= 4", "to": "page"}, {"when": "output >= 2", "to": "mail"}, {"to": "none"}]`, `, "outputFormat": "number", "min": 1, "max": 5`), says("page"), says("mail"), says("none")), `{}`)
			equal(t, answer, string(x.Output), `"`+want+`"`)
			s.stop()
		}
		schema := `, "outputFormat": "json", "outputSchema": {"type": "object", "properties": {"verdict": {}, "deep": {"type": "object"}}}`
		for answer, want := range map[string]string{
			`{"verdict": "page"}`: "page", `{"verdict": 7}`: "none", `{"verdict": null}`: "none", `{"verdict": {"a": "page"}}`: "none", `{"verdict": ["page"]}`: "none", `{"verdict": "PAGE"}`: "none",
		} {
			s := serve(t, open(), options(t, &desk{}, llmtest.Rule{Text: answer}))
			x := s.after(t, of(ask("a", `{"page": "page", "default": "none"}`, schema+`, "routeOn": "verdict"`), says("page"), says("none")), `{}`)
			equal(t, answer, string(x.Output), `"`+want+`"`)
			s.stop()
		}
		s := serve(t, open(), options(t, &desk{}, llmtest.Rule{Text: `{"other": 1}`}))
		x := s.after(t, of(ask("a", `{"page": "page", "default": "end"}`, schema+`, "routeOn": "deep.verdict", "maxRepairs": 0`), says("page")), `{}`)
		because(t, x, "unresolved", "step a: routeOn", "deep")
		equal(t, "attempts", tried(x, "a"), "done")
	})
}

// Texts by which a number chooses are those that numbers have; a few whole numbers are a choice, of which each leads somewhere.
func TestJ35_textsThatNoNumberHas(t *testing.T) {
	for doc, want := range map[string][]string{
		of(ask("a", `{"4.0": "end", "four": "end", "NaN": "end", "04": "end", "4.5": "end", "default": "end"}`, `, "outputFormat": "number"`)): {
			`/steps/0/next/4.0: step "a" never has the output "4.0"; write "4"`, `/steps/0/next/four: step "a" never has the output "four"; its output is a number: for a range of them use conditions`, `/steps/0/next/NaN: `, `/steps/0/next/04: `},
		of(ask("a", `{"0": "end", "6": "end", "2.5": "end", "default": "end"}`, `, "outputFormat": "number", "min": 1, "integer": true`)): {
			`/steps/0/next/0: step "a" never has the output "0"; see min, max and integer`, `/steps/0/next/2.5: step "a" never has the output "2.5"; see min, max and integer`},
		of(ask("a", `{"1": "end", "3": "end", "6": "end"}`, `, "outputFormat": "number", "integer": true, "min": 1, "max": 4`)): {
			`/steps/0/next: nothing follows the outputs ["2" "4"] of step "a"; add them, or "default"`, `/steps/0/next/6: step "a" never has the output "6"; it is a whole number from 1 to 4`},
	} {
		got := problems(t, doc, world())
		equal(t, doc, len(got), len(want))
		for i := range min(len(got), len(want)) {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("%s: told is %q, want %q", doc, got[i], want[i])
			}
		}
	}
	if _, err := flow.Parse([]byte(of(ask("a", `{"1": "end", "2": "end", "3": "end"}`, `, "outputFormat": "number", "integer": true, "min": 1, "max": 3`))), world()); err != nil {
		t.Error(err)
	}
}
