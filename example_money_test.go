package pawl_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

// A run that may spend 50 cents asks three times, for up to 20 cents each.
func ExampleSpend() {
	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	ask := pawl.Define("ask", func(c *pawl.Context, _ struct{}) (string, error) {
		for range 3 {
			err := pawl.Do(c, "model", func(ctx context.Context) error {
				money, err := pawl.Spend(ctx, pawl.Spending{Item: "a model", Most: 200_000})
				if err != nil {
					return err
				}
				return money.Settle(180_000, false, map[string]int{"tokens": 900})
			})
			if errors.Is(err, pawl.ErrBudget) {
				return "no money for more", nil
			}
			if err != nil {
				return "", err
			}
		}
		return "asked three times", nil
	}, pawl.BudgetUSD(0.50))

	engine := pawl.New(store, nil)
	if err := engine.Register(ask); err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	done := make(chan error)
	go func() { done <- engine.Run(ctx) }()
	run, err := ask.Start(ctx, engine, struct{}{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(run.Result(ctx))
	costs, err := engine.Costs(ctx, pawl.CostFilter{By: pawl.ByItem})
	fmt.Println(costs[0].Key, costs[0].Charges, costs[0].Amount, err)
	stop()
	fmt.Println(<-done)
	// Output:
	// no money for more <nil>
	// a model 2 360000 <nil>
	// <nil>
}
