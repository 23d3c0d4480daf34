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
	"time"
	_ "time/tzdata" // schedules have time zones, on machines without them too
)

func main() {
	os.Exit(run(untilSignal(), os.Args, os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

// together is how soon after the first signal a second one belongs to it: a shell and a program such as
// timeout, or a supervisor, may each send one.
const together = time.Second

// untilSignal returns a context that the first signal ends, which asks for an orderly end. The next one that
// comes more than a moment later ends the process at once.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan os.Signal, 8)
	signal.Notify(got, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-got
		first := time.Now()
		cancel()
		for range got {
			if time.Since(first) > together {
				os.Exit(exitInterrupted)
			}
		}
	}()
	return ctx
}
