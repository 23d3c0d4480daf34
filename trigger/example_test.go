package trigger_test

import (
	"context"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/trigger"
)

func ExampleParseCron() {
	c, err := trigger.ParseCron("30 2 * * *", "America/New_York")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(c.Describe())
	t := time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC)
	for range 2 { // 02:30 does not exist on March 8
		t = c.Next(t)
		fmt.Println(t)
	}
	_, err = trigger.ParseCron("0 0 30 2 *", "")
	fmt.Println(err)
	// Output:
	// at 02:30, in America/New_York
	// 2026-03-08 03:00:00 -0400 EDT
	// 2026-03-09 02:30:00 -0400 EDT
	// cron expression "0 0 30 2 *", day of month at position 5: no month of "2" has such a day
}

func ExampleSet() {
	type Order struct {
		Amount int `json:"amount"`
	}
	review := pawl.Define("review", func(c *pawl.Context, o Order) (string, error) {
		return fmt.Sprint("reviewed ", o.Amount), nil
	})
	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	engine := pawl.New(store, nil)
	if err := engine.Register(review); err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- engine.Run(ctx) }()

	set := trigger.NewSet(engine)
	err = set.OnEvent(trigger.Subscription{ID: "big-orders", Event: "order", Where: "event.data.amount > 100", Workflow: "review"})
	if err == nil {
		err = set.Sync(ctx) // Run does, too
	}
	if err != nil {
		fmt.Println(err)
	}
	for _, amount := range []int{20, 700} {
		p, err := trigger.Publish(ctx, engine, trigger.Event{ID: fmt.Sprint("order-", amount), Name: "order", Data: Order{amount}})
		fmt.Println(amount, len(p.Runs), err)
		for _, id := range p.Runs {
			fmt.Println(pawl.Attach[string](engine, id).Result(ctx))
		}
	}
	stop()
	if err := <-done; err != nil {
		panic(err)
	}
	// Output:
	// 20 0 <nil>
	// 700 1 <nil>
	// reviewed 700 <nil>
}
