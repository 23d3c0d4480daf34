package api_test

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

// Upstream's tests of hooks, asked of a real server by the Go client; what a workflow asks of the
// outside, its steps ask of the same server.

type message struct {
	Message string `json:"message"`
	Done    *bool  `json:"done,omitempty"`
}

// hooked waits until a token is registered.
func (h *house) hooked(token string) (hook api.Hook) {
	h.t.Helper()
	h.eventually("the hook "+token, func() bool {
		var err error
		hook, err = h.client.Hook(h.t.Context(), token)
		if err != nil && !errors.Is(err, pawl.ErrNotFound) {
			h.t.Fatal(err)
		}
		return err == nil
	})
	return hook
}

// eventually waits for what must come true.
func (h *house) eventually(what string, cond func() bool) {
	h.t.Helper()
	for end := time.Now().Add(20 * time.Second); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (h *house) sendHook(token, body string) api.Accepted {
	h.t.Helper()
	got, err := h.client.SendHook(h.t.Context(), token, json.RawMessage(body))
	if err != nil {
		h.t.Fatalf("send to %s: %v", token, err)
	}
	return got
}

// startAs starts a run with a token as its input.
func (h *house) startAs(workflow, token string) string {
	h.t.Helper()
	return h.start(workflow, fmt.Sprintf("%q", token))
}

// result waits for what a run that must complete returns.
func (h *house) result(id string) string {
	h.t.Helper()
	run, err := h.client.Run(h.t.Context(), id, 20*time.Second)
	if err != nil || run.State != pawl.Completed {
		h.t.Fatalf("run %s is %s: %v %v", id, run.State, run.Error, err)
	}
	return string(run.Result)
}

// failure waits for how a run ends that must not complete.
func (h *house) failure(id string) api.Run {
	h.t.Helper()
	run, err := h.client.Run(h.t.Context(), id, 20*time.Second)
	if err != nil || run.Error == nil {
		h.t.Fatalf("run %s is %s with %s, and should have failed: %v", id, run.State, run.Result, err)
	}
	return run
}

// entries reads a run's journal, of some kinds if kinds are given.
func (h *house) entries(id string, kinds ...pawl.Kind) (out []pawl.Entry) {
	h.t.Helper()
	for e, err := range h.client.Journal(h.t.Context(), id) {
		if err != nil {
			h.t.Fatal(err)
		}
		for _, k := range kinds {
			if e.Kind == k {
				out = append(out, e)
			}
		}
		if kinds == nil {
			out = append(out, e)
		}
	}
	return out
}

// takesOne takes one payload from the hook with a token.
func takesOne(opts ...pawl.HookOption) pawl.Definition {
	return pawl.Define("takesOne", func(c *pawl.Context, token string) (message, error) {
		h, err := pawl.NewHook[message](c, append([]pawl.HookOption{pawl.Token(token)}, opts...)...)
		if err != nil {
			return message{}, err
		}
		return h.Wait(c)
	})
}

// takesAll takes payloads until one says that it is the last.
func takesAll() pawl.Definition {
	return pawl.Define("takesAll", func(c *pawl.Context, token string) (out []message, err error) {
		h, err := pawl.NewHook[message](c, pawl.Token(token), pawl.Meta(map[string]string{"customData": "mine"}))
		if err != nil {
			return nil, err
		}
		for m, err := range h.All(c) {
			if err != nil {
				return nil, err
			}
			if out = append(out, m); m.Done != nil {
				break
			}
		}
		return out, nil
	})
}

func TestB1_054_hookOverHTTP(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.startAs("takesAll", "t-54")
		hook := h.hooked("t-54")
		same(t, "hook", hook.Run+" "+string(hook.Meta), id+` {"customData":"mine"}`)
		_, err := h.client.Hook(t.Context(), "invalid")
		var p *api.Problem
		if !errors.As(err, &p) || p.Status != 404 || p.Code != "not_found" {
			t.Errorf("an invalid token: %v", err)
		}
		if _, err := h.client.SendHook(t.Context(), "invalid", json.RawMessage(`{}`)); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("a payload for an invalid token: %v", err)
		}
		for _, body := range []string{`{"message":"one"}`, `{"message":"two"}`, `{"message":"three","done":true}`} {
			same(t, "the run", h.sendHook("t-54", body).Run, id)
		}
		same(t, "payloads", h.result(id), `[{"message":"one"},{"message":"two"},{"message":"three","done":true}]`)
	}, takesAll())
}

func TestB1_055_hookIsNotPublicOverHTTP(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.startAs("takesOne", "t-55")
		same(t, "public", h.hooked("t-55").Public, false)
		r := h.send("POST", pawl.WebhookPath+"t-55", `{"message":"by the public address"}`)
		same(t, "the public address", fmt.Sprintf("%d %q", r.status, r.body), `404 ""`)
		h.sendHook("t-55", `{"message":"via-server"}`)
		same(t, "payload", h.result(id), `{"message":"via-server"}`)
		same(t, "payloads", len(h.entries(id, pawl.KindPayload)), 1)
	}, takesOne())
}

func TestB1_056_webhooksAreListedOverHTTP(t *testing.T) {
	type got struct {
		Method, URL, Body string
		Mine              []string
	}
	def := pawl.Define("three", func(c *pawl.Context, _ any) (out []got, err error) {
		var hooks []*pawl.Webhook
		for _, opts := range [][]pawl.HookOption{nil, {pawl.Answering(pawl.Response{Status: 402, Header: http.Header{"X-Static": {"1", "2"}}, Body: []byte("Hello from static response!")})}, {pawl.RespondManually(0)}} {
			h, err := pawl.NewWebhook(c, opts...)
			if err != nil {
				return nil, err
			}
			hooks = append(hooks, h)
		}
		for i, h := range hooks {
			req, err := h.Wait(c)
			if err != nil {
				return nil, err
			}
			if i == 2 {
				if err := pawl.Do(c, "respond", func(ctx context.Context) error {
					return pawl.Respond(ctx, req, pawl.Response{Header: http.Header{"X-Manual": {"3"}}, Body: []byte("Hello from webhook!")})
				}); err != nil {
					return nil, err
				}
			}
			out = append(out, got{req.Method, strings.ReplaceAll(req.URL, h.Token(), "TOKEN"), string(req.Body), req.Header.Values("X-Mine")})
		}
		return out, nil
	})
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.start("three", "null")
		h.until(id, pawl.Waiting)
		list, err := h.client.Hooks(t.Context(), id)
		if err != nil || len(list.Items) != 3 {
			t.Fatalf("hooks: %+v %v", list, err)
		}
		var want []got
		for i, answer := range []string{`202 ""`, `402 "Hello from static response!"`, `200 "Hello from webhook!"`} {
			hook := list.Items[i]
			same(t, "public and kind", fmt.Sprintf("%v %s", hook.Public, hook.Kind), "true webhook")
			body := fmt.Sprintf(`{"message":"%d"}`, i)
			same(t, "its URL", hook.URL, h.url+pawl.WebhookPath+hook.Token)
			r := h.send("POST", pawl.WebhookPath+hook.Token+fmt.Sprint("?n=", i), body, func(r *http.Request) { r.Header["X-Mine"] = []string{"a", fmt.Sprint(i)} })
			same(t, fmt.Sprint("webhook ", i), fmt.Sprintf("%d %q", r.status, r.body), answer)
			same(t, "headers of the answer", fmt.Sprint(r.header.Values("X-Static"), r.header.Values("X-Manual")), []string{"[] []", "[1 2] []", "[] [3]"}[i])
			want = append(want, got{"POST", h.url + pawl.WebhookPath + "TOKEN" + fmt.Sprint("?n=", i), body, []string{"a", fmt.Sprint(i)}})
		}
		data, err := json.Marshal(want)
		same(t, "requests", h.result(id), string(data))
		if err != nil {
			t.Error(err)
		}
	}, def)
}

func TestB1_057_unknownWebhookOverHTTP(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} {
			r := h.send(method, pawl.WebhookPath+"invalid", "")
			same(t, method, fmt.Sprintf("%d %q", r.status, r.body), `404 ""`)
		}
	})
}

// B1_058: the events of the run, as a client reads them.
func TestB1_058_hooksOfALoopOverHTTP(t *testing.T) {
	const rounds = 10
	def := pawl.Define("loop", func(c *pawl.Context, _ any) (out []string, err error) {
		for i := range rounds {
			double := func(name string) *pawl.Future[int] {
				return pawl.Go(c, name, func(c *pawl.Context) (int, error) {
					return pawl.Step(c, "double", func(context.Context) (int, error) { return 2 * i, nil })
				})
			}
			if _, err := pawl.All(c, double("left"), double("right")); err != nil {
				return nil, err
			}
			h, err := pawl.NewWebhook(c)
			if err != nil {
				return nil, err
			}
			req, err := h.Wait(c)
			if err != nil {
				return nil, err
			}
			out = append(out, string(req.Body))
		}
		return out, nil
	})
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.start("loop", "null")
		for i := range rounds {
			var list api.HookList
			h.eventually(fmt.Sprint("webhook ", i), func() (ok bool) {
				var err error
				if list, err = h.client.Hooks(t.Context(), id); err != nil {
					t.Fatal(err)
				}
				return len(list.Items) == i+1
			})
			r := h.send("POST", pawl.WebhookPath+list.Items[i].Token, fmt.Sprint(i))
			same(t, fmt.Sprint("round ", i), fmt.Sprintf("%d %q", r.status, r.body), `202 ""`)
		}
		same(t, "result", h.result(id), `["0","1","2","3","4","5","6","7","8","9"]`)
		made := h.entries(id, pawl.KindHook)
		same(t, "hooks made", len(made), rounds)
		for _, e := range made {
			same(t, "conflict at "+e.Key, e.Failed, false)
		}
		same(t, "steps", len(h.entries(id, pawl.KindStep)), 2*rounds)
	}, def)
}

func TestB1_059_hookCleanupOverHTTP(t *testing.T) {
	type cleanup struct {
		Message    string `json:"message"`
		CustomData string `json:"customData"`
		Test       string `json:"hookCleanupTestData"`
	}
	def := pawl.Define("cleanup", func(c *pawl.Context, custom string) (cleanup, error) {
		h, err := pawl.NewHook[cleanup](c, pawl.Token("t-59"), pawl.Meta(custom))
		if err != nil {
			return cleanup{}, err
		}
		p, err := h.Wait(c)
		return cleanup{p.Message, custom, "workflow_completed"}, err
	})
	eachHouse(t, func(t *testing.T, h *house) {
		for _, data := range []string{"first", "second"} {
			id := h.startAs("cleanup", data)
			hook := h.hooked("t-59")
			same(t, "owner and metadata", hook.Run+" "+string(hook.Meta), fmt.Sprintf("%s %q", id, data))
			h.sendHook("t-59", fmt.Sprintf(`{"message":"for %s"}`, data))
			same(t, "result", h.result(id), fmt.Sprintf(`{"message":"for %s","customData":%q,"hookCleanupTestData":"workflow_completed"}`, data, data))
		}
		if _, err := h.client.SendHook(t.Context(), "t-59", nil); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("after the end: %v", err)
		}
	}, def)
}

func TestB1_060_hookConflictOverHTTP(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		owner := h.startAs("takesOne", "t-60")
		h.hooked("t-60")
		loser := h.failure(h.startAs("takesOne", "t-60"))
		var conflict *pawl.HookConflictError
		if err := error(&pawl.Failure{Cause: loser.Error}); !errors.As(err, &conflict) {
			t.Fatalf("a client can't see the conflict in %+v", loser.Error)
		}
		same(t, "conflict", *conflict, pawl.HookConflictError{Token: "t-60", RunID: owner})
		if loser.State != pawl.Failed || loser.Error.Code != "hook_conflict" || !strings.Contains(loser.Error.Message, "already in use by") {
			t.Errorf("the loser: %s %+v", loser.State, loser.Error)
		}
		h.sendHook("t-60", `{"message":"for the owner"}`)
		same(t, "the owner", h.result(owner), `{"message":"for the owner"}`)
	}, takesOne())
}

// B1_061 to B1_063: a token that nobody has is registered, whatever else is under way.
func TestB1_061_063_hookRegisteredOverHTTP(t *testing.T) {
	running, release := make(chan struct{}, 10), make(chan struct{}, 10)
	registered := pawl.Define("registered", func(c *pawl.Context, token string) (string, error) {
		h, err := pawl.NewHook[any](c, pawl.Token(token))
		if err != nil {
			return "", err
		}
		return "registered " + h.Token(), nil
	})
	prior := pawl.Define("prior", func(c *pawl.Context, token string) (string, error) {
		f := pawl.Go(c, "prior", func(c *pawl.Context) (string, error) {
			return pawl.Step(c, "slow", func(ctx context.Context) (string, error) {
				running <- struct{}{}
				select {
				case <-release:
				case <-ctx.Done():
					return "", context.Cause(ctx)
				}
				return "prior step completed", nil
			})
		})
		if _, err := pawl.NewHook[any](c, pawl.Token(token)); err != nil {
			return "", err
		}
		return f.Wait(c)
	})
	parallel := pawl.Define("parallel", func(c *pawl.Context, token string) ([]string, error) {
		return pawl.All(c,
			pawl.Go(c, "work", func(c *pawl.Context) (string, error) {
				return pawl.Step(c, "step", func(context.Context) (string, error) { return "step", nil })
			}),
			pawl.Go(c, "claim", func(c *pawl.Context) (string, error) {
				h, err := pawl.NewHook[any](c, pawl.Token(token))
				if err != nil {
					return "", err
				}
				return h.Token(), nil
			}))
	})
	eachHouse(t, func(t *testing.T, h *house) {
		for _, c := range []struct {
			workflow, token, want string
			steps                 int
		}{
			{"registered", "t-61", `"registered t-61"`, 0},
			{"prior", "t-62", `"prior step completed"`, 1},
			{"parallel", "t-63", `["step","t-63"]`, 1},
		} {
			id := h.startAs(c.workflow, c.token)
			if c.workflow == "prior" {
				<-running
				same(t, "registered while the step is under way", h.hooked(c.token).Run, id)
				release <- struct{}{}
			}
			same(t, c.workflow, h.result(id), c.want)
			made := h.entries(id, pawl.KindHook)
			if len(made) != 1 || made[0].Failed {
				t.Errorf("%s: hooks made %+v", c.workflow, made)
			}
			same(t, c.workflow+": payloads", len(h.entries(id, pawl.KindPayload)), 0)
			same(t, c.workflow+": steps", len(h.entries(id, pawl.KindStep)), c.steps)
		}
	}, registered, prior, parallel)
}

// loses claims a token; if another run has it, a step asks the server for what lose says.
func loses(server **api.Client, lose func(ctx context.Context, c *api.Client, owner, token string) (string, error)) pawl.Definition {
	return pawl.Define("contender", func(c *pawl.Context, token string) (string, error) {
		for {
			h, err := pawl.NewHook[message](c, pawl.Token(token))
			if err == nil {
				m, err := h.Wait(c)
				return m.Message, err
			}
			var conflict *pawl.HookConflictError
			if !errors.As(err, &conflict) {
				return "", err
			}
			out, err := pawl.Step(c, "lose", func(ctx context.Context) (string, error) { return lose(ctx, *server, conflict.RunID, token) })
			if err != nil || out != "again" {
				return out, err
			}
		}
	})
}

func TestB1_065_070_whoLosesATokenOverHTTP(t *testing.T) {
	for _, row := range []struct {
		name string
		lose func(ctx context.Context, c *api.Client, owner, token string) (string, error)
		then func(h *house, owner, loser string)
	}{
		{"065 learns the owner and its state", func(ctx context.Context, c *api.Client, owner, _ string) (string, error) {
			run, err := c.Run(ctx, owner, 0)
			return fmt.Sprint(run.ID, " is ", run.State), err
		}, func(h *house, owner, loser string) {
			same(h.t, "loser", h.result(loser), fmt.Sprintf("%q", owner+" is waiting"))
			h.sendHook("token", `{"message":"unaffected"}`)
			same(h.t, "owner", h.result(owner), `"unaffected"`)
		}},
		{"068 takes over the owner's result", func(ctx context.Context, c *api.Client, owner, _ string) (out string, err error) {
			run, err := c.Run(ctx, owner, time.Minute)
			if err != nil {
				return "", err
			}
			return out, json.Unmarshal(run.Result, &out)
		}, func(h *house, owner, loser string) {
			h.eventually("the loser's conflict", func() bool {
				made := h.entries(loser, pawl.KindHook)
				return len(made) == 1 && made[0].Failed
			})
			h.sendHook("token", `{"message":"the one result"}`)
			same(h.t, "both", h.result(owner)+h.result(loser), `"the one result""the one result"`)
		}},
		{"069 passes its payload on to the owner", func(ctx context.Context, c *api.Client, _, token string) (string, error) {
			_, err := c.SendHook(ctx, token, json.RawMessage(`{"message":"forwarded-from-duplicate"}`))
			return "duplicate", err
		}, func(h *house, owner, loser string) {
			same(h.t, "loser and owner", h.result(loser)+h.result(owner), `"duplicate""forwarded-from-duplicate"`)
		}},
		{"070 cancels the owner and takes the token", func(ctx context.Context, c *api.Client, owner, _ string) (string, error) {
			if _, err := c.Cancel(ctx, owner, "superseded"); err != nil && !errors.Is(err, pawl.ErrEnded) {
				return "", err
			}
			_, err := c.Run(ctx, owner, time.Minute)
			return "again", err
		}, func(h *house, owner, loser string) {
			same(h.t, "the old owner", h.failure(owner).State, pawl.Cancelled)
			h.eventually("the token to change hands", func() bool { return h.hooked("token").Run == loser })
			h.sendHook("token", `{"message":"post-supersede"}`)
			same(h.t, "the new one", h.result(loser), `"post-supersede"`)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			var client *api.Client // of the house that is open: stores are tried one after the other
			eachHouse(t, func(t *testing.T, h *house) {
				client = h.client
				owner := h.startAs("contender", "token")
				h.hooked("token")
				h.until(owner, pawl.Waiting)
				row.then(h, owner, h.startAs("contender", "token"))
			}, loses(&client, row.lose))
		})
	}
}

func TestB1_067_hookMinRetentionOverHTTP(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		owner := h.startAs("takesOne", "t-67")
		h.hooked("t-67")
		h.sendHook("t-67", `{"message":"the last"}`)
		h.result(owner)
		before := len(h.entries(owner))
		if _, err := h.client.SendHook(t.Context(), "t-67", json.RawMessage(`{"message":"late"}`)); !errors.Is(err, pawl.ErrEnded) {
			t.Errorf("a payload for a retained token: %v", err)
		}
		h.refused(410, "ended", "GET", "/api/hooks/t-67", "")
		loser := h.failure(h.startAs("takesOne", "t-67"))
		if loser.Error.Code != "hook_conflict" || !strings.Contains(loser.Error.Message, owner) {
			t.Errorf("a second owner: %+v", loser.Error)
		}
		same(t, "the owner's state", h.until(owner, pawl.Completed).State, pawl.Completed)
		same(t, "its entries", len(h.entries(owner)), before)
	}, takesOne(pawl.Retain(time.Minute)))
}

func TestB1_079_resumeOrStartOverHTTP(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		deliver := func() error {
			_, err := h.client.SendHook(t.Context(), "t-79", json.RawMessage(`{"message":"delivered"}`))
			if err != nil && !errors.Is(err, pawl.ErrNotFound) {
				t.Fatal(err)
			}
			return err
		}
		if deliver() == nil {
			t.Error("a payload was taken before there was a run")
		}
		id := h.startAs("takesOne", "t-79")
		h.eventually("the payload to be taken", func() bool { return deliver() == nil })
		same(t, "payload", h.result(id), `{"message":"delivered"}`)
	}, takesOne())
}

// B1_084: the server's route is plain HTTP: what any program can send is enough.
func TestB1_084_plainHTTPDoesTheHook(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.startAs("takesOne", "t-84")
		h.hooked("t-84")
		for token, want := range map[string]int{"wrong": 404, "t-84": 202} {
			res, err := http.Post(h.url+"/api/hooks/"+token, "text/plain", strings.NewReader(`{"message":"by a route"}`))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil {
				t.Error(err)
			}
			res.Body.Close()
			same(t, "status of "+token, res.StatusCode, want)
		}
		same(t, "payload", h.result(id), `{"message":"by a route"}`)
	}, takesOne())
}

// controller is one that many processes share: known by its token, it says once, in its stream,
// that it was aborted, or that its time is over.
type controller struct {
	ID  string        `json:"id"`
	TTL time.Duration `json:"ttl"`
}

func aborter() pawl.Definition {
	type aborted struct {
		Type    string `json:"type"`
		Reason  string `json:"reason"`
		Expired bool   `json:"expired"`
	}
	return pawl.Define("controller", func(c *pawl.Context, in controller) (aborted, error) {
		h, err := pawl.NewHook[string](c, pawl.Token("abort:"+in.ID))
		if err != nil {
			return aborted{}, err
		}
		reason, err := h.Wait(c, pawl.Timeout(in.TTL))
		out := aborted{"abort", reason, false}
		if errors.Is(err, pawl.ErrTimeout) {
			out = aborted{"abort", "Controller expired", true}
		} else if err != nil {
			return aborted{}, err
		}
		if err := c.Stream("").Write(out); err != nil {
			return aborted{}, err
		}
		return out, c.Stream("").Close()
	})
}

func TestB1_085_087_distributedAbortOverHTTP(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		for _, c := range []struct {
			id     string
			ttl    time.Duration
			reason string
			want   string
		}{
			{"aborted", time.Hour, "User cancelled", `{"type":"abort","reason":"User cancelled","expired":false}`},
			{"expires", 200 * time.Millisecond, "", `{"type":"abort","reason":"Controller expired","expired":true}`},
		} {
			input, err := json.Marshal(controller{c.id, c.ttl})
			if err != nil {
				t.Fatal(err)
			}
			q := api.StartRequest{Workflow: "controller", ID: "controller-" + c.id, Input: input}
			var ids []string
			for range 2 { // B1_087: who comes again finds the same one
				run, err := h.client.Start(t.Context(), q, 0)
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, run.ID)
			}
			same(t, "the controller", ids, []string{q.ID, q.ID})
			if c.reason != "" {
				for range 2 {
					same(t, "its owner", h.hooked("abort:"+c.id).Run, q.ID)
				}
				h.sendHook("abort:"+c.id, fmt.Sprintf("%q", c.reason))
			}
			same(t, c.id+": chunks", h.chunks(q.ID, "", 0), []string{c.want})
			same(t, c.id+": result", h.result(q.ID), c.want)
		}
	}, aborter())
}
