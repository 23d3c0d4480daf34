package expr

import (
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// compiler makes nodes that can be evaluated of the tree that CEL's parser made, and checks them on the way.
type compiler struct {
	env    *Env
	source string
	runes  []rune // of source
	tree   ast.Expr
	info   *ast.SourceInfo
	locals []string // names that all(), map() and the like have bound, the innermost last
	most   int      // locals at a time
	times  bool     // it may make times
	uses   []Use
	guards []string // paths that are known to be there
	asked  int      // within has() and default()
	regexp int      // instructions of constant patterns
}

// at is a node's place in the source, in characters from 0.
func (c *compiler) at(e ast.Expr) int32 {
	r, _ := c.info.GetOffsetRange(e.ID())
	return r.Start
}

func (c *compiler) fault(at int32, hint, format string, args ...any) error {
	e := placed(c.source, at, format, args...)
	e.Hint = hint
	return e
}

// compile makes a node. Level is how deep it stands in others; what stands in a chain is as deep as the chain.
func (c *compiler) compile(e ast.Expr, level int) (node, kinds, error) {
	if level > c.env.limits.Depth {
		return nil, 0, c.tooDeep(c.at(e))
	}
	switch e.Kind() {
	case ast.LiteralKind:
		return c.literal(e)
	case ast.IdentKind, ast.SelectKind:
		return c.path(e, level)
	case ast.ListKind:
		return c.list(e, level)
	case ast.MapKind:
		return c.object(e, level)
	case ast.CallKind:
		return c.call(e, level)
	}
	return nil, 0, c.fault(c.at(e), "an object is written {'name': value}", "there are no types of messages here")
}

func (c *compiler) tooDeep(at int32) error {
	limit := &LimitError{"depth", int64(c.env.limits.Depth)}
	e := placed(c.source, at, "%s", limit.Error())
	e.Err = limit
	return e
}

func (c *compiler) literal(e ast.Expr) (node, kinds, error) {
	var v any
	switch l := e.AsLiteral().(type) {
	case types.Null:
	case types.Bool:
		v = bool(l)
	case types.Int:
		v = int64(l)
	case types.Double:
		v = float64(l)
	case types.String:
		v = string(l)
	case types.Uint:
		return nil, 0, c.fault(c.at(e), "leave out the u", "there are no unsigned numbers here")
	default:
		return nil, 0, c.fault(c.at(e), "leave out the b", "there are no bytes here, only texts")
	}
	return constant{v}, kindOf(v), nil
}

func (c *compiler) list(e ast.Expr, level int) (node, kinds, error) {
	n := listNode{}
	for _, item := range e.AsList().Elements() {
		one, _, err := c.compile(item, level+1)
		if err != nil {
			return nil, 0, err
		}
		n.items = append(n.items, one)
	}
	return n, listKind, nil
}

func (c *compiler) object(e ast.Expr, level int) (node, kinds, error) {
	n := objectNode{}
	for _, entry := range e.AsMap().Entries() {
		name, is, err := c.compile(entry.AsMapEntry().Key(), level+1)
		if err != nil {
			return nil, 0, err
		}
		if is&textKind == 0 {
			return nil, 0, c.fault(c.at(entry.AsMapEntry().Key()), "", "the name of a field is %s and must be a text", is)
		}
		value, _, err := c.compile(entry.AsMapEntry().Value(), level+1)
		if err != nil {
			return nil, 0, err
		}
		n.fields = append(n.fields, fieldNode{name, value, c.at(entry.AsMapEntry().Key())})
	}
	return n, objectKind, nil
}

// call compiles operators and functions.
func (c *compiler) call(e ast.Expr, level int) (node, kinds, error) {
	call := e.AsCall()
	name, args := call.FunctionName(), call.Args()
	switch name {
	case operators.LogicalAnd, operators.LogicalOr:
		return c.logic(e, name == operators.LogicalOr, level)
	case operators.LogicalNot:
		of, is, err := c.compile(args[0], level+1)
		if err == nil && is&boolKind == 0 {
			err = c.fault(c.at(e), "", "! takes true or false, and not %s", is)
		}
		return notNode{of, c.at(e)}, boolKind, err
	case operators.Negate:
		of, is, err := c.compile(args[0], level+1)
		if err == nil && is&(numberKind|durationKind) == 0 {
			err = c.fault(c.at(e), "", "- takes a number, and not %s", is)
		}
		return negateNode{of, c.at(e)}, is & (numberKind | durationKind), err
	case operators.Conditional:
		return c.conditional(e, level)
	case operators.Index:
		if _, is := segmentOf(args[1]); is {
			return c.path(e, level)
		}
		return c.index(e, level)
	}
	if op, is := binaries[name]; is {
		return c.binary(e, op, level)
	}
	return c.function(e, level)
}

func (c *compiler) binary(e ast.Expr, op *binary, level int) (node, kinds, error) {
	args := e.AsCall().Args()
	a, left, err := c.compile(args[0], level) // a + b + c is a chain
	if err != nil {
		return nil, 0, err
	}
	b, right, err := c.compile(args[1], level+1)
	if err != nil {
		return nil, 0, err
	}
	is := op.result(left, right)
	if is == 0 {
		return nil, 0, c.fault(c.at(e), op.hint(left, right), "%s", op.refusal(left, right))
	}
	return binaryNode{op, a, b, c.at(e)}, is, nil
}

func (c *compiler) index(e ast.Expr, level int) (node, kinds, error) {
	args := e.AsCall().Args()
	of, is, err := c.compile(args[0], level)
	if err != nil {
		return nil, 0, err
	}
	key, keyIs, err := c.compile(args[1], level+1)
	switch {
	case err != nil:
		return nil, 0, err
	case is&(listKind|objectKind) == 0:
		return nil, 0, c.fault(c.at(e), "", "it is %s, and has nothing in it", is)
	case keyIs&(numberKind|textKind) == 0:
		return nil, 0, c.fault(c.at(args[1]), "", "brackets take a name or an index, and not %s", keyIs)
	}
	return indexNode{of, key, c.at(args[1])}, anyKind, nil
}

func (c *compiler) conditional(e ast.Expr, level int) (node, kinds, error) {
	args := e.AsCall().Args()
	n := conditionalNode{at: c.at(e)}
	var is [3]kinds
	var err error
	if n.test, is[0], err = c.compile(args[0], level+1); err != nil {
		return nil, 0, err
	}
	if is[0]&boolKind == 0 {
		return nil, 0, c.fault(n.at, "", "what stands before ? is %s and must be true or false", is[0])
	}
	known := len(c.guards)
	c.guards = append(c.guards, c.proofs(args[0], true)...)
	n.yes, is[1], err = c.compile(args[1], level+1)
	c.guards = c.guards[:known]
	if err != nil {
		return nil, 0, err
	}
	c.guards = append(c.guards, c.proofs(args[0], false)...)
	n.no, is[2], err = c.compile(args[2], level) // a ? b : c ? d : e is a chain
	c.guards = c.guards[:known]
	return n, is[1] | is[2], err
}

// logic compiles && and ||, which CEL's parser makes one call of however many they join.
func (c *compiler) logic(e ast.Expr, or bool, level int) (node, kinds, error) {
	n := logicNode{or: or, at: c.at(e)}
	known := len(c.guards)
	defer func() { c.guards = c.guards[:known] }()
	args := e.AsCall().Args()
	for _, arg := range args { // a false part decides whatever the others are, so that all parts know of each other
		c.guards = append(c.guards, c.proofs(arg, !or)...)
	}
	for _, arg := range args {
		one, is, err := c.compile(arg, level+1)
		if err != nil {
			return nil, 0, err
		}
		if is&boolKind == 0 {
			return nil, 0, c.fault(c.at(arg), "", "%s takes true or false, and not %s", n.sign(), is)
		}
		n.parts = append(n.parts, one)
	}
	return n, boolKind, nil
}
