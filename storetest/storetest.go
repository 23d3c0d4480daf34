// Package storetest holds every promise of [pawl.Store] as a test that each store runs, and
// [Faulty], a store that fails when it is told to.
//
// It speaks to a store through the interface only: it knows no table and no file, never
// sleeps, and never looks at the clock of the machine, as a store takes the time as an
// argument. What one store promises beyond the interface is tested where that store is.
package storetest

import (
	"testing"

	"github.com/pawlrun/pawl"
)

// Run tests a store. open makes one that is empty; each promise has one of its own, which
// is closed when the promise was tested.
func Run(t *testing.T, open func(t *testing.T) pawl.Store) {
	for _, theme := range themes {
		t.Run(theme.name, func(t *testing.T) {
			t.Parallel()
			for _, p := range theme.promises {
				t.Run(p.name, func(t *testing.T) {
					t.Parallel()
					s := open(t)
					t.Cleanup(func() {
						if err := s.Close(); err != nil {
							t.Errorf("close the store: %v", err)
						}
					})
					p.check(newDesk(t, s))
				})
			}
		})
	}
}

// promise is one sentence and how to find out whether a store keeps it.
type promise struct {
	name  string
	check func(d *desk)
}

var themes = []struct {
	name     string
	promises []promise
}{
	{"commits", commits},
	{"workers", workers},
	{"claims", claims},
	{"messages", messages},
	{"deliveries", deliveries},
	{"starts", starts},
	{"limits", limits},
	{"hooks", hooks},
	{"tokens", tokens},
	{"children", children},
	{"orders", orders},
	{"retries", retries},
	{"forks", forks},
	{"reads", reads},
	{"news", news},
	{"money", money},
	{"tallies", tallies},
	{"records", records},
	{"audits", audits},
}
