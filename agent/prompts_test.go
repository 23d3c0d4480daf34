package agent_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/postgres"
	"github.com/pawlrun/pawl/sqlite"
	"github.com/pawlrun/pawl/storetest/pgtest"
)

// eachStore runs f on an engine on each store, which registers defs and works.
func eachStore(t *testing.T, f func(t *testing.T, e *pawl.Engine), defs ...pawl.Definition) {
	t.Helper()
	t.Parallel()
	for name, open := range map[string]func() (pawl.Store, error){
		"sqlite":   func() (pawl.Store, error) { return sqlite.Open(filepath.Join(t.TempDir(), "pawl.db"), nil) },
		"postgres": func() (pawl.Store, error) { return postgres.Open(t.Context(), pgtest.URL(t), nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, err := open()
			if err != nil {
				t.Fatal(err)
			}
			e := pawl.New(store, nil)
			if err := e.Register(defs...); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- e.Run(ctx) }()
			t.Cleanup(func() {
				cancel()
				if err := errors.Join(<-ended, store.Close()); err != nil {
					t.Errorf("stop: %v", err)
				}
			})
			f(t, e)
		})
	}
}

func ok[T any](t testing.TB) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func is(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("the error is %v; want %v", err, target)
	}
}

func only(version int) agent.Activation { return agent.Activation{Weights: map[int]int{version: 1}} }

func TestJ53_promptsHaveImmutableVersions(t *testing.T) {
	eachStore(t, func(t *testing.T, e *pawl.Engine) {
		ctx, s := t.Context(), agent.Prompts{Engine: e}
		one := ok[agent.PromptVersion](t)(s.Put(ctx, agent.Prompt{Name: "triage", Text: "Which queue? {{text}}"}))
		two := ok[agent.PromptVersion](t)(s.Put(ctx, agent.Prompt{Name: "triage", Text: "Which of the queues? {{text}}"}))
		again := ok[agent.PromptVersion](t)(s.Put(ctx, agent.Prompt{Name: "triage", Text: "Which queue? {{text}}", Vars: []string{"text"}}))
		if one.Version != 1 || two.Version != 2 || again.Version != 1 || one.Hash != again.Hash || one.Hash == two.Hash || !again.At.Equal(one.At) {
			t.Errorf("versions %+v, %+v, %+v; the same text must be the same version", one, two, again)
		}
		got := ok[agent.PromptVersion](t)(s.Version(ctx, "triage", 1))
		if got.Text != one.Text || got.Hash != one.Hash || !slices.Equal(got.Vars, []string{"text"}) {
			t.Errorf("version 1 is %+v", got)
		}
		info := ok[agent.PromptInfo](t)(s.Get(ctx, "triage"))
		if info.Active != nil || len(info.Versions) != 2 || info.Versions[1].Hash != two.Hash || info.Versions[0].Text != "" {
			t.Errorf("the prompt is %+v; want two versions, none active", info)
		}
		ok[agent.PromptVersion](t)(s.Put(ctx, agent.Prompt{Name: "a.b_c-D", Text: "x"}))
		ok[agent.PromptVersion](t)(s.Put(ctx, agent.Prompt{Name: "triage.more", Text: "x"}))
		var names []string
		for _, p := range ok[[]agent.PromptInfo](t)(s.List(ctx)) {
			names = append(names, fmt.Sprint(p.Name, len(p.Versions)))
		}
		if !slices.Equal(names, []string{"a.b_c-D1", "triage2", "triage.more1"}) {
			t.Errorf("the prompts are %q", names)
		}
		_, err := s.Get(ctx, "nobody")
		is(t, err, pawl.ErrNotFound)
		_, err = s.Version(ctx, "triage", 3)
		is(t, err, pawl.ErrNotFound)
		_, err = s.Get(ctx, "a/b")
		is(t, err, pawl.ErrInput)
	})
}

func TestPromptsAreActivatedAndRolledBack(t *testing.T) {
	eachStore(t, func(t *testing.T, e *pawl.Engine) {
		ctx, s := t.Context(), agent.Prompts{Engine: e}
		for i := range 3 {
			ok[agent.PromptVersion](t)(s.Put(ctx, agent.Prompt{Name: "p", Text: fmt.Sprint("text ", i+1)}))
		}
		picked := func() (v int) {
			t.Helper()
			p, err := s.Pick(ctx, "p", "some run")
			if err != nil {
				is(t, err, pawl.ErrState)
			}
			return p.Version
		}
		if v := picked(); v != 0 {
			t.Errorf("version %d is active before any was activated", v)
		}
		_, err := s.Rollback(ctx, "p", "ann", 0)
		is(t, err, pawl.ErrState)
		for _, v := range []int{1, 2, 3} {
			a := only(v)
			a.By = "ann"
			info := ok[agent.PromptInfo](t)(s.Activate(ctx, "p", a))
			if info.Active == nil || info.Active.Since.IsZero() || info.Active.By != "ann" || info.Active.Seq != v || picked() != v {
				t.Errorf("active is %+v; want version %d, with who and since when", info.Active, v)
			}
		}
		for _, want := range []int{2, 1} {
			info := ok[agent.PromptInfo](t)(s.Rollback(ctx, "p", "bob", 0))
			if picked() != want || info.Active.By != "bob" {
				t.Errorf("after a rollback active is %+v; want version %d", info.Active, want)
			}
		}
		_, err = s.Rollback(ctx, "p", "bob", 0)
		is(t, err, pawl.ErrState)
		ok[agent.PromptInfo](t)(s.Activate(ctx, "p", only(3)))
		if ok[agent.PromptInfo](t)(s.Rollback(ctx, "p", "bob", 0)); picked() != 1 {
			t.Errorf("version %d is active; want 1", picked())
		}
		info := ok[agent.PromptInfo](t)(s.Activate(ctx, "p", agent.Activation{}))
		if info.Active != nil || picked() != 0 || len(info.History) != 8 {
			t.Errorf("the prompt is %+v; want none active, eight in the history", info)
		}
		if ok[agent.PromptInfo](t)(s.Rollback(ctx, "p", "", 0)); picked() != 1 {
			t.Errorf("version %d is active; want 1", picked())
		}
		for _, c := range []struct {
			a    agent.Activation
			want error
		}{{only(0), pawl.ErrNotFound}, {only(4), pawl.ErrNotFound}, {agent.Activation{Weights: map[int]int{1: 0}}, pawl.ErrInput}, {agent.Activation{Weights: map[int]int{1: 1_000_001}}, pawl.ErrInput}} {
			_, err := s.Activate(ctx, "p", c.a)
			is(t, err, c.want)
		}
		_, err = s.Activate(ctx, "nobody", only(1))
		is(t, err, pawl.ErrNotFound)
		for range 110 {
			info = ok[agent.PromptInfo](t)(s.Activate(ctx, "p", only(2)))
		}
		if len(info.History) != 100 || info.History[99].Seq != info.Active.Seq {
			t.Errorf("the history has %d entries; want the last 100", len(info.History))
		}
	})
}

// Two operators at once: nothing is lost, and who decided on what is no more gets ErrConflict.
func TestConcurrentChangesOfAPromptLoseNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, e *pawl.Engine) {
		ctx, s := t.Context(), agent.Prompts{Engine: e}
		const many = 12
		var group sync.WaitGroup
		versions := make([]int, many)
		for i := range many {
			group.Go(func() {
				v, err := s.Put(ctx, agent.Prompt{Name: "p", Text: fmt.Sprint("text ", i/2)}) // each text twice
				if err != nil {
					t.Error(err)
				}
				versions[i] = v.Version
			})
		}
		group.Wait()
		info := ok[agent.PromptInfo](t)(s.Get(ctx, "p"))
		if len(info.Versions) != many/2 {
			t.Errorf("there are %d versions; want %d", len(info.Versions), many/2)
		}
		for i, v := range versions {
			if got := ok[agent.PromptVersion](t)(s.Version(ctx, "p", v)); got.Text != fmt.Sprint("text ", i/2) {
				t.Errorf("version %d is %q", v, got.Text)
			}
		}
		var mu sync.Mutex
		done := 0
		for i := range many {
			group.Go(func() {
				_, err := s.Activate(ctx, "p", only(1+i%6))
				if err != nil {
					is(t, err, pawl.ErrConflict)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				done++
			})
		}
		group.Wait()
		after := ok[agent.PromptInfo](t)(s.Get(ctx, "p"))
		if done == 0 || len(after.History) != done {
			t.Errorf("%d activations were accepted, the history has %d", done, len(after.History))
		}
		stale := only(1)
		stale.Revision = info.Revision
		_, err := s.Activate(ctx, "p", stale)
		is(t, err, pawl.ErrConflict)
		_, err = s.Rollback(ctx, "p", "", info.Revision)
		is(t, err, pawl.ErrConflict)
		stale.Revision = after.Revision
		if now := ok[agent.PromptInfo](t)(s.Activate(ctx, "p", stale)); now.Revision <= after.Revision {
			t.Errorf("revision %d follows %d", now.Revision, after.Revision)
		}
	})
}
