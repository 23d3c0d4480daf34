package pawl_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
)

// TestTenantsHaveTokensOfTheirOwn: the same token in two tenants is two hooks, and neither knows
// of the other.
func TestTenantsHaveTokensOfTheirOwn(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		n := boot(t, open(), replays(), holder)
		own := start(n, holder, seize{Token: "order:1"})
		acme := start(n, holder, seize{Token: "order:1"}, pawl.Tenant("acme"))
		n.hook("order:1")
		n.until("the tenant's hook", func() bool {
			h, err := n.FindHook(n.ctx, "acme", "order:1")
			return err == nil && h.Run.ID == acme.ID() && h.Token == "order:1"
		})
		ended := func(r *pawl.Run[part], tenant string) part {
			out, err := pawl.Attach[part](n.Engine, r.ID(), pawl.Tenant(tenant)).Result(n.ctx)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		second := start(n, holder, seize{Token: "order:1"}, pawl.Tenant("acme"))
		equal(t, "the owner that a conflict names", ended(second, "acme"), part{Role: "refused", By: acme.ID(), Token: "order:1"})
		third := start(n, holder, seize{Token: "order:1"}, pawl.Tenant("third"))
		if _, err := n.Deliver(n.ctx, pawl.Delivery{Tenant: "third", Token: "order:1", Data: 3}); err != nil { // it may have to wait for the hook
			is(t, err, pawl.ErrNotFound)
			n.until("the third tenant's hook", func() bool { _, err := n.FindHook(n.ctx, "third", "order:1"); return err == nil })
			if _, err := n.Deliver(n.ctx, pawl.Delivery{Tenant: "third", Token: "order:1", Data: 3}); err != nil {
				t.Fatal(err)
			}
		}
		equal(t, "the third tenant's", ended(third, "third").Got, []int{3})
		claimer := start(n, holder, seize{Token: "order:1", Claim: true}, pawl.Tenant("acme"))
		equal(t, "whom it was claimed from", ended(acme, "acme"), part{Role: "claimed", By: claimer.ID(), Hook: "$hook", Token: "order:1"})
		r, err := n.Deliver(n.ctx, pawl.Delivery{Tenant: "acme", Token: "order:1", Data: 2})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "who got it", r.Run.ID, claimer.ID())
		equal(t, "the tenant's", ended(claimer, "acme").Got, []int{2})
		n.resume("order:1", 1)
		equal(t, "the default tenant's", result(n, own).Got, []int{1})
	})
}

// TestWhyNamesNoRunOfAnotherTenant: a limit may span tenants.
func TestWhyNamesNoRunOfAnotherTenant(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		w := pawl.Define("narrow", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "hold", g.pass)
		}, pawl.Concurrency(2))
		n := boot(t, open(), nil, w)
		other := start(n, w, none{}, pawl.Tenant("acme"), pawl.ID("secret-of-acme"))
		g.wait(t)
		own := start(n, w, none{}, pawl.ID("own"))
		g.wait(t)
		queued := start(n, w, none{}, pawl.ID("queued"))
		asks := func(ref pawl.Ref, want string) {
			t.Helper()
			why := ""
			n.until("a run to be queued", func() bool {
				var err error
				if why, err = n.Why(n.ctx, ref); err != nil {
					t.Fatal(err)
				}
				return strings.Contains(why, "held by")
			})
			if !strings.Contains(why, want) || strings.Contains(why, "acme") {
				t.Errorf("why: %q, want %q in it and nothing of acme", why, want)
			}
		}
		asks(pawl.Ref{ID: queued.ID()}, "held by own, 1 run of another tenant;")
		third := start(n, w, none{}, pawl.Tenant("third"), pawl.ID("third"))
		asks(pawl.Ref{Tenant: "third", ID: third.ID()}, "held by 2 runs of other tenants;")
		g.open()
		result(n, own)
		result(n, queued)
		if _, err := pawl.Attach[none](n.Engine, other.ID(), pawl.Tenant("acme")).Result(n.ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// TestKeysOfChildrenAreTheirTenants: a child has the singleton key of the tenant that it is in.
func TestKeysOfChildrenAreTheirTenants(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		child := pawl.Define("child", func(c *pawl.Context, _ none) (string, error) {
			return pawl.WaitFor[string](c, "go")
		}, pawl.Singleton(func(json.RawMessage) (string, error) { return "k", nil }))
		parent := pawl.Define("parent", func(c *pawl.Context, _ none) (string, error) {
			ch, err := child.Spawn(c, none{}, pawl.Detach())
			if err != nil {
				return "", err
			}
			return ch.ID(), nil
		})
		n := boot(t, open(), nil, parent, child)
		ids := map[string]bool{}
		for _, tenant := range []string{"", "acme", "acme:child", "acme"} {
			r := start(n, parent, none{}, pawl.Tenant(tenant))
			id, err := pawl.Attach[string](n.Engine, r.ID(), pawl.Tenant(tenant)).Result(n.ctx)
			if err != nil {
				t.Fatalf("tenant %q: %v", tenant, err)
			}
			if info, err := n.Get(n.ctx, pawl.Ref{Tenant: tenant, ID: id}); err != nil || info.Tenant != tenant {
				t.Errorf("the child of tenant %q: %v, %v", tenant, info.Tenant, err)
			}
			ids[id] = true
		}
		equal(t, "children", len(ids), 3)
	})
}

// TestSingletonKeysOfTenantsAreToldApart: no name of a tenant or a workflow makes two keys one.
func TestSingletonKeysOfTenantsAreToldApart(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		key := pawl.Singleton(pawl.KeyOf(func(k string) string { return k }))
		wait := func(c *pawl.Context, _ string) (string, error) { return pawl.WaitFor[string](c, "go") }
		a, b := pawl.Define("b:c", wait, key), pawl.Define("c", wait, key)
		n := client(t, open(), nil, a, b)
		one := start(n, a, "k", pawl.Tenant("a"))
		two := start(n, b, "k", pawl.Tenant("a:b"))
		if one.ID() == two.ID() {
			t.Error("a run of another tenant was the answer to a start")
		}
		again := start(n, b, "k", pawl.Tenant("a:b"))
		equal(t, "the same key again", again.ID(), two.ID())
	})
}

// TestAFailedAttemptTellsItsFailure: what an attempt leaves is more than a failure.
func TestAFailedAttemptTellsItsFailure(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("twice", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "step", func(ctx context.Context) error { return pawl.ErrTimeout }, quick, pawl.MaxAttempts(2))
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		_ = failure(n, r)
		all := n.journal(r.ID(), pawl.KindAttempt, pawl.KindStep, pawl.KindResult)
		equal(t, "entries", len(all), 3)
		for _, e := range all {
			f := e.Failure()
			is(t, f, pawl.ErrTimeout)
			if e.Kind == pawl.KindAttempt {
				equal(t, "message", f.Message, pawl.ErrTimeout.Error())
			}
		}
		for _, data := range []string{``, `1`, `{}`, `{"message":""}`, `{"error":null}`} {
			for _, kind := range []pawl.Kind{pawl.KindAttempt, pawl.KindStep} {
				e := pawl.Entry{Kind: kind, Failed: true, Data: json.RawMessage(data)}
				if f := e.Failure(); f == nil || !strings.Contains(f.Error(), "unreadable failure") {
					t.Errorf("a %s with %q: %v", kind, data, f)
				}
			}
		}
	})
}

// TestStepsOfTwoTenantsHaveTwoKeys: ids of runs are a tenant's own, as of schedules that two tenants have for the same time; the keys
// that go out into the world, where nobody knows of tenants, are not the same.
func TestStepsOfTwoTenantsHaveTwoKeys(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		keyed := pawl.Define("keyed", func(c *pawl.Context, _ none) (string, error) {
			return pawl.Step(c, "pay", func(ctx context.Context) (string, error) { return pawl.InfoOf(ctx).StepID, nil })
		})
		n := boot(t, open(), replays(), keyed)
		keys := map[string]string{}
		for _, tenant := range []string{"", "acme", "acme:x", "acme%3Ax", "nightly@1"} {
			start(n, keyed, none{}, pawl.ID("nightly@1"), pawl.Tenant(tenant))
			key, err := pawl.Attach[string](n.Engine, "nightly@1", pawl.Tenant(tenant)).Result(n.ctx)
			if err != nil {
				t.Fatal(err)
			}
			if other, is := keys[key]; is {
				t.Errorf("tenants %q and %q have the key %q", other, tenant, key)
			}
			keys[key] = tenant
		}
		equal(t, "whose is the key without a tenant's name", keys["nightly@1/pay"], "")
		equal(t, "its keys", len(keys), 5)
	})
}
