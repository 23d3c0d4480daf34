package support

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
)

// Pending is a refund that waits for somebody's consent.
type Pending struct {
	Token string // of the run's hook
	agent.ApprovalRequest
}

// String says in a line what is asked for.
func (p Pending) String() string {
	var in refundArgs
	if json.Unmarshal(p.Arguments, &in) != nil {
		return fmt.Sprintf("%s %s", p.Tool, p.Arguments)
	}
	return fmt.Sprintf("%s: pay back %s for order %s, because: %q", p.Tool, Dollars(in.Cents), in.Order, in.Reason)
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
	hooks, err := e.Hooks(ctx, pawl.Ref{ID: runID})
	if err != nil {
		return nil, err
	}
	out := make([]Pending, len(hooks))
	for i, h := range hooks {
		out[i].Token = h.Token
		if err := json.Unmarshal(h.Meta, &out[i].ApprovalRequest); err != nil {
			return nil, fmt.Errorf("the hook %s of run %s asks for no approval: %w", h.Key, runID, err)
		}
	}
	return out, nil
}

// Answer hands a verdict on. One by who may not give it is refused here, because the run would
// only go on to wait.
func Answer(ctx context.Context, e *pawl.Engine, p Pending, approved bool, by, reason string) error {
	if len(p.Approvers) > 0 && !slices.Contains(p.Approvers, by) {
		return fmt.Errorf("%w: %q may not approve this; %s may", pawl.ErrInput, by, p.Who())
	}
	_, err := e.Resume(ctx, p.Token, agent.Verdict{CallID: p.CallID, Hash: p.Hash, Approved: approved, By: by, Reason: reason})
	return err
}
