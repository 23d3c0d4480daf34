package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
)

// desk is what a test works at: one process's store, and its worker.
type desk struct {
	*testing.T
	*postgres.Store
	now    time.Time
	worker int64
}

func newDesk(t *testing.T, s *postgres.Store) *desk {
	return &desk{T: t, Store: s, now: time.Now()}
}

// join makes the desk's worker, whose lease lasts a minute.
func (d *desk) join() *desk {
	d.Helper()
	var err error
	if d.worker, err = d.Join(d.Context(), pawl.WorkerInfo{Name: "desk", Started: d.now}, d.now.Add(time.Minute)); err != nil {
		d.Fatal(err)
	}
	return d
}

func (d *desk) commit(b *pawl.Batch) error {
	b.Now, b.Workflows = d.now, []string{"flow"}
	return d.Commit(context.WithoutCancel(d.Context()), b)
}

func (d *desk) must(b *pawl.Batch) *pawl.Batch {
	d.Helper()
	if err := d.commit(b); err != nil {
		d.Fatal(err)
	}
	return b
}

func newRun(id string) pawl.NewRun {
	return pawl.NewRun{ID: id, Workflow: "flow", Input: json.RawMessage("1"), Keep: -1}
}

// start stores a run that nobody works.
func (d *desk) start(id string) pawl.RunInfo {
	d.Helper()
	st := &pawl.Start{Run: newRun(id)}
	d.must(&pawl.Batch{Starts: []*pawl.Start{st}})
	if st.Err != nil {
		d.Fatal(st.Err)
	}
	return st.Info
}

// eager stores a run that the desk's worker holds.
func (d *desk) eager(id string) pawl.RunInfo {
	d.Helper()
	st := &pawl.Start{Run: newRun(id)}
	st.Run.Eager = true
	d.must(&pawl.Batch{Worker: d.worker, Room: 1, Starts: []*pawl.Start{st}})
	if st.Info.Worker != d.worker {
		d.Fatalf("%s was not granted: %+v, error %v", id, st.Info, st.Err)
	}
	return st.Info
}

// step makes a change that appends a step's entry.
func step(r pawl.RunInfo, seq int64) *pawl.Change {
	return &pawl.Change{Run: r.Key, Epoch: r.Epoch, Entries: []pawl.Entry{{Seq: seq, Kind: pawl.KindStep, Key: "step", At: time.Now(), Data: json.RawMessage("1")}}}
}

func (d *desk) claim() []pawl.Claim {
	d.Helper()
	c, err := d.Claim(d.Context(), pawl.ClaimRequest{Worker: d.worker, Now: d.now, Limit: 100, Workflows: []string{"flow"}})
	if err != nil {
		d.Fatal(err)
	}
	return c.Runs
}

func (d *desk) look(id string) pawl.RunInfo {
	d.Helper()
	info, err := d.Lookup(d.Context(), "", id)
	if err != nil {
		d.Fatal(err)
	}
	return info
}

func (d *desk) entries(run int64) int {
	d.Helper()
	all, err := d.Journal(d.Context(), run, -1, 1000)
	if err != nil {
		d.Fatal(err)
	}
	return len(all)
}

// sound wants an audit to find nothing.
func (d *desk) sound() {
	d.Helper()
	found, err := d.Audit(d.Context(), d.now)
	if err != nil {
		d.Fatal(err)
	}
	for _, f := range found {
		d.Errorf("audit: run %s is %s: %s", f.RunID, f.State, f.What)
	}
}

// signal sends a run an event.
func signal(id string) *pawl.Send {
	return &pawl.Send{RunID: id, Name: pawl.MsgEvent + "e", Data: json.RawMessage("1")}
}

func (d *desk) is(what string, err, want error) {
	d.Helper()
	if !errors.Is(err, want) {
		d.Errorf("%s: the error is %v; want one that is %q", what, err, want)
	}
}
