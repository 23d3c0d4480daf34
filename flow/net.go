package flow

import "container/heap"

// net is a graph by the places of its steps in the document.
type net struct {
	steps []*step
	after [][]int // that a step leads to, by its output, its failure, or as nobody came
	done  [][]int // by its output, or as nobody came; -1 is the end
	group []int   // of a step: those that lead to each other have the same. A group leads to lower ones only
	sizes []int   // of the groups
	enter []bool  // a way into the step's group comes to it
}

func newNet(g graph) *net {
	n := &net{steps: g.steps, after: make([][]int, len(g.steps)), done: make([][]int, len(g.steps)), enter: make([]bool, len(g.steps))}
	index := make(map[string]int, len(g.steps))
	for i, s := range g.steps {
		index[s.id] = i
	}
	for i, s := range g.steps {
		for _, t := range s.targets() {
			to, is := index[t.to]
			if is {
				n.after[i] = append(n.after[i], to)
			}
			switch failed := t.at == s.at.get("fallbackStep"); {
			case failed:
			case is:
				n.done[i] = append(n.done[i], to)
			case t.to == End:
				n.done[i] = append(n.done[i], -1)
			}
		}
	}
	n.findGroups()
	n.enter[0] = true
	for i, after := range n.after {
		for _, to := range after {
			n.enter[to] = n.enter[to] || n.group[to] != n.group[i]
		}
	}
	return n
}

// findGroups finds the steps that lead to each other: Tarjan's way, with a stack of its own.
func (n *net) findGroups() {
	n.group = make([]int, len(n.steps))
	number, low := make([]int, len(n.steps)), make([]int, len(n.steps)) // from 1, in the order in which they are found
	type place struct{ at, next int }
	var path []place
	var open []int
	found := 0
	come := func(i int) {
		found++
		number[i], low[i] = found, found
		path, open = append(path, place{at: i}), append(open, i)
		n.group[i] = -1
	}
	for first := range n.steps {
		if number[first] != 0 {
			continue
		}
		for come(first); len(path) > 0; {
			top := &path[len(path)-1]
			if i := top.at; top.next < len(n.after[i]) {
				to := n.after[i][top.next]
				top.next++
				if number[to] == 0 {
					come(to)
				} else if n.group[to] < 0 {
					low[i] = min(low[i], number[to])
				}
				continue
			}
			i := top.at
			if path = path[:len(path)-1]; len(path) > 0 {
				outer := path[len(path)-1].at
				low[outer] = min(low[outer], low[i])
			}
			if low[i] != number[i] {
				continue
			}
			n.sizes = append(n.sizes, 0)
			for last := -1; last != i; {
				last = open[len(open)-1]
				open = open[:len(open)-1]
				n.group[last] = len(n.sizes) - 1
				n.sizes[len(n.sizes)-1]++
			}
		}
	}
}

// circles reports whether a run may come to a step again.
func (n *net) circles(i int) bool {
	if n.sizes[n.group[i]] > 1 {
		return true
	}
	for _, to := range n.after[i] {
		if to == i {
			return true
		}
	}
	return false
}

// cheapest is the least that a way from the first step to the end takes, if each step takes what of says and join puts the two
// together: a sum, or the greater. It is endless if no way leads there.
func (n *net) cheapest(of func(int) int64, join func(a, b int64) int64) int64 {
	before := make([][]int, len(n.steps))
	least := make([]int64, len(n.steps))
	var queue nearest
	for i, done := range n.done {
		least[i] = endless
		for _, to := range done {
			if to >= 0 {
				before[to] = append(before[to], i)
			} else if least[i] == endless {
				least[i] = of(i)
				queue = append(queue, distance{i, least[i]})
			}
		}
	}
	heap.Init(&queue)
	for len(queue) > 0 {
		here := heap.Pop(&queue).(distance)
		if here.far > least[here.at] {
			continue
		}
		for _, i := range before[here.at] {
			if far := join(of(i), here.far); far < least[i] {
				least[i] = far
				heap.Push(&queue, distance{i, far})
			}
		}
	}
	return least[0]
}

// distance is how far a step is from the end.
type distance struct {
	at  int
	far int64
}

type nearest []distance

func (q nearest) Len() int           { return len(q) }
func (q nearest) Less(a, b int) bool { return q[a].far < q[b].far }
func (q nearest) Swap(a, b int)      { q[a], q[b] = q[b], q[a] }
func (q *nearest) Push(x any)        { *q = append(*q, x.(distance)) }
func (q *nearest) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
