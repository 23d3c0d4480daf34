package api_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/api"
)

func TestCostsAreSummed(t *testing.T) {
	buys := pawl.Define("buys", func(c *pawl.Context, amount int64) (any, error) {
		return nil, pawl.Do(c, "buy", func(ctx context.Context) error {
			money, err := pawl.Spend(ctx, pawl.Spending{Item: "paper", Most: 100})
			if err != nil {
				return err
			}
			return money.Settle(amount, false, nil)
		})
	})
	h := open(t, api.Options{}, pawl.Define("delegates", func(c *pawl.Context, amount int64) (any, error) { return buys.Call(c, amount) }, pawl.Uses(buys)))
	var run api.Run
	h.ok(200, "POST", "/api/runs?wait=20s", `{"workflow":"delegates","id":"over","input":3}`, &run)
	for id, amount := range map[string]string{"a": "10", "b": "30"} {
		h.ok(200, "POST", "/api/runs?wait=20s", `{"workflow":"buys","id":"`+id+`","input":`+amount+`}`, &run)
	}
	sums := func(q api.CostQuery) (out []int64) {
		t.Helper()
		list, err := h.client.Costs(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list.Items {
			out = append(out, c.Amount)
		}
		return out
	}
	for name, c := range map[string]struct {
		q    api.CostQuery
		want []int64
	}{
		"all":         {api.CostQuery{}, []int64{43}},
		"by run":      {api.CostQuery{By: pawl.ByRun}, []int64{30, 10, 3}},
		"of a run":    {api.CostQuery{Run: "a"}, []int64{10}},
		"with family": {api.CostQuery{Run: "over", Family: true, By: pawl.ByRun}, []int64{3}},
		"of an item":  {api.CostQuery{Item: "paper", Workflow: "buys", Step: "buy", Meter: pawl.USD}, []int64{43}},
		"of another":  {api.CostQuery{Item: "pens"}, nil},
		"of today":    {api.CostQuery{From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour)}, []int64{43}},
		"of tomorrow": {api.CostQuery{From: time.Now().Add(time.Hour)}, nil},
	} {
		if got := sums(c.q); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	h.refused(400, "bad_request", "GET", "/api/costs?by=color", "")
	h.refused(400, "bad_request", "GET", "/api/costs?run=a&family=all", "")
	h.refused(400, "bad_request", "GET", "/api/costs?from=yesterday", "")
	h.refused(400, "bad_request", "GET", "/api/costs?since=1h", "")
	// A budget given with the start bounds the run.
	run = api.Run{}
	h.ok(200, "POST", "/api/runs?wait=20s", `{"workflow":"buys","input":10,"budgetUsd":0.00005}`, &run)
	if run.State != pawl.Failed || run.Error.Cause == nil || run.Error.Cause.Code != "budget" {
		t.Errorf("beyond its budget the run is %v: %+v", run.State, run.Error)
	}
	h.refused(400, "input", "POST", "/api/runs", `{"workflow":"buys","input":10,"budgetUsd":-1}`)
}
