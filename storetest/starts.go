package storetest

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
)

// starts: one run per id, one live run per singleton key, and what each policy makes of a
// second one.
var starts = []promise{
	{"a run is stored as it was started", func(d *desk) {
		s := d.start("a", func(n *pawl.NewRun) {
			n.Tenant, n.Version, n.Seed, n.Priority, n.Trace, n.ForkedFrom = "acme", "v2", 1<<62, -3, "00-trace", "origin"
			n.NotBefore, n.Deadline, n.Keep = d.now.Add(time.Second), d.now.Add(time.Hour), 36*time.Hour
			n.Attrs = []pawl.Attr{{Name: "color", Value: value("red")}, {Name: "empty", Value: value("")}}
			n.Limits = []pawl.RunLimit{{Key: "l", N: 3}}
		})
		got, err := d.store.Lookup(d.ctx, "acme", "a")
		d.ok(err)
		d.same("key", got.Key, s.Key)
		d.same("id", got.ID, "a")
		d.same("tenant", got.Tenant, "acme")
		d.same("workflow", got.Workflow, flow)
		d.same("version", got.Version, "v2")
		d.same("state", got.State, pawl.Pending)
		d.same("epoch", got.Epoch, int64(0))
		d.same("priority", got.Priority, -3)
		d.same("seed", got.Seed, int64(1<<62))
		d.same("trace", got.Trace, "00-trace")
		d.same("forked from", got.Forked, "origin")
		d.same("retention", got.Keep, 36*time.Hour)
		d.same("attributes", got.Attrs, map[string]string{"color": "red", "empty": ""})
		d.same("limit", pawl.LimitOf(got.Limits, "l"), &pawl.RunLimit{Key: "l", N: 3})
		for what, pair := range map[string][2]time.Time{
			"created": {got.Created, d.now}, "updated": {got.Updated, d.now}, "ended": {got.Ended, {}},
			"not before": {got.NotBefore, d.now.Add(time.Second)}, "deadline": {got.Deadline, d.now.Add(time.Hour)},
		} {
			if !pair[0].Equal(pair[1]) {
				d.Errorf("%s: %v; want %v", what, pair[0], pair[1])
			}
		}
		d.same("answer: id", s.Info.ID, "a")
		d.same("answer: state", s.Info.State, pawl.Pending)
		d.same("answer: existed", s.Existed, false)
	}},
	{"keys grow", func(d *desk) {
		a, b := d.start("a"), d.start("b")
		if a.Key <= 0 || b.Key <= a.Key {
			d.Errorf("keys %d, %d", a.Key, b.Key)
		}
	}},
	{"the same start again is the same run", func(d *desk) {
		first := d.start("a")
		second := d.start("a")
		d.same("existed", second.Existed, true)
		d.same("key", second.Key, first.Key)
		d.same("id", second.Info.ID, "a")
		d.same("runs claimed", ids(d.claim(d.join("w"))), []string{"a"})
	}},
	{"the same start again is the same run after its end, too", func(d *desk) {
		d.end(d.hold(d.join("w"), "a"), pawl.Completed, `1`)
		s := d.start("a")
		d.same("existed", s.Existed, true)
		d.same("state", s.Info.State, pawl.Completed)
	}},
	{"the same start twice in one batch is one run", func(d *desk) {
		b := d.commit(&pawl.Batch{Starts: []*pawl.Start{{Run: newRun("a")}, {Run: newRun("a")}}})
		d.same("the first existed", b.Starts[0].Existed, false)
		d.same("the second existed", b.Starts[1].Existed, true)
		d.ok(b.Starts[1].Err)
		d.same("key", b.Starts[1].Key, b.Starts[0].Key)
	}},
	{"another input under the same id is ErrConflict", func(d *desk) {
		d.start("a")
		s := d.tryStart(pawl.ReturnExisting, "a", input(`{"in":2}`))
		d.is("the answer", s.Err, pawl.ErrConflict)
		d.data("input", d.journal(s.Info.Key)[0].Data, []byte(`{"in":1}`))
	}},
	{"another workflow under the same id is ErrConflict", func(d *desk) {
		d.start("a")
		d.is("the answer", d.tryStart(pawl.ReturnExisting, "a", of("another")).Err, pawl.ErrConflict)
	}},
	{"tenants have ids of their own", func(d *desk) {
		a, b := d.start("a"), d.start("a", tenant("acme"))
		d.same("existed", b.Existed, false)
		if a.Key == b.Key {
			d.Error("runs of two tenants are one")
		}
		d.same("tenant", d.look("a").Tenant, "")
		_, err := d.store.Lookup(d.ctx, "other", "a")
		d.is("look up with a third tenant", err, pawl.ErrNotFound)
	}},
	{"with Reject a taken id is ErrExists, and tells of the run", func(d *desk) {
		d.start("a")
		s := d.tryStart(pawl.Reject, "a")
		d.is("the answer", s.Err, pawl.ErrExists)
		d.same("run in the answer", s.Info.ID, "a")
	}},
	{"one start that fails does not keep the others from being stored", func(d *desk) {
		d.start("a")
		b := d.commit(&pawl.Batch{Starts: []*pawl.Start{{Run: newRun("a"), Policy: pawl.Reject}, {Run: newRun("b")}}})
		d.is("the first", b.Starts[0].Err, pawl.ErrExists)
		d.ok(b.Starts[1].Err)
		d.state("b", pawl.Pending)
	}},
	{"of many who start one id at the same time, one makes the run", func(d *desk) {
		const n = 8
		answers := make(chan *pawl.Start, n)
		now := d.now
		for range n {
			go func() {
				s := &pawl.Start{Run: newRun("a")}
				if err := d.store.Commit(d.ctx, &pawl.Batch{Now: now, Starts: []*pawl.Start{s}}); err != nil {
					s.Err = err
				}
				answers <- s
			}()
		}
		made := 0
		for range n {
			s := <-answers
			d.ok(s.Err)
			if !s.Existed {
				made++
			}
		}
		d.same("how many made it", made, 1)
		d.claimed(d.join("w"), "a")
	}},
	{"of many who start one singleton at the same time, one makes the run", func(d *desk) {
		const n = 8
		answers := make(chan *pawl.Start, n)
		now := d.now
		for i := range n {
			go func() {
				s := &pawl.Start{Run: newRun(fmt.Sprint("run", i), single("k"))}
				if err := d.store.Commit(d.ctx, &pawl.Batch{Now: now, Starts: []*pawl.Start{s}}); err != nil {
					s.Err = err
				}
				answers <- s
			}()
		}
		seen := map[string]bool{}
		for range n {
			s := <-answers
			d.ok(s.Err)
			seen[s.Info.ID] = true
		}
		d.same("different runs in the answers", len(seen), 1)
		d.same("runs claimed", len(d.claim(d.join("w"))), 1)
	}},
	{"with ReturnExisting a taken singleton key answers with its holder", func(d *desk) {
		d.start("a", single("k"))
		s := d.start("b", single("k"), input(`{"in":2}`))
		d.same("existed", s.Existed, true)
		d.same("run", s.Info.ID, "a")
		d.missing("b")
	}},
	{"with Reject a taken singleton key is ErrExists, and tells of its holder", func(d *desk) {
		d.start("a", single("k"))
		s := d.tryStart(pawl.Reject, "b", single("k"))
		d.is("the answer", s.Err, pawl.ErrExists)
		d.same("run in the answer", s.Info.ID, "a")
		d.missing("b")
	}},
	{"with Queue runs of one singleton key go one after the other", func(d *desk) {
		w := d.join("w")
		d.start("a", single("k"))
		for _, id := range []string{"b", "c"} {
			s := d.tryStart(pawl.Queue, id, single("k"))
			d.ok(s.Err)
			d.same("existed", s.Existed, false)
		}
		if d.look("b").Gate == "" {
			d.Error("the gate of a queued run is empty")
		}
		for _, id := range []string{"a", "b", "c"} {
			r := d.again(w, id).Info
			d.suspend(r, "go") // a singleton key is held while its run waits, too
			d.claimed(w)
			d.signal(id, "go", `1`)
			b := d.end(d.again(w, id).Info, pawl.Completed, `1`)
			d.same("Ready at the end of "+id, b.Ready, id != "c")
		}
	}},
	{"with Queue and a taken id the new run has an id of its own, and goes after", func(d *desk) {
		w := d.join("w")
		d.start("a", single("id:a"))
		s := d.tryStart(pawl.Queue, "a", single("id:a"))
		d.ok(s.Err)
		if s.Info.ID == "a" || s.Info.ID == "" || s.Existed {
			d.Fatalf("the second run is %q, existed %v", s.Info.ID, s.Existed)
		}
		third := d.tryStart(pawl.Queue, "a", single("id:a"))
		d.ok(third.Err)
		for _, id := range []string{"a", s.Info.ID, third.Info.ID} {
			d.end(d.again(w, id).Info, pawl.Completed, `1`)
		}
	}},
	{"an exact start whose id is taken is answered with that run, and does nothing else", func(d *desk) {
		w := d.join("w")
		exact := func(p pawl.Policy, id string) *pawl.Start {
			s := &pawl.Start{Run: newRun(id, single("k")), Policy: p, Exact: true}
			d.commit(&pawl.Batch{Starts: []*pawl.Start{s}})
			d.ok(s.Err)
			return s
		}
		d.start("a", single("k"))
		d.claimed(w, "a")
		for _, p := range []pawl.Policy{pawl.Queue, pawl.CancelOld} {
			id := map[pawl.Policy]string{pawl.Queue: "b", pawl.CancelOld: "c"}[p]
			first := exact(p, id)
			d.same("the run of the first start of "+id, first.Info.ID, id)
			d.same(id+" was there", first.Existed, false)
		}
		runs := func() (all []string) {
			for _, id := range []string{"a", "b", "c"} {
				all = append(all, fmt.Sprint(id, " ", d.look(id).State))
			}
			return all
		}
		before, mail := runs(), len(d.mail(w))
		for _, id := range []string{"a", "b", "c"} {
			for _, p := range []pawl.Policy{pawl.Queue, pawl.CancelOld} {
				again := exact(p, id)
				d.same("the run of a repeat of "+id, again.Info.ID, id)
				d.same(id+" was there", again.Existed, true)
			}
		}
		d.same("the runs", fmt.Sprint(runs()), fmt.Sprint(before))
		d.same("new mail", len(d.mail(w)), mail)
		for _, id := range []string{"a~2", "b~2", "c~2"} {
			d.missing(id)
		}
	}},
	{"with CancelOld a holder that never began ends at once", func(d *desk) {
		w := d.join("w")
		d.start("a", single("k"))
		d.ok(d.tryStart(pawl.CancelOld, "b", single("k")).Err)
		d.state("a", pawl.Cancelled)
		d.claimed(w, "b")
	}},
	{"with CancelOld a holder at work is told to cancel, and the new run starts at its end", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a", single("k"))
		d.ok(d.tryStart(pawl.CancelOld, "b", single("k")).Err)
		d.claimed(w)
		all := d.mailOf(w)
		d.same("messages", len(all), 1)
		d.same("message", all[0].Name, pawl.MsgCancel)
		d.end(r, pawl.Cancelled, `{"message":"no"}`)
		d.claimed(w, "b")
	}},
	{"with CancelOld a holder that waits is woken to cancel", func(d *desk) {
		w := d.join("w")
		d.suspend(d.hold(w, "a", single("k")), "go")
		d.ok(d.tryStart(pawl.CancelOld, "b", single("k")).Err)
		c := d.again(w, "a")
		d.same("messages", len(c.Mail), 1)
		d.same("message", c.Mail[0].Name, pawl.MsgCancel)
	}},
	{"a singleton key is free after the end", func(d *desk) {
		w := d.join("w")
		for i, s := range []pawl.State{pawl.Completed, pawl.Failed, pawl.Cancelled} {
			d.end(d.hold(w, fmt.Sprint("run", i), single("k")), s, `{"message":"x"}`)
		}
	}},
	{"a run that is retried takes its singleton key again", func(d *desk) {
		first := d.hold(d.join("w"), "a", single("s"))
		d.end(first, pawl.Failed, `{"message":"no"}`)
		d.ok(d.order(pawl.VerbRetry, "a"))
		st := d.tryStart(pawl.Reject, "b", single("s"))
		d.is("another start", st.Err, pawl.ErrExists)
		d.same("holder", st.Info.ID, "a")
	}},
	{"a run that is retried queues for a singleton key that another has taken", func(d *desk) {
		w := d.join("w")
		first := d.hold(w, "a", single("s"))
		d.end(first, pawl.Failed, `{"message":"no"}`)
		second := d.hold(w, "b", single("s"))
		d.ok(d.order(pawl.VerbRetry, "a"))
		d.claimed(w)
		h, err := d.store.Holders(d.ctx, first.Key, d.now)
		d.ok(err)
		d.same("who holds the key", h.Holds[0].ID, "b")
		d.end(second, pawl.Completed, `1`)
		d.claimed(w, "a")
		st := d.tryStart(pawl.Reject, "c", single("s"))
		d.is("another start", st.Err, pawl.ErrExists)
		d.same("holder", st.Info.ID, "a")
	}},
	{"singleton keys do not hinder each other", func(d *desk) {
		w := d.join("w")
		d.start("a", single("k1"))
		d.start("b", single("k2"))
		d.claimed(w, "a", "b")
	}},
	{"a queued run that is cancelled does not get the key", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a", single("k"))
		d.ok(d.tryStart(pawl.Queue, "b", single("k")).Err)
		d.ok(d.tryStart(pawl.Queue, "c", single("k")).Err)
		d.ok(d.order(pawl.VerbCancel, "b"))
		d.state("b", pawl.Cancelled)
		d.end(r, pawl.Completed, `1`)
		d.claimed(w, "c")
	}},
	{"a queued run waits for its own time, too", func(d *desk) {
		w := d.join("w")
		at := d.now.Add(10 * time.Second)
		r := d.hold(w, "a", single("k"))
		d.ok(d.tryStart(pawl.Queue, "b", single("k"), notBefore(at)).Err)
		d.end(r, pawl.Completed, `1`)
		d.claimed(w)
		d.to(at, w)
		d.claimed(w, "b")
	}},
	{"a queued run does not start while it is paused", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a", single("k"))
		d.ok(d.tryStart(pawl.Queue, "b", single("k")).Err)
		d.ok(d.order(pawl.VerbPause, "b"))
		d.end(r, pawl.Completed, `1`)
		d.claimed(w)
		d.ok(d.order(pawl.VerbUnpause, "b"))
		d.claimed(w, "b")
	}},
	{"a queued run is not let in by being resumed", func(d *desk) {
		w := d.join("w")
		d.hold(w, "a", single("k"))
		d.ok(d.tryStart(pawl.Queue, "b", single("k")).Err)
		d.ok(d.order(pawl.VerbPause, "b"))
		d.ok(d.order(pawl.VerbUnpause, "b"))
		d.claimed(w)
	}},
	{"a start without input has none", func(d *desk) {
		s := d.start("a", func(n *pawl.NewRun) { n.Input = json.RawMessage(`null`) })
		d.data("input", d.journal(s.Key)[0].Data, []byte(`null`))
	}},
}
