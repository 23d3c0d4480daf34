package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// claims: who gets which run, in which order, and when.
var claims = []promise{
	{"a worker gets runs of the workflows that it knows, and no others", func(d *desk) {
		w := d.join("w")
		d.start("a", of("x"))
		d.start("b", of("y"))
		d.start("c", of("z"))
		got := d.claim(w, "x", "z")
		d.same("runs", ids(got), []string{"a", "c"})
		d.state("b", pawl.Pending)
		d.same("runs of the one it knows by now", ids(d.claim(w, "y")), []string{"b"})
	}},
	{"runs that nobody here knows do not stand in the way of others", func(d *desk) {
		w := d.join("w")
		for i := range 30 {
			d.start(fmt.Sprint("foreign", i), of("other"))
		}
		d.start("mine")
		got := d.claims(w, 5, flow)
		d.same("runs", ids(got.Runs), []string{"mine"})
	}},
	{"a claim gives as many as were asked for, and says that there is more", func(d *desk) {
		w := d.join("w")
		for i := range 5 {
			d.start(fmt.Sprint("run", i))
		}
		first := d.claims(w, 3, flow)
		d.same("runs of the first claim", ids(first.Runs), []string{"run0", "run1", "run2"})
		d.same("more", first.More, true)
		second := d.claims(w, 3, flow)
		d.same("runs of the second claim", ids(second.Runs), []string{"run3", "run4"})
		d.same("more", second.More, false)
	}},
	{"a claim makes the run the worker's, and counts", func(d *desk) {
		w := d.join("w")
		d.start("a")
		for epoch := int64(1); epoch <= 3; epoch++ {
			got := d.again(w, "a").Info
			d.same("state", got.State, pawl.Running)
			d.same("owner", got.Worker, w)
			d.same("epoch", got.Epoch, epoch)
			d.same("as looked up", d.look("a").Epoch, epoch)
			d.sleep(got, d.now)
		}
	}},
	{"the run that was ready first goes first", func(d *desk) {
		w := d.join("w")
		for i := range 4 {
			d.start(fmt.Sprint("run", i))
			d.pass(time.Second)
		}
		d.claimed(w, "run0", "run1", "run2", "run3")
	}},
	{"priority n goes before what became ready up to n seconds earlier", func(d *desk) {
		w := d.join("w")
		d.start("first")
		d.pass(5 * time.Second)
		d.start("second")
		d.pass(4 * time.Second)
		d.start("urgent", priority(6))
		d.claimed(w, "first", "urgent", "second")
	}},
	{"a low priority waits longer, not for ever", func(d *desk) {
		w := d.join("w")
		d.start("low", priority(-10))
		d.pass(9 * time.Second)
		d.start("before")
		d.pass(2 * time.Second)
		d.start("after")
		d.claimed(w, "before", "low", "after")
	}},
	{"the priority counts at every wake", func(d *desk) {
		w := d.join("w")
		d.suspend(d.hold(w, "plain"), "go")
		d.suspend(d.hold(w, "urgent", priority(60)), "go")
		d.signal("plain", "go", `1`)
		d.pass(time.Second)
		d.signal("urgent", "go", `1`)
		d.claimed(w, "urgent", "plain")
	}},
	{"a run does not start before its time, and starts at it", func(d *desk) {
		w := d.join("w")
		at := d.now.Add(time.Minute)
		d.start("a", notBefore(at))
		got := d.claims(w, 10, flow)
		d.same("runs", ids(got.Runs), []string(nil))
		if !got.Due.Equal(at) {
			d.Errorf("Due is %v; want %v", got.Due, at)
		}
		d.to(at.Add(-time.Microsecond), w)
		d.claimed(w)
		d.to(at, w)
		d.claimed(w, "a")
	}},
	{"a timer does not wake its run before its time, and wakes it at it", func(d *desk) {
		w := d.join("w")
		at := d.now.Add(90 * time.Second)
		d.sleep(d.hold(w, "a"), at)
		if got := d.look("a").Due; !got.Equal(at) {
			d.Errorf("Due is %v; want %v", got, at)
		}
		d.to(at.Add(-time.Microsecond), w)
		d.claimed(w)
		d.to(at, w)
		got := d.again(w, "a").Info
		if !got.Due.IsZero() {
			d.Errorf("a run at work is due %v", got.Due)
		}
	}},
	{"due runs go in the order of their times, among those that are ready", func(d *desk) {
		w := d.join("w")
		base := d.now
		for i, id := range []string{"third", "first"} {
			d.sleep(d.hold(w, id), base.Add(time.Duration(30-20*i)*time.Second))
		}
		d.to(base.Add(20*time.Second), w)
		d.start("second")
		d.to(base.Add(40*time.Second), w)
		d.start("fourth")
		d.claimed(w, "first", "second", "third", "fourth")
	}},
	{"a claim tells the earliest time at which a run becomes due", func(d *desk) {
		w := d.join("w")
		d.same("Due of an empty store", d.claims(w, 10, flow).Due.IsZero(), true)
		early, late := d.now.Add(time.Minute), d.now.Add(time.Hour)
		d.sleep(d.hold(w, "late"), late)
		d.sleep(d.hold(w, "early"), early)
		if got := d.claims(w, 10, flow).Due; !got.Equal(early) {
			d.Errorf("Due is %v; want %v", got, early)
		}
		d.start("ready")
		if got := d.claims(w, 10, flow).Due; !got.Equal(early) {
			d.Errorf("Due of a claim that gave runs is %v; want %v", got, early)
		}
	}},
	{"a worker whose lease has ended gets nothing, and its end is for others to declare", func(d *desk) {
		late, other := d.join("late"), d.join("other")
		held := d.hold(late, "held")
		d.start("a")
		d.ok(d.store.Beat(d.ctx, late, d.now, d.now.Add(time.Second)))
		d.pass(2 * time.Second)
		_, err := d.store.Claim(d.ctx, pawl.ClaimRequest{Worker: late, Now: d.now, Limit: 10, Workflows: []string{flow}})
		d.is("the claim", err, pawl.ErrFenced)
		found, err := d.store.Audit(d.ctx, d.now)
		d.ok(err)
		d.same("findings", len(found), 0)
		d.ok(d.store.Beat(d.ctx, other, d.now, d.now.Add(time.Minute)))
		d.claimed(other, "a", held.ID)
	}},
	{"no run is given to two workers", func(d *desk) {
		const n = 60
		workers := []int64{d.join("w0"), d.join("w1"), d.join("w2"), d.join("w3")}
		for i := range n {
			d.start(fmt.Sprint("run", i))
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		owner := map[string]int64{}
		now := d.now
		for _, w := range workers {
			wg.Go(func() {
				for idle := 0; idle < 3; {
					got, err := d.store.Claim(d.ctx, pawl.ClaimRequest{Worker: w, Now: now, Limit: 3, Workflows: []string{flow}})
					if err != nil {
						d.Error(err)
						return
					}
					if len(got.Runs) == 0 {
						idle++
					}
					mu.Lock()
					for _, r := range got.Runs {
						if owner[r.Info.ID] != 0 {
							d.Errorf("%s was given to %d and to %d", r.Info.ID, owner[r.Info.ID], w)
						}
						owner[r.Info.ID] = w
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		d.claim(workers[0]) // what they left because others were looking at it
		for id, w := range owner {
			d.same("owner of "+id, d.look(id).Worker, w)
		}
		st, err := d.store.Stats(d.ctx, d.now)
		d.ok(err)
		d.same("runs at work", st.Runs[pawl.Running], int64(n))
	}},
	{"a claim brings what is in the inbox, oldest first", func(d *desk) {
		w := d.join("w")
		d.start("a")
		d.signal("a", "one", `1`)
		d.signal("a", "two", `2`)
		d.signal("a", "three", `3`)
		d.same("mail", texts(d.again(w, "a").Mail), []string{"event:one=1", "event:two=2", "event:three=3"})
	}},
	{"an eager start is granted in its own commit", func(d *desk) {
		w := d.join("w")
		s := &pawl.Start{Run: newRun("a", eager)}
		b := d.commit(&pawl.Batch{Worker: w, Room: 1, Workflows: []string{flow}, Starts: []*pawl.Start{s}})
		d.same("runs granted", ids(b.Granted), []string{"a"})
		got := b.Granted[0]
		d.same("the grant's start", got.Start, s)
		d.same("epoch", got.Info.Epoch, int64(1))
		d.same("owner", d.look("a").Worker, w)
		d.state("a", pawl.Running)
		d.same("Ready", b.Ready, false)
		d.claimed(w)
	}},
	{"no more runs are granted than there is room", func(d *desk) {
		w := d.join("w")
		b := &pawl.Batch{Worker: w, Room: 2, Workflows: []string{flow}}
		for i := range 4 {
			b.Starts = append(b.Starts, &pawl.Start{Run: newRun(fmt.Sprint("run", i), eager)})
		}
		d.commit(b)
		d.same("runs granted", ids(b.Granted), []string{"run0", "run1"})
		d.same("Ready", b.Ready, true)
		d.claimed(w, "run2", "run3")
	}},
	{"no run of a workflow that the worker does not know is granted", func(d *desk) {
		w := d.join("w")
		d.suspend(d.hold(w, "b"), "go")
		b := &pawl.Batch{
			Worker: w, Room: 5, Workflows: []string{"another"},
			Starts: []*pawl.Start{{Run: newRun("a", eager)}},
			Sends:  []*pawl.Send{{RunID: "b", Name: pawl.MsgEvent + "go"}},
		}
		d.commit(b)
		d.same("runs granted", ids(b.Granted), []string(nil))
		d.same("Ready", b.Ready, true)
		d.same("how many are claimed instead", len(d.claim(w)), 2)
	}},
	{"a start that is not for now is not granted", func(d *desk) {
		w := d.join("w")
		b := &pawl.Batch{Worker: w, Room: 5, Workflows: []string{flow}, Starts: []*pawl.Start{{Run: newRun("a", eager, notBefore(d.now.Add(time.Second)))}}}
		d.commit(b)
		d.same("runs granted", ids(b.Granted), []string(nil))
		d.state("a", pawl.Pending)
	}},
	{"a client's eager start is granted to nobody", func(d *desk) {
		b := &pawl.Batch{Room: 5, Workflows: []string{flow}, Starts: []*pawl.Start{{Run: newRun("a", eager)}}}
		d.commit(b)
		d.same("runs granted", ids(b.Granted), []string(nil))
		d.same("Ready", b.Ready, true)
	}},
	{"a run that a message wakes is granted to the worker that sent it", func(d *desk) {
		w1, w2 := d.join("w1"), d.join("w2")
		d.suspend(d.hold(w1, "a"), "go")
		b := d.commit(&pawl.Batch{
			Worker: w2, Room: 1, Workflows: []string{flow},
			Sends: []*pawl.Send{{RunID: "a", Name: pawl.MsgEvent + "go", Data: []byte(`1`)}},
		})
		d.same("runs granted", ids(b.Granted), []string{"a"})
		d.same("mail of the grant", texts(b.Granted[0].Mail), []string{"event:go=1"})
		d.same("owner", d.look("a").Worker, w2)
		d.same("epoch", d.look("a").Epoch, int64(2))
	}},
}

func of(workflow string) func(*pawl.NewRun) { return func(n *pawl.NewRun) { n.Workflow = workflow } }
func priority(p int) func(*pawl.NewRun)     { return func(n *pawl.NewRun) { n.Priority = p } }
func single(key string) func(*pawl.NewRun)  { return func(n *pawl.NewRun) { n.Single = key } }
func eager(n *pawl.NewRun)                  { n.Eager = true }

func notBefore(t time.Time) func(*pawl.NewRun) {
	return func(n *pawl.NewRun) { n.NotBefore = t }
}

func input(json string) func(*pawl.NewRun) {
	return func(n *pawl.NewRun) { n.Input = []byte(json) }
}

func limited(l ...pawl.RunLimit) func(*pawl.NewRun) {
	return func(n *pawl.NewRun) { n.Limits = l }
}

// to sets the clock, and keeps workers alive.
func (d *desk) to(at time.Time, alive ...int64) {
	d.Helper()
	d.now = at
	for _, w := range alive {
		d.ok(d.store.Beat(d.ctx, w, d.now, d.now.Add(lease)))
	}
}
