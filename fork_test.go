package pawl_test

import (
	"context"
	"testing"

	"github.com/pawlrun/pawl"
)

// TestAForkHasTheAttributesOfItsPoint: those of the start, and those that were set before it.
func TestAForkHasTheAttributesOfItsPoint(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("coloured", func(c *pawl.Context, _ none) (string, error) {
			if _, err := pawl.WaitFor[none](c, "begin"); err != nil {
				return "", err
			}
			if err := c.SetAttributes(map[string]any{"phase": "one", "shade": 3, "passing": "yes"}); err != nil {
				return "", err
			}
			if err := c.SetAttributes(map[string]any{"passing": nil}); err != nil {
				return "", err
			}
			if err := pawl.Do(c, "middle", func(context.Context) error { return nil }); err != nil {
				return "", err
			}
			if _, err := pawl.WaitFor[none](c, "go"); err != nil {
				return "", err
			}
			return "", c.SetAttributes(map[string]any{"phase": "two", "late": true})
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{}, pawl.Attributes(map[string]any{"owner": "ada"}))
		n.signal(r.ID(), "begin", nil)
		n.signal(r.ID(), "go", nil)
		result(n, r)
		equal(t, "attributes at the end", n.info(r.ID()).Attrs, map[string]string{"owner": "ada", "phase": "two", "shade": "3", "late": "true"})
		fork, err := n.Fork(n.ctx, pawl.Ref{ID: r.ID()}, pawl.ForkOptions{From: "middle"})
		if err != nil {
			t.Fatal(err)
		}
		n.reaches(fork.ID, pawl.Waiting)
		equal(t, "attributes of the fork", n.info(fork.ID).Attrs, map[string]string{"owner": "ada", "phase": "one", "shade": "3"})
		anew, err := n.Fork(n.ctx, pawl.Ref{ID: r.ID()}, pawl.ForkOptions{})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "attributes of a fork at the start", n.info(anew.ID).Attrs, map[string]string{"owner": "ada"})
	})
}
