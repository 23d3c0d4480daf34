package pawl_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// robbed has a token, does not wait for it while it is claimed, and fails until it is mended.
func robbed(mended func() bool) *pawl.Workflow[string, string] {
	return pawl.Define("robbed", func(c *pawl.Context, token string) (string, error) {
		h, err := pawl.NewHook[string](c, pawl.Token(token))
		if err != nil {
			return "", err
		}
		if _, err := pawl.WaitFor[none](c, "go on"); err != nil {
			return "", err
		}
		if err := pawl.Do(c, "mend", func(context.Context) error {
			if !mended() {
				return pawl.Fatal(errors.New("not yet"))
			}
			return nil
		}); err != nil {
			return "", err
		}
		got, err := h.Wait(c, pawl.Timeout(time.Hour))
		if err != nil {
			return "", err
		}
		_, err = h.Wait(c, pawl.Timeout(time.Hour))
		var claimed *pawl.HookClaimedError
		if !errors.As(err, &claimed) {
			return "", fmt.Errorf("the wait after the claim returned %w", err)
		}
		_, err = pawl.Step(c, "after", func(context.Context) (string, error) { return "", nil })
		return got + " " + claimed.RunID, err
	})
}

// TestAClaimIsInTheJournalOfWhoNeverWaited, and does not keep its run from being retried or forked.
func TestAClaimIsInTheJournalOfWhoNeverWaited(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		mended := newGate()
		w := robbed(func() bool {
			select {
			case <-mended.release:
				return true
			default:
				return false
			}
		})
		n := boot(t, open(), replays(), w, holder)
		victim := start(n, w, "t-robbed")
		n.hook("t-robbed")
		n.resume("t-robbed", "kept")
		claimer := start(n, holder, seize{Token: "t-robbed", Claim: true})
		n.until("the token to change hands", func() bool { return n.hook("t-robbed").Run.ID == claimer.ID() })
		n.signal(victim.ID(), "go on", none{})
		_ = failure(n, victim)
		equal(t, "its journal", hookLog(n, victim.ID()), []string{"hook", "hook_closed"})

		mended.open()
		if _, err := n.Retry(n.ctx, pawl.Ref{ID: victim.ID()}); err != nil {
			t.Fatalf("retry: %v", err)
		}
		equal(t, "retried", result(n, victim), "kept "+claimer.ID())
		equal(t, "its journal", hookLog(n, victim.ID()), []string{"hook", "hook_closed", "payload", "payload failed"})

		fork, err := n.Fork(n.ctx, pawl.Ref{ID: victim.ID()}, pawl.ForkOptions{From: "after"})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "forked behind the claim", result(n, pawl.Attach[string](n.Engine, fork.ID)), "kept "+claimer.ID())
		equal(t, "whose the token is", n.hook("t-robbed").Run.ID, claimer.ID())
		noTrouble(n, []string{victim.ID(), fork.ID})
	})
}

// TestADeliveryToAHookOfARunIsNotForItsClaimer: it was addressed by run and key.
func TestADeliveryToAHookOfARunIsNotForItsClaimer(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		n := boot(t, open(), replays(), holder)
		victim := start(n, holder, seize{Token: "t-key", Until: 100})
		n.hook("t-key")
		to := pawl.Delivery{Run: pawl.Ref{ID: victim.ID()}, Hook: "$hook", Data: 1}
		if r, err := n.Deliver(n.ctx, to); err != nil || r.Run.ID != victim.ID() {
			t.Fatal(r, err)
		}
		claimer := start(n, holder, seize{Token: "t-key", Claim: true})
		equal(t, "victim", result(n, victim).Got, []int{1})
		if r, err := n.Deliver(n.ctx, to); !errors.Is(err, pawl.ErrEnded) && !errors.Is(err, pawl.ErrNotFound) {
			t.Fatalf("delivered to %s: %v", r.Run.ID, err)
		}
		n.resume("t-key", 2)
		equal(t, "claimer", result(n, claimer).Got, []int{2})
	})
}
