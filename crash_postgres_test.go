package pawl_test

import (
	"errors"

	"github.com/pawlrun/pawl"
)

func openPostgresStore(url string) (pawl.Store, error) {
	return nil, errors.New("not yet")
}
