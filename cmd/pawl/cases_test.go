package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/flow/flowtest"
)

const askFlow = `
id: ask
steps:
  - id: which
    type: ai-decision
    config: {prompt: "Which? {{variables.text}}", outputFormat: enum, allowedValues: [technical, billing]}
    next: {billing: review, technical: tell}
  - id: review
    type: wait
    config: {for: approval, title: Refund}
    next: {approved: tell, rejected: fail}
  - id: tell
    type: transform
    config: {expression: variables.text}
    next: end
`

const askCases = `# what may come
cases:
- name: Technical
  input: {text: hello}
  answers: {which: technical}
  expect: {path: [which, tell, end], output: hello}
- name: billing
  input: {text: hello}
  answers: {which: billing}
  waits: {review: {approved: true, by: ann}}
  expect: {path: [which, review, tell, end]}
`

var nobody = environment{"PAWL_SERVER": "http://127.0.0.1:1"}

func TestFlowsAreTakenThroughTheCasesBesideThem(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "flows/ask.yaml", askFlow)
	pawlWith(t, nobody, "", "test", "flows").want(t, exitUsage, "there are no cases for flows/ask.yaml: write some into flows/ask.test.yaml")
	write(t, "flows/ask.test.yaml", askCases)
	write(t, "flows/more.json", says("more", "x"))
	pawlWith(t, nobody, "", "test", "flows").want(t, 0, "✓ flows/ask.yaml: Technical", "✓ flows/ask.yaml: billing", "– flows/more.json: no cases")
	if r := pawlWith(t, nobody, "", "test", "flows/ask.test.yaml", "--run", "TECH").want(t, 0, "Technical"); strings.Contains(r.stdout, "billing") {
		t.Error(r.stdout)
	}
	pawlWith(t, nobody, "", "test", "flows/ask.yaml", "--run", "nothing").want(t, exitUsage, `no case has a name that contains "nothing"`)
	pawlWith(t, nobody, "", "test", "flows/ask.yaml", "--coverage", "--min-coverage", "80").want(t, 0, "flows/ask.yaml: 87.5 % covered, 7 of 8", "flows/ask.yaml:11:38: review: rejected leads to fail")
	pawlWith(t, nobody, "", "test", "flows/ask.yaml", "--min-coverage", "90").want(t, exitFailure, "the cases come by 87.5 % of it, and 90 % are asked for")
	pawlWith(t, nobody, "", "test", "flows/ask.yaml", "--min-coverage", "101").want(t, exitUsage, "from 0 to 100")

	write(t, "flows/ask.test.yaml", strings.Replace(askCases, "[which, tell, end]", "[which, review]", 1))
	pawlWith(t, nobody, "", "test", "flows").want(t, exitFailure, "✗ flows/ask.test.yaml:3: Technical", "    the path should be which → review, and is which → tell → end: from which it went to tell", "1 of 2 cases failed")
	r := pawlWith(t, nobody, "", "test", "flows/ask.yaml", "-o", "json").want(t, exitFailure)
	var list struct{ Items []testedFile }
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || len(list.Items) != 1 || list.Items[0].WorkflowID != "ask" || list.Items[0].Cases[0].Passed || !list.Items[0].Cases[1].Passed || list.Items[0].Coverage.Total != 8 {
		t.Errorf("%s: %v", r.stdout, err)
	}

	// What is wrong with files is told with its place, and files of cases are no flows.
	write(t, "flows/ask.test.yaml", "cases:\n- name: a\n  answer: {}\n")
	pawlWith(t, nobody, "", "test", "flows").want(t, exitUsage, `flows/ask.test.yaml:3:11: there is no field "answer"; did you mean "answers"?`, "1 problem in the files")
	pawlWith(t, nobody, "", "validate", "flows").want(t, 0, "ask", "more")
	write(t, "flows/ask.test.yaml", askCases)
	write(t, "flows/ask.yaml", strings.Replace(askFlow, "approved: tell", "approved: tel", 1))
	pawlWith(t, nobody, "", "test", "flows/ask.yaml").want(t, exitUsage, `flows/ask.yaml:11:`, `did you mean "tell"?`)
	write(t, "flows/ask.test.json", `{"cases":[]}`)
	pawlWith(t, nobody, "", "test", "flows/ask.yaml").want(t, exitUsage, "holds cases of the same flow; keep one of the files")
}

func TestTheGuidesCasesHoldForTheFirstFlow(t *testing.T) {
	guide, err := os.ReadFile("../../docs/testing-flows.md")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	_, cases, _ := strings.Cut(string(guide), "```yaml\n")
	cases, _, _ = strings.Cut(cases, "```")
	write(t, "triage.test.yaml", cases)
	pawlWith(t, nobody, "", "init").want(t, 0)
	if err := os.Rename("triage.test.yaml", "flows/triage.test.yaml"); err != nil {
		t.Fatal(err)
	}
	pawlWith(t, nobody, "", "test", "flows").want(t, 0, "a technical ticket is answered", "of money a person decides")
}

func TestARunBecomesACase(t *testing.T) {
	t.Chdir(t.TempDir())
	eachStore(t, func(t *testing.T, h *house) {
		file := filepath.Join(t.TempDir(), "flow.yaml")
		doc := strings.Replace(askFlow, "[technical, billing]", "[billing, technical]", 1) // a script says the first
		if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
		cases := strings.TrimSuffix(file, ".yaml") + ".test.yaml"
		pawlAt(t, h.url, "deploy", file).want(t, 0)
		pawlAt(t, h.url, "start", "ask", "--id", "once", "-i", `{"text": "no: 1", "n": 9007199254740993}`).want(t, 0)
		pawlAt(t, h.url, "test", "--record", "once", cases).want(t, exitConflict, "a case is made of a run that has completed or failed")
		eventuallyAt(t, h, "once", "approval")
		pawlAt(t, h.url, "approve", "once").want(t, 0)
		pawlAt(t, h.url, "runs", "result", "once", "--wait").want(t, 0)
		for range 2 {
			pawlAt(t, h.url, "test", "--record", "once", cases).want(t, 0, "was added")
		}
		data, err := os.ReadFile(cases)
		if err != nil {
			t.Fatal(err)
		}
		list, err := flowtest.ReadCases(data)
		if err != nil || len(list) != 2 || list[1].Name != "as in run once (2)" || list[0].Input["n"] != int64(9007199254740993) {
			t.Errorf("%v\n%s", err, data)
		}
		pawlWith(t, nobody, "", "test", file).want(t, 0, "as in run once (2)")
		pawlAt(t, h.url, "test", "--record", "once", file).want(t, exitUsage, "a file of cases ends in .test.yaml")
		pawlAt(t, h.url, "test", "--record", "nobody", cases).want(t, exitNotFound)
	})
}

const callFlow = `
id: call
steps:
  - {id: tell, type: service, config: {service: tickets, action: create, title: "{{variables.text}}"}, next: keep}
  - {id: keep, type: service, config: {service: database, action: execute, connection: main, query: "DELETE FROM t WHERE id = $1", values: ["{{variables.text}}"]}, next: mail}
  - {id: mail, type: service, config: {service: email, to: ann@example.org, subject: Hello, template: hello}, next: end}
`

// Flows have their descriptions of services with them, in a folder beside the file or beside the folder of flows; and what the settings of a
// server would say is checked as far as it can be.
func TestFlowsHaveTheirServicesWithThem(t *testing.T) {
	t.Chdir(t.TempDir())
	cases := "cases:\n- {name: one, input: {text: x}, expect: {path: [tell, keep, mail, end], calls: {tell: {title: x}}}}\n"
	unknown := []string{"the connections of databases are not known here; set databases, or PAWL_DATABASES", "the templates of mails are not known here; set SMTP_TEMPLATES"}
	write(t, "in/services/tickets.yaml", ticketsYAML)
	write(t, "in/call.yaml", callFlow)
	write(t, "in/call.test.yaml", cases)
	write(t, "project/services/tickets.yaml", ticketsYAML)
	write(t, "project/flows/call.yaml", callFlow)
	write(t, "project/flows/call.test.yaml", cases)
	write(t, "project/input.json", `{"text": "x"}`)
	for _, path := range []string{"in", "in/call.yaml", "in/call.test.yaml", "project", "project/flows", "project/flows/call.yaml"} {
		pawlWith(t, nobody, "", "test", path).want(t, 0, append(unknown, "✓ ")...)
	}
	for _, path := range []string{"in", "in/call.yaml", "project", "project/flows", "project/flows/call.yaml"} {
		pawlWith(t, nobody, "", "validate", path).want(t, 0, append(unknown, "call  ")...)
	}
	t.Chdir("project/flows")
	pawlWith(t, nobody, "", "validate", ".").want(t, 0, "call.yaml")
	t.Chdir("../..")

	write(t, "in/call.yaml", strings.NewReplacer("title:", "titel:", "values:", "valuse:", "connection: main", "connection: 7").Replace(callFlow))
	pawlWith(t, nobody, "", "validate", "in").want(t, exitUsage, `tickets.create needs the parameter "title"`, `did you mean "title"?`, `database.execute has no parameter "valuse"; did you mean "values"?`, "got number, want string")
	write(t, "in/services/tickets.yaml", "name: tickets\n")
	pawlWith(t, nobody, "", "validate", "in").want(t, exitUsage, "in/services/tickets.yaml", "in/services is read as descriptions of services", "PAWL_SERVICES")
	named := environment{"PAWL_SERVER": "http://127.0.0.1:1", "PAWL_SERVICES": "project/services"}
	write(t, "in/call.yaml", callFlow)
	pawlWith(t, named, "", "validate", "in").want(t, 0, "call  ")
	// Another folder of that name is none of descriptions.
	write(t, "services/other.yaml", "kind: Deployment\n")
	write(t, "code/call.yaml", says("call", "x"))
	pawlWith(t, nobody, "", "validate", "code").want(t, 0, "call  ")
}
