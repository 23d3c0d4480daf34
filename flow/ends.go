package flow

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/pawlrun/pawl"
)

// LimitError ends a run that goes beyond its flow's limits.
type LimitError struct {
	Step  string // that would have been next
	Limit string // maxSteps, maxVisits; maxItems, which are those of all maps of a run
	Most  int
	Seen  map[string]int // how often each step of its graph was visited
}

func (e *LimitError) Error() string {
	if e.Limit == "maxItems" {
		return fmt.Sprintf("step %s would go over %d items, with those of all maps of the run: split the list between runs", e.Step, e.Most)
	}
	return fmt.Sprintf("step %s would go over %s: %d (visits: %s)", e.Step, e.Limit, e.Most, visits(e.Seen))
}

// Fatal reports true.
func (e *LimitError) Fatal() bool { return true }

// ErrorCode names the error where it is kept.
func (e *LimitError) ErrorCode() string { return "flow_limit" }

// CostError ends a run that would cost more than its flow's limits let it.
type CostError struct {
	Step string // whose call would have been next
	Most float64
	Err  error // a *pawl.BudgetError in a *pawl.StepError
}

func (e *CostError) Error() string {
	return fmt.Sprintf("step %s would go over maxCostUsd: %v: %v", e.Step, e.Most, e.Err)
}

// Unwrap returns what was refused.
func (e *CostError) Unwrap() error { return e.Err }

// Fatal reports true.
func (e *CostError) Fatal() bool { return true }

// ErrorCode names the error where it is kept.
func (e *CostError) ErrorCode() string { return "cost_limit" }

// endsRun reports whether an error is a limit of the whole run: a step, a branch or an item that comes to it can't be
// skipped, as what follows would go beyond it too. Visits are a limit of one graph.
func endsRun(err error) bool {
	var limit *LimitError
	var cost *CostError
	return errors.As(err, &limit) && limit.Limit != "maxVisits" || errors.As(err, &cost)
}

// atLimit is an error of a step, or the run's limit of costs if it is that to which the step came. Other budgets than the
// run's own are no limits of the run: what they refuse may be skipped.
func (x *run) atLimit(c *pawl.Context, s *step, err error) error {
	var refused *pawl.BudgetError
	var known *CostError
	if !errors.As(err, &refused) || refused.Budget.Name != pawl.RunBudgetName(c.RunID(), pawl.USD) || errors.As(err, &known) {
		return err
	}
	return &CostError{Step: s.id, Most: x.flow.limits.cost, Err: err}
}

// spent is what a run has used of its limits, in all its branches. What it counts are steps and lists that are begun:
// a replay begins what the run began and nothing else, in whatever order, so it never comes to a limit that the run kept.
type spent struct {
	mu    sync.Mutex
	steps int
	items int
	ended *LimitError // the first that was come to
}

// step counts a step that is about to begin.
func (n *spent) step(id string, most int, seen map[string]int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.steps++; n.steps > most {
		return n.end(&LimitError{id, "maxSteps", most, seen})
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
	if n.ended == nil {
		return nil
	}
	return n.ended
}

// RouteError ends a run whose step has an output that leads nowhere.
type RouteError struct {
	Step   string
	Output string
	Known  []string
}

func (e *RouteError) Error() string {
	return fmt.Sprintf("no next step for output %.100q of step %s; it leads on for %q", e.Output, e.Step, e.Known)
}

// Fatal reports true.
func (e *RouteError) Fatal() bool { return true }

// ErrorCode names the error where it is kept.
func (e *RouteError) ErrorCode() string { return "no_next_step" }

// EndError ends a run that came to the end called fail.
type EndError struct {
	Step   string
	Output string
}

func (e *EndError) Error() string {
	return fmt.Sprintf("step %s leads to fail: %.500s", e.Step, e.Output)
}

// Fatal reports true.
func (e *EndError) Fatal() bool { return true }

// ErrorCode names the error where it is kept.
func (e *EndError) ErrorCode() string { return "flow_failed" }

// codedError gives an error that has none a code under which it is kept.
type codedError struct {
	code string
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

// Fatal reports true.
func (e *codedError) Fatal() bool { return true }

// ErrorCode names the error where it is kept.
func (e *codedError) ErrorCode() string { return e.code }

func visits(seen map[string]int) string {
	var out []string
	for id, n := range seen {
		out = append(out, fmt.Sprintf("%s %d", id, n))
	}
	return strings.Join(slices.Sorted(slices.Values(out)), ", ")
}
