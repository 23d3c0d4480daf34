package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/flow/draft"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/secret"
	"github.com/pawlrun/pawl/service"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest/pgtest"
	"github.com/pawlrun/pawl/telemetry"
)

// house is a real server on a real port, with a real engine on a real file.
type house struct {
	t      testing.TB
	engine *pawl.Engine
	url    string
	client *api.Client
	stop   func() // shuts the server down and waits for it
	log    *lockedBuffer

	handler  http.Handler // what the server answers with
	contract *contract
}

type text struct {
	Text string `json:"text"`
}

type count struct {
	N    int `json:"n"`
	Left int `json:"left"`
}

func (c count) Validate() error {
	if c.N < 0 {
		return errors.New("n is negative")
	}
	return nil
}

// workflows are what the tests run. flaky is asked by the workflow of that name.
func workflows(flaky func() error) []pawl.Definition {
	return []pawl.Definition{
		pawl.Define("echo", func(c *pawl.Context, in text) (text, error) {
			return pawl.Step(c, "say", func(context.Context) (text, error) { return in, nil })
		}),
		pawl.Define("fails", func(c *pawl.Context, _ any) (any, error) {
			return pawl.Step(c, "charge", func(context.Context) (any, error) { return nil, pawl.Fatal(errors.New("card declined")) })
		}),
		pawl.Define("flaky", func(c *pawl.Context, _ any) (string, error) {
			if err := pawl.Do(c, "first", func(context.Context) error { return nil }); err != nil {
				return "", err
			}
			return pawl.Step(c, "second", func(context.Context) (string, error) { return "fine", pawl.Fatal(flaky()) })
		}),
		pawl.Define("waits", func(c *pawl.Context, _ any) (json.RawMessage, error) {
			return pawl.WaitFor[json.RawMessage](c, "go/now")
		}),
		pawl.Define("sleeps", func(c *pawl.Context, _ any) (string, error) { return "woken", c.Sleep(time.Hour) }),
		pawl.Define("hooks", func(c *pawl.Context, _ any) (json.RawMessage, error) {
			h, err := pawl.NewHook[json.RawMessage](c, pawl.Meta(map[string]string{"for": "you"}))
			if err != nil {
				return nil, err
			}
			return h.Wait(c)
		}),
		pawl.Define("approves", func(c *pawl.Context, _ any) (approval.Decision, error) {
			return approval.Ask(c, "pay", approval.Request{Approvers: []string{"ann"}})
		}),
		pawl.Define("streams", func(c *pawl.Context, in count) (string, error) {
			for i := range in.N {
				if err := c.Stream("").Write(i); err != nil {
					return "", err
				}
				if err := c.Stream("a/b").Write(map[string]int{"i": i}); err != nil {
					return "", err
				}
			}
			if err := c.Stream("a/b").Close(); err != nil {
				return "", err
			}
			return pawl.WaitFor[string](c, "end")
		}),
		pawl.Define("chain", func(c *pawl.Context, in count) (string, error) {
			if in.Left > 0 {
				return "", pawl.ContinueAs(c, count{Left: in.Left - 1})
			}
			return "end of the chain", nil
		}),
		pawl.Define("steps", func(c *pawl.Context, in count) (int, error) {
			for i := range in.N {
				if err := pawl.Do(c, "s", func(context.Context) error { return nil }); err != nil {
					return i, err
				}
			}
			return in.N, nil
		}),
	}
}

func open(t testing.TB, opt api.Options, defs ...pawl.Definition) *house {
	t.Helper()
	return openOn(t, fileStore(t), opt, defs...)
}

func fileStore(t testing.TB) pawl.Store {
	t.Helper()
	store, err := sqlite.Open(filepath.Join(t.TempDir(), "pawl.db"), &sqlite.Options{WALSize: -1})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, store)
	return store
}

func closeAtEnd(t testing.TB, store pawl.Store) {
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Errorf("store: %v", err)
		}
	})
}

// eachStore runs f on each store. What store returns is a store of its own, as another
// process would have it; SQLite's file has one owner, so there it is the same one.
func eachStore(t *testing.T, f func(t *testing.T, store func() pawl.Store)) {
	t.Helper()
	t.Parallel()
	eachStoreAlone(t, f)
}

// eachStoreAlone is eachStore while no other test runs, for those that measure.
func eachStoreAlone(t *testing.T, f func(t *testing.T, store func() pawl.Store)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		s := fileStore(t)
		f(t, func() pawl.Store { return s })
	})
	t.Run("postgres", func(t *testing.T) {
		url := pgtest.URL(t)
		f(t, func() pawl.Store {
			s, err := postgres.Open(t.Context(), url, nil)
			if err != nil {
				t.Fatal(err)
			}
			closeAtEnd(t, s)
			return s
		})
	})
}

// key makes a key of a tenant.
func (h *house) key(tenant string, scopes ...api.Scope) (id, secret string) {
	h.t.Helper()
	key, secret, err := api.Keys{Engine: h.engine}.Create(h.t.Context(), api.KeySpec{Name: "test", Tenant: tenant, Scopes: scopes})
	if err != nil {
		h.t.Fatal(err)
	}
	return key.ID, secret
}

// as returns a client with a key.
func (h *house) as(secret string) *api.Client {
	h.t.Helper()
	c, err := api.NewClient(h.url, &api.ClientOptions{Key: secret, HTTP: &http.Client{Transport: checked{h.t, h.contract}}})
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// bearer sends a key with a request.
func bearer(secret string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secret) }
}

// eachHouse runs f on a server of each store.
func eachHouse(t *testing.T, f func(t *testing.T, h *house), defs ...pawl.Definition) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) { f(t, openOn(t, store(), api.Options{}, defs...)) })
}

// encryptionKeys makes a key ring.
func encryptionKeys(t testing.TB, keys ...string) *secret.Keyring {
	t.Helper()
	ring, err := secret.ParseKeys(strings.Join(keys, ","))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// openOn serves a store, which the test closes.
func openOn(t testing.TB, store pawl.Store, opt api.Options, defs ...pawl.Definition) *house {
	t.Helper()
	h := &house{t: t, log: &lockedBuffer{}}
	logger := slog.New(slog.NewTextHandler(h.log, nil))
	metrics := telemetry.New()
	h.engine = pawl.New(store, &pawl.Options{Logger: logger, Observer: metrics, Poll: 50 * time.Millisecond, Secret: bytes.Repeat([]byte("s"), 32)})
	if defs == nil {
		defs = workflows(func() error { return nil })
	}
	if err := h.engine.Register(defs...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- h.engine.Run(ctx) }()
	if opt.Logger == nil {
		opt.Logger = logger
	}
	if opt.Secrets == nil {
		opt.Secrets = &secret.Store{Engine: h.engine, Keys: encryptionKeys(t, secret.NewKey())}
	}
	if opt.Metrics == nil {
		metrics.Watch(h.engine)
		opt.Metrics, opt.Observe = metrics, metrics.Served
	}
	if opt.Flows == nil {
		opt.Flows = flowsOf(t, h.engine)
	}
	if opt.Drafts == nil {
		opt.Drafts = draftsOf(t, h.engine, opt.Flows)
	}
	watching := make(chan error, 1)
	go func() { watching <- opt.Flows.Watch(ctx) }()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.url = "http://" + l.Addr().String()
	serving, shutdown := context.WithCancel(context.Background())
	served := make(chan error, 1)
	h.handler = api.New(h.engine, opt)
	go func() { served <- api.Serve(serving, l, h.handler, 3*time.Second) }()
	h.stop = func() {
		shutdown()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		served <- nil
	}
	h.contract = newContract(t)
	if h.client, err = api.NewClient(h.url, &api.ClientOptions{HTTP: &http.Client{Transport: checked{t, h.contract}}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.stop()
		cancel()
		if err := errors.Join(<-ran, <-watching); err != nil {
			t.Errorf("engine: %v", err)
		}
	})
	return h
}

// desk is a service that flows of tests call: it says back what it is told.
type desk struct{}

func (desk) Actions() []service.Action {
	return []service.Action{{Name: "say", Effect: service.Once, Params: json.RawMessage(`{"type":"object","required":["text"],"additionalProperties":false,"properties":{"text":{"type":"string"}}}`)}}
}

func (desk) Call(_ context.Context, c service.Call) (any, error) { return c.Params, nil }

// flowsOf are the flows of an engine's store, whose models are scripted.
func flowsOf(t testing.TB, e *pawl.Engine) *flow.Registry {
	t.Helper()
	secrets := secret.Store{Engine: e}
	r := flow.NewRegistry(e, flow.Options{HasSecret: secrets.Has, SecretNames: secrets.Names, Services: service.Set{"desk": desk{}}, Models: demo.Scripted(llmtest.Script(llmtest.Echo())), Model: "scripted/script"})
	if err := errors.Join(e.Register(r.Backtester()), r.Refresh(t.Context())); err != nil {
		t.Fatal(err)
	}
	return r
}

// draftsOf are the drafts of an engine's store. Their model writes a flow that says what it was told, and names it after its first
// word; of a change it keeps the id.
func draftsOf(t testing.TB, e *pawl.Engine, flows *flow.Registry) *draft.Drafts {
	t.Helper()
	d := draft.New(e, flows, draft.Options{Model: "scripted/script", Models: demo.Scripted(llmtest.Script(llmtest.Rule{Answer: func(_ context.Context, req *llm.Request) (*llm.Response, error) {
		asked := req.Messages[0].Content
		said := strings.Split(strings.TrimSpace(asked[strings.LastIndex(asked[:strings.LastIndex(asked, "</untrusted-")], "<untrusted-"):]), "\n")[1]
		id, _, _ := strings.Cut(said, " ")
		if rest, is := strings.CutPrefix(asked, "This is the flow "); is {
			id, _, _ = strings.Cut(rest, " ")
		}
		return &llm.Response{Text: aFlow(id, said)}, nil
	}}))})
	if err := e.Register(d.Workflow()); err != nil {
		t.Fatal(err)
	}
	return d
}

// aFlow is a document that says something.
func aFlow(id, text string) string {
	return fmt.Sprintf(`{"id":%q,"triggers":[{"type":"manual"},{"type":"manual"}],"steps":[{"id":"say","type":"service","config":{"service":"desk","text":%q},"next":"end"}]}`, id, text)
}

// reply is an answer that was read.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (r reply) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(r.body, v); err != nil {
		t.Fatalf("answer %d %s: %v", r.status, r.body, err)
	}
}

// send makes a request; edit may change it before.
func (h *house) send(method, path, body string, edit ...func(*http.Request)) reply {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, h.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, e := range edit {
		e(req)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	if method != http.MethodHead { // whose answers have no body
		h.contract.check(h.t, method, req.URL.EscapedPath(), res.StatusCode, res.Header, data)
	}
	return reply{res.StatusCode, res.Header, data}
}

// direct has the handler answer a request, without a server between.
func (h *house) direct(r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.handler.ServeHTTP(rec, r)
	return rec
}

// ok makes a request that must succeed with status, and decodes its answer.
func (h *house) ok(status int, method, path, body string, into any) reply {
	h.t.Helper()
	r := h.send(method, path, body)
	if r.status != status || r.header.Get("Content-Type") != "application/json" {
		h.t.Fatalf("%s %s: %d %s %s, want %d", method, path, r.status, r.header.Get("Content-Type"), r.body, status)
	}
	r.into(h.t, into)
	return r
}

// refused makes a request that must be refused with status and code.
func (h *house) refused(status int, code, method, path, body string, edit ...func(*http.Request)) api.Problem {
	h.t.Helper()
	r := h.send(method, path, body, edit...)
	if r.header.Get("Content-Type") != "application/problem+json" {
		h.t.Fatalf("%s %s: %d %s %s, want a problem", method, path, r.status, r.header.Get("Content-Type"), r.body)
	}
	var p api.Problem
	r.into(h.t, &p)
	if r.status != status || p.Status != status || p.Code != code || p.Title != http.StatusText(status) || p.Detail == "" {
		h.t.Errorf("%s %s: %d %s, want %d %s", method, path, r.status, r.body, status, code)
	}
	if id := r.header.Get("X-Request-Id"); id == "" || p.RequestID != id {
		h.t.Errorf("%s %s: request id %q in the header, %q in the problem", method, path, id, p.RequestID)
	}
	return p
}

// start starts a run and returns its id.
func (h *house) start(workflow, input string) string {
	h.t.Helper()
	var run api.Run
	h.ok(202, "POST", "/api/workflows/"+workflow+"/runs", fmt.Sprintf(`{"input":%s}`, input), &run)
	return run.ID
}

// until waits for a run to be in a state.
func (h *house) until(id string, state pawl.State) api.Run {
	h.t.Helper()
	return h.untilWithin(id, state, 20*time.Second)
}

func (h *house) untilWithin(id string, state pawl.State, limit time.Duration) api.Run {
	h.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		run, err := h.client.Run(h.t.Context(), id, 0)
		if err != nil {
			h.t.Fatal(err)
		}
		if run.State == state {
			return run
		}
		if time.Now().After(end) {
			h.t.Fatalf("run %s is %s (%s), want %s", id, run.State, run.Reason, state)
		}
	}
}
