package flow

import (
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// trail is what a run does in one graph, in order, for people who look at it: the interpreter notes it, and so it can't
// say anything else than what the interpreter did. A nil trail notes nothing, which is that of every run at work.
type trail struct {
	of        *tracks
	visits    []*visit
	counts    map[*step]int
	newest    map[*step]*visit
	variables map[string]any // that steps have set
	ended     bool
	err       error // with ended: why it is not complete
}

// tracks are all trails of a run.
type tracks struct {
	mu     sync.Mutex
	sealed bool // what comes now, the run has not done
	size   int  // of the outputs that visits have
	// asked, if not nil, is called with each decision that the run comes to, under its key, and what it sees there. mu is held.
	asked func(key string, s *step, in *scope)
}

// maxTrail bounds the outputs of all trails of a run, in bytes of memory: it is far more than people are shown.
const maxTrail = 64 << 20

// visit is one time that a run came to a step.
type visit struct {
	step    *step
	key     string // of its durable call
	number  int    // which time it is, from 1
	started time.Time
	ended   time.Time // zero: it is under way
	result  result
	size    int    // of its output
	dropped bool   // its output is left out
	err     error  // that ended the graph
	to      string // the step that followed, or an end
	inner   map[string]*trail
	names   []string // of inner, in the order in which they began
}

// newTrail is that of a run from its beginning.
func newTrail() *trail { return &trail{of: &tracks{}} }

// seal lets nothing be noted any more.
func (t *trail) seal() {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	t.of.sealed = true
}

// note calls f, unless there is nothing to note.
func (t *trail) note(f func()) {
	if t == nil {
		return
	}
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	if !t.of.sealed {
		f()
	}
}

// begin notes that a step is come to.
func (t *trail) begin(c *pawl.Context, s *step) {
	if t == nil {
		return
	}
	key, now := c.Key(s.id), c.Now() // not under the lock: they have locks of their own
	t.note(func() {
		if t.counts == nil {
			t.counts, t.newest = map[*step]int{}, map[*step]*visit{}
		}
		if before := t.newest[s]; before != nil {
			before.forget(t.of)
		}
		t.counts[s]++
		v := &visit{step: s, key: key, number: t.counts[s], started: now}
		t.visits, t.newest[s] = append(t.visits, v), v
	})
}

// asks tells that a decision is about to ask.
func (t *trail) asks(c *pawl.Context, s *step, in *scope) {
	if t == nil || t.of.asked == nil {
		return
	}
	key := c.Key(s.id)
	t.note(func() { t.of.asked(key, s, in) })
}

// last is the visit that is under way, or the one that was.
func (t *trail) last() *visit { return t.visits[len(t.visits)-1] }

// end notes what the step brought.
func (t *trail) end(c *pawl.Context, r result, err error) {
	if t == nil {
		return
	}
	now := c.Now()
	t.note(func() {
		v := t.last()
		r.by, r.more = nil, nil
		v.result, v.err, v.ended = r, err, now
		if v.size = sizeOf(r.output, maxTrail) + len(r.raw); t.of.size+v.size > maxTrail {
			v.size, v.result.output, v.result.raw, v.dropped = 0, nil, "", true
		}
		t.of.size += v.size
	})
}

// forget lets go of what a visit has brought, and those in it: people are shown the newest.
func (v *visit) forget(of *tracks) {
	of.size -= v.size
	v.size, v.result.output, v.result.raw = 0, nil, ""
	for _, inner := range v.inner {
		for _, v := range inner.newest {
			v.forget(of)
		}
	}
}

// sets notes that a variable was set.
func (t *trail) sets(name string, v any) {
	t.note(func() {
		if t.variables == nil {
			t.variables = map[string]any{}
		}
		t.variables[name] = v
	})
}

// leads notes where it goes on.
func (t *trail) leads(to string) { t.note(func() { t.last().to = to }) }

// over notes that a branch has come to its end.
func (t *trail) over(err error) { t.note(func() { t.ended, t.err = true, err }) }

// inner is the trail of a branch of the step that is under way.
func (t *trail) inner(name string) (in *trail) {
	t.note(func() {
		v := t.last()
		if v.inner == nil {
			v.inner = map[string]*trail{}
		}
		in = &trail{of: t.of}
		v.inner[name], v.names = in, append(v.names, name)
	})
	return in
}

// walk calls f with each visit of the trail and of those in it, and with where it stands.
func (t *trail) walk(at string, f func(at string, v *visit)) {
	for _, v := range t.visits {
		f(at+v.step.id, v)
		for _, name := range v.names {
			v.inner[name].walk(at+v.step.id+insideOf(v.step, name), f)
		}
	}
}

// insideOf is how a place in a branch of a step goes on: /email/ of a parallel, [3]/ of a map.
func insideOf(s *step, name string) string {
	if s.kind == "map" {
		return "[" + name + "]/"
	}
	return "/" + name + "/"
}
