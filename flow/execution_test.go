package flow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/service"
)

// seen are a run's steps in words: by their places, how they stand, how often they were tried and come to.
func seen(steps map[string]flow.StepResult, at string) (out map[string]string) {
	out = map[string]string{}
	for id, r := range steps {
		out[at+id] = fmt.Sprintf("%s, %d tried, %d visits", r.Status, len(r.Attempts), r.Visits)
		for name, b := range r.Branches {
			out[at+id+"/"+name] = b.Status
			for at, word := range seen(b.Steps, at+id+"/"+name+"/") {
				out[at] = word
			}
		}
	}
	return out
}

func (s *server) execution(t *testing.T, id string) flow.Execution {
	t.Helper()
	x, err := s.Execution(t.Context(), "", id)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// until looks at a run until it is as it should be.
func (s *server) until(t *testing.T, id string, is func(flow.Execution) bool) flow.Execution {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		x := s.execution(t, id)
		if is(x) {
			return x
		}
		if time.Now().After(end) {
			data, _ := json.MarshalIndent(x, "", " ")
			t.Fatalf("run %s is\n%s", id, data)
		}
	}
}

// everything has a step that is skipped, one that is tried again, one for which another stands in, a decision whose
// model has to mend its answer, branches, items, a loop and a person who is asked.
const everything = `{"id": "everything", "limits": {"maxCostUsd": 1000}, "steps": [
  {"id": "never", "type": "service", "when": "variables.no", "config": {"service": "desk", "to": "nobody"}, "next": "again"},
  {"id": "again", "type": "service", "retryPolicy": {"maxRetries": 2, "backoffMs": 1}, "config": {"service": "desk", "to": "flaky"}, "next": "bad"},
  {"id": "bad", "type": "service", "config": {"service": "desk", "to": "bad"}, "onFailure": "fallback", "fallbackStep": "instead", "next": "instead"},
  {"id": "instead", "type": "transform", "config": {"expression": "steps.bad.error.code"}, "next": "ask"},
  {"id": "ask", "type": "ai-decision", "config": {"prompt": "Which? {{variables.text}}", "outputFormat": "enum", "allowedValues": ["red", "blue"], "outputVariable": "colour"}, "next": {"red": "all", "blue": "end"}},
  {"id": "all", "type": "parallel", "config": {"failureMode": "continue", "branches": [
    {"id": "a", "steps": [{"id": "say", "type": "service", "config": {"service": "desk", "to": "a"}, "next": "end"}]},
    {"id": "b", "steps": [{"id": "say", "type": "service", "config": {"service": "desk", "to": "bad"}, "next": "end"}]},
    {"id": "c", "steps": [{"id": "judge", "type": "ai-decision", "config": {"prompt": "Yes? {{variables.text}}", "outputFormat": "boolean"}, "next": {"true": "end", "default": "fail"}}]}]}, "next": "each"},
  {"id": "each", "type": "map", "config": {"over": "variables.list", "steps": [{"id": "put", "type": "service", "config": {"service": "desk", "to": "{{item}}"}, "next": "end"}]}, "next": "count"},
  {"id": "count", "type": "transform", "maxVisits": 5, "config": {"expression": "variables.colour"}, "next": "look"},
  {"id": "look", "type": "service", "maxVisits": 5, "config": {"service": "desk", "action": "look", "what": "loop"}, "next": [{"when": "output.done", "to": "sign"}, {"to": "count"}]},
  {"id": "sign", "type": "wait", "config": {"for": "approval", "title": "Fine?"}, "next": {"approved": "pause", "rejected": "fail"}},
  {"id": "pause", "type": "wait", "config": {"for": "event", "event": "paid", "correlate": "{{variables.text}}"}, "next": "end"}]}`

// looping is a desk that lets a loop go round three times.
type looping struct{ desk }

func (d *looping) Call(ctx context.Context, c service.Call) (any, error) {
	_, err := d.desk.Call(ctx, c)
	n := 0
	for _, said := range d.said() {
		if strings.HasPrefix(said, "look") {
			n++
		}
	}
	return map[string]any{"done": n >= 3}, err
}

func TestAnExecutionShowsWhatARunHasDone(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		tries := 0
		d := &looping{desk{fail: func(said string) error {
			switch {
			case strings.Contains(said, "to=bad"):
				return &service.Error{Code: service.Denied, Message: "no"}
			case strings.Contains(said, "to=flaky"):
				if tries++; tries < 3 { // under the desk's lock
					return &service.Error{Code: service.Unavailable, Message: "not now"}
				}
			}
			return nil
		}}}
		used := llm.Usage{Input: 100, Output: 10}
		opt := options(t, &desk{}, llmtest.Rule{Contains: "Which?", Times: 1, Text: "I can't say", Usage: used}, llmtest.Rule{Contains: "can't be used", Text: "red", Usage: used}, llmtest.Rule{Contains: "Yes?", Text: "true", Usage: used})
		opt.Services["desk"] = d
		store := open()
		s := serve(t, store, opt)
		s.deploys(t, everything)
		if _, err := s.StartRun(t.Context(), "everything", json.RawMessage(`{"no": false, "text": "t-7", "list": ["x", "y"]}`), pawl.ID("e")); err != nil {
			t.Fatal(err)
		}
		x := s.until(t, "e", func(x flow.Execution) bool { return x.CurrentStep == "sign" && x.Status == pawl.Waiting })
		if len(x.Current) != 1 || x.Current[0].WaitsFor != "the approval e/sign" || x.Current[0].Status != "waiting" {
			t.Errorf("now: %+v", x.Current)
		}
		want := map[string]string{
			"never": "skipped, 0 tried, 1 visits", "again": "completed, 3 tried, 1 visits", "bad": "failed, 1 tried, 1 visits", "instead": "completed, 1 tried, 1 visits",
			"ask": "completed, 1 tried, 1 visits", "all": "completed, 0 tried, 1 visits", "all/a": "completed", "all/b": "failed", "all/c": "completed",
			"all/a/say": "completed, 1 tried, 1 visits", "all/b/say": "failed, 1 tried, 1 visits", "all/c/judge": "completed, 1 tried, 1 visits",
			"each": "completed, 0 tried, 1 visits", "each/0": "completed", "each/1": "completed", "each/0/put": "completed, 1 tried, 1 visits", "each/1/put": "completed, 1 tried, 1 visits",
			"count": "completed, 1 tried, 3 visits", "look": "completed, 1 tried, 3 visits", "sign": "waiting, 0 tried, 1 visits",
		}
		got := seen(x.StepResults, "")
		for at, word := range want {
			equal(t, at, got[at], word)
		}
		equal(t, "steps", len(got), len(want))
		ask := x.StepResults["ask"]
		equal(t, "answer", string(ask.Output)+ask.RawOutput, `"red"red`)
		equal(t, "calls", len(ask.Attempts[0].Calls), 2)
		equal(t, "mended", ask.Attempts[0].Calls[1].Why, "repair")
		equal(t, "tokens", ask.TokenUsage.TotalTokens, 220)
		equal(t, "cost", *ask.CostMicroUSD, 240)
		equal(t, "cost of a branch", *x.StepResults["all"].CostMicroUSD, 120)
		equal(t, "cost of all", *x.CostMicroUSD, 360)
		equal(t, "variables", string(x.Variables["colour"])+string(x.Variables["list"]), `"red"["x","y"]`)
		equal(t, "fallback", x.StepResults["bad"].Next+" "+x.StepResults["bad"].Error.Code, "instead denied")
		equal(t, "history", fmt.Sprintln(len(x.StepResults["count"].History), x.StepResults["count"].Key), "2 count#3\n")
		var again map[string]json.RawMessage
		if data, err := json.Marshal(ask); err != nil || json.Unmarshal(data, &again) != nil || string(again["colour"]) != `"red"` {
			t.Errorf("the answer's second name: %s, %v", data, err)
		}
		equal(t, "errors", len(x.Errors), 4) // two of again, bad, a branch
		equal(t, "where", x.Errors[3].Step, "all/b/say")

		// A program that is started anew, and has no models, sees the same.
		s.stop()
		s = serve(t, open(), flow.Options{Services: opt.Services})
		equal(t, "after a restart", fmt.Sprint(seen(s.execution(t, "e").StepResults, "")), fmt.Sprint(got))
		ref := pawl.Ref{ID: "e/sign"}
		a, err := approval.Get(t.Context(), s.Engine, ref)
		if err == nil {
			_, err = approval.Decide(t.Context(), s.Engine, ref, approval.Answer{Approved: true, By: "ann", Shown: a.Shown})
		}
		if err != nil {
			t.Fatal(err)
		}
		x = s.until(t, "e", func(x flow.Execution) bool {
			return x.CurrentStep == "pause" && x.Current[0].WaitsFor == `the event "paid:t-7"`
		})
		if err := s.Publish(t.Context(), "paid:t-7", map[string]int{"sum": 5}); err != nil {
			t.Fatal(err)
		}
		x = s.until(t, "e", func(x flow.Execution) bool { return x.Status == pawl.Completed })
		equal(t, "output", string(x.Output), `{"sum":5}`)
		equal(t, "the end", x.StepResults["pause"].Next+x.CurrentStep, "end")
		if x.CompletedAt == nil || len(x.Current) > 0 || x.Truncated != nil {
			t.Errorf("completed: %+v", x)
		}
		f, err := s.Flow(t.Context(), "", "everything", 1)
		if err != nil {
			t.Fatal(err)
		}
		g := f.Graph().Mark(x)
		taken := map[string]int{}
		for _, e := range g.Edges {
			taken[e.From+" "+e.To] = e.Taken
		}
		equal(t, "ways", fmt.Sprint(taken["(start) never"], taken["bad instead"], taken["look count"], taken["count look"], taken["look sign"], taken["sign fail"], taken["pause end"]), "1 1 2 3 1 0 1")
		for _, n := range g.Nodes {
			switch n.ID {
			case "never", "look", "each":
				equal(t, n.ID, fmt.Sprintln(n.Status, n.Visits), map[string]string{"never": "skipped 1\n", "look": "completed 3\n", "each": "completed 1\n"}[n.ID])
			}
			if n.ID == "each" {
				equal(t, "items", n.Branches[0].Nodes[1].Visits, 2)
			}
		}
		picture, err := g.SVG()
		if err != nil || !strings.Contains(picture, "<title>everything, run e: completed</title>") || !strings.Contains(picture, "completed 3×") {
			t.Errorf("the picture: %v\n%s", err, picture)
		}
		if _, err := s.Execution(t.Context(), "acme", "e"); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("another tenant's run: %v", err)
		}
	})
}

// A run that failed, one that was cancelled, one of code and one that is not there.
func TestExecutionsThatEndOtherwise(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		d := &desk{fail: func(string) error { return &service.Error{Code: service.Denied, Message: "no"} }}
		code := pawl.Define("code", func(*pawl.Context, any) (any, error) { return nil, nil }, pawl.Version("1"))
		s := serve(t, open(), options(t, d), code)
		s.deploys(t, `{"id": "fails", "limits": {"timeoutMs": 1500}, "steps": [{"id": "one", "type": "service", "config": {"service": "desk", "to": "x"}, "next": "end"}]}`)
		s.deploys(t, version("", "one"))
		if _, err := s.StartRun(t.Context(), "fails", nil, pawl.ID("a")); err != nil {
			t.Fatal(err)
		}
		s.starts(t, "b")
		x := s.until(t, "a", func(x flow.Execution) bool { return x.Status == pawl.Failed })
		equal(t, "failed", fmt.Sprintln(seen(x.StepResults, ""), x.Error.Code), "map[one:failed, 1 tried, 1 visits] denied\n")
		equal(t, "errors", len(x.Errors), 2)
		x = s.until(t, "b", func(x flow.Execution) bool { return x.CurrentStep == "hold" })
		if _, err := s.Cancel(t.Context(), pawl.Ref{ID: "b"}, "enough"); err != nil {
			t.Fatal(err)
		}
		x = s.until(t, "b", func(x flow.Execution) bool { return x.Status == pawl.Cancelled })
		equal(t, "cancelled", fmt.Sprintln(seen(x.StepResults, ""), len(x.Current)), "map[hold:cancelled, 0 tried, 1 visits] 0\n")
		time.Sleep(time.Until(x.StartedAt.Add(2 * time.Second))) // past the time limit of a run that has ended
		equal(t, "later", s.execution(t, "a").StepResults["one"].Status, "failed")
		if _, err := s.StartRun(t.Context(), "code", nil, pawl.ID("c")); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"c", "nobody"} {
			if _, err := s.Execution(t.Context(), "", id); !errors.Is(err, pawl.ErrNotFound) {
				t.Errorf("%s: %v", id, err)
			}
		}
		later, err := s.StartRun(t.Context(), "f", json.RawMessage(`{"n": 9007199254740993}`), pawl.Delay(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		x = s.execution(t, later.ID)
		equal(t, "not begun", fmt.Sprintln(x.Status, x.CurrentStep, x.Current[0].Status, string(x.Variables["n"])), "pending hold pending 9007199254740993\n")
	})
}

// What is too much is left out, and that is said.
func TestExecutionsAreBounded(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		s.deploys(t, `{"id": "big", "steps": [{"id": "one", "type": "transform", "config": {"expression": "variables.text"}, "next": "two"}, {"id": "two", "type": "transform", "config": {"expression": "variables.text"}, "next": "three"},
		  {"id": "three", "type": "transform", "config": {"expression": "variables.n"}, "next": "end"}]}`)
		text := strings.Repeat("x", 1_500_000)
		run, err := s.StartRun(t.Context(), "big", json.RawMessage(`{"n": 1, "text": "`+text+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		x := s.until(t, run.ID, func(x flow.Execution) bool { return x.Status == pawl.Completed })
		data, err := json.Marshal(x)
		if err != nil || len(data) > 5<<20 || len(x.Truncated) != 1 || !strings.Contains(x.Truncated[0], "two: its output is left out") {
			t.Errorf("%d bytes, %q, %v", len(data), x.Truncated, err)
		}
		equal(t, "what is small is there", string(x.StepResults["three"].Output), "1")
	})
}
