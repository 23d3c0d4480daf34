package api_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/sqlite"
)

// still is a handler on an engine that works no runs, with one run of "waits" called "w", for
// what is asked thousands of times a second.
func still(t testing.TB, opt api.Options, defs ...pawl.Definition) http.Handler {
	t.Helper()
	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, store)
	e := pawl.New(store, &pawl.Options{Logger: slog.New(slog.DiscardHandler), Secret: bytes.Repeat([]byte("s"), 32)})
	if err := e.Register(append(workflows(func() error { return nil }), defs...)...); err != nil {
		t.Fatal(err)
	}
	if _, err := e.StartRun(t.Context(), "waits", nil, pawl.ID("w")); err != nil {
		t.Fatal(err)
	}
	opt.Logger = slog.New(slog.DiscardHandler)
	return api.New(e, opt)
}

// fuzzed sends a request, whatever is in it, and holds the answer against what all answers have:
// no fault of the server's, a problem where it refuses, and no redirect elsewhere.
func fuzzed(t *testing.T, h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	what := fmt.Sprintf("%s %q: %d %.300s", r.Method, r.URL, rec.Code, rec.Body)
	if rec.Code >= 500 || rec.Code >= 300 && rec.Code < 400 {
		t.Fatal(what)
	}
	if strings.HasPrefix(r.URL.Path, pawl.WebhookPath) {
		return rec
	}
	kind := rec.Header().Get("Content-Type")
	if rec.Code >= 400 && kind != "application/problem+json" && !strings.HasPrefix(kind, "text/html") || rec.Header().Get("X-Frame-Options") != "DENY" {
		t.Fatal(what, rec.Header())
	}
	if strings.HasSuffix(kind, "json") && rec.Body.Len() > 0 && !json.Valid(rec.Body.Bytes()) {
		t.Fatal("no JSON: ", what)
	}
	return rec
}

func FuzzCursor(f *testing.F) {
	for _, s := range []string{"", "YmVmb3JlOjE", "aG9vazox", "c3RlcDox", "YmVmb3JlOi0x", "YmVmb3JlOjk5OTk5OTk5OTk5OTk5OTk5OTk5", "=", "\x00", "YmVmb3JlOjE=", "eA"} {
		f.Add(s)
	}
	h := still(f, api.Options{})
	lists := []string{"/api/runs", "/api/hooks", "/api/budgets", "/api/charges", "/api/runs/w/steps", "/api/runs/w/asked", "/api/runs/w/budgets", "/api/approvals"}
	f.Fuzz(func(t *testing.T, cursor string) {
		for _, list := range lists {
			r := httptest.NewRequest("GET", "http://localhost"+list, nil)
			r.URL.RawQuery = url.Values{"cursor": {cursor}}.Encode()
			if rec := fuzzed(t, h, r); rec.Code != 200 && rec.Code != 400 {
				t.Errorf("%s?cursor=%q: %d %s", list, cursor, rec.Code, rec.Body)
			}
		}
		r := httptest.NewRequest("GET", "http://localhost/api/feed?kind=no-such-kind", nil)
		r.Header.Set("Last-Event-ID", cursor)
		fuzzed(t, h, r)
	})
}

func FuzzIdempotencyKey(f *testing.F) {
	for _, s := range []string{"", "a", "with space", "ü", "\x00", strings.Repeat("k", 255), strings.Repeat("k", 256), "a,b", "\"quoted\"", "once_x"} {
		f.Add(s, `{"workflow":"waits"}`)
	}
	f.Add("k", `{"workflow":"echo"}`)
	h := still(f, api.Options{})
	f.Fuzz(func(t *testing.T, key, body string) {
		ask := func(body string) *httptest.ResponseRecorder {
			r := httptest.NewRequest("POST", "http://localhost/api/runs", strings.NewReader(body))
			r.Header["Idempotency-Key"] = []string{key}
			return fuzzed(t, h, r)
		}
		first := ask(body)
		if first.Code != 202 || key == "" {
			return
		}
		var a, b api.Run
		again := ask(body)
		if again.Code != 202 || again.Header().Get("Idempotency-Replayed") != "true" {
			t.Fatalf("key %q: again %d %s", key, again.Code, again.Body)
		}
		if json.Unmarshal(first.Body.Bytes(), &a) != nil || json.Unmarshal(again.Body.Bytes(), &b) != nil || a.ID != b.ID {
			t.Errorf("key %q has made %s and %s", key, a.ID, b.ID)
		}
		if other := ask(body + " "); other.Code != 202 { // space around it is not another body
			t.Errorf("key %q: with space %d %s", key, other.Code, other.Body)
		}
		if other := ask(`{"workflow":"waits","priority":` + fmt.Sprint(len(body)) + `}`); other.Code != 422 {
			t.Errorf("key %q with another body: %d %s", key, other.Code, other.Body)
		}
	})
}

func FuzzRouterPath(f *testing.F) {
	for _, s := range []string{"/", "//", "/api/runs", "/api/runs/%2e%2e/keys", "/api/runs/w/../w", "/api/runs/w%2fcancel", "/api/runs/w/streams/", "/api//runs", "/api/runs/w/streams/a/b?from=-1",
		"/healthz/", "/%00", "/api/runs/%ff", "/.well-known/workflow/v1/webhook/../../../../api/runs", "/api/runs;x=1", "/API/RUNS", "/approve/", "/api/runs/w?wait=1h", "*", "/api/hooks/a%2Fb", "/api/runs/.", "http://evil.example/api/runs"} {
		for _, m := range []string{"GET", "POST", "PURGE"} {
			f.Add(m, s)
		}
	}
	h := still(f, api.Options{Auth: &api.Auth{Rate: 1e9, Burst: 1e9, Tries: 1e9}, ClientRate: api.Rate{PerSecond: -1}})
	f.Fuzz(func(t *testing.T, method, target string) {
		var line bytes.Buffer
		fmt.Fprintf(&line, "%s %s HTTP/1.1\r\nHost: localhost\r\n\r\n", method, target)
		r, err := readRequest(line.Bytes())
		if err != nil {
			return // net/http answers it
		}
		rec := fuzzed(t, h, r)
		// Without a key nothing but the public paths answers with success.
		public := strings.HasPrefix(r.URL.Path, "/healthz") || r.URL.Path == "/readyz" || r.URL.Path == "/openapi.json" || r.URL.Path == "/api/schema/flow.json" || strings.HasPrefix(r.URL.Path, "/login") || r.URL.Path == "/logout"
		if rec.Code < 300 && !public {
			t.Errorf("%s %q answers %d without a key", method, target, rec.Code)
		}
	})
}

func FuzzWebhookHeaders(f *testing.F) {
	for _, s := range []string{"", "gzip", "identity", "text/plain", "multipart/form-data; boundary=x", "\x00", "t=1,v1=aa", strings.Repeat("a", 4096), "a, b", "application/x-www-form-urlencoded; charset=utf-16"} {
		for _, name := range []string{"Content-Type", "Content-Encoding", "Stripe-Signature", "X-Forwarded-For", "X-Forwarded-Host", "Connection", "Webhook-Id", "Content-Length"} {
			f.Add(name, s, []byte(`{"files":{"a":"b"}}`))
		}
	}
	h := open(f, api.Options{TrustForwarded: true, ClientRate: api.Rate{PerSecond: -1}, WebhookRate: api.Rate{PerSecond: -1}}, pawl.Define("webhook", func(c *pawl.Context, _ any) (any, error) {
		w, err := pawl.NewWebhook(c, pawl.Dedupe("Webhook-Id"))
		if err != nil {
			return nil, err
		}
		defer w.Close(c)
		return nil, c.Sleep(time.Hour)
	}))
	id := h.start("webhook", "null")
	h.until(id, pawl.Waiting)
	hooks, err := h.client.Hooks(f.Context(), id)
	if err != nil || len(hooks.Items) != 1 {
		f.Fatal(hooks, err)
	}
	f.Fuzz(func(t *testing.T, name, value string, body []byte) {
		r := httptest.NewRequest("POST", "http://localhost"+pawl.WebhookPath+hooks.Items[0].Token, bytes.NewReader(body))
		r.Header[http.CanonicalHeaderKey(name)] = []string{value}
		rec := fuzzed(t, h.handler, r)
		named := len(r.Header.Values("Webhook-Id")) == 1 && r.Header.Get("Webhook-Id") != ""
		if !named && rec.Code < 300 {
			t.Errorf("%q: %q without what names the delivery: %d", name, value, rec.Code)
		}
	})
}

func readRequest(raw []byte) (*http.Request, error) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err == nil {
		r.RemoteAddr = "192.0.2.1:1"
	}
	return r, err
}
