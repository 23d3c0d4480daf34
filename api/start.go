package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/pawlrun/pawl"
)

// StartRequest asks for a new run. Durations are written as in Go: 90s, 1h30m.
type StartRequest struct {
	Workflow   string          `json:"workflow,omitempty" doc:"May be left out where the path names it."`
	Input      json.RawMessage `json:"input,omitempty" doc:"Any JSON that the workflow takes."`
	ID         string          `json:"id,omitempty" doc:"Of the run. It makes the start idempotent."`
	Attributes map[string]any  `json:"attributes,omitempty"`
	Priority   *int            `json:"priority,omitempty" doc:"Left out: the workflow's own."`
	Delay      string          `json:"delay,omitempty" doc:"Start no sooner than this from now, such as 90s or 1h30m."`
	Timeout    string          `json:"timeout,omitempty" doc:"Cancel the run after this."`
	// BudgetUSD is the most that the run and its children may cost: a step that would go
	// beyond fails. nil: what the workflow says.
	BudgetUSD *float64  `json:"budgetUsd,omitempty" doc:"The most that the run and its children may cost."`
	Deadline  time.Time `json:"deadline,omitzero"`
	// OnConflict says what happens when the id or the singleton key is taken: existing
	// (the default), reject, cancel_old or queue.
	OnConflict string `json:"onConflict,omitempty" enum:"existing,reject,cancel_old,queue" doc:"What happens when the id or the singleton key is taken."`
}

// policies are the names of [pawl.Policy] on the wire.
var policies = map[string]pawl.Policy{
	"existing": pawl.ReturnExisting, "reject": pawl.Reject, "cancel_old": pawl.CancelOld, "queue": pawl.Queue,
}

type startInput struct {
	Wait        span   `query:"wait" doc:"Answer when the run has ended, or after this, at most 10m."`
	Traceparent string `header:"Traceparent" doc:"The W3C trace that the run belongs to."`
	Body        StartRequest
}

type namedStartInput struct {
	ID          string `path:"id"`
	Wait        span   `query:"wait" doc:"Answer when the run has ended, or after this, at most 10m."`
	Traceparent string `header:"Traceparent" doc:"The W3C trace that the run belongs to."`
	Body        StartRequest
}

func (s *server) startRoutes() {
	add(s, route{id: "start", method: http.MethodPost, path: "/api/runs", scope: RunsStart, once: true, queues: true, status: http.StatusAccepted, also: []int{http.StatusOK},
		summary: "Start a run", about: "202: it is durable. 200: it has ended, or had when it was asked for again."}, s.start)
	add(s, route{id: "startWorkflow", method: http.MethodPost, path: "/api/workflows/{id}/runs", scope: RunsStart, once: true, queues: true, status: http.StatusAccepted, also: []int{http.StatusOK},
		summary: "Start a run of a workflow"},
		func(ctx context.Context, in *namedStartInput) (*runOutput, error) {
			if q := &in.Body; q.Workflow != "" && q.Workflow != in.ID {
				return nil, badRequest("the path names the workflow %q, the body %q", in.ID, q.Workflow)
			}
			in.Body.Workflow = in.ID
			return s.start(ctx, &startInput{in.Wait, in.Traceparent, in.Body})
		})
}

func (s *server) start(ctx context.Context, in *startInput) (*runOutput, error) {
	return s.begin(ctx, in)
}

// begin starts a run, with options beside those of the request.
func (s *server) begin(ctx context.Context, in *startInput, more ...pawl.StartOption) (*runOutput, error) {
	q := &in.Body
	if q.Workflow == "" {
		return nil, badRequest("the body has no field \"workflow\" to say what to start")
	}
	if err := in.Wait.atMost(maxWait); err != nil {
		return nil, err
	}
	opts, err := q.options()
	if err != nil {
		return nil, err
	}
	opts = append(opts, more...)
	if len(in.Traceparent) == 55 {
		opts = append(opts, pawl.Traceparent(in.Traceparent))
	}
	if err := s.learn(ctx, q.Workflow); err != nil {
		return nil, err
	}
	once, err := s.once(ctx)
	if err != nil {
		return nil, err
	}
	if once.id != "" && q.ID == "" {
		opts = append(opts, pawl.ID(once.id))
	}
	info, err := s.engine.StartRun(ctx, q.Workflow, q.Input, append(opts, pawl.Tenant(tenantOf(ctx)))...)
	exchangeOf(ctx).stored() // what follows may be a long wait
	if errors.Is(err, pawl.ErrUnknown) {
		return nil, s.unknownWorkflow(ctx, q.Workflow)
	}
	if err != nil {
		return nil, err
	}
	out, err := s.tell(ctx, info, in.Wait.Duration, http.StatusAccepted)
	if err == nil {
		out.Location, out.Replayed = RunPath(info.ID), once.replayed(info.Existed)
	}
	return out, err
}

// options are the start's options as the engine takes them.
func (q *StartRequest) options() ([]pawl.StartOption, error) {
	var opts []pawl.StartOption
	if q.ID != "" {
		opts = append(opts, pawl.ID(q.ID))
	}
	if len(q.Attributes) > 0 {
		opts = append(opts, pawl.Attributes(q.Attributes))
	}
	if q.Priority != nil {
		opts = append(opts, pawl.Priority(*q.Priority))
	}
	if q.Delay != "" {
		d, err := duration("field delay", q.Delay)
		if err != nil {
			return nil, err
		}
		opts = append(opts, pawl.Delay(d))
	}
	if q.Timeout != "" {
		d, err := duration("field timeout", q.Timeout)
		if err != nil {
			return nil, err
		}
		opts = append(opts, pawl.Timeout(d))
	}
	if q.BudgetUSD != nil {
		opts = append(opts, pawl.BudgetUSD(*q.BudgetUSD))
	}
	if !q.Deadline.IsZero() {
		opts = append(opts, pawl.Deadline(q.Deadline))
	}
	if q.OnConflict != "" {
		p, ok := policies[q.OnConflict]
		if !ok {
			return nil, badRequest("field onConflict is %q; it is one of existing, reject, cancel_old, queue", q.OnConflict)
		}
		opts = append(opts, pawl.OnConflict(p))
	}
	return opts, nil
}
