package storetest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// hooks: a token leads to one live hook, and to nobody when that is gone.
var hooks = []promise{
	{"a hook is found by its token, as it was registered", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok", Meta: json.RawMessage(`{"m":1}`), Schema: json.RawMessage(`{"type":"string"}`), Public: true})
		h, err := d.store.FindHook(d.ctx, "", "tok", d.now)
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
		_, err := d.store.FindHook(d.ctx, "", "nobody", d.now)
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
		h, err := d.store.FindHook(d.ctx, "", "tok", d.now)
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
		_, err := d.store.FindHook(d.ctx, "", "tok", d.now)
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
		_, err := d.store.FindHook(d.ctx, "", "tok", d.now)
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
		h, err := d.store.FindHook(d.ctx, "", "tok", d.now)
		d.is("FindHook", err, pawl.ErrEnded)
		d.same("its run, and until when it is held", words(h.Run.ID, h.Run.State, h.Until.Sub(d.now)), "a completed 1m0s")
		d.is("a payload", d.resume("tok", `1`).Err, pawl.ErrEnded)
		d.to(ended.Add(time.Minute-time.Microsecond), w)
		ch := &pawl.Change{Entries: []pawl.Entry{d.entry(other, pawl.KindHook, "h", `1`)}, Hooks: []pawl.HookSpec{{Key: "h", Token: "tok"}}}
		d.say(other, ch)
		d.same("owner in the answer", ch.Hooks[0].Owner, "a")
		d.to(ended.Add(time.Minute), w)
		_, err = d.store.FindHook(d.ctx, "", "tok", d.now)
		d.is("FindHook after that", err, pawl.ErrNotFound)
		d.is("a payload after that", d.resume("tok", `1`).Err, pawl.ErrNotFound)
		d.hook(other, pawl.HookSpec{Key: "h2", Token: "tok"})
		h, err = d.store.FindHook(d.ctx, "", "tok", d.now)
		d.ok(err)
		d.same("whose hook it is", h.Run.ID, "b")
	}},
	{"a hook that is to be remembered is known to be over, closed or ended, until it is forgotten", func(d *desk) {
		w := d.join("w")
		closed, ended, failed := d.hold(w, "closed"), d.hold(w, "ended"), d.hold(w, "failed")
		for _, r := range []pawl.RunInfo{closed, ended, failed} {
			d.hook(r, pawl.HookSpec{Key: "h", Token: r.ID, Remember: time.Hour, Meta: json.RawMessage(`1`)})
		}
		d.say(closed, &pawl.Change{Unhooks: []string{"h"}})
		d.end(ended, pawl.Completed, `1`)
		d.end(failed, pawl.Failed, `{"message":"no"}`)
		check := func(want error) {
			d.Helper()
			for _, r := range []pawl.RunInfo{closed, ended, failed} {
				h, err := d.store.FindHook(d.ctx, "", r.ID, d.now)
				d.is("FindHook "+r.ID, err, want)
				if want == pawl.ErrEnded {
					d.same("the hook", words(h.Run.ID, h.Key, string(h.Meta)), r.ID+" h 1")
				}
				s := d.resume(r.ID, `1`)
				d.is("a payload of "+r.ID, s.Err, want)
				d.same("live hooks of "+r.ID, d.hookKeys(r.Key), []string(nil))
			}
		}
		check(pawl.ErrEnded)
		d.to(d.now.Add(time.Hour-time.Microsecond), w)
		d.purge()
		check(pawl.ErrEnded)
		d.to(d.now.Add(time.Microsecond), w)
		check(pawl.ErrNotFound)
		d.purge()
		check(pawl.ErrNotFound)
		all, err := d.store.ListHooks(d.ctx, pawl.HookFilter{Ended: true})
		d.ok(err)
		d.same("hooks that are kept: of the run that may be retried", words(len(all), all[0].Run.ID), "1 failed")
	}},
	{"a retry brings hooks back, but not those that were closed", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.hook(r, pawl.HookSpec{Key: "open", Token: "open", Remember: time.Hour})
		d.hook(r, pawl.HookSpec{Key: "closed", Token: "closed", Remember: time.Hour})
		d.commit(&pawl.Batch{Worker: w, Changes: []*pawl.Change{
			{Run: r.Key, Epoch: r.Epoch, Unhooks: []string{"closed"}},
			{Run: r.Key, Epoch: r.Epoch, Entries: []pawl.Entry{d.entry(r, pawl.KindResult, "", `{"message":"no"}`)}, To: &pawl.Move{State: pawl.Failed, Keep: -1}},
		}})
		d.pass(2 * time.Hour)
		d.ok(d.order(pawl.VerbRetry, "a"))
		d.same("live hooks", d.hookKeys(r.Key), []string{"open"})
		d.ok(d.resume("open", `1`).Err)
		d.is("the closed one", d.resume("closed", `1`).Err, pawl.ErrNotFound)
	}},
	{"what is remembered of a hook goes with its run", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok", Remember: time.Hour})
		d.end(r, pawl.Completed, `1`)
		d.ok(d.order(pawl.VerbDelete, "a"))
		d.is("a payload", d.resume("tok", `1`).Err, pawl.ErrNotFound)
		all, err := d.store.ListHooks(d.ctx, pawl.HookFilter{Ended: true})
		d.ok(err)
		d.same("hooks", len(all), 0)
	}},
	{"a hook that is over keeps no run waiting: the audit finds one that waits for nothing else", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok", Remember: time.Hour})
		d.move(r, &pawl.Change{Unhooks: []string{"h"}}, pawl.Move{State: pawl.Waiting})
		found, err := d.store.Audit(d.ctx, d.now)
		d.ok(err)
		d.same("findings", len(found), 1)
	}},
	{"hooks are listed by tenant, kind, run, key and the beginning of the token, page by page", func(d *desk) {
		w := d.join("w")
		a, b, acme := d.hold(w, "a"), d.hold(w, "b"), d.hold(w, "c", tenant("acme"))
		for i, h := range []struct {
			r           pawl.RunInfo
			kind, token string
		}{{a, "ask", "x/1"}, {b, "ask", "x/2"}, {acme, "ask", "x/3"}, {a, "", "x%4"}, {b, "tell", "y"}} {
			d.hook(h.r, pawl.HookSpec{Key: fmt.Sprint("h", i), Token: h.token, Kind: h.kind})
		}
		list := func(f pawl.HookFilter) (tokens []string) {
			d.Helper()
			page, err := d.store.ListHooks(d.ctx, f)
			d.ok(err)
			last := f.After
			for _, h := range page {
				tokens = append(tokens, h.Token)
				if h.ID <= last || h.Run.ID == "" {
					d.Errorf("hook %s of run %q has the id %d after %d", h.Token, h.Run.ID, h.ID, last)
				}
				last = h.ID
			}
			return tokens
		}
		d.same("of the default tenant", list(pawl.HookFilter{}), []string{"x/1", "x/2", "x%4", "y"})
		d.same("of another", list(pawl.HookFilter{Tenant: "acme"}), []string{"x/3"})
		d.same("of all", list(pawl.HookFilter{AllTenants: true}), []string{"x/1", "x/2", "x/3", "x%4", "y"})
		d.same("of a kind", list(pawl.HookFilter{Kind: "ask"}), []string{"x/1", "x/2"})
		d.same("of a kind in all tenants", list(pawl.HookFilter{Kind: "ask", AllTenants: true}), []string{"x/1", "x/2", "x/3"})
		d.same("of a run", list(pawl.HookFilter{Run: a.Key}), []string{"x/1", "x%4"})
		d.same("of a run of another tenant", list(pawl.HookFilter{Run: acme.Key}), []string{"x/3"})
		d.same("of a key", list(pawl.HookFilter{Run: a.Key, Key: "h3"}), []string{"x%4"})
		d.same("of tokens", list(pawl.HookFilter{TokenPrefix: "x/"}), []string{"x/1", "x/2"})
		page, err := d.store.ListHooks(d.ctx, pawl.HookFilter{Limit: 2})
		d.ok(err)
		d.same("the next page", list(pawl.HookFilter{After: page[1].ID, Limit: 2}), []string{"x%4", "y"})
		d.same("kind", words(page[0].Kind, page[0].Run.Seed == a.Seed), "ask true")
		d.say(b, &pawl.Change{Unhooks: []string{"h4"}})
		d.hook(b, pawl.HookSpec{Key: "h5", Token: "z"})
		d.same("a new one comes behind all, also behind those that are gone", list(pawl.HookFilter{After: page[1].ID}), []string{"x%4", "z"})
	}},
	{"a number of a hook is never used again", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		last := int64(0)
		for range 3 {
			d.hook(r, pawl.HookSpec{Key: "h", Token: "tok"})
			h, err := d.store.FindHook(d.ctx, "", "tok", d.now)
			d.ok(err)
			if h.ID <= last {
				d.Errorf("hook %d after %d", h.ID, last)
			}
			last = h.ID
			d.say(r, &pawl.Change{Unhooks: []string{"h"}})
		}
	}},
	{"hooks outlive their worker", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		d.hook(d.hold(w1, "a"), pawl.HookSpec{Key: "h", Token: "tok"})
		d.die(w1, w2)
		d.ok(d.resume("tok", `1`).Err)
		d.same("mail", d.mail(w2), []string{"hook:h=1"})
	}},
}

// purge deletes all that may be.
func (d *desk) purge() {
	d.Helper()
	for range 100 {
		n, err := d.store.Purge(d.ctx, d.now, 2)
		d.ok(err)
		if n < 2 {
			return
		}
	}
	d.Fatal("Purge never comes to an end")
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
	all, err := d.store.ListHooks(d.ctx, pawl.HookFilter{Run: run})
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
