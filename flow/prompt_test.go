package flow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

// A decision asks a prompt of the registry, of the version that it names or that is active; what it is filled in with stands between marks.
func TestADecisionAsksAPromptOfTheRegistry(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		asked := make(chan string, 1)
		opt := options(t, &desk{}, llmtest.Rule{Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
			asked <- r.Messages[len(r.Messages)-1].Content
			return &llm.Response{Text: "fine"}, nil
		}})
		s := serve(t, open(), opt)
		prompts := agent.Prompts{Engine: s.Engine}
		doc := func(ref, more string) []byte {
			return []byte(`{"id": "asks", "steps": [{"id": "a", "type": "ai-decision", "config": {"promptRef": "` + ref + `"` + more + `}, "next": "end"}]}`)
		}
		refused := func(ref, more, want string) {
			t.Helper()
			if _, err := s.Deploy(t.Context(), flow.Deployment{Document: doc(ref, more)}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s%s: the error is %v, want %q", ref, more, err, want)
			}
		}
		refused("greet", "", "greet")
		for _, text := range []string{"one {{who}}", "two {{who}}"} {
			if _, err := prompts.Put(t.Context(), agent.Prompt{Name: "greet", Text: text}); err != nil {
				t.Fatal(err)
			}
		}
		refused("greet", "", `no version of prompt "greet" is active`)
		if _, err := prompts.Activate(t.Context(), "greet", agent.Activation{Weights: map[int]int{2: 1}}); err != nil {
			t.Fatal(err)
		}
		refused("greet@9", "", "9")
		refused("greet", `, "vars": {"whom": "x"}`, `needs the variable "who"`)
		for _, test := range []struct{ ref, vars, want string }{
			{"greet", "", "two <untrusted-"}, {"greet@1", "", "one <untrusted-"},
			{"greet@1", `, "vars": {"who": "{{variables.who | trusted}}"}`, "one ann"}, {"greet@1", `, "vars": {"who": "bob"}`, "one bob"},
		} {
			s.deploys(t, string(doc(test.ref, test.vars)))
			run, err := s.StartRun(t.Context(), "asks", json.RawMessage(`{"who": "ann", "more": 1}`))
			if err != nil {
				t.Fatal(err)
			}
			if out, err := pawl.Attach[json.RawMessage](s.Engine, run.ID).Result(t.Context()); err != nil || string(out) != `"fine"` {
				t.Errorf("%s: %s, %v", test.ref, out, err)
			}
			if got := <-asked; !strings.HasPrefix(got, test.want) {
				t.Errorf("%s%s asks %q, want %q", test.ref, test.vars, got, test.want)
			}
		}
		// A weighted A/B: each run says which version it has asked, and has asked that.
		if _, err := prompts.Activate(t.Context(), "greet", agent.Activation{Weights: map[int]int{1: 1, 2: 1}}); err != nil {
			t.Fatal(err)
		}
		s.deploys(t, string(doc("greet", "")))
		used := map[int]int{}
		for i := range 12 {
			run, err := s.StartRun(t.Context(), "asks", json.RawMessage(`{"who": "ann"}`), pawl.ID(fmt.Sprint("ab", i)))
			if err != nil {
				t.Fatal(err)
			}
			x := s.ended(t, run.ID)
			use := x.StepResults["a"].Attempts[0].Calls[0].Prompt
			if got := <-asked; use == nil || use.Name != "greet" || !strings.HasPrefix(got, []string{"", "one ", "two "}[use.Version]) {
				t.Fatalf("%q was asked, and on record is %+v", got, use)
			}
			used[use.Version]++
		}
		if used[1] == 0 || used[2] == 0 {
			t.Errorf("of two versions with the same weight were asked %v", used)
		}
	})
}
