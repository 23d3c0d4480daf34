package pawl_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

type payload struct {
	Message string `json:"message"`
	Done    *bool  `json:"done,omitempty"`
}

// single takes one payload from the hook with a token.
func single(name string) *pawl.Workflow[string, payload] {
	return pawl.Define(name, func(c *pawl.Context, token string) (payload, error) {
		h, err := pawl.NewHook[payload](c, pawl.Token(token))
		if err != nil {
			return payload{}, err
		}
		return h.Wait(c)
	})
}

func TestB1_054_hook(t *testing.T) {
	type data struct {
		CustomData string `json:"customData"`
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("hook", func(c *pawl.Context, custom string) ([]payload, error) {
			h, err := pawl.NewHook[payload](c, pawl.Token("t-54"), pawl.Meta(data{custom}))
			if err != nil {
				return nil, err
			}
			var got []payload
			for p, err := range h.All(c) {
				if err != nil {
					return nil, err
				}
				if got = append(got, p); p.Done != nil {
					break
				}
			}
			return got, nil
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, "mine")
		h := n.hook("t-54")
		equal(t, "owner", h.Run.ID, r.ID())
		equal(t, "meta", string(h.Meta), `{"customData":"mine"}`)
		_, err := n.FindHook(n.ctx, "", "invalid")
		is(t, err, pawl.ErrNotFound)
		_, err = n.Resume(n.ctx, "invalid", nil)
		is(t, err, pawl.ErrNotFound)

		done := true
		for _, p := range []payload{{"one", nil}, {"two", nil}, {"three", &done}} {
			equal(t, "resumed run", n.resume("t-54", p).ID, r.ID())
		}
		raw, err := json.Marshal(result(n, r))
		equal(t, "payloads", fmt.Sprint(string(raw), err), `[{"message":"one"},{"message":"two"},{"message":"three","done":true}]<nil>`)
	})
}

// Iteration goes on after a payload that does not fit, where it was left, and in replays;
// the end of its scope ends it.
func TestB1_054_hookIteration(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("iterates", func(c *pawl.Context, _ none) ([]string, error) {
			h, err := pawl.NewHook[int](c, pawl.Token("t-54-all"))
			if err != nil {
				return nil, err
			}
			var got []string
			loop := func(c *pawl.Context, stop int) {
				for v, err := range h.All(c) {
					if err != nil {
						got = append(got, fmt.Sprint("error, timed out: ", errors.Is(err, pawl.ErrTimeout)))
						continue
					}
					if got = append(got, fmt.Sprint(v)); v == stop {
						break
					}
				}
				got = append(got, "left")
			}
			loop(c, 2)
			if err := pawl.Do(c, "between", nothing); err != nil {
				return nil, err
			}
			loop(c, 4)
			inner, cancel := pawl.WithTimeout(c, 100*time.Millisecond)
			defer cancel(nil)
			loop(inner, 0)
			return got, c.Sleep(50 * time.Millisecond) // and one more replay
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		for _, v := range []any{1, "no number", 2, 3, 4} {
			n.resume("t-54-all", v)
		}
		equal(t, "payloads", result(n, r), []string{"1", "error, timed out: false", "2", "left", "3", "4", "left", "error, timed out: true", "left"})
		equal(t, "entries", len(n.journal(r.ID(), pawl.KindPayload)), 5)
		noTrouble(n, []string{r.ID()})
	})
}

// A hook that is given back while its run goes on: its token is free at once, what came
// before stays to be waited for, and nothing more arrives.
func TestB1_054_hookDispose(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("disposes", func(c *pawl.Context, _ none) ([]string, error) {
			h, err := pawl.NewHook[string](c, pawl.Token("t-54-close"))
			if err != nil {
				return nil, err
			}
			if _, err := pawl.WaitFor[none](c, "close"); err != nil {
				return nil, err
			}
			if err := h.Close(c); err != nil {
				return nil, err
			}
			early, err := h.Wait(c)
			if err != nil {
				return nil, err
			}
			_, err = h.Wait(c, pawl.Timeout(50*time.Millisecond))
			return []string{early, fmt.Sprint(errors.Is(err, pawl.ErrTimeout))}, nil
		})
		other := single("other")
		n := boot(t, open(), replays(), w, other)
		r := start(n, w, none{})
		n.hook("t-54-close")
		n.resume("t-54-close", "early")
		n.signal(r.ID(), "close", none{})
		n.sees(r.ID(), pawl.KindHookClosed, "$hook.closed")
		_, err := n.FindHook(n.ctx, "", "t-54-close")
		is(t, err, pawl.ErrNotFound)
		_, err = n.Resume(n.ctx, "t-54-close", "late")
		is(t, err, pawl.ErrNotFound)
		o := start(n, other, "t-54-close")
		equal(t, "the token's new owner", n.hook("t-54-close").Run.ID, o.ID())
		n.resume("t-54-close", payload{Message: "for the other"})
		equal(t, "the other's payload", result(n, o).Message, "for the other")
		equal(t, "payloads", result(n, r), []string{"early", "true"})
		noTrouble(n, []string{r.ID()})
	})
}

// A payload that does not fit the hook's schema is refused at the door: the run is not
// woken, and the next one that fits is the first that it gets.
func TestB1_054_hookSchema(t *testing.T) {
	// The check is the user's: here a schema names the fields that there must be.
	check := func(schema, data []byte) error {
		var s struct{ Required []string }
		var v map[string]any
		if err := errors.Join(json.Unmarshal(schema, &s), json.Unmarshal(data, &v)); err != nil {
			return err
		}
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				return fmt.Errorf("%s is missing", name)
			}
		}
		return nil
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		const schema = `{"required":["message"]}`
		w := pawl.Define("checked", func(c *pawl.Context, schema string) (payload, error) {
			h, err := pawl.NewHook[payload](c, pawl.Token("t-54-schema"), pawl.Schema(json.RawMessage(schema)))
			if err != nil {
				return payload{}, err
			}
			return h.Wait(c)
		})
		n := boot(t, open(), &pawl.Options{CheckSchema: check}, w)
		r := start(n, w, schema)
		equal(t, "schema", string(n.hook("t-54-schema").Schema), schema)
		n.reaches(r.ID(), pawl.Waiting)
		before := len(n.journal(r.ID()))
		for _, bad := range []any{map[string]int{"other": 1}, "no object"} {
			info, err := n.Resume(n.ctx, "t-54-schema", bad)
			is(t, err, pawl.ErrInput)
			equal(t, "whose hook refused", info.ID, r.ID())
			if !strings.Contains(err.Error(), r.ID()) {
				t.Errorf("the error does not name the run: %v", err)
			}
		}
		_, err := n.Resume(n.ctx, "t-54-schema", map[string]int{"other": 1})
		if err == nil || !strings.Contains(err.Error(), "message is missing") {
			t.Errorf("the error does not say why: %v", err)
		}
		equal(t, "state", n.info(r.ID()).State, pawl.Waiting)
		equal(t, "entries", len(n.journal(r.ID())), before)
		n.resume("t-54-schema", payload{Message: "fits"})
		equal(t, "payload", result(n, r).Message, "fits")
		equal(t, "payloads", len(n.journal(r.ID(), pawl.KindPayload)), 1)

		r = start(n, w, `{"required"`)
		if err := failure(n, r); !strings.Contains(err.Error(), "schema of a hook is not JSON") {
			t.Errorf("a schema that is none: %v", err)
		}
		equal(t, "hooks of it", len(n.journal(r.ID(), pawl.KindHook)), 0)
		bare := boot(t, open(), nil, pawl.Define("bare", func(c *pawl.Context, _ none) (string, error) {
			_, err := pawl.NewHook[payload](c, pawl.Schema(json.RawMessage(schema)))
			return fmt.Sprint(misused(err, "CheckSchema")), nil
		}))
		info, err := bare.StartRun(bare.ctx, "bare", nil)
		bare.ok(err)
		equal(t, "without a check", result(bare, pawl.Attach[string](bare.Engine, info.ID)), "<nil>")
	})
}

func TestB1_055_hookIsNotPublic(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := single("hook")
		public := pawl.Define("webhook", func(c *pawl.Context, _ none) (none, error) {
			h, err := pawl.NewWebhook(c)
			if err != nil {
				return none{}, err
			}
			_, err = h.Wait(c)
			return none{}, err
		})
		n := boot(t, open(), nil, w, public)
		r := start(n, w, "t-55")
		equal(t, "a hook is public", n.hook("t-55").Public, false)
		n.resume("t-55", payload{Message: "via-server"})
		equal(t, "payload", result(n, r).Message, "via-server")

		p := start(n, public, none{})
		n.reaches(p.ID(), pawl.Waiting)
		hooks, err := n.Hooks(n.ctx, pawl.Ref{ID: p.ID()})
		n.ok(err)
		equal(t, "hooks", len(hooks), 1)
		equal(t, "a webhook is public", n.hook(hooks[0].Token).Public, true)
	})
}

func TestB1_056_hooksMadeUpFront(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("three", func(c *pawl.Context, _ none) (out []string, err error) {
			var hooks []*pawl.Hook[string]
			for i := range 3 {
				h, err := pawl.NewHook[string](c, pawl.Token(fmt.Sprintf("t-56-%d", i)))
				if err != nil {
					return nil, err
				}
				hooks = append(hooks, h)
			}
			for _, h := range hooks {
				s, err := h.Wait(c)
				if err != nil {
					return nil, err
				}
				out = append(out, s)
			}
			return out, nil
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		n.hook("t-56-2")
		hooks, err := n.Hooks(n.ctx, pawl.Ref{ID: r.ID()})
		if err != nil {
			t.Fatal(err)
		}
		var tokens []string
		for _, h := range hooks {
			tokens = append(tokens, h.Token)
		}
		equal(t, "hooks in the order of their making", tokens, []string{"t-56-0", "t-56-1", "t-56-2"})
		for _, i := range []int{2, 0, 1} { // in any order
			n.resume(tokens[i], fmt.Sprint(i))
		}
		equal(t, "payloads", result(n, r), []string{"0", "1", "2"})
	})
}

// The engine's side of webhooks: they are public, tell the server how to answer, and a
// step's answer reaches whoever holds the caller.
func TestB1_056_webhooks(t *testing.T) {
	type received struct{ URL, Method, Body, Path string }
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("webhooks", func(c *pawl.Context, _ none) ([]received, error) {
			if _, err := pawl.NewWebhook(c, pawl.Token("guessable")); misused(err, "always random") != nil {
				return nil, fmt.Errorf("a token of one's own: %w", err)
			}
			plain, err1 := pawl.NewWebhook(c)
			static, err2 := pawl.NewWebhook(c, pawl.Answering(pawl.Response{Status: 402, Body: []byte("Hello from static response!")}))
			manual, err3 := pawl.NewWebhook(c, pawl.RespondManually(0))
			if err := errors.Join(err1, err2, err3); err != nil {
				return nil, err
			}
			var out []received
			for _, h := range []*pawl.Webhook{plain, static, manual} {
				req, err := h.Wait(c)
				if err != nil {
					return nil, err
				}
				if h == manual {
					err := pawl.Do(c, "answer", func(ctx context.Context) error {
						return pawl.Respond(ctx, req, pawl.Response{Body: []byte("Hello from webhook!")})
					})
					if err != nil {
						return nil, err
					}
				}
				path, _ := strings.CutSuffix(h.URL(), h.Token())
				out = append(out, received{req.URL, req.Method, string(req.Body), path})
			}
			return out, nil
		})
		o := replays()
		o.PublicURL = "https://example.com/"
		n := boot(t, open(), o, w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		hooks, err := n.Hooks(n.ctx, pawl.Ref{ID: r.ID()})
		n.ok(err)
		equal(t, "hooks", len(hooks), 3)
		var answers []pawl.Answer
		const at = "https://example.com" + pawl.WebhookPath
		var want []received
		for i, h := range hooks {
			var a pawl.Answer
			mustDecode(t, string(h.Meta), &a)
			answers = append(answers, a)
			equal(t, "public", h.Public, true)
			if len(h.Token) < 24 {
				t.Errorf("the token %q can be guessed", h.Token)
			}
			req := pawl.Request{ID: fmt.Sprint("req-", i), Method: "POST", URL: at + h.Token, Body: []byte(`{"message":"one"}`)}
			n.resume(h.Token, req)
			want = append(want, received{req.URL, "POST", `{"message":"one"}`, at})
		}
		equal(t, "answers in the order of making", answers, []pawl.Answer{
			{}, {Response: &pawl.Response{Status: 402, Body: []byte("Hello from static response!")}}, {Manual: true, Wait: 30 * time.Second}})
		equal(t, "requests", result(n, r), want)
		var resp pawl.Response
		chunks := read(n, r.ID(), pawl.ResponseStream+"req-2", 0)
		equal(t, "answers of the step", len(chunks), 1)
		mustDecode(t, chunks[0], &resp)
		equal(t, "answer of the step", fmt.Sprint(resp.Status, string(resp.Body)), "200Hello from webhook!")
		_, err = n.Resume(n.ctx, hooks[0].Token, pawl.Request{})
		is(t, err, pawl.ErrEnded)
	})
}

func TestB1_058_parallelStepsThenHook(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("loop", func(c *pawl.Context, times int) (out []string, err error) {
			for i := range times {
				double := func(name string) *pawl.Future[int] {
					return pawl.Go(c, name, func(c *pawl.Context) (int, error) {
						return pawl.Step(c, "double", func(context.Context) (int, error) { return 2 * i, nil })
					})
				}
				ns, err := pawl.All(c, double("left"), double("right"))
				if err != nil {
					return nil, err
				}
				h, err := pawl.NewHook[string](c, pawl.Token(fmt.Sprintf("t-58-%d", i)))
				if err != nil {
					return nil, err
				}
				s, err := h.Wait(c)
				if err != nil {
					return nil, err
				}
				out = append(out, fmt.Sprint(s, ns))
			}
			return out, nil
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, 10)
		var want []string
		for i := range 10 {
			token := fmt.Sprintf("t-58-%d", i)
			n.hook(token)
			n.resume(token, token)
			want = append(want, fmt.Sprint(token, []int{2 * i, 2 * i}))
		}
		equal(t, "results", result(n, r), want)
		hooks := n.journal(r.ID(), pawl.KindHook)
		equal(t, "hooks", len(hooks), 10)
		for _, h := range hooks {
			equal(t, "conflict", h.Failed, false)
		}
		equal(t, "steps", len(n.journal(r.ID(), pawl.KindStep)), 20)
		noTrouble(n, []string{r.ID()})
	})
}

func TestB1_059_hookCleanup(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := single("hook")
		n := boot(t, open(), nil, w)
		for _, msg := range []string{"first", "second"} {
			r := start(n, w, "t-59")
			n.hook("t-59")
			n.resume("t-59", payload{Message: msg})
			equal(t, "payload", result(n, r).Message, msg)
		}
		_, err := n.Resume(n.ctx, "t-59", payload{})
		is(t, err, pawl.ErrNotFound)
	})
}

func TestB1_060_hookConflict(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := single("hook")
		n := boot(t, open(), nil, w)
		owner := start(n, w, "t-60")
		n.hook("t-60")
		loser := start(n, w, "t-60")
		err := failure(n, loser)
		equal(t, "state of the loser", err.State, pawl.Failed)
		is(t, err, pawl.ErrConflict)
		var conflict *pawl.HookConflictError
		if !errors.As(err, &conflict) {
			t.Fatalf("the client can't see the conflict in %v", err)
		}
		equal(t, "conflict", *conflict, pawl.HookConflictError{Token: "t-60", RunID: owner.ID()})
		if !strings.Contains(err.Error(), "already in use by") {
			t.Errorf("message: %v", err)
		}
		n.resume("t-60", payload{Message: "for the owner"})
		equal(t, "payload", result(n, owner).Message, "for the owner")
	})
}

// claimed is what a run says that asked for a token.
type claimed struct {
	Owner, State, Marker string
}

func TestB1_061_hookGetConflict(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("claim", func(c *pawl.Context, token string) (claimed, error) {
			h, err := pawl.NewHook[none](c, pawl.Token(token))
			if err != nil {
				return claimed{}, err
			}
			return claimed{Marker: "registered " + h.Token()}, nil
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, "t-61")
		equal(t, "result", result(n, r), claimed{Marker: "registered t-61"})
		hooks := n.journal(r.ID(), pawl.KindHook)
		equal(t, "hooks", len(hooks), 1)
		equal(t, "conflict", hooks[0].Failed, false)
		equal(t, "payloads", len(n.journal(r.ID(), pawl.KindPayload)), 0)
	})
}

func TestB1_062_hookGetConflictWithPriorStep(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		w := pawl.Define("prior", func(c *pawl.Context, token string) (string, error) {
			f := pawl.Go(c, "prior", func(c *pawl.Context) (string, error) {
				return pawl.Step(c, "slow", func(ctx context.Context) (string, error) { return "prior step completed", g.pass(ctx) })
			})
			if _, err := pawl.NewHook[none](c, pawl.Token(token)); err != nil {
				return "", err
			}
			return f.Wait(c)
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, "t-62")
		g.wait(t)
		n.hook("t-62") // while the step is under way
		g.open()
		equal(t, "result", result(n, r), "prior step completed")
		equal(t, "entries", n.keys(r.ID(), pawl.KindHook, pawl.KindStep, pawl.KindPayload), []string{"$hook", "prior/slow"})
	})
}

func TestB1_063_hookGetConflictWithParallelStep(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("parallel", func(c *pawl.Context, token string) ([]string, error) {
			return pawl.All(c,
				pawl.Go(c, "work", func(c *pawl.Context) (string, error) {
					return pawl.Step(c, "step", func(context.Context) (string, error) { return "step", nil })
				}),
				pawl.Go(c, "claim", func(c *pawl.Context) (string, error) {
					h, err := pawl.NewHook[none](c, pawl.Token(token))
					if err != nil {
						return "", err
					}
					return h.Token(), nil
				}))
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, "t-63")
		equal(t, "result", result(n, r), []string{"step", "t-63"})
		equal(t, "hooks", n.keys(r.ID(), pawl.KindHook), []string{"claim/$hook"})
		equal(t, "steps", n.keys(r.ID(), pawl.KindStep), []string{"work/step"})
		equal(t, "payloads", len(n.journal(r.ID(), pawl.KindPayload)), 0)
	})
}

// contender claims a token, and if another run has it does what lose says.
func contender(n **node, lose func(ctx context.Context, e *pawl.Engine, owner string) (claimed, error)) *pawl.Workflow[string, claimed] {
	return pawl.Define("contender", func(c *pawl.Context, token string) (claimed, error) {
		for {
			h, err := pawl.NewHook[payload](c, pawl.Token(token))
			if err == nil {
				p, err := h.Wait(c)
				return claimed{Marker: p.Message}, err
			}
			var conflict *pawl.HookConflictError
			if !errors.As(err, &conflict) {
				return claimed{}, err
			}
			out, err := pawl.Step(c, "lose", func(ctx context.Context) (claimed, error) { return lose(ctx, (*n).Engine, conflict.RunID) })
			if err != nil || out.Marker != "again" {
				return out, err
			}
		}
	})
}

func TestB1_065_hookConflictNamesTheOwner(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var n *node
		w := contender(&n, func(ctx context.Context, e *pawl.Engine, owner string) (claimed, error) {
			info, err := e.Get(ctx, pawl.Ref{ID: owner})
			return claimed{owner, info.State.String(), "hook_token_conflict_detected"}, err
		})
		n = boot(t, open(), nil, w)
		owner := start(n, w, "t-65")
		n.reaches(owner.ID(), pawl.Waiting)
		equal(t, "loser", complete(n, w, "t-65"), claimed{owner.ID(), "waiting", "hook_token_conflict_detected"})
		n.resume("t-65", payload{Message: "unaffected"})
		equal(t, "owner", result(n, owner), claimed{Marker: "unaffected"})
	})
}

func TestB1_067_hookMinRetention(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("retains", func(c *pawl.Context, d time.Duration) (string, error) {
			h, err := pawl.NewHook[none](c, pawl.Token("t-67"), pawl.Retain(d))
			if err != nil {
				return "", err
			}
			return h.Token(), nil
		})
		n := boot(t, open(), nil, w)
		owner := start(n, w, time.Minute)
		result(n, owner)
		before := len(n.journal(owner.ID()))
		_, err := n.Resume(n.ctx, "t-67", none{})
		is(t, err, pawl.ErrEnded)
		_, err = n.FindHook(n.ctx, "", "t-67")
		is(t, err, pawl.ErrEnded)
		var conflict *pawl.HookConflictError
		if err := failure(n, start(n, w, time.Minute)); !errors.As(err, &conflict) {
			t.Fatalf("the token was not kept: %v", err)
		}
		equal(t, "owner", conflict.RunID, owner.ID())
		equal(t, "owner's state", n.info(owner.ID()).State, pawl.Completed)
		equal(t, "owner's entries", len(n.journal(owner.ID())), before)
	})
}

func TestB1_067_retentionEnds(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("retains", func(c *pawl.Context, d time.Duration) (string, error) {
			h, err := pawl.NewHook[none](c, pawl.Token("t-67"), pawl.Retain(d))
			if err != nil {
				return "", err
			}
			return h.Token(), nil
		})
		n := boot(t, open(), nil, w)
		owner := start(n, w, 50*time.Millisecond)
		result(n, owner)
		free := n.info(owner.ID()).Ended.Add(50 * time.Millisecond)
		n.until("its time to be over", func() bool { return time.Now().After(free) })
		complete(n, w, time.Nanosecond) // at the first go: nobody has to sweep before
	})
}

func TestB1_068_hookAdoptOwnerResult(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var n *node
		w := contender(&n, func(ctx context.Context, e *pawl.Engine, owner string) (claimed, error) {
			return pawl.Attach[claimed](e, owner).Result(ctx)
		})
		n = boot(t, open(), nil, w)
		owner := start(n, w, "t-68")
		n.hook("t-68")
		other := start(n, w, "t-68")
		equal(t, "conflict", n.sees(other.ID(), pawl.KindHook, "$hook").Failed, true)
		n.resume("t-68", payload{Message: "the one result"})
		equal(t, "owner", result(n, owner), claimed{Marker: "the one result"})
		equal(t, "other", result(n, other), claimed{Marker: "the one result"})
	})
}

func TestB1_069_hookSignalOwner(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var n *node
		w := contender(&n, func(ctx context.Context, e *pawl.Engine, owner string) (claimed, error) {
			_, err := e.Resume(ctx, "t-69", payload{Message: "forwarded-from-duplicate"})
			return claimed{Owner: owner, Marker: "duplicate"}, err
		})
		n = boot(t, open(), nil, w)
		owner := start(n, w, "t-69")
		n.hook("t-69")
		equal(t, "duplicate", complete(n, w, "t-69"), claimed{Owner: owner.ID(), Marker: "duplicate"})
		equal(t, "owner", result(n, owner), claimed{Marker: "forwarded-from-duplicate"})
	})
}

func TestB1_070_hookSupersedeOwner(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var n *node
		w := contender(&n, func(ctx context.Context, e *pawl.Engine, owner string) (claimed, error) {
			if _, err := e.Cancel(ctx, pawl.Ref{ID: owner}, "superseded"); err != nil && !errors.Is(err, pawl.ErrEnded) {
				return claimed{}, err
			}
			_, _, err := e.Wait(ctx, "", owner)
			return claimed{Marker: "again"}, err
		})
		n = boot(t, open(), nil, w)
		old := start(n, w, "t-70")
		n.hook("t-70")
		fresh := start(n, w, "t-70")
		err := failure(n, old)
		equal(t, "old", err.State, pawl.Cancelled)
		is(t, err, pawl.ErrCancelled)
		n.until("the token to change hands", func() bool { return n.hook("t-70").Run.ID == fresh.ID() })
		n.resume("t-70", payload{Message: "post-supersede"})
		equal(t, "fresh", result(n, fresh), claimed{Marker: "post-supersede"})
	})
}

func TestB1_079_resumeOrStart(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := single("hook")
		n := boot(t, open(), nil, w)
		_, err := n.Resume(n.ctx, "t-79", payload{Message: "early"})
		is(t, err, pawl.ErrNotFound)
		r := start(n, w, "t-79")
		n.until("the resume to be accepted", func() bool {
			_, err := n.Resume(n.ctx, "t-79", payload{Message: "delivered"})
			if err != nil && !errors.Is(err, pawl.ErrNotFound) {
				t.Fatal(err)
			}
			return err == nil
		})
		equal(t, "payload", result(n, r).Message, "delivered")
	})
}

func TestB1_084_plainModuleDoneHook(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := single("hook")
		n := boot(t, open(), nil, w)
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if _, err := n.Resume(r.Context(), r.URL.Query().Get("token"), json.RawMessage(body)); err != nil {
				http.Error(w, err.Error(), http.StatusNotFound)
			}
		}))
		defer srv.Close()
		r := start(n, w, "t-84")
		n.hook("t-84")
		for token, want := range map[string]int{"t-84": 200, "wrong": 404} {
			resp, err := http.Post(srv.URL+"?token="+token, "application/json", strings.NewReader(`{"message":"by a route"}`))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			equal(t, "status for "+token, resp.StatusCode, want)
		}
		equal(t, "payload", result(n, r).Message, "by a route")
	})
}

// aborter is a controller that many processes share: known by its token, it says once that
// it was aborted, or that its time is over.
type aborted struct {
	Type    string `json:"type"`
	Reason  string `json:"reason"`
	Expired bool   `json:"expired"`
}

type controller struct {
	ID  string
	TTL time.Duration
}

func aborter() *pawl.Workflow[controller, aborted] {
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

func TestB1_085_distributedAbort(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := aborter()
		n := boot(t, open(), nil, w)
		r := start(n, w, controller{"a", time.Hour})
		n.hook("abort:a")
		n.resume("abort:a", "User cancelled")
		equal(t, "chunks", read(n, r.ID(), "", 0), []string{`{"type":"abort","reason":"User cancelled","expired":false}`})
		equal(t, "result", result(n, r), aborted{"abort", "User cancelled", false})
	})
}

func TestB1_086_distributedAbortExpires(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := aborter()
		n := boot(t, open(), replays(), w)
		r := start(n, w, controller{"a", 200 * time.Millisecond})
		equal(t, "chunks", read(n, r.ID(), "", 0), []string{`{"type":"abort","reason":"Controller expired","expired":true}`})
		equal(t, "result", result(n, r), aborted{"abort", "Controller expired", true})
	})
}

func TestB1_087_distributedAbortReconnect(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := aborter()
		n := boot(t, open(), nil, w)
		r := start(n, w, controller{"a", time.Hour}, pawl.ID("controller-a"))
		again := start(n, w, controller{"a", time.Hour}, pawl.ID("controller-a"))
		equal(t, "the run's id", again.ID(), r.ID())
		equal(t, "the first owner", n.hook("abort:a").Run.ID, r.ID())
		equal(t, "the second look", n.hook("abort:a").Run.ID, r.ID())
		n.resume("abort:a", "enough")
		equal(t, "result", result(n, again), aborted{"abort", "enough", false})
	})
}
