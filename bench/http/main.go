// Command http puts pawl's HTTP server under the load of the internet: webhook deliveries
// with signatures and repeats while the server is killed, and sockets that never finish
// their request.
//
// The server is this program again, in a process of its own; the load shares its machine.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"github.com/pawlrun/pawl/storetest/pgtest"
)

var (
	storeFlag = flag.String("store", "sqlite", "sqlite, or postgres, for a server that is started for it")
	count     = flag.Int("n", 100_000, "webhooks: deliveries, a fifth of them repeats")
	conns     = flag.Int("conns", 64, "webhooks: connections")
	killEvery = flag.Duration("kill", 0, "webhooks: kill the server so often and start it again; 0: never")
	sinks     = flag.Int("sinks", 64, "webhooks: runs that the deliveries are for")
	sockets   = flag.Int("sockets", 10_000, "loris: sockets that never finish their request")
	rounds    = flag.Int("rounds", 3, "repetitions")
	serveOn   = flag.String("serve", "", "be the server, on this address")
	where     = flag.String("where", "", "with -serve: the store")
	lorisAt   = flag.String("loris", "", "be the slow sockets, at this address")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch {
	case *serveOn != "":
		err = serve(ctx, *where, *serveOn)
	case *lorisAt != "":
		err = beSlow(ctx, *lorisAt, *sockets)
	case flag.Arg(0) == "webhooks":
		err = measure(ctx, webhooks)
	case flag.Arg(0) == "loris":
		err = measure(ctx, loris)
	default:
		err = errors.New("say what to measure: webhooks or loris; -help lists the flags, which come first")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// measure repeats a measurement, each time on a store of its own.
func measure(ctx context.Context, what func(ctx context.Context, s *server) error) error {
	for range *rounds {
		err := func() (err error) {
			dir, err := os.MkdirTemp("", "pawl-bench-http")
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
			s := &server{store: filepath.Join(dir, "pawl.db")}
			if *storeFlag == "postgres" {
				own, err := pgtest.Start(pgtest.Options{Fsync: true})
				if err != nil {
					return err
				}
				defer own.Stop()
				if s.store, err = own.NewDatabase("bench"); err != nil {
					return err
				}
			}
			if s.address, err = freePort(); err != nil {
				return err
			}
			if err := s.start(); err != nil {
				return err
			}
			defer s.kill()
			return what(ctx, s)
		}()
		if err != nil {
			return err
		}
	}
	return nil
}

// server is the process under load.
type server struct {
	store   string
	address string

	mu    sync.Mutex
	cmd   *exec.Cmd
	says  *bytes.Buffer
	kills int
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (s *server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s.says = &bytes.Buffer{}
	s.cmd = exec.Command(self, "-serve", s.address, "-where", s.store, fmt.Sprintf("-sinks=%d", *sinks))
	s.cmd.Stderr = s.says
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", s.address)
		if err == nil {
			return c.Close()
		}
		if time.Since(begun) > 30*time.Second {
			return fmt.Errorf("the server does not come up: %s", s.says)
		}
	}
}

// kill ends the process as a power cut would, but for what the system keeps of its files.
func (s *server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait() // it says that it was killed
		s.cmd = nil
		s.kills++
	}
}
