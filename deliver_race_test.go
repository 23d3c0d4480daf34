package pawl_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// between is a store in which something happens right after a hook was found.
type between struct {
	pawl.Store
	once sync.Once
	then func()
}

func (b *between) FindHook(ctx context.Context, tenant, token string, now time.Time) (pawl.HookInfo, error) {
	h, err := b.Store.FindHook(ctx, tenant, token, now)
	b.once.Do(b.then)
	return h, err
}

// A payload is held against the schema of the hook that gets it, also when another run takes the token
// over, or registers it, between the look and the delivery.
func TestAPayloadFitsTheHookThatGetsIt(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		const digits = `{"type":"integer"}`
		w := pawl.Define("checked", func(c *pawl.Context, in struct{ Schema string }) (json.RawMessage, error) {
			opts := []pawl.HookOption{pawl.ClaimToken("t-race")}
			if in.Schema != "" {
				opts = append(opts, pawl.Schema([]byte(in.Schema)))
			}
			h, err := pawl.NewHook[json.RawMessage](c, opts...)
			if err != nil {
				return nil, err
			}
			return h.Wait(c)
		})
		opt := func() *pawl.Options { return &pawl.Options{CheckSchema: wantsDigits} }
		n := boot(t, open(), opt(), w)
		loose := start(n, w, struct{ Schema string }{})
		n.hook("t-race")
		var strict *pawl.Run[json.RawMessage]
		racing := client(t, &between{Store: open(), then: func() {
			strict = start(n, w, struct{ Schema string }{digits})
			n.until("the token to change hands", func() bool { return n.hook("t-race").Run.ID == strict.ID() })
		}}, opt(), w)
		if _, err := racing.Deliver(n.ctx, pawl.Delivery{Token: "t-race", Data: "seven", Once: "1"}); !errors.Is(err, pawl.ErrInput) {
			t.Errorf("a payload that the new owner refuses is answered with %v", err)
		}
		got, err := racing.Deliver(n.ctx, pawl.Delivery{Token: "t-race", Data: 7, Once: "1"})
		if err != nil || got.Repeated || got.Run.ID != strict.ID() {
			t.Errorf("one that it takes: %+v, %v", got, err)
		}
		equal(t, "what it got", string(result(n, strict)), "7")
		if state := n.info(loose.ID()).State; state.Terminal() && state != pawl.Failed {
			t.Errorf("the run that lost the token is %v", state)
		}

		// The token was free when it was looked for.
		var late *pawl.Run[json.RawMessage]
		racing = client(t, &between{Store: open(), then: func() {
			late = start(n, w, struct{ Schema string }{digits})
			n.hook("t-race")
		}}, opt(), w)
		if _, err := racing.Deliver(n.ctx, pawl.Delivery{Token: "t-race", Data: "seven", Once: "2"}); !errors.Is(err, pawl.ErrInput) {
			t.Errorf("a payload that the new hook refuses is answered with %v", err)
		}
		n.resume("t-race", 8)
		equal(t, "what it got", string(result(n, late)), "8")
	})
}

// A hook that was found before is not asked for again; and one that is out of date, of another token or of
// another tenant delivers nothing to the wrong run.
func TestWhatWasFoundIsNotTrusted(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("found", func(c *pawl.Context, in struct{ Token, Schema string }) (json.RawMessage, error) {
			opts := []pawl.HookOption{pawl.ClaimToken(in.Token)}
			if in.Schema != "" {
				opts = append(opts, pawl.Schema([]byte(in.Schema)))
			}
			h, err := pawl.NewHook[json.RawMessage](c, opts...)
			if err != nil {
				return nil, err
			}
			return h.Wait(c)
		})
		type in = struct{ Token, Schema string }
		n := boot(t, open(), &pawl.Options{CheckSchema: wantsDigits}, w)
		first, other := start(n, w, in{"t-1", ""}), start(n, w, in{"t-2", ""})
		foreign := start(n, w, in{"t-1", ""}, pawl.Tenant("b"))
		n.hook("t-2")
		found := n.hook("t-1")
		n.until("the other tenant's hook", func() bool {
			_, err := n.FindHook(n.ctx, "b", "t-1")
			return err == nil
		})

		second := start(n, w, in{"t-1", `{"type":"integer"}`}) // it claims the token
		n.until("the token to change hands", func() bool { return n.hook("t-1").Run.ID == second.ID() })
		if _, err := n.Deliver(n.ctx, pawl.Delivery{Token: "t-1", Found: &found, Data: "seven"}); !errors.Is(err, pawl.ErrInput) {
			t.Errorf("what the new owner refuses: %v", err)
		}
		if got, err := n.Deliver(n.ctx, pawl.Delivery{Token: "t-1", Found: &found, Data: 7}); err != nil || got.Run.ID != second.ID() {
			t.Errorf("what it takes: %+v, %v", got.Run, err)
		}
		equal(t, "the new owner got", string(result(n, second)), "7")
		if _, err := n.Deliver(n.ctx, pawl.Delivery{Token: "t-1", Found: &found, Data: 8}); !errors.Is(err, pawl.ErrNotFound) && !errors.Is(err, pawl.ErrEnded) {
			t.Errorf("a hook that is gone: %v", err)
		}
		if got, err := n.Deliver(n.ctx, pawl.Delivery{Token: "t-2", Found: &found, Data: 2}); err != nil || got.Run.ID != other.ID() {
			t.Errorf("what was found of another token: %+v, %v", got.Run, err)
		}
		if got, err := n.Deliver(n.ctx, pawl.Delivery{Tenant: "b", Token: "t-1", Found: &found, Data: 3}); err != nil || got.Run.ID != foreign.ID() {
			t.Errorf("what was found in another tenant: %+v, %v", got.Run, err)
		}
		if state := n.info(first.ID()).State; state == pawl.Completed {
			t.Errorf("the run that lost the token is %v", state)
		}
	})
}
