package machine

import (
	"cmp"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Stat is what became of the visits of one state.
type Stat struct {
	Visits   int           `json:"visits"`   // that ended with an outcome
	Failures int           `json:"failures"` // attempts that failed
	Started  time.Time     `json:"started"`  // the first attempt
	Finished time.Time     `json:"finished"` // the last visit that ended
	Total    time.Duration `json:"total"`    // of all visits and attempts, without the waits between them
}

// Edge is a transition that runs have taken.
type Edge struct {
	From  string `json:"from"`
	To    string `json:"to"`  // a state, or End
	How   string `json:"how"` // goto, fork, update, timeout, failed, done
	Count int    `json:"count"`
}

// track is a line with what its journal tells beyond where it is.
type track struct {
	*line
	entered  time.Time // when it came to the state
	parent   *track
	branches []*track // of the fork that it is in
}

// history is what a journal makes of a machine: the reader's side of program.run.
type history struct {
	p        *program
	root     *track
	lines    map[string]*track // under way, by path
	seq      int64             // of the last entry read; -1: none
	stats    map[string]Stat
	edges    map[Edge]int // by edges without their Count
	taken    *update      // the update that the last entry read brought
	accepted bool         // whether it was
}

func newHistory(p *program) *history {
	return &history{p: p, stats: map[string]Stat{}, edges: map[Edge]int{}, seq: -1}
}

// read moves the history by an entry.
func (h *history) read(e pawl.Entry) {
	h.seq, h.taken = e.Seq, nil
	if e.Kind == pawl.KindInput {
		at := placeIn(e.Data)
		if at == nil {
			at = &place{State: e.Data}
		}
		h.root = &track{line: h.p.begin(at), entered: e.At}
		h.lines = map[string]*track{"": h.root}
		return
	}
	dir, name := split(e.Key)
	t := h.lines[dir]
	if t == nil {
		return
	}
	switch e.Kind {
	case pawl.KindAttempt:
		if t.isNext(name) {
			h.tried(name, e)
		}
	case pawl.KindStep:
		if t.isNext(name) {
			h.visit(t, name, e)
		}
	case pawl.KindEvent:
		if t.move.Wait != "" && strings.HasPrefix(name, "$event:machine:") {
			h.event(t, e)
		}
	}
}

// isNext reports whether a step of this name is the line's next visit.
func (t *track) isNext(name string) bool {
	return name == t.at && t.move.Wait == "" && t.branches == nil && !t.move.Done
}

func (h *history) visit(t *track, name string, e pawl.Entry) {
	if e.Failed {
		if e.Attempt == 1 {
			h.tried(name, e)
		} else { // Took is from the first attempt on, with the waits
			h.count(name, func(s *Stat) { s.Failures++ })
		}
		if n := h.p.nodes[name]; n != nil {
			if rec, handled, err := h.p.failed(n, t.line, errors.Unwrap(e.Failure())); handled && err == nil {
				h.move(t, name, rec, e.At, "failed")
			}
		}
		return
	}
	var rec record
	if json.Unmarshal(e.Data, &rec) != nil {
		return
	}
	took := e.Took
	if n := h.p.nodes[name]; n != nil && (n.durable || n.place != nil) {
		took = e.At.Sub(t.entered)
	}
	h.count(name, func(s *Stat) {
		s.Visits++
		s.began(e.At.Add(-took))
		s.Finished = e.At
		s.Total += took
	})
	h.move(t, name, rec, e.At, "goto")
}

// move moves a line by the outcome of a visit.
func (h *history) move(t *track, name string, rec record, at time.Time, how string) {
	t.visited(rec)
	t.entered = at
	switch {
	case rec.Goto != "":
		h.edge(name, rec.Goto, how)
	case rec.Done:
		h.edge(name, End, "done")
	case rec.Join != "":
		for _, b := range t.forked() {
			branch := &track{line: b, entered: at, parent: t}
			t.branches = append(t.branches, branch)
			h.lines[b.path] = branch
			h.edge(name, b.at, "fork")
		}
	}
	h.arrive(t, at)
}

// event moves a line that waits.
func (h *history) event(t *track, e pawl.Entry) {
	from := t.at
	if e.Failed {
		if t.move.Late == "" {
			return
		}
		t.late()
		h.edge(from, t.at, "timeout")
	} else {
		var u update
		if json.Unmarshal(e.Data, &u) == nil {
			h.taken = &u
		}
		took := h.p.update(t.line, e.Data)
		if h.accepted = took != nil; took == nil || !took.Go {
			return
		}
		h.edge(from, t.at, "update")
	}
	t.entered = e.At
	h.arrive(t, e.At)
}

// arrive ends a branch that came to its join, and takes its parent there with the last one.
func (h *history) arrive(t *track, at time.Time) {
	if t.parent == nil || t.at != t.until {
		return
	}
	delete(h.lines, t.path)
	parent, ends := t.parent, []*line{}
	for _, b := range parent.branches {
		if b.at != b.until {
			return
		}
		ends = append(ends, b.line)
	}
	parent.joined(ends)
	parent.branches, parent.entered = nil, at
}

func (h *history) tried(name string, e pawl.Entry) {
	h.count(name, func(s *Stat) {
		s.Failures++
		s.began(e.At.Add(-e.Took))
		s.Total += e.Took
	})
}

func (s *Stat) began(at time.Time) {
	if s.Started.IsZero() || at.Before(s.Started) {
		s.Started = at
	}
}

func (h *history) count(state string, add func(*Stat)) {
	s := h.stats[state]
	add(&s)
	h.stats[state] = s
}

func (h *history) edge(from, to, how string) { h.edges[Edge{From: from, To: to, How: how}]++ }

// sorted returns the edges taken, in the order in which the machine has its states.
func (h *history) sorted() []Edge {
	place := map[string]int{End: len(h.p.order)}
	for i, n := range h.p.order {
		place[n.name] = i
	}
	out := slices.Collect(maps.Keys(h.edges))
	for i := range out {
		out[i].Count = h.edges[out[i]]
	}
	slices.SortFunc(out, func(a, b Edge) int {
		return cmp.Or(cmp.Compare(place[a.From], place[b.From]), cmp.Compare(place[a.To], place[b.To]), strings.Compare(a.How, b.How))
	})
	return out
}

// split takes a key apart: the path of its branch, and its name without the occurrence.
func split(key string) (dir, name string) {
	if i := strings.LastIndexByte(key, '/'); i >= 0 {
		dir, key = key[:i], key[i+1:]
	}
	name, _, _ = strings.Cut(key, "#")
	return dir, name
}
