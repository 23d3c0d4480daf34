package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// Upstream's tests of force-claim, asked of a real server: runs are started, payloads sent, tokens
// looked up and journals read over HTTP.

// part is what a run says that had a token, and may have lost it.
type part struct {
	Role, By, Hook, Token, From string
	Got                         []int
}

// seize is how a run comes by a token.
type seize struct {
	Token string
	Claim bool
	Until int // the payload that ends it; 0: the first
}

// holder takes a token and its payloads until it has had enough or the token is claimed.
func holder() pawl.Definition {
	return pawl.Define("holder", func(c *pawl.Context, in seize) (out part, err error) {
		take := pawl.Token(in.Token)
		if in.Claim {
			take = pawl.ClaimToken(in.Token)
		}
		h, err := pawl.NewHook[int](c, take)
		var conflict *pawl.HookConflictError
		if errors.As(err, &conflict) {
			return part{Role: "refused", By: conflict.RunID, Token: conflict.Token}, nil
		}
		if err != nil {
			return out, err
		}
		from, _ := h.ClaimedFrom()
		out = part{Role: "owner", From: from.Run, Token: h.Token()}
		ended := false
		for n, err := range h.All(c) {
			if ended {
				return out, errors.New("the loop goes on after the token was claimed")
			}
			var claimed *pawl.HookClaimedError
			if ended = errors.As(err, &claimed); ended {
				out.Role, out.By, out.Hook, out.Token = "claimed", claimed.RunID, claimed.Hook, claimed.Token
				continue
			}
			if err != nil {
				return out, err
			}
			if out.Got = append(out.Got, n); in.Until == 0 || n == in.Until {
				return out, h.Close(c)
			}
		}
		if !ended {
			return out, errors.New("the loop has ended without a word")
		}
		return out, nil
	})
}

// seizes starts a holder.
func (h *house) seizes(in seize) string {
	h.t.Helper()
	data, err := json.Marshal(in)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.start("holder", string(data))
}

// part waits for what a holder says.
func (h *house) part(id string) (p part) {
	h.t.Helper()
	if err := json.Unmarshal([]byte(h.result(id)), &p); err != nil {
		h.t.Fatal(err)
	}
	return p
}

// owned waits until a run has a token.
func (h *house) owned(token, run string) {
	h.t.Helper()
	h.eventually("run "+run+" to have "+token, func() bool {
		hook, err := h.client.Hook(h.t.Context(), token)
		return err == nil && hook.Run == run
	})
}

// hookLog are the entries of a run that tell of its hooks.
func (h *house) hookLog(id string) (out []string) {
	h.t.Helper()
	for _, e := range h.entries(id, pawl.KindHook, pawl.KindPayload, pawl.KindHookClosed) {
		s := e.Kind.String()
		if e.Failed {
			s += " failed"
		}
		out = append(out, s)
	}
	return out
}

func TestB1_071_forceClaimOverHTTP(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		victim := h.seizes(seize{Token: "t-71"})
		h.until(victim, pawl.Waiting)
		claimer := h.seizes(seize{Token: "t-71", Claim: true})
		same(t, "victim", h.part(victim), part{Role: "claimed", By: claimer, Hook: "$hook", Token: "t-71"})
		h.owned("t-71", claimer)
		same(t, "the same again, without a claim", h.part(h.seizes(seize{Token: "t-71"})), part{Role: "refused", By: claimer, Token: "t-71"})
		same(t, "who got the payload", h.sendHook("t-71", "7").Run, claimer)
		same(t, "claimer", h.part(claimer), part{Role: "owner", From: victim, Token: "t-71", Got: []int{7}})
		same(t, "the victim's journal", h.hookLog(victim), []string{"hook", "hook_closed", "payload failed"})
		same(t, "who has claimed it", string(h.entries(victim, pawl.KindHookClosed)[0].Data), `{"token":"t-71","claimedBy":{"run":"`+claimer+`","hook":"$hook"}}`)
		same(t, "the claimer's journal", h.hookLog(claimer), []string{"hook", "payload", "hook_closed"})
		same(t, "from whom", string(h.entries(claimer, pawl.KindHook)[0].Data), `{"token":"t-71","claimedFrom":{"run":"`+victim+`","hook":"$hook"}}`)

		// A run that lets the error end it fails with what a client can tell apart.
		victim = h.startAs("takesOne", "t-71-fails")
		h.until(victim, pawl.Waiting)
		claimer = h.seizes(seize{Token: "t-71-fails", Claim: true})
		failed := h.failure(victim)
		var claimed *pawl.HookClaimedError
		if err := error(&pawl.Failure{Cause: failed.Error}); !errors.As(err, &claimed) {
			t.Fatalf("a client can't see the claim in %+v", failed.Error)
		}
		same(t, "claim", *claimed, pawl.HookClaimedError{Token: "t-71-fails", RunID: claimer, Hook: "$hook"})
		same(t, "state and code", fmt.Sprint(failed.State, " ", failed.Error.Code), "failed hook_claimed")
	}, holder(), takesOne())
}

func TestB1_072_forceClaimOfAnIteratorOverHTTP(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		victim := h.seizes(seize{Token: "t-72", Until: 100})
		h.hooked("t-72")
		same(t, "before", h.sendHook("t-72", "1").Run+h.sendHook("t-72", "2").Run, victim+victim)
		claimer := h.seizes(seize{Token: "t-72", Claim: true, Until: 4})
		h.owned("t-72", claimer)
		same(t, "after", h.sendHook("t-72", "3").Run+h.sendHook("t-72", "4").Run, claimer+claimer)
		same(t, "victim", h.part(victim), part{Role: "claimed", By: claimer, Hook: "$hook", Token: "t-72", Got: []int{1, 2}})
		same(t, "claimer", h.part(claimer), part{Role: "owner", From: victim, Token: "t-72", Got: []int{3, 4}})
		same(t, "the victim's journal", h.hookLog(victim), []string{"hook", "payload", "payload", "hook_closed", "payload failed"})
	}, holder())
}

// The senders ask two servers of one store.
func TestB1_073_forceClaimInAStormOverHTTP(t *testing.T) {
	const payloads = 24
	eachStore(t, func(t *testing.T, store func() pawl.Store) {
		h := openOn(t, store(), api.Options{}, holder())
		other := openOn(t, store(), api.Options{}, holder())
		victim := h.seizes(seize{Token: "t-73", Until: 1000})
		h.hooked("t-73")
		var claimer string
		var mu sync.Mutex
		took := map[string]int{} // what the servers say who has the payload
		var senders sync.WaitGroup
		for i := range payloads {
			if i == 6 {
				claimer = h.seizes(seize{Token: "t-73", Claim: true, Until: 1000})
			}
			senders.Go(func() {
				got, err := []*house{h, other}[i%2].client.SendHook(t.Context(), "t-73", json.RawMessage(fmt.Sprint(i+1)))
				if err != nil {
					t.Errorf("payload %d: %v", i+1, err)
				}
				mu.Lock()
				took[got.Run]++
				mu.Unlock()
			})
			if i%3 == 0 {
				senders.Wait()
			}
		}
		senders.Wait()
		h.owned("t-73", claimer)
		h.sendHook("t-73", "1000")
		lost, won := h.part(victim).Got, h.part(claimer).Got
		same(t, "who got how many", fmt.Sprint(took[victim], took[claimer], len(took)), fmt.Sprint(len(lost), len(won)-1, 2))
		got := append(lost, won...)
		slices.Sort(got)
		var want []int
		for i := range payloads {
			want = append(want, i+1)
		}
		same(t, "all payloads, each once", got, append(want, 1000))
		log := h.hookLog(victim)
		if i := slices.Index(log, "hook_closed"); i < 0 || slices.Contains(log[i:], "payload") {
			t.Errorf("the victim took payloads after the claim: %v", log)
		}
	})
}

func TestB1_074_forceClaimChainOverHTTP(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		a := h.seizes(seize{Token: "t-74"})
		h.hooked("t-74")
		b := h.seizes(seize{Token: "t-74", Claim: true})
		same(t, "a", h.part(a), part{Role: "claimed", By: b, Hook: "$hook", Token: "t-74"})
		c := h.seizes(seize{Token: "t-74", Claim: true})
		same(t, "b", h.part(b), part{Role: "claimed", By: c, Hook: "$hook", Token: "t-74", From: a})
		same(t, "who got it", h.sendHook("t-74", "74").Run, c)
		same(t, "c", h.part(c), part{Role: "owner", From: b, Token: "t-74", Got: []int{74}})
	}, holder())
}

func TestB1_075_forceClaimOfARetainedTokenOverHTTP(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		victim := h.startAs("takesOne", "t-75")
		h.hooked("t-75")
		h.sendHook("t-75", `{"message":"the last"}`)
		h.result(victim)
		before, ended := h.entries(victim), h.until(victim, pawl.Completed)
		same(t, "without a claim", h.part(h.seizes(seize{Token: "t-75"})).By, victim)
		h.refused(410, "ended", "POST", "/api/hooks/t-75", "1")
		claimer := h.seizes(seize{Token: "t-75", Claim: true})
		h.owned("t-75", claimer)
		h.sendHook("t-75", "75")
		same(t, "claimer", h.part(claimer), part{Role: "owner", From: victim, Token: "t-75", Got: []int{75}})
		same(t, "the entries of the run that has ended", h.entries(victim), before)
		same(t, "that run", h.until(victim, pawl.Completed).RunInfo, ended.RunInfo)
	}, holder(), takesOne(pawl.Retain(time.Hour)))
}

func TestB1_076_forceClaimOfOnesOwnOverHTTP(t *testing.T) {
	own := pawl.Define("own", func(c *pawl.Context, token string) (part, error) {
		first, err := pawl.NewHook[int](c, pawl.Token(token))
		if err != nil {
			return part{}, err
		}
		second, err := pawl.NewHook[int](c, pawl.ClaimToken(token))
		if err != nil {
			return part{}, err
		}
		_, err = first.Wait(c)
		var claimed *pawl.HookClaimedError
		if !errors.As(err, &claimed) {
			return part{}, err
		}
		n, err := second.Wait(c)
		return part{Role: "claimed", By: claimed.RunID, Hook: claimed.Hook, Got: []int{n}}, err
	})
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.startAs("own", "t-76")
		h.eventually("the claim", func() bool { return len(h.entries(id, pawl.KindHookClosed)) == 1 })
		h.sendHook("t-76", "76")
		same(t, "run", h.part(id), part{Role: "claimed", By: id, Hook: "$hook#2", Got: []int{76}})
		same(t, "its journal", h.hookLog(id), []string{"hook", "hook", "hook_closed", "payload failed", "payload"})
	}, own)
}

// What is refused is a token that pawl has made: the webhook goes on.
func TestB1_077_forceClaimOfAWebhookIsRefusedOverHTTP(t *testing.T) {
	webhook := pawl.Define("webhook", func(c *pawl.Context, _ any) (string, error) {
		w, err := pawl.NewWebhook(c)
		if err != nil {
			return "", err
		}
		req, err := w.Wait(c)
		if err != nil {
			return "", err
		}
		return string(req.Body), nil
	})
	eachHouse(t, func(t *testing.T, h *house) {
		victim := h.start("webhook", "null")
		h.until(victim, pawl.Waiting)
		list, err := h.client.Hooks(t.Context(), victim)
		if err != nil || len(list.Items) != 1 {
			t.Fatalf("%+v %v", list, err)
		}
		token := list.Items[0].Token
		claimer := h.seizes(seize{Token: token, Claim: true})
		h.until(claimer, pawl.Waiting) // with a hook of that name, which is no webhook's
		same(t, "the webhook's journal", h.hookLog(victim), []string{"hook"})
		r := h.send("POST", pawl.WebhookPath+token, "mine")
		same(t, "a call of the webhook", fmt.Sprintf("%d %q", r.status, r.body), `202 ""`)
		same(t, "who got it", h.result(victim), `"mine"`)
	}, webhook, holder())
}

func TestB1_078_forceClaimOfAFreeTokenOverHTTP(t *testing.T) {
	eachHouse(t, func(t *testing.T, h *house) {
		id := h.seizes(seize{Token: "t-78", Claim: true})
		h.hooked("t-78")
		h.sendHook("t-78", "78")
		same(t, "run", h.part(id), part{Role: "owner", Token: "t-78", Got: []int{78}})
		made := h.entries(id, pawl.KindHook)
		if len(made) != 1 || made[0].Failed || strings.Contains(string(made[0].Data), "claimedFrom") {
			t.Errorf("its hook: %+v", made)
		}
	}, holder())
}
