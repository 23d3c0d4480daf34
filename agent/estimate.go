package agent

import (
	"context"
	"fmt"
	"slices"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// Estimate is what a backtest would ask, and what that would cost if its answers were as long as those of the past. It is no
// bound: that is the budget.
type Estimate struct {
	Runs      int `json:"runs"`      // that were looked into
	Questions int `json:"questions"` // that would be asked
	// Without counts runs in which the step has asked nothing, Absent steps whose question or answer the journal does not have,
	// Unanswered those that had no answer then, Unfit questions that the change does not fit: none of them would be asked.
	Without    int    `json:"without"`
	Absent     int    `json:"absent"`
	Unanswered int    `json:"unanswered"`
	Unfit      int    `json:"unfit"`
	Why        string `json:"why,omitempty"` // the first does not fit
	// Unchanged counts questions that would be asked word for word as they were, of the same model.
	Unchanged int       `json:"unchanged"`
	Models    []string  `json:"models"` // that would be asked, as provider/model
	Tokens    llm.Usage `json:"tokens"`
	Cost      int64     `json:"cost"`    // in millionths of a US dollar
	CostWas   int64     `json:"costWas"` // of the questions that would be asked
	// Unpriced are the models whose price is not known. A call of one counts in Cost, and on the budget, as Each.
	Unpriced []string `json:"unpriced,omitempty"`
	Each     int64    `json:"each,omitempty"`
}

// maxQuestions bounds how many questions a backtest may ask.
const maxQuestions = 5000

// Estimate reads what a backtest would ask, and asks nobody. ErrTooLarge: it would ask more than 5,000 questions, or more than
// 1,000 of one run; ErrInput: a model can't be asked here. The runs must be of one tenant, which the caller has made sure of.
func (m *Models) Estimate(ctx context.Context, e *pawl.Engine, b Backtest, r Recaster) (Estimate, error) {
	out := Estimate{Models: []string{}}
	for _, run := range b.Runs {
		q := &questions{engine: e, recaster: r, b: &b, run: run}
		if err := q.readOnce(ctx); err != nil {
			return out, err
		}
		if err := m.estimate(ctx, q, &out); err != nil {
			return out, err
		}
		if out.Questions > maxQuestions {
			return out, fmt.Errorf("%w: the %d newest of the runs have asked %d questions, and a backtest takes at most %d: take fewer runs", pawl.ErrTooLarge, out.Runs, out.Questions, maxQuestions)
		}
	}
	return out, nil
}

func (m *Models) estimate(ctx context.Context, q *questions, out *Estimate) error {
	out.Runs++
	out.Absent += q.past.Absent
	out.Unanswered += q.past.Unanswered
	if len(q.all)+q.past.Absent+q.past.Unanswered == 0 {
		out.Without++
	}
	for i := range q.all {
		was := &q.all[i]
		now, err := q.now(ctx, &was.asked)
		if unfits(err) {
			if out.Unfit++; out.Why == "" {
				out.Why = err.Error()
			}
			continue
		}
		if err != nil {
			return err
		}
		if len(m.opt.Providers) > 0 {
			if _, err := m.route(now.model); err != nil {
				return err
			}
		}
		out.Questions++
		out.CostWas += was.cost
		if now.model == was.asked.Model && unnamed(now.req) == unnamed(was.asked.Request) {
			out.Unchanged++
		}
		if !slices.Contains(out.Models, now.model) {
			out.Models = append(out.Models, now.model)
		}
		m.price(now, was, out)
	}
	return nil
}

// unnamed tells requests apart whatever model they name.
func unnamed(r *llm.Request) string {
	other := *r
	other.Model = ""
	return hashOf(&other)
}

// price adds what a question is likely to cost: the tokens that it had, and what the change adds to its words.
func (m *Models) price(now *recast, was *exchange, out *Estimate) {
	usage := llm.Usage{Input: was.usage.Input, Output: was.usage.Output}
	if usage == (llm.Usage{}) { // it came from a cache, or the provider has not told
		usage = llm.Usage{Input: llm.EstimateInput(was.asked.Request), Output: llm.EstimateInput(&llm.Request{System: decided(was.last.Value, was.last.Response)})}
	}
	usage.Input = max(0, usage.Input+llm.EstimateInput(now.req)-llm.EstimateInput(was.asked.Request))
	out.Tokens = out.Tokens.Add(usage)
	price, known := m.Price(now.model)
	if known {
		out.Cost += price.Cost(usage)
		return
	}
	out.Cost, out.Each = out.Cost+m.opt.WorstCase, m.opt.WorstCase
	if !slices.Contains(out.Unpriced, now.model) {
		out.Unpriced = append(out.Unpriced, now.model)
	}
}
