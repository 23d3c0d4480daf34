package expr

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/common"
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
		p.local = slices.Index(c.locals, p.name)
		for i, name := range c.locals { // the innermost of several of one name
			if name == p.name {
				p.local = i
			}
		}
		if p.local < 0 {
			if !slices.Contains(c.env.names, p.name) {
				return nil, 0, c.unknownName(of)
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

func (c *compiler) unknownName(e ast.Expr) error {
	name := e.AsIdent()
	at := c.at(e)
	hint := did(name, slices.Concat(c.env.names, c.locals))
	if before := strings.TrimRight(string(c.runes[:at]), " "); strings.HasSuffix(before, "-") {
		if of := lastPath(strings.TrimRight(strings.TrimSuffix(before, "-"), " ")); strings.Contains(of, ".") {
			dot := strings.LastIndexByte(of, '.')
			hint = fmt.Sprintf("if the name has a hyphen, write %s['%s-%s']", of[:dot], of[dot+1:], name)
		}
	}
	if hint == "" && len(c.env.names) <= 20 {
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

// syntax makes an error of one of CEL's parser.
func (c *compiler) syntax(fault *common.Error) error {
	message := strings.TrimPrefix(fault.Message, "Syntax error: ")
	e := &Error{Source: c.source, Line: fault.Location.Line(), Column: fault.Location.Column() + 1}
	if strings.HasPrefix(message, "expression recursion limit") {
		limit := &LimitError{"depth", int64(c.env.limits.Depth)}
		return &Error{Source: c.source, Message: limit.Error(), Err: limit}
	}
	if e.Line < 1 {
		e.Line, e.Column = 1, 1
	}
	rest := ""
	if lines := strings.Split(c.source, "\n"); e.Line <= len(lines) {
		line := []rune(lines[e.Line-1])
		at := min(e.Column-1, len(line))
		if at > 0 && line[at-1] == '?' && at < len(line) && line[at] == '?' {
			e.Column, at = e.Column-1, at-1 // a ?? b
		}
		rest = strings.TrimRight(string(line[at:]), "\r")
	}
	e.Message, e.Hint = sayFault(message, rest)
	return e
}

// sayFault says what CEL's parser found in words of this package, given the rest of the line.
func sayFault(message, rest string) (string, string) {
	shown := strings.TrimSpace(rest)
	if r := []rune(shown); len(r) > 20 {
		shown = string(r[:20]) + "…"
	}
	hint := ""
	for _, typical := range []struct{ begins, hint string }{
		{"===", "write =="}, {"!==", "write !="}, {"=>", "write list.map(x, x + 1)"}, {"=", "two values are compared with =="}, {"and ", "write &&"}, {"or ", "write ||"}, {"not ", "write !"},
		{"&", "write &&"}, {"|", "write ||"}, {"<>", "write !="}, {"??", "write default(a, b)"}, {"?.", "write default(a.b, null), or has(a.b)"}, {"`", "other names stand in brackets: a['b-c']"},
		{"++", "write + 1"}, {"\\", ""}, {";", "an expression is one value; there are no statements"}, {"{{", "an expression has no {{ }}"}, {"}}", "an expression has no {{ }}"}, {"$", "names stand without $"},
	} {
		if strings.HasPrefix(strings.TrimSpace(rest)+" ", typical.begins) {
			hint = typical.hint
			break
		}
	}
	switch {
	case strings.Contains(message, "unterminated"):
		return "a text that begins here has no end", "close it with the same quote"
	case strings.HasPrefix(message, "invalid int literal"):
		return "the number does not fit into 64 bits", "write it with a point: 1e20, 12345678901234567890.0"
	case strings.Contains(message, "invalid double"):
		return "the number is too large", ""
	case strings.HasPrefix(message, "reserved identifier: "):
		return fmt.Sprintf("%q is a word of CEL and no name here", strings.TrimPrefix(message, "reserved identifier: ")), "other names stand in brackets: variables['if']"
	case strings.Contains(message, "escape") || strings.Contains(message, "unescape"):
		return "a text has a \\ that means nothing", `write \\, or r'…' for a text in which \ means itself`
	case shown == "":
		return "the expression ends too early", strings.TrimSpace(strings.ReplaceAll(wanted(message), "\n", " "))
	}
	if hint == "" {
		hint = wanted(message)
	}
	return fmt.Sprintf("%q is not expected here", shown), hint
}

// wanted is what the parser was waiting for.
func wanted(message string) string {
	for _, sign := range []string{")", "]", "}", ":"} {
		if strings.Contains(message, "'"+sign+"'") && strings.Contains(message, "expect") {
			return "a " + sign + " is missing"
		}
	}
	return ""
}
