package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// Asking is one request that a run has made of a model, whole.
type Asking struct {
	Made
	Step    string `json:"step"` // the step's key
	Attempt int    `json:"attempt"`
	Seq     int64  `json:"seq"` // of its note in the journal
}

// Asked returns the requests that a run has made of models, in the order in which they ended,
// those of failed attempts included, each with all its messages: those that an agent has
// remembered are read from its conversation, and if that was deleted the sequence ends with a
// *ConversationError. A request that was too large for a note has none.
func Asked(ctx context.Context, e *pawl.Engine, run pawl.Ref) iter.Seq2[Asking, error] {
	return func(yield func(Asking, error) bool) {
		var talks [][]llm.Message // the conversations so far, newest last
		for entry, err := range e.Journal(ctx, run) {
			if err != nil {
				yield(Asking{}, err)
				return
			}
			if entry.Kind != pawl.KindNote {
				continue
			}
			a := Asking{Step: entry.Key, Attempt: entry.Attempt, Seq: entry.Seq}
			if json.Unmarshal(entry.Data, &a.Made) != nil || a.Hash == "" { // somebody else's note
				continue
			}
			if a.Request != nil {
				if err := a.complete(ctx, e, run.Tenant, talks); err != nil {
					yield(a, fmt.Errorf("run %s, entry %d: %w", run.ID, entry.Seq, err))
					return
				}
				talks = append(slices.DeleteFunc(talks, func(old []llm.Message) bool { return begins(a.Request.Messages, old) }), a.Request.Messages)
			}
			if !yield(a, nil) {
				return
			}
		}
	}
}

// complete puts the messages back that the note left out: those of the conversation with
// which the request has the hash that it had.
func (a *Asking) complete(ctx context.Context, e *pawl.Engine, tenant string, talks [][]llm.Message) error {
	if a.Known == 0 {
		return nil
	}
	rest := a.Request.Messages
	fits := func(talk []llm.Message) bool {
		if len(talk) < a.Known {
			return false
		}
		a.Request.Messages = append(slices.Clone(talk[:a.Known]), rest...)
		return hashOf(a.Request) == a.Hash
	}
	for _, talk := range slices.Backward(talks) {
		if fits(talk) {
			return nil
		}
	}
	if a.Window != nil {
		c := &chat{e: e, tenant: tenant, id: a.Window.Conversation}
		t, err := c.same(ctx, a.Window.Space)
		if err != nil {
			return err
		}
		before, err := c.window(ctx, t, *a.Window)
		if err != nil {
			return err
		}
		if fits(before) {
			return nil
		}
		return c.fail(nil, "what step %s was asked with is no longer what it has", a.Step)
	}
	return fmt.Errorf("the %d messages before those of step %s are in no earlier note", a.Known, a.Step)
}

// begins reports whether all begins with head.
func begins(all, head []llm.Message) bool {
	return len(all) >= len(head) && slices.EqualFunc(all[:len(head)], head, func(a, b llm.Message) bool {
		return a.Role == b.Role && a.Content == b.Content && a.ToolCallID == b.ToolCallID && slices.Equal(a.ToolCalls, b.ToolCalls)
	})
}
