package flow

// bound finds what a run of a flow takes at most and at least. It looks at the ways that the document has, and knows nothing of
// what is true on them: so what it says is a bound, which no run goes beyond, and which not every flow has a run that comes to.
type bound struct {
	flow   *Flow
	world  World
	family *family
	nets   map[*step]*net    // of the graph that begins with the step
	total  map[*step]amounts // going through it once
	most   map[*step]amounts // one visit, with what is within
	seen   map[*step]int64   // visits, each time that the step's graph is gone through
	open   []Open
	told   map[Open]bool
	bare   []string // models without a price
	lists  *lists

	allowed  int64 // how many steps a run may take; 0: not yet looked for, which is done when all visits are known
	prompts  bool  // asking costs something
	detached int64 // micro-USD of children that are not waited for
}

// graph is the most that going through a graph once takes. That is the dearest way through its groups of steps, which do not
// lead back to each other.
func (b *bound) graph(g graph) amounts {
	for _, s := range g.steps {
		b.most[s] = b.visit(s)
	}
	n := newNet(g)
	b.nets[g.steps[0]] = n
	members := make([][]int, len(n.sizes))
	for i, group := range n.group {
		members[group] = append(members[group], i)
	}
	from := make([]amounts, len(members)) // from a group on
	for group, steps := range members {
		var after amounts
		for _, i := range steps {
			for _, to := range n.after[i] {
				if n.group[to] != group {
					after = after.or(from[n.group[to]])
				}
			}
		}
		from[group] = b.group(n, steps).plus(after)
	}
	b.total[g.steps[0]] = from[n.group[0]]
	return from[n.group[0]]
}

// group is the most that steps which lead to each other take, or one by itself. Each circle has a step that counts its visits:
// so a way through them is one visit of such a step after another, and goes between two of them over each other step at
// most once.
func (b *bound) group(n *net, steps []int) (most amounts) {
	if s := n.steps[steps[0]]; !n.circles(steps[0]) {
		b.seen[s] = 1
		return b.most[s]
	}
	between := map[int]amounts{} // the dearest way from a step on, before one that counts
	var way func(i int) amounts
	way = func(i int) amounts {
		if known, is := between[i]; is {
			return known
		}
		var after amounts
		for _, to := range n.after[i] {
			if n.group[to] == n.group[i] && n.steps[to].maxVisits == 0 {
				after = after.or(way(to))
			}
		}
		if s := n.steps[i]; s.maxVisits == 0 {
			after = after.plus(b.most[s])
		}
		between[i] = after
		return after
	}
	visits, entered := int64(0), int64(0)
	var before amounts // the first that counts
	for _, i := range steps {
		switch s := n.steps[i]; {
		case s.maxVisits > 0:
			b.seen[s] = int64(s.maxVisits)
			visits = plus(visits, b.seen[s])
			most = most.plus(b.most[s].plus(way(i)).times(b.seen[s]))
		case n.enter[i]:
			before, entered = before.or(way(i)), 1
		}
	}
	for _, i := range steps {
		if s := n.steps[i]; s.maxVisits == 0 {
			b.seen[s] = plus(visits, entered)
		}
	}
	return most.plus(before)
}

// visit is the most that one visit of a step takes.
func (b *bound) visit(s *step) amounts {
	most := amounts{ofSteps: 1}
	switch w := s.work.(type) {
	case *parallel:
		for _, branch := range w.branches {
			most = most.plus(b.graph(branch.graph))
		}
	case *each:
		most = most.plus(b.graph(w.graph).times(b.lists.items(w)))
	case *call:
		most[ofServices] = int64(s.attempts)
	case *wait:
		most[ofServices] = times(int64(s.attempts), w.sends())
	case *decision:
		most = most.plus(b.decision(s, w))
	case *agentWork:
		most = most.plus(b.agent(s, w))
	case *child:
		most = most.plus(b.child(s, w.name))
	}
	return most
}

// steps is how many steps a run may take: those that count for maxSteps, and the first pass of each item.
func (b *bound) steps() int64 {
	if b.allowed == 0 {
		b.allowed = plus(int64(b.flow.limits.steps), min(b.free(b.flow.main, 1), maxItemSteps))
	}
	return b.allowed
}

// free is how many steps items take without counting, in a graph that is gone through so often.
func (b *bound) free(g graph, often int64) (all int64) {
	for _, s := range g.steps {
		visits := times(often, b.seen[s])
		switch w := s.work.(type) {
		case *parallel:
			for _, branch := range w.branches {
				all = plus(all, b.free(branch.graph, visits))
			}
		case *each:
			items := min(times(visits, b.lists.items(w)), maxItems)
			all = plus(all, plus(times(items, int64(len(w.graph.steps))), b.free(w.graph, items)))
		}
	}
	return all
}

// capped is the most that a run takes whose steps are counted.
func (b *bound) capped(all amounts) amounts {
	steps := b.steps()
	if all[ofSteps] <= steps {
		return all
	}
	for what := range all {
		if what != ofSteps && all[what] != 0 && all[what] != endless {
			shares, idle := b.shares(b.flow.main, what, 1)
			all[what] = min(all[what], fill(shares, max(steps-idle, 0)))
		}
	}
	all[ofSteps] = steps
	return all
}

// shares are the steps of a graph that bring something, with their visits if the graph is gone through so often; and how many
// that bring nothing a way has at least before the first of them.
func (b *bound) shares(g graph, what int, often int64) (all []share, idle int64) {
	n := b.nets[g.steps[0]]
	first := make([]int64, len(n.steps)) // idle steps within a step that brings something; -1: it does not
	for i, s := range n.steps {
		first[i] = -1
		if b.most[s][what] == 0 {
			continue
		}
		visits := times(often, b.seen[s])
		switch w := s.work.(type) {
		case *parallel:
			least := int64(endless)
			for _, branch := range w.branches {
				inner, idle := b.shares(branch.graph, what, visits)
				all = append(all, inner...)
				if len(inner) > 0 {
					least = min(least, idle)
				}
			}
			first[i] = 1 + least
		case *each:
			inner, idle := b.shares(w.graph, what, 1)
			of := b.total[w.graph.steps[0]]
			all = append(all, perItem(inner, idle, of[what], times(visits, times(b.lists.items(w), of[ofSteps]))))
			first[i] = 1
		default:
			all = append(all, share{b.most[s][what], 1, visits})
			first[i] = 0
		}
	}
	return all, n.idle(first)
}

// idle is how many steps that bring nothing a way from the first step has at least before something is brought.
func (n *net) idle(first []int64) int64 {
	far := make([]int64, len(n.steps))
	seen := make([]bool, len(n.steps))
	least, queue := int64(endless), []int{0}
	for seen[0] = true; len(queue) > 0; queue = queue[1:] {
		i := queue[0]
		if first[i] >= 0 {
			least = min(least, far[i]+first[i])
			continue
		}
		for _, to := range n.after[i] {
			if !seen[to] {
				seen[to], far[to] = true, far[i]+1
				queue = append(queue, to)
			}
		}
	}
	return least
}
