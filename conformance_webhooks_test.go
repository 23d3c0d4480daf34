package pawl_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// front is a real server on a real port, with the API on an engine.
type front struct {
	t   *testing.T
	url string
	log *outside
}

// outside is a log that a test looks through.
type outside struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *outside) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *outside) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// listen finds a free port; an engine can be told of it before the server is there.
func listen(t *testing.T) (net.Listener, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l, "http://" + l.Addr().String()
}

// serve answers on l with the API on e until the test ends.
func serve(t *testing.T, l net.Listener, e *pawl.Engine, opt api.Options) *front {
	t.Helper()
	f := &front{t: t, url: "http://" + l.Addr().String(), log: &outside{}}
	opt.Logger = logTo(f.log)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, l, api.New(e, opt), time.Second) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return f
}

// told is what an HTTP caller was answered.
type told struct {
	status int
	body   string
	header http.Header
}

func (t told) String() string { return fmt.Sprintf("%d %q", t.status, t.body) }

// call sends a request to an address, or to a path of the server.
func (f *front) call(method, to, body string, header ...string) told {
	f.t.Helper()
	got, err := f.try(method, to, body, header...)
	if err != nil {
		f.t.Fatal(err)
	}
	return got
}

func (f *front) try(method, to, body string, header ...string) (told, error) {
	if strings.HasPrefix(to, "/") {
		to = f.url + to
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, to, strings.NewReader(body))
	if err != nil {
		return told{}, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return told{}, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	res.Header.Del("Date")
	return told{res.StatusCode, string(data), res.Header}, err
}

// answered fails the test unless a caller got a status and a body.
func (f *front) answered(what string, got told, status int, body string) {
	f.t.Helper()
	if got.status != status || got.body != body {
		f.t.Fatalf("%s: %v; want %v", what, got, told{status: status, body: body})
	}
}

// address waits until a run has its nth webhook, and returns where it is reached.
func (n *node) address(f *front, id string, nth int) string {
	n.t.Helper()
	var hooks []pawl.HookInfo
	n.until(fmt.Sprintf("webhook %d of run %s", nth, id), func() (ok bool) {
		var err error
		hooks, err = n.Hooks(n.ctx, pawl.Ref{ID: id})
		n.ok(err)
		return len(hooks) >= nth
	})
	return f.url + pawl.WebhookPath + hooks[nth-1].Token
}

func TestB1_054_hookOverHTTP(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("hooked", func(c *pawl.Context, token string) (out []map[string]any, err error) {
			h, err := pawl.NewHook[map[string]any](c, pawl.Token(token), pawl.Meta(map[string]string{"customData": "mine"}))
			if err != nil {
				return nil, err
			}
			for p, err := range h.All(c) {
				if err != nil {
					return nil, err
				}
				if out = append(out, p); p["done"] == true {
					return out, nil
				}
			}
			return out, nil
		})
		n := boot(t, open(), nil, w)
		l, _ := listen(t)
		f := serve(t, l, n.Engine, api.Options{})
		r := start(n, w, "t-54-http")
		equal(t, "metadata", string(n.hook("t-54-http").Meta), `{"customData":"mine"}`)
		for _, body := range []string{`{"message":"one"}`, `{"message":"two"}`, `{"message":"three","done":true}`} {
			if got := f.call("POST", "/api/hooks/t-54-http", body); got.status != 202 {
				t.Fatal(got)
			}
		}
		equal(t, "an unknown token", f.call("POST", "/api/hooks/invalid", `{}`).status, 404)
		equal(t, "payloads", fmt.Sprint(result(n, r)), "[map[message:one] map[message:two] map[done:true message:three]]")
	})
}

func TestB1_055_hookIsNotPublicOverHTTP(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("private", func(c *pawl.Context, _ none) (payload, error) {
			h, err := pawl.NewHook[payload](c, pawl.Token("t-55-http"))
			if err != nil {
				return payload{}, err
			}
			mine, err := pawl.NewHook[payload](c) // with a token of pawl's own
			if err != nil {
				return payload{}, err
			}
			defer mine.Close(c)
			return h.Wait(c)
		})
		n := boot(t, open(), nil, w)
		l, _ := listen(t)
		f := serve(t, l, n.Engine, api.Options{})
		r := start(n, w, none{})
		secret := n.address(f, r.ID(), 2)
		f.answered("a hook by its webhook's address", f.call("POST", pawl.WebhookPath+"t-55-http", `{"message":"public"}`), 404, "")
		f.answered("one with a secret token", f.call("POST", secret, `{"message":"public"}`), 404, "")
		if got := f.call("POST", "/api/hooks/t-55-http", `{"message":"via-server"}`); got.status != 202 {
			t.Fatal(got)
		}
		equal(t, "payload", result(n, r).Message, "via-server")
		equal(t, "payloads", len(n.journal(r.ID(), pawl.KindPayload)), 1)
	})
}

func TestB1_056_webhooksOverHTTP(t *testing.T) {
	type received struct {
		URL, Method, Body string
		Token             string
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("webhooks", func(c *pawl.Context, _ none) (out []received, err error) {
			var hooks []*pawl.Webhook
			for _, opts := range [][]pawl.HookOption{nil, {pawl.Answering(pawl.Response{Status: 402, Body: []byte("Hello from static response!")})}, {pawl.RespondManually(0)}} {
				h, err := pawl.NewWebhook(c, opts...)
				if err != nil {
					return nil, err
				}
				hooks = append(hooks, h)
			}
			for i, h := range hooks {
				req, err := h.Wait(c)
				if err != nil {
					return nil, err
				}
				if i == 2 {
					err = pawl.Do(c, "respond", func(ctx context.Context) error {
						return pawl.Respond(ctx, req, pawl.Response{Body: []byte("Hello from webhook!")})
					})
					if err != nil {
						return nil, err
					}
				}
				out = append(out, received{req.URL, req.Method, string(req.Body), h.Token()})
			}
			return out, nil
		})
		n := boot(t, open(), replays(), w)
		l, _ := listen(t)
		f := serve(t, l, n.Engine, api.Options{})
		r := start(n, w, none{})
		var want []received
		for i, answer := range []told{{202, "", nil}, {402, "Hello from static response!", nil}, {200, "Hello from webhook!", nil}} {
			n.address(f, r.ID(), 3) // when they are there
			hooks, err := n.Hooks(n.ctx, pawl.Ref{ID: r.ID()})
			n.ok(err)
			equal(t, "webhooks", len(hooks), 3)
			to := f.url + pawl.WebhookPath + hooks[i].Token + fmt.Sprintf("?n=%d", i)
			body := fmt.Sprintf(`{"message":"%d"}`, i)
			got := f.call("POST", to, body)
			f.answered(fmt.Sprint("webhook ", i), got, answer.status, answer.body)
			want = append(want, received{to, "POST", body, hooks[i].Token})
		}
		equal(t, "requests", result(n, r), want)
	})
}

func TestB1_057_unknownWebhook(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		n := boot(t, open(), nil)
		l, _ := listen(t)
		f := serve(t, l, n.Engine, api.Options{})
		f.answered("an invalid token", f.call("POST", pawl.WebhookPath+"invalid", `{}`), 404, "")
		f.answered("no token", f.call("POST", pawl.WebhookPath, `{}`), 400, "the address lacks the webhook's token\n")
	})
}

func TestB1_058_parallelStepsThenWebhook(t *testing.T) {
	const rounds = 10
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("rounds", func(c *pawl.Context, _ none) (out []string, err error) {
			for i := range rounds {
				step := func(name string) *pawl.Future[int] {
					return pawl.Go(c, name, func(c *pawl.Context) (int, error) {
						return pawl.Step(c, name, func(context.Context) (int, error) { return i, nil })
					})
				}
				if _, err := pawl.All(c, step("a"), step("b")); err != nil {
					return nil, err
				}
				h, err := pawl.NewWebhook(c)
				if err != nil {
					return nil, err
				}
				req, err := h.Wait(c)
				if err != nil {
					return nil, err
				}
				out = append(out, string(req.Body))
			}
			return out, nil
		})
		n := boot(t, open(), nil, w)
		l, _ := listen(t)
		f := serve(t, l, n.Engine, api.Options{})
		r := start(n, w, none{})
		var want []string
		for i := range rounds {
			f.answered(fmt.Sprint("round ", i), f.call("POST", n.address(f, r.ID(), i+1), fmt.Sprint(i)), 202, "")
			want = append(want, fmt.Sprint(i))
		}
		equal(t, "bodies", result(n, r), want)
		made := n.journal(r.ID(), pawl.KindHook)
		equal(t, "hooks made", len(made), rounds)
		for _, e := range made {
			equal(t, "a conflict", e.Failed, false)
		}
	})
}
