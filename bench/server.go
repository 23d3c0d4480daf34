package main

import (
	"context"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// own is a PostgreSQL of this program's own, with fsync on and otherwise the defaults of
// the server, stopped at its end.
var own *pgtest.Server

func startServer() (stop func() error, err error) {
	if strings.HasPrefix(*storeFlag, "postgres://") || strings.HasPrefix(*storeFlag, "postgresql://") {
		server = *storeFlag
		return func() error { return nil }, nil
	}
	if own, err = pgtest.Start(pgtest.Options{Fsync: true}); err != nil {
		return nil, err
	}
	server = own.URL()
	return own.Stop, nil
}

func newDatabase(name string) (string, error) {
	if own != nil {
		return own.NewDatabase(name)
	}
	ctx := context.Background()
	c, err := pgx.Connect(ctx, server)
	if err != nil {
		return "", err
	}
	defer c.Close(ctx)
	if _, err := c.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return "", err
	}
	u, err := url.Parse(server)
	if err != nil {
		return "", err
	}
	u.Path = "/" + name
	return u.String(), nil
}
