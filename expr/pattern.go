package expr

import (
	"regexp"
	"regexp/syntax"
)

// pattern is a regular expression of RE2, whose time is bounded by its instructions times the text.
type pattern struct {
	regexp *regexp.Regexp
	size   int // instructions
}

// Limits of patterns.
const (
	maxPattern      = 1024 // bytes
	maxInstructions = 4096
	maxPatterns     = 4 * maxInstructions // of all constant ones of an expression
)

// newPattern reads a pattern. Its size is known before anything is made of it: a{1000} is short.
func newPattern(source string) (*pattern, error) {
	if len(source) > maxPattern {
		return nil, operand("the pattern has %d bytes, the limit is %d", len(source), maxPattern)
	}
	tree, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		return nil, operand("%.200v", err)
	}
	size := instructions(tree)
	if size > maxInstructions {
		return nil, operand("the pattern makes a program of %d instructions, the limit is %d", size, maxInstructions)
	}
	compiled, err := regexp.Compile(source)
	if err != nil {
		return nil, operand("%.200v", err)
	}
	return &pattern{compiled, size}, nil
}

// instructions is about how many a tree makes, and not less than half of them.
func instructions(tree *syntax.Regexp) int {
	n := 1 + len(tree.Rune)/2
	for _, sub := range tree.Sub {
		n += instructions(sub)
	}
	if tree.Op == syntax.OpRepeat {
		n = min(n, 1<<20) * max(tree.Min, tree.Max, 1)
	}
	return min(n, 1<<30)
}

// matches reports whether the pattern is found somewhere in a text.
func (p *pattern) matches(m *machine, s string) (any, error) {
	if err := m.step(1 + (len(s)+1)*(p.size+10)/50); err != nil {
		return nil, err
	}
	return p.regexp.MatchString(s), nil
}

// matches is for patterns that are calculated.
func matches(m *machine, args []any) (any, error) {
	source := args[1].(string)
	if m.regexp == nil || m.pattern != source {
		if err := m.step(100 + min(len(source), maxPattern)*10); err != nil {
			return nil, err
		}
		p, err := newPattern(source)
		if err != nil {
			return nil, err
		}
		if err := m.step(4 * p.size); err != nil {
			return nil, err
		}
		m.pattern, m.regexp = source, p
	}
	return m.regexp.matches(m, args[0].(string))
}

// compilePattern reads a constant pattern once.
func (n *callNode) compilePattern(c *compiler) error {
	constant, is := n.args[1].(constant)
	if !is {
		return nil
	}
	p, err := newPattern(constant.value.(string))
	if err != nil {
		return c.fault(n.at, "", "%s: %v", n.name, err)
	}
	if c.regexp += p.size; c.regexp > maxPatterns {
		return c.fault(n.at, "", "the patterns of the expression make programs of more than %d instructions", maxPatterns)
	}
	n.pattern = p
	return nil
}
