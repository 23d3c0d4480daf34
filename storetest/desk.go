package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// flow is the workflow of runs for which a check names no other.
const flow = "flow"

// lease is how long a worker's lease lasts here.
const lease = time.Minute

// desk is what a check works at: a store, and a clock that only the check moves.
type desk struct {
	*testing.T
	store pawl.Store
	ctx   context.Context
	now   time.Time
	seqs  map[int64]int64 // the newest entry that was handed out for a run, by run key
}

func newDesk(t *testing.T, s pawl.Store) *desk {
	return &desk{T: t, store: s, ctx: t.Context(), now: time.Now().UTC().Truncate(time.Second), seqs: map[int64]int64{}}
}

// pass lets time go by.
func (d *desk) pass(by time.Duration) { d.now = d.now.Add(by) }

// ok ends the check when there is an error.
func (d *desk) ok(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

// is wants an error that wraps a sentinel.
func (d *desk) is(what string, err, want error) {
	d.Helper()
	if !errors.Is(err, want) {
		d.Errorf("%s: the error is %v; want one that is %q", what, err, want)
	}
}

// same compares by value, and ends the check when there is a difference: what follows may
// build on it.
func (d *desk) same(what string, got, want any) {
	d.Helper()
	if !reflect.DeepEqual(got, want) {
		d.Fatalf("%s: %v; want %v", what, got, want)
	}
}

// data compares JSON byte by byte.
func (d *desk) data(what string, got, want []byte) {
	d.Helper()
	if !bytes.Equal(got, want) {
		d.Errorf("%s: %d bytes %.80q; want %d bytes %.80q", what, len(got), got, len(want), want)
	}
}

// join makes a worker with a lease.
func (d *desk) join(name string) int64 {
	d.Helper()
	id, err := d.store.Join(d.ctx, pawl.WorkerInfo{Name: name, Started: d.now}, d.now.Add(lease))
	d.ok(err)
	return id
}

// die lets a worker's lease end, keeps the others alive, and has one of them find out. It
// returns what that one claimed.
func (d *desk) die(dead int64, alive ...int64) []pawl.Claim {
	d.Helper()
	d.pass(lease + time.Second)
	for _, w := range alive {
		d.ok(d.store.Beat(d.ctx, w, d.now, d.now.Add(lease)))
	}
	return d.claim(alive[0])
}

// try commits and hands back the error.
func (d *desk) try(b *pawl.Batch) error {
	b.Now = d.now
	return d.store.Commit(d.ctx, b)
}

// commit wants the commit to work.
func (d *desk) commit(b *pawl.Batch) *pawl.Batch {
	d.Helper()
	d.ok(d.try(b))
	return b
}

// newRun is a run as the checks start them.
func newRun(id string, more ...func(*pawl.NewRun)) pawl.NewRun {
	r := pawl.NewRun{ID: id, Workflow: flow, Input: json.RawMessage(`{"in":1}`), Seed: 7, Keep: -1}
	for _, m := range more {
		m(&r)
	}
	return r
}

// start has a client start a run, and wants no error.
func (d *desk) start(id string, more ...func(*pawl.NewRun)) *pawl.Start {
	d.Helper()
	s := d.tryStart(pawl.ReturnExisting, id, more...)
	d.ok(s.Err)
	return s
}

// tryStart has a client start a run; the answer may hold an error.
func (d *desk) tryStart(p pawl.Policy, id string, more ...func(*pawl.NewRun)) *pawl.Start {
	d.Helper()
	s := &pawl.Start{Run: newRun(id, more...), Policy: p}
	d.commit(&pawl.Batch{Starts: []*pawl.Start{s}})
	return s
}

// claim takes all that there is for a worker that knows these workflows; none means flow.
func (d *desk) claim(worker int64, workflows ...string) (out []pawl.Claim) {
	d.Helper()
	if len(workflows) == 0 {
		workflows = []string{flow}
	}
	for range 1000 {
		c := d.claims(worker, 100, workflows...)
		for _, r := range c.Runs {
			d.take(r)
		}
		out = append(out, c.Runs...)
		if !c.More {
			return out
		}
	}
	d.Fatal("Claim says More a thousand times, and gives nothing")
	return nil
}

// claims asks once.
func (d *desk) claims(worker int64, limit int, workflows ...string) pawl.Claims {
	d.Helper()
	c, err := d.store.Claim(d.ctx, pawl.ClaimRequest{Worker: worker, Now: d.now, Limit: limit, Workflows: workflows})
	d.ok(err)
	return c
}

// take learns how long the journal of a claimed run is.
func (d *desk) take(c pawl.Claim) {
	d.Helper()
	e, err := d.store.Result(d.ctx, c.Info.Key)
	d.ok(err)
	d.seqs[c.Info.Key] = e.Seq
}

// hold starts a run and has a worker claim it: it, and nothing else.
func (d *desk) hold(worker int64, id string, more ...func(*pawl.NewRun)) pawl.RunInfo {
	d.Helper()
	s := d.start(id, more...)
	got := d.claim(worker, s.Run.Workflow)
	if len(got) != 1 || got[0].Info.ID != id {
		d.Fatalf("a worker claims %v; want %s and nothing else", ids(got), id)
	}
	return got[0].Info
}

// again has a worker claim, and wants the run and nothing else.
func (d *desk) again(worker int64, id string) pawl.Claim {
	d.Helper()
	got := d.claim(worker)
	if len(got) != 1 || got[0].Info.ID != id {
		d.Fatalf("a worker claims %v; want %s and nothing else", ids(got), id)
	}
	return got[0]
}

// claimed wants the claim of a worker to be these runs in this order.
func (d *desk) claimed(worker int64, want ...string) []pawl.Claim {
	d.Helper()
	got := d.claim(worker)
	if fmt.Sprint(ids(got)) != fmt.Sprint(want) {
		d.Fatalf("a worker claims %v; want %v", ids(got), want)
	}
	return got
}

func ids(cs []pawl.Claim) []string {
	var out []string
	for _, c := range cs {
		out = append(out, c.Info.ID)
	}
	return out
}

// entry makes the next line of a run's journal.
func (d *desk) entry(r pawl.RunInfo, kind pawl.Kind, key, data string) pawl.Entry {
	d.seqs[r.Key]++
	return pawl.Entry{Seq: d.seqs[r.Key], Kind: kind, Key: key, At: d.now, Data: json.RawMessage(data)}
}

// say commits a change of a run by its owner.
func (d *desk) say(r pawl.RunInfo, ch *pawl.Change) *pawl.Batch {
	d.Helper()
	ch.Run, ch.Epoch = r.Key, r.Epoch
	return d.commit(&pawl.Batch{Worker: r.Worker, Workflows: []string{flow}, Changes: []*pawl.Change{ch}})
}

// step records a step's result.
func (d *desk) step(r pawl.RunInfo, key string) {
	d.Helper()
	d.say(r, &pawl.Change{Entries: []pawl.Entry{d.entry(r, pawl.KindStep, key, `1`)}})
}

// move has a run's owner let go of it, and wants that to be accepted.
func (d *desk) move(r pawl.RunInfo, ch *pawl.Change, to pawl.Move) *pawl.Batch {
	d.Helper()
	ch.To = &to
	b := d.say(r, ch)
	if ch.Err != nil || ch.Mail != nil {
		d.Fatalf("a move to %s: error %v, mail %v; want it accepted", to.State, ch.Err, ch.Mail)
	}
	return b
}

// suspend parks a run until an event of this name comes.
func (d *desk) suspend(r pawl.RunInfo, event string) {
	d.Helper()
	d.move(r, &pawl.Change{Waits: []pawl.Wait{{Key: "wait " + event, Event: event}}}, pawl.Move{State: pawl.Waiting})
}

// sleep parks a run until a time.
func (d *desk) sleep(r pawl.RunInfo, due time.Time) *pawl.Batch {
	d.Helper()
	return d.move(r, &pawl.Change{}, pawl.Move{State: pawl.Waiting, Due: due})
}

// end ends a run for ever.
func (d *desk) end(r pawl.RunInfo, s pawl.State, data string) *pawl.Batch {
	d.Helper()
	e := d.entry(r, pawl.KindResult, "", data)
	e.Failed = s != pawl.Completed
	return d.move(r, &pawl.Change{Entries: []pawl.Entry{e}}, pawl.Move{State: s, Keep: -1})
}

// look finds a run by its id.
func (d *desk) look(id string) pawl.RunInfo {
	d.Helper()
	info, err := d.store.Lookup(d.ctx, "", id)
	if err != nil {
		d.Fatalf("look up %s: %v", id, err)
	}
	return info
}

// state wants a run to be in a state.
func (d *desk) state(id string, want pawl.State) {
	d.Helper()
	if got := d.look(id); got.State != want {
		d.Errorf("%s is %s (gate %q, worker %d, reason %q); want %s", id, got.State, got.Gate, got.Worker, got.Reason, want)
	}
}

// missing wants no run of this id.
func (d *desk) missing(id string) {
	d.Helper()
	info, err := d.store.Lookup(d.ctx, "", id)
	if !errors.Is(err, pawl.ErrNotFound) {
		d.Errorf("look up %s: %s, error %v; want ErrNotFound", id, info.State, err)
	}
}

// send commits one message as a client and hands it back with its answers.
func (d *desk) send(m pawl.Send) *pawl.Send {
	d.Helper()
	d.commit(&pawl.Batch{Sends: []*pawl.Send{&m}})
	return &m
}

// signal sends an event to a run, and wants it to arrive.
func (d *desk) signal(id, event, data string) {
	d.Helper()
	d.ok(d.send(pawl.Send{RunID: id, Name: pawl.MsgEvent + event, Data: json.RawMessage(data)}).Err)
}

// publish sends an event to all that wait for it, and tells how many.
func (d *desk) publish(event string) int {
	d.Helper()
	s := d.send(pawl.Send{Publish: event, Name: pawl.MsgEvent + event, Data: json.RawMessage(`"p"`)})
	d.ok(s.Err)
	return s.Count
}

// order carries out an operator's order as a client, and hands back its error.
func (d *desk) order(v pawl.Verb, id string) error {
	d.Helper()
	o := &pawl.Order{Verb: v, RunID: id, Data: json.RawMessage(`{"reason":"because"}`)}
	d.commit(&pawl.Batch{Orders: []*pawl.Order{o}})
	return o.Err
}

// migrate gives a run of an epoch the version 2.
func (d *desk) migrate(id string, epoch int64) error {
	d.Helper()
	o := &pawl.Order{Verb: pawl.VerbMigrate, RunID: id, Version: "2", Epoch: epoch, Data: json.RawMessage(`{"to":"2"}`)}
	d.commit(&pawl.Batch{Orders: []*pawl.Order{o}})
	return o.Err
}

// journal reads the whole journal of a run.
func (d *desk) journal(run int64) []pawl.Entry {
	d.Helper()
	out, err := d.store.Journal(d.ctx, run, -1, 100_000)
	d.ok(err)
	return out
}

// keys are the keys of a run's journal after its input, in order.
func (d *desk) keys(run int64) []string {
	d.Helper()
	var out []string
	for _, e := range d.journal(run)[1:] {
		out = append(out, e.Key)
	}
	return out
}

// mail are the names and data of a worker's messages.
func (d *desk) mail(worker int64) []string {
	d.Helper()
	all, err := d.store.Mail(d.ctx, worker)
	d.ok(err)
	var out []string
	for _, m := range all {
		out = append(out, m.Name+"="+string(m.Data))
	}
	return out
}

// texts are the names and data of messages.
func texts(ms []pawl.Message) []string {
	var out []string
	for _, m := range ms {
		out = append(out, m.Name+"="+string(m.Data))
	}
	return out
}

// newest is the id of the last message.
func newest(ms []pawl.Message) (id int64) {
	for _, m := range ms {
		id = max(id, m.ID)
	}
	return id
}

func value(s string) *string { return &s }
