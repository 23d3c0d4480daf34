package llmtest

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl/llm"
)

// answerPromises are about calls that succeed, in either way of asking.
var answerPromises = []promise{
	{"TheAnswerComesWithAllThatIsKnownOfIt", wholeAnswer},
	{"EverythingAskedReachesTheProvider", wholeRequest},
	{"EachToolChoiceReachesTheProvider", toolChoices},
	{"ToolsAreAskedForAndAnswered", toolRound},
	{"ArgumentsThatDoNotParseArePassedOn", badArguments},
	{"EachReasonToEndHasItsName", finishReasons},
	{"ARefusalIsNoAnswer", refusal},
	{"AResponseSurvivesAJournal", journal},
	{"ManyCallsAtOnceGetTheirOwnAnswers", concurrent},
	{"TheRateLimitsArePassedOn", limits},
}

func wholeAnswer(t *testing.T, s *suite, ask asking) {
	h := s.site(t, nil, Rule{Text: "Hello, Ärger & <friends>.\n\nBye\u2028 ", Usage: llm.Usage{Input: 11, Output: 7, Cached: 5, CacheWrites: 2, Reasoning: 3}})
	res := mustAnswer(t, ask, h, hello())
	if want := "Hello, Ärger & <friends>.\n\nBye\u2028 "; res.Text != want {
		t.Errorf("Text = %q; want %q", res.Text, want)
	}
	if res.Finish != llm.FinishStop {
		t.Errorf("Finish = %q; want stop", res.Finish)
	}
	if want := (llm.Usage{Input: 11, Output: 7, Cached: 5, CacheWrites: 2, Reasoning: 3}); res.Usage != want {
		t.Errorf("Usage = %+v; want %+v", res.Usage, want)
	}
	if res.Model != ModelName {
		t.Errorf("Model = %q; want the one that answered, %q", res.Model, ModelName)
	}
	if res.Provider == "" || res.RequestID == "" {
		t.Errorf("Provider = %q, RequestID = %q; want both", res.Provider, res.RequestID)
	}
	if !json.Valid(res.Raw) || !strings.Contains(string(res.Raw), ModelName) {
		t.Errorf("Raw = %.200s; want the provider's answer as JSON", res.Raw)
	}
	if n := h.hits.Load(); n != 1 {
		t.Errorf("%d HTTP calls were made; want 1", n)
	}
}

func wholeRequest(t *testing.T, s *suite, ask asking) {
	h := s.site(t, nil, Rule{Text: "{}"})
	req := &llm.Request{
		Model:  "m-1",
		System: "Be brief.",
		Cache:  true,
		Messages: []llm.Message{
			llm.User("Which way, and how far?"),
			{Role: llm.RoleAssistant, Content: "I will look.", ToolCalls: []llm.ToolCall{
				{ID: "c1", Name: "way", Arguments: `{"to":"Österå"}`},
				{ID: "c2", Name: "distance", Arguments: `{}`},
			}},
			{Role: llm.RoleTool, ToolCallID: "c1", Content: "north", Cache: true},
			{Role: llm.RoleTool, ToolCallID: "c2", Content: ""}, // a tool may have nothing to say
			{Role: llm.RoleAssistant, Content: ""},              // and so may a model
			llm.User("Go on."),
		},
		Tools: []llm.Tool{
			{Name: "way", Description: "Tells the way.", Parameters: json.RawMessage(`{"type":"object","properties":{"to":{"type":"string"}}}`)},
			{Name: "distance", Parameters: json.RawMessage(`{"type":"object"}`)},
		},
		Temperature: new(0.0),
		MaxTokens:   17,
		Schema:      &llm.Schema{Name: "route", Description: "A route.", JSON: json.RawMessage(`{"type":"object","x-kept":[1,{"$ref":"#"}]}`)},
		Stop:        []string{"END", "STOP"},
	}
	before := clone(req)
	mustAnswer(t, ask, h, req)
	if !reflect.DeepEqual(req, before) {
		t.Errorf("the call changed its request to %+v", req)
	}
	calls := h.script.Calls()
	if len(calls) != 1 {
		t.Fatalf("%d requests reached the provider; want 1", len(calls))
	}
	sameJSON(t, "what reached the provider", &calls[0], s.seen(before, &calls[0]))

	req = hello()
	req.Temperature = new(0.1)
	mustAnswer(t, ask, h, req)
	if got := h.script.Calls()[1].Temperature; got == nil || *got != 0.1 {
		t.Errorf("a temperature of 0.1 reached the provider as %v", got)
	}
	mustAnswer(t, ask, h, hello())
	bare := h.script.Calls()[2]
	sameJSON(t, "a request of which only model and message are set", &bare, s.seen(hello(), &bare))
}

func toolChoices(t *testing.T, s *suite, ask asking) {
	h := s.site(t, nil, Rule{Text: "done"})
	for i, choice := range []llm.ToolChoice{llm.ToolChoiceAuto, llm.ToolChoiceNone, llm.ToolChoiceRequired, llm.ChooseTool("look")} {
		req := hello()
		req.Tools, req.ToolChoice = []llm.Tool{{Name: "look"}}, choice
		mustAnswer(t, ask, h, req)
		if got := h.script.Calls()[i].ToolChoice; got != choice {
			t.Errorf("the choice %q reached the provider as %q", choice, got)
		}
	}
}

func toolRound(t *testing.T, s *suite, ask asking) {
	calls := []llm.ToolCall{{ID: "c1", Name: "look", Arguments: `{"where":"under the bed, ünder it"}`}, {ID: "c2", Name: "ask", Arguments: `{}`}}
	h := s.site(t, nil, Rule{Times: 1, Text: "Let me see.", ToolCalls: calls}, Rule{Contains: "a sock", Text: "It is a sock."})
	req := hello()
	req.Tools = []llm.Tool{{Name: "look"}, {Name: "ask"}}
	res := mustAnswer(t, ask, h, req)
	if res.Finish != llm.FinishToolCalls || res.Text != "Let me see." || !reflect.DeepEqual(res.ToolCalls, calls) {
		t.Fatalf("the answer is %q, %q, %v; want tool_calls, %q, %v", res.Finish, res.Text, res.ToolCalls, "Let me see.", calls)
	}
	req.Messages = append(req.Messages, res.Message(), llm.ToolResult(calls[0], "nothing"), llm.ToolResult(calls[1], "a sock"))
	if res := mustAnswer(t, ask, h, req); res.Text != "It is a sock." || res.Finish != llm.FinishStop {
		t.Errorf("the second answer is %q (%s); want %q (stop)", res.Text, res.Finish, "It is a sock.")
	}
	second := h.script.Calls()[1]
	sameJSON(t, "the second turn as it reached the provider", second.Messages, s.seen(req, &second).Messages)
}

func badArguments(t *testing.T, s *suite, ask asking) {
	h := s.site(t, nil, Rule{ToolCalls: []llm.ToolCall{{ID: "c1", Name: "look", Arguments: `{"where": `}}})
	req := hello()
	req.Tools = []llm.Tool{{Name: "look"}}
	res := mustAnswer(t, ask, h, req)
	if len(res.ToolCalls) != 1 || res.ToolCalls[0].Arguments != `{"where": ` && !s.wire.ObjectsOnly {
		t.Fatalf("ToolCalls = %v; want the arguments as the model wrote them", res.ToolCalls)
	}
	if _, err := json.Marshal(res); err != nil {
		t.Errorf("the response cannot be journalled: %v", err)
	}
	req.Messages = append(req.Messages, res.Message(), llm.ToolResult(res.ToolCalls[0], "that was no JSON"))
	req.Messages[1].ToolCalls[0].Arguments = `{"where": `
	mustAnswer(t, ask, h, req) // and in a history they do no harm
}

func finishReasons(t *testing.T, s *suite, ask asking) {
	for _, finish := range []llm.Finish{llm.FinishStop, llm.FinishLength, llm.FinishRefused, llm.FinishOther} {
		h := s.site(t, nil, Rule{Text: "so far", Finish: finish})
		if res := mustAnswer(t, ask, h, hello()); res.Finish != finish || res.Text != "so far" {
			t.Errorf("Finish, Text = %q, %q; want %q, %q", res.Finish, res.Text, finish, "so far")
		}
	}
}

func refusal(t *testing.T, s *suite, ask asking) {
	h := s.site(t, nil, Rule{Refusal: "I cannot help with that."})
	res := mustAnswer(t, ask, h, hello())
	if res.Finish != llm.FinishRefused || res.Text != "" || res.Refusal != "I cannot help with that." {
		t.Errorf("Finish, Text, Refusal = %q, %q, %q; want refused, no text, and the refusal", res.Finish, res.Text, res.Refusal)
	}
}

func journal(t *testing.T, s *suite, ask asking) {
	h := s.site(t, nil, Rule{Text: "1 < 2", ToolCalls: []llm.ToolCall{{ID: "c", Name: "n", Arguments: "{}"}}, Usage: llm.Usage{Input: 1, Output: 2, Cached: 1, Reasoning: 1}})
	res := mustAnswer(t, ask, h, hello())
	b, err := json.Marshal(res)
	if err != nil {
		t.Fatalf("the response cannot be written: %v", err)
	}
	var back llm.Response
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatalf("the response cannot be read back: %v", err)
	}
	var raw, rawBack any
	if json.Unmarshal(res.Raw, &raw) != nil || json.Unmarshal(back.Raw, &rawBack) != nil || !reflect.DeepEqual(raw, rawBack) {
		t.Errorf("Raw is another document after the journal")
	}
	back.Raw = res.Raw
	if !reflect.DeepEqual(&back, res) {
		t.Errorf("after the journal the response is\n%+v\nwant\n%+v", &back, res)
	}
}

func concurrent(t *testing.T, s *suite, ask asking) {
	h := s.site(t, nil, Rule{Answer: func(_ context.Context, req *llm.Request) (*llm.Response, error) {
		return &llm.Response{Text: "you said " + req.Messages[0].Content}, nil
	}})
	ctx := within(t)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			said := fmt.Sprintf("number %d", i)
			res, err := ask(t, ctx, h.model, &llm.Request{Model: "m-1", Messages: []llm.Message{llm.User(said)}})
			if err != nil || res.Text != "you said "+said {
				t.Errorf("call %d got %+v, %v", i, res, err)
			}
		})
	}
	wg.Wait()
}

func limits(t *testing.T, s *suite, ask asking) {
	want := llm.Limits{
		Requests: llm.Limit{Limit: 500, Remaining: 3, Reset: 20 * time.Second},
		Tokens:   llm.Limit{Limit: 30_000, Remaining: 29_000, Reset: 6 * time.Minute},
	}
	check := func(what string, got llm.Limits) {
		t.Helper()
		for _, l := range []struct {
			name      string
			got, want llm.Limit
		}{{"requests", got.Requests, want.Requests}, {"tokens", got.Tokens, want.Tokens}} {
			late := l.got.Reset - l.want.Reset // a wire format that tells the time in seconds is not exact
			l.got.Reset = l.want.Reset
			if l.got != l.want || late < -3*time.Second || late > 3*time.Second {
				t.Errorf("%s: the limit of %s is %+v, %v late; want %+v", what, l.name, l.got, late, l.want)
			}
		}
	}
	h := s.site(t, nil,
		Rule{Times: 1, Text: "done", Limits: want},
		Rule{Times: 1, Fail: []error{&llm.Error{Kind: llm.RateLimited, Limits: want}}},
		Rule{Text: "silent"})
	check("an answer", mustAnswer(t, ask, h, hello()).Limits)
	check("an error", mustFail(t, ask, h, llm.RateLimited).Limits)
	if got := mustAnswer(t, ask, h, hello()).Limits; got != (llm.Limits{}) {
		t.Errorf("a provider that says nothing gives %+v", got)
	}
}
