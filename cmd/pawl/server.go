package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/flow/draft"
	"github.com/pawlrun/pawl/telemetry"
	"github.com/pawlrun/pawl/trigger"
	"github.com/pawlrun/pawl/trigger/dbchange"
)

// drain is how long steps under way and requests may take after the first signal.
const drain = 10 * time.Second

// server is an API on an engine, as dev and serve run it.
type server struct {
	engine *pawl.Engine
	flows  *flow.Registry
	drafts *draft.Drafts
	works  bool // the engine takes runs, and schedules are fired; otherwise it is a client of the store
	l      net.Listener
	api    api.Options
	drain  time.Duration
	log    *slog.Logger
	serve  []api.ServeOption

	slack http.Handler // of the buttons of approvals; nil: there is no signing secret

	watched *watchedDatabases // whose changes start runs
}

// work runs the engine, what starts runs by the clock, and the server until ctx ends or one of them fails, and
// returns when all have ended.
func (a *app) work(ctx context.Context, s server) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(ctx, func() {
		a.note("stopping: steps under way have %s to finish; Ctrl-C again stops at once", s.drain)
	})()
	s.api.Version, s.api.Logger = versionsOf().Version, s.log
	s.api.Ready = func(context.Context) error { return ctx.Err() }
	s.api.Flows, s.api.Drafts = s.flows, s.drafts
	handler := api.New(s.engine, s.api)
	if s.slack != nil {
		all := handler
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == api.SlackPath {
				s.slack.ServeHTTP(w, r)
				return
			}
			all.ServeHTTP(w, r)
		})
	}
	var parts sync.WaitGroup
	var failed [5]error
	part := func(i int, what string, work func() error) {
		parts.Go(func() {
			defer stop() // one without the other is of no use
			err := work()
			if err == nil && ctx.Err() == nil {
				err = errors.New("it ended for no reason")
			}
			if err != nil {
				failed[i] = fmt.Errorf("%s: %w", what, err)
			}
		})
	}
	if s.works {
		part(0, "the engine", func() error { return s.engine.Run(ctx) })
		runner := &trigger.Runner{Engine: s.engine, Logger: s.log}
		part(2, "the schedules", func() error { return runner.Run(ctx) })
		changes := &dbchange.Runner{Engine: s.engine, Connect: s.watched.connect, Logger: s.log}
		part(3, "the database triggers", func() error { return changes.Run(ctx) })
	}
	part(4, "the flows", func() error { return s.flows.Watch(ctx) })
	part(1, "the server", func() error { return api.Serve(ctx, s.l, handler, s.drain, s.serve...) })
	parts.Wait()
	return errors.Join(failed[:]...)
}

// bind listens on an address.
func (a *app) bind(address, command string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &exitError{exitFailure, fmt.Errorf("%s is in use, perhaps by another pawl server", address),
			[]string{"see whether it answers: " + a.self + " health --server http://" + address, "or serve elsewhere: " + a.self + " " + command + " --listen 127.0.0.1:0"}}
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return l, nil
}

// chronicle tells the log how runs begin and end, and the metrics all.
type chronicle struct {
	*telemetry.Metrics
	log *slog.Logger
}

func (c *chronicle) RunStarted(run pawl.RunInfo) {
	c.Metrics.RunStarted(run)
	c.log.Info("run started", "run", run.ID, "workflow", run.Workflow)
}

func (c *chronicle) RunEnded(run pawl.RunInfo, end *pawl.Entry) {
	c.Metrics.RunEnded(run, end)
	args := []any{"run", run.ID, "workflow", run.Workflow, "took", took(run.Ended.Sub(run.Created))}
	if run.State == pawl.Completed {
		c.log.Info("run completed", args...)
		return
	}
	c.log.Warn("run "+run.State.String(), append(args, "reason", run.Reason)...)
}

func (c *chronicle) StepEnded(run pawl.RunInfo, key string, attempt int, d time.Duration, err error) {
	c.Metrics.StepEnded(run, key, attempt, d, err)
	if err != nil {
		c.log.Warn("step failed", "run", run.ID, "step", key, "attempt", attempt, "took", took(d), "error", err)
	}
}
