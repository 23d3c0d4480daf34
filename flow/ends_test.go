package flow_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/storetest"
	"github.com/pawlrun/pawl/trigger"
)

// codeRun is a workflow in code, which fails if it is told to.
var codeRun = pawl.Define("code", func(c *pawl.Context, in codeInput) (map[string]int, error) {
	switch {
	case in.Fail:
		return nil, pawl.Fatal(errors.New("it was told to fail"))
	case in.Again: // which is no end
		return nil, pawl.ContinueAs(c, codeInput{})
	}
	return map[string]int{"n": 7}, nil
})

type codeInput struct{ Fail, Again bool }

// onEnd is a trigger by the ends of runs of another workflow.
func onEnd(event, of string) string {
	return fmt.Sprintf(`{"type": "event", "eventName": %q, "where": "event.data.workflowId == '%s'"}`, event, of)
}

func (s *server) fires(t *testing.T) {
	background(t, (&trigger.Runner{Engine: s.Engine, Poll: 50 * time.Millisecond}).Run)
}

// The end of a run starts the flows that ask for it: of a flow and of code, when it has completed and when it has failed.
func TestJ50_theEndOfARunStartsAFlow(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}), codeRun)
		s.fires(t)
		s.fires(t) // two tell of them, and each end is told once
		s.deploys(t, triggered("a", "in", `{"type": "manual"}`))
		s.deploys(t, triggered("afterFlow", "in", onEnd("workflow.completed", "a")))
		s.deploys(t, triggered("afterCode", "in", onEnd("workflow.completed", "code")+","+onEnd("workflow.failed", "code")))
		s.deploys(t, triggered("afterMany", "in", `{"type": "event", "eventName": "workflow.completed", "where": "event.data.workflowId == 'f' || has(event.data.output.n) && event.data.output.n > 7"}, {"type": "event", "eventName": "workflow.failed", "where": "event.data.workflowId == 'f'"}`))
		s.deploys(t, version("", "held"))
		s.starts(t, "r0") // who cancels a run knows it: that is no end to tell of
		s.waits(t, "r0")
		if _, err := s.Engine.Cancel(t.Context(), pawl.Ref{ID: "r0"}, "no"); err != nil {
			t.Fatal(err)
		}
		if x := s.ended(t, "r0"); x.Status != pawl.Cancelled {
			t.Errorf("it is %s", x.Status)
		}
		for _, start := range []struct{ workflow, id, input string }{{"a", "r1", `{"x": 1}`}, {"code", "r2", `{}`}, {"code", "r3", `{"Fail": true}`}} {
			if _, err := s.StartRun(t.Context(), start.workflow, json.RawMessage(start.input), pawl.ID(start.id)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "three runs were started", func() bool { return len(s.runs(t, "", "afterFlow"))+len(s.runs(t, "", "afterCode")) == 3 })
		var got []string
		for _, run := range append(s.runs(t, "", "afterFlow"), s.runs(t, "", "afterCode")...) {
			var out struct{ In trigger.RunEnd }
			if err := json.Unmarshal([]byte(s.result(t, "", run.ID)), &out); err != nil {
				t.Fatal(err)
			}
			e := out.In
			if e.StartedAt.IsZero() || e.EndedAt.Before(e.StartedAt) {
				t.Errorf("times: %+v", e)
			}
			got = append(got, fmt.Sprintf("%s %s %s v%s %s %s %q %d depth=%s", run.Attrs["trigger"], e.WorkflowID, e.ExecutionID, e.Version, e.Status, e.Output, e.Error, e.Depth, run.Attrs["depth"]))
		}
		slices.Sort(got)
		same(t, "ends", got,
			`flow:afterCode:0 code r2 v completed {"n":7} "" 0 depth=1`,
			`flow:afterCode:1 code r3 v failed null "it was told to fail" 0 depth=1`,
			`flow:afterFlow:0 a r1 v1 completed {"in":{"x":1},"version":1} "" 0 depth=1`)
		eventually(t, "all ends are told", func() bool {
			due, err := s.Records(t.Context(), "trigger.due", "", "", 10)
			return err == nil && len(due) == 0
		})
		equal(t, "in all", len(s.runs(t, "", "")), 7) // four that ended, and three for them
		if _, err := s.StartRun(t.Context(), "code", json.RawMessage(`{"Again": true}`)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the end of what went on as another is told", func() bool {
			due, err := s.Records(t.Context(), "trigger.due", "", "", 10)
			return err == nil && len(due) == 0 && len(s.runs(t, "", "")) >= 10
		})
		equal(t, "with what went on", len(s.runs(t, "", "")), 10) // two, and one for the second
		if _, err := trigger.Publish(t.Context(), s.Engine, trigger.Event{Name: "workflow.completed"}); !errors.Is(err, pawl.ErrInput) {
			t.Errorf("somebody says that a run has ended: %v", err)
		}
	})
}

// A flow that its own end would start is refused, and flows that start each other come to an end.
func TestJ50_endsDoNotStartEachOtherForEver(t *testing.T) {
	for name, event := range map[string]string{
		"all":     `{"type": "event", "eventName": "workflow.completed"}`,
		"failed":  `{"type": "event", "eventName": "workflow.failed", "where": "event.data.status == 'failed'"}`,
		"by name": onEnd("workflow.completed", "f"),
	} {
		if got := problems(t, triggered("f", "x", event), flow.World{}); len(got) != 1 || !strings.Contains(got[0], "the end of a run of this flow would start the next; say in where whose") {
			t.Errorf("%s: %q", name, got)
		}
	}
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}))
		s.fires(t)
		s.deploys(t, triggered("a", "in", onEnd("workflow.completed", "b")))
		s.deploys(t, triggered("b", "in", onEnd("workflow.completed", "a")))
		if _, err := s.StartRun(t.Context(), "a", json.RawMessage(`{}`)); err != nil {
			t.Fatal(err)
		}
		refused := func() (out []string) {
			for _, id := range []string{"flow:a:0", "flow:b:0"} {
				all, _, err := trigger.Matches(t.Context(), s.Engine, "", id, time.Time{}, "", 100)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range all {
					if m.Error != "" {
						out = append(out, m.Error)
					}
				}
			}
			return out
		}
		eventually(t, "the chain has ended", func() bool { return len(refused()) > 0 })
		equal(t, "runs", len(s.runs(t, "", "a"))+len(s.runs(t, "", "b")), 1+trigger.MaxDepth)
		if got := refused(); len(got) != 1 || !strings.Contains(got[0], "started no more") {
			t.Errorf("what is told: %q", got)
		}
	})
}

// Where nobody asks for ends nothing is written of them; where somebody does, nothing is left when it was told.
func TestEndsCostNothingWhereNobodyAsks(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{}), codeRun)
		due := func() int {
			all, err := s.Records(t.Context(), "trigger.due", "", "", 1000)
			if err != nil {
				t.Fatal(err)
			}
			return len(all)
		}
		run := func(opts ...pawl.StartOption) {
			t.Helper()
			info, err := s.StartRun(t.Context(), "code", json.RawMessage(`{}`), opts...)
			if err != nil {
				t.Fatal(err)
			}
			s.result(t, info.Tenant, info.ID)
		}
		run()
		equal(t, "nobody asks", due(), 0)
		s.deploys(t, triggered("f", "in", onEnd("workflow.completed", "another")))
		run(pawl.Tenant("acme"))
		equal(t, "another tenant", due(), 0)
		run()
		equal(t, "somebody asks", due(), 1)
		s.fires(t)
		eventually(t, "it was told", func() bool { return due() == 0 })
		events, err := s.Records(t.Context(), "trigger.events:", "", "", 10)
		if err != nil || len(events) != 0 {
			t.Errorf("an event that nobody takes is kept: %v, %v", events, err)
		}
		if _, err := s.Deactivate(t.Context(), "", "f", "ann", 0); err != nil {
			t.Fatal(err)
		}
		run()
		equal(t, "nobody asks any more", due(), 0)
	})
}

// No end is lost, and none is told twice, at whichever of its commits who tells it dies.
func TestEndsSurviveCrashes(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		opt := options(t, &desk{})
		s := serve(t, open(), opt, codeRun)
		s.deploys(t, triggered("after", "in", onEnd("workflow.completed", "code")))
		due := func() int {
			all, err := s.Records(t.Context(), "trigger.due", "", "", 1000)
			if err != nil {
				t.Fatal(err)
			}
			return len(all)
		}
		until := func(e *pawl.Engine, what string, over func() bool) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				done <- (&trigger.Runner{Engine: e, Poll: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)}).Run(ctx)
			}()
			eventually(t, what, over)
			cancel()
			<-done // the store of a dead process may refuse even that
		}
		dead := errors.New("the process is dead")
		total := 0
		for _, lose := range []bool{false, true} {
			for at := 1; ; at++ {
				info, err := s.StartRun(t.Context(), "code", json.RawMessage(`{}`))
				if err != nil {
					t.Fatal(err)
				}
				s.result(t, "", info.ID)
				total++
				var died atomic.Bool
				victim := pawl.New(storetest.Faulty(open(), func(method string, n int) storetest.Fault {
					if method != "Commit" || n < at {
						return storetest.Fault{}
					}
					died.Store(true)
					if n == at && lose {
						return storetest.Fault{Lose: true}
					}
					return storetest.Fault{Err: dead}
				}), nil)
				if err := flow.NewRegistry(victim, opt).Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
				until(victim, "it has died, or is done", func() bool { return died.Load() || due() == 0 })
				until(s.Engine, "all is told", func() bool { return due() == 0 && len(s.runs(t, "", "after")) == total })
				if !died.Load() {
					if at < 3 {
						t.Errorf("there were %d commits, which can't be all", at-1)
					}
					break
				}
			}
		}
		for _, run := range s.runs(t, "", "after") {
			s.result(t, "", run.ID)
		}
		equal(t, "runs", len(s.runs(t, "", "after")), total)
	})
}
