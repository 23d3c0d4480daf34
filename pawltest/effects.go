package pawltest

import (
	"context"
	"sync"

	"github.com/pawlrun/pawl"
)

// Effects stands for the outside world: it counts what bodies of steps do to it, by the
// idempotency key that they hand over. Give it to [WithEffects]. The zero value works; it
// is safe for concurrent use, and may be a package variable that workflows use.
type Effects struct {
	mu   sync.Mutex
	all  []effect
	seen map[effect]int
}

type effect struct{ run, step, name string }

// Do takes note of an effect that has a name and, as its idempotency key, the StepID of the
// step whose body was given ctx. It tells whether the key is new to it: a world that heeds
// idempotency keys would act only then. Outside of a step it panics.
func (e *Effects) Do(ctx context.Context, name string) (first bool) {
	info := pawl.InfoOf(ctx)
	if info.StepID == "" {
		panic("pawltest: Effects.Do needs the context that a step's body was given")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.seen == nil {
		e.seen = map[effect]int{}
	}
	key := effect{info.RunID, info.Step, name}
	e.seen[key]++
	if e.seen[key] == 1 {
		e.all = append(e.all, key)
	}
	return e.seen[key] == 1
}

// Count tells how many different keys an effect was done with, in all runs.
func (e *Effects) Count(name string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, key := range e.all {
		if key.name == name {
			n++
		}
	}
	return n
}

// Calls tells how often Do was called for an effect, in all runs.
func (e *Effects) Calls(name string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for key, calls := range e.seen {
		if key.name == name {
			n += calls
		}
	}
	return n
}

func (e *Effects) list() []effect {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.all[:len(e.all):len(e.all)]
}
