package pawl_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

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
var holder = pawl.Define("holder", func(c *pawl.Context, in seize) (part, error) {
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
		return part{}, err
	}
	from, _ := h.ClaimedFrom()
	out := part{Role: "owner", From: from.Run, Token: h.Token()}
	ended := false
	for n, err := range h.All(c) {
		if ended {
			return part{}, errors.New("the loop goes on after the token was claimed")
		}
		var claimed *pawl.HookClaimedError
		if ended = errors.As(err, &claimed); ended {
			out = part{Role: "claimed", By: claimed.RunID, Hook: claimed.Hook, Token: claimed.Token, From: from.Run, Got: out.Got}
			if _, err := h.Wait(c, pawl.Timeout(time.Hour)); !errors.As(err, &claimed) {
				return part{}, err
			}
			if err := h.Close(c); err != nil {
				return part{}, err
			}
			continue
		}
		if err != nil {
			return part{}, err
		}
		if out.Got = append(out.Got, n); in.Until == 0 || n == in.Until {
			return out, h.Close(c)
		}
	}
	return out, nil
})

// claimers are two workers that keep nothing in memory.
func claimers(t *testing.T, open func() pawl.Store) (*node, *node) {
	return boot(t, open(), replays(), holder), boot(t, open(), replays(), holder)
}

// hookLog are the entries of a run that tell of its hooks.
func hookLog(n *node, id string) (out []string) {
	n.t.Helper()
	for _, e := range n.journal(id, pawl.KindHook, pawl.KindPayload, pawl.KindHookClosed) {
		s := e.Kind.String()
		if e.Failed {
			s += " failed"
		}
		out = append(out, s)
	}
	return out
}

func TestB1_071_forceClaim(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		n, _ := claimers(t, open)
		victim := start(n, holder, seize{Token: "t-71"})
		n.reaches(victim.ID(), pawl.Waiting)
		claimer := start(n, holder, seize{Token: "t-71", Claim: true})
		equal(t, "victim", result(n, victim), part{Role: "claimed", By: claimer.ID(), Hook: "$hook", Token: "t-71"})
		equal(t, "whose the token is", n.hook("t-71").Run.ID, claimer.ID())
		equal(t, "a second without a claim", complete(n, holder, seize{Token: "t-71"}), part{Role: "refused", By: claimer.ID(), Token: "t-71"})
		n.resume("t-71", 7)
		equal(t, "claimer", result(n, claimer), part{Role: "owner", From: victim.ID(), Token: "t-71", Got: []int{7}})
		equal(t, "the victim's journal", hookLog(n, victim.ID()), []string{"hook", "hook_closed", "payload failed", "payload failed"})
		closed := n.journal(victim.ID(), pawl.KindHookClosed)[0]
		equal(t, "who has claimed it", string(closed.Data), `{"token":"t-71","claimedBy":{"run":"`+claimer.ID()+`","hook":"$hook"}}`)
		equal(t, "the claimer's journal", hookLog(n, claimer.ID()), []string{"hook", "payload", "hook_closed"})
		hook := n.journal(claimer.ID(), pawl.KindHook)[0]
		equal(t, "from whom", string(hook.Data), `{"token":"t-71","claimedFrom":{"run":"`+victim.ID()+`","hook":"$hook"}}`)
		noTrouble(n, []string{victim.ID(), claimer.ID()})
	})
}

func TestB1_072_forceClaimOfAnIterator(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		n, _ := claimers(t, open)
		victim := start(n, holder, seize{Token: "t-72", Until: 100})
		n.hook("t-72")
		n.resume("t-72", 1)
		n.resume("t-72", 2)
		claimer := start(n, holder, seize{Token: "t-72", Claim: true, Until: 4})
		n.until("the token to change hands", func() bool { return n.hook("t-72").Run.ID == claimer.ID() })
		n.resume("t-72", 3)
		n.resume("t-72", 4)
		equal(t, "victim", result(n, victim), part{Role: "claimed", By: claimer.ID(), Hook: "$hook", Token: "t-72", Got: []int{1, 2}})
		equal(t, "claimer", result(n, claimer), part{Role: "owner", From: victim.ID(), Token: "t-72", Got: []int{3, 4}})
		equal(t, "the victim's journal", hookLog(n, victim.ID()), []string{"hook", "payload", "payload", "hook_closed", "payload failed", "payload failed"})
	})
}

// What came before the claim is the victim's, also when it comes to take it long after that.
func TestB1_072_forceClaimOfABusyVictim(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		busy := pawl.Define("busy", func(c *pawl.Context, _ none) ([]int, error) {
			h, err := pawl.NewHook[int](c, pawl.Token("t-72-busy"))
			if err != nil {
				return nil, err
			}
			if _, err := pawl.WaitFor[none](c, "go on"); err != nil {
				return nil, err
			}
			var got []int
			for n, err := range h.All(c) {
				var claimed *pawl.HookClaimedError
				if errors.As(err, &claimed) {
					return got, nil
				}
				if err != nil {
					return nil, err
				}
				got = append(got, n)
			}
			return nil, errors.New("the loop has ended without a word")
		})
		n := boot(t, open(), replays(), busy, holder)
		victim := start(n, busy, none{})
		n.hook("t-72-busy")
		n.resume("t-72-busy", 1)
		n.resume("t-72-busy", 2)
		claimer := start(n, holder, seize{Token: "t-72-busy", Claim: true})
		n.until("the token to change hands", func() bool { return n.hook("t-72-busy").Run.ID == claimer.ID() })
		n.resume("t-72-busy", 3)
		equal(t, "claimer", result(n, claimer).Got, []int{3})
		n.signal(victim.ID(), "go on", none{})
		equal(t, "victim", result(n, victim), []int{1, 2})
	})
}

// Several may wait for one hook: all of them are told.
func TestB1_072_forceClaimTellsAllWhoWait(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		several := pawl.Define("several", func(c *pawl.Context, _ none) (int, error) {
			h, err := pawl.NewHook[int](c, pawl.Token("t-72-all"))
			if err != nil {
				return 0, err
			}
			told, err := pawl.Map(c, "wait", []int{1, 2, 3}, func(c *pawl.Context, i int) (int, error) {
				_, err := h.Wait(c)
				var claimed *pawl.HookClaimedError
				if !errors.As(err, &claimed) {
					return 0, err
				}
				return 1, c.Sleep(time.Duration(i) * 10 * time.Millisecond)
			})
			return len(told), errors.Join(err, h.Close(c))
		})
		n := boot(t, open(), replays(), several, holder)
		victim := start(n, several, none{})
		n.reaches(victim.ID(), pawl.Waiting)
		start(n, holder, seize{Token: "t-72-all", Claim: true})
		equal(t, "branches told", result(n, victim), 3)
		equal(t, "told in the journal", len(n.journal(victim.ID(), pawl.KindHookClosed)), 1)
	})
}

func TestB1_073_forceClaimInAStorm(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		const payloads = 24
		n, other := claimers(t, open)
		victim := start(n, holder, seize{Token: "t-73", Until: 1000})
		n.hook("t-73")
		var claimer *pawl.Run[part]
		var senders sync.WaitGroup
		for i := range payloads {
			if i == 6 {
				claimer = start(n, holder, seize{Token: "t-73", Claim: true, Until: 1000})
			}
			senders.Go(func() {
				if _, err := []*node{n, other}[i%2].Resume(n.ctx, "t-73", i+1); err != nil {
					t.Errorf("payload %d: %v", i+1, err)
				}
			})
			if i%3 == 0 {
				senders.Wait()
			}
		}
		senders.Wait()
		n.until("the token to change hands", func() bool { return n.hook("t-73").Run.ID == claimer.ID() })
		n.resume("t-73", 1000)
		got := append(result(n, victim).Got, result(n, claimer).Got...)
		slices.Sort(got)
		want := []int{}
		for i := range payloads {
			want = append(want, i+1)
		}
		equal(t, "all payloads", got, append(want, 1000))
		log := hookLog(n, victim.ID())
		if i := slices.Index(log, "hook_closed"); slices.Contains(log[i:], "payload") {
			t.Errorf("the victim took payloads after the claim: %v", log)
		}
		noTrouble(n, []string{victim.ID(), claimer.ID()})
	})
}

func TestB1_074_forceClaimChain(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		n, _ := claimers(t, open)
		a := start(n, holder, seize{Token: "t-74"})
		n.hook("t-74")
		b := start(n, holder, seize{Token: "t-74", Claim: true})
		equal(t, "a", result(n, a), part{Role: "claimed", By: b.ID(), Hook: "$hook", Token: "t-74"})
		c := start(n, holder, seize{Token: "t-74", Claim: true})
		equal(t, "b", result(n, b), part{Role: "claimed", By: c.ID(), Hook: "$hook", Token: "t-74", From: a.ID()})
		n.resume("t-74", 74)
		equal(t, "c", result(n, c), part{Role: "owner", From: b.ID(), Token: "t-74", Got: []int{74}})
	})
}

func TestB1_075_forceClaimOfARetainedToken(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		retains := pawl.Define("retains", func(c *pawl.Context, _ none) (none, error) {
			_, err := pawl.NewHook[int](c, pawl.Token("t-75"), pawl.Retain(time.Hour))
			return none{}, err
		})
		n := boot(t, open(), replays(), retains, holder)
		victim := start(n, retains, none{})
		result(n, victim)
		before, info := n.journal(victim.ID()), n.info(victim.ID())
		equal(t, "without a claim", complete(n, holder, seize{Token: "t-75"}).By, victim.ID())
		claimer := start(n, holder, seize{Token: "t-75", Claim: true})
		n.until("the token to change hands", func() bool {
			h, err := n.FindHook(n.ctx, "", "t-75")
			return err == nil && h.Run.ID == claimer.ID()
		})
		n.resume("t-75", 75)
		equal(t, "claimer", result(n, claimer), part{Role: "owner", From: victim.ID(), Token: "t-75", Got: []int{75}})
		equal(t, "the victim's journal", n.journal(victim.ID()), before)
		equal(t, "the victim", n.info(victim.ID()), info)
	})
}

func TestB1_076_forceClaimOfOnesOwn(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		own := pawl.Define("own", func(c *pawl.Context, _ none) (part, error) {
			first, err := pawl.NewHook[int](c, pawl.Token("t-76"))
			if err != nil {
				return part{}, err
			}
			second, err := pawl.NewHook[int](c, pawl.ClaimToken("t-76"))
			if err != nil {
				return part{}, err
			}
			_, err = first.Wait(c)
			var claimed *pawl.HookClaimedError
			if !errors.As(err, &claimed) {
				return part{}, err
			}
			n, err := second.Wait(c)
			from, _ := second.ClaimedFrom()
			return part{By: claimed.RunID, Hook: claimed.Hook, From: from.Run, Got: []int{n}}, err
		})
		n := boot(t, open(), replays(), own)
		r := start(n, own, none{})
		n.sees(r.ID(), pawl.KindHookClosed, "$hook.claimed")
		n.resume("t-76", 76)
		equal(t, "run", result(n, r), part{By: r.ID(), Hook: "$hook#2", From: r.ID(), Got: []int{76}})
		equal(t, "its journal", hookLog(n, r.ID()), []string{"hook", "hook", "hook_closed", "payload failed", "payload"})
	})
}

// Upstream a claim is refused where the victim's run is of a build that would not understand it.
// Here the claim is a message in the victim's inbox: it waits there for a worker that does.
func TestB1_077_forceClaimWaitsForItsVictim(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		seizer := pawl.Define("seizer", func(c *pawl.Context, _ none) (int, error) {
			h, err := pawl.NewHook[int](c, pawl.ClaimToken("t-77"))
			if err != nil {
				return 0, err
			}
			return h.Wait(c)
		})
		old := boot(t, open(), mayCrash(), holder)
		victim := start(old, holder, seize{Token: "t-77", Until: 100})
		old.hook("t-77")
		old.resume("t-77", 1)
		old.reaches(victim.ID(), pawl.Waiting)
		old.crash()
		n := boot(t, open(), nil, seizer) // which knows nothing of the victim's workflow
		claimer := start(n, seizer, none{})
		n.until("the token to change hands", func() bool { return n.hook("t-77").Run.ID == claimer.ID() })
		n.resume("t-77", 77)
		equal(t, "claimer", result(n, claimer), 77)
		if s := n.info(victim.ID()).State; s.Terminal() {
			t.Fatalf("the victim is %s, and nobody has worked it", s)
		}
		fresh := boot(t, open(), nil, holder)
		equal(t, "victim", result(fresh, victim), part{Role: "claimed", By: claimer.ID(), Hook: "$hook", Token: "t-77", Got: []int{1}})
	})
}

// What can't be claimed is a token that pawl has made: a webhook keeps it.
func TestB1_077_forceClaimOfAWebhookIsRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		tells := make(chan string, 1)
		webhook := pawl.Define("webhook", func(c *pawl.Context, _ none) (string, error) {
			if _, err := pawl.NewWebhook(c, pawl.ClaimToken("t-77-web")); !errors.Is(err, pawl.ErrMisuse) || !strings.Contains(err.Error(), "ClaimToken") {
				return "", errors.Join(errors.New("a webhook with a token of its own"), err)
			}
			w, err := pawl.NewWebhook(c)
			if err != nil {
				return "", err
			}
			select {
			case tells <- w.Token():
			default:
			}
			req, err := w.Wait(c)
			if err != nil {
				return "", err
			}
			return req.ID, nil
		})
		n := boot(t, open(), replays(), webhook, holder)
		victim := start(n, webhook, none{})
		token := <-tells
		claimer := start(n, holder, seize{Token: token, Claim: true})
		n.reaches(claimer.ID(), pawl.Waiting)
		equal(t, "whose the token is", n.hook(token).Run.ID, victim.ID())
		n.resume(token, pawl.Request{ID: "mine"})
		equal(t, "victim", result(n, victim), "mine")
	})
}

func TestB1_078_forceClaimOfAFreeToken(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		n, _ := claimers(t, open)
		r := start(n, holder, seize{Token: "t-78", Claim: true})
		n.hook("t-78")
		n.resume("t-78", 78)
		equal(t, "run", result(n, r), part{Role: "owner", Token: "t-78", Got: []int{78}})
		equal(t, "its hook", string(n.journal(r.ID(), pawl.KindHook)[0].Data), `{"token":"t-78"}`)
	})
}
