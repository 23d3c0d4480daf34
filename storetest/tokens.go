package storetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// tokens: whose a token is, within a tenant, and how it is taken over.
var tokens = []promise{
	{"a token is taken over from a live hook: its run is told, keeps what came before, and gets nothing more", func(d *desk) {
		w := d.join("w")
		victim, r := d.hold(w, "victim"), d.hold(w, "a")
		d.hook(victim, pawl.HookSpec{Key: "h#2", Token: "tok", Remember: time.Hour})
		d.ok(d.resume("tok", `1`).Err)
		ch := d.takeOver(r, "mine", "tok")
		d.same("whose it was", ch.Hooks[0].From, pawl.HookRef{Run: "victim", Hook: "h#2"})
		got := d.journal(r.Key)[1]
		d.same("the entry failed", got.Failed, false)
		d.data("what the entry says", got.Data, []byte(`{"token":"tok","claimedFrom":{"run":"victim","hook":"h#2"}}`))
		d.data("as in the answer", ch.Entries[0].Data, got.Data)
		s := d.resume("tok", `2`)
		d.ok(s.Err)
		d.same("who got the next", s.Info.ID, "a")
		d.same("mail", d.mail(w), []string{"hook:h#2=1", `claim:h#2={"token":"tok","claimedBy":{"run":"a","hook":"mine"}}`, "hook:mine=2"})
		d.same("the victim's hooks", d.hookKeys(victim.Key), []string(nil))
		d.same("the victim's journal", len(d.journal(victim.Key)), 2)
		h, err := d.store.FindHook(d.ctx, "", "tok", d.now)
		d.ok(err)
		d.same("whose hook it is", words(h.Run.ID, h.Key, h.Until.IsZero()), "a mine true")
		d.say(victim, &pawl.Change{Unhooks: []string{"h#2"}})
		d.end(victim, pawl.Completed, `1`)
		d.ok(d.resume("tok", `3`).Err)
	}},
	{"what is sent to a hook does not reach another that has its token", func(d *desk) {
		w := d.join("w")
		victim, r := d.hold(w, "victim"), d.hold(w, "a")
		d.hook(victim, pawl.HookSpec{Key: "h", Token: "tok"})
		h, err := d.store.FindHook(d.ctx, "", "tok", d.now)
		d.ok(err)
		once := &pawl.Once{ID: "1", Until: d.now.Add(time.Hour)}
		s := d.send(pawl.Send{Token: "tok", Hook: h.ID, Data: json.RawMessage(`1`)})
		d.same("to the hook itself", words(s.Err, s.Moved, s.Info.ID), "<nil> false victim")
		d.takeOver(r, "mine", "tok")
		s = d.send(pawl.Send{Token: "tok", Hook: h.ID, Data: json.RawMessage(`2`), Once: once})
		d.same("when it was taken over", words(s.Err, s.Moved, s.Info.ID == ""), "<nil> true true")
		s = d.send(pawl.Send{Token: "tok", Hook: -1, Data: json.RawMessage(`3`), Once: once})
		d.same("to none", words(s.Err, s.Moved, s.Info.ID == ""), "<nil> true true")
		h, err = d.store.FindHook(d.ctx, "", "tok", d.now)
		d.ok(err)
		s = d.send(pawl.Send{Token: "tok", Hook: h.ID, Data: json.RawMessage(`4`), Once: once}) // the name was not used up
		d.same("to the new one", words(s.Err, s.Moved, s.Repeated, s.Info.ID), "<nil> false false a")
		s = d.send(pawl.Send{Token: "tok", Hook: -1, Data: json.RawMessage(`5`), Once: once})
		d.same("again, whoever it was for", words(s.Err, s.Moved, s.Repeated), "<nil> false true")
		d.same("payloads of the new one", slices.DeleteFunc(d.mail(w), func(m string) bool { return !strings.HasPrefix(m, "hook:mine") }), []string{"hook:mine=4"})
	}},
	{"a run that waits is woken when a token of it is taken over, also by another worker", func(d *desk) {
		w, other := d.join("w"), d.join("other")
		victim := d.hold(w, "victim")
		d.hook(victim, pawl.HookSpec{Key: "h", Token: "tok"})
		d.move(victim, &pawl.Change{}, pawl.Move{State: pawl.Waiting})
		d.takeOver(d.hold(other, "a"), "h", "tok")
		d.same("mail", texts(d.again(w, "victim").Mail), []string{`claim:h={"token":"tok","claimedBy":{"run":"a","hook":"h"}}`})
	}},
	{"a run that suspends in the commit that takes its token over does not sleep through it", func(d *desk) {
		for i, first := range []bool{true, false} {
			w := d.join("w")
			tok := fmt.Sprint("tok", i)
			victim, r := d.hold(w, "victim"+tok), d.hold(w, "a"+tok)
			d.hook(victim, pawl.HookSpec{Key: "h", Token: tok})
			sleeps := &pawl.Change{Run: victim.Key, Epoch: victim.Epoch, To: &pawl.Move{State: pawl.Waiting}}
			takes := d.claimer(r, "h", tok)
			b := &pawl.Batch{Worker: w, Workflows: []string{flow}, Changes: []*pawl.Change{sleeps, takes}}
			if !first {
				b.Changes[0], b.Changes[1] = takes, sleeps
			}
			d.commit(b)
			d.ok(sleeps.Err)
			if len(sleeps.Mail)+len(b.Mail) == 0 && d.look(victim.ID).State == pawl.Waiting {
				got := d.claim(w)
				d.same("who is claimed", ids(got), []string{victim.ID})
			}
		}
	}},
	{"a free token is taken as any", func(d *desk) {
		ch := d.takeOver(d.hold(d.join("w"), "a"), "h", "tok")
		d.same("whose it was", ch.Hooks[0].From, pawl.HookRef{})
		d.data("what the entry says", ch.Entries[0].Data, []byte(`{"token":"tok"}`))
	}},
	{"a run takes a token over from itself", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok"})
		b := d.say(r, d.claimer(r, "h2", "tok"))
		var told []string
		for _, m := range b.Mail {
			told = append(told, m.Name)
		}
		d.same("what the worker is told", told, []string{"claim:h"})
		d.same("hooks", d.hookKeys(r.Key), []string{"h2"})
		d.ok(d.resume("tok", `1`).Err)
		d.same("the second, registered again, tells nobody", d.takeOver(r, "h2", "tok").Hooks[0].From, pawl.HookRef{})
		d.same("mail", len(d.mail(w)), 2)
	}},
	{"a token that an ended run holds is taken over, and nothing of that run is changed", func(d *desk) {
		w := d.join("w")
		for _, end := range []pawl.State{pawl.Completed, pawl.Failed} {
			victim, r := d.hold(w, "victim"+end.String()), d.hold(w, "a"+end.String())
			tok := end.String()
			d.hook(victim, pawl.HookSpec{Key: "h", Token: tok, Hold: time.Hour})
			d.end(victim, end, `{"message":"over"}`)
			before := words(d.look(victim.ID), len(d.journal(victim.Key)))
			d.pass(time.Minute)
			d.same("whose it was", d.takeOver(r, "h", tok).Hooks[0].From, pawl.HookRef{Run: victim.ID, Hook: "h"})
			d.same("the ended run", words(d.look(victim.ID), len(d.journal(victim.Key))), before)
			d.ok(d.resume(tok, `1`).Err)
		}
		o := &pawl.Order{Verb: pawl.VerbRetry, RunID: "victimfailed", Data: json.RawMessage(`{}`), Hooks: []pawl.HookSpec{{Key: "h", Token: "failed"}}}
		d.commit(&pawl.Batch{Orders: []*pawl.Order{o}})
		d.is("a retry of the failed one", o.Err, pawl.ErrConflict)
	}},
	{"a chain of claims, also in one commit: each is told of the next, and the last has the token", func(d *desk) {
		w := d.join("w")
		var b pawl.Batch
		for _, id := range []string{"a", "b", "c"} {
			b.Changes = append(b.Changes, d.claimer(d.hold(w, id), "h", "tok"))
		}
		b.Worker = w
		d.commit(&b)
		d.same("mail", d.mail(w), []string{
			`claim:h={"token":"tok","claimedBy":{"run":"b","hook":"h"}}`, `claim:h={"token":"tok","claimedBy":{"run":"c","hook":"h"}}`,
		})
		s := d.resume("tok", `1`)
		d.same("who has it", words(s.Info.ID, s.Err), "c <nil>")
	}},
	{"a webhook is never taken over", func(d *desk) {
		w := d.join("w")
		d.hook(d.hold(w, "owner"), pawl.HookSpec{Key: "h", Token: "tok", Public: true})
		r := d.hold(w, "a")
		ch := d.claimer(r, "h", "tok")
		d.say(r, ch)
		d.same("owner in the answer", ch.Hooks[0].Owner, "owner")
		d.same("the entry failed", d.journal(r.Key)[1].Failed, true)
		d.same("who has it", d.resume("tok", `1`).Info.ID, "owner")
	}},
	{"a payload goes to one hook or the other while a token changes hands, in order, and none is lost", func(d *desk) {
		const runs, payloads = 8, 40
		w := d.join("w")
		var held []pawl.RunInfo
		for i := range runs {
			held = append(held, d.hold(w, fmt.Sprint("r", i)))
		}
		d.takeOver(held[0], "h", "tok")
		var senders sync.WaitGroup
		for s := range 4 {
			senders.Go(func() {
				for i := range payloads {
					m := &pawl.Send{Token: "tok", Data: fmt.Appendf(nil, "%d", s*payloads+i)}
					if err := d.try(&pawl.Batch{Sends: []*pawl.Send{m}}); err != nil || m.Err != nil {
						d.Errorf("payload %d of %d: %v, %v", i, s, err, m.Err)
					}
				}
			})
		}
		for _, r := range held[1:] {
			d.takeOver(r, "h", "tok")
		}
		senders.Wait()
		all, err := d.store.Mail(d.ctx, w)
		d.ok(err)
		got, last, told := map[string]int{}, map[string]int{}, map[int64]bool{}
		for _, m := range all {
			if strings.HasPrefix(m.Name, pawl.MsgClaim) {
				told[m.Run] = true
				continue
			}
			if told[m.Run] {
				d.Errorf("payload %s came after the run was told of the claim", m.Data)
			}
			got[string(m.Data)]++
			var n int
			d.ok(json.Unmarshal(m.Data, &n))
			at := fmt.Sprint(m.Run, " ", n/payloads)
			if before, ok := last[at]; ok && before > n {
				d.Errorf("payload %d came after %d", n, before)
			}
			last[at] = n
		}
		d.same("runs told", len(told), runs-1)
		d.same("payloads", len(got), 4*payloads)
		for data, n := range got {
			if n != 1 {
				d.Errorf("payload %s came %d times", data, n)
			}
		}
	}},
	{"what is for a hook of a run does not go to another that has claimed its token", func(d *desk) {
		w := d.join("w")
		d.hook(d.hold(w, "victim"), pawl.HookSpec{Key: "h", Token: "tok"})
		d.ok(d.send(pawl.Send{RunID: "victim", Token: "tok", Data: json.RawMessage(`1`)}).Err)
		d.takeOver(d.hold(w, "a"), "h", "tok")
		d.is("the second", d.send(pawl.Send{RunID: "victim", Token: "tok", Data: json.RawMessage(`2`)}).Err, pawl.ErrEnded)
	}},
	{"tenants have tokens of their own, and know nothing of each other's", func(d *desk) {
		w := d.join("w")
		own, acme, late := d.hold(w, "own"), d.hold(w, "acme", tenant("acme")), d.hold(w, "late", tenant("acme"))
		d.hook(own, pawl.HookSpec{Key: "h", Token: "tok"})
		d.hook(acme, pawl.HookSpec{Key: "h", Token: "tok"})
		for tenant, want := range map[string]string{"": "own", "acme": "acme"} {
			h, err := d.store.FindHook(d.ctx, tenant, "tok", d.now)
			d.same("found by "+tenant, words(h.Run.ID, h.Run.Tenant, err), words(want, tenant, "<nil>"))
			s := d.send(pawl.Send{Tenant: tenant, Token: "tok", Data: json.RawMessage(`1`)})
			d.same("sent by "+tenant, words(s.Info.ID, s.Err), want+" <nil>")
		}
		_, err := d.store.FindHook(d.ctx, "third", "tok", d.now)
		d.is("found by a third", err, pawl.ErrNotFound)
		d.is("sent by a third", d.send(pawl.Send{Tenant: "third", Token: "tok", Data: json.RawMessage(`1`)}).Err, pawl.ErrNotFound)
		ch := &pawl.Change{Entries: []pawl.Entry{d.entry(late, pawl.KindHook, "h", `{}`)}, Hooks: []pawl.HookSpec{{Key: "h", Token: "tok"}}}
		d.say(late, ch)
		d.same("the owner that a conflict names", ch.Hooks[0].Owner, "acme")
		d.same("from whom it is claimed", d.takeOver(late, "h2", "tok").Hooks[0].From.Run, "acme")
		d.end(late, pawl.Completed, `1`)
		d.same("who has the other", d.resume("tok", `2`).Info.ID, "own")
		d.end(own, pawl.Completed, `1`)
		d.is("and when that has ended", d.resume("tok", `3`).Err, pawl.ErrNotFound)
	}},
	{"a delivery with a name is one within its tenant", func(d *desk) {
		w := d.join("w")
		d.hook(d.hold(w, "own"), pawl.HookSpec{Key: "h", Token: "tok"})
		d.hook(d.hold(w, "acme", tenant("acme")), pawl.HookSpec{Key: "h", Token: "tok"})
		for i, want := range []string{"own false", "acme false", "own true", "acme true"} {
			s := d.send(pawl.Send{
				Tenant: []string{"", "acme"}[i%2], Token: "tok", Data: json.RawMessage(`1`),
				Once: &pawl.Once{ID: "x", Until: d.now.Add(time.Hour), Answer: json.RawMessage(`1`)},
			})
			d.ok(s.Err)
			d.same("who got it, and whether it was repeated", words(s.Info.ID, s.Repeated), want)
		}
	}},
	{"a retry asks for the tokens of its own tenant", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "acme", tenant("acme"))
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok"})
		d.end(r, pawl.Failed, `{"message":"no"}`)
		d.hook(d.hold(w, "own"), pawl.HookSpec{Key: "h", Token: "tok"})
		o := &pawl.Order{Verb: pawl.VerbRetry, Tenant: "acme", RunID: "acme", Data: json.RawMessage(`{}`), Hooks: []pawl.HookSpec{{Key: "h", Token: "tok"}}}
		d.commit(&pawl.Batch{Orders: []*pawl.Order{o}})
		d.ok(o.Err)
		s := d.send(pawl.Send{Tenant: "acme", Token: "tok", Data: json.RawMessage(`1`)})
		d.same("who has it", words(s.Info.ID, s.Err), "acme <nil>")
	}},
	{"a secret is found whatever the tenant", func(d *desk) {
		w := d.join("w")
		secret := "$sha256:" + strings.Repeat("0a", 32)
		d.hook(d.hold(w, "acme", tenant("acme")), pawl.HookSpec{Key: "h", Token: secret, Remember: time.Hour})
		for _, tenant := range []string{"", "acme", "third"} {
			h, err := d.store.FindHook(d.ctx, tenant, secret, d.now)
			d.same("found by "+tenant, words(h.Run.ID, err), "acme <nil>")
			s := d.send(pawl.Send{Tenant: tenant, Token: secret, Data: json.RawMessage(`1`)})
			d.same("sent by "+tenant, words(s.Info.ID, s.Err), "acme <nil>")
		}
	}},
}

// claimer is a change that takes a token over.
func (d *desk) claimer(r pawl.RunInfo, key, token string) *pawl.Change {
	return &pawl.Change{
		Run: r.Key, Epoch: r.Epoch, Entries: []pawl.Entry{d.entry(r, pawl.KindHook, key, `{"token":"`+token+`"}`)},
		Hooks: []pawl.HookSpec{{Key: key, Token: token, Claim: true}},
	}
}

// takeOver commits it, and wants the token to change hands.
func (d *desk) takeOver(r pawl.RunInfo, key, token string) *pawl.Change {
	d.Helper()
	ch := d.claimer(r, key, token)
	d.say(r, ch)
	if ch.Err != nil || ch.Hooks[0].Owner != "" || ch.Entries[0].Failed {
		d.Fatalf("claim of %s by %s: %v; %q has it", token, r.ID, ch.Err, ch.Hooks[0].Owner)
	}
	return ch
}
