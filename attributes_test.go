package pawl_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// TestAttributesAreText: in both stores, and before anything is stored.
func TestAttributesAreText(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		for what, name := range map[string]string{"NUL": "a\x00b", "no UTF-8": "a\xff"} {
			w := pawl.Define("names", func(c *pawl.Context, _ none) (bool, error) {
				return errors.Is(c.SetAttributes(attrs{name: "v"}), pawl.ErrInput), nil
			})
			n := boot(t, open(), nil, w)
			if _, err := w.Start(n.ctx, n.Engine, none{}, pawl.Attributes(attrs{name: "v"})); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("%s at the start: %v, want ErrInput", what, err)
			}
			refused, err := pawl.Attach[bool](n.Engine, start(n, w, none{}).ID()).Result(n.ctx)
			if !refused || err != nil {
				t.Errorf("%s in the workflow: refused %v, %v", what, refused, err)
			}
			n.stop()
		}
	})
}

// TestABodySetsAttributes: they are there while the step is under way, stay when it fails,
// and do not hinder a replay. A fork before the step has none of them.
func TestABodySetsAttributes(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		w := pawl.Define("painter", func(c *pawl.Context, _ none) (string, error) {
			if err := c.SetAttributes(attrs{"phase": "begun"}); err != nil {
				return "", err
			}
			err := pawl.Do(c, "paint", func(ctx context.Context) error {
				if err := pawl.SetAttributes(ctx, attrs{"phase": "painting", "coats": pawl.InfoOf(ctx).Attempt}); err != nil {
					return err
				}
				if pawl.InfoOf(ctx).Attempt == 1 {
					return errors.New("it ran dry")
				}
				return g.pass(ctx)
			}, pawl.Backoff(time.Millisecond, time.Millisecond))
			if err != nil {
				return "", err
			}
			return pawl.WaitFor[string](c, "go")
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		g.wait(t)
		equal(t, "attributes during the second attempt", n.info(r.ID()).Attrs, map[string]string{"phase": "painting", "coats": "2"})
		g.open()
		n.reaches(r.ID(), pawl.Waiting)
		n.signal(r.ID(), "go", "on")
		equal(t, "result", result(n, r), "on")
		noTrouble(n, []string{r.ID()})
		n.stop()
		outside := client(t, open(), nil, w) // nobody works the forks
		for from, want := range map[string]map[string]string{"paint": {"phase": "begun"}, "$event:go": {"phase": "painting", "coats": "2"}, "$attributes": nil} {
			fork, err := outside.Fork(outside.ctx, pawl.Ref{ID: r.ID()}, pawl.ForkOptions{From: from})
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "attributes of a fork at "+from, outside.info(fork.ID).Attrs, want)
			if got := len(outside.journal(fork.ID, pawl.KindAttempt)); (got == 0) != (from != "$event:go") {
				t.Errorf("a fork at %s has %d failed attempts of the step", from, got)
			}
		}
	})
}

// TestAttributesOfABodyNeedItsContext, and their limits are those of the run.
func TestAttributesOfABodyNeedItsContext(t *testing.T) {
	is(t, pawl.SetAttributes(context.Background(), attrs{"a": 1}), pawl.ErrMisuse)
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("greedy", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "step", func(ctx context.Context) error {
				is(t, pawl.SetAttributes(ctx, attrs{"$own": 1}), pawl.ErrInput)
				for i := range 200 {
					if err := pawl.SetAttributes(ctx, attrs{fmt.Sprint("a", i): i}); err != nil {
						is(t, err, pawl.ErrTooLarge)
						return nil
					}
				}
				t.Error("200 attributes were accepted")
				return nil
			})
		})
		n := boot(t, open(), nil, w)
		result(n, start(n, w, none{}))
	})
}
