package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/trigger"
)

func sinkID(i int) string { return fmt.Sprintf("sink-%d", i) }

// sink takes what comes to its webhook, which its attribute names, until it is told to stop.
var sink = pawl.Define("sink", func(c *pawl.Context, _ any) (int, error) {
	w, err := pawl.NewWebhook(c, pawl.Signed("hmac", "bench"), pawl.Dedupe(deliveryHeader))
	if err != nil {
		return 0, err
	}
	if err := c.SetAttributes(map[string]any{"url": w.URL()}); err != nil {
		return 0, err
	}
	n := 0
	for req, err := range w.All(c) {
		if err != nil {
			return n, err
		}
		if string(req.Body) == "stop" {
			break
		}
		n++
	}
	return n, nil
})

// serve is the process under load. It ends when it is killed.
func serve(ctx context.Context, where, address string) error {
	store, err := openStore(ctx, where)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	e := pawl.New(store, &pawl.Options{Logger: log, PublicURL: "http://" + address, Lease: 2 * time.Second, Secret: []byte(strings.Repeat("s", 32))})
	if err := e.Register(sink); err != nil {
		return err
	}
	for i := range *sinks {
		if _, err := sink.Start(ctx, e, nil, pawl.ID(sinkID(i))); err != nil {
			return err
		}
	}
	verifier, err := trigger.NewVerifier(trigger.SignatureOptions{Scheme: trigger.HMAC, Header: signatureHeader, Secrets: []string{secret}})
	if err != nil {
		return err
	}
	unlimited := api.Rate{PerSecond: 1e9, Burst: 1e9} // all deliveries come from one address
	handler := api.New(e, api.Options{
		Logger: log, PublicURL: "http://" + address, WebhookRate: unlimited, ClientRate: unlimited,
		Verify: func(_, _ string, header http.Header, body []byte, now time.Time) (string, error) {
			signed, err := verifier.Verify(header, body, now)
			return signed.ID, err
		},
	})
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	worked := make(chan error, 1)
	go func() { worked <- e.Run(ctx) }()
	return errors.Join(api.Serve(ctx, l, handler, time.Second), <-worked)
}

// openStore opens a store; a process that was killed may hold an SQLite file for a moment.
func openStore(ctx context.Context, where string) (pawl.Store, error) {
	if strings.HasPrefix(where, "postgres") {
		return postgres.Open(ctx, where, nil)
	}
	for begun := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		store, err := sqlite.Open(where, nil)
		if !errors.Is(err, pawl.ErrLocked) || time.Since(begun) > 10*time.Second {
			return store, err
		}
	}
}

// beSlow opens sockets that send a header byte by byte and never come to its end. One that
// the server closes is opened again. It says when all are there.
func beSlow(ctx context.Context, address string, n int) error {
	opened := make(chan struct{}, n)
	for range n {
		go func() {
			for first := true; ctx.Err() == nil; {
				c, err := net.Dial("tcp", address)
				if err != nil {
					time.Sleep(100 * time.Millisecond)
					continue
				}
				_, err = io.WriteString(c, "POST /api/runs HTTP/1.1\r\nHost: "+address+"\r\nX-Slow: ")
				if first {
					opened <- struct{}{}
					first = false
				}
				for err == nil {
					time.Sleep(5 * time.Second)
					_, err = io.WriteString(c, "a")
				}
				c.Close()
			}
		}()
	}
	for range n {
		<-opened
	}
	fmt.Println("all are there")
	<-ctx.Done()
	return nil
}
