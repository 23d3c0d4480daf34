package storetest

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// retries: a failed run that goes on finds what it had, and its children go on with it.
var retries = []promise{
	{"a failed run keeps what was sent to it and not taken", func(d *desk) {
		w := d.join("w")
		for _, c := range []struct {
			end  pawl.State
			want []string
		}{
			{pawl.Completed, nil},
			{pawl.Cancelled, nil},
			{pawl.Failed, []string{`event:e=1`, `hook:h=2`}},
		} {
			id := c.end.String()
			r := d.hold(w, id)
			d.hook(r, pawl.HookSpec{Key: "h", Token: "tok " + id})
			d.signal(id, "e", `1`)
			d.ok(d.send(pawl.Send{Token: "tok " + id, Data: json.RawMessage(`2`)}).Err)
			d.end(r, c.end, `{"message":"no"}`)
			if c.end != pawl.Failed {
				d.same("messages of a run that has "+id, len(d.mail(w)), 0)
				continue
			}
			d.is("an event for a run that has failed", d.send(pawl.Send{RunID: id, Name: "event:e", Data: json.RawMessage(`3`)}).Err, pawl.ErrEnded)
			d.ok(d.order(pawl.VerbRetry, id))
			d.same("messages", texts(d.again(w, id).Mail), c.want)
		}
	}},
	{"the hooks of a failed run are nobody's, and its own again when it is retried", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok"})
		d.end(r, pawl.Failed, `{"message":"no"}`)
		_, err := d.store.FindHook(d.ctx, "", "tok", d.now)
		d.is("the hook of a run that has failed", err, pawl.ErrNotFound)
		d.ok(d.retry("a", "tok"))
		d.ok(d.send(pawl.Send{Token: "tok", Data: json.RawMessage(`1`)}).Err)
		d.same("messages", texts(d.again(w, "a").Mail), []string{`hook:h=1`})
	}},
	{"a run whose hook is another's by now is not retried", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok"})
		d.hook(r, pawl.HookSpec{Key: "i", Token: "tik"})
		d.end(r, pawl.Failed, `{"message":"no"}`)
		other := d.hold(w, "b")
		d.hook(other, pawl.HookSpec{Key: "h", Token: "tok"})
		for range 2 {
			err := d.retry("a", "tik", "tok")
			var conflict *pawl.HookConflictError
			if !errors.As(err, &conflict) || conflict.Token != "tok" || conflict.RunID != "b" {
				d.Errorf("the retry is answered with %v", err)
			}
			d.state("a", pawl.Failed)
		}
		_, err := d.store.FindHook(d.ctx, "", "tik", d.now)
		d.is("its other hook", err, pawl.ErrNotFound)
		d.end(other, pawl.Completed, `1`)
		d.ok(d.retry("a", "tik", "tok")) // the token is free, and the row that was the run's is gone
		d.same("hooks", d.hookKeys(r.Key), []string{"i", "h"})
		for _, token := range []string{"tik", "tok"} {
			s := d.resume(token, `1`)
			d.same("whose it is", words(s.Info.ID, s.Err), "a <nil>")
		}
	}},
	{"a token that another run held is taken by a retry when its hold is over", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok"})
		d.end(r, pawl.Failed, `{"message":"no"}`)
		other := d.hold(w, "b")
		d.hook(other, pawl.HookSpec{Key: "h", Token: "tok", Hold: time.Minute})
		d.end(other, pawl.Failed, `{"message":"no"}`)
		d.is("while it is held", d.retry("a", "tok"), pawl.ErrConflict)
		d.pass(time.Minute)
		d.ok(d.retry("a", "tok"))
		d.is("the other's retry", d.retry("b", "tok"), pawl.ErrConflict)
		d.same("who has it", d.resume("tok", `1`).Info.ID, "a")
	}},
	{"children that have ended go on with their parent, and tell it anew", func(d *desk) {
		w := d.join("w")
		for _, s := range []pawl.State{pawl.Failed, pawl.Cancelled} {
			a, kid := "a "+s.String(), "kid "+s.String()
			r := d.hold(w, a)
			d.spawn(r, kid, "k")
			d.end(d.again(w, kid).Info, s, `{"message":"no"}`)
			d.end(r, pawl.Failed, `{"message":"no"}`)
			d.ok(d.retry(a, kid))
			got := d.claim(w)
			slices.SortFunc(got, func(x, y pawl.Claim) int { return strings.Compare(x.Info.ID, y.Info.ID) })
			d.same("runs that go on", ids(got), []string{a, kid})
			d.same("messages of the parent", texts(got[0].Mail), []string(nil))
			d.end(got[1].Info, pawl.Completed, `1`)
			mail := d.mail(w)
			if len(mail) != 1 || !strings.HasPrefix(mail[0], "child:k=") || !strings.Contains(mail[0], `"completed"`) {
				d.Errorf("the parent is told %q", mail)
			}
			d.end(got[0].Info, pawl.Completed, `1`)
		}
	}},
	{"a child that has not ended is not retried, nor is its parent then", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.spawn(r, "kid", "k")
		kid := d.again(w, "kid").Info
		d.spawn(r, "done", "l")
		d.end(d.again(w, "done").Info, pawl.Completed, `1`)
		d.end(r, pawl.Failed, `{"message":"no"}`)
		for _, id := range []string{"kid", "done", "nobody"} {
			d.is("the retry", d.retry("a", id), pawl.ErrState)
			d.state("a", pawl.Failed)
		}
		d.end(kid, pawl.Failed, `{"message":"no"}`)
		d.ok(d.retry("a", "kid"))
	}},
	{"how a child ends after its parent has failed is told when that goes on", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.spawn(r, "kid", "k")
		d.spawn(r, "lost", "l")
		got := d.claim(w)
		d.end(r, pawl.Failed, `{"message":"no"}`)
		for _, c := range got {
			d.end(c.Info, pawl.Completed, `1`)
		}
		o := &pawl.Order{Verb: pawl.VerbRetry, RunID: "a", Keys: []string{"l"}} // of that child the run will not know
		d.commit(&pawl.Batch{Orders: []*pawl.Order{o}})
		d.ok(o.Err)
		mail := texts(d.again(w, "a").Mail)
		if len(mail) != 1 || !strings.HasPrefix(mail[0], "child:k=") {
			d.Errorf("the parent is told %q", mail)
		}
	}},
}

// retry orders that a run goes on with what it had: hooks, by token, and children, by id. A
// token is told from an id by what is there.
func (d *desk) retry(id string, had ...string) error {
	d.Helper()
	o := &pawl.Order{Verb: pawl.VerbRetry, RunID: id, Data: json.RawMessage(`{"keys":[]}`)}
	for _, name := range had {
		if strings.HasPrefix(name, "t") {
			o.Hooks = append(o.Hooks, pawl.HookSpec{Key: map[string]string{"tok": "h", "tik": "i"}[name], Token: name})
			continue
		}
		o.Also = append(o.Also, &pawl.Order{Verb: pawl.VerbRetry, RunID: name, Data: json.RawMessage(`{"keys":[]}`)})
	}
	d.commit(&pawl.Batch{Orders: []*pawl.Order{o}})
	return o.Err
}
