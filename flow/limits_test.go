package flow_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/pawltest"
)

// nestedMaps goes over variables.list three times within itself, with inner settings of the maps.
func nestedMaps(most int, settings string) string {
	leaf := `[{"id": "leaf", "type": "transform", "config": {"expression": "index"}, "next": "end"}]`
	level := func(id, steps string) string {
		return fmt.Sprintf(`[{"id": %q, "type": "map", "config": {"over": "variables.list", "steps": %s%s}, "onFailure": "skip", "next": "end"}]`, id, steps, settings)
	}
	return fmt.Sprintf(`{"id": "nested", "limits": {"maxSteps": %d}, "steps": %s}`, most, level("a", level("b", level("c", leaf))))
}

// An item of a map takes the steps of the map once without counting, or a list of more than maxSteps would be refused; what it goes
// round counts. Branches count, and nothing skips the bound.
func TestJ36_limitsBoundTheWholeRun(t *testing.T) {
	opt := options(t, nil)
	for _, settings := range []string{``, `, "failureMode": "continue"`, `, "failureMode": "quorum", "quorum": 1`, `, "concurrency": 1`} {
		completes(t, nestedMaps(1, settings), `{"list": [1, 2, 3, 4]}`, opt)
		fails(t, goingRound(1+3*2, settings), `{"list": [1, 2, 3, 4]}`, opt, "maxSteps: 7")
		completes(t, goingRound(1+4*2, settings), `{"list": [1, 2, 3, 4]}`, opt)
	}
	branches := func(most int, settings string) string {
		one := `"steps": [{"id": "x", "type": "transform", "config": {"expression": "1"}, "next": "y"}, {"id": "y", "type": "transform", "config": {"expression": "2"}, "next": "end"}]`
		return fmt.Sprintf(`{"id": "branches", "limits": {"maxSteps": %d}, "steps": [{"id": "p", "type": "parallel", "config": {"branches": [{"id": "one", %s}, {"id": "two", %s}]%s}, "onFailure": "skip", "next": "end"}]}`, most, one, one, settings)
	}
	for _, settings := range []string{``, `, "failureMode": "continue"`, `, "failureMode": "quorum", "quorum": 1`} {
		completes(t, branches(5, settings), `{}`, opt)
		fails(t, branches(2, settings), `{}`, opt, "maxSteps: 2")
	}
}

// goingRound is a map whose items take a step three times, of which two are not the first pass.
func goingRound(most int, settings string) string {
	return fmt.Sprintf(`{"id": "round", "limits": {"maxSteps": %d}, "steps": [{"id": "m", "type": "map", "onFailure": "skip", "config": {"over": "variables.list"%s, "steps": [
		{"id": "x", "type": "transform", "maxVisits": 3, "config": {"set": {"n": "default(variables.n, 0) + 1"}}, "next": [{"when": "variables.n < 3", "to": "x"}, {"to": "end"}]}]}, "next": "end"}]}`, most, settings)
}

// The items of all maps of a run are bounded together, and refused before the first of a list is touched.
func TestJ36_itemsOfARunAreBounded(t *testing.T) {
	list := "[" + strings.TrimSuffix(strings.Repeat("1,", 50_001), ",") + "]"
	two := `{"id": "two", "steps": [
		{"id": "outer", "type": "map", "config": {"over": "[1, 2]", "concurrency": 1, "failureMode": "continue", "steps": [
			{"id": "inner", "type": "map", "config": {"over": "variables.list", "concurrency": 1000, "steps": [{"id": "leaf", "type": "transform", "when": "false", "config": {"expression": "1"}, "next": "end"}]}, "onFailure": "skip", "next": "end"}]}, "next": "end"}]}`
	fails(t, two, `{"list": `+list+`}`, options(t, nil), "step inner would go over 100000 items")
}

// A run that is at the very edge of its limit goes on after a crash at any of its commits: what it did once, it may do again.
// The second branch is cancelled where it waits, for a step that counts and never completes.
func TestJ36_aReplayPassesItsLimits(t *testing.T) {
	opt := options(t, nil)
	edge := `{"id": "edge", "limits": {"maxSteps": 6}, "steps": [
		{"id": "p", "type": "parallel", "onFailure": "skip", "config": {"branches": [
			{"id": "fails", "steps": [{"id": "w", "type": "wait", "config": {"for": "delay", "timeoutMs": 1000}, "next": "f"}, {"id": "f", "type": "transform", "config": {"expression": "1 / variables.nothing"}, "next": "end"}]},
			{"id": "waits", "steps": [{"id": "x", "type": "transform", "config": {"expression": "1"}, "next": "y"}, {"id": "y", "type": "wait", "config": {"for": "delay", "timeoutMs": 9000}, "next": "end"}]}]}, "next": "last"},
		{"id": "last", "type": "transform", "config": {"expression": "1"}, "next": "end"}]}`
	in := flow.Variables{"nothing": 0}
	equal(t, "at its limit", completes(t, edge, `{"nothing": 0}`, opt), "1")
	fails(t, strings.Replace(edge, "6", "5", 1), `{"nothing": 0}`, opt, "step last would go over maxSteps: 5")
	pawltest.CrashEverywhere(t, flow.Define(parse(t, edge, opt), opt), in, pawltest.WithIgnored(func(_, key string) bool { return strings.HasSuffix(key, "/$wait") })) // who waits for what was cancelled, or in it
	pawltest.CrashEverywhere(t, flow.Define(parse(t, goingRound(1+2*2, ""), opt), opt), flow.Variables{"list": []any{1, 2}}, pawltest.EveryNth(2))
}
