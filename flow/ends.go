package flow

import (
	"fmt"
	"slices"
	"strings"
)

// LimitError ends a run that goes beyond its flow's limits.
type LimitError struct {
	Step  string // that would have been next
	Limit string // maxSteps, maxVisits
	Most  int
	Seen  map[string]int // how often each step was visited
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("step %s would go over %s: %d (visits: %s)", e.Step, e.Limit, e.Most, visits(e.Seen))
}

// Fatal reports true.
func (e *LimitError) Fatal() bool { return true }

// ErrorCode names the error where it is kept.
func (e *LimitError) ErrorCode() string { return "flow_limit" }

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

func visits(seen map[string]int) string {
	var out []string
	for id, n := range seen {
		out = append(out, fmt.Sprintf("%s %d", id, n))
	}
	return strings.Join(slices.Sorted(slices.Values(out)), ", ")
}
