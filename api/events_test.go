package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// view reads a live view, one line after the other.
type view struct {
	t     testing.TB
	lines *bufio.Scanner
	res   *http.Response
}

func (h *house) view(path, lastEventID string) *view {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 30*time.Second)
	h.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", h.url+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { res.Body.Close() })
	return &view{h.t, bufio.NewScanner(res.Body), res}
}

// next returns the next event as "id type data", without the data of a state, or "EOF".
func (v *view) next() string {
	v.t.Helper()
	fields := map[string]string{}
	for v.lines.Scan() {
		line := v.lines.Text()
		if line == "" {
			if fields["event"] == "" {
				continue
			}
			return strings.TrimSpace(fields["id"] + " " + fields["event"] + " " + fields["data"])
		}
		name, value, _ := strings.Cut(line, ": ")
		fields[name] = value
	}
	return "EOF"
}

func (v *view) expect(prefix string) string {
	v.t.Helper()
	got := v.next()
	if !strings.HasPrefix(got, prefix) {
		v.t.Fatalf("the next event is %.200q, want %q", got, prefix)
	}
	return got
}

func TestEventsTellAllThatHappensToARun(t *testing.T) {
	h := open(t, api.Options{})
	id := h.start("waits", "null")
	h.until(id, pawl.Waiting)
	v := h.view(api.RunPath(id)+"/events", "")
	if got := v.res.Header.Get("Content-Type"); v.res.StatusCode != 200 || got != "text/event-stream" {
		t.Fatalf("%d %s", v.res.StatusCode, got)
	}
	v.expect("state ")
	v.expect(`0 entry {"seq":0,"kind":"input"`)
	if _, err := h.client.Pause(t.Context(), id, "lunch"); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(v.next(), `"state":"paused"`) {
	}
	if _, err := h.client.Resume(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := h.client.Signal(t.Context(), id, "go/now", json.RawMessage(`"x"`)); err != nil {
		t.Fatal(err)
	}
	var last string
	for e := v.next(); ; e = v.next() {
		if e == "EOF" {
			t.Fatal("the view ended without an end event")
		}
		if strings.Contains(e, " end {") {
			last = e
			break
		}
	}
	if v.next() != "EOF" {
		t.Error("there is more after the end event")
	}
	endID, body, _ := strings.Cut(last, " end ")
	var run api.Run
	if err := json.Unmarshal([]byte(body), &run); err != nil || run.State != pawl.Completed || string(run.Result) != `"x"` {
		t.Errorf("end event %s: %v", last, err)
	}

	// Who comes back goes on where it was, and is told to stay away after the end.
	v = h.view(api.RunPath(id)+"/events", "0")
	v.expect("state ")
	if got := v.next(); strings.HasPrefix(got, "0 ") || !strings.Contains(got, " entry ") {
		t.Errorf("after Last-Event-ID 0 comes %q", got)
	}
	v = h.view(api.RunPath(id)+"/events?after=1000", "")
	v.expect("state ")
	v.expect("1000-end-")
	if v := h.view(api.RunPath(id)+"/events", endID); v.res.StatusCode != http.StatusNoContent {
		t.Errorf("after the end event: %d, want 204", v.res.StatusCode)
	}
	h.refused(400, "bad_request", "GET", api.RunPath(id)+"/events", "", func(r *http.Request) { r.Header.Set("Last-Event-ID", "x") })
	h.refused(400, "bad_request", "GET", api.RunPath(id)+"/events?after=x", "")
}

func TestARetriedRunHasAnotherEnd(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	h := open(t, api.Options{}, workflows(func() error {
		if broken.Load() {
			return errors.New("out of order")
		}
		return nil
	})...)
	id := h.start("flaky", "null")
	last := func(events func(func(api.Event, error) bool)) (e api.Event) {
		for e, err := range events {
			if err != nil {
				t.Fatal(err)
			}
			if e.Type == api.EventEnd {
				return e
			}
		}
		t.Fatal("no end")
		return
	}
	first := last(h.client.Follow(t.Context(), id, -1))
	if first.Run.State != pawl.Failed || first.Run.Error == nil {
		t.Fatalf("%s", first.Data)
	}
	broken.Store(false)
	if _, err := h.client.Retry(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	v := h.view(api.RunPath(id)+"/events", first.ID)
	if v.res.StatusCode != 200 {
		t.Fatalf("a run that was retried has ended for good: %d", v.res.StatusCode)
	}
	for e := v.next(); !strings.Contains(e, "end {"); e = v.next() {
		if e == "EOF" || strings.HasPrefix(e, "0 ") {
			t.Fatalf("after the end of the first try comes %q", e)
		}
	}
}

func TestHeartbeats(t *testing.T) {
	h := open(t, api.Options{Heartbeat: 10 * time.Millisecond})
	id := h.start("waits", "null")
	for _, path := range []string{"/events", "/streams/x"} {
		v := h.view(api.RunPath(id)+path, "")
		beats := 0
		for beats < 3 && v.lines.Scan() {
			if v.lines.Text() == ":" {
				beats++
			}
		}
		if beats < 3 {
			t.Errorf("%s: %d heartbeats", path, beats)
		}
		v.res.Body.Close()
	}
	if _, err := h.client.Cancel(t.Context(), id, ""); err != nil {
		t.Fatal(err)
	}
	for e, err := range h.client.Follow(t.Context(), id, -1) { // heartbeats are no events
		if err != nil || e.Type == "" {
			t.Fatal(e, err)
		}
	}
}

func TestStreamsAreListedAndRead(t *testing.T) {
	h := open(t, api.Options{})
	id := h.start("streams", `{"n":3}`)
	h.until(id, pawl.Waiting)
	list, err := h.client.Streams(t.Context(), id)
	if err != nil || len(list.Items) != 2 {
		t.Fatalf("%+v %v", list, err)
	}
	read := func(name string, from int64) (got []string) {
		for e, err := range h.client.ReadStream(t.Context(), id, name, from) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Type == api.EventEnd {
				got = append(got, "end")
			} else {
				got = append(got, e.ID+"="+string(e.Chunk.Data))
			}
		}
		return got
	}
	for _, c := range []struct {
		from int64
		want string
	}{{0, `[0={"i":0} 1={"i":1} 2={"i":2} end]`}, {2, `[2={"i":2} end]`}, {-2, `[1={"i":1} 2={"i":2} end]`}, {3, `[end]`}} {
		if got := fmt.Sprint(read("a/b", c.from)); got != c.want {
			t.Errorf("from %d: %s, want %s", c.from, got, c.want)
		}
	}
	// The stream without a name goes on until the run has ended.
	v := h.view(api.RunPath(id)+"/streams/", "0")
	v.expect("1 chunk")
	v.expect("2 chunk")
	if _, err := h.client.Signal(t.Context(), id, "end", json.RawMessage(`"x"`)); err != nil {
		t.Fatal(err)
	}
	v.expect("2-end end {}")
	if v := h.view(api.RunPath(id)+"/streams/", "2-end"); v.res.StatusCode != http.StatusNoContent {
		t.Errorf("after the end: %d", v.res.StatusCode)
	}
	if got := read("never written", 0); len(got) != 1 {
		t.Errorf("a stream that was never written: %v", got)
	}
	h.refused(400, "bad_request", "GET", api.RunPath(id)+"/streams/x?from=y", "")
	h.refused(400, "bad_request", "GET", api.RunPath(id)+"/streams/x", "", func(r *http.Request) { r.Header.Set("Last-Event-ID", "y") })
}

// A server that goes away in the middle of a view, and comes back, is no end of it.
func TestFollowSurvivesALostConnection(t *testing.T) {
	h := open(t, api.Options{})
	target, err := url.Parse(h.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	front := httptest.NewServer(proxy)
	defer front.Close()
	client, err := api.NewClient(front.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	id := h.start("waits", "null")
	h.until(id, pawl.Waiting)
	seen := map[int64]int{}
	cut := false
	var end *api.Run
	for e, err := range client.Follow(t.Context(), id, -1) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Entry != nil {
			seen[e.Entry.Seq]++
		}
		if e.Type == api.EventEnd {
			end = e.Run
		}
		if e.Type == api.EventEntry && !cut {
			cut = true
			front.CloseClientConnections()
			if _, err := h.client.Signal(t.Context(), id, "go/now", nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if end == nil || end.State != pawl.Completed {
		t.Fatalf("end %+v", end)
	}
	for seq := range int64(len(seen)) {
		if seen[seq] != 1 {
			t.Errorf("entry %d was seen %d times", seq, seen[seq])
		}
	}
}

func TestShutdownEndsViewsAndWaits(t *testing.T) {
	h := open(t, api.Options{})
	id := h.start("waits", "null")
	h.until(id, pawl.Waiting)
	v := h.view(api.RunPath(id)+"/events", "")
	v.expect("state ")
	waited, sent := make(chan api.Run), make(chan struct{})
	go func() {
		ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(sent) }})
		run, err := h.client.Run(ctx, id, time.Minute)
		if err != nil && !errors.Is(err, api.ErrUnreachable) { // it may come too late to be let in
			t.Error(err)
		}
		waited <- run
	}()
	<-sent
	began := time.Now()
	h.stop()
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("the shutdown took %v", d)
	}
	for {
		if e := v.next(); e == "EOF" {
			break
		} else if strings.Contains(e, "end {") {
			t.Errorf("a view that was cut off says that the run ended: %s", e)
		}
	}
	if run := <-waited; run.State.Terminal() {
		t.Errorf("a wait that was cut short says that the run has ended: %+v", run)
	}
	client, err := api.NewClient(h.url, &api.ClientOptions{Patience: -1})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range client.Follow(t.Context(), id, -1) {
		if !errors.Is(err, api.ErrUnreachable) {
			t.Errorf("follow without a server: %v", err)
		}
	}
}

func TestTheClientTellsAStrangerFromAServer(t *testing.T) {
	stranger := httptest.NewServer(http.NotFoundHandler())
	defer stranger.Close()
	for _, address := range []string{stranger.URL, "http://" + freeAddress(t)} {
		client, err := api.NewClient(address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Health(t.Context()); !errors.Is(err, api.ErrUnreachable) || !strings.Contains(err.Error(), address) {
			t.Errorf("health of %s: %v", address, err)
		}
		for _, err := range client.Follow(t.Context(), "x", -1) {
			if !errors.Is(err, api.ErrUnreachable) {
				t.Errorf("follow at %s: %v", address, err)
			}
		}
	}
	for _, bad := range []string{"", "localhost:8420", "127.0.0.1", "ftp://x", "http://", ":"} {
		if _, err := api.NewClient(bad, nil); err == nil {
			t.Errorf("%q passes for an address", bad)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	client, err := api.NewClient(stranger.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Health(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled call: %v", err)
	}
}

// freeAddress is an address on which nobody listens.
func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
