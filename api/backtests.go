package api

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/flow"
)

// WorkflowBacktestRequest says which decisions of past runs of a flow to ask again, and how they differ: at least one of model,
// system, prompt, promptRef, temperature, maxTokens and flow.
type WorkflowBacktestRequest struct {
	Step string `json:"step" doc:"Id of an ai-decision; where several have it, the place of one: parallel.branch/step, map/step."`

	Model       string   `json:"model,omitempty" doc:"Another model, as provider/model."`
	System      *string  `json:"system,omitempty" doc:"Other instructions."`
	Prompt      string   `json:"prompt,omitempty" doc:"A text in place of the question; {{prompt}} in it stands for that."`
	PromptRef   string   `json:"promptRef,omitempty" doc:"A prompt of the registry in place of the question, name@version, filled in with the run's variables."`
	Temperature *float64 `json:"temperature,omitempty"`
	MaxTokens   int      `json:"maxTokens,omitempty" minimum:"0"`
	// Flow has the step as it is asked now.
	Flow json.RawMessage `json:"flow,omitempty" doc:"The flow with the step changed, as an object or as a text, which may be YAML. It is checked as a deployment is, and not deployed."`

	Runs  []string  `json:"runs,omitempty" maxItems:"500" doc:"Ids of runs to look into; left out: the newest."`
	Since time.Time `json:"since,omitzero" doc:"Of the newest, only runs made since then."`
	Limit int       `json:"limit,omitempty" minimum:"0" maximum:"500" doc:"How many of the newest; 0 means 50."`

	MaxUSD   *float64 `json:"maxUsd,omitempty" doc:"The most that it may cost; left out: 1. Questions for which too little is left are not asked, and the report counts them."`
	Parallel int      `json:"parallel,omitempty" minimum:"0" maximum:"64" doc:"How many questions are asked at once; left out: 16."`
	DryRun   bool     `json:"dryRun,omitempty" doc:"Only tell what it would ask, and what that is likely to cost: nothing is asked."`
	ID       string   `json:"id,omitempty" doc:"Of the run that asks."`
}

// WorkflowBacktest is what a backtest asks, and the run that does.
type WorkflowBacktest struct {
	Step     string         `json:"step" doc:"The name of the step in journals."`
	Estimate agent.Estimate `json:"estimate" doc:"What it asks, and what that is likely to cost."`
	Run      *Run           `json:"run,omitempty" doc:"The run that asks, whose result is the report; left out: nothing is asked."`
}

type workflowBacktestInput struct {
	ID   string `path:"id"`
	Wait span   `query:"wait" doc:"Answer when the run has ended, or after this, at most 10m."`
	Body WorkflowBacktestRequest
}

type workflowBacktestOutput struct {
	Status   int
	Location string `header:"Location" doc:"The path of the run that was made."`
	Replayed string `header:"Idempotency-Replayed" doc:"true: the request was carried out before."`
	Body     WorkflowBacktest
}

func (s *server) backtestRoute() {
	add(s, route{id: "backtestWorkflow", method: http.MethodPost, path: "/api/workflows/{id}/backtest", scope: ModelsWrite, with: ModelsRead, once: true, queues: true, status: http.StatusAccepted, also: []int{http.StatusOK},
		summary: "Ask a decision of past runs of a flow again, with something changed",
		about:   "It takes the scope models:read too, as it shows what models say. Runs are not changed. 202: a run asks, and its result is the report. 200: it has ended, or, with dryRun, this is what it would ask and what that is likely to cost."}, s.backtestWorkflow)
}

func (s *server) backtestWorkflow(ctx context.Context, in *workflowBacktestInput) (*workflowBacktestOutput, error) {
	flows, err := s.flows()
	if err != nil {
		return nil, err
	}
	q := in.Body
	budget := 1.0
	if q.MaxUSD != nil {
		budget = *q.MaxUSD
	}
	if !(budget > 0) || math.IsInf(budget, 0) {
		return nil, badRequest("maxUsd is %v; it must be above 0", budget)
	}
	test, estimate, err := flows.PlanBacktest(ctx, flow.Backtest{
		Tenant: tenantOf(ctx), Flow: in.ID, Step: q.Step, Runs: q.Runs, Since: q.Since, Limit: q.Limit, Parallel: q.Parallel,
		Change:    agent.Change{Model: q.Model, System: q.System, Prompt: q.Prompt, Temperature: q.Temperature, MaxTokens: q.MaxTokens},
		PromptRef: q.PromptRef, Document: documentOf(q.Flow),
	})
	if err != nil {
		return nil, s.noFlow(in.ID, err)
	}
	out := WorkflowBacktest{Step: test.Step, Estimate: estimate}
	if q.DryRun {
		return &workflowBacktestOutput{Status: http.StatusOK, Body: out}, nil
	}
	if estimate.Questions == 0 {
		return nil, nothingToAsk(in.ID, q.Step, &estimate)
	}
	input, err := json.Marshal(test)
	if err != nil {
		return nil, err
	}
	run, err := s.start(ctx, &startInput{Wait: in.Wait, Body: StartRequest{Workflow: flow.Backtests, Input: input, ID: q.ID, BudgetUSD: &budget}})
	if err != nil {
		return nil, err
	}
	out.Run = &run.Body
	return &workflowBacktestOutput{run.Status, run.Location, run.Replayed, out}, nil
}

// documentOf is a flow that is sent as a part of a body: the text of a text, or else the JSON as it is.
func documentOf(sent json.RawMessage) []byte {
	var text string
	switch {
	case len(sent) == 0 || string(sent) == "null":
		return nil
	case json.Unmarshal(sent, &text) == nil:
		return []byte(text)
	}
	return sent
}

// nothingToAsk is the problem of a backtest that would ask nothing.
func nothingToAsk(id, step string, e *agent.Estimate) *Problem {
	p := newProblem(http.StatusNotFound, problemOf(pawl.ErrNotFound).Code, "none of the %d runs of %s has a question of step %s that can be asked again", e.Runs, id, step)
	switch {
	case e.Unfit > 0:
		p.Hint = "the change does not fit them: " + e.Why
	case e.Absent > 0:
		p.Hint = "their words are not in the journals any more"
	case e.Unanswered > 0:
		p.Hint = "none of them was answered then"
	default:
		p.Hint = "none of the runs has come to the step; take older ones, with since and limit"
	}
	return p
}
