package flow

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pawlrun/pawl/agent"
	"github.com/pawlrun/pawl/llm"
)

// usualUnpriced is put aside for a call of a model without a price where nobody says otherwise, in micro-USD.
const usualUnpriced = 100_000

func (w *World) unpriced() int64 {
	if w.Unpriced == 0 {
		return usualUnpriced
	}
	return w.Unpriced
}

// model is a model's name with its provider.
func (w *World) model(name string) string {
	if name == w.Model {
		return name
	}
	o := Options{Provider: w.Provider}
	return o.model(name)
}

func newBound(f *Flow, w World, l *family) *bound {
	return &bound{flow: f, world: w, family: l, nets: map[*step]*net{}, total: map[*step]amounts{}, most: map[*step]amounts{}, seen: map[*step]int64{}, told: map[Open]bool{}, lists: newLists(f)}
}

// say notes why something has no bound.
func (b *bound) say(s *step, format string, args ...any) {
	if o := (Open{s.at.pointer(), fmt.Sprintf(format, args...)}); !b.told[o] {
		b.told[o] = true
		b.open = append(b.open, o)
	}
}

// price is what a model costs.
func (b *bound) price(name string) (llm.Price, bool) {
	if b.world.Price == nil {
		return llm.Price{}, false
	}
	return b.world.Price(b.world.model(name))
}

// answers are what so many tokens of answers cost at most of a model.
func (b *bound) answers(name string, tokens int64) int64 {
	p, is := b.price(name)
	if !is {
		if name = b.world.model(name); !slices.Contains(b.bare, name) {
			b.bare = append(b.bare, name)
		}
		b.prompts = true
		return endless
	}
	rate := int64(0)
	paid := func(r llm.Rates) {
		rate = max(rate, r.Output)
		b.prompts = b.prompts || max(r.Input, r.Cached, r.CacheWrite) > 0
	}
	paid(p.Base)
	for _, long := range p.Above {
		paid(long.Rates)
	}
	return share{rate, 1e6, 0}.brings(tokens)
}

// named are the models that a step names, or the one that is asked where it names none.
func (b *bound) named(names []string) []string {
	if len(names) == 0 || names[0] == "" {
		return []string{b.world.Model}
	}
	return names
}

// decision is the most that a decision takes, with all its tries.
func (b *bound) decision(s *step, w *decision) (most amounts) {
	once := w.call.Most()
	for _, name := range b.named(w.models) {
		most = most.plus(amounts{ofCalls: int64(once.Calls), ofTokens: once.Tokens, ofAnswers: b.answers(name, once.Tokens)})
	}
	return most.times(int64(s.attempts))
}

// agent is the most that an agent takes. How many tools it calls in a turn is the model's to say.
func (b *bound) agent(s *step, w *agentWork) amounts {
	turn := w.config.MostOfTurn()
	each := amounts{ofCalls: int64(turn.Calls), ofTokens: turn.Tokens, ofAnswers: b.answers(b.named([]string{w.model})[0], turn.Tokens)}
	most := each.times(int64(w.config.Turns()))
	if limit := w.config.MaxCost; limit > 0 { // it is asked before each turn
		most[ofAnswers] = min(most[ofAnswers], plus(limit, each[ofAnswers]))
	}
	for _, t := range w.tools {
		switch {
		case t.flow != "":
			inner := b.child(s, t.flow)
			for what, n := range inner {
				if n > 0 {
					b.say(s, "how often it runs %s is the agent's to say", t.flow)
					most[what] = endless
				}
			}
		case t.service != "":
			b.say(s, "how often it calls %s is the agent's to say", t.use)
			most[ofServices] = endless
		}
	}
	return most
}

// child is the most that a run of another flow takes.
func (b *bound) child(s *step, name string) (most amounts) {
	inner := b.family.child(name)
	detached := false
	if w, is := s.work.(*child); is {
		detached = w.detach
	}
	if inner == nil {
		b.say(s, "what the workflow %s takes is not known here", name)
		if detached {
			b.detached = endless
		} else {
			b.prompts = true
		}
		return amounts{ofCalls: endless, ofTokens: endless, ofServices: endless, ofAnswers: endless}
	}
	for _, o := range inner.Open {
		b.say(s, "%s: %s", name, o.Message)
	}
	for _, model := range inner.Cost.Unpriced {
		if !slices.Contains(b.bare, model) {
			b.bare = append(b.bare, model)
		}
	}
	b.prompts = b.prompts || !detached && (inner.Cost.Most == nil || *inner.Cost.Most > 0)
	return amounts{ofCalls: or(inner.ModelCalls.Most), ofTokens: or(inner.OutputTokens.Most), ofServices: or(inner.ServiceCalls.Most), ofAnswers: or(inner.Cost.Answers)}
}

// or is a number of a WorstCase.
func or(n *int64) int64 {
	if n == nil {
		return endless
	}
	return *n
}

// leastOf is what one visit takes at least of something, if nothing fails.
type leastOf func(s *step) int64

func leastSteps(s *step) int64 { return 1 }

func (b *bound) leastCalls(s *step) int64 {
	switch w := s.work.(type) {
	case *decision:
		if w.call.Cache.For > 0 {
			return 0
		}
		return 1
	case *agentWork:
		return 1
	case *child:
		if inner := b.family.child(w.name); inner != nil && !w.detach {
			return inner.ModelCalls.Least
		}
	}
	return 0
}

func (b *bound) leastServices(s *step) int64 {
	switch w := s.work.(type) {
	case *call:
		return 1
	case *wait:
		return int64(len(w.notices))
	case *child:
		if inner := b.family.child(w.name); inner != nil && !w.detach {
			return inner.ServiceCalls.Least
		}
	}
	return 0
}

// cheapest is the least that going through a graph to its end takes; 0 if no way leads there. Lists may be empty.
func (b *bound) cheapest(g graph, of leastOf) int64 {
	n := b.nets[g.steps[0]]
	least := n.cheapest(func(i int) int64 {
		s := n.steps[i]
		if s.when != nil {
			return of(&step{work: noWork{}}) // it is skipped
		}
		own := of(s)
		if p, is := s.work.(*parallel); is {
			var branches []int64
			for _, branch := range p.branches {
				branches = append(branches, b.cheapest(branch.graph, of))
			}
			slices.Sort(branches)
			for _, n := range branches[:min(p.need(), len(branches))] {
				own = plus(own, n)
			}
		}
		return own
	}, plus)
	if least == endless {
		return 0
	}
	return least
}

// needed is what must be free for a run to come through a graph to its end: the dearest call on the cheapest way. A step whose
// failure stops nobody needs nothing.
func (b *bound) needed(g graph) int64 {
	n := b.nets[g.steps[0]]
	needed := n.cheapest(func(i int) int64 {
		s := n.steps[i]
		if s.when != nil {
			return 0
		}
		switch w := s.work.(type) {
		case *decision:
			if w.call.Cache.For > 0 {
				return 0
			}
			request := llm.Request{System: agent.UntrustedRule + w.system.fixed(), Messages: []llm.Message{llm.User(w.prompt.fixed())}, Schema: schemaFor(w.call.Shape)}
			return b.putAside(b.named(w.models)[0], &request, w.call.Room())
		case *agentWork:
			request := llm.Request{System: agent.UntrustedRule + w.instructions.fixed(), Schema: schemaFor(w.config.Shape)}
			return b.putAside(b.named([]string{w.model})[0], &request, (&agent.Call{Shape: w.config.Shape, MaxTokens: w.config.MaxTokens}).Room())
		case *child:
			if inner := b.family.child(w.name); inner != nil && !w.detach {
				return inner.Cost.Needed
			}
		case *parallel:
			var branches []int64
			for _, branch := range w.branches {
				branches = append(branches, b.needed(branch.graph))
			}
			slices.Sort(branches)
			if need := min(w.need(), len(branches)); need > 0 {
				return branches[need-1]
			}
		}
		return 0
	}, func(a, b int64) int64 { return max(a, b) })
	if needed == endless {
		return 0
	}
	return needed
}

func schemaFor(s *agent.Shape) *llm.Schema {
	if s == nil {
		return nil
	}
	return s.Schema()
}

// putAside is what is put aside at least before a model is asked: what is filled in only makes it more.
func (b *bound) putAside(model string, r *llm.Request, room int) int64 {
	p, is := b.price(model)
	if !is {
		return b.world.unpriced()
	}
	return p.Most(llm.EstimateInput(r), room)
}

// fixed is what a text has without what is filled in.
func (v value) fixed() string {
	if v.template == nil {
		text, _ := v.constant.(string)
		return text
	}
	var text strings.Builder
	for _, p := range v.template.parts {
		text.WriteString(p.text)
	}
	return text.String()
}
