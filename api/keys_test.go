package api_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

func TestKeysAreKeptAsHashes(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		ctx, keys := t.Context(), api.Keys{Engine: pawl.New(store(), nil)}
		key, secret, err := keys.Create(ctx, api.KeySpec{Name: "ci", Tenant: "a", Scopes: []api.Scope{api.RunsStart, api.RunsRead, api.RunsStart}})
		if err != nil || len(key.Scopes) != 2 || !strings.HasPrefix(secret, "pawl_"+key.ID+"_") {
			t.Fatal(key, secret, err)
		}
		page, err := keys.Engine.Records(ctx, "api.keys", "", "", 10)
		if err != nil || len(page) != 1 {
			t.Fatal(page, err)
		}
		if bare := secret[strings.LastIndex(secret, "_")+1:]; len(bare) < 52 || strings.Contains(string(page[0].Data), bare) {
			t.Errorf("the secret is short, or in the store: %s", page[0].Data)
		}
		found, err := keys.Find(ctx, secret)
		if err != nil || found.ID != key.ID || found.Tenant != "a" {
			t.Fatal(found, err)
		}
		list, err := keys.List(ctx)
		if err != nil || len(list) != 1 || list[0].Used.IsZero() {
			t.Fatal(list, err)
		}
		was := list[0].Used
		if _, err := keys.Find(ctx, secret); err != nil {
			t.Fatal(err)
		}
		if list, err = keys.List(ctx); err != nil || !list[0].Used.Equal(was) {
			t.Errorf("each use is written: %v", list)
		}
		// Another process has no answer of its own.
		other := api.Keys{Engine: pawl.New(store(), nil)}
		if _, err := other.Find(ctx, secret); err != nil {
			t.Fatal(err)
		}
		if err := keys.Revoke(ctx, key.ID); err != nil {
			t.Fatal(err)
		}
		for _, k := range []api.Keys{keys, other} {
			if _, err := k.Find(ctx, secret); !errors.Is(err, api.ErrKey) || !strings.Contains(err.Error(), "revoked") {
				t.Errorf("a revoked key: %v", err)
			}
		}
		if err := keys.Revoke(ctx, key.ID); err != nil {
			t.Errorf("revoked twice: %v", err)
		}
		if err := keys.Revoke(ctx, "none"); !errors.Is(err, pawl.ErrNotFound) {
			t.Error(err)
		}
		for _, bad := range []api.KeySpec{{}, {Name: "x"}, {Name: " ", Scopes: []api.Scope{api.Admin}}, {Name: "x", Scopes: []api.Scope{"all"}},
			{Name: "x", Scopes: []api.Scope{api.Admin}, Expires: time.Now()}} {
			if _, _, err := keys.Create(ctx, bad); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
	})
}

// A key makes no key that may do more, and none for others.
func TestAKeyGivesWhatItHas(t *testing.T) {
	h := open(t, api.Options{Auth: unlimited()})
	_, secret := h.key("a", api.KeysWrite, api.RunsRead)
	client := h.as(secret)
	made, err := client.CreateKey(t.Context(), api.KeySpec{Name: "less", Scopes: []api.Scope{api.RunsRead}})
	if err != nil || made.Tenant != "a" {
		t.Fatal(made, err)
	}
	who, err := h.as(made.Secret).Whoami(t.Context())
	if err != nil || who.ID != made.ID || who.Tenant != "a" || who.Session {
		t.Errorf("%+v %v", who, err)
	}
	for body, code := range map[string]string{
		`{"name":"x","scopes":["admin"]}`:                  "scope",
		`{"name":"x","scopes":["runs:read","runs:start"]}`: "scope",
		`{"name":"x","scopes":["runs:read"],"tenant":"b"}`: "tenant",
	} {
		h.refused(403, code, "POST", "/api/keys", body, bearer(secret))
	}
	if p := h.refused(400, "bad_request", "POST", "/api/keys", `{"name":"x","scopes":["runs:raed"]}`, bearer(secret)); !strings.Contains(p.Hint, "runs:read") {
		t.Error(p.Hint)
	}
	h.refused(400, "input", "POST", "/api/keys", `{"name":"","scopes":["runs:read"]}`, bearer(secret))
	h.key("b", api.Admin)
	list, err := client.Keys(t.Context())
	if err != nil || len(list.Items) != 2 {
		t.Errorf("keys of a: %+v %v", list, err)
	}
	_, chief := h.key("", api.KeysWrite)
	if list, err = h.as(chief).Keys(t.Context()); err != nil || len(list.Items) != 4 {
		t.Errorf("keys of all: %+v %v", list, err)
	}
	if err := client.RevokeKey(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	h.refused(401, "unauthorized", "GET", "/api/whoami", "", bearer(made.Secret))
}

// A key that is revoked on one process ends what was opened with it on another, within a second.
func TestRevocationEndsViewsAndWaits(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		here, there := openOn(t, store(), api.Options{Auth: &api.Auth{Rate: 1e6, Burst: 1e6, Views: 3}}), pawl.New(store(), nil)
		_, boss := here.key("a", api.Admin)
		if _, err := here.as(boss).Start(t.Context(), api.StartRequest{Workflow: "waits", ID: "w"}, 0); err != nil {
			t.Fatal(err)
		}
		ends := map[string]func(id string) error{
			"revoked": func(id string) error { return api.Keys{Engine: there}.Revoke(t.Context(), id) },
			"expires": nil,
		}
		for name, end := range ends {
			spec := api.KeySpec{Name: name, Tenant: "a", Scopes: []api.Scope{api.RunsRead}}
			if end == nil {
				spec.Expires = time.Now().Add(4 * time.Second)
			}
			key, secret, err := api.Keys{Engine: there}.Create(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan time.Time, 3)
			begun := make(chan bool, 3) // a view has begun to answer
			for _, path := range []string{"/events", "/streams/x", "?wait=1m"} {
				go func() {
					req, err := http.NewRequestWithContext(t.Context(), "GET", here.url+"/api/runs/w"+path, nil)
					if err != nil {
						t.Error(err)
					}
					bearer(secret)(req)
					res, err := http.DefaultClient.Do(req)
					for err == nil && res.StatusCode == 429 { // the place is taken by who looks whether it is
						res.Body.Close()
						res, err = http.DefaultClient.Do(req)
					}
					want := 200
					if path == "?wait=1m" {
						want = 401
					} else {
						begun <- true
					}
					if err != nil || res.StatusCode != want {
						t.Errorf("%s: %v %v", path, res, err)
						ended <- time.Now()
						return
					}
					defer res.Body.Close()
					buf := make([]byte, 4096)
					for err == nil {
						_, err = res.Body.Read(buf)
					}
					ended <- time.Now()
				}()
			}
			<-begun
			<-begun
			// Of a wait nothing is seen until it ends, but that it takes the key's third place: a short
			// one has given its own back when it is answered.
			here.eventually("the wait to be let in", func() bool {
				return here.send("GET", "/api/runs/w?wait=1ms", "", bearer(secret)).status == 429
			})
			over := spec.Expires
			if end != nil {
				if err := end(key.ID); err != nil {
					t.Fatal(err)
				}
				over = time.Now()
			}
			for range 3 {
				select {
				case at := <-ended:
					if late := at.Sub(over); late > time.Second {
						t.Errorf("%s: a view ended %v after its key", name, late)
					} else if late < -10*time.Millisecond {
						t.Errorf("%s: a view ended %v before its key", name, -late)
					}
				case <-time.After(15 * time.Second):
					t.Fatalf("%s: a view goes on without its key", name)
				}
			}
			here.refused(401, "unauthorized", "GET", "/api/runs/w", "", bearer(secret))
		}
	})
}

func TestLimits(t *testing.T) {
	h := open(t, api.Options{Auth: &api.Auth{Rate: 0.01, Burst: 5, Tries: 3, Views: 1}})
	_, secret := h.key("", api.Admin)
	h.refused(404, "not_found", "GET", "/api/runs/x", "", bearer(secret))
	_, second := h.key("", api.Admin)
	h.refused(404, "not_found", "GET", "/api/runs/x", "", bearer(second))
	for range 3 {
		h.refused(401, "unauthorized", "GET", "/api/runs/x", "", bearer("pawl_x_y"))
	}
	p := h.refused(429, "too_many", "GET", "/api/runs/x", "", bearer("pawl_x_y"))
	if p.Hint == "" {
		t.Error("no hint")
	}
	h.refused(404, "not_found", "GET", "/api/runs/x", "", bearer(secret)) // who has a right key is not held up
	h.refused(404, "not_found", "GET", "/api/runs/x", "", bearer(secret))
	if _, err := h.as(secret).Start(t.Context(), api.StartRequest{Workflow: "waits", ID: "w"}, 0); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", h.url+"/api/runs/w/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	bearer(secret)(req)
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	defer res.Body.Close()
	r := h.send("GET", "/api/runs/x", "", bearer(secret))
	if r.status != 429 || r.header.Get("Retry-After") == "" {
		t.Errorf("the sixth request of five: %d %s %v", r.status, r.body, r.header)
	}
	// Live views are counted apart.
	for i, want := range []int{200, 429} {
		req := req.Clone(t.Context())
		bearer(second)(req)
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode != want {
			t.Errorf("view %d: %v %v", i, res, err)
		}
		defer res.Body.Close()
	}
	// Public routes are limited by address.
	for range 5 {
		h.send("GET", "/healthz", "")
	}
	h.refused(429, "too_many", "GET", "/healthz", "")
}

func TestAnIdempotencyKeyMakesOneRun(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: unlimited()})
		_, secret := h.key("a", api.Admin)
		_, foreign := h.key("b", api.Admin)
		key := func(k string) func(*http.Request) {
			return func(r *http.Request) { r.Header.Set("Idempotency-Key", k) }
		}
		start := func(who, k, body string) (id string, r reply) {
			r = h.send("POST", "/api/runs", body, bearer(who), key(k))
			var run api.Run
			if err := json.Unmarshal(r.body, &run); err != nil {
				t.Fatal(err)
			}
			return run.ID, r
		}
		one, r := start(secret, "k", `{"workflow":"waits","input":1}`)
		if r.status != 202 || r.header.Get("Idempotency-Replayed") != "" {
			t.Fatalf("%d %s %v", r.status, r.body, r.header)
		}
		if again, r := start(secret, "k", `{"workflow":"waits","input":1}`); again != one || r.header.Get("Idempotency-Replayed") != "true" || r.status != 202 {
			t.Errorf("again: %d %s %v", r.status, r.body, r.header)
		}
		if other, _ := start(secret, "k2", `{"workflow":"waits","input":1}`); other == one {
			t.Error("another key made the same run")
		}
		if _, r := start(foreign, "k", `{"workflow":"waits","input":2}`); r.status != 202 || r.header.Get("Idempotency-Replayed") != "" {
			t.Errorf("another tenant's key is not ours: %d %s", r.status, r.body)
		}
		h.refused(422, "idempotency_key", "POST", "/api/runs", `{"workflow":"waits","input":2}`, bearer(secret), key("k"))
		h.refused(422, "idempotency_key", "POST", "/api/runs", `{"workflow":"waits","input":1,"priority":1}`, bearer(secret), key("k"))
		h.refused(400, "bad_request", "POST", "/api/runs", `{"workflow":"waits"}`, bearer(secret), key("k\u00e4"))
		h.refused(400, "bad_request", "POST", "/api/runs/"+one+"/pause", `{}`, bearer(secret), key("k"))
		// Of many at once, one makes it.
		ids := make(chan string)
		for range 8 {
			go func() {
				run, err := h.as(secret).Start(api.WithIdempotencyKey(t.Context(), "many"), api.StartRequest{Workflow: "waits"}, 0)
				if err != nil {
					t.Error(err)
				}
				ids <- run.ID
			}()
		}
		first := <-ids
		for range 7 {
			if id := <-ids; id != first {
				t.Errorf("runs %s and %s", first, id)
			}
		}
		a, err := h.as(secret).Fork(api.WithIdempotencyKey(t.Context(), "f"), one, api.ForkRequest{})
		b, err2 := h.as(secret).Fork(api.WithIdempotencyKey(t.Context(), "f"), one, api.ForkRequest{})
		if err != nil || err2 != nil || a.ID != b.ID || !b.Existed {
			t.Errorf("forks %s, %s: %v %v", a.ID, b.ID, err, err2)
		}
	})
}
