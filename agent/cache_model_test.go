package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/pawltest"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest"
)

// topic is what a provider knows of one question.
type topic struct {
	now, most int       // calls under way
	good      int       // calls answered
	last      time.Time // when the last of them was
}

// Runs of some tenants and workflows ask the same questions on some workers, leave, and die;
// calls fail. Everybody gets an answer to the own question that somebody in scope has got, or
// the own call's error; nobody waits for ever; and no more is asked than there were reasons for.
func TestManyAskTheSame(t *testing.T) {
	for seed := range uint64(5) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 31))
			store := sqliteStore(t, sqlite.Memory)
			const ttl = 20 * time.Second
			workers := 1 + r.IntN(4)
			var engines []*pawl.Engine
			var caches []*Cache
			for range workers {
				engines, caches = append(engines, pawl.New(store, nil)), append(caches, NewCache(nil))
			}
			faults := r.IntN(2) == 0
			var mu sync.Mutex
			all := map[string]*topic{}
			excuses := 0 // calls that others could not wait for: their callers failed, left or died
			var wait sync.WaitGroup
			for i := range 150 {
				scope := []CacheScope{CacheWorkflow, CacheTenant, CacheAll}[r.IntN(3)]
				tenant, workflow, question := fmt.Sprint("t", r.IntN(2)), fmt.Sprint("w", r.IntN(2)), fmt.Sprint("q", r.IntN(2))
				group := strings.Join([]string{string(scope), question}, " ")
				switch scope {
				case CacheWorkflow:
					group += tenant + workflow
				case CacheTenant:
					group += tenant
				}
				w, start, takes, how := r.IntN(workers), time.Duration(r.Int64N(int64(60*time.Second))), time.Duration(r.Int64N(int64(25*time.Second))), r.IntN(12)
				if !faults {
					how = 11
				}
				wait.Go(func() {
					time.Sleep(start)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if how == 0 { // somebody has to leave
						ctx, cancel = context.WithTimeout(ctx, takes/2)
						defer cancel()
					}
					key := CacheKey{Scope: scope, Tenant: tenant, Workflow: workflow, Provider: "p", Request: &llm.Request{Messages: []llm.Message{llm.User(question)}}}
					mine := fmt.Sprintf("%s #%d", group, i)
					began := time.Now()
					called := false
					res, source, err := caches[w].Generate(ctx, engines[w], key, ttl, func(ctx context.Context) (*llm.Response, error) {
						called = true
						mu.Lock()
						a := all[group]
						if a == nil {
							a = &topic{}
							all[group] = a
						}
						if !a.last.IsZero() && time.Since(a.last) < ttl {
							t.Errorf("seed %d: %s is asked %v after it was answered", seed, mine, time.Since(a.last))
						}
						a.now++
						a.most = max(a.most, a.now)
						mu.Unlock()
						err := sleep(ctx, takes)
						mu.Lock()
						defer mu.Unlock()
						a.now--
						switch {
						case err != nil:
							excuses++
							return nil, err
						case how == 1:
							excuses++
							return nil, &llm.Error{Kind: llm.Overloaded, Provider: "p", Message: mine}
						case how == 2:
							excuses++
							return nil, errors.New("no more money")
						case how == 3:
							excuses++
							return &llm.Response{Finish: llm.FinishRefused, Refusal: mine, Text: mine}, nil
						}
						a.good++
						a.last = time.Now()
						return &llm.Response{Text: mine, Finish: llm.FinishStop}, nil
					})
					took := time.Since(began)
					switch {
					case err == nil && !strings.HasPrefix(res.Text, group+" #"):
						t.Errorf("seed %d: %s got the answer of %s", seed, mine, res.Text)
					case err == nil && called != (source == CacheMiss):
						t.Errorf("seed %d: %s: called: %v, and the answer is a %s", seed, mine, called, source)
					case err == nil && called && res.Text != mine:
						t.Errorf("seed %d: %s asked and got %s", seed, mine, res.Text)
					case err == nil && source == CacheHit && res.Refusal != "":
						t.Errorf("seed %d: the cache kept what was declined", seed)
					case err != nil && llm.KindOf(err) == "" && ctx.Err() == nil && !called:
						t.Errorf("seed %d: %s got an error of another's: %v", seed, mine, err)
					case took > 10*time.Minute:
						t.Errorf("seed %d: %s took %v", seed, mine, took)
					}
				})
			}
			wait.Wait()
			for group, a := range all {
				if a.most > 1 {
					t.Errorf("seed %d: %s was asked %d times at once", seed, group, a.most)
				}
			}
			if faults == (excuses == 0) {
				t.Errorf("seed %d: %d calls failed", seed, excuses)
			}
			time.Sleep(2 * statsEvery)
			for w, c := range caches {
				c.mu.Lock()
				if n := len(c.flights) + len(c.counts) + len(c.timers); n != 0 {
					t.Errorf("seed %d: worker %d still holds %d things in memory", seed, w, n)
				}
				c.mu.Unlock()
			}
			time.Sleep(ttl)
			if left, err := engines[0].Records(t.Context(), cacheSpace, "", "", 0); err != nil || len(left) != 0 {
				t.Errorf("seed %d: %d answers are still there: %v", seed, len(left), err)
			}
		})
	}
}

// A store that fails at any moment costs calls, no answers, and leaves nobody waiting.
func TestManyAskTheSameOfAStoreThatFails(t *testing.T) {
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 32))
			var mu sync.Mutex
			fine := false
			store := storetest.Faulty(sqliteStore(t, sqlite.Memory), func(method string, _ int) (f storetest.Fault) {
				mu.Lock()
				defer mu.Unlock()
				if fine || method != "Commit" && method != "Records" {
					return f
				}
				switch r.IntN(12) {
				case 0:
					f.Delay = time.Duration(r.Int64N(int64(8 * time.Second)))
				case 1:
					f.Err = errors.New("the disk is full")
				case 2:
					f.Lose = true
				}
				return f
			})
			o := &oracle{takes: 2 * time.Second, text: "yes"}
			caches := []*Cache{NewCache(nil), NewCache(nil), NewCache(nil)}
			engines := []*pawl.Engine{pawl.New(store, nil), pawl.New(store, nil), pawl.New(store, nil)}
			var wait sync.WaitGroup
			began := time.Now()
			for i := range 60 {
				mu.Lock()
				start := time.Duration(r.Int64N(int64(30 * time.Second)))
				mu.Unlock()
				wait.Go(func() {
					time.Sleep(start)
					for range 100 {
						res, _, err := caches[i%3].Generate(t.Context(), engines[i%3], question(fmt.Sprint(i%2)), time.Minute, o.call)
						if err == nil && res.Text != "yes" {
							t.Errorf("got %+v", res)
						}
						if err == nil {
							return
						}
						time.Sleep(time.Second)
					}
					t.Errorf("seed %d: a caller got no answer in 100 attempts", seed)
				})
			}
			wait.Wait()
			if took := time.Since(began); took > 5*time.Minute {
				t.Errorf("seed %d: it took %v", seed, took)
			}
			if n := o.calls.Load(); n > 40 {
				t.Errorf("seed %d: %d calls", seed, n)
			}
			mu.Lock()
			fine = true
			mu.Unlock()
			time.Sleep(2 * time.Minute)
		})
	}
}

// What was counted for an engine that is closed can't be told any more, and takes no memory.
func TestCountsOfAClosedEngineAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c, o := memory(t), NewCache(nil), &oracle{text: "yes"}
		if _, _, err := c.Generate(t.Context(), e, question("a"), time.Hour, o.call); err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * statsEvery)
		c.mu.Lock()
		defer c.mu.Unlock()
		if n := len(c.counts) + len(c.timers); n != 0 {
			t.Errorf("%d things are still in memory", n)
		}
	})
}

// A claim of a worker that died and whose clock ran a year ahead is waited for as long as any.
func TestAClaimByAClockThatRunsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, c, o := memory(t), NewCache(nil), &oracle{text: "yes"}
		k := question("a")
		name, err := k.name()
		if err != nil {
			t.Fatal(err)
		}
		h, err := c.claim(flightKey{e, name}, 0)
		if err != nil {
			t.Fatal(err)
		}
		h.stop()
		h.held.Wait()
		r, err := e.Record(t.Context(), cacheSpace, name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Write(t.Context(), pawl.Put{Space: cacheSpace, Key: name, If: r.Version, Data: r.Data, Until: time.Now().AddDate(1, 0, 0)}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, source, err := c.Generate(t.Context(), e, k, time.Hour, o.call); err != nil || source != CacheMiss {
			t.Error(source, err)
		}
		if took := time.Since(began); took < c.opt.Lease || took > c.opt.Lease+time.Second {
			t.Errorf("it took %v", took)
		}
		time.Sleep(statsEvery)
	})
}

// An engine that takes less than the cache would keep is asked each time, at once.
func TestAnAnswerThatTheEngineFindsTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := pawl.New(sqliteStore(t, sqlite.Memory), &pawl.Options{MaxPayload: 1000})
		c, o := NewCache(nil), &oracle{text: strings.Repeat("x", 2000)}
		began := time.Now()
		for range 3 {
			if _, source, err := c.Generate(t.Context(), e, question("a"), time.Hour, o.call); err != nil || source != CacheMiss {
				t.Error(source, err)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
		time.Sleep(2 * statsEvery)
	})
}

// Tenants and workflows share answers only as far as their scope says; who fails shares none.
func TestWhoSharesAnAnswer(t *testing.T) {
	s := llmtest.Script(llmtest.Rule{Contains: "shape", Text: "Who can tell?"}, llmtest.Rule{Text: "yes"})
	m := New(Options{Providers: map[string]llm.Model{"p": s}, Model: "p/m"})
	shape, err := OneOf("P1", "P2")
	if err != nil {
		t.Fatal(err)
	}
	flow := func(name string) *pawl.Workflow[CacheScope, bool] {
		return pawl.Define(name, func(c *pawl.Context, scope CacheScope) (bool, error) {
			q := Call{Prompt: "?", Cache: CacheFor{For: time.Hour, Scope: scope}}
			if scope == "shape" {
				q = Call{Prompt: "shape", Shape: shape, Cache: CacheFor{For: time.Hour}}
			}
			a, err := Ask(c, m, "ask", q)
			if err != nil {
				return false, err
			}
			return a.Cached, nil
		})
	}
	one, two := flow("one"), flow("two")
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		ask := func(w *pawl.Workflow[CacheScope, bool], tenant string, scope CacheScope) (bool, error) {
			run, err := w.Start(t.Context(), h.Engine(), scope, pawl.Tenant(tenant))
			if err != nil {
				t.Fatal(err)
			}
			return run.Result(t.Context())
		}
		for i, c := range []struct {
			w      *pawl.Workflow[CacheScope, bool]
			tenant string
			scope  CacheScope
			cached bool
		}{
			{one, "a", CacheWorkflow, false},
			{one, "a", CacheWorkflow, true},
			{one, "a", "", true},
			{two, "a", CacheWorkflow, false},
			{one, "b", CacheWorkflow, false},
			{one, "", CacheWorkflow, false},
			{one, "a", CacheTenant, false},
			{two, "a", CacheTenant, true},
			{one, "b", CacheTenant, false},
			{two, "", CacheTenant, false},
			{one, "a", CacheAll, false},
			{two, "b", CacheAll, true},
			{two, "", CacheAll, true},
		} {
			if cached, err := ask(c.w, c.tenant, c.scope); err != nil || cached != c.cached {
				t.Errorf("%d: %s of tenant %q, scope %q: %v %v", i, c.w.Name(), c.tenant, c.scope, cached, err)
			}
		}
		for range 2 { // an answer that is not of the shape is a failure: it is not kept
			before := len(s.Calls())
			if _, err := ask(one, "a", "shape"); err == nil {
				t.Error("an answer of the wrong shape is fine")
			}
			if n := len(s.Calls()) - before; n != 3 { // and two repairs
				t.Errorf("the model was asked %d times", n)
			}
		}
		time.Sleep(statsEvery)
	}, one, two)
}
