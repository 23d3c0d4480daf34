package flow

import (
	"context"
	"fmt"

	"github.com/pawlrun/pawl"
)

// condition is a text that has a value: a path, or an expression.
type condition struct {
	source string
	path   Path
}

// readCondition reads a text of a document.
func readCondition(f *findings, at *node) *condition {
	path, err := ParsePath(at.text)
	if err != nil {
		f.fault(at, "", "%v", err)
		return nil
	}
	return &condition{source: at.text, path: path}
}

// value is what the condition's source has for a value.
func (c *condition) value(_ context.Context, scope map[string]any) (any, error) {
	return c.path.Lookup(scope)
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
func (c *condition) paths() []use {
	if c == nil {
		return nil
	}
	return []use{{path: c.path}}
}
