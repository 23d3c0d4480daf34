package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// A token that never was, one that is almost right, one that is forgotten and one of another kind
// are answered with the same bytes, after the same work: as many statements of the same text. Who
// held one of a run that has ended is told so, for a while.
func TestUnknownTokensDoTheSameWork(t *testing.T) {
	eachTracedStore(t, func(t *testing.T, store pawl.Store, l *trail) {
		var live, private, deleted, ended string
		webhook := pawl.Define("webhook", func(c *pawl.Context, _ any) (any, error) {
			w, err := pawl.NewWebhook(c)
			if err != nil {
				return nil, err
			}
			return w.Wait(c)
		})
		t.Run("what there is", func(t *testing.T) {
			h := openOn(t, store, api.Options{}, append(workflows(func() error { return nil }), webhook)...)
			token := func(workflow, id string) (token string) {
				if _, err := h.client.Start(t.Context(), api.StartRequest{Workflow: workflow, ID: id}, 0); err != nil {
					t.Fatal(err)
				}
				h.eventually("a hook", func() bool {
					list, err := h.client.Hooks(t.Context(), id)
					if err == nil && len(list.Items) == 1 {
						token = list.Items[0].Token
					}
					return token != ""
				})
				return token
			}
			live, private, deleted, ended = token("webhook", "live"), token("hooks", "private"), token("webhook", "deleted"), token("webhook", "ended")
			for _, id := range []string{"deleted", "ended"} {
				if _, err := h.client.Cancel(t.Context(), id, "x"); err != nil {
					t.Fatal(err)
				}
				h.until(id, pawl.Cancelled)
			}
			if err := h.client.DeleteRun(t.Context(), "deleted"); err != nil {
				t.Fatal(err)
			}
		})
		engine := pawl.New(store, clientOptions())
		defer engine.Close()
		handler := api.New(engine, api.Options{ClientRate: api.Rate{PerSecond: -1}, WebhookRate: api.Rate{PerSecond: -1}})
		ask := func(path, token string) (status int, answer string, work []string) {
			l.mu.Lock()
			l.list = nil
			l.mu.Unlock()
			l.during("ask")
			rec := httptest.NewRecorder()
			handler.ServeHTTP(rec, httptest.NewRequest("POST", "http://localhost"+path+token, strings.NewReader("1")))
			l.during("")
			var p map[string]any
			body := rec.Body.String()
			if json.Unmarshal(rec.Body.Bytes(), &p) == nil {
				delete(p, "requestId")
				body = fmt.Sprint(p)
			}
			rec.Header().Del("X-Request-Id")
			for _, s := range l.list {
				work = append(work, s.query)
			}
			return rec.Code, fmt.Sprint(rec.Code, rec.Header(), body), work
		}
		other := strings.Repeat("0", len(live))
		almost := live[:len(live)-1] + map[bool]string{true: "0", false: "G"}[live[len(live)-1] != '0']
		for _, path := range []string{pawl.WebhookPath, "/api/hooks/"} {
			_, want, work := ask(path, other)
			if !strings.HasPrefix(want, "404") || len(work) == 0 {
				t.Fatalf("%s: %s, with %q", path, want, work)
			}
			for name, token := range map[string]string{"almost right": almost, "deleted": deleted} {
				if _, got, did := ask(path, token); got != want || fmt.Sprint(did) != fmt.Sprint(work) {
					t.Errorf("%s of one that is %s: %s, with %q, want %s, with %q", path, name, got, did, want, work)
				}
			}
			if status, got, _ := ask(path, ended); status != http.StatusGone {
				t.Errorf("%s of a run that has ended: %s", path, got)
			}
		}
		_, want, _ := ask(pawl.WebhookPath, other)
		if _, got, _ := ask(pawl.WebhookPath, private); got != want {
			t.Errorf("a hook that is no webhook: %s, want %s", got, want)
		}
	})
}

// Who logs out at one server has no open view any more at another, within a second.
func TestLoggingOutEndsViewsOnAllServers(t *testing.T) {
	p := newProvider(t)
	options := func() api.Options {
		a := unlimited()
		a.OIDC = &api.OIDC{Issuer: p.url, ClientID: "pawl", ClientSecret: "hush", RedirectURL: "https://pawl.test/login/callback", Lifetime: time.Hour,
			Grants: []api.Grant{{Claim: "sub", Value: "u1", Scopes: []api.Scope{api.Admin}}}}
		return api.Options{Auth: a, Hosts: []string{"pawl.test"}}
	}
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		here, there := openOn(t, store(), options()), openOn(t, store(), options())
		login := here.send("GET", "/login?return=/", "")
		code, state := p.authorize(login.header.Get("Location"))
		session := cookieOf(here.send("GET", "/login/callback?code="+code+"&state="+state, "", with(cookieOf(login, "__Host-pawl-login"))), "__Host-pawl")
		if session == nil {
			t.Fatal("nobody is logged in")
		}
		if r := here.send("POST", "/api/runs", `{"workflow":"waits","id":"w"}`, with(session), withJSON); r.status != http.StatusAccepted {
			t.Fatalf("%d %s", r.status, r.body)
		}
		paths := []string{"/api/runs/w/events", "/api/runs/w/streams/x", "/api/feed"}
		ended := make(chan time.Time, len(paths))
		for _, path := range paths {
			req, err := http.NewRequestWithContext(t.Context(), "GET", there.url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			with(session)(req)
			res, err := http.DefaultClient.Do(req)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Fatalf("%s: %v %v", path, res, err)
			}
			t.Cleanup(func() { res.Body.Close() })
			go func() {
				buf := make([]byte, 4096)
				for err == nil {
					_, err = res.Body.Read(buf)
				}
				ended <- time.Now()
			}()
		}
		select {
		case <-ended:
			t.Fatal("a view has ended by itself")
		case <-time.After(time.Second): // longer than it takes to see a session that is over
		}
		if r := here.send("POST", "/logout", "", with(session), withJSON); r.status >= 400 {
			t.Fatalf("logout: %d %s", r.status, r.body)
		}
		over := time.Now()
		for range paths {
			select {
			case at := <-ended:
				if late := at.Sub(over); late > time.Second {
					t.Errorf("a view ended %v after the session", late)
				}
			case <-time.After(15 * time.Second):
				t.Fatal("a view goes on")
			}
		}
		there.refused(http.StatusUnauthorized, "unauthorized", "GET", "/api/whoami", "", with(session))
	})
}
