package flow

import "slices"

// facts are what a step brings when it completes: "step:id", "variable:name".
type facts map[string]bool

// brings are the facts that a completed step adds.
func (s *step) brings() facts {
	b := facts{"step:" + s.id: true}
	if s.variable != "" {
		b["variable:"+s.variable] = true
	}
	if t, is := s.work.(*transform); is {
		for name := range t.set {
			b["variable:"+name] = true
		}
	}
	return b
}

// ways are those that a run may take through a graph. They tell what is there when a step begins, whichever way a run came:
// a fact is there unless the step can be reached past all that bring it. That is looked for once for each fact that
// something reads, so that a long flow costs no more than its reads.
type ways struct {
	before  known // what is there before the first step
	index   map[*step]int
	done    [][]int          // by a step that completed, those that may follow
	failed  [][]int          // by one that did not
	brought map[string][]int // by fact
	without map[string][]uint64
}

func newWays(g graph, before known) *ways {
	w := &ways{before: before, index: make(map[*step]int, len(g.steps)), brought: map[string][]int{}, without: map[string][]uint64{}}
	for i, s := range g.steps {
		w.index[s] = i
	}
	w.done, w.failed = make([][]int, len(g.steps)), make([][]int, len(g.steps))
	to := func(out *[]int, name string) {
		if s := g.by[name]; s != nil {
			*out = append(*out, w.index[s])
		}
	}
	for i, s := range g.steps {
		for _, t := range s.next.targets() {
			to(&w.done[i], t.to)
		}
		if s.onFailure == "fallback" {
			to(&w.failed[i], s.fallback)
		}
		if wait, is := s.work.(*wait); is {
			to(&w.failed[i], wait.onTimeout)
		}
		for fact := range s.brings() {
			w.brought[fact] = append(w.brought[fact], i)
		}
	}
	return w
}

// past are the steps that can be reached without a fact, a bit for each.
func (w *ways) past(fact string) []uint64 {
	if bits, is := w.without[fact]; is {
		return bits
	}
	bits := make([]uint64, (len(w.done)+63)/64)
	brings := make([]uint64, len(bits))
	for _, i := range w.brought[fact] {
		brings[i/64] |= 1 << (i % 64)
	}
	bits[0] |= 1
	left := []int{0}
	for len(left) > 0 {
		i := left[len(left)-1]
		left = left[:len(left)-1]
		follow := func(to []int) {
			for _, next := range to {
				if bits[next/64]&(1<<(next%64)) == 0 {
					bits[next/64] |= 1 << (next % 64)
					left = append(left, next)
				}
			}
		}
		if follow(w.failed[i]); brings[i/64]&(1<<(i%64)) == 0 {
			follow(w.done[i])
		}
	}
	w.without[fact] = bits
	return bits
}

// known is what is there at one step.
type known struct {
	ways      *ways // nil: nothing is
	step      *step
	completed facts // with what the step itself brings
}

func (n known) has(fact string) bool {
	switch {
	case n.completed[fact]:
		return true
	case n.ways == nil:
		return false
	case n.ways.before.has(fact):
		return true
	case n.ways.brought[fact] == nil:
		return false
	}
	i := n.ways.index[n.step]
	return n.ways.past(fact)[i/64]&(1<<(i%64)) == 0
}

// around are the steps that those of a graph see: their own and those around it.
type around struct {
	own   map[string]*step
	by    map[string][]string // ids of steps, by the facts that they bring
	outer *around
	graph graph
	names []string // sorted; nil: not yet asked for
}

func newAround(g graph, outer *around) *around {
	a := &around{own: make(map[string]*step, len(g.steps)), by: map[string][]string{}, outer: outer, graph: g}
	for _, s := range g.steps {
		a.own[s.id] = s
		for fact := range s.brings() {
			a.by[fact] = append(a.by[fact], s.id)
		}
	}
	return a
}

// find returns a step, or nil.
func (a *around) find(id string) *step {
	for ; a != nil; a = a.outer {
		if s := a.own[id]; s != nil {
			return s
		}
	}
	return nil
}

// sets returns the first step by name that brings a fact, or "".
func (a *around) sets(fact string) (id string) {
	for ; a != nil; a = a.outer {
		for _, other := range a.by[fact] {
			if id == "" || other < id {
				id = other
			}
		}
	}
	return id
}

// all are the ids of the steps, sorted.
func (a *around) all() []string {
	if a.names == nil {
		for at := a; at != nil; at = at.outer {
			for id := range at.own {
				a.names = append(a.names, id)
			}
		}
		slices.Sort(a.names)
	}
	return a.names
}
