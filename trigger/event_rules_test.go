package trigger

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

// An event is its tenant's: it starts runs there, and reaches those that wait there.
func TestAnEventStaysInItsTenant(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		waiter := pawl.Define("waiter", func(c *pawl.Context, _ any) (int, error) {
			o, err := WaitFor[order](c, "order")
			return o.N, err
		})
		e := client(t, open(), taker, waiter)
		background(t, e.Run)
		tenants := []string{"", "acme", "other"}
		for _, tenant := range tenants {
			if _, err := Subscribe(t.Context(), e, Subscription{ID: "all", Event: "order", Workflow: "taker", Tenant: tenant}); err != nil {
				t.Fatal(err)
			}
			if _, err := e.StartRun(t.Context(), "waiter", nil, pawl.ID("w"), pawl.Tenant(tenant)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it waits", func() bool {
				info, err := e.Get(t.Context(), pawl.Ref{Tenant: tenant, ID: "w"})
				return err == nil && info.State == pawl.Waiting
			})
		}
		for i, tenant := range []string{"acme", "", "other"} {
			p, err := Publish(t.Context(), e, Event{ID: "same id", Name: "order", Tenant: tenant, Data: order{i + 1}})
			if err != nil || p.Repeated || p.Waiters != 1 || len(p.Runs) != 1 || p.Pending {
				t.Fatalf("tenant %q: %+v, %v", tenant, p, err)
			}
			started, err := e.Get(t.Context(), pawl.Ref{Tenant: tenant, ID: p.Runs[0]})
			if err != nil || started.Tenant != tenant {
				t.Errorf("tenant %q: run %+v, %v", tenant, started, err)
			}
			info, _, err := e.Wait(t.Context(), tenant, "w")
			if err != nil || info.State != pawl.Completed {
				t.Errorf("tenant %q: who waits there is %v, %v", tenant, info.State, err)
			}
			for _, other := range tenants {
				runs, err := e.List(t.Context(), pawl.Filter{Tenant: other, Workflow: "taker"})
				want := 0
				for _, done := range []string{"acme", "", "other"}[:i+1] {
					if done == other {
						want = 1
					}
				}
				if err != nil || len(runs) != want {
					t.Errorf("after the event of %q, tenant %q has %d runs, want %d: %v", tenant, other, len(runs), want, err)
				}
			}
		}
	})
}

// An event starts what is subscribed to it when it is published, and not what was: neither what was moved to another
// event, nor what was given up.
func TestASubscriptionThatWasMovedOrGivenUp(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		e := client(t, open(), taker)
		sub := Subscription{ID: "s", Event: "order", Workflow: "taker"}
		publish := func(name string) int {
			t.Helper()
			p, err := Publish(t.Context(), e, Event{Name: name, Data: order{1}})
			if err != nil {
				t.Fatal(err)
			}
			return len(p.Runs)
		}
		for _, event := range []string{"order", "refund", "order"} {
			sub.Event = event
			if _, err := Subscribe(t.Context(), e, sub); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"order", "refund"} {
				if n := publish(name); (n == 1) != (name == event) {
					t.Errorf("subscribed to %s, %s starts %d runs", event, name, n)
				}
			}
		}
		if err := Unsubscribe(t.Context(), e, "", "s"); err != nil {
			t.Fatal(err)
		}
		if n := publish("order"); n != 0 {
			t.Errorf("given up, and %d runs are started", n)
		}
		if err := Unsubscribe(t.Context(), e, "", "s"); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("given up twice: %v", err)
		}
	})
}

// An event is known by its id for a day at least, however short it is to be kept.
func TestAnEventIsKnownForADay(t *testing.T) {
	idle(t, func(t *testing.T, e *pawl.Engine) {
		publish := func() Published {
			t.Helper()
			p, err := Publish(t.Context(), e, Event{ID: "e", Name: "order", Data: order{1}, Keep: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		if p := publish(); p.Repeated {
			t.Errorf("%+v", p)
		}
		time.Sleep(24*time.Hour - time.Second)
		if p := publish(); !p.Repeated {
			t.Error("within a day it is taken for another")
		}
		time.Sleep(2 * time.Second)
		if p := publish(); p.Repeated {
			t.Error("it is never forgotten")
		}
	})
}

// A Runner that finishes what a publisher left gives the event to nobody who began to wait behind it, unless that one
// looks back as far; and that one gets it once.
func TestAnEventIsNotForThoseWhoComeLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		waits := func(name string, opts ...WaitOption) *pawl.Workflow[any, int] {
			return pawl.Define(name, func(c *pawl.Context, _ any) (int, error) {
				o, err := WaitFor[order](c, "order", append(opts, Timeout(time.Hour))...)
				return o.N, err
			})
		}
		defs := []pawl.Definition{waits("ahead"), waits("second", LookBack(time.Second)), waits("minute", LookBack(time.Minute))}
		e := client(t, s, defs...)
		defer background(t, e.Run)()
		n := 0
		d := &dying{Store: s, after: true, fatal: func(*pawl.Batch) bool { n++; return n == 1 }}
		if _, err := Publish(t.Context(), client(t, d), Event{ID: "e", Name: "order", Data: order{7}}); !d.dead {
			t.Fatal("the publisher did not die", err)
		}
		time.Sleep(5 * time.Second)
		for _, name := range []string{"ahead", "second", "minute"} {
			if _, err := e.StartRun(t.Context(), name, nil, pawl.ID(name)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		fire(t, e, 30*time.Second)
		p, err := Publish(t.Context(), e, Event{ID: "e", Name: "order", Data: order{7}})
		if err != nil || !p.Repeated || p.Pending || p.Waiters != 0 {
			t.Errorf("%+v, %v; want nobody to have waited for it", p, err)
		}
		for name, want := range map[string]string{"ahead": "failed", "second": "failed", "minute": "completed"} {
			info, _, err := e.Wait(t.Context(), "", name)
			if err != nil || info.State.String() != want {
				t.Errorf("%s is %v, want %s: %v", name, info.State, want, err)
			}
		}
	})
}

// The time of a wait runs from its beginning, also when an event comes to it that another wait of its run takes.
func TestTheTimeOfAWaitRunsFromItsBeginning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := sqlite.Open(sqlite.Memory, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var mu sync.Mutex
		took := map[string]time.Duration{}
		began := time.Now()
		both := pawl.Define("both", func(c *pawl.Context, _ any) (string, error) {
			branch := func(c *pawl.Context) (int, error) {
				o, err := WaitFor[order](c, "order", Timeout(time.Hour))
				got := fmt.Sprint(o.N)
				if errors.Is(err, pawl.ErrTimeout) {
					got, err = "nobody", nil
				}
				mu.Lock()
				defer mu.Unlock()
				if took[got] == 0 { // else it is replayed
					took[got] = time.Since(began)
				}
				return o.N, err
			}
			_, err := pawl.All(c, pawl.Go(c, "a", branch), pawl.Go(c, "b", branch))
			return "", err
		})
		e := client(t, s, both)
		defer background(t, e.Run)()
		r, err := both.Start(t.Context(), e, nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(40 * time.Minute)
		if p := publishN(t, e, 7); p.Waiters != 2 {
			t.Errorf("%+v", p)
		}
		if _, err := r.Result(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took["7"].Truncate(time.Minute) != 40*time.Minute || took["nobody"].Truncate(time.Minute) != time.Hour {
			t.Errorf("they waited %v; want one 40 min, and the other an hour", took)
		}
	})
}
