package api_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

func TestOnlyItsOwnNamesReachTheServer(t *testing.T) {
	h := open(t, api.Options{Hosts: []string{"pawl.test"}})
	host := func(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }
	for _, name := range []string{"localhost", "LOCALHOST:1", "127.0.0.1:8420", "[::1]", "[::1]:80", "pawl.test:8420"} {
		if r := h.send("GET", "/healthz", "", host(name)); r.status != 200 {
			t.Errorf("Host %s: %d", name, r.status)
		}
	}
	for _, name := range []string{"evil.example", "evil.example:8420", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.1", "0.0.0.0"} {
		h.refused(421, "host", "GET", "/healthz", "", host(name))
		h.refused(421, "host", "POST", "/api/runs", `{"workflow":"echo"}`, host(name))
	}
}

func TestWebPagesOfOthersMayNotWrite(t *testing.T) {
	h := open(t, api.Options{})
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	body := `{"workflow":"waits","id":"x"}`
	h.refused(403, "cross_origin", "POST", "/api/runs", body, header("Origin", "https://evil.example"))
	h.refused(403, "cross_origin", "POST", "/api/runs", body, header("Origin", "null"))
	h.refused(403, "cross_origin", "POST", "/api/runs", body, header("Sec-Fetch-Site", "cross-site"))
	h.refused(403, "cross_origin", "POST", "/api/runs", body, header("Sec-Fetch-Site", "same-site"))
	h.refused(404, "not_found", "GET", "/api/runs/x", "")
	if r := h.send("POST", "/api/runs", body, header("Origin", h.url), header("Sec-Fetch-Site", "same-origin")); r.status != 202 {
		t.Errorf("its own page: %d %s", r.status, r.body)
	}
	r := h.send("GET", "/api/runs/x", "", header("Origin", "https://evil.example"))
	if r.status != 200 || r.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a page of others may send a read but not see its answer: %d %v", r.status, r.header)
	}
}

func TestHeadersAndRequestIDs(t *testing.T) {
	h := open(t, api.Options{})
	for _, path := range []string{"/healthz", "/api/runs", "/nowhere"} {
		r := h.send("GET", path, "", func(r *http.Request) { r.Header.Set("X-Request-Id", "mine-1") })
		for name, want := range map[string]string{
			"X-Request-Id": "mine-1", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
			"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
		} {
			if got := r.header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
	one, two := h.send("GET", "/healthz", ""), h.send("GET", "/healthz", "", func(r *http.Request) { r.Header.Set("X-Request-Id", "bad id <script>") })
	a, b := one.header.Get("X-Request-Id"), two.header.Get("X-Request-Id")
	if a == b || !strings.HasPrefix(a, "req_") || !strings.HasPrefix(b, "req_") {
		t.Errorf("request ids %q, %q", a, b)
	}
}

func TestWhatMatchesNoRouteIsAProblemToo(t *testing.T) {
	h := open(t, api.Options{})
	for _, path := range []string{"/", "/api", "/api/", "/api/run", "/api/runs/", "/api/runs/x/y", "/favicon.ico"} {
		h.refused(404, "no_route", "GET", path, "")
		h.refused(404, "no_route", "POST", path, "")
	}
	for _, path := range []string{"/api//runs", "/api/./runs", "/api/runs/../runs"} {
		h.refused(404, "no_route", "GET", path, "", func(r *http.Request) { r.URL.RawPath, r.URL.Path = path, path })
	}
	for path, allow := range map[string]string{"/api/runs": "GET, POST", "/api/runs/x/cancel": "POST", "/healthz": "GET", "/api/runs/x": "GET, DELETE", "/api/budgets/x": "GET, POST, PUT, DELETE"} {
		h.refused(405, "method", "OPTIONS", path, "")
		if r := h.send("PATCH", path, ""); r.header.Get("Allow") != allow {
			t.Errorf("%s: Allow %q, want %q", path, r.header.Get("Allow"), allow)
		}
	}
	h.refused(400, "bad_request", "GET", "/healthz?x=1", "")
}

func TestHealthAndReadiness(t *testing.T) {
	var stopped atomic.Bool
	h := open(t, api.Options{Version: "v9", Ready: func(context.Context) error {
		if stopped.Load() {
			return errors.New("the engine has stopped")
		}
		return nil
	}})
	health, err := h.client.Health(t.Context())
	if err != nil || health != (api.Health{Status: "ok", Name: "pawl", Version: "v9"}) {
		t.Errorf("%+v %v", health, err)
	}
	h.ok(200, "GET", "/readyz", "", &health)
	stopped.Store(true)
	if p := h.refused(503, "not_ready", "GET", "/readyz", ""); !strings.Contains(p.Detail, "the engine has stopped") {
		t.Errorf("%q", p.Detail)
	}
}

// A closed engine refuses writes with what is in the table.
func TestAClosedEngine(t *testing.T) {
	h := open(t, api.Options{})
	if err := h.engine.Close(); err != nil {
		t.Fatal(err)
	}
	h.refused(503, "closed", "POST", "/api/runs", `{"workflow":"echo"}`)
	if _, err := h.client.Start(t.Context(), api.StartRequest{Workflow: "echo"}, 0); !errors.Is(err, pawl.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// A reader that opens a connection and says nothing, or half of a request, is not waited for.
func TestHalfARequestDoesNotHoldTheShutdown(t *testing.T) {
	h := open(t, api.Options{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /api/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nX-Request-Id: half\r\n\r\n{")
	began := time.Now()
	h.stop()
	if d := time.Since(began); d > 15*time.Second {
		t.Errorf("the shutdown took %v", d)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil && !strings.Contains(line, " 4") {
		t.Errorf("half a request was answered with %s", line)
	}
}
