// Command pawl is pawl's one program: a server for development with the example workflows
// ready to run, and the commands that talk to it.
//
// One process owns a SQLite file, so no command but dev opens one: all others speak to a
// server over HTTP, with the client of package api and nothing else. The program never
// holds state of its own, and never guesses where a server might be.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// The first signal asks for an orderly end. After it signals have their usual effect:
	// the second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args, os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}
