package flow

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// facts are what is known to be there when a step begins: "step:id" has completed, "variable:name" is set.
type facts map[string]bool

func (a facts) and(b facts) facts {
	out := facts{}
	for name := range a {
		if b[name] {
			out[name] = true
		}
	}
	return out
}

// references checks that what templates and conditions read is there on every way to their step.
func (k *checker) references(g graph, before facts, outer map[string]*step, in inside) {
	sure := k.flows(g, before)
	steps := maps.Clone(outer)
	for _, s := range g.steps {
		steps[s.id] = s
	}
	for _, s := range g.steps {
		known := sure[s]
		if known == nil {
			known = before // it can't be reached, which is said
		}
		look := func(at *node, u use) { k.reference(s, at, u, known, steps, in) }
		for _, u := range s.when.paths() {
			look(s.at.get("when"), u)
		}
		if _, is := s.work.(*parallel); !is { // its branches are looked at as graphs
			s.work.reads(look)
		}
		after := maps.Clone(known)
		maps.Copy(after, s.brings())
		for _, w := range s.next.when {
			for _, u := range w.when.paths() {
				if u.path[0].Name != "output" {
					k.reference(s, w.at.get("when"), u, after, steps, in)
				}
			}
		}
		_, item := s.work.(*each)
		for _, inner := range s.graphs() {
			k.graph(inner, known, steps, inside{item: in.item || item})
		}
	}
}

// brings are the facts that a completed step adds.
func (s *step) brings() facts {
	b := facts{"step:" + s.id: true}
	if s.variable != "" {
		b["variable:"+s.variable] = true
	}
	if t, is := s.work.(*transform); is {
		for name := range t.set {
			b["variable:"+name] = true
		}
	}
	return b
}

// flows finds what is known before each step, whichever way a run came: a forward analysis to its greatest fixed point.
func (k *checker) flows(g graph, before facts) map[*step]facts {
	sure := map[*step]facts{g.steps[0]: before}
	left := []*step{g.steps[0]}
	for len(left) > 0 {
		s := left[0]
		left = left[1:]
		completed := maps.Clone(sure[s])
		maps.Copy(completed, s.brings())
		pass := func(name string, with facts) {
			to := g.by[name]
			if to == nil {
				return
			}
			was, seen := sure[to]
			now := with
			if seen {
				if now = was.and(with); len(now) == len(was) {
					return
				}
			}
			sure[to] = maps.Clone(now)
			left = append(left, to)
		}
		for _, t := range s.next.targets() {
			pass(t.to, completed)
		}
		if s.onFailure == "fallback" {
			pass(s.fallback, sure[s])
		}
		if w, is := s.work.(*wait); is {
			pass(w.onTimeout, sure[s])
		}
	}
	return sure
}

// roots are the names with which a path may begin.
var roots = []string{"variables", "stepResults", "steps", "trigger", "workflowId", "executionId", "version", "startedAt", "costAccumulator", "item", "index", "secrets"}

// reference checks one path.
func (k *checker) reference(s *step, at *node, u use, known facts, steps map[string]*step, in inside) {
	root := u.path[0].Name
	second := ""
	if len(u.path) > 1 {
		second = u.path[1].Name
	}
	switch root {
	case "variables":
		k.read["variable:"+second] = true
		if !u.optional && second != "" && !known["variable:"+second] {
			k.variable(s, at, second, u, steps)
		}
	case "stepResults", "steps":
		if second == "" {
			return
		}
		k.read["step:"+second] = true
		k.stepResult(s, at, second, u, known, steps)
	case "secrets":
		if u.condition || !s.sends(at) {
			k.f.fault(at, "", "{{%s}}: secrets go to services only", u.path)
		} else if len(u.path) != 2 {
			k.f.fault(at, "name one: {{secrets.name}}", "{{%s}} names no secret", u.path)
		}
	case "item", "index":
		if !in.item {
			k.f.fault(at, "", "{{%s}}: there is an %s only within the steps of a map", u.path, root)
		}
	default:
		if !slices.Contains(roots, root) {
			hint := did(root, roots)
			if hint == "" && u.condition && len(u.path) == 1 {
				hint = "a text stands in quotes: '" + root + "'"
			}
			if steps[root] != nil {
				hint = "write stepResults." + u.path.String()
			}
			k.f.fault(at, hint, "{{%s}}: there is nothing called %q", u.path, root)
		}
	}
}

// sends reports whether a place of the document is a parameter of a service, which may hold secrets.
func (s *step) sends(at *node) bool {
	var all []*params
	switch w := s.work.(type) {
	case *call:
		all = append(all, w.params)
	case *agentWork:
		for _, t := range w.tools {
			if t.with != nil {
				all = append(all, t.with)
			}
		}
	}
	found := false
	for _, p := range all {
		for _, v := range p.fields {
			v.each(func(here *node, _ *template) { found = found || here == at })
		}
	}
	return found
}

// variable checks the name of a variable that no step is sure to have set.
func (k *checker) variable(s *step, at *node, name string, u use, steps map[string]*step) {
	for _, id := range sortedNames(steps) {
		if steps[id].brings()["variable:"+name] {
			k.f.fault(at, "let all ways set it, or say what stands for it: "+u.instead(), "{{%s}}: step %q sets %q, but is not on every way to step %q", u.path, id, name, s.id)
			return
		}
	}
	var inputs struct {
		Properties map[string]struct {
			Default json.RawMessage `json:"default"`
		} `json:"properties"`
		Required []string `json:"required"`
	}
	if k.flow.Inputs == nil || json.Unmarshal(k.flow.Inputs, &inputs) != nil || inputs.Properties == nil {
		return // nobody says what a run starts with
	}
	_, is := inputs.Properties[name]
	switch {
	case !is:
		hint := did(name, sortedNames(inputs.Properties))
		if hint == "" && u.condition && strings.Contains(name, "-") {
			hint = "if it is a subtraction, put spaces around the -"
		}
		k.f.fault(at, hint, "{{%s}}: inputs have no %q, and no step sets it", u.path, name)
	case !slices.Contains(inputs.Required, name):
		k.f.warn(at, "let inputs require it, or say what stands for it: "+u.instead(), "{{%s}}: a run may start without %q, and then the step fails", u.path, name)
	}
}

// resultFields are what there is of each step.
var resultFields = []string{"output", "rawOutput", "tokenUsage", "cost", "status", "startedAt", "completedAt", "error"}

// stepResult checks what is read of a step's result.
func (k *checker) stepResult(s *step, at *node, id string, u use, known facts, steps map[string]*step) {
	of := steps[id]
	if of == nil {
		k.f.fault(at, did(id, sortedNames(steps)), "{{%s}}: there is no step %q here", u.path, id)
		return
	}
	if !known["step:"+id] && !u.optional && !failed(u.path) {
		if id == s.id {
			k.f.fault(at, "", "{{%s}}: step %q reads its own result", u.path, id)
		} else {
			k.f.fault(at, "let all ways go over it, or say what stands for it: "+u.instead(), "{{%s}}: step %q is not on every way to step %q", u.path, id, s.id)
		}
		return
	}
	if (of.when != nil || of.onFailure == "skip") && !u.optional && !failed(u.path) {
		k.f.warn(at, "say what stands for it then: "+u.instead(), "{{%s}}: step %q may be skipped, and then has no output", u.path, id)
	}
	if len(u.path) < 3 {
		return
	}
	fields := resultFields
	if of.variable != "" {
		fields = append(slices.Clone(fields), of.variable)
	}
	if _, is := of.work.(*parallel); is {
		fields = append(slices.Clone(fields), "branches")
	}
	third := u.path[2]
	switch {
	case third.IsIndex || !slices.Contains(fields, third.Name):
		hint := did(third.Name, fields)
		if hint == "" {
			hint = "the output of step " + id + " is " + Path{u.path[0], u.path[1], {Name: "output"}}.String()
		}
		k.f.fault(at, hint, "{{%s}}: the result of step %q has no %q", u.path, id, third.Name)
	case (third.Name == "output" || third.Name == of.variable) && len(u.path) > 3:
		k.below(at, of, u)
	}
}

// failed reports whether a path asks how a step ended, which is also there when it failed.
func failed(p Path) bool {
	return len(p) > 2 && (p[2].Name == "status" || p[2].Name == "error")
}

// below checks what is read of an output whose form is known.
func (k *checker) below(at *node, of *step, u use) {
	fourth := u.path[3]
	switch w := of.work.(type) {
	case *decision:
		switch w.format {
		case "", "text", "enum", "number", "boolean":
			k.f.fault(at, "", "{{%s}}: the output of step %q is of outputFormat %s, and has nothing in it", u.path, of.id, w.formatName())
		case "json":
			var schema struct {
				Properties map[string]json.RawMessage `json:"properties"`
			}
			n := of.at.get("config").get("outputSchema")
			if data := schemaText(n); data == nil || json.Unmarshal(data, &schema) != nil || schema.Properties == nil || fourth.IsIndex {
				return
			}
			if _, is := schema.Properties[fourth.Name]; !is {
				k.f.fault(at, did(fourth.Name, sortedNames(schema.Properties)), "{{%s}}: the outputSchema of step %q has no %q", u.path, of.id, fourth.Name)
			}
		}
	case *parallel:
		ids := make([]string, len(w.branches))
		for i, b := range w.branches {
			ids[i] = b.id
		}
		if !slices.Contains(ids, fourth.Name) {
			k.f.fault(at, did(fourth.Name, ids), "{{%s}}: step %q has no branch %q", u.path, of.id, fourth.Name)
		}
	case *wait:
		if names := []string{"approved", "by", "comment", "at", "form"}; w.what == "approval" && !slices.Contains(names, fourth.Name) {
			k.f.fault(at, did(fourth.Name, names), "{{%s}}: a decision has no %q", u.path, fourth.Name)
		}
	}
}
