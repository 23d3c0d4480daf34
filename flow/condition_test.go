package flow_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/flow"
)

// transforms is a flow whose second step is a transform with an expression.
func transforms(expression string) string {
	return `{"id": "f", "inputs": {"type": "object", "required": ["score", "kind"], "properties": {"score": {}, "kind": {}, "note": {}}}, "steps": [` +
		ask("ai-ask", `{"a": "t", "b": "t"}`, enum) + `, {"id": "t", "type": "transform", "config": {"expression": ` + quoted(expression) + `}, "next": "end"}]}`
}

func quoted(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

// What an expression reads is checked as a template's paths are, and its faults have their place.
func TestExpressionsAreChecked(t *testing.T) {
	for name, test := range map[string]struct {
		doc  string
		want []string
	}{
		"syntax":         {transforms("variables.score +"), []string{"/steps/1/config/expression: the expression ends too early\n    variables.score +\n                     ^"}},
		"kinds":          {transforms(`variables.score > "a" + 1`), []string{"+ does not take a text and a whole number; make a text of the other with string()\n    variables.score > \"a\" + 1\n                          ^"}},
		"function":       {transforms("uper(variables.kind)"), []string{`there is no function "uper"; did you mean "upper"?`}},
		"root":           {transforms("variable.kind == 'x'"), []string{`there is nothing called "variable"; did you mean "variables"?`}},
		"hyphen":         {transforms("stepResults.ai-ask.output == 'a'"), []string{`there is nothing called "ask"; if the name has a hyphen, write stepResults['ai-ask']`}},
		"variable":       {transforms("variables.scor + 1"), []string{`inputs have no "scor", and no step sets it; did you mean "score"?`}},
		"step":           {transforms("stepResults['ai-ak'].output + 'x'"), []string{`there is no step "ai-ak" here; did you mean "ai-ask"?`}},
		"field":          {transforms("steps['ai-ask'].outptu + 'x'"), []string{`the result of step "ai-ask" has no "outptu"; did you mean "output"?`}},
		"no quotes":      {transforms("billing"), []string{`there is nothing called "billing"; a text stands in quotes: 'billing'`}},
		"no spaces":      {transforms("variables.score-variables.kind"), []string{`inputs have no "score-variables", and no step sets it; if it is a subtraction, put spaces around the -`}},
		"item":           {transforms("item.x + 1"), []string{"there is an item only within the steps of a map"}},
		"secrets":        {transforms("secrets.key + ''"), []string{"secrets go to services only"}},
		"output":         {transforms("output + 1"), []string{`there is nothing called "output"`}},
		"when":           {of(step("a", end, `"when": "variables.x + 1"`)), []string{"/steps/0/when: its value is of type number and must be bool"}},
		"next":           {of(step("a", `[{"when": "size(output)", "to": "end"}, {"to": "fail"}]`)), []string{"/steps/0/next/0/when: its value is of type number and must be bool"}},
		"next's secrets": {of(send("a", `[{"when": "secrets.key == 'x'", "to": "end"}, {"to": "fail"}]`, "")), []string{"secrets go to services only"}},
		"over":           {of(`{"id": "m", "type": "map", "config": {"over": "size(variables.list)", "steps": [` + step("a", end) + `]}, "next": "end"}`), []string{"/steps/0/config/over: its value is of type number and must be list"}},
		"another way":    {of(ask("a", `{"a": "b", "b": "c"}`, enum), step("b", `"c"`), `{"id": "c", "type": "transform", "config": {"set": {"v": "steps.b.output + 1"}}, "next": "end"}`), []string{`/steps/2/config/set/v: {{steps.b.output}}: step "b" is not on every way to step "c"; let all ways go over it, or say what stands for it: default(steps.b.output, …)`}},
		"routes":         {of(`{"id": "a", "type": "transform", "config": {"expression": "variables.x > 1"}, "next": {"yes": "end", "default": "end"}}`), []string{`step "a" never has the output "yes"; it is true or false`}},
		"no routes":      {of(`{"id": "a", "type": "transform", "config": {"expression": "[1, 2]"}, "next": {"yes": "end", "default": "end"}}`), []string{`step "a" never has the output "yes"; its output is no text`}},
	} {
		t.Run(name, func(t *testing.T) {
			faults := problems(t, test.doc, world())
			if len(faults) != len(test.want) || !strings.Contains(faults[0], test.want[0]) {
				t.Errorf("told: %s\nwanted: %s", strings.Join(faults, "\n      "), test.want)
			}
		})
	}
	for _, expression := range []string{
		"variables.score > 1 && stepResults['ai-ask'].output == 'a'", "default(variables.note, '') + 'x'", "has(variables.note) ? variables.note : variables.kind", "true", "{'a': [variables.score]}",
		"[1, 2].map(item, item * variables.score)",
	} {
		made, err := flow.Parse([]byte(transforms(expression)), world())
		if err != nil || len(made.Warnings) > 0 {
			t.Errorf("%s: %v, %v", expression, err, made)
		}
	}
	made, err := flow.Parse([]byte(transforms("variables.note + 'x'")), world())
	if err != nil || len(made.Warnings) != 1 || !strings.Contains(made.Warnings[0].String(), "default(variables.note, …)") {
		t.Errorf("what may be missing: %v, %v", made, err)
	}
}

// Expressions decide where a run goes, whether a step runs, and what a map goes through.
func TestExpressionsInRuns(t *testing.T) {
	opt := options(t, &desk{})
	doc := of(
		`{"id": "count", "type": "transform", "config": {"set": {"total": "sum(variables.items.map(i, i.price * i.n))", "many": "size(variables.items) > 1"}}, "next": "skip"}`,
		`{"id": "skip", "type": "transform", "when": "variables.total > 1000", "config": {"expression": "variables.total"}, "next": "each"}`,
		`{"id": "each", "type": "map", "config": {"over": "variables.items.filter(i, i.n > 0)", "steps": [{"id": "one", "type": "transform", "config": {"expression": "string(index) + ':' + upper(item.name) + default(item.note, '')"}, "next": "end"}]}, "next": "which"}`,
		`{"id": "which", "type": "transform", "config": {"expression": "stepResults.each.output.join(',')"}, "next": [{"when": "output.contains('B') && variables.many", "to": "b"}, {"to": "fail"}]}`,
		`{"id": "b", "type": "transform", "config": {"expression": "{'text': stepResults.which.output, 'total': variables.total, 'skipped': steps.skip.status == 'skipped', 'big': 9007199254740993}"}, "next": "end"}`,
	)
	got := completes(t, doc, `{"items": [{"name": "a", "price": 2.5, "n": 2}, {"name": "b", "price": 1, "n": 1, "note": "!"}, {"name": "c", "price": 1, "n": 0}]}`, opt)
	equal(t, "output", got, `{"big":9007199254740993,"skipped":true,"text":"0:A,1:B!","total":6}`)
	fails(t, doc, `{"items": [{"name": "a", "price": "x", "n": 2}]}`, opt, "set total", "1:36: * does not take a text and a whole number")
}

// An expression that can't be evaluated fails its step with the place and a code, and is not tried again.
func TestExpressionsThatFail(t *testing.T) {
	opt := options(t, &desk{})
	variables := `{"n": 1, "a": {}, "l": [` + strings.Repeat("1,", 99) + `1]}`
	for source, want := range map[string][2]string{
		"variables.a.b + 1":   {"unresolved", `variables.a has no field "b"`},
		"variables.n / 0":     {"expression", "1:13: division by zero"},
		"variables.n && true": {"expression", "1:13: && takes true or false, and not a whole number"},
		"variables.l.all(a, variables.l.all(b, variables.l.all(c, a + b + c > 0)))": {"expression", "it does too much: the limit is 100000 steps"},
	} {
		doc := of(`{"id": "a", "type": "transform", "config": {"expression": `+quoted(source)+`}, "onFailure": "skip", "next": {"default": "z"}}`,
			`{"id": "z", "type": "transform", "config": {"expression": "[steps.a.error.code, steps.a.error.message]"}, "next": "end"}`)
		var got [2]string
		if err := json.Unmarshal([]byte(completes(t, doc, variables, opt)), &got); err != nil {
			t.Fatal(err)
		}
		if got[0] != want[0] || !strings.Contains(got[1], want[1]) {
			t.Errorf("%s: %q, want %q", source, got, want)
		}
	}
	doc := of(step("a", `[{"when": "variables.n / output > 1", "to": "end"}, {"to": "fail"}]`))
	fails(t, doc, `{"n": 1, "x": 0}`, opt, "step a: next", "1:13: division by zero")
}
