package expr

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"github.com/pawlrun/pawl/internal/spelling"
)

// function is one that expressions can call: f(a, b), or a.f(b). Steps and bytes are paid for before they are spent.
type function struct {
	usage  string  // with the names of what it takes: "substring(text, from, to?)"
	takes  []kinds // of its arguments
	least  int     // arguments that must be there
	many   bool    // the last may stand any number of times
	result kinds
	call   func(m *machine, args []any) (any, error)
}

// functions are all but those that do not evaluate all they are given, or not once: has, default, all, map and the like.
var functions = merge(textFunctions, numberFunctions, listFunctions, conversions, timeFunctions)

func merge(tables ...map[string]function) map[string]function {
	all := map[string]function{}
	for _, t := range tables {
		maps.Copy(all, t)
	}
	return all
}

// specials are the other ones.
var specials = map[string]string{
	"has": "has(a.b)", "default": "default(value, instead)", "orElse": "orElse(value, instead)",
	"all": "list.all(x, condition)", "exists": "list.exists(x, condition)", "exists_one": "list.exists_one(x, condition)", "existsOne": "list.existsOne(x, condition)",
	"map": "list.map(x, value), list.map(x, condition, value)", "filter": "list.filter(x, condition)",
}

// Functions are the names of all functions, sorted.
func Functions() []string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(functions)), maps.Keys(specials))
	slices.Sort(names)
	return names
}

// function compiles a call.
func (c *compiler) function(e ast.Expr, level int) (node, kinds, error) {
	call := e.AsCall()
	name, args := call.FunctionName(), call.Args()
	at := c.nameAt(e)
	if call.IsMemberFunction() {
		args = append([]ast.Expr{call.Target()}, args...)
	}
	switch name {
	case "has":
		return c.has(e, args, level)
	case "default", "orElse":
		return c.instead(name, at, args, level)
	}
	if usage, is := specials[name]; is {
		if !call.IsMemberFunction() || len(args) < 3 || len(args) > 3 && name != "map" || len(args) > 4 {
			return nil, 0, c.fault(at, "write "+usage, "%s is used in another way", name)
		}
		return c.loop(name, at, args, level)
	}
	f, is := functions[name]
	if !is {
		hint := spelling.Hint(name, Functions())
		if call.IsMemberFunction() && call.Target().Kind() == ast.IdentKind {
			if _, _, err := c.path(call.Target(), level); err != nil {
				return nil, 0, err // math.abs(x)
			}
		}
		if other := elsewhere[name]; other != "" {
			hint = other
		}
		return nil, 0, c.fault(at, hint, "there is no function %q", name)
	}
	if len(args) < f.least || len(args) > len(f.takes) && !f.many {
		return nil, 0, c.fault(at, "write "+f.usage, "%s is given %d values", name, len(args))
	}
	n := &callNode{function: f, name: name, at: at}
	for i, arg := range args {
		below := level + 1
		if i == 0 && call.IsMemberFunction() {
			below = level // a.f().g() is a chain
		}
		one, is, err := c.compile(arg, below)
		if err != nil {
			return nil, 0, err
		}
		if takes := f.takes[min(i, len(f.takes)-1)]; is&takes == 0 {
			return nil, 0, c.fault(at, "write "+f.usage, "%s", wrongArgument(name, i, is, takes))
		}
		n.args = append(n.args, one)
	}
	c.times = c.times || name == "timestamp" || name == "duration"
	if name == "matches" {
		if err := n.compilePattern(c); err != nil {
			return nil, 0, err
		}
	}
	return n, f.result, nil
}

// elsewhere are functions of other languages, and what they are called here.
var elsewhere = map[string]string{
	"len": "write size(x)", "length": "write size(x)", "count": "write size(x)", "toUpperCase": "write upper(x)", "toLowerCase": "write lower(x)", "toString": "write string(x)", "includes": "write contains(…), or x in list",
	"isEmpty": "write size(x) == 0", "number": "write double(x) or int(x)", "float": "write double(x)", "now": "an expression has no clock; take a time of the run, as startedAt",
	"some": "write exists", "every": "write all", "any": "write exists", "find": "write first(list.filter(x, …))", "reduce": "there are sum, join, all and exists", "coalesce": "write default(a, b)",
	"uint": "there are no unsigned numbers; write int(x)", "bytes": "there are no bytes, only texts", "dyn": "all values are dynamic: leave it out", "toJson": "write json(x)", "random": "an expression has no chance",
}

// nameAt is where a function's name stands; the tree knows the place of its bracket.
func (c *compiler) nameAt(e ast.Expr) int32 {
	at := c.at(e)
	i := int(at)
	for i > 0 && strings.ContainsRune(" \t\r\n", c.runes[i-1]) {
		i--
	}
	if name := []rune(e.AsCall().FunctionName()); len(name) <= i && slices.Equal(c.runes[i-len(name):i], name) {
		return int32(i - len(name))
	}
	return at
}

func wrongArgument(name string, i int, is, takes kinds) string {
	return fmt.Sprintf("%s takes %s as its %s value, and not %s", name, takes, [...]string{"first", "second", "third", "fourth"}[min(i, 3)], is)
}

type callNode struct {
	function
	name    string
	args    []node
	at      int32
	pattern *pattern // of matches, if it is constant
}

func (n *callNode) eval(m *machine) (any, error) {
	if err := m.step(1); err != nil {
		return nil, err
	}
	first := len(m.stack)
	for i, arg := range n.args {
		v, err := arg.eval(m)
		if err != nil {
			m.stack = m.stack[:first]
			return nil, err
		}
		if takes := n.takes[min(i, len(n.takes)-1)]; kindOf(v)&takes == 0 {
			m.stack = m.stack[:first]
			return nil, m.fail(n.at, "%s", wrongArgument(n.name, i, kindOf(v), takes))
		}
		m.stack = append(m.stack, v)
	}
	var v any
	var err error
	if n.pattern != nil {
		v, err = n.pattern.matches(m, m.stack[first].(string))
	} else {
		v, err = n.call(m, m.stack[first:])
	}
	m.stack = m.stack[:first]
	switch bad := err.(type) {
	case *operandError:
		return nil, m.fail(n.at, "%s: %s", n.name, bad.message)
	case *MissingError:
		return nil, m.missing(n.at, bad)
	}
	return v, err
}
