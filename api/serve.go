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

// ServeOption is a setting of [Serve].
type ServeOption func(*serving)

type serving struct{ waiting int }

// MaxWaiting bounds how many connections one address may have open that are in no request: idle
// ones, and those that have not sent the whole head of one. One more closes the one that has
// waited for longest, if it has for a second, or if there are eight times as many: connections may
// come in a burst. The default is 512. It must be at least as many as a proxy in front of
// the server keeps idle.
func MaxWaiting(n int) ServeOption { return func(s *serving) { s.waiting = max(n, 1) } }

// Serve answers requests on l with h until ctx ends. Then it takes no new connections,
// ends live views and waits, whose readers know where to go on, lets other requests finish
// for at most drain, and returns nil. It closes l. An error means that l broke.
//
// The head of a request must be there within 5 s and have no more than 16 KiB; a connection
// may be idle for 2 min.
func Serve(ctx context.Context, l net.Listener, h http.Handler, drain time.Duration, opts ...ServeOption) error {
	set := serving{waiting: 512}
	for _, o := range opts {
		o(&set)
	}
	stop, shutdown := context.WithCancel(context.WithoutCancel(ctx))
	defer shutdown()
	crowd := newCrowd(set.waiting)
	srv := &http.Server{
		Handler:           crowd.around(h),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16<<10 - 4<<10, // net/http adds 4 KiB of its own
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.WithoutCancel(ctx), stoppingKey{}, stop)
		},
		ConnContext: crowd.enter,
		ConnState:   crowd.left,
		ErrorLog:    slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
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
