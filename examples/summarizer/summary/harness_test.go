package summary_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/summarizer/summary"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

const secret = "it's a secret"

func define(t *testing.T, model llm.Model) *summary.Service {
	t.Helper()
	prices, err := llm.DefaultPrices().With("test", []byte(`{"prices": [{"provider": "test", "model": "m", "input": 0, "output": 0}]}`))
	if err != nil {
		t.Fatal(err)
	}
	s, err := summary.New(summary.Config{
		Models: agent.New(agent.Options{Providers: map[string]llm.Model{"test": model}, Prices: prices}), Model: "test/m", Hour: 9,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// site is the service at work: its engine on a store, its handler on loopback.
type site struct {
	t    *testing.T
	url  string
	stop func()
}

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// eachStore runs f on a file, and on a database.
func eachStore(t *testing.T, f func(t *testing.T, where string)) {
	t.Run("sqlite", func(t *testing.T) { f(t, filepath.Join(t.TempDir(), "s.db")) })
	t.Run("postgres", func(t *testing.T) { f(t, pgtest.URL(t)) })
}

func serve(t *testing.T, where string, model llm.Model, opt summary.HandlerOptions) *site {
	t.Helper()
	store, err := demo.Open(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	s, e := define(t, model), pawl.New(store, &pawl.Options{Logger: quiet})
	if err := e.Register(s.Definitions()...); err != nil {
		t.Fatal(err)
	}
	if _, err := s.StartDaily(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	worked := make(chan error, 1)
	go func() { worked <- e.Run(ctx) }()
	opt.Logger, opt.Closing = quiet, ctx
	server := httptest.NewServer(s.Handler(e, opt))
	out := &site{t: t, url: server.URL}
	stopped := false
	out.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		server.Close()
		if err := <-worked; err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(out.stop)
	return out
}

type answer struct {
	status int
	text   string
	object map[string]any
	list   []map[string]any
}

// call makes a request; header is name, value, name, value, …
func (s *site) call(method, path, body string, header ...string) answer {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	a := answer{status: res.StatusCode, text: string(b)}
	if json.Unmarshal(b, &a.object) != nil {
		_ = json.Unmarshal(b, &a.list) // what is neither is seen in text
	}
	return a
}

func (s *site) want(a answer, status int, fields map[string]any) {
	s.t.Helper()
	if a.status != status {
		s.t.Errorf("status %d, want %d: %s", a.status, status, a.text)
	}
	for name, want := range fields {
		if a.object[name] != want {
			s.t.Errorf("%s is %v, want %v: %s", name, a.object[name], want, a.text)
		}
	}
}

// hook sends a webhook that is signed as it should be.
func (s *site) hook(delivery, event, body string) answer {
	s.t.Helper()
	return s.call("POST", "/webhook/summarize", body, "x-hub-signature-256", sign(body), "X-GitHub-Delivery", delivery, "X-GitHub-Event", event)
}

func sign(body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// ended waits until a summary has come to an end.
func (s *site) ended(id string) answer {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		a := s.call("GET", "/summaries/"+id, "")
		state := a.object["state"]
		if state == "completed" || state == "failed" {
			return a
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("summary %s does not end: %s", id, a.text)
		}
	}
}

type object = map[string]any
