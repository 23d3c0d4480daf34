package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/sqlite"
)

// openStore opens the store that --store names: a file, or a database by its URL.
func (a *app) openStore(ctx context.Context, where string) (pawl.Store, error) {
	if strings.HasPrefix(where, "postgres://") || strings.HasPrefix(where, "postgresql://") {
		store, err := postgres.Open(ctx, where, nil)
		if err != nil {
			return nil, fmt.Errorf("the store %s: %w", shownURL(where), err)
		}
		return store, nil
	}
	if where == "" || strings.Contains(where, "://") {
		return nil, a.usage("--store %q is neither a file nor a postgres:// URL", shownURL(where))
	}
	store, err := sqlite.Open(where, nil)
	if errors.Is(err, pawl.ErrLocked) {
		return nil, &exitError{exitFailure, err, []string{
			"if that is a pawl server, use it: " + a.hint("runs list"),
			"or take another file: --store other.db",
		}}
	}
	if err != nil {
		return nil, fmt.Errorf("the store: %w", err)
	}
	return store, nil
}

// shownURL is an address without its secrets: the password, and the query, which may hold
// one too. A path of a file stays as it is.
func shownURL(where string) string {
	scheme, _, ok := strings.Cut(where, "://")
	if !ok {
		return where
	}
	u, err := url.Parse(where)
	if err != nil {
		return scheme + "://…"
	}
	u.RawQuery = ""
	return u.Redacted()
}
