package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// Upstream's tests of hooks and webhooks, as the command line sees them: runs, their hooks and
// their journals.

// entries reads a run's journal, of some kinds if kinds are given.
func entries(t *testing.T, url, run string, kinds ...pawl.Kind) (out []pawl.Entry) {
	t.Helper()
	var list struct{ Items []pawl.Entry }
	r := pawlAt(t, url, "journal", run, "-o", "json").want(t, 0)
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil {
		t.Fatalf("%s: %v", r.stdout, err)
	}
	for _, e := range list.Items {
		for _, k := range kinds {
			if e.Kind == k {
				out = append(out, e)
			}
		}
	}
	return out
}

// hooksOf waits until a run has n hooks, and returns them.
func hooksOf(t *testing.T, url, run string, n int) []api.Hook {
	t.Helper()
	var list api.HookList
	var shown lockedBuffer
	eventually(t, func() bool {
		r := pawlAt(t, url, "hooks", "list", run, "-o", "json").want(t, 0)
		fmt.Fprint(&shown, r.stdout)
		list = api.HookList{}
		if err := json.Unmarshal([]byte(r.stdout), &list); err != nil {
			t.Fatalf("%s: %v", r.stdout, err)
		}
		return len(list.Items) == n
	}, &shown)
	return list.Items
}

// post calls a webhook.
func post(t *testing.T, to, body string) string {
	t.Helper()
	res, err := http.Post(to, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %q", res.StatusCode, data)
}

// taken is what a run says that took a payload.
type taken struct {
	Message             string `json:"message"`
	CustomData          string `json:"customData"`
	HookCleanupTestData string `json:"hookCleanupTestData"`
}

// taking is how a run comes by the token of its hook.
type taking struct {
	Token  string        `json:"token"`
	Data   string        `json:"customData"`
	Retain time.Duration `json:"retain"`
	Claim  bool          `json:"claim"`
}

// taker takes one payload from the hook with a token.
func taker() pawl.Definition {
	return pawl.Define("takes", func(c *pawl.Context, in taking) (taken, error) {
		opts := []pawl.HookOption{pawl.Token(in.Token), pawl.Meta(map[string]string{"customData": in.Data})}
		if in.Claim {
			opts[0] = pawl.ClaimToken(in.Token)
		}
		if in.Retain > 0 {
			opts = append(opts, pawl.Retain(in.Retain))
		}
		h, err := pawl.NewHook[taken](c, opts...)
		if err != nil {
			return taken{}, err
		}
		p, err := h.Wait(c)
		return taken{p.Message, in.Data, "workflow_completed"}, err
	})
}

func TestB1_055_067_hooksByCommandLine(t *testing.T) {
	eachStore(t, func(t *testing.T, h *house) {
		begin := func(id string, in taking) {
			t.Helper()
			data, err := json.Marshal(in)
			if err != nil {
				t.Fatal(err)
			}
			pawlAt(t, h.url, "start", "takes", "--id", id, "--input", string(data)).want(t, 0)
		}
		result := func(id string) string {
			t.Helper()
			return strings.TrimSpace(pawlAt(t, h.url, "runs", "result", id, "--wait", "--jq", ".result | tojson").want(t, 0).stdout)
		}
		// 055: no public webhook, and resumed all the same.
		begin("r55", taking{Token: "t-55", Data: "mine"})
		hook := hooksOf(t, h.url, "r55", 1)[0]
		same(t, "the hook", fmt.Sprint(hook.Token, hook.Public, hook.URL, string(hook.Meta)), `t-55false{"customData":"mine"}`)
		same(t, "by a webhook's address", post(t, h.url+pawl.WebhookPath+"t-55", `{"message":"public"}`), `404 ""`)
		pawlAt(t, h.url, "hooks", "send", "t-55", "--data", `{"message":"via-server"}`).want(t, 0, "r55")
		same(t, "result", result("r55"), `{"customData":"mine","hookCleanupTestData":"workflow_completed","message":"via-server"}`)
		same(t, "payloads", len(entries(t, h.url, "r55", pawl.KindPayload)), 1)

		// 059: its token is free for the next one.
		for _, id := range []string{"first", "second"} {
			begin(id, taking{Token: "t-59", Data: id})
			hooksOf(t, h.url, id, 1)
			pawlAt(t, h.url, "hooks", "send", "t-59", "--data", `{"message":"for `+id+`"}`).want(t, 0, id)
			same(t, id, result(id), `{"customData":"`+id+`","hookCleanupTestData":"workflow_completed","message":"for `+id+`"}`)
			same(t, "state", strings.TrimSpace(pawlAt(t, h.url, "runs", "show", id, "--jq", ".state").want(t, 0).stdout), "completed")
		}

		// 060: the second of two fails and names the first, which goes on.
		begin("owner", taking{Token: "t-60", Data: "owner"})
		hooksOf(t, h.url, "owner", 1)
		begin("loser", taking{Token: "t-60"})
		pawlAt(t, h.url, "runs", "result", "loser", "--wait").want(t, exitRunFailed, "already in use by run owner")
		r := pawlAt(t, h.url, "runs", "show", "loser", "--jq", `[.state, .error.code, .error.message] | join("; ")`).want(t, 0)
		same(t, "the loser", strings.TrimSpace(r.stdout), `failed; hook_conflict; hook token "t-60" is already in use by run owner`)
		made := entries(t, h.url, "loser", pawl.KindHook)
		if len(made) != 1 || !made[0].Failed {
			t.Errorf("the loser's journal: %+v", made)
		}
		pawlAt(t, h.url, "hooks", "send", "t-60", "--data", `{"message":"mine"}`).want(t, 0, "owner")
		same(t, "owner", result("owner"), `{"customData":"owner","hookCleanupTestData":"workflow_completed","message":"mine"}`)

		// 067: a retained token.
		begin("retains", taking{Token: "t-67", Retain: time.Minute})
		hooksOf(t, h.url, "retains", 1)
		pawlAt(t, h.url, "hooks", "send", "t-67", "--data", `{"message":"the last"}`).want(t, 0)
		result("retains")
		pawlAt(t, h.url, "hooks", "send", "t-67", "--data", `{"message":"late"}`).want(t, exitConflict, "ended")
		begin("late", taking{Token: "t-67"})
		r = pawlAt(t, h.url, "runs", "result", "late", "--wait", "--jq", ".error.message").want(t, exitRunFailed)
		same(t, "who wants it", strings.TrimSpace(r.stdout), `hook token "t-67" is already in use by run retains`)
		same(t, "payloads of the run that has ended", len(entries(t, h.url, "retains", pawl.KindPayload)), 1)

		// 071: a claim.
		begin("victim", taking{Token: "t-71"})
		hooksOf(t, h.url, "victim", 1)
		begin("claimer", taking{Token: "t-71", Claim: true})
		r = pawlAt(t, h.url, "runs", "result", "victim", "--wait", "--jq", ".error.message").want(t, exitRunFailed)
		if !strings.HasPrefix(r.stdout, `hook token "t-71" was claimed by run claimer: `) {
			t.Errorf("the victim: %s", r.stdout)
		}
		pawlAt(t, h.url, "hooks", "send", "t-71", "--data", `{"message":"after-takeover"}`).want(t, 0, "claimer")
		same(t, "claimer", result("claimer"), `{"customData":"","hookCleanupTestData":"workflow_completed","message":"after-takeover"}`)
		closed := entries(t, h.url, "victim", pawl.KindHookClosed)
		if len(closed) != 1 || !strings.Contains(string(closed[0].Data), `"claimedBy":{"run":"claimer"`) {
			t.Errorf("the victim's journal: %+v", closed)
		}

		// 079: resume or start.
		pawlAt(t, h.url, "hooks", "send", "t-79", "--data", "1").want(t, exitNotFound)
		begin("r79", taking{Token: "t-79"})
		var shown lockedBuffer
		eventually(t, func() bool {
			r := pawlAt(t, h.url, "hooks", "send", "t-79", "--data", `{"message":"delivered"}`)
			fmt.Fprint(&shown, r.stderr)
			return r.code == 0
		}, &shown)
		same(t, "079", result("r79"), `{"customData":"","hookCleanupTestData":"workflow_completed","message":"delivered"}`)
	}, taker())
}

// Webhooks, called at the URLs that the command line shows.
func TestB1_056_058_webhooksByCommandLine(t *testing.T) {
	type got struct{ Method, URL, Body string }
	three := pawl.Define("three", func(c *pawl.Context, _ any) (out []got, err error) {
		var hooks []*pawl.Webhook
		for _, opts := range [][]pawl.HookOption{nil, {pawl.Answering(pawl.Response{Status: 402, Body: []byte("Hello from static response!")})}, {pawl.RespondManually(0)}} {
			w, err := pawl.NewWebhook(c, opts...)
			if err != nil {
				return nil, err
			}
			hooks = append(hooks, w)
		}
		for i, w := range hooks {
			req, err := w.Wait(c)
			if err != nil {
				return nil, err
			}
			if i == 2 {
				if err := pawl.Do(c, "respond", func(ctx context.Context) error {
					return pawl.Respond(ctx, req, pawl.Response{Body: []byte("Hello from webhook!")})
				}); err != nil {
					return nil, err
				}
			}
			out = append(out, got{req.Method, req.URL, string(req.Body)})
		}
		return out, nil
	})
	const rounds = 10
	loop := pawl.Define("loop", func(c *pawl.Context, _ any) (out []string, err error) {
		for i := range rounds {
			double := func(name string) *pawl.Future[int] {
				return pawl.Go(c, name, func(c *pawl.Context) (int, error) {
					return pawl.Step(c, "double", func(context.Context) (int, error) { return 2 * i, nil })
				})
			}
			if _, err := pawl.All(c, double("left"), double("right")); err != nil {
				return nil, err
			}
			w, err := pawl.NewWebhook(c)
			if err != nil {
				return nil, err
			}
			req, err := w.Wait(c)
			if err != nil {
				return nil, err
			}
			out = append(out, string(req.Body))
		}
		return out, nil
	})
	eachStore(t, func(t *testing.T, h *house) {
		pawlAt(t, h.url, "start", "three", "--id", "r56").want(t, 0)
		hooks := hooksOf(t, h.url, "r56", 3)
		var want []got
		for i, answer := range []string{`202 ""`, `402 "Hello from static response!"`, `200 "Hello from webhook!"`} {
			to, body := hooks[i].URL, fmt.Sprintf(`{"message":"%d"}`, i)
			if !hooks[i].Public || hooks[i].Kind != "webhook" || !strings.HasPrefix(to, h.url+pawl.WebhookPath) {
				t.Errorf("webhook %d: %+v", i, hooks[i])
			}
			same(t, fmt.Sprint("webhook ", i), post(t, to, body), answer)
			want = append(want, got{"POST", to, body})
		}
		var received []got
		r := pawlAt(t, h.url, "runs", "result", "r56", "--wait", "--jq", ".result").want(t, 0)
		if err := json.Unmarshal([]byte(r.stdout), &received); err != nil {
			t.Fatalf("%s: %v", r.stdout, err)
		}
		same(t, "requests", received, want)

		pawlAt(t, h.url, "start", "loop", "--id", "r58").want(t, 0)
		for i := range rounds {
			hooks := hooksOf(t, h.url, "r58", i+1)
			same(t, fmt.Sprint("round ", i), post(t, hooks[i].URL, fmt.Sprint(i)), `202 ""`)
		}
		same(t, "bodies", strings.TrimSpace(pawlAt(t, h.url, "runs", "result", "r58", "--wait", "--jq", `.result | join("")`).want(t, 0).stdout), "0123456789")
		made := entries(t, h.url, "r58", pawl.KindHook)
		same(t, "hooks made", len(made), rounds)
		for _, e := range made {
			same(t, "a conflict at "+e.Key, e.Failed, false)
		}
		same(t, "steps", len(entries(t, h.url, "r58", pawl.KindStep)), 2*rounds)
	}, three, loop)
}

// A token that nobody has is registered, whatever else is under way.
func TestB1_061_063_hookRegisteredByCommandLine(t *testing.T) {
	release := make(chan struct{})
	registered := pawl.Define("registered", func(c *pawl.Context, token string) (string, error) {
		h, err := pawl.NewHook[any](c, pawl.Token(token))
		if err != nil {
			return "", err
		}
		return h.Token(), nil
	})
	prior := pawl.Define("prior", func(c *pawl.Context, token string) (string, error) {
		f := pawl.Go(c, "before", func(c *pawl.Context) (string, error) {
			return pawl.Step(c, "slow", func(ctx context.Context) (string, error) {
				select {
				case <-release:
					return token, nil
				case <-ctx.Done():
					return "", context.Cause(ctx)
				}
			})
		})
		if _, err := pawl.NewHook[any](c, pawl.Token(token)); err != nil {
			return "", err
		}
		return f.Wait(c)
	})
	eachStore(t, func(t *testing.T, h *house) {
		for _, c := range []struct {
			workflow, token string
			steps           int
		}{{"registered", "t-61", 0}, {"prior", "t-62", 1}} {
			pawlAt(t, h.url, "start", c.workflow, "--id", c.workflow, "--input", `"`+c.token+`"`).want(t, 0)
			if c.workflow == "prior" {
				same(t, "registered while the step is under way", hooksOf(t, h.url, "prior", 1)[0].Token, c.token)
				release <- struct{}{}
			}
			pawlAt(t, h.url, "runs", "result", c.workflow, "--wait").want(t, 0, c.token)
			made := entries(t, h.url, c.workflow, pawl.KindHook)
			if len(made) != 1 || made[0].Failed {
				t.Errorf("%s: hooks made %+v", c.workflow, made)
			}
			same(t, c.workflow+": steps and payloads", fmt.Sprint(len(entries(t, h.url, c.workflow, pawl.KindStep)), len(entries(t, h.url, c.workflow, pawl.KindPayload))), fmt.Sprint(c.steps, 0))
		}
	}, registered, prior)
}

// A controller that is aborted by the command line, and what its readers see.
func TestB1_085_distributedAbortByCommandLine(t *testing.T) {
	controller := pawl.Define("controller", func(c *pawl.Context, ttl time.Duration) (map[string]any, error) {
		h, err := pawl.NewHook[string](c, pawl.Token("abort:"+c.RunID()))
		if err != nil {
			return nil, err
		}
		reason, err := h.Wait(c, pawl.Timeout(ttl))
		expired := errors.Is(err, pawl.ErrTimeout)
		if expired {
			reason = "Controller expired"
		} else if err != nil {
			return nil, err
		}
		out := map[string]any{"type": "abort", "reason": reason, "expired": expired}
		return out, errors.Join(c.Stream("").Write(out), c.Stream("").Close())
	})
	eachStore(t, func(t *testing.T, h *house) {
		for range 2 { // who starts it again finds the same one
			pawlAt(t, h.url, "start", "controller", "--id", "a", "--input", fmt.Sprint(int64(time.Hour))).want(t, 0, "a")
		}
		hooksOf(t, h.url, "a", 1)
		pawlAt(t, h.url, "hooks", "send", "abort:a", "--data", `"User cancelled"`).want(t, 0)
		_, data := pawlAt(t, h.url, "stream", "a", "", "--follow", "-o", "jsonl").want(t, 0).chunks(t)
		same(t, "aborted", data, `[{"expired":false,"reason":"User cancelled","type":"abort"}]`)
		pawlAt(t, h.url, "start", "controller", "--id", "b", "--input", fmt.Sprint(int64(200*time.Millisecond))).want(t, 0)
		_, data = pawlAt(t, h.url, "stream", "b", "", "--follow", "-o", "jsonl").want(t, 0).chunks(t)
		same(t, "expired", data, `[{"expired":true,"reason":"Controller expired","type":"abort"}]`)
	}, controller)
}
