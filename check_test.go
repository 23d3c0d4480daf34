package pawl_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// checks collects what a check tells, by run.
func (n *node) checks(f pawl.Filter) map[string]pawl.Check {
	n.t.Helper()
	all := map[string]pawl.Check{}
	for c, err := range n.Check(n.ctx, f) {
		if err != nil {
			n.t.Fatal(err)
		}
		all[c.Run.ID] = c
	}
	return all
}

// TestACheckTellsWhatNewCodeMakesOfRuns, and changes nothing: neither in the store nor, by a
// body, outside.
func TestACheckTellsWhatNewCodeMakesOfRuns(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies atomic.Int64
		do := func(c *pawl.Context, name string) error {
			_, err := pawl.Step(c, name, func(context.Context) (string, error) { bodies.Add(1); return name, nil })
			return err
		}
		paid := func(c *pawl.Context) error { _, err := pawl.WaitFor[none](c, "paid"); return err }
		order := func(code func(c *pawl.Context) error) pawl.Definition {
			return pawl.Define("order", func(c *pawl.Context, _ none) (none, error) { return none{}, code(c) })
		}
		old := pawl.Define("order", func(c *pawl.Context, _ none) (none, error) {
			return none{}, errors.Join(do(c, "reserve"), do(c, "charge"), paid(c), do(c, "ship"))
		})
		gone := pawl.Define("gone", func(c *pawl.Context, _ none) (none, error) { return none{}, c.Sleep(time.Hour) })
		n := boot(t, open(), nil, old, gone)
		ended := start(n, old, none{})
		n.signal(ended.ID(), "paid", none{})
		result(n, ended)
		waits, lost := start(n, old, none{}).ID(), start(n, gone, none{}).ID()
		n.reaches(waits, pawl.Waiting)
		n.reaches(lost, pawl.Waiting)
		before, keys, ran := n.info(waits), n.keys(waits), bodies.Load()

		for name, c := range map[string]struct {
			code     func(c *pawl.Context) error
			next     string
			drift    []string
			diverged string
		}{
			"the same": {code: func(c *pawl.Context) error {
				return errors.Join(do(c, "reserve"), do(c, "charge"), paid(c), do(c, "ship"))
			}, next: "wait"},
			"one step more in between": {code: func(c *pawl.Context) error {
				return errors.Join(do(c, "reserve"), do(c, "weigh"), do(c, "charge"), paid(c))
			}, next: "go on", drift: []string{"charge"}},
			"one step more at the end": {code: func(c *pawl.Context) error {
				return errors.Join(do(c, "reserve"), do(c, "charge"), do(c, "invoice"))
			}, next: "step invoice"},
			"one step less": {code: func(c *pawl.Context) error {
				return errors.Join(do(c, "charge"), paid(c))
			}, next: "wait", drift: []string{"reserve"}},
			"an end": {code: func(c *pawl.Context) error {
				return errors.Join(do(c, "reserve"), do(c, "charge"), errors.New("no more"))
			}, next: "end as failed: no more"},
			"a panic":                         {code: func(*pawl.Context) error { panic("ouch") }, next: "end as failed: ", drift: []string{"charge", "reserve"}},
			"an end before all was asked for": {code: func(c *pawl.Context) error { return do(c, "charge") }, next: "end as completed", drift: []string{"reserve"}},
			"a result of another type": {code: func(c *pawl.Context) error {
				_, err := pawl.Step(c, "charge", func(context.Context) ([]int, error) { bodies.Add(1); return nil, nil })
				return err
			}, diverged: "the code no longer fits the journal"},
		} {
			other := client(t, open(), nil, order(c.code))
			all := other.checks(pawl.Filter{Workflow: "order"})
			got := all[waits]
			if len(all) != 1 || got.Run.State != pawl.Waiting {
				t.Errorf("%s: checked were %v", name, all)
			}
			if c.diverged == "" && got.Diverged != "" || c.diverged != "" && !strings.Contains(got.Diverged, c.diverged) {
				t.Errorf("%s: diverged: %q", name, got.Diverged)
			}
			if !strings.HasPrefix(got.Next, c.next) || c.next == "" && got.Next != "" {
				t.Errorf("%s: next is %q, want %q", name, got.Next, c.next)
			}
			if !slices.Equal(got.Drift, c.drift) {
				t.Errorf("%s: drift is %q, want %q", name, got.Drift, c.drift)
			}
			if name == "the same" {
				if lost := other.checks(pawl.Filter{})[lost]; !strings.Contains(lost.Diverged, `no workflow is called "gone"`) {
					t.Errorf("a run without code: %+v", lost)
				}
			}
			other.stop()
		}
		equal(t, "the run", n.info(waits), before)
		equal(t, "its journal", n.keys(waits), keys)
		equal(t, "bodies", bodies.Load(), ran)
		n.signal(waits, "paid", none{})
		n.reaches(waits, pawl.Completed)
	})
}

// TestACheckSeesEveryLiveRun, also those of several pages and of several branches, and hands
// on what the caller's context says.
func TestACheckSeesEveryLiveRun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("wide", func(c *pawl.Context, n int) (none, error) {
			_, err := pawl.Map(c, "m", make([]int, n%4), func(c *pawl.Context, _ int) (none, error) {
				err := pawl.Do(c, "s", func(context.Context) error { return nil })
				_, werr := pawl.WaitFor[none](c, "never")
				return none{}, errors.Join(err, werr)
			})
			if err == nil {
				err = c.Sleep(time.Hour)
			}
			return none{}, err
		})
		n := boot(t, open(), nil, w)
		const runs = 150
		for i := range runs {
			start(n, w, i)
		}
		n.until("all wait", func() bool {
			s, err := n.Stats(n.ctx)
			return err == nil && s.Runs[pawl.Waiting] == runs
		})
		other := client(t, open(), nil, w)
		all := other.checks(pawl.Filter{})
		equal(t, "checked", len(all), runs)
		for id, c := range all {
			if c.Diverged != "" || c.Next != "wait" || c.Drift != nil {
				t.Errorf("%s: %+v", id, c)
			}
		}
		ctx, cancel := context.WithCancel(n.ctx)
		cancel()
		for _, err := range other.Check(ctx, pawl.Filter{}) {
			is(t, err, context.Canceled)
		}
	})
}
