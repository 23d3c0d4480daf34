package flow_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/service"
)

// A run that came to fail because of a step's failure says which, is not tried again in vain, and goes on from that step as a fork.
func TestARunThatWasLedToFailGoesOnAsAFork(t *testing.T) {
	pay := func(next string) string {
		return send("pay", next, `, "text": "pay"`, `"onFailure": "fallback", "fallbackStep": "tell", "retryPolicy": {"maxAttempts": 1}`, `"maxVisits": 3`)
	}
	tell := send("tell", `"fail"`, `, "text": "tell"`)
	once := send("once", `"pay"`, `, "text": "once"`)
	for name, test := range map[string]struct {
		doc, from string
		good      int64 // payments before the one that fails
	}{
		"a step":           {of(once, pay(end), tell), "pay", 0},
		"the second visit": {of(once, pay(`"look"`), `{"id": "look", "type": "transform", "maxVisits": 3, "config": {"expression": "steps.pay.output.id > 2"}, "next": {"true": "end", "default": "pay"}}`, tell), "pay#2", 1},
		"a branch":         {of(once, `{"id": "pay", "type": "parallel", "config": {"failureMode": "continue", "branches": [{"id": "x", "steps": [`+send("it", end, `, "text": "pay"`)+`]}]}, "next": [{"when": "output.x.status == 'completed'", "to": "end"}, {"to": "tell"}]}`, tell), "pay.x/it", 0},
		"an item":          {of(once, `{"id": "pay", "type": "map", "config": {"over": "[1]", "failureMode": "continue", "steps": [`+send("it", end, `, "text": "pay"`)+`]}, "next": [{"when": "has(output[0].id)", "to": "end"}, {"to": "tell"}]}`, tell), "pay[0]/it", 0},
		"a child":          {of(once, `{"id": "pay", "type": "workflow", "config": {"workflow": "till", "input": {}}, "onFailure": "fallback", "fallbackStep": "tell", "next": "end"}`, tell), "pay/$child:till", 0},
	} {
		t.Run(name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, open func() pawl.Store) {
				var mended atomic.Bool
				var payments atomic.Int64
				d := &desk{fail: func(said string) error {
					if strings.Contains(said, "pay") && payments.Add(1) > test.good && !mended.Load() {
						return &service.Error{Code: service.Denied, Message: "no such account"}
					}
					return nil
				}}
				till := pawl.Define("till", func(c *pawl.Context, _ any) (any, error) {
					return nil, pawl.Do(c, "ring", func(context.Context) error {
						if !mended.Load() {
							return pawl.Fatal(errors.New("no such account"))
						}
						return nil
					})
				})
				s := serve(t, open(), options(t, d), till)
				c := s.calls(t, api.Options{})
				x := s.after(t, test.doc, `{}`)
				because(t, x, "flow_failed", "step tell leads to fail, after step pay", " failed: ", "no such account", "; its output is {")
				_, failed, err := s.Wait(t.Context(), "", x.ExecutionID)
				if err != nil {
					t.Fatal(err)
				}
				led, is := flow.Ended(failed.Failure())
				if !is || led.Step != "tell" || led.After == nil || !strings.HasPrefix(led.After.Step, "pay") || led.After.Key != test.from {
					t.Fatalf("it ended by %+v, which failed at %+v", led, led.After)
				}
				mended.Store(true)
				if got := c.send("POST", "/api/runs/"+x.ExecutionID+"/retry", ""); got.status != 409 || !strings.Contains(got.body, "pawl runs fork "+x.ExecutionID+" --from '"+test.from) {
					t.Errorf("a retry is answered by %d %s", got.status, got.body)
				}
				fork, err := s.Fork(t.Context(), pawl.Ref{ID: x.ExecutionID}, pawl.ForkOptions{From: led.After.Key})
				if err != nil {
					t.Fatal(err)
				}
				equal(t, "fork", s.ended(t, fork.ID).Status, pawl.Completed)
				equal(t, "what was done before", strings.Count(strings.Join(d.said(), "\n"), "once"), 1)
			})
		})
	}
}

// A run that its routing led to fail says what it was led by; there is no step to begin again at.
func TestARunThatChoseToFail(t *testing.T) {
	eachStore(t, func(t *testing.T, open func() pawl.Store) {
		s := serve(t, open(), options(t, &desk{fail: func(string) error { return &service.Error{Code: service.Denied, Message: "no"} }}))
		c := s.calls(t, api.Options{})
		x := s.after(t, of(send("a", `"b"`, "", `"onFailure": "skip"`), `{"id": "b", "type": "transform", "config": {"expression": "'bad'"}, "next": {"bad": "fail", "default": "end"}}`), `{}`)
		because(t, x, "flow_failed", "step b leads to fail: bad")
		if got := c.send("POST", "/api/runs/"+x.ExecutionID+"/retry", ""); got.status != 409 || !strings.Contains(got.body, "start another run") {
			t.Errorf("a retry is answered by %d %s", got.status, got.body)
		}
	})
}
