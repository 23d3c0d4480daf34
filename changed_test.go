package pawl_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// TestP1_changedCodeRunsNoRecordedStepAgain: what a journal holds is found by its key, whatever new
// code puts before it, beside it or around it. A run waits; its code is changed, twice, with a
// restart each time; no body that has ended begins again, and it has its token still.
func TestP1_changedCodeRunsNoRecordedStepAgain(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		store := open()
		for name := range changes(&changed{}) {
			t.Run(name, func(t *testing.T) { survives(t, store, name) })
		}
	})
}

// changed counts the bodies of a run.
type changed struct {
	mu     sync.Mutex
	bodies map[string]int
	child  *pawl.Workflow[none, none]
}

func (x *changed) began(ctx context.Context) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.bodies == nil {
		x.bodies = map[string]int{}
	}
	x.bodies[pawl.InfoOf(ctx).Step]++
}

// changes are what a workflow's function is in its lives.
func changes(x *changed) map[string][]func(c *pawl.Context) {
	do := func(c *pawl.Context, name string) {
		if err := pawl.Do(c, name, func(ctx context.Context) error {
			x.began(ctx)
			return nil
		}); err != nil && !errors.Is(err, pawl.ErrCancelled) {
			panic(err)
		}
	}
	never := func(c *pawl.Context, name string) { // until it is cancelled
		_ = pawl.Do(c, name, func(ctx context.Context) error {
			x.began(ctx)
			<-ctx.Done()
			return ctx.Err()
		})
	}
	end := func(c *pawl.Context) {
		if _, err := pawl.WaitFor[none](c, "end"); err != nil {
			panic(err)
		}
	}
	branch := func(c *pawl.Context, name string, f func(c *pawl.Context)) *pawl.Future[int] {
		return pawl.Go(c, name, func(c *pawl.Context) (int, error) { f(c); return 0, nil })
	}
	race := func(c *pawl.Context) {
		slow := branch(c, "slow", func(c *pawl.Context) { never(c, "drag") })
		quick := branch(c, "quick", func(c *pawl.Context) { do(c, "run") })
		if _, err := pawl.Race(c, slow, quick); err != nil {
			panic(err)
		}
	}
	all := func(c *pawl.Context, names ...string) {
		var fs []*pawl.Future[int]
		for _, name := range names {
			fs = append(fs, branch(c, name, func(c *pawl.Context) { do(c, "first"); do(c, "second") }))
		}
		if _, err := pawl.All(c, fs...); err != nil {
			panic(err)
		}
	}
	x.child = pawl.Define("child", func(c *pawl.Context, _ none) (none, error) { do(c, "work"); return none{}, nil })
	call := func(c *pawl.Context) {
		if _, err := x.child.Call(c, none{}); err != nil {
			panic(err)
		}
	}
	sleep := func(c *pawl.Context) {
		if err := c.Sleep(time.Microsecond); err != nil {
			panic(err)
		}
	}
	return map[string][]func(c *pawl.Context){
		"one before the last": {func(c *pawl.Context) { do(c, "a"); do(c, "k"); end(c) }, func(c *pawl.Context) { do(c, "a"); do(c, "new"); do(c, "k"); end(c) }},
		"one before all":      {func(c *pawl.Context) { do(c, "a"); do(c, "k"); end(c) }, func(c *pawl.Context) { do(c, "new"); do(c, "a"); do(c, "k"); end(c) }},
		"several between all": {func(c *pawl.Context) { do(c, "a"); do(c, "k"); end(c) }, func(c *pawl.Context) {
			do(c, "n1")
			do(c, "a")
			do(c, "n2")
			do(c, "n3")
			do(c, "k")
			do(c, "n4")
			end(c)
			do(c, "n5")
		}},
		"one with another name": {func(c *pawl.Context) { do(c, "a"); do(c, "k"); end(c) }, func(c *pawl.Context) { do(c, "b"); do(c, "k"); end(c) }},
		"the first once more":   {func(c *pawl.Context) { do(c, "a"); do(c, "k"); end(c) }, func(c *pawl.Context) { do(c, "a"); do(c, "a"); do(c, "k"); end(c) }},
		"the first in a branch": {func(c *pawl.Context) { do(c, "a"); do(c, "k"); end(c) }, func(c *pawl.Context) { all(c, "x"); do(c, "k"); end(c) }},
		"another order":         {func(c *pawl.Context) { do(c, "a"); do(c, "k"); end(c) }, func(c *pawl.Context) { do(c, "new"); do(c, "k"); do(c, "a"); end(c) }},
		"a wait before":         {func(c *pawl.Context) { do(c, "k"); end(c) }, func(c *pawl.Context) { sleep(c); do(c, "k"); end(c) }},
		"a child before":        {func(c *pawl.Context) { do(c, "k"); end(c) }, func(c *pawl.Context) { call(c); do(c, "k"); end(c) }},
		"one before a child":    {func(c *pawl.Context) { call(c); do(c, "k"); end(c) }, func(c *pawl.Context) { do(c, "new"); call(c); do(c, "k"); end(c) }},
		"one before a race":     {func(c *pawl.Context) { race(c); do(c, "k"); end(c) }, func(c *pawl.Context) { do(c, "new"); race(c); do(c, "k"); end(c) }},
		"one before branches":   {func(c *pawl.Context) { all(c, "x", "y"); do(c, "k"); end(c) }, func(c *pawl.Context) { do(c, "new"); all(c, "x", "y"); do(c, "k"); end(c) }},
		"a branch more":         {func(c *pawl.Context) { all(c, "x", "y"); do(c, "k"); end(c) }, func(c *pawl.Context) { all(c, "w", "x", "y", "z"); do(c, "k"); end(c) }},
		"one in a branch": {func(c *pawl.Context) { all(c, "x", "y"); do(c, "k"); end(c) }, func(c *pawl.Context) {
			f := branch(c, "x", func(c *pawl.Context) { do(c, "first"); do(c, "new"); do(c, "second") })
			g := branch(c, "y", func(c *pawl.Context) { do(c, "new"); do(c, "first"); do(c, "second") })
			_, _ = pawl.All(c, f, g)
			do(c, "k")
			end(c)
		}},
		"one beside, which hangs": {func(c *pawl.Context) { all(c, "x"); do(c, "k"); end(c) }, func(c *pawl.Context) {
			branch(c, "new", func(c *pawl.Context) { never(c, "hang") })
			do(c, "n1")
			all(c, "x")
			do(c, "n2")
			do(c, "k")
			end(c)
		}},
		"three times changed": {func(c *pawl.Context) { do(c, "a"); race(c); do(c, "k"); end(c) }, func(c *pawl.Context) { do(c, "n1"); do(c, "a"); race(c); do(c, "k"); end(c) },
			func(c *pawl.Context) {
				do(c, "n1")
				do(c, "n2")
				do(c, "a")
				race(c)
				do(c, "k")
				end(c)
			}, func(c *pawl.Context) {
				do(c, "a")
				do(c, "n3")
				race(c)
				do(c, "n4")
				do(c, "k")
				end(c)
			}},
	}
}

func survives(t *testing.T, store pawl.Store, name string) {
	x := &changed{}
	lives := changes(x)[name]
	lives = append(lives, lives[len(lives)-1]) // the last restarts with the same code
	var id string
	var tokens []string
	for life, code := range lives {
		w := pawl.Define("w", func(c *pawl.Context, _ none) (none, error) {
			h, err := pawl.NewHook[none](c)
			if err != nil {
				return none{}, err
			}
			pawl.Go(c, "ticks", func(c *pawl.Context) (none, error) {
				for {
					if _, err := pawl.WaitFor[none](c, "tick"); err != nil {
						return none{}, err
					}
				}
			})
			code(c)
			return none{}, pawl.Do(c, "token", func(context.Context) error { tokens = append(tokens, h.Token()); return nil })
		})
		n := boot(t, store, nil, w, x.child)
		if id == "" {
			id = start(n, w, none{}).ID()
		} else {
			n.signal(id, "tick", none{})
			n.until("it takes the tick", func() bool {
				return slices.Contains(n.keys(id, pawl.KindEvent), "ticks/$event:tick"+map[bool]string{true: "#" + strconv.Itoa(life)}[life > 1])
			})
		}
		if life > 0 && strings.Contains(name, "hangs") { // it never rests
			n.sees(id, pawl.KindStep, "n2")
		} else {
			n.reaches(id, pawl.Waiting)
		}
		if life == 0 {
			hooks, err := n.Hooks(n.ctx, pawl.Ref{ID: id})
			if err != nil || len(hooks) != 1 {
				t.Fatal(hooks, err)
			}
			tokens = append(tokens, hooks[0].Token)
		}
		if life == len(lives)-1 {
			n.signal(id, "end", none{})
			n.reaches(id, pawl.Completed)
		}
		n.stop()
		x.mu.Lock()
		for key, times := range x.bodies {
			if times != 1 && !strings.HasSuffix(key, "/hang") {
				t.Errorf("in life %d: the body of %s has begun %d times", life, key, times)
			}
		}
		x.mu.Unlock()
	}
	n := client(t, store, nil, x.child)
	keys := n.keys(id, pawl.KindStep)
	slices.Sort(keys)
	if once := slices.Compact(slices.Clone(keys)); len(once) != len(keys) {
		t.Errorf("a step is recorded twice: %q", keys)
	}
	if len(tokens) != 2 || tokens[0] != tokens[1] {
		t.Errorf("its tokens: %q", tokens)
	}
}
