package flow

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// limits bound a run, as its document says.
type limits struct {
	steps   int
	bytes   int
	cost    float64 // US dollars
	timeout time.Duration
}

func readLimits(at *node) limits {
	return limits{
		steps: at.get("maxSteps").int(defaultMaxSteps), bytes: at.get("maxBytes").int(defaultMaxBytes),
		cost: at.get("maxCostUsd").float(defaultMaxCost), timeout: milliseconds(at.get("timeoutMs")),
	}
}

// Limits of a run where its document says nothing, and those that no document can raise. docs/flows.md has them too.
const (
	defaultMaxSteps = 1000
	defaultMaxBytes = 32 << 20
	defaultMaxCost  = 0.50 // US dollars

	defaultMaxFamily = 10_000 // see Options.MaxFamily

	maxRunBytes    = 1 << 30   // what maxBytes may be at most
	maxItems       = 100_000   // of all maps of a run
	maxGenerations = 20        // of runs that start runs
	maxItemSteps   = 1_000_000 // that items take without counting for maxSteps
	maxFilled      = 1 << 20   // bytes of a text that was filled in
	maxMade        = 4 << 20   // bytes of JSON of a value that is filled in or calculated, such as all parameters of a call
	maxLookedOn    = 256 << 20 // bytes that the filters of one such value may go through
	maxFilters     = 16        // of a place
	maxNesting     = 500       // how deep what a step brings may be nested
	maxAtWork      = 16 << 20  // bytes of what the steps that are at work at the same time may bring
	mayBring       = 1 << 20   // bytes that a step may bring of which nothing is known
	mayAnswer      = 256 << 10 // bytes that a decision may bring of which nothing is known
	sizeOfBranch   = 5 << 10   // bytes of memory of a branch or an item under way
	maxVisitsOf    = 20        // steps that an error tells the visits of
)

// LimitError ends a run that goes beyond its flow's limits.
type LimitError struct {
	Step  string         // that would have been next; of maxBytes, that brought too much
	Limit string         // maxSteps, maxVisits, maxBytes; maxItems and maxItemSteps, which are those of all maps of a run; maxGenerations, maxFamily
	Most  int            // the limit
	Seen  map[string]int // how often each step of its graph was visited
}

func (e *LimitError) Error() string {
	switch e.Limit {
	case "maxItems":
		return fmt.Sprintf("step %s would go over %d items, with those of all maps of the run: split the list between runs", e.Step, e.Most)
	case "maxItemSteps":
		return fmt.Sprintf("step %s would be more than %d steps of items, with those of all maps of the run: split the list between runs", e.Step, e.Most)
	case "maxGenerations":
		return fmt.Sprintf("step %s would start a run in generation %d of runs that start runs, and the limit is %d: if the flow is to go round, let a step with maxVisits or a schedule do that", e.Step, e.Most+1, e.Most)
	case "maxFamily":
		return fmt.Sprintf("step %s would start another run, and the first run of its family has led to %d of them already, which is the limit: start them from fewer levels, or by events", e.Step, e.Most)
	case "maxBytes":
		return fmt.Sprintf("step %s: the run would hold more than maxBytes: %d bytes of memory, in its variables and in what its steps have brought; let steps bring less, go over fewer items at a time, or raise limits.maxBytes", e.Step, e.Most)
	}
	return fmt.Sprintf("step %s would go over %s: %d (visits: %s)", e.Step, e.Limit, e.Most, visits(e.Seen))
}

// Fatal reports true.
func (e *LimitError) Fatal() bool { return true }

// ErrorCode names the error where it is kept.
func (e *LimitError) ErrorCode() string { return "flow_limit" }

// endsRun reports whether an error is a limit of the whole run: a step, a branch or an item that comes to it can't be
// skipped, as what follows would go beyond it too. Visits are a limit of one graph.
func endsRun(err error) bool {
	var limit *LimitError
	return errors.As(err, &limit) && limit.Limit != "maxVisits" || isCost(err)
}

// isCost reports whether an error is the one limit of a run that the journal has: every replay comes to it in the same branch.
func isCost(err error) bool {
	var cost *CostError
	return errors.As(err, &cost)
}

// spent is what a run has used of its limits, in all its branches. What it counts are steps and lists that are begun:
// a replay begins what the run began and nothing else, in whatever order, so it never comes to a limit that the run kept.
type spent struct {
	mu        sync.Mutex
	most      limits
	steps     int
	itemSteps int
	items     int
	ended     error // the first limit that was come to
}

// step counts a step that is about to begin. The first pass of an item through the steps of its map, which is free, counts
// apart: what maxSteps guards against is going round, and a list has an end.
func (n *spent) step(id string, free bool, seen map[string]int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended != nil { // what is under way beside it does not go on
		return n.ended
	}
	if free {
		if n.itemSteps++; n.itemSteps > maxItemSteps {
			return n.end(&LimitError{Step: id, Limit: "maxItemSteps", Most: maxItemSteps})
		}
		return nil
	}
	if n.steps++; n.steps > n.most.steps {
		return n.end(&LimitError{id, "maxSteps", n.most.steps, seen})
	}
	return nil
}

// list counts the items of a map that is about to begin.
func (n *spent) list(id string, items int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.items += items; n.items > maxItems {
		return n.end(&LimitError{Step: id, Limit: "maxItems", Most: maxItems})
	}
	return nil
}

// end keeps the limit. The caller holds mu.
func (n *spent) end(e *LimitError) error {
	if n.ended == nil {
		n.ended = e
	}
	return e
}

// over is the limit that the run came to, or nil.
func (n *spent) over() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ended
}

// come keeps a limit of the run to which a branch or an item came. It is no failure of theirs in the journal, which says of
// branches whose failure was the first: a replay may count less than the run did, and then nothing fails there.
func (n *spent) come(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended == nil {
		n.ended = err
	}
}

// held counts the bytes that one graph of a run holds, and those of the graphs in it. It counts so that a replay, in
// which branches go on in another order, never counts more than the run did: each graph goes on step by step, and around it
// counts what it has held at most. Items are under way a few at a time, and any of them may come to hold as much as the one
// that held most, so that counts as often as items are under way at once; of an item that has ended its output counts.
type held struct {
	of     *spent
	around *held // nil: it is that of the run
	now    int
	peak   int  // the most that now was
	most   *int // the greatest peak of all graphs that it shares a map with
	times  int  // how many of them are under way at once
}

// grow counts by bytes more, or fewer, and returns an error if the run then holds too much.
func (h *held) grow(step string, by int) error {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	if h.of.ended != nil {
		return h.of.ended
	}
	for ; ; h = h.around {
		h.now += by
		if h.around == nil {
			break
		}
		h.peak = max(h.peak, h.now)
		if h.peak <= *h.most {
			return nil
		}
		by, *h.most = (h.peak-*h.most)*h.times, h.peak
	}
	if by > 0 && h.now > h.of.most.bytes {
		return h.of.end(&LimitError{Step: step, Limit: "maxBytes", Most: h.of.most.bytes})
	}
	return nil
}

// mark is what is held now, for release.
func (h *held) mark() int {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	return h.now
}

// release counts no more what the branches or items of a step have held: they have ended.
func (h *held) release(to int) {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	h.now = to
}

// inner counts for graphs of which so many are under way at once.
func (h *held) inner(most *int, times int) *held {
	return &held{of: h.of, around: h, most: most, times: max(times, 1)}
}

// visits says how often steps were visited, the most visited first.
func visits(seen map[string]int) string {
	names := sortedNames(seen)
	slices.SortStableFunc(names, func(a, b string) int { return seen[b] - seen[a] })
	var out []string
	for _, id := range names[:min(len(names), maxVisitsOf)] {
		out = append(out, fmt.Sprintf("%s %d", id, seen[id]))
	}
	if more := len(names) - len(out); more > 0 {
		out = append(out, fmt.Sprintf("and %d more steps", more))
	}
	return strings.Join(out, ", ")
}
