package machine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/machine"
	"github.com/pawlrun/pawl/pawltest"
)

// ring counts to n in two states, and then waits, if it is told to, before its end.
func ring(t *testing.T, opt *machine.Options) *machine.Machine[value] {
	return define(t, "ring", "a", opt,
		state{Name: "a", Do: func(_ context.Context, v *value) (next, error) {
			if v.N--; v.N <= 0 {
				return machine.Wait("end").Timeout(time.Second, "end"), nil
			}
			return machine.Goto("b"), nil
		}},
		state{Name: "b", Do: func(context.Context, *value) (next, error) { return machine.Goto("a"), nil }},
		plain("end", machine.Done()))
}

// A long machine goes on as a new run with a fresh journal; what counts visits goes with it.
func TestALongMachineContinues(t *testing.T) {
	m := ring(t, &machine.Options{ContinueAfter: 10})
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run, id := begin(t, h, m, value{N: 25})
		if got, err := run.Result(h.Context()); err != nil || got.N != 0 || len(got.Log) != 1 {
			t.Errorf("got %+v, %v", got, err)
		}
		s, err := m.State(h.Context(), h.Engine(), id)
		if err != nil {
			t.Fatal(err)
		}
		if s.Run.ID == run.ID() || s.Visits["a"] != 25 || s.Visits["b"] != 24 || s.Stats["a"].Visits != 25 || s.Version != 50 || s.Run.State != pawl.Completed {
			t.Errorf("its snapshot is %+v", s)
		}
		runs := 0
		for info := h.Info(run.ID()); ; info = h.Info(info.Next) {
			if n := len(h.Keys(info.ID)); n > 10 {
				t.Errorf("run %s has %d visits", info.ID, n)
			}
			if runs++; info.Next == "" {
				break
			}
		}
		if runs != 5 {
			t.Errorf("%d runs, want 5", runs)
		}
	}, m)
}

func TestTheLimitOfVisitsHoldsAcrossRuns(t *testing.T) {
	m := ring(t, &machine.Options{ContinueAfter: 10, MaxVisits: 12})
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run, _ := begin(t, h, m, value{N: 100})
		_, err := run.Result(h.Context())
		if err == nil || !strings.Contains(err.Error(), `state "a": it was visited 12 times, and its MaxVisits is 12`) {
			t.Errorf("the run ended with %v", err)
		}
	}, m)
}

// An update reaches the run that goes on now, by the id of the first.
func TestUpdatesFollowTheRun(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		m := define(t, "ring", "a", &machine.Options{ContinueAfter: 3},
			state{Name: "a", Do: func(_ context.Context, v *value) (next, error) {
				if v.N--; v.N == 0 {
					return machine.Wait("end"), nil
				}
				return machine.Goto("a"), nil
			}},
			plain("end", machine.Done()))
		e, _ := w.work(m)
		run := start(t, e, m, value{N: 8})
		s := await(t, e, m, run, waits)
		if s.Run.ID == run.ID() || s.Version != 8 {
			t.Errorf("its snapshot is %+v", s)
		}
		if err := m.Continue(patient(t), e, ref(run), func(v *value) error { v.N = 42; return nil }); err != nil {
			t.Fatal(err)
		}
		if got := result(t, run); got.N != 42 {
			t.Errorf("got %+v", got)
		}
	})
}

// A state that is a machine: it runs as a child.
func TestMachinesNest(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		inner := parity(t)
		outer := define(t, "outer", "ask", nil,
			state{Name: "ask", Call: func(c *pawl.Context, v *value) (next, error) {
				out, err := inner.Call(c, value{N: v.N})
				if err != nil {
					return next{}, err
				}
				twice, err := pawl.Step(c, "ask", func(context.Context) (int, error) { return 2 * v.N, nil }) // the name of a state is free here
				if err != nil {
					return next{}, err
				}
				v.Log, v.N = out.Log, twice
				if v.N < 20 {
					return machine.Goto("ask"), nil
				}
				return machine.Goto("end"), nil
			}},
			plain("end", machine.Done()))
		e, _ := w.work(inner, outer)
		run := start(t, e, outer, value{N: 5})
		if got := result(t, run); got.N != 20 || !slices.Equal(got.Log, []string{"begin", "check", "even", "end", "end"}) {
			t.Errorf("got %+v", got)
		}
		s := snapshot(t, e, outer, run)
		if s.Stats["ask"].Visits != 2 || s.Stats["ask"].Total <= 0 || s.Version != 3 {
			t.Errorf("its snapshot is %+v", s)
		}
	})
}

// A nested machine that goes on as a new run ends for its parent when the last one does.
func TestANestedMachineContinues(t *testing.T) {
	inner := ring(t, &machine.Options{ContinueAfter: 3})
	outer := define(t, "outer", "ask", nil, state{Name: "ask", Call: func(c *pawl.Context, v *value) (next, error) {
		out, err := inner.Call(c, *v)
		*v = out
		return machine.Done(), err
	}})
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run, _ := begin(t, h, outer, value{N: 5})
		if got := pawltest.Result(h, run); got.N != 0 || !slices.Equal(got.Log, []string{"end"}) {
			t.Errorf("got %+v", got)
		}
	}, inner, outer)
}

func TestAFailInACallHasItsCode(t *testing.T) {
	for code, then := range map[string]next{machine.CodeFailed: machine.Fail(errors.New("no stock")), machine.CodeUnknown: machine.Goto("nowhere"), machine.CodeOutcome: {}} {
		err := failure(t, define(t, "calls", "a", nil, state{Name: "a", Call: func(*pawl.Context, *value) (next, error) { return then, nil }}))
		var f *pawl.Failure
		if !errors.As(err, &f) || f.Code != code || strings.Count(err.Error(), `machine calls: state "a"`) != 1 {
			t.Errorf("want %s, the run ended with %v", code, err)
		}
	}
}

func TestAFailureOfANestedMachineIsVisible(t *testing.T) {
	inner := define(t, "inner", "a", nil, plain("a", machine.Fail(errors.New("no stock"))))
	outer := define(t, "outer", "ask", nil, state{Name: "ask", Call: func(c *pawl.Context, v *value) (next, error) {
		out, err := inner.Call(c, *v)
		*v = out
		return machine.Done(), err
	}})
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run, _ := begin(t, h, outer, value{})
		_, err := pawltest.ResultError(h, run)
		if err == nil || !strings.Contains(err.Error(), `machine outer: state "ask"`) || !strings.Contains(err.Error(), "no stock") {
			t.Errorf("the run ended with %v", err)
		}
	}, inner, outer)
}

// At most n visits of a state are at work at once, across workers.
func TestConcurrencyOfAState(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		var now, most atomic.Int32
		var once sync.Once
		met := make(chan struct{})
		m := define(t, "video", "render", nil,
			state{Name: "render", Concurrency: 2, Do: func(_ context.Context, v *value) (next, error) {
				defer now.Add(-1)
				n := now.Add(1)
				for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
				}
				if n == 2 {
					once.Do(func() { close(met) })
				}
				select {
				case <-met:
					time.Sleep(5 * time.Millisecond) // the work: without the limit others would come meanwhile
					v.N++
					return machine.Goto("end"), nil
				case <-time.After(20 * time.Second):
					return next{}, pawl.Fatal(errors.New("no second run came into the state"))
				}
			}},
			plain("end", machine.Done()))
		e, _ := w.work(m)
		w.work(m)
		var runs []*pawl.Run[value]
		for range 12 {
			runs = append(runs, start(t, e, m, value{}))
		}
		for _, run := range runs {
			result(t, run)
		}
		if n := most.Load(); n != 2 {
			t.Errorf("%d runs were in the state at once, want 2", n)
		}
	})
}

func TestMiddleware(t *testing.T) {
	var mu sync.Mutex
	var log []string
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, fmt.Sprintf(format, args...))
	}
	layer := func(name string) machine.Middleware {
		return func(inner machine.Handler) machine.Handler {
			return func(ctx context.Context, v machine.Visit) (next, error) {
				note("%s> %s %s %d of %s", name, v.Machine, v.State, v.Number, pawl.InfoOf(ctx).Step)
				n, err := inner(ctx, v)
				note("<%s %v %v", name, n, err)
				return n, err
			}
		}
	}
	short := func(inner machine.Handler) machine.Handler {
		return func(ctx context.Context, v machine.Visit) (next, error) {
			if v.State == "skipped" {
				return machine.Done(), nil
			}
			return inner(ctx, v)
		}
	}
	m := define(t, "m", "a", &machine.Options{Use: []machine.Middleware{layer("1"), layer("2"), short}},
		state{Name: "a", Step: []pawl.StepOption{pawl.Backoff(time.Millisecond, time.Millisecond)}, Do: func(ctx context.Context, v *value) (next, error) {
			v.N++
			if pawl.InfoOf(ctx).Attempt == 1 {
				return next{}, errors.New("busy")
			}
			if v.N == 2 {
				return machine.Goto("skipped"), nil
			}
			return machine.Goto("a"), nil
		}},
		plain("skipped", machine.Goto("a")))
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run, _ := begin(t, h, m, value{})
		if got := pawltest.Result(h, run); got.N != 2 || len(got.Log) > 0 {
			t.Errorf("got %+v", got)
		}
	}, m)
	want := []string{
		"1> m a 1 of a", "2> m a 1 of a", "<2 no outcome busy", "<1 no outcome busy",
		"1> m a 1 of a", "2> m a 1 of a", "<2 goto a <nil>", "<1 goto a <nil>",
		"1> m a 2 of a#2", "2> m a 2 of a#2", "<2 no outcome busy", "<1 no outcome busy",
		"1> m a 2 of a#2", "2> m a 2 of a#2", "<2 goto skipped <nil>", "<1 goto skipped <nil>",
		"1> m skipped 1 of skipped", "2> m skipped 1 of skipped", "<2 done <nil>", "<1 done <nil>",
	}
	if !slices.Equal(log, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(log, "\n"), strings.Join(want, "\n"))
	}
}

// A run is forked from a state, with another value if need be.
func TestForkFromAState(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		m := parity(t)
		e, _ := w.work(m)
		run := start(t, e, m, value{N: 10})
		result(t, run)
		info, err := e.Fork(patient(t), ref(run), pawl.ForkOptions{From: "check"})
		if err != nil {
			t.Fatal(err)
		}
		if got := result(t, pawl.Attach[value](e, info.ID)); strings.Join(got.Log, " ") != "begin check even end" {
			t.Errorf("got %+v", got)
		}
		info, err = e.Fork(patient(t), ref(run), pawl.ForkOptions{From: "check", Results: map[string]json.RawMessage{
			"begin": json.RawMessage(`{"goto": "check", "state": {"n": 7, "log": ["forked"]}}`),
		}})
		if err != nil {
			t.Fatal(err)
		}
		if got := result(t, pawl.Attach[value](e, info.ID)); strings.Join(got.Log, " ") != "forked check odd end" {
			t.Errorf("with another value: %+v", got)
		}
	})
}

// A state that is gone fails the runs that are about to visit it; when it is back they go on.
func TestAStateThatIsGone(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		with := func(last string) *machine.Machine[value] {
			return define(t, "m", "ask", nil, plain("ask", machine.Wait("ship")), plain(last, machine.Done()))
		}
		old, renamed := with("ship"), with("send")
		e, stop := w.work(old)
		run := start(t, e, old, value{})
		await(t, e, old, run, waits)
		stop()
		e, stop = w.work(renamed)
		if err := renamed.Continue(patient(t), e, ref(run), nil); err != nil {
			t.Fatal(err)
		}
		_, err := pawl.Attach[value](e, run.ID()).Result(patient(t))
		if err == nil || !strings.Contains(err.Error(), `state "ship"`) || !strings.Contains(err.Error(), `"send"`) {
			t.Errorf("the run ended with %v", err)
		}
		stop()
		e, _ = w.work(old)
		if _, err := e.Retry(patient(t), ref(run)); err != nil {
			t.Fatal(err)
		}
		if got := result(t, pawl.Attach[value](e, run.ID())); !slices.Equal(got.Log, []string{"ask", "ship"}) {
			t.Errorf("got %+v", got)
		}
	})
}

// A value whose type no longer fits fails the run by name; nothing of it is lost.
func TestAValueThatNoLongerFits(t *testing.T) {
	type other struct {
		N []string `json:"n"`
	}
	old := define(t, "m", "ask", nil, plain("ask", machine.Wait("end")), plain("end", machine.Done()))
	changed, err := machine.Define("m", "ask", []machine.State[other]{
		{Name: "ask", Do: func(context.Context, *other) (next, error) { return machine.Wait("end"), nil }},
		{Name: "end", Do: func(context.Context, *other) (next, error) { return machine.Done(), nil }},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	eachStore(t, func(t *testing.T, w *world) {
		e, stop := w.work(old)
		run := start(t, e, old, value{N: 3})
		await(t, e, old, run, waits)
		stop()
		e, stop = w.work(changed)
		if _, err := changed.State(patient(t), e, ref(run)); err == nil || !strings.Contains(err.Error(), "does not fit") {
			t.Errorf("its state: %v", err)
		}
		if err := changed.Continue(patient(t), e, ref(run), nil); err == nil || !strings.Contains(err.Error(), "does not fit") {
			t.Errorf("continue: %v", err)
		}
		stop()
		e, _ = w.work(old)
		if err := old.Continue(patient(t), e, ref(run), nil); err != nil {
			t.Fatal(err)
		}
		if got := result(t, pawl.Attach[value](e, run.ID())); got.N != 3 {
			t.Errorf("got %+v", got)
		}
	})
}

// The keys of a Call's own calls are apart from those of the branches of a fork, whatever
// their names are.
func TestKeysOfACallAndOfBranchesAreApart(t *testing.T) {
	m := define(t, "m", "x", nil,
		state{Name: "x", Call: func(c *pawl.Context, v *value) (next, error) {
			err := pawl.Do(c, "call", func(context.Context) error { return nil })
			return machine.Fork("j", "call", "x2"), err
		}},
		plain("call", machine.Wait("j")),
		plain("x2", machine.Goto("j")),
		state{Name: "j", Join: func(*value, map[string]value) error { return nil }, Do: do("j", machine.Done())})
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run, id := begin(t, h, m, value{})
		h.AwaitEvent(run.ID(), "machine:x:call/call")
		if err := m.Continue(h.Context(), h.Engine(), id, nil, machine.In("x:call")); err != nil {
			t.Fatal(err)
		}
		pawltest.Result(h, run)
		keys := h.Keys(run.ID())
		slices.Sort(keys)
		if want := []string{"j", "x", "x:/call", "x:call/call", "x:x2/x2"}; !slices.Equal(keys, want) {
			t.Errorf("got %q, want %q", keys, want)
		}
	}, m)
}

// A join whose Join was taken away fails the forks that are under way, by name.
func TestAJoinThatIsGone(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		with := func(join func(*value, map[string]value) error) *machine.Machine[value] {
			return define(t, "m", "split", nil, plain("split", machine.Fork("j", "a")), plain("a", machine.Wait("j")),
				state{Name: "j", Join: join, Do: do("j", machine.Done())})
		}
		old, gone := with(func(v *value, b map[string]value) error { *v = b["a"]; return nil }), with(nil)
		e, stop := w.work(old)
		run := start(t, e, old, value{})
		await(t, e, old, run, func(s machine.Snapshot[value]) bool { return s.Branches["split:a"].Waiting })
		stop()
		e, stop = w.work(gone)
		if err := gone.Continue(patient(t), e, ref(run), nil, machine.In("split:a")); err != nil {
			t.Fatal(err)
		}
		_, err := pawl.Attach[value](e, run.ID()).Result(patient(t))
		if err == nil || !strings.Contains(err.Error(), `state "j"`) || !strings.Contains(err.Error(), "no Join any more") {
			t.Errorf("the run ended with %v", err)
		}
		stop()
		e, _ = w.work(old)
		if _, err := e.Retry(patient(t), ref(run)); err != nil {
			t.Fatal(err)
		}
		if got := result(t, pawl.Attach[value](e, run.ID())); !slices.Equal(got.Log, []string{"split", "a", "j"}) {
			t.Errorf("got %+v", got)
		}
	})
}
