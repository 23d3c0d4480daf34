package api

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
)

// AskingPage is a page of what a run has asked models, in the order in which the requests ended.
type AskingPage struct {
	Items      []agent.Asking `json:"items"`
	NextCursor string         `json:"nextCursor,omitempty" doc:"Where the next page begins; left out: this is the last so far."`
}

// ForkAskedRequest says at which step a run is forked, and what is asked there.
type ForkAskedRequest struct {
	Step      string       `json:"step" doc:"Key of a step that has asked a model."`
	Change    agent.Change `json:"change" doc:"How the question differs; what is left out stays."`
	ID        string       `json:"id,omitempty" doc:"Of the new run; left out: made of all the above, so that the same request is the same run."`
	BudgetUSD *float64     `json:"budgetUsd,omitempty"`
}

// BacktestRequest says which questions of past runs to ask again, and how they differ.
type BacktestRequest struct {
	Step      string       `json:"step" doc:"Name of the steps, as ask or tools/ask."`
	Runs      []string     `json:"runs" doc:"Ids of the runs whose questions are asked."`
	Change    agent.Change `json:"change"`
	BudgetUSD *float64     `json:"budgetUsd,omitempty" doc:"The most that it may cost; left out: 1."`
	Parallel  int          `json:"parallel,omitempty" doc:"How many questions are asked at once; left out: 16."`
	ID        string       `json:"id,omitempty" doc:"Of the run that asks."`
}

type askedInput struct {
	ID     string `path:"id"`
	Cursor string `query:"cursor"`
	Limit  int    `query:"limit" default:"20" minimum:"1" maximum:"100"`
}

type forkAskedInput struct {
	ID   string `path:"id"`
	Body ForkAskedRequest
}

type backtestInput struct {
	Wait span `query:"wait" doc:"Answer when the run has ended, or after this, at most 10m."`
	Body BacktestRequest
}

func (s *server) askedRoutes() {
	add(s, route{id: "asked", method: http.MethodGet, path: "/api/runs/{id}/asked", scope: ModelsRead, summary: "Read what a run has asked models, whole"}, s.asked)
	add(s, route{id: "forkAsked", method: http.MethodPost, path: "/api/runs/{id}/fork-asked", scope: ModelsWrite, once: true, queues: true, status: http.StatusAccepted,
		summary: "Fork a run at a step that has asked a model, with the question changed"}, s.forkAsked)
	add(s, route{id: "backtest", method: http.MethodPost, path: "/api/backtests", scope: ModelsWrite, once: true, queues: true, status: http.StatusAccepted, also: []int{http.StatusOK},
		summary: "Ask the questions of past runs again, with something changed", about: "It is a run; its result is the report."}, s.backtest)
}

func (s *server) asked(ctx context.Context, in *askedInput) (*output[AskingPage], error) {
	begin, err := readNumber("asked:", in.Cursor)
	if err != nil {
		return nil, err
	}
	if _, err := s.engine.Get(ctx, runRef(ctx, in.ID)); err != nil {
		return nil, err
	}
	page := AskingPage{Items: []agent.Asking{}}
	n, size := int64(0), 0
	for a, err := range agent.Asked(ctx, s.engine, runRef(ctx, in.ID)) {
		if err != nil {
			return nil, err
		}
		if n++; n <= begin {
			continue
		}
		if len(page.Items) == in.Limit || size > maxPageBytes {
			page.NextCursor = mark("asked:", strconv.FormatInt(n-1, 10))
			break
		}
		if a.Response != nil {
			size += len(a.Response.Raw)
		}
		if a.Request != nil {
			for _, m := range a.Request.Messages {
				size += len(m.Content)
			}
		}
		page.Items = append(page.Items, a)
	}
	return &output[AskingPage]{page}, nil
}

func (s *server) forkAsked(ctx context.Context, in *forkAskedInput) (*runOutput, error) {
	once, err := s.once(ctx)
	if err != nil {
		return nil, err
	}
	f := agent.Refork{Run: runRef(ctx, in.ID), Step: in.Body.Step, Change: in.Body.Change, ID: cmp.Or(in.Body.ID, once.id)}
	if in.Body.BudgetUSD != nil {
		f.Options = append(f.Options, pawl.BudgetUSD(*in.Body.BudgetUSD))
	}
	info, err := agent.ForkAsked(ctx, s.engine, f)
	return forked(info, once, err)
}

func (s *server) backtest(ctx context.Context, in *backtestInput) (*runOutput, error) {
	q := in.Body
	if q.Step == "" || len(q.Runs) == 0 {
		return nil, badRequest("a backtest needs the fields \"step\", the name of steps, and \"runs\", ids of runs to look into")
	}
	test := agent.Backtest{Step: q.Step, Change: q.Change, Parallel: q.Parallel}
	for _, id := range q.Runs {
		run := runRef(ctx, id)
		if _, err := s.engine.Get(ctx, run); err != nil {
			return nil, err
		}
		test.Runs = append(test.Runs, run)
	}
	input, err := json.Marshal(test)
	if err != nil {
		return nil, err
	}
	budget := 1.0
	if q.BudgetUSD != nil {
		budget = *q.BudgetUSD
	}
	return s.start(ctx, &startInput{Wait: in.Wait, Body: StartRequest{Workflow: "agent.backtest", Input: input, ID: q.ID, BudgetUSD: &budget}})
}
