package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"
)

// certificate is a pair of files that may be replaced while the server runs.
type certificate struct {
	cert, key string
	log       *slog.Logger

	mu      sync.Mutex
	now     *tls.Certificate
	changed time.Time // of the newer file, when it was read
	looked  time.Time
}

// lookEvery is how often it is looked whether the files have changed.
const lookEvery = time.Second

// withTLS returns what makes a listener speak TLS with the certificate in two files, which
// are read anew when they change. A new pair that can't be read is told of in the log, and the
// old one goes on.
func withTLS(cert, key string, log *slog.Logger) (func(net.Listener) net.Listener, error) {
	c := &certificate{cert: cert, key: key, log: log}
	if err := c.read(); err != nil {
		return nil, err
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get(), nil },
	}
	return func(l net.Listener) net.Listener { return tls.NewListener(l, config) }, nil
}

func (c *certificate) get() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) >= lookEvery {
		c.looked = time.Now()
		if at, err := c.time(); err != nil || !at.Equal(c.changed) {
			if err = c.read(); err != nil {
				c.log.Error("the new TLS certificate can't be read, the old one goes on", "error", err)
			} else {
				c.log.Info("TLS certificate read anew", "file", c.cert)
			}
		}
	}
	return c.now
}

// time is when the newer of the files was changed.
func (c *certificate) time() (newer time.Time, err error) {
	for _, file := range []string{c.cert, c.key} {
		info, err := os.Stat(file)
		if err != nil {
			return newer, err
		}
		if info.ModTime().After(newer) {
			newer = info.ModTime()
		}
	}
	return newer, nil
}

func (c *certificate) read() error {
	at, err := c.time() // before: what changes while it is read is read again
	if err != nil {
		return fmt.Errorf("the TLS certificate: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("the TLS certificate %s with the key %s: %w", c.cert, c.key, err)
	}
	c.now, c.changed = &pair, at
	return nil
}
