package expr_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/pawlrun/pawl/expr"
)

func big(ctx context.Context, order map[string]any) (any, error) {
	env := expr.New("order") // the names an expression may begin with
	program, err := env.Parse("order.total > 100")
	if err != nil {
		return nil, err
	}
	return program.Eval(ctx, map[string]any{"order": order})
}

func Example() {
	fmt.Println(big(context.Background(), map[string]any{"total": 120.5}))

	_, err := expr.New("order").Parse("order.total > 100 && ordr.kind == 'x'")
	var fault *expr.Error
	if errors.As(err, &fault) {
		fmt.Println(fault)
		fmt.Println(fault.Caret())
	}
	// Output:
	// true <nil>
	// 1:22: there is nothing called "ordr"; did you mean "order"?
	// order.total > 100 && ordr.kind == 'x'
	//                      ^
}
