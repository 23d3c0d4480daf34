// Approval pays an expense, above a limit when somebody has approved it by a link. It is one
// process with one SQLite file. Kill it at any moment, run the same command again, and it goes
// on: the links still work.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/approval"
	"github.com/pawlrun/pawl/examples/approval/expense"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/sqlite"
)

func main() {
	var in expense.Expense
	store := flag.String("store", "pawl.db", "the file that holds the runs; beside it lies the key that signs links")
	id := flag.String("id", "expense-1", "the expense's id")
	flag.StringVar(&in.Employee, "employee", "eve", "who spent the money")
	flag.StringVar(&in.What, "what", "a train to Oslo", "what for")
	flag.IntVar(&in.Cents, "cents", 24900, "how much")
	limit := flag.Int("limit", 10000, "cents up to which nobody is asked")
	approvers := flag.String("approvers", "ann,bob", "who may approve, with commas")
	boss := flag.String("boss", "cid", "who may too, when -patience is over")
	patience := flag.Duration("patience", time.Hour, "how long the boss is left in peace; it expires after twice that")
	listen := flag.String("listen", "127.0.0.1:8426", "the address on which links are answered")
	linger := flag.Duration("linger", 30*time.Second, "how long links are answered when all is done; Ctrl-C ends it")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg := expense.Config{Limit: *limit, Approvers: strings.Split(*approvers, ","), Boss: *boss, Patience: *patience, Notify: mail, Pay: pay}
	paid, err := run(ctx, cfg, *store, *listen, *id, *linger, in)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case paid.Cents == 0:
		fmt.Printf("nothing is paid: %s %s\n", paid.By, paid.Comment)
	default:
		fmt.Printf("%s is paid, from %s\n", expense.Money(paid.Cents), paid.Account)
	}
}

func run(ctx context.Context, cfg expense.Config, file, listen, id string, linger time.Duration, in expense.Expense) (paid expense.Paid, err error) {
	l, err := demo.Listen(listen)
	if err != nil {
		return paid, err
	}
	defer l.Close() // closed already if it has been served on
	secret, err := secretOf(file + ".key")
	if err != nil {
		return paid, err
	}
	store, err := sqlite.Open(file, nil)
	if err != nil {
		return paid, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	cfg.BaseURL = "http://" + l.Addr().String()
	w := expense.New(cfg)
	e := pawl.New(store, &pawl.Options{Secret: secret, Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err := e.Register(w); err != nil {
		return paid, err
	}
	working, stop := context.WithCancel(context.Background())
	worked, served := make(chan error, 1), make(chan error, 1)
	go func() { worked <- e.Run(working) }()
	go func() { served <- api.Serve(working, l, api.New(e, api.Options{}), 5*time.Second) }()
	defer func() { stop(); err = errors.Join(err, <-worked, <-served) }()

	run, err := w.Start(ctx, e, in, pawl.ID(id), pawl.Attributes(map[string]any{expense.Starter: in.Employee}))
	if err != nil {
		return paid, err
	}
	if run.Existed() {
		fmt.Fprintf(os.Stderr, "%s goes on\n", id)
		if err := again(ctx, e, cfg, id); err != nil {
			return paid, err
		}
	}
	was, err := e.Get(ctx, pawl.Ref{ID: id})
	if err != nil {
		return paid, err
	}
	paid, err = run.Result(ctx)
	if err != nil || was.State.Terminal() || linger <= 0 {
		return paid, err
	}
	fmt.Fprintf(os.Stderr, "it is decided; links say so for %s more\n", linger)
	select {
	case <-time.After(linger):
	case <-ctx.Done():
	}
	return paid, err
}

// again shows the links that were sent before.
func again(ctx context.Context, e *pawl.Engine, cfg expense.Config, id string) error {
	list, err := approval.List(ctx, e, approval.Filter{Run: id})
	if err != nil {
		return err
	}
	for _, a := range list.Items {
		for _, name := range a.Deciders(time.Now()) {
			url, err := approval.Links{Engine: e, BaseURL: cfg.BaseURL}.For(a, name)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "%s decides at %s\n", name, url)
		}
	}
	return nil
}

// mail plays a mail server: what it is given it writes to the terminal.
func mail(_ context.Context, n approval.Notice) error {
	switch a := n.Approval; n.What {
	case approval.WasDecided:
		fmt.Fprintf(os.Stderr, "%s: decided by %s\n", a.Title, a.Decision.By)
	case approval.HasExpired:
		fmt.Fprintf(os.Stderr, "%s: nobody decided\n", a.Title)
	default:
		fmt.Fprintf(os.Stderr, "%s (%s)\n", a.Title, n.What)
		for _, l := range n.Links {
			fmt.Fprintf(os.Stderr, "%s decides at %s\n", l.Approver, l.URL)
		}
	}
	return nil
}

// pay plays the bank. A real one takes the key, so that it pays once.
func pay(_ context.Context, key string, cents int, account string) error {
	fmt.Fprintf(os.Stderr, "bank: %s from %s, under the key %s\n", expense.Money(cents), account, key)
	return nil
}

// secretOf reads the key that signs links, and makes it the first time.
func secretOf(file string) ([]byte, error) {
	secret, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		secret = []byte(rand.Text() + rand.Text())
		err = os.WriteFile(file, secret, 0o600)
	}
	return secret, err
}
