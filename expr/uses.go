package expr

import (
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// use notes a path that is read.
func (c *compiler) use(path []Segment) {
	u := Use{Path: path, Optional: c.asked > 0}
	text := pathText(path)
	for _, g := range c.guards {
		u.Optional = u.Optional || within(text, g) || within(g, text)
	}
	c.uses = append(c.uses, u)
}

// within reports whether a path is another one or goes on from it.
func within(path, of string) bool {
	return strings.HasPrefix(path, of) && (len(path) == len(of) || path[len(of)] == '.' || path[len(of)] == '[')
}

// distinct are the uses, each path once; one of several that must be there makes it so.
func (c *compiler) distinct() (out []Use) {
	at := map[string]int{}
	for _, u := range c.uses {
		text := pathText(u.Path)
		if i, is := at[text]; is {
			out[i].Optional = out[i].Optional && u.Optional
			continue
		}
		at[text] = len(out)
		out = append(out, u)
	}
	return out
}

// proofs are the paths that are known to be there if an expression is true, or else false.
func (c *compiler) proofs(e ast.Expr, truth bool) (out []string) {
	if e.Kind() != ast.CallKind {
		return nil
	}
	call := e.AsCall()
	switch name := call.FunctionName(); {
	case name == operators.LogicalNot:
		return c.proofs(call.Args()[0], !truth)
	case name == operators.LogicalAnd && truth, name == operators.LogicalOr && !truth:
		for _, arg := range call.Args() {
			out = append(out, c.proofs(arg, truth)...)
		}
	case name == "has" && !call.IsMemberFunction() && len(call.Args()) == 1 && truth:
		if path := c.rooted(call.Args()[0]); path != nil {
			out = append(out, pathText(path))
		}
	case name == operators.In && truth: // 'a' in variables
		key, path := call.Args()[0], c.rooted(call.Args()[1])
		if path == nil || key.Kind() != ast.LiteralKind {
			return nil
		}
		if s, is := key.AsLiteral().(types.String); is {
			out = append(out, pathText(append(path, Segment{Name: string(s)})))
		}
	}
	return out
}

// rooted is the path that an expression is, from one of the Env's names; nil if it is none.
func (c *compiler) rooted(e ast.Expr) (path []Segment) {
	for {
		switch {
		case e.Kind() == ast.SelectKind:
			path = append(path, Segment{Name: e.AsSelect().FieldName()})
			e = e.AsSelect().Operand()
		case e.Kind() == ast.CallKind && e.AsCall().FunctionName() == operators.Index:
			s, is := segmentOf(e.AsCall().Args()[1])
			if !is {
				return nil
			}
			path = append(path, s)
			e = e.AsCall().Args()[0]
		case e.Kind() == ast.IdentKind && slices.Contains(c.env.names, e.AsIdent()) && !slices.Contains(c.locals, e.AsIdent()):
			path = append(path, Segment{Name: e.AsIdent()})
			slices.Reverse(path)
			return path
		default:
			return nil
		}
	}
}
