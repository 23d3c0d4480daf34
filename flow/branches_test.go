package flow_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/service"
)

// branches is a step with branches, each of which is a list of steps.
func branches(id, next, settings string, of ...string) string {
	var list []string
	for i, steps := range of {
		list = append(list, fmt.Sprintf(`{"id": "%c", "steps": [%s]}`, 'a'+i, steps))
	}
	return fmt.Sprintf(`{"id": %q, "type": "parallel", "config": {"branches": [%s]%s}, "next": %s}`, id, strings.Join(list, ", "), settings, next)
}

// tells is a step that tells the value of an expression.
func tells(id, expression string) string {
	return fmt.Sprintf(`{"id": %q, "type": "transform", "config": {"expression": %s}, "next": "end"}`, id, quoted(expression))
}

// A branch is a graph of its own, that goes where next says, falls back, skips, counts visits and ends as the main one does.
func TestJ39_aBranchIsAGraph(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		d := &desk{fail: func(said string) error {
			if strings.Contains(said, "bad") {
				return &service.Error{Code: service.Denied, Message: "no"}
			}
			return nil
		}}
		s := serve(t, open(), options(t, d, llmtest.Rule{Text: "b"}))
		bad := func(id, next string, more ...string) string { return send(id, next, `, "text": "bad"`, more...) }
		doc := of(branches("all", `"out"`, "",
			ask("pick", `{"a": "one", "b": "two"}`, enum)+","+tells("one", "'one'")+","+tells("two", "'two'"),
			bad("try", `"wrong"`, `"onFailure": "fallback", "fallbackStep": "instead"`)+","+tells("wrong", "'wrong'")+","+tells("instead", "steps.try.error.code"),
			bad("try", `{"default": "see"}`, `"onFailure": "skip"`)+","+tells("see", "[steps.try.status, string(steps.try.output == null), steps.try.error.message]"),
			step("first", `[{"when": "output < 3", "to": "second"}, {"to": "fail"}]`)+`,{"id": "second", "type": "transform", "config": {"expression": "[steps.first.output, variables.x]"}, "next": "end"}`,
		), tells("out", "[steps.all.output.a.output, steps.all.output.b.output, steps.all.output.c.output, steps.all.output.d.output, steps.all.branches.b.steps.try.status, steps.all.output.c.results.see.output[0]]"))
		x := s.after(t, doc, `{"x": 2}`)
		equal(t, "output", string(x.Output), `["two","denied",["skipped","true","no"],[2,2],"failed","skipped"]`)
		steps := x.StepResults["all"].Branches
		equal(t, "what was not come to", fmt.Sprint(steps["a"].Steps["one"].Visits, steps["b"].Steps["wrong"].Visits), "0 0")
		x = s.after(t, strings.Replace(doc, `"id": "f"`, `"id": "g"`, 1), `{"x": 3}`)
		because(t, x, "branch_failed", "all: ", "d: step first leads to fail")
		loop := of(branches("all", `"out"`, `, "failureMode": "continue"`, `{"id": "again", "type": "transform", "maxVisits": 3, "config": {"expression": "1"}, "next": "again"}`, step("c", `{"x": "end"}`)), tells("out", "[steps.all.output.a.error.code, steps.all.output.b.error.code]"))
		x = s.after(t, strings.Replace(loop, `"id": "f"`, `"id": "h"`, 1), `{"x": 3}`)
		equal(t, "errors of branches", string(x.Output), `["flow_limit","no_next_step"]`)
		equal(t, "visits", x.StepResults["all"].Branches["a"].Steps["again"].Visits, 3)
	})
}

// A branch that fails ends those beside it: a call that is under way is cut off, what comes behind it is not begun, and the step is over when all
// are. The same holds for the items of a map.
func TestJ40_whatRunsBesideAFailureIsEndedFirst(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		o := newOutside(t)
		var mu sync.Mutex
		var order []string
		note := func(what string) { mu.Lock(); defer mu.Unlock(); order = append(order, what) }
		begun := make(chan bool, 10)
		o.slow = func(r *http.Request) {
			switch r.URL.Path {
			case "/slow":
				note("slow begins")
				begun <- true
				<-r.Context().Done()
				note("slow is cut off")
			case "/bad":
				<-begun
				note("bad fails")
			default:
				note(r.URL.Path)
			}
		}
		o.status = map[string]int{"/bad": http.StatusConflict}
		s := serve(t, open(), o.options(t, &desk{}))
		fallback := `"onFailure": "fallback", "fallbackStep": "instead"`
		for name, all := range map[string]string{
			"branches": strings.TrimSuffix(branches("all", end, "", o.call("slow", `"behind"`, "/slow")+","+o.call("behind", end, "/behind"), o.call("bad", end, "/bad")), "}") + ", " + fallback + "}",
			"items": fmt.Sprintf(`{"id": "all", "type": "map", "config": {"over": "['slow', 'bad']", "steps": [{"id": "s", "type": "service", "config": {"service": "http", "method": "POST", "url": "%s/{{item}}"}, "next": "behind"}, %s]}, "next": "end", %s}`,
				o.url, o.call("behind", end, "/behind"), fallback),
		} {
			order = nil
			x := s.after(t, strings.Replace(of(all, o.call("instead", end, "/instead")), `"id": "f"`, fmt.Sprintf(`"id": %q`, name), 1), `{}`)
			equal(t, name, fmt.Sprint(x.Status), "completed")
			eventually(t, "the slow call is cut off", func() bool { mu.Lock(); defer mu.Unlock(); return len(order) == 4 })
			mu.Lock()
			got := strings.Join(order, ", ")
			mu.Unlock()
			if got != "slow begins, bad fails, slow is cut off, /instead" && got != "slow begins, bad fails, /instead, slow is cut off" { // the server learns of it when it does
				t.Errorf("%s: %s", name, got)
			}
			all := x.StepResults["all"]
			if name == "branches" {
				equal(t, "branches", fmt.Sprint(all.Branches["a"].Status, " ", all.Branches["b"].Status, " ", all.Branches["a"].Steps["behind"].Visits), "cancelled failed 0")
			}
			if instead := x.StepResults["instead"].StartedAt; all.CompletedAt == nil || all.CompletedAt.After(instead) {
				t.Errorf("%s: it was over at %v, and the next began at %v", name, all.CompletedAt, instead)
			}
		}
	})
}

// A branch that takes longer than branchTimeoutMs is cut off and has failed; whether the others go on says failureMode.
func TestJ41_branchesHaveTimes(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		o := newOutside(t)
		cut := make(chan bool, 10)
		o.slow = func(r *http.Request) {
			if r.URL.Path == "/slow" {
				<-r.Context().Done()
				cut <- true
			}
		}
		s := serve(t, open(), o.options(t, &desk{}))
		slow := o.call("slow", `"behind"`, "/slow") + "," + o.call("behind", end, "/behind")
		out := tells("out", "[steps.all.output.a.status, steps.all.output.b.status, steps.all.output.a.branchId, string(size(steps.all.output.b.results))]")
		for settings, want := range map[string]string{
			`"failureMode": "continue"`: `["failed","completed","a","1"]`, `"failureMode": "quorum", "quorum": 1`: `["cancelled","completed","a","1"]`, `"failureMode": "quorum", "quorum": 2`: "", `"failureMode": "failFast"`: "", `"name": ""`: "",
		} {
			settings = strings.Replace(settings, `"name": ""`, `"outputVariable": "v"`, 1)
			began := time.Now()
			x := s.after(t, of(branches("all", `"out"`, `, "branchTimeoutMs": 300, `+settings, slow, o.call("quick", end, "/quick")), out), `{}`)
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("%s: it took %v", settings, took)
			}
			<-cut
			if want == "" {
				because(t, x, "branch_failed", "a: the branch took longer than its 300ms")
			} else {
				equal(t, settings, string(x.Output), want)
			}
			if settings == `"failureMode": "continue"` {
				b := x.StepResults["all"].Branches["a"]
				if b.Status != "failed" || b.Error == nil || b.Error.Code != "timed_out" || b.Error.Message != "the branch took longer than its 300ms" || b.Steps["behind"].Visits != 0 || b.Steps["slow"].Status == "completed" {
					t.Errorf("the branch is %+v", b)
				}
			}
		}
		equal(t, "behind", len(o.bodies("/behind")), 0)
	})
	for settings, want := range map[string]string{
		`"failureMode": "quorum"`:              "failureMode quorum needs the number that must complete",
		`"failureMode": "quorum", "quorum": 3`: "/quorum: 3 of 2 branches can't complete",
		`"quorum": 1`:                          `quorum has no meaning for failureMode ""`,
		`"branchTimeoutMs": 0`:                 "/branchTimeoutMs: 0 is below 1",
		`"failureMode": "some"`:                `"some" is not known here; write one of failFast, continue, quorum`,
	} {
		got := problems(t, of(branches("all", end, ", "+settings, step("x", end), step("y", end))), world())
		if len(got) != 1 || !strings.Contains(got[0], want) {
			t.Errorf("%s: told is %q, want %q", settings, got, want)
		}
	}
}

// What calls in branches cost is part of what the step, the run and the flow cost, also of those that failed, were mended or were for nothing.
func TestJ42_costsOfBranchesAndOfFailures(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt, _ := counted(t, &desk{}, llmtest.Rule{Contains: "Answer again", Text: "a", Usage: thousand}, llmtest.Rule{Contains: "mend", Text: "neither", Usage: thousand},
			llmtest.Rule{Contains: "wrong", Text: "neither", Usage: thousand}, llmtest.Rule{Text: "a", Usage: thousand})
		s := serve(t, open(), opt)
		asks := func(id, prompt, more string) string {
			return fmt.Sprintf(`{"id": %q, "type": "ai-decision", "config": {"prompt": %q, "maxRepairs": 1, "outputFormat": "enum", "allowedValues": ["a", "b"]}, "next": {"default": "end"}%s}`, id, prompt, more)
		}
		wrong := strings.Replace(asks("wrong", "wrong", ""), `"maxRepairs": 1`, `"maxRepairs": 0`, 1)
		for mode, want := range map[string]struct {
			status pawl.State
			seen   string
		}{"continue": {pawl.Completed, "[0.008,0.008]"}, "failFast": {pawl.Failed, ""}, "failFast, skipped": {pawl.Completed, ""}} {
			all := branches("all", `{"default": "out"}`, `, "failureMode": "`+strings.TrimSuffix(mode, ", skipped")+`"`, asks("good", "good", ""), asks("mend", "mend", ""), wrong)
			if strings.HasSuffix(mode, "skipped") {
				all = strings.TrimSuffix(all, "}") + `, "onFailure": "skip"}`
			}
			id := strings.NewReplacer(", ", "-").Replace(mode)
			x := s.after(t, strings.Replace(of(all, tells("out", "[steps.all.cost, costAccumulator]")), `"id": "f"`, fmt.Sprintf(`"id": %q`, id), 1), `{}`)
			equal(t, mode, x.Status, want.status)
			if want.seen != "" {
				equal(t, mode+": seen by the flow", string(x.Output), want.seen)
			}
			var sum int64
			charges, err := s.Charges(t.Context(), pawl.ChargeFilter{RunID: x.ExecutionID, Meter: pawl.USD, Limit: 100})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range charges {
				sum += c.Amount
			}
			m, err := s.Metrics(t.Context(), "", id, flow.Span{})
			if err != nil {
				t.Fatal(err)
			}
			costs, err := s.Registry.Costs(t.Context(), "", id, flow.Span{})
			if err != nil {
				t.Fatal(err)
			}
			var byStep int64
			for _, c := range costs.CostByStep {
				byStep += c.CountedMicroUSD
			}
			equal(t, mode+": of run, step, flow and its steps", fmt.Sprint(x.CountedMicroUSD, x.StepResults["all"].CountedMicroUSD, m.CountedMicroUSD, byStep), fmt.Sprint(sum, sum, sum, sum))
			if mode == "continue" {
				equal(t, "calls and cost", fmt.Sprint(len(x.StepResults["all"].Branches["b"].Steps["mend"].Attempts[0].Calls), sum), "2 8000")
			}
		}
	})
}
