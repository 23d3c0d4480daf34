package flow

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/expr"
)

// transform makes a value of others.
type transform struct {
	expression *condition
	set        map[string]*condition // variables, instead
	at         *node
}

func readTransform(f *findings, s *step, config *node) worker {
	t := &transform{at: config}
	expression, set := config.get("expression"), config.get("set")
	switch {
	case (expression == nil) == (set == nil):
		f.fault(s.at, "", `a transform has either "expression" or "set"`)
	case expression.is(textKind):
		t.expression = readCondition(f, expression, within, expr.Unknown)
	default:
		t.set = map[string]*condition{}
		for _, field := range set.fieldsOf() {
			if field.value.is(textKind) {
				t.set[field.name] = readCondition(f, field.value, within, expr.Unknown)
			}
		}
	}
	return t
}

func (t *transform) work(x *run, c *pawl.Context, s *step, in *scope) (result, error) {
	v, err := x.work(c, s, func(ctx context.Context) (json.RawMessage, error) {
		v, err := t.value(ctx, in.root)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, err
		case err != nil:
			return nil, pawl.Fatal(err) // it would fail again
		}
		if deeper(v, maxNesting) {
			return nil, pawl.Fatal(fmt.Errorf("its value would be nested more than %d deep", maxNesting))
		}
		if over(v, maxMade) {
			return nil, pawl.Fatal(fmt.Errorf("its value would be over %d bytes of JSON", maxMade))
		}
		return json.Marshal(v)
	})
	if err != nil {
		return result{}, err
	}
	if t.set != nil {
		object, _ := v.(map[string]any)
		for name, value := range object {
			if err := in.set(s, name, value); err != nil {
				return result{}, err
			}
		}
	}
	return result{output: v}, nil
}

func (t *transform) value(ctx context.Context, root map[string]any) (any, error) {
	if t.set == nil {
		return t.expression.value(ctx, root)
	}
	object := make(map[string]any, len(t.set))
	for _, name := range sortedNames(t.set) {
		v, err := t.set[name].value(ctx, root)
		if err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
		object[name] = v
	}
	return object, nil
}

func (t *transform) reads(f func(at *node, u use)) {
	for _, u := range t.expression.paths() {
		f(t.at.get("expression"), u)
	}
	for _, name := range sortedNames(t.set) {
		for _, u := range t.set[name].paths() {
			f(t.at.get("set").get(name), u)
		}
	}
}
