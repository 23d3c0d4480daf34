package mcp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/pawlrun/pawl/agent/mcp"
)

// The test binary is the server too, if it is started with this variable.
const serverMode = "PAWL_MCP_TEST_SERVER"

func TestMain(m *testing.M) {
	switch mode := os.Getenv(serverMode); mode {
	case "":
		mcp.BeImpatient()
		os.Exit(m.Run())
	case "sdk":
		if err := newSDKServer().Run(context.Background(), &sdk.StdioTransport{}); err != nil {
			os.Exit(1)
		}
	case "dies":
		fmt.Fprintln(os.Stderr, "no licence")
		os.Exit(7)
	case "deaf":
		select {}
	default:
		rawServer(mode)
	}
	os.Exit(0)
}

// command is how to start this binary as a server.
func command(t *testing.T, mode string, env ...string) mcp.Options {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return mcp.Options{Name: "test", Command: []string{self}, Env: append(env, "GORACE=atexit_sleep_ms=0", serverMode+"="+mode), Log: slog.New(slog.DiscardHandler)}
}

// open makes a Server that is closed with the test, which then must have left nothing behind.
func open(t *testing.T, o mcp.Options) *mcp.Server {
	t.Helper()
	if o.Name == "" {
		o.Name = "test"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s, err := mcp.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		noGoroutines(t)
	})
	return s
}

// noGoroutines waits until no goroutine of a client is left.
func noGoroutines(t *testing.T) {
	t.Helper()
	var left string
	for range 500 {
		buf := make([]byte, 1<<20)
		buf = buf[:runtime.Stack(buf, true)]
		left = ""
		for _, g := range strings.Split(string(buf), "\n\n") {
			ours := strings.Contains(g, "pawl/agent/mcp.(") || strings.Contains(g, "go-sdk/mcp.(*Client") || strings.Contains(g, "go-sdk/mcp.(*streamableClient")
			if ours && !strings.Contains(g, "testing.tRunner") {
				left = g
			}
		}
		if left == "" {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("after Close a goroutine is left:\n%s", left)
}

// alive tells whether a process exists.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func call(t *testing.T, s *mcp.Server, tool, args string) string {
	t.Helper()
	out, err := s.Call(t.Context(), tool, json.RawMessage(args))
	if err != nil {
		t.Fatalf("%s(%s): %v", tool, args, err)
	}
	return out
}

// failure calls a tool that is to fail.
func failure(t *testing.T, s *mcp.Server, tool, args string, kind mcp.Kind) *mcp.Error {
	t.Helper()
	out, err := s.Call(t.Context(), tool, json.RawMessage(args))
	var e *mcp.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Fatalf("%s(%s) gave %.100q, %v; want an error of kind %s", tool, args, out, err, kind)
	}
	return e
}

type textArgs struct {
	Text string `json:"text,omitempty"`
	N    int    `json:"n,omitempty"`
}

// newSDKServer is a server made with the SDK, whose tools do what their names say.
func newSDKServer() *sdk.Server {
	s := sdk.NewServer(&sdk.Implementation{Name: "test", Version: "1"}, &sdk.ServerOptions{PageSize: 5})
	add := func(name string, f func(ctx context.Context, r *sdk.CallToolRequest, in textArgs) (*sdk.CallToolResult, error)) {
		sdk.AddTool(s, &sdk.Tool{Name: name, Description: "Does " + name + "."}, func(ctx context.Context, r *sdk.CallToolRequest, in textArgs) (*sdk.CallToolResult, any, error) {
			res, err := f(ctx, r, in)
			return res, nil, err
		})
	}
	text := func(parts ...string) *sdk.CallToolResult {
		res := &sdk.CallToolResult{}
		for _, p := range parts {
			res.Content = append(res.Content, &sdk.TextContent{Text: p})
		}
		return res
	}
	add("echo", func(_ context.Context, _ *sdk.CallToolRequest, in textArgs) (*sdk.CallToolResult, error) {
		return text(in.Text, "end"), nil
	})
	add("fail", func(_ context.Context, _ *sdk.CallToolRequest, in textArgs) (*sdk.CallToolResult, error) {
		return nil, fmt.Errorf("no file %s", in.Text)
	})
	add("structured", func(context.Context, *sdk.CallToolRequest, textArgs) (*sdk.CallToolResult, error) {
		return &sdk.CallToolResult{
			Content:           []sdk.Content{&sdk.TextContent{Text: `{"b": [1], "id": 9007199254740993}`}, &sdk.TextContent{Text: "seen"}},
			StructuredContent: json.RawMessage(`{"id":9007199254740993,"b":[1]}`),
		}, nil
	})
	add("media", func(context.Context, *sdk.CallToolRequest, textArgs) (*sdk.CallToolResult, error) {
		return &sdk.CallToolResult{Content: []sdk.Content{
			&sdk.ImageContent{MIMEType: "image/png", Data: make([]byte, 10)},
			&sdk.AudioContent{MIMEType: "audio/wav", Data: make([]byte, 11)},
			&sdk.ResourceLink{URI: "file:///a", Name: "a", MIMEType: "text/plain"},
			&sdk.EmbeddedResource{Resource: &sdk.ResourceContents{URI: "file:///b", MIMEType: "text/plain", Text: "inside"}},
			&sdk.EmbeddedResource{Resource: &sdk.ResourceContents{URI: "file:///c", MIMEType: "x/y", Blob: make([]byte, 12)}},
		}}, nil
	})
	add("hang", func(ctx context.Context, _ *sdk.CallToolRequest, in textArgs) (*sdk.CallToolResult, error) {
		note(in.Text, "began")
		<-ctx.Done()
		note(in.Text, "cancelled")
		return nil, ctx.Err()
	})
	add("die", func(_ context.Context, _ *sdk.CallToolRequest, in textArgs) (*sdk.CallToolResult, error) {
		if _, err := os.Stat(in.Text); err == nil { // it dies once
			return text("survived"), nil
		}
		note(in.Text, "died")
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	})
	add("stop", func(context.Context, *sdk.CallToolRequest, textArgs) (*sdk.CallToolResult, error) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) // which may take a moment
		select {}
	})
	add("pid", func(context.Context, *sdk.CallToolRequest, textArgs) (*sdk.CallToolResult, error) {
		return text(strconv.Itoa(os.Getpid())), nil
	})
	add("spawn", func(context.Context, *sdk.CallToolRequest, textArgs) (*sdk.CallToolResult, error) {
		child := exec.Command("/bin/sleep", "1000")
		if err := child.Start(); err != nil {
			return nil, err
		}
		return text(strconv.Itoa(child.Process.Pid)), nil
	})
	add("big", func(_ context.Context, _ *sdk.CallToolRequest, in textArgs) (*sdk.CallToolResult, error) {
		return text(strings.Repeat("é", in.N/2)), nil
	})
	add("environment", func(context.Context, *sdk.CallToolRequest, textArgs) (*sdk.CallToolResult, error) {
		return text(strings.Join(os.Environ(), "\n")), nil
	})
	add("complain", func(_ context.Context, _ *sdk.CallToolRequest, in textArgs) (*sdk.CallToolResult, error) {
		for range in.N {
			fmt.Fprintln(os.Stderr, strings.Repeat("x", 5000))
		}
		return text("ok"), nil
	})
	add("step", func(_ context.Context, r *sdk.CallToolRequest, in textArgs) (*sdk.CallToolResult, error) {
		id, _ := r.Params.Meta["io.pawl/stepId"].(string)
		note(in.Text, "call "+id)
		return text(id), nil
	})
	add("input", func(_ context.Context, r *sdk.CallToolRequest, _ textArgs) (*sdk.CallToolResult, error) {
		return &sdk.CallToolResult{InputRequests: sdk.InputRequestMap{"q": &sdk.ElicitParams{Message: "password?"}}}, nil
	})
	add("ask", func(ctx context.Context, r *sdk.CallToolRequest, in textArgs) (*sdk.CallToolResult, error) {
		var err error
		switch in.Text {
		case "sampling":
			_, err = r.Session.CreateMessage(ctx, &sdk.CreateMessageParams{MaxTokens: 1, Messages: []*sdk.SamplingMessage{}}) //nolint:staticcheck // servers of older versions ask for it
		case "roots":
			_, err = r.Session.ListRoots(ctx, nil) //nolint:staticcheck // servers of older versions ask for it
		default:
			_, err = r.Session.Elicit(ctx, &sdk.ElicitParams{Message: "password?"})
		}
		if err == nil {
			return text("was answered"), nil
		}
		return text("refused: " + err.Error()), nil
	})
	return s
}

// note appends a line to a file, by which tests learn what a server did.
func note(file, line string) {
	if file == "" {
		return
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintln(f, line)
}

// notes waits until a file has n lines.
func notes(t *testing.T, file string, n int) []string {
	t.Helper()
	var lines []string
	for range 1000 {
		data, _ := os.ReadFile(file)
		if lines = strings.Fields(strings.ReplaceAll(string(data), " ", "_")); len(lines) >= n {
			return lines
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s has %q; want %d lines", file, lines, n)
	return nil
}

// rawServer is a server without the SDK, for what that would not do.
func rawServer(mode string) {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	var mu sync.Mutex
	for in.Scan() {
		var m struct {
			ID     json.RawMessage `json:"id"`
			Method string          `json:"method"`
			Params json.RawMessage `json:"params"`
		}
		if json.Unmarshal(in.Bytes(), &m) != nil || m.ID == nil {
			continue
		}
		mu.Lock()
		for _, line := range rawAnswer(mode, m.Method, m.Params) {
			fmt.Println(strings.ReplaceAll(line, "$ID", string(m.ID)))
		}
		mu.Unlock()
	}
}

func rawAnswer(mode, method string, params json.RawMessage) []string {
	answer := func(result string) []string {
		return []string{`{"jsonrpc":"2.0","id":$ID,"result":` + result + `}`}
	}
	if method == "initialize" {
		return answer(`{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"raw","version":"1"}}`)
	}
	if method == "ping" {
		return answer(`{}`)
	}
	if method == "tools/list" {
		var p struct {
			Cursor string `json:"cursor"`
		}
		_ = json.Unmarshal(params, &p)
		return answer(rawList(mode, p.Cursor))
	}
	if method == "tools/call" {
		var p struct{ Name string }
		_ = json.Unmarshal(params, &p)
		switch p.Name {
		case "stuck":
			select {} // and nothing is read any more
		case "good":
			return answer(`{"content":[{"type":"text","text":"good"}]}`)
		case "huge":
			return answer(`{"content":[{"type":"text","text":"` + strings.Repeat(`x\"`, 3<<20) + `"}]}`)
		case "rubbish":
			return []string{`{"jsonrpc":"2.0","id":$ID,"result":{"content":[}}`}
		case "chatty":
			return append([]string{"Loading model...", "", "[1,2", `{"jsonrpc":"1.0"}`, `"text"`, `[{"jsonrpc":"2.0","method":"notifications/x"}]`}, answer(`{"content":[]}`)...)
		case "wrong":
			return answer(`{"content":7}`)
		case "nothing":
			return answer(`null`)
		case "odd":
			return answer(`{"content":[{"type":"hologram"},7,{"type":"text","text":"a\u0000b"}],"structuredContent":null}`)
		case "flood":
			return append(slicesRepeat(`{"jsonrpc":"2.0","id":"s1","method":"sampling/createMessage","params":{}}`, 1000), answer(`{"content":[{"type":"text","text":"dry"}]}`)...)
		}
		return []string{`{"jsonrpc":"2.0","id":$ID,"error":{"code":-32602,"message":"unknown tool"}}`}
	}
	return []string{`{"jsonrpc":"2.0","id":$ID,"error":{"code":-32601,"message":"no method"}}`}
}

func slicesRepeat(s string, n int) (all []string) {
	for range n {
		all = append(all, s)
	}
	return all
}

func rawList(mode, cursor string) string {
	const schema = `{"type":"object","properties":{"a":{"type":"string"}}}`
	tool := func(name, description, schema string) string {
		quoted, _ := json.Marshal(description)
		return fmt.Sprintf(`{"name":%q,"description":%s,"inputSchema":%s}`, name, quoted, schema)
	}
	page := func(next string, tools ...string) string {
		return `{"tools":[` + strings.Join(tools, ",") + `],"nextCursor":"` + next + `"}`
	}
	n, _ := strconv.Atoi(cursor)
	switch mode {
	case "endless":
		return page(strconv.Itoa(n+1), tool(fmt.Sprint("t", n), "", schema))
	case "circle":
		return page(strconv.Itoa((n+1)%3), tool(fmt.Sprint("t", n), "", schema))
	case "many":
		var tools []string
		for i := range 1000 {
			tools = append(tools, tool(fmt.Sprint("t", 1000*n+i), "", schema))
		}
		if n == 9 {
			return page("", tools...)
		}
		return page(strconv.Itoa(n+1), tools...)
	case "nolist":
		return `{"tools":"none"}`
	}
	deep := strings.Repeat(`{"type":"object","properties":{"a":`, 40) + "{}" + strings.Repeat("}}", 40)
	return page("",
		tool("good", "It is good.", schema),
		tool("good", "Another.", schema),
		tool("no-schema", "", "null"),
		tool("deep", "", deep),
		tool("large", "", `{"type":"object","description":"`+strings.Repeat("x", 70<<10)+`"}`),
		tool("text-schema", "", `"object"`),
		tool("array-schema", "", `{"type":"array"}`),
		tool("untyped", "", `{"properties":{}}`),
		tool("broken", "", `{"type":"object","properties":[1]}`),
		tool("remote", "", `{"type":"object","properties":{"a":{"$ref":"https://evil.example/schema"}}}`),
		tool("local-ref", "", `{"type":"object","properties":{"a":{"$ref":"#/$defs/x"}},"$defs":{"x":{"type":"string"}}}`),
		tool("draft-07", "", `{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","definitions":{"x":{}},"properties":{"a":{"type":["string","null"],"items":[{}]}},"additionalProperties":false}`),
		tool("files/read it", "Odd name.", schema),
		tool(strings.Repeat("long", 20), "", schema),
		tool(strings.Repeat("longer", 100), "", schema),
		tool("wordy", strings.Repeat("word ", 5000), schema),
		tool("hidden", "Reads\u202e a file.\U000E0041\U000E0042\x07\nReally.", schema),
		`{"name":5,"inputSchema":{}}`, `"tool"`, `{"description":"no name"}`,
	)
}

// web is a server over HTTP whose requests a test can see and answer itself.
type web struct {
	*httptest.Server
	mu       sync.Mutex
	handler  http.Handler
	override func(w http.ResponseWriter, r *http.Request) (handled bool)
}

func newWeb(t *testing.T, o *sdk.StreamableHTTPOptions) *web {
	t.Helper()
	w := &web{}
	w.restart(o)
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		h, f := w.handler, w.override
		w.mu.Unlock()
		if f == nil || !f(rw, r) {
			h.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(func() {
		w.CloseClientConnections()
		w.Close()
	})
	return w
}

// restart loses all sessions.
func (w *web) restart(o *sdk.StreamableHTTPOptions) {
	s := newSDKServer()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handler = sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return s }, o)
}

func (w *web) intercept(f func(w http.ResponseWriter, r *http.Request) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.override = f
}
