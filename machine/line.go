package machine

import (
	"encoding/json"
	"fmt"
	"maps"
)

// line is one line of execution: the run's own, or a branch of a fork. What it goes through
// is a function of the journal: the run and who reads its journal move it by the same calls.
type line struct {
	path   string // scope path of its keys; "": the run's own
	until  string // the state at which the branch ends; "": it is none
	at     string // the state to visit next; while it waits or is forked: the last one
	move   move   // how the last visit ended
	state  json.RawMessage
	ver    int // counts what changed state
	visits map[string]int
	joins  map[string]json.RawMessage // what the branches made, when at is their join
	forks  map[string]int             // forks so far, by name of the branch
	steps  int                        // visits in this run
}

func (p *program) begin(at *place) *line {
	ln := &line{at: at.At, state: at.State, ver: at.Version, visits: maps.Clone(at.Visits), forks: map[string]int{}}
	if ln.at == "" {
		ln.at = p.start
	}
	if ln.visits == nil {
		ln.visits = map[string]int{}
	}
	return ln
}

// visited moves the line by a visit's record.
func (ln *line) visited(rec record) {
	ln.visits[ln.at]++
	ln.steps++
	ln.ver++
	ln.state, ln.move, ln.joins = rec.State, rec.move, nil
	if rec.Goto != "" {
		ln.at = rec.Goto
	}
}

// forked returns the lines of the branches of the fork that the line is in.
func (ln *line) forked() []*line {
	var out []*line
	for _, first := range ln.move.Fork {
		name := ln.at + ":" + first
		ln.forks[name]++
		path := key(ln.path, name, ln.forks[name])
		out = append(out, &line{path: path, until: ln.move.Join, at: first, state: ln.state, visits: maps.Clone(ln.visits), forks: map[string]int{}})
	}
	return out
}

// joined takes the line to the join of its branches, which have ended.
func (ln *line) joined(branches []*line) {
	before := maps.Clone(ln.visits)
	ln.joins = map[string]json.RawMessage{}
	for i, b := range branches {
		ln.joins[ln.move.Fork[i]] = b.state
		ln.steps += b.steps
		for state, n := range b.visits {
			ln.visits[state] += n - before[state]
		}
	}
	ln.at = ln.move.Join
}

// late moves the line by the end of its time to wait.
func (ln *line) late() { ln.at, ln.move = ln.move.Late, move{} }

// key is the key of the n-th call of a name on a branch.
func key(path, name string, n int) string {
	if path != "" {
		name = path + "/" + name
	}
	if n > 1 {
		name = fmt.Sprintf("%s#%d", name, n)
	}
	return name
}
