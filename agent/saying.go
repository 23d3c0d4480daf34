package agent

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/llm"
)

// saying is what is being written: messages of one exchange.
type saying struct {
	part     string
	run      string
	before   string // the piece before them
	earlier  int    // messages up to the end of that
	messages []llm.Message
}

// stage writes messages as pieces that nobody sees yet, each of at most so many bytes unless a
// single message has more, and returns what is left: nothing, or with leave the last piece.
// Pieces that an earlier attempt has written are taken as they are.
func (c *chat) stage(ctx context.Context, space string, s saying, most int, leave bool) (saying, error) {
	for n := 0; len(s.messages) > 0; {
		count, size := headOfAtMost(s.messages, most)
		if leave && count == len(s.messages) {
			break
		}
		t, err := c.same(ctx, space)
		if err != nil {
			return s, err
		}
		key := partKey(s.part, n)
		p := piece{Part: s.part, Run: s.run, Before: s.before, Earlier: s.earlier, Messages: s.messages[:count], At: time.Now().UTC()}
		data, err := json.Marshal(p)
		if err != nil {
			return s, c.stored(err)
		}
		err = c.write(ctx, &t, pawl.Put{Space: space, Key: key, Data: data})
		var taken *pawl.RecordConflictError
		switch {
		case errors.As(err, &taken) && taken.Key == key && taken.Space == space:
			if p, err = c.piece(ctx, t, key); err != nil {
				return s, err
			}
			if p.Earlier != s.earlier || len(p.Messages) > len(s.messages) {
				return s, c.fail(nil, "record %q of %s has not what the run has said", key, space)
			}
		case errors.Is(err, pawl.ErrConflict):
			if err := c.again(ctx, t, err); err != nil {
				return s, err
			}
			continue
		case errors.Is(err, pawl.ErrTooLarge) && count > 1:
			most = size / 2
			continue
		case err != nil:
			return s, err
		}
		s.before, s.earlier, s.messages = key, s.earlier+len(p.Messages), s.messages[len(p.Messages):]
		n++
	}
	return s, nil
}

// headOfAtMost is how many messages a piece of so many bytes has room for, at least one.
func headOfAtMost(messages []llm.Message, most int) (count, size int) {
	for i := range messages {
		data, _ := json.Marshal(&messages[i]) // what has no form is told of when the piece is written
		if i > 0 && size+len(data) > most {
			return i, size
		}
		size += len(data)
	}
	return len(messages), size
}

// add appends an exchange and returns how many messages are before it and how many after it.
// One whose part has been appended already, after exchange number since, is not appended again.
// check, if not nil, may refuse what the thread is.
func (c *chat) add(ctx context.Context, space string, s saying, since int, check func(thread) error) (first, last int, err error) {
	for most := pieceBytesMax; ; most /= 2 { // the engine may take records of less only
		s, err := c.stage(ctx, space, s, most, true)
		if err != nil {
			return 0, 0, err
		}
		first, last, err = c.publish(ctx, space, s, since, check)
		if !errors.Is(err, pawl.ErrTooLarge) || len(s.messages) == 1 {
			return first, last, err
		}
	}
}

// publish makes an exchange seen, the messages of which are staged but for the last ones.
func (c *chat) publish(ctx context.Context, space string, s saying, since int, check func(thread) error) (first, last int, err error) {
	for {
		t, err := c.same(ctx, space)
		if err != nil {
			return 0, 0, err
		}
		for ; since < t.Exchanges; since = min(since+piecesAtOnce, t.Exchanges) {
			page, err := c.numbered(ctx, t, since+1, min(since+piecesAtOnce, t.Exchanges))
			if err != nil {
				return 0, 0, err
			}
			for _, p := range page {
				if p.Part == s.part {
					return p.First, p.First + p.Earlier + len(p.Messages), nil
				}
			}
		}
		if check != nil {
			if err := check(t); err != nil {
				return 0, 0, err
			}
		}
		first, now := t.Messages, time.Now().UTC()
		data, err := json.Marshal(piece{Part: s.part, Run: s.run, First: first, Before: s.before, Earlier: s.earlier, Messages: s.messages, At: now})
		if err != nil {
			return 0, 0, c.stored(err)
		}
		t.Exchanges++
		t.Messages += s.earlier + len(s.messages)
		t.Updated = now
		err = c.write(ctx, &t, pawl.Put{Space: space, Key: exchangeKey(t.Exchanges), Data: data})
		if !errors.Is(err, pawl.ErrConflict) {
			return first, t.Messages, err
		}
		if err := c.again(ctx, t, err); err != nil {
			return 0, 0, err
		}
	}
}
