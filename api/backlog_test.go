package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// flood sends requests over many connections until each has been answered n times, and counts
// what was taken. Any answer but ok and 429 with a Retry-After fails the test.
func (h *house) flood(connections, n, ok int, send func(i int) reply) (taken int64) {
	h.t.Helper()
	var all sync.WaitGroup
	var count atomic.Int64
	for c := range connections {
		all.Go(func() {
			for i := range n {
				r := send(c*n + i)
				switch after, err := strconv.Atoi(r.header.Get("Retry-After")); {
				case r.status == ok:
					count.Add(1)
				case r.status != http.StatusTooManyRequests || err != nil || after < 1:
					h.t.Errorf("%d %s, Retry-After %q", r.status, r.body, r.header.Get("Retry-After"))
				}
			}
		})
	}
	all.Wait()
	return count.Load()
}

// A tenant that floods the queue is refused, and no other is; when the queue has room again, it
// may go on. Two servers on one store count what the other has taken.
func TestTheQueueOfATenantIsBounded(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		const most = 20
		first := store()
		h := openOn(t, first, api.Options{Auth: unlimited(), MaxQueued: most})
		_, red := h.key("red", api.Admin)
		_, blue := h.key("blue", api.Admin)
		later := func(secret string) func(int) reply {
			return func(i int) reply {
				return h.send("POST", "/api/runs", fmt.Sprintf(`{"workflow":"echo","input":{"text":"x"},"delay":"1h","id":"r%d"}`, i), bearer(secret))
			}
		}
		if n := h.flood(64, 10, http.StatusAccepted, later(red)); n != most {
			t.Errorf("of 640 starts %d were taken, want %d", n, most)
		}
		if n, err := h.engine.Queued(t.Context(), "red", 1000); n != most || err != nil {
			t.Errorf("%d runs are in the queue: %v", n, err)
		}
		other := openOn(t, store(), api.Options{Auth: unlimited(), MaxQueued: most})
		for i := range most - 1 {
			if r := later(blue)(i); r.status != http.StatusAccepted {
				t.Fatalf("another tenant's start: %d %s", r.status, r.body)
			}
		}
		for _, server := range []*house{h, other} {
			p := server.refused(http.StatusTooManyRequests, "too_many", "POST", "/api/workflows/echo/runs", `{"input":{"text":"x"}}`, bearer(red))
			if p.Hint == "" {
				t.Errorf("%+v", p)
			}
		}
		// Each other way to make a run is refused too.
		if _, err := h.as(red).PutSchedule(t.Context(), "s", api.ScheduleRequest{Workflow: "echo", Cron: "@yearly"}); err != nil {
			t.Fatal(err)
		}
		for path, body := range map[string]string{
			"/api/runs/r1/fork": "{}", "/api/runs/r1/retry": "", "/api/events/e": "1", "/api/schedules/s/trigger": "{}",
			"/api/backtests": bodies["backtest"], "/api/runs/r1/fork-asked": bodies["forkAsked"],
		} {
			h.refused(http.StatusTooManyRequests, "too_many", "POST", path, body, bearer(red))
		}
		var list api.RunPage
		h.send("GET", "/api/runs?limit=1", "", bearer(red)).into(t, &list)
		if r := h.send("POST", "/api/runs/"+list.Items[0].ID+"/cancel", "{}", bearer(red)); r.status != http.StatusOK {
			t.Fatalf("cancel: %d %s", r.status, r.body)
		}
		h.eventually("room for one", func() bool { return later(red)(5000).status == http.StatusAccepted })
		h.refused(http.StatusTooManyRequests, "too_many", "POST", "/api/runs", `{"workflow":"echo"}`, bearer(red))
	})
}

// What is begun at once takes no room in the queue, however much of it there is.
func TestRunsThatBeginAtOnceTakeNoRoomInTheQueue(t *testing.T) {
	h := open(t, api.Options{MaxQueued: 64})
	start := func(int) reply {
		return h.send("POST", "/api/runs?wait=20s", `{"workflow":"echo","input":{"text":"x"}}`)
	}
	if n := h.flood(8, 25, http.StatusOK, start); n != 200 {
		t.Errorf("%d of 200 were taken", n)
	}
}

// A run that does not take what it is sent is sent no more, by whichever way; others are.
func TestWhatARunHasNotTakenIsBounded(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		const most = 15
		slow := pawl.Define("slow", func(c *pawl.Context, name string) (int, error) {
			h, err := pawl.NewHook[json.RawMessage](c, pawl.Token("hook "+name))
			if err != nil {
				return 0, err
			}
			web, err := pawl.NewWebhook(c)
			if err != nil {
				return 0, err
			}
			if err := c.SetAttributes(map[string]any{"url": web.URL()}); err != nil {
				return 0, err
			}
			if _, err := pawl.WaitFor[any](c, "go"); err != nil {
				return 0, err
			}
			n := 0
			for {
				if _, err := h.Wait(c, pawl.Timeout(time.Millisecond)); err != nil {
					break
				}
				n++
			}
			for {
				if _, err := web.Wait(c, pawl.Timeout(time.Millisecond)); err != nil {
					return n, nil
				}
				n++
			}
		})
		h := openOn(t, store(), api.Options{MaxUnread: most, WebhookRate: api.Rate{PerSecond: -1}, ClientRate: api.Rate{PerSecond: -1}}, slow)
		urls := map[string]string{}
		for _, id := range []string{"a", "b"} {
			if _, err := h.client.Start(t.Context(), api.StartRequest{Workflow: "slow", ID: id, Input: json.RawMessage(`"` + id + `"`)}, 0); err != nil {
				t.Fatal(err)
			}
			hooks, err := h.client.Hooks(t.Context(), id)
			h.eventually("the hooks", func() bool {
				hooks, err = h.client.Hooks(t.Context(), id)
				return err == nil && len(hooks.Items) == 2
			})
			for _, hook := range hooks.Items {
				if hook.Public {
					urls[id] = pawl.WebhookPath + hook.Token
				} else {
					urls["key of "+id] = "/api/runs/" + id + "/hooks/" + hook.Key
				}
			}
		}
		ways := []string{urls["a"], "/api/hooks/hook%20a", "/api/runs/a/signal/x", urls["key of a"]}
		taken := h.flood(64, 4, http.StatusAccepted, func(i int) reply {
			r := h.send("POST", ways[i%len(ways)], "1")
			if r.status == http.StatusOK { // a signal
				r.status = http.StatusAccepted
			}
			return r
		})
		if taken != most {
			t.Errorf("of 256 payloads %d were taken, want %d", taken, most)
		}
		for _, way := range ways {
			if r := h.send("POST", way, "1"); r.status != http.StatusTooManyRequests {
				t.Errorf("%s: %d %s", way, r.status, r.body)
			}
		}
		if r := h.send("POST", urls["b"], "1"); r.status != http.StatusAccepted {
			t.Errorf("the webhook of another run: %d %s", r.status, r.body)
		}
		if err := h.engine.Publish(t.Context(), "go", nil); err != nil {
			t.Fatal(err)
		}
		h.until("a", pawl.Completed)
		if n := h.until("b", pawl.Completed); string(n.Result) != "1" {
			t.Errorf("the other run has taken %s", n.Result)
		}
	})
}
