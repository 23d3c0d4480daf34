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

// An event is known by its id, so a sender that got no answer sends it again. Runs that wait for it
// may come later.
func ExamplePublish() {
	type Payment struct {
		Order string `json:"order"`
		Cents int    `json:"cents"`
	}
	order := pawl.Define("order", func(c *pawl.Context, id string) (int, error) {
		p, err := trigger.WaitFor[Payment](c, "paid", trigger.Where(fmt.Sprintf("event.data.order == %q", id)), trigger.LookBack(time.Hour))
		return p.Cents, err
	})
	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		panic(err)
	}
	defer store.Close()
	engine := pawl.New(store, nil)
	if err := engine.Register(order); err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- engine.Run(ctx) }()

	for _, p := range []Payment{{"o-1", 500}, {"o-2", 1290}, {"o-2", 1290}} {
		got, err := trigger.Publish(ctx, engine, trigger.Event{ID: "payment-of-" + p.Order, Name: "paid", Data: p})
		fmt.Println(got.ID, "repeated:", got.Repeated, err)
	}
	run, err := order.Start(ctx, engine, "o-2")
	if err != nil {
		panic(err)
	}
	fmt.Println(run.Result(ctx))
	stop()
	if err := <-done; err != nil {
		panic(err)
	}
	// Output:
	// payment-of-o-1 repeated: false <nil>
	// payment-of-o-2 repeated: false <nil>
	// payment-of-o-2 repeated: true <nil>
	// 1290 <nil>
}

// A program says at each start what it wants to be started when. What is in the store already stays as it is.
func ExampleSet_OnSchedule() {
	store, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		panic(err)
	}
	defer store.Close()
	digest := pawl.Define("digest", func(c *pawl.Context, kind string) (string, error) { return kind, nil })
	engine := pawl.New(store, nil)
	if err := engine.Register(digest); err != nil {
		panic(err)
	}
	ctx := context.Background()
	set := trigger.NewSet(engine)
	morning := trigger.Schedule{ID: "morning", Workflow: "digest", Input: []byte(`"short"`), Cron: "0 7 * * 1-5", Zone: "Europe/Oslo"}
	if err := set.OnSchedule(morning); err != nil {
		panic(err)
	}
	if err := set.Sync(ctx); err != nil { // set.Run does, and fires what is due until ctx ends
		panic(err)
	}
	kept, err := trigger.Schedules{Engine: engine}.Get(ctx, "", "morning")
	if err != nil {
		panic(err)
	}
	fmt.Println(kept.Describe())
	friday := time.Date(2026, 3, 27, 12, 0, 0, 0, time.UTC) // summer time begins on Sunday
	slots, err := kept.Slots(friday, 2)
	fmt.Println(slots, err)
	fmt.Println(kept.RunID(slots[0]))
	// Output:
	// at 07:00, on Monday to Friday, in Europe/Oslo
	// [2026-03-30 05:00:00 +0000 UTC 2026-03-31 05:00:00 +0000 UTC] <nil>
	// morning@2026-03-30T05:00:00Z
}
