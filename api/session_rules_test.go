package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/approval"
)

// loginHouse is a server at which ann can log in, for an hour, with scopes of the default tenant.
func loginHouse(t *testing.T, p *provider, store pawl.Store, scopes ...api.Scope) *house {
	t.Helper()
	p.mu.Lock()
	p.claims = map[string]any{"email": "ann@example.org", "email_verified": true}
	p.mu.Unlock()
	auth := unlimited()
	auth.OIDC = &api.OIDC{Issuer: p.url, ClientID: "pawl", ClientSecret: "hush", RedirectURL: "https://pawl.test/login/callback", Lifetime: time.Hour,
		Grants: []api.Grant{{Claim: "email", Value: "ann@example.org", Scopes: scopes}}}
	return openOn(t, store, api.Options{Auth: auth, Hosts: []string{"pawl.test"}})
}

// begin sends a browser to the provider, and returns its cookie and what the provider sends it back with.
func (h *house) begin(p *provider) (browser *http.Cookie, code, state string) {
	h.t.Helper()
	r := h.send("GET", "/login", "")
	code, state = p.authorize(r.header.Get("Location"))
	return cookieOf(r, "__Host-pawl-login"), code, state
}

func (h *house) back(browser *http.Cookie, query string) reply {
	h.t.Helper()
	return h.send("GET", "/login/callback?"+query, "", with(browser))
}

// A login is used up by its first answer, also for a provider that takes a code twice; it is worth ten minutes; and
// one that the provider refuses says so.
func TestALoginIsUsedOnce(t *testing.T) {
	p := newProvider(t)
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := loginHouse(t, p, store(), api.RunsRead)
		browser, code, state := h.begin(p)
		p.mu.Lock()
		asked := p.asked[code]
		p.mu.Unlock()
		logins, err := h.engine.Records(t.Context(), "api.logins", "", "", 10)
		if err != nil || len(logins) != 1 || time.Until(logins[0].Until) > 10*time.Minute || time.Until(logins[0].Until) < 9*time.Minute {
			t.Errorf("the login that is under way: %+v, %v", logins, err)
		}
		if r := h.back(browser, "code="+code+"&state="+state); r.status != 302 || cookieOf(r, "__Host-pawl") == nil {
			t.Fatalf("%d %s", r.status, r.body)
		}
		p.mu.Lock()
		p.asked[code] = asked // it takes the code again
		p.mu.Unlock()
		if r := h.back(browser, "code="+code+"&state="+state); r.status != 403 || cookieOf(r, "__Host-pawl") != nil || !strings.Contains(string(r.body), "finished before") {
			t.Errorf("a second time: %d %s", r.status, r.body)
		}
		browser, code, state = h.begin(p)
		if r := h.back(browser, "error=access_denied&state="+state); r.status != 403 || !strings.Contains(string(r.body), "access_denied") {
			t.Errorf("refused by the provider: %d %s", r.status, r.body)
		}
		if r := h.back(browser, "code="+code+"&state="+state); r.status != 403 || cookieOf(r, "__Host-pawl") != nil {
			t.Errorf("after it was refused: %d %s", r.status, r.body)
		}
		sessions, err := h.engine.Records(t.Context(), "api.sessions", "", "", 10)
		if err != nil || len(sessions) != 1 || time.Until(sessions[0].Until) > time.Hour || time.Until(sessions[0].Until) < 59*time.Minute {
			t.Errorf("the session: %+v, %v", sessions, err)
		}
	})
}

// Whatever changes something is sent as JSON in a session, and from this origin, with whatever verb.
func TestNoVerbGetsAroundTheChecksOfASession(t *testing.T) {
	p := newProvider(t)
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := loginHouse(t, p, store(), api.Admin)
		browser, code, state := h.begin(p)
		session := with(cookieOf(h.back(browser, "code="+code+"&state="+state), "__Host-pawl"))
		id, _ := h.key("", api.RunsRead)
		put := `{"workflow":"echo","cron":"@yearly","input":{"text":"x"}}`
		for _, c := range []struct{ method, path, body string }{
			{"POST", "/api/runs", `{"workflow":"waits"}`},
			{"PUT", "/api/schedules/s", put},
			{"DELETE", "/api/keys/" + id, ""},
		} {
			for what, edit := range map[string]func(*http.Request){"a form": header("Content-Type", "application/x-www-form-urlencoded"), "text": header("Content-Type", "text/plain"), "nothing": header("Content-Type")} {
				if r := h.send(c.method, c.path, c.body, session, edit); r.status != 415 {
					t.Errorf("%s %s as %s: %d %s", c.method, c.path, what, r.status, r.body)
				}
			}
			for name, value := range map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"} {
				h.refused(403, "cross_origin", c.method, c.path, c.body, session, withJSON, header(name, value))
			}
			if r := h.send(c.method, c.path, c.body, session, withJSON); r.status >= 300 {
				t.Errorf("%s %s: %d %s", c.method, c.path, r.status, r.body)
			}
		}
	})
}

// The audit has a person's name as that of a person, and a key's id as that of a key.
func TestTheAuditTellsPeopleFromKeys(t *testing.T) {
	p := newProvider(t)
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := loginHouse(t, p, store(), api.RunsRead, api.RunsStart, api.ApprovalsDecide)
		browser, code, state := h.begin(p)
		session := with(cookieOf(h.back(browser, "code="+code+"&state="+state), "__Host-pawl"))
		_, secret := h.key("", api.Admin)
		h.client = h.as(secret)
		if r := h.send("POST", "/api/runs", `{"workflow":"approves","id":"r","input":{}}`, session, withJSON); r.status != 202 {
			t.Fatalf("%d %s", r.status, r.body)
		}
		var a api.ApprovalAnswer
		h.eventually("the approval", func() (ok bool) {
			var err error
			a, err = h.client.Approval(t.Context(), "r/pay", false)
			return err == nil
		})
		// ann@example.org is not on the list, which has ann.
		if r := h.send("POST", "/api/approvals/"+url.PathEscape(a.ID), `{"approved":true,"shown":"`+a.Shown+`"}`, session, withJSON); r.status != 403 {
			t.Errorf("%d %s", r.status, r.body)
		}
		a, err := h.client.Approval(t.Context(), "r/pay", true)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, e := range a.History {
			if e.What == approval.EventRefused {
				n++
				if e.By != "ann@example.org" || e.Actor != "person:ann@example.org" || e.Via != "api" {
					t.Errorf("%+v", e)
				}
			}
		}
		if n != 1 {
			t.Errorf("the history: %+v", a.History)
		}
	})
}

// Who may not send to hooks is told of them, and not their tokens: a token is all that a hook asks for.
func TestTokensAreForThoseWhoMaySend(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: unlimited()}, append(workflows(nil), answering("called", nil))...)
		_, admin := h.key("", api.Admin)
		_, reads := h.key("", api.RunsRead)
		_, sends := h.key("", api.RunsRead, api.HooksSend)
		h.client = h.as(admin)
		for _, workflow := range []string{"hooks", "called"} {
			run, err := h.client.Start(t.Context(), api.StartRequest{Workflow: workflow}, 0)
			if err != nil {
				t.Fatal(err)
			}
			token := ""
			h.eventually("the hook", func() bool {
				list, err := h.client.Hooks(t.Context(), run.ID)
				if err != nil {
					t.Fatal(err)
				}
				for _, hook := range list.Items {
					token = hook.Token
				}
				return token != ""
			})
			for _, path := range []string{"/api/runs/" + run.ID + "/hooks", "/api/hooks", "/api/hooks/" + token} {
				r := h.send("GET", path, "", bearer(reads))
				if r.status != 200 || strings.Contains(string(r.body), token) || !strings.Contains(string(r.body), run.ID) {
					t.Errorf("%s tells who may only read: %d %s", path, r.status, r.body)
				}
				if r := h.send("GET", path, "", bearer(sends)); r.status != 200 || !strings.Contains(string(r.body), token) {
					t.Errorf("%s tells who may send: %d %s", path, r.status, r.body)
				}
			}
		}
	})
}
