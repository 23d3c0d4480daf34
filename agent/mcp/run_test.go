package mcp_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent/mcp"
	"github.com/pawlrun/pawl/pawltest"
)

// callTool calls a tool as an agent does: in a step of the run.
func callTool(c *pawl.Context, s *mcp.Server, tool, args string) (string, error) {
	return pawl.Step(c, tool, func(ctx context.Context) (string, error) {
		return s.Call(ctx, tool, json.RawMessage(args))
	})
}

// The list is a step, a call is a step: neither is done again after a crash, and what a killed
// process did not answer is.
func TestARunKeepsItsToolsAndResults(t *testing.T) {
	dir := t.TempDir()
	calls, died := filepath.Join(dir, "calls"), filepath.Join(dir, "died")
	s := open(t, command(t, "sdk"))
	flow := pawl.Define("tools", func(c *pawl.Context, _ string) ([]string, error) {
		snap, err := pawl.Step(c, "list", s.Snapshot)
		if err != nil {
			return nil, err
		}
		tools, err := s.Bind(snap)
		if err != nil {
			return nil, err
		}
		first, err := callTool(c, s, "step", `{"text":"`+calls+`"}`)
		if err != nil {
			return nil, err
		}
		if _, err := pawl.WaitFor[string](c, "go on"); err != nil {
			return nil, err
		}
		second, err := callTool(c, s, "step", `{"text":"`+calls+`"}`)
		if err != nil {
			return nil, err
		}
		third, err := callTool(c, s, "die", `{"text":"`+died+`"}`)
		if err != nil {
			return nil, err
		}
		_, err = callTool(c, s, "fail", `{"text":"x"}`)
		var step *pawl.StepError
		if !errors.As(err, &step) {
			return nil, err
		}
		return []string{tools[0].Name, first, second, third, step.Error()}, nil
	})
	h := pawltest.New(t, flow)
	run := pawltest.Start(h, flow, "")
	h.AwaitEvent(run.ID(), "go on")
	h.Crash()
	h.AwaitEvent(run.ID(), "go on")
	h.Signal(run.ID(), "go on", "")
	got := pawltest.Result(h, pawl.Attach[[]string](h.Engine(), run.ID()))
	want := []string{"test_ask", run.ID() + "/step", run.ID() + "/step#2", "survived", ""}
	for i := range 4 {
		if got[i] != want[i] {
			t.Errorf("result %d is %q; want %q", i, got[i], want[i])
		}
	}
	if !strings.Contains(got[4], "no file x") {
		t.Errorf("the failed tool's error is %q; want the tool's words", got[4])
	}
	if lines := notes(t, calls, 2); len(lines) != 2 {
		t.Errorf("the server was called %q; want each step once", lines)
	}
	for name, n := range map[string]int{"list": 1, "step": 2, "die": 2, "fail": 1} {
		if h.Calls(name) != n {
			t.Errorf("step %s had %d attempts; want %d", name, h.Calls(name), n)
		}
	}
	// The timeline tells what happened to the process.
	var lost bool
	for _, e := range h.Journal(run.ID()) {
		if e.Kind == pawl.KindAttempt && strings.Contains(string(e.Data), `"mcp_lost"`) && strings.Contains(string(e.Data), "signal: killed") {
			lost = true
		}
	}
	if !lost {
		t.Errorf("no attempt in the journal says mcp_lost: %+v", h.Journal(run.ID()))
	}
}
