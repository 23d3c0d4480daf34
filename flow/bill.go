package flow

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/pawlrun/pawl"
)

// beneath is what a step with branches, or items, learns of the steps in them beside what those bring.
type beneath struct {
	lost  atomic.Bool // one has ended its branch, and has told nobody what it cost
	guess atomic.Bool // what one has cost is not known
}

// lose tells the step around a scope that a step has ended it.
func (s *scope) lose() {
	if s.of != nil {
		s.of.lost.Store(true)
	}
}

// spends reports whether a step, or one in it, asks models.
func (s *step) spends() bool {
	in := func(g graph) bool {
		for _, s := range g.steps {
			if s.spends() {
				return true
			}
		}
		return false
	}
	switch w := s.work.(type) {
	case *decision, *agentWork:
		return true
	case *parallel:
		for _, b := range w.branches {
			if in(b.graph) {
				return true
			}
		}
	case *each:
		return in(w.graph)
	}
	return false
}

// bill finds out what a step has cost that did not bring all that it paid for: the ledger knows it. That is kept as a step of its
// own, so that a replay sees the same.
func (x *run) bill(c *pawl.Context, s *step, key string, in *scope, r *result) error {
	if !s.spends() {
		return nil
	}
	f, before := pawl.ChargeFilter{Meter: pawl.USD}, int64(0)
	switch s.work.(type) {
	case *decision:
		f.Step = key
	case *agentWork:
		f.Under = key
	default: // its branches are many; all that its graph has cost is known but for this
		f.Under, _ = cutKey(c.Key(s.id))
		before = in.cost - in.base
	}
	sum, err := pawl.Step(c, s.id+":cost", func(ctx context.Context) (sum Counted, err error) {
		info := pawl.InfoOf(ctx)
		f.Tenant, f.RunID = info.Tenant, info.RunID
		sums, err := pawl.EngineOf(ctx).Costs(ctx, pawl.CostFilter{ChargeFilter: f})
		if err != nil {
			return sum, fmt.Errorf("what step %s has cost: %w", s.id, err)
		}
		for _, one := range sums { // there is one, or none
			one.Amount -= one.Open // of what a crash has cut off nobody knows what it cost
			sum = countedOf(&one)
		}
		return sum, nil
	})
	if err != nil {
		return err
	}
	r.cost = max(r.cost, sum.CountedMicroUSD-before) // the ledger of a fork begins anew
	r.guess = r.guess || sum.AssumedMicroUSD > 0
	return nil
}
