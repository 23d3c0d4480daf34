package trigger

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

type answered struct {
	status   int
	run      string
	replayed bool
	detail   string
}

func call(t *testing.T, server, path, method, body string, header ...string) answered {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, server+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var buf bytes.Buffer
	_, _ = buf.ReadFrom(res.Body)
	var got struct {
		RunID  string `json:"runId"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}
	_ = json.Unmarshal(buf.Bytes(), &got)
	if res.StatusCode >= 400 && (got.Status != res.StatusCode || got.Detail == "" || res.Header.Get("Content-Type") != "application/problem+json") {
		t.Errorf("%s %s: %d is no problem: %s", method, path, res.StatusCode, buf.String())
	}
	return answered{res.StatusCode, got.RunID, res.Header.Get("Idempotency-Replayed") == "true", got.Detail}
}

func TestWebhooksStartRuns(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		store := open()
		e := client(t, store, taker)
		set := NewSet(e)
		if err := set.OnWebhook(Webhook{ID: "orders", Tenant: "acme", Path: "/hooks/orders", Workflow: "taker", MaxBody: 200,
			Signature: SignatureOptions{Scheme: HMAC, Header: "X-Sig", Secrets: []string{"k"}}, Dedupe: "X-Id"}); err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(set)
		defer server.Close()
		send := func(body, id string) answered {
			t.Helper()
			return call(t, server.URL, "/hooks/orders", "POST", body, "X-Sig", hex.EncodeToString(macOf("k", body)), "X-Id", id)
		}
		first := send(`{"n": 1}`, "d1")
		if first.status != 202 || first.replayed {
			t.Fatalf("%+v", first)
		}
		if info, err := e.Get(t.Context(), pawl.Ref{Tenant: "acme", ID: first.run}); err != nil || info.Attrs[TriggerAttribute] != "orders" {
			t.Errorf("%+v, %v", info, err)
		}
		if again := send(`{"n": 1}`, "d1"); again.status != 202 || again.run != first.run || !again.replayed {
			t.Errorf("the same delivery: %+v", again)
		}
		if other := send(`{"n": 1}`, "d2"); other.status != 202 || other.run == first.run {
			t.Errorf("another delivery: %+v", other)
		}
		large := `{"n": ` + strings.Repeat("1", 300) + `}`
		for name, c := range map[string]struct {
			got  answered
			want int
		}{
			"another body":  {send(`{"n": 2}`, "d1"), 409},
			"unknown field": {send(`{"m": 2}`, "d3"), 422},
			"no JSON":       {send(`{"n": `, "d4"), 400},
			"too large":     {send(large, "d5"), 413},
			"not signed":    {call(t, server.URL, "/hooks/orders", "POST", `{"n": 1}`, "X-Id", "d6"), 401},
			"GET":           {call(t, server.URL, "/hooks/orders", "GET", ""), 405},
			"packed":        {call(t, server.URL, "/hooks/orders", "POST", "x", "Content-Encoding", "gzip"), 415},
			"form":          {call(t, server.URL, "/hooks/orders", "POST", "x", "Content-Type", "multipart/form-data"), 415},
			"elsewhere":     {call(t, server.URL, "/hooks/order", "POST", "x"), 404},
		} {
			if c.got.status != c.want || c.got.run != "" {
				t.Errorf("%s: %+v, want %d", name, c.got, c.want)
			}
		}
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				if got := send(`{"n": 7}`, fmt.Sprint("same", i%4)); got.status != 202 {
					t.Errorf("%+v", got)
				}
			})
		}
		all.Wait()
		if runs, err := e.List(t.Context(), pawl.Filter{Tenant: "acme"}); err != nil || len(runs) != 2+4 {
			t.Errorf("%d runs, %v", len(runs), err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if got := send(`{"n": 1}`, "d9"); got.status != 503 {
			t.Errorf("closed: %+v", got)
		}
	})
}

func TestTooManyRequestsAtOnce(t *testing.T) {
	e := client(t, sqliteStore(t, ":memory:"), taker)
	block, entered := make(chan struct{}), make(chan struct{})
	set := NewSet(e)
	if err := set.OnWebhook(Webhook{ID: "w", Path: "/w", Workflow: "taker", MaxInFlight: 1, Signature: SignatureOptions{Scheme: None},
		Input: func(d Delivery) (any, error) { close(entered); <-block; return order{1}, nil }}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(set)
	defer server.Close()
	done := make(chan answered)
	go func() { done <- call(t, server.URL, "/w", "POST", "{}") }()
	<-entered
	if got := call(t, server.URL, "/w", "POST", "{}"); got.status != 429 {
		t.Errorf("%+v", got)
	}
	close(block)
	if got := <-done; got.status != 202 {
		t.Errorf("%+v", got)
	}
}

func TestSetsRefuse(t *testing.T) {
	e := client(t, sqliteStore(t, ":memory:"), taker)
	set := NewSet(e)
	ok := Webhook{ID: "w", Path: "/w", Workflow: "taker", Signature: SignatureOptions{Scheme: None}}
	if err := set.OnWebhook(ok); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", "/", "w", "/a/../b", "/a//b", "/a/", "/{id}", "/a?b", "/api", "/API/x", "/api/hooks", "/.well-known/x", "/ui", "/metrics", "/healthz", "/readyz", "/a%2fb"} {
		w := ok
		w.ID, w.Path = "x", path
		if err := set.OnWebhook(w); err == nil {
			t.Errorf("path %q was taken", path)
		}
	}
	for name, err := range map[string]error{
		"the same id":   set.OnWebhook(Webhook{ID: "w", Path: "/v", Workflow: "taker", Signature: SignatureOptions{Scheme: None}}),
		"the same path": set.OnWebhook(Webhook{ID: "v", Path: "/w", Workflow: "taker", Signature: SignatureOptions{Scheme: None}}),
		"no scheme":     set.OnWebhook(Webhook{ID: "v", Path: "/v", Workflow: "taker"}),
		"where":         set.OnEvent(Subscription{ID: "e", Event: "x", Workflow: "taker", Where: "1 +"}),
		"cron":          set.OnSchedule(Schedule{ID: "s", Workflow: "taker", Cron: "x"}),
	} {
		if err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if got := set.Paths(); len(got) != 1 {
		t.Errorf("%v", got)
	}
}

func TestSlackAsksForItsChallenge(t *testing.T) {
	e := client(t, sqliteStore(t, ":memory:"), taker)
	h, err := NewWebhookHandler(e, Webhook{ID: "s", Path: "/s", Workflow: "taker", Signature: SignatureOptions{Scheme: Slack, Secrets: []string{"k"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, good := range []bool{true, false} {
		r := signedSlack(`{"type": "url_verification", "challenge": "3eZb"}`, good)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if good && (w.Code != 200 || w.Body.String() != "3eZb") || !good && w.Code != 401 {
			t.Errorf("%v: %d %s", good, w.Code, w.Body)
		}
	}
}

func signedSlack(body string, good bool) *http.Request {
	at, key := fmt.Sprint(time.Now().Unix()), "k"
	if !good {
		key = "wrong"
	}
	r := httptest.NewRequest(http.MethodPost, "/s", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Slack-Request-Timestamp", at)
	r.Header.Set("X-Slack-Signature", "v0="+hex.EncodeToString(macOf(key, "v0:"+at+":"+body)))
	return r
}

// The id of a delivery is known for a day, and then names another one.
func TestJ47_aDeliveryIsKnownForADay(t *testing.T) {
	inBubble(t, func(t *testing.T, e *pawl.Engine) {
		r := &Route{ID: "flow:f:0", Owner: "flow:f", Path: "/x", Workflow: "quick", Scheme: None, Dedupe: "/id"}
		send := func(id string) (string, bool) {
			t.Helper()
			got, err := r.Accept(t.Context(), e, Arrival{Method: "POST", Body: []byte(`{"id": "` + id + `"}`)})
			if err != nil {
				t.Fatal(err)
			}
			return got.Run, got.Repeated
		}
		first, _ := send("a")
		time.Sleep(DedupeFor - time.Second)
		if run, repeated := send("a"); run != first || !repeated {
			t.Errorf("a second before its end: %s, %t", run, repeated)
		}
		other, repeated := send("b")
		if other == first || repeated {
			t.Errorf("another delivery: %s, %t", other, repeated)
		}
		time.Sleep(time.Second)
		second, repeated := send("a")
		if second == first || repeated {
			t.Errorf("after a day: %s, %t", second, repeated)
		}
		if run, repeated := send("a"); run != second || !repeated {
			t.Errorf("after a day, again: %s, %t", run, repeated)
		}
		if run, repeated := send("b"); run != other || !repeated {
			t.Errorf("the other again: %s, %t", run, repeated)
		}
	})
}
