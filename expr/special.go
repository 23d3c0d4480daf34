package expr

import "cel.dev/cel-go/common/ast"

// has compiles has(a.b).
func (c *compiler) has(e ast.Expr, args []ast.Expr, level int) (node, kinds, error) {
	if len(args) != 1 || args[0].Kind() != ast.SelectKind && (args[0].Kind() != ast.CallKind || args[0].AsCall().FunctionName() != "_[_]") {
		return nil, 0, c.fault(c.nameAt(e), "write has(a.b) or has(a['b-c'])", "has asks whether there is a field, and needs one")
	}
	c.asked++
	of, _, err := c.compile(args[0], level+1)
	c.asked--
	return hasNode{of}, boolKind, err
}

type hasNode struct{ of node }

func (n hasNode) eval(m *machine) (any, error) {
	m.quiet++
	_, err := n.of.eval(m)
	m.quiet--
	if isMissing(err) {
		return false, nil
	}
	return err == nil, err
}

// instead compiles default(value, instead).
func (c *compiler) instead(name string, at int32, args []ast.Expr, level int) (node, kinds, error) {
	if len(args) != 2 {
		return nil, 0, c.fault(at, "write "+specials[name], "%s is given %d values", name, len(args))
	}
	c.asked++
	of, is, err := c.compile(args[0], level+1)
	c.asked--
	if err != nil {
		return nil, 0, err
	}
	other, otherIs, err := c.compile(args[1], level+1)
	return insteadNode{of, other}, is&^nullKind | otherIs, err
}

type insteadNode struct{ of, other node }

func (n insteadNode) eval(m *machine) (any, error) {
	m.quiet++
	v, err := n.of.eval(m)
	m.quiet--
	if v == nil && err == nil || isMissing(err) {
		return n.other.eval(m)
	}
	return v, err
}

// loop compiles what is evaluated for each item.
func (c *compiler) loop(name string, at int32, args []ast.Expr, level int) (node, kinds, error) {
	over, is, err := c.compile(args[0], level)
	switch {
	case err != nil:
		return nil, 0, err
	case is&(listKind|objectKind) == 0:
		return nil, 0, c.fault(at, "", "%s goes through a list, and not through %s", name, is)
	case args[1].Kind() != ast.IdentKind:
		return nil, 0, c.fault(c.at(args[1]), "write "+specials[name], "%s needs a name for the item", name)
	}
	n := &loopNode{name: name, over: over, local: len(c.locals), at: at}
	c.locals = append(c.locals, args[1].AsIdent())
	c.most = max(c.most, len(c.locals))
	defer func() { c.locals = c.locals[:n.local] }()
	body := args[2:]
	if len(body) == 2 || name != "map" {
		if n.test, is, err = c.compile(body[0], level+1); err != nil {
			return nil, 0, err
		}
		if is&boolKind == 0 {
			return nil, 0, c.fault(c.at(body[0]), "", "the condition of %s is %s and must be true or false", name, is)
		}
		body = body[1:]
	}
	if name == "map" {
		if n.value, _, err = c.compile(body[0], level+1); err != nil {
			return nil, 0, err
		}
	}
	if name == "map" || name == "filter" {
		return n, listKind, nil
	}
	return n, boolKind, nil
}

type loopNode struct {
	name        string
	over        node
	local       int
	test, value node // either may be nil
	at          int32
}

func (n *loopNode) eval(m *machine) (any, error) {
	if err := m.step(1); err != nil {
		return nil, err
	}
	of, err := n.over.eval(m)
	if err != nil {
		return nil, err
	}
	var items []any
	switch v := of.(type) {
	case []any:
		items = v
	case map[string]any: // through the names of its fields
		if items, err = m.keys(v); err != nil {
			return nil, err
		}
	default:
		return nil, m.fail(n.at, "%s goes through a list, and not through %s", n.name, kindOf(of))
	}
	var out []any
	var failed error
	found := 0
	for _, item := range items {
		if err := m.step(1); err != nil {
			return nil, err
		}
		v, err := settle(item)
		if err != nil {
			return nil, m.fail(n.at, "%s: %v", n.name, err)
		}
		m.locals[n.local] = v
		truth := true
		if n.test != nil {
			if truth, err = n.truth(m); err != nil {
				if n.name != "all" && n.name != "exists" || !tame(err) {
					return nil, err
				}
				if failed == nil { // a later item may decide
					failed = err
				}
				continue
			}
		}
		switch {
		case n.name == "all" && !truth:
			return false, nil
		case n.name == "exists" && truth:
			return true, nil
		case n.name == "map" && truth:
			if v, err = n.value.eval(m); err != nil {
				return nil, err
			}
			fallthrough
		case n.name == "filter" && truth:
			if err := m.produce(slotBytes); err != nil {
				return nil, err
			}
			out = append(out, v)
		case truth:
			found++
		}
	}
	switch n.name {
	case "map", "filter":
		if out == nil {
			out = []any{}
		}
		return out, nil
	case "all":
		return failed == nil, failed
	case "exists":
		return false, failed
	}
	return found == 1, nil
}

func (n *loopNode) truth(m *machine) (bool, error) {
	v, err := n.test.eval(m)
	if err != nil {
		return false, err
	}
	truth, is := v.(bool)
	if !is {
		return false, m.fail(n.at, "the condition of %s is %s and must be true or false", n.name, kindOf(v))
	}
	return truth, nil
}
