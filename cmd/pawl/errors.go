package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// Exit codes. They are part of the interface: scripts branch on them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 5
	exitUnreachable = 7
	exitRunFailed   = 8
	exitInterrupted = 130
)

// exitError is an error that knows its exit code and what to do next.
type exitError struct {
	code int
	err  error
	next []string // commands or sentences, one a line
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func (a *app) usage(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...), next: []string{"see: " + a.self + " --help"}}
}

// explain adds to an error of a call about a run what to do next.
func (a *app) explain(err error, run string) error {
	var done *exitError
	if err == nil || errors.As(err, &done) {
		return err
	}
	show := a.hint("runs show %s", run)
	switch {
	case errors.Is(err, api.ErrUnreachable):
		return a.unreachable(err)
	case errors.Is(err, pawl.ErrUnknown):
		return &exitError{code: exitNotFound, err: err}
	case errors.Is(err, pawl.ErrNotFound):
		return &exitError{exitNotFound, err, []string{"see what is there: " + a.hint("runs list")}}
	case errors.Is(err, pawl.ErrConflict), errors.Is(err, pawl.ErrExists):
		return &exitError{exitConflict, err, []string{"see the run that has the id: " + show, "or start another one: leave --id out"}}
	case errors.Is(err, pawl.ErrEnded):
		return &exitError{exitConflict, err, []string{"see how it ended: " + show, "do it again: " + a.hint("runs fork %s", run)}}
	case errors.Is(err, pawl.ErrState):
		return &exitError{exitConflict, err, []string{"see what state it is in: " + show}}
	}
	var p *api.Problem
	if errors.As(err, &p) && p.Status == 409 {
		return &exitError{exitConflict, err, []string{"see: " + show}}
	}
	return err
}

func (a *app) unreachable(err error) error {
	return &exitError{exitUnreachable, err, []string{
		"start one, in another terminal: " + a.self + " dev",
		"or say where it is: --server http://host:port, or PAWL_SERVER",
	}}
}

// hint is a command line that can be pasted.
func (a *app) hint(format string, args ...any) string {
	for i, arg := range args {
		if s, ok := arg.(string); ok {
			args[i] = shellQuote(s)
		}
	}
	line := a.self + " " + fmt.Sprintf(format, args...)
	if a.server != "" && a.server != defaultServer && a.env("PAWL_SERVER") != a.server {
		line += " --server " + shellQuote(a.server)
	}
	return line
}

// report prints err, where there is one, and returns the exit code.
func (a *app) report(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	err = a.explain(err, "RUN")
	p := newPrinter(a.stderr, !a.noColor && a.env("NO_COLOR") == "")
	var e *exitError
	known := errors.As(err, &e)
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))) {
		p.line("interrupted")
		return exitInterrupted
	}
	if text := err.Error(); text != "" {
		p.line("%s%s", p.red("pawl: "), text)
	}
	if !known {
		return exitFailure
	}
	for _, line := range e.next {
		p.line("  %s", line)
	}
	return e.code
}
