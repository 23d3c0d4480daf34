package draft_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/flow/draft"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// eachStore runs f on a file and on a database.
func eachStore(t *testing.T, f func(t *testing.T, store pawl.Store)) {
	t.Helper()
	t.Parallel()
	run := func(name string, open func(t *testing.T) (pawl.Store, error)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := open(t)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			f(t, s)
		})
	}
	run("sqlite", func(t *testing.T) (pawl.Store, error) {
		return sqlite.Open(filepath.Join(t.TempDir(), "pawl.db"), nil)
	})
	run("postgres", func(t *testing.T) (pawl.Store, error) { return postgres.Open(t.Context(), pgtest.URL(t), nil) })
}

// desk is a service that does nothing.
type desk struct{}

func (desk) Actions() []service.Action {
	return []service.Action{{Name: "send", Doc: "Sends a text.", Effect: service.Writes, Params: json.RawMessage(`{"type":"object","required":["to"],"additionalProperties":false,"properties":{"to":{"type":"string","x-pawl-trusted":true},"text":{}}}`)}}
}

func (desk) Call(context.Context, service.Call) (any, error) { return "sent", nil }

// house is an engine at work, with flows and drafts, whose model answers by a script.
type house struct {
	*pawl.Engine
	flows  *flow.Registry
	drafts *draft.Drafts
	model  *llmtest.Scripted
	stop   func()
}

func open(t *testing.T, store pawl.Store, change func(*draft.Options), rules ...llmtest.Rule) *house {
	t.Helper()
	prices, err := llm.DefaultPrices().With("test", []byte(`{"prices": [{"provider": "test", "model": "m", "input": 1000000, "output": 2000000}]}`))
	if err != nil {
		t.Fatal(err)
	}
	h := &house{Engine: pawl.New(store, nil), model: llmtest.Script(rules...)}
	h.flows = flow.NewRegistry(h.Engine, flow.Options{Model: "test/m", Services: service.Set{"desk": desk{}}, Unset: map[string]string{"slack": "set SLACK_BOT_TOKEN"}})
	opt := draft.Options{Models: agent.New(agent.Options{Providers: map[string]llm.Model{"test": h.model}, Prices: prices}), Model: "test/m"}
	if change != nil {
		change(&opt)
	}
	h.drafts = draft.New(h.Engine, h.flows, opt)
	if err := h.Register(h.drafts.Workflow()); err != nil {
		t.Fatal(err)
	}
	if err := h.flows.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		if err := h.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	h.stop = sync.OnceFunc(func() { cancel(); work.Wait() })
	t.Cleanup(h.stop)
	return h
}

// asks lets a draft be written, and returns it.
func (h *house) asks(t *testing.T, q draft.Request) draft.View {
	t.Helper()
	d, err := h.drafts.Generate(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.drafts.Wait(t.Context(), q.Tenant, d.ID); err != nil {
		t.Fatal(err)
	}
	return h.gets(t, q.Tenant, d.ID)
}

func (h *house) gets(t *testing.T, tenant, id string) draft.View {
	t.Helper()
	v, err := h.drafts.Get(t.Context(), tenant, id)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (h *house) deploys(t *testing.T, tenant, doc string) {
	t.Helper()
	if _, err := h.flows.Deploy(t.Context(), flow.Deployment{Tenant: tenant, Document: []byte(doc), By: "ann"}); err != nil {
		t.Fatal(err)
	}
}

// says is a flow that sends a text.
func says(id, text string) string {
	return `{"id": "` + id + `", "steps": [{"id": "say", "type": "service", "config": {"service": "desk", "action": "send", "to": "#all", "text": "` + text + `"}, "next": "end"}]}`
}

// answers are rules that answer one call each.
func answers(texts ...string) (rules []llmtest.Rule) {
	for _, text := range texts {
		rules = append(rules, llmtest.Rule{Text: text, Times: 1, Usage: llm.Usage{Input: 1_000, Output: 500}})
	}
	return rules
}

func has(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%s has no %q: %.3000s", what, word, text)
		}
	}
}
