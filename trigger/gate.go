package trigger

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pawlrun/pawl"
)

// gate is where the deliveries of a trigger gather that have the same key, as it is stored. It changes by compare-and-swap only,
// together with the deliveries, which are records of their own, and with its place in the index of what is due:
//
//   - A delivery is written with the gate that counts it, and with its id, so that it is counted once.
//   - When it is time, what is Open is moved to Closed, in one write. From then on nothing is added to it: whoever starts it
//     starts the same.
//   - What is Closed is started under its run's id, and leaves in one write with its deliveries. A crash between leaves it
//     there, and the next one's start finds the run.
type gate struct {
	Trigger  string     `json:"trigger"` // its id
	Tenant   string     `json:"tenant,omitempty"`
	Workflow string     `json:"workflow"`
	Open     *gathered  `json:"open,omitempty"`
	Closed   []gathered `json:"closed,omitempty"`
	Ready    time.Time  `json:"ready,omitzero"` // when what is Open is closed
	Retry    time.Time  `json:"retry,omitzero"` // what is Closed is not started before
	Due      time.Time  `json:"due,omitzero"`   // where its entry in the index is
}

// gathered are deliveries that one run is for.
type gathered struct {
	Run    string    `json:"run"`   // the run's id
	Items  string    `json:"items"` // what the keys of its deliveries begin with
	Batch  bool      `json:"batch,omitempty"`
	Count  int       `json:"count"`
	Bytes  int       `json:"bytes"`
	First  time.Time `json:"first"`
	Bounds bounds    `json:"bounds,omitzero"` // by the newest
	Depth  int       `json:"depth,omitempty"`
}

const (
	gateSpace     = "trigger.gates:"
	itemSpace     = "trigger.items:"
	deliverySpace = "trigger.deliveries:"

	mostGathered = 1 << 20 // bytes of a batch
	mostClosed   = 100     // batches of a gate that wait to be started
)

// errBusy says that nobody starts what has gathered.
var errBusy = errors.New("too many batches wait to be started: is there a Runner?")

// gather adds a delivery to its gate and returns the id of the run that it will be part of, once that is stored. id names the
// delivery for until; "": it has no name. repeated: it is there already.
func (l *launch) gather(ctx context.Context, e *pawl.Engine, c *Control, key, id string, until time.Time) (run string, repeated bool, err error) {
	var known pawl.Put
	if id != "" {
		known = pawl.Put{Space: deliverySpace + l.tenant, Key: hashOf(l.trigger, id), Until: until}
	}
	for {
		if id != "" {
			if first, err := firstRun(ctx, e, known); err != nil || first != "" {
				return first, first != "", err
			}
		}
		g, version, err := readGate(ctx, e, l.tenant, key)
		if err != nil {
			return "", false, err
		}
		old, now := g.Due, time.Now().UTC().Truncate(time.Microsecond)
		g.Trigger, g.Tenant, g.Workflow = l.trigger, l.tenant, l.workflow
		if g.Open != nil && (g.Open.Batch != (c.Batch != nil) || g.Open.Bytes+len(l.input) > mostGathered && g.Open.Batch) {
			g.close()
		}
		if len(g.Closed) > mostClosed {
			return "", false, fmt.Errorf("trigger %s: %w", l.trigger, errBusy)
		}
		item := g.add(l, c, now)
		run = item.run
		puts := []pawl.Put{item.put}
		if id != "" {
			known.Data, _ = json.Marshal(run)
			puts = append(puts, known)
		}
		_, err = g.write(ctx, e, key, version, old, puts...)
		var faster *pawl.RecordConflictError
		if errors.As(err, &faster) {
			continue
		}
		if err == nil && len(g.Closed) > 0 { // whoever fills it starts it; a Runner does what is left
			_, _ = turnGate(ctx, e, l.tenant, key)
		}
		return run, false, err
	}
}

// firstRun is the run of the first delivery of a name; "": there was none.
func firstRun(ctx context.Context, e *pawl.Engine, at pawl.Put) (run string, err error) {
	record, err := e.Record(ctx, at.Space, at.Key)
	if errors.Is(err, pawl.ErrNotFound) {
		return "", nil
	}
	if err == nil {
		err = json.Unmarshal(record.Data, &run)
	}
	return run, err
}

func readGate(ctx context.Context, e *pawl.Engine, tenant, key string) (*gate, int64, error) {
	record, err := e.Record(ctx, gateSpace+tenant, key)
	if errors.Is(err, pawl.ErrNotFound) {
		return &gate{}, 0, nil
	}
	g := &gate{}
	if err == nil {
		err = json.Unmarshal(record.Data, g)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("what has gathered for a trigger: %w", err)
	}
	return g, record.Version, nil
}

// item is a delivery that was added, and where it is written.
type item struct {
	run string
	put pawl.Put
}

// add counts a delivery.
func (g *gate) add(l *launch, c *Control, now time.Time) item {
	if g.Open == nil {
		name := hashOf(rand.Text())
		g.Open = &gathered{Run: l.trigger + "@" + name, Items: name + ".", Batch: c.Batch != nil, First: now}
	}
	o := g.Open
	n := 0 // debounce keeps the newest
	if o.Batch {
		n = o.Count
	}
	o.Count, o.Bytes, o.Bounds, o.Depth = o.Count+1, o.Bytes+len(l.input), l.bounds, max(o.Depth, l.depth)
	added := item{o.Run, pawl.Put{Space: itemSpace + g.Tenant, Key: fmt.Sprintf("%s%06d", o.Items, n), If: pawl.AnyVersion, Data: l.input}}
	switch b, d := c.Batch, c.Debounce; {
	case b != nil:
		if g.Ready = o.First.Add(b.Timeout); o.Count >= b.MaxSize {
			g.close()
		}
	case d != nil:
		g.Ready = now.Add(d.Period)
		if end := o.First.Add(d.Timeout); d.Timeout > 0 && end.Before(g.Ready) {
			g.Ready = end
		}
	}
	return added
}

// close lets nothing more come to what is open.
func (g *gate) close() {
	g.Closed = append(g.Closed, *g.Open)
	g.Open, g.Ready = nil, time.Time{}
}

// write stores the gate over a version, with other records, and moves its place in the index from old.
func (g *gate) write(ctx context.Context, e *pawl.Engine, key string, version int64, old time.Time, with ...pawl.Put) (int64, error) {
	g.Due = g.Ready
	if len(g.Closed) > 0 && (g.Due.IsZero() || g.Retry.Before(g.Due)) {
		if g.Due = g.Retry; g.Due.IsZero() {
			g.Due = time.Now().UTC().Truncate(time.Microsecond)
		}
	}
	put := pawl.Put{Space: gateSpace + g.Tenant, Key: key, If: version}
	if !g.Due.IsZero() { // else nothing is left
		data, err := json.Marshal(g)
		if err != nil {
			return 0, err
		}
		put.Data = data
	}
	puts := append([]pawl.Put{put}, with...)
	if !old.IsZero() && !old.Equal(g.Due) {
		puts = append(puts, pawl.Put{Space: dueSpace, Key: dueKey(old, "g", g.Tenant, key), If: pawl.AnyVersion})
	}
	if !g.Due.IsZero() && !old.Equal(g.Due) {
		data, _ := json.Marshal(dueEntry{Tenant: g.Tenant, Gate: key})
		puts = append(puts, pawl.Put{Space: dueSpace, Key: dueKey(g.Due, "g", g.Tenant, key), If: pawl.AnyVersion, Data: data})
	}
	versions, err := e.Write(ctx, puts...)
	if err != nil {
		return 0, err
	}
	return versions[0], nil
}

// turnGate starts what has gathered long enough. moved: something was done.
func turnGate(ctx context.Context, e *pawl.Engine, tenant, key string) (moved bool, err error) {
	g, version, err := readGate(ctx, e, tenant, key)
	now := time.Now()
	if err != nil || version == 0 || g.Due.After(now) || !slices.Contains(e.Workflows(), g.Workflow) { // else it is left to who knows the workflow
		return false, err
	}
	if g.Open != nil && !g.Ready.After(now) {
		old := g.Due
		g.close()
		if version, err = g.write(ctx, e, key, version, old); err != nil {
			return false, ignoreConflict(err)
		}
	}
	var failed error
	var done []string // what was started, or is given up, by its items
	var gone []pawl.Put
	for _, c := range g.Closed {
		if len(done) == mostAtOnce || len(gone) > mostBatch {
			break
		}
		items, err := g.start(ctx, e, &c)
		if err != nil && !final(err) && now.Sub(c.First) < giveUp {
			failed = errors.Join(failed, err)
			continue
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("run %s of trigger %s, for %d deliveries since %s, is given up: %w", c.Run, g.Trigger, c.Count, clock(c.First), err))
		}
		done, gone = append(done, c.Items), append(gone, items...)
	}
	return true, errors.Join(failed, g.finish(ctx, e, key, version, done, gone, failed != nil))
}

// final reports whether a start that failed would fail again.
func final(err error) bool {
	return errors.Is(err, pawl.ErrInput) || errors.Is(err, pawl.ErrTooLarge) || errors.Is(err, pawl.ErrEncoding) || errors.Is(err, pawl.ErrConflict)
}

// start starts the run of what has gathered, and returns what removes the deliveries.
func (g *gate) start(ctx context.Context, e *pawl.Engine, c *gathered) (gone []pawl.Put, err error) {
	var inputs []json.RawMessage
	for after := ""; ; {
		page, err := e.Records(ctx, itemSpace+g.Tenant, c.Items, after, 1000)
		if err != nil {
			return nil, err
		}
		for _, record := range page {
			after = record.Key
			inputs = append(inputs, record.Data)
			gone = append(gone, pawl.Put{Space: itemSpace + g.Tenant, Key: record.Key, If: pawl.AnyVersion})
		}
		if len(page) < 1000 {
			break
		}
	}
	if len(inputs) == 0 { // another one was here
		return nil, nil
	}
	l := launch{trigger: g.Trigger, tenant: g.Tenant, workflow: g.Workflow, run: c.Run, input: inputs[0], depth: c.Depth, bounds: c.Bounds}
	if c.Batch {
		if l.input, err = batchOf(inputs); err != nil {
			return gone, err
		}
	}
	_, err = l.start(ctx, e)
	return gone, err
}

// batchOf is the input of a run for several deliveries.
func batchOf(inputs []json.RawMessage) (json.RawMessage, error) {
	return json.Marshal(map[string][]json.RawMessage{"events": inputs})
}

// finish takes away what was started. Whoever wrote meanwhile left it there.
func (g *gate) finish(ctx context.Context, e *pawl.Engine, key string, version int64, done []string, gone []pawl.Put, retry bool) error {
	for {
		old := g.Due
		g.Closed = slices.DeleteFunc(g.Closed, func(c gathered) bool { return slices.Contains(done, c.Items) })
		if g.Retry = (time.Time{}); retry {
			g.Retry = time.Now().UTC().Add(5 * time.Second).Truncate(time.Microsecond)
		}
		_, err := g.write(ctx, e, key, version, old, gone...)
		var faster *pawl.RecordConflictError
		if !errors.As(err, &faster) {
			return err
		}
		if g, version, err = readGate(ctx, e, g.Tenant, key); err != nil || version == 0 {
			return err
		}
	}
}
