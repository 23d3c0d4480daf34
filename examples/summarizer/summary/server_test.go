package summary_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl/examples/summarizer/summary"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

func TestSummariesOverHTTP(t *testing.T) { eachStore(t, summariesOverHTTP) }

func summariesOverHTTP(t *testing.T, where string) {
	model := summary.Scripted()
	s := serve(t, where, model, summary.HandlerOptions{})
	if a := s.call("GET", "/summaries", ""); a.status != 200 || a.text != "[]\n" {
		t.Errorf("an empty list is %d %q", a.status, a.text)
	}
	made := s.call("POST", "/summaries?wait=30s", `{"text": "Rope is made of strands."}`)
	s.want(made, 201, object{"state": "completed", "source": "api", "model": "test/m", "summary": "[scripted: no model was asked] It begins: Rope is made of strands."})

	// The same text within 60 s: nobody is asked, and it is a summary of its own.
	again := s.call("POST", "/summaries?wait=30s", `{"text": " Rope is made of strands.\n"}`)
	s.want(again, 201, object{"state": "completed", "cached": true, "summary": made.object["summary"]})
	if n := len(model.Calls()); n != 1 {
		t.Errorf("the model was asked %d times, want 1", n)
	}

	// The same request with the same key is the same run.
	keyed := s.call("POST", "/summaries", `{"text": "Sails are made of cloth."}`, "Idempotency-Key", "a/b c")
	s.want(keyed, 201, nil)
	s.want(s.call("POST", "/summaries?wait=30s", `{"text": "Sails are made of cloth."}`, "Idempotency-Key", "a/b c"), 200, object{"id": keyed.object["id"], "state": "completed"})
	s.want(s.call("POST", "/summaries", `{"text": "Other."}`, "Idempotency-Key", "a/b c"), 409, nil)

	// The list survives a restart, newest first.
	s.stop()
	s = serve(t, where, model, summary.HandlerOptions{})
	list := s.call("GET", "/summaries", "").list
	var ids []any
	for _, f := range list {
		ids = append(ids, f["id"])
	}
	if want := []any{keyed.object["id"], again.object["id"], made.object["id"]}; fmt.Sprint(ids) != fmt.Sprint(want) {
		t.Errorf("the list has %v, want %v", ids, want)
	}
	s.want(s.call("GET", "/summaries/"+made.object["id"].(string), ""), 200, object{"text": "Rope is made of strands.", "summary": made.object["summary"]})
	if one := s.call("GET", "/summaries?limit=1", "").list; len(one) != 1 || one[0]["id"] != ids[0] {
		t.Errorf("limit=1 is %v", one)
	}
	for i := range 9 {
		s.want(s.call("POST", "/summaries?wait=30s", fmt.Sprintf(`{"text": "Text %d"}`, i)), 201, nil)
	}
	if n := len(s.call("GET", "/summaries", "").list); n != 10 {
		t.Errorf("of 12 summaries %d are listed, want the last 10", n)
	}
	s.want(s.call("GET", "/summaries/"+summary.DailyName, ""), 404, nil)
	s.want(s.call("GET", "/summaries/nobody", ""), 404, nil)
}

func TestBadRequestsSayWhatIsWrong(t *testing.T) { eachStore(t, badRequestsSayWhatIsWrong) }

func badRequestsSayWhatIsWrong(t *testing.T, where string) {
	model := summary.Scripted()
	s := serve(t, where, model, summary.HandlerOptions{})
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"POST", "/summaries", `{}`, 400, "text is missing"},
		{"POST", "/summaries", `{"text": " \n"}`, 400, "text is missing"},
		{"POST", "/summaries", ``, 400, "text"},
		{"POST", "/summaries", `{"text": 7}`, 400, "text"},
		{"POST", "/summaries", `{"txt": "x"}`, 400, "txt"},
		{"POST", "/summaries", `{"text": "x"} {"text": "y"}`, 400, "something after"},
		{"POST", "/summaries?wait=soon", `{"text": "x"}`, 400, "wait"},
		{"POST", "/summaries?wait=2h", `{"text": "x"}`, 400, "1m"},
		{"POST", "/summaries", `{"text": "` + strings.Repeat("x", 1<<20) + `"}`, 413, "1048576"},
		{"GET", "/summaries?limit=0", "", 400, "limit"},
		{"GET", "/summaries?limit=101", "", 400, "100"},
		{"GET", "/summaries?limit=ten", "", 400, "ten"},
		{"DELETE", "/summaries", "", 405, ""},
	} {
		if a := s.call(c.method, c.path, c.body); a.status != c.status || !strings.Contains(a.text, c.says) {
			t.Errorf("%s %s %.40s: %d %s, want %d and %q", c.method, c.path, c.body, a.status, a.text, c.status, c.says)
		}
	}
	if n := len(model.Calls()) + len(s.call("GET", "/summaries", "").list); n != 0 {
		t.Errorf("%d calls and summaries of bad requests", n)
	}
}

func TestTheKeyIsAskedFor(t *testing.T) { eachStore(t, theKeyIsAskedFor) }

func theKeyIsAskedFor(t *testing.T, where string) {
	s := serve(t, where, summary.Scripted(), summary.HandlerOptions{APIKey: "right", WebhookSecret: secret})
	for _, path := range []string{"/summaries", "/summaries/x", "/digests"} {
		s.want(s.call("GET", path, ""), 401, nil)
		s.want(s.call("GET", path, "", "x-apikey", "wrong"), 401, nil)
	}
	s.want(s.call("POST", "/summaries", `{"text": "x"}`), 401, nil)
	s.want(s.call("POST", "/summaries?wait=30s", `{"text": "x"}`, "x-apikey", "right"), 201, object{"state": "completed"})
	s.want(s.hook("1", "issues", `{"action": "opened", "issue": {"body": "y"}}`), 202, nil) // GitHub has no such key
}

func TestAModelThatFailsIsVisible(t *testing.T) { eachStore(t, aModelThatFailsIsVisible) }

func aModelThatFailsIsVisible(t *testing.T, where string) {
	model := llmtest.Script(
		llmtest.Rule{Contains: "empty", Answer: func(context.Context, *llm.Request) (*llm.Response, error) { return &llm.Response{Text: " "}, nil }},
		llmtest.Rule{Contains: "busy", Fail: []error{&llm.Error{Kind: llm.RateLimited, Wait: 10 * time.Millisecond}}, Text: "At last."},
		llmtest.Rule{Times: 1, Fail: []error{&llm.Error{Kind: llm.Auth, Message: "the key has expired"}}},
	)
	s := serve(t, where, model, summary.HandlerOptions{})
	s.want(s.call("POST", "/summaries?wait=30s", `{"text": "busy"}`), 201, object{"summary": "At last."})
	for text, says := range map[string]string{"x": "the key has expired", "empty": "empty summary"} {
		a := s.call("POST", "/summaries?wait=30s", fmt.Sprintf(`{"text": %q}`, text))
		s.want(a, 502, object{"state": "failed"})
		if !strings.Contains(fmt.Sprint(a.object["error"]), says) {
			t.Errorf("the error is %v, want %q", a.object["error"], says)
		}
		s.want(s.call("GET", "/summaries/"+a.object["id"].(string), ""), 200, object{"state": "failed", "error": a.object["error"]})
	}
	if n := len(s.call("GET", "/summaries", "").list); n != 1 {
		t.Errorf("%d summaries are listed, want the good one", n)
	}
}

// Two texts at once are two calls, at the same time; one text twice at once is one call.
func TestTwoSummariesAtOnce(t *testing.T) { eachStore(t, twoSummariesAtOnce) }

func twoSummariesAtOnce(t *testing.T, where string) {
	both, left := make(chan struct{}), 2
	var mu sync.Mutex
	model := llmtest.Script(
		llmtest.Rule{Contains: "same", Delay: 200 * time.Millisecond, Text: "once"},
		llmtest.Rule{Answer: func(ctx context.Context, _ *llm.Request) (*llm.Response, error) {
			mu.Lock()
			if left--; left == 0 {
				close(both)
			}
			mu.Unlock()
			select { // none is answered before both have been asked
			case <-both:
				return &llm.Response{Text: "each"}, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}})
	s := serve(t, where, model, summary.HandlerOptions{})
	pair := func(a, b string) {
		var all sync.WaitGroup
		answers := make([]answer, 2)
		for i, text := range []string{a, b} {
			all.Go(func() { answers[i] = s.call("POST", "/summaries?wait=30s", fmt.Sprintf(`{"text": %q}`, text)) })
		}
		all.Wait()
		for _, a := range answers {
			s.want(a, 201, object{"state": "completed"})
		}
		if answers[0].object["id"] == answers[1].object["id"] {
			t.Error("two requests without a key are one run")
		}
	}
	pair("one", "two")
	pair("same", "same")
	if n := len(model.Calls()); n != 3 {
		t.Errorf("the model was asked %d times, want 3", n)
	}
}

func TestWithoutPatienceTheRunGoesOn(t *testing.T) { eachStore(t, withoutPatienceTheRunGoesOn) }

func withoutPatienceTheRunGoesOn(t *testing.T, where string) {
	ask := make(chan struct{})
	model := llmtest.Script(llmtest.Rule{Answer: func(ctx context.Context, _ *llm.Request) (*llm.Response, error) {
		select {
		case <-ask:
			return &llm.Response{Text: "late"}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	s := serve(t, where, model, summary.HandlerOptions{})
	a := s.call("POST", "/summaries?wait=20ms", `{"text": "x"}`)
	if a.status != 201 || a.object["state"] == "completed" || a.object["summary"] != nil {
		t.Errorf("after 20 ms: %d %s", a.status, a.text)
	}
	close(ask)
	s.want(s.ended(a.object["id"].(string)), 200, object{"summary": "late"})
}
