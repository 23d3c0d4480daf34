package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pawlrun/pawl/examples/chat-session/chat"
	"github.com/pawlrun/pawl/examples/demo/demotest"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

func TestMain(m *testing.M) {
	demotest.Become(main)
	os.Exit(pgtest.Main(m))
}

// eachStore runs f on a file, and on a database, at the same time: they wait most of it.
func eachStore(t *testing.T, f func(t *testing.T, program, store string)) {
	t.Parallel()
	program := demotest.Program(t)
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		f(t, program, filepath.Join(t.TempDir(), "s.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		f(t, program, pgtest.URL(t))
	})
}

func launch(t *testing.T, program, store string, more ...string) *demotest.Server {
	t.Helper()
	return demotest.Launch(t, program, t.TempDir(), nil, append([]string{"-store", store, "-lease", "3s"}, more...)...)
}

func answer(n int, text string) string {
	return fmt.Sprintf("[scripted: no model was asked] You have told me %d things, the last of which is: %s", n, text)
}

// reader reads a chat's stream, and goes on where it was when the connection breaks, as a browser does.
type reader struct {
	mu    sync.Mutex
	last  string   // id of the last event
	lines []string // users' messages and whole answers, in their order
	ids   []string // of all events
	deltas,
	visits int
	text string // of the answer that is being said
}

// read follows the stream until ctx ends; where tells where the server is.
func (r *reader) read(ctx context.Context, where func() string, id string) {
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, "GET", where()+"/chats/"+id+"/stream", nil)
		if err != nil {
			return
		}
		r.mu.Lock()
		if r.last != "" {
			req.Header.Set("Last-Event-ID", r.last)
		}
		r.visits++
		r.mu.Unlock()
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode != 200 {
			if err == nil {
				res.Body.Close()
			}
			time.Sleep(10 * time.Millisecond) // as a browser waits
			continue
		}
		lines, event := bufio.NewReader(res.Body), ""
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				break
			}
			line = strings.TrimSpace(line)
			if rest, ok := strings.CutPrefix(line, "id: "); ok {
				event = rest
			}
			if rest, ok := strings.CutPrefix(line, "data: "); ok {
				r.take(event, rest)
			}
		}
		res.Body.Close()
	}
}

func (r *reader) take(id, data string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = id
	r.ids = append(r.ids, id)
	var p chat.Piece
	if json.Unmarshal([]byte(data), &p) != nil {
		r.lines = append(r.lines, "no piece: "+data)
		return
	}
	switch {
	case p.User != nil:
		r.lines = append(r.lines, "user: "+p.User.Text)
	case p.Answer != nil:
		r.lines = append(r.lines, "answer: "+*p.Answer)
		r.text = ""
	case p.Delta != nil:
		r.deltas++
		r.text += p.Text
	}
}

func (r *reader) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}

func (r *reader) saying() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text
}

// follow starts a reader until the test ends.
func follow(t *testing.T, where func() string, id string) *reader {
	r := &reader{}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { r.read(ctx, where, id) })
	t.Cleanup(func() { cancel(); done.Wait() })
	return r
}

func (r *reader) await(t *testing.T, n int) []string {
	t.Helper()
	demotest.Await(t, fmt.Sprintf("%d lines", n), func() bool { return len(r.seen()) >= n }, func() string { return strings.Join(r.seen(), "\n") })
	return r.seen()
}

func post(t *testing.T, p *demotest.Server, id, text string, header ...string) demotest.Reply {
	t.Helper()
	body, _ := json.Marshal(map[string]string{"text": text})
	return p.Call(t, "POST", "/chats/"+id+"/messages", string(body), header...)
}

// The process is killed, and stopped by Ctrl-C, while the model speaks. A reader sees each message
// and each answer once and in order, over both, and over runs that go on as others.
func TestAChatGoesOn(t *testing.T) {
	eachStore(t, func(t *testing.T, program, store string) {
		var mu sync.Mutex
		p := launch(t, program, store, "-go-on", "2", "-pace", "20ms")
		where := func() string {
			mu.Lock()
			defer mu.Unlock()
			return p.URL
		}
		again := func() {
			next := launch(t, program, store, "-go-on", "2", "-pace", "20ms")
			mu.Lock()
			defer mu.Unlock()
			p = next
		}
		var want []string
		said := func(n int, text string) { want = append(want, "user: "+text, "answer: "+answer(n, text)) }
		r := follow(t, where, "ann")
		speaks := func() {
			t.Helper()
			demotest.Await(t, "the model speaks", func() bool { return len(r.saying()) > 40 }, p.Said)
		}
		for i, text := range []string{"one", "two", "three", "four", "five"} {
			if a := post(t, p, "ann", text, "Idempotency-Key", "k"+text); a.Status != 202 {
				t.Fatalf("%d %s", a.Status, a.Text)
			}
			said(i+1, text)
			switch i {
			case 1:
				speaks()
				p.Kill(t)
				again()
			case 3:
				speaks()
				if code := p.End(t, syscall.SIGINT); code != 0 {
					t.Errorf("after Ctrl-C it ended with code %d\n%s", code, p.Said())
				}
				again()
			}
			if a := post(t, p, "ann", text, "Idempotency-Key", "k"+text); a.Status != 202 { // a page that got no answer
				t.Errorf("%d %s", a.Status, a.Text)
			}
			r.await(t, len(want))
		}
		if got := r.await(t, len(want)); !slices.Equal(got, want) {
			t.Errorf("read was\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		r.mu.Lock()
		runs := map[string]bool{}
		for _, id := range r.ids {
			run, _, _ := strings.Cut(id, "/")
			runs[run] = true
		}
		if unique := len(slices.Compact(slices.Sorted(slices.Values(r.ids)))); unique != len(r.ids) || len(runs) != 3 || r.visits < 3 || r.deltas < 20 {
			t.Errorf("%d events, %d of them different, of %d runs, with %d pieces in %d visits; want all different, of 3 runs", len(r.ids), unique, len(runs), r.deltas, r.visits)
		}
		r.mu.Unlock()

		// The record has the same, and a late reader sees what is of the newest run.
		var list []map[string]any
		a := p.Call(t, "GET", "/chats/ann/messages", "")
		if err := json.Unmarshal([]byte(a.Text), &list); err != nil || len(list) != 10 || list[9]["text"] != answer(5, "five") || list[9]["number"] != 10.0 {
			t.Errorf("the record is %s, %v", a.Text, err)
		}
		if a := p.Call(t, "GET", "/chats/ann/messages?upto=3", ""); strings.Count(a.Text, `"number"`) != 3 {
			t.Errorf("up to 3: %s", a.Text)
		}
		late := follow(t, where, "ann")
		if got := late.await(t, 2); !slices.Equal(got, want[8:]) {
			t.Errorf("a late reader sees %q", got)
		}
	})
}

// What is written while the model speaks is kept, and answered together.
func TestMessagesQueueWhileTheModelSpeaks(t *testing.T) {
	eachStore(t, func(t *testing.T, program, store string) {
		p := launch(t, program, store, "-pace", "50ms")
		r := follow(t, func() string { return p.URL }, "bob")
		post(t, p, "bob", "one")
		demotest.Await(t, "the model speaks", func() bool { return r.saying() != "" }, p.Said)
		for _, text := range []string{"two", "three", "four"} {
			post(t, p, "bob", text)
		}
		want := []string{"user: one", "answer: " + answer(1, "one"), "user: two", "user: three", "user: four", "answer: " + answer(4, "four")}
		if got := r.await(t, len(want)); !slices.Equal(got, want) {
			t.Errorf("read was\n%s", strings.Join(got, "\n"))
		}
	})
}

func TestRequestsThatAreRefused(t *testing.T) {
	p := launch(t, demotest.Program(t), filepath.Join(t.TempDir(), "s.db"), "-pace", "0")
	post(t, p, "ann", "one", "Idempotency-Key", "k")
	post(t, p, "eve", "one")
	if r := p.Call(t, "GET", "/chats/eve/messages", ""); r.Status != 200 { // also where nobody has answered yet
		t.Errorf("the list of a chat that has just begun: %d %s", r.Status, r.Text)
	}
	for name, c := range map[string]struct {
		status int
		reply  demotest.Reply
	}{
		"no text":             {400, post(t, p, "ann", " ")},
		"no JSON":             {400, p.Call(t, "POST", "/chats/ann/messages", "text")},
		"large":               {413, post(t, p, "ann", strings.Repeat("x", 64<<10))},
		"a path":              {400, post(t, p, "a.b", "x")},
		"key of another text": {409, post(t, p, "ann", "two", "Idempotency-Key", "k")},
		"another site":        {403, post(t, p, "ann", "two", "Sec-Fetch-Site", "cross-site")},
		"no chat":             {404, p.Call(t, "GET", "/chats/nobody/stream", "")},
		"no chat to list":     {404, p.Call(t, "GET", "/chats/nobody/messages", "")},
		"no number":           {400, p.Call(t, "GET", "/chats/ann/messages?upto=x", "")},
		"no id of an event":   {400, p.Call(t, "GET", "/chats/ann/stream", "", "Last-Event-ID", "7")},
		"event of no run":     {400, p.Call(t, "GET", "/chats/ann/stream", "", "Last-Event-ID", "run/7")},
		"event of another":    {400, p.Call(t, "GET", "/chats/ann/stream", "", "Last-Event-ID", "chat-session-eve/0")},
	} {
		if c.reply.Status != c.status {
			t.Errorf("%s: %d %s, want %d", name, c.reply.Status, c.reply.Text, c.status)
		}
	}
	for _, path := range []string{"/", "/chat.js", "/chat.css"} {
		r := p.Call(t, "GET", path, "")
		if csp := r.Header.Get("Content-Security-Policy"); r.Status != 200 || !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: %d, %s", path, r.Status, csp)
		}
		if strings.Contains(r.Text, "innerHTML") || strings.Contains(r.Text, "insertAdjacentHTML") {
			t.Errorf("%s makes markup of texts", path)
		}
	}
}
