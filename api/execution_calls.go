package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/pawlrun/pawl/flow"
)

// Executions returns a page of runs of flows, newest first. A page before the last may have fewer than the limit.
func (c *Client) Executions(ctx context.Context, q ExecutionQuery) (ExecutionPage, error) {
	query := paged(q.Cursor, q.Limit)
	if q.Workflow != "" {
		query.Set("workflow", q.Workflow)
	}
	for _, state := range q.Status {
		query.Add("status", state.String())
	}
	setTime(query, "since", q.Since)
	setTime(query, "until", q.Until)
	return call[ExecutionPage](ctx, c, http.MethodGet, "/api/executions", query, nil)
}

// Execution tells what a run of a flow has done, is doing and waits for. [pawl.ErrNotFound]: it is of no flow, or is not there.
func (c *Client) Execution(ctx context.Context, id string) (flow.Execution, error) {
	return call[flow.Execution](ctx, c, http.MethodGet, "/api/executions/"+segment(id), nil, nil)
}

func spanned(from, to time.Time) url.Values {
	query := url.Values{}
	setTime(query, "from", from)
	setTime(query, "to", to)
	return query
}

// WorkflowMetrics tells how the runs of a flow have come out: those begun in a span of time, zero times: all that are kept.
func (c *Client) WorkflowMetrics(ctx context.Context, id string, span flow.Span) (flow.Metrics, error) {
	return call[flow.Metrics](ctx, c, http.MethodGet, workflowPath(id)+"/metrics", spanned(span.From, span.To), nil)
}

// WorkflowCosts tells what the runs of a flow have cost in a span of time; zero times: in the last 30 days.
func (c *Client) WorkflowCosts(ctx context.Context, id string, span flow.Span) (flow.Costs, error) {
	return call[flow.Costs](ctx, c, http.MethodGet, workflowPath(id)+"/costs", spanned(span.From, span.To), nil)
}

// Dashboard tells of a page of flows at a glance. limit 0 means 100, which is the most.
func (c *Client) Dashboard(ctx context.Context, cursor string, limit int) (DashboardPage, error) {
	return call[DashboardPage](ctx, c, http.MethodGet, "/dashboard", paged(cursor, limit), nil)
}

// GraphQuery says what of a flow [Client.WorkflowGraph] draws.
type GraphQuery struct {
	Format  string // json, mermaid or svg; "" means json
	Run     string // id of a run of which the way is marked; "": none
	Version int    // 0: that of the run, or the active one, or else the highest
}

// WorkflowGraph draws a flow: JSON that is a [flow.Graph], Mermaid text, or an SVG picture. Of a state machine of the
// program there is Mermaid text only.
func (c *Client) WorkflowGraph(ctx context.Context, id string, q GraphQuery) ([]byte, error) {
	query := url.Values{}
	if q.Format != "" {
		query.Set("format", q.Format)
	}
	if q.Run != "" {
		query.Set("run", q.Run)
	}
	if q.Version != 0 {
		query.Set("version", strconv.Itoa(q.Version))
	}
	res, err := c.do(ctx, http.MethodGet, workflowPath(id)+"/graph", query, nil, http.Header{"Accept": {"*/*"}})
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, c.lost(ctx, err)
	}
	return data, nil
}
