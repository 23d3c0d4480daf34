package flow_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
)

// A run whose child was started before families were counted, as its journal says, goes on with that child, and is shown whole when it has ended.
func TestAChildOnRecordNeedsNoFamily(t *testing.T) {
	opt := options(t, &desk{})
	slow := pawl.Define("slow", func(c *pawl.Context, in json.RawMessage) (string, error) {
		return pawl.WaitFor[string](c, "go")
	})
	older := pawl.Define("f", func(c *pawl.Context, in json.RawMessage) (json.RawMessage, error) {
		first := func(c *pawl.Context) (json.RawMessage, error) {
			run, err := pawl.SpawnNamed(c, "slow", in)
			if err != nil {
				return nil, err
			}
			return run.Wait(c)
		}
		if _, err := pawl.Go(c, "c", first).Wait(c); err != nil {
			return nil, err
		}
		return pawl.Go(c, "d", first).Wait(c)
	}, pawl.Version("1"))
	const older1 = `{"id": "f", "version": 1, "steps": [{"id": "c", "type": "workflow", "config": {"workflow": "slow", "outputVariable": "said"}, "next": "d"},
		{"id": "d", "type": "workflow", "config": {"workflow": "slow"}, "next": "end"}]}`
	f := parse(t, older1, opt)
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		engine := func(store pawl.Store, defs ...pawl.Definition) (*pawl.Engine, func()) {
			e := pawl.New(store, nil)
			if err := e.Register(defs...); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- e.Run(ctx) }()
			return e, func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
		child := func(e *pawl.Engine, step string) (id string) {
			t.Helper()
			eventually(t, "the child waits", func() bool {
				id = ""
				for entry, err := range e.Journal(t.Context(), pawl.Ref{ID: "r"}) {
					if err != nil {
						t.Fatal(err)
					}
					var of struct{ ID string }
					if entry.Kind == pawl.KindChild && strings.HasPrefix(entry.Key, step+"/") && json.Unmarshal(entry.Data, &of) == nil {
						id = of.ID
					}
				}
				if id == "" {
					return false
				}
				info, err := e.Get(t.Context(), pawl.Ref{ID: id})
				return err == nil && info.State == pawl.Waiting
			})
			return id
		}
		// One that had ended before is shown whole.
		quick := pawl.Define("slow", func(c *pawl.Context, in json.RawMessage) (string, error) { return "said", nil })
		e, stop := engine(open(), older, quick)
		if _, err := e.StartRun(t.Context(), "f", json.RawMessage(`{"a": 1}`), pawl.ID("ended")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := e.Wait(t.Context(), "", "ended"); err != nil {
			t.Fatal(err)
		}
		stop()
		s := serve(t, open(), opt, slow)
		s.deploys(t, older1)
		x, err := s.Execution(t.Context(), "", "ended")
		if err != nil {
			t.Fatal(err)
		}
		if d := x.StepResults["d"]; d.Status != "completed" || string(d.Output) != `"said"` || len(x.Truncated) > 0 {
			t.Errorf("what it brought is %+v: %v", d, x.Truncated)
		}
		s.stop()

		e, stop = engine(open(), older, slow)
		if _, err := e.StartRun(t.Context(), "f", json.RawMessage(`{"a": 1}`), pawl.ID("r")); err != nil {
			t.Fatal(err)
		}
		first := child(e, "c")
		stop()

		e, stop = engine(open(), flow.Define(f, opt), slow)
		defer stop()
		if err := e.Signal(t.Context(), first, "go", "one"); err != nil {
			t.Fatal(err)
		}
		second := child(e, "d")
		if err := e.Signal(t.Context(), second, "go", "two"); err != nil {
			t.Fatal(err)
		}
		info, end, err := e.Wait(t.Context(), "", "r")
		if err != nil || info.State != pawl.Completed || string(end.Data) != `"two"` {
			t.Fatalf("%v %s %v: %s", info.State, end.Data, err, info.Reason)
		}
		if got, err := e.Get(t.Context(), pawl.Ref{ID: second}); err != nil || got.Attrs[flow.FamilyAttribute] != "r" {
			t.Errorf("the child that the run starts now is of no family: %v, %v", got.Attrs, err)
		}
	})
}
