package storetest

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// hooks: a token leads to one live hook, and to nobody when that is gone.
var hooks = []promise{
	{"a hook is found by its token, as it was registered", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok", Meta: json.RawMessage(`{"m":1}`), Schema: json.RawMessage(`{"type":"string"}`), Public: true})
		h, err := d.store.FindHook(d.ctx, "tok")
		d.ok(err)
		d.same("run", h.Run.ID, "a")
		d.same("state of the run", h.Run.State, pawl.Running)
		d.same("key", h.Key, "h")
		d.same("token", h.Token, "tok")
		d.data("meta", h.Meta, []byte(`{"m":1}`))
		d.data("schema", h.Schema, []byte(`{"type":"string"}`))
		d.same("public", h.Public, true)
		if !h.At.Equal(d.now) {
			d.Errorf("made %v; want %v", h.At, d.now)
		}
	}},
	{"an unknown token is ErrNotFound", func(d *desk) {
		_, err := d.store.FindHook(d.ctx, "nobody")
		d.is("FindHook", err, pawl.ErrNotFound)
		d.is("a payload", d.resume("nobody", `1`).Err, pawl.ErrNotFound)
	}},
	{"a payload wakes the hook's run, and says which hook", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.hook(r, pawl.HookSpec{Key: "h#2", Token: "tok"})
		d.move(r, &pawl.Change{}, pawl.Move{State: pawl.Waiting})
		s := d.resume("tok", `{"x":1}`)
		d.ok(s.Err)
		d.same("run in the answer", s.Info.ID, "a")
		d.same("mail", texts(d.again(w, "a").Mail), []string{`hook:h#2={"x":1}`})
	}},
	{"a hook takes any number of payloads", func(d *desk) {
		w := d.join("w")
		d.hook(d.hold(w, "a"), pawl.HookSpec{Key: "h", Token: "tok"})
		d.ok(d.resume("tok", `1`).Err)
		d.ok(d.resume("tok", `2`).Err)
		d.same("mail", d.mail(w), []string{"hook:h=1", "hook:h=2"})
	}},
	{"the hooks of a run are listed in the order of their making", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		for _, k := range []string{"z", "m", "a"} {
			d.hook(r, pawl.HookSpec{Key: k, Token: "tok " + k})
			d.pass(time.Millisecond)
		}
		d.same("keys", d.hookKeys(r.Key), []string{"z", "m", "a"})
	}},
	{"a token that is taken makes a failed entry which names the owner", func(d *desk) {
		w := d.join("w")
		owner, r := d.hold(w, "owner"), d.hold(w, "a")
		d.hook(owner, pawl.HookSpec{Key: "h", Token: "tok"})
		e := d.entry(r, pawl.KindHook, "mine", `{"ok":true}`)
		ch := &pawl.Change{Entries: []pawl.Entry{e, d.entry(r, pawl.KindStep, "s", `1`)}, Hooks: []pawl.HookSpec{{Key: "mine", Token: "tok"}}}
		d.say(r, ch)
		d.ok(ch.Err)
		d.same("owner in the answer", ch.Hooks[0].Owner, "owner")
		got := d.journal(r.Key)
		d.same("the hook's entry failed", got[1].Failed, true)
		if m := got[1].Failure().Message; !strings.Contains(m, "tok") || !strings.Contains(m, "owner") {
			d.Errorf("its message is %q; want the token and the owner in it", m)
		}
		d.same("the other entry failed", got[2].Failed, false)
		d.same("the entry in the answer failed", ch.Entries[0].Failed, true)
		d.same("hooks of the run", d.hookKeys(r.Key), []string(nil))
		h, err := d.store.FindHook(d.ctx, "tok")
		d.ok(err)
		d.same("whose hook it is", h.Run.ID, "owner")
	}},
	{"two runs that ask for one token in one commit: one gets it", func(d *desk) {
		w := d.join("w")
		a, b := d.hold(w, "a"), d.hold(w, "b")
		ask := func(r pawl.RunInfo) *pawl.Change {
			return &pawl.Change{
				Run: r.Key, Epoch: r.Epoch, Entries: []pawl.Entry{d.entry(r, pawl.KindHook, "h", `1`)}, Hooks: []pawl.HookSpec{{Key: "h", Token: "tok"}},
			}
		}
		batch := d.commit(&pawl.Batch{Worker: w, Changes: []*pawl.Change{ask(a), ask(b)}})
		d.same("owner told to the first", batch.Changes[0].Hooks[0].Owner, "")
		d.same("owner told to the second", batch.Changes[1].Hooks[0].Owner, "a")
	}},
	{"a hook that is registered again by its own run is the same hook", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok"})
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok"})
		d.same("keys", d.hookKeys(r.Key), []string{"h"})
	}},
	{"one run cannot have one token twice", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok"})
		ch := &pawl.Change{Entries: []pawl.Entry{d.entry(r, pawl.KindHook, "h2", `1`)}, Hooks: []pawl.HookSpec{{Key: "h2", Token: "tok"}}}
		d.say(r, ch)
		d.same("owner in the answer", ch.Hooks[0].Owner, "a")
	}},
	{"a hook that was given back is gone, and its token free", func(d *desk) {
		w := d.join("w")
		r, other := d.hold(w, "a"), d.hold(w, "b")
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok"})
		d.hook(r, pawl.HookSpec{Key: "stays", Token: "tok2"})
		d.say(r, &pawl.Change{Unhooks: []string{"h"}})
		_, err := d.store.FindHook(d.ctx, "tok")
		d.is("FindHook", err, pawl.ErrNotFound)
		d.is("a payload", d.resume("tok", `1`).Err, pawl.ErrNotFound)
		d.same("keys", d.hookKeys(r.Key), []string{"stays"})
		d.hook(other, pawl.HookSpec{Key: "h", Token: "tok"})
	}},
	{"the hooks of an ended run are gone, and their tokens free", func(d *desk) {
		w := d.join("w")
		r, other := d.hold(w, "a"), d.hold(w, "b")
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok"})
		d.end(r, pawl.Completed, `1`)
		_, err := d.store.FindHook(d.ctx, "tok")
		d.is("FindHook", err, pawl.ErrNotFound)
		d.is("a payload", d.resume("tok", `1`).Err, pawl.ErrNotFound)
		d.same("keys", d.hookKeys(r.Key), []string(nil))
		d.hook(other, pawl.HookSpec{Key: "h", Token: "tok"})
	}},
	{"a token is held back after its run's end for as long as was asked", func(d *desk) {
		w := d.join("w")
		r, other := d.hold(w, "a"), d.hold(w, "b")
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok", Hold: time.Minute})
		d.end(r, pawl.Completed, `1`)
		ended := d.now
		_, err := d.store.FindHook(d.ctx, "tok")
		d.is("FindHook", err, pawl.ErrNotFound)
		d.is("a payload", d.resume("tok", `1`).Err, pawl.ErrNotFound)
		d.to(ended.Add(time.Minute-time.Microsecond), w)
		ch := &pawl.Change{Entries: []pawl.Entry{d.entry(other, pawl.KindHook, "h", `1`)}, Hooks: []pawl.HookSpec{{Key: "h", Token: "tok"}}}
		d.say(other, ch)
		d.same("owner in the answer", ch.Hooks[0].Owner, "a")
		d.to(ended.Add(time.Minute), w)
		d.hook(other, pawl.HookSpec{Key: "h2", Token: "tok"})
		h, err := d.store.FindHook(d.ctx, "tok")
		d.ok(err)
		d.same("whose hook it is", h.Run.ID, "b")
	}},
	{"hooks outlive their worker", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		d.hook(d.hold(w1, "a"), pawl.HookSpec{Key: "h", Token: "tok"})
		d.die(w1, w2)
		d.ok(d.resume("tok", `1`).Err)
		d.same("mail", d.mail(w2), []string{"hook:h=1"})
	}},
}

// hook registers a hook, and wants it to be registered.
func (d *desk) hook(r pawl.RunInfo, h pawl.HookSpec) {
	d.Helper()
	ch := &pawl.Change{Entries: []pawl.Entry{d.entry(r, pawl.KindHook, h.Key, `1`)}, Hooks: []pawl.HookSpec{h}}
	d.say(r, ch)
	if ch.Hooks[0].Owner != "" || ch.Entries[0].Failed {
		d.Fatalf("hook %s: token %s is taken by %q", h.Key, h.Token, ch.Hooks[0].Owner)
	}
}

func (d *desk) hookKeys(run int64) (keys []string) {
	d.Helper()
	all, err := d.store.Hooks(d.ctx, run)
	d.ok(err)
	for _, h := range all {
		keys = append(keys, h.Key)
	}
	return keys
}

// resume sends a payload to a token.
func (d *desk) resume(token, data string) *pawl.Send {
	d.Helper()
	return d.send(pawl.Send{Token: token, Data: json.RawMessage(data)})
}
