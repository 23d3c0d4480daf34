package pawl_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

func TestB1_088_stepInAStepIsInline(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		inner := func(_ context.Context, n int) (int, error) { return n + 10, nil }
		w := pawl.Define("inline", func(c *pawl.Context, n int) (int, error) {
			return pawl.Step(c, "outer", func(ctx context.Context) (int, error) {
				m, err := inner(ctx, n)
				return 2 * m, err
			})
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, 10)
		equal(t, "result", result(n, r), 40)
		equal(t, "steps", len(n.journal(r.ID(), pawl.KindStep)), 1)
	})
}

func TestB1_090_closureVariable(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("closure", func(c *pawl.Context, n int) (string, error) {
			factor, prefix := 3, "Result: "
			return pawl.Step(c, "format", func(context.Context) (string, error) { return prefix + fmt.Sprint(n*factor), nil })
		})
		n := boot(t, open(), nil, w)
		equal(t, "result", complete(n, w, 7), "Result: 21")
	})
}

// A function that closes over another is passed to the code that makes a step of it.
func TestB1_089_stepFunctionWithClosure(t *testing.T) {
	wrap := func(prefix string, fn func(context.Context, int) (string, error)) func(context.Context, int) (string, error) {
		return func(ctx context.Context, v int) (string, error) {
			s, err := fn(ctx, v)
			return prefix + s, err
		}
	}
	step := func(c *pawl.Context, fn func(context.Context, int) (string, error), v int) (string, error) {
		return pawl.Step(c, "passed", func(ctx context.Context) (string, error) { return fn(ctx, v) })
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("wrapped", func(c *pawl.Context, v int) (string, error) {
			factor := 3
			calculate := func(_ context.Context, v int) (string, error) { return fmt.Sprint("Result: ", factor*v), nil }
			return step(c, wrap("Wrapped: ", calculate), v)
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, 7)
		equal(t, "result", result(n, r), "Wrapped: Result: 21")
		equal(t, "steps", n.keys(r.ID(), pawl.KindStep), []string{"passed"})
	})
}

// A function has no JSON form: a start with one is refused, and nothing is stored.
func TestB1_091_functionAsStartArgument(t *testing.T) {
	type args struct {
		Numbers []int
		Add     func(a, b int) int
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("adds", func(c *pawl.Context, a args) (int, error) { return a.Add(a.Numbers[0], a.Numbers[1]), nil })
		n := boot(t, open(), nil, w)
		_, err := w.Start(n.ctx, n.Engine, args{[]int{3, 5}, func(a, b int) int { return a + b }})
		is(t, err, pawl.ErrEncoding)
		var e *pawl.EncodingError
		if !errors.As(err, &e) || e.What != "input of adds" || e.Path != "value.Add" {
			t.Errorf("the error does not say what and where: %v", err)
		}
		runs, err := n.List(n.ctx, pawl.Filter{})
		equal(t, "runs", fmt.Sprint(len(runs), err), "0 <nil>")
	})
}

func TestB1_092_spawnWorkflowFromStep(t *testing.T) {
	type out struct {
		ChildRunID  string
		ChildResult map[string]int
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var n *node
		child := pawl.Define("child", func(c *pawl.Context, v int) (map[string]int, error) {
			return map[string]int{"childResult": 2 * v, "originalValue": v}, nil
		})
		parent := pawl.Define("parent", func(c *pawl.Context, v int) (out, error) {
			id, err := pawl.Step(c, "spawn", func(ctx context.Context) (string, error) {
				r, err := child.Start(ctx, n.Engine, v, pawl.ID(pawl.InfoOf(ctx).StepID))
				if err != nil {
					return "", err
				}
				return r.ID(), nil
			})
			if err != nil {
				return out{}, err
			}
			res, err := pawl.Step(c, "await", func(ctx context.Context) (map[string]int, error) {
				return pawl.Attach[map[string]int](n.Engine, id).Result(ctx)
			})
			return out{id, res}, err
		})
		n = boot(t, open(), nil, parent, child)
		r := start(n, parent, 42)
		got := result(n, r)
		equal(t, "child's id", got.ChildRunID, r.ID()+"/spawn")
		equal(t, "child's result", got.ChildResult, map[string]int{"childResult": 84, "originalValue": 42})
		equal(t, "parent", n.info(r.ID()).State, pawl.Completed)
		equal(t, "child", n.info(got.ChildRunID).State, pawl.Completed)
	})
}

func TestB1_094_startFromWorkflow(t *testing.T) {
	type signal struct{ Processed int }
	type work struct {
		Token string
		Value int
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var n *node
		child := pawl.Define("child", func(c *pawl.Context, w work) (none, error) {
			return none{}, pawl.Do(c, "tell", func(ctx context.Context) error {
				_, err := n.Resume(ctx, w.Token, signal{3 * w.Value})
				return err
			})
		})
		parent := pawl.Define("parent", func(c *pawl.Context, v int) (signal, error) {
			h, err := pawl.NewHook[signal](c)
			if err != nil {
				return signal{}, err
			}
			ch, err := child.Spawn(c, work{h.Token(), v})
			if err != nil {
				return signal{}, err
			}
			got, err := h.Wait(c)
			if err != nil {
				return signal{}, err
			}
			_, err = ch.Wait(c)
			return got, err
		})
		n = boot(t, open(), replays(), parent, child)
		r := start(n, parent, 42)
		equal(t, "processed", result(n, r).Processed, 126)
		kids := n.journal(r.ID(), pawl.KindChild)
		equal(t, "children", len(kids), 1)
		var kid struct{ ID string }
		mustDecode(t, string(kids[0].Data), &kid)
		equal(t, "the child's parent", n.info(kid.ID).Parent, r.ID())
	})
}

// What a parent gets of a child that fails, and of one that is cancelled.
func TestB1_094_childFails(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var n *node
		child := pawl.Define("child", func(c *pawl.Context, how string) (none, error) {
			if how == "cancelled" {
				return none{}, c.Sleep(time.Hour)
			}
			return none{}, errors.New("it broke")
		})
		parent := pawl.Define("parent", func(c *pawl.Context, how string) ([]string, error) {
			ch, err := child.Spawn(c, how)
			if err != nil {
				return nil, err
			}
			_, err = ch.Wait(c)
			var re *pawl.RunError
			if !errors.As(err, &re) {
				return nil, fmt.Errorf("got %w", err)
			}
			return []string{re.State.String(), re.Err.Error(), fmt.Sprint(re.RunID == ch.ID()), fmt.Sprint(errors.Is(err, pawl.ErrCancelled))}, nil
		})
		n = boot(t, open(), replays(), parent, child)
		equal(t, "failed child", complete(n, parent, "failed"), []string{"failed", "it broke", "true", "false"})
		r := start(n, parent, "cancelled")
		var kid struct{ ID string }
		mustDecode(t, string(n.sees(r.ID(), pawl.KindChild, "$child:child").Data), &kid)
		n.cancel(kid.ID, "not needed")
		equal(t, "cancelled child", result(n, r), []string{"cancelled", "not needed", "true", "true"})
	})
}

// calculator shows that methods are workflow functions and step bodies like any other.
type calculator struct{ Base int }

func (k calculator) add(n int) func(context.Context) (int, error) {
	return func(context.Context) (int, error) { return k.Base + n, nil }
}

func (k *calculator) calculate(c *pawl.Context, n int) (int, error) {
	sum, err := pawl.Step(c, "add", k.add(n))
	if err != nil {
		return 0, err
	}
	return pawl.Step(c, "double", func(context.Context) (int, error) { return 2 * sum, nil })
}

func TestB1_096_methodsAreWorkflowsAndSteps(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("calculate", (&calculator{5}).calculate)
		n := boot(t, open(), nil, w)
		r := start(n, w, 3)
		equal(t, "result", result(n, r), 16)
		equal(t, "steps", n.keys(r.ID(), pawl.KindStep), []string{"add", "double"})
	})
}

// tally is a value with state, which its methods use as bodies of steps.
type tally struct {
	Value int    `json:"value"`
	Label string `json:"label"`
}

func (k tally) times(_ context.Context) (int, error) { return 10 * k.Value, nil }

func (k *tally) raise(by int) func(context.Context) (tally, error) {
	return func(context.Context) (tally, error) { k.Value += by; return *k, nil }
}

// The receiver of a method reaches its step, be it bound, given by hand or a pointer; and
// what a step made of it comes from the journal in a replay.
func TestB1_098_receiversReachSteps(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("tally", func(c *pawl.Context, k tally) ([]int, error) {
			bound, err1 := pawl.Step(c, "bound", k.times)
			given, err2 := pawl.Step(c, "given", func(ctx context.Context) (int, error) { return tally.times(tally{Value: bound}, ctx) })
			raised, err3 := pawl.Step(c, "raised", k.raise(10))
			if err := errors.Join(err1, err2, err3, c.Sleep(50*time.Millisecond)); err != nil {
				return nil, err
			}
			after, err := pawl.Step(c, "after", raised.times)
			return []int{bound, given, raised.Value, after, len(raised.Label)}, err
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, tally{5, "test tally"})
		equal(t, "results", result(n, r), []int{50, 500, 15, 150, 10})
		equal(t, "steps", n.keys(r.ID(), pawl.KindStep), []string{"bound", "given", "raised", "after"})
		equal(t, "claims", n.info(r.ID()).Epoch, 2)
	})
}

// point is a type with a JSON form of its own making.
type point struct{ x, y int }

func (p point) MarshalJSON() ([]byte, error) { return json.Marshal(fmt.Sprintf("%d;%d", p.x, p.y)) }
func (p *point) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	_, err := fmt.Sscanf(s, "%d;%d", &p.x, &p.y)
	return err
}

func TestB1_100_customSerialization(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		scale := func(c *pawl.Context, p point, by int) (point, error) {
			return pawl.Step(c, "scale", func(context.Context) (point, error) { return point{by * p.x, by * p.y}, nil })
		}
		w := pawl.Define("points", func(c *pawl.Context, p point) ([]point, error) {
			scaled, err := scale(c, p, 2)
			if err != nil {
				return nil, err
			}
			again, err := scale(c, scaled, 3)
			if err != nil {
				return nil, err
			}
			if err := c.Sleep(30 * time.Millisecond); err != nil {
				return nil, err
			}
			both, err := pawl.Step(c, "both", func(context.Context) ([]point, error) { return []point{p, scaled}, nil })
			if err != nil {
				return nil, err
			}
			return []point{p, scaled, again, {both[0].x + both[1].x, both[0].y + both[1].y}}, nil
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, point{3, 4})
		equal(t, "points", result(n, r), []point{{3, 4}, {6, 8}, {18, 24}, {9, 12}})
		equal(t, "as stored", string(n.journal(r.ID(), pawl.KindStep)[0].Data), `"6;8"`)
	})
}

// endings tells of ended runs, outside of the engine's paths.
type endings struct {
	pawl.NoObserver
	c chan ending
}

type ending struct {
	info pawl.RunInfo
	end  pawl.Entry
}

func (o *endings) RunEnded(info pawl.RunInfo, e *pawl.Entry) { o.c <- ending{info, *e} }

// observed is what a run is told that watches others.
type observed struct {
	Observed, RunID, Returned, Message string
	Fatal                              bool
}

func watcher() *pawl.Workflow[none, observed] {
	return pawl.Define("watcher", func(c *pawl.Context, _ none) (observed, error) {
		h, err := pawl.NewHook[observed](c, pawl.Token("watcher"))
		if err != nil {
			return observed{}, err
		}
		return h.Wait(c)
	})
}

// tell resumes the watcher with the end of the first run of a workflow.
func tell(t *testing.T, n *node, o *endings, workflow string) {
	for e := range o.c {
		if e.info.Workflow != workflow {
			continue
		}
		out := observed{Observed: e.info.State.String(), RunID: e.info.ID, Returned: string(e.end.Data)}
		if e.end.Failed {
			f := e.end.Failure()
			out.Returned, out.Message, out.Fatal = "", f.Message, f.IsFatal
		}
		n.resume("watcher", out)
		return
	}
	t.Error("the observer was told nothing")
}

// A client sees whether somebody works, without asking him: workers count while their lease
// goes on, and no longer when they have left or died.
func TestB1_105_workersAreSeen(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := addTen("addTen")
		outside := client(t, open(), nil, w)
		workers := func(want int64) {
			t.Helper()
			outside.until(fmt.Sprint(want, " workers"), func() bool {
				st, err := outside.Stats(outside.ctx)
				outside.ok(err)
				return st.Workers == want
			})
		}
		workers(0)
		r := start(outside, w, 1)
		why, err := outside.Why(outside.ctx, pawl.Ref{ID: r.ID()})
		equal(t, "why", fmt.Sprint(why, err), "it is ready and waits for a worker that knows addTen<nil>")
		one := boot(t, open(), nil, w)
		two := boot(t, open(), mayCrash(), w)
		workers(2)
		equal(t, "result", result(outside, r), 11)
		one.stop()
		workers(1)
		two.until("the worker to know that it works", two.Working)
		two.crash()
		workers(0)
	})
}

func TestB1_107_lifecycleOnRunCompleted(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		o := &endings{c: make(chan ending, 10)}
		target, w := addTen("target"), watcher()
		n := boot(t, open(), &pawl.Options{Observer: o}, target, w)
		r := start(n, w, none{})
		n.hook("watcher")
		seen := start(n, target, 1)
		tell(t, n, o, "target")
		equal(t, "observed", result(n, r), observed{"completed", seen.ID(), "11", "", false})
	})
}

func TestB1_108_lifecycleOnRunFailed(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		o := &endings{c: make(chan ending, 10)}
		target := pawl.Define("target", func(c *pawl.Context, s string) (none, error) {
			return none{}, pawl.Fatal(errors.New("lifecycle target failed: " + s))
		})
		w := watcher()
		n := boot(t, open(), &pawl.Options{Observer: o}, target, w)
		r := start(n, w, none{})
		n.hook("watcher")
		seen := start(n, target, "t-108")
		tell(t, n, o, "target")
		equal(t, "observed", result(n, r), observed{"failed", seen.ID(), "", "lifecycle target failed: t-108", true})
	})
}
