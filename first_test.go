package pawl_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// A step that waits out of memory is as old as it is: its bodies are all told the time at
// which the first of them began, whatever it waits for, and whoever wakes it.
func TestAStepThatWaitsKnowsWhenItBegan(t *testing.T) {
	for _, waits := range []string{"for a budget", "for its next attempt", "for both"} {
		t.Run(waits, func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() pawl.Store) {
				var mu sync.Mutex
				var told []time.Time
				var attempts []int
				w := pawl.Define("spends", func(c *pawl.Context, _ none) (none, error) {
					return none{}, pawl.Do(c, "ask", func(ctx context.Context) error {
						info := pawl.InfoOf(ctx)
						mu.Lock()
						told, attempts = append(told, info.FirstStarted), append(attempts, info.Attempt)
						bodies := len(told)
						mu.Unlock()
						if waits != "for its next attempt" {
							if err := buys(ctx, 30, 30); err != nil {
								return err
							}
						}
						if waits != "for a budget" && bodies < 3 {
							return pawl.RetryAfter(errors.New("come back later"), 300*time.Millisecond)
						}
						return nil
					}, pawl.Timeout(time.Hour))
				}, pawl.RunBudget(pawl.USD, 10, true))
				one := boot(t, open(), replays(), w)
				r := start(one, w, none{})
				one.reaches(r.ID(), pawl.Waiting)
				one.stop()
				two := boot(t, open(), replays(), w)
				if waits != "for its next attempt" {
					if _, err := two.TopUp(two.ctx, "", pawl.RunBudgetName(r.ID(), pawl.USD), 100); err != nil {
						t.Fatal(err)
					}
				}
				result(two, r)
				for _, at := range told {
					equal(t, "time of the first attempt", at.UnixMicro(), told[0].UnixMicro())
				}
				equal(t, "attempts", fmt.Sprint(attempts), map[string]string{"for a budget": "[1 1]", "for its next attempt": "[1 2 3]", "for both": "[1 1 2]"}[waits])
				noTrouble(two, []string{r.ID()})
			})
		})
	}
}

// The time limit of a step goes on while it waits for a budget, in memory or not.
func TestP7_aStepThatWaitsForMoneyEndsInTime(t *testing.T) {
	for _, parks := range []bool{true, false} {
		t.Run(fmt.Sprint("in memory ", parks), func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() pawl.Store) {
				const limit = 500 * time.Millisecond
				var bodies counts
				var began time.Time
				w := pawl.Define("spends", func(c *pawl.Context, _ none) (none, error) {
					return none{}, pawl.Do(c, "ask", func(ctx context.Context) error {
						if bodies.add("ask") == 1 {
							began = pawl.InfoOf(ctx).FirstStarted
						}
						return buys(ctx, 30, 30)
					}, pawl.Timeout(limit))
				}, pawl.RunBudget(pawl.USD, 10, true))
				opt := &pawl.Options{}
				if !parks {
					opt = replays()
				}
				n := boot(t, open(), opt, w)
				r := start(n, w, none{})
				is(t, failure(n, r), pawl.ErrTimeout)
				if took := time.Since(began); took < limit-time.Millisecond || took > 20*time.Second { // in vain, it waits for the auditor
					t.Errorf("it ended after %v", took)
				}
				equal(t, "bodies", bodies.get("ask"), 1)
				if _, err := n.TopUp(n.ctx, "", pawl.RunBudgetName(r.ID(), pawl.USD), 100); err != nil {
					t.Fatal(err)
				}
				if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil { // it has its whole time again
					t.Fatal(err)
				}
				result(n, r)
			})
		})
	}
}
