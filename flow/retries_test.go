package flow_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/pawltest"
	"github.com/pawlrun/pawl/service"
)

// maxAttempts counts all tries, and maxRetries those after the first: each is what its name says, and both at once are refused.
func TestJ28_maxRetriesAreTheTriesAfterTheFirst(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		o := newOutside(t)
		o.answer = func(w http.ResponseWriter, _ int, _ string) { w.WriteHeader(http.StatusBadGateway) }
		s := serve(t, open(), o.options(t, &desk{}))
		for i, test := range []struct {
			policy string
			calls  int
		}{{`"maxAttempts": 1`, 1}, {`"maxAttempts": 3`, 3}, {`"maxRetries": 0`, 1}, {`"maxRetries": 2`, 3}, {`"maxBackoffMs": 1`, 4}} {
			path := fmt.Sprintf("/n%d", i)
			x := s.after(t, of(o.call("a", end, path, `"retryPolicy": {"backoffMs": 1, `+test.policy+`}`)), `{}`)
			because(t, x, service.Unavailable, `step "a"`, ": POST ", "HTTP 502")
			equal(t, test.policy+": calls", len(o.bodies(path)), test.calls)
			equal(t, test.policy+": attempts", tried(x, "a"), strings.TrimSpace(strings.Repeat("unavailable ", test.calls)))
			for _, key := range o.keys[path] { // whoever is called can tell a repeat
				equal(t, "key", key, o.keys[path][0])
			}
		}
	})
	got := problems(t, of(send("a", end, "", `"retryPolicy": {"maxAttempts": 3, "maxRetries": 2}`)), world())
	same(t, "both", got, "1:126: /steps/0/retryPolicy: give maxAttempts or maxRetries, not both; maxRetries counts the tries after the first")
}

// waits are the pauses between the calls of a service that always fails, under a policy.
func waits(t *testing.T, policy string) (out []time.Duration) {
	t.Helper()
	var at []time.Time
	var mu sync.Mutex
	d := &desk{fail: func(string) error {
		mu.Lock()
		defer mu.Unlock()
		at = append(at, time.Now())
		return errors.New("no")
	}}
	opt := options(t, d)
	opt.Breaker = agent.NewBreaker(&agent.BreakerOptions{Failures: 1000})
	fails(t, of(send("a", end, "", policy)), `{}`, opt, "no")
	for i := 1; i < len(at); i++ {
		out = append(out, at[i].Sub(at[i-1]))
	}
	return out
}

// A field of a retry policy that is left out has its default, and none lets a step be tried without a pause, or without an end.
func TestJ29_partsOfARetryPolicyHaveDefaults(t *testing.T) {
	second := time.Second
	for _, test := range []struct {
		policy string
		want   []time.Duration // each pause is from half of it to all of it
	}{
		{`"name": "none"`, []time.Duration{second, 2 * second, 4 * second}},
		{`"retryPolicy": {}`, []time.Duration{second, 2 * second, 4 * second}},
		{`"retryPolicy": {"backoffMs": 500}`, []time.Duration{second / 2, second, 2 * second}},
		{`"retryPolicy": {"maxRetries": 1}`, []time.Duration{second}},
		{`"retryPolicy": {"maxAttempts": 3}`, []time.Duration{second, 2 * second}},
		{`"retryPolicy": {"maxBackoffMs": 1500}`, []time.Duration{second, 3 * second / 2, 3 * second / 2}},
		{`"retryPolicy": {"maxBackoffMs": 300}`, []time.Duration{3 * second / 10, 3 * second / 10, 3 * second / 10}},
		{`"retryPolicy": {"backoffMs": 90000}`, []time.Duration{90 * second, 90 * second, 90 * second}},
		{`"retryPolicy": {"maxRetries": 9}`, []time.Duration{second, 2 * second, 4 * second, 8 * second, 16 * second, 32 * second, 60 * second, 60 * second, 60 * second}},
	} {
		got := waits(t, test.policy)
		equal(t, test.policy+": tries after the first", len(got), len(test.want))
		for i := range min(len(got), len(test.want)) {
			if got[i] < test.want[i]/2 || got[i] > test.want[i]+10*time.Millisecond {
				t.Errorf("%s: pause %d is %v, want %v or up to half of that", test.policy, i, got[i], test.want[i])
			}
		}
	}
	alike := true // the pauses have jitter
	first := waits(t, `"retryPolicy": {"backoffMs": 1000000}`)
	for range 3 {
		again := waits(t, `"retryPolicy": {"backoffMs": 1000000}`)
		alike = alike && again[0] == first[0]
	}
	if alike {
		t.Errorf("four steps wait %v each: all who failed together come again together", first[0])
	}
	for policy, want := range map[string]string{
		`{"backoffMs": 0}`:                         "/backoffMs: 0 is below 1",
		`{"backoffMs": -5}`:                        "/backoffMs: -5 is below 1",
		`{"backoffMs": 1.5}`:                       "/backoffMs: 1.5 is no whole number",
		`{"backoffMs": "500"}`:                     "/backoffMs: it is a text and must be a number",
		`{"backoffMs": null}`:                      "/backoffMs: it is null and must be a number",
		`{"backoffMs": 3600001}`:                   "/backoffMs: 3600001 is above 3.6e+06",
		`{"maxBackoffMs": 3600001}`:                "/maxBackoffMs: 3600001 is above 3.6e+06",
		`{"backoffMs": 2000, "maxBackoffMs": 500}`: "/maxBackoffMs: it is below backoffMs",
		`{"maxAttempts": 0}`:                       "/maxAttempts: 0 is below 1",
		`{"maxRetries": -1}`:                       "/maxRetries: -1 is below 0",
		`{"maxRetries": 1e9}`:                      "/maxRetries: 1e9 is above 999",
		`{"retries": 3}`:                           `/retries: there is no field "retries"; known here are maxAttempts, maxRetries, backoffMs, maxBackoffMs`,
	} {
		got := problems(t, of(send("a", end, "", `"retryPolicy": `+policy)), world())
		if len(got) != 1 || !strings.Contains(got[0], "/steps/0/retryPolicy"+want) {
			t.Errorf("%s: told is %q, want %q", policy, got, want)
		}
	}
}

// What no other try can mend is not tried again, goes the way that onFailure says, and ends a run of which it is the first step.
func TestJ30_mistakesAreNotTriedAgain(t *testing.T) {
	for name, at := range map[string]struct{ config, want string }{
		"service":   {`"service": "desc", "to": "x"`, `/config/service: there is no service "desc"; did you mean "desk"?`},
		"action":    {`"service": "desk", "action": "sned", "to": "x"`, `/config/action: the service desk has no action "sned"; did you mean "send"?`},
		"parameter": {`"service": "desk"`, `"to"`},
		"template":  {`"service": "desk", "to": "{{variables.}}"`, "/config/to: "},
	} {
		got := problems(t, of(`{"id": "a", "type": "service", "config": {`+at.config+`}, "next": "end"}`), world())
		if len(got) != 1 || !strings.Contains(got[0], "/steps/0") || !strings.Contains(got[0], at.want) {
			t.Errorf("%s: told is %q, want %q", name, got, at.want)
		}
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		d := &desk{}
		s := serve(t, open(), options(t, d))
		broken := map[string]string{ // what only a run can find
			"unresolved": send("a", `{"default": "b"}`, `, "text": "{{variables.nobody}}"`, `MORE`),
			"null":       send("a", `{"default": "b"}`, `, "text": "x {{variables.nothing}}"`, `MORE`),
			"bad value":  send("a", `{"default": "b"}`, `, "n": "{{variables.text}}"`, `MORE`),
			"question":   ask("a", `{"default": "b"}`, `, "system": "{{variables.nobody}}"`, `MORE`),
			"list":       `{"id": "a", "type": "map", "config": {"over": "variables.text", "steps": [` + step("c", end) + `]}, "next": {"default": "b"}, MORE}`,
			"transform":  `{"id": "a", "type": "transform", "config": {"expression": "1 / variables.zero"}, "next": {"default": "b"}, MORE}`,
			"event":      `{"id": "a", "type": "wait", "config": {"for": "event", "event": "e", "correlate": "{{variables.nobody}}"}, "next": {"default": "b"}, MORE}`,
			"approval":   `{"id": "a", "type": "wait", "config": {"for": "approval", "title": "{{variables.nobody}}"}, "next": {"default": "b"}, MORE}`,
			"child":      `{"id": "a", "type": "workflow", "config": {"workflow": "nobody"}, "next": {"default": "b"}, MORE}`,
		}
		says := `{"id": "b", "type": "transform", "config": {"expression": "[steps.a.status, steps.a.error.code, steps.a.error.message]"}, "next": "end"}`
		for name, one := range broken {
			doc := func(more string) string { return of(strings.Replace(one, "MORE", more, 1), says) }
			in := `{"text": "x", "nothing": null, "zero": 0}`
			x := s.after(t, doc(`"name": "fails"`), in)
			if last := x.Errors[len(x.Errors)-1]; x.Status != pawl.Failed || !last.Final || last.Attempt > 1 || x.StepResults["a"].Status != "failed" || !strings.Contains(x.Error.Message, `step "a`) {
				t.Errorf("%s: it is %s: %+v after %+v", name, x.Status, x.Error, x.Errors)
			}
			for more, status := range map[string]string{`"onFailure": "skip"`: "skipped", `"onFailure": "fallback", "fallbackStep": "b"`: "failed"} {
				x := s.after(t, doc(more), in)
				var said []string
				if err := json.Unmarshal(x.Output, &said); err != nil || said[0] != status || said[1] == "" || said[2] == "" {
					t.Errorf("%s, %s: it is %s: %s, %+v", name, more, x.Status, x.Output, x.Error)
				}
			}
		}
		equal(t, "calls", len(d.said()), 0)
	})
}

// A service that is not there any more fails the steps that name it, once, and says what to do.
func TestJ30_aServiceThatWasTakenAway(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		s.deploys(t, of(send("a", end, "")))
		s.stop()
		opt := options(t, &desk{})
		delete(opt.Services, "desk")
		opt.Unset = map[string]string{"desk": "set DESK_KEY"}
		s = serve(t, open(), opt)
		info, err := s.StartRun(t.Context(), "f", nil)
		if err != nil {
			t.Fatal(err)
		}
		x := s.ended(t, info.ID)
		because(t, x, service.Invalid, `step "a"`, `there is no service "desk"; set DESK_KEY`)
		equal(t, "attempts", tried(x, "a"), "invalid")
	})
}

// Which answers of a server are worth another try is said by their status.
func TestJ31_statusesThatAreTriedAgain(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		o := newOutside(t)
		s := serve(t, open(), o.options(t, &desk{}))
		for status, code := range map[int]string{
			400: service.Invalid, 401: service.Denied, 402: service.Invalid, 403: service.Denied, 404: service.NotFound, 405: service.Invalid, 407: service.Denied, 409: service.Invalid,
			410: service.NotFound, 413: service.Invalid, 415: service.Invalid, 422: service.Invalid, 451: service.Invalid, 501: service.Invalid, 505: service.Invalid,
			408: service.TimedOut, 425: service.Unavailable, 429: service.RateLimited, 500: service.Unavailable, 502: service.Unavailable, 503: service.Unavailable, 504: service.Unavailable, 599: service.Unavailable,
		} {
			again := code == service.TimedOut || code == service.Unavailable || code == service.RateLimited
			path := fmt.Sprintf("/s%d", status)
			o.answer = func(w http.ResponseWriter, call int, _ string) {
				if call == 1 {
					w.WriteHeader(status)
				}
			}
			x := s.after(t, of(o.call("a", end, path, `"retryPolicy": {"maxAttempts": 2, "backoffMs": 1}`)), `{}`)
			if again {
				equal(t, path, fmt.Sprint(x.Status, ": ", tried(x, "a"), ": ", len(o.bodies(path))), "completed: "+code+" done: 2")
			} else {
				because(t, x, code, fmt.Sprintf("HTTP %d", status))
				equal(t, path, fmt.Sprint(tried(x, "a"), ": ", len(o.bodies(path))), code+": 1")
			}
		}
	})
}

// Who answers that it has too much to do says when to come again, and is not asked before.
func TestJ31_retryAfterIsKept(t *testing.T) {
	var at []time.Time
	var mu sync.Mutex
	d := &desk{fail: func(string) error {
		mu.Lock()
		defer mu.Unlock()
		if at = append(at, time.Now()); len(at) < 3 {
			return &service.Error{Code: service.RateLimited, Message: "slowly", After: 40 * time.Minute}
		}
		return nil
	}}
	opt := options(t, d)
	opt.Breaker = agent.NewBreaker(&agent.BreakerOptions{Failures: 1000})
	completes(t, of(send("a", end, "", `"retryPolicy": {"maxAttempts": 3, "backoffMs": 1}`)), `{}`, opt)
	for i := range at[1:] {
		if pause := at[i+1].Sub(at[i]); pause < 40*time.Minute || pause > 41*time.Minute {
			t.Errorf("pause %d is %v, want 40 minutes", i, pause)
		}
	}
}

// Errors of models are told apart as well: a key that is wrong costs one request, a provider that can't now is asked again.
func TestJ31_errorsOfModelsThatAreTriedAgain(t *testing.T) {
	for kind, again := range map[llm.Kind]bool{
		llm.Auth: false, llm.BadRequest: false, llm.QuotaExceeded: false, llm.ContextTooLong: false, llm.Refused: false,
		llm.RateLimited: true, llm.Overloaded: true, llm.Timeout: true, llm.Unavailable: true, llm.Truncated: true,
	} {
		model := llmtest.Script(llmtest.Rule{Fail: []error{&llm.Error{Kind: kind, Provider: "test", Message: "no"}}, Text: "yes"})
		opt := options(t, &desk{})
		opt.Models = agent.New(agent.Options{Providers: map[string]llm.Model{"test": model}})
		doc := of(ask("a", end, ``, `"retryPolicy": {"maxAttempts": 2}`))
		out, err := outcome(t, doc, `{}`, opt)
		if calls := len(model.Calls()); again != (err == nil) || again && (out != `"yes"` || calls != 2) || !again && calls != 1 {
			t.Errorf("%s: %s, %v after %d requests", kind, out, err, calls)
		}
	}
}

// The wait before another try is kept when the server that waits is no more; and the tries go on where they were.
func TestJ32_theWaitForAnotherTrySurvivesARestart(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var mu sync.Mutex
		var at []time.Time
		d := &desk{fail: func(string) error {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Now())
			return errors.New("no")
		}}
		times := func() int { mu.Lock(); defer mu.Unlock(); return len(at) }
		s := serve(t, open(), options(t, d))
		s.deploys(t, of(send("a", end, "", `"retryPolicy": {"maxAttempts": 2, "backoffMs": 1200}`)))
		info, err := s.StartRun(t.Context(), "f", nil)
		if err != nil {
			t.Fatal(err)
		}
		x := s.until(t, info.ID, func(x flow.Execution) bool { return x.CurrentStep == "a" && x.Current[0].Status == "retrying" })
		due := x.Current[0].Until
		s.stop()
		equal(t, "calls before", times(), 1)
		s = serve(t, open(), options(t, d))
		x = s.ended(t, info.ID)
		equal(t, "attempts", fmt.Sprint(len(x.StepResults["a"].Attempts), times()), "2 2")
		if at[1].Before(due) || due.Sub(at[0]) < 600*time.Millisecond {
			t.Errorf("the second call came %v after the first, and was due %v after it", at[1].Sub(at[0]), due.Sub(at[0]))
		}
	})
}

// A run that waits for another try for days costs no process: any number of crashes lead to the same calls.
func TestJ32_longWaitsSurviveACrashAtEachCommit(t *testing.T) {
	opt := options(t, &desk{fail: func(said string) error { return pawl.RetryAfter(errors.New("no"), 3*24*time.Hour) }})
	doc := of(send("a", `{"default": "b"}`, "", `"retryPolicy": {"maxAttempts": 3}`, `"onFailure": "skip"`), `{"id": "b", "type": "transform", "config": {"expression": "steps.a.error.message"}, "next": "end"}`)
	pawltest.CrashEverywhere(t, flow.Define(parse(t, doc, opt), opt), flow.Variables{})
}
