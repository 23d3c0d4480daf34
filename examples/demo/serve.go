package demo

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// drain is how long steps and requests under way may take after the first signal.
const drain = 10 * time.Second

// UntilSignal returns a context that ends with the first Ctrl-C or SIGTERM. The second ends the
// process, and that is no harm either.
func UntilSignal() (ctx context.Context, stop func()) {
	ctx, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() {
		stop()
		fmt.Fprintf(os.Stderr, "stopping: what is under way has %s to finish\n", drain)
	})
	return ctx, stop
}

// Server is an example that serves on one address, from one store.
type Server struct {
	Listen      string        // an address, such as 127.0.0.1:8421
	Store       string        // a file or a postgres:// URL
	Lease       time.Duration // how long a process that was killed keeps its runs from others; 0 means 10 s
	PublicURL   string        // where others reach it; "" means where it listens
	Secret      []byte        // what tokens of hooks are derived of; nil means what [Secret] finds
	Definitions []pawl.Definition
	// Handler makes what answers requests. The engine does not work yet, and may be used to start
	// runs. ctx ends when the server is to stop; at is where it listens, as a URL.
	Handler func(ctx context.Context, e *pawl.Engine, at string) (http.Handler, error)
}

// Flags defines the flags that all servers have: where it listens, which store holds what it keeps,
// which is also read from the variable env, and how long a killed process keeps its runs.
func (s *Server) Flags(listen, what, env, store string) {
	flag.StringVar(&s.Listen, "listen", listen, "the address to serve on")
	flag.StringVar(&s.Store, "store", cmp.Or(os.Getenv(env), store), "what holds the "+what+": a file, or a postgres:// URL; also "+env)
	flag.DurationVar(&s.Lease, "lease", 10*time.Second, "how long a process that was killed keeps its runs from the others of a database; those of a file are taken over at once")
}

// Main is Run until the first Ctrl-C or SIGTERM. It ends the process with code 1 if that fails.
func (s Server) Main() {
	ctx, stop := UntilSignal()
	defer stop()
	if err := s.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Refused says what is wrong with the command line, and ends the process with code 2.
func Refused(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(2)
}

// Listen listens on an address. If another program has it, the error says what to do.
func Listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use, perhaps by another example: end that, or serve elsewhere, as with -listen 127.0.0.1:0, which takes a free port: %w", address, err)
	}
	return l, err
}

// Run serves and works until ctx ends. Then what is under way has 10 s to finish.
func (s Server) Run(ctx context.Context) (err error) {
	l, err := Listen(s.Listen)
	if err != nil {
		return err
	}
	defer l.Close() // closed already if it has been served on
	store, err := Open(ctx, s.Store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if s.Secret == nil {
		if s.Secret, err = Secret(s.Store, os.Getenv); err != nil {
			return err
		}
	}
	at := "http://" + l.Addr().String()
	e := pawl.New(store, &pawl.Options{Logger: slog.Default(), Drain: drain, Lease: s.Lease, PublicURL: cmp.Or(s.PublicURL, at), Secret: s.Secret})
	if err := e.Register(s.Definitions...); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	handler, err := s.Handler(ctx, e, at)
	if err != nil {
		return errors.Join(err, e.Close())
	}
	worked := make(chan error, 1)
	go func() {
		defer stop() // one without the other is of no use
		worked <- e.Run(ctx)
	}()
	served := api.Serve(ctx, l, handler, drain)
	stop()
	return errors.Join(served, <-worked, e.Close())
}
