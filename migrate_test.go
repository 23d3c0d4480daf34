package pawl_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
)

// TestARunMigrates: a run that waits goes on with another version of its workflow: what is recorded is not done again, what
// it waits for is what the new version says. A version that the journal does not fit is told, and refused.
func TestARunMigrates(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		store := open()
		s := &shelf{}
		firsts := make(chan string, 100)
		version := func(number, event string) pawl.Definition {
			return pawl.Define("v", func(c *pawl.Context, in string) (string, error) {
				first, err := pawl.Step(c, "first", func(context.Context) (string, error) { firsts <- number; return number, nil })
				if err != nil {
					return "", err
				}
				got, err := pawl.WaitFor[string](c, event)
				return first + " then " + number + " " + got, err
			})
		}
		s.put("2", version("2", "later"))
		s.put("1", version("1", "go"))
		n := boot(t, store, nil, pawl.DefineVersions("v", s.versions()))
		for _, id := range []string{"parked", "restarted", "paused"} {
			if _, err := n.StartRun(n.ctx, "v", json.RawMessage(`"x"`), pawl.ID(id)); err != nil {
				t.Fatal(err)
			}
			n.reaches(id, pawl.Waiting)
		}
		parked := pawl.Ref{ID: "parked"}
		check, err := n.CheckVersion(n.ctx, parked, "2")
		if err != nil || check.Diverged != "" || len(check.Drift) > 0 {
			t.Errorf("version 2: %+v, %v", check, err)
		}
		if _, err := n.Migrate(n.ctx, parked, "9"); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("a version that is not there: %v", err)
		}
		if info, err := n.Migrate(n.ctx, parked, "2"); err != nil || info.Version != "2" {
			t.Errorf("%+v, %v", info, err)
		}
		if _, err := n.Migrate(n.ctx, pawl.Ref{ID: "paused"}, "2"); err != nil {
			t.Error(err)
		}
		n.reaches("parked", pawl.Waiting)
		n.reaches("paused", pawl.Waiting)
		n.stop()
		n = boot(t, store, nil, pawl.DefineVersions("v", s.versions()))
		if _, err := n.Migrate(n.ctx, pawl.Ref{ID: "restarted"}, "2"); err != nil {
			t.Error(err)
		}
		for _, id := range []string{"parked", "restarted"} {
			if err := n.Signal(n.ctx, id, "go", "old"); err != nil {
				t.Error(err)
			}
			if err := n.Signal(n.ctx, id, "later", "new"); err != nil {
				t.Error(err)
			}
			if out, err := pawl.Attach[string](n.Engine, id).Result(n.ctx); err != nil || out != "1 then 2 new" {
				t.Errorf("%s: %q, %v", id, out, err)
			}
		}
		if got := len(firsts); got != 3 {
			t.Errorf("the first step was done %d times, want 3", got)
		}
		if _, err := n.Migrate(n.ctx, parked, "1"); !errors.Is(err, pawl.ErrEnded) {
			t.Errorf("an ended run: %v", err)
		}
		n.stop()
	})
}

// TestAMisfitIsNotMigrated: a run whose journal another version does not fit stays with its own, and goes on with it.
func TestAMisfitIsNotMigrated(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := &shelf{}
		s.put("2", pawl.Define("v", func(c *pawl.Context, in string) (int, error) {
			return pawl.Step(c, "first", func(context.Context) (int, error) { return 2, nil })
		}))
		s.put("1", pawl.Define("v", func(c *pawl.Context, in string) (string, error) {
			first, err := pawl.Step(c, "first", func(context.Context) (string, error) { return "one", nil })
			if err == nil {
				_, err = pawl.WaitFor[string](c, "go")
			}
			return first, err
		}))
		n := boot(t, open(), nil, pawl.DefineVersions("v", s.versions()), pawl.Define("plain", func(c *pawl.Context, in string) (string, error) { return "", c.Sleep(time.Hour) }))
		for _, name := range []string{"v", "plain"} {
			if _, err := n.StartRun(n.ctx, name, json.RawMessage(`"x"`), pawl.ID(name)); err != nil {
				t.Fatal(err)
			}
			n.reaches(name, pawl.Waiting)
		}
		var misfit *pawl.MisfitError
		if _, err := n.Migrate(n.ctx, pawl.Ref{ID: "v"}, "2"); !errors.Is(err, pawl.ErrState) || !errors.As(err, &misfit) || !strings.Contains(err.Error(), `run v does not fit version "2": `) {
			t.Errorf("a misfit: %v", err)
		}
		n.signal("v", "go", "x")
		if out, err := pawl.Attach[string](n.Engine, "v").Result(n.ctx); err != nil || out != "one" {
			t.Errorf("it goes on with its own: %q, %v", out, err)
		}
		if _, err := n.Migrate(n.ctx, pawl.Ref{ID: "plain"}, "2"); !errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), "has no versions") {
			t.Errorf("a workflow without versions: %v", err)
		}
		n.stop()
	})
}
