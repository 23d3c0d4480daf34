package machine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/machine"
)

// Cases N1 to N10 of what a goto machine must do.

func parity(t *testing.T) *machine.Machine[value] {
	check := func(_ context.Context, v *value) (next, error) {
		v.Log = append(v.Log, "check")
		name := "odd"
		if v.N%2 == 0 {
			name = "even"
		}
		return machine.Goto(name), nil
	}
	return define(t, "parity-check", "begin", nil,
		plain("end", machine.Done(), machine.End), // K10: the order of the states says nothing
		plain("begin", machine.Goto("check"), "check"),
		state{Name: "check", Do: check, To: []string{"even", "odd"}},
		plain("even", machine.Goto("end"), "end"),
		plain("odd", machine.Goto("end"), "end"),
	)
}

func TestN1_parityCheck(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		m := parity(t)
		e, _ := w.work(m)
		for n, want := range map[int]string{10: "begin check even end", 7: "begin check odd end"} {
			run := start(t, e, m, value{N: n})
			got := result(t, run)
			if strings.Join(got.Log, " ") != want || got.N != n {
				t.Errorf("%d: %+v, want %s", n, got, want)
			}
			s := snapshot(t, e, m, run)
			if s.Run.State != pawl.Completed || s.At != "end" || s.Version != 4 || s.Waiting {
				t.Errorf("%d: its snapshot is %+v", n, s)
			}
			if len(s.Stats) != 4 || s.Stats["check"].Visits != 1 || s.Stats["check"].Finished.Before(s.Stats["check"].Started) || s.Total <= 0 {
				t.Errorf("%d: its statistics are %+v", n, s.Stats)
			}
		}
	})
}

func TestN2_failIsVisible(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		var fixed atomic.Bool
		m := define(t, "fails", "a", nil,
			plain("a", machine.Goto("b")),
			state{Name: "b", Do: func(_ context.Context, v *value) (next, error) {
				if fixed.Load() {
					return machine.Done(), nil
				}
				v.N = 99
				return machine.Fail(errors.New("missing text input")), nil
			}})
		e, _ := w.work(m)
		run := start(t, e, m, value{N: 1})
		_, err := run.Result(patient(t))
		var step *pawl.StepError
		if !errors.As(err, &step) || step.Step != "b" || step.Attempts != 1 || !strings.Contains(err.Error(), "missing text input") {
			t.Fatalf("the run ended with %v", err)
		}
		if s := snapshot(t, e, m, run); s.Run.State != pawl.Failed || s.At != "b" || s.Value.N != 1 || s.Stats["b"].Failures != 1 {
			t.Errorf("its snapshot is %+v", s)
		}
		// The state can be visited again when what was wrong is mended.
		fixed.Store(true)
		if _, err := e.Retry(patient(t), ref(run)); err != nil {
			t.Fatal(err)
		}
		if got := result(t, run); got.N != 1 || len(got.Log) != 1 {
			t.Errorf("after Retry: %+v", got)
		}
	})
}

func TestN2_unknownTargetFailsTheRun(t *testing.T) {
	for name, c := range map[string]struct {
		to   []string
		then next
		code string
		says []string
	}{
		"unknown":        {nil, machine.Goto("nowhere"), machine.CodeUnknown, []string{"lost", `"a"`, `"nowhere"`}},
		"unknown wait":   {nil, machine.Wait("nowhere"), machine.CodeUnknown, []string{`"a"`, `"nowhere"`}},
		"unknown branch": {nil, machine.Fork("b", "nowhere"), machine.CodeUnknown, []string{`"a"`, `"nowhere"`}},
		"unknown join":   {nil, machine.Fork("nowhere", "b"), machine.CodeUnknown, []string{`"a"`, `"nowhere"`}},
		"undeclared":     {[]string{"c"}, machine.Goto("b"), machine.CodeUnknown, []string{`"a"`, `"b"`, `"c"`, "To"}},
		"undeclared end": {[]string{"c"}, machine.Done(), machine.CodeUnknown, []string{`"a"`, "End"}},
		"K9: nothing":    {nil, next{}, machine.CodeOutcome, []string{`"a"`, "no outcome"}},
		"goto nothing":   {nil, machine.Goto(""), machine.CodeOutcome, []string{`Goto("")`, "Done"}},
		"fail nothing":   {nil, machine.Fail(nil), machine.CodeOutcome, []string{"Fail(nil)"}},
		"odd timeout":    {nil, machine.Goto("b").Timeout(time.Hour, "c"), machine.CodeOutcome, []string{"belongs to a Wait"}},
		"no timeout":     {nil, machine.Wait("b").Timeout(0, "c"), machine.CodeOutcome, []string{"Timeout of a Wait is 0s"}},
		"late nowhere":   {nil, machine.Wait("b").Timeout(time.Hour, "nowhere"), machine.CodeUnknown, []string{`"nowhere"`}},
		"no join":        {nil, machine.Fork("b", "c"), machine.CodeJoin, []string{`"b"`, "no Join"}},
		"twice":          {nil, machine.Fork("b", "c", "c"), machine.CodeJoin, []string{`"c" twice`}},
	} {
		t.Run(name, func(t *testing.T) {
			m := define(t, "lost", "a", nil, state{Name: "a", Do: do("a", c.then), To: c.to}, plain("b", machine.Done()), plain("c", machine.Goto("b")))
			err := failure(t, m)
			var f *pawl.Failure
			if !errors.As(err, &f) || f.Code != c.code {
				t.Errorf("the run ended with %v, which is %+v", err, f)
			}
			for _, text := range c.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%q does not say %s", err, text)
				}
			}
		})
	}
}

func TestN4_branchesMustJoinAtTheSameState(t *testing.T) {
	join := func(v *value, b map[string]value) error { return nil }
	for name, then := range map[string]next{"elsewhere": machine.Goto("k"), "done": machine.Done()} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, w *world) {
				m := define(t, "joins", "split", nil,
					plain("split", machine.Fork("j", "a", "b")),
					plain("a", machine.Goto("j")),
					plain("b", then),
					state{Name: "j", Do: do("j", machine.Done()), Join: join},
					state{Name: "k", Do: do("k", machine.Done()), Join: join})
				e, _ := w.work(m)
				run := start(t, e, m, value{})
				_, err := run.Result(patient(t))
				if err == nil || !strings.Contains(err.Error(), "Parallel steps must join to the same next step") || !strings.Contains(err.Error(), `"b"`) {
					t.Errorf("the run ended with %v", err)
				}
				if s := snapshot(t, e, m, run); s.Stats["j"].Visits+s.Stats["k"].Visits > 0 || s.Run.State != pawl.Failed {
					t.Errorf("its snapshot is %+v", s)
				}
			})
		})
	}
}

func TestN5_maxVisits(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		again := func(_ context.Context, v *value) (next, error) {
			v.N++
			if v.N == 2 {
				return machine.Wait("poll"), nil
			}
			return machine.Goto("poll"), nil
		}
		m := define(t, "polls", "poll", nil, state{Name: "poll", Do: again, MaxVisits: 3})
		e, _ := w.work(m)
		for _, reset := range []bool{false, true} {
			run := start(t, e, m, value{})
			await(t, e, m, run, waits)
			var opts []machine.UpdateOption
			want := 3
			if reset {
				opts, want = []machine.UpdateOption{machine.ResetVisits()}, 5
			}
			if err := m.Continue(patient(t), e, ref(run), nil, opts...); err != nil {
				t.Fatal(err)
			}
			_, err := run.Result(patient(t))
			var f *pawl.Failure
			if !errors.As(err, &f) || f.Code != machine.CodeVisits || !strings.Contains(err.Error(), `state "poll": it was visited 3 times, and its MaxVisits is 3`) {
				t.Errorf("the run ended with %v", err)
			}
			if s := snapshot(t, e, m, run); s.Stats["poll"].Visits != want || s.Run.State != pawl.Failed {
				t.Errorf("reset %v: %d visits, want %d", reset, s.Stats["poll"].Visits, want)
			}
		}
	})
}

// A run that was visited too often goes on where it was when the limit is raised.
func TestN5_raisedLimitAndRetry(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		with := func(limit int) *machine.Machine[value] {
			return define(t, "polls", "poll", nil, state{Name: "poll", MaxVisits: limit, Do: func(_ context.Context, v *value) (next, error) {
				if v.N++; v.N == 5 {
					return machine.Done(), nil
				}
				return machine.Goto("poll"), nil
			}})
		}
		m := with(3)
		e, stop := w.work(m)
		run := start(t, e, m, value{})
		if _, err := run.Result(patient(t)); err == nil {
			t.Fatal("the run did not fail")
		}
		stop()
		m = with(10)
		e, _ = w.work(m)
		if _, err := e.Retry(patient(t), ref(run)); err != nil {
			t.Fatal(err)
		}
		run = pawl.Attach[value](e, run.ID())
		if got := result(t, run); got.N != 5 {
			t.Errorf("got %+v", got)
		}
		if s := snapshot(t, e, m, run); s.Stats["poll"].Visits != 5 {
			t.Errorf("%d visits, want 5: none was made twice", s.Stats["poll"].Visits)
		}
	})
}

func TestN7_continueWhatIsNotThere(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		m, other := parity(t), define(t, "other", "a", nil, plain("a", machine.Done()))
		e, _ := w.work(m, other)
		run := start(t, e, m, value{N: 1})
		result(t, run)
		for deed, err := range map[string]error{
			"continued": m.Continue(patient(t), e, ref(run), nil),
			"updated":   m.Update(patient(t), e, ref(run), func(*value) error { return nil }),
		} {
			if !errors.Is(err, pawl.ErrEnded) || !strings.Contains(err.Error(), "it has already completed") || !strings.Contains(err.Error(), "cannot be "+deed) {
				t.Errorf("a completed run: %v", err)
			}
		}
		if err := m.Send(patient(t), e, ref(run), "even", nil); !errors.Is(err, pawl.ErrEnded) {
			t.Errorf("Send to a completed run: %v", err)
		}
		unknown := pawl.Ref{ID: "nobody"}
		_, err := m.State(patient(t), e, unknown)
		for _, err := range []error{err, m.Continue(patient(t), e, unknown, nil), m.Send(patient(t), e, unknown, "even", nil)} {
			if !errors.Is(err, pawl.ErrNotFound) || !strings.Contains(err.Error(), "nobody") {
				t.Errorf("an unknown run: %v", err)
			}
		}
		if err := other.Continue(patient(t), e, ref(run), nil); !errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), "parity-check") {
			t.Errorf("a run of another machine: %v", err)
		}
	})
}

func TestN8_cancelWhileAStateIsUnderWay(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		began, later := make(chan struct{}), atomic.Int32{}
		m := define(t, "long", "a", nil,
			state{Name: "a", Do: func(ctx context.Context, v *value) (next, error) {
				close(began)
				<-ctx.Done()
				return next{}, context.Cause(ctx)
			}},
			state{Name: "b", Do: func(context.Context, *value) (next, error) {
				later.Add(1)
				return machine.Done(), nil
			}})
		e, _ := w.work(m)
		run := start(t, e, m, value{})
		<-began
		if _, err := e.Cancel(patient(t), ref(run), "not wanted"); err != nil {
			t.Fatal(err)
		}
		_, err := run.Result(patient(t))
		var ended *pawl.RunError
		if !errors.As(err, &ended) || ended.State != pawl.Cancelled {
			t.Errorf("the run ended with %v", err)
		}
		if later.Load() > 0 {
			t.Error("a later state was visited")
		}
	})
}

func TestN9_retriesAndTheirEnd(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		var seen atomic.Int32
		var dirty atomic.Bool
		m := define(t, "flaky", "a", nil,
			state{Name: "a", Step: []pawl.StepOption{pawl.MaxAttempts(3), pawl.Backoff(time.Millisecond, time.Millisecond)},
				Do: func(ctx context.Context, v *value) (next, error) {
					if len(v.Log) > 0 {
						dirty.Store(true)
					}
					v.Log = append(v.Log, "tried")
					if seen.Add(1); pawl.InfoOf(ctx).Attempt < v.N {
						return machine.Goto("b"), errors.New("busy")
					}
					return machine.Done(), nil
				}},
			plain("b", machine.Done()))
		e, _ := w.work(m)
		if got := result(t, start(t, e, m, value{N: 3})); seen.Load() != 3 || !slices.Equal(got.Log, []string{"tried"}) {
			t.Errorf("%d attempts, %+v", seen.Load(), got)
		}
		if dirty.Load() {
			t.Error("an attempt began with what a failed one had left")
		}
		run := start(t, e, m, value{N: 9})
		_, err := run.Result(patient(t))
		var step *pawl.StepError
		if !errors.As(err, &step) || step.Step != "a" || step.Attempts != 3 || !strings.Contains(err.Error(), "busy") {
			t.Errorf("the run ended with %v", err)
		}
		if s := snapshot(t, e, m, run); s.Run.State != pawl.Failed || s.Stats["a"].Failures != 3 || s.Stats["a"].Visits != 0 {
			t.Errorf("its snapshot is %+v", s)
		}
	})
}

// Nothing wakes a run that waits but its update, its timeout or an operator: no worker that
// starts or stops, no scan, no other event (K4).
func TestN10_aWaitingRunIsLeftAlone(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		m := define(t, "approval", "ask", nil, plain("ask", machine.Wait("end")), plain("end", machine.Done()))
		e, stop := w.work(m)
		run := start(t, e, m, value{})
		await(t, e, m, run, waits)
		stop()
		for range 2 {
			e, stop = w.work(m)
			if _, err := e.Audit(patient(t)); err != nil {
				t.Fatal(err)
			}
			if err := e.Signal(patient(t), run.ID(), "something", 1); err != nil {
				t.Fatal(err)
			}
			if err := e.Publish(patient(t), "machine", 1); err != nil {
				t.Fatal(err)
			}
			// Another run from start to end shows that the worker has had its time.
			probe := start(t, e, m, value{})
			await(t, e, m, probe, waits)
			if err := m.Continue(patient(t), e, ref(probe), nil); err != nil {
				t.Fatal(err)
			}
			result(t, probe)
			stop()
		}
		e, _ = w.work(m)
		s := snapshot(t, e, m, run)
		if s.Run.State != pawl.Waiting || !s.Waiting || s.Version != 1 || s.At != "ask" || s.Next != "end" {
			t.Fatalf("the run is %+v", s)
		}
		if err := m.Continue(patient(t), e, ref(run), nil); err != nil {
			t.Fatal(err)
		}
		if got := result(t, run); !slices.Equal(got.Log, []string{"ask", "end"}) {
			t.Errorf("got %+v", got)
		}
	})
}
