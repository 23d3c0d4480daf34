package pawl_test

import (
	"errors"
	"testing"

	"github.com/pawlrun/pawl"
)

// TestWhyNamesTheKindOfAHook, by which a person knows how to answer it.
func TestWhyNamesTheKindOfAHook(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("three", func(c *pawl.Context, _ none) (none, error) {
			_, err := pawl.NewHook[none](c)
			_, kerr := pawl.NewHook[none](c, pawl.HookKind("approval"))
			_, werr := pawl.NewWebhook(c)
			_, gerr := pawl.WaitFor[none](c, "go")
			return none{}, errors.Join(err, kerr, werr, gerr)
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		why, err := n.Why(n.ctx, pawl.Ref{ID: r.ID()})
		n.ok(err)
		equal(t, "why", why, `it waits for the event "go", for a payload on hook $hook, for a payload on hook $hook#2 (approval), for a request to webhook $hook#3`)
	})
}
