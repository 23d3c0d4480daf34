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
