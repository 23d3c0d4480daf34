package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// news: what has changed is told, whoever changed it and by whatever way, each entry once.
var news = []promise{
	{"nothing has changed when nothing has", func(d *desk) {
		d.start("before")
		n := d.news()
		n.tells()
		n.tells()
	}},
	{"a run is told at each move, and its entries once and in order, without what they hold", func(d *desk) {
		n := d.news()
		w := d.join("w")
		d.start("a", func(r *pawl.NewRun) { r.Attrs = []pawl.Attr{{Name: "color", Value: value("red")}} })
		got := n.tells("a pending moved 0")
		d.same("attributes", got[0].Run.Attrs, map[string]string{"color": "red"})
		r := d.claim(w)[0].Info
		n.tells("a running moved")
		e := d.entry(r, pawl.KindStep, "one", `"a secret"`)
		e.Attempt, e.Failed, e.Took = 3, true, 5*time.Millisecond
		d.say(r, &pawl.Change{Entries: []pawl.Entry{e}})
		e.Data = nil
		got = n.tells("a running 1")
		d.same("the entry", got[0].Entries[0], e)
		d.step(r, "two")
		d.step(r, "three")
		n.tells("a running 2 3")
		n.tells()
		d.suspend(r, "go")
		n.tells("a waiting moved")
		d.signal("a", "go", `1`)
		n.tells("a waiting moved")
		r = d.again(w, "a").Info
		d.step(r, "four")
		d.end(r, pawl.Completed, `1`)
		n.tells("a completed moved 4 5")
		n.tells()
	}},
	{"what an operator orders is told, and what follows of it for others", func(d *desk) {
		w := d.join("w")
		parent := d.hold(w, "parent")
		d.spawn(parent, "kid", "k")
		kid := d.again(w, "kid").Info
		n := d.news()
		d.suspend(kid, "never")
		n.tells("kid waiting moved")
		d.suspend(parent, "never")
		n.tells("parent waiting moved")
		d.ok(d.order(pawl.VerbPause, "kid"))
		n.tells("kid paused moved")
		d.ok(d.order(pawl.VerbUnpause, "kid"))
		if got := n.next(); len(got) != 1 || !got[0].Moved {
			d.Errorf("an unpause is told as %v", got)
		}
		d.ok(d.order(pawl.VerbCancel, "parent"))
		p := d.claim(w)
		n.next()
		for _, c := range p {
			if c.Info.ID == "kid" {
				d.end(c.Info, pawl.Completed, `1`)
				got := n.next()
				d.same("runs that the end of a child moves", len(got), 1)
			}
		}
	}},
	{"that a worker has died is told of its runs", func(d *desk) {
		dead, w := d.join("dead"), d.join("w")
		r := d.hold(dead, "a")
		d.step(r, "s")
		n := d.news()
		d.die(dead, w)
		if got := n.next(); len(got) != 1 || got[0].Run.Worker != w || !got[0].Moved {
			d.Errorf("told: %v", got)
		}
	}},
	{"a run that was waiting before tells of what comes, not of what was", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		for i := range 5 {
			d.step(r, fmt.Sprint("old", i))
		}
		d.suspend(r, "go")
		d.pass(time.Second)
		n := d.news()
		d.signal("a", "go", `1`)
		r = d.again(w, "a").Info
		d.step(r, "new")
		n.tells("a running moved 6")
	}},
	{"what is told does not depend on the clocks of workers, nor on how long a run has waited", func(d *desk) {
		n := d.news()
		for i, off := range []time.Duration{-time.Hour, time.Hour, -time.Second} {
			id := fmt.Sprint("r", i)
			at := func(r pawl.RunInfo, key string) *pawl.Change {
				e := d.entry(r, pawl.KindStep, key, `1`)
				e.At = d.now.Add(off)
				return &pawl.Change{Entries: []pawl.Entry{e}}
			}
			r := d.hold(d.join("w"), id)
			d.say(r, at(r, "one"))
			d.suspend(r, "go")
			n.tells(id + " waiting moved 0 1")
			for j := range 3 { // it is forgotten
				d.pass(50 * time.Second)
				other := fmt.Sprint(id, "other", j)
				d.start(other, func(r *pawl.NewRun) { r.NotBefore = d.now.Add(1000 * time.Hour) })
				n.tells(other + " pending moved 0")
			}
			d.signal(id, "go", `1`)
			r = d.again(d.join("w"), id).Info
			d.say(r, at(r, "two"))
			n.tells(id + " running moved 2")
			d.end(r, pawl.Completed, `1`)
			n.next()
			n.tells()
			d.pass(5 * time.Minute)
		}
	}},
	{"all that a run does between two looks is told", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		for i := range 300 {
			d.step(r, fmt.Sprint("old", i))
		}
		d.suspend(r, "go")
		n := d.news()
		d.pass(2 * time.Minute)
		n.tells()
		d.signal("a", "go", `1`)
		r = d.again(d.join("w"), "a").Info
		var ch pawl.Change
		first := int64(len(d.journal(r.Key)))
		for i := range 2500 {
			e := d.entry(r, pawl.KindStep, fmt.Sprint("new", i), `1`)
			e.Seq = first + int64(i)
			ch.Entries = append(ch.Entries, e)
		}
		d.say(r, &ch)
		got := n.next()
		d.same("runs", len(got), 1)
		d.same("entries", len(got[0].Entries), 2500)
		d.same("the first", got[0].Entries[0].Seq, first)
		n.tells()
	}},
	{"a change that was not stored is not told", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		n := d.news()
		d.ok(d.store.Leave(d.ctx, w, d.now))
		n.tells("a pending moved")
		err := d.try(&pawl.Batch{Worker: w, Changes: []*pawl.Change{{Run: r.Key, Epoch: r.Epoch, Entries: []pawl.Entry{d.entry(r, pawl.KindStep, "s", `1`)}}}})
		d.is("a commit of a worker that left", err, pawl.ErrFenced)
		n.tells()
	}},
	{"two readers are told of the same, and one that is closed costs the other nothing", func(d *desk) {
		a, b := d.news(), d.news()
		d.start("x")
		a.tells("x pending moved 0")
		d.ok(a.r.Close())
		d.start("y")
		b.tells("x pending moved 0", "y pending moved 0")
	}},
	{"under load every entry is told once, in the order of its run", func(d *desk) {
		const runs, steps = 8, 40
		w := d.join("w")
		for i := range runs {
			d.start(fmt.Sprint("r", i))
		}
		d.pass(time.Second)
		n := d.news()
		held := d.claim(w)
		var all sync.WaitGroup
		now := d.now
		for _, c := range held {
			all.Go(func() {
				for i := range steps {
					ch := &pawl.Change{Run: c.Info.Key, Epoch: c.Info.Epoch, Entries: []pawl.Entry{{Seq: int64(i + 1), Kind: pawl.KindStep, Key: "s", At: now}}}
					if err := d.store.Commit(d.ctx, &pawl.Batch{Worker: w, Now: now, Changes: []*pawl.Change{ch}}); err != nil {
						d.Error(err)
						return
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { all.Wait(); close(done) }()
		next := map[string]int64{}
		take := func() {
			for _, news := range n.next() {
				for _, e := range news.Entries {
					if next[news.Run.ID]++; e.Seq != next[news.Run.ID] {
						d.Errorf("run %s: entry %d comes where %d should", news.Run.ID, e.Seq, next[news.Run.ID])
					}
				}
			}
		}
		for open := true; open; {
			select {
			case <-done:
				open = false
			default:
			}
			take()
		}
		take()
		for _, c := range held {
			d.same("entries of "+c.Info.ID, next[c.Info.ID], int64(steps))
		}
	}},
}

// listener reads news.
type listener struct {
	d *desk
	r pawl.NewsReader
}

func (d *desk) news() *listener {
	d.Helper()
	r, err := d.store.News(d.ctx, d.now)
	d.ok(err)
	d.Cleanup(func() {
		if err := r.Close(); err != nil {
			d.Errorf("close a reader of news: %v", err)
		}
	})
	return &listener{d, r}
}

func (l *listener) next() []pawl.News {
	l.d.Helper()
	got, err := l.r.Next(l.d.ctx, l.d.now)
	l.d.ok(err)
	return got
}

// tells wants the next news to be these, in any order: id, state, whether it moved, entries.
func (l *listener) tells(want ...string) []pawl.News {
	l.d.Helper()
	got := l.next()
	left := map[string]bool{}
	for _, n := range got {
		line := n.Run.ID + " " + n.Run.State.String()
		if n.Moved {
			line += " moved"
		}
		for _, e := range n.Entries {
			line += fmt.Sprint(" ", e.Seq)
		}
		left[line] = true
	}
	for _, w := range want {
		if !left[w] {
			l.d.Fatalf("told: %v; want %q among it", left, w)
		}
		delete(left, w)
	}
	if len(left) > 0 {
		l.d.Fatalf("told besides: %v", left)
	}
	return got
}
