package machine_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/machine"
	"github.com/pawlrun/pawl/pawltest"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// value is what most machines of the tests work on.
type value struct {
	N    int               `json:"n"`
	Log  []string          `json:"log,omitempty"`
	Data map[string]string `json:"data,omitempty"`
}

type (
	state = machine.State[value]
	next  = machine.Next
)

// do is a state's function that notes the visit and returns an outcome.
func do(name string, then next) func(context.Context, *value) (next, error) {
	return func(_ context.Context, v *value) (next, error) {
		v.Log = append(v.Log, name)
		return then, nil
	}
}

// plain is a state that notes its visit.
func plain(name string, then next, to ...string) state {
	return state{Name: name, Do: do(name, then), To: to}
}

func define(t *testing.T, name, start string, opt *machine.Options, states ...state) *machine.Machine[value] {
	t.Helper()
	m, err := machine.Define(name, start, states, opt)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// world is a store on which engines are opened.
type world struct {
	t    *testing.T
	open func() pawl.Store
}

func eachStore(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		s, err := sqlite.Open(filepath.Join(t.TempDir(), "pawl.db"), &sqlite.Options{WALSize: -1})
		closeAtEnd(t, s, err)
		f(t, &world{t, func() pawl.Store { return s }})
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		url := pgtest.URL(t)
		f(t, &world{t, func() pawl.Store {
			s, err := postgres.Open(t.Context(), url, nil)
			closeAtEnd(t, s, err)
			return s
		}})
	})
}

func closeAtEnd(t *testing.T, s pawl.Store, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
}

// work returns an engine at work until the test ends or stop is called.
func (w *world) work(defs ...pawl.Definition) (e *pawl.Engine, stop func()) {
	w.t.Helper()
	e = pawl.New(w.open(), &pawl.Options{Poll: 20 * time.Millisecond, ParkFor: time.Millisecond, Drain: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	if err := e.Register(defs...); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("the engine stopped: %v", err)
		}
	}
	w.t.Cleanup(stop)
	return e, stop
}

// client returns an engine that works no runs.
func (w *world) client() *pawl.Engine {
	e := pawl.New(w.open(), &pawl.Options{Poll: 20 * time.Millisecond})
	w.t.Cleanup(func() {
		if err := e.Close(); err != nil {
			w.t.Errorf("close the client: %v", err)
		}
	})
	return e
}

func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, e *pawl.Engine, m *machine.Machine[value], v value, opts ...pawl.StartOption) *pawl.Run[value] {
	t.Helper()
	run, err := m.Start(patient(t), e, v, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func result(t *testing.T, run *pawl.Run[value]) value {
	t.Helper()
	out, err := run.Result(patient(t))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func ref(run *pawl.Run[value]) pawl.Ref { return pawl.Ref{ID: run.ID()} }

func snapshot(t *testing.T, e *pawl.Engine, m *machine.Machine[value], run *pawl.Run[value]) machine.Snapshot[value] {
	t.Helper()
	s, err := m.State(patient(t), e, ref(run))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// await returns a run's snapshot when it is as cond wants it.
func await(t *testing.T, e *pawl.Engine, m *machine.Machine[value], run *pawl.Run[value], cond func(machine.Snapshot[value]) bool) machine.Snapshot[value] {
	t.Helper()
	ctx := patient(t)
	for {
		s := snapshot(t, e, m, run)
		if cond(s) {
			return s
		}
		select {
		case <-ctx.Done():
			t.Fatalf("run %s did not come there; it is %+v", run.ID(), s)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func waits(s machine.Snapshot[value]) bool { return s.Waiting }

// failure is how a run of m that must fail does.
func failure(t *testing.T, m *machine.Machine[value]) (err error) {
	t.Helper()
	pawltest.Run(t, func(t *testing.T, h *pawltest.Harness) {
		run, serr := m.Start(h.Context(), h.Engine(), value{})
		if serr != nil {
			t.Fatal(serr)
		}
		_, err = pawltest.ResultError(h, run)
	}, m)
	if err == nil {
		t.Fatal("the run did not fail")
	}
	return err
}
