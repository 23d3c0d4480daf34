package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/examples/content-pipeline/content"
	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/demo/demotest"
)

func TestMain(m *testing.M) {
	demotest.Become(main)
	os.Exit(m.Run())
}

// The same run is killed three times: while the model drafts, while it waits for the
// reviewer, and while the model revises.
func TestAKilledProcessGoesOnWhereItWas(t *testing.T) {
	program, provider, dir := demotest.Program(t), demotest.Serve(t, demo.Model()), t.TempDir()
	start := func() *demotest.Process { return demotest.Start(t, program, dir, provider, "-topic", "rope") }
	recorded := func(want ...string) {
		t.Helper()
		if got := demotest.Recorded(t, dir); !slices.Equal(got, want) {
			t.Errorf("recorded are %q, want %q", got, want)
		}
	}
	calls := func(want int) {
		t.Helper()
		if got := provider.Take(); len(got) != want {
			t.Errorf("%d calls, want %d: %q", len(got), want, got)
		}
	}

	held := provider.Hold(1)
	start().KillAt(t, held) // drafting
	recorded()
	calls(1)

	p := start()
	p.KillAt(t, p.Says("Draft 1.")) // waiting for the reviewer
	recorded("draft")
	calls(1)

	held = provider.Hold(1)
	p = start()
	p.Type(t, "more about knots")
	p.KillAt(t, held) // revising
	recorded("draft")
	calls(1)

	p = start()
	p.Type(t, "y")
	if out := p.Result(t); !strings.HasPrefix(out, "published after 2 drafts") {
		t.Errorf("it printed %q", out)
	}
	recorded("draft", "publish", "revise")
	calls(1)
	if !strings.Contains(p.Log(), "more about knots") || strings.Contains(p.Log(), "Draft 1.") {
		t.Errorf("the reviewer was asked about a draft that was reviewed before:\n%s", p.Log())
	}

	p = start()
	if out := p.Result(t); !strings.HasPrefix(out, "published after 2 drafts") {
		t.Errorf("started once more it printed %q", out)
	}
	calls(0)

	messages, err := content.Outbox(filepath.Join(dir, "outbox.jsonl")).Messages()
	if err != nil {
		t.Fatal(err)
	}
	if len(messages) != 1 || messages[0].Key != demotest.RunID+"/publish" || !strings.Contains(messages[0].Text, "more about knots") {
		t.Errorf("the outbox holds %+v", messages)
	}
}
