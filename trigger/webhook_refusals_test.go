package trigger

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

// post sends one request and returns its answer, whose body was read.
func post(t *testing.T, c *http.Client, address, body string, edit func(*http.Request)) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if edit != nil {
		edit(req)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	return res
}

func set(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[name] = values }
}

// Who is refused for now is told when to come again; and whoever was answered, with whatever, takes
// no place of those who come after.
func TestWhoIsRefusedForNowIsToldWhenToComeAgain(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		e := client(t, open(), taker)
		set := NewSet(e)
		entered, block := make(chan struct{}), make(chan struct{})
		for _, w := range []Webhook{
			{ID: "plain", Path: "/plain", Workflow: "taker", MaxInFlight: 2, MaxBody: 100, Signature: SignatureOptions{Scheme: None}},
			{ID: "held", Path: "/held", Workflow: "taker", MaxInFlight: 1, Signature: SignatureOptions{Scheme: None},
				Input: func(d Delivery) (any, error) { entered <- struct{}{}; <-block; return order{1}, nil }},
		} {
			if err := set.OnWebhook(w); err != nil {
				t.Fatal(err)
			}
		}
		server := httptest.NewServer(set)
		defer server.Close()
		first := make(chan int)
		go func() { first <- post(t, server.Client(), server.URL+"/held", "{}", nil).StatusCode }()
		<-entered
		if res := post(t, server.Client(), server.URL+"/held", "{}", nil); res.StatusCode != 429 || res.Header.Get("Retry-After") != "1" {
			t.Errorf("one too many: %d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
		}
		block <- struct{}{}
		if got := <-first; got != 202 {
			t.Errorf("the first: %d", got)
		}
		go func() { <-entered; block <- struct{}{} }()
		if res := post(t, server.Client(), server.URL+"/held", "{}", nil); res.StatusCode != 202 {
			t.Errorf("when the first was answered: %d", res.StatusCode)
		}
		for i, body := range []string{`{`, strings.Repeat("1", 101), `{"m":1}`, `{"n":1}`, `{"n":2}`, `{"n":3}`} {
			want := []int{400, 413, 422, 202, 202, 202}[i]
			if res := post(t, server.Client(), server.URL+"/plain", body, nil); res.StatusCode != want {
				t.Errorf("%.20s: %d, want %d", body, res.StatusCode, want)
			}
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if res := post(t, server.Client(), server.URL+"/plain", `{"n":4}`, nil); res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" {
			t.Errorf("the store does not answer: %d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
		}
	})
}

// A body is of one type, which is said once, and is not packed.
func TestABodyIsOfOneType(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		e := client(t, open(), taker)
		hooks := NewSet(e)
		if err := hooks.OnWebhook(Webhook{ID: "w", Path: "/w", Workflow: "taker", Signature: SignatureOptions{Scheme: None}}); err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(hooks)
		defer server.Close()
		for name, c := range map[string]struct {
			edit func(*http.Request)
			want int
		}{
			"as it is":          {set("Content-Encoding", "identity"), 202},
			"with a charset":    {set("Content-Type", "Application/JSON; charset=utf-8"), 202},
			"packed":            {set("Content-Encoding", "gzip"), 415},
			"of two types":      {set("Content-Type", "application/json", "multipart/form-data"), 415},
			"of a type, twice":  {set("Content-Type", "application/json", "application/json"), 415},
			"of no type":        {set("Content-Type"), 415},
			"of one like JSON":  {set("Content-Type", "application/jsonp"), 415},
			"a form's":          {set("Content-Type", "application/x-www-form-urlencoded"), 415},
			"packed twice over": {set("Content-Encoding", "identity, gzip"), 415},
		} {
			body := fmt.Sprintf(`{"n":%d}`, len(name))
			if res := post(t, server.Client(), server.URL+"/w", body, c.edit); res.StatusCode != c.want {
				t.Errorf("%s: %d, want %d", name, res.StatusCode, c.want)
			}
		}
	})
}

// No webhook answers where the server does, in whatever case it is written.
func TestJ47_theServersPathsAreNoWebhooks(t *testing.T) {
	for _, p := range []string{"/api", "/.well-known", "/ui", "/metrics", "/healthz", "/readyz", "/openapi.json", "/approve", "/login", "/logout"} {
		for _, path := range []string{p, p + "/x", strings.ToUpper(p), strings.ToUpper(p) + "/x"} {
			if err := CheckPath(path); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("%s: %v", path, err)
			}
		}
		if err := CheckPath("/hooks" + p); err != nil {
			t.Error(err)
		}
		if err := CheckPath(p + "x"); err != nil {
			t.Error(err)
		}
	}
	if err := CheckPath("/" + strings.Repeat("x", 511)); err != nil {
		t.Error(err)
	}
	if err := CheckPath("/" + strings.Repeat("x", 512)); !errors.Is(err, pawl.ErrInput) {
		t.Error("a path of 513 bytes was taken")
	}
}

// A delivery has its name where Dedupe says; one that has none there is refused, and starts nothing.
// Where nothing names it, it is its body and when that was signed.
func TestWhatNamesADelivery(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		anything := pawl.Define("anything", func(c *pawl.Context, in any) (any, error) { return in, nil })
		e := client(t, open(), anything)
		hooks := NewSet(e)
		for _, w := range []Webhook{
			{ID: "pointed", Path: "/pointed", Workflow: "anything", Signature: SignatureOptions{Scheme: None}, Dedupe: "/event/a~1b"},
			{ID: "slack", Path: "/slack", Workflow: "anything", Signature: SignatureOptions{Scheme: Slack, Secrets: []string{"k"}}},
		} {
			if err := hooks.OnWebhook(w); err != nil {
				t.Fatal(err)
			}
		}
		server := httptest.NewServer(hooks)
		defer server.Close()
		one := call(t, server.URL, "/pointed", "POST", `{"event":{"a/b":"x"}}`)
		if again := call(t, server.URL, "/pointed", "POST", `{"event":{"a/b":"x"}}`); again.status != 202 || again.run != one.run || !again.replayed {
			t.Errorf("again: %+v", again)
		}
		if other := call(t, server.URL, "/pointed", "POST", `{"event":{"a/b":17}}`); other.status != 202 || other.run == one.run || other.replayed {
			t.Errorf("another id: %+v", other)
		}
		for _, body := range []string{`{}`, `[]`, `{"event":"a/b"}`, `{"event":{"a/b":""}}`, `{"event":{"a/b":{}}}`, `{"event":{"a/b":null}}`} {
			if got := call(t, server.URL, "/pointed", "POST", body); got.status != 400 || !strings.Contains(got.detail, "/event/a~1b") {
				t.Errorf("%s: %+v", body, got)
			}
		}
		now := time.Now()
		slack := func(at time.Time, body string) answered {
			sec := fmt.Sprint(at.Unix())
			return call(t, server.URL, "/slack", "POST", body, "X-Slack-Request-Timestamp", sec, "X-Slack-Signature", "v0="+hex.EncodeToString(macOf("k", "v0:"+sec+":"+body)))
		}
		first, repeat, later := slack(now, `{"a":1}`), slack(now, `{"a":1}`), slack(now.Add(-2*time.Second), `{"a":1}`)
		if first.status != 202 || repeat.run != first.run || !repeat.replayed || later.status != 202 || later.run == first.run || later.replayed {
			t.Errorf("first %+v, the same again %+v, the same of another time %+v", first, repeat, later)
		}
		if runs, err := e.List(t.Context(), pawl.Filter{}); err != nil || len(runs) != 4 {
			t.Errorf("%d runs, %v", len(runs), err)
		}
	})
}

// inMemory is a listener in virtual time.
type inMemory struct {
	conns chan net.Conn
	done  chan struct{}
	close sync.Once
}

func (l *inMemory) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *inMemory) Close() error   { l.close.Do(func() { close(l.done) }); return nil }
func (l *inMemory) Addr() net.Addr { return &net.TCPAddr{} }

func (l *inMemory) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Who sends a body that never ends is cut off, and keeps nobody out for longer than that: neither
// by a place among those that are worked on, nor by a connection.
func TestABodyThatDripsIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		set := NewSet(client(t, s, taker))
		if err := set.OnWebhook(Webhook{ID: "w", Path: "/w", Workflow: "taker", MaxInFlight: 1, Signature: SignatureOptions{Scheme: None}}); err != nil {
			t.Fatal(err)
		}
		l := &inMemory{conns: make(chan net.Conn), done: make(chan struct{})}
		server := &http.Server{Handler: set}
		served := make(chan error)
		go func() { served <- server.Serve(l) }()
		transport := &http.Transport{DialContext: l.dial}
		defer func() {
			transport.CloseIdleConnections()
			_ = server.Close()
			<-served
		}()
		for name, c := range map[string]struct {
			head   string
			within time.Duration
		}{
			"a good one":       {"POST /w HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n", 31 * time.Second},
			"in chunks":        {"POST /w HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n", 31 * time.Second},
			"of no type":       {"POST /w HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", 31 * time.Second},
			"of another verb":  {"PUT /w HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", 31 * time.Second},
			"to no webhook":    {"POST /v HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", 31 * time.Second},
			"in one, and more": {"POST /w HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{}", 31 * time.Second},
		} {
			conn, err := l.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			ended := make(chan time.Duration, 1)
			go func() {
				_, _ = io.Copy(io.Discard, conn)
				ended <- time.Since(began)
			}()
			drip := " "
			if strings.Contains(c.head, "chunked") {
				drip = "1\r\n \r\n"
			}
			for _, err := io.WriteString(conn, c.head); err == nil && time.Since(began) < 10*time.Minute; _, err = io.WriteString(conn, drip) {
				time.Sleep(time.Second)
			}
			_ = conn.Close()
			if took := <-ended; took > c.within {
				t.Errorf("%s: it was cut off after %v", name, took)
			}
		}
		hc := &http.Client{Transport: transport}
		if res := post(t, hc, "http://x/w", `{"n":1}`, nil); res.StatusCode != 202 {
			t.Errorf("who comes after them: %d", res.StatusCode)
		}
	})
}

// What is signed is the body: a request without one would have a signature that fits whatever else it says.
func TestWithoutABodyNothingIsSigned(t *testing.T) {
	route := func(methods ...string) Route {
		return Route{ID: "flow:r:0", Owner: "flow:r", Path: "/r", Workflow: "quick", Scheme: HMAC, Secret: "s", Methods: methods}
	}
	if err := CheckRoute(route("POST", "GET")); !errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), "GET") {
		t.Error(err)
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		e := client(t, open(), quick)
		r := route("POST", "DELETE")
		if err := CheckRoute(r); err != nil {
			t.Fatal(err)
		}
		forged := Arrival{Method: "DELETE", Query: url.Values{"all": {"yes"}}}
		var bad *ArrivalError
		if got, err := r.Accept(t.Context(), e, forged); !errors.As(err, &bad) {
			t.Errorf("%+v, %v", got, err)
		}
		if got, err := r.Accept(t.Context(), e, Arrival{Method: "DELETE", Body: []byte(`{"id": 1}`)}); err != nil || got.Run == "" {
			t.Error(got, err)
		}
		r.Scheme, r.Secret = None, ""
		if got, err := r.Accept(t.Context(), e, forged); err != nil || got.Run == "" {
			t.Error(got, err)
		}
	})
}
