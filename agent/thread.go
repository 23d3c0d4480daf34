package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// How a conversation is stored. What must hold:
//
//   - A thread is one record per conversation, in a space of its tenant, under its id. It names
//     the space of the conversation's messages, which is made up at random when it begins. There
//     is no other way to that space, so a tenant reads its own conversations and no others.
//   - Messages are in pieces, which are written once and never changed. An exchange is what one
//     run has said, or one Append: its last piece is under a number, the next of the thread,
//     and has all of it, or says which piece came before. So it appears whole, in one write.
//   - Every write of a piece writes the thread too, over the version that was read. So nothing
//     is written to a conversation that was deleted meanwhile, and no two exchanges get one number.
//   - A thread that is not open lets nobody read or write.
const (
	threadsSpace  = "agent.conversations."
	messagesSpace = "agent.conversation."
	pieceBytesMax = 256 << 10 // of JSON, unless a single message has more
	piecesAtOnce  = 16        // read at once
)

// What becomes of a conversation that is not open.
const (
	threadDeleting = "deleting"
	threadForking  = "forking"
)

// thread is what is stored of a conversation beside its messages.
type thread struct {
	Space     string    `json:"space"`     // where its messages are; never the same again
	Exchanges int       `json:"exchanges"` // how many there are, numbered from 1
	Messages  int       `json:"messages"`  // in these
	Summary   int       `json:"summary,omitempty"`
	State     string    `json:"state,omitempty"` // "": open
	Created   time.Time `json:"created"`
	Updated   time.Time `json:"updated"` // when the last exchange was appended
	version   int64
}

// piece is some messages of an exchange.
type piece struct {
	Part     string        `json:"part"`             // who has written it: nobody else writes under that name
	Run      string        `json:"run,omitempty"`    // whose messages these are; "": they were appended from outside
	First    int           `json:"first"`            // of an exchange's last piece: how many messages are before the exchange
	Before   string        `json:"before,omitempty"` // key of the piece that is before this one in the exchange
	Earlier  int           `json:"earlier,omitempty"`
	Messages []llm.Message `json:"messages"`
	At       time.Time     `json:"at"`
}

func exchangeKey(n int) string          { return fmt.Sprintf("x/%010d", n) }
func partKey(part string, n int) string { return fmt.Sprintf("p/%s/%06d", part, n) }
func summaryKey(to int) string          { return fmt.Sprintf("s/%010d", to) }

// chat reads and writes one conversation.
type chat struct {
	e      *pawl.Engine
	tenant string
	id     string
}

func (c *chat) fail(err error, format string, args ...any) error {
	return &ConversationError{Conversation: c.id, Tenant: c.tenant, Why: fmt.Sprintf(format, args...), Err: err}
}

// stored marks an error of the store with the conversation's name.
func (c *chat) stored(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("conversation %q: %w", c.id, err)
}

func threadsOf(tenant string) string {
	sum := sha256.Sum256([]byte(tenant))
	return threadsSpace + hex.EncodeToString(sum[:])
}

// thread returns the conversation's thread, in whatever state. ErrNotFound.
func (c *chat) thread(ctx context.Context) (t thread, err error) {
	r, err := c.e.Record(ctx, threadsOf(c.tenant), c.id)
	switch {
	case errors.Is(err, pawl.ErrNotFound):
		return t, c.fail(pawl.ErrNotFound, "there is none of that id")
	case err != nil:
		return t, c.stored(err)
	}
	t.version = r.Version
	return t, c.readable(r, &t)
}

// open is thread, of a conversation that can be used.
func (c *chat) open(ctx context.Context) (thread, error) {
	t, err := c.thread(ctx)
	if err != nil {
		return t, err
	}
	return t, c.usable(t)
}

func (c *chat) usable(t thread) error {
	switch t.State {
	case threadDeleting:
		return c.fail(pawl.ErrState, "it is being deleted; if Delete has failed, call it again")
	case threadForking:
		return c.fail(pawl.ErrState, "it is being made by Fork; if that has failed, delete it")
	}
	return nil
}

// same is open, of a conversation that a run has begun with. One of the same id that was begun
// anew since is another.
func (c *chat) same(ctx context.Context, space string) (thread, error) {
	t, err := c.open(ctx)
	if errors.Is(err, pawl.ErrNotFound) || err == nil && t.Space != space || t.State == threadDeleting {
		return t, c.fail(pawl.ErrNotFound, "it was deleted after the run had begun")
	}
	return t, err
}

// begin is open, of a conversation that is made if it is not there.
func (c *chat) begin(ctx context.Context, state string) (thread, error) {
	for {
		t, err := c.open(ctx)
		if !errors.Is(err, pawl.ErrNotFound) {
			return t, err
		}
		now := time.Now().UTC()
		t = thread{Space: messagesSpace + newID() + newID(), State: state, Created: now, Updated: now}
		if err = c.write(ctx, &t); !errors.Is(err, pawl.ErrConflict) {
			return t, err
		}
	}
}

// write writes the thread over the version that was read, and puts with it. ErrConflict: it
// is of another version, or a put met a record.
func (c *chat) write(ctx context.Context, t *thread, puts ...pawl.Put) error {
	data, err := json.Marshal(t)
	if err != nil {
		return c.stored(err)
	}
	puts = append(puts, pawl.Put{Space: threadsOf(c.tenant), Key: c.id, If: t.version, Data: data})
	versions, err := c.e.Write(ctx, puts...)
	if err != nil {
		return c.stored(err)
	}
	t.version = versions[len(versions)-1]
	return nil
}

// again tells why a write with t that met a conflict is not to be made again: it is, and nil is
// returned, if somebody has written to the conversation meanwhile.
func (c *chat) again(ctx context.Context, t thread, conflict error) error {
	now, err := c.same(ctx, t.Space)
	if err == nil && now.version == t.version {
		err = c.fail(nil, "it has a record that nobody has written: %v", conflict)
	}
	return err
}
