package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// Options say which models there are and how they are called. The zero value knows none.
type Options struct {
	// Providers are the models by the name of their provider. A model is named by both:
	// "openai/gpt-4o-mini" is asked of Providers["openai"] as "gpt-4o-mini". A provider
	// that is an llm.Streamer can stream, one that is an llm.Embedder can embed.
	//
	// Each stands for one endpoint with one key, and has a circuit breaker, buckets and
	// cached answers of its own. Two keys, or two regions, are two providers: "openai-eu"
	// beside "openai". Prices are looked up by that name too: see llm.LoadPrices. Every
	// worker of the store should have the same behind a name.
	Providers map[string]llm.Model
	// Model is asked where a call names none, Embedder for vectors.
	Model, Embedder string
	// Prices tell what calls cost. nil means llm.DefaultPrices().
	Prices *llm.Prices
	// WorstCase is what a call is assumed to cost whose price is not known, in millionths
	// of a US dollar: it is reserved, counted, and marked as a guess. 0 means $0.10.
	WorstCase int64
	// Limits pace the calls, by model ("openai/gpt-4o-mini") or by provider ("openai"),
	// across all workers of the store. What has no limit here is paced by what the
	// provider's answers tell of its own.
	Limits map[string]Limit
	// Timeout bounds one call of a provider. 0 means 60 s.
	Timeout time.Duration
	// Breaker keeps calls from providers that do not work. nil: one with its usual settings.
	Breaker *Breaker
}

const tryMore = 10 * time.Second // for the money and the store, beside a call's time

// Models is what a program knows of models. It is safe for concurrent use.
type Models struct {
	opt     Options
	pacer   *Pacer
	breaker *Breaker
	cache   *Cache
}

// New makes Models. It asks nobody: a model that is not there is an error of the call.
func New(opt Options) *Models {
	opt.WorstCase = cmp.Or(opt.WorstCase, 100_000)
	opt.Timeout = cmp.Or(opt.Timeout, time.Minute)
	if opt.Prices == nil {
		opt.Prices = llm.DefaultPrices()
	}
	if opt.Breaker == nil {
		opt.Breaker = NewBreaker(&BreakerOptions{Try: opt.Timeout + tryMore})
	}
	return &Models{opt: opt, pacer: NewPacer(opt.Limits), breaker: opt.Breaker, cache: NewCache(nil)}
}

// Price returns what a model, named as provider/model, costs now, and whether that is known.
func (m *Models) Price(name string) (llm.Price, bool) {
	provider, model, _ := strings.Cut(name, "/")
	return m.opt.Prices.Of(provider, model, time.Now())
}

// Unpriced is what is reserved for a call of a model whose price is not known, in millionths of a US dollar.
func (m *Models) Unpriced() int64 { return m.opt.WorstCase }

// UnknownModelError reports a model that the program has no provider for. It is fatal.
type UnknownModelError struct {
	Model string
	Known []string // providers
}

func (e *UnknownModelError) Error() string {
	if e.Model == "" {
		return "the call names no model, and Options.Model is empty; name one, such as openai/gpt-4o-mini"
	}
	if len(e.Known) == 0 {
		return fmt.Sprintf("model %q: no model can be asked, as there is no provider; set the key of one, such as OPENAI_API_KEY, or in Go Options.Providers", e.Model)
	}
	return fmt.Sprintf("model %q: it must be named as provider/model, with one of these providers: %s", e.Model, strings.Join(e.Known, ", "))
}

// Fatal says that another attempt is not worth it.
func (e *UnknownModelError) Fatal() bool { return true }

// Is makes it an ErrInput of the engine.
func (e *UnknownModelError) Is(target error) bool { return target == pawl.ErrInput }

// route is a model that can be asked.
type route struct {
	name     string // provider/model
	provider string
	model    string
	asks     llm.Model
	label    string // of its charges
}

// route finds the provider of a model.
func (m *Models) route(name string) (route, error) {
	provider, model, ok := strings.Cut(name, "/")
	asks := m.opt.Providers[provider]
	if !ok || model == "" || asks == nil {
		e := &UnknownModelError{Model: name}
		for known := range m.opt.Providers {
			e.Known = append(e.Known, known)
		}
		slices.Sort(e.Known)
		return route{}, e
	}
	return route{name: name, provider: provider, model: model, asks: asks}, nil
}

// bucket is the name under which calls of a model are paced.
func (m *Models) bucket(r route) string {
	if _, ok := m.opt.Limits[r.name]; !ok {
		if _, ok := m.opt.Limits[r.provider]; ok {
			return r.provider
		}
	}
	return r.name
}
