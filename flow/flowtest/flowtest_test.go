package flowtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/flow/flowtest"
	"github.com/pawlrun/pawl/service"
)

// desk is a service that must not be called.
type desk struct{}

func (desk) Actions() []service.Action {
	return []service.Action{{Name: "send", Effect: service.Writes, Params: json.RawMessage(`{"type":"object","required":["channel"],"additionalProperties":false,"properties":{"channel":{"type":"string","minLength":2},"text":{},"n":{"type":"integer","maximum":5}}}`)}}
}

func (desk) Call(context.Context, service.Call) (any, error) { panic("a real service was called") }

const triage = `
id: triage
inputs: {type: object, required: [ticketText], properties: {ticketText: {type: string}, urgent: {type: boolean}, n: {type: integer}}}
steps:
  - id: classify
    type: ai-decision
    config: {prompt: "Which? {{variables.ticketText}}", outputFormat: enum, allowedValues: [billing, technical], outputVariable: category}
    next: {billing: review, technical: notify}
  - id: review
    type: wait
    config: {for: approval, title: Refund, timeoutMs: 86400000, onTimeout: fail, approvers: [ann, bob], need: 2}
    next: {approved: notify, rejected: fail}
  - id: notify
    type: service
    when: "!has(variables.urgent) || variables.urgent"
    config: {service: desk, action: send, channel: "#x", text: "{{variables.category}}", n: "{{variables.n ?? 1}}"}
    onFailure: fallback
    fallbackStep: pause
    next: end
  - id: pause
    type: wait
    config: {for: delay, timeoutMs: 3600000}
    next: end
`

// run runs cases, and returns what each says, "" if it passed.
func run(t *testing.T, doc, cases string) (flowtest.Report, []string) {
	t.Helper()
	list, err := flowtest.ReadCases([]byte(cases))
	if err != nil {
		t.Fatal(err)
	}
	r, err := flowtest.Run(t.Context(), []byte(doc), list, flowtest.Options{Services: service.Set{"desk": desk{}}, Limit: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, c := range r.Cases {
		out = append(out, strings.Join(c.Failures, "\n"))
	}
	return r, out
}

// pass runs cases of which all must pass.
func pass(t *testing.T, doc, cases string) flowtest.Report {
	t.Helper()
	r, said := run(t, doc, cases)
	for i, text := range said {
		if text != "" {
			t.Errorf("%s: %s", r.Cases[i].Name, text)
		}
	}
	return r
}

func TestCasesPassWhenTheFlowDoesWhatTheySay(t *testing.T) {
	r := pass(t, triage, `
cases:
  - name: money
    input: {ticketText: pay me}
    answers: {classify: billing}
    services: {notify: {ok: true}}
    waits: {review: {approved: true, by: bob}}
    expect: {path: [classify, review, notify, end], output: {ok: true}, variables: {category: billing}, calls: {notify: {channel: "#x", text: billing, n: 1}}}
  - name: refused
    input: {ticketText: pay me}
    answers: {classify: billing}
    waits: {review: {approved: false, by: ann}}
    expect: {path: [classify, review, fail], calls: {notify: null}}
  - name: nobody comes
    input: {ticketText: pay me}
    answers: {classify: billing}
    waits: {review: {timeout: true}}
    expect: {path: [classify, review, fail]}
  - name: the service is down, then up
    input: {ticketText: broken}
    answers: {classify: [technical]}
    services: {notify: [{error: {code: unavailable, message: down}}, {error: {code: unavailable}}, {error: {code: unavailable}}, {ok: 1}]}
    expect: {path: [classify, notify, end], output: {ok: 1.0}, calls: {notify: [{}, {}, {}, {}]}}
  - name: it stays down
    input: {ticketText: broken}
    answers: {classify: technical}
    services: {notify: {error: {code: denied, message: no}}}
    expect: {path: [classify, notify, pause, end]}
  - name: not urgent
    input: {ticketText: broken, urgent: false}
    answers: {classify: technical}
    expect: {path: [classify, notify, end], calls: {notify: null}}
  - name: the parameters do not fit
    input: {ticketText: broken, n: 6}
    answers: {classify: technical}
    expect: {path: [classify, notify, pause, end]}
`)
	if r.Coverage.Percent != 100 {
		t.Errorf("coverage: %+v", r.Coverage)
	}
}

func TestWhatIsWrongIsSaidInPlainWords(t *testing.T) {
	for _, c := range []struct{ fields, want string }{
		{`answers: {classfy: billing}`, `answers: the flow has no step "classfy" of type ai-decision or agent; did you mean "classify"?`},
		{`answers: {notify: billing}`, `notify is of type service`},
		{`answers: {classify: technical}, expect: {path: [classify, review]}`, `the path should be classify → review, and is classify → notify → end: from classify it went to notify`},
		{`answers: {classify: technical}, expect: {path: [classfy]}`, `expect.path: the main graph has no step "classfy"; did you mean "classify"?`},
		{`answers: {classify: technical}, expect: {output: {ok: true}}`, `output.ok should be true, and is missing`},
		{`answers: {classify: technical}, services: {notify: {a: [1, 2]}}, expect: {output: {a: [1, 3]}}`, `output.a[1] should be 3, and is 2`},
		{`answers: {classify: technical}, services: {notify: {a: 1}}, expect: {output: {}}`, `output.a should not be there, and is 1`},
		{`answers: {classify: technical}, expect: {variables: {category: billing}}`, `variables.category should be "billing", and is "technical"`},
		{`answers: {classify: technical}, expect: {calls: {notify: {channel: "#y"}}}`, `the call of notify.channel should be "#y", and is "#x"`},
		{`answers: {classify: technical}, expect: {calls: {notify: null}}`, `notify was called, and should not have been`},
		{`answers: {classify: billing}, waits: {review: {approved: false}}, expect: {path: [classify, review, fail], calls: {notify: {}}}`, `notify was not called, and should have been`},
		{`answers: {classify: billing}, expect: {}`, `the run waits for an approval at review, and the case has none: add review to waits`},
		{`answers: {classify: billing}, waits: {review: yes}`, `waits.review: an approval needs {approved: true}`},
		{`answers: {classify: technical}, waits: {review: {approved: true}}`, `waits.review was not used: the run did not ask for it`},
		{`answers: {classify: [technical, billing]}`, `answers.classify: 1 of 2 were used`},
		{`answers: {}`, `the model was asked by classify, and the case has no answer: add it to answers`},
		{`answers: {classify: sales}`, `the run failed, and should have completed`},
		{`answers: {classify: technical}, expect: {status: failed}`, `the run completed, and should have failed`},
		{`answers: {classify: billing}, waits: {review: {approved: false}}, expect: {error: nothing}`, `the error should contain "nothing", and is`},
		{`answers: {classify: technical}, waits: {pause: {timeout: true}}`, `a delay takes no answer`},
	} {
		_, said := run(t, triage, "cases: [{name: a, input: {ticketText: x}, "+c.fields+"}]")
		if !strings.Contains(said[0], c.want) {
			t.Errorf("%s says\n%s\nwant\n%s", c.fields, said[0], c.want)
		}
	}
	if _, said := run(t, triage, "cases: [{name: a, input: {}}]"); !strings.Contains(said[0], "the run could not be started") || !strings.Contains(said[0], "ticketText") {
		t.Error(said)
	}
}

// What a wait sends to tell people are calls of it, which a case may answer and expect.
func TestNoticesAreCallsOfTheirWait(t *testing.T) {
	const asks = `{"id": "asks", "steps": [{"id": "ask", "type": "wait", "config": {"for": "approval", "title": "Pay?", "approvers": ["ann@example.org"], "remindMs": 3600000,
		"notify": [{"service": "chat", "channel": "#pay", "text": "{{approval.title}}"}]}, "next": {"approved": "end", "rejected": "fail"}}]}`
	for fields, want := range map[string]string{
		`expect: {calls: {ask: {channel: "#pay", text: "Pay?"}}}`:                           "",
		`expect: {calls: {ask: [{channel: "#pay"}]}}`:                                       "",
		`services: {ask: {error: {code: denied, message: no}}}, expect: {path: [ask, end]}`: "",
		`expect: {calls: {ask: {channel: "#other"}}}`:                                       `the call of ask.channel should be "#other", and is "#pay"`,
		`expect: {calls: {ask: null}}`:                                                      "ask was called, and should not have been",
	} {
		_, said := run(t, asks, "cases: [{name: a, input: {}, waits: {ask: {approved: true, by: ann@example.org}}, "+fields+"}]")
		if want == "" && said[0] != "" || want != "" && !strings.Contains(said[0], want) {
			t.Errorf("%s says %q, want %q", fields, said, want)
		}
	}
}

func TestFilesOfCasesAreReadWhole(t *testing.T) {
	for text, want := range map[string][]string{
		"cases: [{name: a, input: [1]}, {name: a, expct: {}}]": {`1:26: /cases/0/input: it must be an object`, `there is no field "expct"; did you mean "expect"?`, `another case is called "a" too`},
		"cases: []": {"the file has no cases"},
		"- a":       {"it must be an object"},
		"{":         {"1:"},
		"cases: [{expect: {status: done, path: end, error: 1}}]": {"a case has no name", `there is no status "done"`, "it must be a list of steps", "it must be a text"},
	} {
		_, err := flowtest.ReadCases([]byte(text))
		var found flow.Problems
		if !errors.As(err, &found) {
			t.Errorf("%s: %v", text, err)
		}
		for _, word := range want {
			if !strings.Contains(fmt.Sprint(err), word) {
				t.Errorf("%s says %v, want %s", text, err, word)
			}
		}
	}
}

func TestCoverageTellsWhatNoCaseDid(t *testing.T) {
	r, _ := run(t, triage, "cases: [{name: a, input: {ticketText: x}, answers: {classify: technical}}]")
	var missed []string
	for _, m := range r.Coverage.Missed {
		missed = append(missed, m.Step+": "+m.What)
	}
	want := []string{
		"classify: billing leads to review", "review: the step is carried out", "review: approved leads to notify", "review: rejected leads to fail", "review: a timeout leads to fail",
		"notify: when !has(variables.urgent) || variables.urgent is false", "notify: a failure leads to pause", "pause: the step is carried out", "pause: the step leads to end",
	}
	if !slices.Equal(missed, want) || r.Coverage.Covered != 5 || r.Coverage.Total != 14 || r.Coverage.Percent != 35.7 {
		t.Errorf("%+v\n%q", r.Coverage, missed)
	}
	if r.Coverage.Missed[0].Line != 8 {
		t.Errorf("line %d", r.Coverage.Missed[0].Line)
	}
}
