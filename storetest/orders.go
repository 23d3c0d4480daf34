package storetest

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/pawlrun/pawl"
)

// orders: what an operator may do to a run in each state, and what comes of it.
var orders = []promise{
	{"an order for an unknown run is ErrNotFound", func(d *desk) {
		for v := pawl.VerbCancel; v <= pawl.VerbMigrate; v++ {
			d.is(v.String(), d.order(v, "nobody"), pawl.ErrNotFound)
		}
	}},
	{"an order that does not fit the state is refused, and changes nothing", func(d *desk) {
		w := d.join("w")
		ended, unfit := pawl.ErrEnded, pawl.ErrState
		for _, c := range []struct {
			state pawl.State
			verbs []pawl.Verb
			want  error
		}{
			{pawl.Pending, []pawl.Verb{pawl.VerbUnpause, pawl.VerbRetry, pawl.VerbDelete}, unfit},
			{pawl.Running, []pawl.Verb{pawl.VerbUnpause, pawl.VerbRetry, pawl.VerbDelete, pawl.VerbMigrate}, unfit},
			{pawl.Waiting, []pawl.Verb{pawl.VerbUnpause, pawl.VerbRetry, pawl.VerbDelete}, unfit},
			{pawl.Paused, []pawl.Verb{pawl.VerbPause, pawl.VerbRetry, pawl.VerbDelete}, unfit},
			{pawl.Blocked, []pawl.Verb{pawl.VerbPause, pawl.VerbDelete}, unfit},
			{pawl.Completed, []pawl.Verb{pawl.VerbRetry}, unfit},
			{pawl.Cancelled, []pawl.Verb{pawl.VerbRetry}, unfit},
			{pawl.Completed, []pawl.Verb{pawl.VerbCancel, pawl.VerbPause, pawl.VerbUnpause, pawl.VerbWake, pawl.VerbMigrate}, ended},
			{pawl.Failed, []pawl.Verb{pawl.VerbCancel, pawl.VerbPause, pawl.VerbUnpause, pawl.VerbWake, pawl.VerbMigrate}, ended},
			{pawl.Cancelled, []pawl.Verb{pawl.VerbCancel, pawl.VerbPause, pawl.VerbUnpause, pawl.VerbWake, pawl.VerbMigrate}, ended},
		} {
			for _, v := range c.verbs {
				id := c.state.String() + " " + v.String() + " " + c.want.Error()
				d.inState(w, id, c.state)
				before := d.look(id)
				d.pass(time.Second)
				d.is(id, d.order(v, id), c.want)
				d.same(id+": the run", d.look(id), before)
				d.same(id+": mail", d.mail(w), []string(nil))
				if c.state == pawl.Running {
					d.end(before, pawl.Completed, `1`)
				} else {
					d.claim(w) // the pending ones are out of the way
				}
			}
		}
	}},
	{"an order's answer is the run as it is afterwards", func(d *desk) {
		d.start("a")
		o := &pawl.Order{Verb: pawl.VerbPause, RunID: "a"}
		d.commit(&pawl.Batch{Orders: []*pawl.Order{o}})
		d.same("state", o.Info.State, pawl.Paused)
	}},
	{"an order reaches the run of its tenant", func(d *desk) {
		d.start("a")
		d.start("a", tenant("acme"))
		o := &pawl.Order{Verb: pawl.VerbCancel, RunID: "a", Tenant: "acme"}
		d.commit(&pawl.Batch{Orders: []*pawl.Order{o}})
		d.ok(o.Err)
		d.same("tenant in the answer", o.Info.Tenant, "acme")
		d.state("a", pawl.Pending)
	}},

	{"cancel ends a run that never began, with a result that says so", func(d *desk) {
		s := d.start("a")
		d.ok(d.order(pawl.VerbCancel, "a"))
		got := d.look("a")
		d.same("state", got.State, pawl.Cancelled)
		d.same("reason", got.Reason, "because")
		if !got.Ended.Equal(d.now) {
			d.Errorf("ended %v; want %v", got.Ended, d.now)
		}
		e, err := d.store.Result(d.ctx, s.Key)
		d.ok(err)
		d.same("kind of its last entry", e.Kind, pawl.KindResult)
		d.same("it failed", e.Failed, true)
		d.is("its failure", e.Failure(), pawl.ErrCancelled)
		d.claimed(d.join("w"))
	}},
	{"cancel ends a run that never began and is paused", func(d *desk) {
		d.start("a")
		d.ok(d.order(pawl.VerbPause, "a"))
		d.ok(d.order(pawl.VerbCancel, "a"))
		d.state("a", pawl.Cancelled)
	}},
	{"cancel ends a blocked run: its code cannot be asked", func(d *desk) {
		w := d.join("w")
		d.inState(w, "a", pawl.Blocked)
		d.ok(d.order(pawl.VerbCancel, "a"))
		d.state("a", pawl.Cancelled)
		d.claimed(w)
	}},
	{"cancel tells a run at work, through its owner", func(d *desk) {
		w := d.join("w")
		d.hold(w, "a")
		d.ok(d.order(pawl.VerbCancel, "a"))
		d.state("a", pawl.Running)
		d.same("mail", d.mail(w), []string{`cancel={"reason":"because"}`})
	}},
	{"cancel wakes a run that waits, or is paused, or lost its worker", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		d.inState(w2, "waiting", pawl.Waiting)
		d.inState(w2, "paused", pawl.Paused)
		for _, id := range []string{"waiting", "paused"} {
			d.ok(d.order(pawl.VerbCancel, id))
			d.same("mail", texts(d.again(w2, id).Mail), []string{`cancel={"reason":"because"}`})
		}
		d.hold(w1, "orphan")
		d.ok(d.store.Leave(d.ctx, w1, d.now))
		d.ok(d.order(pawl.VerbCancel, "orphan"))
		d.same("mail", texts(d.again(w2, "orphan").Mail), []string{`cancel={"reason":"because"}`})
	}},

	{"pause stops a run that nobody holds at once", func(d *desk) {
		w := d.join("w")
		d.inState(w, "waiting", pawl.Waiting)
		d.start("pending")
		d.start("later", notBefore(d.now.Add(time.Second)))
		for _, id := range []string{"pending", "waiting", "later"} {
			d.ok(d.order(pawl.VerbPause, id))
			d.state(id, pawl.Paused)
			d.same("reason", d.look(id).Reason, "because")
		}
		d.pass(10 * time.Second)
		d.claimed(w)
	}},
	{"pause tells a run at work, through its owner", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.ok(d.order(pawl.VerbPause, "a"))
		d.state("a", pawl.Running)
		all := d.mailOf(w)
		d.same("mail", texts(all), []string{`pause={"reason":"because"}`})
		d.move(r, &pawl.Change{Consumed: []int64{all[0].ID}}, pawl.Move{State: pawl.Paused, Reason: "because", Seen: all[0].ID})
		d.state("a", pawl.Paused)
		d.claimed(w)
	}},
	{"pause fences a move that was under way", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.suspend(r, "go")
		d.ok(d.order(pawl.VerbPause, "a"))
		ch := &pawl.Change{To: &pawl.Move{State: pawl.Completed, Keep: -1}}
		d.say(r, ch)
		d.is("the move", ch.Err, pawl.ErrFenced)
		d.state("a", pawl.Paused)
	}},
	{"a paused run's hooks and waits stand, and what came is there afterwards", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok"})
		d.suspend(r, "go")
		d.ok(d.order(pawl.VerbPause, "a"))
		d.ok(d.resume("tok", `1`).Err)
		d.same("how many got the event", d.publish("go"), 1)
		d.state("a", pawl.Paused)
		d.claimed(w)
		d.ok(d.order(pawl.VerbUnpause, "a"))
		d.same("mail", texts(d.again(w, "a").Mail), []string{"hook:h=1", `event:go="p"`})
	}},

	{"unpause lets a run go on, and takes its reason away", func(d *desk) {
		w := d.join("w")
		for _, s := range []pawl.State{pawl.Paused, pawl.Blocked} {
			id := s.String()
			d.inState(w, id, s)
			d.ok(d.order(pawl.VerbUnpause, id))
			got := d.again(w, id).Info
			d.same("reason", got.Reason, "")
			d.same("strikes", got.Strikes, 0)
		}
	}},
	{"unpause does not let a run start before its time", func(d *desk) {
		w := d.join("w")
		at := d.now.Add(10 * time.Second)
		d.start("a", notBefore(at))
		d.ok(d.order(pawl.VerbPause, "a"))
		d.ok(d.order(pawl.VerbUnpause, "a"))
		d.claimed(w)
		d.to(at, w)
		d.claimed(w, "a")
	}},

	{"wake starts a run before its time", func(d *desk) {
		w := d.join("w")
		d.start("a", notBefore(d.now.Add(time.Hour)))
		d.ok(d.order(pawl.VerbWake, "a"))
		d.claimed(w, "a")
	}},
	{"wake wakes a run that waits, and tells it so", func(d *desk) {
		w := d.join("w")
		d.sleep(d.hold(w, "a"), d.now.Add(time.Hour))
		d.ok(d.order(pawl.VerbWake, "a"))
		d.same("mail", texts(d.again(w, "a").Mail), []string{`wake={"reason":"because"}`})
	}},
	{"wake tells a run at work, through its owner", func(d *desk) {
		w := d.join("w")
		d.hold(w, "a")
		d.ok(d.order(pawl.VerbWake, "a"))
		d.same("mail", d.mail(w), []string{`wake={"reason":"because"}`})
	}},
	{"wake reaches a run whose worker is gone", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		d.hold(w1, "a")
		d.ok(d.store.Leave(d.ctx, w1, d.now))
		d.ok(d.order(pawl.VerbWake, "a"))
		d.same("mail", texts(d.again(w2, "a").Mail), []string{`wake={"reason":"because"}`})
	}},
	{"wake does not let a paused run go on", func(d *desk) {
		w := d.join("w")
		d.inState(w, "a", pawl.Paused)
		d.ok(d.order(pawl.VerbWake, "a"))
		d.claimed(w)
		d.ok(d.order(pawl.VerbUnpause, "a"))
		d.same("mail", texts(d.again(w, "a").Mail), []string{`wake={"reason":"because"}`})
	}},

	{"migrate gives a run that waits another version, has it claimed anew, and notes it", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.sleep(r, d.now.Add(time.Hour))
		d.ok(d.migrate("a", d.look("a").Epoch))
		c := d.again(w, "a")
		d.same("version", c.Info.Version, "2")
		if c.Info.Epoch < r.Epoch+2 {
			d.Errorf("its epoch is %d, and a worker may think that nobody had it since %d", c.Info.Epoch, r.Epoch)
		}
		journal := d.journal(r.Key)
		d.same("noted", journal[len(journal)-1].Key, "$migrate")
	}},
	{"migrate leaves a paused run paused, lets a blocked one go on, and touches no journal of one that never began", func(d *desk) {
		w := d.join("w")
		d.inState(w, "paused", pawl.Paused)
		d.ok(d.migrate("paused", d.look("paused").Epoch))
		d.same("paused", []any{d.look("paused").State, d.look("paused").Version}, []any{pawl.Paused, "2"})
		d.claimed(w)
		d.inState(w, "blocked", pawl.Blocked)
		d.ok(d.migrate("blocked", d.look("blocked").Epoch))
		d.same("version", d.again(w, "blocked").Info.Version, "2")
		fresh := d.start("fresh")
		before := len(d.journal(fresh.Key))
		d.ok(d.migrate("fresh", 0))
		d.same("journal", len(d.journal(fresh.Key)), before)
		d.same("version of one that never began", d.again(w, "fresh").Info.Version, "2")
	}},
	{"migrate of a run that has gone on is ErrConflict, and changes nothing", func(d *desk) {
		w := d.join("w")
		d.sleep(d.hold(w, "a"), d.now.Add(time.Hour))
		before := d.look("a")
		d.is("migrate", d.migrate("a", before.Epoch+1), pawl.ErrConflict)
		d.same("the run", d.look("a"), before)
		d.claimed(w)
	}},

	{"retry reopens a failed run with its journal, and notes it there", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.step(r, "s")
		d.end(r, pawl.Failed, `{"message":"no"}`)
		d.ok(d.order(pawl.VerbRetry, "a"))
		c := d.again(w, "a")
		if !c.Info.Ended.IsZero() || c.Info.Reason != "" || c.Info.Epoch <= r.Epoch {
			d.Errorf("ended %v, reason %q, epoch %d after %d", c.Info.Ended, c.Info.Reason, c.Info.Epoch, r.Epoch)
		}
		all := d.journal(r.Key)
		last := all[len(all)-1]
		d.same("number of entries", len(all), 4)
		d.same("kind of the last", last.Kind, pawl.KindOrder)
		d.same("seq of the last", last.Seq, int64(3))
		d.data("data of the last", last.Data, []byte(`{"reason":"because"}`))
		d.end(c.Info, pawl.Completed, `1`)
		d.state("a", pawl.Completed)
	}},
	{"retry lets a blocked run go on", func(d *desk) {
		w := d.join("w")
		d.inState(w, "a", pawl.Blocked)
		d.ok(d.order(pawl.VerbRetry, "a"))
		d.claimed(w, "a")
	}},
	{"retry takes away a deadline that has passed, and no other", func(d *desk) {
		w := d.join("w")
		early, late := d.now.Add(time.Second), d.now.Add(time.Hour)
		for id, t := range map[string]time.Time{"early": early, "late": late} {
			d.end(d.hold(w, id, func(n *pawl.NewRun) { n.Deadline = t }), pawl.Failed, `{"message":"no"}`)
		}
		d.pass(2 * time.Second)
		d.ok(d.order(pawl.VerbRetry, "early"))
		d.ok(d.order(pawl.VerbRetry, "late"))
		if got := d.look("early").Deadline; !got.IsZero() {
			d.Errorf("the one that has passed is still %v", got)
		}
		if got := d.look("late").Deadline; !got.Equal(late) {
			d.Errorf("the other is %v; want %v", got, late)
		}
	}},
	{"a child that is retried tells its parent of its new end", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.spawn(r, "kid", "k")
		d.end(d.again(w, "kid").Info, pawl.Failed, `{"message":"no"}`)
		d.ok(d.order(pawl.VerbRetry, "kid"))
		d.end(d.again(w, "kid").Info, pawl.Completed, `1`)
		d.same("messages", len(d.mail(w)), 2)
	}},

	{"delete removes an ended run and all that is its own", func(d *desk) {
		w := d.join("w")
		for _, s := range []pawl.State{pawl.Completed, pawl.Failed, pawl.Cancelled} {
			id := s.String()
			r := d.hold(w, id)
			d.furnish(r)
			d.end(r, s, `{"message":"x"}`)
			d.ok(d.order(pawl.VerbDelete, id))
			d.gone(r)
		}
	}},
	{"the id of a deleted run is free", func(d *desk) {
		w := d.join("w")
		d.end(d.hold(w, "a"), pawl.Completed, `1`)
		d.ok(d.order(pawl.VerbDelete, "a"))
		s := d.start("a", input(`{"in":2}`))
		d.same("existed", s.Existed, false)
		d.same("number of entries", len(d.journal(s.Key)), 1)
	}},
	{"a child outlives the deletion of its parent", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.spawn(r, "kid", "k", detached)
		d.end(r, pawl.Completed, `1`)
		d.ok(d.order(pawl.VerbDelete, "a"))
		d.same("parent", d.look("kid").Parent, "")
		d.end(d.again(w, "kid").Info, pawl.Completed, `1`)
	}},
}

// inState makes a run that is in a state.
func (d *desk) inState(worker int64, id string, s pawl.State) {
	d.Helper()
	switch s {
	case pawl.Pending:
		d.start(id)
	case pawl.Running:
		d.hold(worker, id)
	case pawl.Waiting:
		d.sleep(d.hold(worker, id), d.now.Add(1000*time.Hour))
	default:
		d.move(d.hold(worker, id), &pawl.Change{}, pawl.Move{State: s, Reason: "so", Keep: -1})
	}
	d.state(id, s)
}

// furnish gives a run something of all that a run can have.
func (d *desk) furnish(r pawl.RunInfo) {
	d.Helper()
	d.hook(r, pawl.HookSpec{Key: "h", Token: "tok " + r.ID, Hold: time.Hour})
	d.signal(r.ID, "e", `1`)
	d.say(r, &pawl.Change{
		Waits:  []pawl.Wait{{Key: "w", Event: "ev " + r.ID}},
		Attrs:  []pawl.Attr{{Name: "color", Value: value("red")}},
		Chunks: []pawl.Chunk{{Stream: "out", At: d.now, Data: json.RawMessage(`1`)}},
	})
}

// gone wants nothing to be left of a run that was furnished.
func (d *desk) gone(r pawl.RunInfo) {
	d.Helper()
	d.missing(r.ID)
	d.same("entries", len(d.journal(r.Key)), 0)
	_, err := d.store.Result(d.ctx, r.Key)
	d.is("Result", err, pawl.ErrNotFound)
	streams, err := d.store.Streams(d.ctx, r.Key)
	d.ok(err)
	d.same("streams", len(streams), 0)
	d.same("hooks", d.hookKeys(r.Key), []string(nil))
	d.same("how many get its event", d.publish("ev "+r.ID), 0)
	d.is("a message", d.send(pawl.Send{RunID: r.ID, Name: "event:e"}).Err, pawl.ErrNotFound)
	found, err := d.store.List(d.ctx, pawl.Filter{Attrs: map[string]string{"color": "red"}, Limit: 100})
	d.ok(err)
	if slices.ContainsFunc(found, func(i pawl.RunInfo) bool { return i.Key == r.Key }) {
		d.Error("it is found by its attribute")
	}
	other := d.hold(d.join("w"), "heir of "+r.ID)
	d.hook(other, pawl.HookSpec{Key: "h", Token: "tok " + r.ID})
	d.end(other, pawl.Completed, `1`)
}
