package machine_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/machine"
)

// The faults K4 to K16 of another machine, which this one must not have.

// Branches that end at the same time are joined once, with what each made, in many runs.
func TestK5_branchesEndTogether(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		const branches = 8
		var visited sync.Map
		states := []state{{Name: "j", Join: func(v *value, b map[string]value) error {
			for i := range branches {
				v.Log = append(v.Log, b[fmt.Sprint("b", i)].Log...)
			}
			return nil
		}, Do: func(ctx context.Context, v *value) (next, error) {
			n, _ := visited.LoadOrStore(pawl.InfoOf(ctx).RunID, new(atomic.Int32))
			n.(*atomic.Int32).Add(1)
			return machine.Done(), nil
		}}}
		var names, want []string
		for i := range branches {
			name := fmt.Sprint("b", i)
			names, want = append(names, name), append(want, name)
			states = append(states, plain(name, machine.Goto("j")))
		}
		names = append(names, "spare")[:branches] // what Fork is given stays the caller's
		states = append(states, state{Name: "split", Do: func(context.Context, *value) (next, error) { return machine.Fork("j", names...), nil }})
		m := define(t, "wide", "split", nil, states...)
		e, _ := w.work(m)
		var runs []*pawl.Run[value]
		for range 20 {
			runs = append(runs, start(t, e, m, value{}))
		}
		for _, run := range runs {
			if got := result(t, run); !slices.Equal(got.Log, want) {
				t.Errorf("run %s: %v, want %v", run.ID(), got.Log, want)
			}
			n, _ := visited.Load(run.ID())
			if got := n.(*atomic.Int32).Load(); got != 1 {
				t.Errorf("run %s: the join was visited %d times", run.ID(), got)
			}
		}
		if names[:branches+1][branches] != "spare" {
			t.Errorf("the caller's names are now %q", names[:branches+1])
		}
	})
}

// twiceForked forks two times, round a loop, with a fork inside of a branch.
func twiceForked(t *testing.T) *machine.Machine[value] {
	return define(t, "rounds", "split", nil,
		state{Name: "split", Do: func(_ context.Context, v *value) (next, error) { return machine.Fork("merge", "a", "b"), nil }},
		plain("a", machine.Goto("a2")),
		plain("a2", machine.Goto("merge")),
		plain("b", machine.Fork("inner", "x", "y")),
		plain("x", machine.Goto("inner")),
		plain("y", machine.Goto("inner")),
		state{Name: "inner", Join: func(v *value, br map[string]value) error {
			v.Log = append(v.Log, "("+br["x"].Log[len(br["x"].Log)-1]+","+br["y"].Log[len(br["y"].Log)-1]+")")
			return nil
		}, Do: do("inner", machine.Goto("merge"))},
		state{Name: "merge", Join: func(v *value, br map[string]value) error {
			a, b := br["a"].Log[len(v.Log):], br["b"].Log[len(v.Log):]
			v.Log = append(v.Log, strings.Join(a, "+"), strings.Join(b, "+"))
			return nil
		}, Do: func(_ context.Context, v *value) (next, error) {
			if v.N++; v.N < 3 {
				return machine.Goto("split"), nil
			}
			return machine.Done(), nil
		}})
}

// A second and a third fork of a run are joined as the first was (K5b).
func TestK5b_forkAgain(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		m := twiceForked(t)
		e, _ := w.work(m)
		run := start(t, e, m, value{})
		var want []string
		for range 3 {
			want = append(want, "a+a2", "b+(x,y)+inner")
		}
		if got := result(t, run); !slices.Equal(got.Log, want) {
			t.Errorf("got  %q\nwant %q", got.Log, want)
		}
		s := snapshot(t, e, m, run)
		if s.Stats["merge"].Visits != 3 || s.Stats["x"].Visits != 3 || s.Visits["x"] != 3 || len(s.Branches) != 0 {
			t.Errorf("its snapshot is %+v", s)
		}
	})
}

// While a state is under way its visit decides what the value becomes: an update is refused
// in so many words, and not lost in silence. A state can delete a key.
func TestK6_updateWhileAStateIsUnderWay(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		began, goOn := make(chan struct{}), make(chan struct{})
		m := define(t, "cleans", "clean", nil,
			state{Name: "clean", Do: func(_ context.Context, v *value) (next, error) {
				close(began)
				<-goOn
				delete(v.Data, "secret")
				return machine.Wait("end"), nil
			}},
			plain("end", machine.Done()))
		e, _ := w.work(m)
		run := start(t, e, m, value{Data: map[string]string{"secret": "x", "kept": "y"}})
		<-began
		set := func(v *value) error { v.N = 5; return nil }
		if err := m.Update(patient(t), e, ref(run), set); !errors.Is(err, pawl.ErrState) || !strings.Contains(err.Error(), `state "clean" is under way`) {
			t.Errorf("an update during the visit: %v", err)
		}
		close(goOn)
		if s := await(t, e, m, run, waits); !maps.Equal(s.Value.Data, map[string]string{"kept": "y"}) || s.Value.N != 0 {
			t.Errorf("after the visit: %+v", s.Value)
		}
		if err := m.Update(patient(t), e, ref(run), set); err != nil {
			t.Fatal(err)
		}
		if err := m.Update(patient(t), e, ref(run), machine.Merge[value](map[string]any{"data": map[string]any{"kept": nil, "new": "z"}})); err != nil {
			t.Fatal(err)
		}
		if s := snapshot(t, e, m, run); !s.Waiting || s.Version != 3 {
			t.Errorf("updates let the run go on: %+v", s)
		}
		if err := m.Continue(patient(t), e, ref(run), nil); err != nil {
			t.Fatal(err)
		}
		if got := result(t, run); got.N != 5 || !maps.Equal(got.Data, map[string]string{"new": "z"}) {
			t.Errorf("got %+v", got)
		}
	})
}

// Of several that continue one wait, one is accepted; of updates none is lost.
func TestK8_updatesAreConsumedOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		m := define(t, "votes", "ask", nil, plain("ask", machine.Wait("count")), plain("count", machine.Wait("end")), plain("end", machine.Done()))
		e, _ := w.work(m)
		run := start(t, e, m, value{})
		await(t, e, m, run, waits)
		const callers = 8
		var all sync.WaitGroup
		var conflicts atomic.Int32
		for range callers {
			all.Go(func() {
				for {
					err := m.Update(patient(t), e, ref(run), func(v *value) error { v.N++; return nil })
					if err == nil {
						return
					}
					if conflicts.Add(1); !errors.Is(err, pawl.ErrConflict) {
						t.Errorf("an update: %v", err)
						return
					}
				}
			})
		}
		all.Wait()
		s := snapshot(t, e, m, run)
		if s.Value.N != callers || s.Version != 1+callers || !s.Waiting {
			t.Errorf("after %d updates and %d conflicts: %+v", callers, conflicts.Load(), s)
		}
		var accepted, refused atomic.Int32
		for range callers {
			all.Go(func() {
				err := m.Continue(patient(t), e, ref(run), func(v *value) error { v.Log = append(v.Log, "go"); return nil }, machine.IfVersion(s.Version))
				switch {
				case err == nil:
					accepted.Add(1)
				case errors.Is(err, pawl.ErrConflict):
					refused.Add(1)
				default:
					t.Errorf("a continue: %v", err)
				}
			})
		}
		all.Wait()
		if accepted.Load() != 1 || refused.Load() != callers-1 {
			t.Errorf("%d accepted, %d conflicts", accepted.Load(), refused.Load())
		}
		if s := await(t, e, m, run, func(s machine.Snapshot[value]) bool { return s.At == "count" && s.Waiting }); !slices.Equal(s.Value.Log, []string{"ask", "go", "count"}) {
			t.Errorf("after Continue: %+v", s)
		}
	})
}

// Workers see one history, as it is in the store (K16): a client in another process reads
// and continues the run, and another worker goes on.
func TestK16_anotherProcess(t *testing.T) {
	eachStore(t, func(t *testing.T, w *world) {
		m := define(t, "approval", "ask", nil, plain("ask", machine.Wait("end")), plain("end", machine.Done()))
		client := w.client()
		run := start(t, client, m, value{N: 1})
		if s := snapshot(t, client, m, run); s.At != "ask" || s.Waiting || s.Version != 0 || s.Value.N != 1 {
			t.Errorf("before any worker: %+v", s)
		}
		_, stop := w.work(m)
		await(t, client, m, run, waits)
		stop()

		// The worker is away: the change is stored, and its caller learns that nobody took it yet.
		short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := m.Continue(short, client, ref(run), func(v *value) error { v.N = 2; return nil })
		if !errors.Is(err, pawl.ErrUnknownOutcome) {
			t.Fatalf("without a worker: %v", err)
		}
		// So is a second, which comes too late.
		second := make(chan error, 1)
		go func() {
			second <- m.Continue(patient(t), client, ref(run), func(v *value) error { v.N = 3; return nil })
		}()
		w.work(m)
		if got := result(t, run); got.N != 2 {
			t.Errorf("got %+v", got)
		}
		if err := <-second; !errors.Is(err, pawl.ErrConflict) && !errors.Is(err, pawl.ErrEnded) && !errors.Is(err, pawl.ErrState) {
			t.Errorf("the second change: %v", err)
		}
	})
}
