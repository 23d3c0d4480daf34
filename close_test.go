package pawl_test

import (
	"context"
	"errors"
	"testing"

	"github.com/pawlrun/pawl"
)

// TestAHookIsClosedInACancelledScope: a wait that has lost a race gives its token back.
func TestAHookIsClosedInACancelledScope(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("racer", func(c *pawl.Context, _ none) (none, error) {
			waits := func(c *pawl.Context) (none, error) {
				h, err := pawl.NewHook[none](c, pawl.Token("racer/door"))
				if err != nil {
					return none{}, err
				}
				_, err = h.Wait(c)
				return none{}, errors.Join(err, h.Close(c), h.Close(c))
			}
			f := pawl.Go(c, "waits", waits)
			first := pawl.Go(c, "first", func(c *pawl.Context) (none, error) { return pawl.WaitFor[none](c, "first") })
			if _, err := pawl.Race(c, f, first); err != nil {
				return none{}, err
			}
			if _, err := f.Wait(c); !errors.Is(err, pawl.ErrCancelled) {
				return none{}, errors.Join(err, errors.New("the loser was not cancelled"))
			}
			if err := pawl.Do(c, "after", func(context.Context) error { return nil }); err != nil {
				return none{}, err
			}
			return pawl.WaitFor[none](c, "go")
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		n.hook("racer/door")
		n.signal(r.ID(), "first", none{})
		n.sees(r.ID(), pawl.KindStep, "after")
		n.reaches(r.ID(), pawl.Waiting)
		if _, err := n.Resume(n.ctx, "racer/door", none{}); !errors.Is(err, pawl.ErrNotFound) && !errors.Is(err, pawl.ErrEnded) {
			t.Errorf("the door of the loser: %v", err)
		}
		equal(t, "closes", len(n.keys(r.ID(), pawl.KindHookClosed)), 1)
		n.signal(r.ID(), "go", none{})
		result(n, r)
		equal(t, "closes after a replay", len(n.keys(r.ID(), pawl.KindHookClosed)), 1)
	})
}
