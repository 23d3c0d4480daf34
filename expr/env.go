package expr

import (
	"cmp"
	"slices"
	"time"
	"unicode/utf8"

	"cel.dev/cel-go/common"
	"cel.dev/cel-go/parser"
)

// Env is what expressions may begin with. It does not change and may be shared.
type Env struct {
	names  []string
	limits Limits
}

// Limits bound an expression. A field that is 0 or less is the default.
type Limits struct {
	// Source is how many bytes an expression may have; 16 KiB.
	Source int
	// Depth is how deep brackets, calls and operators may stand within each other; 64. Chains, as a + b + c + …, are not deep.
	Depth int
	// Steps is what an evaluation may do; 100,000. An operation is a step, and so are 64 bytes of text that are looked
	// through. A byte that is held against a pattern of n instructions is (n+10)/50 steps.
	Steps int
	// Bytes is what an evaluation may produce, what it throws away included; 1 MiB. A text counts its length, a place in
	// a list 16, a field 64.
	Bytes int
	// Time is how long an evaluation may take by the clock; 50 ms. Steps and Bytes end one at the same place everywhere, so
	// whoever needs that gives more time than a busy machine may take for all of them.
	Time time.Duration
}

// maxChain is how long a chain of operators or fields may be.
const maxChain = 512

// New returns an Env in which an expression may begin with these names. What they stand for is known when it is evaluated.
func New(names ...string) *Env {
	names = slices.Clone(names)
	slices.Sort(names)
	return (&Env{names: slices.Compact(names)}).With(Limits{})
}

// With returns an Env with the same names and these limits.
func (e *Env) With(l Limits) *Env {
	return &Env{names: e.names, limits: Limits{
		Source: cmp.Or(max(l.Source, 0), 16<<10), Depth: cmp.Or(max(l.Depth, 0), 64), Steps: cmp.Or(max(l.Steps, 0), 100_000),
		Bytes: cmp.Or(max(l.Bytes, 0), 1<<20), Time: cmp.Or(max(l.Time, 0), 50*time.Millisecond),
	}}
}

// Parse reads and checks an expression: its form, its names and functions, and the kinds of values as far as they are
// known before it is evaluated. The error is an [*Error].
func (e *Env) Parse(source string) (*Program, error) {
	c := &compiler{env: e, source: source}
	if err := c.read(); err != nil {
		return nil, err
	}
	root, is, err := c.compile(c.tree, 1)
	if err != nil {
		return nil, err
	}
	return &Program{source: source, limits: e.limits, root: root, kinds: is, uses: c.distinct(), locals: c.most, times: c.times, costly: 20 + len(source)/128}, nil
}

// read parses the source.
func (c *compiler) read() error {
	limits := c.env.limits
	switch {
	case len(c.source) > limits.Source:
		limit := &LimitError{"source", int64(limits.Source)}
		return &Error{Source: c.source, Message: limit.Error(), Err: limit}
	case !utf8.ValidString(c.source):
		return &Error{Source: c.source, Line: 1, Column: 1, Message: "it is not UTF-8"}
	case blank(c.source):
		return &Error{Source: c.source, Line: 1, Column: 1, Message: "it is empty"}
	}
	p, err := parser.NewParser(parser.EnablePrattParser(true), parser.EnableVariadicOperatorASTs(true), parser.EnableIdentEscapeSyntax(false),
		parser.MaxRecursionDepth(limits.Depth+maxChain), parser.ErrorRecoveryLimit(1), parser.ExpressionSizeCodePointLimit(limits.Source))
	if err != nil {
		return err
	}
	tree, faults := p.Parse(common.NewTextSource(c.source))
	if list := faults.GetErrors(); len(list) > 0 {
		return c.syntax(list[0])
	}
	c.tree, c.info, c.runes = tree.Expr(), tree.SourceInfo(), []rune(c.source)
	return nil
}
