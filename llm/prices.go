package llm

import (
	"cmp"
	_ "embed"
	"fmt"
	"math"
	"math/bits"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

//go:embed prices.json
var builtInPrices []byte

// perTokens is the number of tokens that a rate is for.
const perTokens = 1_000_000

// Prices knows what tokens cost, by provider, model and day. Money is in micro-USD:
// 1,000,000 of them are a dollar. A price that it does not know it does not guess: all its
// methods report whether they know.
//
// A model is looked up
//
//  1. by its exact name;
//  2. without the date at its end, as -2026-03-05, -20260305, @20260305 or -latest: a
//     version of a model costs what the model does unless the table says otherwise;
//  3. by the longest entry that ends in * and fits the exact name.
//
// The built-in table has no entries with *, as what a new name costs cannot be told from
// an old one. It is as good as its sources, which its file names with the day they were
// checked: who settles bills by it compares it with what the provider charges, and
// overrides it by a file.
type Prices struct {
	models   map[modelKey][]Price // each model's prices, by ascending From
	prefixes []modelKey           // the models that end in *, the longest first
}

type modelKey struct{ provider, model string }

// Rates is what a million tokens cost, in micro-USD.
type Rates struct {
	Input      int64 // read, from no cache
	Cached     int64 // read from the provider's cache
	CacheWrite int64 // read and written to the provider's cache
	Output     int64 // written, reasoning included
}

// Price is what a model costs from a day on.
type Price struct {
	From  time.Time // the zero time means always
	Base  Rates
	Above []LongRates // of calls with long prompts, by ascending Tokens; most models have none
}

// LongRates are the rates of all tokens of a call whose input is of more than Tokens.
type LongRates struct {
	Tokens int
	Rates  Rates
}

var defaultPrices = sync.OnceValue(func() *Prices {
	p, err := (&Prices{}).With("the built-in prices.json", builtInPrices)
	if err != nil {
		panic(err) // a test reads it, so that no release has such a table
	}
	return p
})

// DefaultPrices returns the built-in table.
func DefaultPrices() *Prices { return defaultPrices() }

// LoadPrices returns the built-in table with the entries of a file in place of those for
// the same models. See [Prices.With].
func LoadPrices(file string) (*Prices, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("prices: %w", err)
	}
	return DefaultPrices().With(file, data)
}

// With returns a table with the entries of data, which is called name in errors, in place
// of those for the same models: a model that data speaks of at all costs what data says
// and nothing else, before its first day nobody knows what. The receiver stays as it is.
//
// data is JSON as that of the built-in table:
//
//	{"prices": [{"provider": "openai", "model": "gpt-4o", "from": "2026-01-01", "above": 200000,
//	             "input": 2500000, "cached": 1250000, "cacheWrite": 2500000, "output": 10000000}]}
//
// Rates are whole micro-USD for a million tokens. input and output must be there; cached
// and cacheWrite cost what input does if they are not. from is a day in UTC, and always if
// it is not there. An entry with above is for calls whose input has more tokens, beside
// one without. source and checked say where the numbers are from and may hold anything.
func (p *Prices) With(name string, data []byte) (*Prices, error) {
	models, err := readPrices(name, data)
	if err != nil {
		return nil, err
	}
	out := &Prices{models: make(map[modelKey][]Price, len(p.models)+len(models))}
	for _, table := range []map[modelKey][]Price{p.models, models} {
		for key, prices := range table {
			out.models[key] = prices
		}
	}
	for key := range out.models {
		if strings.HasSuffix(key.model, "*") {
			out.prefixes = append(out.prefixes, key)
		}
	}
	slices.SortFunc(out.prefixes, func(a, b modelKey) int {
		return cmp.Or(cmp.Compare(len(b.model), len(a.model)), cmp.Compare(a.model, b.model))
	})
	return out, nil
}

// Of returns what a model costs at a time, and whether that is known.
func (p *Prices) Of(provider, model string, at time.Time) (Price, bool) {
	prices, ok := p.find(provider, model)
	if !ok {
		return Price{}, false
	}
	for _, price := range slices.Backward(prices) {
		if !at.Before(price.From) {
			return price, true
		}
	}
	return Price{}, false
}

// dated matches what providers put behind a model's name to say which version is meant.
var dated = regexp.MustCompile(`([-@]\d{8}|-\d{4}-\d{2}-\d{2}|-latest)$`)

func (p *Prices) find(provider, model string) ([]Price, bool) {
	for _, name := range []string{model, dated.ReplaceAllString(model, "")} {
		if prices, ok := p.models[modelKey{provider, name}]; ok {
			return prices, true
		}
	}
	for _, key := range p.prefixes {
		if key.provider == provider && strings.HasPrefix(model, strings.TrimSuffix(key.model, "*")) {
			return p.models[key], true
		}
	}
	return nil, false
}

// Cost returns what a call at a time cost. It is not known if the price is not, or if u is
// zero: then the provider did not say what was used. Prefer the model that answered,
// [Response.Model], and take the one that was asked if the price of that is not known.
func (p *Prices) Cost(provider, model string, at time.Time, u Usage) (microUSD int64, known bool) {
	price, ok := p.Of(provider, model, at)
	if !ok || u == (Usage{}) {
		return 0, false
	}
	return price.Cost(u), true
}

// Most returns the most that a call can cost which reads at most inputTokens and writes at
// most maxTokens. It is not known if the price is not, or if maxTokens is not positive and
// the model's output is not free: then there is no bound.
func (p *Prices) Most(provider, model string, at time.Time, inputTokens, maxTokens int) (microUSD int64, known bool) {
	price, ok := p.Of(provider, model, at)
	if !ok || maxTokens <= 0 && price.rates(inputTokens).Output > 0 {
		return 0, false
	}
	return price.Most(inputTokens, maxTokens), true
}

// Cost returns what a call with this usage costs, in micro-USD, rounded up. It is never
// negative, and math.MaxInt64 if it were more than that. Counts below zero are taken for
// zero; where the parts of the input come to more than the whole, the parts are charged.
//
// Of calls, add what they cost; their usages added up may cost less, by the rounding, or
// more, as a price for long prompts is for the prompt of one call.
func (p Price) Cost(u Usage) int64 {
	r := p.rates(u.Input)
	cached, written := max(u.Cached, 0), max(u.CacheWrites, 0)
	plain := max(u.Input-cached-written, 0)
	return cost(part{plain, r.Input}, part{cached, r.Cached}, part{written, r.CacheWrite}, part{u.Output, r.Output})
}

// Most returns the most that a call can cost which reads at most inputTokens, in the way
// that is dearest, and writes at most maxTokens, in micro-USD, rounded up. No such call
// has a larger Cost.
func (p Price) Most(inputTokens, maxTokens int) int64 {
	r := p.rates(inputTokens)
	return cost(part{inputTokens, max(r.Input, r.Cached, r.CacheWrite)}, part{maxTokens, r.Output})
}

func (p Price) rates(input int) Rates {
	for _, long := range slices.Backward(p.Above) {
		if input > long.Tokens {
			return long.Rates
		}
	}
	return p.Base
}

type part struct {
	tokens int
	rate   int64
}

// cost adds the parts up in 128 bits and rounds once, up.
func cost(parts ...part) int64 {
	var hi, lo uint64
	for _, p := range parts {
		h, l := bits.Mul64(uint64(max(p.tokens, 0)), uint64(p.rate)) // rates are not negative
		var carry uint64
		lo, carry = bits.Add64(lo, l, 0)
		hi += h + carry // four products of 63 bits each stay far below 128
	}
	lo, carry := bits.Add64(lo, perTokens-1, 0)
	hi += carry
	if hi >= perTokens {
		return math.MaxInt64
	}
	n, _ := bits.Div64(hi, lo, perTokens)
	return int64(min(n, math.MaxInt64))
}
