package pawl

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// TallyFilter says which runs to count.
type TallyFilter struct {
	Tenant   string // "" is the default tenant
	Workflow string
	From, To time.Time // created at or after, before; zero: whenever
	Most     int       // how many of the workflow's runs are looked at, the newest; 0 means 100,000, which is the most
}

// Tally is how the runs of a workflow have come out, as far as they are kept: see [Retention].
type Tally struct {
	Counts []RunCount `json:"counts"` // in no order
	// Took is how long the completed ones took, from their making to their end.
	Took Spread `json:"took"`
	// Since is the zero time, or there are runs that were not looked at: those made before it.
	Since time.Time `json:"since,omitzero"`
}

// RunCount counts runs of a version that are in a state.
type RunCount struct {
	Version string `json:"version"`
	State   State  `json:"state"`
	Runs    int64  `json:"runs"`
}

// Spread tells how durations are spread. That of nothing is zero. A percentile is the least of them
// that so many are not above.
type Spread struct {
	Of   int64         `json:"of"` // how many
	Mean time.Duration `json:"mean"`
	P50  time.Duration `json:"p50"`
	P95  time.Duration `json:"p95"`
	P99  time.Duration `json:"p99"`
}

// maxTally is how many runs are looked at.
const maxTally = 100_000

// Tally counts the runs of a workflow, by version and state. What it costs grows with the number of runs that
// it looks at, of which the store returns sums only. A workflow that nobody knows has no runs. ErrInput.
func (e *Engine) Tally(ctx context.Context, f TallyFilter) (Tally, error) {
	if f.Workflow == "" {
		return Tally{}, fmt.Errorf("%w: tally: name the workflow whose runs are counted", ErrInput)
	}
	f.Most = min(cmp.Or(max(f.Most, 0), maxTally), maxTally)
	return e.store.Tally(ctx, f)
}
