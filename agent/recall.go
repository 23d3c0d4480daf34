package agent

import (
	"context"
	"slices"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// converse takes turns within a conversation, if there is one. next: the run has become long,
// and another is to go on with this.
func (t *talk) converse(c *pawl.Context, first *Agent) (r Result, next *Task, err error) {
	if t.task.Conversation != "" {
		if err := t.recall(c, first.cfg.Remember); err != nil {
			return r, nil, err
		}
	}
	r, more, err := t.takeTurns(c, first)
	if err != nil {
		return r, nil, err
	}
	if more {
		next = &Task{Messages: t.messages, Agent: t.agent.name, Turns: t.turns, Cost: t.cost, Guess: t.guess, Usage: t.usage}
	}
	if t.memory == nil {
		return r, next, nil
	}
	if more {
		w, err := t.handOn(c)
		if err != nil {
			return r, nil, err
		}
		next.Messages, next.Conversation, next.Window = nil, t.task.Conversation, w
		return r, next, nil
	}
	r.First, r.Last, err = t.remember(c)
	return r, nil, err
}

// recalled is what the step that begins a run with a conversation has found.
type recalled struct {
	Window
	Part      string `json:"part"`                // under which the run stores what it says
	Summarize int    `json:"summarize,omitempty"` // up to this message a summary is due
}

// recall begins a run with its conversation: it decides what the run remembers.
func (t *talk) recall(c *pawl.Context, limits Memory) error {
	id := t.task.Conversation
	if t.task.Window == nil {
		if err := c.SetAttributes(map[string]any{ConversationAttribute: id}); err != nil {
			return err
		}
	}
	for {
		r, err := pawl.Step(c, "recall", func(ctx context.Context) (recalled, error) {
			r := recalled{Part: newID() + newID()}
			chat := chatOf(ctx, id)
			if w := t.task.Window; w != nil {
				r.Window = *w
				r.Conversation = id
				_, err := chat.same(ctx, w.Space)
				return r, err
			}
			thread, err := chat.begin(ctx, "")
			if err != nil {
				return r, err
			}
			r.Window = Window{Conversation: id, Space: thread.Space, Through: thread.Exchanges, To: thread.Messages}
			err = chat.fit(ctx, thread, limits, &r)
			return r, err
		})
		if err != nil {
			return err
		}
		if r.Summarize == 0 {
			// A fork has the journal of the run that it is made of, and says something else.
			t.memory = &recollection{Window: r.Window, part: scopeHash(r.Part, c.RunID())}
			return nil
		}
		if err := t.summarize(c, limits, r); err != nil {
			return err
		}
	}
}

// fit decides where the window begins, or that a summary is due first.
func (c *chat) fit(ctx context.Context, t thread, limits Memory, r *recalled) error {
	begin := 0
	if limits.Summary != nil {
		begin = t.Summary
	}
	var found []llm.Message // newest first
	tokens, all := 0, true
	for p, err := range c.backward(ctx, t, t.Exchanges) {
		if err != nil {
			return err
		}
		at := p.First + p.Earlier
		if at+len(p.Messages) <= begin {
			break
		}
		for i, m := range slices.Backward(p.Messages) {
			if at+i < begin {
				break
			}
			m = remembered(m)
			found = append(found, m)
			tokens += tokensOf(m)
			if all = limits.room(len(found), tokens); !all {
				break
			}
		}
		if !all || at <= begin {
			break
		}
	}
	if all {
		r.From, r.Summary = begin, begin > 0
		return nil
	}
	if limits.Summary == nil {
		r.From = t.Messages - limits.cut(found, 1)
		return nil
	}
	to, err := c.chunk(ctx, t, limits, begin, t.Messages-limits.cut(found, 2))
	r.From, r.Summary, r.Summarize = begin, begin > 0, to
	return err
}

// room reports whether so much fits the limits.
func (m *Memory) room(messages, tokens int) bool {
	return (m.Messages == 0 || messages <= m.Messages) && tokens <= m.Tokens
}

// cut returns how many of the messages, which are newest first, stay in a part of the limits.
// The last of them is the user's.
func (m *Memory) cut(found []llm.Message, part int) int {
	keep, tokens := 0, 0
	for i := range found {
		tokens += tokensOf(found[i])
		if !m.room(part*(i+1), part*tokens) {
			break
		}
		if found[i].Role == llm.RoleUser {
			keep = i + 1
		}
	}
	return keep
}

// chunk returns up to where a summary is to go that begins after message number from: at most
// to, and not more than fits the limits, if that is an exchange.
func (c *chat) chunk(ctx context.Context, t thread, limits Memory, from, to int) (int, error) {
	messages, tokens, good := 0, 0, to
	for p, err := range c.forward(ctx, t, from) {
		if err != nil {
			return 0, err
		}
		at := p.First + p.Earlier
		for i, m := range p.Messages {
			if at+i >= to {
				return to, nil
			}
			if m.Role == llm.RoleUser && messages > 0 {
				good = at + i
				if !limits.room(messages, tokens) {
					return good, nil
				}
			}
			messages++
			tokens += tokensOf(m)
			if !limits.room(messages, tokens) && good < to {
				return good, nil
			}
		}
	}
	return to, nil
}

func tokensOf(m llm.Message) int {
	return llm.EstimateInput(&llm.Request{Messages: []llm.Message{m}}) - llm.EstimateInput(&llm.Request{})
}
