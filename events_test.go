package pawl_test

import (
	"errors"
	"testing"

	"github.com/pawlrun/pawl"
)

// TestPublishReachesTheRunsOfOneTenant: those that wait, and of that tenant alone.
func TestPublishReachesTheRunsOfOneTenant(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("listener", func(c *pawl.Context, _ none) (string, error) {
			return pawl.WaitFor[string](c, "news")
		})
		n := boot(t, open(), nil, w)
		waits := func(tenant, id string) *pawl.Run[string] {
			r := start(n, w, none{}, pawl.Tenant(tenant), pawl.ID(id))
			n.until(id+" to wait", func() bool {
				info, err := n.Get(n.ctx, pawl.Ref{Tenant: tenant, ID: id})
				return err == nil && info.State == pawl.Waiting
			})
			return r
		}
		told := func(r *pawl.Run[string]) string {
			out, err := r.Result(n.ctx)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		a, b, c := waits("red", "a"), waits("red", "b"), waits("", "c")
		got, err := n.PublishTo(n.ctx, "red", "news", "for red")
		equal(t, "runs reached", got, 2)
		nobody, none := n.PublishTo(n.ctx, "blue", "news", "for blue")
		equal(t, "runs reached", nobody, 0)
		if err := errors.Join(err, none, n.Publish(n.ctx, "news", "for the rest")); err != nil {
			t.Fatal(err)
		}
		equal(t, "a", told(a), "for red")
		equal(t, "b", told(b), "for red")
		equal(t, "c", told(c), "for the rest")
	})
}
