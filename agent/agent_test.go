package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// scripted are models that follow a script.
func scripted(rules ...llmtest.Rule) (*Models, *llmtest.Scripted) {
	s := llmtest.Script(rules...)
	return New(Options{Providers: map[string]llm.Model{"scripted": s}, Model: "scripted/m"}), s
}

// calls is a rule's answer that asks for tools.
func calls(names ...string) []llm.ToolCall {
	var out []llm.ToolCall
	for i, name := range names {
		name, args, _ := strings.Cut(name, " ")
		out = append(out, llm.ToolCall{ID: fmt.Sprintf("%s-%d", name, i), Name: name, Arguments: args})
	}
	return out
}

func made(t *testing.T, name string, cfg Config) *Agent {
	t.Helper()
	a, err := NewAgent(name, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func finish(t *testing.T, e *pawl.Engine, a *Agent, task Task, opts ...pawl.StartOption) (Result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := a.Start(ctx, e, task, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return r.Result(ctx)
}

func succeed(t *testing.T, e *pawl.Engine, a *Agent, task Task, opts ...pawl.StartOption) Result {
	t.Helper()
	r, err := finish(t, e, a, task, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Errorf("%s: got %s, want %s", what, g, w)
	}
}

func keys(t *testing.T, e *pawl.Engine, id string, kind pawl.Kind) (out []string) {
	t.Helper()
	for entry, err := range e.Journal(t.Context(), pawl.Ref{ID: id}) {
		if err != nil {
			t.Fatal(err)
		}
		if entry.Kind == kind {
			out = append(out, entry.Key)
		}
	}
	return out
}

type sum struct {
	A int `json:"a"`
	B int `json:"b"`
}

func adder(t *testing.T) Tool {
	return Func("add", "adds two numbers", func(_ context.Context, in sum) (int, error) { return in.A + in.B, nil })
}

func TestB1_154_agentBasicText(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(llmtest.Rule{Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
			return &llm.Response{Text: "Echo: " + r.Messages[0].Content}, nil
		}})
		a := made(t, "echo", Config{Models: m})
		r := succeed(t, work(t, open(), a), a, Task{Prompt: "hello world"})
		equal(t, "text", r.Text, "Echo: hello world")
		equal(t, "steps", fmt.Sprint(r.Turns, len(s.Calls())), "1 1")
	})
}

func TestB1_155_agentOneTool(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(
			llmtest.Rule{Contains: "add", ToolCalls: calls(`add {"a":3,"b":7}`)},
			llmtest.Rule{Contains: "10", Text: "The sum is 10"},
		)
		a := made(t, "adds", Config{Models: m, Tools: []Tool{adder(t)}})
		e := work(t, open(), a)
		r := succeed(t, e, a, Task{Prompt: "add 3 and 7"}, pawl.ID("one"))
		equal(t, "text", r.Text, "The sum is 10")
		equal(t, "model calls", len(s.Calls()), 2)
		equal(t, "steps", keys(t, e, "one", pawl.KindStep), []string{"model", "tools[0]/tool:add", "model#2"})
		if p := string(s.Calls()[0].Tools[0].Parameters); !strings.Contains(p, `"a"`) || !strings.Contains(p, "integer") {
			t.Errorf("the tool's schema is %s", p)
		}
	})
}

func TestB1_156_agentManySteps(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(
			llmtest.Rule{Contains: "go", ToolCalls: calls(`add {"a":1,"b":1}`, `add {"a":2,"b":2}`)},
			llmtest.Rule{Contains: "4", ToolCalls: calls(`add {"a":3,"b":3}`)},
			llmtest.Rule{Contains: "6", ToolCalls: calls(`add {"a":4,"b":4}`)},
			llmtest.Rule{Contains: "8", Text: "All done!"},
		)
		a := made(t, "many", Config{Models: m, Tools: []Tool{adder(t)}})
		r := succeed(t, work(t, open(), a), a, Task{Prompt: "go"})
		equal(t, "text", r.Text, "All done!")
		equal(t, "model calls", len(s.Calls()), 4)
		var said []string
		for _, msg := range r.Messages {
			said = append(said, string(msg.Role))
		}
		equal(t, "conversation", said, []string{"user", "assistant", "tool", "tool", "assistant", "tool", "assistant", "tool", "assistant"})
	})
}

func TestB1_157_agentToolErrorIsFedBack(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		for what, c := range map[string]struct{ call, told string }{
			"it fails":            {"broken", "out of order"},
			"it panics":           {"panics", "boom"},
			"its arguments":       {`add {"a":"x"}`, "arguments of add"},
			"arguments, no JSON":  {`add {"a":`, "arguments of add"},
			"there is none":       {"subtract", `there is no tool "subtract"; there are: add, broken, panics, loud`},
			"it returns too much": {"loud", "more bytes were cut off"},
		} {
			t.Run(what, func(t *testing.T) {
				m, s := scripted(
					llmtest.Rule{When: func(r *llm.Request) bool { return len(r.Messages) == 1 }, ToolCalls: calls(c.call)},
					llmtest.Rule{Text: "I went on"},
				)
				a := made(t, "feeds", Config{Models: m, Tools: []Tool{
					adder(t),
					Func("broken", "", func(context.Context, struct{}) (string, error) { return "", errors.New("out of order") }, pawl.MaxAttempts(1)),
					Func("panics", "", func(context.Context, struct{}) (string, error) { panic("boom") }, pawl.MaxAttempts(1)),
					Func("loud", "", func(context.Context, struct{}) (string, error) { return strings.Repeat("é\xff", MaxToolResult), nil }),
				}})
				r := succeed(t, work(t, open(), a), a, Task{Prompt: "go"})
				equal(t, "text", r.Text, "I went on")
				told := s.Calls()[1].Messages[2].Content
				if !strings.Contains(told, c.told) || len(told) > MaxToolResult+100 {
					t.Errorf("the model was told %.300q, want %q in it", told, c.told)
				}
			})
		}
	})
}

func TestB1_158_162_agentHooks(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, _ := scripted(
			llmtest.Rule{Contains: "go", ToolCalls: calls(`add {"a":1,"b":1}`)},
			llmtest.Rule{Text: "done"},
		)
		var mu sync.Mutex
		var told []string
		hooks := func(who string) Hooks {
			tell := func(what string, args ...any) error {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, strings.TrimSpace(fmt.Sprintln(append([]any{who, what}, args...)...)))
				return nil
			}
			return Hooks{
				OnStart:     func(_ context.Context, task Task) error { return tell("start", task.Prompt) },
				OnTurnStart: func(_ context.Context, turn Turn) error { return tell("turn start", turn.Number, len(turn.Messages)) },
				OnTurn:      func(_ context.Context, turn Turn, a Answer) error { return tell("turn", turn.Number, a.Finish) },
				OnToolStart: func(_ context.Context, call llm.ToolCall) error { return tell("tool start", call.Name) },
				OnToolEnd:   func(_ context.Context, o Outcome) error { return tell("tool end", o.Content) },
				OnFinish:    func(_ context.Context, r Result) error { return tell("finish", r.Text) },
				OnError:     func(_ context.Context, failure string) error { return tell("error", failure) },
			}
		}
		a := made(t, "hooked", Config{Models: m, Tools: []Tool{adder(t)}, Hooks: []Hooks{hooks("constructor"), hooks("method")}})
		succeed(t, work(t, open(), a), a, Task{Prompt: "go"})
		var want []string
		for _, what := range []string{"start go", "turn start 1 1", "turn 1 tool_calls", "tool start add", "tool end 2", "turn start 2 3", "turn 2 stop", "finish done"} {
			want = append(want, "constructor "+what, "method "+what)
		}
		if !slices.Equal(told, want) {
			t.Errorf("told\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestB1_160_agentInstructionsReachTheModel(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(llmtest.Rule{Contains: "go", ToolCalls: calls(`add {"a":1,"b":1}`)}, llmtest.Rule{Text: "done"})
		plain := made(t, "plain", Config{Models: m, Instructions: "Be brief.", Tools: []Tool{adder(t)}})
		made := made(t, "made", Config{Models: m, Tools: []Tool{adder(t)}, Instruct: func(_ context.Context, turn Turn) (string, error) {
			return fmt.Sprint("This is turn ", turn.Number), nil
		}})
		e := work(t, open(), plain, made)
		succeed(t, e, plain, Task{Prompt: "go"})
		succeed(t, e, made, Task{Prompt: "go"})
		var systems []string
		for _, c := range s.Calls() {
			systems = append(systems, c.System)
		}
		equal(t, "system prompts", systems, []string{"Be brief.", "Be brief.", "This is turn 1", "This is turn 2"})
	})
}

func TestB1_161_agentTimeout(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, _ := scripted(llmtest.Rule{Delay: time.Hour})
		a := made(t, "slow", Config{Models: m, Options: []pawl.Option{pawl.Timeout(300 * time.Millisecond)}})
		_, err := finish(t, work(t, open(), a), a, Task{Prompt: "go"})
		if !errors.Is(err, pawl.ErrTimeout) {
			t.Errorf("got %v, want ErrTimeout", err)
		}
	})
}

func TestAnAgentThatGoesRoundIsStopped(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(llmtest.Rule{ToolCalls: calls(`add {"a":1,"b":1}`)})
		var failed atomic.Value
		a := made(t, "round", Config{Models: m, Tools: []Tool{adder(t)}, MaxTurns: 3, Hooks: []Hooks{{OnError: func(_ context.Context, f string) error { failed.Store(f); return nil }}}})
		_, err := finish(t, work(t, open(), a), a, Task{Prompt: "go"})
		failure, _ := failed.Load().(string)
		if err == nil || !strings.Contains(err.Error(), "not done after 3 turns") || !strings.Contains(failure, "not done after 3 turns") {
			t.Errorf("got %v, and OnError %q", err, failure)
		}
		equal(t, "model calls", len(s.Calls()), 3)
	})
}

// A conversation goes on in run after run, and nobody sees a difference but in the journals.
func TestALongConversationGoesOnAsAnotherRun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(
			llmtest.Rule{When: func(r *llm.Request) bool { return len(r.Messages) < 20 }, ToolCalls: calls(`add {"a":1,"b":1}`)},
			llmtest.Rule{Text: "done"},
		)
		a := made(t, "long", Config{Models: m, Tools: []Tool{adder(t)}, GoOn: 3})
		e := work(t, open(), a)
		r := succeed(t, e, a, Task{Prompt: "go"})
		equal(t, "turns, model calls, messages", fmt.Sprint(r.Turns, len(s.Calls()), len(r.Messages)), "11 11 22")
		runs, err := e.List(t.Context(), pawl.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "runs", len(runs), 4)
	})
}

func TestAgentsHandOver(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(
			llmtest.Rule{When: func(r *llm.Request) bool { return r.System == "triage" }, ToolCalls: calls("transfer_to_billing")},
			llmtest.Rule{When: func(r *llm.Request) bool { return r.System == "billing" }, Text: "You owe nothing."},
		)
		billing := made(t, "billing", Config{Models: m, Instructions: "billing"})
		triage := made(t, "triage", Config{Models: m, Instructions: "triage", Handoffs: []*Agent{billing}})
		r := succeed(t, work(t, open(), triage), triage, Task{Prompt: "my bill"})
		equal(t, "result", fmt.Sprint(r.Agent, ": ", r.Text), "billing: You owe nothing.")
		equal(t, "model calls", len(s.Calls()), 2)
	})
}

func TestAToolCanBeAWorkflow(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		double := pawl.Define("double", func(c *pawl.Context, in sum) (int, error) {
			return 2 * (in.A + in.B), c.Sleep(10 * time.Millisecond)
		})
		m, _ := scripted(llmtest.Rule{Contains: "go", ToolCalls: calls(`double {"a":1,"b":2}`)}, llmtest.Rule{Contains: "6", Text: "six"})
		a := made(t, "parent", Config{Models: m, Tools: []Tool{Child(double, "doubles a sum")}})
		equal(t, "text", succeed(t, work(t, open(), a), a, Task{Prompt: "go"}).Text, "six")
	})
}

func TestAToolCallWaitsForApproval(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var mu sync.Mutex
		paid := 0
		pay := Func("pay", "", func(context.Context, sum) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			paid++
			return "paid", nil
		}).WithApproval(Approval{Approvers: []string{"ada"}, Within: time.Minute, When: func(args json.RawMessage) bool {
			var in sum
			return json.Unmarshal(args, &in) != nil || in.A > 100
		}})
		m, s := scripted(
			llmtest.Rule{Contains: "go", ToolCalls: calls(`pay {"a":500,"b":0}`, `pay {"a":5,"b":0}`)},
			llmtest.Rule{Text: "done"},
		)
		a := made(t, "pays", Config{Models: m, Tools: []Tool{pay}})
		e := work(t, open(), a)
		for _, approve := range []bool{true, false} {
			mu.Lock()
			paid = 0
			mu.Unlock()
			run, err := a.Start(t.Context(), e, Task{Prompt: "go"})
			if err != nil {
				t.Fatal(err)
			}
			var list approval.Page
			for end := time.Now().Add(30 * time.Second); len(list.Items) == 0; time.Sleep(5 * time.Millisecond) {
				if list, err = approval.List(t.Context(), e, approval.Filter{Run: run.ID()}); err != nil || time.Now().After(end) {
					t.Fatalf("no approval was asked for: %v", err)
				}
			}
			asked := list.Items[0]
			var req ApprovalRequest
			if err := json.Unmarshal(asked.Details, &req); err != nil {
				t.Fatal(err)
			}
			equal(t, "request", fmt.Sprint(len(list.Items), asked.Title, req.Tool, string(req.Arguments)), `1Call the tool pay?pay{"a":500,"b":0}`)
			for want, wrong := range map[error]approval.Answer{
				approval.ErrNotAllowed: {Shown: asked.Shown, Approved: true, By: "eve"},
				pawl.ErrInput:          {Shown: asked.Shown, Approved: true},
				approval.ErrChanged:    {Shown: "00", Approved: true, By: "ada"}, // other arguments
			} {
				if _, err := approval.Decide(t.Context(), e, pawl.Ref{ID: asked.ID}, wrong); !errors.Is(err, want) {
					t.Errorf("%v: %v, want %v", wrong, err, want)
				}
			}
			hooks, err := e.Hooks(t.Context(), pawl.Ref{ID: run.ID()})
			if err != nil || len(hooks) != 1 {
				t.Fatal(hooks, err)
			}
			for _, wrong := range []any{"yes", 7, nil, map[string]bool{"approved": true}} {
				if _, err := e.Deliver(t.Context(), pawl.Delivery{Run: pawl.Ref{ID: run.ID()}, Hook: hooks[0].Key, Data: wrong}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := approval.Decide(t.Context(), e, pawl.Ref{ID: asked.ID}, approval.Answer{Shown: asked.Shown, Approved: approve, By: "ada", Comment: "because"}); err != nil {
				t.Fatal(err)
			}
			if _, err := run.Result(t.Context()); err != nil {
				t.Fatal(err)
			}
			want, told := 2, "paid"
			if !approve {
				want, told = 1, "denied by ada: because"
			}
			mu.Lock()
			equal(t, "paid", paid, want)
			mu.Unlock()
			all := s.Calls()
			if got := all[len(all)-1].Messages[2].Content; !strings.Contains(got, told) {
				t.Errorf("the model was told %q, want %q", got, told)
			}
		}
	})
}

func TestNobodyApproves(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		pay := Func("pay", "", func(context.Context, struct{}) (string, error) { return "paid", nil }).WithApproval(Approval{Within: 100 * time.Millisecond})
		m, s := scripted(llmtest.Rule{Contains: "go", ToolCalls: calls("pay")}, llmtest.Rule{Text: "done"})
		a := made(t, "pays", Config{Models: m, Tools: []Tool{pay}})
		succeed(t, work(t, open(), a), a, Task{Prompt: "go"})
		if got := s.Calls()[1].Messages[2].Content; !strings.Contains(got, "nobody approved it within 100ms") {
			t.Errorf("the model was told %q", got)
		}
	})
}

func TestWhatIsWrongWithAnAgentIsSaidAtOnce(t *testing.T) {
	m, _ := scripted()
	one := made(t, "one", Config{Models: m})
	two := made(t, "two", Config{Models: m, Handoffs: []*Agent{one}})
	for want, cfg := range map[string]Config{
		"it has no Models":               {},
		`two tools are called "add"`:     {Models: m, Tools: []Tool{adder(t), adder(t)}},
		`tool "x y": a name has 1 to 64`: {Models: m, Tools: []Tool{Func("x y", "", func(context.Context, struct{}) (int, error) { return 0, nil })}},
		`tool "bare" does nothing`:       {Models: m, Tools: []Tool{{Name: "bare"}}},
		`tool "chan": its arguments`:     {Models: m, Tools: []Tool{Func("chan", "", func(context.Context, struct{ C chan int }) (int, error) { return 0, nil })}},
		"must not be negative":           {Models: m, MaxTurns: -1},
		`two agents are called "one"`:    {Models: m, Handoffs: []*Agent{two, made(t, "one", Config{Models: m})}},
	} {
		_, err := NewAgent("wrong", cfg)
		if !errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
