package api_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// No request, however odd, is the server's fault: none gets a 5xx.
func TestOddRequestsAreTheCallersFault(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		ids := []string{"a/b", "é€𝄞", "a b", "%", "a%2Fb", "..", ".", "?#", "a\tb", strings.Repeat("ü", 120)}
		for _, id := range ids {
			run, err := h.client.Start(t.Context(), api.StartRequest{Workflow: "steps", ID: id, Input: json.RawMessage(`{"n":3}`)}, 20*time.Second)
			if err != nil || run.ID != id || run.State != pawl.Completed {
				t.Errorf("run %q: %+v %v", id, run, err)
				continue
			}
			if page, err := h.client.Steps(t.Context(), id, "", 0); err != nil || len(page.Items) != 3 {
				t.Errorf("steps of %q: %v %v", id, page, err)
			}
			if page, err := h.client.JournalPage(t.Context(), id, 1); err != nil || len(page.Items) == 0 || page.Items[0].Seq != 2 {
				t.Errorf("journal of %q: %v %v", id, page, err)
			}
		}
		marks := []string{"step:5", "step:5r", "step:0", "step:-1", "step:99999999999999999999", "step:5x", "schedule:x", "subscription:x", "matched:x", "matched:\x00", "slot:x", "name:\x00", "name:\xff", "charge:1", "hook:1", "run:1", "x"}
		var cursors []string
		for _, m := range marks {
			cursors = append(cursors, url.QueryEscape(base64.RawURLEncoding.EncodeToString([]byte(m))))
		}
		cursors = append(cursors, "%00", "%ff", "====", strings.Repeat("A", 8000))
		if _, err := h.client.PutSchedule(t.Context(), "x", api.ScheduleRequest{Workflow: "echo", Cron: "@yearly"}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.client.PutSubscription(t.Context(), "x", api.SubscriptionRequest{Event: "e", Workflow: "echo"}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.client.Deploy(t.Context(), []byte(aFlow("f", "x")), api.DeployOptions{}); err != nil {
			t.Fatal(err)
		}
		lists := []string{"/api/runs", "/api/runs/a%2Fb/steps", "/api/schedules", "/api/schedules/x/occurrences", "/api/subscriptions", "/api/subscriptions/x/events", "/api/budgets", "/api/charges", "/api/hooks", "/api/approvals", "/api/workflows", "/api/workflows/f/versions"}
		fault := func(r reply, what string) {
			t.Helper()
			if r.status >= 500 {
				t.Errorf("%s: %d %s", what, r.status, r.body)
			}
		}
		for _, list := range lists {
			for _, c := range cursors {
				fault(h.send("GET", list+"?cursor="+c, ""), list+" "+c)
			}
			for _, limit := range []string{"0", "-1", "501", "99999999999999999999", "1e3", "", "0x10", "١"} {
				r := h.send("GET", list+"?limit="+url.QueryEscape(limit), "")
				fault(r, list+" limit "+limit)
				if r.status == 200 && limit != "" {
					t.Errorf("%s took the limit %q", list, limit)
				}
			}
			if r := h.send("HEAD", list, ""); r.status != 200 || len(r.body) != 0 || r.header.Get("Content-Type") != "application/json" {
				t.Errorf("HEAD %s: %d %v", list, r.status, r.header)
			}
			for _, method := range []string{"OPTIONS", "TRACE", "PATCH", "get", "BREW"} {
				if r := h.send(method, list, ""); r.status != 405 || r.header.Get("Allow") == "" {
					t.Errorf("%s %s: %d %v", method, list, r.status, r.header)
				}
			}
		}
		for _, last := range []string{"0", "999999999999", "-1", "-2", "x", "1-end", "1-end-999", "9223372036854775807", "9223372036854775808", "-end", strings.Repeat("1", 4000)} {
			for _, view := range []string{"/api/runs/a%2Fb/events", "/api/runs/a%2Fb/streams/s"} {
				r := h.send("GET", view, "", func(r *http.Request) { r.Header.Set("Last-Event-ID", last) })
				fault(r, view+" after "+last)
				if r.status == 200 && !strings.Contains(string(r.body), "event: end\n") {
					t.Errorf("%s after %s has no end: %s", view, last, r.body)
				}
			}
		}
		for _, path := range []string{"/api/runs/a%2Fb/journal?after=9223372036854775807", "/api/runs/a%2Fb/journal?after=-2", "/api/runs/%00", "/api/runs/%ff", "/api/subscriptions/%00", "/api/subscriptions/%F0%9D%84%9E/events", "/api/schedules/%00", "/api/budgets/%00", "/api/budgets/%ff", "/api/hooks/%00", "/api/runs/a%2Fb/chunks/s?from=9223372036854775807&limit=1000"} {
			fault(h.send("GET", path, ""), path)
		}
		for _, body := range []string{"", "null", "[]", "{", `{"from":"x"}`, `{"from":"0001-01-01T00:00:00Z","to":"2026-01-01T00:00:00Z"}`, `{"from":"2026-01-01T00:00:00Z","to":"2026-01-02T00:00:00Z","overlap":"x"}`, `{"event":"a\u0000","workflow":"w"}`} {
			for _, kind := range []string{"", "text/xml", "application/x-www-form-urlencoded", "application/json; charset=utf-7"} {
				edit := func(r *http.Request) { r.Header.Set("Content-Type", kind) }
				for _, to := range []string{"POST /api/schedules/x/backfill", "PUT /api/subscriptions/y", "POST /api/budgets/none?topup=9223372036854775807", "POST /api/keys", "POST /api/workflows", "POST /api/workflows/f/activate"} {
					method, path, _ := strings.Cut(to, " ")
					r := h.send(method, path, body, edit)
					fault(r, to+" "+body)
					if r.status < 400 {
						t.Errorf("%s with %s: %d %s", to, body, r.status, r.body)
					}
				}
			}
		}
	})
}

// What is deleted by many at once is deleted by one, and nobody is told that the server failed.
func TestManyDeleteTheSame(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		make := map[string]string{"/api/schedules/x": `{"workflow":"echo","cron":"@yearly"}`, "/api/subscriptions/x": `{"event":"e","workflow":"echo"}`, "/api/budgets/x": `{"limit":5}`}
		for path, body := range make {
			if r := h.send("PUT", path, body); r.status != 200 {
				t.Fatalf("%s: %d %s", path, r.status, r.body)
			}
			replies := [8]reply{}
			var all sync.WaitGroup
			for i := range replies {
				all.Go(func() { replies[i] = h.send("DELETE", path, "") })
			}
			all.Wait()
			n := map[int]int{}
			for _, r := range replies {
				n[r.status]++
			}
			if fmt.Sprint(n) != "map[204:1 404:7]" {
				t.Errorf("%s: %v", path, n)
			}
		}
	})
}

// A reader that comes back behind the end of a live run's journal is told what comes then, not an error.
func TestAViewBeyondTheEndGoesOn(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.start("waits", "null")
		h.until(id, pawl.Waiting)
		req, err := http.NewRequestWithContext(t.Context(), "GET", h.url+"/api/runs/"+id+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Last-Event-ID", "1000")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		h.signal(id, "go/now")
		lines, end := bufio.NewScanner(res.Body), false
		for lines.Scan() {
			end = end || lines.Text() == "event: end"
		}
		if res.StatusCode != 200 || !end {
			t.Errorf("%d, end %v, %v", res.StatusCode, end, lines.Err())
		}
	})
}
