package flow

import (
	"fmt"
	"strconv"
	"strings"
)

// WorstCase is what one run of a flow takes at most, and at least, as far as that can be said before it has begun. No run goes
// beyond it; whether one comes to it is for models and data to decide. An attempt that a crash cuts off is made again, and is not
// counted twice here. Numbers that are nil have no bound of their own: Open says why.
type WorstCase struct {
	Summary      string   `json:"summary"` // in a line
	Steps        Range    `json:"steps"`   // with those of branches and items; not those of children
	ModelCalls   Range    `json:"modelCalls"`
	OutputTokens Range    `json:"outputTokens"` // of the answers of models, those included that are thrown away. The least is 0
	ServiceCalls Range    `json:"serviceCalls"`
	Cost         MostCost `json:"cost"`
	// PerStep are the steps that call models or services, in the order of the document: at most MaxPerStep of them.
	PerStep []StepWorst `json:"perStep,omitempty"`
	Open    []Open      `json:"open,omitempty"`
}

// MaxPerStep bounds WorstCase.PerStep.
const MaxPerStep = 1000

// Range is a number's least and most. The least is that of a run that comes to its end and in which nothing fails; calls that a
// cache may answer are not in it.
type Range struct {
	Least int64  `json:"least"`
	Most  *int64 `json:"most"` // nil: there is no bound
}

// MostCost is what model calls cost, in millionths of a US dollar.
type MostCost struct {
	// Most is what a run can cost: its limits.maxCostUsd, as the money for a call is put aside before it is made; nothing where
	// there is nothing to pay. With that of detached children, who have limits of their own; nil: one of them is not known.
	Most *int64 `json:"mostMicroUsd"`
	// Limit is limits.maxCostUsd.
	Limit int64 `json:"limitMicroUsd"`
	// Answers are what all tokens of OutputTokens would cost, if there were no limit. What is asked is not in it: how long a
	// prompt is that was filled in nobody knows beforehand. nil: there is no bound, or a price is not known.
	Answers *int64 `json:"answersMicroUsd"`
	// Needed must be free for a run to come to its end: on the cheapest way, what is put aside for its dearest call.
	Needed int64 `json:"neededMicroUsd"`
	// Unpriced are models whose price is not known: Assumed is put aside, and counted, for each call.
	Unpriced []string `json:"unpriced,omitempty"`
	Assumed  int64    `json:"assumedMicroUsd,omitempty"`
}

// StepWorst is what a step takes in a run, with all its visits.
type StepWorst struct {
	Step         string `json:"step"`    // its id, below those of the steps around it: "fan/left/ask"
	Pointer      string `json:"pointer"` // of the document
	Visits       *int64 `json:"visits"`
	ModelCalls   *int64 `json:"modelCalls"`
	OutputTokens *int64 `json:"outputTokens"`
	ServiceCalls *int64 `json:"serviceCalls"`
	Answers      *int64 `json:"answersMicroUsd"`
}

// Open is why something has no bound.
type Open struct {
	Pointer string `json:"pointer"`
	Message string `json:"message"`
}

// WorstCase finds what a run of the flow takes at most. Of the world it asks Model, Provider, Price, Unpriced and Child.
func (f *Flow) WorstCase(w World) WorstCase {
	return (&family{world: w, found: map[string]*WorstCase{}}).of(f)
}

func (b *bound) worst() WorstCase {
	f := b.flow
	all := b.capped(b.graph(f.main))
	out := WorstCase{
		Steps:        Range{b.cheapest(f.main, leastSteps), bounded(all[ofSteps])},
		ModelCalls:   Range{b.cheapest(f.main, b.leastCalls), bounded(all[ofCalls])},
		OutputTokens: Range{0, bounded(all[ofTokens])},
		ServiceCalls: Range{b.cheapest(f.main, b.leastServices), bounded(all[ofServices])},
		Cost:         MostCost{Limit: microUSD(f.limits.cost), Answers: bounded(all[ofAnswers]), Needed: b.needed(f.main), Unpriced: b.bare},
		Open:         b.open,
	}
	most := int64(0)
	if all[ofCalls] > 0 && (b.prompts || all[ofAnswers] > 0) {
		most = out.Cost.Limit
	}
	if len(b.bare) > 0 {
		out.Cost.Assumed = b.world.unpriced()
	}
	b.tell(&out, f.main, "", 1)
	out.Cost.Most = bounded(plus(most, b.detached))
	out.Summary = out.said()
	return out
}

func microUSD(dollars float64) int64 { return int64(dollars*1e6 + 0.5) }

// bounded is a number, or nil where it is endless.
func bounded(n int64) *int64 {
	if n == endless {
		return nil
	}
	return &n
}

// tell adds what the steps of a graph take that is gone through so often.
func (b *bound) tell(out *WorstCase, g graph, under string, often int64) {
	for _, s := range g.steps {
		visits := min(times(often, b.seen[s]), b.steps())
		own := amounts{}
		switch w := s.work.(type) {
		case *parallel:
			for _, branch := range w.branches {
				b.tell(out, branch.graph, under+s.id+"/"+branch.id+"/", visits)
			}
		case *each:
			b.tell(out, w.graph, under+s.id+"/", times(visits, b.lists.items(w)))
		case *child:
			own = b.most[s].times(visits)
			if inner := b.family.child(w.name); inner != nil && w.detach {
				b.detached = plus(b.detached, times(visits, or(inner.Cost.Most)))
			}
		default:
			own = b.most[s].times(visits)
		}
		if own[ofCalls]+own[ofServices] == 0 || len(out.PerStep) == MaxPerStep {
			continue
		}
		out.PerStep = append(out.PerStep, StepWorst{
			Step: under + s.id, Pointer: s.at.pointer(), Visits: bounded(visits), ModelCalls: bounded(own[ofCalls]),
			OutputTokens: bounded(own[ofTokens]), ServiceCalls: bounded(own[ofServices]), Answers: bounded(own[ofAnswers]),
		})
	}
}

// said says it in a line.
func (w *WorstCase) said() string {
	most := func(n *int64, one string) string {
		switch {
		case n == nil:
			return one + "s without a bound"
		case *n == 1:
			return "1 " + one
		case *n == 0:
			return "no " + one + "s"
		}
		return grouped(*n) + " " + one + "s"
	}
	said := []string{"at most " + most(w.ModelCalls.Most, "model call"), most(w.ServiceCalls.Most, "service call"), most(w.Steps.Most, "step")}
	text := strings.Join(said, ", ") + "; "
	c := w.Cost
	switch {
	case c.Most == nil:
		text += "what it costs has no bound"
	case *c.Most == 0:
		return text + "it costs nothing"
	case *c.Most > c.Limit:
		text += "at most " + dollarsOf(*c.Most) + ", with children that it does not wait for"
	default:
		text += "at most " + dollarsOf(*c.Most) + " (limits.maxCostUsd)"
	}
	switch {
	case len(c.Unpriced) > 0:
		text += fmt.Sprintf(", with %s assumed for each call of %s, whose price is not known", dollarsOf(c.Assumed), strings.Join(c.Unpriced, ", "))
	case c.Answers == nil:
	case *c.Answers > c.Limit:
		text += fmt.Sprintf(", without that limit %s for the answers alone", dollarsOf(*c.Answers))
	default:
		text += fmt.Sprintf(", of which answers are at most %s", dollarsOf(*c.Answers))
	}
	return text
}

// grouped is a number with its digits in groups of three.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// dollarsOf is an amount for people: at least two digits behind the point, and as many as it takes up to six.
func dollarsOf(micro int64) string {
	text := fmt.Sprintf("%06d", micro%1e6)
	for len(text) > 2 && text[len(text)-1] == '0' {
		text = text[:len(text)-1]
	}
	return "$" + grouped(micro/1e6) + "." + text
}

// costs warns of models without a price, and of a limit with which no run in which nothing fails comes to its end.
func (f *findings) costs(made *Flow, w World) {
	if w.Price == nil {
		return
	}
	b := newBound(made, w, &family{world: w, found: map[string]*WorstCase{}})
	made.main.each(func(s *step) {
		config := s.at.get("config")
		named := []*node{config.get("model")}
		if others := config.get("models"); others != nil {
			named = append(named, others.items...)
		}
		for _, at := range named {
			if at.is(textKind) && (s.kind == "ai-decision" || s.kind == "agent") {
				if _, is := b.price(at.text); !is {
					f.warn(at, "add it to the file of prices of the server", "what the model %s costs is not known: %s is put aside, and counted, for each call", w.model(at.text), dollarsOf(w.unpriced()))
				}
			}
		}
	})
	b.graph(made.main)
	if needed, limit := b.needed(made.main), microUSD(made.limits.cost); needed > limit {
		at := made.root.get("limits").get("maxCostUsd")
		if at == nil {
			at = made.root.get("id")
		}
		f.warn(at, "raise limits.maxCostUsd, or lower maxTokens of the steps", "a run in which nothing fails can't come to its end: each way asks a model for whose answer %s must be free, and limits.maxCostUsd is %s", dollarsOf(needed), dollarsOf(limit))
	}
}
