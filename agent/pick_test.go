package agent_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/sqlite"
)

var greeting = agent.Prompt{Name: "greeting", Text: "Hello {{name}}!"}

// greet returns what two steps got, and how it was recorded.
var greet = pawl.Define("greet", func(c *pawl.Context, _ struct{}) ([]agent.Rendered, error) {
	var out []agent.Rendered
	for range 2 {
		r, err := pawl.Step(c, "render", func(ctx context.Context) (agent.Rendered, error) {
			return greeting.Render(ctx, map[string]any{"name": "Ann"})
		})
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	_, err := pawl.WaitFor[struct{}](c, "go on")
	return out, err
})

// J27: each call tells which version it used, in a replay too.
func TestJ27_runsRecordTheVersionTheyUsed(t *testing.T) {
	eachStore(t, func(t *testing.T, e *pawl.Engine) {
		ctx, s := t.Context(), agent.Prompts{Engine: e}
		run := func() []agent.Rendered {
			t.Helper()
			r := ok[*pawl.Run[[]agent.Rendered]](t)(greet.Start(ctx, e, struct{}{}))
			if err := e.Signal(ctx, r.ID(), "go on", nil); err != nil {
				t.Fatal(err)
			}
			return ok[[]agent.Rendered](t)(r.Result(ctx))
		}
		used := run() // the program's own text is put on first use
		if used[0].Version != 1 || used[0].Name != "greeting" || len(used[0].Hash) != 64 || used[0].Text != "Hello Ann!" || used[0] != used[1] {
			t.Errorf("the run used %+v", used)
		}
		if ok[agent.PromptInfo](t)(s.Get(ctx, "greeting")); len(run()) != 2 {
			t.Error("a run without activation")
		}
		ok[agent.PromptVersion](t)(s.Put(ctx, agent.Prompt{Name: "greeting", Text: "Good morning, {{untrusted name}}"}))
		ok[agent.PromptInfo](t)(s.Activate(ctx, "greeting", only(2)))
		if used = run(); used[0].Version != 2 || used[0].Text != "Good morning, "+agent.Untrusted("Ann") {
			t.Errorf("after an activation the run used %+v", used)
		}
		if info := ok[agent.PromptInfo](t)(s.Get(ctx, "greeting")); len(info.Versions) != 2 {
			t.Errorf("there are %d versions; want 2", len(info.Versions))
		}
		ok[agent.PromptVersion](t)(s.Put(ctx, agent.Prompt{Name: "greeting", Text: "Hi {{first}}"}))
		ok[agent.PromptInfo](t)(s.Activate(ctx, "greeting", only(3)))
		r := ok[*pawl.Run[[]agent.Rendered]](t)(greet.Start(ctx, e, struct{}{}))
		_, err := r.Result(ctx)
		if !errors.Is(err, pawl.ErrInput) || !strings.Contains(err.Error(), `version 3: it has no variable "name"; it has first`) || strings.Contains(err.Error(), "attempts") {
			t.Errorf("a version with other variables: %v; want it to fail at once and to name them", err)
		}
		_, err = greeting.Render(ctx, nil)
		is(t, err, pawl.ErrMisuse)
	}, greet)
}

// What is active may change between the steps of a run, and what was recorded stays.
func TestAReplayDoesNotChooseAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pawl.db")
	work := func(f func(e *pawl.Engine)) {
		t.Helper()
		store, err := sqlite.Open(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		e := pawl.New(store, nil)
		if err := e.Register(greet); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		f(e)
		cancel()
		if err := errors.Join(<-ended, store.Close()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, id := t.Context(), ""
	work(func(e *pawl.Engine) {
		id = ok[*pawl.Run[[]agent.Rendered]](t)(greet.Start(ctx, e, struct{}{})).ID()
		for ok[pawl.RunInfo](t)(e.Get(ctx, pawl.Ref{ID: id})).State != pawl.Waiting {
			time.Sleep(time.Millisecond)
		}
		s := agent.Prompts{Engine: e}
		ok[agent.PromptVersion](t)(s.Put(ctx, agent.Prompt{Name: "greeting", Text: "Bye {{name}}"}))
		ok[agent.PromptInfo](t)(s.Activate(ctx, "greeting", only(2)))
	})
	work(func(e *pawl.Engine) {
		if err := e.Signal(ctx, id, "go on", nil); err != nil {
			t.Fatal(err)
		}
		for _, r := range ok[[]agent.Rendered](t)(pawl.Attach[[]agent.Rendered](e, id).Result(ctx)) {
			if r.Version != 1 || r.Text != "Hello Ann!" {
				t.Errorf("after a restart the run used %+v", r)
			}
		}
	})
}

// J53: the split follows the weights, a run keeps its version, and a change of weights moves
// no more runs than it must.
func TestJ53_splitsAreWeightedAndSticky(t *testing.T) {
	eachStore(t, func(t *testing.T, e *pawl.Engine) {
		ctx, s := t.Context(), agent.Prompts{Engine: e}
		for i := range 3 {
			ok[agent.PromptVersion](t)(s.Put(ctx, agent.Prompt{Name: "p", Text: fmt.Sprint("text ", i+1)}))
		}
		const runs = 400
		split := func(weights map[int]int) []int {
			t.Helper()
			ok[agent.PromptInfo](t)(s.Activate(ctx, "p", agent.Activation{Weights: weights}))
			out := make([]int, runs)
			for i := range out {
				out[i] = ok[agent.PromptVersion](t)(s.Pick(ctx, "p", fmt.Sprint("run ", i))).Version
			}
			return out
		}
		share := func(of []int, version int) (n int) {
			for _, v := range of {
				if v == version {
					n++
				}
			}
			return n
		}
		first := split(map[int]int{1: 90, 2: 10})
		if n := share(first, 2); n < runs*5/100 || n > runs*16/100 {
			t.Errorf("%d of %d runs got the version with a tenth of the weight", n, runs)
		}
		if again := split(map[int]int{1: 9, 2: 1}); !slices.Equal(again, first) {
			t.Error("with the same shares some runs got another version")
		}
		moved := 0
		for i, v := range split(map[int]int{1: 90, 2: 30}) {
			if first[i] == 2 && v != 2 {
				t.Errorf("run %d lost version 2 as its weight grew", i)
			}
			if first[i] != v {
				moved++
			}
		}
		if moved == 0 || moved > runs*25/100 {
			t.Errorf("%d of %d runs changed over; it should be about 15 %%", moved, runs)
		}
		for i, v := range split(map[int]int{1: 90, 2: 10, 3: 20}) {
			if v != 3 && v != first[i] {
				t.Errorf("run %d went from %d to %d as version 3 came", i, first[i], v)
			}
		}
	})
}
