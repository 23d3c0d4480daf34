package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

type stoppingKey struct{}

// stopping is the context that ends when the server that called the handler shuts down:
// live views and waits end then, all else is let finish.
func stopping(ctx context.Context) context.Context {
	if s, ok := ctx.Value(stoppingKey{}).(context.Context); ok {
		return s
	}
	return context.Background()
}

// Serve answers requests on l with h until ctx ends. Then it takes no new connections,
// ends live views and waits, whose readers know where to go on, lets other requests finish
// for at most drain, and returns nil. It closes l. An error means that l broke.
func Serve(ctx context.Context, l net.Listener, h http.Handler, drain time.Duration) error {
	stop, shutdown := context.WithCancel(context.WithoutCancel(ctx))
	defer shutdown()
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.WithoutCancel(ctx), stoppingKey{}, stop)
		},
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	shutdown()
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := srv.Shutdown(limit); err != nil {
		_ = srv.Close() // the time is over
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
