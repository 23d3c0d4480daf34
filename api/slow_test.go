package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/sqlite"
)

// pipes is a listener whose connections are in memory, so that their time is virtual. What is
// written to one waits until the other end reads it: a reader that reads nothing is as slow as
// one can be.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	close sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.close.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

// slowly runs f in virtual time against a server of an engine of workflows.
func slowly(t *testing.T, f func(t *testing.T, p *pipes, e *pawl.Engine), defs ...pawl.Definition) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		store, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		quiet := slog.New(slog.DiscardHandler)
		e := pawl.New(store, &pawl.Options{Logger: quiet, Secret: bytes.Repeat([]byte("s"), 32)})
		if err := e.Register(defs...); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		var parts sync.WaitGroup
		p := newPipes()
		parts.Go(func() {
			if err := e.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		presses, err := api.NewSlack(e, api.SlackOptions{Secrets: []string{signing}, Logger: quiet})
		if err != nil {
			t.Fatal(err)
		}
		all := http.NewServeMux()
		all.Handle("/", api.New(e, api.Options{Logger: quiet}))
		all.Handle(api.SlackPath, presses)
		parts.Go(func() {
			if err := api.Serve(ctx, p, all, time.Second); err != nil {
				t.Error(err)
			}
		})
		defer func() {
			stop()
			parts.Wait()
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		}()
		f(t, p, e)
	})
}

// talk opens a connection, sends what send does, and returns the first line of the answer and
// how long it took until the server closed the connection.
func (p *pipes) talk(t *testing.T, send func(c net.Conn)) (line string, took time.Duration) {
	t.Helper()
	c, err := p.dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := c.SetReadDeadline(began.Add(5 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	var sender sync.WaitGroup
	sender.Go(func() { send(c) })
	defer sender.Wait()
	defer c.Close()
	data, err := io.ReadAll(c)
	line, _, _ = strings.Cut(string(data), "\r\n")
	if err != nil {
		line += " " + err.Error()
	}
	return line, time.Since(began)
}

// drip sends a byte each second for ten minutes.
func drip(c net.Conn, b string) {
	for range 600 {
		time.Sleep(time.Second)
		if _, err := io.WriteString(c, b); err != nil {
			return
		}
	}
}

func TestWhoSendsSlowlyIsCutOff(t *testing.T) {
	waits := pawl.Define("waits", func(c *pawl.Context, _ any) (any, error) {
		h, err := pawl.NewWebhook(c)
		if err != nil {
			return nil, err
		}
		return h.Wait(c)
	})
	slowly(t, func(t *testing.T, p *pipes, e *pawl.Engine) {
		info, err := e.StartRun(t.Context(), "waits", nil)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		hooks, err := e.Hooks(t.Context(), pawl.Ref{ID: info.ID})
		if err != nil || len(hooks) != 1 {
			t.Fatal(hooks, err)
		}
		head := func(line string) string { return line + " HTTP/1.1\r\nHost: localhost\r\n" }
		for name, c := range map[string]struct {
			head, drip string
			want       string
			within     time.Duration
		}{
			"nothing at all":             {"", "", "", 5 * time.Second},
			"a head that drips":          {head("GET /healthz"), "X", "4", 5 * time.Second},
			"a body that drips":          {head("POST /api/runs") + "Content-Length: 1000\r\n\r\n", " ", "400 Bad Request", 30 * time.Second},
			"in chunks":                  {head("POST /api/runs") + "Transfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n", "400 Bad Request", 30 * time.Second},
			"that nobody wants":          {head("POST /nowhere") + "Content-Length: 1000\r\n\r\n", " ", "404 Not Found", 10 * time.Second},
			"of a read":                  {head("GET /healthz") + "Content-Length: 1000\r\n\r\n", " ", "400 Bad Request", 30 * time.Second},
			"for an unknown webhook":     {head("POST "+pawl.WebhookPath+"x") + "Content-Length: 1000\r\n\r\n", " ", "404 Not Found", 10 * time.Second},
			"for a webhook":              {head("POST "+pawl.WebhookPath+hooks[0].Token) + "Content-Length: 1000\r\n\r\n", " ", "400 Bad Request", 30 * time.Second},
			"for an approval":            {head("POST /approve/x") + "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\n", "x", "4", 30 * time.Second},
			"for a press in Slack":       {head("POST "+api.SlackPath) + "Content-Length: 1000\r\n\r\n", "x", "4", 30 * time.Second},
			"for none":                   {head("PUT "+api.SlackPath) + "Content-Length: 1000\r\n\r\n", "x", "405 ", 10 * time.Second},
			"a head of more than 16 KiB": {head("GET /healthz") + "X: " + strings.Repeat("x", 16<<10) + "\r\n\r\n", "", "431 ", time.Second},
		} {
			line, took := p.talk(t, func(c2 net.Conn) {
				if _, err := io.WriteString(c2, c.head); err == nil && c.drip != "" {
					drip(c2, c.drip)
				}
			})
			if !strings.HasPrefix(strings.TrimPrefix(line, "HTTP/1.1 "), c.want) || c.want == "" && line != "" && !strings.Contains(line, "408") {
				t.Errorf("%s: %q, want %q", name, line, c.want)
			}
			if slack := 2 * time.Second; took > c.within+slack || c.drip != "" && took < c.within-slack {
				t.Errorf("%s: it took %v, want %v", name, took, c.within)
			}
		}
	}, waits)
}

// A body that came whole leaves no deadline behind that would end a wait or a view.
func TestAWaitLastsLongerThanABodyMayTake(t *testing.T) {
	sleeps := pawl.Define("sleeps", func(c *pawl.Context, _ any) (string, error) { return "woken", c.Sleep(2 * time.Minute) })
	slowly(t, func(t *testing.T, p *pipes, _ *pawl.Engine) {
		hc := &http.Client{Transport: &http.Transport{DialContext: p.dial}}
		defer hc.CloseIdleConnections()
		for _, c := range []struct{ method, path, body string }{
			{"POST", "/api/runs?wait=5m", `{"workflow":"sleeps","id":"a"}`},
			{"GET", "/api/runs/a?wait=5m", `{}`},
			{"GET", "/api/runs/b/events", `{}`},
		} {
			if strings.HasPrefix(c.path, "/api/runs/b") {
				res, err := hc.Post("http://localhost/api/runs", "application/json", strings.NewReader(`{"workflow":"sleeps","id":"b"}`))
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
			}
			req, err := http.NewRequestWithContext(t.Context(), c.method, "http://localhost"+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			res, err := hc.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || !strings.Contains(string(data), `"woken"`) {
				t.Errorf("%s %s: %d %s %v", c.method, c.path, res.StatusCode, data, err)
			}
		}
	}, sleeps)
}

// Who opens a live view and does not read it is cut off after 30 s. Until then the run goes on
// as if nobody looked, and other readers see all.
func TestASlowReaderHarmsNobody(t *testing.T) {
	const chunks, size = 50, 64 << 10
	writes := pawl.Define("writes", func(c *pawl.Context, _ any) (string, error) {
		if _, err := pawl.WaitFor[any](c, "go"); err != nil {
			return "", err
		}
		for i := range chunks {
			if err := c.Stream("s").Write(fmt.Sprintf("%05d%s", i, strings.Repeat("x", size))); err != nil {
				return "", err
			}
		}
		return "done", c.Stream("s").Close()
	})
	slowly(t, func(t *testing.T, p *pipes, _ *pawl.Engine) {
		transport := &http.Transport{DialContext: p.dial}
		defer transport.CloseIdleConnections()
		client, err := api.NewClient("http://localhost", &api.ClientOptions{HTTP: &http.Client{Transport: transport}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Start(t.Context(), api.StartRequest{Workflow: "writes", ID: "w"}, 0); err != nil {
			t.Fatal(err)
		}
		var slow []net.Conn
		for _, view := range []string{"/api/runs/w/streams/s", "/api/runs/w/events", "/api/feed", "/api/runs/w/streams/s"} {
			c, err := p.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			accept := "text/event-stream"
			if len(slow) == 3 {
				accept = "application/x-ndjson"
			}
			fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: %s\r\n\r\n", view, accept)
			line, err := bufio.NewReaderSize(c, 16).ReadString('\n')
			if err != nil || !strings.Contains(line, " 200 ") {
				t.Fatalf("%s: %q %v", view, line, err)
			}
			slow = append(slow, c)
		}
		began := time.Now()
		if _, err := client.Signal(t.Context(), "w", "go", json.RawMessage("null")); err != nil {
			t.Fatal(err)
		}
		n := 0
		for e, err := range client.ReadStream(t.Context(), "w", "s", 0) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Type == api.EventChunk {
				n++
			}
		}
		run, err := client.Run(t.Context(), "w", time.Minute)
		if err != nil || run.State != pawl.Completed || n != chunks {
			t.Errorf("the run is %s, its other reader has %d of %d chunks: %v", run.State, n, chunks, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("beside readers that do not read it took %v", took)
		}
		time.Sleep(time.Minute)
		for i, c := range slow {
			if c.SetReadDeadline(time.Now()) == nil { // a pipe says so when its other end is closed
				t.Errorf("the slow reader %d is still connected", i)
			}
			_ = c.Close()
		}
	}, writes)
}
