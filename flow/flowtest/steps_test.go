package flowtest_test

import (
	"strings"
	"testing"

	"github.com/pawlrun/pawl/flow/flowtest"
)

const everything = `
id: everything
limits: {maxCostUsd: 0.000001}
steps:
  - id: score
    type: ai-decision
    config: {model: openai/gpt-4o, prompt: how much, outputFormat: number, min: 0, max: 10, outputVariable: score}
    next: sure
  - id: sure
    type: ai-decision
    config: {promptRef: sure@3, vars: {score: "{{variables.score}}"}, outputFormat: boolean}
    next: {"true": facts, default: fail}
  - id: facts
    type: ai-decision
    config:
      prompt: facts
      outputFormat: json
      outputVariable: facts
      outputSchema: {type: object, required: [list], properties: {list: {type: array, items: {type: string}}}}
    next: each
  - id: each
    type: map
    config:
      over: variables.facts.list
      steps:
        - id: send
          type: service
          config: {service: unheard, action: of, text: "{{item}}", key: "{{secrets.token}}"}
          next: end
    next: both
  - id: both
    type: parallel
    config:
      branches:
        - id: one
          steps: [{id: paid, type: wait, config: {for: event, event: paid, correlate: "{{variables.order}}"}, next: end}]
        - id: two
          steps:
            - {id: called, type: wait, config: {for: webhook, schema: {type: object, required: [sum]}}, next: end}
        - id: three
          steps: [{id: child, type: workflow, config: {workflow: enrich, input: {order: "{{variables.order}}"}}, next: end}]
    next: help
  - id: help
    type: agent
    config: {instructions: help, tools: [{use: unheard.ask, with: {to: ann}}, "flow:refund"], approve: ["flow:refund"]}
    next: tell
  - id: tell
    type: transform
    config: {set: {sum: "steps.both.output.two.output.body.sum", paid: "steps.both.output.one.output.by"}}
    next: last
  - id: last
    type: transform
    config: {expression: steps.help.output}
    next: end
`

const everyCase = `
cases:
  - name: all of it
    input: {order: 7}
    answers:
      score: 7.5
      sure: true
      facts: {list: [a, b, c]}
      help:
        - toolCalls: [{name: unheard_ask, arguments: {what: now}}]
        - toolCalls: [{name: refund, arguments: {sum: 5}}]
        - all is well
    services: {send: [{n: 1}, {error: {code: unavailable}}, {n: 2}, {n: 3}]}
    waits: {paid: {by: ann}, called: {sum: 9007199254740993}, help: {approved: true}}
    children: {child: {name: Ann}, help: {refunded: true}}
    expect:
      path: [score, sure, facts, each, both, help, tell, last, end]
      output: all is well
      variables: {sum: 9007199254740993, paid: ann, facts: {list: [a, b, c]}}
      calls:
        send: [{text: a}, {text: b}, {text: b}, {text: c}]
        child: {order: 7}
        help: [{to: ann, what: now}, {sum: 5}]
`

func TestJ53_everyTypeOfStepHasItsStandIn(t *testing.T) {
	r := pass(t, everything, everyCase)
	if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "unheard is not known here") {
		t.Errorf("notes: %q", r.Notes)
	}
}

func TestJ53_casesDoTheSameEachTime(t *testing.T) {
	list, err := flowtest.ReadCases([]byte(everyCase))
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if r, err := flowtest.Run(t.Context(), []byte(everything), list, flowtest.Options{}); err != nil || r.Failed() != 0 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
}

func TestErrorsOfModelsAreTriedAgainAsInProduction(t *testing.T) {
	const doc = `
id: x
steps:
  - {id: a, type: ai-decision, config: {model: openai/gpt-4o, prompt: which, outputFormat: enum, allowedValues: [one, two]}, next: end, onFailure: fallback, fallbackStep: b}
  - {id: b, type: transform, config: {expression: "'sorry'"}, next: end}
`
	pass(t, doc, `
cases:
  - {name: once, answers: {a: [{error: {code: overloaded}}, one]}, expect: {path: [a, end], output: one}}
  - {name: refused, answers: {a: {error: {code: refused, message: no}}}, expect: {path: [a, b, end], output: sorry}}
  - {name: of another form, answers: {a: [three, two]}, expect: {path: [a, end], output: two}}
`)
	r := pass(t, doc, `
cases:
  - {name: all down, answers: {a: {error: {code: unavailable}}}, expect: {path: [a, b, end]}}
`)
	if r.Cases[0].TookMs > 20_000 {
		t.Errorf("it took %d ms: something was waited for", r.Cases[0].TookMs)
	}
}
