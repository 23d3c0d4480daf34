package flow

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/pawlrun/pawl"
)

// Metrics are how the runs of a flow have come out and what they have cost. They are sums of the run table, as far as
// runs are kept, and of the ledger. Texts are for people; each has its number beside it.
type Metrics struct {
	WorkflowID string `json:"workflowId"`
	Tally
	Last24h Tally `json:"last24h"`
	// ByVersion has what each version of the flow did, by its number.
	ByVersion map[string]Count `json:"byVersion"`
	// Since: runs that began before it were not counted, as there are more than 100,000. Zero: all were.
	Since time.Time `json:"since,omitzero"`
}

// Count counts runs.
type Count struct {
	TotalExecutions int64    `json:"totalExecutions"`
	Completed       int64    `json:"completed"`
	Failed          int64    `json:"failed"`
	Cancelled       int64    `json:"cancelled"`
	Running         int64    `json:"running"`      // all that have not ended
	SuccessRate     string   `json:"successRate"`  // "95.7%": of the runs that completed or failed; "N/A" of none
	SuccessRatio    *float64 `json:"successRatio"` // null of none
}

// Tally are the sums of a span of time: runs by when they began, costs by when they were incurred.
type Tally struct {
	Count
	// Costs are null if a part of them is not known; see Counted.
	TotalCost           *string  `json:"totalCost"` // "$0.0312"
	TotalCostUSD        *float64 `json:"totalCostUsd"`
	TotalCostMicroUSD   *int64   `json:"totalCostMicroUsd"`
	AvgCostPerExecution *string  `json:"avgCostPerExecution"`
	AvgCostMicroUSD     *int64   `json:"avgCostMicroUsd"`
	OpenMicroUSD        int64    `json:"openMicroUsd"` // the part that is reserved for calls that are under way or were cut off
	Counted
	AvgDurationMs int64 `json:"avgDurationMs"` // of completed runs, from their start to their end
	P50DurationMs int64 `json:"p50DurationMs"`
	P95DurationMs int64 `json:"p95DurationMs"`
	P99DurationMs int64 `json:"p99DurationMs"`
}

// Span is a span of time: from its first moment on, before its last. Zero: whenever.
type Span struct{ From, To time.Time }

// Metrics tells how the runs of a flow have come out. pawl.ErrNotFound: there is no such flow.
func (r *Registry) Metrics(ctx context.Context, tenant, id string, in Span) (Metrics, error) {
	if _, err := r.head(ctx, tenant, id); err != nil {
		return Metrics{}, err
	}
	return r.metrics(ctx, tenant, id, in)
}

func (r *Registry) metrics(ctx context.Context, tenant, id string, in Span) (m Metrics, err error) {
	m.WorkflowID = id
	var all, day pawl.Tally
	if m.Tally, all, err = r.tally(ctx, tenant, id, in); err != nil {
		return m, err
	}
	now := time.Now()
	if m.Last24h, day, err = r.tally(ctx, tenant, id, Span{From: now.Add(-24 * time.Hour), To: now.Add(time.Minute)}); err != nil {
		return m, err
	}
	m.Since = all.Since
	if m.Since.IsZero() {
		m.Since = day.Since
	}
	m.ByVersion = map[string]Count{}
	for _, c := range all.Counts {
		of := m.ByVersion[c.Version]
		of.add(c)
		m.ByVersion[c.Version] = of
	}
	for version, c := range maps.Clone(m.ByVersion) {
		c.rate()
		m.ByVersion[version] = c
	}
	return m, nil
}

// tally sums up a span of time.
func (r *Registry) tally(ctx context.Context, tenant, id string, in Span) (t Tally, of pawl.Tally, err error) {
	of, err = r.engine.Tally(ctx, pawl.TallyFilter{Tenant: tenant, Workflow: id, From: in.From, To: in.To})
	if err != nil {
		return t, of, err
	}
	for _, c := range of.Counts {
		t.add(c)
	}
	t.rate()
	from := in.From
	if of.Since.After(from) { // costs of runs that are not counted would not be of these
		from = of.Since
	}
	sums, err := r.engine.Costs(ctx, pawl.CostFilter{ChargeFilter: pawl.ChargeFilter{Tenant: tenant, Workflow: id, Meter: pawl.USD, From: from, To: in.To}})
	if err != nil {
		return t, of, err
	}
	for _, sum := range sums { // there is one, or none
		t.Counted, t.OpenMicroUSD = countedOf(&sum), sum.Open
	}
	t.TotalCostMicroUSD, t.TotalCostUSD, t.TotalCost = t.micro(), t.usd(), t.dollars()
	if t.AvgCostMicroUSD = t.each(t.TotalExecutions); t.AvgCostMicroUSD != nil {
		avg := Dollars(*t.AvgCostMicroUSD)
		t.AvgCostPerExecution = &avg
	}
	t.AvgDurationMs, t.P50DurationMs = of.Took.Mean.Milliseconds(), of.Took.P50.Milliseconds()
	t.P95DurationMs, t.P99DurationMs = of.Took.P95.Milliseconds(), of.Took.P99.Milliseconds()
	return t, of, nil
}

func (c *Count) add(of pawl.RunCount) {
	c.TotalExecutions += of.Runs
	switch of.State {
	case pawl.Completed:
		c.Completed += of.Runs
	case pawl.Failed:
		c.Failed += of.Runs
	case pawl.Cancelled:
		c.Cancelled += of.Runs
	default:
		c.Running += of.Runs
	}
}

// rate tells how many of those that ended by themselves completed.
func (c *Count) rate() {
	c.SuccessRate = "N/A"
	if ended := c.Completed + c.Failed; ended > 0 {
		ratio := float64(c.Completed) / float64(ended)
		c.SuccessRate, c.SuccessRatio = fmt.Sprintf("%.1f%%", 100*ratio), &ratio
	}
}

// Dollars writes millionths of a US dollar for people: "$0.0312", and what is less than a hundredth of a cent with all
// that there is.
func Dollars(micro int64) string {
	sign := ""
	if micro < 0 {
		sign, micro = "-", -micro
	}
	if micro > 0 && micro < 100 {
		return fmt.Sprintf("%s$0.%06d", sign, micro)
	}
	micro += 50
	return fmt.Sprintf("%s$%d.%04d", sign, micro/1e6, micro%1e6/100)
}

// Costs are what the model calls of a flow's runs have cost, failed ones too, by the ledger: in a span of time, by when
// they were incurred. What its children have cost is theirs. Costs are null if a part of them is not known; see Counted.
type Costs struct {
	WorkflowID        string    `json:"workflowId"`
	Period            string    `json:"period"` // in words
	From              time.Time `json:"from,omitzero"`
	To                time.Time `json:"to,omitzero"`
	TotalExecutions   int64     `json:"totalExecutions"` // runs that began in the period, as far as they are kept
	TotalCost         *string   `json:"totalCost"`
	TotalCostUSD      *float64  `json:"totalCostUsd"`
	TotalCostMicroUSD *int64    `json:"totalCostMicroUsd"`
	Counted
	CostByStep map[string]StepCost `json:"costByStep"` // by the step's place, as ask or all.b/ask
	ByModel    map[string]StepCost `json:"byModel"`
	ByDay      map[string]StepCost `json:"byDay"` // by days in UTC: 2026-11-21
	ByVersion  map[string]StepCost `json:"byVersion"`
	ByPrompt   map[string]StepCost `json:"byPrompt"` // by name@version of prompts of the registry; of others nothing
}

// StepCost is a sum and what it is of. Costs are null if a part of them is not known; see Counted.
type StepCost struct {
	TotalCost         *string  `json:"totalCost"`
	TotalCostUSD      *float64 `json:"totalCostUsd"`
	TotalCostMicroUSD *int64   `json:"totalCostMicroUsd"`
	AvgCost           *string  `json:"avgCost"` // of an invocation
	AvgCostMicroUSD   *int64   `json:"avgCostMicroUsd"`
	Counted
	Invocations int64 `json:"invocations"` // of a step: how often runs came to it and asked; else runs
	Calls       int64 `json:"calls"`       // of models: an invocation may take several
}

// Costs tells what a flow has cost. pawl.ErrNotFound: there is no such flow.
func (r *Registry) Costs(ctx context.Context, tenant, id string, in Span) (Costs, error) {
	if _, err := r.head(ctx, tenant, id); err != nil {
		return Costs{}, err
	}
	c := Costs{WorkflowID: id, Period: in.String(), From: in.From, To: in.To, CostByStep: map[string]StepCost{}, ByModel: map[string]StepCost{}, ByDay: map[string]StepCost{}, ByVersion: map[string]StepCost{}, ByPrompt: map[string]StepCost{}}
	t, _, err := r.tally(ctx, tenant, id, in)
	if err != nil {
		return c, err
	}
	c.TotalExecutions = t.TotalExecutions
	for by, to := range map[pawl.CostBy]map[string]StepCost{pawl.ByStep: c.CostByStep, pawl.ByItem: c.ByModel, pawl.ByDay: c.ByDay, pawl.ByVersion: c.ByVersion, pawl.ByLabel: c.ByPrompt} {
		sums, err := r.engine.Costs(ctx, pawl.CostFilter{By: by, ChargeFilter: pawl.ChargeFilter{Tenant: tenant, Workflow: id, Meter: pawl.USD, From: in.From, To: in.To}})
		if err != nil {
			return c, err
		}
		for _, sum := range sums {
			if by == pawl.ByVersion {
				c.Counted.and(countedOf(&sum))
			}
			if sum.Key == "" && by == pawl.ByLabel {
				continue
			}
			to[sum.Key] = stepCost(&sum)
		}
	}
	c.TotalCostMicroUSD, c.TotalCostUSD, c.TotalCost = c.micro(), c.usd(), c.dollars()
	return c, nil
}

func stepCost(of *pawl.Cost) StepCost {
	s := StepCost{Counted: countedOf(of), Invocations: of.Times, Calls: of.Charges}
	s.TotalCostMicroUSD, s.TotalCostUSD, s.TotalCost = s.micro(), s.usd(), s.dollars()
	if s.AvgCostMicroUSD = s.each(of.Times); s.AvgCostMicroUSD != nil {
		avg := Dollars(*s.AvgCostMicroUSD)
		s.AvgCost = &avg
	}
	return s
}

func countedOf(sum *pawl.Cost) Counted { return Counted{sum.Amount, sum.Guessed} }

// String says it for people.
func (s Span) String() string {
	day := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch {
	case s.From.IsZero() && s.To.IsZero():
		return "all"
	case s.To.IsZero():
		return "since " + day(s.From)
	case s.From.IsZero():
		return "before " + day(s.To)
	}
	return day(s.From) + " to " + day(s.To)
}

// Dashboard is all of a tenant's flows at a glance.
type Dashboard struct {
	TotalWorkflows  int64           `json:"totalWorkflows"` // of this page
	TotalExecutions int64           `json:"totalExecutions"`
	Workflows       []DashboardFlow `json:"workflows"`
	// After is the id behind which the next page begins; "": this is the last.
	After string `json:"-"`
}

// DashboardFlow is a flow of a [Dashboard].
type DashboardFlow struct {
	ID      string  `json:"id"`
	Name    string  `json:"name"`
	Active  int     `json:"activeVersion"`
	Metrics Metrics `json:"metrics"`
}

// Dashboard tells of a page of flows, by their ids, from behind the id after on. limit is at most 100.
func (r *Registry) Dashboard(ctx context.Context, tenant, after string, limit int) (Dashboard, error) {
	d := Dashboard{Workflows: []DashboardFlow{}}
	limit = min(max(limit, 1), 100)
	heads, err := r.List(ctx, tenant, after, limit+1)
	if err != nil {
		return d, err
	}
	if len(heads) > limit {
		heads = heads[:limit]
		d.After = heads[limit-1].ID
	}
	for _, head := range heads {
		m, err := r.metrics(ctx, tenant, head.ID, Span{})
		if err != nil {
			return d, err
		}
		d.TotalWorkflows++
		d.TotalExecutions += m.TotalExecutions
		d.Workflows = append(d.Workflows, DashboardFlow{ID: head.ID, Name: head.Name, Active: head.Active, Metrics: m})
	}
	return d, nil
}
