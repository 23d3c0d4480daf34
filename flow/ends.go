package flow

import (
	"errors"
	"fmt"

	"github.com/pawlrun/pawl"
)

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
