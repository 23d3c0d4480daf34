// Order-saga runs the machine of package saga in one process with one SQLite file, and plays
// the payment provider. Kill it at any moment, run the same command again, and it goes on.
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
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/examples/order-saga/saga"
	"github.com/pawlrun/pawl/machine"
	"github.com/pawlrun/pawl/sqlite"
)

func main() {
	var o saga.Order
	store := flag.String("store", "pawl.db", "the file that holds the runs")
	id := flag.String("id", "order-1", "the order's id")
	flag.StringVar(&o.Item, "item", "book", "what is ordered")
	flag.IntVar(&o.Cents, "cents", 1290, "what it costs")
	pay := flag.String("pay", "yes", "what the payment provider will say: yes, no or nothing")
	patience := flag.Duration("patience", 5*time.Second, "how long the order waits for that")
	world := &saga.Ledger{}
	flag.StringVar(&world.File, "ledger", "ledger.txt", "the file that plays warehouse, bank and carrier")
	flag.StringVar(&world.Fails, "fails", "", "what never succeeds: reserve, charge or ship")
	draw := flag.Bool("draw", false, "draw the machine as Mermaid, and do nothing else")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	m, err := saga.New(world, *patience)
	if err == nil && *draw {
		fmt.Print(m.Mermaid())
		return
	}
	if err == nil {
		err = run(ctx, m, *store, *id, o, *pay)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, m *machine.Machine[saga.Order], file, id string, o saga.Order, pay string) (err error) {
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

	order, err := m.Start(ctx, e, o, pawl.ID(id))
	if err != nil {
		return err
	}
	if pay != "nothing" { // the order takes it once, however often it is told
		if err := saga.Paid(ctx, e, m, id, pay == "yes"); err != nil && !errors.Is(err, pawl.ErrEnded) {
			return err
		}
	}
	follow(ctx, e, id)
	out, err := order.Result(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%s is on its way, parcel %s\n", out.Item, out.Parcel)
	return nil
}

// follow prints the states that the order goes through, until it has ended.
func follow(ctx context.Context, e *pawl.Engine, id string) {
	for entry, err := range e.Follow(ctx, pawl.Ref{ID: id}, -1) {
		switch {
		case err != nil:
			return
		case entry.Kind == pawl.KindStep && entry.Failed:
			fmt.Fprintf(os.Stderr, "✗ %s\n", entry.Failure())
		case entry.Kind == pawl.KindStep:
			fmt.Fprintf(os.Stderr, "✓ %s\n", entry.Key)
		}
	}
}
