package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// answering is a workflow that has one webhook, and answers its requests in a step, one after the other, until one
// has the body "end".
func answering(name string, respond func(ctx context.Context, req *pawl.Request) error, opts ...pawl.HookOption) pawl.Definition {
	return pawl.Define(name, func(c *pawl.Context, _ any) (n int, err error) {
		h, err := pawl.NewWebhook(c, opts...)
		if err != nil {
			return 0, err
		}
		for req, err := range h.All(c) {
			if err != nil {
				return n, err
			}
			n++
			if respond != nil {
				if err := pawl.Do(c, "respond", func(ctx context.Context) error { return respond(ctx, req) }); err != nil {
					return n, err
				}
			}
			if string(req.Body) == "end" {
				break
			}
		}
		return n, nil
	})
}

// webhook starts a run and returns the path of its webhook.
func (h *house) webhook(workflow string) (path string) {
	h.t.Helper()
	id := h.start(workflow, "null")
	h.eventually("the webhook of "+workflow, func() bool {
		list, err := h.client.Hooks(h.t.Context(), id)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, hook := range list.Items {
			path = pawl.WebhookPath + hook.Token
		}
		return path != ""
	})
	return path
}

func header(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[name] = values }
}

// The answer that a step gives to a request is the answer to its repeats, however long the step took, and however
// long ago that was.
func TestARepeatHasItsAnswerLater(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		const wait = 4 * time.Second // a busy machine has answered by then
		h := openOn(t, store(), api.Options{}, answering("slow", func(ctx context.Context, req *pawl.Request) error {
			time.Sleep(600 * time.Millisecond) // longer than an answer that is late is looked for
			return pawl.Respond(ctx, req, pawl.Response{Status: 201, Body: []byte("made " + string(req.Body))})
		}, pawl.Dedupe("X-Id"), pawl.RespondManually(10*time.Second)), answering("brief", func(ctx context.Context, req *pawl.Request) error {
			return pawl.Respond(ctx, req, pawl.Response{Status: 201, Body: []byte("made " + string(req.Body))})
		}, pawl.Dedupe("X-Id"), pawl.RespondManually(wait)))
		slow, brief := h.webhook("slow"), h.webhook("brief")
		check := func(what, path string) {
			t.Helper()
			if r := h.send("POST", path, "it", header("X-Id", "1")); r.status != 201 || string(r.body) != "made it" {
				t.Errorf("%s: %d %s", what, r.status, r.body)
			}
		}
		answers := make(chan reply, 2)
		for range 2 { // one of them is a repeat while the first is under way
			go func() { answers <- h.send("POST", slow, "two", header("X-Id", "2")) }()
		}
		for range 2 {
			if r := <-answers; r.status != 201 || string(r.body) != "made two" {
				t.Errorf("under way: %d %s", r.status, r.body)
			}
		}
		check("slow", slow)
		check("slow, again", slow)
		began := time.Now()
		check("brief", brief)
		time.Sleep(time.Until(began.Add(wait + 500*time.Millisecond))) // its time is over for long
		check("brief, when its time is over", brief)
	})
}

// A delivery that is named by a header has that once: of two, a proxy in front may have looked at the other.
func TestTheHeaderThatNamesADeliveryIsThereOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{}, answering("named", nil, pawl.Dedupe("X-Id")))
		path := h.webhook("named")
		for _, values := range [][]string{nil, {""}, {"1", "1"}, {"1", "2"}, {"", "1"}} {
			if r := h.send("POST", path, "x", header("X-Id", values...)); r.status != 400 || !strings.Contains(string(r.body), "must be there once") {
				t.Errorf("%q: %d %s", values, r.status, r.body)
			}
		}
		if r := h.send("POST", path, "x", header("X-Id", "1")); r.status != 202 {
			t.Errorf("%d %s", r.status, r.body)
		}
	})
}

// A server that stops holds nobody who waits for a step's answer: that one is told to come again.
func TestShutdownEndsTheWaitsOfWebhooks(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{}, answering("never", nil, pawl.RespondManually(time.Minute)))
		path := h.webhook("never")
		answered := make(chan reply, 1)
		go func() { answered <- h.send("POST", path, "x") }()
		h.eventually("the request to be the run's", func() bool {
			runs, err := h.engine.List(t.Context(), pawl.Filter{Workflow: "never"})
			if err != nil || len(runs) != 1 {
				t.Fatal(runs, err)
			}
			for e, err := range h.engine.Journal(t.Context(), pawl.Ref{ID: runs[0].ID}) {
				if err != nil {
					t.Fatal(err)
				}
				if e.Kind == pawl.KindPayload {
					return true
				}
			}
			return false
		})
		began := time.Now()
		h.stop()
		if r := <-answered; r.status != 503 || r.header.Get("Retry-After") == "" {
			t.Errorf("%d %s, Retry-After %q", r.status, r.body, r.header.Get("Retry-After"))
		}
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("the shutdown took %v", d)
		}
	})
}

// Headers of the connection are not a workflow's to send.
func TestAWorkflowsAnswerSendsNoHeadersOfTheConnection(t *testing.T) {
	names := []string{"Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Te", "Trailer", "Upgrade"}
	answer := pawl.Response{Status: 200, Header: http.Header{"X-Mine": {"1"}, "Content-Length": {"3"}}, Body: []byte("all of it")}
	for _, name := range names {
		answer.Header[name] = []string{"x"}
	}
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{}, answering("says", nil, pawl.Answering(answer)))
		r := h.send("POST", h.webhook("says"), "x")
		if r.status != 200 || string(r.body) != "all of it" || r.header.Get("X-Mine") != "1" {
			t.Errorf("%d %s %v", r.status, r.body, r.header)
		}
		for _, name := range names {
			if r.header.Get(name) != "" {
				t.Errorf("%s was sent", name)
			}
		}
	})
}

// Who counts as the sender, for limits: the connection, or, where a proxy is trusted, who that has seen itself.
// What else stands in the header is the caller's own, and makes no other of it.
func TestWhoSendsToAWebhookIsNotWhatItSays(t *testing.T) {
	for name, c := range map[string]struct {
		trust bool
		from  [][]string
		want  []int
	}{
		"nobody is trusted": {false, [][]string{{"1.1.1.1"}, {"2.2.2.2"}, nil}, []int{202, 429, 429}},
		"a proxy is":        {true, [][]string{{"1.1.1.1, 9.9.9.9"}, {"2.2.2.2, 9.9.9.9"}, {"3.3.3.3", "9.9.9.9"}, {"9.9.9.9, 8.8.8.8"}, {"7.7.7.7"}}, []int{202, 429, 429, 202, 202}},
	} {
		t.Run(name, func(t *testing.T) {
			eachStoreAlone(t, func(t *testing.T, store func() pawl.Store) {
				h := openOn(t, store(), api.Options{TrustForwarded: c.trust, ClientRate: api.Rate{PerSecond: 0.001, Burst: 1}}, answering("takes", nil))
				path := h.webhook("takes")
				for i, from := range c.from {
					r := h.send("POST", path, "x", header("X-Forwarded-For", from...))
					if r.status != c.want[i] || (r.status == 429) != (r.header.Get("Retry-After") != "") {
						t.Errorf("from %q: %d %s, Retry-After %q; want %d", from, r.status, r.body, r.header.Get("Retry-After"), c.want[i])
					}
				}
			})
		})
	}
}

// A webhook with a schema of bodies takes what fits; the run does not learn of the rest.
func TestAWebhookTakesBodiesThatFit(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.start("counts", "null")
		path := ""
		h.eventually("the webhook", func() bool {
			list, err := h.client.Hooks(t.Context(), id)
			if err == nil && len(list.Items) == 1 {
				path = pawl.WebhookPath + list.Items[0].Token
			}
			return path != ""
		})
		for body, want := range map[string]string{"{}": "422 the body does not fit: got object, want string", "x": "422 the body does not fit: it is no JSON", `"long"`: "422 the body does not fit: maxLength"} {
			if r := h.send("POST", path, body); !strings.HasPrefix(fmt.Sprintf("%d %s", r.status, r.body), want) {
				t.Errorf("%s: %d %s, want %s", body, r.status, r.body, want)
			}
		}
		same(t, "status", h.send("POST", path, `"end"`).status, http.StatusAccepted)
		same(t, "requests", h.result(id), "1")
	}, pawl.Define("counts", func(c *pawl.Context, _ any) (n int, err error) {
		w, err := pawl.NewWebhook(c, pawl.BodySchema([]byte(`{"type": "string", "maxLength": 3}`)))
		if err != nil {
			return 0, err
		}
		for req, err := range w.All(c) {
			if n++; err != nil || string(req.Body) == `"end"` {
				return n, err
			}
		}
		return n, nil
	}))
}
