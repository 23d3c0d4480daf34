package expr

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"github.com/pawlrun/pawl/internal/spelling"
)

// path compiles a name with the constant fields and indices behind it.
func (c *compiler) path(e ast.Expr, level int) (node, kinds, error) {
	var segments []Segment
	var places []int32
	of := e
unroll:
	for {
		switch {
		case of.Kind() == ast.SelectKind:
			segments = append(segments, Segment{Name: of.AsSelect().FieldName()})
			places = append(places, c.at(of)+1) // behind the point
			of = of.AsSelect().Operand()
		case of.Kind() == ast.CallKind && of.AsCall().FunctionName() == operators.Index:
			s, is := segmentOf(of.AsCall().Args()[1])
			if !is {
				break unroll
			}
			segments = append(segments, s)
			places = append(places, c.at(of.AsCall().Args()[1]))
			of = of.AsCall().Args()[0]
		default:
			break unroll
		}
	}
	slices.Reverse(segments)
	slices.Reverse(places)
	p := &path{segments: segments, places: places, at: c.at(of)}
	if of.Kind() == ast.IdentKind {
		p.name = of.AsIdent()
		p.local = -1
		for i, name := range c.locals {
			if name == p.name {
				p.local = i // the innermost of several of one name
			}
		}
		if p.local < 0 {
			if !slices.Contains(c.env.names, p.name) {
				return nil, 0, c.unknownName(of, len(segments) == 0)
			}
			c.use(append([]Segment{{Name: p.name}}, segments...))
		}
		return p, anyKind, nil
	}
	base, is, err := c.compile(of, level)
	if err != nil {
		return nil, 0, err
	}
	if len(segments) == 0 {
		return base, is, nil
	}
	if is&(objectKind|listKind) == 0 {
		return nil, 0, c.fault(places[0], "", "it is %s, and has nothing in it", is)
	}
	p.of, p.local = base, -1
	return p, anyKind, nil
}

// segmentOf is the segment that a constant in brackets is.
func segmentOf(key ast.Expr) (Segment, bool) {
	if key.Kind() != ast.LiteralKind {
		return Segment{}, false
	}
	switch v := key.AsLiteral().(type) {
	case types.String:
		return Segment{Name: string(v)}, true
	case types.Int:
		return Segment{Index: int(v), IsIndex: true}, v >= 0 && v < 1<<31
	}
	return Segment{}, false
}

// unknownName refuses a name; bare is one of which nothing is asked.
func (c *compiler) unknownName(e ast.Expr, bare bool) error {
	name := e.AsIdent()
	at := c.at(e)
	hint := spelling.Hint(name, slices.Concat(c.env.names, c.locals))
	if f, is := functions[name]; is {
		hint = "write " + f.usage
		if _, is := conversions[name]; is {
			hint += ", or type(x) == '" + name + "'"
		}
	}
	if before := strings.TrimRight(string(c.runes[:at]), " "); strings.HasSuffix(before, "-") {
		if of := lastPath(strings.TrimRight(strings.TrimSuffix(before, "-"), " ")); strings.Contains(of, ".") {
			dot := strings.LastIndexByte(of, '.')
			hint = fmt.Sprintf("if the name has a hyphen, write %s['%s-%s']", of[:dot], of[dot+1:], name)
		}
	}
	switch {
	case hint != "":
	case bare && !strings.HasPrefix(name, "."):
		hint = "a text stands in quotes: '" + name + "'"
	case len(c.env.names) <= 20:
		hint = "there are " + strings.Join(c.env.names, ", ")
	}
	return c.fault(at, hint, "there is nothing called %q", name)
}

// lastPath is the a.b.c at the end of a text.
func lastPath(s string) string {
	i := len(s)
	for i > 0 && (plainName("x"+s[i-1:i]) || s[i-1] == '.') {
		i--
	}
	return s[i:]
}

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
