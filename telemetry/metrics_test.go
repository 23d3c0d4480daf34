package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest/pgtest"
	"github.com/pawlrun/pawl/telemetry"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// eachStore runs f on both stores.
func eachStore(t *testing.T, f func(t *testing.T, s pawl.Store)) {
	t.Run("sqlite", func(t *testing.T) {
		s, err := sqlite.Open(t.TempDir()+"/pawl.db", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		f(t, s)
	})
	t.Run("postgres", func(t *testing.T) {
		s, err := postgres.Open(t.Context(), pgtest.URL(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		f(t, s)
	})
}

// page is what Prometheus reads.
func page(t *testing.T, m http.Handler) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func wants(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("%s is missing", line)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "pawl_") && !strings.Contains(line, "_bucket") {
				t.Log(strings.TrimSpace(line))
			}
		}
	}
}

// patient tells of runs that wait.
type patient struct {
	*telemetry.Metrics
	waits chan string
}

func (p *patient) RunWaits(run pawl.RunInfo) { p.waits <- run.ID }

// What runs, steps, model calls and requests were, each once, money in dollars, and what the store holds.
func TestWhatHappenedIsCounted(t *testing.T) {
	eachStore(t, func(t *testing.T, store pawl.Store) {
		m := telemetry.New()
		o := &patient{m, make(chan string, 10)}
		e := pawl.New(store, &pawl.Options{Observer: o})
		defer e.Close()
		m.Watch(e)
		prices, err := llm.DefaultPrices().With("test", []byte(`{"prices": [{"provider": "p", "model": "m", "input": 2000000, "output": 10000000}]}`))
		if err != nil {
			t.Fatal(err)
		}
		models := agent.New(agent.Options{
			Providers: map[string]llm.Model{"p": llmtest.Script(llmtest.Rule{Text: "hello", Usage: llm.Usage{Input: 1000, Output: 200, Cached: 100}})}, Model: "p/m",
			Prices: prices,
		})
		asks := pawl.Define("asks", func(c *pawl.Context, in string) (string, error) {
			return agent.Generate[string](c, models, "ask", agent.Call{Prompt: in})
		})
		twice := 0
		tries := pawl.Define("tries", func(c *pawl.Context, _ any) (int, error) {
			return pawl.Step(c, "try", func(ctx context.Context) (int, error) {
				spent, err := pawl.Spend(ctx, pawl.Spending{Meter: "searches", Item: "web", Most: 5})
				if err != nil {
					return 0, err
				}
				if err := spent.Settle(3, false, "of nobody's form"); err != nil {
					return 0, err
				}
				if twice++; twice == 1 {
					return 0, errors.New("once more")
				}
				return twice, nil
			})
		})
		fails := pawl.Define("fails", func(c *pawl.Context, _ any) (int, error) { return 0, pawl.Fatal(errors.New("no")) })
		waits := pawl.Define("waits", func(c *pawl.Context, _ any) (any, error) { return pawl.WaitFor[any](c, "never") })
		if err := e.Register(asks, tries, fails, waits); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		defer func() {
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		for range 2 {
			run, err := asks.Start(ctx, e, "hi")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := run.Result(ctx); err != nil {
				t.Fatal(err)
			}
		}
		run, err := tries.Start(ctx, e, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := run.Result(ctx); err != nil {
			t.Fatal(err)
		}
		failed, err := fails.Start(ctx, e, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := failed.Result(ctx); err == nil {
			t.Fatal("it was to fail")
		}
		waiting, err := waits.Start(ctx, e, nil)
		if err != nil {
			t.Fatal(err)
		}
		for id := ""; id != waiting.ID(); {
			id = <-o.waits
		}
		handler := api.New(e, api.Options{Metrics: m, Observe: m.Served})
		for _, path := range []string{"/api/runs", "/api/runs/run_0", "/nowhere", "/api/runs?limit=x", pawl.WebhookPath + "abc"} {
			r := httptest.NewRequest("GET", path, nil)
			r.Host = "localhost"
			handler.ServeHTTP(httptest.NewRecorder(), r)
		}
		wants(t, page(t, m),
			`pawl_runs_started_total{workflow="asks"} 2`,
			`pawl_runs_ended_total{state="completed",workflow="asks"} 2`,
			`pawl_runs_ended_total{state="failed",workflow="fails"} 1`,
			`pawl_run_duration_seconds_count{workflow="asks"} 2`,
			`pawl_run_claims_total{workflow="fails"} 1`,
			`pawl_step_attempts_total{outcome="ok",workflow="asks"} 2`,
			`pawl_step_attempts_total{outcome="failed",workflow="tries"} 1`,
			`pawl_step_attempts_total{outcome="ok",workflow="tries"} 1`,
			`pawl_step_duration_seconds_count{workflow="tries"} 2`,
			`pawl_llm_calls_total{model="p/m"} 2`,
			`pawl_llm_cost_usd_total{model="p/m"} 0.008`, // (1000 × 2 + 200 × 10) / 10^6, twice
			`pawl_llm_tokens_total{direction="input",model="p/m"} 2000`,
			`pawl_llm_tokens_total{direction="output",model="p/m"} 400`,
			`pawl_llm_tokens_total{direction="cached",model="p/m"} 200`,
			`pawl_spent_total{item="web",meter="searches"} 6`,
			`pawl_runs{state="completed"} 3`,
			`pawl_runs{state="failed"} 1`,
			`pawl_runs{state="waiting"} 1`,
			`pawl_runs{state="blocked"} 0`,
			`pawl_queue_depth 0`,
			`pawl_workers 1`,
			`pawl_store_up 1`,
			`pawl_http_requests_total{code="200",method="GET",route="/api/runs"} 1`,
			`pawl_http_requests_total{code="400",method="GET",route="/api/runs"} 1`,
			`pawl_http_requests_total{code="404",method="GET",route="/api/runs/{id}"} 1`,
			`pawl_http_requests_total{code="404",method="GET",route="none"} 1`,
			`pawl_http_requests_total{code="404",method="GET",route="`+pawl.WebhookPath+`{token}"} 1`,
			`pawl_http_request_duration_seconds_count{route="/api/runs"} 2`,
		)
	})
}

// The names and texts are as Prometheus' own rules want them.
func TestTheNamesAreGoodOnes(t *testing.T) {
	m := telemetry.New()
	m.RunStarted(pawl.RunInfo{Workflow: "w"})
	m.RunClaimed(pawl.RunInfo{Workflow: "w"})
	m.RunEnded(pawl.RunInfo{Workflow: "w", State: pawl.Completed}, nil)
	m.StepEnded(pawl.RunInfo{Workflow: "w"}, "s", 1, 1, nil)
	m.StepSpent(pawl.RunInfo{}, pawl.Charge{Meter: pawl.USD, Item: "m", Detail: []byte(`{"usage":{"input":1}}`)})
	m.StepSpent(pawl.RunInfo{}, pawl.Charge{Meter: "x", Item: "m"})
	m.Served("/a", "GET", 200, 1, false)
	problems, err := promlint.New(strings.NewReader(page(t, m))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "pawl_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// A store that does not answer is told as such, and the rest of the page is there.
func TestAStoreThatIsAway(t *testing.T) {
	s, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := telemetry.New()
	e := pawl.New(s, nil)
	m.Watch(e)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	text := page(t, m)
	wants(t, text, "pawl_store_up 0")
	if strings.Contains(text, "pawl_queue_depth ") || !strings.Contains(text, "go_goroutines ") {
		t.Error("of a store that is away something was told, or the rest was not")
	}
}

// A mistake in names can't fill the memory of whoever keeps the series, and no name breaks the page.
func TestNamesAreBounded(t *testing.T) {
	m := telemetry.New()
	m.RunStarted(pawl.RunInfo{Workflow: "a\xff\"\n\\b"})
	for i := range 5000 {
		m.RunStarted(pawl.RunInfo{Workflow: fmt.Sprint("w", i)})
	}
	text := page(t, m)
	wants(t, text, `pawl_runs_started_total{workflow="(other)"} 4001`, `pawl_runs_started_total{workflow="w998"} 1`, `pawl_runs_started_total{workflow="a`+"\uFFFD"+`\"\n\\b"} 1`)
	if n := strings.Count(text, "pawl_runs_started_total{"); n != 1001 {
		t.Errorf("%d series", n)
	}
}
