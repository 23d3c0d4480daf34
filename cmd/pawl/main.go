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
	_ "time/tzdata" // schedules have time zones, on machines without them too
)

func main() {
	os.Exit(run(untilSignal(), os.Args, os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

// untilSignal returns a context that the first signal ends, which asks for an orderly end. From
// then on signals have their usual effect: the second one ends the process at once. So they are
// let go before anybody can see that the context has ended, and one that came in between counts.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	got := make(chan os.Signal, 2)
	signal.Notify(got, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-got
		signal.Stop(got)
		if len(got) > 0 {
			os.Exit(exitInterrupted)
		}
		cancel()
	}()
	return ctx
}
