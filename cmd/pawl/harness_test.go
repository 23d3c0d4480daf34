package main

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
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/secret"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest/pgtest"
	"github.com/spf13/pflag"
)

// lockedBuffer is a buffer that is written and read at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// result is what a call of the program left behind.
type result struct {
	code   int
	stdout string
	stderr string
}

type environment map[string]string

func (e environment) get(name string) string { return e[name] }

// pawlAt runs the program against the server at url.
func pawlAt(t *testing.T, url string, args ...string) result {
	t.Helper()
	return pawlWith(t, environment{"PAWL_SERVER": url}, "", args...)
}

func pawlWith(t *testing.T, env environment, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr lockedBuffer
	code := run(ctx, append([]string{"pawl"}, args...), env.get, strings.NewReader(stdin), &stdout, &stderr)
	hintsLead(t, args, stderr.String())
	return result{code, stdout.String(), stderr.String()}
}

// hintIn finds the command line in a line that the program says to people: behind the last colon, or all of it.
func hintIn(line string) string {
	headline := strings.HasPrefix(line, "pawl: ")
	line = strings.TrimPrefix(line, "pawl: ")
	if i := strings.LastIndex(line, ": pawl "); i >= 0 && !strings.HasSuffix(line[:i], "called as") {
		return line[i+2:]
	}
	if line = strings.TrimSpace(line); !headline && strings.HasPrefix(line, "pawl ") {
		return line
	}
	return ""
}

// hintsLead checks that each command line that the program hints at is one that it takes.
func hintsLead(t *testing.T, args []string, said string) {
	t.Helper()
	for line := range strings.Lines(said) {
		hint := hintIn(strings.TrimRight(line, "\n"))
		if hint == "" {
			continue
		}
		words, err := shellWords(hint)
		if err != nil {
			t.Errorf("pawl %q hints at a line that no shell takes: %s: %v", args, hint, err)
			continue
		}
		root := commands(t)
		cmd, rest, err := root.Find(words[1:])
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if errors.Is(err, pflag.ErrHelp) {
			continue
		}
		switch {
		case err != nil:
		case len(cmd.Flags().Args()) > 0 && cmd.HasSubCommands():
			err = errors.New("there is no such command")
		default:
			err = cmd.ValidateArgs(cmd.Flags().Args())
		}
		if err != nil {
			t.Errorf("pawl %q hints at what leads nowhere: %s: %v", args, hint, err)
		}
	}
}

// shellWords takes a line apart as a shell does, as far as shellQuote writes it.
func shellWords(line string) (words []string, err error) {
	word, inWord, quoted := "", false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\'':
			inWord, quoted = true, !quoted
		case quoted:
			word += string(c)
		case c == '\\' && i+1 < len(line):
			i++
			word, inWord = word+string(line[i]), true
		case c == ' ':
			if inWord {
				words = append(words, word)
			}
			word, inWord = "", false
		case strings.ContainsRune("<>|;&()$`\"*?[]", rune(c)):
			return nil, fmt.Errorf("%q is not quoted", c)
		default:
			word, inWord = word+string(c), true
		}
	}
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	if inWord {
		words = append(words, word)
	}
	return words, nil
}

// want checks a call's exit code, and that its outputs together contain texts.
func (r result) want(t *testing.T, code int, texts ...string) result {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", r.code, code, r.stdout, r.stderr)
	}
	for _, text := range texts {
		if !strings.Contains(r.stdout+r.stderr, text) {
			t.Errorf("%q is missing in\nstdout: %s\nstderr: %s", text, r.stdout, r.stderr)
		}
	}
	return r
}

// dev runs "pawl dev" in this process until the test ends, and returns its address and a
// function that stops it and returns how it ended.
func dev(t *testing.T, env environment, args ...string) (url string, stop func() result) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var stdout, stderr lockedBuffer
	ended := make(chan struct{})
	var code int
	go func() {
		defer close(ended)
		code = run(ctx, append([]string{"pawl", "dev", "--listen", "127.0.0.1:0"}, args...), env.get, strings.NewReader(""), &stdout, &stderr)
	}()
	stop = func() result {
		cancel()
		<-ended
		return result{code, stdout.String(), stderr.String()}
	}
	t.Cleanup(func() { stop() })
	return addressIn(t, &stdout, ended, &stderr), stop
}

var addressLine = regexp.MustCompile(`API +(http://\S+)`)

// addressIn waits for dev to say where it is.
func addressIn(t *testing.T, stdout *lockedBuffer, ended <-chan struct{}, stderr *lockedBuffer) string {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if m := addressLine.FindStringSubmatch(stdout.String()); m != nil && strings.Contains(stdout.String(), "runs list") {
			return m[1]
		}
		select {
		case <-ended:
			t.Fatalf("pawl dev has ended: %s%s", stdout, stderr)
		case <-time.After(5 * time.Millisecond):
		}
	}
	t.Fatalf("pawl dev did not say where it is: %s%s", stdout, stderr)
	return ""
}

// provider is a model provider of the real protocol on a real port, which answers from the
// examples' script after a pause.
func provider(t *testing.T, pause time.Duration) (env environment, script *llmtest.Scripted) {
	t.Helper()
	script = demo.Paced(pause)
	server := httptest.NewServer(llmtest.Server(script))
	t.Cleanup(server.Close)
	return environment{"OPENAI_BASE_URL": server.URL + "/v1"}, script
}

// house is an engine of the test's own workflows behind a real API.
type house struct {
	url    string
	client *api.Client
	stop   func() // ends the server and closes the store
}

func serve(t *testing.T, defs ...pawl.Definition) *house {
	t.Helper()
	store, err := sqlite.Open(filepath.Join(t.TempDir(), "pawl.db"), &sqlite.Options{WALSize: -1})
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, store, defs...)
}

// eachStore runs a test against a server on each of the stores.
func eachStore(t *testing.T, test func(t *testing.T, h *house), defs ...pawl.Definition) {
	t.Run("sqlite", func(t *testing.T) { test(t, serve(t, defs...)) })
	t.Run("postgres", func(t *testing.T) {
		store, err := postgres.Open(t.Context(), pgtest.URL(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		test(t, serveOn(t, store, defs...))
	})
}

func serveOn(t *testing.T, store pawl.Store, defs ...pawl.Definition) *house {
	t.Helper()
	return serveWith(t, store, &pawl.Options{Secret: []byte(strings.Repeat("s", 32))}, defs...)
}

func serveWith(t *testing.T, store pawl.Store, opt *pawl.Options, defs ...pawl.Definition) *house {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	opt.Logger = log
	engine := pawl.New(store, opt)
	keys, err := secret.ParseKeys(secret.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Register(defs...); err != nil {
		t.Fatal(err)
	}
	a := &app{env: environment{}.get}
	services, err := a.services(defaultSettings(), &secret.Store{Engine: engine, Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	models := scriptedModels(0)
	services.into(&models)
	flows := flow.NewRegistry(engine, models)
	if err := errors.Join(engine.Register(flows.Backtester()), flows.Refresh(t.Context())); err != nil {
		t.Fatal(err)
	}
	drafts, err := a.drafts(engine, flows, models)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := engine.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	parts.Go(func() {
		if err := api.Serve(ctx, l, api.New(engine, api.Options{Logger: log, Flows: flows, Drafts: drafts, Secrets: &secret.Store{Engine: engine, Keys: keys}, Draw: drawings(defs)}), 10*time.Second); err != nil {
			t.Error(err)
		}
	})
	h := &house{url: "http://" + l.Addr().String(), stop: sync.OnceFunc(func() {
		cancel()
		parts.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})}
	t.Cleanup(h.stop)
	if h.client, err = api.NewClient(h.url, nil); err != nil {
		t.Fatal(err)
	}
	return h
}

// until waits for a run to be in a state.
func until(t *testing.T, c *api.Client, id string, state pawl.State) api.Run {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		run, err := c.Run(t.Context(), id, 0)
		if err != nil {
			t.Fatal(err)
		}
		if run.State == state {
			return run
		}
		if time.Now().After(end) {
			t.Fatalf("run %s is %s (%s), want %s", id, run.State, run.Reason, state)
		}
	}
}

func testWorkflows() []pawl.Definition {
	return []pawl.Definition{
		pawl.Define("echo", func(c *pawl.Context, in json.RawMessage) (json.RawMessage, error) {
			return pawl.Step(c, "say", func(context.Context) (json.RawMessage, error) { return in, nil })
		}),
		pawl.Define("fails", func(c *pawl.Context, why string) (any, error) {
			return pawl.Step(c, "charge", func(context.Context) (any, error) { return nil, pawl.Fatal(errors.New(why)) })
		}),
		pawl.Define("flaky", func(c *pawl.Context, _ any) (string, error) {
			return pawl.Step(c, "call", func(ctx context.Context) (string, error) {
				if pawl.InfoOf(ctx).Attempt == 1 {
					return "", errors.New("try again")
				}
				return "well", nil
			}, pawl.Backoff(time.Millisecond, time.Millisecond))
		}),
		pawl.Define("waits", func(c *pawl.Context, _ any) (json.RawMessage, error) {
			return pawl.WaitFor[json.RawMessage](c, "review")
		}),
		pawl.Define("hooks", func(c *pawl.Context, _ any) (json.RawMessage, error) {
			h, err := pawl.NewHook[json.RawMessage](c, pawl.Meta(map[string]string{"for": "you"}))
			if err != nil {
				return nil, err
			}
			return h.Wait(c)
		}),
		pawl.Define("sleeps", func(c *pawl.Context, _ any) (string, error) { return "woken", c.Sleep(30 * time.Second) }),
		pawl.Define("says", func(c *pawl.Context, _ any) (string, error) {
			s := c.Stream("words")
			for _, v := range []any{"one ", "two", map[string]int{"n": 3}, agent.Delta{Step: "ask", Text: "to"}, agent.Delta{Step: "ask", Text: "ld\x1b[2J"}} {
				if err := s.Write(v); err != nil {
					return "", err
				}
			}
			_, err := pawl.WaitFor[any](c, "more")
			if err == nil {
				err = s.Write("last")
			}
			return "said", err
		}),
		pawl.Define("chain", func(c *pawl.Context, left int) (string, error) {
			if left > 0 {
				return "", pawl.ContinueAs(c, left-1)
			}
			return "end of the chain", nil
		}),
	}
}

// asks are workflows whose model is scripted.
func asks() []pawl.Definition {
	models := agent.New(agent.Options{Model: "scripted/m", Providers: map[string]llm.Model{"scripted": llmtest.Script(
		llmtest.Rule{Contains: "Hello", Text: "good day"}, llmtest.Rule{Contains: "Bye", Text: "farewell"},
	)}})
	return []pawl.Definition{
		pawl.Define("asks", func(c *pawl.Context, text string) (string, error) {
			return agent.Generate[string](c, models, "greet", agent.Call{Prompt: text})
		}),
		models.Backtester(),
	}
}

// asProcess runs the program as a process of its own.
func asProcess(t *testing.T, url string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = []string{"PAWL_SERVER=" + url}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	// It was called by its path; people see its name.
	clean := func(b *bytes.Buffer) string { return strings.ReplaceAll(b.String(), binary, "pawl") }
	return result{cmd.ProcessState.ExitCode(), clean(&stdout), clean(&stderr)}
}

// keyRecorder is a server that lets nobody in, and tells which keys it was shown.
func keyRecorder(t *testing.T) (url string, seen <-chan string) {
	keys := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		keys <- r.Header.Get("Authorization")
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"status":401,"title":"Unauthorized","code":"unauthorized","detail":"no key, or not a valid one"}`)
	}))
	t.Cleanup(server.Close)
	return server.URL, keys
}

// refusing passes requests on to a server, but those of one path.
func refusing(t *testing.T, to, path string) string {
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path {
			proxy.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, `{"status":503,"title":"Service Unavailable","code":"closed","detail":"out of order"}`)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// refusingAll is a server that answers in one way only.
func refusingAll(t *testing.T, answer http.HandlerFunc) (url string) {
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return server.URL
}
