package agent

import "container/heap"

// caller is one who waits for a slot.
type caller struct {
	tokens int64
	rank   int64 // earliest first: when it came, by the lane's steady clock, and what its priority is worth
	answer chan grant

	place int    // in the queue; -1: not in it
	order uint64 // of those of one rank
	plan  grant
	gone  bool // it left while it was planned
}

// grant is a slot, or why there is none.
type grant struct {
	at           int64 // by the bucket's clock
	tokens       int64
	taken, spent int64 // see report
	rule         rule
	lap          int
	err          error
}

// callers is a heap of those who wait, by rank.
type callers struct {
	list []*caller
	came uint64
}

func (h *callers) add(c *caller) {
	h.came++
	c.order = h.came
	heap.Push(h, c)
}

func (h *callers) Len() int { return len(h.list) }
func (h *callers) Less(i, j int) bool {
	a, b := h.list[i], h.list[j]
	return a.rank < b.rank || a.rank == b.rank && a.order < b.order
}
func (h *callers) Swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	h.list[i].place, h.list[j].place = i, j
}
func (h *callers) Push(c any) {
	c.(*caller).place = len(h.list)
	h.list = append(h.list, c.(*caller))
}
func (h *callers) Pop() any {
	last := len(h.list) - 1
	c := h.list[last]
	h.list[last] = nil
	h.list = h.list[:last]
	c.place = -1
	return c
}
