package flow_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/service"
)

// world knows a desk and a workflow.
func world() flow.World {
	return flow.World{Services: service.Set{"desk": &desk{}}, Model: "test/m", Toolboxes: []string{"files"}, Workflows: func(name string) bool { return name == "known" }}
}

// of is a flow of these steps.
func of(steps ...string) string {
	return `{"id": "f", "steps": [` + strings.Join(steps, ",\n") + `]}`
}

func step(id, next string, more ...string) string {
	return fmt.Sprintf(`{"id": %q, "type": "transform", "config": {"expression": "variables.x"}, "next": %s%s}`, id, next, strings.Join(append([]string{""}, more...), ", "))
}

func send(id, next, config string, more ...string) string {
	return fmt.Sprintf(`{"id": %q, "type": "service", "config": {"service": "desk", "to": "x"%s}, "next": %s%s}`, id, config, next, strings.Join(append([]string{""}, more...), ", "))
}

func ask(id, next, config string, more ...string) string {
	return fmt.Sprintf(`{"id": %q, "type": "ai-decision", "config": {"prompt": "?"%s}, "next": %s%s}`, id, config, next, strings.Join(append([]string{""}, more...), ", "))
}

const (
	enum = `, "outputFormat": "enum", "allowedValues": ["a", "b"]`
	end  = `"end"`
)

// Each fault is told with its place and, where there is one, the likely spelling.
func TestFaultsAreTold(t *testing.T) {
	for name, test := range map[string]struct {
		doc  string
		want []string // each the beginning of a line behind the pointer
	}{
		"empty":             {` `, []string{"the document is empty"}},
		"a list":            {`[]`, []string{"1:1: it is a list and must be an object"}},
		"no JSON":           {"{\"id\": \"f\",\n \"steps\": [}", []string{"2:12: this is no JSON: "}},
		"cut off":           {`{"id": "f", "steps": [{`, []string{"1:24: the document ends before its last bracket is closed"}},
		"twice":             {"{\"id\": \"f\",\n  \"i\\u0064\": \"g\"}", []string{`2:3: /id: "id" stands twice in one object`}},
		"two documents":     {of(step("a", end)) + "{}", []string{"something stands behind the document's end"}},
		"no UTF-8":          {"{\"id\": \"\xff\"}", []string{"the document is not UTF-8"}},
		"YAML twice":        {"id: f\nsteps: []\nid: g\n", []string{`3:1: /id: "id" stands twice in one object`}},
		"YAML itself":       {"id: &a [*a]\n", []string{`the anchor "a" holds itself`}},
		"YAML broken":       {"id: f\n  steps: x: y\n", []string{"2:1: this is no YAML: mapping values are not allowed in this context"}},
		"unknown field":     {`{"id": "f", "stepps": [], "steps": [` + step("a", end, `"retrypolicy": {}`) + `]}`, []string{`/stepps: there is no field "stepps"; did you mean "steps"?`, `/steps/0/retrypolicy: there is no field "retrypolicy"; did you mean "retryPolicy"?`}},
		"missing":           {`{"name": "x", "steps": [{"id": "a"}]}`, []string{`the field "id" is missing`, `/steps/0: the field "type" is missing`, `/steps/0: the field "next" is missing`}},
		"wrong kind":        {`{"id": 5, "version": 1.5, "steps": [` + step("a", end, `"timeoutMs": -1`) + `]}`, []string{"/id: it is a number and must be a text", "/version: 1.5 is no whole number", "/steps/0/timeoutMs: -1 is below 1"}},
		"type":              {of(`{"id": "a", "type": "ai_decision", "next": "end"}`), []string{`/steps/0/type: "ai_decision" is not known here; did you mean "ai-decision"?`}},
		"ids":               {of(step("a", `"a b"`), step("a b", `"end"`)), []string{`/steps/1/id: "a b" can't be used here; begin with a letter`}},
		"two of a name":     {of(step("a", end), step("a", end)), []string{`/steps/1/id: two steps are called "a"; the other one is at /steps/0`}},
		"reserved":          {of(step("end", end)), []string{`"end" has a meaning of its own`}},
		"targets":           {of(step("classify", `{"x": "clasify", "constructor": "toString", "default": "end"}`)), []string{`/steps/0/next/x: there is no step "clasify" here; did you mean "classify"?`, `/steps/0/next/constructor: there is no step "toString" here`}},
		"unreachable":       {of(step("a", end), step("b", end)), []string{`/steps/1/id: no step leads to "b"`}},
		"circle":            {of(step("a", `"b"`), step("b", `"c"`), step("c", `{"x": "a", "default": "end"}`)), []string{"/steps/2/next/x: a run may go round for ever: a → b → c → a; give one of these steps maxVisits"}},
		"circle by failure": {of(step("a", `"b"`), send("b", end, "", `"onFailure": "fallback", "fallbackStep": "a"`)), []string{"a run may go round for ever: a → b → a"}},
		"fallback":          {of(step("a", end, `"onFailure": "fallback"`), step("b", end, `"fallbackStep": "a"`)), []string{"/steps/0: onFailure fallback needs the step to go to", "/steps/1/id: no step leads", "/steps/1/fallbackStep: fallbackStep has no meaning"}},
		"retries":           {of(step("a", end, `"retryPolicy": {"maxAttempts": 2, "maxRetries": 2}`)), []string{"/steps/0/retryPolicy: give maxAttempts or maxRetries, not both"}},
		"enum":              {of(ask("a", `{"a": "end", "c": "end"}`, enum)), []string{`/steps/0/next: nothing follows the outputs ["b"] of step "a"`, `/steps/0/next/c: step "a" never has the output "c"`}},
		"enum without":      {of(ask("a", end, `, "outputFormat": "enum"`)), []string{"an enum needs the values that are allowed"}},
		"enum alike":        {of(ask("a", end, `, "outputFormat": "enum", "allowedValues": ["P1", "p1."]`)), []string{"/steps/0/config/allowedValues: "}},
		"number":            {of(ask("a", end, `, "outputFormat": "number", "min": 5, "max": 1, "allowedValues": ["a"]`)), []string{"max is below min", "allowedValues has no meaning for outputFormat \"number\""}},
		"boolean":           {of(ask("a", `{"yes": "end", "default": "end"}`, `, "outputFormat": "boolean"`)), []string{`step "a" never has the output "yes"`}},
		"json":              {of(ask("a", `{"x": "end", "default": "end"}`, `, "outputFormat": "json", "outputSchema": {"type": "object"}`)), []string{`step "a" never has the output "x"; its output is JSON: give "routeOn", or conditions`}},
		"schema":            {of(ask("a", end, `, "outputFormat": "json", "outputSchema": {"type": "objekt"}`)), []string{"/steps/0/config/outputSchema: it is no JSON Schema"}},
		"schema elsewhere":  {`{"id": "f", "inputs": {"$ref": "http://localhost/x"}, "steps": [` + step("a", end) + `]}`, []string{"/inputs: it is no JSON Schema"}},
		"skipped":           {of(ask("a", `{"a": "end", "b": "end"}`, enum, `"onFailure": "skip"`)), []string{`/steps/0/next: step "a" may be skipped, and then has no output by which to go on; give "default"`}},
		"service":           {of(`{"id": "a", "type": "service", "config": {"service": "desks"}, "next": "end"}`), []string{`/steps/0/config/service: there is no service "desks"; did you mean "desk"?`}},
		"action":            {of(send("a", end, `, "action": "sent"`)), []string{`/steps/0/config/action: the service desk has no action "sent"; did you mean "send"?`}},
		"parameters":        {of(`{"id": "a", "type": "service", "config": {"service": "desk", "txt": "x", "n": 0, "sql": "a {{variables.x}}"}, "next": "end"}`), []string{`/steps/0/config: desk.send needs the parameter "to"`, `/steps/0/config/txt: desk.send has no parameter "txt"; did you mean "text"?`, "/steps/0/config/n: ", "/steps/0/config/sql: sql takes no templates; bind values"}},
		"template":          {of(send("a", end, `, "text": "{{variables.x"`), send("b", end, `, "text": "{{a + b}}"`)), []string{"/steps/0/config/text: {{variables.x: it has no end", "", `/steps/1/config/text: {{a + b}}: "+ b" can't follow`}},
		"filter":            {of(send("a", end, `, "text": "{{variables.x | uper}}"`)), []string{`there is no filter "uper"; did you mean "upper"?`}},
		"root":              {of(step("classify", `"b"`), send("b", end, `, "text": "{{variable.x}} {{classify.output}}"`)), []string{`{{variable.x}}: there is nothing called "variable"; did you mean "variables"?`, `{{classify.output}}: there is nothing called "classify"; write stepResults.classify.output`}},
		"no such step":      {of(step("classify", `"b"`), send("b", end, `, "text": "{{stepResults.clasify.output}}"`)), []string{`{{stepResults.clasify.output}}: there is no step "clasify" here; did you mean "classify"?`}},
		"no such field":     {of(step("a", `"b"`), send("b", end, `, "text": "{{stepResults.a.outptu}}"`)), []string{`the result of step "a" has no "outptu"; did you mean "output"?`}},
		"not on every way":  {of(ask("a", `{"a": "b", "b": "c"}`, enum), step("b", `"c"`), send("c", end, `, "text": "{{stepResults.b.output}} {{steps.b.output ?? 'no'}} {{steps.c.output}}"`)), []string{`{{stepResults.b.output}}: step "b" is not on every way to step "c"`, `{{steps.c.output}}: step "c" reads its own result`}},
		"after a failure":   {of(send("a", end, "", `"onFailure": "fallback", "fallbackStep": "b"`), send("b", end, `, "text": "{{steps.a.output}} {{steps.a.error.message}}"`)), []string{`{{steps.a.output}}: step "a" is not on every way to step "b"`}},
		"variables":         {`{"id": "f", "inputs": {"type": "object", "properties": {"ticketText": {}}, "required": ["ticketText"]}, "steps": [` + send("a", end, `, "text": "{{variables.tickettext}}"`) + `]}`, []string{`{{variables.tickettext}}: inputs have no "tickettext", and no step sets it; did you mean "ticketText"?`}},
		"unset":             {of(ask("a", `{"a": "b", "b": "c"}`, enum), ask("b", `"c"`, `, "outputVariable": "v"`), send("c", end, `, "text": "{{variables.v}}"`)), []string{`step "b" sets "v", but is not on every way to step "c"`}},
		"in a text":         {of(ask("a", `"b"`, enum), send("b", end, `, "text": "{{steps.a.output.x}}"`)), []string{`the output of step "a" is of outputFormat enum, and has nothing in it`}},
		"in a schema":       {of(ask("a", `"b"`, `, "outputFormat": "json", "outputSchema": {"type": "object", "properties": {"reason": {}}}`), send("b", end, `, "text": "{{steps.a.output.reson}}"`)), []string{`the outputSchema of step "a" has no "reson"; did you mean "reason"?`}},
		"secrets":           {of(ask("a", end, `, "system": "{{secrets.x}}"`)), []string{"/steps/0/config/system: {{secrets.x}}: secrets go to services only"}},
		"item":              {of(send("a", end, `, "text": "{{item}}"`)), []string{"there is an item only within the steps of a map"}},
		"branches":          {of(`{"id": "p", "type": "parallel", "config": {"quorum": 1, "branches": [{"id": "x", "steps": [` + step("p", `"q"`) + `]}, {"id": "x", "steps": [` + step("a", end) + `]}]}, "next": {"x": "end", "default": "end"}}`), []string{"quorum has no meaning", `/steps/0/config/branches/0/steps/0/id: a step around this one is called "p" too`, `/steps/0/config/branches/0/steps/0/next: there is no step "q" here`, `another branch is called "x" too`, `step "p" never has the output "x"; its output is no text`}},
		"no branch":         {of(`{"id": "p", "type": "parallel", "config": {"branches": [{"id": "mail", "steps": [`+step("a", end)+`]}]}, "next": "s"}`, send("s", end, `, "text": "{{steps.p.output.mali.status}}"`)), []string{`step "p" has no branch "mali"; did you mean "mail"?`}},
		"waits":             {of(`{"id": "w", "type": "wait", "config": {"for": "delay", "approvers": ["a"]}, "next": "end"}`), []string{"a delay needs its length", "approvers has no meaning where the wait is for \"delay\""}},
		"child":             {of(`{"id": "w", "type": "workflow", "config": {"workflow": "unknown"}, "next": "end"}`), []string{`there is no workflow "unknown"`}},
		"webhook":           {`{"id": "f", "trigger": {"type": "webhook", "path": "x y"}, "steps": [` + step("a", end) + `]}`, []string{`/trigger/path: "x y" can't be used here; begin with /`, "begin with a slash", "whoever knows the path can start runs"}},
		"two prompts":       {of(ask("a", end, `, "promptRef": "p"`)), []string{"prompt and promptRef can't both be asked"}},
		"vars alone":        {of(ask("a", end, `, "vars": {"x": 1}`)), []string{"vars have no meaning without promptRef"}},
		"version of prompt": {of(`{"id": "a", "type": "ai-decision", "config": {"promptRef": "p@x"}, "next": "end"}`), []string{`"x" is no version of a prompt`}},
		"a model's words":   {of(ask("a", `"b"`, ""), `{"id": "b", "type": "transform", "config": {"set": {"who": "steps.a.output"}}, "next": "c"}`, `{"id": "c", "type": "service", "config": {"service": "desk", "to": "{{variables.who}}", "text": "{{steps.a.output}}"}, "next": "end"}`), []string{"{{variables.who}}: a model may have written it, and to of desk.send says who or what is reached"}},
		"of an unknown":     {of(`{"id": "c", "type": "service", "config": {"service": "desk", "to": "x", "allowModel": ["too"]}, "next": "end"}`), []string{`the step has no parameter "too"; did you mean "to"?`}},
		"agents":            {of(agentStep(`"tools": ["desk.send", "desk.sendd", "flow:unknown", "mcp:x", {"use": "desk.look", "with": {"a": "{{secrets.x}}"}, "input": {}}], "approve": ["desk.lok"], "instructions": "{{secrets.x}}"`)), []string{"the model would choose to of desk.send", `the service desk has no action "sendd"`, `there is no workflow "unknown"`, `there is no server of tools called "x"`, "input has no meaning for a tool that is a service", `the step has no tool "desk.lok"`, "{{secrets.x}}: secrets go to services only"}},
		"quorum of a map":   {of(`{"id": "m", "type": "map", "config": {"over": "variables.x", "quorum": 2, "steps": [` + step("a", end) + `]}, "next": "end"}`), []string{"quorum has no meaning for failureMode"}},
		"trigger":           {`{"id": "f", "trigger": {"type": "cron"}, "steps": [` + step("a", end) + `]}`, []string{`/trigger/type: "cron" is not known here; write one of `}},
	} {
		t.Run(name, func(t *testing.T) {
			got := problems(t, test.doc, world())
			faults := 0
			for i, line := range got {
				if i >= len(test.want) || !strings.Contains(line, test.want[i]) {
					t.Errorf("told: %s", strings.Join(got, "\n      "))
					break
				}
				faults++
			}
			if faults < len(test.want) {
				t.Errorf("told %d lines, want %d: %s", faults, len(test.want), strings.Join(got, "\n      "))
			}
		})
	}
}

// A document says the same in JSON and YAML, whatever the order of its fields; its number is no part of what it says.
func TestWhatADocumentSays(t *testing.T) {
	one, err := flow.Parse([]byte(of(step("a", end))), world())
	if err != nil {
		t.Fatal(err)
	}
	two, err := flow.Parse([]byte("# a flow\nversion: 7\nsteps:\n  - next: end\n    config: {expression: variables.x}\n    type: transform\n    id: a\nid: f\n"), world())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "hash", one.Hash, two.Hash)
	equal(t, "version", two.Version, 7)
	again, err := flow.Parse(two.JSON(), world())
	if err != nil || again.Hash != one.Hash || again.Version != 7 {
		t.Errorf("written and read again it is %+v, %v", again, err)
	}
	other, err := flow.Parse([]byte(of(step("a", `"fail"`))), world())
	if err != nil || other.Hash == one.Hash {
		t.Errorf("another flow has the same hash, %v", err)
	}
}

// Wide and deep documents are refused before they cost much.
func TestBombsAreRefused(t *testing.T) {
	for name, doc := range map[string]string{
		"deep":    `{"id": ` + strings.Repeat("[", 100_000),
		"deep 2":  `{"id": ` + strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000) + "}",
		"large":   `{"id": "` + strings.Repeat("x", flow.MaxDocument) + `"}`,
		"wide":    `{"id": [` + strings.Repeat("1,", 300_000) + `1]}`,
		"aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n" + laughs(),
		"number":  `{"version": 1e999, "id": "f"}`,
		"yaml":    strings.Repeat("- ", 5000) + "x",
	} {
		if got := problems(t, doc, world()); len(got) == 0 || len(got) > 201 {
			t.Errorf("%s: %d problems", name, len(got))
		}
	}
}

func laughs() string {
	var b strings.Builder
	for c := 'b'; c < 'k'; c++ {
		fmt.Fprintf(&b, "%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
	}
	return b.String()
}

// The published schema is valid JSON and names all types of steps.
func TestSchema(t *testing.T) {
	var v map[string]any
	if err := json.Unmarshal(flow.Schema(), &v); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ai-decision", "service", "transform", "parallel", "wait", "map", "workflow", "agent", "maxVisits", "outputVariable", "database-change"} {
		if !strings.Contains(string(flow.Schema()), `"`+name+`"`) {
			t.Errorf("the schema does not know %s", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(triage))
	f.Add([]byte("id: f\nsteps:\n- {id: a, type: wait, config: {for: delay, timeoutMs: 1}, next: end}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		made, err := flow.Parse(data, world())
		if err != nil {
			return
		}
		again, err := flow.Parse(made.JSON(), world())
		if err != nil || again.Hash != made.Hash {
			t.Errorf("%s is read again as %v, %v", made.JSON(), again, err)
		}
	})
}
