package api_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/sqlite"
)

// The rows of docs/http.md, "Security checklist".

// What anybody may call is this and nothing else: a route that becomes public is made so here too.
func TestPublicRoutesAreExactlyThese(t *testing.T) {
	want := []string{
		"GET /api/schema/flow.json", "GET /approve/{link}", "GET /healthz", "GET /login", "GET /login/callback", "GET /openapi.json", "GET /readyz",
		"POST /approve/{link}", "POST /logout",
	}
	var got []string
	for _, d := range newContract(t).operations {
		if d.scope() == "public" {
			got = append(got, d.method+" "+d.path)
		}
	}
	slices.Sort(got)
	same(t, "public operations", strings.Join(got, "\n"), strings.Join(want, "\n"))

	// Webhooks stand beside the document: all methods, any Host, any origin, no key; and behind
	// them only hooks that were made public.
	h := open(t, api.Options{Auth: unlimited()}, takesOne())
	_, secret := h.key("", api.Admin)
	if _, err := h.as(secret).Start(t.Context(), api.StartRequest{Workflow: "takesOne", Input: json.RawMessage(`"private"`)}, 0); err != nil {
		t.Fatal(err)
	}
	h.eventually("the hook", func() bool { _, err := h.as(secret).Hook(t.Context(), "private"); return err == nil })
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
		for _, token := range []string{"private", "nobody", "..", "a/b"} {
			r := h.send(method, pawl.WebhookPath+token, "", func(r *http.Request) {
				r.Host = "any.example"
				r.Header.Set("Origin", "https://evil.example")
				bearer(secret)(r)
			})
			if r.status != 404 || len(r.body) > 0 {
				t.Errorf("%s %s: %d %s", method, token, r.status, r.body)
			}
		}
	}
	for _, path := range []string{pawl.WebhookPath[:len(pawl.WebhookPath)-1], "/.well-known/workflow/v1/flow", "/.well-known/workflow/v1/step", "/debug/pprof/", "/debug/vars", "/api/../debug/pprof/"} {
		if r := h.send("GET", path, ""); r.status != 404 {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
}

var randomTokens = flag.Int("tokens", 1_000, "how many random tokens TestRandomTokensFindNothing tries at each door")

// Nobody guesses a token, and no answer tells one that was nearly right from another.
func TestRandomTokensFindNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		opt := api.Options{Auth: unlimited(), ClientRate: api.Rate{PerSecond: -1}, WebhookRate: api.Rate{PerSecond: -1}}
		h := openOn(t, store(), opt, append(workflows(func() error { return nil }), pawl.Define("webhook", func(c *pawl.Context, _ any) (any, error) {
			w, err := pawl.NewWebhook(c)
			if err != nil {
				return nil, err
			}
			return w.Wait(c)
		}))...)
		_, secret := h.key("", api.Admin)
		boss := h.as(secret)
		var live []string
		for _, workflow := range []string{"webhook", "hooks"} {
			run, err := boss.Start(t.Context(), api.StartRequest{Workflow: workflow}, 0)
			if err != nil {
				t.Fatal(err)
			}
			h.eventually("a hook", func() bool {
				list, err := boss.Hooks(t.Context(), run.ID)
				if err == nil && len(list.Items) == 1 {
					live = append(live, list.Items[0].Token)
				}
				return err == nil && len(list.Items) == 1
			})
		}
		ask := func(method, path string) string {
			r := httptest.NewRequest(method, "http://localhost"+path, nil)
			bearer(secret)(r)
			rec := h.direct(r)
			rec.Header().Del("X-Request-Id")
			var p map[string]any
			body := rec.Body.String()
			if json.Unmarshal(rec.Body.Bytes(), &p) == nil {
				delete(p, "requestId")
				body = fmt.Sprint(p)
			}
			return fmt.Sprint(rec.Code, rec.Header(), body)
		}
		for _, door := range []struct{ method, path string }{{"POST", pawl.WebhookPath}, {"GET", "/api/hooks/"}, {"POST", "/api/hooks/"}, {"GET", "/approve/"}} {
			length := len(live[0])
			random := func() string {
				raw := make([]byte, length)
				if _, err := rand.Read(raw); err != nil {
					t.Fatal(err)
				}
				for i, b := range raw {
					raw[i] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"[b%32]
				}
				return string(raw)
			}
			want := ask(door.method, door.path+random())
			if !strings.HasPrefix(want, "404") && !strings.HasPrefix(want, "410") {
				t.Errorf("%s %s: %s", door.method, door.path, want)
			}
			near := []string{live[0][:length-1], live[0] + "a", "x" + live[0][1:], strings.ToLower(live[0]), live[1][:len(live[1])-1]}
			for i := range *randomTokens {
				token := random()
				if i < len(near) {
					token = near[i]
				}
				if got := ask(door.method, door.path+token); got != want {
					if len(token) != length { // the length of what was asked for may show
						continue
					}
					t.Fatalf("%s %s%s: %s, want %s", door.method, door.path, token, got, want)
				}
			}
		}
		for _, token := range live { // the two are still there, and untouched
			if hook, err := boss.Hook(t.Context(), token); err != nil || hook.Token != token {
				t.Errorf("%+v %v", hook, err)
			}
		}
	})
}

// Who only looks, as link scanners and crawlers do, changes nothing, whichever route it is.
func TestLookingChangesNothing(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		for id, w := range map[string]string{"waiting": "waits", "asleep": "sleeps", "hooked": "hooks"} {
			h.run(w, id, "null", pawl.Waiting)
		}
		h.run("streams", "id", `{"n":2}`, pawl.Waiting)
		h.signal("id", "end")
		h.until("id", pawl.Completed)
		h.run("fails", "failed", "null", pawl.Failed)
		if _, err := h.client.Pause(t.Context(), "asleep", "lunch"); err != nil {
			t.Fatal(err)
		}
		if _, err := h.client.SetBudget(t.Context(), "name", api.BudgetRequest{Limit: 5}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.client.PutPrompt(t.Context(), "name", api.PromptRequest{Text: "Hello"}); err != nil {
			t.Fatal(err)
		}
		hooks, err := h.client.Hooks(t.Context(), "hooked")
		if err != nil {
			t.Fatal(err)
		}
		state := func() string {
			var all bytes.Buffer
			paths := []string{"/api/runs", "/api/hooks", "/api/budgets", "/api/prompts", "/api/prompts/name", "/api/approvals", "/api/charges"}
			for _, id := range []string{"waiting", "asleep", "hooked", "id", "failed"} {
				paths = append(paths, "/api/runs/"+id, "/api/runs/"+id+"/journal", "/api/runs/"+id+"/streams")
			}
			for _, path := range paths {
				r := h.send("GET", path, "")
				fmt.Fprintf(&all, "%s: %d %s\n", path, r.status, r.body)
			}
			return all.String()
		}
		before := state()
		tried := 0
		for _, d := range h.contract.operations {
			for _, id := range []string{"id", "waiting", "asleep", "hooked", "failed"} {
				path := pathOf(d, func(param string) string {
					switch param {
					case "id":
						return id
					case "token":
						return hooks.Items[0].Token
					case "key":
						return hooks.Items[0].Key
					case "event":
						return "go/now"
					case "n":
						return "1"
					}
					return param
				})
				for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
					if method == "GET" && id != "id" && (d.OperationID == "follow" || d.OperationID == "readStream") { // which does not end
						continue
					}
					if d.method == "GET" && (strings.HasPrefix(d.path, "/login") || strings.HasPrefix(d.path, "/openapi")) {
						continue
					}
					if method == "HEAD" && id != "id" && (d.OperationID == "follow" || d.OperationID == "readStream") {
						continue
					}
					tried++
					r := h.send(method, path, "")
					if method == "OPTIONS" && r.status != 405 || d.method != "GET" && r.status < 400 && !h.alsoReads(path) {
						t.Errorf("%s %s: %d %s", method, path, r.status, r.body)
					}
				}
			}
		}
		if after := state(); after != before {
			t.Errorf("looking has changed\n%s\nto\n%s", before, after)
		}
		if tried < 500 {
			t.Errorf("only %d requests were made", tried)
		}
	})
}

// alsoReads reports whether a path has a read beside what is done there.
func (h *house) alsoReads(path string) bool {
	path, _, _ = strings.Cut(path, "?")
	_, ok := h.contract.find("GET", strings.ReplaceAll(path, "{", "%7B"))
	return ok
}

// What webhooks answer carries what keeps a browser from doing more with it than showing it.
func TestHeadersOfWebhooks(t *testing.T) {
	h := open(t, api.Options{})
	for _, token := range []string{"", "nobody"} {
		r := h.send("GET", pawl.WebhookPath+token, "")
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Resource-Policy": "same-origin", "Content-Security-Policy": "sandbox; frame-ancestors 'none'",
		} {
			if got := r.header.Get(name); got != want {
				t.Errorf("webhook %q: %s is %q, want %q", token, name, got, want)
			}
		}
	}
}

// JSON that two readers may understand in two ways is refused, wherever it stands.
func TestAmbiguousJSONIsRefused(t *testing.T) {
	h := open(t, api.Options{})
	deep := func(n int, open, inside, close string) string {
		return strings.Repeat(open, n) + inside + strings.Repeat(close, n)
	}
	for name, body := range map[string]string{
		"twice":                      `{"workflow":"echo","workflow":"waits"}`,
		"twice, once escaped":        `{"workflow":"echo","work\u0066low":"waits"}`,
		"twice in the input":         `{"workflow":"waits","input":{"a":1,"a":2}}`,
		"twice, deep":                `{"workflow":"waits","input":[[{"x":{"a":1,"a":2}}]]}`,
		"another case":               `{"Workflow":"waits"}`,
		"both cases":                 `{"workflow":"waits","WORKFLOW":"echo"}`,
		"a folded letter":            "{\"wor\u212aflow\":\"waits\"}",
		"not UTF-8":                  "{\"workflow\":\"waits\",\"input\":\"\xff\"}",
		"an overlong form":           "{\"workflow\":\"waits\",\"input\":\"\xc0\xaf\"}",
		"half a surrogate in bytes":  "{\"workflow\":\"waits\",\"input\":\"\xed\xa0\x80\"}",
		"a byte order mark":          "\xef\xbb\xbf{\"workflow\":\"waits\"}",
		"two values":                 `{"workflow":"waits"}{"workflow":"waits"}`,
		"a comment":                  `{"workflow":"waits"/* */}`,
		"a trailing comma":           `{"workflow":"waits",}`,
		"no quotes":                  `{workflow:"waits"}`,
		"NaN":                        `{"workflow":"waits","input":NaN}`,
		"a leading zero":             `{"workflow":"waits","input":01}`,
		"a raw control character":    "{\"workflow\":\"waits\",\"input\":\"\n\"}",
		"an array":                   `[{"workflow":"waits"}]`,
		"text":                       `"waits"`,
		"too deep":                   `{"workflow":"waits","input":` + deep(600, "[", "1", "]") + `}`,
		"too deep, with names":       `{"workflow":"waits","input":` + deep(600, `{"a":`, "1", "}") + `}`,
		"far too deep":               deep(200_000, "[", "", ""),
		"wide at a great depth":      `{"workflow":"waits","input":` + deep(9_000, "[", strings.Repeat("1,", 500_000)+"1", "]") + `}`,
		"an unknown field":           `{"workflow":"waits","files":{"x":"y"}}`,
		"a number that is no number": `{"workflow":"waits","priority":"1"}`,
	} {
		if p := h.refused(400, "bad_request", "POST", "/api/runs", body); len(p.Detail) > 4096 {
			t.Errorf("%s: a detail of %d bytes", name, len(p.Detail))
		}
	}
	for name, input := range map[string]string{
		"deep enough": deep(500, "[", "1", "]"), "names that differ in case": `{"a":1,"A":2}`, "a lone surrogate": `"\ud800"`, "a large number": "123456789012345678901234567890",
	} {
		var run api.Run
		if r := h.send("POST", "/api/runs", `{"workflow":"waits","input":`+input+`}`); r.status != 202 {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		} else {
			r.into(t, &run)
		}
	}
	list, err := h.client.Runs(t.Context(), api.RunQuery{})
	if err != nil || len(list.Items) != 4 {
		t.Errorf("%d runs were started, want those 4: %v", len(list.Items), err)
	}
}

// No key and no token gets into a log, whichever route it is sent to and however that fails, and
// nothing that a caller sends makes a line of its own.
func TestLogsHaveNoSecretsAndNoLinesOfOthers(t *testing.T) {
	h := open(t, api.Options{Auth: unlimited()})
	_, secret := h.key("", api.Admin)
	const token = "tokentokentokentokentokentokentokentok"
	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil { // all that asks it fails on the server's side
		t.Fatal(err)
	}
	broken := pawl.New(store, &pawl.Options{Logger: slog.New(slog.DiscardHandler), Secret: bytes.Repeat([]byte("s"), 32)})
	logger := slog.New(slog.NewTextHandler(h.log, nil))
	const sentinel = "SENTINEL-5f1c"
	asked := 0
	for _, auth := range []*api.Auth{nil, unlimited()} { // one fails behind the door, the other at it
		handler := api.New(broken, api.Options{Logger: logger, Auth: auth})
		ask := func(method, path, body string) {
			asked++
			r := httptest.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
			bearer(secret)(r)
			r.Header.Set("Idempotency-Key", sentinel)
			r.Header.Set("X-Request-Id", "bad\nlevel=INFO msg=forged")
			r.Header.Set("Cookie", "__Host-pawl="+sentinel)
			handler.ServeHTTP(httptest.NewRecorder(), r)
		}
		for _, d := range h.contract.operations {
			for _, fill := range []func(string) string{
				func(string) string { return token },
				func(string) string { return "line%0Alevel=ERROR%20msg=forged%1B[2J%E2%80%AE" },
			} {
				ask(d.method, pathOf(d, fill), bodies[d.OperationID])
			}
		}
		ask("POST", pawl.WebhookPath+token, `{"x":"`+sentinel+`"}`)
		ask("POST", pawl.WebhookPath+"a%0Alevel=ERROR%20msg=forged", sentinel)
	}
	log := h.log.String()
	if !strings.Contains(log, "request failed") || asked < 100 {
		t.Fatalf("%d requests, and nothing has failed:\n%s", asked, log)
	}
	for what, text := range map[string]string{"the key": secret, "the key's secret": secret[strings.LastIndex(secret, "_")+1:], "a token": "/api/hooks/" + token, "a webhook's token": "webhook/" + token, "a header or body": sentinel} {
		if i := strings.Index(log, text); i >= 0 {
			t.Errorf("%s is in the log: …%s…", what, log[max(0, i-300):min(len(log), i+100)])
		}
	}
	for line := range strings.SplitSeq(strings.TrimSpace(log), "\n") {
		if !strings.HasPrefix(line, "time=") || strings.ContainsAny(line, "\x1b\u202e") {
			t.Errorf("a line that is not the logger's own: %q", line)
		}
	}
}

// Serve's own log, of what never became a request, quotes too.
func TestSlogQuotesWhatPeopleSend(t *testing.T) {
	var b bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&b, nil), slog.NewJSONHandler(&b, nil)} {
		slog.New(handler).Error("x", "path", "a\nlevel=ERROR\x1b[2J\u202e")
		if s := strings.TrimSuffix(b.String(), "\n"); strings.ContainsAny(s, "\n\x1b") {
			t.Errorf("%q", s)
		}
		b.Reset()
	}
}
