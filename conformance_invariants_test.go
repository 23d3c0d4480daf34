package pawl_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
)

// journey goes through every kind of durable call. who tells whose bodies ran.
func journey(who string, bodies *counts, ids *sync.Map) []pawl.Definition {
	step := func(c *pawl.Context, name string, v int) (int, error) {
		return pawl.Step(c, name, func(ctx context.Context) (int, error) {
			i := pawl.InfoOf(ctx)
			bodies.add(who + " " + i.Step)
			if old, was := ids.LoadOrStore(i.Step, i.StepID); was && old != i.StepID {
				return 0, pawl.Fatal(fmt.Errorf("step %s has two ids: %v and %s", i.Step, old, i.StepID))
			}
			return v, nil
		})
	}
	child := pawl.Define("child", func(c *pawl.Context, v int) (int, error) { return v + 1, nil })
	return []pawl.Definition{child, pawl.Define("journey", func(c *pawl.Context, in int) (sum int, err error) {
		add := func(v int, e error) {
			sum += v
			if err == nil {
				err = e
			}
		}
		add(step(c, "first", in))
		add(0, c.SetAttributes(attrs{"phase": "begun"}))
		parts, perr := pawl.Map(c, "part", []int{10, 20, 30}, func(c *pawl.Context, v int) (int, error) {
			v, err := step(c, "one", v)
			if err != nil {
				return 0, err
			}
			w, err := step(c, "two", v)
			return v + w, err
		})
		for _, p := range parts {
			add(p, perr)
		}
		add(0, c.Sleep(25*time.Millisecond))
		add(pawl.WaitFor[int](c, "go"))
		h, herr := pawl.NewHook[int](c)
		add(0, herr)
		if err != nil {
			return 0, err
		}
		add(0, h.Close(c))
		add(child.Call(c, 1000))
		add(pawl.Race(c,
			pawl.Go(c, "fast", func(c *pawl.Context) (int, error) { return step(c, "win", 5) }),
			pawl.Go(c, "slow", func(c *pawl.Context) (int, error) { return 0, c.Sleep(time.Hour) })))
		add(0, c.Stream("out").Write("chunk"))
		add(step(c, "last", c.Rand().IntN(1000)))
		return sum, err
	})}
}

// A process that is killed at its n-th commit, for every n, just before or just after it
// was written: the result is the same, no recorded step runs again, and one that was
// interrupted runs again under the same id.
func TestD6_01_killAtEveryCommit(t *testing.T) {
	for _, written := range []bool{false, true} {
		t.Run(fmt.Sprintf("written=%v", written), func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() pawl.Store) {
				n, crashes := 1, 0
				for ; n < 100; n++ {
					if !killAt(t, open, int64(n), written) {
						break
					}
					crashes++
				}
				if crashes < 8 {
					t.Errorf("it was killed %d times only", crashes)
				}
			})
		})
	}
}

// killAt reports whether the first process lived to be killed.
func killAt(t *testing.T, open func() pawl.Store, at int64, written bool) bool {
	var commits atomic.Int64
	s := &cut{Store: open()}
	defer s.Close()
	hit := func(b *pawl.Batch) {
		if len(b.Changes) > 0 && commits.Add(1) == at {
			if err := s.die(); err != nil {
				t.Error(err)
			}
		}
	}
	if written {
		s.after = hit
	} else {
		s.before = func(b *pawl.Batch) error { hit(b); return nil }
	}
	var bodies counts
	var ids sync.Map
	id := fmt.Sprint("journey-", at)
	one := boot(t, s, mayCrash(), journey("first", &bodies, &ids)...)
	outside := client(t, open(), nil, journey("client", &bodies, &ids)...)
	defer outside.store.Close()
	defer one.stop()
	if _, err := one.StartRun(outside.ctx, "journey", []byte("1"), pawl.ID(id)); err != nil && !s.dead.Load() {
		t.Fatal(err)
	}
	n := outside
	n.until("a crash or an end", func() bool {
		if s.dead.Load() {
			return true
		}
		info := n.info(id)
		if info.State == pawl.Waiting && len(n.journal(id, pawl.KindEvent)) == 0 && len(n.journal(id, pawl.KindSleep)) > 0 {
			if err := n.Signal(n.ctx, id, "go", 100); err != nil && !errors.Is(err, pawl.ErrEnded) {
				t.Fatal(err)
			}
			n.until("the event to be taken or a crash", func() bool { return s.dead.Load() || len(n.journal(id, pawl.KindEvent)) > 0 })
		}
		return info.State.Terminal()
	})
	crashed := s.dead.Load()
	var before []string
	if crashed {
		before = n.keys(id, pawl.KindStep)
		two := boot(t, open(), nil, journey("second", &bodies, &ids)...)
		defer two.store.Close()
		defer two.stop()
		if len(n.journal(id, pawl.KindEvent)) == 0 {
			if err := n.Signal(n.ctx, id, "go", 100); err != nil && !errors.Is(err, pawl.ErrEnded) {
				t.Fatal(err)
			}
		}
	}
	got := result(n, pawl.Attach[int](n.Engine, id))
	base := 1 + 2*(10+20+30) + 100 + 1001 + 5
	if got < base || got >= base+1000 {
		t.Errorf("killed at commit %d: result %d", at, got)
	}
	for _, key := range before {
		if c := bodies.get("second " + key); c != 0 {
			t.Errorf("killed at commit %d: step %q was recorded and ran again", at, key)
		}
	}
	for _, key := range n.keys(id, pawl.KindStep) {
		if c := bodies.get("first " + key); c > 1 {
			t.Errorf("killed at commit %d: step %q ran %d times", at, key, c)
		}
		if !slices.Contains(before, key) && crashed && bodies.get("second "+key) != 1 {
			t.Errorf("killed at commit %d: step %q was not recorded and ran %d times afterwards", at, key, bodies.get("second "+key))
		}
	}
	if keys := n.keys(id, pawl.KindStep); len(keys) != 9 || len(slices.Compact(slices.Sorted(slices.Values(keys)))) != 9 {
		t.Errorf("killed at commit %d: steps %v", at, keys)
	}
	equal(t, "chunks", read(n, id, "out", 0), []string{`"chunk"`})
	noTrouble(n, []string{id})
	return crashed
}

func TestD6_02_twoProcesses(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		w := pawl.Define("shared", func(c *pawl.Context, n int) (int, error) {
			for range 4 {
				if err := pawl.Do(c, "step", func(ctx context.Context) error { bodies.add(pawl.InfoOf(ctx).StepID); return nil }); err != nil {
					return 0, err
				}
				if err := c.Sleep(15 * time.Millisecond); err != nil { // it may move
					return 0, err
				}
			}
			return n, nil
		})
		a, b := boot(t, open(), replays(), w), boot(t, open(), replays(), w)
		starter := client(t, open(), nil, w)
		var all []*pawl.Run[int]
		for i := range 20 {
			all = append(all, start(starter, w, i))
		}
		for i, r := range all {
			equal(t, "result", result([]*node{a, b}[i%2], r), i)
			for _, key := range starter.keys(r.ID(), pawl.KindStep) {
				equal(t, "bodies of "+key, bodies.get(r.ID()+"/"+key), 1)
			}
		}
	})
}

// What an owner says whose lease is over is refused, even though it does not know yet.
func TestD6_02_lateWriterIsRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := addTen("addTen")
		s := open()
		n := client(t, s, nil, w)
		r := start(n, w, 1)
		now := time.Now()
		old, err := s.Join(n.ctx, pawl.WorkerInfo{Name: "old", Started: now}, now.Add(time.Millisecond))
		n.ok(err)
		ask := pawl.ClaimRequest{Worker: old, Now: now, Limit: 10, Workflows: []string{"addTen"}}
		c1, err := s.Claim(n.ctx, ask)
		n.ok(err)
		equal(t, "claimed by the first", len(c1.Runs), 1)
		later := now.Add(time.Second)
		fresh, err := s.Join(n.ctx, pawl.WorkerInfo{Name: "fresh", Started: later}, later.Add(time.Minute))
		n.ok(err)
		ask.Worker, ask.Now = fresh, later
		c2, err := s.Claim(n.ctx, ask)
		n.ok(err)
		equal(t, "claimed by the second", len(c2.Runs), 1)
		equal(t, "epoch", c2.Runs[0].Info.Epoch, c1.Runs[0].Info.Epoch+1)
		before := len(n.journal(r.ID()))
		ch := &pawl.Change{Run: c1.Runs[0].Info.Key, Epoch: c1.Runs[0].Info.Epoch,
			Entries: []pawl.Entry{{Seq: 1, Kind: pawl.KindStep, Key: "add", At: later}}}
		is(t, s.Commit(n.ctx, &pawl.Batch{Worker: old, Now: later, Changes: []*pawl.Change{ch}}), pawl.ErrFenced)
		is(t, s.Beat(n.ctx, old, later, later.Add(time.Minute)), pawl.ErrFenced)
		equal(t, "entries", len(n.journal(r.ID())), before)
	})
}

// counter counts what an engine asks of its store per step.
func TestD6_03_costPerStepIsFlat(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) { costPerStep(t, open(), 1500) })
}

func TestD6_03_costOfTenThousandSteps(t *testing.T) {
	t.Parallel()
	s, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	costPerStep(t, s, 10_000)
}

func costPerStep(t *testing.T, store pawl.Store, steps int) {
	type cost struct{ calls, changes, entries int64 }
	var changes, entries atomic.Int64
	s := &cut{Store: store, before: func(b *pawl.Batch) error {
		for _, ch := range b.Changes {
			changes.Add(1)
			entries.Add(int64(len(ch.Entries)))
		}
		return nil
	}}
	var marks []cost
	w := pawl.Define("long", func(c *pawl.Context, steps int) (int, error) {
		sum := 0
		for i := range steps {
			if i%(steps/10) == 0 {
				marks = append(marks, cost{s.calls.Load(), changes.Load(), entries.Load()})
			}
			v, err := pawl.Step(c, "step", func(context.Context) (int, error) { return i, nil })
			if err != nil {
				return 0, err
			}
			sum += v
		}
		return sum, nil
	})
	n := boot(t, s, &pawl.Options{Poll: time.Minute, Lease: 2 * time.Minute}, w)
	equal(t, "result", complete(n, w, steps), steps*(steps-1)/2)
	per := int64(steps / 10)
	for i := 1; i < len(marks); i++ {
		d := cost{marks[i].calls - marks[i-1].calls, marks[i].changes - marks[i-1].changes, marks[i].entries - marks[i-1].entries}
		// Besides one commit of one entry per step there are the heartbeats and hints of the time that it took.
		if d.changes != per || d.entries != per || d.calls < per || d.calls > per+per/10 {
			t.Errorf("steps %d to %d of %d: %d calls of the store, %d changes, %d entries", int64(i-1)*per, int64(i)*per, steps, d.calls, d.changes, d.entries)
		}
	}
}

func TestD6_04_signalBeforeDuringAfter(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		w := pawl.Define("signals", func(c *pawl.Context, many int) ([]int, error) {
			if err := pawl.Do(c, "busy", g.pass); err != nil {
				return nil, err
			}
			var got []int
			for range many {
				v, err := pawl.WaitFor[int](c, "n")
				if err != nil {
					return nil, err
				}
				if got = append(got, v); v == 4 {
					if err := c.Sleep(50 * time.Millisecond); err != nil {
						return nil, err
					}
				}
			}
			return got, nil
		})
		n, outside := boot(t, open(), replays(), w), client(t, open(), nil)
		r := start(n, w, 8, pawl.Delay(100*time.Millisecond))
		send := func(v int) { []*node{n, outside}[v%2].signal(r.ID(), "n", v) }
		send(1) // before the run has begun
		g.wait(t)
		send(2) // before it waits, while it is at work
		send(3)
		g.open()
		n.reaches(r.ID(), pawl.Waiting)
		send(4) // while it waits
		n.sees(r.ID(), pawl.KindSleep, "$sleep")
		send(5) // while it waits for something else
		send(6)
		n.sees(r.ID(), pawl.KindEvent, "$event:n#6")
		send(7)
		send(8)
		equal(t, "each once, in order", result(n, r), []int{1, 2, 3, 4, 5, 6, 7, 8})
		is(t, n.Signal(n.ctx, r.ID(), "n", 9), pawl.ErrEnded)
	})
}

func TestD6_05_cancelReachesStepsAndChildren(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var mu sync.Mutex
		var undone []string
		seen := make(chan time.Time, 10)
		g := newGate()
		body := func(ctx context.Context) error {
			g.reached <- 1
			<-ctx.Done()
			seen <- time.Now()
			return context.Cause(ctx)
		}
		undo := func(name string) func(context.Context) error {
			return func(ctx context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				if ctx.Err() == nil {
					undone = append(undone, name)
				}
				return nil
			}
		}
		grandchild := pawl.Define("grandchild", func(c *pawl.Context, _ none) (none, error) {
			c.OnFailure("grandchild", undo("grandchild"))
			return none{}, pawl.Do(c, "work", body)
		})
		child := pawl.Define("child", func(c *pawl.Context, _ none) (none, error) { return grandchild.Call(c, none{}) })
		parent := pawl.Define("parent", func(c *pawl.Context, _ none) (none, error) {
			c.OnFailure("first", undo("first"))
			f := pawl.Go(c, "child", func(c *pawl.Context) (none, error) { return child.Call(c, none{}) })
			c.OnFailure("second", undo("second"))
			if err := pawl.Do(c, "work", body); err != nil {
				return none{}, err
			}
			return f.Wait(c)
		})
		a, outside := boot(t, open(), nil, parent, child, grandchild), client(t, open(), nil)
		r := start(a, parent, none{})
		g.wait(t)
		g.wait(t)
		ordered := time.Now()
		outside.cancel(r.ID(), "stop all")
		equal(t, "state", failure(a, r).State, pawl.Cancelled)
		for range 2 {
			if late := (<-seen).Sub(ordered); late > time.Second {
				t.Errorf("a step saw the cancel after %v", late)
			}
		}
		var kids []pawl.RunInfo
		a.until("the children to end", func() bool {
			runs, err := a.List(a.ctx, pawl.Filter{States: []pawl.State{pawl.Cancelled}})
			a.ok(err)
			kids = runs
			return len(runs) == 3
		})
		for _, k := range kids {
			if late := k.Ended.Sub(ordered); late > 2*time.Second {
				t.Errorf("%s ended %v after the order", k.Workflow, late)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		own := slices.DeleteFunc(slices.Clone(undone), func(s string) bool { return s == "grandchild" })
		equal(t, "compensations of the parent", own, []string{"second", "first"})
		equal(t, "compensations", len(undone), 3)
	})
}

// The deadline of a parent reaches its own step, its child and the child's step within a
// second, and compensations run. Who ran out of time says so; the child was cancelled.
func TestD6_05_timeoutReachesStepsAndChildren(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var undone counts
		seen := make(chan time.Time, 2)
		body := func(ctx context.Context) error {
			<-ctx.Done()
			seen <- time.Now()
			return context.Cause(ctx)
		}
		child := pawl.Define("child", func(c *pawl.Context, _ none) (none, error) {
			c.OnFailure("child", func(context.Context) error { undone.add("child"); return nil })
			return none{}, pawl.Do(c, "work", body)
		})
		parent := pawl.Define("parent", func(c *pawl.Context, _ none) (none, error) {
			c.OnFailure("parent", func(context.Context) error { undone.add("parent"); return nil })
			f := pawl.Go(c, "child", func(c *pawl.Context) (none, error) { return child.Call(c, none{}) })
			if err := pawl.Do(c, "work", body); err != nil {
				return none{}, err
			}
			return f.Wait(c)
		}, pawl.Timeout(500*time.Millisecond))
		n := boot(t, open(), nil, parent, child)
		r := start(n, parent, none{})
		err := failure(n, r)
		equal(t, "state", err.State, pawl.Failed)
		is(t, err, pawl.ErrTimeout)
		deadline := n.info(r.ID()).Deadline
		for range 2 {
			if late := (<-seen).Sub(deadline); late < 0 || late > time.Second {
				t.Errorf("a step saw the deadline %v after it", late)
			}
		}
		var kid struct{ ID string }
		mustDecode(t, string(n.journal(r.ID(), pawl.KindChild)[0].Data), &kid)
		n.reaches(kid.ID, pawl.Cancelled)
		equal(t, "compensations", fmt.Sprint(undone.get("parent"), undone.get("child")), "1 1")
	})
}

// A crash among the compensations: none runs again that is recorded, none is left out.
func TestD6_05_compensationSurvivesACrash(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		for how, end := range map[string]pawl.State{"fail": pawl.Failed, "cancel": pawl.Cancelled} {
			var bodies counts
			g := newGate()
			w := pawl.Define("saga", func(c *pawl.Context, how string) (none, error) {
				names := []string{"a", "b", "c"}
				for _, name := range names {
					if err := pawl.Do(c, name, func(context.Context) error { bodies.add(name); return nil }); err != nil {
						return none{}, err
					}
					c.OnFailure(name, func(ctx context.Context) error {
						bodies.add("undo " + name)
						if name == "b" {
							return g.pass(ctx)
						}
						return nil
					})
				}
				if how == "fail" {
					return none{}, errors.New("it failed")
				}
				_, err := pawl.WaitFor[none](c, "never")
				return none{}, err
			})
			first := boot(t, open(), mayCrash(), w)
			r := start(first, w, how)
			if how == "cancel" {
				first.reaches(r.ID(), pawl.Waiting)
				first.cancel(r.ID(), "stop")
			}
			g.wait(t) // at undoing b
			first.crash()
			second := boot(t, open(), nil, w)
			g.wait(t)
			g.open()
			equal(t, "state", failure(second, r).State, end)
			for key, want := range map[string]int{"a": 1, "b": 1, "c": 1, "undo c": 1, "undo b": 2, "undo a": 1} {
				if got := bodies.get(key); got != want {
					t.Errorf("%s: body of %q ran %d times, want %d", how, key, got, want)
				}
			}
			equal(t, "recorded", second.keys(r.ID(), pawl.KindStep), []string{"a", "b", "c", "$undo:c", "$undo:b", "$undo:a"})
			first.stop()
			second.stop()
		}
	})
}

// What a cancelled scope did stays what it did when the run is replayed: a step after it
// that is recorded does not run again.
func TestD6_01_cancelledScopesReplay(t *testing.T) {
	for name, wait := range map[string]func(inner, c *pawl.Context) error{
		"sleep": func(inner, c *pawl.Context) error { return inner.Sleep(800 * time.Millisecond) },
		"event": func(inner, c *pawl.Context) error { _, err := pawl.WaitFor[none](inner, "never"); return err },
		"step": func(inner, c *pawl.Context) error {
			return pawl.Do(inner, "slow", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		},
		"future": func(inner, c *pawl.Context) error {
			f := pawl.Go(c, "branch", func(c *pawl.Context) (none, error) { return none{}, c.Sleep(800 * time.Millisecond) })
			_, err := f.Wait(inner)
			return err
		},
		"map": func(inner, c *pawl.Context) error {
			_, err := pawl.Map(inner, "part", make([]int, 3), func(c *pawl.Context, _ int) (none, error) { return none{}, c.Sleep(800 * time.Millisecond) }, pawl.Limit(2))
			return err
		},
		"race": func(inner, c *pawl.Context) error {
			f := pawl.Go(c, "branch", func(c *pawl.Context) (none, error) { return none{}, c.Sleep(800 * time.Millisecond) })
			_, err := pawl.Race(inner, f)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() pawl.Store) {
				var bodies counts
				w := pawl.Define("scopes", func(c *pawl.Context, _ none) ([]bool, error) {
					inner, cancel := pawl.WithTimeout(c, 60*time.Millisecond)
					defer cancel(nil)
					err := wait(inner, c)
					after := "timed out"
					if err == nil {
						after = "in time"
					}
					if err := pawl.Do(c, after, func(context.Context) error { bodies.add(after); return nil }); err != nil {
						return nil, err
					}
					// By the time of this replay the sleeps above would have ended.
					if err := c.Sleep(time.Second); err != nil {
						return nil, err
					}
					return []bool{errors.Is(err, pawl.ErrTimeout)}, nil
				})
				n := boot(t, open(), replays(), w)
				r := start(n, w, none{})
				equal(t, "timed out", result(n, r), []bool{true})
				equal(t, "bodies", bodies.get("timed out"), 1)
				equal(t, "other bodies", bodies.get("in time"), 0)
				noTrouble(n, []string{r.ID()})
			})
		})
	}
}

func TestD6_08_readerReconnects(t *testing.T) {
	const chunks = 120
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("writer", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "write", func(ctx context.Context) error {
				for i := range chunks {
					if err := pawl.StreamOf(ctx, "s").Write(i); err != nil {
						return err
					}
					if i%10 == 0 {
						time.Sleep(time.Millisecond)
					}
				}
				return pawl.StreamOf(ctx, "s").Close()
			})
		})
		n, reader := boot(t, open(), nil, w), client(t, open(), nil)
		r := start(n, w, none{})
		var got []string
		next := int64(0)
		for len(got) < chunks {
			last := len(got)
			for c, err := range reader.ReadStream(reader.ctx, "", r.ID(), "s", next) {
				if err != nil {
					t.Fatal(err)
				}
				got, next = append(got, string(c.Data)), c.Index+1
				if len(got)-last == 7 { // hangs up and comes back
					break
				}
			}
		}
		for i, s := range got {
			equal(t, "chunk", s, fmt.Sprint(i))
		}
		equal(t, "after the end", len(read(reader, r.ID(), "s", next)), 0)
	})
}

func TestD6_10_sleepsAreNeverEarly(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		type span struct{ Until, Woke time.Time }
		w := pawl.Define("sleeps", func(c *pawl.Context, d time.Duration) (span, error) {
			until, err := pawl.Step(c, "until", func(context.Context) (time.Time, error) { return time.Now().Add(d), nil })
			if err != nil {
				return span{}, err
			}
			if err := c.SleepUntil(until); err != nil {
				return span{}, err
			}
			woke, err := pawl.Step(c, "woke", func(context.Context) (time.Time, error) { return time.Now(), nil })
			return span{until, woke}, err
		})
		s := open()
		n := boot(t, s, &pawl.Options{MaxParked: 10}, w) // some stay in memory, some do not
		var all []*pawl.Run[span]
		for i := range 40 {
			all = append(all, start(n, w, time.Duration(i*37)*time.Millisecond+time.Duration(i*7)*time.Microsecond))
		}
		time.Sleep(300 * time.Millisecond)
		n.stop() // and a restart
		n = boot(t, open(), nil, w)
		for _, r := range all {
			if got := result(n, r); got.Woke.Before(got.Until) {
				t.Errorf("it woke %v early", got.Until.Sub(got.Woke))
			}
		}
	})
}

// This one counts goroutines, so it does not run beside others.
func TestD6_10_sleepersCostNoGoroutines(t *testing.T) {
	sleepers := int64(2_000) // many more than the 300 goroutines that they may have
	if long() {
		sleepers = 10_000
	}
	for _, s := range stores {
		t.Run(s.name, func(t *testing.T) {
			open := s.make(t).open
			w := sleeper(time.Hour)
			n := boot(t, open(), nil, w)
			ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
			defer cancel()
			n.ctx = ctx
			n.until("the worker to join", n.Working)
			before := goroutines(t)
			next := atomic.Int64{}
			var wg sync.WaitGroup
			for range 200 {
				wg.Go(func() {
					for next.Add(1) <= sleepers {
						if _, err := w.Start(n.ctx, n.Engine, none{}); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			n.until("all to sleep", func() bool {
				st, err := n.Stats(n.ctx)
				n.ok(err)
				return st.Runs[pawl.Waiting] == sleepers
			})
			// Those parked in memory are at most MaxParked, which is 256.
			n.until("the goroutines of the others to end", func() bool { return goroutines(t)-before <= 300 })
			found, err := n.Audit(n.ctx)
			equal(t, "runs that nothing would wake", fmt.Sprint(found, err), "[] <nil>")
		})
	}
}

// goroutines counts those that are in pawl's code.
func goroutines(t *testing.T) int {
	t.Helper()
	buf := make([]byte, 64<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), "\ngithub.com/pawlrun/pawl.(*live).begin")
}
