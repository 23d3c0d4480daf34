package support

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/approval"
)

// Pending is a refund that waits for somebody's consent.
type Pending struct{ approval.Approval }

// String says in a line what is asked for.
func (p Pending) String() string {
	var call agent.ApprovalRequest
	var in refundArgs
	if json.Unmarshal(p.Details, &call) != nil || json.Unmarshal(call.Arguments, &in) != nil {
		return fmt.Sprintf("%s %s", p.Title, p.Details)
	}
	return fmt.Sprintf("%s: pay back %s for order %s, because: %q", call.Tool, Dollars(in.Cents), in.Order, in.Reason)
}

// Who names those who may approve it.
func (p Pending) Who() string {
	if len(p.Approvers) == 0 {
		return "anybody"
	}
	return strings.Join(p.Approvers, " or ")
}

// PendingOf returns what a run waits to have approved, the oldest first.
func PendingOf(ctx context.Context, e *pawl.Engine, runID string) ([]Pending, error) {
	list, err := approval.List(ctx, e, approval.Filter{Run: runID})
	if err != nil {
		return nil, err
	}
	var out []Pending
	for _, a := range list.Items {
		out = append(out, Pending{a})
	}
	return out, nil
}

// Answer hands a decision on. One by who may not give it is refused.
func Answer(ctx context.Context, e *pawl.Engine, p Pending, approved bool, by, reason string) error {
	_, err := approval.Decide(ctx, e, pawl.Ref{ID: p.ID}, approval.Answer{Approved: approved, By: by, Comment: reason, Shown: p.Shown, Via: "desk"})
	return err
}
