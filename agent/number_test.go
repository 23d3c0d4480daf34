package agent_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
)

func TestJ22_numbersAreReadStrictly(t *testing.T) {
	any := numberOf(t, agent.Range{})
	for text, want := range map[string]string{
		"4": "4", " 4.\n": "4", "**4**": "4", `"4"`: "4", "`4`": "4", "+4": "4", "-4": "-4", "4.50": "4.50", "4.0": "4", "1e3": "1000", "-0": "0", "-0.0": "0",
		"Severity: 4": "4", "**Severity:** 4.": "4", "severity level: 4.5": "4.5", `{"value": 4}`: "4", `{"value": "4"}`: "4", "```\n4\n```": "4",
		`Sure: {"value": 4}`: "4", "12345678901234567890": "12345678901234567890", "1e300": "1e300",
		// How much of five, or of what else? The scale is not that of the question.
		"4/5": "!just one number", "4 out of 5": "!just one number", "4 of 5": "!just one number", "80%": "!just one number",
		"about 4": "!just one number", "~4": "!just one number", "4-5": "!just one number", "4 or 5": "!just one number", "4+": "!just one number", ">4": "!just one number", "4 stars": "!just one number",
		"I'd say 4": "!just one number", "Severity (1-5): 4": "!just one number", "not: 4": "!just one number", "Level 3: 4": "!just one number", "12:30": "!just one number",
		"1,000": "!just one number", "4,5": "!just one number", "1_000": "!just one number", "1 000": "!just one number",
		"NaN": "!just one number", "Infinity": "!just one number", "-inf": "!just one number", "0x10": "!just one number", "007": "!just one number", ".5": "!just one number", "(4)": "!just one number", "#4": "!just one number",
		"４": "!just one number", "²": "!just one number", "four": "!just one number", "": "!empty", "[4]": "!of another kind: array", `{"value":null}`: "!of another kind: null", "1e999": "!out of range", "1e-999": "!out of range", "1e99999999999999999999": "!out of range",
		strings.Repeat("1", 101): "!digits", "true": "!just one number", `{"severity": 4}`: "!of another kind: object", "- 4": "!just one number", "4?": "!just one number",
	} {
		reads(t, any, text, want)
	}
}

func TestJ22_boundsAreOptionalAndNamed(t *testing.T) {
	for _, c := range []struct {
		r          agent.Range
		text, want string
	}{
		{agent.Range{Min: new(1.0), Max: new(5.0)}, "6", "!6 is not from 1 to 5"},
		{agent.Range{Min: new(1.0), Max: new(5.0)}, "0.999999999999999999999", "!is not from 1 to 5"},
		{agent.Range{Min: new(1.0), Max: new(5.0)}, "5.0", "5"},
		{agent.Range{Max: new(0.1)}, "0.1", "0.1"},
		{agent.Range{Max: new(0.1)}, "0.11", "!0.11 is not of at most 0.1"},
		{agent.Range{Min: new(-0.5)}, "-1", "!-1 is not of at least -0.5"},
		{agent.Range{Integer: true}, "4.5", "!4.5 is no integer"},
		{agent.Range{Integer: true}, "4.0", "4"},
		{agent.Range{Integer: true}, "-7", "-7"},
	} {
		reads(t, numberOf(t, c.r), c.text, c.want)
	}
	for _, r := range []agent.Range{{Min: new(2.0), Max: new(1.0)}, {Min: new(1.1), Max: new(1.9), Integer: true}, {Min: new(nan())}, {Max: new(1 / zero())}} {
		if _, err := agent.Number(r); !errors.Is(err, pawl.ErrInput) {
			t.Errorf("Number(%+v) = %v; want a *ShapeError", r, err)
		}
	}
}

func zero() float64 { return 0 }
func nan() float64  { return zero() / zero() }

func TestBooleansAreReadStrictly(t *testing.T) {
	for text, want := range map[string]string{
		"true": "true", "True.": "true", "YES": "true", "**yes**": "true", `"yes"`: "true", "Spam: yes": "true", `{"value":true}`: "true", `{"value":"Yes"}`: "true", "```\ntrue\n```": "true",
		"false": "false", "no": "false", "No.": "false", "Is it spam: no": "false",
		"Yes, it is.": "!neither", "There are no problems": "!neither", "1": "!neither", "maybe": "!neither", "not: true": "!neither", "yes?": "!neither", "yes no": "!neither", "": "!empty", "null": "!another kind", "y": "!neither",
	} {
		reads(t, agent.Boolean(), text, want)
	}
}

func TestTextIsReadAsItIs(t *testing.T) {
	for text, want := range map[string]string{
		" hello\nworld ": `"hello\nworld"`, "```\nx\n```": "\"```\\nx\\n```\"", `{"value":1}`: `"{\"value\":1}"`, "a\xff\x00": `"a` + "\uFFFD" + `\u0000"`, " \n": "!empty",
	} {
		reads(t, agent.Text(), text, want)
	}
}
