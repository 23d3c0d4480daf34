package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/pawlrun/pawl/flow"
	"github.com/pawlrun/pawl/trigger"
)

// TriggerList are the triggers of a flow, in the order of its document.
type TriggerList struct {
	Items []flow.TriggerInfo `json:"items"`
}

// TestTriggerRequest is the sample with which a trigger is tried. It may be left out.
type TestTriggerRequest struct {
	ID      string            `json:"id,omitempty" doc:"Of the event or the delivery."`
	Data    json.RawMessage   `json:"data,omitempty" doc:"Of the event; of a request its body, as JSON, also where a form is taken."`
	Headers map[string]string `json:"headers,omitempty" doc:"Of the request."`
	Query   map[string]string `json:"query,omitempty" doc:"Of the request."`
	DryRun  bool              `json:"dryRun,omitempty" doc:"Only say what would happen."`
}

type workflowTriggersInput struct {
	ID string `path:"id"`
}

type testTriggerInput struct {
	ID   string `path:"id"`
	N    int    `path:"n" minimum:"0" doc:"The trigger's place in the document, from 0."`
	Body TestTriggerRequest
}

func (s *server) triggerRoutes() {
	add(s, route{id: "workflowTriggers", method: http.MethodGet, path: "/api/workflows/{id}/triggers", scope: WorkflowsRead, summary: "List the triggers of a flow",
		about: "They are those of its active version, or of the latest if none is active."}, func(ctx context.Context, in *workflowTriggersInput) (*output[TriggerList], error) {
		flows, err := s.flows()
		if err != nil {
			return nil, err
		}
		all, err := flows.Triggers(ctx, tenantOf(ctx), in.ID)
		return &output[TriggerList]{TriggerList{append([]flow.TriggerInfo{}, all...)}}, err
	})
	add(s, route{id: "testTrigger", method: http.MethodPost, path: "/api/workflows/{id}/triggers/{n}/test", scope: RunsStart, queues: true, summary: "Try a trigger of a flow with a sample",
		about: "The run starts at once, whatever debounce, batch, rateLimit and singleton say, and has the attribute test. With dryRun none is started."},
		func(ctx context.Context, in *testTriggerInput) (*output[flow.Fired], error) {
			flows, err := s.flows()
			if err != nil {
				return nil, err
			}
			q := in.Body
			fired, err := flows.Fire(ctx, tenantOf(ctx), in.ID, in.N, trigger.Sample{ID: q.ID, Data: q.Data, Headers: q.Headers, Query: q.Query}, q.DryRun)
			return &output[flow.Fired]{fired}, err
		})
}

// WorkflowTriggers returns the triggers of a flow's active version, or of the latest if none is active.
func (c *Client) WorkflowTriggers(ctx context.Context, id string) (TriggerList, error) {
	return call[TriggerList](ctx, c, http.MethodGet, workflowPath(id)+"/triggers", nil, nil)
}

// TestTrigger tries a trigger of a flow, by its place in the document, and starts a run unless it is a dry run.
func (c *Client) TestTrigger(ctx context.Context, id string, n int, q TestTriggerRequest) (flow.Fired, error) {
	return call[flow.Fired](ctx, c, http.MethodPost, workflowPath(id)+"/triggers/"+strconv.Itoa(n)+"/test", nil, q)
}
