package llm_test

import (
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl/llm"
)

var day = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)

// table returns a table of these entries alone.
func table(t *testing.T, entries string) *llm.Prices {
	t.Helper()
	p, err := (&llm.Prices{}).With("table.json", []byte(`{"prices":[`+entries+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestTheBuiltInTable: every entry says where its numbers are from, and some are as the
// pages of the providers say.
func TestTheBuiltInTable(t *testing.T) {
	data, err := os.ReadFile("prices.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Prices []struct{ Provider, Model, Source, Checked string }
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	for _, e := range file.Prices {
		checked, err := time.Parse(time.DateOnly, e.Checked)
		if err != nil || checked.After(time.Now()) || !strings.HasPrefix(e.Source, "https://") {
			t.Errorf("%s %s has the source %q, checked %q; want an address and a day that has been", e.Provider, e.Model, e.Source, e.Checked)
		}
		if _, ok := llm.DefaultPrices().Of(e.Provider, e.Model, day); !ok {
			t.Errorf("%s %s has no price on %v", e.Provider, e.Model, day)
		}
	}
	for _, c := range []struct {
		provider, model string
		usage           llm.Usage
		want            int64
	}{
		{"openai", "gpt-4o-mini", llm.Usage{Input: 1_000_000, Output: 1_000_000}, 750_000},
		{"openai", "gpt-4o-mini-2024-07-18", llm.Usage{Input: 1_000_000, Cached: 1_000_000}, 75_000},
		{"openai", "text-embedding-3-small", llm.Usage{Input: 10}, 1}, // 0.2 micro-USD, rounded up
		{"anthropic", "claude-opus-4-5-20251101", llm.Usage{Input: 3_000_000, Cached: 1_000_000, CacheWrites: 1_000_000, Output: 1_000_000}, 5_000_000 + 500_000 + 6_250_000 + 25_000_000},
		{"anthropic", "claude-haiku-5-5", llm.Usage{Input: 100_000, Output: 10_000}, 15_000},
		{"anthropic", "claude-haiku-5-5", llm.Usage{Input: 100_001, Output: 10_000}, 75_001},
	} {
		if got, known := llm.DefaultPrices().Cost(c.provider, c.model, day, c.usage); !known || got != c.want {
			t.Errorf("%s %s: %+v costs %d, %v; want %d", c.provider, c.model, c.usage, got, known, c.want)
		}
	}
}

func TestWhatIsNotKnownIsNotGuessed(t *testing.T) {
	p := table(t, `{"provider":"a","model":"m","from":"2026-02-01","input":1000,"output":1000},{"provider":"a","model":"free","input":0,"output":0}`)
	used := llm.Usage{Input: 1}
	for _, c := range []struct {
		what            string
		provider, model string
		at              time.Time
		usage           llm.Usage
	}{
		{"another provider", "b", "m", day, used},
		{"another model", "a", "m-mini", day, used},
		{"a model that only begins so", "a", "m-2026", day, used},
		{"a time before the first price", "a", "m", time.Date(2026, 1, 31, 23, 59, 59, 0, time.UTC), used},
		{"a usage that the provider did not tell", "a", "m", day, llm.Usage{}},
	} {
		if cost, known := p.Cost(c.provider, c.model, c.at, c.usage); known || cost != 0 {
			t.Errorf("%s costs %d, %v; want it not to be known", c.what, cost, known)
		}
	}
	if most, known := p.Most("a", "m", day, 10, 0); known || most != 0 {
		t.Errorf("without a limit of what is written the most is %d, %v; want it not to be known", most, known)
	}
	if most, known := p.Most("a", "free", day, 10, 0); !known || most != 0 {
		t.Errorf("what is free costs at most %d, %v", most, known)
	}
}

func TestThePriceIsThatOfTheTimeOfTheCall(t *testing.T) {
	p := table(t, `{"provider":"a","model":"m","from":"2026-06-01","input":3000000,"output":0},
		{"provider":"a","model":"m","input":1000000,"output":0},
		{"provider":"a","model":"m","from":"2026-03-01","input":2000000,"output":0}`)
	for _, c := range []struct {
		at   time.Time
		want int64
	}{
		{time.Time{}, 1},
		{time.Date(2026, 2, 28, 23, 59, 59, 999, time.UTC), 1},
		{time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), 2},
		{time.Date(2026, 3, 1, 0, 30, 0, 0, time.FixedZone("east", 3600)), 1}, // in UTC it is February
		{time.Date(2026, 5, 31, 0, 0, 0, 0, time.UTC), 2},
		{time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), 3},
	} {
		if got, known := p.Cost("a", "m", c.at, llm.Usage{Input: 1}); !known || got != c.want {
			t.Errorf("at %v a token costs %d, %v; want %d", c.at, got, known, c.want)
		}
	}
}

func TestNamesOfModels(t *testing.T) {
	p := table(t, `{"provider":"a","model":"m","input":1000000,"output":0},
		{"provider":"a","model":"m-2026-01-01","input":2000000,"output":0},
		{"provider":"a","model":"m-big*","input":3000000,"output":0},
		{"provider":"a","model":"m-*","input":4000000,"output":0}`)
	for model, want := range map[string]int64{
		"m": 1, "m-2026-02-02": 1, "m-20260202": 1, "m@20260202": 1, "m-latest": 1,
		"m-2026-01-01": 2,
		"m-bigger":     3, "m-big-2026-02-02": 3,
		"m-small": 4, "m-2026": 4,
	} {
		if got, known := p.Cost("a", model, day, llm.Usage{Input: 1}); !known || got != want {
			t.Errorf("%s costs %d, %v; want %d", model, got, known, want)
		}
	}
	if _, known := p.Of("b", "m-small", day); known {
		t.Error("a name that is left open fits another provider's models")
	}
}

func TestAFileGoesBeforeTheTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "prices.json")
	if err := os.WriteFile(file, []byte(`{"note":"ours","prices":[{"provider":"openai","model":"gpt-5.5","from":"2026-05-01","input":1000000,"output":0,"source":"contract"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := llm.LoadPrices(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, known := p.Cost("openai", "gpt-5.5", day, llm.Usage{Input: 300_000, Cached: 300_000}); !known || got != 300_000 {
		t.Errorf("got %d, %v; want the file's price, also for long prompts and what is cached", got, known)
	}
	if _, known := p.Of("openai", "gpt-5.5", time.Date(2026, 4, 30, 0, 0, 0, 0, time.UTC)); known {
		t.Error("before the file's first day the table's price is taken")
	}
	if _, known := p.Of("openai", "gpt-4o", day); !known {
		t.Error("the table's other models are gone")
	}
	if got, _ := llm.DefaultPrices().Cost("openai", "gpt-5.5", day, llm.Usage{Input: 1_000}); got != 5_000 {
		t.Errorf("the built-in table was changed: %d", got)
	}
	if _, err := llm.LoadPrices(file + ".none"); err == nil || !strings.Contains(err.Error(), "prices.json.none") {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestMistakesInAFileAreNamedWithTheirPlace(t *testing.T) {
	const good = `{"provider":"a","model":"m","input":2500000,"output":0}`
	for _, c := range []struct{ data, says string }{
		{``, "p.json:1: not JSON: unexpected EOF"},
		{`[]`, `p.json: prices are an object`},
		{"{\n \"price\": []}", `p.json:2: unknown field "price"`},
		{`{"prices": {}}`, "p.json:1: prices is not a list"},
		{`{"note": 1}`, "note is not a text"},
		{"{\"prices\": [\n" + good + ",\n{]}", "p.json:3: not JSON"},
		{"{\"prices\": [" + good, "not JSON"},
		{`{"prices": [` + good + `]} {}`, "something after the end"},
		{"{\"prices\": [\n\n" + strings.Replace(good, "input", "imput", 1) + "]}", `p.json:3: price 1: json: unknown field "imput"; the fields are provider, model`},
		{`{"prices": [{"provider":"a","model":"m","input":2.5,"output":0}]}`, "whole micro-USD"},
		{`{"prices": [{"provider":"a","model":"m","input":3,"output":0}]}`, "input is 3, which cannot be micro-USD for a million tokens; write $2.50 as 2500000"},
		{`{"prices": [{"provider":"a","model":"m","input":2000000000000,"output":0}]}`, "input is 2000000000000"},
		{`{"prices": [{"provider":"a","model":"m","input":-5000,"output":0}]}`, "input is -5000; a price cannot be negative"},
		{`{"prices": [{"provider":"a","model":"m","input":5000}]}`, "output is missing"},
		{`{"prices": [{"provider":"a","input":5000,"output":0}]}`, "provider or model is missing"},
		{`{"prices": [{"provider":"a","model":"m*x","input":5000,"output":0}]}`, "has a * that is not its end"},
		{`{"prices": [{"provider":"a","model":"m","from":"2026-02-30","input":5000,"output":0}]}`, `from is "2026-02-30"; write a day as 2026-01-31`},
		{`{"prices": [{"provider":"a","model":"m","above":-1,"input":5000,"output":0}]}`, "above is -1"},
		{"{\"prices\": [" + good + ",\n" + good + "]}", "p.json:2: price 2: the same model, from and above as p.json:1: price 1"},
		{`{"prices": [{"provider":"a","model":"m","above":9,"input":5000,"output":0}]}`, "no entry without above"},
		{`{"prices": [` + good + `,{"provider":"a","model":"m","above":9,"from":"2026-01-01","input":5000000,"output":0}]}`, "no entry without above"},
		{`{"prices": [` + good + `,{"provider":"a","model":"m","above":9,"input":2000000,"output":0}]}`, "cheaper than shorter ones"},
	} {
		if _, err := (&llm.Prices{}).With("p.json", []byte(c.data)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s\ngives %v\nwant %s", c.data, err, c.says)
		}
	}
}

// anyPrice and anyUsage make up what the properties below are to hold for, extremes
// included.
func anyPrice(r *rand.Rand, tiers bool) llm.Price {
	rates := func(least llm.Rates) llm.Rates {
		more := func(n int64) int64 { return n + r.Int64N(50_000_000) }
		return llm.Rates{Input: more(least.Input), Cached: more(least.Cached), CacheWrite: more(least.CacheWrite), Output: more(least.Output)}
	}
	p := llm.Price{Base: rates(llm.Rates{})}
	if tiers {
		p.Above = []llm.LongRates{{Tokens: 1_000, Rates: rates(p.Base)}}
		p.Above = append(p.Above, llm.LongRates{Tokens: 2_000, Rates: rates(p.Above[0].Rates)})
	}
	return p
}

func anyUsage(r *rand.Rand) llm.Usage {
	size := []int{2, 3_000, 1 << 30, math.MaxInt}[r.IntN(4)]
	u := llm.Usage{Input: r.IntN(size), Output: r.IntN(size)}
	if u.Input > 0 {
		u.Cached = r.IntN(u.Input)
		u.CacheWrites = r.IntN(u.Input - u.Cached)
	}
	return u
}

func TestCostsAreNeverNegativeGrowAndAddUp(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50_000 {
		p, u, v := anyPrice(r, r.IntN(2) == 0), anyUsage(r), anyUsage(r)
		cost := p.Cost(u)
		if cost < 0 {
			t.Fatalf("%+v costs %d at %+v", u, cost, p)
		}
		more := u
		more.Input += min(r.IntN(1000), math.MaxInt-more.Input)
		more.Output += min(r.IntN(1000), math.MaxInt-more.Output)
		if p.Cost(more) < cost {
			t.Fatalf("%+v costs %d, less than %d for %+v, at %+v", more, p.Cost(more), cost, u, p)
		}
		if most := p.Most(more.Input, more.Output); most < cost || most < p.Cost(more) {
			t.Fatalf("the most for %d and %d tokens is %d, less than %d for %+v, at %+v", more.Input, more.Output, most, cost, u, p)
		}
		flat := anyPrice(r, false)
		if want := exactly(flat.Base, u); big.NewInt(flat.Cost(u)).Cmp(want) != 0 {
			t.Fatalf("%+v costs %d at %+v; want %d", u, flat.Cost(u), flat, want)
		}
		a, b := flat.Cost(u), flat.Cost(v)
		if u.Input > math.MaxInt-v.Input || u.Output > math.MaxInt-v.Output || a > math.MaxInt64/2 || b > math.MaxInt64/2 {
			continue
		}
		if sum := flat.Cost(u.Add(v)); sum > a+b || sum < a+b-1 {
			t.Fatalf("%+v and %+v cost %d and %d, but %d together, at %+v", u, v, a, b, sum, flat)
		}
	}
	huge := llm.Price{Base: llm.Rates{Input: 1_000_000_000_000, Cached: 1_000_000_000_000, CacheWrite: 1_000_000_000_000, Output: 1_000_000_000_000}}
	if got := huge.Cost(llm.Usage{Input: math.MaxInt, Output: math.MaxInt}); got != math.MaxInt64 {
		t.Errorf("more than can be counted costs %d; want %d", got, int64(math.MaxInt64))
	}
	odd := llm.Price{Base: llm.Rates{Input: 1_000_000, Cached: 1_000_000, Output: 1_000_000}}
	if got := odd.Cost(llm.Usage{Input: -5, Output: -5, Cached: -5, CacheWrites: -5}); got != 0 {
		t.Errorf("counts below zero cost %d; want 0", got)
	}
	if got := odd.Cost(llm.Usage{Input: 1, Cached: 7}); got != 7 {
		t.Errorf("more from the cache than there was costs %d; want what the cache is said to have given, 7", got)
	}
}

// exactly computes a cost with numbers of any size.
func exactly(r llm.Rates, u llm.Usage) *big.Int {
	sum := new(big.Int)
	for _, p := range [][2]int64{{int64(u.Input - u.Cached - u.CacheWrites), r.Input}, {int64(u.Cached), r.Cached}, {int64(u.CacheWrites), r.CacheWrite}, {int64(u.Output), r.Output}} {
		sum.Add(sum, new(big.Int).Mul(big.NewInt(p[0]), big.NewInt(p[1])))
	}
	sum.Add(sum, big.NewInt(999_999)).Quo(sum, big.NewInt(1_000_000))
	if sum.Cmp(big.NewInt(math.MaxInt64)) > 0 {
		return big.NewInt(math.MaxInt64)
	}
	return sum
}

// TestEstimates: the numbers of tokens are those of OpenAI's tokenizer o200k_base.
func TestEstimatesAreAboveWhatIsCounted(t *testing.T) {
	for _, c := range []struct {
		text   string
		tokens int
	}{
		{strings.Repeat("Der Vertrag wird unwirksam, wenn die Genehmigung nicht innerhalb von drei Monaten erteilt wird. Größere Änderungen bedürfen der Schriftform. ", 20), 661},
		{strings.Repeat("合同自双方签字盖章之日起生效,任何一方不得擅自变更或解除合同。北京市朝阳区人民法院依法受理。", 20), 700},
		{strings.Repeat("यह अनुबंध दोनों पक्षों के हस्ताक्षर के दिन से प्रभावी होगा। ", 20), 341},
		{strings.Repeat("\n", 2000), 125},
	} {
		req := &llm.Request{Model: "m", Messages: []llm.Message{llm.User(c.text)}}
		if got := llm.EstimateInput(req); got < c.tokens || got > len(c.text)+100 {
			t.Errorf("%.20s…: the estimate is %d; want at least the %d that were counted, and no more than its bytes", c.text, got, c.tokens)
		}
	}
}

func TestEstimatesSeeEveryPartOfARequest(t *testing.T) {
	req := &llm.Request{Model: "m", Messages: []llm.Message{llm.User("a")}}
	last := llm.EstimateInput(req)
	text := strings.Repeat("word ", 100)
	for what, grow := range map[string]func(){
		"system":  func() { req.System = text },
		"message": func() { req.Messages = append(req.Messages, llm.User(text)) },
		"arguments": func() {
			req.Messages = append(req.Messages, llm.Message{Role: llm.RoleAssistant, ToolCalls: []llm.ToolCall{{ID: "c", Name: "n", Arguments: text}}})
		},
		"parameters": func() { req.Tools = append(req.Tools, llm.Tool{Name: "n", Parameters: json.RawMessage(text)}) },
		"schema":     func() { req.Schema = &llm.Schema{Name: "s", JSON: json.RawMessage(text)} },
	} {
		grow()
		now := llm.EstimateInput(req)
		if now < last+len(text)/2 {
			t.Errorf("%s of %d bytes raises the estimate from %d to %d only", what, len(text), last, now)
		}
		last = now
	}
	if got := llm.EstimateEmbedInput(&llm.EmbedRequest{Input: []string{text, text}}); got < len(text) {
		t.Errorf("the estimate of two texts of %d bytes is %d", len(text), got)
	}
}
