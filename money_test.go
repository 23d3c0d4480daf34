package pawl_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// buys spends up to most on an item, and in the end cost of it.
func buys(ctx context.Context, most, cost int64) error {
	r, err := pawl.Spend(ctx, pawl.Spending{Item: "call", Most: most})
	if err != nil {
		return err
	}
	return r.Settle(cost, false, nil)
}

func (n *node) charges(f pawl.ChargeFilter) []pawl.Charge {
	n.t.Helper()
	f.Limit = 1000
	out, err := n.Charges(n.ctx, f)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

func (n *node) costs(f pawl.CostFilter) string {
	n.t.Helper()
	sums, err := n.Costs(n.ctx, f)
	if err != nil {
		n.t.Fatal(err)
	}
	var out []string
	for _, c := range sums {
		out = append(out, fmt.Sprintf("%s=%d", c.Key, c.Amount))
	}
	return strings.Join(out, " ")
}

func (n *node) setBudget(b pawl.Budget) {
	n.t.Helper()
	if _, err := n.SetBudget(n.ctx, b); err != nil {
		n.t.Fatal(err)
	}
}

func TestP7_costIsTheSumOfAllAttempts(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("spends", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "ask", func(ctx context.Context) error {
				n := int64(pawl.InfoOf(ctx).Attempt)
				if err := buys(ctx, 100, 10*n); err != nil {
					return err
				}
				if n < 3 {
					return pawl.RetryAfter(errors.New("no answer"), time.Millisecond)
				}
				return buys(ctx, 100, 5) // a second thing in one attempt
			})
		})
		many := pawl.Define("many", func(c *pawl.Context, _ none) ([]none, error) {
			return pawl.Map(c, "part", []int{1, 2, 3}, func(c *pawl.Context, n int) (none, error) {
				return none{}, pawl.Do(c, "buy", func(ctx context.Context) error { return buys(ctx, 10, int64(n)) })
			})
		})
		n := boot(t, open(), nil, w, many)
		r := start(n, w, none{})
		result(n, r)
		var rows []string
		for _, c := range n.charges(pawl.ChargeFilter{RunID: r.ID()}) {
			rows = append(rows, fmt.Sprint(c.Step, " ", c.Attempt, " ", c.Amount, " ", c.Open))
		}
		equal(t, "ledger", rows, []string{"ask 1 10 false", "ask 2 20 false", "ask 3 30 false", "ask 3 5 false"})
		equal(t, "cost of the run", n.costs(pawl.CostFilter{By: pawl.ByRun}), r.ID()+"=65")
		result(n, start(n, many, none{}))
		equal(t, "costs of steps, largest first", n.costs(pawl.CostFilter{By: pawl.ByStep}), "ask=65 part/buy=6")
	})
}

func TestP7_runThatMeetsItsBudgetFails(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		w := pawl.Define("spends", func(c *pawl.Context, _ none) (none, error) {
			for range 5 {
				err := pawl.Do(c, "ask", func(ctx context.Context) error { bodies.add("ask"); return buys(ctx, 200_000, 200_000) })
				if err != nil {
					return none{}, err
				}
			}
			return none{}, nil
		}, pawl.BudgetUSD(0.5))
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		err := failure(n, r)
		is(t, err, pawl.ErrBudget)
		for _, part := range []string{"ask#3", "$0.50", "$0.10", "$0.20", pawl.RunBudgetName(r.ID(), pawl.USD), "top it up"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("the error does not say %q: %v", part, err)
			}
		}
		equal(t, "bodies", bodies.get("ask"), 3)
		equal(t, "cost", n.costs(pawl.CostFilter{}), "=400000")
		if _, err := n.TopUp(n.ctx, "", pawl.RunBudgetName(r.ID(), pawl.USD), 500_000); err != nil {
			t.Fatal(err)
		}
		if _, err := n.Retry(n.ctx, pawl.Ref{ID: r.ID()}); err != nil {
			t.Fatal(err)
		}
		result(n, r)
		equal(t, "cost in the end", n.costs(pawl.CostFilter{}), "=1000000")
		r = start(n, w, none{}, pawl.BudgetUSD(2)) // its own budget, in place of the workflow's
		result(n, r)
	})
}

func TestP7_stepWaitsForATopUp(t *testing.T) {
	for _, parks := range []bool{true, false} {
		t.Run(fmt.Sprint("in memory ", parks), func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() pawl.Store) {
				var bodies counts
				w := pawl.Define("spends", func(c *pawl.Context, _ none) (int, error) {
					return pawl.Step(c, "ask", func(ctx context.Context) (int, error) {
						bodies.add("ask")
						return pawl.InfoOf(ctx).Attempt, buys(ctx, 30, 30)
					}, pawl.MaxAttempts(1))
				}, pawl.RunBudget(pawl.USD, 10, true))
				opt := &pawl.Options{}
				if !parks {
					opt.MaxParked = -1
				}
				n := boot(t, open(), opt, w)
				r := start(n, w, none{})
				n.reaches(r.ID(), pawl.Waiting)
				why, err := n.Why(n.ctx, pawl.Ref{ID: r.ID()})
				if err != nil || !strings.Contains(why, "for money") || !strings.Contains(why, "$0.00003") || !strings.Contains(why, pawl.RunBudgetName(r.ID(), pawl.USD)) {
					t.Errorf("why: %q, %v", why, err)
				}
				name := pawl.RunBudgetName(r.ID(), pawl.USD)
				if _, err := n.TopUp(n.ctx, "", name, 5); err != nil { // not enough
					t.Fatal(err)
				}
				equal(t, "state", n.info(r.ID()).State, pawl.Waiting)
				if _, err := n.TopUp(n.ctx, "", name, 15); err != nil {
					t.Fatal(err)
				}
				equal(t, "attempt", result(n, r), 1)
				equal(t, "bodies", bodies.get("ask"), 2)
				equal(t, "cost", n.costs(pawl.CostFilter{}), "=30")
			})
		})
	}
}

func TestP7_stepWaitsForTheNextPeriod(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("spends", func(c *pawl.Context, _ none) (time.Time, error) {
			return pawl.Step(c, "ask", func(ctx context.Context) (time.Time, error) { return time.Now(), buys(ctx, 60, 60) })
		})
		n := boot(t, open(), nil, w)
		n.setBudget(pawl.Budget{Name: "often", Limit: 100, Per: 2 * time.Second, Wait: true})
		var at []time.Time
		for range 3 {
			at = append(at, complete(n, w, none{}))
		}
		for i := range at[1:] {
			if period := func(t time.Time) int64 { return t.UnixMicro() / 2_000_000 }; period(at[i+1]) == period(at[i]) {
				t.Errorf("120 were spent in one period of 100: at %v and %v", at[i], at[i+1])
			}
		}
	})
}

// What one gives back another gets, in every order in which that can happen.
func TestP7_racingRunsShareABudget(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		const runs, limit = 60, 1000
		var mu sync.Mutex
		var spent int64
		w := pawl.Define("spends", func(c *pawl.Context, i int) (none, error) {
			return none{}, pawl.Do(c, "ask", func(ctx context.Context) error {
				cost := int64(10 + i%7)
				if err := buys(ctx, 200, cost); err != nil {
					return err
				}
				mu.Lock()
				spent += cost
				mu.Unlock()
				return nil
			})
		})
		one, two := boot(t, open(), nil, w), (*node)(nil)
		if strings.Contains(t.Name(), "postgres") {
			two = boot(t, open(), nil, w)
		}
		one.setBudget(pawl.Budget{Name: "all", Limit: limit, Wait: true})
		var all []*pawl.Run[none]
		for i := range runs {
			n := one
			if two != nil && i%2 == 1 {
				n = two
			}
			all = append(all, start(n, w, i))
		}
		for _, r := range all {
			result(one, r)
		}
		b, err := one.Budgets(one.ctx, pawl.BudgetFilter{})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "spent, reserved", fmt.Sprint(b[0].Spent, b[0].Reserved), fmt.Sprint(spent, 0))
		if spent > limit {
			t.Errorf("%d was spent of %d", spent, limit)
		}
	})
}

func TestP7_crashLeavesItReserved(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		var bodies counts
		w := pawl.Define("spends", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "ask", func(ctx context.Context) error {
				r, err := pawl.Spend(ctx, pawl.Spending{Item: "call", Most: 40})
				if err != nil {
					return err
				}
				if bodies.add("ask") == 1 {
					if err := g.pass(ctx); err != nil {
						return err
					}
				}
				return r.Settle(15, false, nil)
			})
		}, pawl.RunBudget(pawl.USD, 100, false))
		one := boot(t, open(), mayCrash(), w)
		r := start(one, w, none{})
		g.wait(t)
		one.crash()
		two := boot(t, open(), nil, w)
		result(two, r)
		cut := two.charges(pawl.ChargeFilter{Cut: true})
		equal(t, "charges that were cut off", fmt.Sprintf("%d %d %s", len(cut), cut[0].Amount, cut[0].Step), "1 40 ask")
		equal(t, "cost", two.costs(pawl.CostFilter{}), "=55")
		if err := two.Settle(two.ctx, cut[0].ID, 7); err != nil {
			t.Fatal(err)
		}
		is(t, two.Settle(two.ctx, cut[0].ID, 7), pawl.ErrState)
		equal(t, "cost", two.costs(pawl.CostFilter{}), "=22")
	})
}

// What a cancelled body has settled is not lost, although its attempt is not recorded.
func TestP7_cancelledStepIsPaid(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		w := pawl.Define("spends", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "ask", func(ctx context.Context) error {
				if err := buys(ctx, 40, 15); err != nil {
					return err
				}
				return g.pass(ctx)
			})
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		g.wait(t)
		if _, err := n.Cancel(n.ctx, pawl.Ref{ID: r.ID()}, "enough"); err != nil {
			t.Fatal(err)
		}
		is(t, failure(n, r), pawl.ErrCancelled)
		c := n.charges(pawl.ChargeFilter{})
		equal(t, "ledger", fmt.Sprint(len(c), c[0].Amount, c[0].Open), "1 15 false")
	})
}

func TestMisuse_spending(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		_, err := pawl.Spend(t.Context(), pawl.Spending{Item: "x", Most: 1})
		is(t, err, pawl.ErrMisuse)
		var late *pawl.Reservation
		w := pawl.Define("spends", func(c *pawl.Context, what string) (none, error) {
			return none{}, pawl.Do(c, "ask", func(ctx context.Context) error {
				s := map[string]pawl.Spending{
					"no item": {Most: 1}, "negative": {Item: "x", Most: -1}, "absurd": {Item: "x", Most: 1 << 62}, "meter": {Meter: "a\x00b", Item: "x"}, "right": {Item: "x", Most: 1},
				}[what]
				r, err := pawl.Spend(ctx, s)
				if err != nil {
					return err
				}
				is(t, r.Settle(-1, false, nil), pawl.ErrInput)
				is(t, r.Settle(1, false, make(chan int)), pawl.ErrEncoding)
				if err := r.Settle(1, false, nil); err != nil {
					return err
				}
				late = r
				is(t, r.Settle(1, false, nil), pawl.ErrState)
				return nil
			})
		})
		n := boot(t, open(), nil, w)
		for _, what := range []string{"no item", "negative", "absurd", "meter"} {
			is(t, failure(n, start(n, w, what)), pawl.ErrInput)
		}
		result(n, start(n, w, "right"))
		is(t, late.Settle(1, false, nil), pawl.ErrState)
		for _, b := range []pawl.Budget{
			{}, {Name: "$x"}, {Name: "x", Limit: -1}, {Name: "x", Per: time.Millisecond}, {Name: "x", Value: "v"}, {Name: "x", Workflow: "\xff"}, {Name: "x", Limit: 1 << 62},
		} {
			_, err := n.SetBudget(n.ctx, b)
			is(t, err, pawl.ErrInput)
		}
		_, err = n.SetBudget(n.ctx, pawl.Budget{Name: "x", Run: "nobody"})
		is(t, err, pawl.ErrNotFound)
		_, err = n.TopUp(n.ctx, "", "nothing", 1)
		is(t, err, pawl.ErrNotFound)
		is(t, n.DeleteBudget(n.ctx, "", "nothing"), pawl.ErrNotFound)
		_, err = w.Start(n.ctx, n.Engine, "x", pawl.BudgetUSD(-1))
		is(t, err, pawl.ErrInput)
		_, err = n.Costs(n.ctx, pawl.CostFilter{By: "moon"})
		is(t, err, pawl.ErrInput)
	})
}

func TestRecordsAreChecked(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		n := client(t, open(), &pawl.Options{MaxPayload: 100})
		v, err := n.Write(n.ctx, pawl.Put{Space: "notes", Key: "a", Data: []byte(`"hello"`)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := n.Record(n.ctx, "notes", "a")
		equal(t, "record", fmt.Sprintf("%s %v %v", got.Data, got.Version == v[0], err), `"hello" true <nil>`)
		_, err = n.Record(n.ctx, "notes", "b")
		is(t, err, pawl.ErrNotFound)
		_, err = n.Write(n.ctx, pawl.Put{Space: "notes", Key: "a", Data: []byte(`1`)})
		is(t, err, pawl.ErrConflict)
		for _, put := range []pawl.Put{
			{Space: "", Key: "a"}, {Space: "$x", Key: "a"}, {Space: "s", Key: ""}, {Space: "s", Key: "\x00"}, {Space: "s", Key: "a", Data: []byte(`{`)},
		} {
			_, err := n.Write(n.ctx, put)
			is(t, err, pawl.ErrInput)
		}
		_, err = n.Write(n.ctx, pawl.Put{Space: "s", Key: "a", Data: []byte(`"` + strings.Repeat("x", 100) + `"`)})
		is(t, err, pawl.ErrTooLarge)
		_, err = n.Write(n.ctx, pawl.Put{Space: "s", Key: "a", Data: []byte(`1`)}, pawl.Put{Space: "s", Key: "a", Data: []byte(`2`)})
		is(t, err, pawl.ErrInput)
	})
}

// Notes are recorded with the outcome of their attempt, and no replay asks for them.
func TestNotesAreKeptWithTheirAttempts(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		is(t, pawl.Note(t.Context(), 1), pawl.ErrMisuse)
		w := pawl.Define("notes", func(c *pawl.Context, _ none) (none, error) {
			err := pawl.Do(c, "ask", func(ctx context.Context) error {
				n := pawl.InfoOf(ctx).Attempt
				if err := errors.Join(pawl.Note(ctx, fmt.Sprint("first of ", n)), pawl.Note(ctx, fmt.Sprint("second of ", n))); err != nil {
					return err
				}
				is(t, pawl.Note(ctx, make(chan int)), pawl.ErrEncoding)
				is(t, pawl.Note(ctx, strings.Repeat("x", 2000)), pawl.ErrTooLarge)
				if n == 1 {
					return pawl.RetryAfter(errors.New("not yet"), time.Millisecond)
				}
				return nil
			})
			if err != nil {
				return none{}, err
			}
			return none{}, c.Sleep(50 * time.Millisecond)
		})
		n := boot(t, open(), &pawl.Options{MaxPayload: 1000, MaxParked: -1}, w) // it is replayed after the sleep
		r := start(n, w, none{})
		result(n, r)
		var rows []string
		for _, e := range n.journal(r.ID(), pawl.KindNote, pawl.KindAttempt, pawl.KindStep) {
			row := fmt.Sprint(e.Kind, " ", e.Key, " ", e.Attempt)
			if e.Kind == pawl.KindNote {
				row += " " + string(e.Data)
			}
			rows = append(rows, row)
		}
		equal(t, "journal", rows, []string{
			`note ask 1 "first of 1"`, `note ask 1 "second of 1"`, "attempt ask 1", `note ask 2 "first of 2"`, `note ask 2 "second of 2"`, "step ask 2",
		})
		noTrouble(n, []string{r.ID()})
		fork, err := n.Fork(n.ctx, pawl.Ref{ID: r.ID()}, pawl.ForkOptions{From: "ask"})
		if err != nil {
			t.Fatal(err)
		}
		n.reaches(fork.ID, pawl.Completed)
		equal(t, "notes of a fork", len(n.journal(fork.ID, pawl.KindNote)), 4)
	})
}

func TestNameOfAKey(t *testing.T) {
	for key, want := range map[string]string{
		"ask": "ask", "ask#2": "ask", "map[3]/ask": "map/ask", "map#2[17]/ask#3": "map/ask", "a#b": "a#b", "a[x]/b": "a[x]/b", "": "", "no#1x/y": "no#1x/y",
	} {
		equal(t, key, pawl.NameOf(key), want)
	}
}

// Two steps of one run are refused, and there is money for both before either has begun to
// wait: both go on.
func TestP7_aTopUpReachesAllWhoWereRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		const steps = 3
		refused, goOn := make(chan none, steps), make(chan none)
		w := pawl.Define("spends", func(c *pawl.Context, _ none) ([]none, error) {
			return pawl.Map(c, "part", make([]int, steps), func(c *pawl.Context, _ int) (none, error) {
				return none{}, pawl.Do(c, "ask", func(ctx context.Context) error {
					err := buys(ctx, 30, 30)
					if err != nil {
						refused <- none{}
						<-goOn
					}
					return err
				})
			})
		}, pawl.RunBudget(pawl.USD, 10, true))
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		for range steps {
			<-refused
		}
		if _, err := n.TopUp(n.ctx, "", pawl.RunBudgetName(r.ID(), pawl.USD), 30*steps); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		close(goOn)
		result(n, r)
		if took := time.Since(began); took > 20*time.Second { // the auditor, after half a minute, is not to be needed
			t.Errorf("it took %v", took)
		}
		equal(t, "cost", n.costs(pawl.CostFilter{}), "=90")
	})
}

// A budget of zero lets nothing be spent, and what costs nothing be bought. A top-up lets who waits go on.
func TestP7_aBudgetOfZero(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("spends", func(c *pawl.Context, most int64) (none, error) {
			return none{}, pawl.Do(c, "ask", func(ctx context.Context) error { return buys(ctx, most, most) })
		})
		n := boot(t, open(), nil, w)
		err := failure(n, start(n, w, 1, pawl.BudgetUSD(0)))
		is(t, err, pawl.ErrBudget)
		result(n, start(n, w, 0, pawl.BudgetUSD(0)))
		if got := n.costs(pawl.CostFilter{}); got != "=0" {
			t.Errorf("costs are %q", got)
		}
		r := start(n, w, 1, pawl.RunBudget(pawl.USD, 0, true))
		n.reaches(r.ID(), pawl.Waiting)
		if _, err := n.TopUp(n.ctx, "", pawl.RunBudgetName(r.ID(), pawl.USD), 1); err != nil {
			t.Fatal(err)
		}
		result(n, r)
	})
}

// A program sets its budgets at each start: that takes no top-up back.
func TestP7_aTopUpStaysWhenABudgetIsSetAgain(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		n := client(t, open(), nil)
		for _, per := range []time.Duration{0, 1000 * 24 * time.Hour} {
			b := pawl.Budget{Name: per.String(), Limit: 100, Per: per, Wait: true}
			n.setBudget(b)
			if _, err := n.TopUp(n.ctx, "", b.Name, 50); err != nil {
				t.Fatal(err)
			}
			n.setBudget(b)
			got, err := n.Budgets(n.ctx, pawl.BudgetFilter{Name: b.Name})
			if err != nil || len(got) != 1 || got[0].Left() != 150 {
				t.Errorf("per %v: %+v, %v", per, got, err)
			}
			if _, err := n.TopUp(n.ctx, "", b.Name, -151); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("per %v: below zero: %v", per, err)
			}
		}
	})
}
