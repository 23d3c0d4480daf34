package trigger

import (
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/env"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/stdlib"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// JSON has one kind of number, CEL has several, and its operators refuse to mix them: whether
// "event.data.price * 2" can be evaluated would depend on whether a price happens to be whole. So the four
// operators below take an int beside a double, as a double. Those of the library can't be added to,
// as each is bound once for all its overloads: they are left out of it and declared anew.
var arithmetic = map[string]struct {
	trait int
	apply func(a, b ref.Val) ref.Val
}{
	operators.Add:      {traits.AdderType, func(a, b ref.Val) ref.Val { return a.(traits.Adder).Add(b) }},
	operators.Subtract: {traits.SubtractorType, func(a, b ref.Val) ref.Val { return a.(traits.Subtractor).Subtract(b) }},
	operators.Multiply: {traits.MultiplierType, func(a, b ref.Val) ref.Val { return a.(traits.Multiplier).Multiply(b) }},
	operators.Divide:   {traits.DividerType, func(a, b ref.Val) ref.Val { return a.(traits.Divider).Divide(b) }},
}

// matchOptions are CEL's core library, with comparisons and arithmetic of all numbers.
func matchOptions() []cel.EnvOption {
	without := env.NewLibrarySubset()
	var own []cel.EnvOption
	for _, fn := range stdlib.Functions() {
		op, is := arithmetic[fn.Name()]
		if !is {
			continue
		}
		without.AddExcludedFunctions(env.NewFunction(fn.Name()))
		var opts []cel.FunctionOpt
		for _, o := range fn.OverloadDecls() {
			opts = append(opts, cel.Overload(o.ID(), o.ArgTypes(), o.ResultType()))
		}
		for _, args := range [][]*cel.Type{{cel.IntType, cel.DoubleType}, {cel.DoubleType, cel.IntType}} {
			opts = append(opts, cel.Overload(fmt.Sprintf("%s_%s_%s", fn.Name(), args[0], args[1]), args, cel.DoubleType))
		}
		opts = append(opts, cel.SingletonBinaryBinding(func(a, b ref.Val) ref.Val { return op.apply(alike(a, b)) }, op.trait))
		own = append(own, cel.Function(fn.Name(), opts...))
	}
	return slices.Concat([]cel.EnvOption{cel.StdLib(cel.StdLibSubset(without)), cel.CrossTypeNumericComparisons(true)}, own)
}

// alike makes a double of an int that stands beside one.
func alike(a, b ref.Val) (ref.Val, ref.Val) {
	if n, is := a.(types.Int); is && b.Type() == types.DoubleType {
		return types.Double(n), b
	}
	if n, is := b.(types.Int); is && a.Type() == types.DoubleType {
		return a, types.Double(n)
	}
	return a, b
}
