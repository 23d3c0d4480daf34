package llmtest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl/llm"
)

// Wire is a provider's wire format, as [Suite] needs to know it.
type Wire struct {
	// Serve speaks the format and answers by a script.
	Serve func(*Scripted) http.Handler

	// Carries takes out of a request what cannot be said in the format, so that it is as
	// the script sees it; nil means that everything can be said.
	Carries func(*llm.Request)

	// NeedsMaxTokens is true if the format has no request without it, so that a client
	// adds a limit of its own.
	NeedsMaxTokens bool

	// ObjectsOnly is true if the arguments of a tool call are a JSON object in the format,
	// so that it cannot carry others.
	ObjectsOnly bool
}

// OpenAI is the format of OpenAI's chat completions and embeddings, as [Server] speaks it.
var OpenAI = Wire{
	Serve: Server,
	Carries: func(req *llm.Request) { // what is cached OpenAI decides
		req.Cache = false
		for i := range req.Messages {
			req.Messages[i].Cache = false
		}
	},
}

// Anthropic is the format of Anthropic's messages, as [Server] speaks it.
var Anthropic = Wire{
	Serve: Server,
	Carries: func(req *llm.Request) {
		if req.Schema != nil {
			req.Schema.Name, req.Schema.Description = schemaName, ""
		}
		req.Messages = slices.DeleteFunc(req.Messages, func(m llm.Message) bool {
			return m.Role == llm.RoleAssistant && m.Content == "" && len(m.ToolCalls) == 0
		})
	},
	NeedsMaxTokens: true,
	ObjectsOnly:    true,
}

// Suite checks that a provider's client keeps every promise of package llm, over real
// HTTP on loopback.
//
// wire is the format that the client speaks. connect returns the client to be checked for
// a server at baseURL. It must use a key of at least 8 characters, and must take answers
// of up to 1 MiB but none above 16 MiB. What the client can do beyond llm.Model is found
// by type assertion and checked too.
func Suite(t *testing.T, wire Wire, connect func(t *testing.T, baseURL string) llm.Model) {
	s := &suite{wire: wire, connect: connect}
	run := func(t *testing.T, promises []promise, ask asking) {
		for _, p := range promises {
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				p.check(t, s, ask)
			})
		}
	}
	model := connect(t, "http://127.0.0.1")
	t.Run("Generate", func(t *testing.T) {
		run(t, answerPromises, generate)
		run(t, faultPromises, generate)
	})
	if _, ok := model.(llm.Streamer); ok {
		t.Run("Stream", func(t *testing.T) {
			run(t, answerPromises, stream)
			run(t, faultPromises, stream)
			run(t, streamPromises, stream)
		})
	}
	if _, ok := model.(llm.Embedder); ok {
		t.Run("Embed", func(t *testing.T) { run(t, embedPromises, nil) })
	}
}

type suite struct {
	wire    Wire
	connect func(*testing.T, string) llm.Model
}

// promise is one thing that package llm says of a model. Its name says it, its check is
// what it takes to keep it.
type promise struct {
	name  string
	check func(t *testing.T, s *suite, ask asking)
}

// asking is one of the two ways to get an answer.
type asking func(t *testing.T, ctx context.Context, m llm.Model, req *llm.Request) (*llm.Response, error)

func generate(_ *testing.T, ctx context.Context, m llm.Model, req *llm.Request) (*llm.Response, error) {
	return m.Generate(ctx, req)
}

// stream also checks that the pieces make up the answer.
func stream(t *testing.T, ctx context.Context, m llm.Model, req *llm.Request) (*llm.Response, error) {
	t.Helper()
	var text strings.Builder
	var calls []llm.ToolCall
	res, err := m.(llm.Streamer).Stream(ctx, req, func(d llm.Delta) error {
		text.WriteString(d.Text)
		if c := d.ToolCall; c != nil {
			if c.Index == len(calls) {
				calls = append(calls, llm.ToolCall{ID: c.ID, Name: c.Name})
			}
			calls[c.Index].Arguments += c.Arguments
		}
		return nil
	})
	if err == nil && (text.String() != res.Text || !reflect.DeepEqual(calls, res.ToolCalls)) {
		t.Errorf("the pieces make up %q and %v; want the answer, %q and %v", text.String(), calls, res.Text, res.ToolCalls)
	}
	return res, err
}

// site is a server, a client of it, and what reached the server.
type site struct {
	script *Scripted
	model  llm.Model
	url    string
	hits   atomic.Int64 // HTTP requests, whatever became of them
	header atomic.Value // the last request's http.Header
}

// site starts a server that follows rules, behind the faults of around if that is given.
func (s *suite) site(t *testing.T, around func(http.Handler) http.Handler, rules ...Rule) *site {
	t.Helper()
	h := &site{script: Script(rules...)}
	inner := s.wire.Serve(h.script)
	if around != nil {
		inner = around(inner)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.hits.Add(1)
		h.header.Store(r.Header.Clone())
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	h.url, h.model = server.URL, s.connect(t, server.URL)
	return h
}

// patience is how long a call may take before a check says that it hangs.
const patience = 30 * time.Second

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func hello() *llm.Request {
	return &llm.Request{Model: "m-1", Messages: []llm.Message{llm.User("Say hello.")}}
}

// mustAnswer is for the checks in which the call is to succeed.
func mustAnswer(t *testing.T, ask asking, h *site, req *llm.Request) *llm.Response {
	t.Helper()
	res, err := ask(t, within(t), h.model, req)
	if err != nil {
		t.Fatalf("the call failed: %v", err)
	}
	return res
}

// mustFail is for the checks in which the call is to fail with an error of this kind.
func mustFail(t *testing.T, ask asking, h *site, kind llm.Kind) *llm.Error {
	t.Helper()
	res, err := ask(t, within(t), h.model, hello())
	return mustBe(t, res, err, kind)
}

func mustBe(t *testing.T, res *llm.Response, err error, kind llm.Kind) *llm.Error {
	t.Helper()
	if err == nil {
		t.Fatalf("the call succeeded with %q; want an error of kind %s", res.Text, kind)
	}
	if res != nil {
		t.Errorf("the call returned both an error and a response")
	}
	e, ok := err.(*llm.Error)
	if !ok {
		t.Fatalf("the error is a %T, %v; want an *llm.Error of kind %s", err, err, kind)
	}
	if e.Kind != kind {
		t.Fatalf("the error is of kind %s: %v; want %s", e.Kind, e, kind)
	}
	if e.Provider == "" || e.Model == "" {
		t.Errorf("the error %v does not name its provider and model", e)
	}
	return e
}

// seen is what a script sees of a request.
func (s *suite) seen(req, got *llm.Request) *llm.Request {
	out := clone(req)
	if s.wire.Carries != nil {
		s.wire.Carries(out)
	}
	if s.wire.NeedsMaxTokens && out.MaxTokens == 0 && got.MaxTokens > 0 {
		out.MaxTokens = got.MaxTokens
	}
	return out
}

func sameJSON(t *testing.T, what string, got, want any) {
	t.Helper()
	g, gotErr := json.Marshal(got)
	w, wantErr := json.Marshal(want)
	if gotErr != nil || wantErr != nil || string(g) != string(w) {
		t.Errorf("%s:\n got %s %v\nwant %s %v", what, g, gotErr, w, wantErr)
	}
}
