package storetest_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest"
)

// A store around which nothing goes wrong keeps every promise.
func TestFaultyWithoutFaultsIsTheStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) pawl.Store {
		return storetest.Faulty(memory(t), func(string, int) storetest.Fault { return storetest.Fault{} })
	})
}

var errBoom = errors.New("boom")

// Every method of a store asks the hook: none goes past it.
func TestFaultyAsksAboutEveryMethod(t *testing.T) {
	var asked []string
	s := storetest.Faulty(memory(t), func(method string, n int) storetest.Fault {
		asked = append(asked, method)
		return storetest.Fault{Err: errBoom}
	})
	for m := range reflect.TypeFor[pawl.Store]().Methods() {
		if m.Name == "Close" {
			continue
		}
		in := []reflect.Value{reflect.ValueOf(t.Context())}
		for i := 1; i < m.Type.NumIn(); i++ {
			in = append(in, reflect.Zero(m.Type.In(i)))
		}
		out := reflect.ValueOf(s).MethodByName(m.Name).Call(in)
		if err, _ := out[len(out)-1].Interface().(error); err != errBoom {
			t.Errorf("%s returns %v; want the hook's error", m.Name, err)
		}
		if len(asked) == 0 || asked[len(asked)-1] != m.Name {
			t.Errorf("%s: the hook was asked about %v", m.Name, asked)
		}
	}
}

func TestFaultyFailsBeforeTheStore(t *testing.T) {
	s := storetest.Faulty(memory(t), only("Commit", 1, storetest.Fault{Err: errBoom}))
	if err := start(s, "a"); err != errBoom {
		t.Fatalf("the first commit returns %v", err)
	}
	if _, err := s.Lookup(t.Context(), "", "a"); !errors.Is(err, pawl.ErrNotFound) {
		t.Fatalf("the run that could not be stored: %v", err)
	}
	if err := start(s, "a"); err != nil {
		t.Fatalf("the second commit returns %v", err)
	}
}

func TestFaultyLosesTheAnswer(t *testing.T) {
	s := storetest.Faulty(memory(t), only("Commit", 1, storetest.Fault{Lose: true}))
	if err := start(s, "a"); !errors.Is(err, pawl.ErrUnknownOutcome) {
		t.Fatalf("the commit returns %v", err)
	}
	if _, err := s.Lookup(t.Context(), "", "a"); err != nil {
		t.Fatalf("the run that was stored: %v", err)
	}
}

func TestFaultyDelays(t *testing.T) {
	const delay = 30 * time.Millisecond
	s := storetest.Faulty(memory(t), only("Commit", 1, storetest.Fault{Delay: delay}))
	began := time.Now()
	if err := start(s, "a"); err != nil || time.Since(began) < delay {
		t.Fatalf("the commit returns %v after %v", err, time.Since(began))
	}
}

func TestADelayEndsWithItsContext(t *testing.T) {
	s := storetest.Faulty(memory(t), only("Lookup", 1, storetest.Fault{Delay: time.Hour}))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Lookup(ctx, "", "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the call returns %v", err)
	}
}

func memory(t *testing.T) pawl.Store {
	t.Helper()
	s, err := sqlite.Open(sqlite.Memory, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

func only(method string, n int, f storetest.Fault) func(string, int) storetest.Fault {
	return func(m string, i int) storetest.Fault {
		if m == method && i == n {
			return f
		}
		return storetest.Fault{}
	}
}

func start(s pawl.Store, id string) error {
	return s.Commit(context.Background(), &pawl.Batch{Now: time.Now(), Starts: []*pawl.Start{{Run: pawl.NewRun{ID: id, Workflow: "flow", Input: []byte(`1`)}}}})
}
