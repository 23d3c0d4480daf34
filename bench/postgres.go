package main

import (
	"errors"

	"github.com/pawlrun/pawl"
)

func openPostgres(url string) (pawl.Store, error) {
	return nil, errors.New("postgres: not wired yet")
}
