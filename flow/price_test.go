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

// shown is a value as people see it.
func shown(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// holds looks for words in what people see.
func holds(t *testing.T, what, in string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(in, word) {
			t.Errorf("%s: there is no %s in %s", what, word, in)
		}
	}
}

// silent is a model whose answers do not say what they used, but to what is known.
type silent struct{ llm.Model }

func (m silent) Generate(ctx context.Context, q *llm.Request) (*llm.Response, error) {
	res, err := m.Model.Generate(ctx, q)
	if err == nil && !strings.Contains(q.Messages[len(q.Messages)-1].Content, "known") {
		res.Usage = llm.Usage{}
	}
	return res, err
}

// silently are options with a model that is silent.
func silently(t *testing.T, rules ...llmtest.Rule) (flow.Options, *llmtest.Scripted) {
	t.Helper()
	opt, model := counted(t, &desk{}, rules...)
	prices, err := llm.DefaultPrices().With("test", []byte(`{"prices": [{"provider": "test", "model": "m", "input": 1000000, "output": 2000000}]}`))
	if err != nil {
		t.Fatal(err)
	}
	opt.Models = agent.New(agent.Options{Providers: map[string]llm.Model{"test": silent{model}}, Prices: prices})
	return opt, model
}

// The cost of a model without a price is not known, and neither is that of an answer without usage: whoever looks is shown null,
// and apart from it what budgets count. No price is made up, and nothing is shown as free.
func TestJ54_whatIsNotKnownIsShownAsUnknown(t *testing.T) {
	for name, test := range map[string]struct {
		options func(*testing.T, ...llmtest.Rule) (flow.Options, *llmtest.Scripted)
		model   string
		assumed func(string) bool
		tokens  bool
	}{
		"no price": {func(t *testing.T, rules ...llmtest.Rule) (flow.Options, *llmtest.Scripted) {
			return counted(t, &desk{}, rules...)
		}, "test/unheard-of", func(n string) bool { return n == "100000" }, true},
		"no usage": {silently, "test/m", func(n string) bool { return len(n) == 4 && n > "2000" && n < "2200" }, false}, // the most that 1,000 tokens, and the question, can cost
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() pawl.Store) {
				opt, model := test.options(t, llmtest.Rule{Text: "x", Usage: thousand})
				s := serve(t, open(), opt)
				known := strings.Replace(ask("k", `"a"`, `, "maxTokens": 1000`), `"prompt": "`, `"prompt": "known `, 1)
				x := s.after(t, of(known, ask("a", `"out"`, `, "model": "`+test.model+`", "maxTokens": 1000`),
					tells("out", "[string(steps.a.cost == null), steps.k.cost, string(costAccumulator > steps.k.cost)]")), `{}`)
				equal(t, "calls", len(model.Calls()), 2)
				equal(t, "seen by the flow", string(x.Output), `["true",0.002,"true"]`)
				assumed := fmt.Sprint(x.AssumedMicroUSD)
				if !test.assumed(assumed) {
					t.Fatalf("budgets count %s", assumed)
				}
				counts := func(known int64) string {
					return fmt.Sprintf(`"countedMicroUsd":%d,"assumedMicroUsd":%s`, known+x.AssumedMicroUSD, assumed)
				}
				holds(t, "execution", shown(t, x), `"costAccumulator":null,"costMicroUsd":null,`+counts(2000))
				a := x.StepResults["a"]
				holds(t, "step", shown(t, a), `"cost":null,"costMicroUsd":null,`+counts(0))
				holds(t, "call", shown(t, a.Attempts[0].Calls[0]), `"costMicroUsd":null,`+counts(0))
				if got := strings.Contains(shown(t, a), `"tokenUsage"`); got != test.tokens || got != (a.TokenUsage != nil) || got != (a.Attempts[0].Calls[0].TokenUsage != nil) {
					t.Errorf("tokens are told: %v, want %v: %s", got, test.tokens, shown(t, a))
				}
				holds(t, "the other step", shown(t, x.StepResults["k"]), `"cost":0.002,"costMicroUsd":2000,"countedMicroUsd":2000,"assumedMicroUsd":0`)
				m, err := s.Metrics(t.Context(), "", "f", flow.Span{})
				if err != nil {
					t.Fatal(err)
				}
				nulls := `"totalCost":null,"totalCostUsd":null,"totalCostMicroUsd":null,"avgCostPerExecution":null,"avgCostMicroUsd":null,"openMicroUsd":0,` + counts(2000)
				holds(t, "metrics", strings.Replace(shown(t, m), nulls, "", 1), nulls) // in all, and of the last day
				c, err := s.Registry.Costs(t.Context(), "", "f", flow.Span{})
				if err != nil {
					t.Fatal(err)
				}
				holds(t, "costs", shown(t, c), `"totalCost":null,"totalCostUsd":null,"totalCostMicroUsd":null,`+counts(2000))
				holds(t, "costs of the step", shown(t, c.CostByStep["a"]), `"totalCost":null,"totalCostUsd":null,"totalCostMicroUsd":null,"avgCost":null,"avgCostMicroUsd":null,`+counts(0))
				holds(t, "costs of the other", shown(t, c.CostByStep["k"]), `"totalCost":"$0.0020","totalCostUsd":0.002,"totalCostMicroUsd":2000,"avgCost":"$0.0020","avgCostMicroUsd":2000`)
				equal(t, "in words", x.SayCost(), "$0.0020 + unknown ("+flow.Dollars(x.AssumedMicroUSD)+" assumed)")
				equal(t, "of the step", a.SayCost(), "unknown ("+flow.Dollars(x.AssumedMicroUSD)+" assumed)")
			})
		})
	}
}

// What is not known counts for limits as much as it can be: a run does not go beyond its maxCostUsd because nobody says what it costs.
func TestJ54_whatIsNotKnownCountsForLimits(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt, model := silently(t, llmtest.Rule{Text: "x"})
		s := serve(t, open(), opt)
		short := `, "maxTokens": 1000`
		x := s.after(t, strings.Replace(of(ask("a", `"b"`, short), ask("b", `"c"`, short), ask("c", end, short)), `"steps"`, `"limits": {"maxCostUsd": 0.0055}, "steps"`, 1), `{}`)
		because(t, x, "cost_limit", "step c would go over maxCostUsd: 0.0055: ")
		equal(t, "calls", len(model.Calls()), 2)
	})
}
