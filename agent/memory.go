package agent

import (
	"context"
	"slices"
	"sync"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// Memory says how much of a conversation the model is shown at the beginning of a run: as many
// of the last messages as fit both limits, from a message of the user on, so that no tool
// result is without its call. What the run itself says is shown whole, and is not counted.
type Memory struct {
	Messages int // at most so many; 0: as many as Tokens allows
	Tokens   int // at most so many by llm.EstimateInput, which errs upwards: about half as many of English. 0 means 100,000
	// Summary, if not nil, has what does not fit summarized by a model, as a step of the run.
	// Then only what fits half of the limits stays as it is, so that the next summary is due
	// when as much again was said: what summaries cost grows with what is said.
	Summary *Summary
}

// Window is what a run remembers of its conversation: positions, never the messages. It is
// what a journal has in their place.
type Window struct {
	Conversation string `json:"conversation"`
	Space        string `json:"space"`             // of the conversation's messages: one that was deleted and begun anew has another
	Through      int    `json:"through"`           // the last of the appends that it sees
	From         int    `json:"from"`              // the messages before it
	To           int    `json:"to"`                // its last message
	Summary      bool   `json:"summary,omitempty"` // what is before From is there as a summary
	// Of a run that goes on from another: what that has said.
	Piece string `json:"piece,omitempty"` // the record with the last of it
	Said  int    `json:"said,omitempty"`  // messages
}

// recollection is what a run remembers. Its methods are safe for concurrent use: an attempt of a step
// that was given up may still go on.
type recollection struct {
	Window
	part string

	mu   sync.Mutex
	read []llm.Message // nil: not yet
}

// messages returns what the run remembers, read from the records, for a step's body. Nil has none.
func (m *recollection) messages(ctx context.Context) ([]llm.Message, error) {
	if m == nil {
		return nil, nil
	}
	c := chatOf(ctx, m.Conversation)
	t, err := c.same(ctx, m.Space) // also if it was read already: a conversation may be deleted
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.read == nil {
		if m.read, err = c.window(ctx, t, m.Window); err != nil {
			return nil, err
		}
	}
	return m.read, nil
}

// chatOf is the conversation of the run to whose step ctx belongs.
func chatOf(ctx context.Context, id string) *chat {
	return &chat{e: pawl.EngineOf(ctx), tenant: pawl.InfoOf(ctx).Tenant, id: id}
}

// window reads the messages of a window.
func (c *chat) window(ctx context.Context, t thread, w Window) ([]llm.Message, error) {
	out := []llm.Message{}
	if w.Summary {
		d, err := c.digest(ctx, t, w.From)
		if err != nil {
			return nil, err
		}
		out = append(out, llm.User("What was said before, in short:\n"+Untrusted(d.Text)))
	}
	if w.From < w.To {
		var found []llm.Message // newest first
		for p, err := range c.backward(ctx, t, w.Through) {
			if err != nil {
				return nil, err
			}
			at := p.First + p.Earlier
			for i, m := range slices.Backward(p.Messages) {
				if at+i >= w.From {
					found = append(found, remembered(m))
				}
			}
			if at <= w.From {
				break
			}
		}
		if len(found) != w.To-w.From {
			return nil, c.fail(nil, "its messages %d to %d are no longer what they were", w.From+1, w.To)
		}
		slices.Reverse(found)
		out = append(out, found...)
	}
	if w.Piece != "" {
		last, err := c.piece(ctx, t, w.Piece)
		if err != nil {
			return nil, err
		}
		var found [][]llm.Message
		for p, err := range c.back(ctx, t, last) {
			if err != nil {
				return nil, err
			}
			found = append(found, p.Messages)
		}
		slices.Reverse(found)
		out = append(out, slices.Concat(found...)...)
	}
	return out, nil
}

// remembered is a message as it is shown in later exchanges. Its turn belongs to what its
// provider was shown then, which may not be what it is shown now.
func remembered(m llm.Message) llm.Message {
	m.Turn, m.Cache = nil, false
	return m
}

// turn returns what shows where the agent is now to f, in a step's body: only there what it
// remembers can be read.
func (t *talk) turn() func(ctx context.Context, f func(Turn) error) error {
	now, memory := Turn{Agent: t.agent.name, Number: t.turns + 1, Messages: t.messages}, t.memory
	return func(ctx context.Context, f func(Turn) error) error {
		turn := now
		before, err := memory.messages(ctx)
		if err != nil {
			return err
		}
		if len(before) > 0 {
			turn.Messages = slices.Concat(before, turn.Messages)
		}
		return f(turn)
	}
}

// saying is what this run has said.
func (t *talk) saying(ctx context.Context) saying {
	m := t.memory
	return saying{part: m.part, run: pawl.InfoOf(ctx).RunID, before: m.Piece, earlier: m.Said, messages: t.messages}
}

// handOn stores what the run has said, so that the run that goes on finds it. Nobody else
// sees it yet.
func (t *talk) handOn(c *pawl.Context) (*Window, error) {
	w, err := pawl.Step(c, "stage", func(ctx context.Context) (Window, error) {
		w := t.memory.Window
		s, err := chatOf(ctx, w.Conversation).stage(ctx, w.Space, t.saying(ctx), pieceBytesMax, false)
		w.Piece, w.Said = s.before, s.earlier
		return w, err
	})
	return &w, err
}

// remember appends what was said to the conversation, and returns where.
func (t *talk) remember(c *pawl.Context) (first, last int, err error) {
	type span struct {
		First int `json:"first"`
		Last  int `json:"last"`
	}
	at, err := pawl.Step(c, "remember", func(ctx context.Context) (span, error) {
		w := t.memory.Window
		before, after, err := chatOf(ctx, w.Conversation).add(ctx, w.Space, t.saying(ctx), w.Through, nil)
		return span{before + 1, after}, err
	})
	return at.First, at.Last, err
}
