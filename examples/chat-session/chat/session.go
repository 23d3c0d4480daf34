// Package chat holds chats with a model: each is one run, for as long as anybody writes, which
// takes messages also while the model speaks, and says on a stream what it takes and what comes back.
//
// It never loses a message that it has taken, and never finds out who somebody is: whoever knows
// the id of a chat may read it and write to it.
package chat

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/llm"
)

const (
	// Name is that of the workflow.
	Name = "chat-session"
	// Stream is the stream of a run that pieces are written to.
	Stream = "chat"
	// Remembered is how many messages the model is shown, answers included.
	Remembered = 40

	event     = "message" // that a message comes as
	attribute = "chat"    // the id of a run's chat
	atOnce    = 20        // messages that one answer is for, if so many have come meanwhile
)

// Message is what somebody has written.
type Message struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

// Session is the input of a run: a chat, and how far it has come.
type Session struct {
	Chat    string        `json:"chat"`
	Before  int           `json:"before,omitempty"`  // messages in the chat's conversation
	History []llm.Message `json:"history,omitempty"` // the last of them
}

// Piece is a chunk of the stream. It is one of: the beginning of a run, a message that the run has
// taken, a part of an answer as the model says it (the embedded Delta), the whole answer.
type Piece struct {
	Begins *Begins  `json:"begins,omitempty"`
	User   *Message `json:"user,omitempty"`
	*agent.Delta
	Answer *string `json:"answer,omitempty"` // what counts, whatever parts of it came
}

// Begins tells what was before a run: of the chat's messages, the first so many.
type Begins struct {
	Before int `json:"before"`
}

// Config says who answers.
type Config struct {
	Models *agent.Models
	Model  string // as provider/model; "" means that of Models
	GoOn   int    // after how many answers a run goes on as a new one, so that no journal becomes long; 0 means 50
}

// Chats is the workflow. It is safe for concurrent use.
type Chats struct {
	*pawl.Workflow[Session, Session]
	cfg Config
}

// New makes Chats.
func New(cfg Config) *Chats {
	if cfg.GoOn == 0 {
		cfg.GoOn = 50
	}
	s := &Chats{cfg: cfg}
	s.Workflow = pawl.Define(Name, s.run)
	return s
}

// run answers messages until it is cancelled. Messages are events: those that it has not taken
// when it goes on as another run are that one's.
func (s *Chats) run(c *pawl.Context, in Session) (Session, error) {
	stream := c.Stream(Stream)
	if err := stream.Write(Piece{Begins: &Begins{in.Before}}); err != nil {
		return in, err
	}
	for range s.cfg.GoOn {
		asked, err := take(c)
		if err != nil {
			return in, err
		}
		said := make([]llm.Message, 0, len(asked)+1)
		for _, m := range asked {
			if err := stream.Write(Piece{User: &m}); err != nil {
				return in, err
			}
			said = append(said, llm.User(m.Text))
		}
		text, err := s.answer(c, append(in.History, said...))
		if err != nil {
			return in, err
		}
		said = append(said, llm.Message{Role: llm.RoleAssistant, Content: text})
		if err := keep(c, in, said); err != nil {
			return in, err
		}
		if err := stream.Write(Piece{Answer: &text}); err != nil {
			return in, err
		}
		in.Before += len(said)
		in.History = lastOf(append(in.History, said...))
	}
	return in, pawl.ContinueAs(c, in)
}

// take waits for a message, and takes what else has come.
func take(c *pawl.Context) (all []Message, err error) {
	m, err := pawl.WaitFor[Message](c, event)
	for err == nil {
		if all = append(all, m); len(all) == atOnce {
			break
		}
		m, err = pawl.WaitFor[Message](c, event, pawl.Timeout(0))
	}
	if errors.Is(err, pawl.ErrTimeout) {
		err = nil
	}
	return all, err
}

// answer asks the model, which speaks on the stream. That there is no answer is no reason to end.
func (s *Chats) answer(c *pawl.Context, messages []llm.Message) (string, error) {
	a, err := agent.Ask(c, s.cfg.Models, "answer", agent.Call{
		Model: s.cfg.Model, Messages: messages, Stream: Stream, MaxTokens: 2000,
		System: "You are in a chat. Answer in plain text, briefly.",
	})
	switch {
	case errors.Is(err, pawl.ErrCancelled):
		return "", err
	case err == nil && strings.TrimSpace(a.Text) != "":
		return a.Text, nil
	}
	return "I found no answer. Please ask again later.", nil
}

// keep appends what was said to the conversation of the chat. Only its run does, so if there is
// more than before, an attempt that was cut off has done it.
func keep(c *pawl.Context, in Session, said []llm.Message) error {
	return pawl.Do(c, "keep", func(ctx context.Context) error {
		chats := agent.Conversations{Engine: pawl.EngineOf(ctx)}
		_, err := chats.Append(ctx, in.Chat, in.Before, said...)
		if !errors.Is(err, pawl.ErrConflict) {
			return err
		}
		now, gerr := chats.Get(ctx, in.Chat)
		if gerr != nil {
			return gerr
		}
		if now.Messages != in.Before+len(said) {
			return pawl.Fatal(fmt.Errorf("somebody else writes to the conversation of chat %s: %w", in.Chat, err))
		}
		return nil
	})
}

// lastOf is what the model is shown next time. It begins with a message of somebody's.
func lastOf(all []llm.Message) []llm.Message {
	all = all[max(0, len(all)-Remembered):]
	for len(all) > 0 && all[0].Role != llm.RoleUser {
		all = all[1:]
	}
	return all
}
