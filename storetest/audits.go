package storetest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pawlrun/pawl"
)

// audits: no run can wait on nothing, whatever happened.
var audits = []promise{
	{"an audit finds nothing in an empty store", func(d *desk) { d.sound("at once") }},
	{"an audit finds nothing wrong with runs in any state", func(d *desk) {
		w := d.join("w")
		for s := pawl.Blocked; s >= pawl.Pending; s-- {
			d.inState(w, s.String(), s)
			d.sound("with a run that is " + s.String())
		}
	}},
	{"a run that waits for nothing is found, and goes on", func(d *desk) {
		w := d.join("w")
		d.move(d.hold(w, "a"), &pawl.Change{}, pawl.Move{State: pawl.Waiting})
		found, err := d.store.Audit(d.ctx, d.now)
		d.ok(err)
		d.same("findings", len(found), 1)
		d.same("run", found[0].RunID, "a")
		d.same("state", found[0].State, pawl.Waiting)
		if found[0].What == "" {
			d.Error("the finding says nothing")
		}
		d.sound("afterwards")
		d.claimed(w, "a")
	}},
	{"a run that waits for an event, a hook, a child or a time is left alone", func(d *desk) {
		w := d.join("w")
		d.suspend(d.hold(w, "event"), "go")
		r := d.hold(w, "hook")
		d.hook(r, pawl.HookSpec{Key: "h", Token: "tok"})
		d.move(r, &pawl.Change{}, pawl.Move{State: pawl.Waiting})
		d.sleep(d.hold(w, "time"), d.now.Add(time.Hour))
		r = d.hold(w, "child")
		d.spawn(r, "kid", "k")
		d.move(r, &pawl.Change{}, pawl.Move{State: pawl.Waiting})
		d.sound("with runs that wait")
		d.claimed(w, "kid")
	}},
	{"a run with early messages that it has seen is left alone", func(d *desk) {
		w := d.join("w")
		r := d.hold(w, "a")
		d.signal("a", "early", `1`)
		d.move(r, &pawl.Change{}, pawl.Move{State: pawl.Waiting, Due: d.now.Add(time.Hour), Seen: newest(d.mailOf(w))})
		d.sound("with a message that nobody waits for yet")
		d.claimed(w)
	}},
	{"after any sequence of events an audit finds nothing, and every run can be brought to its end", func(d *desk) {
		seed := uint64(time.Now().UnixNano())
		d.Logf("seed %d", seed)
		newStorm(d, seed).rage(400)
	}},
}

// sound wants an audit to find nothing.
func (d *desk) sound(when string) {
	d.Helper()
	found, err := d.store.Audit(d.ctx, d.now)
	d.ok(err)
	if len(found) > 0 {
		d.Fatalf("%s an audit finds %+v, gate %q", when, found, d.look(found[0].RunID).Gate)
	}
}

// storm does at random what engines, clients and operators do, and knows what it did only
// as far as they would: which runs its workers were given.
type storm struct {
	*desk
	rand    *rand.Rand
	workers []int64
	held    map[int64]pawl.RunInfo // by run key
	started int
	what    []string // was done, for who looks at a failure
}

func newStorm(d *desk, seed uint64) *storm {
	s := &storm{desk: d, rand: rand.New(rand.NewPCG(seed, 0)), held: map[int64]pawl.RunInfo{}}
	for i := range 3 {
		s.workers = append(s.workers, d.join(fmt.Sprint("w", i)))
	}
	return s
}

func (s *storm) rage(n int) {
	defer func() {
		if s.Failed() {
			for _, w := range s.what[max(0, len(s.what)-200):] {
				s.Log(w)
			}
		}
	}()
	deeds := []func(){s.launch, s.launch, s.work, s.work, s.work, s.finish, s.park, s.park, s.post, s.post, s.command, s.lose, s.wait, s.goOn, s.bear}
	for i := range n {
		s.take()
		deeds[s.rand.IntN(len(deeds))]()
		s.sound(fmt.Sprintf("after deed %d", i))
	}
	s.calm()
}

func (s *storm) note(format string, args ...any) {
	s.what = append(s.what, fmt.Sprintf(format, args...))
}

// take has some worker claim what there is, and take up what it is told.
func (s *storm) take() {
	w := s.workers[s.rand.IntN(len(s.workers))]
	for _, c := range s.claim(w) {
		s.note("worker %d claims %s with %v", w, c.Info.ID, texts(c.Mail))
		s.held[c.Info.Key] = c.Info
	}
}

func (s *storm) id() string {
	if s.started == 0 {
		return "none"
	}
	return fmt.Sprint("run", s.rand.IntN(s.started))
}

func (s *storm) launch() {
	more := []func(*pawl.NewRun){
		func(n *pawl.NewRun) { n.Single = fmt.Sprint("single", s.rand.IntN(2)) },
		func(n *pawl.NewRun) { n.Limits = []pawl.RunLimit{atOnce("l", 2)} },
		func(n *pawl.NewRun) { n.Limits = []pawl.RunLimit{atOnce("l", 2), atOnce("m", 1)} },
		func(n *pawl.NewRun) { n.Limits = []pawl.RunLimit{atOnce("m", 1), perTime("r", 2, time.Minute)} },
		func(n *pawl.NewRun) { n.NotBefore = s.now.Add(time.Duration(s.rand.IntN(100)) * time.Second) },
		func(n *pawl.NewRun) { n.Priority = s.rand.IntN(40) - 20 },
	}
	s.rand.Shuffle(len(more), func(i, j int) { more[i], more[j] = more[j], more[i] })
	more = more[:s.rand.IntN(3)]
	policy := []pawl.Policy{pawl.ReturnExisting, pawl.Reject, pawl.CancelOld, pawl.Queue}[s.rand.IntN(4)]
	id := fmt.Sprint("run", s.started)
	st := s.tryStart(policy, id, more...)
	s.note("start %s with policy %d: existed %v, gate %q, error %v", id, policy, st.Existed, st.Info.Gate, st.Err)
	if st.Err == nil && !st.Existed {
		s.started++
	}
}

// any returns a run that is held, if there is one.
func (s *storm) any() (pawl.RunInfo, bool) {
	keys := make([]int64, 0, len(s.held))
	for k := range s.held {
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return pawl.RunInfo{}, false
	}
	slices.Sort(keys)
	return s.held[keys[s.rand.IntN(len(keys))]], true
}

func (s *storm) work() {
	if r, ok := s.any(); ok {
		s.step(r, "s")
		s.note("%s makes a step", r.ID)
	}
}

// let commits a move; a run that had messages stays, and has taken them.
func (s *storm) let(r pawl.RunInfo, ch *pawl.Change, to pawl.Move) {
	s.Helper()
	ch.To = &to
	s.say(r, ch)
	s.note("%s becomes %s: mail %v, error %v", r.ID, to.State, texts(ch.Mail), ch.Err)
	s.ok(ch.Err)
	if ch.Mail == nil {
		delete(s.held, r.Key)
		return
	}
	var taken []int64
	for _, m := range ch.Mail {
		taken = append(taken, m.ID)
	}
	s.say(r, &pawl.Change{Consumed: taken})
}

func (s *storm) finish() {
	if r, ok := s.any(); ok {
		s.conclude(r)
	}
}

func (s *storm) conclude(r pawl.RunInfo) {
	e := s.entry(r, pawl.KindResult, "", `{"message":"x"}`)
	states := []pawl.State{pawl.Completed, pawl.Failed, pawl.Cancelled}
	s.let(r, &pawl.Change{Entries: []pawl.Entry{e}}, pawl.Move{State: states[s.rand.IntN(3)], Keep: -1})
}

func (s *storm) goOn() {
	if r, ok := s.any(); ok {
		next := &pawl.Start{Run: newRun(fmt.Sprint("run", s.started))}
		s.started++
		s.let(r, &pawl.Change{Entries: []pawl.Entry{s.entry(r, pawl.KindResult, "", `1`)}}, pawl.Move{State: pawl.Completed, Keep: -1, Next: next})
	}
}

func (s *storm) bear() {
	if r, ok := s.any(); ok {
		kid := &pawl.Start{Run: newRun(fmt.Sprint("run", s.started), childOf(r, "k"))}
		s.started++
		ch := &pawl.Change{Entries: []pawl.Entry{s.entry(r, pawl.KindChild, "k", ``)}, Children: []*pawl.Start{kid}}
		s.note("%s bears %s", r.ID, kid.Run.ID)
		s.let(r, ch, pawl.Move{State: pawl.Waiting})
	}
}

func (s *storm) park() {
	r, ok := s.any()
	if !ok {
		return
	}
	switch s.rand.IntN(4) {
	case 0:
		s.let(r, &pawl.Change{Waits: []pawl.Wait{{Key: "w", Event: "go"}}}, pawl.Move{State: pawl.Waiting})
	case 1:
		s.let(r, &pawl.Change{}, pawl.Move{State: pawl.Waiting, Due: s.now.Add(time.Duration(s.rand.IntN(60)) * time.Second)})
	case 2:
		e := s.entry(r, pawl.KindHook, "h", `1`)
		s.let(r, &pawl.Change{Entries: []pawl.Entry{e}, Hooks: []pawl.HookSpec{{Key: "h", Token: r.ID}}}, pawl.Move{State: pawl.Waiting})
	case 3:
		s.let(r, &pawl.Change{}, pawl.Move{State: []pawl.State{pawl.Paused, pawl.Blocked}[s.rand.IntN(2)], Reason: "so"})
	}
}

func (s *storm) post() {
	switch s.rand.IntN(3) {
	case 0:
		m := s.send(pawl.Send{RunID: s.id(), Name: "event:e", Data: json.RawMessage(`1`)})
		s.note("signal to %s: %v", m.RunID, m.Err)
	case 1:
		s.note("publish: %d got it", s.publish("go"))
	case 2:
		m := s.resume(s.id(), `1`)
		s.note("payload to %s: %v", m.Token, m.Err)
	}
}

func (s *storm) command() {
	v, id := pawl.Verb(1+s.rand.IntN(int(pawl.VerbMigrate))), s.id()
	s.note("%s %s: %v", v, id, s.order(v, id))
}

// lose has a worker leave or die, and another one come.
func (s *storm) lose() {
	i := s.rand.IntN(len(s.workers))
	w := s.workers[i]
	for k, r := range s.held {
		if r.Worker == w {
			delete(s.held, k)
		}
	}
	s.workers[i] = s.join("w")
	if s.rand.IntN(2) == 0 {
		s.ok(s.store.Leave(s.ctx, w, s.now))
		s.note("worker %d leaves", w)
		return
	}
	s.note("worker %d dies", w)
	for _, c := range s.die(w, s.workers...) {
		s.held[c.Info.Key] = c.Info
		s.note("worker %d claims %s with %v", c.Info.Worker, c.Info.ID, texts(c.Mail))
	}
}

func (s *storm) wait() {
	s.to(s.now.Add(time.Duration(s.rand.IntN(30))*time.Second), s.workers...)
}

// calm brings every run to its end with what clients and operators can do: no run may be
// left that nothing reaches.
func (s *storm) calm() {
	var open []pawl.RunInfo
	for range 200 {
		var err error
		open, err = s.store.List(s.ctx, pawl.Filter{
			States: []pawl.State{pawl.Pending, pawl.Running, pawl.Waiting, pawl.Paused, pawl.Blocked}, Limit: 1000,
		})
		s.ok(err)
		if len(open) == 0 {
			return
		}
		for _, r := range open {
			switch r.State {
			case pawl.Paused, pawl.Blocked:
				s.note("resume %s: %v", r.ID, s.order(pawl.VerbUnpause, r.ID))
			case pawl.Waiting:
				if r.Gate == "" && r.Due.IsZero() {
					s.note("wake %s: %v", r.ID, s.order(pawl.VerbWake, r.ID))
				}
			}
		}
		s.to(s.now.Add(time.Minute), s.workers...)
		s.take()
		for _, r := range s.held {
			s.conclude(r)
		}
		s.sound("while all comes to its end")
	}
	for _, r := range open {
		s.Errorf("%s is still %s: gate %q, worker %d, due %v, not before %v; now it is %v", r.ID, r.State, r.Gate, r.Worker, r.Due, r.NotBefore, s.now)
	}
}
