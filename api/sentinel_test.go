package api_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/secret"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest/pgtest"
	"github.com/pawlrun/pawl/trigger"
)

func githubMAC(key, text string) []byte {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(text))
	return m.Sum(nil)
}

// forms are the ways in which a secret may turn up that somebody has encoded.
func forms(secret string) map[string]string {
	all := map[string]string{"as it is": secret, "in hex": hex.EncodeToString([]byte(secret))}
	for cut := range 3 { // the three alignments of base64, without the letters that depend on what stands beside it
		text := base64.RawStdEncoding.EncodeToString([]byte(secret)[cut:])
		all[fmt.Sprintf("in base64 at %d", cut)] = text[:len(text)-2]
		all[fmt.Sprintf("in base64url at %d", cut)] = strings.NewReplacer("+", "-", "/", "_").Replace(text[:len(text)-2])
	}
	return all
}

// dump is all that is in a store: the bytes of a file and its log, or each row of each table.
func dump(t *testing.T, place string) string {
	t.Helper()
	var all strings.Builder
	if !strings.Contains(place, "://") {
		files, err := filepath.Glob(place + "*")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(data)
		}
		return all.String()
	}
	conn, err := pgx.Connect(t.Context(), place)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	names, err := conn.Query(t.Context(), "SELECT table_name FROM information_schema.tables WHERE table_schema = 'pawl'")
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(names, pgx.RowTo[string])
	if err != nil || len(tables) < 10 {
		t.Fatal(tables, err)
	}
	for _, table := range tables {
		rows, err := conn.Query(t.Context(), "SELECT row_to_json(x)::text || coalesce((SELECT string_agg(convert_from(decode(substr(value, 3), 'hex'), 'LATIN1'), ' ') FROM json_each_text(row_to_json(x)) WHERE value LIKE '\\\\x%'), '') FROM "+pgx.Identifier{"pawl", table}.Sanitize()+" AS x")
		if err != nil {
			t.Fatal(err)
		}
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(strings.Join(texts, "\n"))
	}
	return all.String()
}

// No secret that a server has or is sent gets into a log, a store, a journal or an answer that was
// not asked for it: not by any route, nor by what fails.
func TestSecretsAreNowhere(t *testing.T) {
	places := map[string]func(t *testing.T) (pawl.Store, string){
		"sqlite": func(t *testing.T) (pawl.Store, string) {
			path := filepath.Join(t.TempDir(), "pawl.db")
			s, err := sqlite.Open(path, nil)
			if err != nil {
				t.Fatal(err)
			}
			return s, path
		},
		"postgres": func(t *testing.T) (pawl.Store, string) {
			url := pgtest.URL(t)
			s, err := postgres.Open(t.Context(), url, nil)
			if err != nil {
				t.Fatal(err)
			}
			return s, url
		},
	}
	for name, open := range places {
		t.Run(name, func(t *testing.T) {
			store, place := open(t)
			closeAtEnd(t, store)
			const signing = "SENTINEL-signing-9d1b7f3a6c52"
			p := newProvider(t)
			verifier, err := trigger.NewVerifier(trigger.SignatureOptions{Scheme: trigger.GitHub, Secrets: []string{signing}})
			if err != nil {
				t.Fatal(err)
			}
			auth := unlimited()
			auth.OIDC = &api.OIDC{Issuer: p.url, ClientID: "pawl", ClientSecret: "hush", RedirectURL: "https://pawl.test/login/callback", Lifetime: time.Hour,
				Grants: []api.Grant{{Claim: "sub", Value: "u1", Scopes: []api.Scope{api.Admin}}}}
			log := &lockedBuffer{}
			logger := slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			hook := pawl.Define("hooked", func(c *pawl.Context, _ any) (string, error) {
				w, err := pawl.NewWebhook(c, pawl.Signed("github", "hub"))
				if err != nil {
					return "", err
				}
				if _, err := w.Wait(c); err != nil {
					return "", err
				}
				return "", pawl.Fatal(fmt.Errorf("it fails after the request"))
			})
			const kept, keptBefore, encryptionKey = "SENTINEL-kept-5e0c77d1b2a9", "SENTINEL-before-d41d8cd98f00", "U0VOVElORUwtZW5jcnlwdGlvbi0zMi1ieXRlcy1sb24="
			secrets := &secret.Store{Engine: pawl.New(store, nil), Keys: encryptionKeys(t, encryptionKey)}
			t.Cleanup(func() { secrets.Engine.Close() })
			calls := guarded(t, "guarded", guard{func(string) string { return kept }}, secrets.Value)
			h := openOn(t, store, api.Options{Auth: auth, Hosts: []string{"pawl.test"}, Logger: logger, Secrets: secrets, Verify: trigger.VerifyFunc(map[string]*trigger.Verifier{"hub": verifier})}, append(append(workflows(func() error { return nil }), hook, calls), parrots(t, secrets.Value)...)...)
			_, key := h.key("", api.Admin)
			login := h.send("GET", "/login?return=/", "")
			code, state := p.authorize(login.header.Get("Location"))
			session := cookieOf(h.send("GET", "/login/callback?code="+code+"&state="+state, "", with(cookieOf(login, "__Host-pawl-login"))), "__Host-pawl")
			if session == nil {
				t.Fatal("nobody is logged in")
			}
			boss := h.as(key)
			things := furnish(h, key, "o-")
			if _, err := boss.Start(t.Context(), api.StartRequest{Workflow: "hooked", ID: "hooked"}, 0); err != nil {
				t.Fatal(err)
			}
			var web api.Hook
			h.eventually("the webhook", func() bool {
				list, err := boss.Hooks(t.Context(), "hooked")
				if err == nil && len(list.Items) == 1 {
					web = list.Items[0]
				}
				return web.Token != ""
			})
			told := map[string]string{
				"the key": key[strings.LastIndex(key, "_")+1:], "the session": session.Value, "the secret of signatures": signing, "the engine's secret": strings.Repeat("s", 32),
				"the code": code, "the webhook's token": web.Token, "a kept secret": kept, "its value before": keptBefore, "the encryption key": encryptionKey, "the encryption key in bytes": "SENTINEL-encryption-32-bytes-lon",
			}
			answers := 0
			try := func(d documented, path string, edit ...func(*http.Request)) {
				r := h.send(d.method, path, bodies[d.OperationID], edit...)
				answers++
				for what, secret := range told {
					if what == "the webhook's token" && r.status < 300 { // who may send to it is told
						continue
					}
					for form, text := range forms(secret) {
						if bytes.Contains(r.body, []byte(text)) || strings.Contains(fmt.Sprint(r.header), text) {
							t.Errorf("%s stands, %s, in the answer of %s %s: %d %s", what, form, d.method, path, r.status, r.body)
						}
					}
				}
			}
			// A value is set, changed, used by a flow that succeeds and by one that fails, and sent in requests that are refused.
			for _, value := range []string{keptBefore, kept} {
				if _, err := boss.PutSecret(t.Context(), "door", api.SecretRequest{Value: value, PreviousUntil: time.Now().Add(time.Hour)}); err != nil {
					t.Fatal(err)
				}
				run, err := boss.Start(t.Context(), api.StartRequest{Workflow: "guarded", Input: []byte(`{}`)}, 20*time.Second)
				if want := map[string]pawl.State{keptBefore: pawl.Failed, kept: pawl.Completed}[value]; err != nil || run.State != want {
					t.Fatalf("%+v %v, want %s", run, err, want)
				}
			}
			parrots := map[string]pawl.State{"parrot-answers": pawl.Completed, "parrot-fails": pawl.Failed, "parrot-panics": pawl.Failed}
			for workflow, want := range parrots {
				run, err := boss.Start(t.Context(), api.StartRequest{Workflow: workflow, ID: workflow, Input: []byte(`{}`)}, 30*time.Second)
				if err != nil || run.State != want || !strings.Contains(fmt.Sprint(string(run.Result), run.Error), "[secret]") {
					t.Errorf("%s: %+v %v, want %s, and what it says without the secret", workflow, run, err, want)
				}
			}
			for body, want := range map[string]int{
				`{"value":"` + kept + `","previousUntil":1}`: 400, `{"value":"` + kept: 400, `{"value":"` + kept + `","value":"` + kept + `"}`: 400, `{"value":["` + kept + `"]}`: 400, `"` + kept + `"`: 400,
				`{"value":"` + kept + `","previousUntil":"2001-01-01T00:00:00Z"}`: 400, `{"value":"` + kept + strings.Repeat("x", 64<<10) + `"}`: 413, `{"value":"` + kept + strings.Repeat("x", 3<<20) + `"}`: 413,
			} {
				r := h.send("PUT", "/api/secrets/door", body, bearer(key), withJSON)
				if r.status != want || strings.Contains(string(r.body), "SENTINEL") {
					t.Errorf("%.60s: %d %s", body, r.status, r.body)
				}
				if r := h.send("PUT", "/api/secrets/1door", body, bearer(key), withJSON, func(r *http.Request) { r.Header.Set("Idempotency-Key", "k") }); r.status != 400 || strings.Contains(string(r.body), "SENTINEL") {
					t.Errorf("%.60s: %d %s", body, r.status, r.body)
				}
			}
			operations := newContract(t).operations
			for _, d := range operations {
				if d.OperationID == "feed" || d.OperationID == "follow" || d.OperationID == "readStream" || order(d) > 1 || d.OperationID == "logout" {
					continue
				}
				for _, whose := range []*belongings{nil, things} {
					path := pathOf(d, whose.fill(d, "echo"))
					try(d, path, bearer(key), withJSON)
					try(d, path, with(session), withJSON)
					try(d, path, bearer(key+"x"), withJSON)
					if d.method == http.MethodGet && strings.HasPrefix(d.path, "/api/runs/{id}") {
						for id := range parrots {
							try(d, strings.Replace(path, "/api/runs/"+whose.fill(d, "echo")("id"), "/api/runs/"+id, 1), bearer(key))
						}
					}
					h.send(d.method, path+"?"+key, bodies[d.OperationID], bearer(key)) // by mistake in the address: the answer may repeat it, to who sent it
				}
			}
			for _, signature := range []string{"sha256=" + hex.EncodeToString(make([]byte, 32)), signing, "sha256=" + hex.EncodeToString(githubMAC(signing, `{"a":1}`))} {
				h.send("POST", pawl.WebhookPath+web.Token, `{"a":1}`, bearer(key), with(session), func(r *http.Request) {
					r.Header.Set("X-Hub-Signature-256", signature)
					r.Header.Set("X-GitHub-Delivery", "d1")
				})
			}
			h.eventually("the run to fail", func() bool {
				run, err := boss.Run(t.Context(), "hooked", 0)
				return err == nil && run.State == pawl.Failed
			})
			if answers < 200 {
				t.Errorf("only %d requests were made", answers)
			}
			for where, text := range map[string]string{"the log": log.String() + h.log.String(), "the store": dump(t, place)} {
				for what, secret := range told {
					for form, s := range forms(secret) {
						if i := strings.Index(text, s); i >= 0 {
							t.Errorf("%s stands, %s, in %s: …%q…", what, form, where, text[max(0, i-200):min(len(text), i+60)])
						}
					}
				}
			}
			if text := dump(t, place); !strings.Contains(text, "o-echo") || !strings.Contains(text, "it fails after the request") || !strings.Contains(text, secrets.Keys.IDs()[0]) || !strings.Contains(text, "the door stays closed") {
				t.Error("the dump has not what is in the store")
			}
		})
	}
}
