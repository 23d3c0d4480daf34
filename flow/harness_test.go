package flow_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/pawltest"
	"github.com/pawlrun/pawl/service"
)

// desk is a service that keeps what it was called with.
type desk struct {
	mu      sync.Mutex
	calls   []string // "send to=a text=b"
	fail    func(text string) error
	actions []service.Action // nil: deskActions
}

var deskActions = []service.Action{
	{Name: "send", Effect: service.Writes, Params: json.RawMessage(`{"type":"object","required":["to"],"additionalProperties":false,
		"properties":{"to":{"type":"string","x-pawl-trusted":true},"text":{},"key":{"type":"string","x-pawl-secret":true},"url":{"type":"string","x-pawl-fill":"url"},"html":{"type":"string","x-pawl-fill":"html"},"sql":{"type":"string","x-pawl-fill":"none"},"n":{"type":"integer","minimum":1}}}`)},
	{Name: "look", Effect: service.Reads, Params: json.RawMessage(`{"type":"object"}`), Result: json.RawMessage(`{"type":"object","properties":{"rows":{"type":"array","maxItems":6},"some":{"type":"array","x-pawl-most":"n"}}}`)},
}

func (d *desk) Actions() []service.Action {
	if d.actions != nil {
		return d.actions
	}
	return deskActions
}

func (d *desk) Call(ctx context.Context, c service.Call) (any, error) {
	var params map[string]json.RawMessage
	if err := json.Unmarshal(c.Params, &params); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var words []string
	for name, v := range params {
		words = append(words, name+"="+strings.Trim(string(v), `"`))
	}
	slices.Sort(words)
	said := strings.Join(append([]string{c.Action}, words...), " ")
	d.calls = append(d.calls, said)
	if d.fail != nil {
		if err := d.fail(said); err != nil {
			return nil, err
		}
	}
	return map[string]any{"id": len(d.calls), "big": json.Number("9007199254740993")}, nil
}

func (d *desk) said() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

// models are a scripted model behind every name.
func models(t testing.TB, rules ...llmtest.Rule) *agent.Models {
	t.Helper()
	prices, err := llm.DefaultPrices().With("test", []byte(`{"prices": [{"provider": "test", "model": "m", "input": 1000000, "output": 2000000}]}`))
	if err != nil {
		t.Fatal(err)
	}
	return agent.New(agent.Options{Providers: map[string]llm.Model{"test": llmtest.Script(rules...)}, Prices: prices})
}

// options are a desk and a scripted model.
func options(t testing.TB, d *desk, rules ...llmtest.Rule) flow.Options {
	return flow.Options{
		Models: models(t, rules...), Model: "test/m", Provider: func(string) string { return "test" },
		Services: service.Set{"desk": d},
		Secret:   func(_ context.Context, tenant, name string) (string, error) { return "s3cret-" + tenant + name, nil },
	}
}

func parse(t testing.TB, doc string, opt flow.Options) *flow.Flow {
	t.Helper()
	f, err := flow.Parse([]byte(doc), flow.World{Services: opt.Services, Model: opt.Model})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// outcome runs a flow in virtual time and returns how it ended.
func outcome(t *testing.T, doc, variables string, opt flow.Options) (out string, err error) {
	t.Helper()
	w := flow.Define(parse(t, doc, opt), opt)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		var in flow.Variables
		if err := json.Unmarshal([]byte(variables), &in); err != nil {
			t.Fatal(err)
		}
		var data json.RawMessage
		data, err = pawltest.ResultError(h, pawltest.Start(h, w, in, pawl.ID("r")))
		out = string(data)
	}, w)
	return out, err
}

// completes is outcome of a run that must complete.
func completes(t *testing.T, doc, variables string, opt flow.Options) string {
	t.Helper()
	out, err := outcome(t, doc, variables, opt)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// fails is outcome of a run that must fail, with words in its error.
func fails(t *testing.T, doc, variables string, opt flow.Options, words ...string) {
	t.Helper()
	out, err := outcome(t, doc, variables, opt)
	if err == nil {
		t.Fatalf("it completed with %s, want an error", out)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error is %q, want %q in it", err, word)
		}
	}
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// problems parses a document that is refused, and returns what is told of it, one line each.
func problems(t testing.TB, doc string, w flow.World) []string {
	t.Helper()
	_, err := flow.Parse([]byte(doc), w)
	var found flow.Problems
	if !errors.As(err, &found) {
		t.Fatalf("the error is %v, want problems", err)
	}
	var out []string
	for _, p := range found {
		out = append(out, p.String())
	}
	return out
}

// background runs f until the test ends.
func background(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("it ended: %v", err)
		}
	})
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

// hmacOf signs as the scheme hmac does.
func hmacOf(key, body string) string {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(body))
	return hex.EncodeToString(m.Sum(nil))
}
