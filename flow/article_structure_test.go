package flow_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// The J-numbers are defects of the article "Workflow Automation with AI Agents"; docs/conformance.md lists them.

// What a step brings is there under output, under the name of its outputVariable, and as a variable.
func TestJ1_anOutputIsFoundByAllItsNames(t *testing.T) {
	doc := of(ask("classify", `"check-severity"`, `, "outputFormat": "enum", "allowedValues": ["billing", "technical"], "outputVariable": "ticketCategory"`),
		ask("check-severity", `"assign"`, `, "outputFormat": "number", "outputVariable": "severity"`),
		send("assign", end, `, "text": {"queue": "{{stepResults.classify.ticketCategory}}", "same": ["{{stepResults.classify.output}}", "{{steps.classify.output}}", "{{variables.ticketCategory}}"], "priority": "{{stepResults.check-severity.severity}}", "n": "{{variables.severity}}"}`))
	eachOperator(t, []llmtest.Rule{{Times: 1, Text: "technical"}, {Text: "4"}}, nil, func(t *testing.T, o *operator) {
		if _, _, err := o.run(doc, `{}`); err != nil {
			t.Fatal(err)
		}
		equal(t, "call", o.desk.said()[0], `send text={"n":4,"priority":4,"queue":"technical","same":["technical","technical","technical"]} to=x`)
		o.refused(strings.NewReplacer("classify.ticketCategory", "classify.category", "variables.severity", "variables.severety").Replace(strings.Replace(doc, `"steps"`, `"inputs": {"type": "object", "properties": {}}, "steps"`, 1)),
			`/steps/2/config/text/queue: {{stepResults.classify.category}}: the result of step "classify" has no "category"; the output of step classify is stepResults.classify.output`,
			`/steps/2/config/text/n: {{variables.severety}}: inputs have no "severety", and no step sets it`)
	})
}

// An outputVariable can't pass for what a result tells of its step: who asks for the status must not get a model's words.
func TestJ1_anOutputVariableHidesNoField(t *testing.T) {
	for _, name := range []string{"status", "error", "cost", "rawOutput", "tokenUsage", "startedAt", "completedAt", "branches"} {
		_, err := flow.Parse([]byte(of(ask("a", end, `, "outputVariable": "`+name+`"`))), world())
		told(t, err, `/steps/0/config/outputVariable: "`+name+`" is a field of each step's result`)
	}
	if _, err := flow.Parse([]byte(of(ask("a", end, `, "outputVariable": "output"`))), world()); err != nil {
		t.Error(err) // which it is
	}
}

// A step that is skipped, or fails, brings nothing: the variable that it would have set stays as it was.
func TestJ1_onlyWhatCompletesSetsItsVariable(t *testing.T) {
	last := `{"id": "b", "type": "transform", "config": {"expression": "[variables.v, steps.a.status]"}, "next": "end"}`
	eachOperator(t, []llmtest.Rule{{Text: "none of them"}}, nil, func(t *testing.T, o *operator) {
		for name, more := range map[string]string{
			"when": `"when": "default(variables.v, '') == 'unknown'"`, "skip": `"onFailure": "skip"`, "fallback": `"onFailure": "fallback", "fallbackStep": "b"`,
		} {
			doc := of(ask("a", `{"default": "b"}`, `, "outputFormat": "enum", "allowedValues": ["x", "y"], "outputVariable": "v", "maxRepairs": 0`, more), strings.Replace(last, "variables.v", "default(variables.v, 'nothing')", 1))
			status := "skipped"
			if name == "fallback" {
				status = "failed"
			}
			o.says(doc, `{"v": "given"}`, `["given","`+status+`"]`)
		}
	})
	got := warned(t, of(ask("a", `{"default": "b"}`, `, "outputVariable": "v"`, `"onFailure": "skip"`), send("b", end, `, "text": "{{variables.v}} {{steps.a.v ?? ''}}"`)))
	if len(got) != 1 || !strings.HasPrefix(got[0], `/steps/1/config/text: {{variables.v}}: step "a" sets it, and may be skipped`) {
		t.Errorf("warned is of %q", got)
	}
}

// What inputs require is there on every way, also where a step makes another thing of it.
func TestJ1_aStepMayChangeAVariableOfTheStart(t *testing.T) {
	doc := `{"id": "f", "inputs": {"type": "object", "required": ["draft"], "properties": {"draft": {"type": "string"}}}, "steps": [` +
		ask("improve", `[{"when": "size(variables.draft) < 3", "to": "improve"}, {"to": "end"}]`, `, "prompt": "Better: {{variables.draft | trusted}}", "outputVariable": "draft"`, `"maxVisits": 5`) + `]}`
	doc = strings.Replace(doc, `"prompt": "?", `, "", 1)
	eachOperator(t, []llmtest.Rule{{Contains: "Better: aa", Text: "aaa"}, {Contains: "Better: a", Text: "aa"}}, nil, func(t *testing.T, o *operator) {
		o.says(doc, `{"draft": "a"}`, `"aaa"`)
	})
}

// One grammar of paths, in templates and in transforms; in an expression a name with a hyphen stands in brackets.
func TestJ2_onePathGrammarEverywhere(t *testing.T) {
	variables := `{"x": {"a": {"b": "deep"}}, "a.b": "dot", "list": [["zero"], {"y z": 1}], "a-b": {"c": "hyphen"}, "it's": "quote", "say \"x\"": "quotes", "": "empty", "größe": "ö", "0": "digit"}`
	eachOperator(t, nil, nil, func(t *testing.T, o *operator) {
		for path, want := range map[string]string{
			`variables.x.a.b`: "deep", `variables['x']['a']['b']`: "deep", `variables["x"].a["b"]`: "deep", `variables.x['a'].b`: "deep",
			`variables['a.b']`: "dot", `variables["a.b"]`: "dot", `variables.list[0][0]`: "zero", `variables['list'][1]["y z"]`: "1",
			`variables.a-b['c']`: "hyphen", `variables['a-b'].c`: "hyphen", `variables.a-b.c`: "hyphen",
			`variables['it\'s']`: "quote", `variables["it's"]`: "quote", `variables['say "x"']`: "quotes", `variables['']`: "empty", `variables['größe']`: "ö", `variables['0']`: "digit",
		} {
			text, err := json.Marshal("({{ " + path + " }})")
			if err != nil {
				t.Fatal(err)
			}
			expression, err := json.Marshal(path)
			if err != nil {
				t.Fatal(err)
			}
			o.desk.calls = nil
			_, out, err := o.run(of(`{"id": "t", "type": "transform", "config": {"expression": `+string(expression)+`}, "next": "s"}`, send("s", `"same"`, `, "text": `+string(text)),
				`{"id": "same", "type": "transform", "config": {"expression": "steps.t.output"}, "next": "end"}`), variables)
			if err != nil || strings.Trim(out, `"`) != want {
				t.Errorf("the transform %s is %s, %v; want %s", path, out, err, want)
			}
			equal(t, "the template "+path, strings.Join(o.desk.said(), "|"), "send text=("+want+") to=x")
		}
		o.refused(of(step("ai-prescreen", `[{"when": "stepResults.ai-prescreen.output == 'yes'", "to": "end"}, {"to": "end"}]`)),
			`/steps/0/next/0/when: there is nothing called "prescreen"; if the name has a hyphen, write stepResults['ai-prescreen']`)
		for _, bad := range []string{`variables['x`, `variables['x'`, `variables[x]`, `variables[-1]`, `variables[1.5]`, `variables[]`, `variables.0`, `variables..x`, `variables.`, `[0]`, `['x']`, `variables.x y`, ``, ` `} {
			text, err := json.Marshal("{{" + bad + "}}")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := o.Deploy(t.Context(), flow.Deployment{Document: []byte(of(send("s", end, `, "text": `+string(text))))}); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("{{%s}} was taken: %v", bad, err)
			}
		}
	})
}

// All targets that are not there are told at once, wherever they stand; "end" and "fail" are always there, and steps of other graphs never.
func TestJ3_allDanglingTargetsAreToldAtOnce(t *testing.T) {
	doc := of(step("classify", `{"billing": "route-billing", "technical": "log", "constructor": "wait-for-approval", "ok": "end", "no": "fail", "default": "classfy"}`),
		`{"id": "log", "type": "wait", "config": {"for": "event", "event": "x", "timeoutMs": 1, "onTimeout": "page-team"}, "next": [{"when": "output == 1", "to": "publish"}, {"to": "both"}]}`,
		`{"id": "both", "type": "parallel", "config": {"branches": [{"id": "x", "steps": [`+step("one", `"log"`)+`]}]}, "next": "each", "onFailure": "fallback", "fallbackStep": "nowhere"}`,
		`{"id": "each", "type": "map", "config": {"over": "variables.l", "steps": [`+step("item", `"one"`)+`]}, "next": "End"}`)
	want := []string{
		`/steps/0/next/billing: there is no step "route-billing" here`, `/steps/0/next/constructor: there is no step "wait-for-approval" here`, `/steps/0/next/default: there is no step "classfy" here; did you mean "classify"?`,
		`/steps/1/config/onTimeout: there is no step "page-team" here`, `/steps/1/next/0/to: there is no step "publish" here`,
		`/steps/2/config/branches/0/steps/0/next: there is no step "log" here`, `/steps/2/fallbackStep: there is no step "nowhere" here`,
		`/steps/3/config/steps/0/next: there is no step "one" here`, `/steps/3/next: there is no step "End" here; did you mean "end"?`,
	}
	eachOperator(t, nil, nil, func(t *testing.T, o *operator) {
		o.refused(doc, want...)
		o.nothing("f")
		o.says(of(`{"id": "a", "type": "transform", "config": {"expression": "variables.x"}, "next": {"1": "end", "default": "fail"}}`), `{"x": 1}`, "1")
		o.breaks(of(`{"id": "a", "type": "transform", "config": {"expression": "variables.x"}, "next": {"1": "end", "default": "fail"}}`), `{"x": 2}`, "step a leads to fail: 2")
	})
}

// nothing checks that there is no flow of a name, and that no run of it can start.
func (o *operator) nothing(id string) {
	o.t.Helper()
	if _, err := o.Registry.Get(o.t.Context(), "", id); !errors.Is(err, pawl.ErrNotFound) {
		o.t.Errorf("flow %s: %v, want that there is none", id, err)
	}
	if _, err := o.StartRun(o.t.Context(), id, json.RawMessage(`{}`)); err == nil {
		o.t.Errorf("a run of %s has started", id)
	}
}

// What a step calls is there with all that it needs, or the flow is refused: service, action, parameters and their kinds.
func TestJ4_servicesAreCheckedWhenAFlowIsDeployed(t *testing.T) {
	eachOperator(t, nil, nil, func(t *testing.T, o *operator) {
		o.refused(of(`{"id": "a", "type": "service", "config": {"service": "ticketSystem", "action": "assign", "queue": "q"}, "next": "b"}`,
			send("b", `"c"`, `, "action": "sendMessage"`), `{"id": "c", "type": "service", "config": {"service": "desk", "n": "four", "text": 1, "url": {"a": "{{variables.x}}"}, "chanel": "#x"}, "next": "end"}`),
			`/steps/0/config/service: there is no service "ticketSystem"; there are desk`,
			`/steps/1/config/action: the service desk has no action "sendMessage"; `,
			`/steps/2/config: desk.send needs the parameter "to"`, `/steps/2/config/n: `, `/steps/2/config/url: url is an object and must be string`, `/steps/2/config/chanel: desk.send has no parameter "chanel"; it takes html, key, n, sql, text, to, url`)
		o.nothing("f")
	})
}

// The article's own demonstration has no trigger: it deploys and runs. A deployment that is refused leaves nothing behind.
func TestJ5_deployingIsOneTransaction(t *testing.T) {
	demo, err := os.ReadFile("testdata/samples/demo-triage.json")
	if err != nil {
		t.Fatal(err)
	}
	hooked := func(id, path string) string {
		return `{"id": "` + id + `", "trigger": {"type": "webhook", "path": "` + path + `", "scheme": "none"}, "steps": [` + step("a", end) + `]}`
	}
	eachOperator(t, []llmtest.Rule{{Text: "technical"}}, nil, func(t *testing.T, o *operator) {
		o.says(string(demo), `{"ticketText": "The app does not start."}`, `"technical"`)
		triggers, err := o.Triggers(t.Context(), "", "demo-triage")
		if err != nil || len(triggers) != 0 {
			t.Errorf("its triggers are %+v, %v", triggers, err)
		}
		o.deploys(t, hooked("first", "/webhooks/orders"))
		for _, doc := range []string{hooked("second", "/webhooks/orders"), hooked("second", "/api/orders"), `{"id": "second", "trigger": {}, "steps": [` + step("a", end) + `]}`, `{"id": "second", "trigger": null, "steps": [` + step("a", end) + `]}`} {
			if _, err := o.Deploy(t.Context(), flow.Deployment{Document: []byte(doc)}); err == nil {
				t.Errorf("%s was taken", doc)
			}
			o.nothing("second")
		}
		// Nor does it change what was there.
		if _, err := o.Deploy(t.Context(), flow.Deployment{Document: []byte(hooked("demo-triage", "/webhooks/orders"))}); err == nil {
			t.Error("a path that is taken was taken again")
		}
		is, err := o.Registry.Get(t.Context(), "", "demo-triage")
		if err != nil || is.Latest != 1 || is.Active != 1 {
			t.Errorf("it is %+v, %v", is, err)
		}
	})
}

// The validator tells each kind of fault, with its place, and all of them at once.
func TestJ6_theWholeDocumentIsChecked(t *testing.T) {
	doc := `{"id": "f", "trigger": {"type": "schedule", "cron": "61 * * * *"}, "naem": "x", "inputs": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}, "steps": [` + strings.Join([]string{
		ask("classify", `{"a": "left", "c": "right"}`, `, "outputFormat": "enum", "allowedValues": ["a", "b"]`),
		send("left", `"right"`, `, "text": "{{variables.txt}}"`),
		send("right", `"left"`, `, "text": "{{stepResults.left.output}} {{stepResults.left.output ?? 'none'}}"`),
		`{"id": "far", "type": "transfrom", "config": {}, "next": "end"}`, send("left", end, "")}, ",\n") + `]}`
	eachOperator(t, nil, nil, func(t *testing.T, o *operator) {
		o.refused(doc, `/trigger: its variables are not what inputs asks for: the variables don't fit: missing property 'text'`, `/trigger/cron: cron expression "61 * * * *"`, `/naem: there is no field "naem"; did you mean "name"?`,
			`/steps/0/next: nothing follows the outputs ["b"] of step "classify"; add them, or "default"`, `/steps/0/next/c: step "classify" never has the output "c"`,
			`/steps/1/config/text: {{variables.txt}}: inputs have no "txt", and no step sets it; did you mean "text"?`,
			`/steps/2/config/text: {{stepResults.left.output}}: step "left" is not on every way to step "right"; let all ways go over it, or say what stands for it`,
			`/steps/2/next: a run may go round for ever: left → right → left; give one of these steps maxVisits`,
			`/steps/3/type: "transfrom" is not known here; did you mean "transform"?`, `/steps/4/id: two steps are called "left"; the other one is at /steps/1`)
		o.refused(of(step("a", end), step("b", end)), `/steps/1/id: no step leads to "b"`)
		o.nothing("f")
		// What routeOn finds is covered as an enum is, where the schema names it.
		routes := func(of, next string) string {
			return strings.Replace(question(`, "outputFormat": "json", "routeOn": "v.is", "outputSchema": {"type": "object", "properties": {"v": {"type": "object", "properties": {"is": `+of+`}}}}`), `"next": "end"`, `"next": `+next, 1)
		}
		o.refused(routes(`{"enum": ["approve", "reject", 3, null]}`, `{"approve": "end", "rejected": "end"}`), `/steps/0/next: nothing follows the outputs ["reject" "3"] of step "a"`, `/steps/0/next/rejected: step "a" never has the output "rejected"; did you mean "reject"?`)
		o.refused(routes(`{"type": "boolean"}`, `{"yes": "end", "default": "end"}`), `/steps/0/next/yes: step "a" never has the output "yes"; outputSchema says what there is`)
		o.deploys(t, routes(`{"enum": ["approve", "reject"]}`, `{"approve": "end", "reject": "fail"}`))
	})
}

// Steps have a name each, there is at least one, and what steps of branches bring is under their branch: neither their
// siblings nor the steps behind see it as their own.
func TestJ7_stepsHaveNamesOfTheirOwn(t *testing.T) {
	branches := func(b, after string) string {
		return of(`{"id": "all", "type": "parallel", "config": {"branches": [{"id": "left", "steps": [`+ask("one", end, `, "outputVariable": "v"`)+`]}, {"id": "right", "steps": [`+ask("one", `"two"`, `, "outputVariable": "v"`)+`, `+b+`]}]}, "next": "after"}`, after)
	}
	two := `{"id": "two", "type": "transform", "config": {"expression": "[variables.v, stepResults.one.output]"}, "next": "end"}`
	after := `{"id": "after", "type": "transform", "config": {"set": {"left": "steps.all.branches.left.steps.one.output", "right": "stepResults.all.branches.right.steps.one.v", "two": "steps.all.output.right.results.two.output", "v": "default(variables.v, 'unset')"}}, "next": "end"}`
	eachOperator(t, []llmtest.Rule{{Times: 1, Text: "L"}, {Text: "L"}}, nil, func(t *testing.T, o *operator) {
		o.says(branches(two, after), `{}`, `{"left":"L","right":"L","two":["L","L"],"v":"unset"}`)
		o.refused(of(step("a", `"b"`), step("b", end), step("a", end)), `/steps/2/id: two steps are called "a"; the other one is at /steps/0`)
		o.refused(`{"id": "f", "steps": []}`, `/steps: the list is empty`)
		o.refused(`{"id": "f"}`, `: the field "steps" is missing`)
		o.refused(`{"id": "f", "steps": null}`, `/steps: it is null and must be a list`)
		o.refused(of(`{"id": "p", "type": "parallel", "config": {"branches": []}, "next": "m"}`, `{"id": "m", "type": "map", "config": {"over": "variables.l", "steps": []}, "next": "q"}`, `{"id": "q", "type": "parallel", "config": {"branches": [{"id": "x", "steps": []}]}, "next": "end"}`),
			`/steps/0/config/branches: the list is empty`, `/steps/1/config/steps: the list is empty`, `/steps/2/config/branches/0/steps: the list is empty`)
		o.refused(strings.NewReplacer(`"id": "two"`, `"id": "all"`, `"two",`, `"all",`, `next": "two"`, `next": "all"`).Replace(branches(two, step("after", end))),
			`/steps/0/config/branches/1/steps/1/id: a step around this one is called "all" too; the other one is at /steps/0`)
		o.refused(strings.Replace(branches(two, step("after", end)), `"id": "right"`, `"id": "left"`, 1), `/steps/0/config/branches/1/id: another branch is called "left" too`)
		// Names below branches are checked as others are.
		o.refused(branches(two, send("after", end, `, "text": ["{{steps.all.branches.lft.steps.one.output}}", "{{steps.all.branches.left.steps.two.output}}", "{{steps.all.branches.left.one.output}}", "{{steps.all.branches.right.steps.one.outptu}}",
			"{{steps.all.branches.right.steps.one.output.x}}", "{{steps.all.output.left.result}}", "{{steps.all.output.left.results.two.output}}", "{{steps.one.output}}"]`)),
			`/steps/1/config/text/0: {{steps.all.branches.lft.steps.one.output}}: step "all" has no branch "lft"; did you mean "left"?`,
			`/steps/1/config/text/1: {{steps.all.branches.left.steps.two.output}}: branch "left" of step "all" has no step "two"`,
			`/steps/1/config/text/2: {{steps.all.branches.left.one.output}}: a branch has no "one"; write steps.all.branches.left.steps`,
			`/steps/1/config/text/3: {{steps.all.branches.right.steps.one.outptu}}: the result of step "one" has no "outptu"; did you mean "output"?`,
			`/steps/1/config/text/4: {{steps.all.branches.right.steps.one.output.x}}: the output of step "one" is of outputFormat text, and has nothing in it`,
			`/steps/1/config/text/5: {{steps.all.output.left.result}}: a branch has no "result"; did you mean "results"?`,
			`/steps/1/config/text/6: {{steps.all.output.left.results.two.output}}: branch "left" of step "all" has no step "two"`,
			`/steps/1/config/text/7: {{steps.one.output}}: there is no step "one" here`)
	})
	got := warned(t, branches(two, send("after", end, `, "text": "{{variables.v}}"`)))
	if len(got) == 0 || !strings.HasPrefix(got[0], `/steps/1/config/text: {{variables.v}}: steps within step "all" set it, which only they see`) {
		t.Errorf("warned is of %q", got)
	}
}

// Names that every object has in JavaScript are names like others: they lead somewhere only where the document says so.
func TestJ8_namesOfOtherLanguagesMeanNothing(t *testing.T) {
	names := []string{"constructor", "toString", "__proto__", "hasOwnProperty", "valueOf", "prototype"}
	eachOperator(t, nil, nil, func(t *testing.T, o *operator) {
		for _, name := range names {
			o.refused(of(step("a", `"`+name+`"`)), `/steps/0/next: there is no step "`+name+`" here`)
			o.refused(of(`{"id": "a", "type": "service", "config": {"service": "`+name+`"}, "next": "end"}`), `/steps/0/config/service: there is no service "`+name+`"`)
			o.refused(of(send("a", end, `, "action": "`+name+`"`)), `/steps/0/config/action: the service desk has no action "`+name+`"`)
			o.refused(of(`{"id": "a", "type": "`+name+`", "config": {}, "next": "end"}`), `/steps/0/type: "`+name+`" is not known here`)
			o.refused(of(send("a", end, `, "text": "{{`+name+`}}"`)), `/steps/0/config/text: {{`+name+`}}: there is nothing called "`+name+`"`)
			o.refused(of(send("a", end, `, "text": "{{stepResults.`+name+`.output}}"`)), `/steps/0/config/text: {{stepResults.`+name+`.output}}: there is no step "`+name+`" here`)
		}
		var routes []string
		for _, name := range names {
			routes = append(routes, `"`+name+`x": "end"`)
			o.breaks(of(`{"id": "a", "type": "transform", "config": {"expression": "variables.x"}, "next": {"yes": "end"}}`), `{"x": "`+name+`"}`, `no next step for output "`+name+`"`)
			o.breaks(of(send("a", end, `, "text": "{{variables.x.`+name+`}}"`)), `{"x": {}}`, `unresolved reference {{variables.x.`+name+`}}: variables.x has no field "`+name+`"`)
			o.says(of(`{"id": "`+name+`", "type": "transform", "config": {"expression": "variables.`+name+`"}, "next": {"`+name+`": "end"}}`), `{"`+name+`": "`+name+`"}`, `"`+name+`"`)
		}
		o.breaks(of(`{"id": "a", "type": "transform", "config": {"expression": "variables.x"}, "next": {`+strings.Join(routes, ", ")+`}}`), `{"x": "constructor"}`, `"constructorx"`)
	})
}
