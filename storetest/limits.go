package storetest

import (
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
)

// limits: how many runs are worked at once, and how many start per period. A limit never
// lets too many in, and never keeps a run out when there is room.
var limits = []promise{
	{"no more runs are worked at once than the limit says", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		for i := range 5 {
			d.start(fmt.Sprint("run", i), limited(atOnce("l", 2)))
		}
		first := d.claimed(w1, "run0", "run1")
		d.claimed(w2)
		d.end(first[0].Info, pawl.Completed, `1`)
		d.claimed(w2, "run2")
		d.end(first[1].Info, pawl.Completed, `1`)
		d.claimed(w1, "run3")
	}},
	{"an end that makes room says that a run is ready", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a", limited(atOnce("l", 1)))
		d.start("b", limited(atOnce("l", 1)))
		d.claimed(w)
		d.same("Ready", d.end(r, pawl.Completed, `1`).Ready, true)
	}},
	{"a run that waits for a place says what it waits for", func(d *desk) {
		w := d.join("w")
		d.hold(w, "a", limited(atOnce("l", 1)))
		d.start("b", limited(atOnce("l", 1)))
		d.claimed(w)
		if d.look("b").Gate == "" {
			d.Error("its gate is empty")
		}
	}},
	{"limits with different keys do not hinder each other", func(d *desk) {
		w := d.join("w")
		d.start("a", limited(atOnce("l1", 1)))
		d.start("b", limited(atOnce("l2", 1)))
		d.claimed(w, "a", "b")
	}},
	{"a run passes when there is room under all its limits", func(d *desk) {
		w := d.join("w")
		a := d.hold(w, "a", limited(atOnce("l1", 1)))
		b := d.hold(w, "b", limited(atOnce("l2", 1)))
		d.start("c", limited(atOnce("l1", 1), atOnce("l2", 1)))
		d.claimed(w)
		d.end(a, pawl.Completed, `1`)
		d.claimed(w)
		d.end(b, pawl.Completed, `1`)
		d.claimed(w, "c")
	}},
	{"a run that stands at one limit takes no place under another", func(d *desk) {
		w := d.join("w")
		a := d.hold(w, "a", limited(atOnce("l1", 1)))
		d.hold(w, "b", limited(atOnce("l2", 1)))
		d.start("both", limited(atOnce("l1", 1), atOnce("l2", 1)))
		d.pass(time.Second)
		d.start("one", limited(atOnce("l1", 1)))
		d.claimed(w)
		d.end(a, pawl.Completed, `1`)
		d.claimed(w, "one")
	}},
	{"a run that waits gives its place to the next", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a", limited(atOnce("l", 1)))
		d.start("b", limited(atOnce("l", 1)))
		d.claimed(w)
		d.suspend(r, "go")
		other := d.again(w, "b").Info
		d.signal("a", "go", `1`)
		d.claimed(w)
		d.end(other, pawl.Completed, `1`)
		d.same("mail", texts(d.again(w, "a").Mail), []string{"event:go=1"})
	}},
	{"a timer does not go past a limit", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a", limited(atOnce("l", 1)))
		d.sleep(r, d.now.Add(time.Second))
		other := d.hold(w, "b", limited(atOnce("l", 1)))
		d.pass(2 * time.Second)
		d.claimed(w)
		d.end(other, pawl.Completed, `1`)
		d.claimed(w, "a")
	}},
	{"a dead worker's places are free", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		d.hold(w1, "a", limited(atOnce("l", 1)))
		d.start("b", limited(atOnce("l", 1)))
		d.claimed(w2)
		d.same("how many run afterwards", len(d.die(w1, w2)), 1)
	}},
	{"a worker that leaves frees its places", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		d.hold(w1, "a", limited(atOnce("l", 1)))
		d.start("b", limited(atOnce("l", 1)))
		d.claimed(w2)
		d.ok(d.store.Leave(d.ctx, w1, d.now))
		d.same("how many run afterwards", len(d.claim(w2)), 1)
	}},
	{"a run that was let in and is cancelled lets the next one in", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a", limited(atOnce("l", 1)))
		d.start("b", limited(atOnce("l", 1)))
		d.start("c", limited(atOnce("l", 1)))
		d.claimed(w)
		d.end(r, pawl.Completed, `1`)
		d.ok(d.order(pawl.VerbCancel, "b"))
		d.claimed(w, "c")
	}},
	{"a run that was let in and is paused lets the next one in", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a", limited(atOnce("l", 1)))
		d.start("b", limited(atOnce("l", 1)))
		d.start("c", limited(atOnce("l", 1)))
		d.claimed(w)
		d.end(r, pawl.Completed, `1`)
		d.ok(d.order(pawl.VerbPause, "b"))
		d.claimed(w, "c")
	}},
	{"a paused run in the queue keeps nobody back", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a", limited(atOnce("l", 1)))
		d.start("b", limited(atOnce("l", 1)))
		d.start("c", limited(atOnce("l", 1)))
		d.claimed(w)
		d.ok(d.order(pawl.VerbPause, "b"))
		d.end(r, pawl.Completed, `1`)
		r = d.again(w, "c").Info
		d.ok(d.order(pawl.VerbUnpause, "b"))
		d.claimed(w)
		d.end(r, pawl.Completed, `1`)
		d.claimed(w, "b")
	}},
	{"a run held back by its rate keeps nobody from its place", func(d *desk) {
		w := d.join("w")
		d.hold(w, "x", limited(perTime("r", 1, time.Minute)))
		r := d.hold(w, "a", limited(atOnce("l", 1)))
		d.start("both", limited(atOnce("l", 1), perTime("r", 1, time.Minute)))
		d.pass(time.Second)
		d.start("c", limited(atOnce("l", 1)))
		d.claimed(w)
		d.end(r, pawl.Completed, `1`)
		d.claimed(w, "c")
	}},
	{"to be cancelled, a run needs no place", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a", limited(atOnce("l", 1)))
		d.suspend(r, "go")
		d.hold(w, "b", limited(atOnce("l", 1)))
		d.ok(d.order(pawl.VerbCancel, "a"))
		d.claimed(w, "a")
	}},
	{"to be cancelled, a run that stands in the queue needs no place", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a", limited(atOnce("l", 1)))
		d.sleep(r, d.now)
		d.start("b", limited(atOnce("l", 1)), priority(10))
		d.claimed(w, "b")
		d.ok(d.order(pawl.VerbCancel, "a"))
		d.claimed(w, "a")
	}},
	{"the queue behind a limit goes by rank", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a", limited(atOnce("l", 1)))
		d.start("b", limited(atOnce("l", 1)))
		d.start("urgent", limited(atOnce("l", 1)), priority(10))
		d.claimed(w)
		d.end(r, pawl.Completed, `1`)
		d.end(d.again(w, "urgent").Info, pawl.Completed, `1`)
		d.claimed(w, "b")
	}},
	{"no more runs start in a period than the rate says", func(d *desk) {
		w := d.join("w")
		began := d.now
		for i := range 5 {
			d.start(fmt.Sprint("run", i), limited(perTime("r", 2, time.Minute)))
		}
		d.claimed(w, "run0", "run1")
		next := began.Add(time.Minute)
		if due := d.claims(w, 10, flow).Due; !due.Equal(next) {
			d.Errorf("Due is %v; want %v", due, next)
		}
		d.to(next.Add(-time.Microsecond), w)
		d.claimed(w)
		d.to(next, w)
		d.same("how many start after a period", len(d.claim(w)), 2)
		d.to(next.Add(time.Minute), w)
		d.same("how many start after another", len(d.claim(w)), 1)
	}},
	{"the period of a rate slides", func(d *desk) {
		w := d.join("w")
		began := d.now
		rate := limited(perTime("r", 2, time.Minute))
		d.hold(w, "a", rate)
		d.to(began.Add(50*time.Second), w)
		d.hold(w, "b", rate)
		d.start("c", rate)
		d.claimed(w)
		d.to(began.Add(time.Minute), w)
		d.claimed(w, "c")
		d.start("d", rate)
		d.claimed(w)
		d.to(began.Add(109*time.Second), w)
		d.claimed(w)
		d.to(began.Add(110*time.Second), w)
		d.claimed(w, "d")
	}},
	{"a pause does not let a run past its rate", func(d *desk) {
		w := d.join("w")
		rate := limited(perTime("r", 1, time.Hour))
		d.hold(w, "a", rate)
		d.start("b", rate)
		d.ok(d.order(pawl.VerbPause, "b"))
		d.ok(d.order(pawl.VerbUnpause, "b"))
		d.claimed(w)
	}},
	{"a run that goes on is no start", func(d *desk) {
		w := d.join("w")
		rate := limited(perTime("r", 1, time.Hour))
		r := d.hold(w, "a", rate)
		for range 3 {
			d.sleep(r, d.now)
			r = d.again(w, "a").Info
		}
		d.start("b", rate)
		d.claimed(w)
	}},
	{"a limit holds for runs that a worker starts for itself", func(d *desk) {
		w := d.join("w")
		b := &pawl.Batch{Worker: w, Room: 9, Workflows: []string{flow}}
		for i := range 3 {
			b.Starts = append(b.Starts, &pawl.Start{Run: newRun(fmt.Sprint("run", i), eager, limited(atOnce("l", 1)))})
		}
		d.commit(b)
		d.same("how many run", len(b.Granted)+len(d.claim(w)), 1)
	}},
	{"a limit holds for runs that a message wakes", func(d *desk) {
		w := d.join("w")
		d.suspend(d.hold(w, "a", limited(atOnce("l", 1))), "go")
		d.hold(w, "b", limited(atOnce("l", 1)))
		b := d.commit(&pawl.Batch{Worker: w, Room: 9, Workflows: []string{flow}, Sends: []*pawl.Send{{RunID: "a", Name: "event:go"}}})
		d.same("runs granted", ids(b.Granted), []string(nil))
		d.claimed(w)
	}},
}

func atOnce(key string, n int) pawl.RunLimit { return pawl.RunLimit{Key: key, N: n} }

func perTime(key string, n int, per time.Duration) pawl.RunLimit {
	return pawl.RunLimit{Key: key, N: n, Per: per}
}
