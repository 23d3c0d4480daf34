package flow_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// eachStore runs f on a file and on a database.
func eachStore(t *testing.T, f func(t *testing.T, open func() pawl.Store)) {
	t.Helper()
	t.Parallel()
	closing := func(t *testing.T, s pawl.Store, err error) pawl.Store {
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		s, err := sqlite.Open(filepath.Join(t.TempDir(), "pawl.db"), nil)
		store := closing(t, s, err)
		f(t, func() pawl.Store { return store })
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		url := pgtest.URL(t)
		f(t, func() pawl.Store {
			s, err := postgres.Open(t.Context(), url, nil)
			return closing(t, s, err)
		})
	})
}

// server is an engine at work with a registry.
type server struct {
	*pawl.Engine
	*flow.Registry
	stop func()
}

func serve(t *testing.T, store pawl.Store, opt flow.Options, defs ...pawl.Definition) *server {
	t.Helper()
	e := pawl.New(store, &pawl.Options{Secret: []byte("a secret of tests, which is long enough")})
	if err := e.Register(defs...); err != nil {
		t.Fatal(err)
	}
	r := flow.NewRegistry(e, opt)
	if err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var both sync.WaitGroup
	both.Go(func() {
		if err := e.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	both.Go(func() {
		if err := r.Watch(ctx); err != nil {
			t.Error(err)
		}
	})
	stop := sync.OnceFunc(func() { cancel(); both.Wait() })
	t.Cleanup(stop)
	return &server{e, r, stop}
}

// version is a flow that waits for an event and then says its number.
func version(number, says string) string {
	return `{"id": "f"` + number + `, "inputs": {"type": "object"}, "steps": [{"id": "hold", "type": "wait", "config": {"for": "event", "event": "go"}, "next": "say"},
	  {"id": "say", "type": "transform", "config": {"set": {"is": "version", "` + says + `": "workflowId"}}, "next": "end"}]}`
}

func (s *server) deploys(t *testing.T, doc string) flow.Deployed {
	t.Helper()
	d, err := s.Deploy(t.Context(), flow.Deployment{Document: []byte(doc), By: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (s *server) starts(t *testing.T, id string, opts ...pawl.StartOption) {
	t.Helper()
	if _, err := s.StartRun(t.Context(), "f", json.RawMessage(`{}`), append(opts, pawl.ID(id))...); err != nil {
		t.Fatal(err)
	}
}

func (s *server) ends(t *testing.T, id, want string) {
	t.Helper()
	if err := s.Signal(t.Context(), id, "go", nil); err != nil {
		t.Fatal(err)
	}
	out, err := pawl.Attach[json.RawMessage](s.Engine, id).Result(t.Context())
	if err != nil || string(out) != want {
		t.Errorf("run %s: %s, %v; want %s", id, out, err, want)
	}
}

// TestN19_runsFinishOnTheirVersion: version 2 is deployed while runs of version 1 wait; after a restart they finish on version 1,
// and new starts have version 2.
func TestN19_runsFinishOnTheirVersion(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt := options(t, &desk{})
		s := serve(t, open(), opt)
		one := s.deploys(t, version("", "one"))
		equal(t, "first", [2]int{one.Version, one.Active}, [2]int{1, 1})
		s.starts(t, "a")
		again := s.deploys(t, version("", "one"))
		equal(t, "again", [2]any{again.Version, again.Existed}, [2]any{1, true})
		equal(t, "nothing was written", again.Revision, one.Revision)
		two := s.deploys(t, version("", "two"))
		equal(t, "second", [3]int{two.Version, two.Active, two.Previous}, [3]int{2, 2, 1})
		s.starts(t, "b")
		s.starts(t, "c", pawl.AtVersion("1"))
		s.stop()
		s = serve(t, open(), opt)
		s.ends(t, "a", `{"is":1,"one":"f"}`)
		s.ends(t, "b", `{"is":2,"two":"f"}`)
		s.ends(t, "c", `{"is":1,"one":"f"}`)
		if _, err := s.StartRun(t.Context(), "f", json.RawMessage(`{}`), pawl.AtVersion("3")); !errors.Is(err, pawl.ErrNotFound) {
			t.Errorf("a version that is not there: %v", err)
		}
		var taken *flow.VersionError
		_, err := s.Deploy(t.Context(), flow.Deployment{Document: []byte(version(`, "version": 1`, "three"))})
		if !errors.As(err, &taken) || !errors.Is(err, pawl.ErrConflict) || taken.Free != 3 {
			t.Errorf("another body under an old number: %v", err)
		}
		back, err := s.Rollback(t.Context(), "", "f", "bob", 0)
		if err != nil || back.Active != 1 || back.By != "bob" {
			t.Errorf("rolled back: %+v, %v", back, err)
		}
		s.starts(t, "d")
		s.ends(t, "d", `{"is":1,"one":"f"}`)
		far := s.deploys(t, version(`, "version": 7`, "seven"))
		equal(t, "a number of its own", [2]int{far.Version, far.Latest}, [2]int{7, 7})
		equal(t, "the next", s.deploys(t, version("", "eight")).Version, 8)
		versions, err := s.Versions(t.Context(), "", "f", 1, 10)
		if err != nil || len(versions) != 3 || versions[2].Version != 8 || versions[0].By != "ann" {
			t.Errorf("versions: %+v, %v", versions, err)
		}
		if _, err := s.Activate(t.Context(), "", "f", 1, 100, "", back.Revision); !errors.Is(err, pawl.ErrConflict) {
			t.Errorf("of an old revision: %v", err)
		}
		if _, err := s.Deactivate(t.Context(), "", "f", "ann", 0); err != nil {
			t.Fatal(err)
		}
		if _, err := s.StartRun(t.Context(), "f", json.RawMessage(`{}`)); !errors.Is(err, pawl.ErrState) {
			t.Errorf("nothing is active: %v", err)
		}
	})
}

// A canary gets its share of the starts.
func TestCanary(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		s.deploys(t, version("", "one"))
		if _, err := s.Deploy(t.Context(), flow.Deployment{Document: []byte(version("", "two")), Inactive: true}); err != nil {
			t.Fatal(err)
		}
		head, err := s.Activate(t.Context(), "", "f", 2, 30, "ann", 0)
		if err != nil || head.Active != 1 || *head.Canary != (flow.Canary{Version: 2, Percent: 30}) {
			t.Fatalf("%+v, %v", head, err)
		}
		got := map[string]int{}
		for range 400 {
			info, err := s.StartRun(t.Context(), "f", json.RawMessage(`{}`), pawl.Delay(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			got[info.Version]++
		}
		if got["2"] < 80 || got["2"] > 160 || got["1"]+got["2"] != 400 { // 120 ± 40 is over four standard deviations
			t.Errorf("starts by version: %v", got)
		}
		for _, percent := range []float64{0, -1, 101} {
			if _, err := s.Activate(t.Context(), "", "f", 2, percent, "", 0); !errors.Is(err, pawl.ErrInput) {
				t.Errorf("%v percent: %v", percent, err)
			}
		}
		if head, err = s.Rollback(t.Context(), "", "f", "", 0); err != nil || head.Canary != nil || head.Active != 1 {
			t.Errorf("rolled back: %+v, %v", head, err)
		}
	})
}

// What one server deploys, another runs soon; a flow can't take the name of a program's workflow; tenants have flows of their own.
func TestServersShareFlows(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt := options(t, &desk{})
		code := pawl.Define("code", func(*pawl.Context, any) (any, error) { return nil, nil })
		a, b := serve(t, open(), opt, code), serve(t, open(), opt, code)
		a.deploys(t, version("", "one"))
		a.stop()
		deadline := time.Now().Add(20 * time.Second)
		for !strings.Contains(strings.Join(b.Workflows(), " "), "f") {
			if time.Now().After(deadline) {
				t.Fatal("the other server does not know the flow")
			}
			time.Sleep(20 * time.Millisecond)
		}
		b.starts(t, "x")
		b.ends(t, "x", `{"is":1,"one":"f"}`)
		if _, err := b.Deploy(t.Context(), flow.Deployment{Document: []byte(strings.Replace(version("", "x"), `"f"`, `"code"`, 1))}); !errors.Is(err, pawl.ErrDuplicate) {
			t.Errorf("the name of a workflow: %v", err)
		}
		if _, err := b.StartRun(t.Context(), "f", json.RawMessage(`{}`), pawl.Tenant("acme")); !errors.Is(err, pawl.ErrUnknown) {
			t.Errorf("another tenant's flow: %v", err)
		}
		if _, err := b.Deploy(t.Context(), flow.Deployment{Tenant: "acme", Document: []byte(version("", "acme"))}); err != nil {
			t.Fatal(err)
		}
		b.starts(t, "x", pawl.Tenant("acme"))
		if err := b.SignalRef(t.Context(), pawl.Ref{Tenant: "acme", ID: "x"}, "go", nil); err != nil {
			t.Fatal(err)
		}
		out, err := pawl.Attach[json.RawMessage](b.Engine, "x", pawl.Tenant("acme")).Result(t.Context())
		if err != nil || string(out) != `{"acme":"f","is":1}` {
			t.Errorf("%s, %v", out, err)
		}
	})
}

// Many deploy at the same time: each gets a version, and none is lost.
func TestDeploymentsAtTheSameTime(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				if _, err := s.Deploy(t.Context(), flow.Deployment{Document: []byte(version("", "v"+string(rune('a'+i/2))))}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		versions, err := s.Versions(t.Context(), "", "f", 0, 100)
		if err != nil || len(versions) != 4 {
			t.Errorf("%d versions, %v; want 4", len(versions), err)
		}
		for i, v := range versions {
			equal(t, "number", v.Version, i+1)
		}
	})
}

// A child that is not there is warned of, with the spelling that was meant: it may come later.
func TestAChildThatIsNotThereIsWarnedOf(t *testing.T) {
	runs := func(id, child string) string {
		return `{"id": "` + id + `", "steps": [{"id": "w", "type": "workflow", "config": {"workflow": "` + child + `"}, "next": "end"}]}`
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}), pawl.Define("invoice", func(*pawl.Context, any) (any, error) { return nil, nil }))
		if _, err := s.Deploy(t.Context(), flow.Deployment{Tenant: "other", Document: []byte(runs("refunds", "invoice"))}); err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct{ id, child, want string }{
			{"a", "invoice", ""}, {"b", "a", ""}, {"c", "c", ""},
			{"d", "invoise", `there is no workflow "invoise" yet; did you mean "invoice"?`},
			{"e", "refunds", `there is no workflow "refunds" yet; deploy it before a run comes here`}, // another tenant's
		} {
			done := s.deploys(t, runs(test.id, test.child))
			var got []string
			for _, w := range done.Warnings {
				if strings.Contains(w.Message, "workflow") {
					got = append(got, w.Message+"; "+w.Hint)
				}
			}
			if said := strings.Join(got, "|"); said != test.want {
				t.Errorf("%s runs %s: %q, want %q", test.id, test.child, said, test.want)
			}
		}
	})
}
