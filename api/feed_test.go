package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

func TestTheFeedOverHTTP(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		v := h.view("/api/feed?workflow=steps&type=step&kind=step&kind=result", "")
		all := h.view("/api/feed", "")
		h.start("echo", `{"text":"x"}`)
		id := h.start("steps", `{"n":2}`)
		var first string
		for i, key := range []string{"s", "s#2", ""} {
			var eventID, kind string
			e := v.next()
			if n, err := fmt.Sscan(e, &eventID, &kind); n != 2 || err != nil || kind != "step" {
				t.Fatalf("event %q", e)
			}
			if i == 0 {
				first = eventID
			}
			var item pawl.FeedItem
			reply{body: []byte(e[len(eventID)+len(" step "):])}.into(t, &item)
			same(t, "item", []any{item.Run, item.Key, item.Workflow, item.Seq}, []any{id, key, "steps", i + 1})
		}
		again := h.view("/api/feed?workflow=steps&type=step", first)
		again.expect(first[:10])
		for e := all.next(); ; e = all.next() { // the other one is told to who asks for all
			if e == "EOF" {
				t.Fatal("the feed has ended")
			}
			if containsAll(e, `"workflow":"echo"`, `"state":"completed"`, " run ") {
				break
			}
		}
		if e := h.view("/api/feed", "another-7").next(); !strings.Contains(e, " gap {") {
			t.Errorf("after an item that nobody knows comes %q", e)
		}
		for _, query := range []string{"state=x", "type=x", "kind=x", "colour=red", "after=x"} {
			if r := h.send("GET", "/api/feed?"+query, ""); r.status != 400 {
				t.Errorf("%s: %d %s", query, r.status, r.body)
			}
		}
	})
}

func containsAll(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// A connection that is lost costs a client of the feed nothing, even before its first event.
func TestTheClientsFeedSurvivesALostConnection(t *testing.T) {
	h := open(t, api.Options{})
	target, err := url.Parse(h.url)
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan struct{}, 10)
	proxy := &httputil.ReverseProxy{
		FlushInterval:  -1,
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(*http.Response) error { opened <- struct{}{}; return nil },
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	front := httptest.NewServer(proxy)
	defer front.Close()
	client, err := api.NewClient(front.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got, failed := make(chan *pawl.FeedItem, 100), make(chan error, 1)
	go func() {
		for e, err := range client.Feed(ctx, api.FeedQuery{Workflow: "steps", Types: []pawl.FeedType{pawl.FeedStep}}, "") {
			if err != nil {
				failed <- err
				return
			}
			got <- e.Item
		}
	}()
	next := func() *pawl.FeedItem {
		t.Helper()
		select {
		case it := <-got:
			return it
		case err := <-failed:
			t.Fatalf("the feed: %v", err)
		case <-ctx.Done():
			t.Fatal("the feed is silent")
		}
		return nil
	}
	<-opened
	h.start("steps", `{"n":0}`)
	next() // so the reader has read where it is
	next()
	front.CloseClientConnections()
	id := h.start("steps", `{"n":3}`)
	for seq := range 5 {
		it := next()
		same(t, "item", []any{it.Type, it.Run, it.Seq}, []any{"step", id, seq})
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("a feed that was cancelled: %v", err)
	}
}

// The short form of the measurement in bench: many readers of one run, and of the feed, all
// see all, in order.
func TestManyReadersSeeAll(t *testing.T) {
	const readers, steps, words = 60, 10, 8
	talks := pawl.Define("talks", func(c *pawl.Context, _ any) (any, error) {
		if _, err := pawl.WaitFor[any](c, "go"); err != nil {
			return nil, err
		}
		for range steps {
			err := pawl.Do(c, "say", func(ctx context.Context) error {
				for i := range words {
					time.Sleep(2 * time.Millisecond) // as a model talks
					if err := pawl.StreamOf(ctx, "said").Write(i); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	h := open(t, api.Options{}, talks)
	id := h.start("talks", "null")
	h.until(id, pawl.Waiting)
	var all, ready sync.WaitGroup
	ready.Add(3 * readers)
	for i := range readers {
		all.Go(func() {
			ready.Done()
			if got := h.chunks(id, "said", 0); len(got) != steps*words {
				t.Errorf("reader %d saw %d chunks, want %d", i, len(got), steps*words)
			}
		})
		all.Go(func() {
			ready.Done()
			next := int64(0)
			for e, err := range h.client.Follow(t.Context(), id, -1) {
				if err != nil {
					t.Errorf("follow: %v", err)
					return
				}
				if e.Entry != nil {
					if e.Entry.Seq != next {
						t.Errorf("entry %d comes where %d should", e.Entry.Seq, next)
					}
					next++
				}
			}
			if next < steps {
				t.Errorf("a follower saw %d entries", next)
			}
		})
		v := h.view("/api/feed?type=step&kind=step&run="+url.QueryEscape(id), "") // begins here
		all.Go(func() {
			ready.Done()
			for i := range steps {
				if e := v.next(); !strings.Contains(e, fmt.Sprintf(`"seq":%d,`, i+2)) {
					t.Errorf("item %d of the feed is %q", i, e)
				}
			}
		})
	}
	ready.Wait()
	h.signal(id, "go")
	all.Wait()
}
