package storetest

import (
	"time"

	"github.com/pawlrun/pawl"
)

// workers: leases, what becomes of a dead worker's runs, and whose fault a death is.
var workers = []promise{
	{"workers have ids of their own", func(d *desk) {
		a, b := d.join("same"), d.join("same")
		if a == b || a == 0 || b == 0 {
			d.Errorf("two workers have the ids %d and %d", a, b)
		}
	}},
	{"a lease that has not ended keeps its runs", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		d.hold(w1, "a")
		d.pass(lease - time.Second)
		d.claimed(w2)
	}},
	{"a beat extends a lease", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		d.hold(w1, "a")
		d.pass(lease / 2)
		d.ok(d.store.Beat(d.ctx, w1, d.now, d.now.Add(lease)))
		d.ok(d.store.Beat(d.ctx, w2, d.now, d.now.Add(lease)))
		d.pass(lease - time.Second)
		d.claimed(w2)
		d.same("owner", d.look("a").Worker, w1)
	}},
	{"a dead worker's runs go to the next one that claims, under a new epoch", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		r := d.hold(w1, "a")
		d.step(r, "s")
		got := d.die(w1, w2)
		d.same("runs", ids(got), []string{"a"})
		d.same("owner", got[0].Info.Worker, w2)
		if got[0].Info.Epoch <= r.Epoch {
			d.Errorf("epoch %d after %d; want it to grow", got[0].Info.Epoch, r.Epoch)
		}
		d.same("keys of the journal", d.keys(r.Key), []string{"s"})
	}},
	{"a dead worker may not beat", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		d.die(w1, w2)
		d.is("its beat", d.store.Beat(d.ctx, w1, d.now, d.now.Add(lease)), pawl.ErrFenced)
	}},
	{"a worker that never joined may not beat", func(d *desk) {
		d.is("its beat", d.store.Beat(d.ctx, 987654, d.now, d.now.Add(lease)), pawl.ErrFenced)
	}},
	{"a dead worker may not claim, whether there is work or not", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		d.die(w1, w2)
		ask := pawl.ClaimRequest{Worker: w1, Now: d.now, Limit: 10, Workflows: []string{flow}}
		_, err := d.store.Claim(d.ctx, ask)
		d.is("its claim of nothing", err, pawl.ErrFenced)
		d.start("a")
		_, err = d.store.Claim(d.ctx, ask)
		d.is("its claim", err, pawl.ErrFenced)
		d.state("a", pawl.Pending)
	}},
	{"a dead worker gets no mail", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		d.hold(w1, "a")
		d.signal("a", "e", `1`)
		got := d.die(w1, w2)
		d.same("mail in the claim", texts(got[0].Mail), []string{"event:e=1"})
		d.same("its mail", d.mail(w1), []string(nil))
	}},
	{"a worker that leaves gives its runs back at once, and no run has a strike", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		r := d.hold(w1, "a")
		d.ok(d.store.Leave(d.ctx, w1, d.now))
		got := d.again(w2, "a").Info
		d.same("strikes", got.Strikes, 0)
		if got.Epoch <= r.Epoch {
			d.Errorf("epoch %d after %d; want it to grow", got.Epoch, r.Epoch)
		}
	}},
	{"a worker that has left is fenced", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.ok(d.store.Leave(d.ctx, w, d.now))
		d.is("its commit", d.try(&pawl.Batch{Worker: w, Changes: []*pawl.Change{{Run: r.Key, Epoch: r.Epoch}}}), pawl.ErrFenced)
		d.is("its beat", d.store.Beat(d.ctx, w, d.now, d.now.Add(lease)), pawl.ErrFenced)
	}},
	{"to leave does not forget the strikes there were", func(d *desk) {
		w1, w2, w3 := d.join("w1"), d.join("w2"), d.join("w3")
		d.hold(w1, "a")
		d.die(w1, w2, w3)
		d.ok(d.store.Leave(d.ctx, w2, d.now))
		d.same("strikes", d.again(w3, "a").Info.Strikes, 1)
	}},
	{"each death without progress is a strike", func(d *desk) {
		w := d.join("w")
		d.hold(w, "a")
		for n := 1; n <= 4; n++ {
			next := d.join("next")
			got := d.die(w, next)
			d.same("runs", ids(got), []string{"a"})
			d.same("strikes", got[0].Info.Strikes, n)
			w = next
		}
	}},
	{"progress begins the count anew", func(d *desk) {
		w1, w2, w3, w4 := d.join("w1"), d.join("w2"), d.join("w3"), d.join("w4")
		d.hold(w1, "a")
		d.die(w1, w2, w3, w4)
		r := d.die(w2, w3, w4)[0].Info
		d.same("strikes after two deaths", r.Strikes, 2)
		d.step(r, "s")
		d.same("strikes after progress and a death", d.die(w3, w4)[0].Info.Strikes, 1)
	}},
	{"a run that has moved has no strikes", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		d.hold(w1, "a")
		r := d.die(w1, w2)[0].Info
		d.same("strikes after a death", r.Strikes, 1)
		d.sleep(r, d.now)
		d.same("strikes after a sleep", d.again(w2, "a").Info.Strikes, 0)
	}},
	{"a death during a trial is the fault of the run on trial alone", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		suspect := d.hold(w1, "suspect")
		d.hold(w1, "bystander")
		d.say(suspect, &pawl.Change{Solo: true})
		d.die(w1, w2)
		d.same("strikes of the suspect", d.look("suspect").Strikes, 1)
		d.same("strikes of the bystander", d.look("bystander").Strikes, 0)
	}},
	{"a trial ends with the run's move", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		suspect := d.hold(w1, "suspect")
		d.say(suspect, &pawl.Change{Solo: true})
		d.sleep(suspect, d.now)
		d.again(w1, "suspect")
		d.hold(w1, "other")
		d.die(w1, w2)
		d.same("strikes of the suspect", d.look("suspect").Strikes, 1)
		d.same("strikes of the other", d.look("other").Strikes, 1)
	}},
	{"a trial ends with the death that it explains", func(d *desk) {
		w1, w2, w3 := d.join("w1"), d.join("w2"), d.join("w3")
		suspect := d.hold(w1, "suspect")
		d.say(suspect, &pawl.Change{Solo: true})
		d.die(w1, w2, w3)
		d.hold(w2, "other")
		d.die(w2, w3)
		d.same("strikes of the suspect", d.look("suspect").Strikes, 2)
		d.same("strikes of the other", d.look("other").Strikes, 1)
	}},
	{"runs that wait have no part in a death", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		d.suspend(d.hold(w1, "a"), "e")
		d.same("runs", ids(d.die(w1, w2)), []string(nil))
		d.state("a", pawl.Waiting)
	}},
}
