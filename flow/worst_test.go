package flow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/pawltest"
	"github.com/pawlrun/pawl/service"
)

// worldOf is what flows of tests can refer to, with the price of one model: 1 dollar for a million tokens asked, 2 for answers.
func worldOf(t testing.TB, opt flow.Options) flow.World {
	return flow.World{Services: opt.Services, Model: opt.Model, Provider: opt.Provider, Price: opt.Models.Price, Unpriced: opt.Models.Unpriced()}
}

func worst(t testing.TB, doc string, children ...string) flow.WorstCase {
	t.Helper()
	opt := options(t, &desk{})
	w := worldOf(t, opt)
	others := map[string]*flow.Flow{}
	w.Child = func(name string) *flow.Flow { return others[name] }
	for _, child := range children {
		f := parse(t, child, opt)
		others[f.ID] = f
	}
	f, err := flow.Parse([]byte(doc), w)
	if err != nil {
		t.Fatal(err)
	}
	return f.WorstCase(w)
}

func many(n *int64) string {
	if n == nil {
		return "any"
	}
	return fmt.Sprint(*n)
}

// The steps of these flows have one attempt where it is not said, and decisions of a text are asked three times for one: the
// answer may be cut off twice.
func TestWhatARunTakesAtMost(t *testing.T) {
	const (
		once = `"retryPolicy":{"maxAttempts":1}`
		ask  = `"type":"ai-decision",` + once + `,"config":{"prompt":"Why?"}`
		send = `"type":"service",` + once + `,"config":{"service":"desk","action":"send","to":"ann"}`
		set  = `"type":"transform","config":{"expression":"1"}`
	)
	const keep = `"type":"transform","config":{"set":{"same":"variables.few"}}`
	answered := func(over, inner string) string { // by four lines of three parts at most
		return `{"id":"q","type":"ai-decision",` + once + `,"config":{"prompt":"?","outputVariable":"q","outputFormat":"json","outputSchema":{"type":"object","properties":{` +
			`"lines":{"type":"array","maxItems":4,"items":{"$ref":"#/$defs/line"}},"other":{"anyOf":[{"type":"array","maxItems":1},{"type":"array"}]}},"$defs":{"line":{"properties":{"parts":{"type":"array","maxItems":3}}}}}},"next":"m"},` +
			`{"id":"m","type":"map","config":{"over":"` + over + `","steps":[{"id":"i",` + inner + `,"next":"end"}]},"next":"end"}`
	}
	child := `{"id":"child","steps":[{"id":"a",` + ask + `,"next":"end"}]}`
	for name, c := range map[string]struct {
		doc      string
		children []string
		steps    string // least-most
		calls    string
		services string
	}{
		"one":          {doc: `{"id":"a",` + ask + `,"next":"end"}`, steps: "1-1", calls: "1-3", services: "0-0"},
		"four tries":   {doc: `{"id":"a","type":"ai-decision","config":{"prompt":"Why?"},"next":"end"}`, steps: "1-1", calls: "1-12", services: "0-0"},
		"repairs":      {doc: `{"id":"a","type":"ai-decision",` + once + `,"config":{"prompt":"Why?","outputFormat":"number"},"next":"end"}`, steps: "1-1", calls: "1-5", services: "0-0"},
		"no repairs":   {doc: `{"id":"a","type":"ai-decision",` + once + `,"config":{"prompt":"Why?","outputFormat":"number","maxRepairs":0},"next":"end"}`, steps: "1-1", calls: "1-3", services: "0-0"},
		"three models": {doc: `{"id":"a","type":"ai-decision",` + once + `,"config":{"prompt":"Why?","models":["m","m","m"]},"next":"end"}`, steps: "1-1", calls: "1-9", services: "0-0"},
		"a cache":      {doc: `{"id":"a","type":"ai-decision",` + once + `,"config":{"prompt":"Why?","cacheTtlMs":1000},"next":"end"}`, steps: "1-1", calls: "0-3", services: "0-0"},
		"a condition":  {doc: `{"id":"a","when":"variables.x == 1",` + ask + `,"next":"end"}`, steps: "1-1", calls: "0-3", services: "0-0"},
		"two ways": {doc: `{"id":"a",` + ask + `,"next":{"x":"b","default":"c"}},{"id":"b",` + ask + `,"next":"c"},{"id":"c",` + send + `,"next":"end"}`,
			steps: "2-3", calls: "1-6", services: "1-1"},
		"a fallback": {doc: `{"id":"a","onFailure":"fallback","fallbackStep":"b",` + ask + `,"next":"end"},{"id":"b",` + send + `,"next":"end"}`, steps: "1-2", calls: "1-3", services: "0-1"},
		"timeout":    {doc: `{"id":"a","type":"wait","config":{"for":"approval","onTimeout":"b"},"next":"end"},{"id":"b",` + ask + `,"next":"end"}`, steps: "1-2", calls: "0-3", services: "0-0"},
		// draft, review, draft, review, draft, review, draft; then review has been visited three times
		"a circle": {doc: `{"id":"draft",` + send + `,"next":"review"},{"id":"review","maxVisits":3,` + ask + `,"next":{"ok":"end","default":"draft"}}`, steps: "2-7", calls: "1-9", services: "1-4"},
		// review, draft three times; a fourth review is too many
		"a circle that counts first":     {doc: `{"id":"review","maxVisits":3,` + ask + `,"next":{"ok":"end","default":"draft"}},{"id":"draft",` + send + `,"next":"review"}`, steps: "1-6", calls: "1-9", services: "0-3"},
		"a step in a circle with itself": {doc: `{"id":"a","maxVisits":5,` + ask + `,"next":{"ok":"end","default":"a"}}`, steps: "1-5", calls: "1-15", services: "0-0"},
		"branches": {doc: `{"id":"p","type":"parallel","config":{"branches":[{"id":"l","steps":[{"id":"a",` + ask + `,"next":"end"}]},{"id":"r","steps":[{"id":"b",` + send + `,"next":"c"},{"id":"c",` + ask + `,"next":"end"}]}]},"next":"end"}`,
			steps: "4-4", calls: "2-6", services: "1-1"},
		"a quorum": {doc: `{"id":"p","type":"parallel","config":{"failureMode":"quorum","quorum":1,"branches":[{"id":"l","steps":[{"id":"a",` + ask + `,"next":"end"}]},{"id":"r","steps":[{"id":"b",` + send + `,"next":"end"}]}]},"next":"end"}`,
			steps: "2-3", calls: "0-3", services: "0-1"},
		// the map, and a decision for each of 100,000 items, whose first pass counts for no limit
		"a map":               {doc: `{"id":"m","type":"map","config":{"over":"variables.all","steps":[{"id":"a",` + ask + `,"next":"end"}]},"next":"end"}`, steps: "1-100001", calls: "0-300000", services: "0-0"},
		"a map of pairs":      {doc: `{"id":"m","type":"map","config":{"over":"variables.all","steps":[{"id":"x",` + set + `,"next":"a"},{"id":"a",` + ask + `,"next":"end"}]},"next":"end"}`, steps: "1-200001", calls: "0-300000", services: "0-0"},
		"a map in a map":      {doc: `{"id":"m","type":"map","config":{"over":"variables.all","steps":[{"id":"n","type":"map","config":{"over":"item","steps":[{"id":"a",` + ask + `,"next":"end"}]},"next":"end"}]},"next":"end"}`, steps: "1-201000", calls: "0-602991", services: "0-0"},
		"a map of a few":      {doc: `{"id":"m","type":"map","config":{"over":"variables.few","steps":[{"id":"a",` + ask + `,"next":"b"},{"id":"b",` + send + `,"next":"end"}]},"next":"end"}`, steps: "1-15", calls: "0-21", services: "0-7"},
		"a map of two lists":  {doc: `{"id":"s",` + keep + `,"next":"m"},{"id":"m","type":"map","config":{"over":"variables.same","steps":[{"id":"a",` + ask + `,"next":"end"}]},"next":"n"},{"id":"n","type":"map","config":{"over":"steps.s.output.same","steps":[{"id":"b",` + ask + `,"next":"end"}]},"next":"end"}`, steps: "3-17", calls: "0-42", services: "0-0"},
		"a map of an answer":  {doc: answered(`steps.q.output.lines`, ask), steps: "2-6", calls: "1-17", services: "0-0"},
		"and by its variable": {doc: answered(`variables.q.lines`, ask), steps: "2-6", calls: "1-17", services: "0-0"},
		"and below its name":  {doc: answered(`stepResults.q.q.lines`, ask), steps: "2-6", calls: "1-17", services: "0-0"},
		"of one alternative":  {doc: answered(`steps.q.output.other`, ask), steps: "2-100002", calls: "1-300005", services: "0-0"},
		// an answer may be skipped, and then a run has what it was started with
		"that may be skipped":         {doc: strings.Replace(answered(`variables.q.lines`, ask), `"id":"q"`, `"id":"q","onFailure":"skip"`, 1), steps: "2-100002", calls: "1-300005", services: "0-0"},
		"or comes too late":           {doc: `{"id":"m","type":"map","config":{"over":"variables.all","steps":[{"id":"x",` + set + `,"next":"end"}]},"next":"q"},{"id":"q","type":"ai-decision",` + once + `,"config":{"prompt":"?","outputVariable":"all","outputFormat":"json","outputSchema":{"type":"array","maxItems":2}},"next":"end"}`, steps: "2-100002", calls: "1-5", services: "0-0"},
		"a map in a map of an answer": {doc: answered(`steps.q.output.lines`, `"type":"map","config":{"over":"item.parts","steps":[{"id":"a",`+ask+`,"next":"end"}]}`), steps: "2-18", calls: "1-41", services: "0-0"},
		"a map of a map":              {doc: `{"id":"m","type":"map","config":{"over":"variables.few","steps":[{"id":"a",` + set + `,"next":"end"}]},"next":"n"},{"id":"n","type":"map","config":{"over":"steps.m.output","steps":[{"id":"b",` + ask + `,"next":"end"}]},"next":"end"}`, steps: "2-16", calls: "0-21", services: "0-0"},
		"what came":                   {doc: `{"id":"w","type":"wait","config":{"for":"webhook","schema":{"type":"object","properties":{"list":{"type":"array","maxItems":3}}}},"next":"m"},{"id":"m","type":"map","config":{"over":"steps.w.output.body.list","steps":[{"id":"a",` + ask + `,"next":"end"}]},"next":"end"}`, steps: "2-5", calls: "0-9", services: "0-0"},
		"what was filled in":          {doc: `{"id":"w","type":"wait","config":{"for":"approval","schema":{"type":"object","properties":{"list":{"type":"array","maxItems":3}}}},"next":"m"},{"id":"m","type":"map","config":{"over":"steps.w.output.form.list","steps":[{"id":"a",` + ask + `,"next":"end"}]},"next":"end"}`, steps: "2-5", calls: "0-9", services: "0-0"},
		"what a service has":          {doc: `{"id":"s",` + strings.Replace(send, "send", "look", 1) + `,"next":"m"},{"id":"m","type":"map","config":{"over":"steps.s.output.rows","steps":[{"id":"a",` + ask + `,"next":"end"}]},"next":"end"}`, steps: "2-8", calls: "0-18", services: "1-1"},
		"what was asked for":          {doc: `{"id":"s","type":"service",` + once + `,"config":{"service":"desk","action":"look","n":5},"next":"m"},{"id":"m","type":"map","config":{"over":"steps.s.output.some","steps":[{"id":"a",` + ask + `,"next":"end"}]},"next":"end"}`, steps: "2-7", calls: "0-15", services: "1-1"},
		"what a start asks for":       {doc: `{"id":"s","type":"service",` + once + `,"config":{"service":"desk","action":"look","n":"{{variables.x}}"},"next":"m"},{"id":"m","type":"map","config":{"over":"steps.s.output.some","steps":[{"id":"a",` + ask + `,"next":"end"}]},"next":"end"}`, steps: "2-100002", calls: "0-300000", services: "1-1"},
		// which makes it no longer, but is not looked through
		"a list of itself": {doc: `{"id":"x","type":"transform","config":{"set":{"few":"variables.few"}},"next":"m"},{"id":"m","type":"map","config":{"over":"variables.few","steps":[{"id":"a",` + ask + `,"next":"end"}]},"next":"end"}`, steps: "2-100002", calls: "0-300000", services: "0-0"},
		"a child":          {doc: `{"id":"k","type":"workflow","config":{"workflow":"child"},"next":"l"},{"id":"l","type":"workflow","config":{"workflow":"child"},"next":"end"}`, children: []string{child}, steps: "2-2", calls: "2-6", services: "0-0"},
		"an unknown child": {doc: `{"id":"k","type":"workflow","config":{"workflow":"other"},"next":"end"}`, steps: "1-1", calls: "0-any", services: "0-any"},
		"itself":           {doc: `{"id":"k",` + ask + `,"next":{"x":"end","default":"l"}},{"id":"l","type":"workflow","config":{"workflow":"f"},"next":"end"}`, steps: "1-2", calls: "1-any", services: "0-any"},
		// two turns with eight attempts each
		"an agent":            {doc: `{"id":"a","type":"agent","config":{"instructions":"Help.","maxTurns":2},"next":"end"}`, steps: "1-1", calls: "1-48", services: "0-0"},
		"an agent with tools": {doc: `{"id":"a","type":"agent","config":{"instructions":"Help.","maxTurns":2,"tools":["desk.look"]},"next":"end"}`, steps: "1-1", calls: "1-48", services: "0-any"},
	} {
		t.Run(name, func(t *testing.T) {
			w := worst(t, `{"id":"f","inputs":{"type":"object","required":["x","all","few"],"properties":{"x":{},"all":{"type":"array"},"few":{"type":"array","maxItems":7}}},"steps":[`+c.doc+`]}`, c.children...)
			said := func(r flow.Range) string { return fmt.Sprintf("%d-%s", r.Least, many(r.Most)) }
			equal(t, "steps", said(w.Steps), c.steps)
			equal(t, "model calls", said(w.ModelCalls), c.calls)
			equal(t, "service calls", said(w.ServiceCalls), c.services)
			equal(t, "what has no bound is told", len(w.Open) > 0, strings.Contains(c.calls+c.services, "any"))
		})
	}
}

func TestWhatARunCostsAtMost(t *testing.T) {
	const doc = `{"id":"f","limits":{"maxCostUsd":%s},"steps":[{"id":"a","type":"ai-decision","retryPolicy":{"maxAttempts":1},"config":{"model":%q,"prompt":"Why?","maxTokens":1000},"next":"end"}]}`
	// 1,000, 2,000 and 4,000 tokens, at two dollars for a million
	w := worst(t, fmt.Sprintf(doc, "0.5", "m"))
	equal(t, "tokens", many(w.OutputTokens.Most), "7000")
	equal(t, "answers", many(w.Cost.Answers), "14000")
	equal(t, "most", many(w.Cost.Most), "500000")
	equal(t, "said", w.Summary, "at most 3 model calls, no service calls, 1 step; at most $0.50 (limits.maxCostUsd), of which answers are at most $0.014")
	if n := w.Cost.Needed; n < 2000 || n > 2200 { // 1,000 tokens of an answer, and the question
		t.Errorf("%d micro-USD are needed, want a little more than 2000", n)
	}
	equal(t, "steps", len(w.PerStep), 1)
	equal(t, "the step", w.PerStep[0].Step+" "+many(w.PerStep[0].ModelCalls)+" "+w.PerStep[0].Pointer, "a 3 /steps/0")

	w = worst(t, fmt.Sprintf(doc, "0.01", "m"))
	equal(t, "said of a low limit", w.Summary, "at most 3 model calls, no service calls, 1 step; at most $0.01 (limits.maxCostUsd), without that limit $0.014 for the answers alone")
	w = worst(t, fmt.Sprintf(doc, "0.5", "strange"))
	equal(t, "said of a model without a price", w.Summary, "at most 3 model calls, no service calls, 1 step; at most $0.50 (limits.maxCostUsd), with $0.10 assumed for each call of test/strange, whose price is not known")
	equal(t, "answers of it", many(w.Cost.Answers), "any")
	w = worst(t, `{"id":"f","steps":[{"id":"a","type":"transform","config":{"expression":"1"},"next":"end"}]}`)
	equal(t, "said of no calls", w.Summary, "at most no model calls, no service calls, 1 step; it costs nothing")
}

func TestJ54_modelsWithoutPriceAndLimitsThatAreTooLowAreWarnedOf(t *testing.T) {
	opt := options(t, &desk{})
	warned := func(doc string) string {
		f, err := flow.Parse([]byte(doc), worldOf(t, opt))
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, p := range f.Warnings {
			all = append(all, p.String())
		}
		return strings.Join(all, "\n")
	}
	said := warned(`{"id":"f","steps":[{"id":"a","type":"ai-decision","config":{"model":"acme/strange","prompt":"Why?"},"next":"end"}]}`)
	for _, want := range []string{"/steps/0/config/model", "what the model acme/strange costs is not known: $0.10"} {
		if !strings.Contains(said, want) {
			t.Errorf("warned %q, want %q in it", said, want)
		}
	}
	// An answer may have 1,000 tokens at two dollars for a million.
	const low = `{"id":"f","limits":{"maxCostUsd":%s},"steps":[{"id":"a","type":"ai-decision","config":{"prompt":"Why?","maxTokens":1000}%s,"next":"end"}]}`
	if said := warned(fmt.Sprintf(low, "0.0015", "")); !strings.Contains(said, "/limits/maxCostUsd: a run in which nothing fails can't come to its end") {
		t.Errorf("warned %q of a limit that is too low", said)
	}
	equal(t, "warned of one that is not", warned(fmt.Sprintf(low, "0.01", "")), "")
	if said := warned(fmt.Sprintf(low, "0.0015", `,"onFailure":"skip"`)); said == "" { // what lacks money ends the run
		t.Error("not warned of a step that is skipped where it fails")
	}
	equal(t, "warned of a step that may be skipped", warned(fmt.Sprintf(low, "0.0015", `,"when":"executionId == 'x'"`)), "")
	_, err := outcome(t, fmt.Sprintf(low, "0.0015", ""), `{}`, opt)
	if err == nil {
		t.Error("a run completed that was said not to")
	}
}

// randomFlow writes a flow by chance: ways back, branches, maps, failures, conditions.
func randomFlow(r *rand.Rand) string {
	n := 0
	var graph func(depth int) string
	graph = func(depth int) string {
		size := 1 + r.IntN(4)
		first := n
		n += size
		var steps []string
		for i := range size {
			id := func(i int) string {
				if i >= size {
					return "end"
				}
				return fmt.Sprintf("s%d", first+i)
			}
			forward := id(i + 1)
			counts, other := "", fmt.Sprintf("%q", forward)
			if r.IntN(3) == 0 { // a way back, or on
				other = fmt.Sprintf(`[{"when":"executionId.size() %% %d == %d","to":%q},{"to":%q}]`, 2+r.IntN(3), r.IntN(2), id(r.IntN(size)), forward)
			}
			counts = fmt.Sprintf(`"maxVisits":%d,`, 1+r.IntN(3)) // every step: a way back is always allowed
			failure := ""
			if i+1 < size && r.IntN(3) == 0 {
				failure = fmt.Sprintf(`"onFailure":"fallback","fallbackStep":%q,`, forward)
			} else if r.IntN(3) == 0 {
				failure = `"onFailure":"skip",`
			}
			retry := fmt.Sprintf(`"retryPolicy":{"maxAttempts":%d,"backoffMs":1},`, 1+r.IntN(3))
			head := fmt.Sprintf(`{"id":%q,"next":%s,%s%s`, id(i), other, counts, failure)
			switch kind := r.IntN(6); {
			case kind == 0 && depth < 2:
				head += fmt.Sprintf(`"type":"map","config":{"over":"[1,2,3]","failureMode":"continue","steps":[%s]}`, graph(depth+1))
			case kind == 1 && depth < 2:
				head += fmt.Sprintf(`"type":"parallel","config":{"failureMode":"continue","branches":[{"id":"l","steps":[%s]},{"id":"r","steps":[%s]}]}`, graph(depth+1), graph(depth+1))
			case kind == 2:
				head += retry + `"type":"service","config":{"service":"desk","action":"look"}`
			case kind == 3:
				head += retry + `"type":"ai-decision","config":{"prompt":"Why?"}`
			default:
				head += retry + fmt.Sprintf(`"type":"ai-decision","config":{"models":["m","n"],"prompt":"Why?","outputFormat":"number","maxRepairs":%d}`, r.IntN(3))
			}
			steps = append(steps, head+"}")
		}
		return strings.Join(steps, ",")
	}
	return fmt.Sprintf(`{"id":"f","limits":{"maxSteps":%d,"maxCostUsd":1000},"steps":[%s]}`, 5+r.IntN(60), graph(0))
}

// unsure answers by chance: cut off, of no shape, overloaded, or well.
type unsure struct {
	calls, tokens atomic.Int64
	r             *rand.Rand
}

func (u *unsure) Generate(_ context.Context, q *llm.Request) (*llm.Response, error) {
	u.calls.Add(1)
	u.tokens.Add(int64(q.MaxTokens))
	res := &llm.Response{Text: "1", Finish: llm.FinishStop, Usage: llm.Usage{Input: 1, Output: 1}}
	switch u.r.IntN(5) {
	case 0:
		res.Finish = llm.FinishLength
	case 1:
		res.Text = "one"
	case 2, 3:
		return nil, &llm.Error{Kind: llm.Unavailable, Message: "down"}
	}
	return res, nil
}

func TestNoRunGoesBeyondItsWorstCase(t *testing.T) {
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(seed, 7))
		doc := randomFlow(r)
		model := &unsure{r: rand.New(&locked{src: rand.NewPCG(seed, 8)})}
		prices, err := (&llm.Prices{}).With("test", []byte(`{"prices": [{"provider": "test", "model": "*", "input": 1000000, "output": 2000000}]}`))
		if err != nil {
			t.Fatal(err)
		}
		d := &desk{fail: func(string) error {
			if model.r.IntN(2) == 0 {
				return &service.Error{Code: service.Unavailable, Message: "down"}
			}
			return nil
		}}
		var steps atomic.Int64
		opt := flow.Options{Models: agent.New(agent.Options{Providers: map[string]llm.Model{"test": model}, Prices: prices, Breaker: agent.NewBreaker(&agent.BreakerOptions{Failures: 1 << 30})}), Model: "test/m",
			Breaker:  agent.NewBreaker(&agent.BreakerOptions{Failures: 1 << 30}),
			Provider: func(string) string { return "test" }, Services: service.Set{"desk": d},
			Trace: func(string) func(flow.Passage) {
				return func(p flow.Passage) {
					if !p.Over {
						steps.Add(1)
					}
				}
			}}
		f, err := flow.Parse([]byte(doc), worldOf(t, opt))
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, doc)
		}
		w := f.WorstCase(worldOf(t, opt))
		wf := flow.Define(f, opt)
		pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
			_, _ = pawltest.ResultError(h, pawltest.Start(h, wf, flow.Variables{}, pawl.ID("r"+strings.Repeat("x", int(seed)%5))))
		}, wf)
		for what, n := range map[string][2]int64{
			"model calls": {model.calls.Load(), *w.ModelCalls.Most}, "tokens": {model.tokens.Load(), *w.OutputTokens.Most},
			"service calls": {int64(len(d.said())), *w.ServiceCalls.Most}, "steps": {steps.Load(), *w.Steps.Most},
		} {
			if n[0] > n[1] {
				t.Errorf("seed %d: %d %s, at most %d were said\n%s", seed, n[0], what, n[1], doc)
			}
		}
	}
}

func TestTheWorstCaseOfALongFlowIsFoundAtOnce(t *testing.T) {
	w := worldOf(t, options(t, &desk{}))
	best := func(n int) time.Duration {
		doc := stepsOf(n, func(i int) string { // pairs that lead back
			return fmt.Sprintf(`{"id":"a%d","type":"ai-decision","maxVisits":3,"config":{"prompt":"?"},"next":{"x":"a%d","default":%q}}`, i, i/2*2, then(i, n))
		})
		f, err := flow.Parse([]byte(doc), w)
		if err != nil {
			t.Fatal(err)
		}
		best := time.Hour
		for range 7 {
			began := time.Now()
			f.WorstCase(w)
			best = min(best, time.Since(began))
		}
		return best
	}
	short, long := best(1000), best(4000)
	t.Logf("1,000 steps: %v, 4,000: %v", short, long)
	if long > 10*short { // what grows with the length takes 4 times as long, what grows with its square 16 times
		t.Errorf("1,000 steps take %v, and 4,000 take %v", short, long)
	}
}

func TestSumsEndAtTheEnd(t *testing.T) {
	inner := `{"id":"a","type":"ai-decision","maxVisits":1000000,"retryPolicy":{"maxAttempts":1000},"config":{"prompt":"Why?","maxTokens":1000000},"next":{"ok":"end","default":"a"}}`
	for i := range 6 {
		inner = fmt.Sprintf(`{"id":"m%d","type":"map","config":{"over":"[1]","steps":[%s]},"next":"end"}`, i, inner)
	}
	w := worst(t, `{"id":"f","limits":{"maxSteps":1000000},"steps":[`+inner+`]}`)
	data, err := json.Marshal(w)
	if err != nil || strings.Contains(string(data), "-") && strings.Contains(string(data), `:-`) {
		t.Errorf("a number is negative: %s %v", data, err)
	}
	equal(t, "steps", many(w.Steps.Most), "1600000")
}

// locked is a source of chance for several goroutines.
type locked struct {
	mu  sync.Mutex
	src rand.Source
}

func (l *locked) Uint64() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.src.Uint64()
}
