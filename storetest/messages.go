package storetest

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
)

// messages: what comes to a run from outside, and that none is lost or doubled.
var messages = []promise{
	{"a message wakes a run that waits", func(d *desk) {
		w := d.join("w")
		d.suspend(d.hold(w, "a"), "go")
		d.claimed(w)
		d.signal("a", "go", `{"n":1}`)
		d.same("mail", texts(d.again(w, "a").Mail), []string{`event:go={"n":1}`})
	}},
	{"a message for a run that another worker holds comes as its mail", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		r := d.hold(w1, "a")
		b := d.commit(&pawl.Batch{Worker: w2, Room: 5, Workflows: []string{flow}, Sends: []*pawl.Send{{RunID: "a", Name: "event:e", Data: json.RawMessage(`1`)}}})
		d.same("mail in the answer to who does not hold it", len(b.Mail), 0)
		d.same("mail of the other", d.mail(w2), []string(nil))
		all, err := d.store.Mail(d.ctx, w1)
		d.ok(err)
		d.same("mail of the owner", len(all), 1)
		d.same("its run", all[0].Run, r.Key)
		d.same("its name", all[0].Name, "event:e")
		if !all[0].At.Equal(d.now) {
			d.Errorf("its time is %v; want %v", all[0].At, d.now)
		}
		d.state("a", pawl.Running)
	}},
	{"a message for a run that the sender holds comes with the answer", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		b := d.commit(&pawl.Batch{Worker: w, Sends: []*pawl.Send{{RunID: "a", Name: "event:e", Data: json.RawMessage(`1`)}}})
		d.same("number of messages", len(b.Mail), 1)
		d.same("run", b.Mail[0].Run, r.Key)
		d.same("message", texts([]pawl.Message{b.Mail[0].Message}), []string{"event:e=1"})
		d.same("its id", b.Mail[0].ID, d.mailOf(w)[0].ID)
	}},
	{"mail is oldest first", func(d *desk) {
		w := d.join("w")
		d.hold(w, "a")
		var want []string
		for i := range 20 {
			d.signal("a", "e", fmt.Sprint(i))
			want = append(want, fmt.Sprint("event:e=", i))
		}
		d.same("mail", d.mail(w), want)
	}},
	{"a message that was taken does not come again, the others do", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.signal("a", "one", `1`)
		d.signal("a", "two", `2`)
		all := d.mailOf(w)
		ch := &pawl.Change{Entries: []pawl.Entry{d.entry(r, pawl.KindEvent, "one", `1`)}, Consumed: []int64{all[0].ID}}
		d.say(r, ch)
		d.same("mail", d.mail(w), []string{"event:two=2"})
		d.move(r, &pawl.Change{}, pawl.Move{State: pawl.Waiting, Due: d.now, Seen: newest(all)})
		d.same("mail of the next claim", texts(d.again(w, "a").Mail), []string{"event:two=2"})
	}},
	{"a run takes no message of another run", func(d *desk) {
		w := d.join("w")
		a := d.hold(w, "a")
		d.hold(w, "b")
		d.signal("b", "e", `1`)
		d.say(a, &pawl.Change{Consumed: []int64{d.mailOf(w)[0].ID}})
		d.same("mail", d.mail(w), []string{"event:e=1"})
	}},
	{"message ids grow within a run, also beyond those that were taken", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		last := int64(0)
		for range 4 {
			d.signal("a", "e", `1`)
			all := d.mailOf(w)
			if len(all) != 1 || all[0].ID <= last {
				d.Fatalf("after message %d come %v", last, all)
			}
			last = all[0].ID
			d.say(r, &pawl.Change{Consumed: []int64{last}})
		}
	}},
	{"a message for a run that has not begun waits for it", func(d *desk) {
		w := d.join("w")
		at := d.now.Add(time.Second)
		d.start("a", notBefore(at))
		d.signal("a", "e", `1`)
		d.claimed(w)
		d.to(at, w)
		d.same("mail", texts(d.again(w, "a").Mail), []string{"event:e=1"})
	}},
	{"a message for a paused or a blocked run waits for it", func(d *desk) {
		w := d.join("w")
		for _, s := range []pawl.State{pawl.Paused, pawl.Blocked} {
			id := s.String()
			d.move(d.hold(w, id), &pawl.Change{}, pawl.Move{State: s, Reason: "so"})
			d.signal(id, "e", `1`)
			d.claimed(w)
			d.state(id, s)
			d.ok(d.order(pawl.VerbUnpause, id))
			d.same("mail", texts(d.again(w, id).Mail), []string{"event:e=1"})
		}
	}},
	{"a message to an unknown run is ErrNotFound", func(d *desk) {
		d.is("the answer", d.send(pawl.Send{RunID: "nobody", Name: "event:e"}).Err, pawl.ErrNotFound)
	}},
	{"a message to an ended run is ErrEnded, and tells of the run", func(d *desk) {
		d.end(d.hold(d.join("w"), "a"), pawl.Completed, `1`)
		s := d.send(pawl.Send{RunID: "a", Name: "event:e"})
		d.is("the answer", s.Err, pawl.ErrEnded)
		d.same("state in the answer", s.Info.State, pawl.Completed)
	}},
	{"one send that fails does not keep the others from arriving", func(d *desk) {
		w := d.join("w")
		d.hold(w, "a")
		b := d.commit(&pawl.Batch{Sends: []*pawl.Send{{RunID: "nobody", Name: "event:e"}, {RunID: "a", Name: "event:e", Data: json.RawMessage(`1`)}}})
		d.is("the first", b.Sends[0].Err, pawl.ErrNotFound)
		d.ok(b.Sends[1].Err)
		d.same("run of the second", b.Sends[1].Info.ID, "a")
		d.same("mail", d.mail(w), []string{"event:e=1"})
	}},
	{"a message reaches the run of its tenant, and no other of that id", func(d *desk) {
		w := d.join("w")
		d.start("a")
		d.start("a", tenant("acme"))
		d.ok(d.send(pawl.Send{Tenant: "acme", RunID: "a", Name: "event:e", Data: json.RawMessage(`1`)}).Err)
		for _, c := range d.claimed(w, "a", "a") {
			d.same("messages of the run of tenant "+c.Info.Tenant, len(c.Mail), len(c.Info.Tenant)/4)
		}
		d.is("to a tenant without that run", d.send(pawl.Send{Tenant: "other", RunID: "a", Name: "event:e"}).Err, pawl.ErrNotFound)
	}},
	{"an event that is published reaches every run that waits for it", func(d *desk) {
		w := d.join("w")
		for _, id := range []string{"a", "b"} {
			d.suspend(d.hold(w, id), "go")
		}
		d.suspend(d.hold(w, "c"), "another")
		d.same("how many got it", d.publish("go"), 2)
		for _, c := range d.claimed(w, "a", "b") {
			d.same("mail", texts(c.Mail), []string{`event:go="p"`})
		}
		d.state("c", pawl.Waiting)
	}},
	{"an event that nobody waits for is published to nobody", func(d *desk) {
		d.hold(d.join("w"), "a")
		d.same("how many got it", d.publish("go"), 0)
	}},
	{"a published event reaches a run that is held, too", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.say(r, &pawl.Change{Waits: []pawl.Wait{{Key: "k", Event: "go"}}})
		d.same("how many got it", d.publish("go"), 1)
		d.same("mail", d.mail(w), []string{`event:go="p"`})
	}},
	{"a wait that is registered in the same commit finds the event", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		b := d.commit(&pawl.Batch{
			Worker: w,
			Changes: []*pawl.Change{{
				Run: r.Key, Epoch: r.Epoch, Waits: []pawl.Wait{{Key: "k", Event: "go"}}, To: &pawl.Move{State: pawl.Waiting},
			}},
			Sends: []*pawl.Send{{Publish: "go", Name: "event:go"}},
		})
		d.same("how many got it", b.Sends[0].Count, 1)
		d.again(w, "a")
	}},
	{"a run that waits for an event twice gets it once", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.move(r, &pawl.Change{Waits: []pawl.Wait{{Key: "k1", Event: "go"}, {Key: "k2", Event: "go"}}}, pawl.Move{State: pawl.Waiting})
		d.same("how many got it", d.publish("go"), 1)
		d.same("messages", len(d.again(w, "a").Mail), 1)
	}},
	{"a wait that was given up finds nothing, the others go on", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.say(r, &pawl.Change{Waits: []pawl.Wait{{Key: "k1", Event: "one"}, {Key: "k2", Event: "two"}}})
		d.say(r, &pawl.Change{Unwaits: []string{"k1"}})
		d.same("how many got the first", d.publish("one"), 0)
		d.same("how many got the second", d.publish("two"), 1)
	}},
	{"an ended run waits for nothing", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.say(r, &pawl.Change{Waits: []pawl.Wait{{Key: "k", Event: "go"}}})
		d.end(r, pawl.Failed, `{"message":"no"}`)
		d.same("how many got it", d.publish("go"), 0)
	}},
	{"an event is published within its tenant", func(d *desk) {
		w := d.join("w")
		d.suspend(d.hold(w, "a"), "go")
		d.start("b", tenant("acme"))
		d.suspend(d.again(w, "b").Info, "go")
		s := d.send(pawl.Send{Tenant: "acme", Publish: "go", Name: "event:go"})
		d.same("how many got it", s.Count, 1)
		d.claimed(w, "b")
	}},
	{"each of many senders' messages arrives", func(d *desk) {
		w := d.join("w")
		d.hold(w, "a")
		const senders, each = 4, 25
		errs := make(chan error, senders)
		now := d.now
		for s := range senders {
			go func() {
				var err error
				for i := range each {
					m := &pawl.Send{RunID: "a", Name: "event:e", Data: json.RawMessage(fmt.Sprint(s*each + i))}
					if err == nil {
						err = d.store.Commit(d.ctx, &pawl.Batch{Now: now, Sends: []*pawl.Send{m}})
					}
					if err == nil {
						err = m.Err
					}
				}
				errs <- err
			}()
		}
		for range senders {
			d.ok(<-errs)
		}
		seen := map[string]bool{}
		for _, m := range d.mail(w) {
			seen[m] = true
		}
		d.same("different messages", len(seen), senders*each)
	}},
	{"who watches is told that a run is ready", func(d *desk) {
		watcher, ok := d.store.(pawl.Watcher)
		if !ok {
			return // a store of one process has nobody to tell
		}
		told, gone := make(chan struct{}, 1), make(chan error, 1)
		go func() {
			gone <- watcher.Watch(d.ctx, func() {
				select {
				case told <- struct{}{}:
				default:
				}
			})
		}()
		for i := 0; ; i++ { // a hint may be lost, above all while the watch begins
			d.start(fmt.Sprint("run", i))
			select {
			case <-told:
				return
			case err := <-gone:
				d.Fatalf("Watch returned: %v", err)
			case <-time.After(20 * time.Millisecond):
			}
			if i == 500 {
				d.Fatal("no hint came")
			}
		}
	}},
}

func tenant(t string) func(*pawl.NewRun) { return func(n *pawl.NewRun) { n.Tenant = t } }
