package storetest

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// commits: what one transaction holds, and who may write it.
var commits = []promise{
	{"a change is stored with all its parts", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		child := &pawl.Start{Run: newRun("child", func(n *pawl.NewRun) { n.Parent, n.ParentKey = r.Key, "c" })}
		d.say(r, &pawl.Change{
			Entries:  []pawl.Entry{d.entry(r, pawl.KindStep, "s", `{"x":1}`), d.entry(r, pawl.KindHook, "h", `null`), d.entry(r, pawl.KindChild, "c", ``)},
			Waits:    []pawl.Wait{{Key: "w", Event: "ev"}},
			Hooks:    []pawl.HookSpec{{Key: "h", Token: "tok"}},
			Chunks:   []pawl.Chunk{{Stream: "out", Index: 0, At: d.now, Data: json.RawMessage(`"c"`)}},
			Attrs:    []pawl.Attr{{Name: "color", Value: value("red")}},
			Children: []*pawl.Start{child},
		})
		d.same("keys of the journal", d.keys(r.Key), []string{"s", "h", "c"})
		d.same("attributes", d.look("a").Attrs, map[string]string{"color": "red"})
		d.same("parent of the child", d.look("child").Parent, "a")
		h, err := d.store.FindHook(d.ctx, "", "tok", d.now)
		d.ok(err)
		d.same("run of the hook", h.Run.ID, "a")
		chunks, err := d.store.Chunks(d.ctx, r.Key, "out", 0, 10)
		d.ok(err)
		d.same("number of chunks", len(chunks), 1)
		d.same("how many wait for the event", d.publish("ev"), 1)
	}},
	{"entries read back as they were written", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		want := pawl.Entry{
			Seq: 1, Kind: pawl.KindStep, Key: "notify/email/send#2", Attempt: 3, Failed: true, At: d.now.Add(1234567 * time.Microsecond),
			Took: 1234567891, Data: json.RawMessage(`{"message":"no"}`),
		}
		d.say(r, &pawl.Change{Entries: []pawl.Entry{want}})
		got := d.journal(r.Key)[1]
		if !got.At.Equal(want.At) {
			d.Errorf("At: %v; want %v", got.At, want.At)
		}
		got.At = want.At
		d.same("the entry", got, want)
	}},
	{"the input is entry 0", func(d *desk) {
		e := d.journal(d.start("a").Key)
		d.same("number of entries", len(e), 1)
		d.same("seq", e[0].Seq, int64(0))
		d.same("kind", e[0].Kind, pawl.KindInput)
		d.data("data", e[0].Data, []byte(`{"in":1}`))
	}},
	{"a batch is whole or absent", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.start("b")
		d.step(r, "one")
		d.is("a second entry with the same seq", d.try(poisoned(d, r)), pawl.ErrRefused)
		d.same("keys of the journal", d.keys(r.Key), []string{"one"})
		d.missing("c")
		d.state("b", pawl.Pending)
		d.same("mail", d.mail(w), []string(nil))
	}},
	{"a batch that was refused can be committed again", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.start("b")
		d.step(r, "one")
		b := poisoned(d, r)
		b.Room, b.Workflows = 1, []string{flow}
		b.Starts[0].Run.Eager = true
		d.is("a second entry with the same seq", d.try(b), pawl.ErrRefused)
		b.Changes[0].Entries[1].Seq = 3
		d.commit(b)
		d.same("keys of the journal", d.keys(r.Key), []string{"one", "two", "three"})
		d.same("runs granted", ids(b.Granted), []string{"c"})
		d.state("c", pawl.Running)
		d.same("messages told of", len(b.Mail), 1)
		d.same("mail", d.mail(w), []string{`event:e="x"`})
		d.same("the order's error", b.Orders[0].Err, error(nil))
		d.same("the start met a run", b.Starts[0].Existed, false)
		d.state("b", pawl.Paused)
	}},
	{"an entry never changes", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.step(r, "one")
		e := pawl.Entry{Seq: 1, Kind: pawl.KindStep, Key: "one", At: d.now, Data: json.RawMessage(`2`)}
		if d.try(&pawl.Batch{Worker: r.Worker, Changes: []*pawl.Change{{Run: r.Key, Epoch: r.Epoch, Entries: []pawl.Entry{e}}}}) == nil {
			d.Error("a second entry with the same seq was accepted")
		}
		d.data("what the step returned", d.journal(r.Key)[1].Data, []byte(`1`))
	}},
	{"one commit takes any number of entries of any number of runs", func(d *desk) {
		w := d.join("w")
		b := &pawl.Batch{Worker: w}
		var runs []pawl.RunInfo
		for i, n := range []int{1, 3, 4, 15, 63, 64, 65, 300} {
			r := d.hold(w, fmt.Sprint("run", i))
			ch := &pawl.Change{Run: r.Key, Epoch: r.Epoch}
			for k := range n {
				ch.Entries = append(ch.Entries, d.entry(r, pawl.KindStep, fmt.Sprint("s", k), fmt.Sprint(k)))
			}
			b.Changes, runs = append(b.Changes, ch), append(runs, r)
		}
		d.commit(b)
		for i, r := range runs {
			got := d.journal(r.Key)[1:]
			d.same("number of entries", len(got), len(b.Changes[i].Entries))
			for k, e := range got {
				if e.Seq != int64(k+1) || e.Key != fmt.Sprint("s", k) || string(e.Data) != fmt.Sprint(k) {
					d.Fatalf("entry %d of %s: seq %d, key %s, data %s", k, r.ID, e.Seq, e.Key, e.Data)
				}
			}
		}
	}},
	{"nothing of a dead worker's batch is stored", func(d *desk) {
		old, other := d.join("old"), d.join("other")
		r := d.hold(old, "a")
		d.start("b")
		d.die(old, other)
		b := poisoned(d, r)
		b.Changes[0].Entries = b.Changes[0].Entries[:1]
		d.is("a dead worker's commit", d.try(b), pawl.ErrFenced)
		d.same("keys of the journal", d.keys(r.Key), []string(nil))
		d.missing("c")
		d.state("b", pawl.Running)
		d.same("mail", d.mail(other), []string(nil))
	}},
	{"a worker that never joined may not commit", func(d *desk) {
		d.is("its commit", d.try(&pawl.Batch{Worker: 987654, Starts: []*pawl.Start{{Run: newRun("a")}}}), pawl.ErrFenced)
		d.missing("a")
	}},
	{"a client needs no lease", func(d *desk) {
		d.start("a")
		d.state("a", pawl.Pending)
	}},
	{"nothing of a superseded owner's move is stored, all else of its batch is", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		old := d.hold(w1, "a")
		d.sleep(old, d.now)
		now := d.again(w2, "a").Info
		other := d.hold(w1, "b")
		late := &pawl.Change{
			Run: old.Key, Epoch: old.Epoch, To: &pawl.Move{State: pawl.Completed, Keep: -1},
			Entries:  []pawl.Entry{{Seq: 1, Kind: pawl.KindResult, At: d.now, Data: json.RawMessage(`1`)}},
			Waits:    []pawl.Wait{{Key: "w", Event: "ev"}},
			Hooks:    []pawl.HookSpec{{Key: "h", Token: "tok"}},
			Chunks:   []pawl.Chunk{{Stream: "out", At: d.now}},
			Attrs:    []pawl.Attr{{Name: "color", Value: value("red")}},
			Children: []*pawl.Start{{Run: newRun("child", func(n *pawl.NewRun) { n.Parent, n.ParentKey = old.Key, "c" })}},
		}
		fine := &pawl.Change{Run: other.Key, Epoch: other.Epoch, Entries: []pawl.Entry{d.entry(other, pawl.KindStep, "s", `1`)}}
		d.commit(&pawl.Batch{Worker: w1, Changes: []*pawl.Change{late, fine}})
		d.is("the late change", late.Err, pawl.ErrFenced)
		d.ok(fine.Err)
		d.same("keys of the other run", d.keys(other.Key), []string{"s"})
		d.same("keys of the run", d.keys(old.Key), []string(nil))
		d.same("attributes", len(d.look("a").Attrs), 0)
		d.same("who waits for the event", d.publish("ev"), 0)
		d.missing("child")
		_, err := d.store.FindHook(d.ctx, "", "tok", d.now)
		d.is("the hook", err, pawl.ErrNotFound)
		streams, err := d.store.Streams(d.ctx, old.Key)
		d.ok(err)
		d.same("streams", len(streams), 0)
		d.same("owner", d.look("a").Worker, now.Worker)
	}},
	{"a worker cannot move a run that another one holds", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		r := d.hold(w1, "a")
		ch := &pawl.Change{Run: r.Key, Epoch: r.Epoch, To: &pawl.Move{State: pawl.Waiting, Due: d.now}}
		d.commit(&pawl.Batch{Worker: w2, Changes: []*pawl.Change{ch}})
		d.is("the change", ch.Err, pawl.ErrFenced)
		d.state("a", pawl.Running)
	}},
	{"records of a change are stored with it, and only with it", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		end := func(key string) *pawl.Change {
			return &pawl.Change{Entries: []pawl.Entry{d.entry(r, pawl.KindResult, "", `1`)}, To: &pawl.Move{State: pawl.Completed, Keep: -1},
				Puts: []pawl.Put{{Space: "ends", Key: key, If: pawl.AnyVersion, Data: json.RawMessage(`{"n":1}`)}}}
		}
		d.say(r, end("first"))
		late := end("second")
		d.say(r, late)
		d.is("a second end", late.Err, pawl.ErrFenced)
		got, err := d.store.Records(d.ctx, "ends", "", "", 10, d.now)
		d.ok(err)
		d.same("records", len(got), 1)
		d.same("the key", got[0].Key, "first")
		d.data("its data", got[0].Data, []byte(`{"n":1}`))
	}},
	{"a run ends once", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.end(r, pawl.Completed, `1`)
		ch := &pawl.Change{Entries: []pawl.Entry{d.entry(r, pawl.KindResult, "", `2`)}, To: &pawl.Move{State: pawl.Failed, Keep: -1}}
		d.say(r, ch)
		d.is("a second end", ch.Err, pawl.ErrFenced)
		d.state("a", pawl.Completed)
		e, err := d.store.Result(d.ctx, r.Key)
		d.ok(err)
		d.data("its result", e.Data, []byte(`1`))
	}},
	{"an end says when, and why", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.pass(time.Second)
		d.move(r, &pawl.Change{}, pawl.Move{State: pawl.Failed, Reason: "it broke", Keep: -1})
		got := d.look("a")
		d.same("reason", got.Reason, "it broke")
		d.same("worker", got.Worker, int64(0))
		if !got.Ended.Equal(d.now) || !got.Updated.Equal(d.now) {
			d.Errorf("ended %v, updated %v; want %v", got.Ended, got.Updated, d.now)
		}
	}},
	{"a run is not suspended past a message that it has not seen", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.signal("a", "e", `"x"`)
		ch := &pawl.Change{
			Entries: []pawl.Entry{d.entry(r, pawl.KindStep, "s", `1`)}, Waits: []pawl.Wait{{Key: "w", Event: "e"}},
			To: &pawl.Move{State: pawl.Waiting, Due: d.now.Add(time.Hour)},
		}
		d.say(r, ch)
		d.ok(ch.Err)
		d.same("mail in the answer", texts(ch.Mail), []string{`event:e="x"`})
		d.same("keys of the journal", d.keys(r.Key), []string{"s"})
		got := d.look("a")
		d.same("state", got.State, pawl.Running)
		d.same("owner", got.Worker, r.Worker)
		d.same("who waits for the event", d.publish("e"), 1)
	}},
	{"a message that it has seen does not keep it from waiting", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.signal("a", "early", `1`)
		seen := d.mailOf(r.Worker)
		d.move(r, &pawl.Change{}, pawl.Move{State: pawl.Waiting, Due: d.now.Add(time.Hour), Seen: newest(seen)})
		d.state("a", pawl.Waiting)
	}},
	{"a run is not paused past a message that it has not seen", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.signal("a", "e", `1`)
		ch := &pawl.Change{To: &pawl.Move{State: pawl.Paused, Reason: "budget"}}
		d.say(r, ch)
		d.same("mail in the answer", texts(ch.Mail), []string{`event:e=1`})
		d.state("a", pawl.Running)
	}},
	{"a superseded owner is told so, not of messages", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		old := d.hold(w1, "a")
		d.sleep(old, d.now)
		d.again(w2, "a")
		d.signal("a", "e", `1`)
		ch := &pawl.Change{Entries: []pawl.Entry{{Seq: 1, Kind: pawl.KindStep, Key: "s", At: d.now}}, To: &pawl.Move{State: pawl.Waiting, Due: d.now}}
		d.say(old, ch)
		d.is("its change", ch.Err, pawl.ErrFenced)
		d.same("mail", len(ch.Mail), 0)
		d.same("keys of the journal", d.keys(old.Key), []string(nil))
	}},
	{"messages do not keep a run from ending", func(d *desk) {
		r := d.hold(d.join("w"), "a")
		d.signal("a", "e", `1`)
		d.end(r, pawl.Completed, `1`)
		d.state("a", pawl.Completed)
		d.same("mail", d.mail(r.Worker), []string(nil))
	}},
	{"a commit tells the earliest time at which a run of it is due", func(d *desk) {
		w := d.join("w")
		a, b := d.hold(w, "a"), d.hold(w, "b")
		soon := d.now.Add(time.Minute)
		got := d.commit(&pawl.Batch{
			Worker: w,
			Changes: []*pawl.Change{
				{Run: a.Key, Epoch: a.Epoch, To: &pawl.Move{State: pawl.Waiting, Due: d.now.Add(time.Hour)}},
				{Run: b.Key, Epoch: b.Epoch, To: &pawl.Move{State: pawl.Waiting, Due: soon}},
			},
			Starts: []*pawl.Start{{Run: newRun("c", func(n *pawl.NewRun) { n.NotBefore = d.now.Add(2 * time.Minute) })}},
		})
		if !got.Due.Equal(soon) {
			d.Errorf("Due is %v; want %v", got.Due, soon)
		}
	}},
	{"a commit tells when a run has become claimable, and only then", func(d *desk) {
		w := d.join("w")
		b := d.commit(&pawl.Batch{Starts: []*pawl.Start{{Run: newRun("a")}}})
		d.same("Ready after a start", b.Ready, true)
		r := d.again(w, "a").Info
		b = d.say(r, &pawl.Change{Entries: []pawl.Entry{d.entry(r, pawl.KindStep, "s", `1`)}})
		d.same("Ready after a step", b.Ready, false)
		b = d.sleep(r, d.now.Add(time.Hour))
		d.same("Ready after a sleep began", b.Ready, false)
	}},
	{"workers that commit at the same time lose nothing", func(d *desk) {
		const each = 30
		var wg sync.WaitGroup
		var runs []pawl.RunInfo
		for i := range 4 {
			runs = append(runs, d.hold(d.join(fmt.Sprint("w", i%2)), fmt.Sprint("run", i)))
		}
		now := d.now
		errs := make(chan error, len(runs)*each)
		for _, r := range runs {
			wg.Go(func() {
				for i := range each {
					errs <- d.store.Commit(d.ctx, &pawl.Batch{
						Worker: r.Worker, Now: now,
						Changes: []*pawl.Change{{Run: r.Key, Epoch: r.Epoch, Entries: []pawl.Entry{{Seq: int64(i + 1), Kind: pawl.KindStep, Key: fmt.Sprint(i), At: now}}}},
						Starts:  []*pawl.Start{{Run: newRun(fmt.Sprint(r.ID, "-", i))}},
						Sends:   []*pawl.Send{{RunID: "run0", Name: pawl.MsgEvent + "e", Data: json.RawMessage(`1`)}},
					})
				}
			})
		}
		wg.Wait()
		close(errs)
		for err := range errs {
			d.ok(err)
		}
		for _, r := range runs {
			d.same("entries of "+r.ID, len(d.journal(r.Key)), each+1)
		}
		d.same("runs claimed", len(d.claim(runs[0].Worker)), 4*each)
		d.same("messages", len(d.mail(runs[0].Worker)), 4*each)
	}},
}

// poisoned is a batch with something of everything for the run, and with an entry whose
// seq the journal has already: the last one of its change.
func poisoned(d *desk, r pawl.RunInfo) *pawl.Batch {
	return &pawl.Batch{
		Worker: r.Worker,
		Changes: []*pawl.Change{{Run: r.Key, Epoch: r.Epoch, Entries: []pawl.Entry{
			{Seq: 2, Kind: pawl.KindStep, Key: "two", At: d.now, Data: json.RawMessage(`2`)},
			{Seq: 1, Kind: pawl.KindStep, Key: "three", At: d.now, Data: json.RawMessage(`3`)},
		}}},
		Starts: []*pawl.Start{{Run: newRun("c")}},
		Sends:  []*pawl.Send{{RunID: r.ID, Name: pawl.MsgEvent + "e", Data: json.RawMessage(`"x"`)}},
		Orders: []*pawl.Order{{Verb: pawl.VerbPause, RunID: "b"}},
	}
}

// mailOf returns a worker's messages without their runs.
func (d *desk) mailOf(worker int64) (out []pawl.Message) {
	d.Helper()
	all, err := d.store.Mail(d.ctx, worker)
	d.ok(err)
	for _, m := range all {
		out = append(out, m.Message)
	}
	return out
}
