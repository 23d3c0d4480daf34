// Parity-check runs the machine of package parity in one process with one SQLite file.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/parity-check/parity"
	"github.com/pawlrun/pawl/sqlite"
)

func main() {
	file := flag.String("store", "pawl.db", "the file that holds the runs")
	id := flag.String("id", "", "the run's id; a run that is there is only read")
	number := flag.Int("number", 10, "the number to check")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := check(ctx, *file, *id, *number); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(ctx context.Context, file, id string, number int) (err error) {
	m, err := parity.New()
	if err != nil {
		return err
	}
	store, err := sqlite.Open(file, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	e := pawl.New(store, &pawl.Options{Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err := e.Register(m); err != nil {
		return err
	}
	working, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(working) }()
	defer func() { stop(); err = errors.Join(err, <-done) }()

	var opts []pawl.StartOption
	if id != "" {
		opts = append(opts, pawl.ID(id))
	}
	run, err := m.Start(ctx, e, parity.Number{Number: number}, opts...)
	if err != nil {
		return err
	}
	out, err := run.Result(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%d is %s\n", out.Number, out.Parity)

	// What the run did, from its journal.
	s, err := m.State(ctx, e, pawl.Ref{ID: run.ID()})
	if err != nil {
		return err
	}
	fmt.Print(m.Mermaid(s.Edges...))
	return nil
}
