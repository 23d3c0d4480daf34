package llmtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/anthropic"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/llm/openai"
)

// mock serves a mock and returns it with a client of each format.
func mock(t *testing.T, opt llmtest.MockOptions, rules ...llmtest.Rule) (m *llmtest.Mock, url string, clients map[string]llm.Streamer) {
	t.Helper()
	m, err := llmtest.NewMock(llmtest.Script(rules...), opt)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	return m, server.URL, map[string]llm.Streamer{
		"openai":    openai.New(openai.Options{BaseURL: server.URL + "/v1"}),
		"anthropic": anthropic.New(anthropic.Options{BaseURL: server.URL}),
	}
}

func question(model, text string) *llm.Request {
	return &llm.Request{Model: model, Messages: []llm.Message{llm.User(text)}}
}

// TestTheBillIsTheSumOfWhatTheCallersSaw has many callers at once keep an account of their
// own.
func TestTheBillIsTheSumOfWhatTheCallersSaw(t *testing.T) {
	prices := llm.DefaultPrices()
	models := map[string]string{"openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-6"}
	m, url, clients := mock(t, llmtest.MockOptions{FailRate: 0.3, FailWait: time.Millisecond, Seed: 7, Prices: prices},
		llmtest.Rule{Contains: "cut", Fail: []error{&llm.Error{Kind: llm.Truncated, Usage: llm.Usage{Input: 50}}}, Text: "whole", Usage: llm.Usage{Input: 1000, Cached: 400, Output: 77}},
		llmtest.Rule{Text: "fine", Usage: llm.Usage{Input: 123, Output: 45}})
	var mu sync.Mutex
	var used llm.Usage
	var cost int64
	answered, refused, failed := 0, 0, 0
	var callers sync.WaitGroup
	for i := range 40 {
		provider := []string{"openai", "anthropic"}[i%2]
		callers.Go(func() {
			for attempt := range 5 {
				req := question(models[provider], fmt.Sprintf("question %d, cut", i))
				ask := clients[provider].Generate
				if attempt%2 == 1 {
					ask = func(ctx context.Context, req *llm.Request) (*llm.Response, error) {
						return clients[provider].Stream(ctx, req, func(llm.Delta) error { return nil })
					}
				}
				res, err := ask(t.Context(), req)
				mu.Lock()
				switch llm.KindOf(err) {
				case "":
					answered++
					used = used.Add(res.Usage)
					c, known := prices.Cost(provider, req.Model, time.Now(), res.Usage)
					if err != nil || !known {
						t.Errorf("%v, known %v", err, known)
					}
					cost += c
				case llm.RateLimited:
					refused++
				case llm.Truncated: // it is charged for what the script says, which the caller does not see
					failed++
					used.Input += 50
					c, _ := prices.Cost(provider, req.Model, time.Now(), llm.Usage{Input: 50})
					cost += c
				default:
					t.Error(err)
				}
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	bill := m.Bill()
	if bill.Calls != 200 || bill.Answered != answered || bill.Refused != refused || bill.Failed != failed || bill.Usage != used || bill.MicroUSD != cost || bill.Unpriced != 0 || failed != 1 {
		t.Errorf("the bill is %+v;\nwant %d answered, %d refused, %d failed, %+v, %d micro-USD", bill, answered, refused, failed, used, cost)
	}
	if refused < 30 || refused > 90 {
		t.Errorf("%d of 200 calls were refused at a rate of 0.3", refused)
	}
	res, err := http.Get(url + "/bill")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var served llmtest.Bill
	if err := json.NewDecoder(res.Body).Decode(&served); err != nil || served.MicroUSD != cost || served.Says != llmtest.ModelName || len(served.Models) != 2 {
		t.Errorf("GET /bill gives %+v, %v", served, err)
	}
}

func TestTheSameSeedRefusesTheSameCalls(t *testing.T) {
	fate := func(seed uint64) (s string) {
		_, _, clients := mock(t, llmtest.MockOptions{FailRate: 0.5, Seed: seed}, llmtest.Rule{Text: "a"})
		for range 64 {
			_, err := clients["anthropic"].Generate(t.Context(), question("m", "q"))
			s += map[llm.Kind]string{"": "+", llm.RateLimited: "-"}[llm.KindOf(err)]
		}
		return s
	}
	one, again, other := fate(1), fate(1), fate(2)
	if one != again || one == other || !strings.Contains(one, "+-") {
		t.Errorf("seeds 1, 1 and 2 give\n%s\n%s\n%s", one, again, other)
	}
}

func TestTheRateIsLimitedAndSaidSo(t *testing.T) {
	for provider := range map[string]bool{"openai": true, "anthropic": true} {
		m, _, clients := mock(t, llmtest.MockOptions{Rate: 0.01, Burst: 3}, llmtest.Rule{Text: "a"})
		for i := range 3 {
			res, err := clients[provider].Generate(t.Context(), question("m", "q"))
			if err != nil {
				t.Fatal(err)
			}
			if l := res.Limits.Requests; l.Limit != 3 || l.Remaining != 2-i || l.Reset <= 0 {
				t.Errorf("%s: after call %d the limits are %+v", provider, i+1, res.Limits)
			}
		}
		_, err := clients[provider].Generate(t.Context(), question("m", "q"))
		var e *llm.Error
		if !errors.As(err, &e) || e.Kind != llm.RateLimited || e.Wait < 95*time.Second || e.Wait > 101*time.Second || e.Limits.Requests.Remaining != 0 {
			t.Errorf("%s: the fourth call gave %+v; want a wait of 100 s, until there is room", provider, err)
		}
		if b := m.Bill(); b.Answered != 3 || b.Refused != 1 || b.RetriedEarly != 0 || len(b.Refusals) != 1 || b.Refusals[0].Wait != e.Wait || b.Refusals[0].Retried {
			t.Errorf("%s: the bill is %+v", provider, b)
		}
	}
}

// TestAnEarlyRetryIsSeen: whether a call kept the wait is told by the same body coming again.
func TestAnEarlyRetryIsSeen(t *testing.T) {
	const wait = 50 * time.Millisecond
	m, _, clients := mock(t, llmtest.MockOptions{},
		llmtest.Rule{Contains: "early", Fail: []error{&llm.Error{Kind: llm.Overloaded, Wait: time.Hour}}, Text: "a"},
		llmtest.Rule{Contains: "patient", Fail: []error{&llm.Error{Kind: llm.RateLimited, Wait: wait}}, Text: "a"},
		llmtest.Rule{Contains: "never", Fail: []error{&llm.Error{Kind: llm.RateLimited, Wait: wait}}, Text: "a"})
	ask := func(text string) {
		t.Helper()
		_, _ = clients["openai"].Generate(t.Context(), question("m", text))
	}
	ask("early")
	ask("something else, which settles nothing: never")
	ask("early")
	ask("patient")
	time.Sleep(wait) // the wait itself is what is promised to be enough
	ask("patient")
	b := m.Bill()
	if len(b.Refusals) != 3 || b.RetriedEarly != 1 {
		t.Fatalf("the bill is %+v; want three refusals, one of them settled too early", b)
	}
	early, never, patient := b.Refusals[0], b.Refusals[1], b.Refusals[2]
	if !early.Retried || !early.Early || early.After >= time.Hour || never.Retried || never.Early || !patient.Retried || patient.Early || patient.After < wait {
		t.Errorf("early %+v\nnever %+v\npatient %+v", early, never, patient)
	}
}

func TestLatencyIsThatOfEveryAnswer(t *testing.T) {
	_, _, clients := mock(t, llmtest.MockOptions{Latency: 80 * time.Millisecond}, llmtest.Rule{Text: "a"})
	before := time.Now()
	if _, err := clients["openai"].Generate(t.Context(), question("m", "q")); err != nil || time.Since(before) < 80*time.Millisecond {
		t.Errorf("after %v: %v", time.Since(before), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := clients["anthropic"].Generate(ctx, question("m", "q")); llm.KindOf(err) != llm.Timeout {
		t.Errorf("a caller with less time got %v", err)
	}
}

func TestOptionsThatMeanNothing(t *testing.T) {
	for _, opt := range []llmtest.MockOptions{{Rate: -1}, {Rate: math.NaN()}, {Rate: math.Inf(1)}, {Burst: -1}, {FailRate: -0.1}, {FailRate: 1.1}, {FailRate: math.NaN()}, {FailWait: -1}, {Latency: -1}} {
		if _, err := llmtest.NewMock(llmtest.Script(), opt); err == nil {
			t.Errorf("%+v is taken", opt)
		}
	}
}

func TestEchoAnswersEverything(t *testing.T) {
	_, _, clients := mock(t, llmtest.MockOptions{}, llmtest.Echo())
	schema := json.RawMessage(`{"type":"object","properties":{
		"queue":{"enum":["billing","other"]},"n":{"type":"integer","minimum":3},"why":{"type":["string","null"],"minLength":12},
		"tags":{"type":"array","minItems":2,"items":{"$ref":"#/$defs/tag"}},"self":{"$ref":"#/$defs/self"},"unused":{"type":"string"}},
		"required":["queue","n","why","tags","self"],"$defs":{"tag":{"anyOf":[{"const":"x"},{"type":"null"}]},"self":{"$ref":"#/$defs/self"}}}`)
	for provider, client := range clients {
		req := question("m", "hello?")
		res, err := client.Generate(t.Context(), req)
		if err != nil || !strings.Contains(res.Text, "no model was asked") || !strings.Contains(res.Text, "hello?") {
			t.Errorf("%s: got %+v, %v; want an echo that says it is a script", provider, res, err)
		}
		req.Schema = &llm.Schema{Name: "s", JSON: schema}
		res, err = client.Generate(t.Context(), req)
		if want := `{"n":3,"queue":"billing","self":null,"tags":["x","x"],"why":"scripted...."}`; err != nil || res.Text != want {
			t.Errorf("%s: the structured answer is %+v, %v; want %s", provider, res, err, want)
		}
		req.Tools = []llm.Tool{{Name: "a"}, {Name: "b", Parameters: json.RawMessage(`{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"]}`)}}
		req.ToolChoice = llm.ChooseTool("b")
		res, err = client.Generate(t.Context(), req)
		if err != nil || len(res.ToolCalls) != 1 || res.ToolCalls[0].Name != "b" || res.ToolCalls[0].Arguments != `{"ok":true}` {
			t.Errorf("%s: the tool call is %+v, %v", provider, res, err)
		}
	}
}

func TestAScriptFromAFile(t *testing.T) {
	rules, err := llmtest.ReadScript("s.json", []byte(`[
		{"contains": "weather", "toolCalls": [{"name": "weather", "arguments": {"city": "Oslo"}}, {"id": "x", "name": "odd", "arguments": "{\"cut"}], "text": "I look."},
		{"contains": "classify", "json": {"queue": "billing", "n": [1, 2]}, "usage": {"input": 120, "output": 8, "cached": 20}},
		{"contains": "busy", "fail": [{"status": 429, "retryAfter": "2s"}, {"status": 529, "message": "very"}], "text": "Now."},
		{"contains": "empty", "fail": {"status": 402, "code": "billing_error"}},
		{"contains": "cut", "times": 1, "fail": {"kind": "truncated"}},
		{"contains": "no", "refusal": "I will not."},
		{"contains": "short", "text": "so f", "finish": "length", "delay": "1ms"},
		{"text": ""}
	]`))
	if err != nil {
		t.Fatal(err)
	}
	s := llmtest.Script(rules...)
	res, err := ask(s, "weather")
	if err != nil || len(res.ToolCalls) != 2 || res.ToolCalls[0] != (llm.ToolCall{ID: "call_1", Name: "weather", Arguments: `{"city": "Oslo"}`}) || res.ToolCalls[1].Arguments != `{"cut` || res.Finish != llm.FinishToolCalls {
		t.Errorf("weather: %+v, %v", res, err)
	}
	if res, err := ask(s, "classify"); err != nil || res.Text != `{"queue":"billing","n":[1,2]}` || res.Usage != (llm.Usage{Input: 120, Output: 8, Cached: 20}) {
		t.Errorf("classify: %+v, %v", res, err)
	}
	var e *llm.Error
	if _, err := ask(s, "busy"); !errors.As(err, &e) || e.Kind != llm.RateLimited || e.Wait != 2*time.Second {
		t.Errorf("busy, first: %v", err)
	}
	if _, err := ask(s, "busy"); !errors.As(err, &e) || e.Kind != llm.Overloaded || e.Message != "very" {
		t.Errorf("busy, second: %v", err)
	}
	if res, err := ask(s, "busy"); err != nil || res.Text != "Now." {
		t.Errorf("busy, third: %+v, %v", res, err)
	}
	for range 3 {
		if _, err := ask(s, "empty"); !errors.As(err, &e) || e.Kind != llm.QuotaExceeded || e.Code != "billing_error" {
			t.Errorf("empty: %v", err)
		}
	}
	if _, err := ask(s, "cut"); llm.KindOf(err) != llm.Truncated {
		t.Errorf("cut: %v", err)
	}
	if res, err := ask(s, "cut"); err != nil || res.Text != "" {
		t.Errorf("cut, used up: %+v, %v; want the last rule's silence", res, err)
	}
	if res, err := ask(s, "no"); err != nil || res.Refusal != "I will not." {
		t.Errorf("no: %+v, %v", res, err)
	}
	if res, err := ask(s, "short"); err != nil || res.Finish != llm.FinishLength {
		t.Errorf("short: %+v, %v", res, err)
	}
}

func TestMistakesInAScriptAreNamedWithTheirPlace(t *testing.T) {
	for _, c := range []struct{ data, says string }{
		{``, "s.json:1: not JSON: unexpected EOF"},
		{`{}`, "s.json: a script is a list of rules"},
		{`[]`, "there are no rules"},
		{`[{"text":"a"}] x`, "s.json:1"},
		{"[{\"text\":\"a\"},\n\n{\"txt\":\"a\"}]", `s.json:3: rule 2: json: unknown field "txt"; the fields are contains`},
		{"[{\"text\":\"a\"},\n{\"text\":}]", "s.json:2: not JSON"},
		{`[{"contains":"a"}]`, "nothing to answer"},
		{`[{"text":"a","json":{}}]`, "text and json"},
		{`[{"text":"a","times":-1}]`, "times is -1"},
		{`[{"text":"a","delay":"soon"}]`, `"soon" is no duration`},
		{`[{"text":"a","delay":3}]`, "3 is no duration"},
		{`[{"text":"a","finish":"ended"}]`, `finish is "ended"`},
		{`[{"text":"a","usage":{"input":1,"cached":2}}]`, "does not add up"},
		{`[{"text":"a","usage":{"inputs":1}}]`, `unknown field "inputs"`},
		{`[{"fail":{}}]`, "failure 1: it has no status and no kind"},
		{`[{"fail":{"status":200}}]`, "status 200 is no error"},
		{`[{"fail":{"kind":"odd"}}]`, `kind "odd"`},
		{`[{"fail":[{"status":429,"retryAftr":"1s"}]}]`, `unknown field "retryAftr"`},
		{`[{"toolCalls":[{"id":"a"}]}]`, "tool call 1 has no name"},
	} {
		if _, err := llmtest.ReadScript("s.json", []byte(c.data)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s\ngives %v\nwant %s", c.data, err, c.says)
		}
	}
}
