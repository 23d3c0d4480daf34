package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pawlrun/pawl"
)

// mutate breaks a store on purpose: the crash tests must notice.
func mutate(name string, s pawl.Store) pawl.Store {
	switch name {
	case "":
		return s
	case "settles are lost":
		return &careless{Store: s}
	case "ack before commit":
		return &ackFirst{Store: s}
	}
	panic("no mutant is called " + name)
}

// careless loses what every tenth call has cost.
type careless struct{ pawl.Store }

func (c *careless) Commit(ctx context.Context, b *pawl.Batch) error {
	for _, ch := range b.Changes {
		ch.Settles = slices.DeleteFunc(ch.Settles, func(s *pawl.Settle) bool { return s.Charge%10 == 0 })
	}
	return c.Store.Commit(ctx, b)
}

// ackFirst says that what is appended to a journal is durable a while before it is.
type ackFirst struct {
	pawl.Store
	mu    sync.Mutex
	later []*pawl.Batch
	since time.Time
}

func (a *ackFirst) Commit(ctx context.Context, b *pawl.Batch) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	plain := len(b.Starts)+len(b.Sends)+len(b.Orders)+len(b.Budgets)+len(b.Settles)+len(b.Writes) == 0
	for _, ch := range b.Changes {
		plain = plain && ch.To == nil && len(ch.Reserves)+len(ch.Hooks)+len(ch.Children)+len(ch.Waits)+len(ch.Consumed) == 0
	}
	if !plain || len(a.later) > 0 && time.Since(a.since) > 100*time.Millisecond {
		for _, held := range a.later {
			if err := a.Store.Commit(ctx, held); err != nil {
				return err
			}
		}
		a.later = nil
	}
	if !plain {
		return a.Store.Commit(ctx, b)
	}
	if len(a.later) == 0 {
		a.since = time.Now()
	}
	held := &pawl.Batch{Worker: b.Worker, Now: b.Now}
	for _, ch := range b.Changes {
		c := *ch
		c.Entries, c.Chunks, c.Settles = slices.Clone(ch.Entries), slices.Clone(ch.Chunks), slices.Clone(ch.Settles)
		held.Changes = append(held.Changes, &c)
	}
	a.later = append(a.later, held)
	return nil
}
