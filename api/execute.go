package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/pawlrun/pawl"
)

// Execution is a run that was started, and with a wait, how it ended.
type Execution struct {
	ExecutionID string          `json:"executionId" doc:"The run's id."`
	WorkflowID  string          `json:"workflowId"`
	Version     string          `json:"version,omitempty" doc:"Of the flow, or of the code where it has a name."`
	Status      string          `json:"status" doc:"started; with a wait, the state that the run is in."`
	Existed     bool            `json:"existed,omitempty" doc:"The request was carried out before."`
	Output      json.RawMessage `json:"output,omitempty" doc:"Of a completed run: that of its last step."`
	Error       *pawl.Failure   `json:"error,omitempty" doc:"Of a failed or cancelled run."`
}

type executeInput struct {
	ID          string `path:"id"`
	Version     int    `query:"version" minimum:"1" doc:"Of a flow; left out: the active one, or by its share the canary."`
	Wait        span   `query:"wait" doc:"Answer when the run has ended, or after this, at most 10m."`
	Traceparent string `header:"Traceparent" doc:"The W3C trace that the run belongs to."`
	Body        json.RawMessage
}

type executeOutput struct {
	Status   int
	Location string `header:"Location" doc:"The path of the run."`
	Replayed string `header:"Idempotency-Replayed" doc:"true: the request was carried out before."`
	Body     Execution
}

func (s *server) executeRoutes() {
	add(s, route{id: "execute", method: http.MethodPost, path: "/api/workflows/{id}/execute", scope: RunsStart, once: true, queues: true, status: http.StatusAccepted, also: []int{http.StatusOK},
		summary: "Start a run; the body is its variables", about: "202: it is durable. 200: it has ended, or had when it was asked for again."}, s.execute)
}

func (s *server) execute(ctx context.Context, in *executeInput) (*executeOutput, error) {
	var opts []pawl.StartOption
	if in.Version != 0 {
		if s.opt.Flows == nil || !s.opt.Flows.Is(in.ID) {
			if err := s.versioned(ctx, in.ID); err != nil {
				return nil, err
			}
		}
		opts = append(opts, pawl.AtVersion(strconv.Itoa(in.Version)))
	}
	out, err := s.begin(ctx, &startInput{in.Wait, in.Traceparent, StartRequest{Workflow: in.ID, Input: in.Body}}, opts...)
	if err != nil {
		return nil, err
	}
	run := out.Body
	e := Execution{ExecutionID: run.ID, WorkflowID: run.Workflow, Version: run.Version, Status: run.State.String(), Existed: run.Existed, Output: run.Result, Error: run.Error}
	if in.Wait.Duration == 0 && !run.State.Terminal() {
		e.Status = "started"
	}
	return &executeOutput{Status: out.Status, Location: out.Location, Replayed: out.Replayed, Body: e}, nil
}

// versioned refuses a version of what has none.
func (s *server) versioned(ctx context.Context, id string) error {
	flows, err := s.flows()
	if err != nil {
		return err
	}
	_, err = flows.Find(ctx, tenantOf(ctx), id)
	if errors.Is(err, pawl.ErrUnknown) {
		if _, werr := s.engine.Workflow(id); werr == nil {
			return badRequest("%s is a workflow of the program: only flows, which are deployed, have versions to start", id)
		}
		return s.unknownWorkflow(ctx, id)
	}
	return err
}
