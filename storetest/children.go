package storetest

import (
	"encoding/json"
	"fmt"

	"github.com/pawlrun/pawl"
)

// children: runs that a run started, and the run that goes on in another's place.
var children = []promise{
	{"a child is stored with its parent, and its entry says which run it is", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		s := d.spawn(r, "kid", "k")
		got := d.look("kid")
		d.same("parent", got.Parent, "a")
		d.same("parent's key", got.ParentRun, r.Key)
		d.same("key in the parent's journal", got.ParentKey, "k")
		e := d.journal(r.Key)[1]
		want, _ := pawl.ChildEntry(s)
		d.same("failed", e.Failed, false)
		d.data("the entry", e.Data, want)
	}},
	{"a child that cannot be started makes a failed entry", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.start("kid", of("another"))
		s := &pawl.Start{Run: newRun("kid", childOf(r, "k"))}
		d.say(r, &pawl.Change{Entries: []pawl.Entry{d.entry(r, pawl.KindChild, "k", ``)}, Children: []*pawl.Start{s}})
		d.is("the start", s.Err, pawl.ErrConflict)
		e := d.journal(r.Key)[1]
		d.same("failed", e.Failed, true)
		d.is("the failure", e.Failure(), pawl.ErrConflict)
	}},
	{"a child's end reaches the parent in the same commit", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.spawn(r, "kid", "k")
		kid := d.again(w, "kid").Info
		d.move(r, &pawl.Change{}, pawl.Move{State: pawl.Waiting})
		b := d.end(kid, pawl.Failed, `{"message":"no"}`)
		d.same("Ready", b.Ready, true)
		c := d.again(w, "a")
		want := pawl.ChildEnd(kid, pawl.Failed, json.RawMessage(`{"message":"no"}`))
		d.same("mail", texts(c.Mail), []string{"child:k=" + string(want)})
	}},
	{"a child's end reaches a parent that is held, as mail", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		r := d.hold(w1, "a")
		d.spawn(r, "kid", "k")
		kid := d.again(w2, "kid").Info
		d.end(kid, pawl.Completed, `5`)
		d.same("mail", d.mail(w1), []string{"child:k=" + string(pawl.ChildEnd(kid, pawl.Completed, json.RawMessage(`5`)))})
	}},
	{"a child whose worker has room wakes its parent there", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.spawn(r, "kid", "k")
		kid := d.again(w, "kid").Info
		d.move(r, &pawl.Change{}, pawl.Move{State: pawl.Waiting})
		b := d.commit(&pawl.Batch{Worker: w, Room: 1, Workflows: []string{flow}, Changes: []*pawl.Change{{
			Run: kid.Key, Epoch: kid.Epoch, To: &pawl.Move{State: pawl.Completed, Keep: -1},
			Entries: []pawl.Entry{d.entry(kid, pawl.KindResult, "", `1`)},
		}}})
		d.same("runs granted", ids(b.Granted), []string{"a"})
	}},
	{"a child that is cancelled before it began tells its parent", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.spawn(r, "kid", "k")
		d.ok(d.order(pawl.VerbCancel, "kid"))
		got := d.mailOf(w)
		d.same("messages", len(got), 1)
		d.same("message", got[0].Name, pawl.MsgChild+"k")
		var end struct{ State pawl.State }
		d.ok(json.Unmarshal(got[0].Data, &end))
		d.same("state in it", end.State, pawl.Cancelled)
	}},
	{"a cancel reaches children that have not begun: they end", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		s := d.spawn(r, "kid", "k")
		d.say(r, &pawl.Change{Cancels: []int64{s.Key}})
		d.state("kid", pawl.Cancelled)
	}},
	{"a cancel reaches children at work, and children that wait", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		s1, s2 := d.spawn(r, "kid1", "k1"), d.spawn(r, "kid2", "k2")
		got := d.claimed(w, "kid1", "kid2")
		d.suspend(got[1].Info, "go")
		b := d.say(r, &pawl.Change{Cancels: []int64{s1.Key, s2.Key}})
		d.same("messages in the answer", len(b.Mail), 1)
		d.same("its run", b.Mail[0].Run, s1.Key)
		d.same("its name", b.Mail[0].Name, pawl.MsgCancel)
		d.same("messages of the one that waited", d.again(w, "kid2").Mail[0].Name, pawl.MsgCancel)
	}},
	{"a cancel does nothing to children that have ended", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		s := d.spawn(r, "kid", "k")
		d.end(d.again(w, "kid").Info, pawl.Completed, `1`)
		d.say(r, &pawl.Change{Cancels: []int64{s.Key}})
		d.state("kid", pawl.Completed)
	}},
	{"a parent's end and its children's cancel are one commit", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		s := d.spawn(r, "kid", "k")
		d.move(r, &pawl.Change{Entries: []pawl.Entry{d.entry(r, pawl.KindResult, "", `1`)}, Cancels: []int64{s.Key}}, pawl.Move{State: pawl.Completed, Keep: -1})
		d.state("a", pawl.Completed)
		d.state("kid", pawl.Cancelled)
	}},
	{"a detached child outlives its parent", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.spawn(r, "kid", "k", detached)
		d.same("detached", d.look("kid").Detached, true)
		d.end(r, pawl.Completed, `1`)
		d.state("kid", pawl.Pending)
		d.end(d.again(w, "kid").Info, pawl.Completed, `1`)
	}},
	{"a detached child's end tells its parent nothing", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.spawn(r, "kid", "k", detached)
		d.end(d.again(w, "kid").Info, pawl.Completed, `1`)
		d.same("mail", d.mail(w), []string(nil))
	}},
	{"a child may end after its parent", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.spawn(r, "kid", "k")
		d.end(r, pawl.Failed, `{"message":"no"}`)
		d.end(d.again(w, "kid").Info, pawl.Completed, `1`)
		d.state("a", pawl.Failed)
	}},
	{"with Next the run ends and the next one starts, in one commit", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		b := d.next(r, "b", 0)
		d.same("Ready", b.Ready, true)
		d.state("a", pawl.Completed)
		d.same("what goes on in its place", d.look("a").Next, "b")
		d.claimed(w, "b")
	}},
	{"the next run is granted where there is room", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.same("runs granted", ids(d.next(r, "b", 1, eager).Granted), []string{"b"})
	}},
	{"the next run takes over the parent, which hears of the last end only", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.spawn(r, "kid", "k")
		d.next(d.again(w, "kid").Info, "kid2", 0)
		d.same("mail", d.mail(w), []string(nil))
		kid2 := d.again(w, "kid2").Info
		d.same("parent", d.look("kid2").Parent, "a")
		d.end(kid2, pawl.Completed, `9`)
		d.same("mail", d.mail(w), []string{"child:k=" + string(pawl.ChildEnd(kid2, pawl.Completed, json.RawMessage(`9`)))})
	}},
	{"the next run takes over the singleton key, before those in the queue", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a", single("k"))
		d.ok(d.tryStart(pawl.Queue, "queued", single("k")).Err)
		d.next(r, "b", 0)
		d.end(d.again(w, "b").Info, pawl.Completed, `1`)
		d.claimed(w, "queued")
	}},
	{"the next run gets the events that were not taken, once, and no other message", func(d *desk) {
		for _, room := range []int{0, 1} {
			w := d.join("w")
			a, b := fmt.Sprint("a", room), fmt.Sprint("b", room)
			r := d.hold(w, a)
			d.signal(a, "taken", `0`)
			d.signal(a, "one", `1`)
			d.signal(a, "two", `2`)
			d.ok(d.order(pawl.VerbWake, a))
			mail := d.mailOf(w)
			d.say(r, &pawl.Change{Consumed: []int64{mail[0].ID}})
			batch := d.next(r, b, room, eager)
			var c pawl.Claim
			if room > 0 {
				c = batch.Granted[0]
			} else {
				c = d.claimed(w, b)[0]
			}
			d.same("mail", texts(c.Mail), []string{"event:one=1", "event:two=2"})
			d.end(c.Info, pawl.Completed, `1`)
			d.ok(d.order(pawl.VerbDelete, b))
		}
	}},
	{"what the last change takes and sets does not come again, and is there", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a", func(n *pawl.NewRun) {
			n.Attrs = []pawl.Attr{{Name: "x", Value: value("1")}, {Name: "y", Value: value("1")}}
		})
		d.signal("a", "taken", `0`)
		ch := &pawl.Change{
			Run: r.Key, Epoch: r.Epoch, Consumed: []int64{d.mailOf(w)[0].ID}, Attrs: []pawl.Attr{{Name: "y", Value: value("2")}},
			Entries: []pawl.Entry{d.entry(r, pawl.KindResult, "", `null`)},
			To:      &pawl.Move{State: pawl.Completed, Keep: -1, Next: &pawl.Start{Run: newRun("b")}},
		}
		d.commit(&pawl.Batch{Worker: w, Workflows: []string{flow}, Changes: []*pawl.Change{ch}})
		d.ok(ch.Err)
		d.same("mail", len(d.again(w, "b").Mail), 0)
		d.same("attributes", d.look("b").Attrs, map[string]string{"x": "1", "y": "2"})
	}},
	{"what is sent to a run, or ordered of it, reaches the one that goes on in its place", func(d *desk) {
		w := d.join("w")
		d.next(d.hold(w, "a"), "b", 0)
		d.next(d.again(w, "b").Info, "c", 0)
		s := d.send(pawl.Send{RunID: "a", Name: "event:e", Data: []byte(`1`)})
		d.ok(s.Err)
		d.same("whose it is", s.Info.ID, "c")
		d.ok(d.order(pawl.VerbPause, "b"))
		d.state("c", pawl.Paused)
		d.is("a retry of the first", d.order(pawl.VerbRetry, "a"), pawl.ErrState)
		d.ok(d.order(pawl.VerbCancel, "a"))
		d.state("c", pawl.Cancelled)
		d.is("when it has ended", d.send(pawl.Send{RunID: "a", Name: "event:e"}).Err, pawl.ErrEnded)
	}},
	{"the next run is under the same limits", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a", limited(atOnce("l", 1)))
		d.next(r, "b", 0)
		d.start("c", limited(atOnce("l", 1)))
		d.same("how many run", len(d.claim(w)), 1)
	}},
	{"a superseded owner's Next starts nothing", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		old := d.hold(w1, "a")
		d.sleep(old, d.now)
		d.again(w2, "a")
		ch := &pawl.Change{To: &pawl.Move{State: pawl.Completed, Keep: -1, Next: &pawl.Start{Run: newRun("b")}}}
		d.say(old, ch)
		d.is("the change", ch.Err, pawl.ErrFenced)
		d.missing("b")
	}},
	{"a run does not end when the id of its Next is another's", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.start("b")
		ch := &pawl.Change{
			Run: r.Key, Epoch: r.Epoch, Entries: []pawl.Entry{d.entry(r, pawl.KindResult, "", `1`)},
			To: &pawl.Move{State: pawl.Completed, Keep: -1, Next: &pawl.Start{Run: newRun("b"), Policy: pawl.Reject}},
		}
		d.is("the commit", d.try(&pawl.Batch{Worker: r.Worker, Changes: []*pawl.Change{ch}}), pawl.ErrRefused)
		d.state("a", pawl.Running)
		d.same("keys of the journal", d.keys(r.Key), []string(nil))
	}},
}

func detached(n *pawl.NewRun) { n.Detached = true }

func childOf(r pawl.RunInfo, key string) func(*pawl.NewRun) {
	return func(n *pawl.NewRun) { n.Parent, n.ParentKey = r.Key, key }
}

// spawn has a run start a child.
func (d *desk) spawn(r pawl.RunInfo, id, key string, more ...func(*pawl.NewRun)) *pawl.Start {
	d.Helper()
	s := &pawl.Start{Run: newRun(id, append(more, childOf(r, key))...)}
	d.say(r, &pawl.Change{Entries: []pawl.Entry{d.entry(r, pawl.KindChild, key, ``)}, Children: []*pawl.Start{s}})
	d.ok(s.Err)
	return s
}

// next ends a run, and starts another in its place.
func (d *desk) next(r pawl.RunInfo, id string, room int, more ...func(*pawl.NewRun)) *pawl.Batch {
	d.Helper()
	ch := &pawl.Change{
		Run: r.Key, Epoch: r.Epoch, Entries: []pawl.Entry{d.entry(r, pawl.KindResult, "", `null`)},
		To: &pawl.Move{State: pawl.Completed, Keep: -1, Next: &pawl.Start{Run: newRun(id, more...)}},
	}
	b := d.commit(&pawl.Batch{Worker: r.Worker, Room: room, Workflows: []string{flow}, Changes: []*pawl.Change{ch}})
	d.ok(ch.Err)
	return b
}
