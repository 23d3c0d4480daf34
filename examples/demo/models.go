package demo

import (
	"cmp"
	"flag"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/anthropic"
	"github.com/pawlrun/pawl/llm/openai"
)

// Source says where a program finds its models: in flags, and in the variables of its
// environment. OPENAI_API_KEY or OPENAI_BASE_URL gives the provider openai, ANTHROPIC_API_KEY
// or ANTHROPIC_BASE_URL the provider anthropic. A script is the provider scripted, always.
type Source struct {
	Env      func(name string) string // nil means os.Getenv
	Model    string                   // as provider/model, or as openai names it; "" means that of the first provider there is
	Embedder string                   // likewise
	BaseURL  string                   // goes before OPENAI_BASE_URL
	Prices   string                   // a file of prices that go before the known ones; "": none
	Script   llm.Model                // what answers as scripted/script, and embeds if it can
}

// Flags defines the flags that name models and their prices.
func (s *Source) Flags(flags *flag.FlagSet) {
	flags.StringVar(&s.Model, "model", s.Model, "the `model` to ask, such as openai/gpt-4o-mini or anthropic/claude-haiku-4-5; without it the first that the environment has a key for")
	flags.StringVar(&s.Embedder, "embedder", s.Embedder, "the embedding `model` to ask where vectors are needed, such as openai/text-embedding-3-small")
	flags.StringVar(&s.BaseURL, "base-url", s.BaseURL, "the `address` of a server that speaks OpenAI's protocol; goes before OPENAI_BASE_URL")
	flags.StringVar(&s.Prices, "prices", s.Prices, "a `file` of prices that go before the known ones")
}

// Warning is what a program says if nobody is asked.
const Warning = `
  *** NO MODEL IS ASKED: ALL ANSWERS COME FROM A SCRIPT.                          ***
  *** Set OPENAI_API_KEY or ANTHROPIC_API_KEY, or OPENAI_BASE_URL for a server of ***
  *** your own, and start again.                                                  ***

`

// Scripted are models that script answers, all of them.
func Scripted(script llm.Model) *agent.Models {
	found, err := Source{Env: func(string) string { return "" }, Script: script}.Models()
	if err != nil {
		panic(err) // nothing was named that could be missing
	}
	return found.Models
}

// Found is who answers a program.
type Found struct {
	Models   *agent.Models
	Model    Voice
	Embedder Voice

	prices *llm.Prices
	there  []string // providers that can be asked
}

// Provider names the provider of a model that is named without one: of those that the environment has what it takes for, and
// then of the others, the first whose price of it is known; else the one of Model.
func (f *Found) Provider(model string) string {
	for _, name := range f.there {
		if _, known := f.prices.Of(name, model, time.Now()); known {
			return name
		}
	}
	for _, o := range offers {
		if _, known := f.prices.Of(o.name, model, time.Now()); known {
			return o.name
		}
	}
	name, _, _ := strings.Cut(f.Model.Name, "/")
	return name
}

// Voice is a model that will be asked.
type Voice struct {
	Name     string // as provider/model
	Where    string // its address, without secrets; "" of a script
	KeyFrom  string // the variable with the key; "": it is asked without one
	Scripted bool   // nobody is asked
}

// String says in a line who that is.
func (v Voice) String() string {
	switch {
	case v.Scripted:
		return "none: a script answers"
	case v.KeyFrom == "":
		return v.Name + " at " + v.Where + ", without a key"
	}
	return v.Name + " at " + v.Where
}

// offer is a provider that a program can ask if the environment has what it takes.
type offer struct {
	name, key, base string // of the provider, and of the variables
	where           string // its own address
	model, embedder string // what it is asked for if nobody says; "": nothing
	connect         func(key, base string) llm.Model
}

var offers = []offer{
	{"openai", "OPENAI_API_KEY", "OPENAI_BASE_URL", openai.DefaultBaseURL, "gpt-4o-mini", "text-embedding-3-small",
		func(key, base string) llm.Model { return openai.New(openai.Options{APIKey: key, BaseURL: base}) }},
	{"anthropic", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", anthropic.DefaultBaseURL, "claude-haiku-4-5", "",
		func(key, base string) llm.Model { return anthropic.New(anthropic.Options{APIKey: key, BaseURL: base}) }},
}

const script = "scripted/script"

// scriptPrices say that a script costs nothing, so that its cost is not unknown.
const scriptPrices = `{"prices": [{"provider": "scripted", "model": "script", "input": 0, "output": 0}]}`

// Models finds the models. A model that is named and can't be asked is an error; if none is
// named and no variable is set, the script answers, which the caller has to say aloud.
func (s Source) Models() (*Found, error) {
	if s.Env == nil {
		s.Env = os.Getenv
	}
	if env := s.Env; s.BaseURL != "" {
		s.Env = func(name string) string {
			if name == "OPENAI_BASE_URL" {
				return s.BaseURL
			}
			return env(name)
		}
	}
	prices, err := s.prices()
	if err != nil {
		return nil, err
	}
	f := &Found{prices: prices}
	opt := agent.Options{Providers: map[string]llm.Model{"scripted": s.Script}, Prices: prices}
	for _, o := range offers {
		if o.there(s.Env) {
			opt.Providers[o.name] = o.connect(s.Env(o.key), s.Env(o.base))
			f.there = append(f.there, o.name)
		}
	}
	if f.Model, err = s.voice(s.Model, func(o *offer) string { return o.model }); err != nil {
		return nil, fmt.Errorf("model %w", err)
	}
	if f.Embedder, err = s.voice(s.Embedder, func(o *offer) string { return o.embedder }); err != nil {
		return nil, fmt.Errorf("embedding model %w", err)
	}
	if name, _, _ := strings.Cut(f.Embedder.Name, "/"); !f.Embedder.Scripted {
		if _, ok := opt.Providers[name].(llm.Embedder); !ok {
			return nil, fmt.Errorf("embedding model %s: %s makes no vectors; name one of another provider", f.Embedder.Name, name)
		}
	}
	opt.Model, opt.Embedder = f.Model.Name, f.Embedder.Name
	f.Models = agent.New(opt)
	return f, nil
}

func (s Source) prices() (*llm.Prices, error) {
	prices, err := llm.DefaultPrices(), error(nil)
	if s.Prices != "" {
		if prices, err = llm.LoadPrices(s.Prices); err != nil {
			return nil, err
		}
	}
	return prices.With("the prices of the script", []byte(scriptPrices))
}

func (o *offer) there(env func(string) string) bool { return env(o.key) != "" || env(o.base) != "" }

// voice is the model of that name, or of no name the one that the first provider there is
// offers.
func (s Source) voice(name string, usual func(*offer) string) (Voice, error) {
	if name == "" {
		for _, o := range offers {
			if model := usual(&o); model != "" && o.there(s.Env) {
				return o.voice(model, s.Env), nil
			}
		}
		return Voice{Name: script, Scripted: true}, nil
	}
	if name == script || name == "scripted" {
		return Voice{Name: script, Scripted: true}, nil
	}
	o, model := &offers[0], name // models of others may have a slash in their names
	for i := range offers {
		if rest, ok := strings.CutPrefix(name, offers[i].name+"/"); ok {
			o, model = &offers[i], rest
		}
	}
	if !o.there(s.Env) {
		return Voice{}, fmt.Errorf("%s: %s is not set, nor is %s; set one, or use %s, which asks nobody", name, o.key, o.base, script)
	}
	return o.voice(model, s.Env), nil
}

func (o *offer) voice(model string, env func(string) string) Voice {
	v := Voice{Name: o.name + "/" + model, Where: Shown(cmp.Or(env(o.base), o.where))}
	if env(o.key) != "" {
		v.KeyFrom = o.key
	}
	return v
}

// Shown is an address without the secrets that may be in it. A path of a file stays as it is.
func Shown(address string) string {
	if !strings.Contains(address, "://") {
		return address
	}
	u, err := url.Parse(address)
	if err != nil {
		return "an address that can't be read"
	}
	u.RawQuery = ""
	return u.Redacted()
}
