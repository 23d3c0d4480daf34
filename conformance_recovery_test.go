package pawl_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

func TestB1_144_restartRecovery(t *testing.T) {
	const d = time.Second
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		w := pawl.Define("sleeps", func(c *pawl.Context, _ none) (time.Time, error) {
			err := pawl.Do(c, "before", func(context.Context) error { bodies.add("before"); return nil })
			if err == nil {
				err = c.Sleep(d)
			}
			if err != nil {
				return time.Time{}, err
			}
			return pawl.Step(c, "woke", func(context.Context) (time.Time, error) { return time.Now(), nil })
		})
		first := boot(t, open(), mayCrash(), w)
		r := start(first, w, none{})
		first.reaches(r.ID(), pawl.Waiting)
		first.crash()
		second := boot(t, open(), nil, w)
		woke := result(second, r)
		var sleep struct{ Until time.Time }
		mustDecode(t, string(second.journal(r.ID(), pawl.KindSleep)[0].Data), &sleep)
		if began := second.info(r.ID()).Created; sleep.Until.Before(began.Add(d)) {
			t.Errorf("the sleep of a run of %v is to end at %v", began, sleep.Until)
		}
		if woke.Before(sleep.Until) {
			t.Errorf("it woke at %v, before %v", woke, sleep.Until)
		}
		equal(t, "bodies of the step before", bodies.get("before"), 1)
	})
}

// The same where the whole store is closed and opened again.
func TestB1_144_restartOfEverything(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := sleeper(500 * time.Millisecond)
		s := open()
		first := boot(t, s, nil, w)
		r := start(first, w, none{})
		first.reaches(r.ID(), pawl.Waiting)
		first.stop()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		second := boot(t, open(), nil, w)
		if slept := result(second, r); slept < 500*time.Millisecond {
			t.Errorf("by the workflow's clock it slept %v", slept)
		}
		notEarly(second, r.ID(), 500*time.Millisecond)
	})
}

// notEarly fails the test unless a run that has slept d, and done nothing after, ended at
// its sleep's end or later.
func notEarly(n *node, id string, d time.Duration) {
	n.t.Helper()
	info := n.info(id)
	var sleep struct{ Until time.Time }
	mustDecode(n.t, string(n.journal(id, pawl.KindSleep)[0].Data), &sleep)
	if sleep.Until.Before(info.Created.Add(d)) || info.Ended.Before(sleep.Until) {
		n.t.Errorf("a run of %v slept %v, was to wake at %v and ended at %v", info.Created, d, sleep.Until, info.Ended)
	}
}

func TestB1_145_killedMidStep(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		var mu sync.Mutex
		var infos []pawl.Info
		w := pawl.Define("killed", func(c *pawl.Context, _ none) (int, error) {
			return pawl.Step(c, "long", func(ctx context.Context) (int, error) {
				mu.Lock()
				infos = append(infos, pawl.InfoOf(ctx))
				mu.Unlock()
				return 7, g.pass(ctx)
			})
		})
		first := boot(t, open(), mayCrash(), w)
		r := start(first, w, none{})
		g.wait(t)
		first.crash()
		second := boot(t, open(), nil, w)
		g.wait(t) // the second execution has begun
		g.open()
		equal(t, "result", result(second, r), 7)
		mu.Lock()
		defer mu.Unlock()
		equal(t, "executions", len(infos), 2)
		equal(t, "idempotency key", infos[1].StepID, infos[0].StepID)
		equal(t, "attempt", infos[1].Attempt, 1)
		equal(t, "recorded results", len(second.journal(r.ID(), pawl.KindStep)), 1)
	})
}

func TestB1_147_secondWorkerDoesNotRerun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		var bodies counts
		w := pawl.Define("inFlight", func(c *pawl.Context, _ none) (int, error) {
			return pawl.Step(c, "long", func(ctx context.Context) (int, error) { return bodies.add("long"), g.pass(ctx) })
		})
		other := addTen("addTen")
		lease := &pawl.Options{Lease: 2 * time.Second}
		first := boot(t, open(), lease, w)
		r := start(first, w, none{})
		g.wait(t)
		ended := time.Now().Add(2 * time.Second) // the lease under which the step began, if nobody extends it
		looks := &claims{Store: open()}
		second := boot(t, looks, lease, w, other)
		equal(t, "the second worker works", complete(second, other, 1), 11)
		second.until("the second worker to have looked for work after that lease", func() bool { return looks.last.Load() > ended.UnixNano() })
		g.open()
		equal(t, "result", result(second, r), 1)
		equal(t, "executions", bodies.get("long"), 1)
	})
}

// claims knows the time of the last claim that was answered, in Unix nanoseconds.
type claims struct {
	pawl.Store
	last atomic.Int64
}

func (c *claims) Claim(ctx context.Context, r pawl.ClaimRequest) (pawl.Claims, error) {
	got, err := c.Store.Claim(ctx, r)
	if err == nil {
		c.last.Store(r.Now.UnixNano())
	}
	return got, err
}

// noTrouble fails the test if one of the runs was blocked, or its journal did not fit its code.
func noTrouble(n *node, ids []string) {
	n.t.Helper()
	for _, id := range ids {
		if info := n.info(id); info.State != pawl.Completed {
			n.t.Errorf("run %s is %s: %s", id, info.State, info.Reason)
		}
		if drift := n.journal(id, pawl.KindDrift); len(drift) > 0 {
			n.t.Errorf("run %s has drifted: %s", id, drift[0].Data)
		}
	}
}

func TestB1_148_stepStorm(t *testing.T) {
	const runs, branches = 10, 20
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("storm", func(c *pawl.Context, n int) (int, error) {
			out, err := pawl.Map(c, "part", make([]int, branches), func(c *pawl.Context, _ int) (int, error) {
				a, err := pawl.Step(c, "one", func(context.Context) (int, error) { return n, nil })
				if err != nil {
					return 0, err
				}
				if err := c.Sleep(time.Millisecond); err != nil {
					return 0, err
				}
				return pawl.Step(c, "two", func(context.Context) (int, error) { return a + 1, nil })
			})
			sum := 0
			for _, v := range out {
				sum += v
			}
			return sum, err
		})
		one, two := boot(t, open(), nil, w), boot(t, open(), replays(), w)
		var all []*pawl.Run[int]
		for i := range runs {
			all = append(all, start([]*node{one, two}[i%2], w, i))
		}
		var ids []string
		for i, r := range all {
			equal(t, "result", result(one, r), branches*(i+1))
			equal(t, "steps", len(one.journal(r.ID(), pawl.KindStep)), 2*branches)
			ids = append(ids, r.ID())
		}
		noTrouble(one, ids)
	})
}

func TestB1_149_hookStorm(t *testing.T) {
	const many = 40
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("storm", func(c *pawl.Context, _ none) ([]int, error) {
			h, err := pawl.NewHook[int](c, pawl.Token("t-149"))
			if err != nil {
				return nil, err
			}
			var got []int
			for v, err := range h.All(c) {
				if err != nil {
					return nil, err
				}
				if err := pawl.Do(c, "handle", func(context.Context) error { return nil }); err != nil {
					return nil, err
				}
				if got = append(got, v); len(got) == many {
					break
				}
			}
			return got, nil
		})
		n, other := boot(t, open(), replays(), w), client(t, open(), nil)
		r := start(n, w, none{})
		n.hook("t-149")
		n.reaches(r.ID(), pawl.Waiting)
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() {
				if _, err := []*node{n, other}[i%2].Resume(n.ctx, "t-149", i); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		got := result(n, r)
		slices.Sort(got)
		want := make([]int, many)
		for i := range want {
			want[i] = i
		}
		equal(t, "payloads", got, want)
		equal(t, "entries", len(n.journal(r.ID(), pawl.KindPayload)), many)
		if n.info(r.ID()).Epoch < 2 {
			t.Error("there was no replay")
		}
		noTrouble(n, []string{r.ID()})
	})
}

func TestB1_150_blockedBranch(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		w := pawl.Define("blocked", func(c *pawl.Context, _ none) ([]string, error) {
			blocked := pawl.Go(c, "blocked", func(c *pawl.Context) (string, error) {
				h, err := pawl.NewHook[string](c, pawl.Token("t-150"))
				if err != nil {
					return "", err
				}
				return h.Wait(c)
			})
			busy := pawl.Go(c, "busy", func(c *pawl.Context) (string, error) {
				for range 5 {
					if err := pawl.Do(c, "work", func(context.Context) error { bodies.add("work"); return nil }); err != nil {
						return "", err
					}
					if err := c.Sleep(30 * time.Millisecond); err != nil {
						return "", err
					}
				}
				return "worked", nil
			})
			return pawl.All(c, blocked, busy)
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		n.sees(r.ID(), pawl.KindStep, "busy/work#5") // the branch that waits holds up nobody
		n.resume("t-150", "released")
		equal(t, "result", result(n, r), []string{"released", "worked"})
		equal(t, "bodies", bodies.get("work"), 5)
		noTrouble(n, []string{r.ID()})
	})
}

func TestB1_151_wakeLoop(t *testing.T) {
	const rounds = 8
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		w := pawl.Define("loop", func(c *pawl.Context, _ none) (int, error) {
			for i := range rounds {
				work := pawl.Go(c, "work", func(c *pawl.Context) (none, error) {
					return none{}, pawl.Do(c, "step", func(context.Context) error {
						bodies.add(fmt.Sprint(i))
						time.Sleep(25 * time.Millisecond) // ends about when the sleep does
						return nil
					})
				})
				if err := c.Sleep(25 * time.Millisecond); err != nil {
					return 0, err
				}
				if _, err := work.Wait(c); err != nil {
					return 0, err
				}
			}
			return rounds, nil
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		equal(t, "rounds", result(n, r), rounds)
		for i := range rounds {
			equal(t, fmt.Sprint("bodies of round ", i), bodies.get(fmt.Sprint(i)), 1)
		}
		noTrouble(n, []string{r.ID()})
	})
}

func TestB1_152_inlineHang(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		hang, came := make(chan none), make(chan none, 1)
		defer close(hang)
		flow := func(who string, body func(context.Context) (string, error)) *pawl.Workflow[none, []string] {
			return pawl.Define("hang", func(c *pawl.Context, _ none) ([]string, error) {
				did, err := pawl.Step(c, "step", body)
				return []string{who, did}, err
			})
		}
		old := flow("old", func(context.Context) (string, error) { // heeds nothing
			came <- none{}
			<-hang
			return "late", nil
		})
		fresh := flow("fresh", func(context.Context) (string, error) { return "in time", nil })
		first := boot(t, open(), mayCrash(), old)
		r := start(first, old, none{})
		<-came
		first.crash()
		second := boot(t, open(), nil, fresh)
		equal(t, "result", result(second, r), []string{"fresh", "in time"})
		first.store.dead.Store(false) // it could write again, if it wanted to
		hang <- none{}
		first.stop() // returns when the body has
		equal(t, "recorded", string(second.journal(r.ID(), pawl.KindStep)[0].Data), `"in time"`)
		equal(t, "entries", len(second.journal(r.ID())), 3)
		noTrouble(second, []string{r.ID()})
	})
}

func TestB1_153_hookSleep(t *testing.T) {
	const many = 12
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("either", func(c *pawl.Context, token string) (string, error) {
			h, err := pawl.NewHook[string](c, pawl.Token(token))
			if err != nil {
				return "", err
			}
			got, err := h.Wait(c, pawl.Timeout(60*time.Millisecond))
			if errors.Is(err, pawl.ErrTimeout) {
				got, err = h.Wait(c) // a payload that lost the race is not lost
				got = "late " + got
			}
			return got, err
		})
		n := boot(t, open(), replays(), w)
		var wg sync.WaitGroup
		for i := range many {
			wg.Go(func() {
				token := fmt.Sprint("t-153-", i)
				r := start(n, w, token)
				n.hook(token)
				time.Sleep(time.Duration(30+4*i) * time.Millisecond)
				n.resume(token, token)
				if got := result(n, r); got != token && got != "late "+token {
					t.Errorf("run %d got %q", i, got)
				}
				noTrouble(n, []string{r.ID()})
				taken := slices.DeleteFunc(n.journal(r.ID(), pawl.KindPayload), func(e pawl.Entry) bool { return e.Failed })
				if len(taken) != 1 {
					t.Errorf("run %d took %d payloads", i, len(taken))
				}
			})
		}
		wg.Wait()
	})
}
