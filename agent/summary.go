package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pawlrun/pawl"
)

// Summary says who summarizes what does not fit. A summary is kept with the conversation: it
// is paid once, and the next one is made of it and of what was said since.
type Summary struct {
	Model        string   // as provider/model; "" means that of the agent
	Fallbacks    []string // see Call
	Instructions string   // the system prompt; "" means one that asks for facts, wishes, promises and open questions
	MaxTokens    int      // of a summary; 0 means 1,024
}

const summaryInstructions = "You keep the memory of a conversation between a user and an assistant. You get what you have kept so far and what was said since. " +
	"Answer with what has to be remembered of both and nothing else: facts, names and numbers, what the user wants, what was promised and done, what is open. Leave out greetings. " + UntrustedRule

// digest is a summary of what was said first.
type digest struct {
	Text string    `json:"text"`
	Run  string    `json:"run"` // that has paid for it
	At   time.Time `json:"at"`
}

// summarize has a model summarize what is before message number r.Summarize.
func (t *talk) summarize(c *pawl.Context, limits Memory, r recalled) error {
	cfg := &t.agent.cfg
	models, s := cfg.Models, limits.Summary
	q := Call{Model: cmp.Or(s.Model, cfg.Model), Fallbacks: s.Fallbacks, System: cmp.Or(s.Instructions, summaryInstructions), MaxTokens: cmp.Or(s.MaxTokens, 1024)}
	answer, err := pawl.Step(c, "summary", func(ctx context.Context) (*Answer, error) {
		q, chat := q, chatOf(ctx, r.Conversation)
		thread, err := chat.same(ctx, r.Space)
		if err != nil {
			return nil, err
		}
		if q.Prompt, err = chat.transcript(ctx, thread, r); err != nil {
			return nil, err
		}
		return models.ask(ctx, q)
	}, withDefaults(nil)...)
	if err != nil {
		return err
	}
	t.cost, t.guess = t.cost+answer.Cost, t.guess || answer.Guess
	t.usage = t.usage.Add(answer.Usage)
	return pawl.Do(c, "summary:keep", func(ctx context.Context) error {
		return chatOf(ctx, r.Conversation).keep(ctx, r.Space, r.Summarize, digest{Text: answer.Text, Run: pawl.InfoOf(ctx).RunID})
	})
}

// transcript is what a summary is made of.
func (c *chat) transcript(ctx context.Context, t thread, r recalled) (string, error) {
	var b strings.Builder
	if r.Summary {
		d, err := c.digest(ctx, t, r.From)
		if err != nil {
			return "", err
		}
		b.WriteString("What you have kept so far:\n" + Untrusted(d.Text) + "\n\n")
	}
	var talk strings.Builder
	left := r.Summarize - r.From
	for p, err := range c.forward(ctx, t, r.From) {
		if err != nil {
			return "", err
		}
		for _, m := range p.Messages[:min(left, len(p.Messages))] {
			fmt.Fprintf(&talk, "%s: %s\n", m.Role, m.Content)
			for _, call := range m.ToolCalls {
				fmt.Fprintf(&talk, "%s calls %s %s\n", m.Role, call.Name, call.Arguments)
			}
			left--
		}
		if left == 0 {
			break
		}
	}
	b.WriteString("What was said since:\n" + Untrusted(talk.String()))
	return b.String(), nil
}

// digest reads the summary of what is before message number to+1.
func (c *chat) digest(ctx context.Context, t thread, to int) (d digest, err error) {
	r, err := c.e.Record(ctx, t.Space, summaryKey(to))
	switch {
	case errors.Is(err, pawl.ErrNotFound):
		return d, c.lost(ctx, t, summaryKey(to))
	case err != nil:
		return d, c.stored(err)
	}
	return d, c.readable(r, &d)
}

// keep stores a summary of what is before message number to+1. One that is there stays.
func (c *chat) keep(ctx context.Context, space string, to int, d digest) error {
	for {
		t, err := c.same(ctx, space)
		if err != nil || t.Summary >= to {
			return err
		}
		d.At = time.Now().UTC()
		data, err := json.Marshal(d)
		if err != nil {
			return c.stored(err)
		}
		t.Summary = to
		err = c.write(ctx, &t, pawl.Put{Space: space, Key: summaryKey(to), Data: data})
		if !errors.Is(err, pawl.ErrConflict) {
			return err
		}
		if err := c.again(ctx, t, err); err != nil {
			return err
		}
	}
}
