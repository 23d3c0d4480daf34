package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/llm/openai"
	"github.com/pawlrun/pawl/storetest"
)

// testPrices know the one model that mocks of a provider are asked as.
var testPrices = func() *llm.Prices {
	prices, err := llm.DefaultPrices().With("test", []byte(`{"prices":[{"provider":"openai","model":"priced","input":150000,"output":600000}]}`))
	if err != nil {
		panic(err)
	}
	return prices
}()

// pricedAt are models that call the mock at a URL with a key.
func pricedAt(url, key string) *Models {
	client := openai.New(openai.Options{BaseURL: url + "/v1", APIKey: key, HTTPClient: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}})
	return New(Options{Providers: map[string]llm.Model{"openai": client}, Model: "openai/priced", Prices: testPrices})
}

// priced is a mock of a provider that keeps its own bill, and models that call it.
func priced(t *testing.T, opt llmtest.MockOptions, rules ...llmtest.Rule) (*Models, *llmtest.Mock) {
	t.Helper()
	opt.Prices = testPrices
	mock, err := llmtest.NewMock(llmtest.Script(rules...), opt)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(mock)
	t.Cleanup(server.Close)
	return pricedAt(server.URL, "test-key-123"), mock
}

// TestP7_theLedgerIsTheProvidersBill: many runs race for one budget while their worker is
// stopped by force again and again. What the ledger has settled is what the provider has
// billed, but for calls that were cut off, which are listed; and never is more spent than there is.
func TestP7_theLedgerIsTheProvidersBill(t *testing.T) {
	const runs, seeds = 60, 3
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			eachStoreAtOnce(t, func(t *testing.T, open func() pawl.Store) {
				m, mock := priced(t, llmtest.MockOptions{Seed: seed, FailRate: 0.1, FailWait: 20 * time.Millisecond, Latency: 3 * time.Millisecond},
					llmtest.Rule{Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
						n := len(r.Messages[len(r.Messages)-1].Content)
						return &llm.Response{Text: "yes", Usage: llm.Usage{Input: 100 + n, Output: 40 + n%13}}, nil
					}})
				ask := pawl.Define("ask", func(c *pawl.Context, n int) (string, error) {
					var last string
					for i := range 3 {
						text, err := Generate[string](c, m, "ask", Call{Prompt: strings.Repeat("x", n+i+1), MaxTokens: 100})
						if err != nil {
							return last, err
						}
						last = text
					}
					return last, nil
				})
				client := pawl.New(open(), nil)
				if err := client.Register(ask); err != nil {
					t.Fatal(err)
				}
				const limit = 9_000
				if _, err := client.SetBudget(t.Context(), pawl.Budget{Name: "all", Limit: limit}); err != nil {
					t.Fatal(err)
				}
				random := rand.New(rand.NewPCG(seed, 1))
				stop := killed(t, open, ask, random)
				var handles []*pawl.Run[string]
				for i := range runs {
					r, err := ask.Start(t.Context(), client, i)
					if err != nil {
						t.Fatal(err)
					}
					handles = append(handles, r)
				}
				ended, refused := 0, 0
				for _, r := range handles {
					_, err := r.Result(t.Context())
					if err != nil && !strings.Contains(err.Error(), `budget "all"`) {
						t.Errorf("run %s: %v", r.ID(), err)
					}
					if err != nil {
						refused++
					}
					ended++
				}
				kills := stop()

				bill := mock.Bill()
				charges, err := client.Charges(t.Context(), pawl.ChargeFilter{Limit: 1000})
				if err != nil {
					t.Fatal(err)
				}
				var settled, cut int64
				for _, c := range charges {
					switch {
					case c.Cut:
						cut += c.Amount
					case c.Open:
						t.Errorf("charge %d is open and not cut off", c.ID)
					case c.Guess:
						cut += c.Amount // its call was cut off by the end of the worker, which said so
					default:
						settled += c.Amount
					}
				}
				// A call that was cut off may or may not have been answered.
				if settled > bill.MicroUSD || settled+cut < bill.MicroUSD {
					t.Errorf("the ledger has settled %d, and %d for calls that were cut off; the provider's bill is %d", settled, cut, bill.MicroUSD)
				}
				if cut == 0 && settled != bill.MicroUSD {
					t.Errorf("the ledger has %d, the bill %d", settled, bill.MicroUSD)
				}
				budgets, err := client.Budgets(t.Context(), pawl.BudgetFilter{Name: "all"})
				if err != nil {
					t.Fatal(err)
				}
				b := budgets[0]
				if b.Spent+b.Reserved != settled+cut || b.Spent > limit {
					t.Errorf("the budget has spent %d and reserved %d; the ledger has %d", b.Spent, b.Reserved, settled+cut)
				}
				t.Logf("%d runs, %d of them stopped by the budget, %d kills; bill %d micro-dollars of %d, cut off %d, 429s %d", ended, refused, kills, bill.MicroUSD, int64(limit), cut, bill.Refused)
			})
		})
	}
}

// killed keeps a worker at work and kills it again and again, as far as its store can see:
// nothing that it writes arrives any more, and its lease ends. What it returns stops that,
// leaves a worker alone to finish, and tells how often.
func killed(t *testing.T, open func() pawl.Store, w pawl.Definition, random *rand.Rand) (stop func() int) {
	t.Helper()
	quit, done := make(chan struct{}), make(chan int)
	go func() {
		kills := 0
		defer func() { done <- kills }()
		for {
			var mu sync.Mutex
			dead := false
			var worker int64
			base := open()
			mortal := storetest.Faulty(base, func(method string, _ int) storetest.Fault {
				mu.Lock()
				defer mu.Unlock()
				if dead && method != "Close" {
					return storetest.Fault{Err: pawl.ErrFenced}
				}
				return storetest.Fault{}
			})
			e := pawl.New(&hired{Store: mortal, id: &worker}, &pawl.Options{Drain: time.Millisecond, Poll: 20 * time.Millisecond, MaxRunning: 6, MaxParked: 6, Logger: slog.New(slog.DiscardHandler)})
			if err := e.Register(w); err != nil {
				t.Error(err)
				return
			}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- e.Run(ctx) }()
			select {
			case <-time.After(time.Duration(10+random.IntN(60)) * time.Millisecond):
			case <-quit:
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				return
			}
			if kills >= 12 { // this one may finish
				<-quit
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				return
			}
			mu.Lock()
			dead = true
			mu.Unlock()
			kills++
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if worker != 0 { // its lease ends, without waiting for it
				if err := base.Leave(context.Background(), worker, time.Now()); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	return func() int {
		close(quit)
		return <-done
	}
}

// hired remembers as whom a worker has joined.
type hired struct {
	pawl.Store
	id *int64
}

func (h *hired) Join(ctx context.Context, w pawl.WorkerInfo, until time.Time) (int64, error) {
	id, err := h.Store.Join(ctx, w, until)
	if err == nil {
		*h.id = id
	}
	return id, err
}

func TestJ54_aCallWithoutAPriceIsCountedAtItsWorst(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := llmtest.Script(llmtest.Rule{Text: "yes"})
		m := New(Options{Providers: map[string]llm.Model{"scripted": s}, Model: "scripted/unheard-of", WorstCase: 20_000})
		ask := pawl.Define("ask", func(c *pawl.Context, _ struct{}) (int, error) {
			n := 0
			for range 5 {
				if _, err := Generate[string](c, m, "ask", Call{Prompt: "?"}); err != nil {
					return n, err
				}
				n++
			}
			return n, nil
		}, pawl.BudgetUSD(0.05))
		e := work(t, open(), ask)
		r, err := ask.Start(t.Context(), e, struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Result(t.Context())
		if err == nil || !strings.Contains(err.Error(), "$0.05") {
			t.Errorf("got %v, want the budget", err)
		}
		costs, err := e.Costs(t.Context(), pawl.CostFilter{By: pawl.ByItem})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "costs", fmt.Sprintf("%+v", costs), "[{Key:scripted/unheard-of Meter:usd Charges:2 Times:1 Amount:40000 Open:0 Guessed:40000}]")
	})
}

func TestABacktestPrintsTheSameTableTwice(t *testing.T) {
	eachStoreAtOnce(t, func(t *testing.T, open func() pawl.Store) {
		const runs, each = 50, 10
		m, s := scripted(
			llmtest.Rule{When: func(r *llm.Request) bool { return r.System != "" && strings.HasPrefix(r.System, "Be generous") }, Text: "approve"},
			llmtest.Rule{Answer: func(_ context.Context, r *llm.Request) (*llm.Response, error) {
				if strings.Contains(r.Messages[0].Content, "7") {
					return &llm.Response{Text: "I would say: Reject."}, nil
				}
				return &llm.Response{Text: "approve"}, nil
			}},
		)
		decide := pawl.Define("decide", func(c *pawl.Context, n int) (out []string, err error) {
			for i := range each {
				d, err := Decide(c, m, "decide", Call{Prompt: fmt.Sprintf("case %d-%d", n, i)}, []string{"approve", "reject"})
				if err != nil {
					return out, err
				}
				out = append(out, d)
			}
			return out, nil
		})
		e := work(t, open(), decide, m.Backtester())
		var over []pawl.Ref
		for i := range runs {
			r, err := decide.Start(t.Context(), e, i, pawl.ID(fmt.Sprintf("run-%02d", i)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Result(t.Context()); err != nil {
				t.Fatal(err)
			}
			over = append(over, pawl.Ref{ID: r.ID()})
		}
		generous := "Be generous."
		b := Backtest{Step: "decide", Runs: over, Change: Change{System: &generous}, Budget: 100_000_000}
		before := len(s.Calls())
		var tables []string
		for range 2 {
			r, err := RunBacktest(t.Context(), e, b)
			if err != nil {
				t.Fatal(err)
			}
			tables = append(tables, r.String())
			equal(t, "asked", r.Asked, runs*each)
		}
		equal(t, "questions that were asked", len(s.Calls())-before, runs*each)
		if tables[0] != tables[1] {
			t.Errorf("two tables:\n%s\n%s", tables[0], tables[1])
		}
		// A 7 is in 95 of the 500 cases: in 5 runs (07, 17, … 47) all ten, in the 45 others one.
		if !strings.HasPrefix(tables[0], "asked 500: 405 the same (81.0 %), 95 changed, 0 failed") || !strings.Contains(tables[0], `"reject"`) {
			t.Errorf("the table is\n%.600s", tables[0])
		}
		if _, err := RunBacktest(t.Context(), e, Backtest{}); err == nil {
			t.Error("an empty backtest is taken")
		}
		_, err := RunBacktest(t.Context(), e, Backtest{Step: "nothing", Runs: over[:1]})
		if err == nil || !strings.Contains(err.Error(), `in a step "nothing"`) {
			t.Errorf("got %v", err)
		}
	})
}

// What an agent has asked can be read back whole, although no note repeats the conversation.
func TestAskedPutsConversationsTogether(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		m, s := scripted(
			llmtest.Rule{When: func(r *llm.Request) bool { return len(r.Messages) < 60 }, ToolCalls: calls(`add {"a":1,"b":1}`)},
			llmtest.Rule{Text: "done"},
		)
		a := made(t, "long", Config{Models: m, Tools: []Tool{adder(t)}, MaxTurns: 50})
		e := work(t, open(), a)
		succeed(t, e, a, Task{Prompt: strings.Repeat("a long story ", 100)}, pawl.ID("one"))
		want := s.Calls()
		n, size := 0, 0
		for q, err := range Asked(t.Context(), e, pawl.Ref{ID: "one"}) {
			if err != nil {
				t.Fatal(err)
			}
			got, _ := json.Marshal(q.Request.Messages)
			is, _ := json.Marshal(want[n].Messages)
			if string(got) != string(is) {
				t.Fatalf("request %d is\n%s\nwant\n%s", n, got, is)
			}
			n++
		}
		equal(t, "requests", n, len(want))
		for entry, err := range e.Journal(t.Context(), pawl.Ref{ID: "one"}) {
			if err != nil {
				t.Fatal(err)
			}
			size += len(entry.Data)
		}
		if size > 100_000 { // whole requests would take more than 30 times 1,300 bytes for the prompt alone, and as much again
			t.Errorf("the journal has %d bytes", size)
		}
	})
}

// A reader that comes back again and again sees every piece of an answer once.
func TestAStreamIsReadOnceHoweverOften(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var story strings.Builder
		for i := range 3000 {
			fmt.Fprintf(&story, "word%d ", i)
		}
		m, _ := scripted(llmtest.Rule{Text: story.String()})
		ask := pawl.Define("ask", func(c *pawl.Context, _ struct{}) (string, error) {
			return Generate[string](c, m, "ask", Call{Prompt: "a story", Stream: "tokens"})
		})
		e := work(t, open(), ask)
		r, err := ask.Start(t.Context(), e, struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		random, next := rand.New(rand.NewPCG(1, 1)), int64(0)
		for reconnects := 0; ; reconnects++ {
			left := 1 + random.IntN(2)
			cut := false
			for chunk, err := range e.ReadStream(t.Context(), "", r.ID(), "tokens", next) {
				if err != nil {
					t.Fatal(err)
				}
				var d Delta
				if err := json.Unmarshal(chunk.Data, &d); err != nil {
					t.Fatal(err)
				}
				text.WriteString(d.Text)
				next = chunk.Index + 1
				if left--; left == 0 && reconnects < 100 {
					cut = true
					break
				}
			}
			if !cut {
				break
			}
		}
		if text.String() != story.String() {
			t.Errorf("%d bytes were read of %d", text.Len(), story.Len())
		}
	})
}
