package expr

import (
	"context"
	"errors"

	"github.com/pawlrun/pawl/internal/spelling"
)

// Program is an expression that was read. It does not change and may be shared.
type Program struct {
	source string
	limits Limits
	root   node
	kinds  kinds
	uses   []Use
	locals int
	times  bool // it may make times
	costly int  // the steps of making an error, which && may throw away
}

// Use is a path that an expression reads.
type Use struct {
	Path []Segment // begins with one of the Env's names
	// Optional tells that it may name nothing: it stands in has() or default(), or behind has() of the same path.
	Optional bool
}

// Segment is one name or index of a path.
type Segment struct {
	Name  string
	Index int // of a list, if IsIndex
	// IsIndex tells [0] from .name.
	IsIndex bool
}

// String writes the path as an expression has it: variables.order['line items'][0].
func (u Use) String() string { return pathText(u.Path) }

// String returns the source.
func (p *Program) String() string { return p.source }

// TypeOf is what the value will be, as far as that is known.
func (p *Program) TypeOf() Type { return p.kinds.typeOf() }

// Uses are the paths that the expression reads, each once, in the order of the source: a name, and the fields and indices behind it that
// do not depend on values. Do not change them.
func (p *Program) Uses() []Use { return p.uses }

// Eval is the value of the expression: nil, bool, int64, float64, string, []any or map[string]any. Times and durations become texts:
// 2026-11-22T10:00:00Z, 90s. It shares lists and objects with vars, which hold values of the same types; other numbers of Go and
// json.Number are taken for what they are. The error is an [*Error], in which errors.As finds a [*LimitError] or a [*MissingError].
func (p *Program) Eval(ctx context.Context, vars map[string]any) (any, error) {
	m := machine{program: p, ctx: ctx, vars: vars}
	m.check = min(firstCheck, p.limits.Steps)
	if p.locals > 0 {
		m.locals = make([]any, p.locals)
	}
	v, err := p.root.eval(&m)
	if err == nil {
		err = m.step(0)
	}
	if err == nil {
		v, err = m.leave(v, 0)
	}
	if err != nil {
		return nil, p.told(err)
	}
	return v, nil
}

// told makes the error that a caller sees.
func (p *Program) told(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return &Error{Source: p.source, Message: err.Error(), Err: err}
	}
	if e.object != nil && len(e.object) <= 1000 {
		e.Hint = spelling.Hint(e.lacks, sortedKeys(e.object))
	}
	e.object = nil
	return e
}
