package agent

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"slices"

	"github.com/pawlrun/pawl"
)

// piece reads one piece.
func (c *chat) piece(ctx context.Context, t thread, key string) (p piece, err error) {
	r, err := c.e.Record(ctx, t.Space, key)
	switch {
	case errors.Is(err, pawl.ErrNotFound):
		return p, c.lost(ctx, t, key)
	case err != nil:
		return p, c.stored(err)
	}
	return c.pieceOf(r)
}

func (c *chat) pieceOf(r pawl.Record) (p piece, err error) {
	if err = c.readable(r, &p); err == nil && len(p.Messages) == 0 && p.Before == "" {
		err = c.fail(nil, "record %q of %s has no messages", r.Key, r.Space)
	}
	return p, err
}

func (c *chat) readable(r pawl.Record, into any) error {
	if err := json.Unmarshal(r.Data, into); err != nil {
		return c.fail(nil, "record %q of %s does not read back: %v", r.Key, r.Space, err)
	}
	return nil
}

// lost says why a record is not there.
func (c *chat) lost(ctx context.Context, t thread, key string) error {
	if _, err := c.same(ctx, t.Space); err != nil { // it was deleted while it was read
		return err
	}
	return c.fail(nil, "record %q of %s is missing, and with it a part of what was said", key, t.Space)
}

// numbered reads the last pieces of the exchanges from and up to to, in their order.
func (c *chat) numbered(ctx context.Context, t thread, from, to int) ([]piece, error) {
	var out []piece
	for n := from; n <= to; {
		page, err := c.e.Records(ctx, t.Space, "x/", exchangeKey(n-1), min(to-n+1, piecesAtOnce))
		if err != nil {
			return nil, c.stored(err)
		}
		if len(page) == 0 {
			return nil, c.lost(ctx, t, exchangeKey(n))
		}
		for _, r := range page {
			if r.Key != exchangeKey(n) {
				return nil, c.lost(ctx, t, exchangeKey(n))
			}
			p, err := c.pieceOf(r)
			if err != nil {
				return nil, err
			}
			out = append(out, p)
			n++
		}
	}
	return out, nil
}

// back reads pieces from the end of an exchange to its beginning.
func (c *chat) back(ctx context.Context, t thread, last piece) iter.Seq2[piece, error] {
	return func(yield func(piece, error) bool) {
		for p := last; yield(p, nil) && p.Before != ""; {
			earlier, err := c.piece(ctx, t, p.Before)
			if err == nil && earlier.Earlier+len(earlier.Messages) != p.Earlier {
				err = c.fail(nil, "record %q of %s has not the messages that are before those of another", p.Before, t.Space)
			}
			if err != nil {
				yield(piece{}, err)
				return
			}
			earlier.First = p.First
			p = earlier
		}
	}
}

// backward reads pieces from the end of exchange n to the beginning of the conversation.
func (c *chat) backward(ctx context.Context, t thread, n int) iter.Seq2[piece, error] {
	return func(yield func(piece, error) bool) {
		for next := -1; n > 0; {
			page, err := c.numbered(ctx, t, max(n-piecesAtOnce+1, 1), n)
			if err != nil {
				yield(piece{}, err)
				return
			}
			n -= len(page)
			for _, last := range slices.Backward(page) {
				if end := last.First + last.Earlier + len(last.Messages); next >= 0 && end != next {
					yield(piece{}, c.misfit(end, next))
					return
				}
				next = last.First
				for p, err := range c.back(ctx, t, last) {
					if !yield(p, err) || err != nil {
						return
					}
				}
			}
		}
	}
}

// forward reads pieces from that with message number at+1 on.
func (c *chat) forward(ctx context.Context, t thread, at int) iter.Seq2[piece, error] {
	return func(yield func(piece, error) bool) {
		n, err := c.find(ctx, t, at)
		for next := -1; n <= t.Exchanges; n += piecesAtOnce {
			var page []piece
			if err == nil {
				page, err = c.numbered(ctx, t, n, min(n+piecesAtOnce-1, t.Exchanges))
			}
			if err != nil {
				yield(piece{}, err)
				return
			}
			for _, last := range page {
				if next >= 0 && last.First != next {
					yield(piece{}, c.misfit(next, last.First))
					return
				}
				next = last.First + last.Earlier + len(last.Messages)
				var whole []piece
				for p, err := range c.back(ctx, t, last) {
					if err != nil {
						yield(piece{}, err)
						return
					}
					whole = append(whole, p)
					if p.First+p.Earlier <= at {
						break
					}
				}
				for _, p := range slices.Backward(whole) {
					if len(p.Messages) == 0 { // all of the exchange was staged
						continue
					}
					if skip := at - p.First - p.Earlier; skip > 0 {
						if skip >= len(p.Messages) {
							continue
						}
						p.Messages, p.Earlier = p.Messages[skip:], p.Earlier+skip
					}
					if !yield(p, nil) {
						return
					}
				}
			}
		}
	}
}

func (c *chat) misfit(end, begin int) error {
	return c.fail(nil, "an exchange ends with message %d and the next one begins after message %d", end, begin)
}

// find returns the exchange that has message number at+1, or would have it.
func (c *chat) find(ctx context.Context, t thread, at int) (int, error) {
	if at <= 0 {
		return 1, nil
	}
	low, high := 1, t.Exchanges+1 // the first that begins after at is in here
	for low < high {
		n := (low + high) / 2
		p, err := c.piece(ctx, t, exchangeKey(n))
		if err != nil {
			return 0, err
		}
		if p.First > at {
			high = n
		} else {
			low = n + 1
		}
	}
	return max(low-1, 1), nil
}
