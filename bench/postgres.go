package main

import (
	"context"
	"fmt"
	"os"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
)

var (
	server string // where databases are made; set by -store postgres
	bases  int
	named  = map[string]string{} // path of a bench → URL of its database
)

// openPostgres gives each path a database of its own.
func openPostgres(path string) (pawl.Store, error) {
	url, ok := named[path]
	if !ok {
		bases++
		var err error
		if url, err = newDatabase(fmt.Sprintf("bench_%d_%d", os.Getpid(), bases)); err != nil {
			return nil, err
		}
		named[path] = url
	}
	return postgres.Open(context.Background(), url, nil)
}
