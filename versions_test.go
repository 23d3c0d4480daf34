package pawl_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/pawlrun/pawl"
)

// shelf has the versions of a workflow. New runs get the newest.
type shelf struct {
	mu     sync.Mutex
	of     map[string]pawl.Definition
	newest string
	broken error
	times  int // that it is broken for; 0: until it is mended
}

func (s *shelf) put(version string, d pawl.Definition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = map[string]pawl.Definition{}
	}
	s.of[version], s.newest = d, version
}

func (s *shelf) fails(err error, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken, s.times = err, times
}

func (s *shelf) versions() pawl.Versions {
	return pawl.Versions{
		Pick: func(_ context.Context, st pawl.Starting) (string, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if st.Version != "" {
				return st.Version, nil
			}
			return s.newest, nil
		},
		Load: func(_ context.Context, tenant, version string) (pawl.Definition, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if err := s.broken; err != nil {
				if s.times--; s.times == 0 {
					s.broken = nil
				}
				return nil, err
			}
			if d := s.of[version]; d != nil && tenant == "" {
				return d, nil
			}
			return nil, pawl.ErrNotFound
		},
	}
}

// says is a version: it waits for an event between two steps, and its result says which version it was.
func saysVersion(name, version string) pawl.Definition {
	return pawl.Define(name, func(c *pawl.Context, in string) (string, error) {
		if _, err := pawl.Step(c, "first", func(context.Context) (string, error) { return version, nil }); err != nil {
			return "", err
		}
		if _, err := pawl.WaitFor[string](c, "go"); err != nil {
			return "", err
		}
		if strings.HasPrefix(in, "again ") {
			return "", pawl.ContinueAs(c, strings.TrimPrefix(in, "again "))
		}
		return pawl.Step(c, "last "+version, func(context.Context) (string, error) { return version + in, nil })
	}, pawl.CheckInput(func(input json.RawMessage) error {
		if strings.Contains(string(input), "not in "+version) {
			return errors.New("not for this version")
		}
		return nil
	}))
}

// TestARunKeepsItsVersion: what is deployed while a run waits, and on which worker it goes on, changes nothing for it, nor
// for what goes on in its place or is forked off it.
func TestARunKeepsItsVersion(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		store := open()
		s := &shelf{}
		s.put("1", saysVersion("v", "1"))
		n := boot(t, store, nil, pawl.DefineVersions("v", s.versions()))
		begin := func(id, in string, opts ...pawl.StartOption) error {
			info, err := n.StartRun(n.ctx, "v", json.RawMessage(fmt.Sprintf("%q", in)), append(opts, pawl.ID(id))...)
			if err == nil && info.Version == "" {
				t.Errorf("run %s has no version", id)
			}
			return err
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(begin("a", "x"))
		must(begin("b", "again x"))
		n.reaches("a", pawl.Waiting)
		n.reaches("b", pawl.Waiting)
		s.put("2", saysVersion("v", "2"))
		must(begin("c", "x"))
		must(begin("d", "x", pawl.AtVersion("1")))
		for _, bad := range []struct {
			in   string
			opts []pawl.StartOption
			want error
		}{{"not in 2", nil, pawl.ErrInput}, {"x", []pawl.StartOption{pawl.AtVersion("3")}, pawl.ErrNotFound}, {"not in 1", []pawl.StartOption{pawl.AtVersion("1")}, pawl.ErrInput}} {
			if err := begin("e", bad.in, bad.opts...); !errors.Is(err, bad.want) {
				t.Errorf("start with %s: %v, want %v", bad.in, err, bad.want)
			}
		}
		must(begin("f", "not in 1"))
		if _, err := n.Fork(n.ctx, pawl.Ref{ID: "a"}, pawl.ForkOptions{ID: "g"}); err != nil {
			t.Fatal(err)
		}
		n.stop()
		n = boot(t, store, nil, pawl.DefineVersions("v", s.versions()))
		for id, want := range map[string]string{"a": "1x", "b": "1x", "c": "2x", "d": "1x", "f": "2not in 1", "g": "1x"} {
			n.signal(id, "go", "")
			if id == "b" {
				n.signal(id, "go", "")
			}
			out, err := pawl.Attach[string](n.Engine, id).Result(n.ctx)
			if err != nil || out != want {
				t.Errorf("run %s: %q, %v; want %q", id, out, err, want)
			}
		}
		n.stop()
	})
}

// TestAVersionThatCantBeFound: a run whose version is not there is blocked and says so; one whose version can't be read now is
// begun again until it can.
func TestAVersionThatCantBeFound(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		store := open()
		s := &shelf{}
		s.put("1", saysVersion("v", "1"))
		n := boot(t, store, nil, pawl.DefineVersions("v", s.versions()))
		for _, id := range []string{"a", "b"} {
			if _, err := n.StartRun(n.ctx, "v", json.RawMessage(`"x"`), pawl.ID(id)); err != nil {
				t.Fatal(err)
			}
			n.reaches(id, pawl.Waiting)
		}
		n.stop()
		s.fails(errors.New("no connection"), 2)
		n = boot(t, store, nil, pawl.DefineVersions("v", s.versions()))
		n.signal("a", "go", "")
		if out, err := pawl.Attach[string](n.Engine, "a").Result(n.ctx); err != nil || out != "1x" {
			t.Errorf("it is read again later: %q, %v", out, err)
		}
		n.stop()
		s.fails(pawl.ErrNotFound, 0)
		n = boot(t, store, nil, pawl.DefineVersions("v", s.versions()))
		n.signal("b", "go", "")
		n.reaches("b", pawl.Blocked)
		info, err := n.Get(n.ctx, pawl.Ref{ID: "b"})
		if err != nil || !strings.Contains(info.Reason, `version "1" of v`) {
			t.Errorf("blocked with %q, %v", info.Reason, err)
		}
		s.fails(nil, 0)
		if _, err := n.Retry(n.ctx, pawl.Ref{ID: "b"}); err != nil {
			t.Fatal(err)
		}
		if out, err := pawl.Attach[string](n.Engine, "b").Result(n.ctx); err != nil || out != "1x" {
			t.Errorf("retried: %q, %v", out, err)
		}
		n.stop()
	})
}

// TestCodeThatComesLater: a workflow that is registered while the engine works takes the runs that wait for it, and runs start
// others by their name.
func TestCodeThatComesLater(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		store := open()
		s := &shelf{}
		s.put("1", pawl.Define("later", func(c *pawl.Context, in string) (string, error) { return "did " + in, nil }))
		other := boot(t, store, nil, pawl.DefineVersions("later", s.versions()))
		parent := pawl.Define("parent", func(c *pawl.Context, name string) (json.RawMessage, error) {
			child, err := pawl.SpawnNamed(c, name, json.RawMessage(`"that"`))
			if err != nil {
				return nil, err
			}
			return child.Wait(c)
		})
		other.stop()
		n := boot(t, store, nil, parent)
		if _, err := n.StartRun(n.ctx, "later", json.RawMessage(`"it"`)); !errors.Is(err, pawl.ErrUnknown) {
			t.Fatalf("it is not known yet: %v", err)
		}
		client := pawl.New(store, nil)
		if err := client.Register(pawl.DefineVersions("later", s.versions())); err != nil {
			t.Fatal(err)
		}
		if _, err := client.StartRun(n.ctx, "later", json.RawMessage(`"it"`), pawl.ID("one")); err != nil {
			t.Fatal(err)
		}
		if _, err := pawl.Attach[string](n.Engine, start(n, parent, "later").ID()).Result(n.ctx); !errors.Is(err, pawl.ErrUnknown) && !strings.Contains(fmt.Sprint(err), "unknown workflow") {
			t.Errorf("a child that nobody knows: %v", err)
		}
		if err := n.Register(pawl.DefineVersions("later", s.versions())); err != nil {
			t.Fatal(err)
		}
		if out, err := pawl.Attach[string](n.Engine, "one").Result(n.ctx); err != nil || out != "did it" {
			t.Errorf("%q, %v", out, err)
		}
		out, err := start(n, parent, "later").Result(n.ctx)
		if err != nil || string(out) != `"did that"` {
			t.Errorf("as a child: %s, %v", out, err)
		}
		n.stop()
	})
}
