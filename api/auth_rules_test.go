package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// A key is taken in its one form, with the one scheme.
func TestAKeyHasOneForm(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: unlimited()})
		_, secret := h.key("a", api.Admin)
		bare := strings.TrimPrefix(secret, "pawl_")
		for _, value := range []string{"Bearer " + secret, "bearer " + secret, "BEARER  " + secret + " "} {
			if r := h.send("GET", "/api/whoami", "", header("Authorization", value)); r.status != 200 {
				t.Errorf("%.12s…: %d %s", value, r.status, r.body)
			}
		}
		for what, value := range map[string]string{
			"of another scheme": "Basic " + secret, "of a token": "Token " + secret, "without a scheme": secret, "of another maker": "Bearer key_" + bare, "without its head": "Bearer " + bare,
			"in capitals": "Bearer " + strings.ToUpper(secret), "with more": "Bearer " + secret + "x", "with less": "Bearer " + secret[:len(secret)-1], "without a secret": "Bearer " + secret[:len("pawl_")+16],
			"of nothing": "Bearer ", "of an empty secret": "Bearer " + secret[:len("pawl_")+17],
		} {
			if p := h.refused(401, "unauthorized", "GET", "/api/whoami", "", header("Authorization", value)); strings.Contains(p.Detail, "revoked") || strings.Contains(p.Detail, "expired") {
				t.Errorf("a key %s: %s", what, p.Detail)
			}
		}
		long := api.KeySpec{Name: strings.Repeat("n", 101), Scopes: []api.Scope{api.RunsRead}}
		if _, _, err := (api.Keys{Engine: h.engine}).Create(t.Context(), long); !errors.Is(err, pawl.ErrInput) {
			t.Errorf("a name of 101 bytes: %v", err)
		}
		long.Name = long.Name[1:]
		if _, _, err := (api.Keys{Engine: h.engine}).Create(t.Context(), long); err != nil {
			t.Errorf("a name of 100 bytes: %v", err)
		}
	})
}

// meanwhile is a store on which something happens right behind a read of records.
type meanwhile struct {
	pawl.Store
	read atomic.Pointer[func(space string)]
}

func (m *meanwhile) Records(ctx context.Context, space, prefix, after string, limit int, now time.Time) ([]pawl.Record, error) {
	found, err := m.Store.Records(ctx, space, prefix, after, limit, now)
	if f := m.read.Swap(nil); f != nil {
		(*f)(space)
	}
	return found, err
}

// A key that is revoked while it is used stays revoked: neither write undoes the other.
func TestAKeyThatIsRevokedWhileItIsUsed(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		first := store()
		slow := &meanwhile{Store: first}
		keys, other := api.Keys{Engine: pawl.New(slow, nil)}, api.Keys{Engine: pawl.New(first, nil)}
		for name, c := range map[string]struct{ first, then func(id, secret string) error }{
			"used, and revoked meanwhile": {
				func(_, secret string) error { _, err := keys.Find(t.Context(), secret); return err },
				func(id, _ string) error { return other.Revoke(t.Context(), id) },
			},
			"revoked, and used meanwhile": {
				func(id, _ string) error { return keys.Revoke(t.Context(), id) },
				func(_, secret string) error { _, err := other.Find(t.Context(), secret); return err },
			},
		} {
			key, secret, err := other.Create(t.Context(), api.KeySpec{Name: "x", Scopes: []api.Scope{api.RunsRead}})
			if err != nil {
				t.Fatal(err)
			}
			met := false
			then := func(space string) {
				if met = space == "api.keys"; met {
					if err := c.then(key.ID, secret); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
			slow.read.Store(&then)
			if err := c.first(key.ID, secret); err != nil || !met {
				t.Errorf("%s: %v, met: %v", name, err, met)
			}
			if _, err := other.Find(t.Context(), secret); !errors.Is(err, api.ErrKey) || !strings.Contains(err.Error(), "revoked") {
				t.Errorf("%s: it is taken: %v", name, err)
			}
			records, err := other.Engine.Records(t.Context(), "api.keys", key.ID, "", 1)
			if err != nil || len(records) != 1 || time.Until(records[0].Until) < 29*24*time.Hour || time.Until(records[0].Until) > 31*24*time.Hour {
				t.Errorf("%s: its record is to go at %v: %v", name, records, err)
			}
		}
	})
}

// A view that is over takes no place of the next, whoever ended it.
func TestViewsGiveTheirPlacesBack(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: &api.Auth{Rate: 1e6, Burst: 1e6, Views: 2}})
		_, secret := h.key("", api.Admin)
		done, err := h.as(secret).Start(t.Context(), api.StartRequest{Workflow: "echo", Input: []byte(`{"text":"x"}`), ID: "done"}, 20*time.Second)
		if err != nil || done.State != pawl.Completed {
			t.Fatal(done.State, err)
		}
		if _, err := h.as(secret).Start(t.Context(), api.StartRequest{Workflow: "waits", ID: "w"}, 0); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/api/runs/done/events", "/api/runs/done/streams/x", "/api/runs/w?wait=1ms", "/api/runs/w/events"} {
			for i := range 5 {
				ctx, leave := context.WithCancel(t.Context())
				status := 0
				h.eventually("a place for "+path, func() bool { // that of a reader who has left is seen to be free a moment later
					req, err := http.NewRequestWithContext(ctx, "GET", h.url+path, nil)
					if err != nil {
						t.Fatal(err)
					}
					bearer(secret)(req)
					res, err := http.DefaultClient.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					status = res.StatusCode
					if path != "/api/runs/w/events" { // which lasts until its reader leaves
						if _, err := io.Copy(io.Discard, res.Body); err != nil {
							t.Error(err)
						}
					}
					leave()
					res.Body.Close()
					return status != http.StatusTooManyRequests
				})
				leave()
				if status != 200 && status != 202 {
					t.Errorf("%s, time %d: %d", path, i, status)
				}
			}
		}
	})
}

// What Retry-After says is enough: it is never sooner than there is room.
func TestRetryAfterIsNotTooSoon(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{Auth: &api.Auth{Rate: 0.1, Burst: 1}})
		_, secret := h.key("", api.Admin)
		began := time.Now()
		if r := h.send("GET", "/api/whoami", "", bearer(secret)); r.status != 200 {
			t.Fatalf("%d %s", r.status, r.body)
		}
		r := h.send("GET", "/api/whoami", "", bearer(secret))
		took := time.Since(began)
		after, err := strconv.Atoi(r.header.Get("Retry-After"))
		if r.status != 429 || err != nil || time.Duration(after)*time.Second+took < 10*time.Second || after > 10 {
			t.Errorf("%d, Retry-After %q after %v; there is one each 10 s", r.status, r.header.Get("Retry-After"), took)
		}
	})
}

// full is a store that takes no new run.
type full struct{ pawl.Store }

func (f full) Commit(ctx context.Context, b *pawl.Batch) error {
	if len(b.Starts) > 0 {
		return errors.New("the disk is full")
	}
	return f.Store.Commit(ctx, b)
}

// An Idempotency-Key belongs to one request of one kind. It is not let go by one that failed on the server's side, as
// what became of that is not known.
func TestAnIdempotencyKeyIsOneRequests(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{})
		key := func(k string) func(*http.Request) { return header("Idempotency-Key", k) }
		for _, c := range []struct{ path, body string }{
			{"/api/runs", `{"workflow":"waits","id":"a"}`},
			{"/api/workflows/waits/runs", `{}`},
			{"/api/runs/a/fork", `{}`},
		} {
			if r := h.send("POST", c.path, c.body, key("k")); r.status != 202 || r.header.Get("Idempotency-Replayed") != "" {
				t.Errorf("%s: %d %s", c.path, r.status, r.body)
			}
		}
		func() { // a server whose disk is full
			e := pawl.New(full{store()}, nil)
			if err := e.Register(workflows(nil)...); err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			server := httptest.NewServer(api.New(e, api.Options{Logger: slog.New(slog.DiscardHandler)}))
			defer server.Close()
			req, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/api/runs", strings.NewReader(`{"workflow":"waits","input":1}`))
			if err != nil {
				t.Fatal(err)
			}
			key("failed")(req)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode < 500 {
				t.Errorf("on a full disk: %d", res.StatusCode)
			}
		}()
		h.refused(422, "idempotency_key", "POST", "/api/runs", `{"workflow":"waits","input":2}`, key("failed"))
		if r := h.send("POST", "/api/runs", `{"workflow":"waits","input":1}`, key("failed")); r.status != 202 {
			t.Errorf("as it was: %d %s", r.status, r.body)
		}
		// Of different requests with one key that come at once, one is carried out.
		for round := range 5 {
			var all sync.WaitGroup
			var made atomic.Int32
			for i := range 8 {
				all.Go(func() {
					r := h.send("POST", "/api/runs", fmt.Sprintf(`{"workflow":"waits","input":%d}`, i), key(fmt.Sprint("race", round)))
					switch r.status {
					case 202:
						made.Add(1)
					case 422:
					default:
						t.Errorf("%d %s", r.status, r.body)
					}
				})
			}
			all.Wait()
			if made.Load() != 1 {
				t.Errorf("round %d: %d of 8 requests with one key were carried out", round, made.Load())
			}
		}
	})
}
