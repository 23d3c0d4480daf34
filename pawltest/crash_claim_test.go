package pawltest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/pawltest"
)

// robbed has a hook whose token its child claims, and claims it back.
var robbed = pawl.Define("robbed", func(c *pawl.Context, token string) (string, error) {
	h, err := pawl.NewHook[string](c, pawl.Token(token))
	if err != nil {
		return "", err
	}
	first, err := h.Wait(c)
	if err != nil {
		return "", err
	}
	child, err := robber.Spawn(c, token, pawl.ID("robber"))
	if err != nil {
		return "", err
	}
	for range 2 { // it stays so
		var claimed *pawl.HookClaimedError
		if _, err := h.Wait(c); !errors.As(err, &claimed) || claimed.RunID != "robber" || claimed.Token != token {
			return "", fmt.Errorf("the child has the token, and a wait returned %w", err)
		}
	}
	if err := h.Close(c); err != nil {
		return "", err
	}
	if _, err := pawl.WaitFor[string](c, "go on"); err != nil {
		return "", err
	}
	again, err := pawl.NewHook[string](c, pawl.ClaimToken(token))
	if err != nil {
		return "", err
	}
	if from, ok := again.ClaimedFrom(); !ok || from.Run != "robber" {
		return "", fmt.Errorf("the token was claimed from %v", from)
	}
	stolen, err := child.Wait(c)
	if err != nil {
		return "", err
	}
	last, err := again.Wait(c)
	return first + " " + stolen + " " + last, err
})

var robber = pawl.Define("robber", func(c *pawl.Context, token string) (string, error) {
	h, err := pawl.NewHook[string](c, pawl.ClaimToken(token))
	if err != nil {
		return "", err
	}
	got := ""
	for s, err := range h.All(c) {
		var claimed *pawl.HookClaimedError
		if errors.As(err, &claimed) {
			return got, pawl.Do(c, "give up", func(ctx context.Context) error { world.Do(ctx, "give up"); return nil })
		}
		if err != nil {
			return "", err
		}
		got += s
	}
	return "", errors.New("the loop has ended without a word")
})

func TestCrashClaim(t *testing.T) {
	pawltest.CrashEverywhere(t, robbed, "door", pawltest.WithChildren(robber), pawltest.WithEffects(&world), pawltest.WithDriver(func(h *pawltest.Harness, id string) {
		h.AwaitHook(id)
		h.Resume("door", "one")
		h.AwaitHook("robber")
		h.Resume("door", "two")
		h.AwaitEvent(id, "go on")
		h.Resume("door", "three")
		h.Signal(id, "go on", "")
		h.AwaitEntry(id, pawl.KindHook, "$hook#2")
		h.Resume("door", "four")
	}))
}
