package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

// A run is in the file when Start has returned, also if no engine works yet.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "pawl")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "runs.db")
	ctx := context.Background()
	greet := pawl.Define("greet", func(c *pawl.Context, name string) (string, error) { return "Dear " + name, nil })

	store, err := sqlite.Open(path, nil)
	if err != nil {
		panic(err)
	}
	if _, err := greet.Start(ctx, pawl.New(store, nil), "Ada", pawl.ID("ada")); err != nil {
		panic(err)
	}
	_, err = sqlite.Open(path, nil) // one process at a time
	fmt.Println(errors.Is(err, pawl.ErrLocked))
	if err := store.Close(); err != nil {
		panic(err)
	}

	store, err = sqlite.Open(path, nil) // tomorrow, another process
	if err != nil {
		panic(err)
	}
	defer store.Close()
	info, err := pawl.New(store, nil).Get(ctx, pawl.Ref{ID: "ada"})
	fmt.Println(info.Workflow, info.State, err)
	// Output:
	// true
	// greet pending <nil>
}
