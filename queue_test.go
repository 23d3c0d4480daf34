package pawl_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/pawlrun/pawl"
)

// heldClaims is a store whose claims wait while they are held.
type heldClaims struct {
	pawl.Store
	mu sync.Mutex
}

func (s *heldClaims) Claim(ctx context.Context, r pawl.ClaimRequest) (pawl.Claims, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Store.Claim(ctx, r)
}

// TestAStartDoesNotJumpTheQueue: a run that is started when a place has just become free goes
// behind those that wait for it, and would else be granted it with its start.
func TestAStartDoesNotJumpTheQueue(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var order []int
		g := newGate()
		w := pawl.Define("queued", func(c *pawl.Context, n int) (int, error) {
			return pawl.Step(c, "note", func(ctx context.Context) (int, error) {
				order = append(order, n) // one at a time
				if n == 0 {
					return n, g.pass(ctx)
				}
				return n, nil
			})
		})
		store := &heldClaims{Store: open()}
		n := boot(t, store, &pawl.Options{MaxRunning: 1}, w)
		first := start(n, w, 0)
		g.wait(t)
		waiting := start(n, w, 1)
		store.mu.Lock()
		g.open()
		result(n, first)
		late := start(n, w, 2)
		store.mu.Unlock()
		equal(t, "results", []int{result(n, waiting), result(n, late)}, []int{1, 2})
		if !slices.Equal(order, []int{0, 1, 2}) {
			t.Errorf("they ran in the order %v", order)
		}
	})
}
