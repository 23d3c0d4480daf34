package machine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/machine"
	"github.com/pawlrun/pawl/pawltest"
)

func payment(t *testing.T) *machine.Machine[value] {
	return define(t, "payment", "ask", nil,
		plain("ask", machine.Wait("paid").Timeout(24*time.Hour, "late"), "paid", "late"),
		plain("paid", machine.Done(), machine.End),
		plain("late", machine.Done(), machine.End))
}

func begin(t *testing.T, h *pawltest.Harness, m *machine.Machine[value], v value) (*pawl.Run[value], pawl.Ref) {
	run := pawltest.Start(h, m.Workflow, machine.Input[value]{State: v})
	return run, ref(run)
}

func TestAWaitEndsByItsTimeout(t *testing.T) {
	m := payment(t)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		began := time.Now()
		run, id := begin(t, h, m, value{})
		h.AwaitEvent(run.ID(), "machine:ask")
		s, err := m.State(h.Context(), h.Engine(), id)
		if err != nil || !s.Waiting || s.Next != "paid" || s.Late != "late" || s.Until.Before(began.Add(24*time.Hour-time.Second)) || s.Until.After(began.Add(25*time.Hour)) {
			t.Errorf("while it waits: %+v, %v", s, err)
		}
		// An update does not let the time begin anew, neither does one that is refused.
		time.Sleep(10 * time.Hour)
		if err := m.Update(h.Context(), h.Engine(), id, func(v *value) error { v.N = 1; return nil }); err != nil {
			t.Error(err)
		}
		h.Signal(run.ID(), "machine:ask", map[string]any{"version": 17, "state": value{}, "go": true})
		h.Signal(run.ID(), "machine:ask", "nonsense")
		h.Signal(run.ID(), "machine:ask", map[string]any{"patch": map[string]any{"n": "no number"}, "go": true})
		h.Crash()
		if got := pawltest.Result(h, run); !slices.Equal(got.Log, []string{"ask", "late"}) || got.N != 1 {
			t.Errorf("got %+v", got)
		}
		if took := time.Since(began); took < 24*time.Hour || took > 25*time.Hour {
			t.Errorf("it waited %v", took)
		}
		s, err = m.State(h.Context(), h.Engine(), id)
		want := []machine.Edge{{From: "ask", To: "late", How: "timeout", Count: 1}, {From: "late", To: machine.End, How: "done", Count: 1}}
		if err != nil || !slices.Equal(s.Edges, want) || s.Version != 3 {
			t.Errorf("at the end: %+v, %v", s, err)
		}
	}, m)
}

func TestAnOperatorEndsATimedWait(t *testing.T) {
	m := payment(t)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		began := time.Now()
		run, id := begin(t, h, m, value{})
		h.AwaitEvent(run.ID(), "machine:ask")
		if _, err := h.Engine().Wake(h.Context(), id, "", nil); err != nil {
			t.Fatal(err)
		}
		if got := pawltest.Result(h, run); !slices.Equal(got.Log, []string{"ask", "late"}) || time.Since(began) > time.Hour {
			t.Errorf("got %+v after %v", got, time.Since(began))
		}
	}, m)
}

// A run past its own deadline fails; the timeout of its wait is another thing.
func TestADeadlineIsNoTimeout(t *testing.T) {
	m := payment(t)
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run := pawltest.Start(h, m.Workflow, machine.Input[value]{}, pawl.Timeout(time.Hour))
		_, err := pawltest.ResultError(h, run)
		if !errors.Is(err, pawl.ErrTimeout) || h.Info(run.ID()).State != pawl.Failed || h.Calls("late") > 0 {
			t.Errorf("the run ended with %v", err)
		}
	}, m)
}

// News that come before the run waits for them are kept, those for another state too.
func TestSendMayComeEarly(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		goOn := make(chan struct{})
		m := define(t, "ships", "charge", nil,
			state{Name: "charge", Do: func(context.Context, *value) (next, error) { <-goOn; return machine.Wait("pack"), nil }},
			plain("pack", machine.Wait("end")),
			plain("end", machine.Done()))
		e, _ := w.work(m)
		run := start(t, e, m, value{})
		for state, patch := range map[string]any{"pack": map[string]any{"data": map[string]any{"packer": "ann"}}, "charge": map[string]any{"n": 7}} {
			if err := m.Send(patient(t), e, ref(run), state, patch); err != nil {
				t.Fatal(err)
			}
		}
		close(goOn)
		if got := result(t, run); got.N != 7 || got.Data["packer"] != "ann" || !slices.Equal(got.Log, []string{"pack", "end"}) {
			t.Errorf("got %+v", got)
		}
		for text, err := range map[string]error{
			`no state "nowhere"`: m.Send(patient(t), e, ref(run), "nowhere", nil),
			"does not fit":       m.Send(patient(t), e, ref(run), "pack", map[string]any{"typo": 1}),
			"no JSON form":       m.Send(patient(t), e, ref(run), "pack", func() {}),
			"IfVersion":          m.Send(patient(t), e, ref(run), "pack", nil, machine.IfVersion(3)),
		} {
			if !errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), text) {
				t.Errorf("want an error that says %s, got %v", text, err)
			}
		}
	})
}

// Two people approve at the same time, each in a branch.
func TestBranchesWaitForThemselves(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		m := define(t, "review", "split", nil,
			plain("split", machine.Fork("decide", "legal", "money")),
			plain("legal", machine.Wait("decide")),
			plain("money", machine.Wait("check")),
			plain("check", machine.Wait("decide")),
			state{Name: "decide", Join: func(v *value, b map[string]value) error {
				v.N, v.Log = b["legal"].N+b["money"].N, append(v.Log, b["money"].Log[1:]...)
				return nil
			}, Do: do("decide", machine.Done())})
		e, _ := w.work(m)
		run := start(t, e, m, value{})
		s := await(t, e, m, run, func(s machine.Snapshot[value]) bool {
			return s.Branches["split:legal"].Waiting && s.Branches["split:money"].Waiting
		})
		if s.At != "split" || s.Join != "decide" || s.Waiting || len(s.Branches) != 2 || s.Branches["split:money"].Next != "check" {
			t.Errorf("while both wait: %+v", s)
		}
		add := func(n int) func(*value) error { return func(v *value) error { v.N += n; return nil } }
		if err := m.Continue(patient(t), e, ref(run), add(1)); !errors.Is(err, pawl.ErrState) || !strings.Contains(err.Error(), `"split:legal" "split:money"`) {
			t.Errorf("without In: %v", err)
		}
		if err := m.Continue(patient(t), e, ref(run), add(1), machine.In("split:nobody")); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("with a branch that is none: %v", err)
		}
		for _, branch := range []string{"split:money", "split:legal"} {
			if err := m.Continue(patient(t), e, ref(run), add(len(branch)), machine.In(branch)); err != nil {
				t.Fatal(err)
			}
		}
		await(t, e, m, run, func(s machine.Snapshot[value]) bool {
			b := s.Branches["split:money"]
			return b.At == "check" && b.Waiting
		})
		if err := m.Send(patient(t), e, ref(run), "check", nil, machine.In("split:money")); err != nil {
			t.Fatal(err)
		}
		if got := result(t, run); got.N != 22 || !slices.Equal(got.Log, []string{"split", "money", "check", "decide"}) {
			t.Errorf("got %+v", got)
		}
	})
}

// Input is held against a Validate method, changes too.
type valid struct {
	N int `json:"n"`
}

func (v valid) Validate() error {
	if v.N < 0 {
		return errors.New("n is negative")
	}
	return nil
}

func TestValuesAreValidated(t *testing.T) {
	m, err := machine.Define("validates", "a", []machine.State[valid]{
		{Name: "a", Do: func(context.Context, *valid) (next, error) { return machine.Wait("b"), nil }},
		{Name: "b", Do: func(context.Context, *valid) (next, error) { return machine.Done(), nil }},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		e, ctx := h.Engine(), h.Context()
		if _, err := m.Start(ctx, e, valid{-1}); !errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), "n is negative") {
			t.Errorf("start: %v", err)
		}
		if _, err := e.StartRun(ctx, "validates", []byte(`{"n": 1, "typo": 2}`)); !errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), "typo") {
			t.Errorf("start with an unknown field: %v", err)
		}
		info, err := e.StartRun(ctx, "validates", []byte(`{"n": 1}`))
		if err != nil {
			t.Fatal(err)
		}
		h.AwaitEvent(info.ID, "machine:a")
		run := pawl.Ref{ID: info.ID}
		if err := m.Continue(ctx, e, run, machine.Merge[valid](map[string]any{"n": -1})); !errors.Is(err, pawl.ErrInput) {
			t.Errorf("a change that is not valid: %v", err)
		}
		if err := m.Continue(ctx, e, run, machine.Merge[valid](map[string]any{"m": 1})); !errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), `"m"`) {
			t.Errorf("a key that is none: %v", err)
		}
		no := errors.New("no")
		if err := m.Continue(ctx, e, run, func(*valid) error { return no }); !errors.Is(err, no) {
			t.Errorf("a change that refuses: %v", err)
		}
		if err := m.Continue(ctx, e, run, machine.Merge[valid](map[string]any{"n": 2}), machine.IfVersion(9)); !errors.Is(err, pawl.ErrConflict) {
			t.Errorf("for another version: %v", err)
		}
		if err := m.Continue(ctx, e, run, machine.Merge[valid](map[string]any{"n": 2}), machine.IfVersion(1)); err != nil {
			t.Fatal(err)
		}
		if got, err := pawl.Attach[valid](e, info.ID).Result(ctx); err != nil || got.N != 2 {
			t.Errorf("got %v, %v", got, err)
		}
	}, m)
}

// A run that is paused keeps the change until it goes on.
func TestAPausedRunTakesTheChangeLater(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		m := payment(t)
		e, _ := w.work(m)
		run := start(t, e, m, value{})
		await(t, e, m, run, waits)
		if _, err := e.Pause(patient(t), ref(run), "look"); err != nil {
			t.Fatal(err)
		}
		await(t, e, m, run, func(s machine.Snapshot[value]) bool { return s.Run.State == pawl.Paused })
		if err := m.Continue(patient(t), e, ref(run), nil); !errors.Is(err, pawl.ErrUnknownOutcome) || !strings.Contains(err.Error(), "paused") {
			t.Errorf("a paused run: %v", err)
		}
		if s := snapshot(t, e, m, run); !s.Waiting {
			t.Errorf("the paused run went on: %+v", s)
		}
		if _, err := e.Unpause(patient(t), ref(run)); err != nil {
			t.Fatal(err)
		}
		if got := result(t, run); !slices.Equal(got.Log, []string{"ask", "paid"}) {
			t.Errorf("got %+v", got)
		}
	})
}

// A state says how to go on after a visit that failed for good.
func TestFailedSaysHowToGoOn(t *testing.T) {
	declined := errors.New("declined")
	m := define(t, "undoes", "charge", nil,
		state{Name: "charge", To: []string{"undo", "charge"}, Step: []pawl.StepOption{pawl.MaxAttempts(2)}, MaxVisits: 3,
			Do: func(_ context.Context, v *value) (next, error) {
				v.Log = append(v.Log, "lost")
				return next{}, fmt.Errorf("card of %d: %w", v.N, declined)
			},
			Failed: func(v *value, err error) next {
				v.Log = append(v.Log, err.Error())
				switch v.N++; v.N {
				case 1:
					return machine.Goto("charge")
				case 2:
					return machine.Goto("undo")
				case 12:
					return machine.Goto("nowhere")
				case 22:
					return next{}
				}
				return machine.Fail(err)
			}},
		plain("undo", machine.Done(), machine.End))
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run, id := begin(t, h, m, value{})
		want := []string{"card of 0: declined", "card of 1: declined", "undo"}
		if got := pawltest.Result(h, run); !slices.Equal(got.Log, want) {
			t.Errorf("got %+v", got)
		}
		s, err := m.State(h.Context(), h.Engine(), id)
		if err != nil || !slices.Equal(s.Value.Log, want) || s.Stats["charge"].Failures != 4 || s.Visits["charge"] != 2 || s.Edges[0].How != "failed" {
			t.Errorf("its snapshot is %+v, %v", s, err)
		}
		for n, code := range map[int]string{5: machine.CodeFailed, 11: machine.CodeUnknown, 21: machine.CodeOutcome} {
			run, id := begin(t, h, m, value{N: n})
			_, err := pawltest.ResultError(h, run)
			var f *pawl.Failure
			if !errors.As(err, &f) || f.Code != code {
				t.Errorf("%d: the run ended with %v", n, err)
			}
			if s, err := m.State(h.Context(), h.Engine(), id); err != nil || s.Run.State != pawl.Failed || s.At != "charge" {
				t.Errorf("%d: its snapshot is %+v, %v", n, s, err)
			}
			visits := h.Calls("charge")
			if _, err := h.Engine().Retry(h.Context(), id); err != nil {
				t.Fatal(err)
			}
			if _, err := run.Result(h.Context()); err == nil || h.Calls("charge") != visits+2 {
				t.Errorf("%d: after Retry it ended with %v; the state was visited %d times more", n, err, (h.Calls("charge")-visits)/2)
			}
		}
	}, m)
}

// Failed is not asked about what is no failure of the state's: Fail, a cancel, a wrong outcome.
func TestFailedIsNotAskedAboutTheEnd(t *testing.T) {
	for name, then := range map[string]next{"fail": machine.Fail(errors.New("no")), "wrong outcome": machine.Goto("nowhere")} {
		t.Run(name, func(t *testing.T) {
			m := define(t, "ends", "a", nil, state{Name: "a", Do: do("a", then), Failed: func(*value, error) next {
				t.Error("Failed was asked")
				return machine.Done()
			}})
			_ = failure(t, m)
		})
	}
	m := define(t, "ends", "a", nil, state{Name: "a", Do: func(ctx context.Context, _ *value) (next, error) {
		<-ctx.Done()
		return next{}, ctx.Err()
	}, Failed: func(*value, error) next {
		t.Error("Failed was asked")
		return machine.Done()
	}})
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run, _ := begin(t, h, m, value{})
		h.AwaitState(run.ID(), pawl.Running)
		h.Cancel(run.ID(), "enough")
		if _, err := pawltest.ResultError(h, run); err == nil || h.Info(run.ID()).State != pawl.Cancelled {
			t.Errorf("the run ended with %v", err)
		}
	}, m)
}
