package flow

import (
	"encoding/json"
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

// EndError ends a run that came to the end called fail. Its journal leads there each time that it is tried again; a fork
// from the step that failed goes on from there.
type EndError struct {
	Step   string `json:"step"`
	Output string `json:"output"`
	// After is the last failure before it with which the run went on, by a fallback or without a branch. Nil: there was none.
	After *Handled `json:"after,omitempty"`
}

// Handled is a failure with which a run went on.
type Handled struct {
	Step    string `json:"step"`          // or a branch of it, send.mail, or an item, put[3]
	Key     string `json:"key,omitempty"` // of the journal's entry that failed, as pawl.ForkOptions.From takes it; "": there is none
	Message string `json:"message"`
}

// handled tells of a failure; child is the journal's entry of the run that it is of, if it is one's.
func handled(at string, err error, child string) *Handled {
	if cancelled(err) {
		return nil
	}
	if led, is := errors.AsType[*EndError](err); is && led.After != nil {
		return &Handled{at + "/" + led.After.Step, led.After.Key, led.After.Message}
	}
	return &Handled{at, failedKey(err, child), failureOf(err).message}
}

// failedKey finds the entry of the run's own journal that an error tells of.
func failedKey(err error, child string) string {
	for ; err != nil; err = errors.Unwrap(err) {
		switch e := err.(type) {
		case *pawl.StepError:
			return e.Step
		case *pawl.RunError: // the steps below are those of its journal
			return child
		}
	}
	return ""
}

func (e *EndError) Error() string {
	if e.After != nil {
		return fmt.Sprintf("step %s leads to fail, after step %s failed: %.500s; its output is %.200s", e.Step, e.After.Step, e.After.Message, e.Output)
	}
	return fmt.Sprintf("step %s leads to fail: %.500s", e.Step, e.Output)
}

// Fatal reports true.
func (e *EndError) Fatal() bool { return true }

// ErrorCode names the error where it is kept.
func (e *EndError) ErrorCode() string { return "flow_failed" }

// MarshalJSON writes what Ended reads. Texts are cut to 1,000 characters, so that it is kept.
func (e *EndError) MarshalJSON() ([]byte, error) {
	type plain EndError
	short := plain(*e)
	short.Output = fmt.Sprintf("%.1000s", e.Output)
	if e.After != nil {
		after := *e.After
		after.Message = fmt.Sprintf("%.1000s", after.Message)
		short.After = &after
	}
	return json.Marshal(short)
}

// Ended returns what a run that failed tells of its end, if it came to the end called fail: such a run fails again however
// often it is tried.
func Ended(f *pawl.Failure) (*EndError, bool) {
	e := new(EndError)
	if f == nil || f.Type != fmt.Sprintf("%T", e) {
		return nil, false
	}
	return e, json.Unmarshal(f.Details, e) == nil
}

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
