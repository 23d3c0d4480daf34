package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/flow"
)

// ExecutionInfo is a run of a flow, as lists tell of it.
type ExecutionInfo struct {
	ExecutionID string     `json:"executionId" doc:"The run's id."`
	WorkflowID  string     `json:"workflowId"`
	Version     int        `json:"version"`
	Status      pawl.State `json:"status"`
	Reason      string     `json:"reason,omitempty" doc:"Of a run that failed, was cancelled, or stands still."`
	StartedAt   time.Time  `json:"startedAt"`
	CompletedAt time.Time  `json:"completedAt,omitzero"`
}

// ExecutionPage is a page of runs of flows, newest first.
type ExecutionPage struct {
	Items      []ExecutionInfo `json:"items"`
	NextCursor string          `json:"nextCursor,omitempty" doc:"Where the next page begins; left out: this is the last. A page before the last may have fewer than limit, or none, as runs of code are left out."`
}

// ExecutionQuery picks runs of flows for [Client.Executions]. Zero fields do not restrict.
type ExecutionQuery struct {
	Workflow string
	Status   []pawl.State
	Since    time.Time // begun at or after
	Until    time.Time // begun before
	Cursor   string
	Limit    int // 0 means 50; at most 500
}

type executionsInput struct {
	Workflow string   `query:"workflow"`
	Status   []string `query:"status,explode" doc:"One of these states; several are separated by commas, or given one by one."`
	Since    moment   `query:"since" doc:"Begun at or after: a day in UTC or a time."`
	Until    moment   `query:"until" doc:"Begun before."`
	Cursor   string   `query:"cursor"`
	Limit    int      `query:"limit" default:"50" minimum:"1" maximum:"500"`
}

type flowSpanInput struct {
	ID   string `path:"id"`
	Days int    `query:"days" minimum:"1" maximum:"3660" doc:"The days before now. With it, from and to are not given."`
	From moment `query:"from" doc:"At or after: a day in UTC or a time."`
	To   moment `query:"to" doc:"Before."`
}

// span reads it; usual is how many days it has where nothing is said, 0: all.
func (in *flowSpanInput) span(usual int) (flow.Span, error) {
	given := !in.From.Time.IsZero() || !in.To.Time.IsZero()
	switch {
	case in.Days != 0 && given:
		return flow.Span{}, badRequest("days is %d, and from or to is given too: give one or the other", in.Days)
	case given && !in.To.Time.IsZero() && !in.From.Time.Before(in.To.Time):
		return flow.Span{}, badRequest("from is not before to")
	case given:
		return flow.Span{From: in.From.Time, To: in.To.Time}, nil
	case in.Days != 0:
		usual = in.Days
	}
	if usual == 0 {
		return flow.Span{}, nil
	}
	return flow.Span{From: time.Now().UTC().AddDate(0, 0, -usual)}, nil
}

type dashboardInput struct {
	Cursor string `query:"cursor"`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"100"`
}

// DashboardPage is a page of a tenant's flows at a glance, by their ids.
type DashboardPage struct {
	TotalWorkflows  int64                `json:"totalWorkflows" doc:"Of this page."`
	TotalExecutions int64                `json:"totalExecutions" doc:"Of the flows of this page, as far as runs are kept."`
	Workflows       []flow.DashboardFlow `json:"workflows"`
	NextCursor      string               `json:"nextCursor,omitempty" doc:"Where the next page begins; left out: this is the last."`
}

func (s *server) executionRoutes() {
	add(s, route{id: "executions", method: http.MethodGet, path: "/api/executions", scope: RunsRead, summary: "List runs of flows, newest first"}, s.executions)
	add(s, route{id: "execution", method: http.MethodGet, path: "/api/executions/{id}", scope: RunsRead, summary: "Look at what a run of a flow has done, step by step",
		about: "What models were asked, word for word, has /api/runs/{id}/asked."},
		func(ctx context.Context, in *idInput) (*output[flow.Execution], error) {
			flows, err := s.flows()
			if err != nil {
				return nil, err
			}
			x, err := flows.Execution(ctx, tenantOf(ctx), in.ID)
			return &output[flow.Execution]{x}, err
		})
	add(s, route{id: "workflowMetrics", method: http.MethodGet, path: "/api/workflows/{id}/metrics", scope: RunsRead, summary: "Tell how the runs of a flow have come out",
		about: "Of all runs that are kept, or of those begun in a span of time."},
		func(ctx context.Context, in *flowSpanInput) (*output[flow.Metrics], error) {
			flows, span, err := s.flowSpan(in, 0)
			if err != nil {
				return nil, err
			}
			m, err := flows.Metrics(ctx, tenantOf(ctx), in.ID, span)
			return &output[flow.Metrics]{m}, err
		})
	add(s, route{id: "workflowCosts", method: http.MethodGet, path: "/api/workflows/{id}/costs", scope: RunsRead, summary: "Tell what the runs of a flow have cost, by step, model, day, version and prompt",
		about: "Of the last 30 days, or of another span of time, by when the cost was incurred. Calls that failed count too."},
		func(ctx context.Context, in *flowSpanInput) (*output[flow.Costs], error) {
			flows, span, err := s.flowSpan(in, 30)
			if err != nil {
				return nil, err
			}
			c, err := flows.Costs(ctx, tenantOf(ctx), in.ID, span)
			return &output[flow.Costs]{c}, err
		})
	add(s, route{id: "dashboard", method: http.MethodGet, path: "/dashboard", scope: RunsRead, page: "/ui/", also: []int{http.StatusSeeOther}, summary: "All flows at a glance",
		about: "A browser, which accepts text/html, is sent to the dashboard at /ui/."}, s.dashboard)
}

func (s *server) flowSpan(in *flowSpanInput, usual int) (*flow.Registry, flow.Span, error) {
	flows, err := s.flows()
	if err != nil {
		return nil, flow.Span{}, err
	}
	span, err := in.span(usual)
	return flows, span, err
}

// executions lists runs and leaves out those that are of no flow.
func (s *server) executions(ctx context.Context, in *executionsInput) (*output[ExecutionPage], error) {
	flows, err := s.flows()
	if err != nil {
		return nil, err
	}
	f := pawl.Filter{Tenant: tenantOf(ctx), Workflow: in.Workflow, After: in.Since.Time, Before: in.Until.Time, Limit: in.Limit + 1}
	if f.States, err = statesOf(in.Status); err != nil {
		return nil, err
	}
	if f.Cursor, err = readNumber("execution:", in.Cursor); err != nil {
		return nil, err
	}
	if in.Workflow != "" {
		if _, err := flows.Get(ctx, f.Tenant, in.Workflow); err != nil {
			return nil, err
		}
	}
	runs, err := s.engine.List(ctx, f)
	if err != nil {
		return nil, err
	}
	page := ExecutionPage{Items: []ExecutionInfo{}}
	if len(runs) == f.Limit {
		runs = runs[:in.Limit]
		page.NextCursor = mark("execution:", strconv.FormatInt(runs[in.Limit-1].Key, 10))
	}
	for _, r := range runs {
		version, err := strconv.Atoi(r.Version)
		if err != nil || !flows.Is(r.Workflow) {
			continue
		}
		page.Items = append(page.Items, ExecutionInfo{
			ExecutionID: r.ID, WorkflowID: r.Workflow, Version: version, Status: r.State, Reason: r.Reason, StartedAt: r.Created, CompletedAt: r.Ended,
		})
	}
	return &output[ExecutionPage]{page}, nil
}

// statesOf reads names of states, separated by commas or one by one.
func statesOf(lists []string) (states []pawl.State, err error) {
	for _, names := range lists {
		for name := range strings.SplitSeq(names, ",") {
			state, err := pawl.ParseState(name)
			if err != nil {
				return nil, badRequest("%s", plain(err))
			}
			states = append(states, state)
		}
	}
	return states, nil
}

func (s *server) dashboard(ctx context.Context, in *dashboardInput) (*output[DashboardPage], error) {
	flows, err := s.flows()
	if err != nil {
		return nil, err
	}
	after, err := readMark("dashboard:", in.Cursor)
	if err != nil {
		return nil, err
	}
	d, err := flows.Dashboard(ctx, tenantOf(ctx), after, in.Limit)
	if err != nil {
		return nil, err
	}
	page := DashboardPage{TotalWorkflows: d.TotalWorkflows, TotalExecutions: d.TotalExecutions, Workflows: d.Workflows}
	if d.After != "" {
		page.NextCursor = mark("dashboard:", d.After)
	}
	return &output[DashboardPage]{page}, nil
}

// wantsPage reports whether a request is a browser's that is to show a page.
func wantsPage(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/html")
}

// Media types of a graph.
const (
	svgType     = "image/svg+xml"
	mermaidType = "text/vnd.mermaid"
	jsonType    = "application/json"
)

type graphInput struct {
	ID      string `path:"id"`
	Format  string `query:"format" default:"json" enum:"json,mermaid,svg"`
	Run     string `query:"run" doc:"Id of a run of the flow, of which the way is marked."`
	Version int    `query:"version" minimum:"1" doc:"Of the flow; left out: that of the run, or the active one, or else the highest."`
}

type graphOutput struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

func (s *server) graphRoutes() {
	r := route{id: "workflowGraph", method: http.MethodGet, path: "/api/workflows/{id}/graph", scope: RunsRead, media: jsonType + " " + mermaidType + " " + svgType,
		summary: "Draw a flow, and the way of a run", about: "As nodes and edges, as Mermaid text or as a picture. Of a state machine of the program there is Mermaid text only."}
	add(s, r, s.graph)
	answer := s.api.OpenAPI().Paths[r.path].Get.Responses[strconv.Itoa(http.StatusOK)]
	answer.Content[jsonType].Schema = s.schemaOf(flow.Graph{})
}

func (s *server) graph(ctx context.Context, in *graphInput) (*graphOutput, error) {
	flows, err := s.flows()
	if err != nil {
		return nil, err
	}
	tenant := tenantOf(ctx)
	head, err := flows.Get(ctx, tenant, in.ID)
	if err != nil {
		if s.opt.Draw != nil && s.opt.Draw(in.ID) != "" {
			return s.machineGraph(in)
		}
		return nil, err
	}
	version := in.Version
	if version == 0 {
		if version = head.Active; version == 0 {
			version = head.Latest
		}
	}
	var x flow.Execution
	if in.Run != "" {
		info, err := s.engine.Get(ctx, runRef(ctx, in.Run))
		if err == nil && info.Workflow != in.ID {
			err = fmt.Errorf("run %s: %w: it is no run of this flow", in.Run, pawl.ErrNotFound)
		}
		if err != nil {
			return nil, err
		}
		if x, err = flows.Execution(ctx, tenant, in.Run); err != nil {
			return nil, err
		}
		if in.Version == 0 {
			version = x.Version
		}
	}
	f, err := flows.Flow(ctx, tenant, in.ID, version)
	if err != nil {
		return nil, err
	}
	g := f.Graph()
	if in.Run != "" {
		g = g.Mark(x)
	}
	switch in.Format {
	case "mermaid":
		return &graphOutput{mermaidType, []byte(strings.TrimRight(g.Mermaid(), "\n"))}, nil
	case "svg":
		picture, err := g.SVG()
		return &graphOutput{svgType, []byte(strings.TrimRight(picture, "\n"))}, err
	}
	data, err := json.Marshal(g)
	return &graphOutput{jsonType, data}, err
}

// machineGraph draws a state machine of the program.
func (s *server) machineGraph(in *graphInput) (*graphOutput, error) {
	switch {
	case in.Format != "mermaid":
		return nil, badRequest("%s is a state machine of the program, of which there is Mermaid text only: ask for format=mermaid", in.ID)
	case in.Run != "" || in.Version != 0:
		return nil, badRequest("%s is a state machine of the program: it has no versions, and its runs are not marked", in.ID)
	}
	return &graphOutput{mermaidType, []byte(strings.TrimRight(s.opt.Draw(in.ID), "\n"))}, nil
}
