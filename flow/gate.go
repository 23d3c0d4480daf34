package flow

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/pawlrun/pawl"
)

// gate lets so many steps of a run be at work that what they bring fits into memory: what a step brings is written out, stored and read again before it is
// counted as held. How much that will be nobody knows before, so it is taken to be what the step has brought at most so far; a step of which
// nothing is known begins with few at a time.
type gate struct {
	mu     sync.Mutex
	taken  int // bytes of those at work
	known  map[*step]int
	change chan bool // closed when something has been given back; nil: nobody waits
}

// enter waits until there is room for one more of the step, or ctx ends. What it returns is to be given back by leave.
func (g *gate) enter(ctx context.Context, s *step) (int, error) {
	for {
		g.mu.Lock()
		size, is := g.known[s]
		if !is {
			size = mayBring
		}
		if g.taken == 0 || g.taken+size <= maxAtWork {
			g.taken += size
			g.mu.Unlock()
			return size, nil
		}
		if g.change == nil {
			g.change = make(chan bool)
		}
		change := g.change
		g.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// leave gives back what enter took. Brought is how much it was after all, below 0 if nobody knows.
func (g *gate) leave(s *step, taken, brought int) {
	if taken == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.taken -= taken
	if known, is := g.known[s]; brought >= 0 && (!is || brought > known) {
		if g.known == nil {
			g.known = map[*step]int{}
		}
		g.known[s] = max(brought, 1)
	}
	if g.change != nil {
		close(g.change)
		g.change = nil
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

// work is pawl.Step of a body that brings JSON, decoded. Each attempt passes the gate.
func (x *run) work(c *pawl.Context, s *step, body func(context.Context) (json.RawMessage, error)) (any, error) {
	var p pass
	brought := -1
	defer func() { x.gate.close(s, &p, brought) }()
	out, err := pawl.Step(c, s.id, func(ctx context.Context) (out json.RawMessage, err error) {
		taken, err := x.gate.enter(ctx, s)
		if err != nil {
			return nil, err
		}
		done := false
		defer func() {
			if done {
				x.gate.keep(s, &p, taken)
			} else {
				x.gate.leave(s, taken, -1)
			}
		}()
		out, err = body(ctx)
		done = err == nil
		return out, err
	}, s.options()...)
	if err != nil {
		return nil, err
	}
	v, err := decode(out)
	if err == nil {
		brought = max(len(out), sizeOf(v, maxAtWork))
	}
	return v, err
}
