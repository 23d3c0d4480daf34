package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// money: what is reserved and spent. A budget is never overrun by a race, the ledger is what
// all counts are of, and who waits for money is woken when there is enough.
var money = []promise{
	{"what is reserved is set aside on every budget that applies", func(d *desk) {
		r := d.hold(d.join("w"), "a", capped(100))
		d.budget(pawl.Budget{Name: "all", Limit: 1000})
		d.budget(pawl.Budget{Name: "mine", Limit: 1000, Workflow: r.Workflow})
		d.budget(pawl.Budget{Name: "theirs", Limit: 1000, Workflow: "other"})
		if d.reserve(r, "s", 30).Charge == 0 {
			d.Error("it got no row in the ledger")
		}
		d.left(map[string]int64{"all": 970, "mine": 970, "theirs": 1000, "run:a:usd": 70})
	}},
	{"a reservation that one budget has too little for touches none", func(d *desk) {
		r := d.hold(d.join("w"), "a", capped(20))
		d.budget(pawl.Budget{Name: "all", Limit: 1000})
		got := d.reserve(r, "s", 30)
		if got.Charge != 0 || got.Over == nil || got.Over.Name != "run:a:usd" || got.Over.Left() != 20 {
			d.Errorf("got %+v over %+v", got, got.Over)
		}
		d.left(map[string]int64{"all": 1000, "run:a:usd": 20})
		d.same("charges", len(d.charges(pawl.ChargeFilter{})), 0)
	}},
	{"a budget may be spent to its last unit", func(d *desk) {
		r := d.hold(d.join("w"), "a", capped(30))
		d.settle(r, d.reserve(r, "s", 30), 30)
		d.left(map[string]int64{"run:a:usd": 0})
		d.same("one more", d.reserve(r, "t", 1).Charge, int64(0))
		if d.reserve(r, "t", 0).Charge == 0 {
			d.Error("what costs nothing was refused")
		}
	}},
	{"reservations of one commit see each other", func(d *desk) {
		r := d.hold(d.join("w"), "a", capped(50))
		ch := &pawl.Change{Reserves: []*pawl.Reserve{buy("s", 30), buy("t", 30)}}
		d.say(r, ch)
		d.same("refused", ch.Reserves[1].Over != nil && ch.Reserves[1].Charge == 0 && ch.Reserves[0].Charge != 0, true)
	}},
	{"what was not spent is given back, and what was stays spent", func(d *desk) {
		r := d.hold(d.join("w"), "a", capped(100))
		res := d.reserve(r, "s", 60)
		d.pass(time.Second)
		d.settle(r, res, 25)
		d.left(map[string]int64{"run:a:usd": 75})
		c := d.charges(pawl.ChargeFilter{})[0]
		d.same("charge", words(c.RunID, c.Workflow, c.Step, c.Attempt, c.Meter, c.Item, c.Reserved, c.Amount, c.Open, c.Cut, c.Settled.Sub(c.At)),
			words("a", r.Workflow, "s", 1, "usd", "item", 60, 25, false, false, time.Second))
		d.data("detail", c.Detail, []byte(`{"n":1}`))
	}},
	{"what cost more than was reserved is counted in full", func(d *desk) {
		r := d.hold(d.join("w"), "a", capped(100))
		d.settle(r, d.reserve(r, "s", 60), 120)
		d.left(map[string]int64{"run:a:usd": -20})
	}},
	{"a charge is settled once", func(d *desk) {
		r := d.hold(d.join("w"), "a", capped(100))
		res := d.reserve(r, "s", 60)
		d.settle(r, res, 25)
		d.settle(r, res, 1)
		d.left(map[string]int64{"run:a:usd": 75})
		d.is("by hand", d.byHand(res.Charge, 1), pawl.ErrState)
		d.is("one that is not there", d.byHand(res.Charge+1000, 1), pawl.ErrNotFound)
	}},
	{"a charge of a step under way is not settled by hand, one that was cut off is", func(d *desk) {
		w1 := d.join("w1")
		w2 := d.join("w2")
		r := d.hold(w1, "a", capped(100))
		res := d.reserve(r, "s", 60)
		d.is("under way", d.byHand(res.Charge, 5), pawl.ErrState)
		d.same("cut off", len(d.charges(pawl.ChargeFilter{Cut: true})), 0)
		d.die(w1, w2)
		d.same("cut off", len(d.charges(pawl.ChargeFilter{Cut: true})), 1)
		d.left(map[string]int64{"run:a:usd": 40})
		d.ok(d.byHand(res.Charge, 5))
		d.left(map[string]int64{"run:a:usd": 95})
		d.same("open", len(d.charges(pawl.ChargeFilter{Open: true})), 0)
	}},
	{"what a worker says after it was declared dead is not counted", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		r := d.hold(w1, "a", capped(100))
		d.die(w1, w2)
		d.is("reserve", d.try(&pawl.Batch{Worker: w1, Changes: []*pawl.Change{{Run: r.Key, Epoch: r.Epoch, Reserves: []*pawl.Reserve{buy("s", 30)}}}}), pawl.ErrFenced)
		d.left(map[string]int64{"run:a:usd": 100})
	}},
	{"a budget of a run holds for its descendants, and not for detached ones", func(d *desk) {
		w := d.join("w")
		a := d.hold(w, "a", capped(100))
		d.spawn(a, "b", "b")
		b := d.again(w, "b").Info
		d.spawn(b, "c", "c")
		c := d.again(w, "c").Info
		d.spawn(b, "d", "d", detached)
		alone := d.again(w, "d").Info
		d.reserve(c, "s", 30)
		d.reserve(alone, "s", 500)
		d.left(map[string]int64{"run:a:usd": 70})
	}},
	{"a run that goes on as another takes its budget along", func(d *desk) {
		w := d.join("w")
		a := d.hold(w, "a", capped(100))
		d.settle(a, d.reserve(a, "s", 30), 30)
		d.next(a, "a2", 0)
		b := d.again(w, "a2").Info
		d.reserve(b, "s", 60)
		d.left(map[string]int64{"run:a:usd": 10})
		d.same("its run", d.budgets(pawl.BudgetFilter{})[0].Run, "a2")
	}},
	{"a budget holds for runs with an attribute", func(d *desk) {
		w := d.join("w")
		d.budget(pawl.Budget{Name: "red", Limit: 100, Attr: "team", Value: "red"})
		red := d.hold(w, "a", func(n *pawl.NewRun) { n.Attrs = []pawl.Attr{{Name: "team", Value: value("red")}} })
		blue := d.hold(w, "b", func(n *pawl.NewRun) { n.Attrs = []pawl.Attr{{Name: "team", Value: value("blue")}} })
		d.reserve(red, "s", 30)
		d.reserve(blue, "s", 30)
		d.left(map[string]int64{"red": 70})
		d.say(blue, &pawl.Change{Attrs: []pawl.Attr{{Name: "team", Value: value("red")}}, Reserves: []*pawl.Reserve{buy("t", 50)}})
		d.left(map[string]int64{"red": 20})
	}},
	{"a budget holds for its tenant and its meter only", func(d *desk) {
		w := d.join("w")
		d.budget(pawl.Budget{Name: "b", Limit: 100})
		d.budget(pawl.Budget{Name: "b", Tenant: "t", Limit: 100})
		d.budget(pawl.Budget{Name: "pages", Meter: "pages", Limit: 100})
		d.reserve(d.hold(w, "a"), "s", 30)
		d.left(map[string]int64{"b": 70, "pages": 100})
		d.same("of the tenant", d.budgets(pawl.BudgetFilter{Tenant: "t"})[0].Left(), int64(100))
	}},
	{"a period ends, and with it what was counted in it", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.now = time.Date(2026, 11, 21, 23, 59, 0, 0, time.UTC)
		d.budget(pawl.Budget{Name: "day", Limit: 100, Per: 24 * time.Hour})
		old := d.reserve(r, "s", 80)
		got := d.reserve(r, "t", 30)
		if got.Over == nil || !got.Over.Until().Equal(time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)) {
			d.Fatalf("over %+v", got.Over)
		}
		d.pass(time.Minute)
		d.left(map[string]int64{"day": 100})
		if d.reserve(r, "t", 30).Charge == 0 {
			d.Error("the next day's money is refused")
		}
		d.settle(r, old, 70)
		d.left(map[string]int64{"day": 70})
	}},
	{"who needs more than is left waits for it, and is woken by a top-up", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a", capped(20), waiting)
		got := d.reserve(r, "s", 30)
		d.same("waits", got.Over.Wait, true)
		d.sleep(r, time.Time{})
		d.claimed(w)
		d.topUp("run:a:usd", 5)
		d.claimed(w)
		d.topUp("run:a:usd", 5)
		c := d.claimed(w, "a")[0]
		d.same("mail", texts(c.Mail), []string{"event:" + got.Over.Event() + "="})
		if d.reserve(c.Info, "s", 30).Charge == 0 {
			d.Error("there is enough, and it was refused")
		}
	}},
	{"who waits for money is told what for", func(d *desk) {
		r := d.hold(d.join("w"), "a", capped(20), waiting)
		got := d.reserve(r, "s", 30)
		h, err := d.store.Holders(d.ctx, r.Key, d.now)
		d.ok(err)
		d.same("waits", h.Events, []pawl.Wait{{Key: "s", Event: got.Over.Event(), Need: 30}})
	}},
	{"money that others give back wakes those who now fit, and no more of them", func(d *desk) {
		w := d.join("w")
		d.budget(pawl.Budget{Name: "all", Limit: 100, Wait: true})
		spender := d.hold(w, "spender")
		res := d.reserve(spender, "s", 100)
		for _, id := range []string{"a", "b", "c"} {
			r := d.hold(w, id)
			d.reserve(r, "s", 40)
			d.sleep(r, time.Time{})
		}
		d.settle(spender, res, 15)
		d.claimed(w, "a", "b")
	}},
	{"a run that suspends as money comes stays, or is woken", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a", capped(20), waiting)
		d.reserve(r, "s", 30)
		d.topUp("run:a:usd", 10)
		ch := &pawl.Change{To: &pawl.Move{State: pawl.Waiting}}
		d.say(r, ch)
		d.same("messages that came first", len(ch.Mail), 1)
	}},
	{"a limit that is raised, and a budget that is deleted, let those go on who wait", func(d *desk) {
		w := d.join("w")
		for _, id := range []string{"a", "b"} {
			r := d.hold(w, id, capped(20), waiting)
			d.reserve(r, "s", 30)
			d.sleep(r, time.Time{})
		}
		d.ok(d.tryBudget(&pawl.BudgetOrder{Verb: pawl.BudgetSet, Budget: pawl.Budget{Name: "run:a:usd", Meter: "usd", Limit: 40, Wait: true, Run: "a"}}))
		d.claimed(w, "a")
		d.ok(d.tryBudget(&pawl.BudgetOrder{Verb: pawl.BudgetDelete, Budget: pawl.Budget{Name: "run:b:usd"}}))
		d.claimed(w, "b")
	}},
	{"a budget that is changed keeps what was spent of it", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.budget(pawl.Budget{Name: "b", Limit: 100})
		d.settle(r, d.reserve(r, "s", 30), 30)
		d.budget(pawl.Budget{Name: "b", Limit: 50, Workflow: "other"})
		d.left(map[string]int64{"b": 20})
		d.same("not its own any more", d.reserve(r, "t", 90).Charge != 0, true)
		d.is("another meter", d.tryBudget(&pawl.BudgetOrder{Verb: pawl.BudgetSet, Budget: pawl.Budget{Name: "b", Meter: "pages", Limit: 1}}), pawl.ErrInput)
		d.is("no such run", d.tryBudget(&pawl.BudgetOrder{Verb: pawl.BudgetSet, Budget: pawl.Budget{Name: "c", Meter: "usd", Limit: 1, Run: "nobody"}}), pawl.ErrNotFound)
		d.is("no such budget", d.tryBudget(&pawl.BudgetOrder{Verb: pawl.BudgetTopUp, Budget: pawl.Budget{Name: "c"}, By: 1}), pawl.ErrNotFound)
	}},
	{"an order on a budget that is not what was read of it any more is refused", func(d *desk) {
		read := func() *pawl.Budget { return new(d.budgets(pawl.BudgetFilter{Name: "b"})[0]) }
		order := func(verb pawl.BudgetVerb, was *pawl.Budget) error {
			return d.tryBudget(&pawl.BudgetOrder{Verb: verb, Budget: pawl.Budget{Name: "b", Meter: pawl.USD, Limit: 10}, By: 1, If: was})
		}
		var conflict *pawl.BudgetConflictError
		d.budget(pawl.Budget{Name: "b", Limit: 100, Per: time.Hour})
		first := read()
		r := d.hold(d.join("w"), "a")
		d.settle(r, d.reserve(r, "s", 30), 30)
		d.ok(order(pawl.BudgetTopUp, first)) // what is spent does not count
		for _, verb := range []pawl.BudgetVerb{pawl.BudgetSet, pawl.BudgetTopUp, pawl.BudgetDelete} {
			err := order(verb, first)
			d.is("an order that comes late", err, pawl.ErrConflict)
			d.same("what was found", errors.As(err, &conflict) && !conflict.Gone, true)
		}
		d.same("extra", read().Extra, int64(1))
		topped := read()
		d.now = d.now.Add(2 * time.Hour) // another period, in which nothing was added
		d.is("an order of the period before", order(pawl.BudgetTopUp, topped), pawl.ErrConflict)
		d.ok(order(pawl.BudgetDelete, read()))
		err := order(pawl.BudgetSet, first)
		d.same("one that is gone", errors.As(err, &conflict) && conflict.Gone, true)
	}},
	{"a record that goes with an order on a budget is written with it, or neither is", func(d *desk) {
		top := func(name string, by int64) error {
			return d.tryBudget(&pawl.BudgetOrder{Verb: pawl.BudgetTopUp, Budget: pawl.Budget{Name: name}, By: by, With: &pawl.Put{Space: "s", Key: "k", Data: []byte("1"), Until: d.now.Add(time.Minute)}})
		}
		d.budget(pawl.Budget{Name: "b", Limit: 100})
		d.budget(pawl.Budget{Name: "c", Limit: 100})
		d.is("no such budget", top("none", 5), pawl.ErrNotFound)
		d.is("too little", top("b", -200), pawl.ErrInput)
		d.same("records of what was refused", len(d.records("s", "")), 0)
		d.ok(top("b", 5))
		var met *pawl.RecordConflictError
		d.same("the same again", errors.As(top("b", 5), &met), true)
		d.same("another with its record", errors.As(top("c", 5), &met), true)
		d.left(map[string]int64{"b": 105, "c": 100})
		d.now = d.now.Add(2 * time.Minute)
		d.ok(top("b", 5))
		d.left(map[string]int64{"b": 110, "c": 100})
	}},
	{"costs of a run with its family are those of its children and of the runs that it went on as too", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.settle(r, d.reserve(r, "ask", 10), 1)
		spend := func(id string, cost int64) pawl.RunInfo {
			got := d.again(w, id).Info
			d.settle(got, d.reserve(got, "ask", 1000), cost)
			return got
		}
		d.spawn(r, "kid", "k")
		kid := spend("kid", 10)
		d.spawn(kid, "grandkid", "k")
		spend("grandkid", 100)
		d.spawn(r, "away", "l", detached)
		spend("away", 5)
		other := d.hold(w, "other")
		d.settle(other, d.reserve(other, "ask", 10), 7)
		d.next(r, "b", 1)
		b := d.look("b")
		d.settle(b, d.reserve(b, "ask", 1000), 500)
		for id, want := range map[string]string{"a": "611", "kid": "110", "b": "500", "away": "5", "other": "7", "nobody": ""} {
			costs, err := d.store.Costs(d.ctx, pawl.CostFilter{ChargeFilter: pawl.ChargeFilter{RunID: id, Family: true}})
			d.ok(err)
			got := ""
			for _, c := range costs {
				got += fmt.Sprint(c.Amount)
			}
			d.same("costs of "+id+" and its own", got, want)
		}
		charges, err := d.store.Charges(d.ctx, pawl.ChargeFilter{RunID: "a", Family: true, Limit: 100})
		d.ok(err)
		d.same("charges", len(charges), 4)
	}},
	{"costs are the sums of the ledger, by whatever they are asked for", func(d *desk) {
		d.now = time.Date(2026, 11, 21, 23, 0, 0, 0, time.UTC)
		w := d.join("w")
		a, b, c := d.hold(w, "a"), d.hold(w, "b", of("other")), d.hold(w, "c", tenant("acme"))
		d.settle(c, d.reserve(c, "ask", 10), 3)
		d.settle(a, d.reserve(a, "ask", 10), 7)
		d.settle(a, d.reserve(a, "ask#2", 10), 5)
		d.settle(a, d.reserve(a, "map#3/ask", 10), 2)
		d.pass(2 * time.Hour)
		d.reserve(b, "ask", 100)
		for by, want := range map[pawl.CostBy]string{
			pawl.ByAll: "[=114/100]", pawl.ByRun: "[a=14/0 b=100/100]", pawl.ByStep: "[ask#2=5/0 ask=107/100 map#3/ask=2/0]", pawl.ByItem: "[item=114/100]",
			pawl.ByWorkflow: "[" + a.Workflow + "=14/0 other=100/100]", pawl.ByDay: "[2026-11-21=14/0 2026-11-22=100/100]",
			pawl.ByTenant: "[=114/100 acme=3/0]",
		} {
			costs, err := d.store.Costs(d.ctx, pawl.CostFilter{By: by})
			d.ok(err)
			var got []string
			for _, c := range costs {
				got = append(got, fmt.Sprintf("%s=%d/%d", c.Key, c.Amount, c.Open))
			}
			slices.Sort(got)
			d.same("by "+string(by), fmt.Sprint(got), want)
		}
		costs, err := d.store.Costs(d.ctx, pawl.CostFilter{ChargeFilter: pawl.ChargeFilter{RunID: "a", To: d.now.Add(-time.Hour)}})
		d.ok(err)
		d.same("of one run", costs, []pawl.Cost{{Meter: "usd", Charges: 3, Times: 1, Amount: 14}})
	}},
	{"costs of a branch are those of the steps in it", func(d *desk) {
		w := d.join("w")
		a, b := d.hold(w, "a"), d.hold(w, "b")
		for i, step := range []string{"map/ask", "map/in.b/ask", "map", "map#2/ask", "map0", "map.b/ask", "nap/ask"} {
			d.settle(a, d.reserve(a, step, 1000), 1<<i)
		}
		d.settle(b, d.reserve(b, "map/ask", 1000), 500)
		for under, want := range map[string]int64{"map": 3, "map/in.b": 2, "map#2": 8, "map.b": 32, "ma": 0, "": 127} {
			costs, err := d.store.Costs(d.ctx, pawl.CostFilter{ChargeFilter: pawl.ChargeFilter{RunID: "a", Under: under}})
			d.ok(err)
			var got int64
			for _, c := range costs {
				got += c.Amount
			}
			d.same("under "+under, got, want)
		}
		d.same("charges", len(d.charges(pawl.ChargeFilter{RunID: "a", Under: "map"})), 2)
	}},
	{"the ledger outlives its runs", func(d *desk) {
		r := d.hold(d.join("w"), "a", capped(100))
		d.settle(r, d.reserve(r, "s", 60), 25)
		d.end(r, pawl.Completed, `1`)
		d.ok(d.order(pawl.VerbDelete, "a"))
		d.same("charges", len(d.charges(pawl.ChargeFilter{RunID: "a"})), 1)
		d.same("budgets", len(d.budgets(pawl.BudgetFilter{})), 0)
	}},
	{"many workers who race for one budget spend no more than it has", func(d *desk) {
		const workers, each, limit = 6, 12, 500
		d.budget(pawl.Budget{Name: "all", Limit: limit})
		var all sync.WaitGroup
		var mu sync.Mutex
		spent := int64(0)
		for i := range workers {
			w := d.join(fmt.Sprint("w", i))
			r := d.hold(w, fmt.Sprint("run", i))
			all.Go(func() {
				random := rand.New(rand.NewPCG(uint64(i), 1))
				for range each {
					res := buy("s", 1+random.Int64N(60))
					b := &pawl.Batch{Worker: w, Now: d.now, Changes: []*pawl.Change{{Run: r.Key, Epoch: r.Epoch, Reserves: []*pawl.Reserve{res}}}}
					if err := d.store.Commit(d.ctx, b); err != nil {
						d.Error(err)
						return
					}
					if res.Charge == 0 {
						continue
					}
					cost := random.Int64N(res.Most + 1)
					b = &pawl.Batch{Worker: w, Now: d.now, Changes: []*pawl.Change{{Run: r.Key, Epoch: r.Epoch, Settles: []*pawl.Settle{{Charge: res.Charge, Amount: cost}}}}}
					if err := d.store.Commit(d.ctx, b); err != nil {
						d.Error(err)
						return
					}
					mu.Lock()
					spent += cost
					mu.Unlock()
				}
			})
		}
		all.Wait()
		b := d.budgets(pawl.BudgetFilter{})[0]
		d.same("spent, reserved", words(b.Spent, b.Reserved), words(spent, 0))
		if spent > limit {
			d.Errorf("%d was spent of %d", spent, int64(limit))
		}
	}},
}

// records: documents that belong to no run.
var records = []promise{
	{"a record is written and read back", func(d *desk) {
		v := d.write(pawl.Put{Space: "s", Key: "k", Data: []byte(`{"a":1}`)})
		got := d.records("s", "")
		d.same("records", words(len(got), got[0].Key, got[0].Version == v[0], string(got[0].Data)), `1 k true {"a":1}`)
		d.same("of another space", len(d.records("t", "")), 0)
	}},
	{"a record is written over only by who knows its version", func(d *desk) {
		v := d.write(pawl.Put{Space: "s", Key: "k", Data: []byte(`1`)})[0]
		d.is("as new", d.tryWrite(pawl.Put{Space: "s", Key: "k", Data: []byte(`2`)}).Err, pawl.ErrConflict)
		d.is("of another version", d.tryWrite(pawl.Put{Space: "s", Key: "k", If: v + 1, Data: []byte(`2`)}).Err, pawl.ErrConflict)
		d.is("of none that is there", d.tryWrite(pawl.Put{Space: "s", Key: "x", If: v, Data: []byte(`2`)}).Err, pawl.ErrConflict)
		v2 := d.write(pawl.Put{Space: "s", Key: "k", If: v, Data: []byte(`2`)})[0]
		d.same("a greater version", v2 > v, true)
		d.write(pawl.Put{Space: "s", Key: "k", If: pawl.AnyVersion, Data: []byte(`3`)})
		d.same("data", string(d.records("s", "")[0].Data), "3")
	}},
	{"a set of records is written whole or not at all", func(d *desk) {
		d.write(pawl.Put{Space: "s", Key: "b", Data: []byte(`1`)})
		w := d.tryWrite(pawl.Put{Space: "s", Key: "a", Data: []byte(`2`)}, pawl.Put{Space: "s", Key: "b", Data: []byte(`2`)})
		d.is("the set", w.Err, pawl.ErrConflict)
		d.same("records", len(d.records("s", "")), 1)
	}},
	{"writes of one commit see each other", func(d *desk) {
		one, two := &pawl.Write{Puts: []pawl.Put{{Space: "s", Key: "k", Data: []byte(`1`)}}}, &pawl.Write{Puts: []pawl.Put{{Space: "s", Key: "k", Data: []byte(`2`)}}}
		d.commit(&pawl.Batch{Writes: []*pawl.Write{one, two}})
		d.ok(one.Err)
		d.is("the second", two.Err, pawl.ErrConflict)
	}},
	{"a version never comes again", func(d *desk) {
		v := d.write(pawl.Put{Space: "s", Key: "k", Data: []byte(`1`)})[0]
		d.pass(time.Microsecond)
		d.write(pawl.Put{Space: "s", Key: "k", If: v})
		d.same("records", len(d.records("s", "")), 0)
		d.same("a greater version", d.write(pawl.Put{Space: "s", Key: "k", Data: []byte(`1`)})[0] > v, true)
	}},
	{"a record is gone when its time is over", func(d *desk) {
		v := d.write(pawl.Put{Space: "s", Key: "k", Data: []byte(`1`), Until: d.now.Add(time.Minute)})[0]
		d.pass(59 * time.Second)
		d.same("until", d.records("s", "")[0].Until, d.now.Add(time.Second))
		d.pass(time.Second)
		d.same("records", len(d.records("s", "")), 0)
		d.is("its old version", d.tryWrite(pawl.Put{Space: "s", Key: "k", If: v, Data: []byte(`2`)}).Err, pawl.ErrConflict)
		d.write(pawl.Put{Space: "s", Key: "k", Data: []byte(`3`), Until: d.now.Add(time.Minute)})
		d.pass(time.Hour)
		_, err := d.store.Purge(d.ctx, d.now, 10)
		d.ok(err)
		d.write(pawl.Put{Space: "s", Key: "k", Data: []byte(`4`)})
	}},
	{"records are listed by prefix, in order, page by page", func(d *desk) {
		for _, k := range []string{"b/2", "a/1", "b/1", "B/1", "b%1", "b/\U0001F600"} {
			d.write(pawl.Put{Space: "s", Key: k, Data: []byte(`1`)})
		}
		keys := func(list []pawl.Record) (out []string) {
			for _, r := range list {
				out = append(out, r.Key)
			}
			return out
		}
		d.same("of a prefix", keys(d.records("s", "b/")), []string{"b/1", "b/2", "b/\U0001F600"})
		page, err := d.store.Records(d.ctx, "s", "b/", "b/1", 1, d.now)
		d.ok(err)
		d.same("the second page", keys(page), []string{"b/2"})
		d.same("all", keys(d.records("s", "")), []string{"B/1", "a/1", "b%1", "b/1", "b/2", "b/\U0001F600"})
	}},
	{"of many who write a record at the same moment, one does", func(d *desk) {
		var all sync.WaitGroup
		var mu sync.Mutex
		won := 0
		for range 8 {
			all.Go(func() {
				w := &pawl.Write{Puts: []pawl.Put{{Space: "s", Key: "k", Data: []byte(`1`)}}}
				if err := d.store.Commit(d.ctx, &pawl.Batch{Now: d.now, Writes: []*pawl.Write{w}}); err != nil {
					d.Error(err)
				}
				if w.Err == nil {
					mu.Lock()
					won++
					mu.Unlock()
				}
			})
		}
		all.Wait()
		d.same("winners", won, 1)
	}},
}

// words are values in a line.
func words(values ...any) string { return strings.TrimSpace(fmt.Sprintln(values...)) }

// capped gives a run a budget of its own.
func capped(limit int64) func(*pawl.NewRun) {
	return func(n *pawl.NewRun) { n.Budgets = append(n.Budgets, pawl.Budget{Meter: pawl.USD, Limit: limit}) }
}

// waiting makes steps wait for the run's budgets.
func waiting(n *pawl.NewRun) {
	for i := range n.Budgets {
		n.Budgets[i].Wait = true
	}
}

func buy(step string, most int64) *pawl.Reserve {
	return &pawl.Reserve{Key: step, Attempt: 1, Meter: pawl.USD, Item: "item", Most: most}
}

func (d *desk) reserve(r pawl.RunInfo, step string, most int64) *pawl.Reserve {
	d.Helper()
	res := buy(step, most)
	d.say(r, &pawl.Change{Reserves: []*pawl.Reserve{res}})
	return res
}

func (d *desk) settle(r pawl.RunInfo, res *pawl.Reserve, amount int64) {
	d.Helper()
	d.say(r, &pawl.Change{Settles: []*pawl.Settle{{Charge: res.Charge, Amount: amount, Detail: []byte(`{"n":1}`)}}})
}

// byHand settles a charge as an operator does.
func (d *desk) byHand(charge, amount int64) error {
	d.Helper()
	s := &pawl.Settle{Charge: charge, Amount: amount}
	d.commit(&pawl.Batch{Settles: []*pawl.Settle{s}})
	return s.Err
}

func (d *desk) tryBudget(o *pawl.BudgetOrder) error {
	d.Helper()
	d.commit(&pawl.Batch{Budgets: []*pawl.BudgetOrder{o}})
	return o.Err
}

// budget sets a budget, of money if it says nothing else.
func (d *desk) budget(b pawl.Budget) {
	d.Helper()
	if b.Meter == "" {
		b.Meter = pawl.USD
	}
	d.ok(d.tryBudget(&pawl.BudgetOrder{Verb: pawl.BudgetSet, Budget: b}))
}

func (d *desk) topUp(name string, by int64) {
	d.Helper()
	d.ok(d.tryBudget(&pawl.BudgetOrder{Verb: pawl.BudgetTopUp, Budget: pawl.Budget{Name: name}, By: by}))
}

func (d *desk) budgets(f pawl.BudgetFilter) []pawl.Budget {
	d.Helper()
	f.Limit = 100
	out, err := d.store.Budgets(d.ctx, f, d.now)
	d.ok(err)
	return out
}

// left says what must be left of the budgets of the default tenant.
func (d *desk) left(want map[string]int64) {
	d.Helper()
	got := map[string]int64{}
	for _, b := range d.budgets(pawl.BudgetFilter{}) {
		got[b.Name] = b.Left()
	}
	d.same("left", got, want)
}

func (d *desk) charges(f pawl.ChargeFilter) []pawl.Charge {
	d.Helper()
	f.Limit = 100
	out, err := d.store.Charges(d.ctx, f)
	d.ok(err)
	return out
}

func (d *desk) tryWrite(puts ...pawl.Put) *pawl.Write {
	d.Helper()
	w := &pawl.Write{Puts: puts}
	d.commit(&pawl.Batch{Writes: []*pawl.Write{w}})
	return w
}

func (d *desk) write(puts ...pawl.Put) []int64 {
	d.Helper()
	w := d.tryWrite(puts...)
	d.ok(w.Err)
	return w.Versions
}

func (d *desk) records(space, prefix string) []pawl.Record {
	d.Helper()
	out, err := d.store.Records(d.ctx, space, prefix, "", 100, d.now)
	d.ok(err)
	return out
}
