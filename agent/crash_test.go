package agent

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/pawltest"
)

// An agent with 30 tool calls, killed before and after every second of its commits: what it
// comes to is the same, and no call that was recorded is made again.
func TestAnAgentSurvivesCrashes(t *testing.T) {
	var effects pawltest.Effects
	m := New(Options{Model: "scripted/m", Providers: map[string]llm.Model{"scripted": llmtest.Script(
		llmtest.Rule{When: func(r *llm.Request) bool { return len(r.Messages) < 40 }, Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
			var out []llm.ToolCall
			for i := range 3 {
				out = append(out, llm.ToolCall{ID: fmt.Sprint("call-", len(r.Messages), "-", i), Name: "add", Arguments: fmt.Sprintf(`{"a":%d,"b":%d}`, len(r.Messages), i)})
			}
			return &llm.Response{ToolCalls: out}, nil
		}},
		llmtest.Rule{Text: "done"},
	)}})
	a := made(t, "crashes", Config{Models: m, Tools: []Tool{Func("add", "", func(ctx context.Context, in sum) (int, error) {
		effects.Do(ctx, fmt.Sprint("add ", in))
		return in.A + in.B, nil
	})}})
	pawltest.CrashEverywhere(t, a.Workflow, Task{Prompt: "go"}, pawltest.WithEffects(&effects), pawltest.EveryNth(2), pawltest.WithLimit(time.Hour))
}

// Money over a crash at each commit: nothing is reserved for ever but what was under way.
func TestACallSurvivesACrashAtEachCommit(t *testing.T) {
	m, _ := scripted(llmtest.Rule{Text: "yes"})
	w := pawl.Define("asks", func(c *pawl.Context, _ struct{}) (string, error) {
		return Decide(c, m, "ask", Call{Prompt: "?"}, []string{"yes", "no"})
	}, pawl.RunBudget(pawl.USD, 1_000_000, true))
	pawltest.CrashEverywhere(t, w, struct{}{})
}
