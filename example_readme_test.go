package pawl_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

var greet = pawl.Define("greet", func(c *pawl.Context, name string) (string, error) {
	text, err := pawl.Step(c, "write", func(ctx context.Context) (string, error) {
		return "Dear " + name, nil // here: a model, a mail server, a bank
	})
	if err != nil {
		return "", err
	}
	return text, c.Sleep(time.Second) // or a week: a run that waits is a row in the store
})

func main() {
	store, err := sqlite.Open("greet.db", nil)
	check(err)
	engine := pawl.New(store, nil)
	check(engine.Register(greet))
	ctx, stop := context.WithCancel(context.Background())
	run, err := greet.Start(ctx, engine, "Ada", pawl.ID("greet-ada"))
	check(err)
	go func() {
		fmt.Println(run.Result(ctx))
		stop()
	}()
	check(engine.Run(ctx)) // works until ctx ends
	check(store.Close())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
