package llm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl/llm"
)

func TestARequestSurvivesAJournal(t *testing.T) {
	req := llm.Request{
		Model: "m", System: "s",
		Messages: []llm.Message{
			llm.User("hi"),
			{Role: llm.RoleAssistant, ToolCalls: []llm.ToolCall{{ID: "c", Name: "n", Arguments: `{"cut": `}}, Turn: json.RawMessage(`{"provider":"p"}`), Cache: true},
			llm.ToolResult(llm.ToolCall{ID: "c"}, "said"),
		},
		Tools:      []llm.Tool{{Name: "n", Description: "d", Parameters: json.RawMessage(`{"type":"object"}`)}},
		ToolChoice: llm.ChooseTool("n"), Temperature: new(0.0), MaxTokens: 3,
		Schema: &llm.Schema{Name: "a", Description: "b", JSON: json.RawMessage(`{}`)}, Stop: []string{"x"}, Cache: true,
	}
	b, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	var back llm.Request
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, req) {
		t.Errorf("after the journal the request is\n%+v\nwant\n%+v", back, req)
	}
}

func TestValidateNamesWhatIsWrong(t *testing.T) {
	good := func() *llm.Request { return &llm.Request{Model: "m", Messages: []llm.Message{llm.User("hi")}} }
	if err := good().Validate(); err != nil {
		t.Fatalf("a good request: %v", err)
	}
	object := json.RawMessage(`{}`)
	for _, c := range []struct {
		change func(*llm.Request)
		says   string // "" means it is right
	}{
		{func(r *llm.Request) { r.Model = "" }, "no model"},
		{func(r *llm.Request) { r.Messages = nil }, "no messages"},
		{func(r *llm.Request) { r.Messages[0].Content = "" }, "message 0: a user message must have content"},
		{func(r *llm.Request) { r.Messages[0].Role = "bot" }, `role "bot"`},
		{func(r *llm.Request) { r.Messages[0].Role = llm.RoleTool }, "must name the call"},
		{func(r *llm.Request) { r.Messages[0].ToolCalls = []llm.ToolCall{{ID: "c", Name: "n"}} }, "only the assistant"},
		{func(r *llm.Request) {
			r.Messages[0] = llm.Message{Role: llm.RoleAssistant, ToolCalls: []llm.ToolCall{{Name: "n"}}}
		}, "no id"},
		{func(r *llm.Request) { r.Messages[0].Turn = json.RawMessage(`{}`) }, "a turn that is not the assistant's"},
		{func(r *llm.Request) {
			r.Messages[0] = llm.Message{Role: llm.RoleAssistant, Turn: json.RawMessage(`{`)}
		}, "or not JSON"},
		{func(r *llm.Request) {
			r.Messages[0] = llm.Message{Role: llm.RoleAssistant, Turn: json.RawMessage(`{}`)}
		}, ""},
		{func(r *llm.Request) { r.Messages[0] = llm.ToolResult(llm.ToolCall{ID: "c"}, "") }, ""},
		{func(r *llm.Request) { r.Messages[0] = llm.Message{Role: llm.RoleAssistant} }, ""},
		{func(r *llm.Request) { r.Tools = []llm.Tool{{}} }, "tool 0 has no name"},
		{func(r *llm.Request) { r.Tools = []llm.Tool{{Name: "a"}, {Name: "a"}} }, `two tools are called "a"`},
		{func(r *llm.Request) { r.Tools = []llm.Tool{{Name: "a", Parameters: json.RawMessage(`[]`)}} }, `tool "a": parameters`},
		{func(r *llm.Request) { r.ToolChoice = "maybe" }, `"maybe"`},
		{func(r *llm.Request) { r.ToolChoice = llm.ToolChoiceRequired }, "no tools"},
		{func(r *llm.Request) { r.ToolChoice = llm.ChooseTool("b") }, `names "b"`},
		{func(r *llm.Request) { r.ToolChoice = llm.ChooseTool("auto"); r.Tools = []llm.Tool{{Name: "auto"}} }, ""},
		{func(r *llm.Request) { r.Schema = &llm.Schema{JSON: object} }, "schema has no name"},
		{func(r *llm.Request) { r.Schema = &llm.Schema{Name: "a"} }, `schema "a" is not a JSON object`},
		{func(r *llm.Request) { r.Schema = &llm.Schema{Name: "a", JSON: json.RawMessage(`null`)} }, `schema "a" is not`},
		{func(r *llm.Request) { r.Schema = &llm.Schema{Name: "a", JSON: object} }, ""},
		{func(r *llm.Request) { r.Temperature = new(math.NaN()) }, "temperature is NaN"},
		{func(r *llm.Request) { r.Temperature = new(-0.1) }, "temperature is -0.1"},
		{func(r *llm.Request) { r.MaxTokens = -1 }, "MaxTokens is -1"},
	} {
		r := good()
		c.change(r)
		err := r.Validate()
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("Validate of %+v = %v; want %q", r, err, c.says)
		}
	}
}

func TestAnAnswerBecomesATurn(t *testing.T) {
	calls := []llm.ToolCall{{ID: "c", Name: "n", Arguments: "{}"}}
	for _, c := range []struct {
		res  llm.Response
		want llm.Message
	}{
		{llm.Response{Text: "yes", ToolCalls: calls}, llm.Message{Role: llm.RoleAssistant, Content: "yes", ToolCalls: calls}},
		{llm.Response{Refusal: "no"}, llm.Message{Role: llm.RoleAssistant, Content: "no"}},
	} {
		if got := c.res.Message(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("Message() = %+v; want %+v", got, c.want)
		}
	}
}

func TestUsageAddsUp(t *testing.T) {
	got := llm.Usage{Input: 1, Output: 2, Cached: 3, Reasoning: 4, CacheWrites: 5}.Add(llm.Usage{Input: 10, Output: 20, Cached: 30, Reasoning: 40, CacheWrites: 50})
	if want := (llm.Usage{Input: 11, Output: 22, Cached: 33, Reasoning: 44, CacheWrites: 55}); got != want {
		t.Errorf("the sum is %+v; want %+v", got, want)
	}
}

func TestErrorTellsAPersonWhatHappenedAndWhatToDo(t *testing.T) {
	for _, c := range []struct {
		err  llm.Error
		want string
	}{
		{
			llm.Error{Kind: llm.RateLimited, Provider: "openai", Model: "gpt-4o", Status: 429, Code: "rate_limit_exceeded", Message: "20 per minute", Wait: 2 * time.Second, RequestID: "req_1"},
			"openai gpt-4o: rate limited: 20 per minute (HTTP 429, rate_limit_exceeded, request req_1); wait 2s before the next attempt",
		},
		{llm.Error{Kind: llm.Auth, Provider: "openai", Message: "no such key"}, "openai: not authorised: no such key; check the API key and what it may do"},
		{llm.Error{Kind: "odd", Provider: "p", Model: "m"}, "p m: odd"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("Error() =\n%s\nwant\n%s", got, c.want)
		}
	}
}

func TestErrorSurvivesWrapping(t *testing.T) {
	e := &llm.Error{Kind: llm.Timeout, Provider: "p", Err: context.DeadlineExceeded}
	err := fmt.Errorf("step ask: %w", errors.Join(errors.New("other"), e))
	var found *llm.Error
	if !errors.As(err, &found) || found != e {
		t.Errorf("errors.As does not find the error in %v", err)
	}
	if !llm.IsRetryable(err) || llm.KindOf(err) != llm.Timeout || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("IsRetryable, KindOf, Is = %v, %v, %v", llm.IsRetryable(err), llm.KindOf(err), errors.Is(err, context.DeadlineExceeded))
	}
	if plain := errors.New("plain"); llm.IsRetryable(plain) || llm.KindOf(plain) != "" || llm.IsRetryable(nil) {
		t.Errorf("an error of another type, or none, is taken for ours")
	}
}

// TestErrorAsTheEngineSeesIt checks the methods that pawl looks for without importing llm.
func TestErrorAsTheEngineSeesIt(t *testing.T) {
	type engineView interface {
		Fatal() bool
		RetryAfter() (time.Duration, bool)
		ErrorCode() string
		json.Marshaler
	}
	for _, c := range []struct {
		err   llm.Error
		fatal bool
		wait  time.Duration
		asked bool
	}{
		{llm.Error{Kind: llm.RateLimited, Wait: time.Minute}, false, time.Minute, true},
		{llm.Error{Kind: llm.Overloaded}, false, 0, false},
		{llm.Error{Kind: llm.Auth}, true, 0, false},
		{llm.Error{Kind: llm.QuotaExceeded}, true, 0, false},
		{llm.Error{Kind: "unheard of"}, true, 0, false},
	} {
		var e engineView
		if !errors.As(fmt.Errorf("wrapped: %w", &c.err), &e) {
			t.Fatal("the engine does not find its methods")
		}
		wait, asked := e.RetryAfter()
		if e.Fatal() != c.fatal || wait != c.wait || asked != c.asked || e.ErrorCode() != "llm_"+string(c.err.Kind) {
			t.Errorf("%s: Fatal, RetryAfter, ErrorCode = %v, %v %v, %q", c.err.Kind, e.Fatal(), wait, asked, e.ErrorCode())
		}
		b, err := e.MarshalJSON()
		var back llm.Error
		if err != nil || json.Unmarshal(b, &back) != nil || back != c.err {
			t.Errorf("%s is %s, %v as JSON", c.err.Kind, b, err)
		}
	}
}
