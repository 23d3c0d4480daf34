package pawl_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// oneStep is the workflow of most of these cases: one step, which says what it got.
func oneStep(name string, opts ...pawl.Option) *pawl.Workflow[map[string]string, map[string]string] {
	return pawl.Define(name, func(c *pawl.Context, in map[string]string) (map[string]string, error) {
		return pawl.Step(c, "step-1", func(context.Context) (map[string]string, error) {
			return map[string]string{"result": in["data"]}, nil
		})
	}, opts...)
}

func data(s string) map[string]string { return map[string]string{"data": s} }

func TestB3_P01_registers(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		n := boot(t, open(), nil, oneStep("b"), oneStep("a"))
		equal(t, "workflows", n.Workflows(), []string{"a", "b"})
	})
}

func TestB3_P02_secondRun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := oneStep("a")
		n := boot(t, open(), nil, w)
		n.until("the worker to join", n.Working)
		is(t, n.Run(n.ctx), pawl.ErrState)
		n.ok(n.Register(oneStep("late"))) // unlike upstream: code may come with data
		equal(t, "still works", complete(n, w, data("x"))["result"], "x")
		st, err := n.Stats(n.ctx)
		equal(t, "workers", fmt.Sprint(st.Workers, err), "1 <nil>")
	})
}

func TestB3_P04_duplicateWorkflow(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		n := client(t, open(), nil, oneStep("a"))
		err := n.Register(oneStep("b"), oneStep("a"))
		is(t, err, pawl.ErrDuplicate)
		if !strings.Contains(err.Error(), `"a"`) {
			t.Errorf("the error does not name the workflow: %v", err)
		}
		is(t, n.Register(oneStep("c"), oneStep("c")), pawl.ErrDuplicate)
		equal(t, "none of a refused set is registered", n.Workflows(), []string{"a"})
	})
}

func TestB3_P05_sameStepTwice(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("twice", func(c *pawl.Context, _ none) (out []int, err error) {
			for i := range 3 {
				v, err := pawl.Step(c, "same", func(context.Context) (int, error) { return i, nil })
				if err != nil {
					return nil, err
				}
				out = append(out, v)
			}
			return out, c.Sleep(20 * time.Millisecond)
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		equal(t, "results", result(n, r), []int{0, 1, 2})
		equal(t, "keys", n.keys(r.ID(), pawl.KindStep), []string{"same", "same#2", "same#3"})
	})
}

// double and greetWith are what upstream makes plugins of: helpers that make steps of their own
// beside the workflow's, and of each other.
func double(c *pawl.Context, name string, n int) (int, error) {
	return pawl.Step(c, name, func(context.Context) (int, error) { return 2 * n, nil })
}

func greetWith(c *pawl.Context, name string, n int) (string, error) {
	d, err := double(c, name+" doubled", n)
	if err != nil {
		return "", err
	}
	return pawl.Step(c, name, func(context.Context) (string, error) { return fmt.Sprint("hello ", d), nil })
}

func TestB3_P08_helpersMakeSteps(t *testing.T) {
	type out struct {
		A, B  int
		Greet string
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("helped", func(c *pawl.Context, _ none) (o out, err error) {
			var errs [4]error
			o.A, errs[0] = double(c, "a", 5)
			o.B, errs[1] = double(c, "b", 10)
			o.Greet, errs[2] = greetWith(c, "greet", 1)
			errs[3] = pawl.Do(c, "plain", nothing)
			return o, errors.Join(errs[:]...)
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		equal(t, "result", result(n, r), out{10, 20, "hello 2"})
		var got []string
		for _, e := range n.journal(r.ID(), pawl.KindStep) {
			got = append(got, e.Key+"="+string(e.Data))
		}
		equal(t, "timeline", got, []string{"a=10", "b=20", "greet doubled=2", `greet="hello 2"`, "plain="})
	})
}

func TestB3_P12_startAndComplete(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		w := pawl.Define("watched", func(c *pawl.Context, in string) (string, error) {
			return pawl.Step(c, "step-1", func(ctx context.Context) (string, error) { return in, g.pass(ctx) })
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, "in")
		g.wait(t)
		equal(t, "state", n.info(r.ID()).State, pawl.Running)
		equal(t, "input", string(n.journal(r.ID(), pawl.KindInput)[0].Data), `"in"`)
		equal(t, "steps done", len(n.journal(r.ID(), pawl.KindStep)), 0)
		g.open()
		equal(t, "result", result(n, r), "in")
		equal(t, "steps done", len(n.journal(r.ID(), pawl.KindStep)), 1)
		i := n.info(r.ID())
		if i.Ended.Before(i.Created) || i.State != pawl.Completed {
			t.Errorf("ended: %+v", i)
		}
	})
}

func TestB3_P13_withoutTenant(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := oneStep("a")
		n := boot(t, open(), nil, w)
		r := start(n, w, data("no-resource"))
		equal(t, "result", result(n, r)["result"], "no-resource")
		equal(t, "tenant", n.info(r.ID()).Tenant, "")
	})
}

func TestB3_P14_timeoutAndRetries(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		w := pawl.Define("set", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "fails", func(context.Context) error { bodies.add("x"); return errors.New("no") })
		}, pawl.Timeout(time.Hour), pawl.MaxAttempts(3), quick)
		n := boot(t, open(), nil, w)
		r := start(n, w, none{}, pawl.Timeout(5*time.Second))
		i := n.info(r.ID())
		if d := i.Deadline.Sub(i.Created); d < 4*time.Second || d > 6*time.Second {
			t.Errorf("the deadline is %v after the start", d)
		}
		equal(t, "state", failure(n, r).State, pawl.Failed)
		equal(t, "attempts", bodies.get("x"), 3)
	})
}

func TestB3_P15_unknownWorkflow(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		n := boot(t, open(), nil, oneStep("a"))
		_, err := n.StartRun(n.ctx, "b", nil)
		is(t, err, pawl.ErrUnknown)
	})
}

type signup struct {
	Name string `json:"name"`
	Age  int    `json:"age"`
}

func (s *signup) Validate() error {
	if s.Name == "" {
		return errors.New("name is missing")
	}
	return nil
}

func signups() *pawl.Workflow[signup, string] {
	return pawl.Define("signup", func(c *pawl.Context, in signup) (string, error) {
		return fmt.Sprint("Hello ", in.Name, " ", 2*in.Age), nil
	})
}

func TestB3_P16_inputMismatch(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		n := boot(t, open(), nil, signups())
		for what, in := range map[string]string{
			"wrong type":       `{"name":"Ann","age":"old"}`,
			"unknown field":    `{"name":"Ann","years":5}`,
			"no object":        `[1]`,
			"no JSON":          `{"name":`,
			"trailing garbage": `{"name":"Ann"} x`,
		} {
			if _, err := n.StartRun(n.ctx, "signup", json.RawMessage(in)); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("%s: got %v, want ErrInput", what, err)
			}
		}
		runs, err := n.List(n.ctx, pawl.Filter{})
		equal(t, "runs", fmt.Sprint(len(runs), err), "0 <nil>")
	})
}

func TestB3_P17_inputValidated(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := signups()
		n := boot(t, open(), nil, w)
		_, err := w.Start(n.ctx, n.Engine, signup{Age: 5})
		is(t, err, pawl.ErrInput)
		if !strings.Contains(err.Error(), "name is missing") {
			t.Errorf("the reason is lost: %v", err)
		}
		equal(t, "a valid one", complete(n, w, signup{"Ann", 5}), "Hello Ann 10")
	})
}

func TestB3_P18_workflowWithoutSteps(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("bare", func(_ *pawl.Context, n int) (int, error) { return n + 1, nil })
		n := boot(t, open(), nil, w)
		equal(t, "result", complete(n, w, 1), 2)
	})
}

func TestB3_P19_sameIdempotencyKey(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := oneStep("a")
		n := boot(t, open(), nil, w)
		one := start(n, w, data("x"), pawl.ID("order-1"))
		result(n, one)
		two := start(n, w, data("x"), pawl.ID("order-1"))
		equal(t, "id", two.ID(), one.ID())
		equal(t, "result", result(n, two)["result"], "x")
		runs, err := n.List(n.ctx, pawl.Filter{})
		equal(t, "runs", fmt.Sprint(len(runs), err), "1 <nil>")
	})
}

func TestB3_P20_noKey(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := oneStep("a")
		n := boot(t, open(), nil, w)
		one, two := start(n, w, data("x")), start(n, w, data("x"))
		if one.ID() == two.ID() {
			t.Error("two starts made one run")
		}
	})
}

func TestB3_P21_differentKeys(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := oneStep("a")
		n := boot(t, open(), nil, w)
		one, two := start(n, w, data("x"), pawl.ID("one")), start(n, w, data("x"), pawl.ID("two"))
		equal(t, "ids", one.ID()+" "+two.ID(), "one two")
		result(n, one)
		result(n, two)
	})
}

func (n *node) order(f func(context.Context, pawl.Ref, string) (pawl.RunInfo, error), id string) error {
	_, err := f(n.ctx, pawl.Ref{ID: id}, "by the test")
	return err
}

func (n *node) unpause(id string) error {
	_, err := n.Unpause(n.ctx, pawl.Ref{ID: id})
	return err
}

func (n *node) ok(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func TestB3_P22_pauseRunning(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		var bodies counts
		w := pawl.Define("paused", func(c *pawl.Context, _ none) (int, error) {
			return pawl.Step(c, "step", func(ctx context.Context) (int, error) { return bodies.add("step"), g.pass(ctx) })
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		g.wait(t)
		n.ok(n.order(n.Pause, r.ID())) // the step sees its context end
		n.reaches(r.ID(), pawl.Paused)
		equal(t, "failed attempts", len(n.journal(r.ID(), pawl.KindAttempt)), 0)
		why, err := n.Why(n.ctx, pawl.Ref{ID: r.ID()})
		if err != nil || !strings.Contains(why, "paused") {
			t.Errorf("why: %q, %v", why, err)
		}
		is(t, n.order(n.Pause, r.ID()), pawl.ErrState)
		n.ok(n.unpause(r.ID()))
		g.open()
		equal(t, "result", result(n, r), 2)
	})
}

func TestB3_P23_pauseCompleted(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := oneStep("a")
		n := boot(t, open(), nil, w)
		r := start(n, w, data("x"))
		result(n, r)
		is(t, n.order(n.Pause, r.ID()), pawl.ErrEnded)
		equal(t, "state", n.info(r.ID()).State, pawl.Completed)
	})
}

func TestB3_P24_pauseCancelled(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := sleeper(time.Hour)
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		n.cancel(r.ID(), "")
		equal(t, "state", failure(n, r).State, pawl.Cancelled)
		is(t, n.order(n.Pause, r.ID()), pawl.ErrEnded)
		equal(t, "state", n.info(r.ID()).State, pawl.Cancelled)
	})
}

func TestB3_P25_resumePaused(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		w := pawl.Define("paused", func(c *pawl.Context, _ none) (string, error) {
			if err := pawl.Do(c, "before", func(context.Context) error { bodies.add("before"); return nil }); err != nil {
				return "", err
			}
			return pawl.WaitFor[string](c, "go")
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		n.ok(n.order(n.Pause, r.ID()))
		n.reaches(r.ID(), pawl.Paused)
		n.signal(r.ID(), "go", "while paused")
		equal(t, "state after a signal", n.info(r.ID()).State, pawl.Paused)
		n.ok(n.unpause(r.ID()))
		equal(t, "result", result(n, r), "while paused")
		equal(t, "bodies", bodies.get("before"), 1)
	})
}

func TestB3_P26_resumeRunning(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		w := pawl.Define("running", func(c *pawl.Context, _ none) (string, error) {
			if err := pawl.Do(c, "step", g.pass); err != nil {
				return "", err
			}
			return pawl.WaitFor[string](c, "go")
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		g.wait(t)
		equal(t, "state", n.info(r.ID()).State, pawl.Running)
		is(t, n.unpause(r.ID()), pawl.ErrState)
		g.open()
		n.reaches(r.ID(), pawl.Waiting)
		is(t, n.unpause(r.ID()), pawl.ErrState)
		n.signal(r.ID(), "go", "on")
		equal(t, "result", result(n, r), "on")
	})
}

func TestB3_P27_cancelRunning(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		w := pawl.Define("running", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "step", g.pass)
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		g.wait(t)
		n.cancel(r.ID(), "enough")
		equal(t, "state", failure(n, r).State, pawl.Cancelled)
	})
}

func TestB3_P28_cancelTwice(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := sleeper(time.Hour)
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		n.cancel(r.ID(), "once")
		equal(t, "state", failure(n, r).State, pawl.Cancelled)
		is(t, n.order(n.Cancel, r.ID()), pawl.ErrEnded)
		equal(t, "reason", n.info(r.ID()).Reason, "once")
	})
}

func TestB3_P29_cancelCompleted(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := oneStep("a")
		n := boot(t, open(), nil, w)
		r := start(n, w, data("x"))
		result(n, r)
		is(t, n.order(n.Cancel, r.ID()), pawl.ErrEnded)
		equal(t, "state", n.info(r.ID()).State, pawl.Completed)
		_, err := n.Cancel(n.ctx, pawl.Ref{ID: "nobody"}, "")
		is(t, err, pawl.ErrNotFound)
	})
}

func waiter(name string) *pawl.Workflow[none, string] {
	return pawl.Define(name, func(c *pawl.Context, _ none) (string, error) { return pawl.WaitFor[string](c, "go") })
}

// A run of a tenant is reached with its tenant only: the other way round would let one
// tenant signal the runs of another.
func TestB3_P31_eventOfATenant(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := waiter("waits")
		n := boot(t, open(), nil, w)
		r := start(n, w, none{}, pawl.Tenant("acme"), pawl.ID("run-1"))
		plain := start(n, w, none{}, pawl.ID("run-1")) // the same id in another space
		is(t, n.SignalRef(n.ctx, pawl.Ref{Tenant: "other", ID: "run-1"}, "go", "x"), pawl.ErrNotFound)
		n.ok(n.SignalRef(n.ctx, pawl.Ref{Tenant: "acme", ID: "run-1"}, "go", "for acme"))
		got, err := r.Result(n.ctx)
		equal(t, "result", fmt.Sprint(got, err), "for acme<nil>")
		equal(t, "the other run", n.info("run-1").State.Terminal(), false)
		n.signal("run-1", "go", "for none")
		equal(t, "result of the other", result(n, plain), "for none")
	})
}

func TestB3_P32_pauseForAPerson(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := waiter("waits")
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		n.signal(r.ID(), "go", "on")
		equal(t, "result", result(n, r), "on")
	})
}

func TestB3_P33_timelineAccumulates(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("three", func(c *pawl.Context, _ none) (none, error) {
			if _, err := pawl.Step(c, "one", func(context.Context) (string, error) { return "result-1", nil }); err != nil {
				return none{}, err
			}
			if _, err := pawl.Step(c, "two", func(context.Context) (map[string]bool, error) { return map[string]bool{"nested": true}, nil }); err != nil {
				return none{}, err
			}
			_, err := pawl.Step(c, "three", func(context.Context) (int, error) { return 42, nil })
			return none{}, err
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		result(n, r)
		var got []string
		for _, e := range n.journal(r.ID(), pawl.KindStep) {
			got = append(got, e.Key+"="+string(e.Data))
		}
		equal(t, "timeline", got, []string{`one="result-1"`, `two={"nested":true}`, "three=42"})
	})
}

func TestB3_P35_runWaitRun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		do := func(c *pawl.Context, name string) error {
			return pawl.Do(c, name, func(context.Context) error { return nil })
		}
		w := pawl.Define("three", func(c *pawl.Context, _ none) (string, error) {
			if err := do(c, "before"); err != nil {
				return "", err
			}
			s, err := pawl.WaitFor[string](c, "go")
			if err != nil {
				return "", err
			}
			return s, do(c, "after")
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		equal(t, "while it waits", n.keys(r.ID(), pawl.KindStep, pawl.KindEvent), []string{"before"})
		n.signal(r.ID(), "go", "on")
		equal(t, "result", result(n, r), "on")
		equal(t, "at the end", n.keys(r.ID(), pawl.KindStep, pawl.KindEvent), []string{"before", "$event:go", "after"})
	})
}

func TestB3_P36_throwingStep(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("boom", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "step", func(context.Context) error { return errors.New("Boom!") }, pawl.MaxAttempts(1))
		})
		n := boot(t, open(), nil, w)
		err := failure(n, start(n, w, none{}))
		equal(t, "state", err.State, pawl.Failed)
		if !strings.Contains(err.Error(), "Boom!") {
			t.Errorf("the message is lost: %v", err)
		}
		steps := n.journal(err.RunID, pawl.KindStep, pawl.KindAttempt)
		equal(t, "steps", len(steps), 1)
		equal(t, "failed", steps[0].Failed, true)
		if reason := n.info(err.RunID).Reason; !strings.Contains(reason, "Boom!") {
			t.Errorf("the run's row does not say why: %q", reason)
		}
	})
}

func TestB3_P40_retriesExhausted(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		const first = 20 * time.Millisecond
		w := pawl.Define("fails", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "step", func(context.Context) error { return errors.New("still no") }, pawl.MaxAttempts(3), pawl.Backoff(first, time.Second))
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		var se *pawl.StepError
		if err := failure(n, r); !errors.As(err, &se) {
			t.Fatalf("got %v", err)
		}
		equal(t, "attempts", se.Attempts, 3)
		equal(t, "last error", se.Err.Error(), "still no")
		attempts := n.journal(r.ID(), pawl.KindAttempt)
		equal(t, "failed attempts before the last", len(attempts), 2)
		for i, e := range attempts {
			var a struct{ Next time.Time }
			mustDecode(t, string(e.Data), &a)
			wait, most := a.Next.Sub(e.At), first<<i
			if wait < most/2 || wait > most {
				t.Errorf("it waits %v after attempt %d, want between %v and %v", wait, i+1, most/2, most)
			}
		}
	})
}

func TestB3_P41_workerDiesAgainAndAgain(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		came := make(chan none, 10)
		w := pawl.Define("deadly", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "step", func(ctx context.Context) error {
				came <- none{}
				<-ctx.Done()
				return ctx.Err()
			})
		})
		watch := client(t, open(), nil, w)
		r := start(watch, w, none{})
		for range 2 {
			o := mayCrash()
			o.MaxStrikes = 2
			n := boot(t, open(), o, w)
			<-came
			n.crash()
		}
		boot(t, open(), &pawl.Options{MaxStrikes: 2}, w)
		info := watch.reaches(r.ID(), pawl.Blocked)
		if !strings.Contains(info.Reason, "2 times in a row by workers that died") {
			t.Errorf("reason: %s", info.Reason)
		}
		err := failure(watch, r)
		equal(t, "state", err.State, pawl.Blocked)
		watch.cancel(r.ID(), "gave up")
		equal(t, "state after a cancel", failure(watch, r).State, pawl.Cancelled)
	})
}

func TestB3_P42_strayOrders(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := oneStep("a")
		n := boot(t, open(), nil, w)
		r := start(n, w, data("x"))
		result(n, r)
		is(t, n.Signal(n.ctx, r.ID(), "go", 1), pawl.ErrEnded)
		is(t, n.Signal(n.ctx, "nobody", "go", 1), pawl.ErrNotFound)
		is(t, n.Signal(n.ctx, r.ID(), "", 1), pawl.ErrInput)
		n.ok(n.Publish(n.ctx, "nobody listens", 1))
		_, err := n.Wake(n.ctx, pawl.Ref{ID: r.ID()}, "", nil)
		is(t, err, pawl.ErrEnded)
		equal(t, "the worker lives", complete(n, w, data("y"))["result"], "y")
	})
}

func until(name string, at func(c *pawl.Context) time.Time) *pawl.Workflow[none, bool] {
	return pawl.Define(name, func(c *pawl.Context, _ none) (bool, error) {
		t, err := pawl.Step(c, "at", func(context.Context) (time.Time, error) { return at(c), nil })
		if err != nil {
			return false, err
		}
		if err := c.SleepUntil(t); err != nil {
			return false, err
		}
		return !c.Now().Before(t), nil
	})
}

func TestB3_P43_waitUntil(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := until("until", func(*pawl.Context) time.Time { return time.Now().Add(500 * time.Millisecond) })
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		info := n.reaches(r.ID(), pawl.Waiting)
		if info.Due.IsZero() {
			t.Error("it is not told when the run is due")
		}
		equal(t, "by the workflow's clock not early", result(n, r), true)
		var asked time.Time
		mustDecode(t, string(n.journal(r.ID(), pawl.KindStep)[0].Data), &asked)
		if end := n.info(r.ID()).Ended; end.Before(asked) || info.Due.Before(asked) {
			t.Errorf("it was asked to wait until %v, was due at %v and ended at %v", asked, info.Due, end)
		}
	})
}

func TestB3_P44_waitUntilPast(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := until("past", func(*pawl.Context) time.Time { return time.Now().Add(-time.Hour) })
		n := boot(t, open(), replays(), w) // a wait would need another claim
		r := start(n, w, none{})
		equal(t, "result", result(n, r), true)
		equal(t, "claims", n.info(r.ID()).Epoch, 1)
	})
}

func TestB3_P45_delay(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := sleeper(500 * time.Millisecond)
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		if d := result(n, r); d < 500*time.Millisecond {
			t.Errorf("by the workflow's clock it slept %v", d)
		}
		notEarly(n, r.ID(), 500*time.Millisecond)
		equal(t, "claims", n.info(r.ID()).Epoch, 2)
	})
}

type polled struct {
	TimedOut bool
	Value    int
}

// polling asks in a step every so often, until the answer is there or time is over.
func polling(answer func() int, every, timeout time.Duration) *pawl.Workflow[none, polled] {
	return pawl.Define("poll", func(c *pawl.Context, _ none) (polled, error) {
		inner, cancel := pawl.WithTimeout(c, timeout)
		defer cancel(nil)
		for {
			v, err := pawl.Step(inner, "ask", func(context.Context) (int, error) { return answer(), nil })
			if err == nil && v == 0 {
				err = inner.Sleep(every)
			}
			switch {
			case errors.Is(err, pawl.ErrTimeout):
				return polled{TimedOut: true}, nil
			case err != nil:
				return polled{}, err
			case v != 0:
				return polled{Value: v}, nil
			}
		}
	})
}

func TestB3_P50_poll(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		w := polling(func() int {
			if n := bodies.add("ask"); n == 3 {
				return n
			}
			return 0
		}, 50*time.Millisecond, time.Minute)
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		equal(t, "result", result(n, r), polled{false, 3})
		equal(t, "asked", n.keys(r.ID(), pawl.KindStep), []string{"ask", "ask#2", "ask#3"})
	})
}

func TestB3_P51_pollTimeout(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := polling(func() int { return 0 }, 40*time.Millisecond, 300*time.Millisecond)
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		equal(t, "result", result(n, r), polled{TimedOut: true})
		if i := n.info(r.ID()); i.Ended.Sub(i.Created) < 300*time.Millisecond {
			t.Errorf("it timed out after %v", i.Ended.Sub(i.Created))
		}
	})
}

func TestB3_P53_workflowTimeout(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		g := newGate()
		heeds := pawl.Define("heeds", func(c *pawl.Context, how string) (none, error) {
			switch how {
			case "step":
				return none{}, pawl.Do(c, "step", g.pass)
			case "sleep":
				return none{}, c.Sleep(time.Hour)
			}
			_, err := pawl.WaitFor[none](c, "never")
			return none{}, err
		}, pawl.Timeout(200*time.Millisecond))
		n := boot(t, open(), replays(), heeds)
		for _, how := range []string{"step", "sleep", "event"} {
			r := start(n, heeds, how)
			err := failure(n, r)
			is(t, err, pawl.ErrTimeout)
			equal(t, how, err.State, pawl.Failed)
			i := n.info(r.ID())
			if late := i.Ended.Sub(i.Deadline); late < 0 || late > time.Second {
				t.Errorf("%s: it ended %v after its deadline", how, late)
			}
		}
	})
}

// The deadline holds also for a function that does not heed it.
func TestB3_P53_workflowTimeoutOverItsHead(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		let := make(chan none)
		defer close(let)
		w := pawl.Define("deaf", func(c *pawl.Context, _ none) (none, error) {
			return none{}, pawl.Do(c, "step", func(context.Context) error { <-let; return nil })
		}, pawl.Timeout(100*time.Millisecond))
		n := boot(t, open(), &pawl.Options{CancelGrace: 200 * time.Millisecond, Drain: 10 * time.Millisecond}, w)
		r := start(n, w, none{})
		err := failure(n, r)
		is(t, err, pawl.ErrTimeout)
		equal(t, "state", err.State, pawl.Failed)
		let <- none{}
		_, rerr := r.Result(n.ctx)
		is(t, rerr, pawl.ErrTimeout)
		equal(t, "steps", len(n.journal(r.ID(), pawl.KindStep)), 0)
	})
}

func TestB3_P55a_getRun(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := oneStep("a")
		n := boot(t, open(), nil, w)
		start(n, w, data("x"), pawl.Tenant("acme"), pawl.ID("run-1"))
		for _, ref := range []pawl.Ref{{ID: "nobody"}, {ID: "run-1"}, {Tenant: "other", ID: "run-1"}} {
			_, err := n.Get(n.ctx, ref)
			is(t, err, pawl.ErrNotFound)
			if !strings.Contains(err.Error(), ref.ID) {
				t.Errorf("the error does not name the run: %v", err)
			}
		}
		_, err := n.Get(n.ctx, pawl.Ref{Tenant: "acme", ID: "run-1"})
		n.ok(err)
		_, err = pawl.Attach[none](n.Engine, "nobody").Result(n.ctx)
		is(t, err, pawl.ErrNotFound)
	})
}

func TestB3_P56_journalIsLive(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var n *node
		w := pawl.Define("live", func(c *pawl.Context, _ none) (int, error) {
			for range 2 {
				if err := pawl.Do(c, "step", func(context.Context) error { return nil }); err != nil {
					return 0, err
				}
			}
			id := c.RunID()
			return pawl.Step(c, "look", func(context.Context) (int, error) { return len(n.journal(id, pawl.KindStep)), nil })
		})
		n = boot(t, open(), nil, w)
		equal(t, "steps seen from a later step", complete(n, w, none{}), 2)
	})
}

func TestB3_P59_priority(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		ids := make(chan string, 3)
		child := func(name string, opts ...pawl.Option) *pawl.Workflow[none, none] {
			return pawl.Define(name, func(c *pawl.Context, _ none) (none, error) { ids <- c.RunID(); return none{}, nil }, opts...)
		}
		plain, defined := child("plain"), child("defined", pawl.Priority(5))
		parent := pawl.Define("parent", func(c *pawl.Context, _ none) (none, error) {
			if _, err := plain.Call(c, none{}); err != nil {
				return none{}, err
			}
			if _, err := defined.Call(c, none{}); err != nil {
				return none{}, err
			}
			return defined.Call(c, none{}, pawl.Priority(9))
		}, pawl.Priority(1))
		n := boot(t, open(), nil, plain, defined, parent)
		r := start(n, parent, none{}, pawl.Priority(3))
		result(n, r)
		equal(t, "option over definition", n.info(r.ID()).Priority, 3)
		equal(t, "the parent's", n.info(<-ids).Priority, 3)
		equal(t, "definition over parent", n.info(<-ids).Priority, 5)
		equal(t, "option over both", n.info(<-ids).Priority, 9)
		far := start(n, plain, none{}, pawl.Priority(1000))
		equal(t, "limit", n.info(far.ID()).Priority, 1000)
		_, err := plain.Start(n.ctx, n.Engine, none{}, pawl.Priority(1001))
		is(t, err, pawl.ErrInput)
	})
}

func TestB3_P59_priorityOrders(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var mu sync.Mutex
		var order []int
		w := pawl.Define("order", func(c *pawl.Context, p int) (none, error) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, p)
			return none{}, nil
		}, pawl.Concurrency(1))
		n := client(t, open(), nil, w)
		var all []*pawl.Run[none]
		for _, p := range []int{-100, 0, 100} {
			all = append(all, start(n, w, p, pawl.Priority(p)))
		}
		worker := boot(t, open(), nil, w)
		for _, r := range all {
			result(worker, r)
		}
		equal(t, "order", order, []int{100, 0, -100})
	})
}

func TestB3_I01_threeSteps(t *testing.T) {
	type value struct {
		Value string `json:"value"`
		Prev  string `json:"prev,omitempty"`
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("chain", func(c *pawl.Context, _ none) (map[string]value, error) {
			out, prev := map[string]value{}, ""
			for _, s := range [][2]string{{"a", "one"}, {"b", "two"}, {"c", "three"}} {
				v, err := pawl.Step(c, s[0], func(context.Context) (value, error) { return value{s[1], prev}, nil })
				if err != nil {
					return nil, err
				}
				out[s[0]], prev = v, v.Value
			}
			return out, nil
		})
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		equal(t, "result", result(n, r), map[string]value{"a": {"one", ""}, "b": {"two", "one"}, "c": {"three", "two"}})
		equal(t, "steps", len(n.journal(r.ID(), pawl.KindStep)), 3)
	})
}

func TestB3_I03_validInput(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := signups()
		n := boot(t, open(), nil, w)
		_, err := n.StartRun(n.ctx, "signup", json.RawMessage(`{"name":7}`))
		is(t, err, pawl.ErrInput)
		info, err := n.StartRun(n.ctx, "signup", json.RawMessage(`{"name": "World", "age": 5}`))
		n.ok(err)
		got, err := pawl.Attach[string](n.Engine, info.ID).Result(n.ctx)
		equal(t, "result", fmt.Sprint(got, err), "Hello World 10<nil>")
	})
}

func TestB3_I04_waitForApproval(t *testing.T) {
	type out struct{ Ready, Approved bool }
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("approval", func(c *pawl.Context, _ none) (out, error) {
			ready, err := pawl.Step(c, "setup", func(context.Context) (bool, error) { return true, nil })
			if err != nil {
				return out{}, err
			}
			approved, err := pawl.WaitFor[map[string]bool](c, "approval")
			return out{ready, approved["approved"]}, err
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		why, err := n.Why(n.ctx, pawl.Ref{ID: r.ID()})
		if err != nil || !strings.Contains(why, `the event "approval"`) {
			t.Errorf("why: %q, %v", why, err)
		}
		n.signal(r.ID(), "approval", map[string]bool{"approved": true})
		equal(t, "result", result(n, r), out{true, true})
	})
}

func TestB3_I06_retryUntilThird(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("retry", func(c *pawl.Context, _ none) (map[string]int, error) {
			return pawl.Step(c, "third", func(ctx context.Context) (map[string]int, error) {
				if a := pawl.InfoOf(ctx).Attempt; a < 3 {
					return nil, fmt.Errorf("attempt %d", a)
				}
				return map[string]int{"attempt": pawl.InfoOf(ctx).Attempt}, nil
			}, pawl.Backoff(30*time.Millisecond, 50*time.Millisecond))
		})
		n := boot(t, open(), replays(), w) // the waits between attempts are evicted, too
		r := start(n, w, none{})
		equal(t, "result", result(n, r), map[string]int{"attempt": 3})
		equal(t, "failed attempts", len(n.journal(r.ID(), pawl.KindAttempt)), 2)
	})
}

func TestB3_I07_pauseKeepsResults(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		var bodies counts
		w := pawl.Define("keeps", func(c *pawl.Context, _ none) (string, error) {
			s, err := pawl.Step(c, "first", func(context.Context) (string, error) { bodies.add("first"); return "kept", nil })
			if err != nil {
				return "", err
			}
			return s, c.Sleep(300 * time.Millisecond)
		})
		naps := sleeper(400 * time.Millisecond)
		n := boot(t, open(), nil, w, naps)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		n.ok(n.order(n.Pause, r.ID()))
		n.reaches(r.ID(), pawl.Paused)
		complete(n, naps, none{}) // the end of the first run's sleep has passed
		equal(t, "state", n.info(r.ID()).State, pawl.Paused)
		n.ok(n.unpause(r.ID()))
		equal(t, "result", result(n, r), "kept")
		equal(t, "bodies", bodies.get("first"), 1)
	})
}

func TestB3_I08_cancelWhilePaused(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := waiter("waits")
		n := boot(t, open(), nil, w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		n.ok(n.order(n.Pause, r.ID()))
		n.reaches(r.ID(), pawl.Paused)
		n.cancel(r.ID(), "while paused")
		equal(t, "state", failure(n, r).State, pawl.Cancelled)
		is(t, n.Signal(n.ctx, r.ID(), "go", "x"), pawl.ErrEnded)
		is(t, n.unpause(r.ID()), pawl.ErrEnded)
		equal(t, "state stays", n.info(r.ID()).State, pawl.Cancelled)
	})
}

func TestB3_I10_getRuns(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w, other, waits := oneStep("a"), oneStep("b"), waiter("waits")
		n := boot(t, open(), nil, w, other, waits)
		var want []string
		for i := range 5 {
			r := start(n, w, data("x"), pawl.ID(fmt.Sprint("r", i)))
			result(n, r)
			want = append([]string{r.ID()}, want...)
		}
		result(n, start(n, other, data("x")))
		open1 := start(n, waits, none{})
		n.reaches(open1.ID(), pawl.Waiting)
		ctx := n.ctx
		acme, err := w.Start(ctx, n.Engine, data("x"), pawl.Tenant("acme"))
		n.ok(err)
		_, err = acme.Result(ctx)
		n.ok(err)

		var got []string
		f := pawl.Filter{Workflow: "a", States: []pawl.State{pawl.Completed}, Limit: 2}
		for {
			page, err := n.List(ctx, f)
			n.ok(err)
			for _, r := range page {
				got = append(got, r.ID)
			}
			if len(page) == 0 {
				break
			}
			f.Cursor = page[len(page)-1].Key
		}
		equal(t, "completed runs, newest first, by pages", got, want)
		runs, err := n.List(ctx, pawl.Filter{Tenant: "acme"})
		equal(t, "of a tenant", fmt.Sprint(len(runs), err, runs[0].ID == acme.ID()), "1 <nil> true")
		runs, err = n.List(ctx, pawl.Filter{States: []pawl.State{pawl.Waiting, pawl.Paused}})
		equal(t, "waiting", fmt.Sprint(len(runs), err, runs[0].ID == open1.ID()), "1 <nil> true")
	})
}

func TestB3_I13_entriesHaveOutputAndTime(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := oneStep("a")
		n := boot(t, open(), nil, w)
		began := time.Now().Add(-time.Second)
		r := start(n, w, data("x"))
		result(n, r)
		var last time.Time
		for i, e := range n.journal(r.ID()) {
			equal(t, "seq", e.Seq, int64(i))
			if e.At.Before(began) || e.At.Before(last) || len(e.Data) == 0 {
				t.Errorf("entry %+v after %v", e, last)
			}
			last = e.At
		}
	})
}

func TestB3_I14_fastForward(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := pawl.Define("waits", func(c *pawl.Context, _ none) ([]string, error) {
			s, err := pawl.WaitFor[string](c, "approval")
			if err != nil {
				return nil, err
			}
			if err := c.Sleep(time.Hour); err != nil {
				return nil, err
			}
			_, err = pawl.WaitFor[string](c, "late", pawl.Timeout(time.Hour))
			return []string{s, fmt.Sprint(errors.Is(err, pawl.ErrTimeout))}, nil
		})
		n := boot(t, open(), replays(), w)
		r := start(n, w, none{})
		n.reaches(r.ID(), pawl.Waiting)
		wake := func(key string, data any) {
			t.Helper()
			_, err := n.Wake(n.ctx, pawl.Ref{ID: r.ID()}, key, data)
			n.ok(err)
		}
		wake("$event:approval", "approved by hand")
		n.sees(r.ID(), pawl.KindSleep, "$sleep")
		n.reaches(r.ID(), pawl.Waiting)
		wake("", nil)
		n.sees(r.ID(), pawl.KindScope, "$event:late.until")
		n.reaches(r.ID(), pawl.Waiting)
		wake("", nil)
		equal(t, "result", result(n, r), []string{"approved by hand", "true"})
	})
}

func TestB3_CL1_sameKeyByName(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		n := client(t, open(), nil, oneStep("a"))
		one, err := n.StartRun(n.ctx, "a", json.RawMessage(`{"data": "x"}`), pawl.ID("k"))
		n.ok(err)
		two, err := n.StartRun(n.ctx, "a", json.RawMessage(`{"data":"x"}`), pawl.ID("k")) // other white space
		n.ok(err)
		equal(t, "key", two.Key, one.Key)
	})
}

func TestB3_CL2_sameKeyByReference(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := oneStep("a")
		n := client(t, open(), nil, w)
		var wg sync.WaitGroup
		for range 10 { // at the same time
			wg.Go(func() {
				if r, err := w.Start(n.ctx, n.Engine, data("x"), pawl.ID("k")); err != nil || r.ID() != "k" {
					t.Errorf("start: %v", err)
				}
			})
		}
		wg.Wait()
		runs, err := n.List(n.ctx, pawl.Filter{})
		equal(t, "runs", fmt.Sprint(len(runs), err), "1 <nil>")
	})
}

func TestB3_CL3_noKey(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := oneStep("a")
		n := client(t, open(), nil, w)
		start(n, w, data("x"))
		start(n, w, data("x"))
		runs, err := n.List(n.ctx, pawl.Filter{})
		equal(t, "runs", fmt.Sprint(len(runs), err), "2 <nil>")
	})
}

func TestB3_CL4_differentKeys(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		w := oneStep("a")
		n := client(t, open(), nil, w)
		start(n, w, data("x"), pawl.ID("one"))
		start(n, w, data("x"), pawl.ID("two"))
		runs, err := n.List(n.ctx, pawl.Filter{})
		equal(t, "runs", fmt.Sprint(len(runs), err), "2 <nil>")
	})
}
