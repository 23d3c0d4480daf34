package storetest

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// deliveries: a message with a name arrives once.
var deliveries = []promise{
	{"a message that is sent again under its name arrives once, and the repeat is answered with the first's answer", func(d *desk) {
		for _, a := range d.addressees() {
			first := d.deliver(a.to, "n", `{"as":1}`, time.Hour)
			d.ok(first.Err)
			d.same(a.name+": the first is a repeat", first.Repeated, false)
			d.pass(time.Minute)
			again := d.deliver(a.to, "n", `{"as":2}`, time.Hour)
			d.ok(again.Err)
			d.same(a.name+": the second is a repeat", again.Repeated, true)
			d.data(a.name+": the answer of the first", again.First, []byte(`{"as":1}`))
			d.same(a.name+": run and count", words(again.Info.Key, again.Info.ID, again.Info.Tenant, again.Count), words(first.Info.Key, first.Info.ID, first.Info.Tenant, first.Count))
			d.same(a.name+": messages", a.arrived(), 1)
		}
	}},
	{"the same in one commit", func(d *desk) {
		for _, a := range d.addressees() {
			one, two := d.named(a.to, "n", `1`, time.Hour), d.named(a.to, "n", `2`, time.Hour)
			d.commit(&pawl.Batch{Sends: []*pawl.Send{one, two}})
			d.same(a.name+": repeats", words(one.Repeated, two.Repeated, string(two.First)), "false true 1")
			d.same(a.name+": messages", a.arrived(), 1)
		}
	}},
	{"of many at the same moment one arrives", func(d *desk) {
		for _, a := range d.addressees() {
			var all sync.WaitGroup
			var mu sync.Mutex
			arrived := 0
			for i := range 8 {
				m := d.named(a.to, "n", fmt.Sprint(i), time.Hour)
				all.Go(func() {
					err := d.store.Commit(d.ctx, &pawl.Batch{Now: d.now, Sends: []*pawl.Send{m}})
					if err != nil || m.Err != nil {
						d.Errorf("%s: %v, %v", a.name, err, m.Err)
					}
					mu.Lock()
					defer mu.Unlock()
					if !m.Repeated {
						arrived++
					}
				})
			}
			all.Wait()
			d.same(a.name+": deliveries", arrived, 1)
			d.same(a.name+": messages", a.arrived(), 1)
		}
	}},
	{"a message whose commit had no answer can be sent again: it arrives once", func(d *desk) {
		for _, a := range d.addressees() {
			sound := d.store
			d.store = Faulty(sound, func(method string, n int) Fault { return Fault{Lose: method == "Commit" && n == 1} })
			m := d.named(a.to, "n", `1`, time.Hour)
			d.is(a.name, d.try(&pawl.Batch{Sends: []*pawl.Send{m}}), pawl.ErrUnknownOutcome)
			again := d.deliver(a.to, "n", `2`, time.Hour)
			d.same(a.name+": repeated", words(again.Repeated, string(again.First)), "true 1")
			d.same(a.name+": messages", a.arrived(), 1)
			d.store = sound
		}
	}},
	{"a name is forgotten when its time is over", func(d *desk) {
		for _, a := range d.addressees() {
			d.deliver(a.to, "n", `1`, time.Minute)
			d.pass(time.Minute - time.Microsecond)
			d.same(a.name+": repeated before", d.deliver(a.to, "n", `2`, time.Minute).Repeated, true)
			d.pass(time.Microsecond)
			d.same(a.name+": repeated after", d.deliver(a.to, "n", `3`, time.Minute).Repeated, false)
			again := d.deliver(a.to, "n", `4`, time.Minute)
			d.same(a.name+": repeated anew", words(again.Repeated, string(again.First)), "true 3")
			d.same(a.name+": messages", a.arrived(), 2)
		}
	}},
	{"one name sent to different addressees arrives at each", func(d *desk) {
		all := d.addressees()
		for _, a := range all {
			d.same(a.name, d.deliver(a.to, "n", `1`, time.Hour).Repeated, false)
		}
		for _, a := range all {
			d.same(a.name+": messages", a.arrived(), 1)
		}
	}},
	{"names are told apart, and messages without one are not remembered", func(d *desk) {
		for _, a := range d.addressees() {
			for _, name := range []string{"n", "m", "", ""} {
				m := d.named(a.to, name, `1`, time.Hour)
				if name == "" {
					m.Once = nil
				}
				d.commit(&pawl.Batch{Sends: []*pawl.Send{m}})
				d.same(a.name+" "+name, m.Repeated, false)
			}
			d.same(a.name+": messages", a.arrived(), 4)
		}
	}},
	{"a message that was refused is not remembered", func(d *desk) {
		m := pawl.Send{RunID: "a", Name: "event:e"}
		d.is("to nobody", d.deliver(m, "n", `1`, time.Hour).Err, pawl.ErrNotFound)
		d.is("to no hook", d.deliver(pawl.Send{Token: "tok"}, "n", `1`, time.Hour).Err, pawl.ErrNotFound)
		w := d.join("w")
		d.hook(d.hold(w, "a"), pawl.HookSpec{Key: "h", Token: "tok"})
		d.same("repeated", d.deliver(m, "n", `1`, time.Hour).Repeated, false)
		d.same("repeated at the hook", d.deliver(pawl.Send{Token: "tok"}, "n", `1`, time.Hour).Repeated, false)
		d.same("messages", len(d.mail(w)), 2)
	}},
	{"a repeat is known when the run has ended since", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok"})
		event, hook := pawl.Send{RunID: "a", Name: "event:e"}, pawl.Send{Token: "tok"}
		d.deliver(event, "n", `1`, time.Hour)
		d.deliver(hook, "n", `2`, time.Hour)
		d.end(r, pawl.Completed, `1`)
		d.same("the event's", string(d.deliver(event, "n", `3`, time.Hour).First), "1")
		d.same("the hook's", string(d.deliver(hook, "n", `3`, time.Hour).First), "2")
		d.is("another", d.deliver(event, "m", `3`, time.Hour).Err, pawl.ErrEnded)
	}},
	{"records of deliveries that are over are purged", func(d *desk) {
		d.hold(d.join("w"), "a")
		m := d.named(pawl.Send{RunID: "a", Name: "event:e"}, "n", `1`, time.Minute)
		space, _ := m.Place()
		d.commit(&pawl.Batch{Sends: []*pawl.Send{m}})
		d.same("records", len(d.records(space, "")), 1)
		was := d.now
		d.pass(time.Minute)
		_, err := d.store.Purge(d.ctx, d.now, 10)
		d.ok(err)
		d.now = was // so that a record which is only over would show
		d.same("records", len(d.records(space, "")), 0)
	}},
}

// addressee is where a message can be sent, and how many of them have come there.
type addressee struct {
	name    string
	to      pawl.Send
	arrived func() int
}

// addressees makes one of each kind, all of different runs, and one that differs from another
// in its tenant or event only.
func (d *desk) addressees() []addressee {
	d.Helper()
	w := d.join("w")
	prefix := fmt.Sprint("run", w)
	event := pawl.MsgEvent + prefix
	count := func(name string, of pawl.RunInfo) func() int {
		return func() int {
			d.Helper()
			all, err := d.store.Mail(d.ctx, w)
			d.ok(err)
			n := 0
			for _, m := range all {
				if m.Name == name && m.Run == of.Key {
					n++
				}
			}
			return n
		}
	}
	run, other, hooked := d.hold(w, prefix+"a"), d.hold(w, prefix+"b"), d.hold(w, prefix+"h")
	acme := d.hold(w, prefix+"a", tenant("acme"))
	d.hook(hooked, pawl.HookSpec{Key: "h", Token: prefix + "tok"})
	d.say(other, &pawl.Change{Waits: []pawl.Wait{{Key: "k", Event: prefix + "all"}}})
	return []addressee{
		{"an event to a run", pawl.Send{RunID: run.ID, Name: event}, count(event, run)},
		{"another event to it", pawl.Send{RunID: run.ID, Name: event + "2"}, count(event+"2", run)},
		{"the event to a run of another tenant", pawl.Send{Tenant: "acme", RunID: acme.ID, Name: event}, count(event, acme)},
		{"a hook", pawl.Send{Token: prefix + "tok"}, count("hook:h", hooked)},
		{"an event to all", pawl.Send{Publish: prefix + "all", Name: event + "all"}, count(event+"all", other)},
	}
}

// named is a message with a name.
func (d *desk) named(m pawl.Send, name, answer string, window time.Duration) *pawl.Send {
	m.Data = json.RawMessage(`"p"`)
	m.Once = &pawl.Once{ID: name, Until: d.now.Add(window), Answer: json.RawMessage(answer)}
	return &m
}

// deliver sends a message with a name as a client and hands it back with its answers.
func (d *desk) deliver(m pawl.Send, name, answer string, window time.Duration) *pawl.Send {
	d.Helper()
	n := d.named(m, name, answer, window)
	d.commit(&pawl.Batch{Sends: []*pawl.Send{n}})
	return n
}
