package flowtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
)

// attend gives the run what it waits for until it has ended, or waits for what the case does not have.
func (t *trial) attend(ctx context.Context, e *pawl.Engine, run pawl.Ref) error {
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := t.approvals(ctx, e, run); err != nil {
			return err
		}
		if err := t.hooks(ctx, e, run); err != nil {
			return err
		}
		r, err := e.Reason(ctx, run)
		if err != nil {
			return err
		}
		if r.State.Terminal() {
			return nil
		}
		for _, event := range r.Events {
			if err := t.event(ctx, e, run, event); err != nil {
				return err
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("it was not over in time; %s", r.Text)
		}
	}
}

// missing is a wait for which the case has nothing.
func missing(n *node, what string, err error) error {
	if err != nil {
		return fmt.Errorf("the run waits for %s at %s: %w", what, n.id, err)
	}
	return fmt.Errorf("the run waits for %s at %s, and the case has none: add %s to waits", what, n.id, n.id)
}

// next is what a wait gets, each visit of it once. got is false where it has it already, or times out.
func (t *trial) next(n *node, key, what string) (v any, got bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.given[key] {
		return nil, false, nil
	}
	v, there, err := t.waits.take(n.id)
	if err != nil || !there {
		return nil, false, missing(n, what, err)
	}
	t.given[key] = true
	return v, !timesOut(v), nil
}

func (t *trial) approvals(ctx context.Context, e *pawl.Engine, run pawl.Ref) error {
	page, err := approval.List(ctx, e, approval.Filter{Run: run.ID, Limit: 200})
	if err != nil {
		return err
	}
	for _, a := range page.Items {
		n := t.doc.nodeOf(strings.TrimPrefix(a.ID, run.ID+"/"))
		if n == nil {
			continue
		}
		v, got, err := t.next(n, a.ID, "an approval")
		if err != nil {
			return err
		}
		if got {
			if err := decide(ctx, e, a, v); err != nil {
				return fmt.Errorf("the approval at %s: %w", n.id, err)
			}
		}
	}
	return nil
}

// decide answers an approval; where several must approve, others do so too.
func decide(ctx context.Context, e *pawl.Engine, a approval.Approval, v any) error {
	given, _ := v.(map[string]any)
	in := approval.Answer{Shown: a.Shown, Via: "pawl test"}
	in.Approved, _ = given["approved"].(bool)
	in.By, _ = given["by"].(string)
	in.Comment, _ = given["comment"].(string)
	if form := given["form"]; form != nil {
		data, err := json.Marshal(form)
		if err != nil {
			return err
		}
		in.Form = data
	}
	others := a.Deciders(time.Now())
	for voter := 1; ; voter++ {
		if in.By == "" && len(others) > 0 {
			in.By, others = others[0], others[1:]
		} else if in.By == "" {
			in.By = fmt.Sprintf("tester-%d", voter)
		}
		now, err := approval.Decide(ctx, e, pawl.Ref{ID: a.ID}, in)
		if err != nil || now.State != approval.Pending {
			return err
		}
		others = slices.DeleteFunc(others, func(name string) bool { return name == in.By })
		in.By = ""
	}
}

// hooks sends requests to the run's webhooks.
func (t *trial) hooks(ctx context.Context, e *pawl.Engine, run pawl.Ref) error {
	all, err := e.Hooks(ctx, run)
	if err != nil {
		return err
	}
	for _, h := range all {
		n := t.doc.nodeOf(h.Key)
		if n == nil || h.Kind == approval.Kind || n.is("for") != "webhook" {
			continue
		}
		v, got, err := t.next(n, h.Key, "a request")
		if err != nil {
			return err
		}
		if !got {
			continue
		}
		body, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = e.Deliver(ctx, pawl.Delivery{Run: run, Hook: h.Key, Data: pawl.Request{
			ID: h.Key, Method: http.MethodPost, URL: "/hooks/test", Header: http.Header{"Content-Type": {"application/json"}}, Body: body, Run: run.ID,
		}})
		if err != nil && !errors.Is(err, pawl.ErrEnded) {
			return fmt.Errorf("the request to %s: %w", n.id, err)
		}
	}
	return nil
}

// event sends an event that the run waits for, once for each visit of the step that does.
func (t *trial) event(ctx context.Context, e *pawl.Engine, run pawl.Ref, event string) error {
	for _, id := range sorted(t.doc.nodes) {
		n := t.doc.nodes[id]
		named := n.is("event")
		if n.is("for") != "event" || event != named && !strings.HasPrefix(event, named+":") {
			continue
		}
		t.mu.Lock()
		visit := t.visits[id]
		open := t.open[id] > 0
		t.mu.Unlock()
		if !open {
			continue
		}
		v, got, err := t.next(n, fmt.Sprintf("%s#%d %s", id, visit, event), "the event "+event)
		if err != nil {
			return err
		}
		if got {
			return e.SignalRef(ctx, run, event, v)
		}
	}
	return nil
}
