package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/trigger"
)

// ReasonRequest is the body of a cancel or a pause. It may be left out.
type ReasonRequest struct {
	Reason string `json:"reason,omitempty"`
}

// WakeRequest is the body of a wake. Left out, it wakes all timed waits of the run.
type WakeRequest struct {
	Key  string          `json:"key,omitempty" doc:"The one wait to end."`
	Data json.RawMessage `json:"data,omitempty" doc:"What that wait returns."`
}

// ForkRequest is the body of a fork. Left out, the run is done again from its start.
type ForkRequest struct {
	From    string                     `json:"from,omitempty" doc:"Key of the step to begin again at."`
	Input   json.RawMessage            `json:"input,omitempty" doc:"Another input; only without from."`
	Results map[string]json.RawMessage `json:"results,omitempty" doc:"Other results of steps before from."`
	ID      string                     `json:"id,omitempty" doc:"Of the new run."`
}

// Published answers a published event.
type Published struct {
	Event   string               `json:"event"`
	ID      string               `json:"id" doc:"The Idempotency-Key, or one that was made."`
	Count   int                  `json:"count" doc:"How many runs that waited got it, as far as is known yet."`
	Runs    []string             `json:"runs,omitempty" doc:"Ids of the runs that subscriptions start."`
	Matches []trigger.EventStart `json:"matches,omitempty" doc:"The subscriptions that it fits, with their runs."`
	Pending bool                 `json:"pending,omitempty" doc:"A server still does what is left."`
	Errors  []string             `json:"errors,omitempty" doc:"Of expressions that failed on it, and of starts that were refused."`
}

// Empty is the body of a call that takes nothing. It may be left out.
type Empty struct{}

type reasonInput struct {
	ID   string `path:"id"`
	Body ReasonRequest
}

type orderInput struct {
	ID   string `path:"id"`
	Body Empty
}

type wakeInput struct {
	ID   string `path:"id"`
	Body WakeRequest
}

type forkInput struct {
	ID   string `path:"id"`
	Body ForkRequest
}

type signalInput struct {
	ID    string `path:"id"`
	Event string `path:"event"`
	Body  json.RawMessage
}

type publishInput struct {
	Name string `path:"name"`
	Keep span   `query:"keep" doc:"How long it is remembered for waits that look back; left out, and at least: 24h."`
	Body json.RawMessage
}

type signalOutput struct {
	Replayed string `header:"Idempotency-Replayed" doc:"true: the request was carried out before."`
	Body     Run
}

type publishOutput struct {
	Replayed string `header:"Idempotency-Replayed" doc:"true: the request was carried out before."`
	Body     Published
}

func (s *server) orderRoutes() {
	post := func(id, path, summary string) route {
		return route{id: id, method: http.MethodPost, path: path, scope: RunsOperate, summary: summary}
	}
	add(s, post("cancel", "/api/runs/{id}/cancel", "End a run"), func(ctx context.Context, in *reasonInput) (*output[Run], error) {
		return s.ordered(ctx)(s.engine.Cancel(ctx, runRef(ctx, in.ID), in.Body.Reason))
	})
	add(s, post("pause", "/api/runs/{id}/pause", "Stop a run until it is resumed"), func(ctx context.Context, in *reasonInput) (*output[Run], error) {
		return s.ordered(ctx)(s.engine.Pause(ctx, runRef(ctx, in.ID), in.Body.Reason))
	})
	add(s, post("resume", "/api/runs/{id}/resume", "Let a paused or blocked run go on"), func(ctx context.Context, in *orderInput) (*output[Run], error) {
		return s.ordered(ctx)(s.engine.Unpause(ctx, runRef(ctx, in.ID)))
	})
	retry := post("retry", "/api/runs/{id}/retry", "Let a failed run go on from the step that made it fail")
	retry.queues = true
	add(s, retry, func(ctx context.Context, in *orderInput) (*output[Run], error) {
		info, err := s.engine.Get(ctx, runRef(ctx, in.ID)) // Retry's own error would not name the run
		if err == nil {
			err = s.canEndElse(ctx, info)
		}
		if err != nil {
			return nil, err
		}
		return s.ordered(ctx)(s.engine.Retry(ctx, runRef(ctx, in.ID)))
	})
	add(s, post("wake", "/api/runs/{id}/wake", "End sleeps and timed waits early"), func(ctx context.Context, in *wakeInput) (*output[Run], error) {
		var data any
		if in.Body.Data != nil {
			data = in.Body.Data
		}
		return s.ordered(ctx)(s.engine.Wake(ctx, runRef(ctx, in.ID), in.Body.Key, data))
	})
	signal := post("signal", "/api/runs/{id}/signal/{event...}", "Send an event to a run")
	signal.free, signal.once = true, true
	add(s, signal, func(ctx context.Context, in *signalInput) (*signalOutput, error) {
		if in.Event == "" {
			return nil, badRequest("the path names no event")
		}
		run := runRef(ctx, in.ID)
		info, err := s.goesOn(ctx, run)
		if err != nil {
			return nil, err
		}
		sent, err := s.inbox(ctx, info)
		if err != nil {
			return nil, err
		}
		defer sent()
		_, replayed, err := s.deliver(ctx, pawl.Delivery{Run: run, Event: in.Event, Data: payload(in.Body)})
		if err != nil {
			return nil, err
		}
		out, err := s.ordered(ctx)(s.engine.Get(ctx, run))
		if err != nil {
			return nil, err
		}
		return &signalOutput{Replayed: replayed, Body: out.Body}, nil
	})
	publish := post("publish", "/api/events/{name...}", "Publish an event: to runs that wait for it, and to subscriptions, which start runs")
	publish.free, publish.status, publish.once, publish.queues = true, http.StatusAccepted, true, true
	add(s, publish, s.publish)
	fork := post("fork", "/api/runs/{id}/fork", "Start a new run from the journal of another")
	fork.status, fork.once, fork.queues = http.StatusAccepted, true, true
	add(s, fork, s.fork)
}

// goesOn returns the run that is sent what is sent to an id: that which goes on in its place.
func (s *server) goesOn(ctx context.Context, run pawl.Ref) (info pawl.RunInfo, err error) {
	for range 100 { // of a longer chain what waits in its end is not bounded
		if info, err = s.engine.Get(ctx, run); err != nil || info.Next == "" {
			break
		}
		run.ID = info.Next
	}
	return info, err
}

// publish takes the caller's Idempotency-Key for the event's id: an event is one however often it
// is sent, for as long as it is kept.
func (s *server) publish(ctx context.Context, in *publishInput) (*publishOutput, error) {
	if in.Name == "" {
		return nil, badRequest("the path names no event")
	}
	once, err := s.once(ctx)
	if err != nil {
		return nil, err
	}
	p, err := trigger.Publish(ctx, s.engine, trigger.Event{
		ID: exchangeOf(ctx).r.Header.Get(headerIdempotencyKey), Name: in.Name, Tenant: tenantOf(ctx), Data: payload(in.Body), Keep: in.Keep.Duration,
	})
	return &publishOutput{
		Replayed: once.replayed(p.Repeated),
		Body:     Published{Event: in.Name, ID: p.ID, Count: p.Waiters, Runs: p.Runs, Matches: p.Matches, Pending: p.Pending, Errors: p.Errors},
	}, err
}

// ordered answers an order with the run as it then is.
func (s *server) ordered(ctx context.Context) func(pawl.RunInfo, error) (*output[Run], error) {
	return func(info pawl.RunInfo, err error) (*output[Run], error) {
		if err != nil {
			return nil, err
		}
		run, err := s.full(ctx, info)
		return &output[Run]{run}, err
	}
}

// canEndElse refuses to try a run again whose flow led it to fail: its journal leads there once more.
func (s *server) canEndElse(ctx context.Context, info pawl.RunInfo) error {
	run, err := s.full(ctx, info)
	if err != nil || info.State != pawl.Failed {
		return err
	}
	end, led := flow.Ended(run.Error)
	if !led {
		return nil
	}
	p := newProblem(http.StatusConflict, "state", "run %s came to its flow's end fail, from step %s, and would come there again", info.ID, end.Step)
	if p.Hint = "start another run"; end.After != nil && end.After.Key != "" {
		p.Hint = fmt.Sprintf("fork it, from %s, which had failed: pawl runs fork %s --from '%s'", end.After.Step, info.ID, end.After.Key)
	}
	return p
}

func (s *server) fork(ctx context.Context, in *forkInput) (*runOutput, error) {
	run, q := runRef(ctx, in.ID), in.Body
	if _, err := s.engine.Get(ctx, run); err != nil { // Fork's own error would not name the run
		return nil, err
	}
	once, err := s.once(ctx)
	if err != nil {
		return nil, err
	}
	info, err := s.engine.Fork(ctx, run, pawl.ForkOptions{From: q.From, Input: q.Input, Results: q.Results, ID: cmp.Or(q.ID, once.id)})
	return forked(info, once, err)
}

// forked answers with a run that was made of another.
func forked(info pawl.RunInfo, once once, err error) (*runOutput, error) {
	return &runOutput{Status: http.StatusAccepted, Location: RunPath(info.ID), Replayed: once.replayed(info.Existed), Body: Run{RunInfo: info}}, err
}
