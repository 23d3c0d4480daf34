package flow

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/pawlrun/pawl"
	"github.com/pawlrun/pawl/agent"
)

// gate lets so many steps of a run be at work that what they bring fits into memory: what a step brings is written out, stored and read again before it is
// counted as held. How much that will be nobody knows before, so it is taken to be what the step has brought at most so far; of one of which
// nothing is known, what others of its type have brought, and it begins with few at a time.
type gate struct {
	mu     sync.Mutex
	taken  int // bytes of those at work
	larger int // how many wait for more room than they had: nobody enters before them
	known  map[*step]int
	kinds  map[string]int // the most that a step of a type has brought
	change chan bool      // closed when something has been given back; nil: nobody waits
}

// enter waits until there is room for one more of the step, or ctx ends. What it returns is to be given back by leave.
func (g *gate) enter(ctx context.Context, s *step) (int, error) {
	for {
		g.mu.Lock()
		size := g.guess(s)
		var change chan bool
		if g.larger > 0 {
			change = g.changing()
		} else {
			change = g.take(size)
		}
		g.mu.Unlock()
		if change == nil {
			return size, nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// guess is what the step is taken to bring. The caller holds mu.
func (g *gate) guess(s *step) int {
	if size, is := g.known[s]; is {
		return size
	}
	if d, asks := s.work.(*decision); asks {
		return max(mayAnswer, 16*d.call.Room(), g.kinds[s.kind]) // a token has about four bytes, and what comes of them takes four times as many
	}
	return max(mayBring, g.kinds[s.kind])
}

// take takes room, if there is any; else it returns what is closed when there is more. One has room always. The caller holds mu.
func (g *gate) take(size int) (change chan bool) {
	if g.taken == 0 || g.taken+size <= maxAtWork {
		g.taken += size
		return nil
	}
	return g.changing()
}

// changing is closed when something has been given back. The caller holds mu.
func (g *gate) changing() chan bool {
	if g.change == nil {
		g.change = make(chan bool)
	}
	return g.change
}

// give gives room back. The caller holds mu.
func (g *gate) give(size int) {
	g.taken -= size
	if g.change != nil {
		close(g.change)
		g.change = nil
	}
}

// room is what an attempt that has entered has taken; its context has it.
type room struct{ taken int }

type roomKey struct{}

// more is for an attempt of which is known now what it brings: if that is more than was thought, it waits until there is room for all of it.
// Meanwhile it has none, so that those who wait don't wait for each other. It waits also if it was given up, as what was paid for is noted
// all the same: room is given back soon, since who is at work has what it asked for, or is given up too.
func (g *gate) more(ctx context.Context, size int) {
	r := ctx.Value(roomKey{}).(*room)
	if size <= r.taken {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.give(r.taken)
	g.larger++
	for change := g.take(size); change != nil; change = g.take(size) {
		g.mu.Unlock()
		<-change
		g.mu.Lock()
	}
	r.taken = size
	g.larger--
}

// leave gives back what enter took. Brought is how much it was after all, below 0 if nobody knows.
func (g *gate) leave(s *step, taken, brought int) {
	if taken == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.give(taken)
	if known, is := g.known[s]; brought >= 0 && (!is || brought > known) {
		if g.known == nil {
			g.known, g.kinds = map[*step]int{}, map[string]int{}
		}
		g.known[s] = max(brought, 1)
		g.kinds[s.kind] = max(brought, g.kinds[s.kind])
	}
}

// pass is the room that a step at work has.
type pass struct {
	taken int
	over  bool // the step is: an attempt that ends now was given up
}

// keep keeps the room of an attempt that has succeeded, until what it brought was read.
func (g *gate) keep(s *step, p *pass, taken int) {
	g.mu.Lock()
	over := p.over
	if !over {
		p.taken = taken
	}
	g.mu.Unlock()
	if over {
		g.leave(s, taken, -1)
	}
}

// close gives back what is kept.
func (g *gate) close(s *step, p *pass, brought int) {
	g.mu.Lock()
	taken := p.taken
	p.taken, p.over = 0, true
	g.mu.Unlock()
	g.leave(s, taken, brought)
}

// passing is a body of which each attempt passes the gate.
func passing[T any](g *gate, s *step, p *pass, body func(context.Context) (T, error)) func(context.Context) (T, error) {
	return func(ctx context.Context) (out T, err error) {
		taken, err := g.enter(ctx, s)
		if err != nil {
			return out, err
		}
		r, done := &room{taken}, false
		defer func() {
			if done {
				g.keep(s, p, r.taken)
			} else {
				g.leave(s, r.taken, -1)
			}
		}()
		out, err = body(context.WithValue(ctx, roomKey{}, r))
		done = err == nil
		return out, err
	}
}

// work is pawl.Step of a body that brings JSON, decoded. Each attempt passes the gate.
func (x *run) work(c *pawl.Context, s *step, body func(context.Context) (json.RawMessage, error)) (any, error) {
	var p pass
	size := -1
	defer func() { x.gate.close(s, &p, size) }()
	out, err := pawl.Step(c, s.id, passing(&x.gate, s, &p, func(ctx context.Context) (brought, error) {
		text, err := body(ctx)
		return brought{text}, err
	}), s.options()...)
	if err != nil {
		return nil, err
	}
	if atLeast(out.text) > x.flow.limits.bytes { // it could not be kept, and read it would be many times what it is now
		x.spent.come(&LimitError{Step: s.id, Limit: "maxBytes", Most: x.flow.limits.bytes})
		return nil, x.spent.over()
	}
	v, err := decode(out.text)
	if err == nil {
		size = max(len(out.text), sizeOf(v, maxAtWork))
	}
	return v, err
}

// brought is what a step brings, as JSON, on its way into the journal and from there. It is not copied.
type brought struct{ text json.RawMessage }

// GiveJSON gives the text away: no body keeps what it returns.
func (b brought) GiveJSON() json.RawMessage { return b.text }

func (b brought) MarshalJSON() ([]byte, error) { return b.text.MarshalJSON() }

// UnmarshalJSON keeps data, which is the journal's own and never changes.
func (b *brought) UnmarshalJSON(data []byte) error {
	b.text = data
	return nil
}

// ask is agent.Ask, through the gate. Read makes of the answer what the step brings.
func (x *run) ask(c *pawl.Context, s *step, call agent.Call, read func(*agent.Answer) (any, error)) (*agent.Answer, any, error) {
	var p pass
	brought := -1
	defer func() { x.gate.close(s, &p, brought) }()
	call.Around = func(ctx context.Context, ask func(context.Context) (*agent.Answer, error)) (*agent.Answer, error) {
		return passing(&x.gate, s, &p, ask)(ctx)
	}
	call.Arrived = func(ctx context.Context, bytes int) { x.gate.more(ctx, 4*bytes) } // it, its note, its record, what is read of it
	answer, err := agent.Ask(c, x.opt.Models, s.id, call, s.options()...)
	if err != nil {
		return nil, nil, err
	}
	v, err := read(answer)
	if err == nil { // the ledger's note has the answer too
		brought = max(2*len(answer.Text)+len(answer.Value), sizeOf(v, maxAtWork))
	}
	return answer, v, err
}
