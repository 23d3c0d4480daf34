package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// ConversationAttribute is the attribute of a run that has the id of its conversation, by which
// the runs of a conversation can be listed.
const ConversationAttribute = "conversation"

// Anywhere lets [Conversations.Append] append to a conversation of whatever length.
const Anywhere = -1

// Conversations are those that agents remember, see [Task].Conversation, of one tenant. They
// are records of the engine's store. All methods are safe for concurrent use, in many
// processes, and while runs go on. An id that is not there is a *ConversationError that wraps
// pawl.ErrNotFound.
//
// A conversation is a row of messages that only grows. What belongs together appears in it at
// once: all that a run has said, or what was given to one Append. Of two runs at the same time
// neither sees what the other says, and both are appended, one after the other, in the order
// in which they end.
type Conversations struct {
	Engine *pawl.Engine
	Tenant string
}

// ConversationInfo tells of a conversation.
type ConversationInfo struct {
	ID       string    `json:"id"`
	Messages int       `json:"messages"`
	Created  time.Time `json:"created"`
	Updated  time.Time `json:"updated"`         // when something was appended last
	State    string    `json:"state,omitempty"` // "", or "deleting" or "forking", also if that was cut off: then only Delete is of use
}

// Said is one message of a conversation.
type Said struct {
	llm.Message
	Position int       `json:"position"`      // from 1
	Run      string    `json:"run,omitempty"` // id of the run that said it; "": it was appended from outside
	At       time.Time `json:"at"`            // when it was appended
}

// ConversationError reports a conversation that is not there, was deleted, can't be used now,
// or is damaged. It is fatal for a step, and survives a journal under the code "conversation",
// with its fields as details. It wraps pawl.ErrNotFound, pawl.ErrState, pawl.ErrConflict, or
// nothing if a record is damaged or missing.
type ConversationError struct {
	Conversation string `json:"conversation"`
	Tenant       string `json:"tenant,omitempty"`
	Why          string `json:"why"`
	Err          error  `json:"-"`
}

func (e *ConversationError) Error() string {
	s := fmt.Sprintf("conversation %q: %s", e.Conversation, e.Why)
	if e.Tenant != "" {
		s = fmt.Sprintf("conversation %q of tenant %q: %s", e.Conversation, e.Tenant, e.Why)
	}
	return s
}

func (e *ConversationError) Unwrap() error { return e.Err }

// Fatal reports true.
func (e *ConversationError) Fatal() bool { return true }

// ErrorCode returns "conversation".
func (e *ConversationError) ErrorCode() string { return "conversation" }

// MarshalJSON writes the fields.
func (e *ConversationError) MarshalJSON() ([]byte, error) {
	type fields ConversationError
	return json.Marshal((*fields)(e))
}

func (s Conversations) chat(id string) *chat { return &chat{e: s.Engine, tenant: s.Tenant, id: id} }

// Get tells of a conversation.
func (s Conversations) Get(ctx context.Context, id string) (ConversationInfo, error) {
	t, err := s.chat(id).thread(ctx)
	return t.info(id), err
}

func (t *thread) info(id string) ConversationInfo {
	return ConversationInfo{ID: id, Messages: t.Messages, Created: t.Created, Updated: t.Updated, State: t.State}
}

// List tells of the conversations whose id begins with prefix and comes after after, in the
// order of their ids.
func (s Conversations) List(ctx context.Context, prefix, after string) iter.Seq2[ConversationInfo, error] {
	return func(yield func(ConversationInfo, error) bool) {
		for {
			page, err := s.Engine.Records(ctx, threadsOf(s.Tenant), prefix, after, 100)
			if err != nil {
				yield(ConversationInfo{}, fmt.Errorf("list conversations: %w", err))
				return
			}
			for _, r := range page {
				var t thread
				err := s.chat(r.Key).readable(r, &t)
				if !yield(t.info(r.Key), err) || err != nil {
					return
				}
				after = r.Key
			}
			if len(page) < 100 {
				return
			}
		}
	}
}

// Messages returns what was said, from the beginning, but for the first after messages: the
// Position of the last message that was seen is where to go on. It ends where the
// conversation ended when it began.
func (s Conversations) Messages(ctx context.Context, id string, after int) iter.Seq2[Said, error] {
	return func(yield func(Said, error) bool) {
		c := s.chat(id)
		t, err := c.open(ctx)
		if err != nil {
			yield(Said{}, err)
			return
		}
		for p, err := range c.forward(ctx, t, max(after, 0)) {
			if err != nil {
				yield(Said{}, err)
				return
			}
			for i, m := range p.Messages {
				if !yield(Said{Message: m, Position: p.First + p.Earlier + i + 1, Run: p.Run, At: p.At}, nil) {
					return
				}
			}
		}
	}
}

// Append appends messages that no run has said, such as those of a chat that is imported,
// all of them or none, and returns how many the conversation has then. A conversation that is
// not there is begun. after is how many messages it must have, or [Anywhere]: with it, an
// Append whose outcome was not heard of can be made again, and is a *ConversationError that
// wraps pawl.ErrConflict if it was made. Messages that can't be a conversation, such as
// a tool's result without its call, are refused: pawl.ErrInput.
func (s Conversations) Append(ctx context.Context, id string, after int, messages ...llm.Message) (int, error) {
	if err := checkConversation(id); err != nil {
		return 0, err
	}
	if err := whole(messages); err != nil || len(messages) == 0 {
		return 0, err
	}
	c := s.chat(id)
	fits := func(t thread) error {
		if after >= 0 && after != t.Messages {
			return c.fail(pawl.ErrConflict, "it has %d messages and not %d; look at it again", t.Messages, after)
		}
		return nil
	}
	t, err := c.begin(ctx, "")
	if err == nil {
		err = fits(t)
	}
	if err != nil {
		return 0, err
	}
	_, last, err := c.add(ctx, t.Space, saying{part: newID() + newID(), messages: messages}, t.Exchanges, fits)
	return last, err
}

// Fork begins the conversation to with the first upto messages of the conversation from, of
// the same tenant. upto must be where a conversation can end: not between a call of a tool and
// its result, else it is pawl.ErrInput. Summaries are not taken along. When to is there
// already it is a *ConversationError that wraps pawl.ErrConflict.
func (s Conversations) Fork(ctx context.Context, from, to string, upto int) error {
	if err := checkConversation(to); err != nil {
		return err
	}
	old, c := s.chat(from), s.chat(to)
	source, err := old.open(ctx)
	if err != nil {
		return err
	}
	if upto < 1 || upto > source.Messages {
		return fmt.Errorf("%w: conversation %q has %d messages; it can't be forked after number %d", pawl.ErrInput, from, source.Messages, upto)
	}
	now := time.Now().UTC()
	t := thread{Space: messagesSpace + newID() + newID(), State: threadForking, Created: now, Updated: now}
	if err := c.write(ctx, &t); errors.Is(err, pawl.ErrConflict) {
		return c.fail(pawl.ErrConflict, "it is there already; give the fork another id")
	} else if err != nil {
		return err
	}
	if err := c.copy(ctx, t, old, source, upto); err != nil {
		return errors.Join(err, s.Delete(context.WithoutCancel(ctx), to))
	}
	return nil
}

// copy fills the thread t, and opens it.
func (c *chat) copy(ctx context.Context, t thread, old *chat, source thread, upto int) error {
	var exchange []llm.Message // what was copied of one
	first := 0
	for p, err := range old.forward(ctx, source, 0) {
		if err != nil {
			return err
		}
		if p.First != first {
			first, exchange = p.First, nil
		}
		left := upto - p.First - p.Earlier
		ends := left <= len(p.Messages)
		if ends {
			p.Messages = p.Messages[:left]
			if err := whole(append(exchange, p.Messages...)); err != nil {
				return fmt.Errorf("conversation %q can't be forked after message %d: %w", old.id, upto, err)
			}
		}
		exchange = append(exchange, p.Messages...)
		t.Exchanges++ // each piece is one: only together they are whole, and so they become seen
		data, err := json.Marshal(piece{Part: p.Part, Run: p.Run, First: p.First + p.Earlier, Messages: p.Messages, At: p.At})
		if err != nil {
			return c.stored(err)
		}
		t.Messages = p.First + p.Earlier + len(p.Messages)
		if ends {
			t.State, t.Updated = "", time.Now().UTC()
		}
		err = c.write(ctx, &t, pawl.Put{Space: t.Space, Key: exchangeKey(t.Exchanges), Data: data})
		if errors.Is(err, pawl.ErrConflict) {
			err = c.fail(pawl.ErrNotFound, "it was deleted while it was being made")
		}
		if err != nil || ends {
			return err
		}
	}
	return old.fail(nil, "it ends before message %d", upto)
}

// Delete erases a conversation: its messages and summaries. From when it has begun nobody
// can use the conversation, and a run under way fails when it asks its model next, or when it
// would append. When it fails, call it again: until it has returned nil, something may be left. Then a
// conversation of that id is a new one. To delete one that is not there is no error.
//
// What was said is also in the journals of the runs that said it, and in forks: these are
// deleted by themselves. The runs are those with the attribute [ConversationAttribute].
func (s Conversations) Delete(ctx context.Context, id string) error {
	c := s.chat(id)
	for {
		t, err := c.thread(ctx)
		if errors.Is(err, pawl.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if t.State != threadDeleting {
			t.State = threadDeleting
			if err := c.write(ctx, &t); errors.Is(err, pawl.ErrConflict) {
				continue // somebody has appended just now
			} else if err != nil {
				return err
			}
		}
		for { // from now on nobody writes there
			page, err := s.Engine.Records(ctx, t.Space, "", "", 100)
			if err != nil {
				return c.stored(err)
			}
			if len(page) == 0 {
				break
			}
			puts := make([]pawl.Put, len(page))
			for i, r := range page {
				puts[i] = pawl.Put{Space: r.Space, Key: r.Key, If: pawl.AnyVersion}
			}
			if _, err := s.Engine.Write(ctx, puts...); err != nil {
				return c.stored(err)
			}
		}
		_, err = s.Engine.Write(ctx, pawl.Put{Space: threadsOf(s.Tenant), Key: id, If: t.version})
		if !errors.Is(err, pawl.ErrConflict) { // else another has deleted it at the same time, and it may be there anew
			return c.stored(err)
		}
		return nil
	}
}

func checkConversation(id string) error {
	if id == "" || len(id) > 256 || !utf8.ValidString(id) || strings.Contains(id, "\x00") {
		return fmt.Errorf("%w: the id of a conversation is a text of 1 to 256 bytes without NUL, not %.40q", pawl.ErrInput, id)
	}
	return nil
}

// whole reports messages that can't be a conversation, or not the whole of a part: with a
// result without its call, or a call without its result.
func whole(messages []llm.Message) error {
	if len(messages) == 0 {
		return nil
	}
	bad := func(i int, why string) error {
		return fmt.Errorf("%w: message %d of the conversation %s", pawl.ErrInput, i+1, why)
	}
	if err := (&llm.Request{Model: "any", Messages: messages}).Validate(); err != nil {
		return fmt.Errorf("%w: %w", pawl.ErrInput, err)
	}
	open := map[string]int{} // calls that have no result yet, by id
	for i, m := range messages {
		if m.Role == llm.RoleTool {
			if open[m.ToolCallID] == 0 {
				return bad(i, fmt.Sprintf("is the result of call %q, which is not before it", m.ToolCallID))
			}
			if open[m.ToolCallID]--; open[m.ToolCallID] == 0 {
				delete(open, m.ToolCallID)
			}
			continue
		}
		if len(open) > 0 {
			return bad(i, "comes before the results of calls that are before it")
		}
		for _, call := range m.ToolCalls {
			open[call.ID]++
		}
	}
	if len(open) > 0 {
		return bad(len(messages)-1, "is the last, and calls before it have no result")
	}
	return nil
}
