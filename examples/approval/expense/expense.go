// Package expense pays what was spent, above a limit only when somebody has approved it.
package expense

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/approval"
)

// Name is the workflow's.
const Name = "expense"

// Starter is the attribute of a run that says who spent the money: that one may not approve it.
const Starter = "employee"

// Expense is what was spent.
type Expense struct {
	Employee string `json:"employee"`
	What     string `json:"what"`
	Cents    int    `json:"cents"`
}

// Validate refuses what can't be paid.
func (e Expense) Validate() error {
	if e.Employee == "" || e.What == "" || e.Cents <= 0 {
		return fmt.Errorf("an expense has an employee, says what it was for, and is more than nothing")
	}
	return nil
}

// Paid is what came of it.
type Paid struct {
	Cents   int    `json:"cents"` // 0: it was rejected
	Account string `json:"account,omitempty"`
	By      string `json:"by,omitempty"` // who decided; "": nobody had to
	Comment string `json:"comment,omitempty"`
}

// Config says who decides.
type Config struct {
	Limit     int           // cents up to which nobody is asked
	Approvers []string      // who is asked
	Boss      string        // who is asked too after Patience
	Patience  time.Duration // until the boss is asked; twice as long in all
	BaseURL   string        // of the server that answers links
	Notify    func(ctx context.Context, n approval.Notice) error
	Pay       func(ctx context.Context, key string, cents int, account string) error
}

// schema is the form that an approver fills in.
var schema = json.RawMessage(`{
	"type": "object",
	"required": ["account"],
	"properties": {
		"account": {"enum": ["travel", "office", "training"], "title": "Account", "description": "What it is booked on."},
		"cents": {"type": "integer", "title": "Amount in cents", "description": "If less is to be paid than was asked for.", "minimum": 1}
	},
	"additionalProperties": false
}`)

// New makes the workflow.
func New(cfg Config) *pawl.Workflow[Expense, Paid] {
	return pawl.Define(Name, func(c *pawl.Context, in Expense) (Paid, error) {
		out := Paid{Cents: in.Cents, Account: "small change"}
		if in.Cents > cfg.Limit {
			d, err := approval.Ask(c, "pay", approval.Request{
				Title:     fmt.Sprintf("Pay %s to %s?", Money(in.Cents), in.Employee),
				Message:   fmt.Sprintf("%s asks for %s: %s.", in.Employee, Money(in.Cents), strings.TrimRight(in.What, ".")),
				Details:   in,
				Schema:    schema,
				Approvers: cfg.Approvers,
				Starter:   Starter,
				Remind:    []time.Duration{cfg.Patience / 2},
				Escalate:  &approval.Escalation{After: cfg.Patience, Approvers: []string{cfg.Boss}},
				Expires:   2 * cfg.Patience,
				OnExpire:  &approval.Decision{Comment: "nobody had the time to look at it"},
				Notify:    cfg.Notify,
				BaseURL:   cfg.BaseURL,
			})
			if err != nil {
				return Paid{}, err
			}
			if !d.Approved {
				return Paid{By: d.By, Comment: d.Comment}, nil
			}
			var form struct {
				Account string
				Cents   int
			}
			if err := json.Unmarshal(d.Form, &form); err != nil { // it has passed the schema
				return Paid{}, err
			}
			out = Paid{Cents: in.Cents, Account: form.Account, By: d.By, Comment: d.Comment}
			if form.Cents > 0 {
				out.Cents = min(form.Cents, in.Cents)
			}
		}
		return out, pawl.Do(c, "pay-out", func(ctx context.Context) error {
			return cfg.Pay(ctx, pawl.InfoOf(ctx).StepID, out.Cents, out.Account)
		})
	})
}

// Money is an amount as people write it.
func Money(cents int) string { return fmt.Sprintf("$%d.%02d", cents/100, cents%100) }
