package flow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/llm/openai"
)

// sorting sorts tickets: the queue by a question of its own, and the mood of each in a branch.
func sorting(prompt, values, more string) string {
	return `{"id": "triage", "inputs": {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}, "steps": [
	  {"id": "tidy", "type": "transform", "config": {"set": {"ticket": "variables.text"}}, "next": "classify"},
	  {"id": "classify", "type": "ai-decision", "config": {` + more + `"prompt": "` + prompt + `", "outputFormat": "enum", "allowedValues": ` + values + `}, "next": {"default": "both"}},
	  {"id": "both", "type": "parallel", "config": {"branches": [
	    {"id": "a", "steps": [{"id": "mood", "type": "ai-decision", "config": {"prompt": "Angry? {{variables.ticket}}", "outputFormat": "json", "outputSchema": {"type": "object", "required": ["is", "why"], "properties": {"is": {"type": "string"}, "why": {"type": "string"}}}, "routeOn": "is"}, "next": {"default": "end"}}]},
	    {"id": "b", "steps": [{"id": "quiet", "type": "transform", "config": {"expression": "1 + 1"}, "next": "end"}]}]}, "next": "end"}]}`
}

const (
	askQueue = "Which queue? {{variables.ticket}}"
	askDesk  = "Whose desk? {{variables.ticket}} for {{variables.text}}"
	queues   = `["billing", "technical"]`
)

// oracle is a model behind the wire format of OpenAI that counts what it is asked.
func oracle(t *testing.T) (opt flow.Options, s *llmtest.Scripted) {
	t.Helper()
	in := func(words ...string) func(*llm.Request) bool {
		return func(r *llm.Request) bool {
			for _, word := range words {
				if !strings.Contains(r.Messages[0].Content, word) {
					return false
				}
			}
			return true
		}
	}
	usage := llm.Usage{Input: 100, Output: 10}
	var n atomic.Int64
	s = llmtest.Script(
		llmtest.Rule{When: in("Angry?"), Usage: usage, Answer: func(context.Context, *llm.Request) (*llm.Response, error) {
			return &llm.Response{Text: fmt.Sprintf(`{"is":"calm","why":"reason %d"}`, n.Add(1)), Usage: usage}, nil // another reason each time
		}},
		llmtest.Rule{When: in("Whose desk?", "odd"), Text: "nobody's", Usage: usage},
		llmtest.Rule{When: in("Whose desk?", "rude"), Refusal: "no", Usage: usage},
		llmtest.Rule{When: in("Whose desk?", "refund"), Text: "technical", Usage: usage},
		llmtest.Rule{When: in("Whose desk?"), Text: "technical", Usage: usage},
		llmtest.Rule{When: in("refund"), Text: "billing", Usage: usage},
		llmtest.Rule{Text: "technical", Usage: usage},
	)
	srv := httptest.NewServer(llmtest.Server(s))
	t.Cleanup(srv.Close)
	prices, err := llm.DefaultPrices().With("test", []byte(`{"prices": [{"provider": "test", "model": "m", "input": 1000000, "output": 2000000}, {"provider": "test", "model": "dear", "input": 10000000, "output": 20000000}]}`))
	if err != nil {
		t.Fatal(err)
	}
	models := agent.New(agent.Options{Providers: map[string]llm.Model{"test": openai.New(openai.Options{BaseURL: srv.URL + "/v1", Provider: "test"})}, Prices: prices})
	return flow.Options{Models: models, Model: "test/m", Provider: func(string) string { return "test" }}, s
}

// backtests is a server with the flow and some runs of it.
func backtests(t *testing.T, store pawl.Store, opt flow.Options, texts ...string) *server {
	t.Helper()
	s := serve(t, store, opt)
	if err := s.Register(s.Backtester()); err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{"", "other"} {
		if _, err := s.Deploy(t.Context(), flow.Deployment{Tenant: tenant, Document: []byte(sorting(askQueue, queues, ""))}); err != nil {
			t.Fatal(err)
		}
	}
	for i, text := range texts {
		s.ran(t, "", fmt.Sprintf("r%d", i), text)
	}
	return s
}

func (s *server) ran(t *testing.T, tenant, id, text string) {
	t.Helper()
	in, _ := json.Marshal(map[string]string{"text": text})
	if _, err := s.StartRun(t.Context(), "triage", in, pawl.ID(id), pawl.Tenant(tenant)); err != nil {
		t.Fatal(err)
	}
	if _, err := pawl.Attach[json.RawMessage](s.Engine, id, pawl.Tenant(tenant)).Result(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// plans is a backtest that can be planned.
func (s *server) plans(t *testing.T, q flow.Backtest) (agent.Backtest, agent.Estimate) {
	t.Helper()
	b, e, err := s.PlanBacktest(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return b, e
}

// carries out a backtest.
func (s *server) carries(t *testing.T, b agent.Backtest, budget int64) agent.Report {
	t.Helper()
	in, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	run, err := s.StartRun(t.Context(), flow.Backtests, in, pawl.RunBudget(pawl.USD, budget, false))
	if err != nil {
		t.Fatal(err)
	}
	r, err := pawl.Attach[agent.Report](s.Engine, run.ID).Result(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "the run that asked", r.Run, run.ID)
	return r
}

// A step that is changed in a file is asked with what it saw in each run, and nothing of the runs changes.
func TestBacktestOfAChangedStep(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt, model := oracle(t)
		s := backtests(t, open(), opt, "a refund", "a crash", "an odd refund", "a rude crash", "a refund, again")
		before := entriesOf(t, s, "r0")
		asked := len(model.Calls())
		b, e := s.plans(t, flow.Backtest{Flow: "triage", Step: "classify", Document: []byte(sorting(askDesk, `["billing", "technical", "sales"]`, ""))})
		equal(t, "the estimate", fmt.Sprint(e.Runs, e.Questions, e.Unchanged, e.Absent, e.Unfit, e.Without, e.Models, e.Unpriced), "5 5 0 0 0 0 [test/m] []")
		if e.CostWas != 5*120 || e.Cost <= e.CostWas || e.Cost > 5*400 { // the words that came in addition cost
			t.Errorf("it would cost %d, was %d", e.Cost, e.CostWas)
		}
		equal(t, "asked by the estimate", len(model.Calls())-asked, 0)
		r := s.carries(t, b, 1_000_000)
		equal(t, "counts", fmt.Sprint(r.Runs, r.Asked, r.Same, r.Failed, r.Kinds, r.Unasked), "5 5 1 2 map[invalid:1 refused:1] 0")
		equal(t, "pairs", fmt.Sprint(r.Pairs), "[{billing technical 2} {technical technical 1}]")
		equal(t, "cost was", r.CostWas, 5*120)
		equal(t, "cost is", r.CostIs, (5+2)*120) // two repairs were tried
		equal(t, "tokens", fmt.Sprint(r.TokensWas.Input, r.TokensIs.Input), "500 700")
		for _, d := range r.Decisions {
			if want := map[string]string{"r0": "technical", "r4": "technical"}[d.Run]; want != "" && (d.Was != `"billing"` || d.Is != `"`+want+`"` || d.Same) {
				t.Errorf("%+v", d)
			}
		}
		last := model.Calls()[len(model.Calls())-1]
		if text := last.Messages[0].Content; !strings.Contains(text, "Whose desk?") || !strings.Contains(text, "for ") {
			t.Errorf("it was asked %q", text)
		}
		if schema := string(last.Schema.JSON); !strings.Contains(schema, "sales") {
			t.Errorf("the answer was to be %s", schema)
		}
		for _, want := range []string{"asked 5: 1 the same (20.0 %), 2 changed, 2 failed (1 invalid, 1 refused)", "WAS \\ IS", "r0", "tokens: "} {
			if !strings.Contains(r.String(), want) {
				t.Errorf("no %q in\n%s", want, r)
			}
		}
		equal(t, "entries of a run", entriesOf(t, s, "r0"), before)
	})
}

func entriesOf(t *testing.T, s *server, run string) (out string) {
	t.Helper()
	for e, err := range s.Journal(t.Context(), pawl.Ref{ID: run}) {
		if err != nil {
			t.Fatal(err)
		}
		out += fmt.Sprintln(e.Seq, e.Kind, e.Key, string(e.Data))
	}
	return out
}

// With another model alone, what was recorded is asked. A JSON answer counts by what it routes on, whatever its reasons.
func TestBacktestOfAnotherModel(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt, model := oracle(t)
		s := backtests(t, open(), opt, "a refund", "a crash")
		b, e := s.plans(t, flow.Backtest{Flow: "triage", Step: "mood", Change: agent.Change{Model: "test/dear"}})
		equal(t, "the step's keys", b.Step, "both.a/mood")
		equal(t, "the estimate", fmt.Sprint(e.Questions, e.Cost, e.CostWas, e.Models), "2 2400 240 [test/dear]")
		r := s.carries(t, b, 1_000_000)
		equal(t, "counts", fmt.Sprint(r.Asked, r.Same, r.CostIs, r.CostWas), "2 2 2400 240")
		equal(t, "pairs", fmt.Sprint(r.Pairs), "[{calm calm 2}]")
		_, e = s.plans(t, flow.Backtest{Flow: "triage", Step: "classify", Change: agent.Change{Model: "test/unheard-of"}})
		equal(t, "a price that is not known", fmt.Sprint(e.Unpriced, e.Each, e.Cost), "[test/unheard-of] 100000 200000")
		_, e = s.plans(t, flow.Backtest{Flow: "triage", Step: "classify", Document: []byte(sorting(askQueue, queues, ""))})
		equal(t, "a step that is as it was", fmt.Sprint(e.Questions, e.Unchanged), "2 2")
		equal(t, "all calls so far", len(model.Calls()), 6)
	})
}

// A prompt of the registry is filled in with what the run's variables were.
func TestBacktestOfAPromptOfTheRegistry(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt, model := oracle(t)
		s := backtests(t, open(), opt, "a refund")
		prompts := agent.Prompts{Engine: s.Engine}
		for _, text := range []string{"Which queue? {{ticket}}", "Whose desk? {{ticket}}", "Whose desk? {{absent}}"} {
			if _, err := prompts.Put(t.Context(), agent.Prompt{Name: "sort", Text: text}); err != nil {
				t.Fatal(err)
			}
		}
		b, _ := s.plans(t, flow.Backtest{Flow: "triage", Step: "classify", PromptRef: "sort@2"})
		r := s.carries(t, b, 1_000_000)
		equal(t, "pairs", fmt.Sprint(r.Pairs), "[{billing technical 1}]")
		calls := model.Calls()
		if text := calls[len(calls)-1].Messages[0].Content; !strings.HasPrefix(text, "Whose desk?") || !strings.Contains(text, "a refund") {
			t.Errorf("it was asked %q", text)
		}
		_, e := s.plans(t, flow.Backtest{Flow: "triage", Step: "classify", PromptRef: "sort@3"})
		if e.Questions != 0 || e.Unfit != 1 || !strings.Contains(e.Why, "absent") {
			t.Errorf("a prompt that wants more: %+v", e)
		}
		for ref, want := range map[string]error{"sort@9": pawl.ErrNotFound, "sort@x": pawl.ErrInput, "none@1": pawl.ErrNotFound} {
			if _, _, err := s.PlanBacktest(t.Context(), flow.Backtest{Flow: "triage", Step: "classify", PromptRef: ref}); !errors.Is(err, want) {
				t.Errorf("%s: %v", ref, err)
			}
		}
	})
}

// What is another tenant's is not there: not by the plan, and not by an input that somebody writes himself.
func TestBacktestKeepsToItsTenant(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt, model := oracle(t)
		s := backtests(t, open(), opt, "a refund")
		s.ran(t, "other", "theirs", "a secret refund")
		b, e := s.plans(t, flow.Backtest{Flow: "triage", Step: "classify", Change: agent.Change{Model: "test/dear"}})
		equal(t, "runs", fmt.Sprint(b.Runs, e.Questions), "[{ r0}] 1")
		_, _, err := s.PlanBacktest(t.Context(), flow.Backtest{Flow: "triage", Step: "classify", Runs: []string{"theirs"}, Change: agent.Change{Model: "test/dear"}})
		if !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("a run of others: %v", err)
		}
		asked := len(model.Calls())
		in, _ := json.Marshal(agent.Backtest{Step: "classify", Runs: []pawl.Ref{{Tenant: "other", ID: "theirs"}}, Change: agent.Change{Model: "test/dear"}})
		run, err := s.StartRun(t.Context(), flow.Backtests, in)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := pawl.Attach[agent.Report](s.Engine, run.ID).Result(t.Context()); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("an input of one's own: %v, %v", out, err)
		}
		equal(t, "asked", len(model.Calls())-asked, 0)
	})
}

// The budget ends a backtest with what it has found so far.
func TestBacktestEndsWithItsBudget(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt, model := oracle(t)
		s := backtests(t, open(), opt, "a refund", "a crash", "a refund", "a crash")
		asked := len(model.Calls())
		b, _ := s.plans(t, flow.Backtest{Flow: "triage", Step: "classify", Document: []byte(sorting(askDesk, queues, `"maxTokens": 20, `)), Parallel: 4})
		r := s.carries(t, b, 1100) // for a question about 710 are put aside, and it costs 120: there is enough for one after the other
		equal(t, "with enough", fmt.Sprint(r.Asked, r.Unasked, r.CostIs), "4 0 480")
		r = s.carries(t, b, 1000)
		equal(t, "with too little", fmt.Sprint(r.Asked, r.Unasked, r.CostIs, r.CostWas), "3 1 360 360")
		equal(t, "asked", len(model.Calls())-asked, 7)
		if none := s.carries(t, b, 100); none.Asked != 0 || !strings.Contains(none.String(), "this needs up to $0.0007") {
			t.Errorf("with nearly nothing:\n%s", none)
		}
		if !strings.Contains(r.String(), "the budget had too little left") {
			t.Errorf("the report is\n%s", r)
		}
	})
}

// Questions of which the journal has no words are counted, and so are runs that did not come to the step.
func TestBacktestCountsWhatItCantAsk(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt, _ := oracle(t)
		s := serve(t, open(), opt)
		if err := s.Register(s.Backtester()); err != nil {
			t.Fatal(err)
		}
		// The note of a question of 390,000 bytes, each of six in JSON, has no room for the words.
		s.deploys(t, `{"id": "triage", "inputs": {"type": "object"}, "steps": [
		  {"id": "classify", "type": "ai-decision", "when": "has(variables.text)", "config": {"prompt": "Which queue? {{variables.text}}{{variables.text}}{{variables.text}}", "outputFormat": "enum", "allowedValues": ["billing", "technical"]}, "next": {"default": "end"}}]}`)
		s.ran(t, "", "large", strings.Repeat("\x01", 130_000))
		s.ran(t, "", "plain", "a refund")
		if _, err := s.StartRun(t.Context(), "triage", json.RawMessage(`{}`), pawl.ID("without")); err != nil {
			t.Fatal(err)
		}
		if _, err := pawl.Attach[json.RawMessage](s.Engine, "without").Result(t.Context()); err != nil {
			t.Fatal(err)
		}
		b, e := s.plans(t, flow.Backtest{Flow: "triage", Step: "classify", Change: agent.Change{Model: "test/dear"}})
		equal(t, "the estimate", fmt.Sprint(e.Runs, e.Questions, e.Absent, e.Without), "3 1 1 1")
		r := s.carries(t, b, 1_000_000)
		equal(t, "the report", fmt.Sprint(r.Runs, r.Asked, r.Same, r.Absent, r.Without), "3 1 1 1 1")
	})
}

// What can't be asked is refused before anything is.
func TestBacktestsThatAreRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt, model := oracle(t)
		s := backtests(t, open(), opt)
		other := agent.Change{Model: "test/dear"}
		refused := func(q flow.Backtest, want error, words string) {
			t.Helper()
			if _, _, err := s.PlanBacktest(t.Context(), q); !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), words) {
				t.Errorf("%+v: %v", q, err)
			}
		}
		refused(flow.Backtest{Flow: "triage", Step: "classify", Change: other}, pawl.ErrNotFound, "has had no run yet")
		refused(flow.Backtest{Flow: "triage", Step: "classify", Change: other, Since: time.Now().Add(-time.Hour)}, pawl.ErrNotFound, "no run since")
		s.ran(t, "", "r", "a refund")
		refused(flow.Backtest{Flow: "triage", Step: "clasify", Change: other}, pawl.ErrInput, `did you mean "classify"?`)
		refused(flow.Backtest{Flow: "triage", Step: "tidy", Change: other}, pawl.ErrInput, "only an ai-decision")
		refused(flow.Backtest{Flow: "triage", Step: "classify"}, pawl.ErrInput, "what is asked otherwise")
		refused(flow.Backtest{Flow: "nobody", Step: "classify", Change: other}, pawl.ErrNotFound, "nobody")
		refused(flow.Backtest{Flow: "triage", Step: "classify", Change: agent.Change{Model: "nobody/m"}}, pawl.ErrInput, "nobody/m")
		refused(flow.Backtest{Flow: "triage", Step: "classify", Change: other, Limit: 501}, pawl.ErrInput, "at most 500 runs")
		refused(flow.Backtest{Flow: "triage", Step: "classify", Document: []byte(strings.Replace(sorting(askDesk, queues, ""), `"triage"`, `"other"`, 1))}, pawl.ErrInput, `the flow "other"`)
		var found flow.Problems
		if _, _, err := s.PlanBacktest(t.Context(), flow.Backtest{Flow: "triage", Step: "classify", Document: []byte(sorting(askDesk, `[]`, ""))}); !errors.As(err, &found) {
			t.Errorf("a document with faults: %v", err)
		}
		equal(t, "asked", len(model.Calls()), 2)
	})
}
