package api

import (
	"context"
	"net/http"
	"time"

	"github.com/pawlrun/pawl"
)

// CostQuery picks what [Client.Costs] sums. Zero fields do not restrict.
type CostQuery struct {
	By       pawl.CostBy // what to sum apart; "" all in one
	Run      string
	Family   bool // with Run: also of its children, of theirs, and of runs that these went on as
	Workflow string
	Step     string
	Item     string    // what was bought: a model, as provider/model
	Meter    string    // usd, or what a program counts besides
	From, To time.Time // by when the cost was incurred
}

// CostList is sums of the ledger, largest first, at most 1,000.
type CostList struct {
	Items []pawl.Cost `json:"items"`
}

type costInput struct {
	By       string `query:"by" enum:"run,step,item,workflow,day,version,label" doc:"What to sum apart; left out: all in one."`
	Run      string `query:"run"`
	Family   string `query:"family" enum:"true,false" doc:"With run: also of its children, of theirs, and of runs that these went on as."`
	Workflow string `query:"workflow"`
	Step     string `query:"step" doc:"Name of the steps."`
	Item     string `query:"item" doc:"What was bought: a model, as provider/model."`
	Meter    string `query:"meter" doc:"usd, or what a program counts besides."`
	From     moment `query:"from" doc:"Incurred at or after: a day in UTC or a time."`
	To       moment `query:"to" doc:"Incurred before."`
}

func (s *server) costRoutes() {
	add(s, route{id: "costs", method: http.MethodGet, path: "/api/costs", scope: RunsRead, summary: "Sum what runs have cost, largest first"},
		func(ctx context.Context, in *costInput) (*output[CostList], error) {
			costs, err := s.engine.Costs(ctx, pawl.CostFilter{By: pawl.CostBy(in.By), ChargeFilter: pawl.ChargeFilter{
				Tenant: tenantOf(ctx), RunID: in.Run, Family: in.Family == "true", Workflow: in.Workflow, Step: in.Step, Item: in.Item, Meter: in.Meter,
				From: in.From.Time, To: in.To.Time,
			}})
			return &output[CostList]{CostList{Items: append([]pawl.Cost{}, costs...)}}, err
		})
}
