package agent

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

func question(text string) CacheKey {
	return CacheKey{Workflow: "w", Provider: "p", Request: &llm.Request{Model: "m", Messages: []llm.Message{llm.User(text)}}}
}

// oracle is a provider that counts its calls.
type oracle struct {
	calls atomic.Int64
	takes time.Duration
	fails atomic.Pointer[llm.Error]
	text  string
}

func (o *oracle) call(ctx context.Context) (*llm.Response, error) {
	o.calls.Add(1)
	if err := sleep(ctx, o.takes); err != nil {
		return nil, err
	}
	if err := o.fails.Load(); err != nil {
		return nil, err
	}
	return &llm.Response{Text: o.text, Finish: llm.FinishStop, Usage: llm.Usage{Input: 10, Output: 5}, Provider: "p", Model: "m", Raw: json.RawMessage(`{"raw":1}`)}, nil
}

func TestOneCallsForAllWhoAskTheSame(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		o := &oracle{takes: 100 * time.Millisecond, text: "42"}
		engines := []*pawl.Engine{pawl.New(open(), nil), pawl.New(open(), nil)}
		caches := []*Cache{NewCache(nil), NewCache(nil)}
		var all sync.WaitGroup
		sources := make([]CacheSource, 50)
		answers := make([]*llm.Response, 50)
		for i := range 50 {
			all.Go(func() {
				resp, source, err := caches[i%2].Generate(t.Context(), engines[i%2], question("why?"), time.Hour, o.call)
				if err != nil || resp.Text != "42" || resp.Usage.Output != 5 || source != CacheMiss && resp.Raw != nil {
					t.Errorf("%+v %v", resp, err)
				}
				sources[i], answers[i] = source, resp
			})
		}
		all.Wait()
		count := map[CacheSource]int64{}
		for i, s := range sources {
			count[s]++
			if i > 0 && answers[i] == answers[0] {
				t.Fatal("two have the same answer, and could change it under each other")
			}
		}
		if o.calls.Load() != 1 || count[CacheMiss] != 1 {
			t.Fatalf("%d calls, %v", o.calls.Load(), count)
		}
		if _, source, err := caches[1].Generate(t.Context(), engines[1], question("why?"), time.Hour, o.call); err != nil || source != CacheHit {
			t.Error(source, err)
		}
		if err := caches[1].Flush(t.Context(), engines[1]); err != nil {
			t.Fatal(err)
		}
		stats, err := caches[0].Stats(t.Context(), engines[0])
		if err != nil || len(stats) == 0 {
			t.Fatal(stats, err)
		}
		var sum CacheStats
		for _, s := range stats { // of two days, around midnight
			sum.add(s)
		}
		if sum.Misses != 1 || sum.Hits+sum.Waits != 50 || sum.Saved.Output != 250 || sum.HitRate() != 50.0/51 {
			t.Errorf("%+v", sum)
		}
	})
}

func TestAnAnswerIsKeptForItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c, o := memory(t), NewCache(nil), &oracle{text: "yes"}
		ask := func(key CacheKey, ttl time.Duration) CacheSource {
			t.Helper()
			_, source, err := c.Generate(t.Context(), e, key, ttl, o.call)
			if err != nil {
				t.Fatal(err)
			}
			return source
		}
		for i, want := range []CacheSource{CacheMiss, CacheMiss, CacheMiss, CacheHit, CacheHit} {
			if got := ask(question("a"), []time.Duration{0, -1, time.Minute, time.Minute, time.Minute}[i]); got != want {
				t.Errorf("call %d: %s", i, got)
			}
		}
		time.Sleep(59 * time.Second)
		if got := ask(question("a"), time.Minute); got != CacheHit {
			t.Error(got)
		}
		time.Sleep(time.Second)
		if got := ask(question("a"), time.Minute); got != CacheMiss {
			t.Error(got)
		}
		if n, err := c.Clear(t.Context(), e, question("")); n != 1 || err != nil {
			t.Error(n, err)
		}
		if got := ask(question("a"), time.Minute); got != CacheMiss {
			t.Error(got)
		}
		time.Sleep(statsEvery)
	})
}

func TestWhatAnAnswerDependsOn(t *testing.T) {
	name := func(change func(*CacheKey)) string {
		k := question("a")
		k.Tenant = "t"
		change(&k)
		n, err := k.name()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	zero, one := 0.0, 1.0
	seen := map[string]string{}
	for what, change := range map[string]func(*CacheKey){
		"nothing":      func(*CacheKey) {},
		"tenant":       func(k *CacheKey) { k.Tenant = "u" },
		"workflow":     func(k *CacheKey) { k.Workflow = "v" },
		"names joined": func(k *CacheKey) { k.Tenant, k.Workflow = "tw", ""+"w" },
		"no text":      func(k *CacheKey) { k.Tenant = "\xff" },
		"nor this":     func(k *CacheKey) { k.Tenant = "\xfe" },
		"scope tenant": func(k *CacheKey) { k.Scope = CacheTenant },
		"scope all":    func(k *CacheKey) { k.Scope = CacheAll },
		"provider":     func(k *CacheKey) { k.Provider = "q" },
		"prompt":       func(k *CacheKey) { k.Prompt = "greet@2" },
		"model":        func(k *CacheKey) { k.Request.Model = "n" },
		"message":      func(k *CacheKey) { k.Request.Messages[0].Content = "b" },
		"system":       func(k *CacheKey) { k.Request.System = "s" },
		"temperature":  func(k *CacheKey) { k.Request.Temperature = &one },
		"and zero":     func(k *CacheKey) { k.Request.Temperature = &zero },
		"max tokens":   func(k *CacheKey) { k.Request.MaxTokens = 5 },
		"schema": func(k *CacheKey) {
			k.Request.Schema = &llm.Schema{Name: "s", JSON: json.RawMessage(`{"type":"object"}`)}
		},
		"other schema": func(k *CacheKey) {
			k.Request.Schema = &llm.Schema{Name: "s", JSON: json.RawMessage(`{"type":"array"}`)}
		},
		"tools": func(k *CacheKey) { k.Request.Tools = []llm.Tool{{Name: "t"}} },
	} {
		n := name(change)
		if other, ok := seen[n]; ok {
			t.Errorf("%s and %s are the same", what, other)
		}
		seen[n] = what
	}
	spelled := func(schema string) string {
		return name(func(k *CacheKey) { k.Request.Schema = &llm.Schema{Name: "s", JSON: json.RawMessage(schema)} })
	}
	if spelled(`{"type":"object","a":1}`) != spelled("{ \"a\": 1,\n\"type\": \"object\" }") {
		t.Error("the spelling of a schema makes a difference")
	}
	all := question("a")
	all.Scope, all.Tenant, all.Workflow = CacheAll, "x", "y"
	if n, _ := all.name(); n != name(func(k *CacheKey) { k.Scope = CacheAll }) {
		t.Error("an answer for all depends on who asks")
	}
}

func TestALargeAnswerIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c := memory(t), NewCache(&CacheOptions{MaxAnswer: 1000})
		o := &oracle{text: strings.Repeat("x", 1000)}
		for range 3 {
			if resp, source, err := c.Generate(t.Context(), e, question("a"), time.Hour, o.call); err != nil || source != CacheMiss || len(resp.Text) != 1000 {
				t.Error(source, err)
			}
		}
		time.Sleep(largeKept)
		o.text = "short"
		for i, want := range []CacheSource{CacheMiss, CacheHit} {
			if _, source, err := c.Generate(t.Context(), e, question("a"), time.Hour, o.call); err != nil || source != want {
				t.Error(i, source, err)
			}
		}
		time.Sleep(statsEvery)
	})
}

func TestHostileCacheKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c, o := memory(t), NewCache(&CacheOptions{Lease: -1, MaxAnswer: -1}), &oracle{text: "\x00\xff</script>"}
		nan := math.NaN()
		for name, key := range map[string]CacheKey{
			"no request":   {Workflow: "w"},
			"no workflow":  {Request: &llm.Request{}},
			"bad scope":    {Scope: "world", Workflow: "w", Request: &llm.Request{}},
			"not a number": {Workflow: "w", Request: &llm.Request{Temperature: &nan}},
			"no JSON":      {Workflow: "w", Request: &llm.Request{Schema: &llm.Schema{JSON: json.RawMessage(`{`)}}},
		} {
			if _, _, err := c.Generate(t.Context(), e, key, time.Hour, o.call); !errors.Is(err, pawl.ErrInput) || !pawl.IsFatal(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, _, err := c.Generate(t.Context(), nil, question("a"), time.Hour, o.call); !errors.Is(err, pawl.ErrInput) {
			t.Error(err)
		}
		if o.calls.Load() != 0 {
			t.Errorf("%d calls", o.calls.Load())
		}
		key := question(strings.Repeat("\x00\xff", 1<<20))
		key.Tenant, key.Workflow, key.Prompt = "../\x00", strings.Repeat("/", 1<<16), "\xff"
		for i, want := range []CacheSource{CacheMiss, CacheHit} {
			resp, source, err := c.Generate(t.Context(), e, key, time.Duration(math.MaxInt64), o.call)
			if err != nil || source != want || !strings.HasPrefix(resp.Text, "\x00") {
				t.Error(i, source, err)
			}
		}
		if _, _, err := c.Generate(t.Context(), e, question("nil"), time.Hour, func(context.Context) (*llm.Response, error) { return nil, nil }); err == nil {
			t.Error("no answer and no error is fine")
		}
		name, _ := func() (string, error) { k := question("bad"); return k.name() }()
		if _, err := e.Write(t.Context(), pawl.Put{Space: cacheSpace, Key: name, Data: []byte(`"x"`)}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Generate(t.Context(), e, question("bad"), time.Hour, o.call); err == nil || !strings.Contains(err.Error(), "delete it") {
			t.Error(err)
		}
		time.Sleep(statsEvery)
	})
}
