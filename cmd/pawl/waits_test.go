package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/examples/waits"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

var nextLine = regexp.MustCompile(`(?m)^next +(.*)$`)

// words takes a command line apart as a shell does.
func words(line string) (all []string) {
	for _, m := range regexp.MustCompile(`'((?:[^']|'\\'')*)'|(\S+)`).FindAllStringSubmatch(line, -1) {
		all = append(all, strings.ReplaceAll(m[1], `'\''`, "'")+m[2])
	}
	return all
}

// A person who never saw pawl reads --help, starts a run, sees why it waits, types what it says
// there, and sees the result.
func TestANewcomerAnswersWhatWaits(t *testing.T) {
	newcomer := func(t *testing.T, args ...string) {
		env := environment{"USER": "ada", "PAWL_SECRET": strings.Repeat("x", 40)}
		url, _ := dev(t, env, args...)
		at := func(args ...string) result {
			return pawlWith(t, environment{"USER": "ada", "PAWL_SERVER": url}, "", args...)
		}
		client, err := api.NewClient(url, nil)
		if err != nil {
			t.Fatal(err)
		}
		at("--help").want(t, 0, "pawl start WORKFLOW", "pawl runs show RUN", "pawl runs result RUN", "approve")
		at("workflows", "list").want(t, 0, waits.WebhookDemo, waits.ApprovalDemo, "content-pipeline")
		for _, c := range []struct{ workflow, input, next, answer, result string }{
			{waits.WebhookDemo, "null", "curl -d TEXT ", "hello you", `"words": 2`},
			{waits.ApprovalDemo, `{"text":"Tea at five"}`, "pawl approve ", "", `"by": "ada"`},
			{"content-pipeline", `{"topic":"knots","audience":"sailors"}`, "pawl signal ", `{"approved":true}`, `"status": "published"`},
		} {
			id := strings.TrimSpace(at("start", c.workflow, "--input", c.input, "-q").want(t, 0).stdout)
			until(t, client, id, pawl.Waiting)
			at("runs", "list").want(t, 0, "pawl runs show "+id)
			shown := at("runs", "show", id).want(t, 0, "why", "next")
			m := nextLine.FindStringSubmatch(shown.stdout)
			if m == nil || !strings.HasPrefix(m[1], c.next) {
				t.Fatalf("%s: no next step as %s in %s", c.workflow, c.next, shown.stdout)
			}
			line := words(m[1])
			for i, word := range line {
				if word == "TEXT" || word == "JSON" {
					line[i] = c.answer
				}
			}
			if line[0] == "curl" {
				if !strings.Contains(shown.stdout, line[3]) || !strings.HasPrefix(line[3], url) {
					t.Fatalf("the URL %s", line)
				}
				res, err := http.Post(line[3], "text/plain", strings.NewReader(line[2]))
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(res.Body)
				if res.Body.Close(); res.StatusCode != 200 || string(body) != "thank you\n" {
					t.Errorf("%d %s", res.StatusCode, body)
				}
			} else {
				at(line[1:]...).want(t, 0)
			}
			at("runs", "result", id, "--wait", "--timeout", "30s").want(t, 0, c.result)
		}
	}
	t.Run("sqlite", func(t *testing.T) { newcomer(t, "--store", filepath.Join(t.TempDir(), "pawl.db")) })
	t.Run("postgres", func(t *testing.T) { newcomer(t, "--store", pgtest.URL(t)) })
}

// The token of a webhook is the same after a restart: its secret lies beside the store.
func TestDevKeepsItsSecret(t *testing.T) {
	store, address := filepath.Join(t.TempDir(), "pawl.db"), freeAddress(t)
	var urls []string
	for i := range 2 {
		url, stop := dev(t, environment{}, "--store", store, "--listen", address)
		if i == 0 {
			pawlAt(t, url, "start", waits.WebhookDemo, "--id", "w").want(t, 0)
		}
		client, err := api.NewClient(url, nil)
		if err != nil {
			t.Fatal(err)
		}
		until(t, client, "w", pawl.Waiting)
		urls = append(urls, pawlAt(t, url, "hooks", "list", "w", "--jq", ".items[0].url").want(t, 0).stdout)
		stop()
	}
	if urls[0] != urls[1] || !strings.Contains(urls[0], pawl.WebhookPath) {
		t.Errorf("%q", urls)
	}
	url, _ := dev(t, environment{}, "--store", ":memory:")
	pawlAt(t, url, "start", waits.WebhookDemo).want(t, 0)
	pawlWith(t, environment{"PAWL_WEBHOOKS": "{a: {scheme: nonsense}}"}, "", "dev", "--store", ":memory:", "--listen", "127.0.0.1:0").want(t, 2, "webhooks: a")
}

// Deliveries have the ids that their senders gave them, and no others: two equal requests of a
// sender that gives none are two.
func TestSecretsOfWebhooks(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var w webhookSecrets
	if err := w.UnmarshalText([]byte("{gh: {scheme: github, secretFiles: [" + key + "]}, plain: {scheme: hmac, secrets: [old, hush], header: X-Sig}, pay: {scheme: stripe, secrets: [hush]}}")); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"{gh: {scheme: github, secrets: hush-hush}}", "{gh: {scheme: github, secret: hush-hush}}", "hush-hush"} { // what was read is in no error
		if err := new(webhookSecrets).UnmarshalText([]byte(wrong)); err == nil || strings.Contains(err.Error(), "hush-hush") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
	if s := fmt.Sprint(w); s != "gh: github, pay: stripe, plain: hmac" {
		t.Errorf("%s", s)
	}
	verify, err := w.verify()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	sign := func(text string) string {
		mac := hmac.New(sha256.New, []byte("hush"))
		mac.Write([]byte(text))
		return hex.EncodeToString(mac.Sum(nil))
	}
	body := `{"id":"evt_1","n":1}`
	stamp := fmt.Sprint(now.Unix())
	for _, c := range []struct {
		scheme, name string
		header       map[string]string
		id           string
		err          error
	}{
		{"github", "gh", map[string]string{"X-Hub-Signature-256": "sha256=" + sign(body), "X-Github-Delivery": "d1"}, "d1", nil},
		{"hmac", "plain", map[string]string{"X-Sig": sign(body)}, "", nil},
		{"stripe", "pay", map[string]string{"Stripe-Signature": "t=" + stamp + ",v1=" + sign(stamp+"."+body)}, "evt_1", nil},
		{"github", "none", nil, "", pawl.ErrNotFound},
		{"github", "pay", nil, "", pawl.ErrState},
	} {
		h := http.Header{}
		for name, value := range c.header {
			h.Set(name, value)
		}
		if id, err := verify(c.scheme, c.name, h, []byte(body), now); id != c.id || !errors.Is(err, c.err) {
			t.Errorf("%s %s: %q %v", c.scheme, c.name, id, err)
		}
		if c.err == nil {
			if _, err := verify(c.scheme, c.name, h, []byte(body+" "), now); err == nil {
				t.Errorf("%s: another body passes", c.scheme)
			}
		}
	}
	file := filepath.Join(dir, "pawl.yaml")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.WriteFile(file, []byte(text), mode), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
	}
	show := func() result { return pawlWith(t, environment{}, "", "config", "show", "--config", file, "--origin") }
	write("webhooks: {gh: {scheme: github, secrets: [hush]}}\ntrustForwarded: true\n", 0o644)
	show().want(t, 2, "chmod 600")
	write("webhooks: {gh: {scheme: github, secrets: [hush]}}\ntrustForwarded: true\n", 0o600)
	if r := show().want(t, 0, "gh: github", "pawl.yaml:1"); strings.Contains(r.stdout, "hush") || !regexp.MustCompile(`(?m)^trustForwarded +true `).MatchString(r.stdout) {
		t.Errorf("a secret shows, or trustForwarded does not: %s", r.stdout)
	}
	write("webhooks: {gh: {scheme: github, secretFiles: ["+key+"]}}\n", 0o644)
	show().want(t, 0, "gh: github")
	for text, want := range map[string]string{
		"webhooks: {gh: {scheme: no, secrets: [hush]}}":          "webhooks: gh",
		"webhooks: {gh: {scheme: github}}":                       "webhooks: gh",
		"webhooks: {gh: {scheme: github, secret: hush}}":         "field secret not found",
		"webhooks: {gh: {scheme: github, secretFiles: [/none]}}": "/none",
	} {
		write(text+"\n", 0o600)
		show().want(t, 2, want)
	}
}

func TestHooksAreSentToByKey(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		pawlAt(t, h.url, "start", "hooks", "--id", "h").want(t, 0)
		until(t, h.client, "h", pawl.Waiting)
		key := strings.TrimSpace(pawlAt(t, h.url, "hooks", "list", "h", "-o", "name").want(t, 0).stdout)
		pawlAt(t, h.url, "hooks", "list").want(t, 0, key, "code", "for")
		pawlAt(t, h.url, "hooks", "list", "--kind", "webhook").want(t, 0, "no run has a live hook")
		shown := pawlAt(t, h.url, "runs", "show", "h").want(t, 0, "pawl hooks send h")
		token := pawlAt(t, h.url, "hooks", "list", "h", "--jq", ".items[0].token").want(t, 0).stdout
		if strings.Contains(shown.stdout+shown.stderr, strings.TrimSpace(token)) {
			t.Errorf("the token shows: %s", shown.stdout)
		}
		if r := pawlAt(t, h.url, "__complete", "hooks", "send", "h", ""); !strings.Contains(r.stdout, key) {
			t.Errorf("completion: %s", r.stdout)
		}
		pawlAt(t, h.url, "hooks", "send", "h", "none").want(t, 3)
		pawlAt(t, h.url, "hooks", "send", "h", key, "-d", `{"a":1}`).want(t, 0, "h", "runs follow h")
		pawlAt(t, h.url, "runs", "result", "h", "--wait").want(t, 0, `"a": 1`)
		pawlAt(t, h.url, "hooks", "send", "h", key).want(t, 5)
	}, testWorkflows()...)
}

func TestApprovalsAreDecided(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		at := func(args ...string) result {
			return pawlWith(t, environment{"PAWL_SERVER": h.url, "USER": "ada"}, "", args...)
		}
		at("approvals", "list").want(t, 0, "no approval is pending")
		for _, id := range []string{"p1", "p2", "q"} {
			at("start", waits.ApprovalDemo, "--id", id, "-i", `{"text":"Tea"}`).want(t, 0)
			until(t, h.client, id, pawl.Waiting)
		}
		at("approvals", "list").want(t, 0, "p1/hang", "p2/hang", "Hang up this poster?", "pawl approve p1/hang")
		if r := at("approvals", "list", "--run", "q", "-o", "name").want(t, 0); r.stdout != "q/hang\n" {
			t.Errorf("%q", r.stdout)
		}
		at("approvals", "show", "q").want(t, 0, "Tea", "place", "door kitchen", "pawl approve q/hang", "pawl reject q/hang")
		at("approvals", "show", "q", "--history", "--jq", ".history[0].what").want(t, 0, "asked")
		at("approvals", "show", "none").want(t, 3, "approvals list")
		at("approve", "p").want(t, 2, "type more of it", "pawl approve p1/hang", "pawl approve p2/hang")
		at("approve", "q", "--field", "plac=door").want(t, 2, `did you mean "place"`)
		at("approve", "q", "--field", "place").want(t, 2, "name=value")
		at("approve", "q", "--field", "place=roof").want(t, 2, "place", "approvals show q")
		at("approve", "q", "--field", "place=kitchen", "--comment", "fine", "--by", "bo").want(t, 0, "q/hang approved", "runs follow q")
		at("runs", "result", "q", "--wait").want(t, 0, `"place": "kitchen"`, `"by": "bo"`)
		at("approve", "q/hang").want(t, 5, "bo", "approvals show q/hang")
		at("reject", "p1", "--comment", "no wall").want(t, 0, "p1/hang rejected")
		at("runs", "result", "p1", "--wait").want(t, 0, `"hung": false`, "no wall")
		at("approvals", "list", "--state", "decided").want(t, 0, "approved", "rejected", "ada", "bo")
		at("approvals", "list", "--state", "some").want(t, 2)
		if r := at("__complete", "approve", ""); !strings.Contains(r.stdout, "p2/hang") {
			t.Errorf("completion: %s", r.stdout)
		}
		at("approve", "p2", "-o", "json").want(t, 0, `"approved"`)
	}, waits.NewApproval())
}

// Where keys are asked for, who decides is whom the key is named for.
func TestAKeyDecidesInItsOwnName(t *testing.T) {
	dir := t.TempDir()
	url, _ := serving(t, environment{}, "--store", filepath.Join(dir, "pawl.db"))
	admin := environment{"PAWL_SERVER": url, "PAWL_API_KEY_FILE": filepath.Join(dir, "pawl.db.admin-key"), "USER": "eve"}
	file := filepath.Join(dir, "ann.key")
	pawlWith(t, admin, "", "keys", "create", "ann", "--scope", "runs:read,runs:start,approvals:decide,hooks:send", "--file", file).want(t, 0)
	ann := environment{"PAWL_SERVER": url, "PAWL_API_KEY_FILE": file, "USER": "eve"}
	pawlWith(t, ann, "", "start", waits.ApprovalDemo, "--id", "p", "-i", `{"text":"Tea"}`).want(t, 0)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if r := pawlWith(t, ann, "", "approvals", "list", "-o", "name"); r.stdout == "p/hang\n" {
			break
		} else if time.Now().After(end) {
			t.Fatal(r)
		}
	}
	pawlWith(t, ann, "", "approve", "p", "--by", "bo").want(t, 2, `"ann"`, "leave --by out")
	pawlWith(t, ann, "", "approve", "p").want(t, 0)
	pawlWith(t, ann, "", "runs", "result", "p", "--wait").want(t, 0, `"by": "ann"`)
	// Webhooks are known to servers that have a secret, and their URL to who may send.
	pawlWith(t, ann, "", "start", waits.WebhookDemo, "--id", "w").want(t, 0)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		r := pawlWith(t, ann, "", "runs", "show", "w")
		if strings.Contains(r.stdout, "curl -d TEXT "+url+pawl.WebhookPath) {
			break
		} else if time.Now().After(end) {
			t.Fatal(r)
		}
	}
}

func TestSchedules(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		at := func(args ...string) result { return pawlAt(t, h.url, args...) }
		at("schedules", "list").want(t, 0, "no schedules")
		at("schedules", "put", "daily", "--workflow", "echo", "-i", `{"n":1}`, "--cron", "0 9 * * MON-FRI", "--zone", "Europe/Berlin", "--attr", "team=red").want(t, 0, "09:00", "Europe/Berlin", "active")
		at("schedules", "put", "bad", "--workflow", "echo").want(t, 2, "cron")
		at("schedules", "put", "bad", "--cron", "@daily").want(t, 2, "--workflow")
		at("schedules", "put", "bad", "--workflow", "echo", "--at", "soon").want(t, 2, "--at")
		at("schedules", "put", "daily", "--workflow", "echo", "--cron", "@daily", "--if-match", `"1"`).want(t, 5, "schedules list")
		at("schedules", "list").want(t, 0, "daily", "echo", "active", "09:00")
		at("schedules", "list", "-o", "name").want(t, 0, "daily")
		at("schedules", "show", "daily", "--jq", ".attributes.team").want(t, 0, "red")
		if r := at("schedules", "next", "daily", "--limit", "3").want(t, 0); strings.Count(r.stdout, "\n") != 3 {
			t.Errorf("%s", r.stdout)
		}
		at("schedules", "occurrences", "daily").want(t, 0, "none has come yet")
		run := strings.Fields(at("schedules", "trigger", "daily", "--once", "today").want(t, 0, "started", "runs follow").stdout)[0]
		if again := strings.Fields(at("schedules", "trigger", "daily", "--once", "today").want(t, 0).stdout)[0]; again != run {
			t.Errorf("%s, then %s", run, again)
		}
		at("runs", "result", run, "--wait").want(t, 0, `"n": 1`)
		at("schedules", "occurrences", "daily").want(t, 0, run, "started", "hand")
		at("schedules", "pause", "daily", "--reason", "holidays").want(t, 0, "paused", "holidays")
		at("schedules", "resume", "daily").want(t, 0, "active")
		at("schedules", "delete", "daily").want(t, 0, "deleted")
		at("schedules", "delete", "daily").want(t, 3, "schedules list")
	}, testWorkflows()...)
}

func TestBudgets(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		at := func(args ...string) result { return pawlAt(t, h.url, args...) }
		at("budgets", "list").want(t, 0, "no budgets")
		at("budgets", "set", "b").want(t, 2, "--limit")
		at("budgets", "set", "b", "--limit", "much").want(t, 2, "0.50")
		at("budgets", "set", "b", "--limit", "2.5", "--workflow", "echo", "--per", "24h").want(t, 0, "workflow echo", "$2.500000")
		at("budgets", "set", "pages", "--limit", "7", "--meter", "pages", "--attr", "team=red").want(t, 0, "team=red", "7 pages")
		at("budgets", "topup", "b", "0.25").want(t, 0, "$2.750000")
		at("budgets", "topup", "pages", "3").want(t, 0, "10 pages")
		at("budgets", "topup", "none", "3").want(t, 3, "budgets list")
		at("budgets", "list").want(t, 0, "24h0m0s", "$2.750000", "10 pages")
		at("start", "echo", "--id", "e", "--budget", "0.5").want(t, 0)
		at("budgets", "list", "e", "-o", "json").want(t, 0, "500000")
		at("budgets", "delete", "b").want(t, 0)
		at("budgets", "delete", "b").want(t, 3)
	}, testWorkflows()...)
}

func TestPromptsAndWhatWasAsked(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		at := func(args ...string) result { return pawlAt(t, h.url, args...) }
		at("prompts", "list").want(t, 0, "no prompts")
		at("prompts", "put", "greet", "Hello {{name}}").want(t, 0, "greet 1", "prompts activate greet 1")
		at("prompts", "put", "greet", "Bye {{name}}").want(t, 0, "greet 2")
		at("prompts", "show", "greet", "--version", "2").want(t, 0, "Bye {{name}}")
		at("prompts", "activate", "greet", "1=90", "2=10", "--by", "ann").want(t, 0, "1=90 2=10", "ann")
		at("prompts", "activate", "greet", "x").want(t, 2)
		at("prompts", "activate", "greet", "1").want(t, 0, "1=1")
		at("prompts", "rollback", "greet").want(t, 0, "active  ", "1=90 2=10")
		at("prompts", "show", "none").want(t, 3, "prompts list")

		at("start", "asks", "--id", "a", "-i", `"Hello"`, "--wait").want(t, 0, "good day")
		at("asked", "a").want(t, 0, "greet", "good day", "pawl runs fork-asked a greet")
		at("asked", "a", "--full").want(t, 0, "user: Hello", "answer: good day")
		at("asked", "a", "-o", "jsonl").want(t, 0, `"request"`)
		at("runs", "fork-asked", "a", "greet").want(t, 2, "--prompt")
		at("runs", "fork-asked", "a", "greet", "--prompt", "Bye", "--id", "b").want(t, 0, "b ")
		at("runs", "result", "b", "--wait").want(t, 0, "farewell")
		at("backtest", "greet", "--prompt", "Bye").want(t, 2, "which runs?")
		at("backtest", "greet", "a", "--prompt", "Bye", "--wait").want(t, 0, "farewell")
		at("backtest", "greet", "a", "--prompt", "greet@2").want(t, 2, "--version")
		at("backtest", "greet", "a", "--prompt", "Bye", "--yes").want(t, 2, "decisions of flows")
		at("backtest", "greet", "--workflow", "asks", "--prompt", "Bye", "--wait", "--jq", ".result.asked").want(t, 0)
	}, asks()...)
}

func TestWatch(t *testing.T) {
	h := serve(t, testWorkflows()...)
	ended := make(chan result, 2)
	for _, args := range [][]string{{"watch", "--workflow", "waits", "--steps"}, {"watch", "--workflow", "waits", "-o", "json", "-q"}} {
		go func() { ended <- pawlAt(t, h.url, append(args, "--timeout", "3s")...) }()
	}
	for end := time.Now().Add(2500 * time.Millisecond); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		for _, workflow := range []string{"waits", "echo"} {
			if _, err := h.client.Start(t.Context(), api.StartRequest{Workflow: workflow}, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		r := (<-ended).want(t, 124, "waits", "waiting")
		if strings.Contains(r.stdout, "echo") {
			t.Errorf("what was not asked for: %s", r.stdout)
		}
		if strings.HasPrefix(r.stdout, "{") {
			for line := range strings.Lines(r.stdout) {
				if !json.Valid([]byte(line)) {
					t.Errorf("%s", line)
				}
			}
		}
	}
	pawlAt(t, h.url, "watch", "--state", "odd").want(t, 2)
}
