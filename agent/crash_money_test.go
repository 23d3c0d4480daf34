package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// TestCrashRunsRaceForABudget: many runs race for one shared budget while their processes
// are killed. The budget is never overrun, and the ledger is the provider's bill to the
// micro-dollar, less the calls that a kill has cut off: those stay reserved and are listed.
func TestCrashRunsRaceForABudget(t *testing.T) {
	runs, kills, seeds, first := 60, 5, uint64(1), crashSeed(t)
	if long() {
		runs, kills, seeds = 500, 20, 20
	}
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Run("sqlite", func(t *testing.T) { // a file has one process at a time
				t.Parallel()
				raceOf(seed, runs).hold(t, filepath.Join(t.TempDir(), "pawl.db"), kills, workerOf{Drive: true, AtOnce: 6}).none(t)
			})
			t.Run("postgres", func(t *testing.T) { // it has another seed: of two neighbours one fails and one waits
				t.Parallel()
				w := workerOf{AtOnce: 2}
				raceOf(seed+1, runs).hold(t, pgtest.URL(t), kills, workerOf{Drive: true, Idle: true}, w, w, w).none(t)
			})
		})
	}
}

// TestCrashNoticesALostSettle: a store that loses some of what calls have cost must be
// found out, although what it leaves looks like calls that were cut off.
func TestCrashNoticesALostSettle(t *testing.T) {
	found := raceOf(crashSeed(t), 60).hold(t, filepath.Join(t.TempDir(), "pawl.db"), 2, workerOf{Drive: true, AtOnce: 6, Mutant: "settles are lost"})
	if len(found) == 0 {
		t.Fatal("a store that loses every tenth settle went unnoticed")
	}
	t.Logf("noticed: %s", found[0])
}

// race is so many runs that make three calls each and share one budget.
type race struct {
	Seed   uint64
	Runs   int
	Budget pawl.Budget
	Family bool   // the budget is that of a run whose children they are
	Report string // a file, to which the driver writes how the budget stands, again and again
}

const (
	callsOfRun  = 3
	callsAnswer = 100 // most tokens
	typicalCost = 36
)

// raceOf makes each seed another race: the budget is that of a tenant, of a workflow, of an
// attribute, of another tenant or of a run; it fails steps (odd seeds) or lets them wait.
func raceOf(seed uint64, runs int) race {
	r := race{Seed: seed, Runs: runs, Budget: pawl.Budget{Name: "shared", Wait: seed%2 == 0}}
	all := int64(runs * callsOfRun * typicalCost)
	r.Budget.Limit = all * 6 / 10
	if r.Budget.Wait {
		r.Budget.Limit = all * 2 / 10 // the rest comes by and by
	}
	switch seed / 2 % 5 {
	case 1:
		r.Budget.Workflow = "ask"
	case 2:
		r.Budget.Attr, r.Budget.Value = "team", "red"
	case 3:
		r.Budget.Tenant = "acme"
	case 4:
		r.Family = true
		r.Budget.Name = pawl.RunBudgetName("crowd", pawl.USD)
	}
	return r
}

func runOf(i int) string { return fmt.Sprintf("run-%03d", i) }

// asksThrice is the workflow of the race, and one whose children the runs are.
func asksThrice(m *Models) (ask *pawl.Workflow[int, string], crowd *pawl.Workflow[int, int]) {
	ask = pawl.Define("ask", func(c *pawl.Context, _ int) (last string, err error) {
		for i := range callsOfRun {
			q := Call{Prompt: fmt.Sprintf("%s %d: may I?", c.RunID(), i+1), MaxTokens: callsAnswer}
			if last, err = Generate[string](c, m, "ask", q); err != nil {
				return last, err
			}
		}
		return last, nil
	})
	crowd = pawl.Define("crowd", func(c *pawl.Context, runs int) (failed int, err error) {
		children := make([]*pawl.Child[string], runs)
		for i := range children {
			if children[i], err = ask.Spawn(c, i, pawl.ID(runOf(i))); err != nil {
				return failed, err
			}
		}
		for _, child := range children {
			var end *pawl.RunError
			if _, err := child.Wait(c); errors.As(err, &end) {
				failed++
			} else if err != nil {
				return failed, err
			}
		}
		return failed, nil
	})
	return ask, crowd
}

// raceWorker is the process that is killed.
func raceWorker(ctx context.Context, w workerOf, store pawl.Store) error {
	ask, crowd := asksThrice(pricedAt(w.URL, w.Name))
	e := pawl.New(store, killable(&pawl.Options{MaxRunning: w.AtOnce, MaxParked: 8, ParkFor: 50 * time.Millisecond}))
	if err := e.Register(ask, crowd); err != nil {
		return err
	}
	fmt.Println("ready")
	if !w.Drive {
		return e.Run(ctx)
	}
	if w.Idle {
		return w.Race.drive(ctx, e, ask, crowd)
	}
	working, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- e.Run(working) }()
	err := w.Race.drive(ctx, e, ask, crowd)
	stop()
	return errors.Join(err, <-done)
}

// killable are the options of a worker that is killed often: others need not wait long for
// its lease to end, and it is not the runs' fault.
func killable(o *pawl.Options) *pawl.Options {
	o.Lease, o.Poll, o.MaxStrikes = 2*time.Second, 100*time.Millisecond, 1000
	o.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	return o
}

// drive starts the runs that are not there yet, and sees to it that they all can end. It
// tops the budget up by and by where its steps wait.
func (r race) drive(ctx context.Context, e *pawl.Engine, ask *pawl.Workflow[int, string], crowd *pawl.Workflow[int, int]) error {
	report, err := os.OpenFile(r.Report, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	which := pawl.BudgetFilter{Tenant: r.Budget.Tenant, Name: r.Budget.Name}
	found, err := e.Budgets(ctx, which)
	if err == nil && len(found) == 0 && !r.Family { // else it would lose what it was topped up by
		_, err = e.SetBudget(ctx, r.Budget)
	}
	if err != nil {
		return err
	}
	started := make(chan error, 1)
	go func() { started <- r.start(ctx, e, ask, crowd) }()
	random := rand.New(rand.NewPCG(r.Seed, uint64(os.Getpid())))
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-started:
			if started = nil; err != nil {
				return err
			}
		case <-tick.C:
		}
		found, err := e.Budgets(ctx, which)
		if err != nil {
			return err
		}
		for _, b := range found { // of a family it may not be there yet
			line, _ := json.Marshal(b)
			if _, err := report.Write(append(line, '\n')); err != nil {
				return err
			}
			if b.Wait && b.Left() < 2*typicalCost && random.IntN(8) == 0 { // not at once: they are to wait
				if _, err := e.TopUp(ctx, b.Tenant, b.Name, 1+random.Int64N(40*typicalCost)); err != nil {
					return err
				}
			}
		}
		stats, err := e.Stats(ctx)
		if err != nil {
			return err
		}
		under := int64(0)
		for state, n := range stats.Runs {
			if !state.Terminal() {
				under += n
			}
		}
		if started == nil && under == 0 {
			return report.Close()
		}
	}
}

func (r race) start(ctx context.Context, e *pawl.Engine, ask *pawl.Workflow[int, string], crowd *pawl.Workflow[int, int]) error {
	if r.Family {
		_, err := crowd.Start(ctx, e, r.Runs, pawl.ID("crowd"), pawl.RunBudget(pawl.USD, r.Budget.Limit, r.Budget.Wait))
		return err
	}
	there, err := e.List(ctx, pawl.Filter{Tenant: r.Budget.Tenant, Limit: 1000})
	for i := len(there); i < r.Runs && err == nil; i++ { // in this order, so those are the first ones
		opts := []pawl.StartOption{pawl.ID(runOf(i)), pawl.Tenant(r.Budget.Tenant)}
		if r.Budget.Attr != "" {
			opts = append(opts, pawl.Attributes(map[string]any{r.Budget.Attr: r.Budget.Value}))
		}
		_, err = ask.Start(ctx, e, i, opts...)
	}
	return err
}

// crew is the workers of a race, of which the first drives.
type crew struct {
	race
	t       *testing.T
	till    *till
	store   string
	workers []workerOf
	all     []*process
}

func (c *crew) hire(i int) {
	w := c.workers[i]
	w.Work, w.Store, w.Name, w.URL, w.Race = "race", c.store, fmt.Sprint(i), c.till.url, c.race
	c.all[i] = spawn(c.t, w)
}

// hold runs the race, and kills some of its workers.
func (r race) hold(t *testing.T, store string, kills int, workers ...workerOf) (found findings) {
	began := time.Now()
	r.Report = filepath.Join(t.TempDir(), "report")
	c := &crew{race: r, t: t, till: newTill(t, r.Seed), store: store, workers: workers, all: make([]*process, len(workers))}
	for i := range workers {
		c.hire(i)
	}
	n, zombies := 0, 0
	for random := rand.New(rand.NewPCG(r.Seed, 2)); n < kills; n++ {
		// Of two deaths one is when an answer is on its way, which has to be paid.
		exact := n%2 == 0
		at := c.await(random, kills, exact)
		if at == nil {
			break
		}
		victim, err := strconv.Atoi(at.who)
		if err != nil {
			t.Fatal(err)
		}
		if len(workers) > 1 && n%10 == 4 {
			c.all[victim].freeze(func() { c.awaitDead() })
			at.letGo()
			zombies++
			continue
		}
		if !exact && random.IntN(2) == 0 {
			victim = random.IntN(len(workers))
		}
		if !exact && random.IntN(2) == 0 { // the answer may be recorded just now
			at.letGo()
			time.Sleep(time.Duration(random.IntN(10_000)) * time.Microsecond)
		}
		if victim == 0 && c.all[0].ended() {
			at.letGo()
			break
		}
		c.all[victim].kill()
		at.letGo()
		c.hire(victim)
	}
	select {
	case <-c.all[0].gone:
	case <-time.After(3 * time.Minute):
		t.Fatal("runs have not ended 3 minutes after the last kill")
	}
	for _, p := range c.all {
		p.end()
	}
	if t.Failed() {
		return nil
	}
	t.Logf("%d kills, %d workers stopped for longer than their lease, %.1f s", n-zombies, zombies, time.Since(began).Seconds())
	look(t, store, func(e *pawl.Engine) { found = r.check(t, e, c.till) })
	return found
}

// await waits for one of the next points: so many that the kills are spread over the race.
func (c *crew) await(random *rand.Rand, kills int, exact bool) *point {
	calls := callsOfRun * c.Runs
	if !c.Budget.Wait {
		calls /= 2 // or so: then the money is spent
	}
	counts := func(what string) bool { return what == "answered" || !exact }
	return c.till.await(1+random.IntN(calls/kills), counts, c.all[0].gone)
}

// awaitDead waits until one of those who work has no lease any more, and others have begun
// with its runs.
func (c *crew) awaitDead() {
	store, err := openStore(c.t.Context(), c.store)
	if err != nil {
		c.t.Fatal(err)
	}
	for seen := 0; seen < 10; time.Sleep(50 * time.Millisecond) {
		stats, err := store.Stats(c.t.Context(), time.Now())
		if err != nil {
			c.t.Fatal(err)
		}
		if seen++; stats.Workers >= int64(len(c.workers)-1) {
			seen = 0
		}
	}
	if err := store.Close(); err != nil {
		c.t.Fatal(err)
	}
}
