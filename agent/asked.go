package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"time"

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
				if a.Fork != nil && a.Fork.Was != nil { // the run's code goes on with the conversation as it knows it
					talk := slices.Clone(a.Request.Messages)
					talk[a.Fork.At] = *a.Fork.Was
					talks = append(talks, talk)
				}
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

// exchange is a question that a step has put to one model, and what came of it in the end.
type exchange struct {
	asked Asking // the question: the one with the most room, before any repair
	last  Asking // the last request, which has the answer
	cost  int64  // of all of them
	took  time.Duration
	usage llm.Usage
	mends int // how many of them were to mend an answer
}

func (x *exchange) answered() bool { return x.last.Error == "" }

// exchanges returns the exchanges of the steps that of names, one for each: the last that was
// answered, or where none was, the last. They are in the order in which the steps began.
func exchanges(ctx context.Context, e *pawl.Engine, run pawl.Ref, of func(step string) bool) ([]exchange, error) {
	var steps []string
	all := map[string][]exchange{} // by the step's key
	for a, err := range Asked(ctx, e, run) {
		if err != nil {
			return nil, err
		}
		if !of(a.Step) || a.Request == nil {
			continue
		}
		list := all[a.Step]
		switch {
		case a.Why == "ask", a.Why == "fallback":
			list = append(list, exchange{asked: a})
		case len(list) == 0: // the note of its beginning has no request
			continue
		case a.Why == "more room":
			list[len(list)-1].asked = a
		}
		if all[a.Step] == nil {
			steps = append(steps, a.Step)
		}
		x := &list[len(list)-1]
		x.last, x.cost, x.took, x.usage = a, x.cost+a.Cost, x.took+a.Took, x.usage.Add(a.Usage)
		if a.Why == "repair" {
			x.mends++
		}
		all[a.Step] = list
	}
	var best []exchange
	for _, step := range steps {
		list := all[step]
		i := len(list) - 1
		for i > 0 && !list[i].answered() {
			i--
		}
		if !list[i].answered() {
			i = len(list) - 1
		}
		best = append(best, list[i])
	}
	return best, nil
}
