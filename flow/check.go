package flow

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/pawlrun/pawl/expr"
)

// check looks at what a flow's steps have to do with each other.
func check(f *findings, made *Flow, w World) {
	if made.root.get("trigger") != nil && made.root.get("triggers") != nil {
		f.fault(made.root.get("triggers"), "move the one into the list", "trigger and triggers are both there")
	}
	made.checkStarts(f)
	k := &checker{f: f, flow: made, world: w, read: map[string]bool{}, words: wordsOf(made.main)}
	k.secrets()
	k.graph(made.main, known{}, nil, inside{})
	k.unread(made.main)
	k.trust(made.main, "", newAround(made.main, nil))
}

// each calls f with every step of a graph and of those within it.
func (g graph) each(f func(*step)) {
	for _, s := range g.steps {
		f(s)
		for _, inner := range s.graphs() {
			inner.each(f)
		}
	}
}

// checker holds what the checks of one flow share.
type checker struct {
	f     *findings
	flow  *Flow
	world World
	read  map[string]bool // steps and variables that something reads: "step:id", "variable:name"
	words words           // what a model may have written

	starts  *said // of the flow's inputs
	within  map[string]string
	answers map[*step]*said // of outputSchemas
	sender  *step           // whose places sent has
	sent    map[*node]bool
	looked  map[string]bool // secrets that were looked for
}

// inside tells what is around a graph.
type inside struct{ item bool } // a map: there is item and index

// graph checks a graph and those within it. Before is what is known before its first step, outer the steps around it.
func (k *checker) graph(g graph, before known, outer *around, in inside) {
	if len(g.steps) == 0 {
		return
	}
	seen := map[string]*step{}
	for _, s := range g.steps {
		id := s.at.get("id")
		switch {
		case !id.is(textKind):
		case s.id == End || s.id == Fail || s.id == "default":
			k.f.fault(id, "", "%q has a meaning of its own and can't name a step", s.id)
		case seen[s.id] != nil:
			k.f.fault(id, fmt.Sprintf("the other one is at %s", seen[s.id].at.pointer()), "two steps are called %q", s.id)
		case outer.find(s.id) != nil:
			k.f.fault(id, fmt.Sprintf("the other one is at %s", outer.find(s.id).at.pointer()), "a step around this one is called %q too", s.id)
		}
		seen[s.id] = s
	}
	k.targets(g)
	k.reachable(g)
	k.circles(g)
	for _, s := range g.steps {
		k.failure(s)
		k.coverage(s)
	}
	k.references(g, before, outer, in)
}

// targets checks that what a step leads to is there.
func (k *checker) targets(g graph) {
	names := append(sortedNames(g.by), End, Fail)
	for _, s := range g.steps {
		for _, t := range s.targets() {
			if t.to == "" || t.to == End || t.to == Fail || g.by[t.to] != nil {
				continue
			}
			k.f.fault(t.at, k.f.did(t.to, names), "there is no step %q here", t.to)
		}
	}
}

// reachable checks that each step can be reached.
func (k *checker) reachable(g graph) {
	seen := map[string]bool{}
	left := []*step{g.steps[0]}
	for len(left) > 0 {
		s := left[len(left)-1]
		left = left[:len(left)-1]
		if seen[s.id] {
			continue
		}
		seen[s.id] = true
		for _, t := range s.targets() {
			if to := g.by[t.to]; to != nil {
				left = append(left, to)
			}
		}
	}
	for _, s := range g.steps {
		if !seen[s.id] && s.id != "" {
			k.f.fault(s.at.get("id"), "let another step lead here, or take it out", "no step leads to %q", s.id)
		}
	}
}

// circles checks that a run can't go round for ever: each circle needs a step that counts visits.
func (k *checker) circles(g graph) {
	const (
		open = iota + 1
		closed
	)
	state := make(map[*step]int, len(g.steps))
	type frame struct {
		s       *step
		targets []target
		next    int
	}
	told := 0
	for _, first := range g.steps {
		if state[first] != 0 || first.maxVisits > 0 {
			continue
		}
		path := []frame{{s: first, targets: first.targets()}} // a stack of its own: a flow may be long
		state[first] = open
		for len(path) > 0 {
			top := &path[len(path)-1]
			if top.next == len(top.targets) {
				state[top.s] = closed
				path = path[:len(path)-1]
				continue
			}
			t := top.targets[top.next]
			top.next++
			to := g.by[t.to]
			if to == nil || to.maxVisits > 0 {
				continue
			}
			switch state[to] {
			case open:
				from := slices.IndexFunc(path, func(f frame) bool { return f.s == to })
				var round []string
				for _, f := range path[from:] {
					round = append(round, f.s.id)
				}
				if round = append(round, to.id); len(round) > 12 {
					round = append(append(round[:6:6], "…"), round[len(round)-6:]...)
				}
				if told++; told > maxProblems {
					return // the others are of the same kind
				}
				k.f.fault(t.at, "give one of these steps maxVisits", "a run may go round for ever: %s", strings.Join(round, " → "))
			case 0:
				state[to] = open
				path = append(path, frame{s: to, targets: to.targets()})
			}
		}
	}
}

// failure checks what is said of a step that fails.
func (k *checker) failure(s *step) {
	at := s.at.get("fallbackStep")
	switch {
	case s.onFailure == "fallback" && at == nil:
		k.f.fault(s.at, `give "fallbackStep"`, "onFailure fallback needs the step to go to")
	case s.onFailure != "fallback" && at != nil:
		k.f.fault(at, `set onFailure to "fallback", or leave it out`, "fallbackStep has no meaning without onFailure fallback")
	case s.onFailure == "fallback" && s.fallback == s.id:
		k.f.fault(at, "", "a step can't stand in for itself")
	}
	notices := s.at.get("config").get("notify") != nil // each is a step that is tried again
	if policy := s.at.get("retryPolicy"); policy != nil && slices.Contains([]string{"parallel", "map", "wait", "workflow"}, s.kind) && !notices {
		k.f.warn(policy, "give it to the steps within", "a step of type %s is not tried again as a whole", s.kind)
	}
}

// coverage checks that each output leads somewhere.
func (k *checker) coverage(s *step) {
	n := s.next
	if n.to != "" || n.at == nil {
		return
	}
	if n.other == "" && s.skips() {
		k.f.fault(n.at, `give "default"`, "step %q may be skipped, and then has no output by which to go on", s.id)
		return
	}
	if !n.at.is(objectKind) {
		if n.other == "" {
			k.f.warn(n.at, `end the list with {"to": …}`, "the run fails if no condition of step %q holds", s.id)
		}
		return
	}
	values, known, what := s.routes()
	for _, field := range n.at.fields {
		if field.name == "default" {
			continue
		}
		if !known {
			k.number(s, field.at, field.name)
			continue
		}
		if !slices.Contains(values, field.name) {
			hint := k.f.did(field.name, values)
			if hint == "" {
				hint = what
			}
			k.f.fault(field.at, hint, "step %q never has the output %q", s.id, field.name)
		}
	}
	if n.other != "" {
		return
	}
	if !known {
		if len(n.at.fields) == 0 {
			k.f.fault(n.at, `write next: "end", or a map with a default`, "step %q leads nowhere", s.id)
		} else {
			k.f.warn(n.at, `give "default"`, "the run fails if the output of step %q is none of these", s.id)
		}
		return
	}
	var missing []string
	for _, v := range values {
		if n.at.get(v) == nil {
			missing = append(missing, v)
		}
	}
	if len(missing) > 0 || len(values) == 0 {
		k.f.fault(n.at, `add them, or "default"`, "nothing follows the outputs %q of step %q", missing, s.id)
	}
}

// routes are the texts by which a step's next may choose, if they are known.
func (s *step) routes() (values []string, known bool, what string) {
	switch w := s.work.(type) {
	case *decision:
		switch w.format {
		case "enum":
			return w.values, true, "it must be one of allowedValues"
		case "boolean":
			return []string{"true", "false"}, true, "it is true or false"
		case "number":
			return w.numbers()
		case "json":
			if w.routeOn == nil {
				return nil, true, `its output is JSON: give "routeOn", or conditions`
			}
			if values := w.routed(); values != nil {
				return values, true, "outputSchema says what there is"
			}
		}
	case *wait:
		if w.what == "approval" {
			return []string{"approved", "rejected"}, true, "it is approved or rejected"
		}
		if w.what == "delay" || w.what == "webhook" {
			return nil, true, "it has no text by which to choose"
		}
	case *parallel, *each:
		return nil, true, "its output is no text: use conditions"
	case *transform:
		switch is := w.expression.typeOf(); {
		case w.set != nil || is == expr.Object:
			return nil, true, "its output is an object: use conditions"
		case is == expr.List || is == expr.Null:
			return nil, true, "its output is no text: use conditions"
		case is == expr.Bool:
			return []string{"true", "false"}, true, "it is true or false"
		}
	}
	return nil, false, ""
}

// mostNumbers bounds how many answers of a decision are taken for a choice among them.
const mostNumbers = 20

// numbers are the texts of a number, if it is one of a few.
func (d *decision) numbers() (values []string, known bool, what string) {
	r := d.within
	if !r.Integer || r.Min == nil || r.Max == nil || *r.Max-*r.Min >= mostNumbers {
		return nil, false, ""
	}
	for n := math.Ceil(*r.Min); n <= *r.Max; n++ {
		values = append(values, textOf(int64(n)))
	}
	return values, true, fmt.Sprintf("it is a whole number from %v to %v", *r.Min, *r.Max)
}

// number checks a text by which a number of no known values is to choose.
func (k *checker) number(s *step, at *node, text string) {
	d, is := s.work.(*decision)
	if !is || d.format != "number" {
		return
	}
	n, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil || math.IsInf(n, 0) || math.IsNaN(n):
		k.f.fault(at, "its output is a number: for a range of them use conditions", "step %q never has the output %q", s.id, text)
	case textOf(number(text)) != text:
		k.f.fault(at, fmt.Sprintf("write %q", textOf(number(text))), "step %q never has the output %q", s.id, text)
	case d.within.Min != nil && n < *d.within.Min || d.within.Max != nil && n > *d.within.Max || d.within.Integer && n != math.Trunc(n):
		k.f.fault(at, "see min, max and integer", "step %q never has the output %q", s.id, text)
	}
}

// routed are the texts of what routeOn finds, if the outputSchema names all of them; else nil.
func (d *decision) routed() (texts []string) {
	at := d.schema
	for _, segment := range d.routeOn {
		if segment.IsIndex {
			return nil
		}
		at = at.get("properties").get(segment.Name)
	}
	if one := at.get("const"); one != nil {
		return []string{textOf(one.value())}
	}
	if all := at.get("enum"); all.is(listKind) {
		for _, one := range all.items {
			if !one.is(nullKind) && !one.is(listKind) && !one.is(objectKind) { // nothing is chosen by these
				texts = append(texts, textOf(one.value()))
			}
		}
		return texts
	}
	if at.get("type").str() == "boolean" {
		return []string{"true", "false"}
	}
	return nil
}

// unread warns of decisions that decide nothing.
func (k *checker) unread(g graph) {
	for _, s := range g.steps {
		_, is := s.work.(*decision)
		if is && !k.read["step:"+s.id] && !k.read["variable:"+s.variable] && len(s.next.by)+len(s.next.when) == 0 && s.next.to != End && s.next.other != End {
			k.f.warn(s.at.get("id"), "use it in a template or in next, or take the step out", "nothing reads the output of step %q", s.id)
		}
		for _, inner := range s.graphs() {
			k.unread(inner)
		}
	}
}

// graphs are those within a step.
func (s *step) graphs() (out []graph) {
	switch w := s.work.(type) {
	case *parallel:
		for _, b := range w.branches {
			out = append(out, b.graph)
		}
	case *each:
		out = append(out, w.graph)
	}
	return out
}
