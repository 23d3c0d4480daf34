package api_test

import (
	"bufio"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// A view is passed on as it comes: no proxy is to hold it back or to keep it.
func TestViewsAreNotHeldBack(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.start("waits", "null")
		for _, c := range []struct{ path, accept, kind string }{
			{"/api/runs/" + id + "/events", "", "text/event-stream"},
			{"/api/runs/" + id + "/streams/x", "text/event-stream", "text/event-stream"},
			{"/api/runs/" + id + "/streams/x", "application/x-ndjson", "application/x-ndjson"},
			{"/api/feed", "", "text/event-stream"},
		} {
			req, err := http.NewRequestWithContext(t.Context(), "GET", h.url+c.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Accept", c.accept)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			for name, want := range map[string]string{"Content-Type": c.kind, "X-Accel-Buffering": "no", "Cache-Control": "no-store", "Content-Encoding": "", "Content-Length": ""} {
				if got := res.Header.Get(name); res.StatusCode != 200 || got != want {
					t.Errorf("%s as %q: %d, %s is %q, want %q", c.path, c.accept, res.StatusCode, name, got, want)
				}
			}
		}
	})
}

// Who has seen the end of a run that was retried, and has ended again since, is told of the new end; who has seen that
// one is told to stay away.
func TestANewEndIsToldToWhoHasSeenTheOld(t *testing.T) {
	var broken atomic.Bool
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		broken.Store(true)
		h := openOn(t, store(), api.Options{}, workflows(func() error {
			if broken.Load() {
				return errors.New("out of order")
			}
			return nil
		})...)
		id := h.start("flaky", "null")
		h.until(id, pawl.Failed)
		end := func(last string) (seen string) {
			v := h.view("/api/runs/"+id+"/events", last)
			if v.res.StatusCode != 200 {
				t.Fatalf("after %q: %d", last, v.res.StatusCode)
			}
			for e := v.next(); e != "EOF"; e = v.next() {
				if at, _, is := strings.Cut(e, " end {"); is {
					seen = at
				} else if last != "" && strings.HasPrefix(e, "0 entry") {
					t.Errorf("after %q it begins anew: %s", last, e)
				}
			}
			if seen == "" {
				t.Fatalf("after %q there is no end", last)
			}
			return seen
		}
		first := end("")
		broken.Store(false)
		if _, err := h.client.Retry(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		h.until(id, pawl.Completed)
		second := end(first)
		if v := h.view("/api/runs/"+id+"/events", second); second == first || v.res.StatusCode != http.StatusNoContent {
			t.Errorf("the ends are %q and %q; after the second: %d, want 204", first, second, v.res.StatusCode)
		}
	})
}

// A reader of the feed that has seen nothing yet knows where to go on: its first line says so. What the reader sends as
// the last that it has seen counts more than what the address says.
func TestTheFeedSaysWhereToGoOn(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		position := func(path, last string) string {
			t.Helper()
			v := h.view(path, last)
			defer v.res.Body.Close()
			for v.lines.Scan() {
				if id, is := strings.CutPrefix(v.lines.Text(), "id: "); is {
					return id
				}
			}
			t.Fatal("the view ended")
			return ""
		}
		before := position("/api/feed?type=run", "")
		id := h.start("echo", `{"text":"x"}`)
		h.until(id, pawl.Completed)
		after := position("/api/feed?type=run", "")
		for path, last := range map[string]string{"/api/feed?type=run": before, "/api/feed?type=run&after=" + after: before, "/api/feed?type=run&after=" + before: ""} {
			if e := h.view(path, last).next(); !strings.Contains(e, id) {
				t.Errorf("%s, behind %q: %s", path, last, e)
			}
		}
	})
}

// A place in a run's inbox is free again when the run has taken what was there.
func TestAPlaceOfTheInboxComesBack(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{MaxUnread: 2}, answering("takes", nil, pawl.Answering(pawl.Response{Status: 200})))
		path := h.webhook("takes")
		for i := range 12 {
			h.eventually("a place", func() bool {
				r := h.send("POST", path, "x")
				if r.status != 200 && r.status != 429 {
					t.Fatalf("request %d: %d %s", i, r.status, r.body)
				}
				return r.status == 200
			})
		}
	})
}

// A stream is read from its end or from somewhere else, and not from both.
func TestAStreamIsReadFromOnePlace(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.start("streams", `{"n":3}`)
		h.until(id, pawl.Waiting)
		h.refused(400, "bad_request", "GET", "/api/runs/"+id+"/streams/a%2Fb?tail=true&from=1", "")
		h.refused(400, "bad_request", "GET", "/api/runs/"+id+"/streams/a%2Fb", "", header("Last-Event-ID", "x"))
		h.refused(400, "bad_request", "GET", "/api/runs/"+id+"/streams/a%2Fb", "", header("Last-Event-ID", "-2"))
		for last, want := range map[string]string{"": "0 chunk", "-1": "0 chunk", "0": "1 chunk", "1": "2 chunk", "2": "2-end end"} {
			h.view("/api/runs/"+id+"/streams/a%2Fb", last).expect(want)
		}
		if v := h.view("/api/runs/"+id+"/streams/a%2Fb", "2-end"); v.res.StatusCode != http.StatusNoContent {
			t.Errorf("after the end: %d", v.res.StatusCode)
		}
		var page api.ChunkPage
		from := int64(0)
		var seen []string
		for {
			h.ok(200, "GET", "/api/runs/"+id+"/chunks/a%2Fb?limit=2&from="+strconv.FormatInt(from, 10), "", &page)
			for _, c := range page.Items {
				seen = append(seen, string(c.Data))
			}
			if from = page.NextFrom; page.Done {
				break
			}
		}
		if strings.Join(seen, " ") != `{"i":0} {"i":1} {"i":2}` || page.NextFrom != 3 {
			t.Errorf("pages have %v, and go on at %d", seen, page.NextFrom)
		}
	})
}

// The feed is its tenant's: nothing of another's runs is told, by whichever filter.
func TestTheFeedIsOfOneTenant(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: unlimited()})
		secrets := map[string]string{}
		for _, tenant := range []string{"", "a", "b"} {
			_, secrets[tenant] = h.key(tenant, api.Admin)
		}
		for _, tenant := range []string{"a", "b", ""} {
			var views []*view
			for _, path := range []string{"/api/feed", "/api/feed?run=same", "/api/feed?workflow=echo&type=step"} {
				views = append(views, h.viewAs(secrets[tenant], path))
			}
			for _, other := range []string{"a", "b", ""} {
				if other != tenant {
					h.runAs(secrets[other], "same", "of another, seen by "+tenant)
				}
			}
			h.runAs(secrets[tenant], "same", "its own "+tenant)
			for i, v := range views {
				for e := v.next(); ; e = v.next() {
					if e == "EOF" || strings.Contains(e, "of another") {
						t.Fatalf("tenant %q, view %d: %s", tenant, i, e)
					}
					if strings.Contains(e, `"tenant":"`) != (tenant != "") || tenant != "" && !strings.Contains(e, `"tenant":"`+tenant+`"`) {
						t.Fatalf("tenant %q, view %d: %s", tenant, i, e)
					}
					if strings.Contains(e, `"kind":"result"`) { // the run is over: what others did before it was told, if it ever is
						break
					}
				}
			}
			for _, tenant := range []string{"a", "b", ""} {
				if r := h.send("DELETE", "/api/runs/same", "", bearer(secrets[tenant])); r.status >= 300 {
					t.Fatalf("%d %s", r.status, r.body)
				}
			}
		}
	})
}

// runAs runs echo to its end with a key.
func (h *house) runAs(secret, id, input string) {
	h.t.Helper()
	body := `{"workflow":"echo","id":"` + id + `","input":{"text":"` + input + `"}}`
	if r := h.send("POST", "/api/runs?wait=20s", body, bearer(secret)); r.status != 200 || !strings.Contains(string(r.body), `"completed"`) {
		h.t.Fatalf("%d %s", r.status, r.body)
	}
}

// viewAs is view with a key.
func (h *house) viewAs(secret, path string) *view {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), "GET", h.url+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	bearer(secret)(req)
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != 200 {
		h.t.Fatal(res, err)
	}
	h.t.Cleanup(func() { res.Body.Close() })
	return &view{h.t, bufio.NewScanner(res.Body), res}
}

// Readers of one stream share what is encoded, and each sees its own chunks, however far apart they are.
func TestReadersFarApartSeeTheirOwn(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		const n = 600 // more than are kept for others
		id := h.start("streams", strings.Replace(`{"n":N}`, "N", strconv.Itoa(n), 1))
		h.until(id, pawl.Waiting)
		for _, accept := range []string{"text/event-stream", "application/x-ndjson"} {
			var first *http.Response
			for reader := range 3 {
				req, err := http.NewRequestWithContext(t.Context(), "GET", h.url+"/api/runs/"+id+"/streams/", nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Accept", accept)
				res, err := http.DefaultClient.Do(req)
				if err != nil || res.StatusCode != 200 {
					t.Fatal(res, err)
				}
				defer res.Body.Close()
				if first == nil {
					first = res // which stays, so that the next ones share with it
				}
				next := 0
				for lines := bufio.NewScanner(res.Body); next < n && lines.Scan(); {
					_, data, is := strings.Cut(lines.Text(), `"data":`)
					if !is {
						continue
					}
					if data != strconv.Itoa(next)+"}" {
						t.Fatalf("reader %d of %s has %s in place of %d", reader, accept, data, next)
					}
					next++
				}
				if next != n {
					t.Errorf("reader %d of %s has %d chunks", reader, accept, next)
				}
			}
		}
	})
}

// A server that stops ends its views at once, and not when the time for the others is over.
func TestShutdownEndsViewsAtOnce(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.start("waits", "null")
		h.until(id, pawl.Waiting)
		views := []*view{h.view("/api/runs/"+id+"/events", ""), h.view("/api/runs/"+id+"/streams/x", ""), h.view("/api/feed", "")}
		began := time.Now()
		h.stop() // others may take 3 s
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("the shutdown took %v", d)
		}
		for i, v := range views {
			for e := v.next(); e != "EOF"; e = v.next() {
				if strings.Contains(e, " end {") || strings.HasPrefix(e, "end ") {
					t.Errorf("view %d says that there is no more: %s", i, e)
				}
			}
		}
	})
}
