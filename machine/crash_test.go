package machine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/machine"
	"github.com/pawlrun/pawl/pawltest"
)

func TestForksSurviveCrashes(t *testing.T) {
	pawltest.CrashEverywhere(t, twiceForked(t).Workflow, machine.Input[value]{State: value{N: 1}})
}

func TestWaitsAndUpdatesSurviveCrashes(t *testing.T) {
	var effects pawltest.Effects
	m := define(t, "payment", "split", nil,
		plain("split", machine.Fork("decide", "legal", "money")),
		plain("legal", machine.Wait("decide")),
		plain("money", machine.Wait("decide").Timeout(30*24*time.Hour, "decide")),
		state{Name: "decide", Join: func(v *value, b map[string]value) error {
			v.N = 10*b["legal"].N + b["money"].N
			return nil
		}, Do: func(ctx context.Context, v *value) (next, error) {
			effects.Do(ctx, fmt.Sprint("decide ", v.N))
			return machine.Wait("end").Timeout(time.Hour, "end"), nil
		}},
		plain("end", machine.Done()))
	pawltest.CrashEverywhere(t, m.Workflow, machine.Input[value]{}, pawltest.WithEffects(&effects),
		pawltest.WithDriver(func(h *pawltest.Harness, runID string) {
			run := pawl.Ref{ID: runID}
			set := func(n int) func(*value) error { return func(v *value) error { v.N = n; return nil } }
			h.AwaitEvent(runID, "machine:split:legal/legal")
			if err := m.Update(h.Context(), h.Engine(), run, set(3), machine.In("split:legal")); err != nil {
				panic(err)
			}
			if err := m.Continue(h.Context(), h.Engine(), run, nil, machine.In("split:legal")); err != nil {
				panic(err)
			}
			h.AwaitEvent(runID, "machine:split:money/money")
			if err := m.Send(h.Context(), h.Engine(), run, "money", map[string]int{"n": 4}, machine.In("split:money")); err != nil {
				panic(err)
			}
		}))
}

func TestNestedMachinesSurviveCrashes(t *testing.T) {
	inner := define(t, "inner", "a", nil, plain("a", machine.Goto("b")), plain("b", machine.Done()))
	outer := define(t, "outer", "ask", nil,
		state{Name: "ask", Call: func(c *pawl.Context, v *value) (next, error) {
			out, err := inner.Call(c, value{N: v.N + 1})
			if err != nil {
				return next{}, err
			}
			if *v = out; v.N < 3 {
				return machine.Goto("ask"), c.Sleep(time.Hour)
			}
			return machine.Goto("end"), nil
		}},
		plain("end", machine.Done()))
	pawltest.CrashEverywhere(t, outer.Workflow, machine.Input[value]{State: value{N: 1}}, pawltest.WithChildren(inner))
}

func TestLongMachinesSurviveCrashes(t *testing.T) {
	m := ring(t, &machine.Options{ContinueAfter: 2})
	pawltest.CrashEverywhere(t, m.Workflow, machine.Input[value]{State: value{N: 3}},
		pawltest.WithDriver(func(h *pawltest.Harness, runID string) { // it is over when the last run of the chain is
			if _, err := pawl.Attach[value](h.Engine(), runID).Result(h.Context()); err != nil {
				panic(err)
			}
		}))
}

// Random machines, with forks in forks, loops and waits, whose worker is killed again and
// again, go the way that their plan says: each branch is joined once, no visit is left out
// and none is made twice.
func TestRandomMachinesUnderKills(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			g := &generator{rand: rand.New(rand.NewPCG(seed, 5))}
			plan := g.block(3)
			start := g.compile(plan, g.final())
			opt := &machine.Options{MaxVisits: -1}
			if seed%2 == 1 { // it goes on as a new run, again and again
				opt.ContinueAfter = 1 + g.rand.IntN(15)
			}
			m := define(t, "random", start, opt, g.states...)
			pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
				run, id := begin(t, h, m, value{})
				for range 4 {
					time.Sleep(time.Duration(g.rand.IntN(9000)) * time.Millisecond)
					h.Crash()
				}
				want := append(way(plan), "end")
				got, err := pawl.Attach[value](h.Engine(), run.ID()).Result(h.Context())
				if err != nil || !slices.Equal(got.Log, want) {
					t.Errorf("it went\n%s\nplanned was\n%s\n%v", strings.Join(got.Log, " "), strings.Join(want, " "), err)
				}
				// Who reads the journal sees the same.
				s, err := m.State(h.Context(), h.Engine(), id)
				if err != nil || !slices.Equal(s.Value.Log, want) || len(s.Branches) > 0 {
					t.Errorf("its snapshot is %+v, %v", s, err)
				}
				for _, name := range want {
					if n := count(want, name); name != "[" && name != "]" && s.Stats[name].Visits != n {
						t.Errorf("%s was visited %d times, want %d", name, s.Stats[name].Visits, n)
					}
				}
			}, m)
		})
	}
}

// item is a part of a random machine: a plain state, a wait, a fork, or a loop.
type item struct {
	kind     string
	name     string
	join     string
	branches [][]*item // of a fork; of a loop its body
	times    int
}

type generator struct {
	rand   *rand.Rand
	states []state
	n      int
}

func (g *generator) name(kind string) string {
	g.n++
	return fmt.Sprint(kind, g.n)
}

// block is a random sequence of items.
func (g *generator) block(depth int) []*item {
	var out []*item
	for range 1 + g.rand.IntN(3) {
		it := &item{kind: "state"}
		switch r := g.rand.IntN(10); {
		case r < 3 && depth > 0:
			it.kind, it.join = "fork", g.name("join")
			for range 1 + g.rand.IntN(3) {
				it.branches = append(it.branches, g.block(depth-1))
			}
		case r < 5 && depth > 0:
			it.kind, it.times = "loop", 1+g.rand.IntN(2)
			it.branches = [][]*item{g.block(depth - 1)}
		case r < 6:
			it.kind = "wait"
		}
		it.name = g.name(it.kind)
		out = append(out, it)
	}
	return out
}

func (g *generator) final() string {
	g.states = append(g.states, plain("end", machine.Done()))
	return "end"
}

// compile makes states of a block that go on with the state then, and returns the first.
func (g *generator) compile(block []*item, then string) string {
	for _, it := range slices.Backward(block) {
		g.item(it, then)
		then = it.name
	}
	return then
}

func (g *generator) item(it *item, then string) {
	outcome := machine.Goto(then)
	switch it.kind {
	case "wait":
		outcome = machine.Wait(then).Timeout(time.Duration(1+g.rand.IntN(5))*time.Second, then)
	case "fork":
		var names []string
		for _, b := range it.branches {
			names = append(names, g.compile(b, it.join))
		}
		outcome = machine.Fork(it.join, names...)
		g.states = append(g.states, state{Name: it.join, Do: do(it.join, machine.Goto(then)), Join: func(v *value, branches map[string]value) error {
			before := len(v.Log)
			for _, name := range names {
				v.Log = append(append(append(v.Log, "["), branches[name].Log[before:]...), "]")
			}
			return nil
		}})
	case "loop":
		body := g.compile(it.branches[0], it.name)
		g.states = append(g.states, state{Name: it.name, Do: func(_ context.Context, v *value) (next, error) {
			v.Log = append(v.Log, it.name)
			if v.Data == nil {
				v.Data = map[string]string{}
			}
			if v.Data[it.name] += "+"; len(v.Data[it.name]) > it.times {
				delete(v.Data, it.name)
				return machine.Goto(then), nil
			}
			return machine.Goto(body), nil
		}})
		return
	}
	takes := time.Duration(g.rand.IntN(1500)) * time.Millisecond
	visit := do(it.name, outcome)
	g.states = append(g.states, state{Name: it.name, Do: func(ctx context.Context, v *value) (next, error) {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			return next{}, context.Cause(ctx)
		}
		return visit(ctx, v)
	}})
}

// way is what the log of a run of a block must be.
func way(block []*item) (log []string) {
	for _, it := range block {
		switch it.kind {
		case "fork":
			log = append(log, it.name)
			for _, b := range it.branches {
				log = append(append(append(log, "["), way(b)...), "]")
			}
			log = append(log, it.join)
		case "loop":
			for range it.times {
				log = append(append(log, it.name), way(it.branches[0])...)
			}
			log = append(log, it.name)
		default:
			log = append(log, it.name)
		}
	}
	return log
}

func count(log []string, name string) (n int) {
	for _, entry := range log {
		if entry == name {
			n++
		}
	}
	return n
}
