package api_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// One tenant's requests that last do not take the server from the others, and its views are none of them.
func TestATenantsRequestsInFlightAreBounded(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: unlimited(), MaxInFlight: 2})
		_, ours := h.key("a", api.Admin)
		_, also := h.key("a", api.Admin)
		_, theirs := h.key("b", api.Admin)
		if _, err := h.as(ours).Start(t.Context(), api.StartRequest{Workflow: "waits", ID: "w"}, 0); err != nil {
			t.Fatal(err)
		}
		token := h.minted(ours, "w", api.StreamTokenRequest{})
		for range 5 {
			if v := h.openView("/api/runs/w/events?token=" + token); v.status != http.StatusOK {
				t.Fatalf("a view: %d", v.status)
			}
		}
		patient := &http.Transport{ExpectContinueTimeout: time.Minute}
		defer patient.CloseIdleConnections()
		type ended struct {
			status int
			err    error
		}
		answers := make(chan ended, 2)
		var bodies []*io.PipeWriter
		for _, key := range []string{ours, also} { // two keys, and bodies that do not end
			body, w := io.Pipe()
			bodies = append(bodies, w)
			req, err := http.NewRequestWithContext(t.Context(), "POST", h.url+"/api/runs", body)
			if err != nil {
				t.Fatal(err)
			}
			bearer(key)(req)
			req.Header.Set("Expect", "100-continue") // the first byte is taken when the server has let the request in
			go func() {
				res, err := patient.RoundTrip(req)
				if err != nil {
					answers <- ended{err: err}
					return
				}
				res.Body.Close()
				answers <- ended{status: res.StatusCode}
			}()
			if _, err := io.WriteString(w, `{"workflow":`); err != nil {
				t.Fatal(err)
			}
		}
		for _, key := range []string{ours, also} {
			p := h.refused(429, "too_many", "GET", "/api/runs", "", bearer(key))
			if !strings.Contains(p.Detail, "2 requests of this tenant") {
				t.Errorf("it does not say why: %s", p.Detail)
			}
		}
		if got := h.send("GET", "/api/runs", "", bearer(ours)).header.Get("Retry-After"); got != "1" {
			t.Errorf("Retry-After is %q", got)
		}
		for range 3 {
			if r := h.send("GET", "/api/runs", "", bearer(theirs)); r.status != 200 {
				t.Errorf("another tenant: %d %s", r.status, r.body)
			}
		}
		if r := h.send("GET", "/healthz", ""); r.status != 200 {
			t.Errorf("who needs no key: %d", r.status)
		}
		for _, w := range bodies {
			if _, err := io.WriteString(w, `"echo","input":{"text":"x"}}`); err != nil {
				t.Fatal(err)
			}
			_ = w.Close()
		}
		for range bodies {
			if a := <-answers; a.status != 202 {
				t.Errorf("a request whose body came late: %+v", a)
			}
		}
		for range 5 { // they have left, those that were refused and those that waited too
			if r := h.send("GET", "/api/runs/w?wait=1ms", "", bearer(ours)); r.status != 202 {
				t.Errorf("afterwards: %d %s", r.status, r.body)
			}
			h.refused(400, "bad_request", "GET", "/api/runs?nonsense=1", "", bearer(ours))
		}
	})
}
