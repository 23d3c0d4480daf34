package expr_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
)

// celEnv is CEL as its own evaluator has it, on the same names.
func celEnv(t testing.TB) *cel.Env {
	t.Helper()
	e, err := cel.NewEnv(cel.Variable("variables", cel.DynType), cel.CrossTypeNumericComparisons(true), ext.Strings(), ext.Lists())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// celValue evaluates by CEL's own evaluator; false: it refuses the expression or fails.
func celValue(e *cel.Env, source string, vars map[string]any) (any, bool) {
	tree, issues := e.Parse(source) // what its checker thinks of the kinds of dynamic values is no matter
	if issues.Err() != nil {
		return nil, false
	}
	p, err := e.Program(tree)
	if err != nil {
		return nil, false
	}
	out, _, err := p.Eval(vars)
	if err != nil {
		return nil, false
	}
	return native(out), true
}

func native(v ref.Val) any {
	switch x := v.Value().(type) {
	case time.Time:
		return x.UTC().Format(time.RFC3339Nano)
	case time.Duration:
		return fmt.Sprint(x)
	case bool, int64, float64, string:
		return x
	}
	if v.Type().TypeName() == "null_type" {
		return nil
	}
	if list, err := v.ConvertToNative(reflect.TypeFor[[]ref.Val]()); err == nil {
		out := []any{}
		for _, item := range list.([]ref.Val) {
			out = append(out, native(item))
		}
		return out
	}
	object, err := v.ConvertToNative(reflect.TypeFor[map[string]ref.Val]())
	if err != nil {
		return fmt.Sprintf("%v", v)
	}
	out := map[string]any{}
	for name, item := range object.(map[string]ref.Val) {
		out[name] = native(item)
	}
	return out
}

// makes writes expressions that both take, of a kind: b(ool), i(nt), d(ouble), s (text), l(ist of ints).
type maker struct {
	r      *rand.Rand
	locals []string // that hold ints
}

func (g *maker) one(of ...string) string { return of[g.r.IntN(len(of))] }

func (g *maker) make(kind byte, depth int) string {
	n := func(kind byte) string { return g.make(kind, depth-1) }
	f := fmt.Sprintf
	if depth <= 0 {
		switch kind {
		case 'b':
			return g.one("true", "false", "variables.yes", "variables.no")
		case 'i':
			return g.one(append(g.locals, "0", "1", "2", "7", "-3", "9007199254740993", "9223372036854775807", "variables.score", "variables.object.a", "variables.list[1]")...)
		case 'd':
			return g.one("0.5", "2.0", "-1.25", "1e300", "variables.price")
		case 's':
			return g.one("''", "'a'", "'Zoë'", "'a,b,a'", "variables.kind", "variables.object['b-c']")
		}
		return g.one("[]", "[1, 2, 3]", "variables.list", "[7, 7, -3]")
	}
	switch kind {
	case 'b':
		switch g.r.IntN(12) {
		case 0:
			return f("(%s && %s)", n('b'), n('b'))
		case 1:
			return f("(%s || %s)", n('b'), n('b'))
		case 2:
			return "!" + f("(%s)", n('b'))
		case 3:
			k := g.one("i", "d", "s", "b")[0]
			return f("(%s %s %s)", n(k), g.one("<", "<=", ">", ">=", "==", "!="), n(k))
		case 4:
			return f("(%s %s %s)", n('i'), g.one("<", "<=", ">", ">="), n('d'))
		case 5:
			return f("(%s in %s)", n('i'), n('l'))
		case 6:
			return f("(%s).%s(%s)", n('s'), g.one("contains", "startsWith", "endsWith"), n('s'))
		case 7:
			return g.loop(g.one("all", "exists", "exists_one"), 'b', depth)
		case 8:
			return f("(%s == %s)", n('l'), n('l'))
		case 9:
			return g.one("has(variables.score)", "has(variables.no)", "('a' in variables.object)", "('z' in variables.object)")
		case 10:
			return f("(%s ? %s : %s)", n('b'), n('b'), n('b'))
		}
		return f("(%s).matches('%s')", n('s'), g.one("a", "^Z", "b$", "[a-c]+,", "x*"))
	case 'i':
		switch g.r.IntN(7) {
		case 0, 1:
			return f("(%s %s %s)", n('i'), g.one("+", "-", "*", "/", "%"), n('i'))
		case 2:
			return f("size(%s)", n(g.one("s", "l")[0]))
		case 3:
			return f("(%s ? %s : %s)", n('b'), n('i'), n('i'))
		case 4:
			return f("int(%s)", n('d'))
		case 5:
			return f("(%s)[%s]", n('l'), n('i'))
		}
		return f("(%s).indexOf(%s)", n('s'), n('s'))
	case 'd':
		if g.r.IntN(3) == 0 {
			return f("double(%s)", g.one("0", "-3", "variables.score", "size('Zoë')")) // near the limits of ints they compare as doubles
		}
		return f("(%s %s %s)", n('d'), g.one("+", "-", "*"), n('d'))
	case 's':
		switch g.r.IntN(7) {
		case 0:
			return f("(%s + %s)", n('s'), n('s'))
		case 1:
			return f("(%s ? %s : %s)", n('b'), n('s'), n('s'))
		case 2:
			return f("string(%s)", n(g.one("i", "b", "s")[0]))
		case 3:
			return f("(%s).replace(%s, %s)", n('s'), n('s'), n('s'))
		case 4:
			return f("(%s).substring(%s)", n('s'), n('i'))
		case 5:
			return f("(%s).split(%s).join(%s)", n('s'), n('s'), n('s'))
		}
		return f("(%s).%s()", n('s'), g.one("lowerAscii", "upperAscii", "trim"))
	}
	switch g.r.IntN(4) {
	case 0:
		return f("(%s + %s)", n('l'), n('l'))
	case 1:
		return g.loop("filter", 'b', depth)
	case 2:
		return f("[%s, %s]", n('i'), n('i'))
	}
	return g.loop("map", 'i', depth)
}

func (g *maker) loop(name string, body byte, depth int) string {
	over, local := g.make('l', depth-1), fmt.Sprintf("x%d", len(g.locals))
	g.locals = append(g.locals, local)
	defer func() { g.locals = g.locals[:len(g.locals)-1] }()
	return fmt.Sprintf("(%s).%s(%s, %s)", over, name, local, g.make(body, depth-1))
}

// CEL's own evaluator and this one say the same of expressions that both take: the same value, or both none.
func TestCELSaysTheSame(t *testing.T) {
	e := celEnv(t)
	vars := map[string]any{"variables": map[string]any{
		"score": int64(7), "price": 2.5, "kind": "x", "yes": true, "list": []any{int64(3), int64(1), int64(2)}, "object": map[string]any{"a": int64(1), "b-c": "d"},
	}}
	seed := rand.Uint64()
	g := &maker{r: rand.New(rand.NewPCG(seed, 1))}
	values, failures := 0, 0
	for i := range 2500 {
		source := g.make("bidsl"[i%5], 1+i%4)
		theirs, they := celValue(e, source, vars)
		var ours any
		p, err := env.Parse(source)
		if err == nil {
			ours, err = p.Eval(t.Context(), vars)
		}
		switch {
		case they != (err == nil):
			if strings.Contains(fmt.Sprint(err), "is no number") { // an infinity of theirs
				continue
			}
			t.Errorf("seed %d: %s\n  theirs %v, %v\n  ours   %v, %v", seed, source, theirs, they, ours, err)
		case they && !reflect.DeepEqual(theirs, ours):
			t.Errorf("seed %d: %s\n  theirs %v\n  ours   %v", seed, source, theirs, ours)
		case they:
			values++
		default:
			failures++
		}
	}
	if values < 1000 || failures < 100 {
		t.Errorf("%d values and %d failures are too few to tell", values, failures)
	}
	t.Logf("%d values, %d failures", values, failures)
}
