package postgres_test

import (
	"context"
	"log"
	"os"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
)

// Any number of processes run this against one database: each run is worked by one of them, and
// taken over by another when that dies. It needs a server, so it is compiled and not run.
func ExampleOpen() {
	greet := pawl.Define("greet", func(c *pawl.Context, name string) (string, error) { return "Dear " + name, nil })
	ctx := context.Background()                                      // one that a signal ends
	store, err := postgres.Open(ctx, os.Getenv("DATABASE_URL"), nil) // postgres://user:password@host:5432/name
	if err != nil {
		log.Fatal(err)
	}
	engine := pawl.New(store, nil)
	if err := engine.Register(greet); err != nil {
		log.Fatal(err)
	}
	if err := engine.Run(ctx); err != nil { // works until ctx ends, then lets steps under way finish
		log.Fatal(err)
	}
	if err := store.Close(); err != nil {
		log.Fatal(err)
	}
}
