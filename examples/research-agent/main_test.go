package main

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/pawlrun/pawl/examples/demo"
	"github.com/pawlrun/pawl/examples/demo/demotest"
	"github.com/pawlrun/pawl/llm"
	"github.com/pawlrun/pawl/llm/llmtest"
)

func TestMain(m *testing.M) {
	demotest.Become(main)
	os.Exit(m.Run())
}

func TestAKilledProcessGoesOnWithTheCallsThatAreMissing(t *testing.T) {
	demotest.KilledAtEveryCall(t, demotest.Serve(t, demo.Model()), nil, "-topic", "rope")
}

// The first Ctrl-C lets the call under way finish; what it brought is recorded.
func TestAfterCtrlCTheSameCommandGoesOn(t *testing.T) {
	program, dir := demotest.Program(t), t.TempDir()
	asked, answer := make(chan struct{}), make(chan struct{})
	provider := demotest.Serve(t, llmtest.Script(
		llmtest.Rule{Times: 1, Answer: func(context.Context, *llm.Request) (*llm.Response, error) {
			close(asked)
			<-answer
			return &llm.Response{Text: `{"questions": ["What for?"]}`}, nil
		}},
		llmtest.Rule{Contains: "Question: ", Text: `{"findings": ["known"], "confidence": "sure", "followUp": ""}`},
		llmtest.Rule{Text: "the report"},
	))
	p := demotest.Start(t, program, dir, provider, "-topic", "rope")
	p.Await(t, asked)
	p.Interrupt(t)
	p.Await(t, p.Says("stopping"))
	close(answer)
	if out := p.Exits(t, 130); out != "" || !strings.Contains(p.Log(), "the same command goes on from here") {
		t.Errorf("it printed %q and\n%s", out, p.Log())
	}
	if got := demotest.Recorded(t, dir); !slices.Contains(got, "plan") {
		t.Errorf("recorded are %q, without the plan that was under way", got)
	}
	if out := demotest.Start(t, program, dir, provider, "-topic", "rope").Result(t); out != "the report\n" {
		t.Errorf("it printed %q", out)
	}
	if n := len(provider.Take()); n != 3 {
		t.Errorf("%d calls, want 3", n)
	}
}

// A wrong key fails the run at its second call. With the right one the same command goes
// on there.
func TestAFailedRunIsTriedAgain(t *testing.T) {
	program, dir := demotest.Program(t), t.TempDir()
	provider := demotest.Serve(t, llmtest.Script(
		llmtest.Rule{When: func(r *llm.Request) bool { return r.Schema != nil && r.Schema.Name == "plan" }, Text: `{"questions": ["What for?"]}`},
		llmtest.Rule{Contains: "Question: ", Fail: []error{&llm.Error{Kind: llm.Auth, Message: "the key has expired"}},
			Text: `{"findings": ["known"], "confidence": "sure", "followUp": ""}`},
		llmtest.Rule{Text: "the report"},
	))
	p := demotest.Start(t, program, dir, provider, "-topic", "rope")
	if p.Exits(t, 1); !strings.Contains(p.Log(), "the key has expired") {
		t.Errorf("it does not say why it failed:\n%s", p.Log())
	}
	if n := len(provider.Take()); n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
	if out := demotest.Start(t, program, dir, provider, "-topic", "rope").Result(t); out != "the report\n" {
		t.Errorf("it printed %q", out)
	}
	if n := len(provider.Take()); n != 2 {
		t.Errorf("%d calls, want 2: the question and the report", n)
	}
}

func TestAnotherInputUnderTheSameIDIsRefused(t *testing.T) {
	program, dir := demotest.Program(t), t.TempDir()
	provider := demotest.Serve(t, demo.Model())
	demotest.Start(t, program, dir, provider, "-topic", "rope").Result(t)
	p := demotest.Start(t, program, dir, provider, "-topic", "sails")
	if p.Exits(t, 1); !strings.Contains(p.Log(), "give the new run another -id") {
		t.Errorf("it said\n%s", p.Log())
	}
}
