package flow_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/service"
)

// outside is a server somewhere that flows call by the service http. It answers 200 and {} unless answer does it.
type outside struct {
	url    string
	answer func(w http.ResponseWriter, call int, body string) // call counts from 1, by path
	slow   func(r *http.Request)                              // is called before; nil: nothing is waited for
	status map[string]int                                     // by path; without answer

	mu    sync.Mutex
	calls map[string][]string // by path, the bodies
	keys  map[string][]string // and the idempotency keys
}

func newOutside(t *testing.T) *outside {
	o := &outside{calls: map[string][]string{}, keys: map[string][]string{}}
	s := httptest.NewServer(o)
	t.Cleanup(s.Close)
	o.url = s.URL
	return o
}

func (o *outside) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // whoever called is gone
	}
	o.mu.Lock()
	o.calls[r.URL.Path] = append(o.calls[r.URL.Path], string(body))
	o.keys[r.URL.Path] = append(o.keys[r.URL.Path], r.Header.Get("Idempotency-Key"))
	n := len(o.calls[r.URL.Path])
	o.mu.Unlock()
	if o.slow != nil {
		o.slow(r)
	}
	if o.answer != nil {
		o.answer(w, n, string(body))
		return
	}
	if status := o.status[r.URL.Path]; status != 0 {
		w.WriteHeader(status)
	}
	fmt.Fprint(w, `{}`)
}

// bodies are those of the calls to a path.
func (o *outside) bodies(path string) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.calls[path]...)
}

// options are those of a server whose flows may call it, and a desk, and that never leaves it alone, however often it fails.
func (o *outside) options(t *testing.T, d *desk, rules ...llmtest.Rule) flow.Options {
	t.Helper()
	opt := options(t, d, rules...)
	h, err := service.NewHTTP(service.HTTPOptions{Network: service.Network{Allow: []string{strings.TrimPrefix(o.url, "http://")}}})
	if err != nil {
		t.Fatal(err)
	}
	opt.Services["http"] = h
	opt.Breaker = agent.NewBreaker(&agent.BreakerOptions{Failures: 1000})
	return opt
}

// call is a step that calls it.
func (o *outside) call(id, next, path string, more ...string) string {
	return fmt.Sprintf(`{"id": %q, "type": "service", "config": {"service": "http", "method": "POST", "url": "%s%s"}, "next": %s%s}`, id, o.url, path, next, strings.Join(append([]string{""}, more...), ", "))
}

// after deploys a document, runs it to its end, and tells of that run.
func (s *server) after(t *testing.T, doc, variables string) flow.Execution {
	t.Helper()
	d := s.deploys(t, doc)
	info, err := s.StartRun(t.Context(), d.ID, json.RawMessage(variables))
	if err != nil {
		t.Fatal(err)
	}
	return s.ended(t, info.ID)
}

// ended tells of a run when it is over.
func (s *server) ended(t *testing.T, id string) flow.Execution {
	t.Helper()
	if _, _, err := s.Wait(t.Context(), "", id); err != nil {
		t.Fatal(err)
	}
	return s.execution(t, id)
}

// because checks that a run failed, with a code and words in its error.
func because(t *testing.T, x flow.Execution, code string, words ...string) {
	t.Helper()
	if x.Status != pawl.Failed || x.Error == nil || x.Error.Code != code {
		t.Errorf("it is %s: %+v; want it failed: %s", x.Status, x.Error, code)
		return
	}
	for _, word := range words {
		if !strings.Contains(x.Error.Message, word) {
			t.Errorf("the error is %q, want %q in it", x.Error.Message, word)
		}
	}
}

// tried are the attempts of a step, in words: how each ended.
func tried(x flow.Execution, step string) string {
	var out []string
	for _, a := range x.StepResults[step].Attempts {
		if a.Error == nil {
			out = append(out, "done")
		} else {
			out = append(out, a.Error.Code)
		}
	}
	return strings.Join(out, " ")
}
