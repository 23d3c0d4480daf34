package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

// Exit codes. They are part of the interface: scripts branch on them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitAuth        = 4
	exitConflict    = 5
	exitUnreachable = 7
	exitRunFailed   = 8
	exitTimeout     = 124
	exitInterrupted = 130
)

// errTimeout ends a command whose --timeout is over.
var errTimeout = errors.New("the --timeout is over")

// exitError is an error that knows its exit code and what to do next.
type exitError struct {
	code int
	err  error
	next []string // commands or sentences, one a line
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func (a *app) usage(format string, args ...any) error {
	help := a.self + strings.TrimPrefix(a.command, "pawl") + " --help"
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...), next: []string{"see: " + help}}
}

// explain adds to an error of a call about a run what to do next.
func (a *app) explain(err error, run string) error {
	var done *exitError
	if err == nil || errors.As(err, &done) {
		return err
	}
	show := a.hint("runs show %s", run)
	var p *api.Problem
	known := errors.As(err, &p)
	switch {
	case errors.Is(err, api.ErrUnreachable):
		return a.unreachable(err)
	case known && p.Status == http.StatusUnauthorized:
		return &exitError{exitAuth, err, a.whereKeys()}
	case known && p.Code == "approval_not_allowed": // no key helps: it is for others to decide
		return &exitError{exitAuth, err, []string{"on a server without keys, say with --by which of them decides; else they do, by their link or their key"}}
	case known && p.Status == http.StatusForbidden:
		return &exitError{exitAuth, err, []string{"see what your key may do, and whose it is: " + a.hint("context show"), "or ask for a key with that scope"}}
	case errors.Is(err, pawl.ErrUnknown):
		return &exitError{exitNotFound, err, []string{"see what can be started: " + a.hint("workflows list"),
			"a workflow of your own program is started in it, or at the API that it embeds: --server URL"}}
	case errors.Is(err, pawl.ErrNotFound):
		return &exitError{exitNotFound, err, []string{"see what is there: " + a.hint("runs list")}}
	case errors.Is(err, pawl.ErrConflict), errors.Is(err, pawl.ErrExists):
		return &exitError{exitConflict, err, []string{"see the run that has the id: " + show, "or start another one: leave --id out"}}
	case errors.Is(err, pawl.ErrEnded):
		return &exitError{exitConflict, err, []string{"see how it ended: " + show, "do it again: " + a.hint("runs fork %s", run)}}
	case errors.Is(err, pawl.ErrState):
		return &exitError{exitConflict, err, []string{"see what state it is in: " + show}}
	case known && (p.Status == http.StatusBadRequest || p.Status == http.StatusUnprocessableEntity || p.Status == http.StatusRequestEntityTooLarge):
		return a.usage("%w", err)
	case known && (p.Status == http.StatusConflict || p.Status == http.StatusPreconditionFailed):
		return &exitError{exitConflict, err, []string{"see: " + show}}
	}
	return err
}

func (a *app) unreachable(err error) error {
	return &exitError{exitUnreachable, err, []string{
		"start one, in another terminal: " + a.self + " dev",
		"or say where it is: --server http://host:port, PAWL_SERVER, or a context: " + a.self + " context set NAME --server URL",
	}}
}

// whereKeys says how a key is given.
func (a *app) whereKeys() []string {
	return []string{
		"give a key: --api-key-file FILE, PAWL_API_KEY or PAWL_API_KEY_FILE",
		"or keep it in a context: " + a.self + " context set NAME --server " + shellQuote(a.server) + " --api-key-file FILE",
	}
}

// hint is a command line that can be pasted.
func (a *app) hint(format string, args ...any) string {
	for i, arg := range args {
		if s, ok := arg.(string); ok {
			args[i] = shellQuote(s)
		}
	}
	line := a.self + " " + fmt.Sprintf(format, args...)
	return line + a.where
}

// report prints err, where there is one, and returns the exit code.
func (a *app) report(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	p := a.printerOn(a.stderr)
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))) {
		p.line("interrupted")
		return exitInterrupted
	}
	if errors.Is(err, errTimeout) && !errors.As(err, new(*exitError)) {
		err = &exitError{exitTimeout, err, []string{"it may have been carried out all the same; look: " + a.hint("runs list")}}
	}
	err = a.explain(err, "RUN")
	var e *exitError
	known := errors.As(err, &e)
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
