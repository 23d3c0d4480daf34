package mcp_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/pawlrun/pawl/agent/mcp"
)

// dialects are the ways in which a server may speak streamable HTTP.
var dialects = map[string]*sdk.StreamableHTTPOptions{
	"sessions":      {},
	"sessions json": {JSONResponse: true},
	"stateless":     {Stateless: true, PropagateRequestCancellation: true},
	"resumable":     {EventStore: sdk.NewMemoryEventStore(nil)},
}

func TestAnEndpointServesItsTools(t *testing.T) {
	for name, dialect := range dialects {
		t.Run(name, func(t *testing.T) {
			w := newWeb(t, dialect)
			s := open(t, mcp.Options{URL: w.URL})
			tools, err := s.Tools(t.Context())
			if err != nil || len(tools) != 15 {
				t.Fatalf("got %d tools, %v; want 15", len(tools), err)
			}
			if out := call(t, s, "echo", `{"text":"x"}`); out != "x\nend" {
				t.Errorf("echo gave %q", out)
			}
			if out := call(t, s, "structured", `{}`); out != "seen\n"+`{"id":9007199254740993,"b":[1]}` {
				t.Errorf("structured gave %q", out)
			}
			if e := failure(t, s, "fail", `{"text":"a"}`, mcp.Failed); !strings.HasSuffix(e.Error(), ": no file a") {
				t.Errorf("fail gave %v", e)
			}
			_ = failure(t, s, "vanished", `{}`, mcp.Rejected)
			asks := mcp.Internal // as the server then asks by a request, which is refused
			if name == "stateless" {
				asks = mcp.Rejected
			}
			if e := failure(t, s, "input", `{}`, asks); !strings.Contains(e.Error(), "input") {
				t.Errorf("a tool that asks for input gave %v", e)
			}
			for _, what := range []string{"sampling", "roots", "elicitation"} {
				if out := call(t, s, "ask", `{"text":"`+what+`"}`); !strings.HasPrefix(out, "refused: ") {
					t.Errorf("%s: %s", what, out)
				}
			}
			if strings.HasPrefix(name, "sessions") { // as a stream and as JSON: it takes a while
				if out := call(t, s, "big", `{"n":5000000}`); len(out) > mcp.DefaultMaxResult+200 || !strings.Contains(out, "5000000 bytes") {
					t.Errorf("a result of 5 MB became %d bytes", len(out))
				}
				_ = failure(t, s, "big", `{"n":9000000}`, mcp.TooLarge)
			}
			if out := call(t, s, "echo", `{}`); out != "\nend" {
				t.Errorf("after that echo gave %q", out)
			}
		})
	}
}

func TestALostSessionIsMadeAgainUnseen(t *testing.T) {
	for _, name := range []string{"sessions", "sessions json"} {
		t.Run(name, func(t *testing.T) {
			w := newWeb(t, dialects[name])
			s := open(t, mcp.Options{URL: w.URL})
			call(t, s, "echo", `{}`)
			w.restart(dialects[name]) // which answers 404 to the sessions of before
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() { call(t, s, "echo", `{}`) })
			}
			wg.Wait()
		})
	}
	t.Run("400", func(t *testing.T) {
		w := newWeb(t, dialects["sessions"])
		s := open(t, mcp.Options{URL: w.URL})
		call(t, s, "echo", `{}`)
		var once sync.Once
		w.intercept(func(rw http.ResponseWriter, r *http.Request) (handled bool) {
			once.Do(func() {
				handled = true
				http.Error(rw, "Bad Request: No valid session ID provided", http.StatusBadRequest)
			})
			return handled
		})
		if out := call(t, s, "echo", `{}`); out != "\nend" {
			t.Errorf("after a 400 for the session echo gave %q", out)
		}
	})
}

func TestASessionThatIsAlwaysLostIsAnError(t *testing.T) {
	w := newWeb(t, dialects["sessions"])
	s := open(t, mcp.Options{URL: w.URL})
	call(t, s, "echo", `{}`)
	w.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if bytes.Contains(body, []byte("tools/call")) {
			http.Error(rw, "session not found", http.StatusNotFound)
			return true
		}
		return false
	})
	if e := failure(t, s, "echo", `{}`, mcp.Lost); e.Fatal() {
		t.Errorf("%v is not tried again", e)
	}
}

func TestAHangingRequestHoldsUpNoOther(t *testing.T) {
	for name, dialect := range dialects {
		t.Run(name, func(t *testing.T) {
			w := newWeb(t, dialect)
			s := open(t, mcp.Options{URL: w.URL, Timeout: 500 * time.Millisecond})
			file := filepath.Join(t.TempDir(), "hang")
			var wg sync.WaitGroup
			wg.Go(func() {
				began := time.Now()
				_ = failure(t, s, "hang", `{"text":"`+file+`"}`, mcp.Timeout)
				if took := time.Since(began); took > 3*time.Second {
					t.Errorf("the call ended after %v", took)
				}
			})
			notes(t, file, 1)
			for range 8 {
				wg.Go(func() { call(t, s, "echo", `{}`) })
			}
			wg.Wait()
			if got := notes(t, file, 2); got[1] != "cancelled" {
				t.Errorf("the server noted %q; want that it heard of the cancellation", got)
			}
			call(t, s, "echo", `{}`)
		})
	}
}

// An answer that the SDK would end the session for ends its own call only.
func TestABadAnswerFailsItsOwnCallOnly(t *testing.T) {
	stream := func(events string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, events)
		}
	}
	status := func(code int, header, value, body string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set(header, value)
			w.WriteHeader(code)
			io.WriteString(w, body)
		}
	}
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter)
		kind   mcp.Kind
		fatal  bool
	}{
		"rubbish":           {status(200, "Content-Type", "application/json", "{"), mcp.Malformed, true},
		"a web page":        {status(200, "Content-Type", "text/html", "<html>"), mcp.Malformed, true},
		"another's answer":  {status(200, "Content-Type", "application/json", `{"jsonrpc":"2.0","id":99999,"result":{}}`), mcp.Malformed, true},
		"9 MB":              {status(200, "Content-Type", "application/json", `{"jsonrpc":"2.0","id":1,"result":"`+strings.Repeat("x", 9<<20)+`"}`), mcp.TooLarge, true},
		"500":               {status(500, "X", "", "oops"), mcp.Unavailable, false},
		"429":               {status(429, "Retry-After", "7", ""), mcp.Unavailable, false},
		"401":               {status(401, "X", "", ""), mcp.Denied, true},
		"418":               {status(418, "X", "", ""), mcp.Rejected, true},
		"a protocol error":  {status(400, "X", "", `{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"no"}}`), mcp.Rejected, true},
		"no event":          {stream(": nothing\n\n"), mcp.Lost, false},
		"a rubbish event":   {stream("id: 1_0\ndata: {\n\n"), mcp.Malformed, true},
		"a rubbish line":    {stream("rubbish\n\n"), mcp.Lost, false},
		"half an event":     {stream("data: {\"jsonrpc\":"), mcp.Malformed, true},
		"a 9 MB event":      {stream("data: " + strings.Repeat("x", 9<<20) + "\n\n"), mcp.TooLarge, true},
		"an event of lines": {stream(strings.Repeat("data: x\n", 2<<20) + "\n\n"), mcp.TooLarge, true},
		"a bomb": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write([]byte(`{"jsonrpc":"2.0","id":1,"result":"`))
			for range 200 { // 200 MB from 200 KB
				if _, err := z.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
					return
				}
			}
			_ = z.Close()
		}, mcp.TooLarge, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWeb(t, dialects["sessions"])
			s := open(t, mcp.Options{URL: w.URL, Timeout: 20 * time.Second})
			file := filepath.Join(t.TempDir(), "hang")
			call(t, s, "echo", `{}`)
			var inits atomic.Int32
			w.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
				body, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(bytes.NewReader(body))
				if bytes.Contains(body, []byte(`"initialize"`)) {
					inits.Add(1)
				}
				if bytes.Contains(body, []byte(`"media"`)) {
					c.answer(rw)
					return true
				}
				return false
			})
			beside := make(chan error)
			go func() {
				_, err := s.Call(t.Context(), "hang", []byte(`{"text":"`+file+`"}`))
				beside <- err
			}()
			notes(t, file, 1)
			e := failure(t, s, "media", `{}`, c.kind)
			if e.Fatal() != c.fatal {
				t.Errorf("%v: fatal is %v", e, e.Fatal())
			}
			if name == "429" && e.Wait != 7*time.Second {
				t.Errorf("it waits %v", e.Wait)
			}
			call(t, s, "echo", `{}`)
			select {
			case err := <-beside:
				t.Errorf("the call beside it ended with %v", err)
			default:
			}
			if n := inits.Load(); n != 0 {
				t.Errorf("%d sessions were made anew", n)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := <-beside; err == nil {
				t.Error("the call beside it was answered by a server that is closed")
			}
		})
	}
}

// A stream that breaks is resumed, if its events have ids; if that fails, only its call does.
func TestABrokenStreamIsResumed(t *testing.T) {
	const progress = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`
	for _, resumable := range []bool{true, false} {
		t.Run(fmt.Sprint(resumable), func(t *testing.T) {
			w := newWeb(t, dialects["sessions"])
			s := open(t, mcp.Options{URL: w.URL, Timeout: 30 * time.Second})
			call(t, s, "echo", `{}`)
			var id, last atomic.Value
			w.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet {
					last.Store(r.Header.Get("Last-Event-ID"))
					if !resumable {
						http.Error(rw, "no", http.StatusMethodNotAllowed)
						return true
					}
					rw.Header().Set("Content-Type", "text/event-stream")
					fmt.Fprintf(rw, "id: 1_1\ndata: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"resumed\"}]}}\n\n", id.Load())
					return true
				}
				body, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(bytes.NewReader(body))
				if !bytes.Contains(body, []byte(`"media"`)) {
					return false
				}
				var m struct{ ID json.RawMessage }
				if err := json.Unmarshal(body, &m); err != nil {
					t.Error(err)
				}
				id.Store(string(m.ID))
				rw.Header().Set("Content-Type", "text/event-stream")
				io.WriteString(rw, "id: 1_0\nretry: 1\ndata: "+progress+"\n\n")
				return true
			})
			if resumable {
				if out := call(t, s, "media", `{}`); out != "resumed" {
					t.Errorf("got %q", out)
				}
			} else {
				_ = failure(t, s, "media", `{}`, mcp.Rejected)
			}
			if last.Load() != "1_0" {
				t.Errorf("it was resumed after event %v", last.Load())
			}
			if out := call(t, s, "echo", `{}`); out != "\nend" {
				t.Errorf("after that echo gave %q", out)
			}
		})
	}
}

// The protocol wants its version with each message after the first.
func TestTheVersionOfTheProtocolIsSent(t *testing.T) {
	w := newWeb(t, dialects["sessions"])
	s := open(t, mcp.Options{URL: w.URL, Timeout: 300 * time.Millisecond})
	sent := make(chan string, 100)
	w.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		for _, method := range []string{"notifications/initialized", "tools/call", "notifications/cancelled"} {
			if bytes.Contains(body, []byte(`"`+method+`"`)) {
				sent <- method + " " + r.Header.Get("Mcp-Protocol-Version")
			}
		}
		return false
	})
	_ = failure(t, s, "hang", `{}`, mcp.Timeout)
	for _, method := range []string{"notifications/initialized", "tools/call", "notifications/cancelled"} {
		if got := <-sent; got != method+" 2025-11-25" {
			t.Errorf("sent was %q; want %s with the version", got, method)
		}
	}
}

func TestARedirectElsewhereIsRefused(t *testing.T) {
	var stolen atomic.Value
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stolen.Store(r.Header.Get("Authorization") + " was sent")
	}))
	defer thief.Close()
	w := newWeb(t, nil)
	header := http.Header{"Authorization": {"Bearer secret"}}
	s := open(t, mcp.Options{URL: w.URL + "/mcp?key=sesame", Header: header, Timeout: 3 * time.Second})
	var seen atomic.Value
	w.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		seen.Store(r.Header.Get("Authorization"))
		return false
	})
	call(t, s, "echo", `{}`)
	if seen.Load() != "Bearer secret" {
		t.Errorf("the server was sent %q", seen.Load())
	}
	w.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		http.Redirect(rw, r, thief.URL, http.StatusTemporaryRedirect)
		return true
	})
	e := failure(t, s, "echo", `{}`, mcp.Rejected)
	if !e.Fatal() || strings.Contains(e.Error(), "sesame") {
		t.Errorf("got %v, fatal %v", e, e.Fatal())
	}
	if stolen.Load() != nil {
		t.Errorf("the other host got a request: %v", stolen.Load())
	}
	w.intercept(func(rw http.ResponseWriter, r *http.Request) bool { // on the same host it is followed
		if r.URL.Path == "/mcp" {
			http.Redirect(rw, r, "/other", http.StatusTemporaryRedirect)
			return true
		}
		return false
	})
	if out := call(t, s, "echo", `{}`); out != "\nend" {
		t.Errorf("redirected, echo gave %q", out)
	}
}

func TestAnEndpointThatIsDownAndComesBack(t *testing.T) {
	w := newWeb(t, nil)
	url := w.URL + "/?key=sesame"
	var log bytes.Buffer
	s := open(t, mcp.Options{URL: url, Timeout: 10 * time.Second, Log: slog.New(slog.NewTextHandler(&log, nil))})
	w.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		panic(http.ErrAbortHandler) // the connection breaks
	})
	e := failure(t, s, "echo", `{}`, mcp.Unavailable)
	if e.Fatal() || e.Wait <= 0 || strings.Contains(e.Error(), "sesame") {
		t.Errorf("got %v, wait %v", e, e.Wait)
	}
	w.intercept(nil)
	call(t, s, "echo", `{}`) // after the back-off
	w.intercept(func(rw http.ResponseWriter, r *http.Request) bool { panic(http.ErrAbortHandler) })
	if e := failure(t, s, "echo", `{}`, mcp.Lost); e.Fatal() || strings.Contains(e.Error(), "sesame") {
		t.Errorf("got %v", e)
	}
	w.intercept(nil)
	call(t, s, "echo", `{}`)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if strings.Contains(log.String(), "sesame") {
		t.Errorf("the log has the key: %s", log.String())
	}
	var inner *mcp.Error
	if !errors.As(error(e), &inner) || strings.Contains(fmt.Sprint(errors.Unwrap(e)), "sesame") {
		t.Errorf("the cause has the key: %v", errors.Unwrap(e))
	}
}

func TestNoOneAuthorised(t *testing.T) {
	w := newWeb(t, nil)
	w.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		http.Error(rw, "who are you?", http.StatusUnauthorized)
		return true
	})
	s := open(t, mcp.Options{URL: w.URL})
	if e := failure(t, s, "echo", `{}`, mcp.Denied); !e.Fatal() || e.Status != 401 {
		t.Errorf("got %v", e)
	}
}

// A server of the newest protocol may want arguments as headers, which the SDK knows from its
// list only: a session made anew, or a snapshot, must do without.
func TestArgumentsAreSentAsHeadersWhereAServerWantsThem(t *testing.T) {
	s := sdk.NewServer(&sdk.Implementation{Name: "h", Version: "1"}, nil)
	s.AddTool(&sdk.Tool{Name: "region", InputSchema: json.RawMessage(`{"type":"object","properties":{"r":{"type":"string","x-mcp-header":"Region"}}}`)},
		func(_ context.Context, r *sdk.CallToolRequest) (*sdk.CallToolResult, error) {
			return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: r.Extra.Header.Get("Mcp-Param-Region")}}}, nil
		})
	w := httptest.NewServer(sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return s }, &sdk.StreamableHTTPOptions{Stateless: true}))
	defer w.Close()
	c := open(t, mcp.Options{URL: w.URL})
	if out := call(t, c, "region", `{"r":"eu"}`); out != "eu" {
		t.Errorf("the server got %q as its header", out)
	}
}
