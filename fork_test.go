package pawl_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

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

func (n *node) fork(id string, o pawl.ForkOptions) pawl.RunInfo {
	n.t.Helper()
	fork, err := n.Fork(n.ctx, pawl.Ref{ID: id}, o)
	if err != nil {
		n.t.Fatal(err)
	}
	return fork
}

// bounds are a run's own budgets: meter, limit, what is left.
func (n *node) bounds(id string) (out []string) {
	n.t.Helper()
	all, err := n.Budgets(n.ctx, pawl.BudgetFilter{Run: n.info(id).Key})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, b := range all {
		out = append(out, fmt.Sprint(b.Meter, " ", b.Limit, " ", b.Left(), " ", b.Wait))
	}
	return out
}

// TestP7_aForkOfABoundedRunIsBounded as that is now, whoever set the bound, and has spent nothing.
func TestP7_aForkOfABoundedRunIsBounded(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		buy := func(c *pawl.Context, name string) error {
			return pawl.Do(c, name, func(ctx context.Context) error { return buys(ctx, 30, 30) })
		}
		w := pawl.Define("spends", func(c *pawl.Context, _ none) (none, error) {
			return none{}, errors.Join(buy(c, "one"), buy(c, "two"))
		}, pawl.RunBudget(pawl.USD, 1000, false), pawl.RunBudget("tokens", 7, true))
		n := boot(t, open(), nil, w)
		r := start(n, w, none{}, pawl.RunBudget(pawl.USD, 60, false))
		result(n, r)
		equal(t, "of the run", n.bounds(r.ID()), []string{"tokens 7 7 true", "usd 60 0 false"})

		fork := n.fork(r.ID(), pawl.ForkOptions{From: "two"})
		n.reaches(fork.ID, pawl.Completed)
		equal(t, "of a fork", n.bounds(fork.ID), []string{"tokens 7 7 true", "usd 60 30 false"})
		if _, err := n.TopUp(n.ctx, "", pawl.RunBudgetName(fork.ID, pawl.USD), -40); err != nil {
			t.Fatal(err)
		}
		again := n.fork(fork.ID, pawl.ForkOptions{From: "one"})
		is(t, failure(n, pawl.Attach[none](n.Engine, again.ID)), pawl.ErrBudget)
		equal(t, "of a fork of what has less now", n.bounds(again.ID), []string{"tokens 7 7 true", "usd 20 20 false"})

		n.setBudget(pawl.Budget{Name: "by hand", Run: r.ID(), Limit: 5, Wait: true})
		low := n.fork(r.ID(), pawl.ForkOptions{From: "two"})
		n.reaches(low.ID, pawl.Waiting)
		equal(t, "of a fork of what an operator has bounded", n.bounds(low.ID), []string{"tokens 7 7 true", "usd 5 5 true"})
		own := n.fork(r.ID(), pawl.ForkOptions{From: "two", Options: []pawl.StartOption{pawl.RunBudget(pawl.USD, 31, false)}})
		n.reaches(own.ID, pawl.Completed)
		equal(t, "of a fork with a budget of its own", n.bounds(own.ID), []string{"tokens 7 7 true", "usd 31 1 false"})
	})
}

// TestP7_aForkIsBoundedByWhatWasAbove: what bounds a child, or has gone on to the next run, bounds the forks too.
func TestP7_aForkIsBoundedByWhatWasAbove(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		child := pawl.Define("child", func(c *pawl.Context, _ none) (string, error) { return c.RunID(), nil })
		parent := pawl.Define("parent", func(c *pawl.Context, detached bool) (string, error) {
			if !detached {
				return child.Call(c, none{}, pawl.RunBudget(pawl.USD, 50, false), pawl.RunBudget("tokens", 5, false))
			}
			kid, err := child.Spawn(c, none{}, pawl.Detach())
			return kid.ID(), err
		})
		goesOn := pawl.Define("goes on", func(c *pawl.Context, left int) (int, error) {
			if left == 2 { // the fork is looked at here: when it goes on, what bounds it goes along
				if _, err := pawl.WaitFor[none](c, "go"); err != nil {
					return 0, err
				}
			}
			if left > 0 {
				return 0, pawl.ContinueAs(c, left-1)
			}
			return 0, nil
		})
		n := boot(t, open(), nil, child, parent, goesOn)
		kid := complete(n, parent, false, pawl.RunBudget(pawl.USD, 40, true), pawl.RunBudget("tokens", 50, false))
		equal(t, "of a fork of a child", n.bounds(n.fork(kid, pawl.ForkOptions{}).ID), []string{"tokens 5 5 false", "usd 40 40 true"})
		kid = complete(n, parent, true, pawl.RunBudget(pawl.USD, 40, true))
		n.reaches(kid, pawl.Completed)
		equal(t, "of a fork of a detached child", n.bounds(n.fork(kid, pawl.ForkOptions{}).ID), []string(nil))
		r := start(n, goesOn, 2, pawl.RunBudget(pawl.USD, 40, true))
		n.signal(r.ID(), "go", none{})
		result(n, r)
		equal(t, "of a fork of a run that went on", n.bounds(n.fork(r.ID(), pawl.ForkOptions{}).ID), []string{"usd 40 40 true"})
	})
}

// TestAForkTakesOverHowItsRunWasStarted, but for what it is told.
func TestAForkTakesOverHowItsRunWasStarted(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("waits", func(c *pawl.Context, _ none) (none, error) { return pawl.WaitFor[none](c, "never") },
			pawl.Priority(1), pawl.Timeout(time.Hour), pawl.Retention(time.Hour))
		n := boot(t, open(), nil, w)
		r := start(n, w, none{}, pawl.Tenant("acme"), pawl.Priority(7), pawl.Timeout(5*time.Hour), pawl.Attributes(attrs{"a": 1, "b": 2}), pawl.Delay(time.Millisecond))
		at := func(id string) pawl.RunInfo {
			info, err := n.Get(n.ctx, pawl.Ref{Tenant: "acme", ID: id})
			if err != nil {
				t.Fatal(err)
			}
			return info
		}
		span := func(info pawl.RunInfo) time.Duration { return info.Deadline.Sub(info.Created).Round(time.Minute) }
		of := func(o pawl.ForkOptions) pawl.RunInfo {
			fork, err := n.Fork(n.ctx, pawl.Ref{Tenant: "acme", ID: r.ID()}, o)
			if err != nil {
				t.Fatal(err)
			}
			return at(fork.ID)
		}
		fork := of(pawl.ForkOptions{})
		equal(t, "priority", fork.Priority, 7)
		equal(t, "time to the deadline", span(fork), 5*time.Hour)
		equal(t, "attributes", fork.Attrs, map[string]string{"a": "1", "b": "2"})
		equal(t, "retention", fork.Keep, time.Hour)
		if !fork.NotBefore.IsZero() {
			t.Errorf("it has the delay of its run: until %v", fork.NotBefore)
		}
		fork = of(pawl.ForkOptions{Options: []pawl.StartOption{pawl.Priority(-3), pawl.Timeout(9 * time.Hour), pawl.Attributes(attrs{"b": nil, "c": 3}), pawl.Tenant("acme"), pawl.Delay(time.Hour)}})
		equal(t, "priority", fork.Priority, -3)
		equal(t, "time to the deadline", span(fork), 9*time.Hour)
		equal(t, "attributes", fork.Attrs, map[string]string{"a": "1", "c": "3"})
		if fork.NotBefore.IsZero() {
			t.Error("it has no delay")
		}
		_, err := n.Fork(n.ctx, pawl.Ref{Tenant: "acme", ID: r.ID()}, pawl.ForkOptions{Options: []pawl.StartOption{pawl.Tenant("other")}})
		is(t, err, pawl.ErrInput)
	})
}

// TestAForkIsNeverAnotherRun: neither the one that has its id, nor the one that holds its singleton key.
func TestAForkIsNeverAnotherRun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("alone", func(c *pawl.Context, _ string) (none, error) { return pawl.WaitFor[none](c, "go") },
			pawl.Singleton(pawl.KeyOf(func(key string) string { return key })))
		n := boot(t, open(), nil, w)
		one, two := start(n, w, "one"), start(n, w, "two", pawl.ID("two"))
		_, err := n.Fork(n.ctx, pawl.Ref{ID: one.ID()}, pawl.ForkOptions{})
		is(t, err, pawl.ErrExists)
		queued := n.fork(one.ID(), pawl.ForkOptions{ID: "fork", Options: []pawl.StartOption{pawl.OnConflict(pawl.Queue)}})
		equal(t, "gate of a fork that queues", queued.Gate != "", true)
		n.signal(one.ID(), "go", nil)
		result(n, one)
		n.reaches("fork", pawl.Waiting)
		equal(t, "the same fork again", n.fork(one.ID(), pawl.ForkOptions{ID: "fork"}).Existed, true)
		n.signal("fork", "go", nil)
		n.reaches("fork", pawl.Completed)
		n.signal(two.ID(), "go", nil)
		result(n, two)
		_, err = n.Fork(n.ctx, pawl.Ref{ID: "fork"}, pawl.ForkOptions{ID: "two"})
		is(t, err, pawl.ErrConflict)
		_, err = n.Fork(n.ctx, pawl.Ref{ID: two.ID()}, pawl.ForkOptions{ID: "two"})
		is(t, err, pawl.ErrConflict)
		_, err = n.Fork(n.ctx, pawl.Ref{ID: "nobody"}, pawl.ForkOptions{})
		is(t, err, pawl.ErrNotFound)
	})
}

// TestAForkHasTheTimeThatWasLeft: of a scope and of a wait that were open at its point, and have ended since.
func TestAForkHasTheTimeThatWasLeft(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		const limit = 300 * time.Millisecond
		var quick atomic.Bool
		w := pawl.Define("timed", func(c *pawl.Context, _ none) (string, error) {
			inner, cancel := pawl.WithTimeout(c, limit)
			defer cancel(nil)
			err := pawl.Do(inner, "slow", func(ctx context.Context) error {
				if quick.Load() {
					return nil
				}
				<-ctx.Done()
				return context.Cause(ctx)
			})
			said, werr := pawl.WaitFor[string](c, "word", pawl.Timeout(limit))
			return fmt.Sprint(err, ", ", said, errors.Is(werr, pawl.ErrTimeout)), pawl.Do(c, "last", func(context.Context) error { return nil })
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		if got := result(n, r); !strings.HasSuffix(got, "true") || strings.HasPrefix(got, "<nil>") {
			t.Fatalf("the run ended with %q", got)
		}
		quick.Store(true)
		fork := n.fork(r.ID(), pawl.ForkOptions{From: "$event:word"})
		n.signal(fork.ID, "word", "yes")
		if got := result(n, pawl.Attach[string](n.Engine, fork.ID)); !strings.HasSuffix(got, "yesfalse") {
			t.Errorf("a fork at the wait ended with %q", got)
		}
		r = start(n, w, none{})
		n.signal(r.ID(), "word", "yes")
		equal(t, "result", result(n, r), "<nil>, yesfalse")
		until := n.info(r.ID()).Ended.Add(limit)
		n.until("the scope of the run to have ended", func() bool { return time.Now().After(until) })
		fork = n.fork(r.ID(), pawl.ForkOptions{From: "slow"})
		n.signal(fork.ID, "word", "yes")
		equal(t, "result of a fork within the scope", result(n, pawl.Attach[string](n.Engine, fork.ID)), "<nil>, yesfalse")
	})
}

// TestAForkKnowsWhatAnOperatorHasDone: a sleep that was ended early is over, and a step that is to be retried has not failed.
func TestAForkKnowsWhatAnOperatorHasDone(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		g := newGate()
		w := pawl.Define("helped", func(c *pawl.Context, _ none) (none, error) {
			if err := c.Sleep(time.Hour); err != nil {
				return none{}, err
			}
			side := pawl.Go(c, "side", func(c *pawl.Context) (none, error) {
				if _, err := pawl.WaitFor[none](c, "side"); err != nil {
					return none{}, err
				}
				return none{}, pawl.Do(c, "step", func(context.Context) error { return nil })
			})
			err := pawl.Do(c, "broken", func(ctx context.Context) error {
				switch bodies.add("broken") {
				case 1:
					return pawl.Fatal(errors.New("out of order"))
				case 2:
					return g.pass(ctx)
				}
				return nil
			})
			if err != nil {
				return none{}, err
			}
			if _, err := side.Wait(c); err != nil {
				return none{}, err
			}
			return none{}, pawl.Do(c, "last", func(context.Context) error { bodies.add("last"); return nil })
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		if _, err := n.Wake(n.ctx, pawl.Ref{ID: r.ID()}, "", nil); err != nil {
			t.Fatal(err)
		}
		_ = failure(n, r)
		if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
			t.Fatal(err)
		}
		g.wait(t)
		n.signal(r.ID(), "side", nil)
		n.sees(r.ID(), pawl.KindStep, "side/step") // before the step that is tried again
		g.open()
		result(n, r)
		fork := n.fork(r.ID(), pawl.ForkOptions{From: "last"})
		result(n, pawl.Attach[none](n.Engine, fork.ID))
		equal(t, "bodies", fmt.Sprint(bodies.get("broken"), bodies.get("last")), "2 2")
		noTrouble(n, []string{r.ID(), fork.ID})
		fork = n.fork(r.ID(), pawl.ForkOptions{From: "last", Results: map[string]json.RawMessage{"broken": json.RawMessage("null")}})
		result(n, pawl.Attach[none](n.Engine, fork.ID))
		equal(t, "bodies", fmt.Sprint(bodies.get("broken"), bodies.get("last")), "2 3")
		fork = n.fork(r.ID(), pawl.ForkOptions{From: "side/step"})
		result(n, pawl.Attach[none](n.Engine, fork.ID))
		equal(t, "bodies", fmt.Sprint(bodies.get("broken"), bodies.get("last")), "3 4")
	})
}

// TestAForkBeginsAnewWhatWasUnderWay: a step of another branch that had failed once at the point of the fork has all its attempts there.
func TestAForkBeginsAnewWhatWasUnderWay(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var heal atomic.Bool
		w := pawl.Define("two ways", func(c *pawl.Context, _ none) (int, error) {
			slow := pawl.Go(c, "slow", func(c *pawl.Context) (int, error) {
				return pawl.Step(c, "hard", func(ctx context.Context) (int, error) {
					if heal.Load() {
						return pawl.InfoOf(ctx).Attempt, nil
					}
					return 0, pawl.RetryAfter(errors.New("not yet"), time.Hour)
				})
			})
			if _, err := pawl.WaitFor[none](c, "go"); err != nil {
				return 0, err
			}
			return slow.Wait(c)
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		n.sees(r.ID(), pawl.KindAttempt, "slow/hard")
		n.signal(r.ID(), "go", nil)
		n.sees(r.ID(), pawl.KindEvent, "$event:go")
		heal.Store(true)
		fork := n.fork(r.ID(), pawl.ForkOptions{From: "$event:go"})
		n.signal(fork.ID, "go", nil)
		equal(t, "attempt", result(n, pawl.Attach[int](n.Engine, fork.ID)), 1)
	})
}

// TestAForkMeasuresTheTimeLeftFromWhereItBegins: by when the body of From began, whatever other branches did
// meanwhile; and what From itself has left is not there.
func TestAForkMeasuresTheTimeLeftFromWhereItBegins(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		const meanwhile = 200 * time.Millisecond
		var began time.Time
		g := newGate()
		w := pawl.Define("slow", func(c *pawl.Context, _ none) (none, error) {
			side := pawl.Go(c, "side", func(c *pawl.Context) (none, error) {
				if _, err := pawl.WaitFor[none](c, "side", pawl.Timeout(time.Hour)); err != nil {
					return none{}, err
				}
				return none{}, pawl.Do(c, "step", func(context.Context) error { return nil })
			})
			inner, cancel := pawl.WithTimeout(c, time.Hour)
			defer cancel(nil)
			if err := pawl.Do(inner, "slow", func(ctx context.Context) error { began = time.Now(); return g.pass(ctx) }); err != nil {
				return none{}, err
			}
			return side.Wait(c)
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		g.wait(t)
		n.until("time to pass", func() bool { return time.Since(began) > meanwhile })
		n.signal(r.ID(), "side", nil)
		n.sees(r.ID(), pawl.KindStep, "side/step")
		g.open()
		result(n, r)
		n.stop()
		outside := client(t, open(), nil, w) // nobody works the forks
		untilOf := func(id string) (until struct{ Until time.Time }) {
			for _, e := range outside.journal(id, pawl.KindScope) {
				if e.Key == "$timeout" {
					mustDecode(t, string(e.Data), &until)
				}
			}
			return until
		}
		before := time.Now()
		fork := outside.fork(r.ID(), pawl.ForkOptions{From: "slow"})
		was, is := untilOf(r.ID()).Until.Sub(began), untilOf(fork.ID).Until.Sub(before)
		if is < was-time.Millisecond {
			t.Errorf("the scope has %v left in the fork, it had %v", is, was)
		}
		fork = outside.fork(r.ID(), pawl.ForkOptions{From: "side/$event:side"})
		equal(t, "scopes of a fork at the wait", outside.keys(fork.ID, pawl.KindScope), []string{"$timeout"})
	})
}
