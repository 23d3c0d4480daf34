package api_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// opened is a view that was opened with what stands in its address only, as a browser does.
type opened struct {
	status int
	ended  chan time.Time
}

func (h *house) openView(path string) opened {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), "GET", h.url+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { res.Body.Close() })
	o := opened{res.StatusCode, make(chan time.Time, 1)}
	lines := bufio.NewReader(res.Body)
	if o.status == http.StatusOK {
		for line := ""; !strings.HasPrefix(line, "event:"); {
			if line, err = lines.ReadString('\n'); err != nil {
				h.t.Fatalf("%s: %v", path, err)
			}
		}
	}
	go func() {
		for err == nil {
			_, err = lines.ReadString('\n')
		}
		o.ended <- time.Now()
	}()
	return o
}

// minted asks for a stream token.
func (h *house) minted(secret, run string, q api.StreamTokenRequest) string {
	h.t.Helper()
	got, err := h.as(secret).CreateStreamToken(h.t.Context(), run, q)
	if err != nil {
		h.t.Fatal(err)
	}
	if left := time.Until(got.Expires); left > 15*time.Minute || got.Token == "" {
		h.t.Errorf("%+v", got)
	}
	return got.Token
}

func TestAStreamTokenOpensOneRun(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: unlimited()})
		_, reader := h.key("a", api.RunsRead)
		_, starter := h.key("a", api.Admin)
		_, other := h.key("b", api.Admin)
		for who, ids := range map[string][]string{starter: {"one", "two"}, other: {"one", "theirs"}} {
			for _, id := range ids {
				if _, err := h.as(who).Start(t.Context(), api.StartRequest{Workflow: "streams", ID: id, Input: json.RawMessage(`{"n":2}`)}, 0); err != nil {
					t.Fatal(err)
				}
				h.eventually("the run's streams", func() bool {
					list, err := h.as(who).Streams(t.Context(), id)
					return err == nil && len(list.Items) == 2
				})
			}
		}
		with := func(path, token string) string {
			if strings.Contains(path, "?") {
				return path + "&token=" + token
			}
			return path + "?token=" + token
		}
		all := h.minted(reader, "one", api.StreamTokenRequest{})
		unnamed, named := "", "a/b"
		onlyUnnamed, onlyNamed := h.minted(reader, "one", api.StreamTokenRequest{Stream: &unnamed}), h.minted(reader, "one", api.StreamTokenRequest{Stream: &named, Lifetime: "15m"})

		// What it opens, and what it does not: the other runs, also the other tenant's of the same id.
		const events, first, second = "/events", "/streams/", "/streams/a%2Fb"
		for _, c := range []struct {
			what, token string
			opens       []string
		}{{"all", all, []string{events, first, second}}, {"the unnamed stream", onlyUnnamed, []string{first}}, {"a/b", onlyNamed, []string{second}}} {
			for _, view := range []string{events, first, second} {
				want := http.StatusUnauthorized
				for _, path := range c.opens {
					if path == view {
						want = http.StatusOK
					}
				}
				if got := h.openView(with("/api/runs/one"+view, c.token)); got.status != want {
					t.Errorf("%s at %s: %d, want %d", c.what, view, got.status, want)
				}
				var last string
				for _, run := range []string{"two", "theirs", "nobody"} {
					p := h.refused(401, "unauthorized", "GET", with("/api/runs/"+run+view, c.token), "")
					p.RequestID = ""
					if is := p.Error(); last != "" && is != last {
						t.Errorf("runs that it is not for are told apart: %s, %s", is, last)
					} else {
						last = is
					}
				}
			}
		}
		for line, err := range h.lines("/api/runs/one/streams/a%2Fb?from=1&token=" + onlyNamed) {
			if err != nil || !strings.Contains(line, `{"i":1}`) {
				t.Errorf("from the second chunk on it reads %s, %v", line, err)
			}
			break
		}

		// On no other route it is looked at, nor by another method.
		for _, d := range h.contract.operations {
			path := with(pathOf(d, func(param string) string {
				if param == "id" && strings.HasPrefix(d.path, "/api/runs/") {
					return "one"
				}
				return nowhere(param)
			}), all)
			if d.scope() == "public" || d.OperationID == "follow" || d.OperationID == "readStream" {
				continue
			}
			h.refused(401, "unauthorized", d.method, path, bodies[d.OperationID])
			if r := h.send(d.method, path, bodies[d.OperationID], bearer(starter)); r.status != 400 && !slices.Contains(global, d.OperationID) {
				t.Errorf("%s %s with a key and a token: %d %s", d.method, d.path, r.status, r.body)
			}
		}
		if r := h.send("HEAD", with("/api/runs/one/events", all), ""); r.status != 401 {
			t.Errorf("HEAD: %d", r.status)
		}

		// One that was changed anywhere, or is given twice, opens nothing; nor does a key there.
		for i := range all {
			b := []byte(all)
			if b[i]++; b[i] == '.' || b[i] == '{' || b[i] == '[' || b[i] == ':' || b[i] == '`' {
				b[i] = 'A'
			}
			if all[i] == 'A' && b[i] == 'A' {
				b[i] = 'B'
			}
			h.refused(401, "unauthorized", "GET", with("/api/runs/one/events", url.QueryEscape(string(b))), "")
		}
		for _, bad := range []string{"", "x", "x.y", reader, all + "&token=" + all, all + "x", "." + all} {
			h.refused(401, "unauthorized", "GET", with("/api/runs/one/events", bad), "")
			h.refused(401, "unauthorized", "GET", with("/api/runs/one/events", bad), "", bearer(reader)) // nothing else is looked at
		}

		// Who asks for it.
		for _, life := range []string{"0s", "-1s", "15m1s", "x"} {
			h.refused(400, "bad_request", "POST", "/api/runs/one/stream-tokens", `{"lifetime":"`+life+`"}`, bearer(reader))
		}
		h.refused(404, "not_found", "POST", "/api/runs/theirs/stream-tokens", "", bearer(reader))

		// The run's id is another run's.
		if _, err := h.as(starter).Cancel(t.Context(), "one", "x"); err != nil {
			t.Fatal(err)
		}
		h.eventually("its end", func() bool { return h.as(starter).DeleteRun(t.Context(), "one") == nil })
		if _, err := h.as(starter).Start(t.Context(), api.StartRequest{Workflow: "streams", ID: "one", Input: json.RawMessage(`{"n":2}`)}, 0); err != nil {
			t.Fatal(err)
		}
		h.refused(401, "unauthorized", "GET", with("/api/runs/one/events", all), "")
		h.refused(401, "unauthorized", "GET", with("/api/runs/one/streams/", onlyUnnamed), "")
		for _, token := range []string{all, onlyUnnamed, onlyNamed} {
			if strings.Contains(h.log.String(), token) {
				t.Errorf("the log has a token: %s", h.log)
			}
		}
	})
}

func TestAStreamTokenEnds(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		here, there := openOn(t, store(), api.Options{Auth: unlimited()}), openOn(t, store(), api.Options{Auth: unlimited()})
		_, starter := here.key("", api.Admin)
		id, reader := here.key("", api.RunsRead)
		if _, err := here.as(starter).Start(t.Context(), api.StartRequest{Workflow: "waits", ID: "w"}, 0); err != nil {
			t.Fatal(err)
		}
		const path = "/api/runs/w/events?token="
		short := here.minted(reader, "w", api.StreamTokenRequest{Lifetime: "400ms"})
		long := here.minted(reader, "w", api.StreamTokenRequest{})
		view := there.openView(path + short)
		if view.status != 200 {
			t.Fatalf("the short one: %d", view.status)
		}
		there.eventually("its end", func() bool { return there.openView(path+short).status == 401 })
		other := there.openView(path + long)
		if other.status != 200 {
			t.Fatalf("the long one: %d", other.status)
		}
		select {
		case <-view.ended:
			t.Error("the view ended with its token")
		case <-other.ended:
			t.Error("the other view has ended")
		case <-time.After(time.Second): // longer than it takes to see that a key was revoked
		}
		if err := (api.Keys{Engine: here.engine}).Revoke(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		over := time.Now()
		for _, v := range []opened{view, other} {
			select {
			case at := <-v.ended:
				if late := at.Sub(over); late > time.Second {
					t.Errorf("a view ended %v after its key", late)
				}
			case <-time.After(15 * time.Second):
				t.Fatal("a view goes on")
			}
		}
		there.refused(401, "unauthorized", "GET", path+long, "")

		// It does not live for longer than its key.
		soon, brief, err := api.Keys{Engine: here.engine}.Create(t.Context(), api.KeySpec{Name: "soon", Scopes: []api.Scope{api.RunsRead}, Expires: time.Now().Add(time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := here.as(brief).CreateStreamToken(t.Context(), "w", api.StreamTokenRequest{}); err != nil || got.Expires.After(soon.Expires) {
			t.Errorf("%+v of a key that expires at %v: %v", got, soon.Expires, err)
		}
	})
}

// A person's page follows a run as long as the person is logged in.
func TestAStreamTokenOfASession(t *testing.T) {
	p := newProvider(t)
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		a := unlimited()
		a.OIDC = &api.OIDC{Issuer: p.url, ClientID: "pawl", ClientSecret: "hush", RedirectURL: "https://pawl.test/login/callback", Lifetime: time.Hour,
			Grants: []api.Grant{{Claim: "sub", Value: "u1", Scopes: []api.Scope{api.Admin}}}}
		h := openOn(t, store(), api.Options{Auth: a, Hosts: []string{"pawl.test"}})
		login := h.send("GET", "/login?return=/", "")
		code, state := p.authorize(login.header.Get("Location"))
		session := cookieOf(h.send("GET", "/login/callback?code="+code+"&state="+state, "", with(cookieOf(login, "__Host-pawl-login"))), "__Host-pawl")
		if r := h.send("POST", "/api/runs", `{"workflow":"waits","id":"w"}`, with(session), withJSON); r.status != http.StatusAccepted {
			t.Fatalf("%d %s", r.status, r.body)
		}
		var got api.StreamToken
		h.send("POST", "/api/runs/w/stream-tokens", `{}`, with(session), withJSON).into(t, &got)
		view := h.openView("/api/runs/w/events?token=" + got.Token)
		if view.status != http.StatusOK {
			t.Fatalf("%d", view.status)
		}
		if r := h.send("POST", "/logout", "", with(session), withJSON); r.status >= 400 {
			t.Fatalf("logout: %d %s", r.status, r.body)
		}
		over := time.Now()
		if late := (<-view.ended).Sub(over); late > time.Second {
			t.Errorf("the view ended %v after the session", late)
		}
		h.refused(401, "unauthorized", "GET", "/api/runs/w/events?token="+got.Token, "")
	})
}

func TestStreamTokensNeedASecret(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{}) // with a secret, and nobody is asked for a key
		h.start("waits", "null")
		run, err := h.client.Runs(t.Context(), api.RunQuery{})
		if err != nil || len(run.Items) != 1 {
			t.Fatal(run, err)
		}
		id := run.Items[0].ID
		got, err := h.client.CreateStreamToken(t.Context(), id, api.StreamTokenRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if v := h.openView("/api/runs/" + id + "/events?token=" + got.Token); v.status != 200 {
			t.Errorf("where nobody is asked: %d", v.status)
		}
		bare := pawl.New(store(), nil)
		defer bare.Close()
		h.handler = api.New(bare, api.Options{})
		var p api.Problem
		rec := h.direct(httptest.NewRequest("POST", "http://localhost/api/runs/"+id+"/stream-tokens", nil))
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || !errors.Is(&p, pawl.ErrState) || !strings.Contains(p.Detail, "Options.Secret") {
			t.Errorf("%d %s, %v", rec.Code, rec.Body, err)
		}
	})
}

// lines reads a stream as lines of JSON.
func (h *house) lines(path string) func(yield func(string, error) bool) {
	return func(yield func(string, error) bool) {
		req, err := http.NewRequestWithContext(h.t.Context(), "GET", h.url+path, nil)
		if err != nil {
			h.t.Fatal(err)
		}
		req.Header.Set("Accept", "application/x-ndjson")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			h.t.Fatal(err)
		}
		defer res.Body.Close()
		for lines := bufio.NewReader(res.Body); ; {
			line, err := lines.ReadString('\n')
			if !yield(line, err) || err != nil {
				return
			}
		}
	}
}
