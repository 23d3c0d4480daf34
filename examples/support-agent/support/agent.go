// Package support is an agent that answers the customers of a bookshop. It finds orders, pays
// small amounts back by itself and larger ones when somebody has approved it, and hands
// questions about money over to a second agent, billing.
//
// It never pays an order back twice, whatever is killed meanwhile, and it never finds out who
// the customer is, nor who approves: both are for the program around it to check.
package support

import (
	"encoding/json"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
)

const (
	// Name is that of the workflow.
	Name = "support"
	// Stream is the run's stream of agent.Delta, to which answers go as they come.
	Stream = "answer"
	// FreeCents is how much is paid back without an approval.
	FreeCents = 2000
	// Patience is how long an approval is waited for. Then the refund is denied.
	Patience = 7 * 24 * time.Hour
)

// Config says whom the agent asks.
type Config struct {
	Models    *agent.Models
	Model     string   // as provider/model; "" means that of Models
	Approvers []string // of refunds above FreeCents; none: anybody may
}

// New makes the agent, and the one that it hands over to. Each run may cost $0.50.
func New(cfg Config) (*agent.Agent, error) {
	tools := []agent.Tool{
		agent.Func("find_order", "looks an order up by its number", lookUp),
		agent.Func("refund_order", "pays an order back, once; above $20.00 a person has to approve it, which may take days", book).
			WithApproval(agent.Approval{When: large, Approvers: cfg.Approvers, Within: Patience}),
	}
	billing, err := agent.NewAgent("billing", agent.Config{
		Models: cfg.Models, Model: cfg.Model, Stream: Stream, Tools: tools,
		Instructions: "You are the billing desk of a bookshop and have taken a conversation over. Look the order up, compare what was paid, and pay back what was charged wrongly. Answer in two sentences.",
	})
	if err != nil {
		return nil, err
	}
	return agent.NewAgent(Name, agent.Config{
		Models: cfg.Models, Model: cfg.Model, Stream: Stream, Tools: tools,
		Instructions: "You help the customers of a bookshop. Look orders up before you speak of them; never guess. Pay back only what the customer asks for and the order supports. Hand questions about bills and charges over to billing. Answer in two sentences.",
		Handoffs:     []*agent.Agent{billing},
		Options:      []pawl.Option{pawl.BudgetUSD(0.50)},
	})
}

// large reports whether somebody has to approve a refund. Arguments that can't be read do.
func large(args json.RawMessage) bool {
	var in refundArgs
	return json.Unmarshal(args, &in) != nil || in.Cents > FreeCents
}
