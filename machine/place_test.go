package machine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/machine"
	"github.com/pawlrun/pawl/pawltest"
)

// A state of limited concurrency is like others: in forks and joins, through crashes.
func TestPlacesSurviveCrashes(t *testing.T) {
	m := define(t, "places", "split", nil,
		state{Name: "split", Concurrency: 1, Do: do("split", machine.Fork("join", "a", "b"))},
		state{Name: "a", Concurrency: 1, Do: do("a", machine.Goto("join"))},
		plain("b", machine.Goto("join")),
		state{Name: "join", Concurrency: 2, Do: do("join", machine.Done()), Join: func(v *value, branches map[string]value) error {
			v.Log = append(branches["a"].Log, branches["b"].Log...)
			return nil
		}})
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run, id := begin(t, h, m, value{})
		want := []string{"split", "a", "split", "b", "join"}
		if got := pawltest.Result(h, run); !slices.Equal(got.Log, want) {
			t.Errorf("got %q, want %q", got.Log, want)
		}
		s, err := m.State(h.Context(), h.Engine(), id)
		if err != nil || s.Visits["a"] != 1 || s.Visits["split"] != 1 || s.Stats["join"].Visits != 1 {
			t.Errorf("its snapshot is %+v, %v", s, err)
		}
	}, m)
	pawltest.CrashEverywhere(t, m.Workflow, machine.Input[value]{})
}

func TestAPlaceThatFails(t *testing.T) {
	var mended atomic.Bool
	var calls atomic.Int64
	for _, c := range []struct {
		name   string
		failed func(*value, error) next
		code   string
		log    []string
	}{
		{"and says how to go on", func(v *value, err error) next {
			v.Log = append(v.Log, err.Error())
			return machine.Goto("end")
		}, "", []string{"declined", "end"}},
		{"and says nothing", nil, "", nil},
		{"and fails", func(_ *value, err error) next { return machine.Fail(err) }, machine.CodeFailed, nil},
		{"and goes astray", func(*value, error) next { return machine.Goto("nowhere") }, machine.CodeUnknown, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			mended.Store(false)
			calls.Store(0)
			m := define(t, "pays", "charge", nil,
				state{Name: "charge", Concurrency: 1, Step: []pawl.StepOption{pawl.MaxAttempts(2)}, Failed: c.failed, Do: func(_ context.Context, v *value) (next, error) {
					calls.Add(1)
					if !mended.Load() {
						return next{}, errors.New("declined")
					}
					return machine.Goto("end"), nil
				}},
				plain("end", machine.Done()))
			pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
				run, id := begin(t, h, m, value{})
				if c.log != nil {
					if got := pawltest.Result(h, run); !slices.Equal(got.Log, c.log) || calls.Load() != 2 {
						t.Errorf("got %q after %d calls, want %q", got.Log, calls.Load(), c.log)
					}
					return
				}
				_, err := pawltest.ResultError(h, run)
				var f *pawl.Failure
				if err == nil || c.code == "" && !strings.Contains(err.Error(), "declined") || c.code != "" && (!errors.As(err, &f) || f.Code != c.code) {
					t.Errorf("it ended with %v", err)
				}
				mended.Store(true)
				if _, err := h.Engine().Retry(h.Context(), id); err != nil {
					t.Fatal(err)
				}
				if got := pawltest.Result(h, run); !slices.Equal(got.Log, []string{"end"}) || calls.Load() != 3 {
					t.Errorf("after the retry: %q, %d calls", got.Log, calls.Load())
				}
			}, m)
		})
	}
}

func TestAPlaceIsChecked(t *testing.T) {
	long := strings.Repeat("m", 200)
	_, err := machine.Define(long, "a", []state{
		{Name: "a", Concurrency: -1, Do: do("a", machine.Goto("b"))},
		{Name: "b", Concurrency: 1, Call: func(*pawl.Context, *value) (next, error) { return machine.Goto("c"), nil }},
		{Name: strings.Repeat("c", 60), Concurrency: 1, Do: do("c", machine.Done())},
	}, nil)
	var wrong *machine.DefinitionError
	if !errors.As(err, &wrong) || len(wrong.Problems) != 3 {
		t.Fatalf("got %v", err)
	}
	for i, text := range []string{"Concurrency of -1", "belongs to Do", "too long"} {
		if !strings.Contains(wrong.Problems[i], text) {
			t.Errorf("problem %d is %q, want %q", i, wrong.Problems[i], text)
		}
	}
}
