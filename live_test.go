package pawl

import "testing"

// A run ends at the moment at which the engine stops: it is asked to stop, and let go, in any
// order and more than once.
func TestARunThatEndsAsItIsAskedToStop(t *testing.T) {
	ask, let := func(r *live) { <-r.stopAtRest() }, func(r *live) { r.kill() }
	for name, deeds := range map[string][]func(*live){
		"it ended before it was asked":    {let, ask, let},
		"it was let go twice":             {let, let, ask, ask},
		"it was asked, and let go, twice": {let, ask, let, ask, let},
	} {
		t.Run(name, func(t *testing.T) {
			r := newLive(New(nil, nil), nil, RunInfo{})
			for _, do := range deeds {
				do(r)
			}
		})
	}
}
