package storetest

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
)

// forks: runs made of another's journal; and what is kept of ended runs, and for how long.
var forks = []promise{
	{"a fork has the entries before a point, and an input of its own", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		for _, k := range []string{"one", "two", "three"} {
			d.step(r, k)
		}
		s := d.fork("b", &pawl.Copy{From: r.Key, Until: 3})
		d.same("keys", d.keys(s.Key), []string{"one", "two"})
		e := d.journal(s.Key)
		d.data("input", e[0].Data, []byte(`{"in":2}`))
		d.same("seqs", []int64{e[0].Seq, e[1].Seq, e[2].Seq}, []int64{0, 1, 2})
		d.data("what step one returned", e[1].Data, []byte(`1`))
		d.same("keys of the original", d.keys(r.Key), []string{"one", "two", "three"})
		d.same("forked from", d.look("b").Forked, "a")
	}},
	{"a fork at the start has its input only", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.step(r, "one")
		d.same("keys", d.keys(d.fork("b", &pawl.Copy{From: r.Key, Until: 1}).Key), []string(nil))
	}},
	{"a fork has other results where they were replaced", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.step(r, "one")
		bad := d.entry(r, pawl.KindStep, "two", `{"message":"no"}`)
		bad.Failed, bad.Attempt = true, 4
		d.say(r, &pawl.Change{Entries: []pawl.Entry{bad}})
		d.step(r, "three")
		mended, broken := bad, d.journal(r.Key)[1]
		mended.Failed, mended.Data = false, json.RawMessage(`"mended"`)
		broken.Failed, broken.Data = true, json.RawMessage(`{"message":"what if"}`)
		s := d.fork("b", &pawl.Copy{From: r.Key, Until: 4, Replace: []pawl.Entry{mended, broken}})
		e := d.journal(s.Key)
		d.same("keys", d.keys(s.Key), []string{"one", "two", "three"})
		d.same("the first failed", e[1].Failed, true)
		d.data("the first", e[1].Data, broken.Data)
		d.same("the second failed", e[2].Failed, false)
		d.same("attempt of the second", e[2].Attempt, 4)
		d.data("the second", e[2].Data, mended.Data)
		d.data("the third", e[3].Data, []byte(`1`))
		d.data("the second of the original", d.journal(r.Key)[2].Data, bad.Data)
	}},
	{"a fork has no entries that were to be left out", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		for _, k := range []string{"one", "two", "three", "four"} {
			d.step(r, k)
		}
		d.same("keys", d.keys(d.fork("b", &pawl.Copy{From: r.Key, Until: 4, Omit: []int64{1, 3}}).Key), []string{"two"})
	}},
	{"a fork goes on by itself, and leaves the original alone", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.step(r, "one")
		d.end(r, pawl.Failed, `{"message":"no"}`)
		d.fork("b", &pawl.Copy{From: r.Key, Until: 2})
		got := d.again(w, "b").Info
		d.step(got, "two")
		d.end(got, pawl.Completed, `1`)
		d.same("keys", d.keys(got.Key), []string{"one", "two", ""})
		d.state("a", pawl.Failed)
		d.state("b", pawl.Completed)
	}},
	{"a fork under an id that is taken copies nothing", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.step(r, "one")
		other := d.start("b", input(`{"in":2}`))
		d.same("existed", d.fork("b", &pawl.Copy{From: r.Key, Until: 2}).Existed, true)
		d.same("keys", d.keys(other.Key), []string(nil))
	}},

	{"an ended run is kept for as long as was said, and no longer", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.move(r, &pawl.Change{}, pawl.Move{State: pawl.Completed, Keep: time.Minute})
		d.purged(d.now.Add(time.Minute-time.Microsecond), 0)
		d.state("a", pawl.Completed)
		d.purged(d.now.Add(time.Minute), 1)
		d.missing("a")
	}},
	{"a negative retention is for ever, of ended runs and of those that never began", func(d *desk) {
		w := d.join("w")
		d.end(d.hold(w, "a"), pawl.Completed, `1`)
		d.start("b", func(n *pawl.NewRun) { n.Keep = -1 })
		d.ok(d.order(pawl.VerbCancel, "b"))
		d.purged(d.now.Add(100*365*24*time.Hour), 0)
	}},
	{"a run that never began is kept for as long as its start said", func(d *desk) {
		d.start("a", func(n *pawl.NewRun) { n.Keep = time.Hour })
		d.ok(d.order(pawl.VerbCancel, "a"))
		d.purged(d.now.Add(time.Hour-time.Microsecond), 0)
		d.purged(d.now.Add(time.Hour), 1)
	}},
	{"a run that has not ended is never purged", func(d *desk) {
		w := d.join("w")
		for _, s := range []pawl.State{pawl.Waiting, pawl.Paused, pawl.Blocked, pawl.Running, pawl.Pending} {
			d.inState(w, s.String(), s)
		}
		d.purged(d.now.Add(100*365*24*time.Hour), 0)
	}},
	{"a run that was retried is not purged", func(d *desk) {
		w := d.join("w")
		d.move(d.hold(w, "a"), &pawl.Change{}, pawl.Move{State: pawl.Failed, Keep: 0})
		d.ok(d.order(pawl.VerbRetry, "a"))
		d.purged(d.now.Add(time.Hour), 0)
		d.claimed(w, "a")
	}},
	{"a purge takes as many as it may", func(d *desk) {
		w := d.join("w")
		for i := range 5 {
			d.move(d.hold(w, fmt.Sprint("run", i)), &pawl.Change{}, pawl.Move{State: pawl.Completed, Keep: 0})
		}
		for _, want := range []int{2, 2, 1, 0} {
			n, err := d.store.Purge(d.ctx, d.now, 2)
			d.ok(err)
			d.same("purged", n, want)
		}
	}},
	{"a purge takes all that is the run's own", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.furnish(r)
		d.move(r, &pawl.Change{}, pawl.Move{State: pawl.Completed, Keep: 0})
		d.purged(d.now, 1)
		d.gone(r)
	}},
}

// fork starts a run as a copy of another.
func (d *desk) fork(id string, c *pawl.Copy) *pawl.Start {
	d.Helper()
	s := &pawl.Start{Run: newRun(id, input(`{"in":2}`), func(n *pawl.NewRun) { n.ForkedFrom = "a" }), Copy: c}
	d.commit(&pawl.Batch{Starts: []*pawl.Start{s}})
	d.ok(s.Err)
	return s
}

func (d *desk) purged(now time.Time, want int) {
	d.Helper()
	n, err := d.store.Purge(d.ctx, now, 100)
	d.ok(err)
	d.same(fmt.Sprintf("purged %v later", now.Sub(d.now)), n, want)
}
