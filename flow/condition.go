package flow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/expr"
)

// condition is a text that has a value: a path, or an expression.
type condition struct {
	source  string
	path    Path          // or
	program *expr.Program // of package expr
}

// Expressions are bounded by their steps and bytes, which are the same wherever a run goes on. A clock would let a busy machine
// decide where a run goes.
var (
	limited = expr.Limits{Time: 10 * time.Second}
	within  = expr.New(roots...).With(limited)
	behind  = expr.New(append(slices.Clone(roots), "output")...).With(limited) // a step, in next
)

// readCondition reads a text of a document, whose value must be of a type as far as that is known; expr.Unknown takes any.
func readCondition(f *findings, at *node, env *expr.Env, must expr.Type) *condition {
	c := &condition{source: at.text}
	path, err := ParsePath(at.text)
	if err == nil && !slices.Contains([]string{"true", "false", "null"}, at.text) {
		c.path = path
	} else if c.program, err = env.Parse(at.text); err != nil {
		var e *expr.Error
		if errors.As(err, &e) {
			f.faultIn(at, e)
		} else {
			f.fault(at, "", "%v", err)
		}
		return nil
	}
	if is := c.typeOf(); must != expr.Unknown && is != expr.Unknown && is != must {
		f.fault(at, "", "its value is of type %s and must be %s", is, must)
	}
	return c
}

// typeOf is what the value will be, as far as that is known.
func (c *condition) typeOf() expr.Type {
	if c == nil || c.program == nil {
		return expr.Unknown
	}
	return c.program.TypeOf()
}

// value is what the condition's source has for a value.
func (c *condition) value(ctx context.Context, scope map[string]any) (any, error) {
	if c.program == nil {
		return c.path.Lookup(scope)
	}
	v, err := c.program.Eval(ctx, scope)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, &ExpressionError{c.source, err}
	}
	return v, nil
}

// holds reports whether the value is true.
func (c *condition) holds(ctx context.Context, scope map[string]any) (bool, error) {
	v, err := c.value(ctx, scope)
	if err != nil {
		return false, err
	}
	truth, is := v.(bool)
	if !is {
		return false, pawl.Fatal(fmt.Errorf("condition %q is %s and neither true nor false", c.source, kindOf(v)))
	}
	return truth, nil
}

// paths are those that the condition reads.
func (c *condition) paths() (out []use) {
	switch {
	case c == nil:
	case c.program == nil:
		out = append(out, use{path: c.path, condition: true})
	default:
		for _, u := range c.program.Uses() {
			out = append(out, use{path: u.Path, optional: u.Optional, condition: true})
		}
	}
	return out
}

// ExpressionError is an expression that could not be evaluated on what a run had.
type ExpressionError struct {
	Expression string
	Err        error // *expr.Error
}

func (e *ExpressionError) Error() string {
	return fmt.Sprintf("expression %.200q: %v", e.Expression, e.Err)
}
func (e *ExpressionError) Unwrap() error { return e.Err }

// Fatal reports true: the same values come to the same.
func (e *ExpressionError) Fatal() bool { return true }

// ErrorCode names the error where it is kept: unresolved if the expression reads what is not there.
func (e *ExpressionError) ErrorCode() string {
	var missing *expr.MissingError
	if errors.As(e.Err, &missing) {
		return "unresolved"
	}
	return "expression"
}
